//! From features to findings: which neurons are behind which mistakes ([methods A2], [methods A3]).
//!
//! Works from the cached features alone; heat maps are added afterwards by [`crate::maps`].
//!
//! [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2
//! [methods A3]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a3

use crate::counterfactual::{self, Counterfactuals, Range, Variant};
use crate::gap;
use crate::importance;
use crate::layer::DecisionLayer;
use crate::repair::results::CueTest;
use crate::results::{
    Activation, CounterfactualOutcome, Direction, Finding, Interval, Mistakes, Neuron, Sample, Summary, TopSample,
};
use crate::scan::FeatureTable;
use crate::statistics;
use crate::verdict::judgement::{CuePictures, FoundSlice};
use crate::votes::{self, Tally, VoteSettings};
use ndarray::{Array2, Axis};
use pellucid_saliency::stats::random::stream;
use pellucid_vision::dataset::Dataset;
use rand::Rng;
use serde::Serialize;
use std::collections::BTreeSet;

/// What is examined, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DiagnoseSettings {
    /// Which mistakes; empty takes the worst class in both directions.
    pub mistakes: Vec<Mistakes>,
    /// Counterfactual variant.
    pub variant: Variant,
    /// Optimiser steps at most.
    pub max_steps: usize,
    /// Votes.
    pub votes: VoteSettings,
    /// Neurons shown per direction.
    pub neurons: usize,
    /// Top-activating pictures per neuron.
    pub top: usize,
    /// Mistakes shown per finding.
    pub samples: usize,
}

impl Default for DiagnoseSettings {
    fn default() -> Self {
        Self {
            mistakes: Vec::new(),
            variant: Variant::default(),
            max_steps: counterfactual::MAX_STEPS,
            votes: VoteSettings::default(),
            neurons: 8,
            top: 8,
            samples: 60,
        }
    }
}

pellucid_guard::builders!(DiagnoseSettings {
    with_mistakes: mistakes => Vec<Mistakes>,
    with_variant: variant => Variant,
    with_max_steps: max_steps: usize,
    with_votes: votes => VoteSettings,
    with_neurons: neurons: usize,
    with_top: top: usize,
    with_samples: samples: usize,
});

/// Everything the findings are made from.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// Features, logits, labels.
    pub table: &'a FeatureTable,
    /// The decision layer.
    pub layer: &'a DecisionLayer,
    /// File names, class and group names.
    pub data: &'a Dataset,
    /// Class names, by index.
    pub classes: &'a [String],
    /// Predicted class of every row.
    pub predictions: Vec<usize>,
    /// Each neuron's observed range.
    range: Range,
    /// Mean features of the data set.
    mean: Vec<f64>,
}

impl<'a> Evidence<'a> {
    /// The evidence, with what every finding needs of the whole table worked out once.
    pub fn new(
        table: &'a FeatureTable,
        layer: &'a DecisionLayer,
        data: &'a Dataset,
        classes: &'a [String],
    ) -> Evidence<'a> {
        let (predictions, mean) = (predictions(table), importance::mean_features(&table.features));
        Evidence { table, layer, data, classes, predictions, range: Range::observed(&table.features), mean }
    }
}

/// Predictions of every row.
pub fn predictions(table: &FeatureTable) -> Vec<usize> {
    crate::scan::predictions(&table.logits)
}

/// The sets of mistakes that `settings` ask for: as named, or the worst class in both directions.
pub fn chosen_mistakes(settings: &DiagnoseSettings, summary: &Summary) -> Vec<Mistakes> {
    if !settings.mistakes.is_empty() {
        return settings.mistakes.clone();
    }
    // A perfect worst class has no mistakes in either direction worth a page.
    match summary.worst_class {
        Some(class) if summary.accuracy.count < summary.accuracy.total => {
            let sink = sink(summary).map(|(sink, _)| sink).filter(|sink| *sink != class);
            let sink = sink.map(|class| Mistakes::PredictedAs { class });
            [Mistakes::TrueClass { class }, Mistakes::PredictedAs { class }].into_iter().chain(sink).collect()
        }
        _ => Vec::new(),
    }
}

