//! Edits compete ([methods A7]): which change of the decision layer is worth shipping, if any.
//!
//! Under K-fold cross-validation by unit, training rows are always in the fit and only validation rows are scored. Beside
//! leaving the layer as it is, a plain and a class-balanced refit on training and validation rows take part: whatever an
//! edit gains by the additional rows alone, they gain too. The score is the accuracy of the worst slice. Of the edits within
//! one standard error of the best, the simplest wins; one whose overall loss is beyond chance is not shipped. The winner is
//! fitted to training and validation rows together.
//!
//! [methods A7]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a7

use super::compare::mcnemar;
use super::erase::{Erasure, balanced};
use super::lbfgs::lbfgs;
use super::loss::Loss;
use crate::layer::DecisionLayer;
use crate::scan::predictions;
use crate::shortcut::Rows;
use crate::shortcut::folds::{Reduced, Refit, folds, mean_variance, refit};
use ndarray::{Array2, Axis};
use pellucid_saliency::stats::multiplicity::holm_adjusted;
use pellucid_saliency::stats::random::stream;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What takes part, the simplest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// The layer as it is.
    None,
    /// Fitted again to training and validation rows.
    Refit,
    /// The same, each class counting alike.
    ClassBalanced,
    /// The same, each slice (class × cue, or the named groups) counting alike.
    SliceBalanced,
    /// The cue erased from the features, then fitted with slices counting alike.
    Erase,
}

impl Contestant {
    /// All, the simplest first.
    pub const ALL: [Contestant; 5] =
        [Contestant::None, Contestant::Refit, Contestant::ClassBalanced, Contestant::SliceBalanced, Contestant::Erase];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::None => "none",
            Contestant::Refit => "refit",
            Contestant::ClassBalanced => "class-balanced",
            Contestant::SliceBalanced => "slice-balanced",
            Contestant::Erase => "erase",
        }
    }

    /// Whether it only gains by the additional rows.
    pub fn is_refit(self) -> bool {
        matches!(self, Contestant::Refit | Contestant::ClassBalanced)
    }
}

/// Slices with fewer validation rows are pooled.
pub const SMALLEST_SLICE: usize = 30;

/// How the competition runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Folds of the validation rows.
    pub folds: usize,
    /// How the layer is fitted from nothing.
    pub refit: Refit,
    /// Resamples of the units for the standard error.
    pub resamples: usize,
    /// Level of the guard against overall loss, after Holm.
    pub guard: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { folds: 5, refit: Refit::default(), resamples: 200, guard: 0.05, seed: 0 }
    }
}

/// What the edits are made of.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The layer as it is.
    pub layer: &'a DecisionLayer,
    /// Training rows.
    pub train: Rows<'a>,
    /// Validation rows.
    pub validation: Rows<'a>,
    /// Slice of every training row, then of every validation row: class × cue, or the named groups.
    pub slices: &'a [usize],
    /// Whether each training row, then each validation row, shows the cue; empty where slices are named groups.
    pub present: &'a [bool],
    /// The class that the cue speaks for, where there is one.
    pub class: Option<usize>,
}

/// How one contestant did on the validation rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Which.
    pub contestant: Contestant,
    /// Accuracy of its worst slice.
    pub worst_slice: f64,
    /// Accuracy over all validation rows.
    pub overall: f64,
    /// How far its worst slice is below the best one's, in standard errors of that difference (0 for the best).
    pub behind: f64,
    /// Units that are better and worse than with the layer as it is.
    pub changed: [usize; 2],
    /// McNemar's test of that by unit, after Holm.
    pub p_value: f64,
}

/// The outcome of a competition.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Every contestant, the simplest first.
    pub standings: Vec<Standing>,
    /// Who won.
    pub winner: Contestant,
    /// Its layer, fitted to training and validation rows.
    pub layer: DecisionLayer,
}

/// Training rows and those validation rows that are not held out.
struct Material {
    features: Array2<f32>,
    labels: Vec<usize>,
    slices: Vec<usize>,
    present: Vec<bool>,
}

