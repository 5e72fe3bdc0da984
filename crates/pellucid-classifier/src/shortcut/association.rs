//! Whether a cue goes with its class in training and hardly does in validation.
//!
//! The score test ([`super::score`]) asks what the cue says beyond the model's confidence. Where the cue is all that the
//! confidence consists of, as in Colored MNIST, nothing is left to ask: then this is the trace that a shortcut leaves. It
//! is a difference between two splits and no proof that the cue is foreign to the class, so it asks for an eye.

use super::{Rows, score};
use serde::{Deserialize, Serialize};

/// How often pictures of the class and others show a cue, in training and in validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// Share of the class's training pictures that show it, and of the others'.
    pub train: [f64; 2],
    /// The same of validation pictures.
    pub validation: [f64; 2],
    /// One-sided p-value, by units, of the difference having shrunk by chance.
    pub p_value: f64,
}

/// A cue goes with its class where the two shares differ by this much.
const LEAST: f64 = 0.3;
/// In validation it hardly does where no more than this part of the difference is left.
const LEFT: f64 = 0.5;

impl Association {
    /// Of a cue of `class` that is `present` on the rows of each split.
    pub fn of(class: usize, [train, validation]: [Rows<'_>; 2], present: [&[bool]; 2]) -> Self {
        let [(train, var_train), (validation, var_validation)] =
            [(train, present[0]), (validation, present[1])].map(|(rows, on)| shares(class, rows, on));
        let shrunk = (train[0] - train[1]) - (validation[0] - validation[1]);
        let error = (var_train + var_validation).sqrt();
        let p_value = if error > 0.0 { 0.5 * libm::erfc(shrunk / error / std::f64::consts::SQRT_2) } else { 1.0 };
        Self { train, validation, p_value }
    }

    /// Whether the cue is one of training rather than of the class, at `alpha` over `candidates`.
    pub fn is_of_training(&self, alpha: f64, candidates: usize) -> bool {
        let [train, validation] = [self.train, self.validation].map(|[own, others]| own - others);
        train >= LEAST && validation <= LEFT * train && self.p_value * candidates as f64 <= alpha
    }
}

impl std::fmt::Display for Association {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [train, validation] = [self.train, self.validation].map(|shares| shares.map(|share| 100.0 * share));
        write!(
            f,
            "In training {:.0} % of its pictures show the cue and {:.0} % of the others; in validation {:.0} % and {:.0} %.",
            train[0], train[1], validation[0], validation[1]
        )
    }
}

/// The share of the class's units and of the others' that show the cue, and the variance of the difference.
fn shares(class: usize, rows: Rows<'_>, present: &[bool]) -> ([f64; 2], f64) {
    let (units, count) = score::dense(rows.units);
    let side = |own: bool| -> (f64, f64) {
        let (mut on, mut all) = (vec![0.0; count], vec![0.0; count]);
        for (row, &unit) in units.iter().enumerate().filter(|(row, _)| (rows.labels[*row] == class) == own) {
            on[unit] += f64::from(u8::from(present[row]));
            all[unit] += 1.0;
        }
        let means: Vec<f64> = on.iter().zip(&all).filter(|(_, n)| **n > 0.0).map(|(on, n)| on / n).collect();
        let n = means.len() as f64;
        if n < 2.0 {
            return (0.0, f64::INFINITY);
        }
        let mean = means.iter().sum::<f64>() / n;
        (mean, means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((own, a), (others, b)) = (side(true), side(false));
    ([own, others], a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;

    fn split(rows: usize, rates: [f64; 2], seed: u64) -> (Vec<usize>, Vec<bool>) {
        let mut random = stream(seed, 4);
        let labels: Vec<usize> = (0..rows).map(|i| i % 2).collect();
        let on = labels.iter().map(|&y| random.random_bool(rates[usize::from(y != 1)])).collect();
        (labels, on)
    }

    fn asked(train: [f64; 2], validation: [f64; 2], seed: u64) -> Association {
        let (none, units) = (Array2::zeros((0, 0)), (0..600).collect::<Vec<usize>>());
        let ((a, on_a), (b, on_b)) = (split(600, train, seed), split(300, validation, seed + 500));
        let rows = |labels| Rows { features: &none, labels, units: &units };
        Association::of(1, [rows(&a), Rows { units: &units[..300], ..rows(&b) }], [&on_a, &on_b])
    }

    #[test]
    fn a_cue_that_goes_with_the_class_in_training_alone_is_told() {
        let found = asked([0.9, 0.1], [0.5, 0.5], 1);
        assert!(found.is_of_training(0.01, 50), "{found:?}");
    }

    #[test]
    fn evidence_of_the_class_in_both_splits_is_not_nor_is_what_fades_a_little() {
        for seed in 0..20 {
            assert!(!asked([0.9, 0.1], [0.9, 0.1], seed).is_of_training(0.01, 1));
            assert!(!asked([0.9, 0.1], [0.75, 0.2], seed).is_of_training(0.01, 1));
            assert!(!asked([0.5, 0.5], [0.5, 0.5], seed).is_of_training(0.01, 1));
        }
    }

    #[test]
    fn under_the_null_the_p_value_is_uniform() {
        let low = (0..400).filter(|&seed| asked([0.7, 0.3], [0.7, 0.3], 10 + seed).p_value < 0.05).count();
        assert!((8..=36).contains(&low), "{low} of 400 below 0.05, expected 20");
    }
}
