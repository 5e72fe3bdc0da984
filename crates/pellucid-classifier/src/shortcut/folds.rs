//! Folds by unit, heads refitted without a fold, and the temperature of their confidence.

use crate::layer::DecisionLayer;
use crate::repair::lbfgs::lbfgs;
use crate::repair::loss::Loss;
use ndarray::{Array1, Array2, Axis};
use pellucid_saliency::stats::random::stream;
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The fold of every row, in `0..count`: rows of one unit share theirs, and each class is dealt out evenly.
pub fn folds(labels: &[usize], units: &[usize], count: usize, seed: u64) -> Vec<usize> {
    // A unit goes with the class that most of its rows have.
    let mut votes: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    labels.iter().zip(units).for_each(|(&y, &unit)| *votes.entry(unit).or_default().entry(y).or_default() += 1);
    let mut by_class: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (unit, votes) in votes {
        let rows = votes.values().sum();
        let class = votes.into_iter().max_by_key(|&(class, n)| (n, std::cmp::Reverse(class))).map_or(0, |(c, _)| c);
        by_class.entry(class).or_default().push((unit, rows));
    }
    let mut fold_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut total = vec![0; count];
    for (class, mut members) in by_class {
        members.shuffle(&mut stream(seed, class as u64));
        let mut own = vec![0; count];
        for (unit, rows) in members {
            let least = (0..count).min_by_key(|&fold| (own[fold], total[fold])).unwrap_or(0);
            own[least] += rows;
            total[least] += rows;
            fold_of.insert(unit, least);
        }
    }
    units.iter().map(|unit| fold_of[unit]).collect()
}

/// How a head is fitted from nothing.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Refit {
    /// Pull towards zero, over the mean variance of a feature.
    pub ridge: f64,
    /// Steps at most.
    pub steps: usize,
}

impl Default for Refit {
    fn default() -> Self {
        Self { ridge: 1e-2, steps: 60 }
    }
}

/// Coordinates in which heads are fitted: the directions in which features vary most. Fits are as many times faster as there
/// are fewer directions than features, and what lies outside them a ridge would hardly let count.
#[derive(Debug, Clone)]
pub struct Reduced {
    /// Rows × k: features less their mean along the directions, scaled to a mean variance of 1.
    pub rows: Array2<f32>,
    mean: Array1<f32>,
    /// Orthonormal directions, k × d.
    directions: Array2<f32>,
    scale: f32,
}

/// Directions that heads are fitted in at most.
const DIRECTIONS: usize = 160;
/// Rounds of subspace iteration.
const ROUNDS: usize = 3;

impl Reduced {
    /// The leading directions of `features` by subspace iteration from a fixed start.
    pub fn new(features: &Array2<f32>) -> Self {
        let mean = features.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(features.ncols()));
        let centred = features - &mean;
        let count = DIRECTIONS.min(features.ncols()).min(features.nrows().max(1));
        let scale = mean_variance(features).sqrt() as f32;
        let directions = if count == features.ncols() {
            return Self { rows: centred / scale, mean, directions: Array2::eye(count), scale };
        } else {
            let mut random = stream(0x5AB5, 0);
            let mut basis = Array2::from_shape_simple_fn((count, features.ncols()), || random.random::<f32>() - 0.5);
            orthonormal(&mut basis);
            for _ in 0..ROUNDS {
                basis = centred.dot(&basis.t()).t().dot(&centred);
                orthonormal(&mut basis);
            }
            basis
        };
        Self { rows: centred.dot(&directions.t()) / scale, mean, directions, scale }
    }

    /// A layer on the coordinates as a layer on the features.
    pub fn unfold(&self, layer: &DecisionLayer) -> DecisionLayer {
        let weight = layer.weight.dot(&self.directions) / self.scale;
        let bias = &layer.bias - &weight.dot(&self.mean);
        DecisionLayer { weight, bias }
    }

    /// A head fitted to the rows `among` from nothing, each counting `importance` times (once where empty).
    fn fit(&self, among: &[usize], labels: &[usize], importance: &[f64], classes: usize, how: Refit) -> DecisionLayer {
        let zero = DecisionLayer { weight: Array2::zeros((classes, self.rows.ncols())), bias: Array1::zeros(classes) };
        let rows = self.rows.select(Axis(0), among);
        lbfgs(&zero, &Loss::cross_entropy(), rows.view(), labels, importance, how.ridge, how.steps)
    }
}

/// Makes the rows orthonormal (Gram–Schmidt, twice, as once is not enough in float32); rows that vanish stay 0.
fn orthonormal(basis: &mut Array2<f32>) {
    for i in 0..basis.nrows() {
        let (done, mut rest) = basis.view_mut().split_at(Axis(0), i);
        let mut row = rest.row_mut(0);
        for _ in 0..2 {
            let along = done.dot(&row);
            row -= &done.t().dot(&along);
        }
        let length = row.dot(&row).sqrt();
        row.mapv_inplace(|v| if length > 1e-12 { v / length } else { 0.0 });
    }
}

/// Mean variance of a feature over `features`.
pub fn mean_variance(features: &Array2<f32>) -> f64 {
    let variance = features.var_axis(Axis(0), 0.0);
    let mean = variance.iter().map(|&v| f64::from(v)).sum::<f64>() / variance.len().max(1) as f64;
    mean.max(f64::MIN_POSITIVE)
}

/// A head for `classes` classes fitted to `features` from nothing, each row counting `importance` times (once where empty).
pub fn refit(
    features: &Array2<f32>,
    labels: &[usize],
    importance: &[f64],
    classes: usize,
    how: Refit,
) -> DecisionLayer {
    let reduced = Reduced::new(features);
    let all: Vec<usize> = (0..labels.len()).collect();
    reduced.unfold(&reduced.fit(&all, labels, importance, classes, how))
}

