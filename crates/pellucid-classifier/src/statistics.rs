//! The summary of a scan ([methods A1]).
//!
//! [methods A1]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a1

use crate::results::{Confusion, Slice, Summary};
pub use pellucid_saliency::stats::{quantile, wilson};
use std::collections::BTreeMap;

/// Accuracy by class and group, the worst of each, and the confusions.
///
/// `labels`, `predictions` and `groups` are one entry a sample; `d` is the number of features.
pub fn summarise(
    labels: &[usize],
    predictions: &[usize],
    groups: &[Option<usize>],
    classes: &[String],
    group_names: &[String],
    d: usize,
) -> Summary {
    let mut by_class: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut by_group: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut confused: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for ((&truth, &predicted), group) in labels.iter().zip(predictions).zip(groups) {
        let right = usize::from(truth == predicted);
        for (tally, key) in [(&mut by_class, Some(truth)), (&mut by_group, *group)] {
            if let Some(key) = key {
                let cell = tally.entry(key).or_default();
                *cell = (cell.0 + right, cell.1 + 1);
            }
        }
        if right == 0 {
            *confused.entry((truth, predicted)).or_default() += 1;
        }
    }
    let mut confusions: Vec<Confusion> =
        confused.into_iter().map(|((truth, predicted), count)| Confusion { truth, predicted, count }).collect();
    confusions.sort_by_key(|c| (std::cmp::Reverse(c.count), c.truth, c.predicted));
    let (by_class, by_group) = (slices(by_class, classes), slices(by_group, group_names));
    let right = labels.iter().zip(predictions).filter(|(a, b)| a == b).count();
    Summary {
        samples: labels.len(),
        features: d,
        classes: classes.to_vec(),
        groups: group_names.to_vec(),
        accuracy: wilson(right, labels.len()),
        worst_class: worst(&by_class),
        worst_group: worst(&by_group),
        by_class,
        by_group,
        confusions,
    }
}

fn slices(tally: BTreeMap<usize, (usize, usize)>, names: &[String]) -> Vec<Slice> {
    let name = |id: usize| names.get(id).cloned().unwrap_or_else(|| id.to_string());
    tally.into_iter().map(|(id, (right, total))| Slice { id, name: name(id), accuracy: wilson(right, total) }).collect()
}

fn worst(slices: &[Slice]) -> Option<usize> {
    slices.iter().min_by(|a, b| a.accuracy.value.total_cmp(&b.accuracy.value).then(a.id.cmp(&b.id))).map(|s| s.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_a_person_would() {
        let names: Vec<String> = ["a", "b", "empty"].map(String::from).to_vec();
        let s = summarise(&[0, 0, 1, 1], &[0, 1, 1, 1], &[Some(0), Some(1), Some(1), None], &names, &names[..2], 7);
        assert_eq!((s.accuracy.count, s.accuracy.total), (3, 4));
        assert_eq!(s.by_class.len(), 2, "a class without samples has no accuracy");
        assert_eq!((s.worst_class, s.worst_group), (Some(0), Some(1)));
        assert_eq!(s.confusions, [Confusion { truth: 0, predicted: 1, count: 1 }]);
    }
}
