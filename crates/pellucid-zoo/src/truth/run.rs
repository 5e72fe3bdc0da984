//! One run of the bench: plant, train, ask, and hold the answers against the truth.

use std::collections::BTreeMap;
use std::time::Instant;

use pellucid::internals::classifier_methods::layer::DecisionLayer;
use pellucid::internals::classifier_methods::repair::compete::{self, Contestant, Field, Rules};
use pellucid::internals::classifier_methods::repair::erase::balanced;
use pellucid::internals::classifier_methods::scan::predictions;
use pellucid::internals::classifier_methods::shortcut::{self, Answer, Rows, folds};
use serde::{Deserialize, Serialize};

use super::plant::{Condition, Part, Planting};
use super::{Backbone, Kind};
use crate::ranking;

/// Overall and worst-group accuracy on the test pictures.
pub type Figures = [f64; 2];

/// What one run came to: a line of the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The network.
    pub backbone: Backbone,
    /// The classes.
    pub kind: Kind,
    /// The seed.
    pub seed: u64,
    /// What was planted.
    pub condition: Condition,
    /// For each planted cue, the share of other classes' pictures that it moves to its class.
    pub strength: Vec<f64>,
    /// The answer.
    pub answer: Answer,
    /// The least p-value.
    pub p_value: f64,
    /// The most negative z.
    pub z: f64,
    /// Classes of the confirmed cues, in order.
    pub confirmed: Vec<usize>,
    /// Each class's highest rank, the highest first.
    pub ranked: Vec<(usize, f64)>,
    /// The planted classes.
    pub planted: Vec<usize>,
    /// What would have been seen with 80 % power.
    pub detectable: f64,
    /// Of the first five suspects of the cue that the answer is about, the share among the 20 neurons that the cue moves most.
    pub neurons: Option<f64>,
    /// Who won the competition.
    pub winner: Option<Contestant>,
    /// Whether an edit is shipped without being asked for.
    pub shipped: bool,
    /// Test figures of the layer as it is, of every contestant, of the winner, and of group-balanced with labels.
    pub figures: BTreeMap<String, Figures>,
    /// Exact two-sided p of the winner's loss against the better refit, by unit.
    pub against_refit: Option<f64>,
    /// Seconds.
    pub seconds: f64,
}

/// How a run asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asking {
    /// How shortcuts are looked for.
    pub shortcut: shortcut::Settings,
    /// How edits compete.
    pub rules: Rules,
}

fn rows(part: &Part) -> Rows<'_> {
    Rows { features: &part.features, labels: &part.labels, units: &part.units }
}

/// Runs one condition.
pub fn run(backbone: Backbone, kind: Kind, seed: u64, condition: Condition, from: &Planting, asking: &Asking) -> Line {
    let start = Instant::now();
    let classes = from.classes_in_all;
    // As a practitioner would fit it: to the training pictures, by their class.
    let layer = folds::refit(&from.train.features, &from.train.labels, &[], classes, asking.shortcut.refit);
    let found = shortcut::examine(&layer, rows(&from.train), rows(&from.validation), &asking.shortcut);
    let mut figures = BTreeMap::from([("none".to_owned(), measured(&layer, &from.test))]);
    let cue = found.cue().cloned();
    let (mut winner, mut against_refit) = (None, None);
    if let Some(cue) = &cue {
        let present = [&from.train, &from.validation].map(|part| cue.candidate.present(&part.features)).concat();
        let labels = [from.train.labels.as_slice(), &from.validation.labels].concat();
        let slices = shortcut::slices(&labels, &present);
        let field = Field {
            layer: &layer,
            train: rows(&from.train),
            validation: rows(&from.validation),
            slices: &slices,
            present: &present,
            class: Some(cue.candidate.class),
        };
        let outcome = compete::compete(&field, &Contestant::ALL, &asking.rules);
        let all: Vec<usize> = (0..from.validation.labels.len()).collect();
        for contestant in Contestant::ALL {
            if let Some(fitted) = field.fit(contestant, &all, &asking.rules) {
                figures.insert(contestant.name().to_owned(), measured(&fitted, &from.test));
            }
        }
        figures.insert("winner".to_owned(), measured(&outcome.layer, &from.test));
        let refit = better_refit(&figures);
        let refit = field.fit(refit, &all, &asking.rules).unwrap_or_else(|| layer.clone());
        against_refit = Some(lost(&refit, &outcome.layer, &from.test));
        winner = Some(outcome.winner);
    }
    if !from.classes.is_empty() {
        let features = ndarray::concatenate![ndarray::Axis(0), from.train.features, from.validation.features];
        let labels = [from.train.labels.as_slice(), &from.validation.labels].concat();
        let groups = [from.train.groups.as_slice(), &from.validation.groups].concat();
        let fitted = folds::refit(&features, &labels, &balanced(&groups), classes, asking.rules.refit);
        figures.insert("group-balanced".to_owned(), measured(&fitted, &from.test));
    }
    let least = found.ranked.iter().fold((0.0, 1.0), |(z, p), t| (f64::min(z, t.z), f64::min(p, t.p_value)));
    Line {
        backbone,
        kind,
        seed,
        condition,
        strength: (0..from.classes.len()).map(|k| strength(&layer, from, k)).collect(),
        answer: found.answer,
        p_value: least.1,
        z: least.0,
        confirmed: found.confirmed.iter().map(|t| t.candidate.class).collect(),
        ranked: ranks(&found),
        planted: from.classes.clone(),
        detectable: found.detectable,
        neurons: cue.and_then(|cue| neurons(from, &cue.candidate.neurons)),
        shipped: found.answer == Answer::Confirmed && winner.is_some_and(|w| w != Contestant::None),
        winner,
        figures,
        against_refit,
        seconds: start.elapsed().as_secs_f64(),
    }
}

