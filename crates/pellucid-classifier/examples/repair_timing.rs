//! Times a repair on made-up cached features, for `make bench`: prints `{"repair": s, "epoch": s}` as JSON.
//!
//!     repair_timing SAMPLES FEATURES CLASSES EPOCHS
//!
//! `repair` is all of the default edit, suspects and comparison included, with as many training samples as asked for and a
//! quarter as many each of validation and test; `epoch` is one epoch of the published loss in batches of 128.

use ndarray::{Array1, Array2};
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::repair::loss::{Loss, RatioNorm, RatioPenalty};
use pellucid_classifier::repair::train::{Samples, Schedule, Selection, Training, train};
use pellucid_classifier::repair::{RepairSettings, Splits, repair};
use pellucid_classifier::scan::FeatureTable;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

/// Neurons that carry a cue of class 0.
const CUE: usize = 40;

fn table(layer: &DecisionLayer, rows: usize, share: f64, seed: u64) -> FeatureTable {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let classes = layer.classes();
    let cues: Vec<bool> =
        (0..rows).map(|i| rng.random_bool(if i % classes == 0 { share } else { 1.0 - share })).collect();
    let features = Array2::from_shape_fn((rows, layer.features()), |(i, j)| {
        let own = j >= CUE && j % classes == i % classes;
        let lit = if j < CUE { if cues[i] { 1.0 } else { 0.0 } } else { 0.0 } + if own { 0.3 } else { 0.0 };
        (rng.random::<f32>() - 0.5 + lit).max(0.0)
    });
    FeatureTable {
        index: (0..rows).collect(),
        labels: (0..rows).map(|i| i % classes).collect(),
        groups: vec![None; rows],
        logits: layer.logits(&features),
        features,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let [samples, width, classes, epochs] = sizes[..] else { return Err("SAMPLES FEATURES CLASSES EPOCHS".into()) };
    let weight = Array2::from_shape_fn((classes, width), |(c, j)| match j < CUE {
        true => {
            if c == 0 {
                0.3
            } else {
                -0.05
            }
        }
        false => {
            if j % classes == c {
                0.05
            } else {
                -0.005
            }
        }
    });
    let layer = DecisionLayer { weight, bias: Array1::zeros(classes) };
    let parts = [(samples, 0.95), (samples / 4, 0.9), (samples / 4, 0.5)];
    let [training, validation, test] = [0, 1, 2].map(|k| table(&layer, parts[k].0, parts[k].1, k as u64));
    let names: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
    let settings = RepairSettings::default().with_edits(Vec::new());
    let splits = Splits { train: &training, views: 0, validation: &validation, test: &test, units: None };
    let start = Instant::now();
    let done = repair(&layer, splits, &names, &[], &settings)?.repair;
    let seconds = start.elapsed().as_secs_f64();

    let of = |t: &FeatureTable| Samples {
        features: t.features.clone(),
        labels: t.labels.clone(),
        slices: t.labels.clone(),
        importance: Vec::new(),
    };
    let suspects: Vec<usize> = done.suspects.iter().map(|s| s.neuron).collect();
    let ratio = RatioPenalty { suspects, class: 0, strength: 0.01, target: 1.0, norm: RatioNorm::Norm };
    let loss = Loss { ratio: Some(ratio), ..Loss::cross_entropy() };
    let how = Training { epochs, patience: epochs, schedule: Schedule::RampEachEpoch, ..Training::default() };
    let (training, validation) = (of(&training), of(&validation));
    let start = Instant::now();
    train("reference", &layer, &loss, &training, &validation, Selection::Overall, &how)?;
    let epoch = start.elapsed().as_secs_f64() / epochs as f64;
    println!("{}", serde_json::json!({"repair": seconds, "epoch": epoch}));
    Ok(())
}
