//! The smallest change of a picture's features that would have made the model right ([methods A2]).
//!
//! All samples run as blocks of one batch; a sample leaves its block when it flips. A sample's numbers do not depend on
//! which others share its block, nor on the number of threads.
//!
//! [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2

use crate::layer::{DecisionLayer, argmax, margin};
use crate::sparse;
use ndarray::{Array1, Array2, ArrayView1, Axis, Zip, linalg::general_mat_mul, s};
use rayon::prelude::*;
use serde::Serialize;
use std::fmt;

/// Steps after which a sample that has not flipped is reported as unreached.
pub const MAX_STEPS: usize = 10_000;

/// Samples that share a block: enough rows for the matrix kernels, few enough to spread over threads.
const BLOCK: usize = 16;

/// Which search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Published loss and optimiser, with f + w kept inside the range that the scan observed, neuron by neuron: a
    /// neuron at its minimum cannot be excessive. The default, since unbounded changes name silent neurons.
    #[default]
    Bounded,
    /// The published search, unbounded.
    Reference,
    /// The fewest neurons that flip a sample.
    Sparse,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bounded => "bounded",
            Self::Reference => "reference",
            Self::Sparse => "sparse",
        })
    }
}

/// The loss and its optimiser; the defaults are the published ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Which search.
    pub variant: Variant,
    /// Weight α of ‖w‖₁ / d.
    pub alpha: f32,
    /// Weight β of ‖w‖₂ / d.
    pub beta: f32,
    /// Learning rate of SGD.
    pub learning_rate: f32,
    /// Momentum of SGD.
    pub momentum: f32,
    /// Bound on the steps.
    pub max_steps: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            variant: Variant::Bounded,
            alpha: 0.1,
            beta: 0.01,
            learning_rate: 0.01,
            momentum: 0.9,
            max_steps: MAX_STEPS,
        }
    }
}

/// Each neuron's observed range.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Lowest activation of each neuron.
    pub low: Array1<f32>,
    /// Highest activation of each neuron.
    pub high: Array1<f32>,
}

impl Range {
    /// The range over the rows of `features` (N × d).
    pub fn observed(features: &Array2<f32>) -> Self {
        let mut low = Array1::from_elem(features.ncols(), f32::INFINITY);
        let mut high = Array1::from_elem(features.ncols(), f32::NEG_INFINITY);
        // Row by row, as the features lie in memory.
        for row in features.rows() {
            Zip::from(&mut low).and(&mut high).and(row).for_each(|low, high, &value| {
                *low = low.min(value);
                *high = high.max(value);
            });
        }
        Self { low, high }
    }
}

/// What the search found, one entry a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Counterfactuals {
    /// The changes w, N × d.
    pub changes: Array2<f32>,
    /// Whether the sample became right.
    pub reached: Vec<bool>,
    /// Steps taken; for `sparse`, steps of the whole search.
    pub steps: Vec<usize>,
    /// Logit of the target minus the largest other, at the end.
    pub margin: Vec<f32>,
    /// ‖w‖₁.
    pub l1: Vec<f32>,
    /// Neurons with a non-zero change.
    pub changed: Vec<usize>,
}

/// Why the search cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CounterfactualError {
    /// A feature is not finite.
    #[error("sample {sample}: feature {neuron} is not finite; scan again, and check the model's preprocessing")]
    NotFinite {
        /// Row of the sample.
        sample: usize,
        /// The neuron.
        neuron: usize,
    },
    /// Sizes do not fit.
    #[error("features have {features} columns and the decision layer {layer}; they are of different models")]
    Size {
        /// Columns of the features.
        features: usize,
        /// Columns of W.
        layer: usize,
    },
    /// A target class is not in the layer.
    #[error("sample {sample}: its true class {class} is not among the model's {classes} classes")]
    Target {
        /// Row of the sample.
        sample: usize,
        /// The class.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
}

/// Searches for each row of `features` (N × d) a change that makes `layer` give `targets`.
///
/// `range` bounds f + w in the `Bounded` and `Sparse` variants; a sample outside it may stay where it is.
pub fn search(
    features: &Array2<f32>,
    targets: &[usize],
    layer: &DecisionLayer,
    range: &Range,
    settings: &Settings,
) -> Result<Counterfactuals, CounterfactualError> {
    check(features, targets, layer)?;
    let blocks: Vec<usize> = (0..features.nrows()).step_by(BLOCK).collect();
    let outcomes: Vec<Vec<Outcome>> = blocks
        .into_par_iter()
        .map(|start| {
            let end = (start + BLOCK).min(features.nrows());
            let rows = features.slice(s![start..end, ..]).to_owned();
            match settings.variant {
                Variant::Sparse => {
                    (start..end).map(|i| sparse::search(features.row(i), targets[i], layer, range)).collect()
                }
                Variant::Bounded => descend(&rows, &targets[start..end], layer, Some(range), settings),
                Variant::Reference => descend(&rows, &targets[start..end], layer, None, settings),
            }
        })
        .collect();
    Ok(gather(outcomes.into_iter().flatten(), features, targets, layer))
}

fn check(features: &Array2<f32>, targets: &[usize], layer: &DecisionLayer) -> Result<(), CounterfactualError> {
    if features.ncols() != layer.features() {
        return Err(CounterfactualError::Size { features: features.ncols(), layer: layer.features() });
    }
    if let Some(((sample, neuron), _)) = features.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(CounterfactualError::NotFinite { sample, neuron });
    }
    let classes = layer.classes();
    match targets.iter().enumerate().find(|(_, t)| **t >= classes) {
        Some((sample, &class)) => Err(CounterfactualError::Target { sample, class, classes }),
        None => Ok(()),
    }
}

