//! Is there a shortcut at all? ([methods A7])
//!
//! Ordinary evidence for a class predicts mistakes within the class too, so a cue that does is no news. What would be news is
//! a cue that says something about the label **given the recalibrated confidence**. [`examine`] finds candidates on
//! training rows ([`candidates`]), tests them on validation rows ([`score`]), ranks them where the test does not reject
//! ([`ranking`]), and gives one of three answers. Several cues come one after the other: the strongest is erased, and the
//! test is asked again.
//!
//! [methods A7]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a7

pub mod association;
pub mod candidates;
pub mod folds;
pub mod ranking;
pub mod score;

pub use association::Association;
pub use candidates::{Candidate, Side};

use crate::layer::DecisionLayer;
use crate::repair::erase::{Erasure, balanced};
use crate::scan::predictions;
use candidates::Mistaken;
use folds::Refit;
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the data say about a shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The test rejects: given its confidence, the model is wrong about the cue.
    Confirmed,
    /// A cue goes with the mistakes as a shortcut's does and validation cannot tell it from a genuine part of the class, or it
    /// goes with the class in training and not in validation.
    NeedsYourEye,
    /// Neither.
    NoneFound,
}

impl Answer {
    /// The answer in words.
    pub fn words(self) -> &'static str {
        match self {
            Answer::Confirmed => "confirmed by your data",
            Answer::NeedsYourEye => "needs your eye: is this part of the class?",
            Answer::NoneFound => "none found",
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// How shortcuts are looked for.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Settings {
    /// Folds.
    pub folds: usize,
    /// How heads are fitted without a fold.
    pub refit: Refit,
    /// Suspects of a candidate at most: every set of mistakes gives one of each size. Few tell a compact cue purely, where more
    /// would mix the class's own evidence in; many are needed for a diffuse one.
    pub suspects: [usize; 3],
    /// Random signs of the null.
    pub flips: usize,
    /// Family-wise level.
    pub alpha: f64,
    /// A ranked candidate below this is none.
    pub least_rank: f64,
    /// A class whose first candidate is not so many times the median of the other classes' first is none: ordinary evidence
    /// ranks every class alike.
    pub apart: f64,
    /// Cues one after the other at most.
    pub cues: usize,
    /// Seed of folds and flips.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folds: 5,
            refit: Refit::default(),
            suspects: [3, 8, 20],
            flips: 2000,
            alpha: 0.01,
            least_rank: 10.0,
            apart: 1.5,
            cues: 4,
            seed: 0,
        }
    }
}

/// Rows of a split.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Features, rows × d.
    pub features: &'a Array2<f32>,
    /// True classes.
    pub labels: &'a [usize],
    /// Unit of each row: what is not independent shares one. Units of different splits are different.
    pub units: &'a [usize],
}

/// A candidate and what the data say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// The candidate.
    pub candidate: Candidate,
    /// Its score on validation: far below 0 where the cue counts for the class more than it should.
    pub z: f64,
    /// Family-wise p-value.
    pub p_value: f64,
    /// By how much the class's probability is too high where the cue is present.
    pub effect: f64,
    /// What would have been seen with 80 % power.
    pub detectable: f64,
    /// How far its presence tells the mistakes around the class, out of fold on training and validation rows.
    pub rank_z: f64,
    /// How it goes with the class in training and in validation.
    pub association: Association,
}

/// What [`examine`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The answer.
    pub answer: Answer,
    /// Cues that the test confirms, one after the other, each found with those before it erased.
    pub confirmed: Vec<Tested>,
    /// Candidates of the first round by falling rank.
    pub ranked: Vec<Tested>,
    /// Candidates tested in the first round.
    pub candidates: usize,
    /// The effect that would have been seen with 80 % power: the median over the candidates of the first round.
    pub detectable: f64,
}

impl Examination {
    /// The cue that the answer is about, if it is about one.
    pub fn cue(&self) -> Option<&Tested> {
        match self.answer {
            Answer::Confirmed => self.confirmed.first(),
            Answer::NeedsYourEye => self.ranked.first(),
            Answer::NoneFound => None,
        }
    }
}

