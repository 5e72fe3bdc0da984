//! Intervals, quantiles and the summary of a scan (METHODS A1).

use crate::results::{Confusion, Proportion, Slice, Summary};
use std::collections::BTreeMap;

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// `count` of `total` with its Wilson 95 % interval; NaN for none of none.
pub fn wilson(count: usize, total: usize) -> Proportion {
    let (k, n) = (count as f64, total as f64);
    if total == 0 {
        return Proportion { count, total, value: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let p = k / n;
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At 0 and n the interval ends there exactly; rounding must not say otherwise.
    let low = if count == 0 { 0.0 } else { centre - half };
    let high = if count == total { 1.0 } else { centre + half };
    Proportion { count, total, value: p, low, high }
}

/// The `q` quantile of ascending `sorted` values, linear between neighbours (as NumPy); NaN of none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

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
    fn wilson_agrees_with_published_values() {
        // Newcombe 1998, table I: 81/263 and 0/20.
        let p = wilson(81, 263);
        assert!((p.low - 0.2553).abs() < 1e-4 && (p.high - 0.3662).abs() < 1e-4, "{p:?}");
        let p = wilson(0, 20);
        assert!(p.low == 0.0 && (p.high - 0.1611).abs() < 1e-4, "{p:?}");
        assert!(wilson(0, 0).value.is_nan());
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

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
