//! Concept erasure: takes out of the decision what tells pictures with the suspects active from those without, within
//! their class.
//!
//! With z = 1 where the suspects are active, C the covariance of the features and s their covariance with z, both within
//! classes, Fisher's discriminant a = (C + ρI)⁻¹ s reads off how much of the cue a picture carries, and
//!
//! ```text
//! e(f) = f − s · aᵀ(f − m) / aᵀs                     m: mean features
//! ```
//!
//! takes just that away (a and s are read off training and validation pictures, and no group label): aᵀe(f) is the same for every picture, and no other linear map with that property moves the
//! features less (the rank-one case of LEACE, Belrose et al. 2023, arXiv 2306.03819, with a ridge). It is linear, so it folds
//! into the decision layer: W e(f) + b = W′f + b′. The layer is then fitted again on the erased features, each class
//! and slice counting alike, with a pull towards where it began. That is a convex problem of one minimum, so neither seed, batch,
//! schedule nor patience matter.
//!
//! Why it should do better than a penalty on the suspects' columns: a cue is spread over hundreds of neurons, and with
//! more features than samples the other neurons take over what the few suspects lose. The few are enough to *recognise* the
//! cue; what is erased is its whole trace.

use super::lbfgs::lbfgs;
use super::loss::Loss;
use super::train::Samples;
use crate::layer::DecisionLayer;
use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Ridge ρ in units of the mean variance of a neuron.
pub const RIDGE: f64 = 1.0;

/// Steps of the fit at most; it stops by itself well before.
const STEPS: usize = 400;

/// The linear map that takes a cue away.
#[derive(Debug, Clone)]
pub struct Erasure {
    /// s / aᵀs.
    pub cue: Array1<f64>,
    /// a.
    pub discriminant: Array1<f64>,
    /// m.
    pub mean: Array1<f64>,
}

impl Erasure {
    /// Fits the map to `features` with classes `labels` and whether the cue is `active`; `None` where no class has
    /// pictures of both kinds.
    pub fn fit(features: &Array2<f32>, labels: &[usize], active: &[bool]) -> Option<Self> {
        let rows = features.nrows() as f64;
        let mean = features.mapv(f64::from).mean_axis(Axis(0))?;
        let (centred, kind) = within_classes(features, labels, active);
        let covariance = centred.t().dot(&kind) / rows;
        if covariance.iter().all(|v| v.abs() < 1e-12) {
            return None;
        }
        let variance = centred.iter().map(|v| v * v).sum::<f64>() / (rows * centred.ncols() as f64);
        let discriminant = solve(&centred, rows, RIDGE * variance.max(f64::MIN_POSITIVE), &covariance);
        let scale = discriminant.dot(&covariance);
        (scale > 0.0).then(|| Self { cue: &covariance / scale, discriminant, mean })
    }

    /// How much of the cue each row carries, by the discriminant: 0 at the mean, more with the cue than without.
    pub fn amount(&self, features: &Array2<f32>) -> Array1<f64> {
        features.mapv(f64::from).dot(&self.discriminant) - self.mean.dot(&self.discriminant)
    }

    /// e of every row.
    pub fn apply(&self, features: &Array2<f32>) -> Array2<f32> {
        let amount = self.amount(features);
        let mut out = features.clone();
        for (mut row, &amount) in out.axis_iter_mut(Axis(0)).zip(&amount) {
            for (value, &cue) in row.iter_mut().zip(&self.cue) {
                *value -= (amount * cue) as f32;
            }
        }
        out
    }

    /// The layer that gives for f what `layer` gives for e(f).
    pub fn fold(&self, layer: &DecisionLayer) -> DecisionLayer {
        let (mut weight, mut bias) = (layer.weight.clone(), layer.bias.clone());
        let offset = self.mean.dot(&self.discriminant);
        for (mut row, b) in weight.axis_iter_mut(Axis(0)).zip(&mut bias) {
            let reads: f64 = row.iter().zip(&self.cue).map(|(&w, c)| f64::from(w) * c).sum();
            row.iter_mut().zip(&self.discriminant).for_each(|(w, a)| *w -= (reads * a) as f32);
            *b += (reads * offset) as f32;
        }
        DecisionLayer { weight, bias }
    }
}

/// The edited layer: erased, fitted again with a pull of `pull` towards `layer`, folded.
pub fn erase(layer: &DecisionLayer, train: &Samples, erasure: &Erasure, pull: f64) -> DecisionLayer {
    let features = erasure.apply(&train.features);
    let fitted =
        lbfgs(layer, &Loss::cross_entropy(), features.view(), &train.labels, &balanced(&train.slices), pull, STEPS);
    erasure.fold(&fitted)
}

/// What each sample counts for so that every part of `parts` counts alike, 1 on average.
pub fn balanced(parts: &[usize]) -> Vec<f64> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    parts.iter().for_each(|&p| *sizes.entry(p).or_default() += 1);
    parts.iter().map(|p| parts.len() as f64 / (sizes.len() * sizes[p]) as f64).collect()
}