/// The class that most mistakes land on, and how many do, where it takes at least twice its part: the sign of a false correlation, which
/// makes other classes look weak.
pub fn sink(summary: &Summary) -> Option<(usize, usize)> {
    let mut landed = vec![0; summary.classes.len()];
    for confusion in &summary.confusions {
        if let Some(count) = landed.get_mut(confusion.predicted) {
            *count += confusion.count;
        }
    }
    let mistakes: usize = landed.iter().sum();
    let most = (0..landed.len()).rev().max_by_key(|&class| landed[class])?;
    (landed[most] * landed.len() >= 2 * mistakes && landed[most] > 0 && landed.len() > 2)
        .then_some((most, landed[most]))
}

/// The counterfactuals of one set of mistakes.
#[derive(Debug, Clone)]
pub struct Searched {
    /// Rows of the table that are the mistakes, ascending.
    pub rows: Vec<usize>,
    /// What was found for each.
    pub found: Counterfactuals,
}

/// Searches the counterfactuals of one set of mistakes.
pub fn search(
    evidence: &Evidence<'_>,
    mistakes: &Mistakes,
    settings: &DiagnoseSettings,
) -> Result<Searched, counterfactual::CounterfactualError> {
    let table = evidence.table;
    let rows = rows_of(mistakes, table, &evidence.predictions);
    let features = table.features.select(Axis(0), &rows);
    let targets: Vec<usize> = rows.iter().map(|&r| table.labels[r]).collect();
    let search = counterfactual::Settings {
        variant: settings.variant,
        max_steps: settings.max_steps,
        ..counterfactual::Settings::default()
    };
    let found = counterfactual::search(&features, &targets, evidence.layer, &evidence.range, &search)?;
    Ok(Searched { rows, found })
}

/// Names the neurons behind one set of mistakes: votes of its counterfactuals, evidence gap, importance.
pub fn describe(
    evidence: &Evidence<'_>,
    mistakes: &Mistakes,
    searched: &Searched,
    settings: &DiagnoseSettings,
) -> Finding {
    let (table, predictions, Searched { rows, found }) = (evidence.table, &evidence.predictions, searched);
    let class = match mistakes {
        Mistakes::TrueClass { class } | Mistakes::PredictedAs { class } => Some(*class),
        Mistakes::Group { .. } | Mistakes::All => None,
    };
    let tally = votes::tally(found, &settings.votes);
    let unreached = found.reached.iter().filter(|r| !**r).count();
    let shown: Vec<usize> = spread(rows.len(), settings.samples);
    let samples = shown.iter().map(|&i| sample(evidence, rows[i], Some(outcome(found, i)))).collect();
    let is_right = |&r: &usize| predictions[r] == table.labels[r] && class.is_none_or(|c| table.labels[r] == c);
    let all: Vec<usize> = (0..table.labels.len()).collect();
    let correct = all.iter().copied().filter(is_right).collect();
    let context = Context { evidence, rows, class, correct, all };
    let sharing = gap::GapSettings {
        seed: settings.votes.seed,
        resamples: settings.votes.resamples,
        ..gap::GapSettings::default()
    };
    let shares = gap::evidence_gap(table, predictions, rows, evidence.layer, &sharing);
    let Tally { insufficient, excessive, .. } = &tally;
    let neuron = |direction, vote: &votes::Vote| {
        let share = shares.iter().find(|s| s.neuron == vote.neuron && s.direction == direction);
        context.neuron(direction, vote, share, settings.top)
    };
    let neurons = |direction, list: &[votes::Vote]| -> Vec<Neuron> {
        list.iter().take(settings.neurons).map(|vote| neuron(direction, vote)).collect()
    };
    let in_gap = shares.iter().take(settings.neurons).map(|share| {
        let list = if share.direction == Direction::Insufficient { insufficient } else { excessive };
        let vote = list.iter().find(|vote| vote.neuron == share.neuron).cloned();
        neuron(share.direction, &vote.unwrap_or_else(|| votes::Vote::none(share.neuron)))
    });
    let gap = in_gap.collect();
    Finding {
        title: title(mistakes, evidence),
        mistakes: mistakes.clone(),
        class,
        count: rows.len(),
        unreached,
        samples,
        gap,
        insufficient: neurons(Direction::Insufficient, insufficient),
        excessive: neurons(Direction::Excessive, excessive),
    }
}

