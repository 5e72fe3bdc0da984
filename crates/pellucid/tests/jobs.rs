//! The jobs as a library: progress, interruption, results that read back, and errors that a program can match.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use pellucid::classifier_methods::results::Diagnosis;
use pellucid::classifier_methods::scan::ScanError;
use pellucid::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid::vision::picture::Picture;
use pellucid::{Classifier, DebugSettings, Error, MistakeNames, OpenOptions, Progress, RunDirectory, Silent};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

const NEURONS: usize = 4;
const PICTURES: usize = 300;

/// A classifier of bright and dark with neurons red, green, blue and their sum, and pictures of both kinds, of which every
/// tenth lies in the wrong folder.
struct Stage(TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Self(TempDir::new().unwrap());
        let nodes = vec![
            Node::new("Conv", &["x", "k"], &["map"]),
            Node::new("GlobalAveragePool", &["map"], &["p"]),
            Node::new("Flatten", &["p"], &["f"]),
            Node::new("Gemm", &["f", "w", "b"], &["z"]),
        ];
        let kernel = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5];
        let weight = [2.0, -1.0, 2.0, -1.5, 1.0, -2.0, 0.5, -0.5];
        let constants = vec![
            Tensor::f32("k", &[NEURONS, 3, 1, 1], &kernel),
            Tensor::f32("w", &[NEURONS, 2], &weight),
            Tensor::f32("b", &[2], &[-3.0, 1.5]),
        ];
        let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(4), Some(4)]);
        let graph = Graph::new(vec![input], nodes, constants, &["z"]).unwrap();
        Model::new("model.onnx", graph, 17).write(stage.at("model.onnx")).unwrap();
        let preprocessing = r#"{"width": 4, "height": 4, "resize": "exact", "filter": "bilinear",
            "scale": 0.00392156862745098, "mean": [0, 0, 0], "std": [1, 1, 1], "source": "the test"}"#;
        std::fs::write(stage.at("model.preprocess.json"), preprocessing).unwrap();
        for i in 0..PICTURES {
            let bright = i % 2 == 0;
            let class = if bright != (i % 10 == 0) { "bright" } else { "dark" };
            let level = if bright { 200 } else { 30 };
            let picture =
                Picture::from_fn(4, 4, |x, y| [level + (i % 50) as u8, level + (i / 50) as u8, level + (x * y) as u8]);
            std::fs::create_dir_all(stage.at("data").join(class)).unwrap();
            std::fs::write(stage.at("data").join(class).join(format!("{i:03}.png")), picture.to_png().unwrap())
                .unwrap();
        }
        stage
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Classifier {
        Classifier::open(self.at("model.onnx"), &OpenOptions::default()).unwrap()
    }

    fn settings(&self) -> DebugSettings {
        DebugSettings { runs: self.at("runs"), name: Some("run".to_owned()), ..DebugSettings::default() }
    }
}

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
    let classifier = stage.open();
    let error = pellucid::scan(&classifier, stage.at("data"), &stage.settings(), &Recorder::until(40)).unwrap_err();
    let Error::Scan(ScanError::Interrupted { done, total: PICTURES }) = error else { panic!("{error}") };
    assert!((40..100).contains(&done), "stopped after {done}");
    assert!(!stage.at("runs/run").exists());
    let outcome = pellucid::scan(&classifier, stage.at("data"), &stage.settings(), &Silent).unwrap();
    assert_eq!((outcome.reused, outcome.computed), (done, PICTURES - done));
    let fresh = DebugSettings { runs: stage.at("fresh"), ..stage.settings() };
    assert_eq!(pellucid::scan(&classifier, stage.at("data"), &fresh, &Silent).unwrap().summary, outcome.summary);
    let exported = |runs: &str| std::fs::read(stage.at(runs).join("run/scan.parquet")).unwrap();
    assert!(exported("runs") == exported("fresh"), "the same bytes, though the cache is cut up otherwise");
}

#[test]
fn wrong_labels_are_named_first_and_listed() {
    let stage = Stage::new();
    let outcome = pellucid::debug(&stage.open(), stage.at("data"), &stage.settings(), &Silent).unwrap();
    let diagnosis = &outcome.diagnosis;
    assert!(diagnosis.verdict[0].contains("wrong label"), "{:?}", diagnosis.verdict);
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
    settings.mistakes = MistakeNames { all: true, ..MistakeNames::default() };
    let outcome = pellucid::debug(&stage.open(), stage.at("data"), &settings, &Silent).unwrap();
    let text = std::fs::read_to_string(stage.at("runs/run/diagnosis.json")).unwrap();
    let read: Diagnosis = serde_json::from_str(&text).unwrap();
    assert_eq!(text, serde_json::to_string_pretty(&outcome.diagnosis).unwrap());
    assert_eq!((read.verdict, read.findings.len()), (outcome.diagnosis.verdict.clone(), 1));
    assert_eq!(outcome.diagnosis.findings[0].count, PICTURES / 10);
    assert_eq!(outcome.report, stage.at("runs/run/report.html"));
}

#[test]
fn what_a_picture_is_called_for_adds_up_to_its_margin() {
    let stage = Stage::new();
    let classifier = stage.open();
    let why = pellucid::why(&classifier, stage.at("data/bright/002.png"), NEURONS).unwrap();
    let ([answer, runner_up], layer) = ([why.classes[0].0, why.classes[1].0], &classifier.layer);
    let evidence: f32 = why.supporting.iter().chain(&why.opposing).map(|e| e.contribution).sum();
    let constant = layer.bias[answer] - layer.bias[runner_up];
    assert!((evidence + constant - why.margin).abs() < 1e-5, "{evidence} + {constant}, expected {}", why.margin);
    assert!((why.classes.iter().map(|c| c.2).sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn a_run_directory_looks_finished_only_between_finish_and_the_next_open() {
    let stage = Stage::new();
    let classifier = stage.open();
    pellucid::scan(&classifier, stage.at("data"), &stage.settings(), &Silent).unwrap();
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
