//! Before and after an edit on the same samples: what changed, and whether it is more than chance.

use crate::layer::{DecisionLayer, softmax};
use crate::results::{Interval, Proportion};
use crate::scan::{FeatureTable, predicted, predictions};
use crate::statistics::{quantile, wilson};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Accuracy of one set of samples before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Right before, with its Wilson interval.
    pub before: Proportion,
    /// Right after.
    pub after: Proportion,
    /// After less before, with the 95 % interval of the paired bootstrap.
    pub difference: Interval,
    /// Wrong before, right after.
    pub fixed: usize,
    /// Right before, wrong after.
    pub broken: usize,
    /// Exact two-sided McNemar test of fixed against broken.
    pub p_value: f64,
}

/// A class or group, and how its accuracy changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartChange {
    /// Index of the class or group.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// Its accuracy.
    pub change: Change,
}

/// The lowest accuracy of any class or group. The one that is lowest may be another afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Name and accuracy of the lowest before.
    pub before: (String, Proportion),
    /// Of the lowest after.
    pub after: (String, Proportion),
    /// After less before, with the interval of the paired bootstrap.
    pub difference: Interval,
}

/// Everything that an edit changed on one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// All samples.
    pub overall: Change,
    /// Each class that has samples.
    pub classes: Vec<PartChange>,
    /// Each group that has samples.
    pub groups: Vec<PartChange>,
    /// The worst class.
    pub worst_class: Option<Worst>,
    /// The worst group.
    pub worst_group: Option<Worst>,
    /// Expected calibration error, 15 bins of equal width, before and after.
    pub calibration: [f64; 2],
    /// Rows that were fixed, and rows that were broken: indices into the data set.
    pub fixed: Vec<usize>,
    /// See `fixed`.
    pub broken: Vec<usize>,
}

/// The resamples of the paired bootstrap.
const RESAMPLES: usize = 1000;

/// Compares `before` with `after` on the samples of `table`.
pub fn compare(
    table: &FeatureTable,
    before: &DecisionLayer,
    after: &DecisionLayer,
    classes: &[String],
    groups: &[String],
    seed: u64,
) -> Comparison {
    let right = |layer: &DecisionLayer| -> Vec<bool> {
        predictions(&layer.logits(&table.features)).iter().zip(&table.labels).map(|(p, y)| p == y).collect()
    };
    let (was, is) = (right(before), right(after));
    let all: Vec<usize> = (0..was.len()).collect();
    let by = |key: &dyn Fn(usize) -> Option<usize>| {
        let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        all.iter().for_each(|&i| {
            if let Some(part) = key(i) {
                parts.entry(part).or_default().push(i);
            }
        });
        parts
    };
    let (class_rows, group_rows) = (by(&|i| Some(table.labels[i])), by(&|i| table.groups[i]));
    let changes = |parts: &BTreeMap<usize, Vec<usize>>, names: &[String]| -> Vec<PartChange> {
        let name = |id: usize| names.get(id).cloned().unwrap_or_else(|| id.to_string());
        let one = |(&id, rows): (&usize, &Vec<usize>)| PartChange {
            id,
            name: name(id),
            change: change(&was, &is, rows, seed),
        };
        parts.iter().map(one).collect()
    };
    let (class_changes, group_changes) = (changes(&class_rows, classes), changes(&group_rows, groups));
    let rows_where = |from: bool| {
        all.iter().filter(|&&i| was[i] == from && is[i] != from).map(|&i| table.index[i]).collect::<Vec<_>>()
    };
    Comparison {
        overall: change(&was, &is, &all, seed),
        worst_class: worst(&was, &is, &class_rows, &class_changes, seed),
        worst_group: worst(&was, &is, &group_rows, &group_changes, seed),
        classes: class_changes,
        groups: group_changes,
        calibration: [calibration(table, before), calibration(table, after)],
        fixed: rows_where(false),
        broken: rows_where(true),
    }
}

/// What changed between two lists of right answers on the same samples, at the `rows`.
pub fn change(was: &[bool], is: &[bool], rows: &[usize], seed: u64) -> Change {
    let count = |of: &[bool]| rows.iter().filter(|&&i| of[i]).count();
    let fixed = rows.iter().filter(|&&i| !was[i] && is[i]).count();
    let broken = rows.iter().filter(|&&i| was[i] && !is[i]).count();
    let parts: Vec<f64> = rows.iter().map(|&i| f64::from(u8::from(is[i])) - f64::from(u8::from(was[i]))).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mean = |rng: &mut ChaCha8Rng| {
        (0..parts.len()).map(|_| parts[rng.random_range(0..parts.len())]).sum::<f64>() / parts.len() as f64
    };
    let draws = (0..RESAMPLES).map(|_| mean(&mut rng)).collect();
    Change {
        before: wilson(count(was), rows.len()),
        after: wilson(count(is), rows.len()),
        difference: interval(parts.iter().sum::<f64>() / parts.len().max(1) as f64, draws),
        fixed,
        broken,
        p_value: mcnemar(fixed, broken),
    }
}