/// Features and cue, each less its mean within the class.
fn within_classes(features: &Array2<f32>, labels: &[usize], active: &[bool]) -> (Array2<f64>, Array1<f64>) {
    let mut centred = features.mapv(f64::from);
    let mut kind: Array1<f64> = active.iter().map(|&a| f64::from(u8::from(a))).collect();
    let mut rows: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    labels.iter().enumerate().for_each(|(i, &y)| rows.entry(y).or_default().push(i));
    for members in rows.values() {
        let count = members.len() as f64;
        let mut mean = Array1::<f64>::zeros(features.ncols());
        members.iter().for_each(|&i| mean += &centred.row(i));
        mean /= count;
        let share = members.iter().map(|&i| kind[i]).sum::<f64>() / count;
        for &i in members {
            let mut row = centred.row_mut(i);
            row -= &mean;
            kind[i] -= share;
        }
    }
    (centred, kind)
}

/// (XᵀX / n + ρI)⁻¹ s by conjugate gradients, without forming the d × d matrix.
fn solve(centred: &Array2<f64>, rows: f64, ridge: f64, target: &Array1<f64>) -> Array1<f64> {
    // Xᵀ(X v) in one pass over the rows, block by block; the blocks are summed in their order, whatever the threads.
    let apply = |v: &Array1<f64>| {
        let blocks: Vec<_> = centred.axis_chunks_iter(Axis(0), 256).collect();
        let parts: Vec<Array1<f64>> = blocks.into_par_iter().map(|rows| rows.t().dot(&rows.dot(v))).collect();
        let sum = parts.iter().fold(Array1::<f64>::zeros(v.len()), |sum, part| sum + part);
        sum / rows + v * ridge
    };
    let mut x = Array1::zeros(target.len());
    let mut residual = target.clone();
    let mut direction = residual.clone();
    let (start, mut size) = (target.dot(target), residual.dot(&residual));
    for _ in 0..target.len() {
        if size <= 1e-20 * start {
            break;
        }
        let moved = apply(&direction);
        let step = size / direction.dot(&moved);
        x.scaled_add(step, &direction);
        residual.scaled_add(-step, &moved);
        let next = residual.dot(&residual);
        direction = &residual + &(&direction * (next / size));
        size = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn cued() -> (Array2<f32>, Vec<usize>, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let labels: Vec<usize> = (0..60).map(|i| i % 3).collect();
        let active: Vec<bool> = (0..60).map(|i| i % 2 == 0).collect();
        let features = Array2::from_shape_fn((60, 8), |(i, j)| {
            let cue = if active[i] && j < 4 { 1.0 } else { 0.0 };
            rng.random::<f32>() + cue + labels[i] as f32 * 0.3
        });
        (features, labels, active)
    }

    #[test]
    fn nothing_of_the_cue_is_left_for_the_discriminant_to_read() {
        let (features, labels, active) = cued();
        let erasure = Erasure::fit(&features, &labels, &active).unwrap();
        let left = erasure.amount(&erasure.apply(&features));
        assert!(left.iter().all(|v| v.abs() < 1e-5), "{left}");
        let (mut with, mut without) = (0.0, 0.0);
        erasure
            .amount(&features)
            .iter()
            .zip(&active)
            .for_each(|(v, &a)| *(if a { &mut with } else { &mut without }) += v / 30.0);
        assert!(with - without > 0.5, "{with} {without}");
    }

    #[test]
    fn folding_is_the_same_as_erasing_first() {
        let (features, labels, active) = cued();
        let erasure = Erasure::fit(&features, &labels, &active).unwrap();
        let layer = DecisionLayer {
            weight: Array2::from_shape_fn((3, 8), |(c, j)| (c as f32 - 1.0) * (j as f32 * 0.2 - 0.7)),
            bias: Array1::from_vec(vec![0.1, -0.2, 0.3]),
        };
        let (folded, erased) = (erasure.fold(&layer).logits(&features), layer.logits(&erasure.apply(&features)));
        assert!((folded - erased).iter().all(|d| d.abs() < 1e-4));
    }

    #[test]
    fn conjugate_gradients_solve_the_normal_equations() {
        let (features, labels, active) = cued();
        let (centred, kind) = within_classes(&features, &labels, &active);
        let target = centred.t().dot(&kind) / 60.0;
        let x = solve(&centred, 60.0, 0.01, &target);
        let back = centred.t().dot(&centred.dot(&x)) / 60.0 + &x * 0.01;
        assert!((back - target).iter().all(|d| d.abs() < 1e-9));
    }

    #[test]
    fn balance_makes_every_part_count_alike() {
        let counts = balanced(&[0, 0, 0, 1]);
        assert!((counts.iter().sum::<f64>() - 4.0).abs() < 1e-12 && (counts[0] * 3.0 - counts[3]).abs() < 1e-12);
    }
}
