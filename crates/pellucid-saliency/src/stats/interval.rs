//! Intervals of proportions, and quantiles.

use serde::{Deserialize, Deserializer, Serialize};

/// A proportion with its Wilson 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// How many of the `total` count.
    pub count: usize,
    /// Out of how many; 0 makes `value` NaN (serialised as null).
    pub total: usize,
    /// `count / total`.
    #[serde(deserialize_with = "null_as_nan")]
    pub value: f64,
    /// Lower bound.
    #[serde(deserialize_with = "null_as_nan")]
    pub low: f64,
    /// Upper bound.
    #[serde(deserialize_with = "null_as_nan")]
    pub high: f64,
}

/// Reads null as NaN, which is how JSON writes it.
fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// `count` of `total` with its Wilson 95 % interval; NaN for none of none.
pub fn wilson(count: usize, total: usize) -> Proportion {
    let (k, n) = (count as f64, total as f64);
    if total == 0 {
        return Proportion { count, total, value: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let p = k / n;
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At 0 and n the interval ends there exactly; rounding must not say otherwise.
    let low = if count == 0 { 0.0 } else { centre - half };
    let high = if count == total { 1.0 } else { centre + half };
    Proportion { count, total, value: p, low, high }
}

/// The `q` quantile of ascending `sorted` values, linear between neighbours (as NumPy); NaN of none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe 1998, table I: 81/263 and 0/20.
        let p = wilson(81, 263);
        assert!((p.low - 0.2553).abs() < 1e-4 && (p.high - 0.3662).abs() < 1e-4, "{p:?}");
        let p = wilson(0, 20);
        assert!(p.low == 0.0 && (p.high - 0.1611).abs() < 1e-4, "{p:?}");
        assert!(wilson(0, 0).value.is_nan());
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