impl Field<'_> {
    fn material(&self, validation: &[usize]) -> Material {
        let train = self.train.labels.len();
        let pick = |of: &[usize]| -> Vec<usize> {
            of[..train].iter().copied().chain(validation.iter().map(|&r| of[train + r])).collect()
        };
        let own = self.validation.features.select(Axis(0), validation);
        let labels = [self.train.labels, &validation.iter().map(|&r| self.validation.labels[r]).collect::<Vec<_>>()];
        let present = self.present.get(..train).unwrap_or_default().iter().copied();
        let later = validation.iter().filter_map(|&r| self.present.get(train + r).copied());
        Material {
            features: ndarray::concatenate![Axis(0), *self.train.features, own],
            labels: labels.concat(),
            slices: pick(self.slices),
            present: present.chain(later).collect(),
        }
    }

    /// The layer of `contestant` fitted to the training rows and the `validation` rows; `None` where the cue cannot be erased.
    pub fn fit(&self, contestant: Contestant, validation: &[usize], rules: &Rules) -> Option<DecisionLayer> {
        if contestant == Contestant::None {
            return Some(self.layer.clone());
        }
        self.reduced(|field, reduced| Some(reduced.unfold(&field.fit_reduced(contestant, validation, rules)?)))
    }

    /// The field in the directions in which its rows vary most, which are found once for all fits and know no labels.
    fn reduced<T>(&self, with: impl FnOnce(&Field<'_>, &Reduced) -> T) -> T {
        let reduced = Reduced::new(&ndarray::concatenate![Axis(0), *self.train.features, *self.validation.features]);
        let (train, validation) = reduced.rows.view().split_at(Axis(0), self.train.labels.len());
        let (train, validation) = (train.to_owned(), validation.to_owned());
        let field = Field {
            train: Rows { features: &train, ..self.train },
            validation: Rows { features: &validation, ..self.validation },
            ..*self
        };
        with(&field, &reduced)
    }

    /// [`Field::fit`] on a field that is reduced already.
    fn fit_reduced(&self, contestant: Contestant, validation: &[usize], rules: &Rules) -> Option<DecisionLayer> {
        let from = self.material(validation);
        let plain =
            |importance: &[f64]| refit(&from.features, &from.labels, importance, self.layer.classes(), rules.refit);
        Some(match contestant {
            Contestant::None => self.layer.clone(),
            Contestant::Refit => plain(&[]),
            Contestant::ClassBalanced => plain(&balanced(&from.labels)),
            Contestant::SliceBalanced => plain(&balanced(&from.slices)),
            Contestant::Erase => {
                let erasure = Erasure::fit(&from.features, &from.labels, &from.present)?;
                let features = erasure.apply(&from.features);
                let importance = balanced(&from.slices);
                let fitted = refit(&features, &from.labels, &importance, self.layer.classes(), rules.refit);
                erasure.fold(&fitted)
            }
        })
    }

    /// The pools that validation rows are scored in: slices of [`SMALLEST_SLICE`] rows, the smaller ones together with those
    /// that the cue hurts as it hurts them (its class without it and others with it), or else all small ones together.
    pub fn pools(&self) -> Vec<usize> {
        let train = self.train.labels.len();
        let slices = &self.slices[train..];
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        slices.iter().for_each(|&s| *sizes.entry(s).or_default() += 1);
        let beyond = sizes.keys().max().map_or(0, |last| last + 1);
        let hurt = |row: usize| match (self.class, self.present.get(train + row)) {
            (Some(class), Some(&on)) => usize::from((self.validation.labels[row] == class) != on),
            _ => 0,
        };
        let pool = |(row, slice): (usize, &usize)| match sizes[slice] >= SMALLEST_SLICE {
            true => *slice,
            false => beyond + hurt(row),
        };
        slices.iter().enumerate().map(pool).collect()
    }
}

/// Runs the competition among `contestants`, of which [`Contestant::None`] always is one.
pub fn compete(field: &Field<'_>, contestants: &[Contestant], rules: &Rules) -> Outcome {
    let validation = field.validation;
    let by_fold = folds(validation.labels, validation.units, rules.folds, rules.seed);
    let pools = field.pools();
    let mut taking_part: Vec<Contestant> = contestants.to_vec();
    taking_part.push(Contestant::None);
    taking_part.sort_unstable();
    taking_part.dedup();
    let as_it_is = predictions(&field.layer.logits(validation.features));
    let none: Vec<bool> = as_it_is.iter().zip(validation.labels).map(|(p, y)| p == y).collect();
    let scored: Vec<(Contestant, Vec<bool>)> = field.reduced(|reduced, _| {
        let right = |contestant: Contestant| match contestant {
            // The layer as it is saw none of them.
            Contestant::None => Some(none.clone()),
            _ => right_out_of_fold(reduced, contestant, &by_fold, rules),
        };
        taking_part.into_iter().filter_map(|contestant| Some((contestant, right(contestant)?))).collect()
    });
    let (standings, winner) = judge(&scored, &pools, validation.units, rules);
    let all: Vec<usize> = (0..validation.labels.len()).collect();
    let layer = field.fit(winner, &all, rules).unwrap_or_else(|| field.layer.clone());
    Outcome { standings, winner, layer }
}