/// Looks for shortcuts of `layer`, which was trained on `train` and not on `validation`.
pub fn examine(layer: &DecisionLayer, train: Rows<'_>, validation: Rows<'_>, settings: &Settings) -> Examination {
    let (mut layer, mut features) = (layer.clone(), [train.features.clone(), validation.features.clone()]);
    let (mut confirmed, mut first): (Vec<Tested>, Option<Vec<Tested>>) = (Vec::new(), None);
    for round in 0..=settings.cues {
        let train = Rows { features: &features[0], ..train };
        let validation = Rows { features: &features[1], ..validation };
        let tested = test(&layer, train, validation, settings, round == 0);
        let strongest = tested.iter().min_by(|a, b| a.z.total_cmp(&b.z)).cloned();
        first.get_or_insert(tested);
        let Some(strongest) = strongest.filter(|s| s.p_value <= settings.alpha && round < settings.cues) else { break };
        let erased = erase(train, validation, &strongest.candidate, layer.classes(), settings);
        confirmed.push(strongest);
        let Some((next, erased)) = erased else { break };
        (layer, features) = (next, erased);
    }
    let mut ranked = first.unwrap_or_default();
    let mut detectable: Vec<f64> = ranked.iter().map(|tested| tested.detectable).filter(|d| d.is_finite()).collect();
    detectable.sort_by(f64::total_cmp);
    let candidates = ranked.len();
    let of_training = |tested: &Tested| tested.association.is_of_training(settings.alpha, candidates);
    ranked.sort_by(|a, b| {
        let by_rank = b.rank_z.total_cmp(&a.rank_z).then(a.candidate.class.cmp(&b.candidate.class));
        of_training(b).cmp(&of_training(a)).then(by_rank)
    });
    let answer = match (confirmed.is_empty(), ranked.first()) {
        (false, _) => Answer::Confirmed,
        (true, Some(first)) if of_training(first) || stands_apart(first, &ranked, settings) => Answer::NeedsYourEye,
        _ => Answer::NoneFound,
    };
    let detectable = pellucid_saliency::stats::quantile(&detectable, 0.5);
    Examination { answer, confirmed, ranked, candidates, detectable }
}

/// The highest rank of each class that has a candidate, by class.
pub fn best_ranks(ranked: &[Tested]) -> BTreeMap<usize, f64> {
    let mut best: BTreeMap<usize, f64> = BTreeMap::new();
    for tested in ranked {
        let own = best.entry(tested.candidate.class).or_insert(tested.rank_z);
        *own = own.max(tested.rank_z);
    }
    best
}

/// Whether the first candidate ranks as ordinary evidence hardly does.
fn stands_apart(first: &Tested, ranked: &[Tested], settings: &Settings) -> bool {
    let mut others: Vec<f64> = best_ranks(ranked)
        .into_iter()
        .filter(|(class, _)| *class != first.candidate.class)
        .map(|(_, rank)| rank)
        .collect();
    others.sort_by(f64::total_cmp);
    let usual = pellucid_saliency::stats::quantile(&others, 0.5);
    first.rank_z >= settings.least_rank && (usual.is_nan() || first.rank_z >= settings.apart * usual)
}

/// Every candidate of one round with its score, and its rank where `rank` is asked for.
fn test(layer: &DecisionLayer, train: Rows<'_>, validation: Rows<'_>, settings: &Settings, rank: bool) -> Vec<Tested> {
    let classes = layer.classes();
    let by_fold = folds::folds(train.labels, train.units, settings.folds, settings.seed);
    let (logits, _) = folds::out_of_fold(train.features, train.labels, &by_fold, classes, settings.refit);
    let predicted = predictions(&logits);
    let from = Mistaken { features: train.features, labels: train.labels, predicted: &predicted };
    let found = candidates::candidates(from, layer, &settings.suspects);
    let scores = scores(layer, validation, &found, settings);
    let least = score::least_under_flips(&scores, settings.flips, settings.seed);
    let ranks = if rank { ranks(train, validation, &found, classes, settings) } else { vec![f64::NAN; found.len()] };
    let tested = found.into_iter().zip(scores).zip(ranks).map(|((candidate, score), rank_z)| Tested {
        association: association(&candidate, [train, validation]),
        candidate,
        z: score.z,
        p_value: score::p_value(score.z, &least),
        effect: -score.effect,
        detectable: score::detectable(score.error, &least, settings.alpha),
        rank_z,
    });
    tested.collect()
}

