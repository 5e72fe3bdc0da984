//! Which neurons carry a false correlation, and which pictures show it: found from mistakes, without group labels.

use crate::counterfactual::{self, CounterfactualError};
use crate::diagnose::rows_of;
use crate::gap::{self, GapSettings, Share};
use crate::layer::DecisionLayer;
use crate::results::{Direction, Mistakes};
use crate::scan::FeatureTable;
use crate::votes::{self, VoteSettings};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

/// How neurons are chosen where the user names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// Those that stand in both lists of the evidence gap: missing in the class's mistakes, misleading in pictures that
    /// are called the class. The default.
    #[default]
    Gap,
    /// The published votes of both directions: insufficient for the class's mistakes, excessive in what is called it.
    Votes,
    /// Named by the user.
    Named,
}

/// A neuron that is suspected, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// Component of the feature vector.
    pub neuron: usize,
    /// How it was found.
    pub route: Route,
    /// Among the class's mistakes: logits a mistake that are missing for want of it, or the percentage of votes.
    pub insufficient: Option<f64>,
    /// Among what is wrongly called the class: logits a mistake that it misleads by, or the percentage of votes.
    pub excessive: Option<f64>,
    /// The sensitivity score of [methods A5], where a picture of the neuron was made: below 1 what it sees is less like the class
    /// than like the classes near by.
    ///
    /// [methods A5]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a5
    pub sensitivity: Option<f64>,
}

/// Neurons of each list of the gap that are looked at.
const DEPTH: usize = 20;

/// The suspects for `class` by falling strength, `count` at most, from the mistakes in `table`.
pub fn suspects(
    table: &FeatureTable,
    predictions: &[usize],
    layer: &DecisionLayer,
    class: usize,
    route: Route,
    count: usize,
) -> Result<Vec<Suspect>, CounterfactualError> {
    let missed = rows_of(&Mistakes::TrueClass { class }, table, predictions);
    let called = rows_of(&Mistakes::PredictedAs { class }, table, predictions);
    let (insufficient, excessive) = match route {
        Route::Votes => (
            voted(table, layer, &missed, Direction::Insufficient)?,
            voted(table, layer, &called, Direction::Excessive)?,
        ),
        Route::Gap | Route::Named => (
            shared(table, predictions, layer, &missed, Direction::Insufficient),
            shared(table, predictions, layer, &called, Direction::Excessive),
        ),
    };
    let of = |list: &[(usize, f64)], j: usize| list.iter().find(|(n, _)| *n == j).map(|(_, v)| *v);
    let mut neurons: Vec<usize> = insufficient.iter().chain(&excessive).map(|(j, _)| *j).collect();
    neurons.sort_unstable();
    neurons.dedup();
    let mut found: Vec<Suspect> = neurons
        .into_iter()
        .map(|j| Suspect {
            neuron: j,
            route,
            insufficient: of(&insufficient, j),
            excessive: of(&excessive, j),
            sensitivity: None,
        })
        .collect();
    // A cue of the class shows in both directions; one direction alone also lists evidence for the object itself.
    if route == Route::Gap && found.iter().any(|s| s.insufficient.is_some() && s.excessive.is_some()) {
        found.retain(|s| s.insufficient.is_some() && s.excessive.is_some());
    }
    let strength = |s: &Suspect| s.insufficient.unwrap_or(0.0) + s.excessive.unwrap_or(0.0);
    found.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then(a.neuron.cmp(&b.neuron)));
    found.truncate(count);
    Ok(found)
}

fn shared(
    table: &FeatureTable,
    predictions: &[usize],
    layer: &DecisionLayer,
    mistakes: &[usize],
    direction: Direction,
) -> Vec<(usize, f64)> {
    let settings = GapSettings { resamples: 0, ..GapSettings::default() };
    let of_direction = |s: &Share| s.direction == direction;
    let shares = gap::evidence_gap(table, predictions, mistakes, layer, &settings);
    shares.into_iter().filter(of_direction).take(DEPTH).map(|s| (s.neuron, s.logits.value)).collect()
}

fn voted(
    table: &FeatureTable,
    layer: &DecisionLayer,
    mistakes: &[usize],
    direction: Direction,
) -> Result<Vec<(usize, f64)>, CounterfactualError> {
    if mistakes.is_empty() {
        return Ok(Vec::new());
    }
    let features = table.features.select(Axis(0), mistakes);
    let targets: Vec<usize> = mistakes.iter().map(|&r| table.labels[r]).collect();
    let settings = counterfactual::Settings { variant: counterfactual::Variant::Reference, ..Default::default() };
    let range = counterfactual::Range::observed(&table.features);
    let found = counterfactual::search(&features, &targets, layer, &range, &settings)?;
    let tally = votes::tally(&found, &VoteSettings { resamples: 0, ..VoteSettings::default() });
    let list = if direction == Direction::Insufficient { tally.insufficient } else { tally.excessive };
    Ok(list.into_iter().map(|v| (v.neuron, v.percent.value)).collect())
}