/// Which validation rows are right by a layer that did not see their fold.
fn right_out_of_fold(field: &Field<'_>, contestant: Contestant, by_fold: &[usize], rules: &Rules) -> Option<Vec<bool>> {
    let of_fold = |fold: usize| -> Option<Vec<(usize, bool)>> {
        let (held, kept): (Vec<usize>, Vec<usize>) = (0..by_fold.len()).partition(|&r| by_fold[r] == fold);
        let layer = field.fit_reduced(contestant, &kept, rules)?;
        let predicted = predictions(&layer.logits(&field.validation.features.select(Axis(0), &held)));
        Some(held.iter().zip(predicted).map(|(&r, p)| (r, p == field.validation.labels[r])).collect())
    };
    let parts: Vec<Option<Vec<(usize, bool)>>> = (0..rules.folds).into_par_iter().map(of_fold).collect();
    let mut out = vec![false; by_fold.len()];
    for part in parts {
        part?.into_iter().for_each(|(row, right)| out[row] = right);
    }
    Some(out)
}

/// Accuracy of the worst of `parts`, each row counted `times` (by its place); 1 where there are none.
pub fn worst(right: &[bool], parts: &[usize], times: impl Fn(usize) -> usize) -> f64 {
    let mut tally: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (row, (&right, &part)) in right.iter().zip(parts).enumerate() {
        let (cell, times) = (tally.entry(part).or_default(), times(row));
        *cell = (cell.0 + times * usize::from(right), cell.1 + times);
    }
    tally.values().filter(|t| t.1 > 0).map(|t| t.0 as f64 / t.1 as f64).fold(1.0, f64::min)
}

