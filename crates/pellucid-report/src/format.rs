//! Numbers as a reader sees them. What does not exist (NaN, infinite) is an en dash.

/// Stands for a number that does not exist.
pub(crate) const NONE: &str = "–";
const THIN: char = '\u{202F}';

/// A count with thousands set apart: `12 345`.
pub(crate) fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(THIN);
        }
        out.push(digit);
    }
    out
}

/// `count` of something: `1 picture`, `2 pictures`.
pub(crate) fn counted(value: usize, one: &str, many: &str) -> String {
    format!("{}\u{A0}{}", count(value), if value == 1 { one } else { many })
}

/// A proportion in `[0, 1]` as a percentage with one decimal.
pub(crate) fn share(value: f64) -> String {
    percent(100.0 * value)
}

/// A percentage in `[0, 100]` with one decimal; whole from 99.95 up.
pub(crate) fn percent(value: f64) -> String {
    match value.is_finite() {
        true if value >= 99.95 || value == 0.0 => format!("{value:.0}{THIN}%"),
        true => format!("{value:.1}{THIN}%"),
        false => NONE.to_owned(),
    }
}

/// A percentage without decimals, for captions.
pub(crate) fn whole_percent(value: f64) -> String {
    if value.is_finite() { format!("{value:.0}{THIN}%") } else { NONE.to_owned() }
}

/// The bounds of an interval of proportions, in percent: `83.1–86.2 %`.
pub(crate) fn share_range(low: f64, high: f64) -> String {
    percent_range(100.0 * low, 100.0 * high)
}

/// The bounds of an interval of percentages.
pub(crate) fn percent_range(low: f64, high: f64) -> String {
    if low.is_finite() && high.is_finite() { format!("{low:.1}–{high:.1}{THIN}%") } else { NONE.to_owned() }
}

/// Three significant digits, without an exponent where it can be avoided.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let text = match value.is_finite() {
        false => return NONE.to_owned(),
        true if size == 0.0 => "0".to_owned(),
        true if size < 0.001 => format!("{value:.1e}"),
        true if size < 0.1 => format!("{value:.4}"),
        true if size < 1.0 => format!("{value:.3}"),
        true if size < 100.0 => format!("{value:.2}"),
        true if size < 1e6 => format!("{value:.0}"),
        true => format!("{value:.2e}"),
    };
    text.replace('-', "−")
}

/// The same with a sign.
pub(crate) fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", number(value)) } else { number(value) }
}

/// Seconds for people.
pub(crate) fn seconds(value: f64) -> String {
    match value.is_finite() {
        false => NONE.to_owned(),
        true if value < 0.0995 => format!("{:.0}{THIN}ms", value * 1000.0),
        true if value < 60.0 => format!("{value:.1}{THIN}s"),
        true => format!("{:.0}{THIN}min {:02.0}{THIN}s", (value / 60.0).floor(), value % 60.0),
    }
}

/// Bytes for people, in powers of ten.
pub(crate) fn bytes(value: usize) -> String {
    if value < 1_000_000 {
        format!("{:.0}{THIN}kB", value as f64 / 1e3)
    } else {
        format!("{:.1}{THIN}MB", value as f64 / 1e6).replace(".0", "")
    }
}

/// A coordinate of SVG as a percentage of its width.
pub(crate) fn coordinate(fraction: f64) -> String {
    let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
    let text = format!("{:.2}", 100.0 * fraction);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(1_234_567), "1\u{202F}234\u{202F}567");
        assert_eq!(count(999), "999");
        assert_eq!(share(0.8466), "84.7\u{202F}%");
        assert_eq!(share(1.0), "100\u{202F}%");
        assert_eq!(share(f64::NAN), "–");
        assert_eq!(number(-0.0315), "−0.0315");
        assert_eq!(signed(1.5), "+1.50");
        assert_eq!(seconds(75.0), "1\u{202F}min 15\u{202F}s");
        assert_eq!(coordinate(0.5), "50%");
        assert_eq!(coordinate(f64::NAN), "0%");
    }
}
