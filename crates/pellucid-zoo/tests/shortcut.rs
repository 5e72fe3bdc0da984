//! The benchmarks are what they claim to be: each classifier leans on the mark, and the diagnosis says so.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use pellucid::internals::classifier_methods::results::{Diagnosis, Direction, Mistakes};
use pellucid::{Classifier, DebugSettings, OpenOptions, ScanSettings, Silent};
use pellucid_zoo::{Benchmark, Composer, Selection, Split};

fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo")
}

/// Composes the test pictures and asks why the benchmark's classifier fails on them.
fn diagnose(benchmark: Benchmark) -> Diagnosis {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    let composer = Composer::read(&zoo(), benchmark).unwrap();
    let selection = Selection { splits: vec![Split::Test], counterpart: false };
    pellucid_zoo::write(&composer, &pictures, &selection, &|_| {}).unwrap();

    let classifier = Classifier::open(benchmark.model(&zoo()), &OpenOptions::default()).unwrap();
    let settings = DebugSettings::default().with_scan(ScanSettings::default().with_split("test".to_owned()));
    pellucid::debug(&classifier, pictures, &settings, &Silent).unwrap().diagnosis
}

/// The worst of `groups` groups stands at least 25 points below the whole, which is not bad in itself.
fn assert_one_group_suffers(diagnosis: &Diagnosis, groups: usize) {
    let summary = &diagnosis.summary;
    assert_eq!(summary.by_group.len(), groups);
    assert!(summary.by_group.iter().all(|group| group.accuracy.total >= 100));
    assert!((0.6..0.9).contains(&summary.accuracy.value), "{}", summary.accuracy.value);
    let worst = summary.by_group.iter().map(|group| group.accuracy.value).fold(1.0, f64::min);
    assert!(summary.accuracy.value - worst >= 0.25, "{} against {worst}", summary.accuracy.value);
}

#[test]
fn the_classifier_leans_on_the_watermark_and_the_diagnosis_names_its_neurons() {
    let diagnosis = diagnose(Benchmark::EmojiWatermark);
    assert_one_group_suffers(&diagnosis, 16);

    // The ten neurons of the largest effect of the watermark, from docs/emoji-watermark.md.
    let carriers = [948, 775, 1003, 503, 1027, 288, 716, 839, 858, 469];
    // The first finding is what costs most: what the watermark makes of other classes' pictures. Others need not be of it.
    let finding = &diagnosis.findings[0];
    assert!(matches!(finding.mistakes, Mistakes::PredictedAs { .. }), "{}", finding.title);
    let first: Vec<usize> = finding.gap.iter().take(3).map(|neuron| neuron.index).collect();
    assert!(first.iter().all(|j| carriers.contains(j)), "{}: {first:?}", finding.title);
}

#[test]
fn the_classifier_leans_on_the_frame_and_the_diagnosis_names_its_neurons() {
    let diagnosis = diagnose(Benchmark::EmojiFrame);
    assert_one_group_suffers(&diagnosis, 12);

    let marked = Benchmark::EmojiFrame.marked_class();
    let marked = diagnosis.summary.classes.iter().position(|class| class == marked).unwrap();
    let wrongly_marked = Mistakes::PredictedAs { class: marked };
    let finding = diagnosis.findings.iter().find(|finding| finding.mistakes == wrongly_marked).unwrap();
    // The ten neurons of the largest effect of the frame, from docs/emoji-frame.md. The list mixes both directions; what
    // the frame adds to a picture is in excess.
    let carriers = [227, 81, 405, 193, 232, 404, 175, 160, 106, 71];
    let excessive = finding.gap.iter().filter(|neuron| neuron.direction == Direction::Excessive);
    let first: Vec<usize> = excessive.take(3).map(|neuron| neuron.index).collect();
    assert!(first.len() == 3 && first.iter().all(|j| carriers.contains(j)), "{}: {first:?}", finding.title);
}