/// The end of one sample's search.
pub(crate) struct Outcome {
    pub change: Array1<f32>,
    pub steps: usize,
    pub reached: bool,
}

fn gather(
    outcomes: impl Iterator<Item = Outcome>,
    features: &Array2<f32>,
    targets: &[usize],
    layer: &DecisionLayer,
) -> Counterfactuals {
    let n = features.nrows();
    let mut all = Counterfactuals {
        changes: Array2::zeros(features.dim()),
        reached: Vec::with_capacity(n),
        steps: Vec::with_capacity(n),
        margin: Vec::with_capacity(n),
        l1: Vec::with_capacity(n),
        changed: Vec::with_capacity(n),
    };
    for (i, outcome) in outcomes.enumerate() {
        all.changes.row_mut(i).assign(&outcome.change);
        all.reached.push(outcome.reached);
        all.steps.push(outcome.steps);
        all.l1.push(outcome.change.iter().map(|v| v.abs()).sum());
        all.changed.push(outcome.change.iter().filter(|v| **v != 0.0).count());
    }
    let logits = layer.logits(&(features + &all.changes));
    all.margin = logits.rows().into_iter().zip(targets).map(|(z, &t)| margin(&z.to_vec(), t)).collect();
    all
}

/// SGD with momentum on one block. Rows that flip are moved out, so the matrices shrink.
fn descend(
    features: &Array2<f32>,
    targets: &[usize],
    layer: &DecisionLayer,
    range: Option<&Range>,
    settings: &Settings,
) -> Vec<Outcome> {
    let (n, d) = features.dim();
    let mut outcomes: Vec<Option<Outcome>> = (0..n).map(|_| None).collect();
    let mut active: Vec<usize> = (0..n).collect();
    let mut moved = features.clone(); // f + w of the active rows
    let mut change = Array2::<f32>::zeros((n, d));
    let mut velocity = Array2::<f32>::zeros((n, d));
    let mut gradient = Array2::<f32>::zeros((n, d));
    let mut logits = Array2::<f32>::zeros((n, layer.classes()));
    for step in 0..=settings.max_steps {
        let rows = active.len();
        let mut z = logits.slice_mut(s![..rows, ..]);
        z.assign(&layer.bias);
        general_mat_mul(1.0, &moved.slice(s![..rows, ..]), &layer.weight.t(), 1.0, &mut z);
        let last = step == settings.max_steps;
        let mut kept = 0;
        for row in 0..rows {
            let reached = argmax(&logits.row(row).to_vec()) == targets[active[row]];
            if reached || last {
                outcomes[active[row]] = Some(Outcome { change: change.row(row).to_owned(), steps: step, reached });
            } else {
                for matrix in [&mut moved, &mut change, &mut velocity, &mut logits] {
                    shift_row(matrix, row, kept);
                }
                active[kept] = active[row];
                kept += 1;
            }
        }
        active.truncate(kept);
        if active.is_empty() {
            break;
        }
        to_cross_entropy_gradient(&mut logits, &active, targets);
        let mut g = gradient.slice_mut(s![..kept, ..]);
        general_mat_mul(1.0, &logits.slice(s![..kept, ..]), &layer.weight, 0.0, &mut g);
        for row in 0..kept {
            let bounds = range.map(|r| (features.row(active[row]), r));
            step_row(change.row_mut(row), velocity.row_mut(row), gradient.row(row), settings, bounds);
            Zip::from(moved.row_mut(row))
                .and(features.row(active[row]))
                .and(change.row(row))
                .for_each(|m, &f, &w| *m = f + w);
        }
    }
    outcomes.into_iter().flatten().collect()
}

fn shift_row(matrix: &mut Array2<f32>, from: usize, to: usize) {
    if from != to {
        let (mut head, tail) = matrix.view_mut().split_at(Axis(0), from);
        head.row_mut(to).assign(&tail.row(0));
    }
}

/// Logits of the active rows become softmax − one-hot.
fn to_cross_entropy_gradient(logits: &mut Array2<f32>, active: &[usize], targets: &[usize]) {
    for (row, &sample) in active.iter().enumerate() {
        let mut z = logits.row_mut(row);
        let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        z.mapv_inplace(|v| (v - largest).exp());
        let sum: f32 = z.sum();
        z.mapv_inplace(|v| v / sum);
        z[targets[sample]] -= 1.0;
    }
}

/// One SGD step: w ← w − lr·v, v ← μ v + ∇; then, where bounded, f + w back into the range.
fn step_row(
    mut change: ndarray::ArrayViewMut1<'_, f32>,
    mut velocity: ndarray::ArrayViewMut1<'_, f32>,
    gradient: ArrayView1<'_, f32>,
    settings: &Settings,
    bounds: Option<(ArrayView1<'_, f32>, &Range)>,
) {
    let d = change.len() as f32;
    let norm = change.iter().map(|w| w * w).sum::<f32>().sqrt();
    let l1 = settings.alpha / d;
    let l2 = if norm > 0.0 { settings.beta / (norm * d) } else { 0.0 };
    Zip::from(&mut change).and(&mut velocity).and(gradient).for_each(|w, v, &g| {
        let sign = if *w > 0.0 {
            1.0
        } else if *w < 0.0 {
            -1.0
        } else {
            0.0
        };
        *v = settings.momentum * *v + g + l1 * sign + l2 * *w;
        *w -= settings.learning_rate * *v;
    });
    if let Some((f, range)) = bounds {
        Zip::from(&mut change).and(f).and(&range.low).and(&range.high).for_each(|w, &f, &low, &high| {
            *w = w.clamp((low - f).min(0.0), (high - f).max(0.0));
        });
    }
}
