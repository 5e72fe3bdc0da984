//! What others would do with the same features, each as its authors describe it, so that an edit has rivals in their
//! strongest form.
//!
//! - [`dfr`]: deep feature re-weighting (Kirichenko, Izmailov and Wilson 2023): on the held-out split only, L1-penalised
//!   logistic regression on group-balanced subsamples, averaged; strength by the worst group of one half of the split.
//! - [`afr`]: automatic feature re-weighting (Qiu et al. 2023): rows weighted by `exp(−γ p[label])` of a first head that did
//!   not see them, with a pull towards that head; γ by the worst group or class of the held-out split.
//! - [`jtt`]: just train twice (Liu et al. 2021): rows that a first head gets wrong count λ times.
//! - [`cluster_balanced`]: every cluster of every class counts alike (Sohoni et al. 2020, in its simplest form).

use super::clusters::clusters;
use super::compete::{refit_towards, worst};
use super::erase::balanced;
use super::loss::Loss;
use crate::layer::DecisionLayer;
use crate::scan::predictions;
use crate::shortcut::Rows;
use crate::shortcut::folds::{Refit, folds, out_of_fold, probabilities, refit};
use ndarray::{Array1, Array2, Axis};
use pellucid_saliency::stats::random::stream;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Group-balanced subsamples that [`dfr`] averages.
const SUBSAMPLES: usize = 10;
/// Inverse strengths of the L1 penalty, as published.
const STRENGTHS: [f64; 7] = [1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01];
/// Steps of the L1 fit.
const STEPS: usize = 200;
/// γ of [`afr`].
const GAMMAS: [f64; 4] = [1.0, 4.0, 8.0, 16.0];
/// λ of [`jtt`].
const FACTORS: [f64; 3] = [5.0, 20.0, 50.0];

/// Accuracy of `layer` on the worst of `parts`.
fn worst_of(layer: &DecisionLayer, features: &Array2<f32>, labels: &[usize], parts: &[usize]) -> f64 {
    let predicted = predictions(&layer.logits(features));
    let right: Vec<bool> = predicted.iter().zip(labels).map(|(p, y)| p == y).collect();
    worst(&right, parts, |_| 1)
}

/// Of the `settings`, the layer that `make` gives for the one that is best on the worst of `parts` (of equals the first).
fn best_by_worst(
    settings: &[f64],
    held_out: Rows<'_>,
    parts: &[usize],
    make: impl Fn(f64) -> DecisionLayer + Sync,
) -> (DecisionLayer, f64) {
    let made: Vec<(DecisionLayer, f64)> = settings
        .par_iter()
        .map(|&setting| {
            let layer = make(setting);
            let score = worst_of(&layer, held_out.features, held_out.labels, parts);
            (layer, score)
        })
        .collect();
    let best = (0..made.len()).fold(0, |best, i| if made[i].1 > made[best].1 { i } else { best });
    (made[best].0.clone(), settings[best])
}

