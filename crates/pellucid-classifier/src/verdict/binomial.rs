//! Exact tails: of the binomial distribution, with the exact interval of a proportion, and of the hypergeometric one.

/// P(X ≥ `count`) for X ~ B(`total`, `rate`).
pub fn upper_tail(count: usize, total: usize, rate: f64) -> f64 {
    match (count, rate) {
        (0, _) => 1.0,
        (_, rate) if rate <= 0.0 => 0.0,
        (_, rate) if rate >= 1.0 => 1.0,
        // The shorter side is summed, and what is summed is small where it matters.
        _ if (count as f64) > total as f64 * rate => terms(count, total, total, rate),
        _ => (1.0 - terms(0, count - 1, total, rate)).max(0.0),
    }
}

/// Σ P(X = k), k from `from` to `to`.
fn terms(from: usize, to: usize, total: usize, rate: f64) -> f64 {
    let odds = (rate / (1.0 - rate)).ln();
    let mut log = log_choose(total, from) + from as f64 * rate.ln() + (total - from) as f64 * (-rate).ln_1p();
    let mut sum = 0.0;
    for k in from..=to {
        sum += log.exp();
        log += odds + ((total - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    sum.min(1.0)
}

/// P(X ≥ `count`) for the mistakes X among `drawn` pictures of `all`, `marked` of which are mistakes: Fisher's exact test of
/// a part against the rest, one-sided.
pub fn upper_tail_of_part(count: usize, drawn: usize, marked: usize, all: usize) -> f64 {
    let (least, most) = ((drawn + marked).saturating_sub(all), drawn.min(marked));
    if count <= least {
        return 1.0;
    }
    let term = |k: usize| (log_choose(marked, k) + log_choose(all - marked, drawn - k) - log_choose(all, drawn)).exp();
    (count..=most).map(term).sum::<f64>().min(1.0)
}

fn log_choose(n: usize, k: usize) -> f64 {
    (1..=k.min(n - k)).map(|i| ((n + 1 - i) as f64).ln() - (i as f64).ln()).sum()
}

/// The exact (Clopper–Pearson) interval of `count` of `total` at `confidence`: bounds of the rate.
pub fn clopper_pearson(count: usize, total: usize, confidence: f64) -> [f64; 2] {
    if total == 0 {
        return [0.0, 1.0];
    }
    let tail = (1.0 - confidence) / 2.0;
    // P(X ≥ count) rises with the rate: the lower bound is where it is `tail`; the upper one where P(X ≤ count) is.
    let low = if count == 0 { 0.0 } else { bisect(|rate| upper_tail(count, total, rate) < tail) };
    let high = if count == total { 1.0 } else { bisect(|rate| 1.0 - upper_tail(count + 1, total, rate) > tail) };
    [low, high]
}

/// Where `below` turns from true to false.
fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        *(if below(middle) { &mut low } else { &mut high }) = middle;
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAILS: [f64; 2] = [4.143_444_840_833e-4, 1.101_613_014_693e-2];

    #[test]
    fn the_tail_agrees_with_r() {
        // pbinom(k - 1, n, p, lower.tail = FALSE)
        for (k, n, p, expected) in
            [(3, 10, 0.2, 0.322_200_5), (9, 10, 0.5, 0.010_742_19), (1, 1000, 0.001, 0.632_304_6), (0, 5, 0.3, 1.0)]
        {
            assert!((upper_tail(k, n, p) - expected).abs() < 1e-6, "{k} of {n} at {p}: {}", upper_tail(k, n, p));
        }
        assert_eq!((upper_tail(1, 5, 0.0), upper_tail(5, 5, 1.0)), (0.0, 1.0));
    }

    #[test]
    fn the_tail_of_a_part_agrees_with_r() {
        // phyper(11, 20, 95, 30, lower.tail = FALSE) and phyper(2, 50, 950, 10, lower.tail = FALSE)
        assert!((upper_tail_of_part(12, 30, 20, 115) / TAILS[0] - 1.0).abs() < 1e-6);
        assert!((upper_tail_of_part(3, 10, 50, 1000) / TAILS[1] - 1.0).abs() < 1e-6);
        assert_eq!((upper_tail_of_part(0, 5, 3, 10), upper_tail_of_part(5, 5, 3, 10)), (1.0, 0.0));
    }

    #[test]
    fn the_interval_agrees_with_r() {
        // binom.test(1, 54)$conf.int and binom.test(0, 100)$conf.int
        let [low, high] = clopper_pearson(1, 54, 0.95);
        assert!((low - 0.000_468_7).abs() < 1e-6 && (high - 0.098_915_2).abs() < 1e-6, "{low} {high}");
        let [low, high] = clopper_pearson(0, 100, 0.95);
        assert!(low == 0.0 && (high - 0.036_216_7).abs() < 1e-6, "{high}");
    }
}