fn interval(value: f64, mut draws: Vec<f64>) -> Interval {
    draws.sort_by(f64::total_cmp);
    Interval { value, low: quantile(&draws, 0.025), high: quantile(&draws, 0.975) }
}

fn worst(
    was: &[bool],
    is: &[bool],
    rows: &BTreeMap<usize, Vec<usize>>,
    changes: &[PartChange],
    seed: u64,
) -> Option<Worst> {
    let lowest = |of: &dyn Fn(&Change) -> Proportion| {
        let least = changes.iter().min_by(|a, b| of(&a.change).value.total_cmp(&of(&b.change).value))?;
        Some((least.name.clone(), of(&least.change)))
    };
    let (before, after) = (lowest(&|c| c.before)?, lowest(&|c| c.after)?);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = |rng: &mut ChaCha8Rng| {
        let (mut low_was, mut low_is) = (f64::INFINITY, f64::INFINITY);
        for members in rows.values() {
            let (mut right_was, mut right_is) = (0usize, 0usize);
            for _ in 0..members.len() {
                let i = members[rng.random_range(0..members.len())];
                right_was += usize::from(was[i]);
                right_is += usize::from(is[i]);
            }
            low_was = low_was.min(right_was as f64 / members.len() as f64);
            low_is = low_is.min(right_is as f64 / members.len() as f64);
        }
        low_is - low_was
    };
    let draws = (0..RESAMPLES).map(|_| draw(&mut rng)).collect();
    Some(Worst { difference: interval(after.1.value - before.1.value, draws), before, after })
}

/// The exact two-sided McNemar test: the chance of so uneven a split of the changed samples if either way were as likely.
pub fn mcnemar(fixed: usize, broken: usize) -> f64 {
    let (n, fewer) = (fixed + broken, fixed.min(broken));
    // Terms of the binomial distribution by their ratio, from the logarithm of the first, so that none overflows.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += log.exp();
        log += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Expected calibration error over 15 bins of equal width of the confidence.
fn calibration(table: &FeatureTable, layer: &DecisionLayer) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0.0f64, 0.0f64, 0usize); BINS];
    for (z, &label) in layer.logits(&table.features).rows().into_iter().zip(&table.labels) {
        let class = predicted(&z.to_vec());
        let confidence = softmax(z)[class];
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + confidence, bin.1 + f64::from(u8::from(class == label)), bin.2 + 1);
    }
    let total = table.labels.len().max(1) as f64;
    bins.iter().map(|(confidence, right, _)| (confidence - right).abs() / total).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn mcnemar_agrees_with_the_binomial_distribution() {
        // 2 · P(X ≤ 2), X ~ B(10, ½) = 2 · 56 / 1024.
        assert!((mcnemar(8, 2) - 2.0 * 56.0 / 1024.0).abs() < 1e-12);
        assert_eq!((mcnemar(0, 0), mcnemar(3, 3)), (1.0, 1.0));
        assert!(mcnemar(4000, 100) < 1e-100);
    }

    #[test]
    fn a_comparison_counts_what_was_fixed_and_broken() {
        let features = array![[1.0, 0.0], [0.0, 1.0], [1.0, 0.2], [0.3, 1.0]];
        let before = DecisionLayer { weight: array![[1.0, 0.0], [0.0, 1.0]], bias: array![0.0, 0.0] };
        let after = DecisionLayer { weight: array![[0.0, 0.0], [0.0, 1.0]], bias: array![0.1, 0.0] };
        let table = FeatureTable {
            index: vec![7, 8, 9, 10],
            labels: vec![0, 1, 1, 0],
            groups: vec![Some(0), Some(0), Some(1), Some(1)],
            logits: before.logits(&features),
            features,
        };
        let names = ["a", "b"].map(String::from);
        let found = compare(&table, &before, &after, &names, &names, 0);
        assert_eq!((found.fixed.as_slice(), found.broken.as_slice()), (&[9][..], &[][..]));
        assert_eq!((found.overall.before.count, found.overall.after.count), (2, 3));
        let worst = found.worst_group.unwrap();
        assert_eq!((worst.before.1.count, worst.after.1.count), (0, 1));
    }
}