/// Tells pictures on which the suspects are active from those on which they are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    neurons: Vec<usize>,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    threshold: f64,
    /// Distance of the two clusters' means over the standard deviation within them: below about 2 they are no clusters.
    pub separation: f64,
}

impl Detector {
    /// Splits `features` in two by the mean standardised activation of `neurons` (two means in one dimension); `None` if
    /// they do not vary.
    pub fn fit(features: &Array2<f32>, neurons: &[usize]) -> Option<Self> {
        let moments = |&j: &usize| {
            let n = features.nrows().max(1) as f64;
            let mean = features.column(j).iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = features.column(j).iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            (mean, variance.sqrt())
        };
        let varying: Vec<(usize, (f64, f64))> =
            neurons.iter().map(|j| (*j, moments(j))).filter(|(_, (_, deviation))| *deviation > 0.0).collect();
        let mut detector = Self {
            neurons: varying.iter().map(|(j, _)| *j).collect(),
            mean: varying.iter().map(|(_, (mean, _))| *mean).collect(),
            deviation: varying.iter().map(|(_, (_, deviation))| *deviation).collect(),
            threshold: 0.0,
            separation: 0.0,
        };
        let scores = detector.scores(features);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let parts = |threshold: f64| -> (Vec<f64>, Vec<f64>) { scores.iter().partition(|s| **s > threshold) };
        if varying.is_empty() {
            return None;
        }
        for _ in 0..100 {
            let (above, below) = parts(detector.threshold);
            if above.is_empty() || below.is_empty() {
                return None;
            }
            detector.threshold = (mean(&above) + mean(&below)) / 2.0;
        }
        let (above, below) = parts(detector.threshold);
        let (high, low) = (mean(&above), mean(&below));
        let within = above.iter().map(|s| (s - high).powi(2)).chain(below.iter().map(|s| (s - low).powi(2)));
        detector.separation = (high - low) / (within.sum::<f64>() / scores.len() as f64).sqrt();
        Some(detector)
    }

    fn scores(&self, features: &Array2<f32>) -> Vec<f64> {
        let standard = |row: ndarray::ArrayView1<'_, f32>, k: usize| {
            (f64::from(row[self.neurons[k]]) - self.mean[k]) / self.deviation[k]
        };
        let count = self.neurons.len().max(1) as f64;
        let rows = features.rows().into_iter();
        rows.map(|row| (0..self.neurons.len()).map(|k| standard(row, k)).sum::<f64>() / count).collect()
    }

    /// Whether the suspects are active on each row of `features`.
    pub fn active(&self, features: &Array2<f32>) -> Vec<bool> {
        self.scores(features).into_iter().map(|s| s > self.threshold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_detector_splits_where_the_suspects_are_active() {
        let features = array![[0.1, 5.0], [0.0, 1.0], [0.2, 3.0], [4.0, 2.0], [4.2, 4.0]];
        let detector = Detector::fit(&features, &[0]).unwrap();
        assert_eq!(detector.active(&features), [false, false, false, true, true]);
        assert!(detector.separation > 10.0);
    }

    #[test]
    fn neurons_that_never_vary_tell_nothing() {
        assert_eq!(Detector::fit(&array![[1.0, 2.0], [1.0, 3.0]], &[0]), None);
    }

    #[test]
    fn a_cue_that_stands_in_both_lists_is_suspected_and_the_object_itself_is_not() {
        // Neuron 0: the cue, read by class 0. Neurons 1 and 2: the objects of classes 0 and 1.
        let layer = DecisionLayer { weight: array![[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]], bias: array![0.0, 0.0] };
        // Right with the cue, wrong without it; right without it, wrong with it.
        let features = array![[1.0, 1.0, 0.0], [0.0, 0.2, 0.4], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]];
        let table = FeatureTable {
            index: vec![0, 1, 2, 3],
            labels: vec![0, 0, 1, 1],
            groups: vec![None; 4],
            logits: layer.logits(&features),
            features,
        };
        let found = suspects(&table, &[0, 1, 1, 0], &layer, 0, Route::Gap, 5).unwrap();
        assert_eq!(found.iter().map(|s| s.neuron).collect::<Vec<_>>(), [0]);
        assert!(found[0].insufficient > Some(0.0) && found[0].excessive > Some(0.0));
    }
}