/// Rows of a subsample in which every group has as many as the smallest.
fn group_balanced_rows(groups: &[usize], among: &[usize], part: u64, seed: u64) -> Vec<usize> {
    let mut by_group: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    among.iter().for_each(|&r| by_group.entry(groups[r]).or_default().push(r));
    let least = by_group.values().map(Vec::len).min().unwrap_or(0);
    let mut random = stream(seed, part);
    let mut rows: Vec<usize> = by_group
        .into_values()
        .flat_map(|mut rows| {
            rows.shuffle(&mut random);
            rows.truncate(least);
            rows
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// DFR on the held-out split with its `groups`; the layer, and the inverse strength that was chosen.
pub fn dfr(held_out: Rows<'_>, groups: &[usize], classes: usize, seed: u64) -> (DecisionLayer, f64) {
    let standard = Standard::fit(held_out.features);
    let features = standard.apply(held_out.features);
    let half: Vec<usize> = folds(groups, held_out.units, 2, seed);
    let (fits, judges): (Vec<usize>, Vec<usize>) = (0..groups.len()).partition(|&r| half[r] == 0);
    let fit = |rows: &[usize], strength: f64| {
        let labels: Vec<usize> = rows.iter().map(|&r| held_out.labels[r]).collect();
        lasso(&features.select(Axis(0), rows), &labels, classes, 1.0 / (strength * rows.len() as f64))
    };
    let pick = |of: &[usize]| judges.iter().map(|&r| of[r]).collect::<Vec<_>>();
    let judged = features.select(Axis(0), &judges);
    let (labels, parts) = (pick(held_out.labels), pick(groups));
    let judge = Rows { features: &judged, labels: &labels, units: &labels };
    let (_, strength) = best_by_worst(&STRENGTHS, judge, &parts, |strength| {
        fit(&group_balanced_rows(groups, &fits, 0, seed), strength)
    });
    let all: Vec<usize> = (0..groups.len()).collect();
    let made: Vec<DecisionLayer> = (1..=SUBSAMPLES as u64)
        .into_par_iter()
        .map(|part| fit(&group_balanced_rows(groups, &all, part, seed), strength))
        .collect();
    let mut sum = DecisionLayer { weight: Array2::zeros(made[0].weight.raw_dim()), bias: Array1::zeros(classes) };
    for layer in &made {
        sum.weight.scaled_add(1.0 / SUBSAMPLES as f32, &layer.weight);
        sum.bias.scaled_add(1.0 / SUBSAMPLES as f32, &layer.bias);
    }
    (standard.fold(&sum), strength)
}

/// Mean and deviation of every feature, as scikit-learn's StandardScaler takes them.
struct Standard {
    mean: Array1<f32>,
    deviation: Array1<f32>,
}

impl Standard {
    fn fit(features: &Array2<f32>) -> Self {
        let mean = features.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(features.ncols()));
        let deviation = features.std_axis(Axis(0), 0.0).mapv(|s| if s > 0.0 { s } else { 1.0 });
        Self { mean, deviation }
    }

    fn apply(&self, features: &Array2<f32>) -> Array2<f32> {
        (features - &self.mean) / &self.deviation
    }

    /// The layer on the features as they are.
    fn fold(&self, layer: &DecisionLayer) -> DecisionLayer {
        let weight = &layer.weight / &self.deviation;
        let bias = &layer.bias - &weight.dot(&self.mean);
        DecisionLayer { weight, bias }
    }
}

/// Cross-entropy plus `strength` · ‖W‖₁ by FISTA, of steps that the largest eigenvalue of XᵀX allows.
fn lasso(features: &Array2<f32>, labels: &[usize], classes: usize, strength: f64) -> DecisionLayer {
    let zero = DecisionLayer { weight: Array2::zeros((classes, features.ncols())), bias: Array1::zeros(classes) };
    let (mut at, mut before, mut t) = (zero.clone(), zero, 1.0f64);
    let step = (2.0 / largest_eigenvalue(features).max(1e-9)) as f32;
    let shrink = strength as f32 * step;
    for _ in 0..STEPS {
        let slope = Loss::cross_entropy().slope(&at, features.view(), labels, &[]);
        let weight = (&at.weight - &(slope.weight * step)).mapv(|w| w.signum() * (w.abs() - shrink).max(0.0));
        let next = DecisionLayer { weight, bias: &at.bias - &(slope.bias * step) };
        let later = (1.0 + (1.0 + 4.0 * t * t).sqrt()) / 2.0;
        let ahead = ((t - 1.0) / later) as f32;
        at = DecisionLayer {
            weight: &next.weight + &((&next.weight - &before.weight) * ahead),
            bias: &next.bias + &((&next.bias - &before.bias) * ahead),
        };
        (before, t) = (next, later);
    }
    before
}

/// Of XᵀX / n with a column of ones, by the power method.
fn largest_eigenvalue(features: &Array2<f32>) -> f64 {
    let mut v = Array1::<f32>::ones(features.ncols());
    let mut value = 0.0f64;
    for _ in 0..20 {
        let next = features.t().dot(&features.dot(&v)) / features.nrows().max(1) as f32;
        let length = next.dot(&next).sqrt();
        value = f64::from(length);
        if length == 0.0 {
            break;
        }
        v = next / length;
    }
    // The bias is a column of ones of its own.
    value + 1.0
}

/// Logits of training rows by first heads that did not see them.
fn first_guess(train: Rows<'_>, classes: usize, how: Refit, seed: u64) -> Array2<f32> {
    out_of_fold(train.features, train.labels, &folds(train.labels, train.units, 5, seed), classes, how).0
}

/// How often each row counts, scaled so that a row counts once on average.
fn once_on_average(raw: &[f64]) -> Vec<f64> {
    let mean = raw.iter().sum::<f64>() / raw.len() as f64;
    raw.iter().map(|w| w / mean).collect()
}

/// AFR on training and held-out rows; `parts` of the held-out rows (groups, or classes where there are none) choose γ.
pub fn afr(
    train: Rows<'_>,
    held_out: Rows<'_>,
    parts: &[usize],
    classes: usize,
    how: Refit,
    seed: u64,
) -> (DecisionLayer, f64) {
    let p = probabilities(&first_guess(train, classes, how, seed), 1.0);
    let first = refit(train.features, train.labels, &[], classes, how);
    let counts = balanced(train.labels);
    best_by_worst(&GAMMAS, held_out, parts, |gamma| {
        let raw: Vec<f64> =
            (0..train.labels.len()).map(|r| counts[r] * (-gamma * p[[r, train.labels[r]]]).exp()).collect();
        refit_towards(&first, train.features, train.labels, &once_on_average(&raw), how)
    })
}

/// JTT on training rows; `parts` of the held-out rows choose λ.
pub fn jtt(
    train: Rows<'_>,
    held_out: Rows<'_>,
    parts: &[usize],
    classes: usize,
    how: Refit,
    seed: u64,
) -> (DecisionLayer, f64) {
    let logits = first_guess(train, classes, how, seed);
    let wrong: Vec<bool> = predictions(&logits).iter().zip(train.labels).map(|(p, y)| p != y).collect();
    best_by_worst(&FACTORS, held_out, parts, |factor| {
        let raw: Vec<f64> = wrong.iter().map(|&wrong| if wrong { factor } else { 1.0 }).collect();
        refit(train.features, train.labels, &once_on_average(&raw), classes, how)
    })
}

/// Every cluster of every class counts alike.
pub fn cluster_balanced(rows: Rows<'_>, classes: usize, how: Refit, seed: u64) -> DecisionLayer {
    let mut parts = vec![0; rows.labels.len()];
    for class in 0..classes {
        let own: Vec<usize> = (0..rows.labels.len()).filter(|&r| rows.labels[r] == class).collect();
        let of = clusters(&rows.features.select(Axis(0), &own), seed);
        own.iter().zip(of).for_each(|(&r, part)| parts[r] = 16 * class + part);
    }
    refit(rows.features, rows.labels, &balanced(&parts), classes, how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Two classes; feature 0 is the object, features 1 to 3 a cue that 95 % of class 0 carry in training.
    fn world(rows: usize, rates: [f64; 2], seed: u64) -> (Array2<f32>, Vec<usize>, Vec<usize>) {
        let mut random = stream(seed, 0);
        let labels: Vec<usize> = (0..rows).map(|i| i % 2).collect();
        let cue: Vec<bool> = labels.iter().map(|&y| random.random_bool(rates[y])).collect();
        let features = Array2::from_shape_fn((rows, 12), |(i, j)| {
            let object = if j == 0 && labels[i] == 0 { 1.2 } else { 0.0 };
            let mark = if (1..4).contains(&j) && cue[i] { 1.5 } else { 0.0 };
            random.random::<f32>() * 1.5 + object + mark
        });
        let groups = labels.iter().zip(&cue).map(|(y, on)| 2 * y + usize::from(*on)).collect();
        (features, labels, groups)
    }

    #[test]
    fn every_rival_does_better_in_the_worst_group_than_the_first_head() {
        let (features, labels, groups) = world(600, [0.95, 0.05], 1);
        let (held, held_labels, held_groups) = world(300, [0.5, 0.5], 2);
        let (test, test_labels, test_groups) = world(800, [0.5, 0.5], 3);
        let units: Vec<usize> = (0..600).collect();
        let train = Rows { features: &features, labels: &labels, units: &units };
        let held_out = Rows { features: &held, labels: &held_labels, units: &units[..300] };
        let how = Refit::default();
        let score = |layer: &DecisionLayer| worst_of(layer, &test, &test_labels, &test_groups);
        let first = score(&refit(&features, &labels, &[], 2, how));
        let known = score(&refit(&features, &labels, &balanced(&groups), 2, how));
        for (name, layer) in [
            ("DFR", dfr(held_out, &held_groups, 2, 0).0),
            ("AFR", afr(train, held_out, &held_groups, 2, how, 0).0),
            ("JTT", jtt(train, held_out, &held_groups, 2, how, 0).0),
        ] {
            assert!(
                score(&layer) > first + 0.05,
                "{name}: {:.3}, {first:.3} before, {known:.3} with labels",
                score(&layer)
            );
        }
    }

    #[test]
    fn a_strong_penalty_leaves_few_weights() {
        let (features, labels, _) = world(300, [0.5, 0.5], 4);
        let standard = Standard::fit(&features).apply(&features);
        let count = |strength: f64| lasso(&standard, &labels, 2, strength).weight.iter().filter(|w| **w != 0.0).count();
        assert!(count(0.1) <= 4 && count(1e-4) > 12, "{} {}", count(0.1), count(1e-4));
    }
}
