//! The percentile bootstrap of a mean.

use super::random::stream;
use rand::Rng;

/// A mean with the 95 % interval of its bootstrap (2000 draws, seeded).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Mean.
    pub value: f64,
    /// 2.5 % quantile.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

impl Interval {
    /// The mean of `values`, one per prompt, with its interval. NaN where there are none.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self { value: f64::NAN, low: f64::NAN, high: f64::NAN };
        }
        let mut random = stream(0x5eed, values.len() as u64);
        let mean = |draw: &mut dyn FnMut() -> f64| (0..values.len()).map(|_| draw()).sum::<f64>() / values.len() as f64;
        let mut means: Vec<f64> =
            (0..2000).map(|_| mean(&mut || values[random.random_range(0..values.len())])).collect();
        means.sort_unstable_by(f64::total_cmp);
        let value = values.iter().sum::<f64>() / values.len() as f64;
        Self { value, low: means[50], high: means[1949] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_its_mean_and_is_repeatable() {
        let values: Vec<f64> = (0..50).map(|i| (i % 7) as f64).collect();
        let a = Interval::of(&values);
        assert!(a.low < a.value && a.value < a.high);
        assert_eq!(a, Interval::of(&values));
    }
}
