//! What could be a shortcut: for every class, the neurons behind the mistakes around it, and whether a picture shows them.
//!
//! Found on training rows by heads that did not see them. A class is looked at as *sink* (other classes' pictures that are
//! called it, for too much of its evidence) and as *source* (its own pictures that are called something else, for want of it):
//! the two directions of the evidence gap ([`crate::gap`]) in which a cue of the class shows. What the suspects say together for the class, cut in two, is the presence of the would-be cue.

use crate::layer::DecisionLayer;
use crate::results::Direction;
use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which mistakes around a class are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Pictures of other classes that are called the class.
    Sink,
    /// Pictures of the class that are called something else.
    Source,
}

/// A would-be cue of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The class that the cue speaks for.
    pub class: usize,
    /// The mistakes that it was found in.
    pub side: Side,
    /// Whether those mistakes show too much of the evidence, or too little.
    pub direction: Direction,
    /// Its mistakes.
    pub mistakes: usize,
    /// The suspects, by falling share of the gap.
    pub neurons: Vec<usize>,
    /// What each says for the class a unit of activation, less the mean over classes.
    pub weights: Vec<f64>,
    /// Evidence above this is presence.
    pub threshold: f64,
    /// Distance of the two parts' means over the standard deviation within them.
    pub separation: f64,
}

impl Candidate {
    /// What the suspects say together for the class on each row.
    pub fn evidence(&self, features: &Array2<f32>) -> Vec<f64> {
        let of = |row: ndarray::ArrayView1<'_, f32>| {
            self.neurons.iter().zip(&self.weights).map(|(&j, w)| f64::from(row[j]) * w).sum()
        };
        features.rows().into_iter().map(of).collect()
    }

    /// Whether each row shows the would-be cue.
    pub fn present(&self, features: &Array2<f32>) -> Vec<bool> {
        self.evidence(features).into_iter().map(|evidence| evidence > self.threshold).collect()
    }
}

/// Fewer mistakes than this make no candidate.
const FEWEST: usize = 3;

/// What candidates are found from: training rows with the predictions of heads that did not see them.
#[derive(Debug, Clone, Copy)]
pub struct Mistaken<'a> {
    /// Features, rows × d.
    pub features: &'a Array2<f32>,
    /// True classes.
    pub labels: &'a [usize],
    /// Predicted classes, out of fold.
    pub predicted: &'a [usize],
}

/// Every candidate, by class, side and each of the `sizes`: suspects at most.
pub fn candidates(from: Mistaken<'_>, layer: &DecisionLayer, sizes: &[usize]) -> Vec<Candidate> {
    let usual = usual(from, layer.classes());
    let mut found = Vec::new();
    for class in 0..layer.classes() {
        for side in [Side::Sink, Side::Source] {
            let on_side = |&r: &usize| match side {
                Side::Sink => from.labels[r] != class && from.predicted[r] == class,
                Side::Source => from.labels[r] == class && from.predicted[r] != class,
            };
            let rows: Vec<usize> = (0..from.labels.len()).filter(on_side).collect();
            if rows.len() < FEWEST {
                continue;
            }
            // What speaks for the class misleads in others' pictures and is missing in its own. The other directions are those of
            // its rivals' evidence, which are looked at as theirs.
            let direction = match side {
                Side::Sink => Direction::Excessive,
                Side::Source => Direction::Insufficient,
            };
            let shares = shares(from, &rows, layer, &usual, direction);
            let mut last = 0;
            for &size in sizes {
                let made = candidate(from, class, side, direction, rows.len(), &shares, layer, size);
                // A list that ends sooner is the same for every larger size.
                let Some(made) = made.filter(|made| made.neurons.len() > last) else { continue };
                last = made.neurons.len();
                found.push(made);
            }
        }
    }
    found
}