/// Logits of every row by a head that was fitted without the row's fold, and the heads by fold.
pub fn out_of_fold(
    features: &Array2<f32>,
    labels: &[usize],
    folds: &[usize],
    classes: usize,
    how: Refit,
) -> (Array2<f32>, Vec<DecisionLayer>) {
    let count = folds.iter().max().map_or(0, |last| last + 1);
    // The directions know no labels, so that all rows may take part in them.
    let reduced = Reduced::new(features);
    let fit = |fold: usize| {
        let rows: Vec<usize> = (0..labels.len()).filter(|&r| folds[r] != fold).collect();
        let labels: Vec<usize> = rows.iter().map(|&r| labels[r]).collect();
        reduced.unfold(&reduced.fit(&rows, &labels, &[], classes, how))
    };
    let heads: Vec<DecisionLayer> = (0..count).into_par_iter().map(fit).collect();
    let mut logits = Array2::zeros((labels.len(), classes));
    for (fold, head) in heads.iter().enumerate() {
        let rows: Vec<usize> = (0..labels.len()).filter(|&r| folds[r] == fold).collect();
        let own = head.logits(&features.select(Axis(0), &rows));
        rows.iter().zip(own.rows()).for_each(|(&r, z)| logits.row_mut(r).assign(&z));
    }
    (logits, heads)
}

/// softmax(z / T) of every row.
pub fn probabilities(logits: &Array2<f32>, temperature: f64) -> Array2<f64> {
    let mut out = logits.mapv(|z| f64::from(z) / temperature);
    for mut row in out.axis_iter_mut(Axis(0)) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|z| (z - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    out
}

/// The temperature T of softmax(z / T) that the labels of `rows` are likeliest under, in [1/50, 50].
pub fn temperature(logits: &Array2<f32>, labels: &[usize], rows: &[usize]) -> f64 {
    let loss = |log_t: f64| -> f64 {
        let scale = (-log_t).exp();
        rows.iter()
            .map(|&r| {
                let z = logits.row(r);
                let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = z.iter().map(|&v| (f64::from(v - largest) * scale).exp()).sum();
                sum.ln() - f64::from(z[labels[r]] - largest) * scale
            })
            .sum()
    };
    // Convex in 1/T, so of one minimum in log T: golden section.
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-(50f64.ln()), 50f64.ln());
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    for _ in 0..40 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - golden * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + golden * (high - low);
            at_b = loss(b);
        }
    }
    ((low + high) / 2.0).exp()
}

/// Probabilities of every row at a temperature fitted to the rows of other folds.
pub fn calibrated(logits: &Array2<f32>, labels: &[usize], folds: &[usize]) -> Array2<f64> {
    let count = folds.iter().max().map_or(0, |last| last + 1);
    let temperatures: Vec<f64> = (0..count)
        .into_par_iter()
        .map(|fold| {
            let rows: Vec<usize> = (0..labels.len()).filter(|&r| folds[r] != fold || count == 1).collect();
            temperature(logits, labels, &rows)
        })
        .collect();
    let mut out = Array2::zeros(logits.raw_dim());
    for (fold, &t) in temperatures.iter().enumerate() {
        let rows: Vec<usize> = (0..labels.len()).filter(|&r| folds[r] == fold).collect();
        let own = probabilities(&logits.select(Axis(0), &rows), t);
        rows.iter().zip(own.rows()).for_each(|(&r, p)| out.row_mut(r).assign(&p));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::predictions;

    #[test]
    fn rows_of_one_unit_share_a_fold_and_classes_are_dealt_out_evenly() {
        let labels: Vec<usize> = (0..200).map(|i| i / 100).collect();
        let units: Vec<usize> = (0..200).map(|i| i / 4).collect();
        let of = folds(&labels, &units, 5, 0);
        assert!((0..200).all(|i| of[i] == of[i / 4 * 4]));
        for fold in 0..5 {
            let own = |class: usize| (0..200).filter(|&i| of[i] == fold && labels[i] == class).count();
            assert_eq!((own(0), own(1)), (20, 20));
        }
    }

    #[test]
    fn an_overconfident_head_is_cooled_to_its_temperature() {
        let mut random = stream(3, 0);
        // Logits three times too large.
        let honest = Array2::from_shape_fn((4000, 3), |_| random.random::<f32>() * 4.0);
        let labels: Vec<usize> = probabilities(&honest, 1.0)
            .rows()
            .into_iter()
            .map(|p| {
                let at: f64 = random.random();
                (0..2).find(|&c| at < p.iter().take(c + 1).sum::<f64>()).unwrap_or(2)
            })
            .collect();
        let rows: Vec<usize> = (0..4000).collect();
        let found = temperature(&(honest * 3.0), &labels, &rows);
        assert!((found - 3.0).abs() < 0.25, "{found}");
    }

    #[test]
    fn a_head_refitted_without_a_row_has_not_memorised_it() {
        let mut random = stream(5, 0);
        // More features than rows: any labels can be memorised.
        let features = Array2::from_shape_fn((80, 200), |_| random.random::<f32>());
        let labels: Vec<usize> = (0..80).map(|_| random.random_range(0..2)).collect();
        let units: Vec<usize> = (0..80).collect();
        let right = |logits: &Array2<f32>| predictions(logits).iter().zip(&labels).filter(|(a, b)| a == b).count();
        let how = Refit::default();
        let memorised = right(&refit(&features, &labels, &[], 2, how).logits(&features));
        let (logits, _) = out_of_fold(&features, &labels, &folds(&labels, &units, 5, 0), 2, how);
        assert!(memorised > 75 && right(&logits) < 56, "{memorised} {}", right(&logits));
    }
}