/// Rows of the table that are the mistakes in question, ascending.
pub fn rows_of(mistakes: &Mistakes, table: &FeatureTable, predictions: &[usize]) -> Vec<usize> {
    let wanted = |row: &usize| {
        let (truth, predicted) = (table.labels[*row], predictions[*row]);
        truth != predicted
            && match mistakes {
                Mistakes::TrueClass { class } => truth == *class,
                Mistakes::PredictedAs { class } => predicted == *class,
                Mistakes::Group { group } => table.groups[*row] == Some(*group),
                Mistakes::All => true,
            }
    };
    (0..table.labels.len()).filter(wanted).collect()
}

/// At most `most` of `n` places, evenly spread, so that a sample of a sorted data set is not one corner of it.
fn spread(n: usize, most: usize) -> Vec<usize> {
    if n <= most { (0..n).collect() } else { (0..most).map(|i| i * n / most).collect() }
}

fn title(mistakes: &Mistakes, evidence: &Evidence<'_>) -> String {
    let class = |c: usize| evidence.classes.get(c).cloned().unwrap_or_else(|| format!("class {c}"));
    match mistakes {
        Mistakes::TrueClass { class: c } => format!("Pictures of {} that were called something else", class(*c)),
        Mistakes::PredictedAs { class: c } => format!("Pictures that were wrongly called {}", class(*c)),
        Mistakes::Group { group } => {
            format!(
                "Mistakes in group {}",
                evidence.data.groups.get(*group).cloned().unwrap_or_else(|| group.to_string())
            )
        }
        Mistakes::All => "All mistakes".to_owned(),
    }
}

/// Slices of a finding that nobody named: clusters of its `mistakes` (rows) found on half of the units and tested on the other.
/// `units` has one entry a row.
pub fn unnamed_slices(
    evidence: &Evidence<'_>,
    finding: usize,
    mistakes: &[usize],
    units: &[usize],
    seed: u64,
) -> Vec<FoundSlice> {
    /// Pictures of a slice that are kept.
    const EXAMPLES: usize = 8;
    let (table, predicted) = (evidence.table, &evidence.predictions);
    let wrong: Vec<bool> = predicted.iter().zip(&table.labels).map(|(p, y)| p != y).collect();
    let classes: BTreeSet<usize> = mistakes.iter().map(|&r| table.labels[r]).collect();
    let own: BTreeSet<usize> = mistakes.iter().copied().collect();
    let around: Vec<usize> =
        (0..wrong.len()).filter(|r| own.contains(r) || (!wrong[*r] && classes.contains(&table.labels[*r]))).collect();
    let second = |row: usize| stream(seed ^ 0x51_1CE, units[row] as u64).random_bool(0.5);
    let cluster = |features: &Array2<f32>| crate::repair::clusters::clusters(features, seed);
    let found = crate::verdict::slices::unnamed(&table.features, &wrong, &around, second, cluster);
    let described = found.into_iter().map(|slice| FoundSlice {
        finding,
        test: slice.test,
        examples: slice.rows.iter().take(EXAMPLES).map(|&row| sample(evidence, row, None)).collect(),
    });
    described.collect()
}

/// Pictures with and without `cue`: those on which its neurons say most and least for its class.
pub fn cue_pictures(evidence: &Evidence<'_>, cue: &CueTest) -> CuePictures {
    /// Pictures of a row.
    const SHOWN: usize = 6;
    let (table, layer, class) = (evidence.table, evidence.layer, cue.class.0);
    let weights: Vec<(usize, f64)> = cue.neurons.iter().map(|&j| (j, layer.says(class, j))).collect();
    let of_row = |row: ndarray::ArrayView1<'_, f32>| weights.iter().map(|&(j, w)| f64::from(row[j]) * w).sum::<f64>();
    let says: Vec<f64> = table.features.rows().into_iter().map(of_row).collect();
    let (mut own, mut others): (Vec<usize>, Vec<usize>) =
        (0..table.labels.len()).partition(|&row| table.labels[row] == class);
    [&mut own, &mut others]
        .into_iter()
        .for_each(|rows| rows.sort_by(|a, b| says[*b].total_cmp(&says[*a]).then(a.cmp(b))));
    let shown = |rows: &mut dyn Iterator<Item = &usize>| -> Vec<Sample> {
        rows.take(SHOWN).map(|&row| sample(evidence, row, None)).collect()
    };
    // One picture is never on both sides.
    let half = own.len().div_ceil(2);
    CuePictures {
        with: shown(&mut own[..half].iter()),
        without: shown(&mut own[half..].iter().rev()),
        others: shown(&mut others.iter()),
    }
}

