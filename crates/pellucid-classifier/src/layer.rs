//! The decision layer z = W f + b, as methods use it.

use ndarray::{Array1, Array2, ArrayBase, ArrayView1, Data, Ix2};

/// W (C × d) and b (C).
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionLayer {
    /// W, one row a class.
    pub weight: Array2<f32>,
    /// b.
    pub bias: Array1<f32>,
}

impl DecisionLayer {
    /// Number of classes C.
    pub fn classes(&self) -> usize {
        self.weight.nrows()
    }

    /// Number of features d.
    pub fn features(&self) -> usize {
        self.weight.ncols()
    }

    /// What a unit of feature `j` says for `class`: its weight less the mean over classes.
    pub fn says(&self, class: usize, j: usize) -> f64 {
        let column = self.weight.column(j);
        f64::from(column[class]) - column.iter().map(|&w| f64::from(w)).sum::<f64>() / column.len() as f64
    }

    /// Logits (N × C) of features (N × d).
    pub fn logits<S: Data<Elem = f32>>(&self, features: &ArrayBase<S, Ix2>) -> Array2<f32> {
        features.dot(&self.weight.t()) + &self.bias
    }
}

/// Probabilities of one row of logits, in float64.
pub fn softmax(logits: ArrayView1<'_, f32>) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&z| f64::from(z - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Index of the first maximum.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let best =
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &z)| if z > best.1 { (i, z) } else { best });
    best.0
}

/// The logit of `target` minus the largest other; infinite with one class.
pub(crate) fn margin(row: &[f32], target: usize) -> f32 {
    let other = row.iter().enumerate().filter(|(i, _)| *i != target).map(|(_, &z)| z).fold(f32::NEG_INFINITY, f32::max);
    row[target] - other
}