fn association(candidate: &Candidate, splits: [Rows<'_>; 2]) -> Association {
    let [train, validation] = splits.map(|rows| candidate.present(rows.features));
    Association::of(candidate.class, splits, [&train, &validation])
}

/// Scores of the candidates on validation rows, at a temperature fitted out of fold.
fn scores(layer: &DecisionLayer, validation: Rows<'_>, found: &[Candidate], settings: &Settings) -> Vec<score::Score> {
    let logits = layer.logits(validation.features);
    let by_fold = folds::folds(validation.labels, validation.units, settings.folds, settings.seed);
    let p = folds::calibrated(&logits, validation.labels, &by_fold);
    let logits = logits.mapv(f64::from);
    let (units, count) = score::dense(validation.units);
    let of = |candidate: &Candidate| {
        let present: Vec<f64> =
            candidate.present(validation.features).into_iter().map(|on| f64::from(u8::from(on))).collect();
        let is_class: Vec<bool> = validation.labels.iter().map(|&y| y == candidate.class).collect();
        let (p, z) = (p.column(candidate.class), logits.column(candidate.class));
        score::score(&present, &is_class, p, z, (&units, count))
    };
    found.iter().map(of).collect()
}

/// Ranks of the candidates, out of fold on training and validation rows.
fn ranks(train: Rows<'_>, validation: Rows<'_>, found: &[Candidate], classes: usize, settings: &Settings) -> Vec<f64> {
    let features = ndarray::concatenate![Axis(0), *train.features, *validation.features];
    let labels = [train.labels, validation.labels].concat();
    let beyond = train.units.iter().max().map_or(0, |last| last + 1);
    let units: Vec<usize> =
        train.units.iter().copied().chain(validation.units.iter().map(|unit| unit + beyond)).collect();
    let by_fold = folds::folds(&labels, &units, settings.folds, settings.seed);
    let (logits, _) = folds::out_of_fold(&features, &labels, &by_fold, classes, settings.refit);
    let predicted = predictions(&logits);
    let rank = |candidate: &Candidate| {
        ranking::rank_z(&labels, &predicted, &candidate.present(&features), candidate.class, classes)
    };
    found.iter().map(rank).collect()
}

/// The slice of each row: its class with the cue or without.
pub fn slices(labels: &[usize], present: &[bool]) -> Vec<usize> {
    labels.iter().zip(present).map(|(&y, &on)| 2 * y + usize::from(on)).collect()
}

/// Features without the cue, and the head fitted to them, each class and slice of the training rows counting alike.
fn erase(
    train: Rows<'_>,
    validation: Rows<'_>,
    cue: &Candidate,
    classes: usize,
    settings: &Settings,
) -> Option<(DecisionLayer, [Array2<f32>; 2])> {
    let present = cue.present(train.features);
    let erasure = Erasure::fit(train.features, train.labels, &present)?;
    let features = [erasure.apply(train.features), erasure.apply(validation.features)];
    let slices = balanced(&slices(train.labels, &present));
    let layer = folds::refit(&features[0], train.labels, &slices, classes, settings.refit);
    Some((layer, features))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;

    /// Pictures of four classes: 40 features of the object, 8 of a cue of class 0, 16 of nothing, all with noise.
    struct World {
        features: Array2<f32>,
        labels: Vec<usize>,
        units: Vec<usize>,
    }

    /// `rate` of the pictures of class 0 and of the others that carry the cue.
    fn world(rows: usize, rate: [f64; 2], seed: u64) -> World {
        let mut random = stream(seed, 0);
        let labels: Vec<usize> = (0..rows).map(|i| i % 4).collect();
        let cue: Vec<bool> = labels.iter().map(|&y| random.random_bool(rate[usize::from(y != 0)])).collect();
        let features = Array2::from_shape_fn((rows, 64), |(i, j)| {
            let noise = random.random::<f32>() * 1.6;
            let object = if j < 40 && j % 4 == labels[i] { 0.3 } else { 0.0 };
            let mark = if (40..48).contains(&j) && cue[i] { 0.6 } else { 0.0 };
            noise + object + mark
        });
        World { features, labels, units: (0..rows).collect() }
    }

    fn rows(world: &World) -> Rows<'_> {
        Rows { features: &world.features, labels: &world.labels, units: &world.units }
    }

    fn asked(training: [f64; 2], validation: [f64; 2], seed: u64) -> Examination {
        let (train, validation) = (world(600, training, seed), world(320, validation, seed + 1000));
        let layer = folds::refit(&train.features, &train.labels, &[], 4, Refit::default());
        examine(&layer, rows(&train), rows(&validation), &Settings::default())
    }

    #[test]
    fn a_shortcut_is_confirmed_where_validation_is_balanced_and_its_class_is_named() {
        let found: Vec<Examination> = (0..5).map(|seed| asked([0.95, 0.05], [0.5, 0.5], seed)).collect();
        let right = found.iter().filter(|e| e.answer == Answer::Confirmed && e.cue().unwrap().candidate.class == 0);
        assert!(right.count() >= 4, "{:?}", found.iter().map(|e| e.answer).collect::<Vec<_>>());
    }

    #[test]
    fn a_cue_that_is_independent_of_the_class_is_not_confirmed() {
        let confirmed = (0..8).filter(|&seed| asked([0.5, 0.5], [0.5, 0.5], seed).answer == Answer::Confirmed).count();
        assert_eq!(confirmed, 0);
    }

    #[test]
    fn where_validation_is_skewed_as_training_is_nothing_is_confirmed_and_the_class_comes_first() {
        let found: Vec<Examination> = (0..4).map(|seed| asked([0.95, 0.05], [0.95, 0.05], seed)).collect();
        assert!(found.iter().all(|e| e.answer != Answer::Confirmed));
        assert!(found.iter().filter(|e| e.ranked[0].candidate.class == 0).count() >= 3);
    }

    #[test]
    fn equal_inputs_give_equal_bytes_for_any_number_of_threads() {
        let text = |threads: usize| {
            let pool = rayon_pool(threads);
            pool.install(|| serde_json::to_string(&asked([0.95, 0.05], [0.5, 0.5], 1)).unwrap())
        };
        assert_eq!(text(1), text(3));
    }

    fn rayon_pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn the_answers_are_said_in_these_words() {
        let words = [Answer::Confirmed, Answer::NeedsYourEye, Answer::NoneFound].map(|answer| answer.to_string());
        assert_eq!(words, ["confirmed by your data", "needs your eye: is this part of the class?", "none found"]);
    }
}