/// Mean features of each class's rows that are predicted right, of all its rows where none is.
fn usual(from: Mistaken<'_>, classes: usize) -> Vec<Array1<f32>> {
    let rows = |class: usize, right: bool| -> Vec<usize> {
        (0..from.labels.len()).filter(|&r| from.labels[r] == class && (!right || from.predicted[r] == class)).collect()
    };
    let of = |class: usize| {
        let own = [rows(class, true), rows(class, false)].into_iter().find(|rows| !rows.is_empty());
        let mean = own.and_then(|rows| from.features.select(Axis(0), &rows).mean_axis(Axis(0)));
        mean.unwrap_or_else(|| Array1::zeros(from.features.ncols()))
    };
    (0..classes).map(of).collect()
}

/// Each neuron's share of the gap on its side, summed over the mistakes.
fn shares(
    from: Mistaken<'_>,
    rows: &[usize],
    layer: &DecisionLayer,
    usual: &[Array1<f32>],
    direction: Direction,
) -> Vec<f64> {
    let mut sums = vec![0.0; from.features.ncols()];
    for &r in rows {
        let (truth, called) = (from.labels[r], from.predicted[r]);
        let (w_true, w_called) = (layer.weight.row(truth), layer.weight.row(called));
        for (j, sum) in sums.iter_mut().enumerate() {
            let short = usual[truth][j] - from.features[[r, j]];
            let on_side = (short > 0.0) == (direction == Direction::Insufficient);
            if on_side {
                *sum += f64::from(short * (w_true[j] - w_called[j]));
            }
        }
    }
    sums
}

#[expect(clippy::too_many_arguments, reason = "one call, and each is one field of what comes out")]
fn candidate(
    from: Mistaken<'_>,
    class: usize,
    side: Side,
    direction: Direction,
    mistakes: usize,
    shares: &[f64],
    layer: &DecisionLayer,
    suspects: usize,
) -> Option<Candidate> {
    let says = |j: usize| layer.says(class, j);
    let mut order: Vec<usize> = (0..shares.len()).filter(|&j| shares[j] > 0.0 && says(j) > 0.0).collect();
    order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]).then(a.cmp(&b)));
    // A cue is some of the features; most of them together are the class itself.
    order.truncate(suspects.min(layer.features().div_ceil(4)));
    let weights: Vec<f64> = order.iter().map(|&j| says(j)).collect();
    let mut found =
        Candidate { class, side, direction, mistakes, neurons: order, weights, threshold: 0.0, separation: 0.0 };
    let evidence = found.evidence(from.features);
    (found.threshold, found.separation) = cut(&evidence)?;
    differs_within_a_class(&evidence, found.threshold, from.labels).then_some(found)
}

/// Whether some class has rows on both sides: evidence that only tells one class from another is no cue within any.
fn differs_within_a_class(evidence: &[f64], threshold: f64, labels: &[usize]) -> bool {
    let mut seen: BTreeMap<usize, [bool; 2]> = BTreeMap::new();
    for (value, &label) in evidence.iter().zip(labels) {
        seen.entry(label).or_default()[usize::from(*value > threshold)] = true;
    }
    seen.values().any(|sides| sides == &[true, true])
}

/// The threshold between the two means of `values`, and how far these lie apart in deviations within; `None` where the values
/// are all the same.
fn cut(values: &[f64]) -> Option<(f64, f64)> {
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let mut threshold = mean(values);
    for _ in 0..100 {
        let (above, below): (Vec<f64>, Vec<f64>) = values.iter().partition(|v| **v > threshold);
        if above.is_empty() || below.is_empty() {
            return None;
        }
        let next = (mean(&above) + mean(&below)) / 2.0;
        if (next - threshold).abs() <= 1e-12 * threshold.abs() {
            break;
        }
        threshold = next;
    }
    let (above, below): (Vec<f64>, Vec<f64>) = values.iter().partition(|v| **v > threshold);
    if above.is_empty() || below.is_empty() {
        return None;
    }
    let (high, low) = (mean(&above), mean(&below));
    let within = above.iter().map(|v| (v - high).powi(2)).chain(below.iter().map(|v| (v - low).powi(2)));
    let deviation = (within.sum::<f64>() / values.len() as f64).sqrt();
    Some((threshold, (high - low) / deviation.max(f64::MIN_POSITIVE)))
}
