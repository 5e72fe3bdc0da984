//! The jobs as a library: progress, interruption, results that read back, and errors that a program can match.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

mod common;

use common::{NEURONS, PICTURES, Stage};
use pellucid::errors::ScanError;
use pellucid::results::Diagnosis;
use pellucid::{Error, MistakeNames, Progress, RunDirectory, Scan, ScanSettings, Silent};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Writes down what it is told; interrupts after `until` steps of a stage.
struct Recorder {
    told: Mutex<Vec<String>>,
    steps: AtomicU64,
    until: u64,
}

impl Recorder {
    fn until(until: u64) -> Self {
        Self { told: Mutex::default(), steps: AtomicU64::new(0), until }
    }

    fn tell(&self, what: String) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl Progress for Recorder {
    fn start(&self, stage: &str, total: u64) {
        self.steps.store(0, Ordering::SeqCst);
        self.tell(format!("{stage} of {total}"));
    }

    fn advance(&self, steps: u64) {
        self.steps.fetch_add(steps, Ordering::SeqCst);
    }

    fn finish(&self) {
        self.tell(format!("done after {}", self.steps.load(Ordering::SeqCst)));
    }

    fn interrupted(&self) -> bool {
        self.steps.load(Ordering::SeqCst) >= self.until
    }
}

#[test]
fn progress_hears_of_every_stage_and_every_picture() {
    let stage = Stage::new();
    let recorder = Recorder::until(u64::MAX);
    pellucid::debug(&stage.open(), stage.at("data"), &stage.settings(), &recorder).unwrap();
    let expected = ["scan of 300", "done after 300", "examine mistakes of 2", "done after 2"];
    assert_eq!(recorder.told(), expected);
    let again = Recorder::until(u64::MAX);
    pellucid::debug(&stage.open(), stage.at("data"), &stage.settings(), &again).unwrap();
    assert_eq!(again.told(), expected[2..], "nothing is scanned again");
}

#[test]
fn an_interruption_keeps_what_is_done_and_the_next_call_goes_on() {
    let stage = Stage::new();
    let error = stage.scan(&stage.cached(), &Recorder::until(40)).unwrap_err();
    let Error::Scan(ScanError::Interrupted { done, total: PICTURES }) = error else { panic!("{error}") };
    assert!((40..100).contains(&done), "stopped after {done}");
    let found = stage.scan(&stage.cached(), &Silent).unwrap();
    assert_eq!((found.reused(), found.computed()), (done, PICTURES - done));
    let fresh = stage.scan(&ScanSettings::default(), &Silent).unwrap();
    assert_eq!((fresh.reused(), &fresh.summary), (0, &found.summary));
    let exported = |scan: &Scan, name: &str| {
        let written = scan.write_run(&stage.run().with_name(name.to_owned())).unwrap();
        std::fs::read(written.directory.join("scan.parquet")).unwrap()
    };
    assert!(
        exported(&found, "a") == exported(&fresh, "b"),
        "the same bytes, from a cache that is cut up and from memory"
    );
}

#[test]
fn wrong_labels_are_named_first_and_listed() {
    let stage = Stage::new();
    let outcome = pellucid::debug(&stage.open(), stage.at("data"), &stage.settings(), &Silent).unwrap();
    let diagnosis = &outcome.diagnosis;
    assert!(diagnosis.verdict[0].contains("wrong label"), "{:?}", diagnosis.verdict);
    outcome.write_run(&stage.run()).unwrap();
    let list = std::fs::read_to_string(stage.at("runs/run/suspects.csv")).unwrap();
    let doubted: Vec<&str> = list.lines().skip(1).filter(|line| line.starts_with("label,")).collect();
    assert_eq!(doubted.len(), diagnosis.judgement.problems[0].samples.len());
    // Every tenth picture lies in the folder of the other class.
    assert!(doubted.len() > 5 && doubted.iter().all(|line| line.contains("0.png")), "{list}");
}

#[test]
fn the_diagnosis_on_disk_is_the_one_returned() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.mistakes = MistakeNames::default().with_all(true);
    let outcome = pellucid::debug(&stage.open(), stage.at("data"), &settings, &Silent).unwrap();
    assert!(!stage.at("runs/run").exists(), "a result is written where that is asked for");
    let written = outcome.write_run(&stage.run()).unwrap();
    let text = std::fs::read_to_string(stage.at("runs/run/diagnosis.json")).unwrap();
    let read: Diagnosis = serde_json::from_str(&text).unwrap();
    assert_eq!(text, serde_json::to_string_pretty(&outcome.diagnosis).unwrap());
    assert_eq!((read.verdict, read.findings.len()), (outcome.diagnosis.verdict.clone(), 1));
    assert_eq!(outcome.diagnosis.findings[0].count, PICTURES / 10);
    assert_eq!(written.report.unwrap(), stage.at("runs/run/report.html"));
}

#[test]
fn what_a_picture_is_called_for_adds_up_to_its_margin() {
    let stage = Stage::new();
    let classifier = stage.open();
    let why = pellucid::why(&classifier, stage.at("data/bright/002.png"), NEURONS).unwrap();
    let ([answer, runner_up], layer) = ([why.classes[0].0, why.classes[1].0], classifier.layer());
    let evidence: f32 = why.supporting.iter().chain(&why.opposing).map(|e| e.contribution).sum();
    let constant = layer.bias[answer] - layer.bias[runner_up];
    assert!((evidence + constant - why.margin).abs() < 1e-5, "{evidence} + {constant}, expected {}", why.margin);
    assert!((why.classes.iter().map(|c| c.2).sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn a_run_directory_looks_finished_only_between_finish_and_the_next_open() {
    let stage = Stage::new();
    stage.scan(&stage.cached(), &Silent).unwrap().write_run(&stage.run()).unwrap();
    let path = stage.at("runs/run/manifest.json");
    let manifest: pellucid::Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(manifest.files.keys().all(|file| stage.at("runs/run").join(file).is_file()));
    let other = pellucid::Manifest { seed: 9, ..manifest.clone() };
    let refused = RunDirectory::open(&stage.at("runs"), "run", &other, false).unwrap_err();
    assert!(matches!(&refused, Error::RunDirectory { difference, .. } if difference == "another seed"), "{refused}");
    assert!(path.exists());
    let directory = RunDirectory::open(&stage.at("runs"), "run", &manifest, false).unwrap();
    assert!(!path.exists(), "while it is written it does not look finished");
    directory.finish(&manifest, &[], &Default::default()).unwrap();
    assert!(path.exists());
}

#[test]
fn a_name_that_is_not_there_is_an_error_with_those_that_are() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.mistakes.class = vec!["dim".to_owned()];
    let error = pellucid::debug(&stage.open(), stage.at("data"), &settings, &Silent).unwrap_err();
    assert_eq!(error.to_string(), "there is no class 'dim'; there are: bright, dark");
}
