//! What must hold for any features, any layer and any changes.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use ndarray::{Array1, Array2};
use pellucid_classifier::counterfactual::{Counterfactuals, Range, Settings, Variant, search};
use pellucid_classifier::importance::{mean_features, ratio_at, ratio_of, retaining_ratio};
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::statistics::{quantile, summarise, wilson};
use pellucid_classifier::votes::{Tally, Vote, VoteSettings, tally};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A matrix of values between −1 and 1, a third of them 0.
fn matrix(rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> impl Strategy<Value = Array2<f32>> {
    (rows, columns).prop_flat_map(|(n, d)| {
        let value = prop_oneof![1 => Just(0.0f32), 2 => -1.0f32..1.0];
        proptest::collection::vec(value, n * d).prop_map(move |v| Array2::from_shape_vec((n, d), v).unwrap())
    })
}

/// Features as a ReLU gives them, and a layer that fits them.
fn classifier() -> impl Strategy<Value = (Array2<f32>, Vec<usize>, DecisionLayer)> {
    (1usize..20, 1usize..8, 2usize..5).prop_flat_map(|(n, d, c)| {
        let values = |count: usize| proptest::collection::vec(-1.0f32..1.0, count);
        let targets = proptest::collection::vec(0..c, n);
        (values(n * d), targets, values(c * d), values(c)).prop_map(move |(f, targets, w, b)| {
            let features = Array2::from_shape_vec((n, d), f).unwrap().mapv(|v| v.max(0.0));
            let weight = Array2::from_shape_vec((c, d), w).unwrap() * 3.0;
            (features, targets, DecisionLayer { weight, bias: Array1::from_vec(b) })
        })
    })
}

fn found(changes: Array2<f32>, reached: Vec<bool>) -> Counterfactuals {
    let n = reached.len();
    let changed = changes.rows().into_iter().map(|r| r.iter().filter(|v| **v != 0.0).count()).collect();
    let l1 = changes.rows().into_iter().map(|r| r.iter().map(|v| v.abs()).sum()).collect();
    Counterfactuals { changes, reached, steps: vec![1; n], margin: vec![0.1; n], l1, changed }
}

fn settings() -> VoteSettings {
    VoteSettings { resamples: 100, ..VoteSettings::default() }
}

/// `docs/methods.md#a2`, as a student would count it: who is among the k largest (or smallest), in percent of the voters.
fn counted(found: &Counterfactuals, k: usize, sign: f32) -> (usize, BTreeMap<usize, f64>) {
    let mut counts = BTreeMap::new();
    let mut voters = 0;
    for i in 0..found.reached.len() {
        let w: Vec<f32> = found.changes.row(i).iter().map(|v| v * sign).collect();
        if !found.reached[i] || w.iter().all(|v| *v == 0.0) {
            continue;
        }
        voters += 1;
        for j in (0..w.len()).filter(|&j| w[j] > 0.0) {
            let ahead = (0..w.len()).filter(|&o| w[o] > w[j] || (w[o] == w[j] && o < j)).count();
            if ahead < k {
                *counts.entry(j).or_insert(0usize) += 1;
            }
        }
    }
    (voters, counts.into_iter().map(|(j, c)| (j, 100.0 * c as f64 / voters as f64)).collect())
}

fn neurons(votes: &[Vote]) -> BTreeMap<usize, f64> {
    votes.iter().map(|v| (v.neuron, v.percent.value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn votes_are_what_a_student_would_count(changes in matrix(1..40, 1..12), seed in any::<u64>()) {
        let reached = (0..changes.nrows()).map(|i| seed >> (i % 64) & 1 == 1).collect();
        let found = found(changes, reached);
        let tally = tally(&found, &settings());
        let ((voters, mut up), (_, mut down)) = (counted(&found, 5, 1.0), counted(&found, 5, -1.0));
        up.retain(|_, percent| *percent > 3.0);
        down.retain(|_, percent| *percent > 3.0);
        let both: Vec<usize> = up.keys().filter(|j| down.contains_key(j)).copied().collect();
        up.retain(|j, _| !both.contains(j));
        down.retain(|j, _| !both.contains(j));
        prop_assert_eq!(tally.voters, voters);
        prop_assert_eq!(neurons(&tally.insufficient), up);
        prop_assert_eq!(neurons(&tally.excessive), down);
    }

    #[test]
    fn votes_are_percentages_with_intervals_in_falling_order(changes in matrix(1..40, 1..12)) {
        let n = changes.nrows();
        let Tally { insufficient, excessive, .. } = tally(&found(changes, vec![true; n]), &settings());
        for votes in [&insufficient, &excessive] {
            prop_assert!(votes.iter().map(|v| v.percent.value).sum::<f64>() <= 500.0 + 1e-9, "five votes a sample at most");
            prop_assert!(votes.is_sorted_by(|a, b| (b.percent.value, a.neuron) <= (a.percent.value, b.neuron)));
            for v in votes {
                prop_assert!(v.percent.value > 3.0 && v.percent.value <= 100.0);
                prop_assert!((0.0..=1.0).contains(&v.stability));
                prop_assert!(0.0 <= v.percent.low && v.percent.low <= v.percent.value, "{v:?}");
                prop_assert!(v.percent.value <= v.percent.high && v.percent.high <= 100.0, "{v:?}");
            }
        }
        prop_assert!(insufficient.iter().all(|v| excessive.iter().all(|w| w.neuron != v.neuron)));
    }

    #[test]
    fn votes_do_not_depend_on_the_size_of_changes_nor_on_the_order_of_samples(changes in matrix(2..30, 1..10)) {
        let n = changes.nrows();
        let plain = tally(&found(changes.clone(), vec![true; n]), &settings());
        prop_assert_eq!(&tally(&found(&changes * 8.0, vec![true; n]), &settings()), &plain);
        let turned = Array2::from_shape_fn(changes.dim(), |(i, j)| changes[[n - 1 - i, j]]);
        let turned = tally(&found(turned, vec![true; n]), &settings());
        prop_assert_eq!(neurons(&turned.insufficient), neurons(&plain.insufficient));
        prop_assert_eq!(neurons(&turned.excessive), neurons(&plain.excessive));
    }

    #[test]
    fn opposite_changes_swap_the_lists(changes in matrix(1..30, 1..10)) {
        let n = changes.nrows();
        let plain = tally(&found(changes.clone(), vec![true; n]), &settings());
        let opposite = tally(&found(-changes, vec![true; n]), &settings());
        prop_assert_eq!(opposite.insufficient, plain.excessive);
        prop_assert_eq!(opposite.excessive, plain.insufficient);
    }

    #[test]
    fn the_same_seed_gives_the_same_votes(changes in matrix(1..30, 1..10), seed in any::<u64>()) {
        let found = found(changes.clone(), vec![true; changes.nrows()]);
        let settings = VoteSettings { seed, ..settings() };
        prop_assert_eq!(tally(&found, &settings), tally(&found, &settings));
    }

    #[test]
    fn importance_is_the_ratio_of_probabilities_with_and_without((features, _, layer) in classifier()) {
        let mean = mean_features(&features);
        let probability = |f: &[f64], class: usize| {
            let z: Vec<f64> = (0..layer.classes())
                .map(|c| f64::from(layer.bias[c]) + (0..f.len()).map(|j| f64::from(layer.weight[[c, j]]) * f[j]).sum::<f64>())
                .collect();
            z[class].exp() / z.iter().map(|v| v.exp()).sum::<f64>()
        };
        for class in 0..layer.classes() {
            let ratios = retaining_ratio(&features, &layer, class);
            for (j, ratio) in ratios.iter().enumerate() {
                let mut without = mean.clone();
                without[j] = 0.0;
                let expected = probability(&mean, class) / probability(&without, class);
                prop_assert!((ratio / expected - 1.0).abs() < 1e-9, "class {class}, neuron {j}: {ratio}, expected {expected}");
                prop_assert!((ratio_of(&mean, &layer, class, j) / ratio - 1.0).abs() < 1e-12);
                prop_assert!(mean[j] != 0.0 || (ratio - 1.0).abs() < 1e-12, "a silent neuron is not needed");
            }
        }
    }

    #[test]
    fn importance_does_not_change_when_all_logits_do((features, _, layer) in classifier(), shift in -3.0f32..3.0) {
        let mean = mean_features(&features);
        // Quarters add without rounding, so that the shift is the same for every class.
        let layer = DecisionLayer { weight: layer.weight.mapv(|v| (v * 4.0).round() / 4.0), bias: layer.bias };
        let shift = (shift * 4.0).round() / 4.0;
        let shifted = DecisionLayer { weight: &layer.weight + shift, bias: layer.bias.clone() };
        for (a, b) in ratio_at(&mean, &layer, 0).iter().zip(ratio_at(&mean, &shifted, 0)) {
            prop_assert!((a / b - 1.0).abs() < 1e-6, "{a}, {b}");
        }
    }

    #[test]
    fn a_counterfactual_keeps_its_promises((features, targets, layer) in classifier()) {
        let range = Range::observed(&features);
        for variant in [Variant::Bounded, Variant::Reference, Variant::Sparse] {
            let settings = Settings { variant, max_steps: 300, ..Settings::default() };
            let found = search(&features, &targets, &layer, &range, &settings).unwrap();
            let logits = layer.logits(&(&features + &found.changes));
            for (i, &target) in targets.iter().enumerate() {
                let z = logits.row(i);
                let best = (0..z.len()).filter(|&c| c != target).map(|c| z[c]).fold(f32::NEG_INFINITY, f32::max);
                let change = found.changes.row(i);
                prop_assert!((found.margin[i] - (z[target] - best)).abs() < 1e-5);
                // An equal logit counts for the class that comes first.
                prop_assert!(if found.reached[i] { found.margin[i] >= -1e-5 } else { found.margin[i] <= 1e-5 }, "{variant}");
                prop_assert_eq!(found.changed[i], change.iter().filter(|v| **v != 0.0).count());
                prop_assert!((found.l1[i] - change.iter().map(|v| v.abs()).sum::<f32>()).abs() < 1e-5);
                if variant == Variant::Reference {
                    continue;
                }
                for (j, w) in change.iter().enumerate() {
                    let moved = features[[i, j]] + w;
                    prop_assert!(moved >= range.low[j] - 1e-6 && moved <= range.high[j] + 1e-6, "{variant}: {moved}");
                    prop_assert!(range.low[j] < range.high[j] || *w == 0.0, "{variant}: neuron {j} is constant");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit((features, targets, layer) in classifier()) {
        let range = Range::observed(&features);
        for variant in [Variant::Bounded, Variant::Reference, Variant::Sparse] {
            let settings = Settings { variant, max_steps: 100, ..Settings::default() };
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| search(&features, &targets, &layer, &range, &settings).unwrap())
            };
            let one = run(1);
            prop_assert_eq!(&run(2), &one);
            prop_assert_eq!(&run(5), &one);
        }
    }

    #[test]
    fn intervals_hold_their_proportion_and_narrow_with_more_samples(count in 0usize..500, more in 0usize..500) {
        let total = count + more;
        let p = wilson(count, total);
        if total == 0 {
            prop_assert!(p.value.is_nan());
        } else {
            prop_assert!(0.0 <= p.low && p.low <= p.value && p.value <= p.high && p.high <= 1.0, "{p:?}");
            let tenfold = wilson(10 * count, 10 * total);
            prop_assert!(tenfold.high - tenfold.low < p.high - p.low);
        }
    }

    #[test]
    fn quantiles_stand_between_the_extremes_and_rise(mut values in proptest::collection::vec(-9.0f64..9.0, 1..30), q in 0.0f64..1.0) {
        values.sort_by(f64::total_cmp);
        let at = quantile(&values, q);
        prop_assert!(values[0] <= at && at <= values[values.len() - 1]);
        prop_assert!(quantile(&values, q / 2.0) <= at);
    }

    #[test]
    fn a_summarys_parts_add_up(rows in proptest::collection::vec((0usize..4, 0usize..4, proptest::option::of(0usize..3)), 1..60)) {
        let names: Vec<String> = (0..4).map(|i| format!("class {i}")).collect();
        let labels: Vec<usize> = rows.iter().map(|r| r.0).collect();
        let predictions: Vec<usize> = rows.iter().map(|r| r.1).collect();
        let groups: Vec<Option<usize>> = rows.iter().map(|r| r.2).collect();
        let s = summarise(&labels, &predictions, &groups, &names, &names[..3], 7);
        prop_assert_eq!(s.by_class.iter().map(|c| c.accuracy.total).sum::<usize>(), rows.len());
        prop_assert_eq!(s.by_class.iter().map(|c| c.accuracy.count).sum::<usize>(), s.accuracy.count);
        prop_assert_eq!(s.by_group.iter().map(|c| c.accuracy.total).sum::<usize>(), groups.iter().flatten().count());
        prop_assert_eq!(s.confusions.iter().map(|c| c.count).sum::<usize>(), s.accuracy.total - s.accuracy.count);
        prop_assert!(s.confusions.is_sorted_by(|a, b| a.count >= b.count));
        let worst = s.by_class.iter().find(|c| Some(c.id) == s.worst_class).unwrap();
        prop_assert!(s.by_class.iter().all(|c| c.accuracy.value >= worst.accuracy.value));
    }
}
