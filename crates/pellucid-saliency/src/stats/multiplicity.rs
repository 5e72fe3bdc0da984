//! Many tests at once: which of them may be called findings.

/// Benjamini–Hochberg: for each of `p` whether it is rejected at false discovery rate `q`.
///
/// NaN is never rejected and does not count as a test.
pub fn benjamini_hochberg(p: &[f64], q: f64) -> Vec<bool> {
    let adjusted = benjamini_hochberg_adjusted(p);
    adjusted.iter().map(|a| *a <= q).collect()
}

/// The least rate at which each of `p` is rejected by Benjamini–Hochberg; NaN where `p` is.
pub fn benjamini_hochberg_adjusted(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let count = order.len() as f64;
    let mut adjusted = vec![f64::NAN; p.len()];
    let mut least = 1.0f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(p[i] * count / (rank + 1) as f64);
        adjusted[i] = least;
    }
    adjusted
}

/// Holm's step-down: the least family-wise error at which each of `p` is rejected; NaN where `p` is.
pub fn holm_adjusted(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![f64::NAN; p.len()];
    let mut most = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        most = most.max((p[i] * (order.len() - rank) as f64).min(1.0));
        adjusted[i] = most;
    }
    adjusted
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn agrees_with_r() {
        // p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.5), "BH") and "holm" in R.
        let p = [0.01, 0.04, 0.03, 0.005, 0.5];
        let close = |a: Vec<f64>, b: [f64; 5]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(benjamini_hochberg_adjusted(&p), [0.025, 0.05, 0.05, 0.025, 0.5]));
        assert!(close(holm_adjusted(&p), [0.04, 0.09, 0.09, 0.025, 0.5]));
        assert_eq!(benjamini_hochberg(&[f64::NAN, 0.04], 0.05), [false, true], "NaN is no test");
    }

    #[test]
    fn under_the_null_hardly_a_family_has_a_discovery() {
        let mut random = crate::stats::random::seeded(1);
        let families = 2000;
        let mut draw = || -> Vec<f64> { (0..20).map(|_| random.random()).collect() };
        let false_alarms = (0..families).filter(|_| benjamini_hochberg(&draw(), 0.05).contains(&true)).count();
        assert!((60..145).contains(&false_alarms), "{false_alarms} of {families}: about 5 % are due");
    }
}