fn sample(evidence: &Evidence<'_>, row: usize, counterfactual: Option<CounterfactualOutcome>) -> Sample {
    let (table, predictions) = (evidence.table, &evidence.predictions);
    let index = table.index[row];
    let probabilities = crate::layer::softmax(table.logits.row(row));
    Sample {
        index,
        file: evidence.data.samples[index].file.clone(),
        truth: table.labels[row],
        predicted: predictions[row],
        confidence: probabilities.get(predictions[row]).copied().unwrap_or(f64::NAN),
        group: table.groups[row],
        counterfactual,
    }
}

fn outcome(found: &Counterfactuals, i: usize) -> CounterfactualOutcome {
    CounterfactualOutcome {
        reached: found.reached[i],
        steps: found.steps[i],
        margin: f64::from(found.margin[i]),
        l1: f64::from(found.l1[i]),
        changed: found.changed[i],
    }
}

struct Context<'a> {
    evidence: &'a Evidence<'a>,
    rows: &'a [usize],
    class: Option<usize>,
    /// Rows that are right: of the class, if one is examined.
    correct: Vec<usize>,
    /// Every row.
    all: Vec<usize>,
}

impl Context<'_> {
    fn neuron(&self, direction: Direction, vote: &votes::Vote, share: Option<&gap::Share>, top: usize) -> Neuron {
        let (table, layer) = (self.evidence.table, self.evidence.layer);
        let j = vote.neuron;
        // Where no class is examined, the neuron is judged for the class it serves most.
        let class = self.class.unwrap_or_else(|| {
            let serves = layer.weight.column(j);
            (0..serves.len()).fold(0, |best, c| if serves[c] > serves[best] { c } else { best })
        });
        let lowest = table.features.column(j).iter().copied().fold(f32::INFINITY, f32::min);
        let silent = self.rows.iter().filter(|&&r| table.features[[r, j]] <= lowest.max(0.0)).count();
        Neuron {
            index: j,
            direction,
            votes: vote.percent,
            stability: vote.stability,
            gap: share.map_or(Interval::point(0.0), |share| share.logits),
            importance: importance::ratio_of(&self.evidence.mean, layer, class, j),
            weight: f64::from(layer.weight[[class, j]]),
            on_mistakes: activation(&table.features, j, self.rows),
            on_correct: activation(&table.features, j, &self.correct),
            on_all: activation(&table.features, j, &self.all),
            silent_share: silent as f64 / self.rows.len().max(1) as f64,
            top: self.top(j, top),
        }
    }

    /// The rows that activate the neuron most, ties by their place in the data set.
    fn top(&self, j: usize, most: usize) -> Vec<TopSample> {
        let table = self.evidence.table;
        let mut rows = self.all.clone();
        rows.sort_by(|&a, &b| table.features[[b, j]].total_cmp(&table.features[[a, j]]).then(a.cmp(&b)));
        let top = rows.into_iter().take(most).map(|r| TopSample {
            sample: sample(self.evidence, r, None),
            activation: f64::from(table.features[[r, j]]),
            heat: Vec::new(),
            heat_size: [0, 0],
        });
        top.collect()
    }
}

fn activation(features: &Array2<f32>, j: usize, rows: &[usize]) -> Activation {
    let mut values: Vec<f64> = rows.iter().map(|&r| f64::from(features[[r, j]])).collect();
    values.sort_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map(|q| statistics::quantile(&values, q));
    Activation { samples: rows.len(), mean, quantiles }
}