fn ranks(found: &shortcut::Examination) -> Vec<(usize, f64)> {
    let mut ranks: Vec<(usize, f64)> = shortcut::best_ranks(&found.ranked).into_iter().collect();
    ranks.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranks
}

/// The plain or the class-balanced refit, whichever has the better worst group on the test pictures: the harder rival.
fn better_refit(figures: &BTreeMap<String, Figures>) -> Contestant {
    let worst = |c: Contestant| figures.get(c.name()).map_or(0.0, |f| f[1]);
    if worst(Contestant::ClassBalanced) > worst(Contestant::Refit) {
        Contestant::ClassBalanced
    } else {
        Contestant::Refit
    }
}

fn right(layer: &DecisionLayer, part: &Part) -> Vec<bool> {
    let predicted = predictions(&layer.logits(&part.features));
    predicted.iter().zip(&part.labels).map(|(p, y)| p == y).collect()
}

fn measured(layer: &DecisionLayer, test: &Part) -> Figures {
    let right = right(layer, test);
    let worst = compete::worst(&right, &test.groups, |_| 1);
    [right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64, worst]
}

/// One-sided: 1 where `after` is no worse than `before` on the test pictures, else McNemar's p by unit.
fn lost(before: &DecisionLayer, after: &DecisionLayer, test: &Part) -> f64 {
    let [better, worse] = compete::changed_units(&right(before, test), &right(after, test), &test.units);
    let p = pellucid::internals::classifier_methods::repair::compare::mcnemar(better, worse);
    if worse > better { p } else { 1.0 }
}

/// The share of other classes' test pictures that cue `k` moves to its class.
fn strength(layer: &DecisionLayer, from: &Planting, k: usize) -> f64 {
    let predicted = predictions(&layer.logits(&from.test.features));
    let (without, with) = &from.pairs[k];
    let others: Vec<(usize, usize)> = without
        .iter()
        .copied()
        .zip(with.iter().copied())
        .filter(|(a, _)| from.test.labels[*a] != from.classes[k])
        .collect();
    let moved = others.iter().filter(|(a, b)| predicted[*a] != from.classes[k] && predicted[*b] == from.classes[k]);
    moved.count() as f64 / others.len().max(1) as f64
}

/// Of the first five `suspects`, the share among the 20 neurons that a planted cue moves most; of the cue that they fit best.
fn neurons(from: &Planting, suspects: &[usize]) -> Option<f64> {
    let share = |(without, with): &(Vec<usize>, Vec<usize>)| {
        let pick = |rows: &[usize]| from.test.features.select(ndarray::Axis(0), rows);
        let effects = ranking::effects(&pick(with), &pick(without), &vec![true; with.len()]);
        let carriers: Vec<usize> = effects.iter().take(20).map(|(j, _)| *j).collect();
        let first: Vec<&usize> = suspects.iter().take(5).collect();
        first.iter().filter(|j| carriers.contains(j)).count() as f64 / first.len().max(1) as f64
    };
    if from.classes.is_empty() {
        return None;
    }
    from.pairs.iter().map(share).reduce(f64::max)
}
