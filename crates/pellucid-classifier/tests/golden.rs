//! The `reference` variants meet the numbers made with the published code (zoo/golden, whose README says what each is).

#![allow(clippy::unwrap_used)]

mod common;

use common::{Golden, layer};
use pellucid_classifier::counterfactual::{self, Range, Settings, Variant};
use pellucid_classifier::importance;
use pellucid_classifier::votes::{self, VoteSettings};
use std::collections::BTreeMap;

fn reference(golden: &Golden) -> counterfactual::Counterfactuals {
    let (features, targets) = golden.mistakes();
    let settings = Settings { variant: Variant::Reference, ..Settings::default() };
    counterfactual::search(&features, &targets, &layer(), &Range::observed(&features), &settings).unwrap()
}

#[test]
fn the_decision_layer_gives_the_golden_logits() {
    let golden = Golden::open();
    let difference = layer().logits(&golden.matrix("features")) - golden.matrix("logits");
    assert!(difference.iter().all(|d| d.abs() < 1e-4));
}

#[test]
fn reference_counterfactuals_take_the_published_steps_to_the_published_changes() {
    let golden = Golden::open();
    let found = reference(&golden);
    assert_eq!(found.steps, golden.indices("cf_steps"));
    assert!(found.reached.iter().all(|r| *r));
    let worst = (&found.changes - &golden.matrix("cf_w")).iter().fold(0.0f32, |m, d| m.max(d.abs()));
    assert!(worst < 1e-4, "largest difference {worst:.2e}");
}

#[test]
fn votes_are_the_published_votes() {
    let golden = Golden::open();
    let found = reference(&golden);
    let (mut tally, _) = votes::tally_with_overlap(&found, &VoteSettings { resamples: 10, ..VoteSettings::default() });
    for (votes, side) in [(&mut tally.insufficient, "pos"), (&mut tally.excessive, "neg")] {
        let ids = golden.indices(&format!("vote_{side}_ids"));
        let percents = golden.f32(&format!("vote_{side}_pct")).1;
        let expected: BTreeMap<usize, f32> = ids.into_iter().zip(percents).collect();
        let ours: BTreeMap<usize, f32> = votes.drain(..).map(|v| (v.neuron, v.percent.value as f32)).collect();
        assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{side}");
        assert!(ours.iter().all(|(j, p)| (p - expected[j]).abs() < 1e-3), "{side}");
    }
}

#[test]
fn importance_is_the_published_retaining_ratio() {
    let golden = Golden::open();
    let ours = importance::retaining_ratio(&golden.matrix("features"), &layer(), 478);
    let expected = golden.f32("importance_class478_mean_features").1;
    let worst = ours.iter().zip(&expected).fold(0.0f64, |m, (a, b)| m.max((a - f64::from(*b)).abs()));
    assert!(worst < 1e-4, "largest difference {worst:.2e}");
}

#[test]
fn bounded_changes_keep_every_neuron_in_its_observed_range() {
    let golden = Golden::open();
    let all = golden.matrix("features");
    let (features, targets) = golden.mistakes();
    let range = Range::observed(&all);
    let found = counterfactual::search(&features, &targets, &layer(), &range, &Settings::default()).unwrap();
    let moved = &features + &found.changes;
    for row in moved.rows() {
        for (j, v) in row.iter().enumerate() {
            assert!(*v >= range.low[j] - 1e-5 && *v <= range.high[j] + 1e-5, "neuron {j} at {v}");
        }
    }
    assert!(
        found.reached.iter().filter(|r| **r).count() >= 30,
        "{} reached",
        found.reached.iter().filter(|r| **r).count()
    );
}

#[test]
fn sparse_changes_flip_with_few_neurons() {
    let golden = Golden::open();
    let all = golden.matrix("features");
    let (features, targets) = golden.mistakes();
    let settings = Settings { variant: Variant::Sparse, ..Settings::default() };
    let layer = layer();
    let found = counterfactual::search(&features, &targets, &layer, &Range::observed(&all), &settings).unwrap();
    let mut counts: Vec<usize> = (0..targets.len()).filter(|&i| found.reached[i]).map(|i| found.changed[i]).collect();
    counts.sort_unstable();
    assert!(counts.len() >= 30 && counts[counts.len() / 2] <= 10, "{counts:?}");
    let logits = layer.logits(&(&features + &found.changes));
    for (i, row) in logits.rows().into_iter().enumerate().filter(|(i, _)| found.reached[*i]) {
        let best = (0..row.len()).fold(0, |b, c| if row[c] > row[b] { c } else { b });
        assert_eq!(best, targets[i]);
    }
}
