//! The evidence gap: which neurons stand where they usually do not on the mistakes, and what that costs.
//!
//! For a mistake i with true class t and prediction p, and f̄ the mean features of the pictures of t that the model gets
//! right, neuron j is held to account for
//!
//! ```text
//! g_ij = (f̄_j − f_ij) · (W_tj − W_pj)        logits
//! ```
//!
//! These add up, over j, to the usual margin of t over p less the margin on this picture: the whole of what went wrong.
//! A positive part where the neuron is lower than usual is evidence that is missing (insufficient); where it is higher,
//! evidence that misleads (excessive).
//!
//! This is this project's complement to [methods A2]. A counterfactual says which change would be *cheapest*, and so names
//! the neurons of the largest weights whether or not they stand out on the mistakes; the gap says which neurons *are*
//! off, weighed by what the decision makes of them. `docs/emoji-watermark.md` measures both.
//!
//! [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2

use crate::layer::DecisionLayer;
use crate::results::{Direction, Interval};
use crate::scan::FeatureTable;
use crate::statistics::quantile;
use ndarray::{Array1, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A neuron and what it is held to account for.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The neuron.
    pub neuron: usize,
    /// Whether it stands lower or higher than usual where it does harm.
    pub direction: Direction,
    /// Logits a mistake, the mean over the mistakes, with its 95 % bootstrap interval.
    pub logits: Interval,
}

/// How the gap is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapSettings {
    /// Neurons returned.
    pub neurons: usize,
    /// Bootstrap resamples of the mistakes.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for GapSettings {
    fn default() -> Self {
        Self { neurons: 64, resamples: 1000, seed: 0 }
    }
}

/// The neurons behind `mistakes` (rows of `table`) by falling share of the gap; ties by index. Mistakes of classes
/// without a single right picture have nothing to be compared with and do not count.
pub fn evidence_gap(
    table: &FeatureTable,
    predictions: &[usize],
    mistakes: &[usize],
    layer: &DecisionLayer,
    settings: &GapSettings,
) -> Vec<Share> {
    let usual = usual_features(table, predictions, layer.classes());
    let counted: Vec<usize> = mistakes.iter().copied().filter(|&i| usual[table.labels[i]].is_some()).collect();
    let part = |i: usize, j: usize| -> (f64, Direction) {
        let (truth, predicted) = (table.labels[i], predictions[i]);
        let short = usual[truth].as_ref().map_or(0.0, |mean| mean[j] - f64::from(table.features[[i, j]]));
        let logits = short * f64::from(layer.weight[[truth, j]] - layer.weight[[predicted, j]]);
        (logits, if short > 0.0 { Direction::Insufficient } else { Direction::Excessive })
    };
    let mut sums: Vec<(usize, Direction, f64)> = (0..layer.features())
        .map(|j| {
            let (mut lower, mut higher) = (0.0, 0.0);
            for &i in &counted {
                match part(i, j) {
                    (logits, Direction::Insufficient) => lower += logits,
                    (logits, Direction::Excessive) => higher += logits,
                }
            }
            if lower >= higher { (j, Direction::Insufficient, lower) } else { (j, Direction::Excessive, higher) }
        })
        .filter(|&(_, _, sum)| sum > 0.0)
        .collect();
    sums.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    sums.truncate(settings.neurons);
    let draws = draws(counted.len(), settings);
    let share = |(neuron, direction, sum): (usize, Direction, f64)| {
        let on_side = |&i: &usize| match part(i, neuron) {
            (logits, side) if side == direction => logits,
            _ => 0.0,
        };
        let parts: Vec<f64> = counted.iter().map(on_side).collect();
        let value = sum / counted.len() as f64;
        Share { neuron, direction, logits: interval(value, &parts, &draws) }
    };
    sums.into_iter().map(share).collect()
}

/// Mean features of the right pictures of each class; `None` where there are none.
fn usual_features(table: &FeatureTable, predictions: &[usize], classes: usize) -> Vec<Option<Array1<f64>>> {
    let right =
        |class: usize| (0..predictions.len()).filter(move |&i| table.labels[i] == class && predictions[i] == class);
    (0..classes)
        .map(|class| {
            let rows: Vec<usize> = right(class).collect();
            table.features.select(Axis(0), &rows).mapv(f64::from).mean_axis(Axis(0))
        })
        .collect()
}

/// Rows of each resample, the same for every neuron.
fn draws(count: usize, settings: &GapSettings) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let resamples = if count == 0 { 0 } else { settings.resamples };
    (0..resamples).map(|_| (0..count).map(|_| rng.random_range(0..count)).collect()).collect()
}

fn interval(value: f64, parts: &[f64], draws: &[Vec<usize>]) -> Interval {
    let mut means: Vec<f64> =
        draws.iter().map(|draw| draw.iter().map(|&i| parts[i]).sum::<f64>() / parts.len() as f64).collect();
    means.sort_by(f64::total_cmp);
    match means.is_empty() {
        true => Interval::point(value),
        false => Interval { value, low: quantile(&means, 0.025), high: quantile(&means, 0.975) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Class 0 reads neuron 0, class 1 reads neuron 1, nobody reads neuron 2.
    fn layer() -> DecisionLayer {
        DecisionLayer { weight: array![[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]], bias: array![0.0, 0.0] }
    }

    fn table() -> FeatureTable {
        // Rows 0 and 1 are right pictures of class 0; row 2 lacks neuron 0 and has neuron 1.
        let features = array![[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.5, 1.0, 9.0]];
        let logits = layer().logits(&features);
        FeatureTable { index: vec![0, 1, 2], labels: vec![0; 3], groups: vec![None; 3], logits, features }
    }

    #[test]
    fn what_is_missing_and_what_misleads_are_told_apart_and_an_unread_neuron_is_left_out() {
        let shares = evidence_gap(&table(), &[0, 0, 1], &[2], &layer(), &GapSettings::default());
        let found: Vec<_> = shares.iter().map(|s| (s.neuron, s.direction, s.logits.value)).collect();
        assert_eq!(found, [(0, Direction::Insufficient, 3.0), (1, Direction::Excessive, 3.0)]);
    }

    #[test]
    fn the_shares_add_up_to_the_margin_that_was_lost() {
        let (table, layer) = (table(), layer());
        let shares = evidence_gap(&table, &[0, 0, 1], &[2], &layer, &GapSettings::default());
        let margin = |row: usize| f64::from(table.logits[[row, 0]] - table.logits[[row, 1]]);
        let lost = (margin(0) + margin(1)) / 2.0 - margin(2);
        assert!((shares.iter().map(|s| s.logits.value).sum::<f64>() - lost).abs() < 1e-6);
    }

    #[test]
    fn a_class_without_a_right_picture_has_no_gap() {
        assert!(evidence_gap(&table(), &[1, 1, 1], &[0, 1, 2], &layer(), &GapSettings::default()).is_empty());
    }
}
