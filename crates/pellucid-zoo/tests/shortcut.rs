//! The benchmark is what it claims to be: its classifier leans on the watermark, and the diagnosis says so.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use pellucid::{Classifier, DebugSettings, OpenOptions, Silent};
use pellucid_zoo::{Composer, Selection, Split};

fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo")
}

#[test]
fn the_classifier_leans_on_the_watermark_and_the_diagnosis_names_its_neurons() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, runs) = (folder.path().join("pictures"), folder.path().join("runs"));
    let composer = Composer::read(&zoo().join("emoji_watermark")).unwrap();
    let selection = Selection { splits: vec![Split::Test], counterpart: false };
    pellucid_zoo::write(&composer, &pictures, &selection, &|_| {}).unwrap();

    let model = zoo().join("models/efficientnet_lite0/emoji_watermark.onnx");
    let classifier = Classifier::open(model, &OpenOptions::default()).unwrap();
    let mut settings = DebugSettings { runs, split: Some("test".into()), ..DebugSettings::default() };
    settings.report.pictures = false;
    let diagnosis = pellucid::debug(&classifier, pictures, &settings, &Silent).unwrap().diagnosis;

    let summary = &diagnosis.summary;
    assert_eq!(summary.by_group.len(), 16);
    assert!(summary.by_group.iter().all(|group| group.accuracy.total >= 100));
    let worst = summary.by_group.iter().map(|group| group.accuracy.value).fold(1.0, f64::min);
    assert!(summary.accuracy.value - worst >= 0.25, "{} against {worst}", summary.accuracy.value);

    // The ten neurons of the largest effect of the watermark, from docs/emoji-watermark.md.
    let carriers = [948, 775, 1003, 503, 1027, 288, 716, 839, 858, 469];
    for finding in &diagnosis.findings {
        let first: Vec<usize> = finding.gap.iter().take(3).map(|neuron| neuron.index).collect();
        assert!(first.iter().all(|j| carriers.contains(j)), "{}: {first:?}", finding.title);
    }
}