/// Standings and winner from who is right where.
fn judge(
    scored: &[(Contestant, Vec<bool>)],
    pools: &[usize],
    units: &[usize],
    rules: &Rules,
) -> (Vec<Standing>, Contestant) {
    let scores: Vec<f64> = scored.iter().map(|(_, right)| worst(right, pools, |_| 1)).collect();
    // Of equals the simplest.
    let best = (0..scored.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
    let errors = standard_errors(scored, best, pools, units, rules);
    let none = scored.iter().find(|(c, _)| *c == Contestant::None).map(|(_, right)| right);
    let changed: Vec<[usize; 2]> =
        scored.iter().map(|(_, right)| none.map_or([0, 0], |none| changed_units(none, right, units))).collect();
    let p_values: Vec<f64> = changed.iter().map(|[better, worse]| mcnemar(*better, *worse)).collect();
    // None against itself is no test.
    let tests: Vec<f64> =
        scored.iter().zip(&p_values).map(|((c, _), p)| if *c == Contestant::None { f64::NAN } else { *p }).collect();
    let adjusted = holm_adjusted(&tests);
    let standings: Vec<Standing> = (0..scored.len())
        .map(|i| Standing {
            contestant: scored[i].0,
            worst_slice: scores[i],
            overall: scored[i].1.iter().filter(|r| **r).count() as f64 / pools.len().max(1) as f64,
            behind: if i == best { 0.0 } else { (scores[best] - scores[i]) / errors[i].max(1e-9) },
            changed: changed[i],
            p_value: if adjusted[i].is_nan() { 1.0 } else { adjusted[i] },
        })
        .collect();
    let harms = |s: &Standing| s.changed[1] > s.changed[0] && s.p_value <= rules.guard;
    let winner = standings.iter().find(|s| s.behind <= 1.0 && !harms(s)).map_or(Contestant::None, |s| s.contestant);
    (standings, winner)
}

/// Units that are better (more rows right) and worse.
pub fn changed_units(before: &[bool], after: &[bool], units: &[usize]) -> [usize; 2] {
    let mut net: BTreeMap<usize, i64> = BTreeMap::new();
    for ((&was, &is), &unit) in before.iter().zip(after).zip(units) {
        *net.entry(unit).or_default() += i64::from(is) - i64::from(was);
    }
    [net.values().filter(|n| **n > 0).count(), net.values().filter(|n| **n < 0).count()]
}

/// The standard error, over resampled units, of how far each contestant's worst pool is below that of the best.
fn standard_errors(
    scored: &[(Contestant, Vec<bool>)],
    best: usize,
    pools: &[usize],
    units: &[usize],
    rules: &Rules,
) -> Vec<f64> {
    let (units, count) = crate::shortcut::score::dense(units);
    let draw = |sample: usize| -> Vec<f64> {
        let mut random = stream(rules.seed ^ 0xB007, sample as u64);
        let mut drawn = vec![0usize; count];
        (0..count).for_each(|_| drawn[random.random_range(0..count)] += 1);
        scored.iter().map(|(_, right)| worst(right, pools, |row| drawn[units[row]])).collect()
    };
    let draws: Vec<Vec<f64>> = (0..rules.resamples).into_par_iter().map(draw).collect();
    let of = |i: usize| {
        let behind: Vec<f64> = draws.iter().map(|d| d[best] - d[i]).collect();
        let mean = behind.iter().sum::<f64>() / behind.len() as f64;
        (behind.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / behind.len() as f64).sqrt()
    };
    (0..scored.len()).map(of).collect()
}

/// Fits again to `features` with a pull towards `origin`, both in units of the features' mean variance.
pub fn refit_towards(
    origin: &DecisionLayer,
    features: &Array2<f32>,
    labels: &[usize],
    importance: &[f64],
    how: Refit,
) -> DecisionLayer {
    let pull = how.ridge * mean_variance(features);
    let loss = Loss::cross_entropy();
    lbfgs(origin, &loss, features.view(), labels, importance, pull, how.steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(pattern: &[(usize, usize)]) -> Vec<bool> {
        pattern.iter().flat_map(|&(right, total)| (0..total).map(move |i| i < right)).collect()
    }

    fn judged(scored: &[(Contestant, Vec<bool>)], pools: &[usize]) -> Contestant {
        let units: Vec<usize> = (0..pools.len()).collect();
        judge(scored, pools, &units, &Rules::default()).1
    }

    #[test]
    fn the_simplest_within_one_standard_error_wins() {
        let pools: Vec<usize> = (0..200).map(|i| i / 100).collect();
        let none = right(&[(90, 100), (40, 100)]);
        // A point less, on other pictures: within what chance gives.
        let mut refit = right(&[(90, 100), (74, 100)]);
        refit[100..].reverse();
        let erase = right(&[(90, 100), (75, 100)]);
        let scored = [(Contestant::None, none), (Contestant::Refit, refit), (Contestant::Erase, erase)];
        assert_eq!(judged(&scored, &pools), Contestant::Refit);
    }

    #[test]
    fn an_edit_that_costs_more_than_chance_overall_is_not_shipped() {
        let pools: Vec<usize> = (0..400).map(|i| usize::from(i >= 300)).collect();
        let none = right(&[(300, 300), (50, 100)]);
        let costly = right(&[(210, 300), (70, 100)]);
        assert_eq!(judged(&[(Contestant::None, none), (Contestant::Erase, costly)], &pools), Contestant::None);
    }

    #[test]
    fn pictures_of_one_unit_change_together() {
        let (before, after) = ([false, false, true, true], [true, true, true, false]);
        assert_eq!(changed_units(&before, &after, &[1, 1, 2, 2]), [1, 1]);
    }

    #[test]
    fn small_slices_are_scored_together_by_whether_the_cue_hurts_them() {
        let labels: Vec<usize> = (0..80).map(|i| i % 4).collect();
        let present: Vec<bool> = (0..80).map(|i| i % 8 < 4).collect();
        let slices = crate::shortcut::slices(&labels, &present);
        let features = Array2::zeros((40, 1));
        let units: Vec<usize> = (0..40).collect();
        let layer = DecisionLayer { weight: Array2::zeros((4, 1)), bias: ndarray::Array1::zeros(4) };
        let rows = |range: std::ops::Range<usize>| Rows { features: &features, labels: &labels[range], units: &units };
        let field = Field {
            layer: &layer,
            train: rows(0..40),
            validation: rows(40..80),
            slices: &slices,
            present: &present,
            class: Some(0),
        };
        let pools = field.pools();
        for (row, pool) in pools.iter().enumerate() {
            let hurt = (labels[40 + row] == 0) != present[40 + row];
            assert_eq!(*pool == pools[1], hurt == ((labels[41] == 0) != present[41]));
        }
    }
}
