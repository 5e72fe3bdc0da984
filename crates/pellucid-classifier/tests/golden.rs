//! The `reference` variants meet the numbers made with the published code (zoo/golden, whose README says what each is).

#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2, Axis};
use pellucid_classifier::counterfactual::{self, Range, Settings, Variant};
use pellucid_classifier::importance;
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::votes::{self, VoteSettings};
use pellucid_graph::Model;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn zoo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo").join(path)
}

struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self(std::fs::read(zoo("golden/neuroinspect.safetensors")).unwrap())
    }

    fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let t = file.tensor(name).unwrap();
        let values = match t.dtype() {
            safetensors::Dtype::F32 => t.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            safetensors::Dtype::F64 => {
                t.data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            safetensors::Dtype::I64 => {
                t.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            safetensors::Dtype::I32 => {
                t.data().chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        (t.shape().to_vec(), values)
    }

    fn matrix(&self, name: &str) -> Array2<f32> {
        let (shape, values) = self.f32(name);
        Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
    }

    fn indices(&self, name: &str) -> Vec<usize> {
        self.f32(name).1.into_iter().map(|v| v as usize).collect()
    }

    /// The mistakes' features and true classes.
    fn mistakes(&self) -> (Array2<f32>, Vec<usize>) {
        let (rows, labels) = (self.indices("mistakes"), self.indices("labels"));
        (self.matrix("features").select(Axis(0), &rows), rows.iter().map(|&r| labels[r]).collect())
    }
}

fn layer() -> DecisionLayer {
    let model = Model::read(zoo("models/efficientnet_lite0/efficientnet_lite0.onnx")).unwrap();
    let values = |name: &str| model.graph.initializers[name].to_f32().unwrap();
    let bias = Array1::from_vec(values("_fc.bias"));
    DecisionLayer { weight: Array2::from_shape_vec((1000, 1280), values("_fc.weight")).unwrap(), bias }
}

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
