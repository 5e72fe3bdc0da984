//! What is wrong with the data, the names or the preparation is named before anything is said of the model.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use bytes::Bytes;
use pellucid::data::Picture;
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid::{Classifier, DebugSettings, Debugged, OpenOptions, RunOptions, ScanSettings, Silent};
use std::path::PathBuf;
use tempfile::TempDir;

/// A classifier of red, green and dark pictures, right on all of them.
struct Stage(TempDir);

const CLASSES: [(&str, [u8; 3]); 3] = [("dark", [10, 10, 10]), ("green", [10, 200, 10]), ("red", [200, 10, 10])];
/// Of each class.
const PICTURES: usize = 40;

impl Stage {
    fn new() -> Self {
        let stage = Self(TempDir::new().unwrap());
        stage.model(None);
        stage.prepared("0.00392156862745098", "[0, 0, 0]", "[1, 1, 1]", "rgb");
        for (class, colour) in CLASSES {
            for i in 0..PICTURES {
                let shade = |x: u32, y: u32| ((x * 5 + y * 3) as usize + i) as u8 % 40;
                let picture = Picture::from_fn(4, 4, |x, y| colour.map(|c| c + shade(x, y)));
                stage.picture(&format!("{class}/{i:02}.png"), &picture);
            }
        }
        stage
    }

    fn model(&self, dropout: Option<bool>) {
        let mut nodes = vec![Node::new("GlobalAveragePool", &["x"], &["p"]), Node::new("Flatten", &["p"], &["f"])];
        let mut features = "f";
        let mut constants = vec![
            Tensor::f32("w", &[3, 3], &[0.0, 0.0, 3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]),
            Tensor::f32("b", &[3], &[1.0, 0.0, 0.0]),
        ];
        if let Some(drops) = dropout {
            constants.push(Tensor::f32("ratio", &[], &[0.001]));
            constants.push(Tensor::raw("mode", ElementType::Bool, &[], Bytes::from(vec![u8::from(drops)])));
            nodes.push(Node::new("Dropout", &["f", "ratio", "mode"], &["d"]));
            features = "d";
        }
        nodes.push(Node::new("Gemm", &[features, "w", "b"], &["z"]));
        let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(4), Some(4)]);
        let graph = Graph::new(vec![input], nodes, constants, &["z"]).unwrap();
        Model::new("model.onnx", graph, 17).write(self.at("model.onnx")).unwrap();
    }

    fn prepared(&self, scale: &str, mean: &str, std: &str, channels: &str) {
        let text = format!(
            r#"{{"width": 4, "height": 4, "resize": "exact", "filter": "bilinear", "channels": "{channels}",
                "scale": {scale}, "mean": {mean}, "std": {std}, "source": "the test"}}"#
        );
        std::fs::write(self.at("model.preprocess.json"), text).unwrap();
    }

    fn picture(&self, name: &str, picture: &Picture) {
        let path = self.at("data").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, picture.to_png().unwrap()).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn debug(&self) -> Debugged {
        let classifier = Classifier::open(self.at("model.onnx"), &OpenOptions::default()).unwrap();
        let scan = ScanSettings::default().with_cache(self.at("runs/.cache"));
        pellucid::debug(&classifier, self.at("data"), &DebugSettings::default().with_scan(scan), &Silent).unwrap()
    }

    /// The sentences about the data, and the whole verdict.
    fn problems(&self) -> (Vec<String>, Vec<String>) {
        let (sentences, verdict) = self.problems_and_hints();
        assert_eq!(verdict[..sentences.len()], sentences, "data problems come first");
        (sentences, verdict)
    }

    /// The same, where some of the problems may be hints, which come last.
    fn problems_and_hints(&self) -> (Vec<String>, Vec<String>) {
        let diagnosis = self.debug().diagnosis;
        (diagnosis.judgement.problems.into_iter().map(|p| p.sentence).collect(), diagnosis.verdict)
    }
}

#[track_caller]
fn only(problems: &[String], words: &[&str]) {
    assert!(problems.len() == 1 && words.iter().all(|word| problems[0].contains(word)), "{problems:?}");
}

#[test]
fn where_nothing_is_wrong_no_problem_is_named() {
    let (problems, verdict) = Stage::new().problems();
    assert!(problems.is_empty() && verdict[0].starts_with("The model is right on 100.0 %"), "{verdict:?}");
}

/// Every fourth picture of each class lies in the folder of the next: mistakes enough for the variants to be run.
fn with_wrong_labels() -> Stage {
    let stage = Stage::new();
    for (at, (class, _)) in CLASSES.iter().enumerate() {
        for i in (0..PICTURES).step_by(4) {
            let from = stage.at(&format!("data/{class}/{i:02}.png"));
            std::fs::rename(from, stage.at(&format!("data/{}/{class}-{i:02}.png", CLASSES[(at + 1) % 3].0))).unwrap();
        }
    }
    stage
}

#[test]
fn a_preparation_that_is_right_is_not_doubted_where_the_model_is_often_wrong() {
    let (problems, verdict) = with_wrong_labels().problems();
    assert!(verdict.iter().any(|sentence| sentence.contains("right on 75.0 %")), "{verdict:?}");
    assert!(problems.iter().all(|problem| !problem.contains("preprocessing")), "{problems:?}");
}

#[test]
fn labels_that_chance_dealt_out_are_not_called_wrong() {
    let stage = Stage::new();
    std::fs::remove_dir_all(stage.at("data")).unwrap();
    for i in 0..120usize {
        // The colour says nothing of the class.
        let level = |salt: usize| (i * 7919 * salt + 31 * salt) as u8 % 200;
        let picture = Picture::from_fn(4, 4, |_, _| [level(1), level(3), level(5)]);
        stage.picture(&format!("{}/{i:03}.png", CLASSES[(i * i + i / 7) % 3].0), &picture);
    }
    let (_, verdict) = stage.problems_and_hints();
    assert!(verdict.iter().all(|sentence| !sentence.contains("probably")), "{verdict:?}");
}

#[test]
fn names_in_another_order_are_named_nothing_else_is_said_and_the_right_list_is_written() {
    let stage = Stage::new();
    std::fs::write(stage.at("model.labels.txt"), "green\nred\ndark\n").unwrap();
    let found = stage.debug();
    let problems: Vec<String> = found.diagnosis.judgement.problems.iter().map(|p| p.sentence.clone()).collect();
    only(&problems, &["another order", "dark, green, red", "100.0 %"]);
    assert!(found.diagnosis.findings.is_empty());
    let run = RunOptions::default().with_root(stage.at("runs")).with_name("run".to_owned());
    found.write_run(&run).unwrap();
    let list = std::fs::read(stage.at("runs/run/classes.txt")).unwrap();
    assert_eq!(list, b"dark\ngreen\nred\n");
    std::fs::write(stage.at("model.labels.txt"), list).unwrap();
    assert!(stage.problems().0.is_empty(), "obeyed, it is mended");
}

#[test]
fn channels_in_the_other_order_are_named_with_what_mends_them() {
    let stage = Stage::new();
    stage.prepared("0.00392156862745098", "[0, 0, 0]", "[1, 1, 1]", "bgr");
    let (problems, _) = stage.problems();
    only(&problems, &["red and blue in the other order", "120 of 120", "`channels` = rgb"]);
}

#[test]
fn values_of_bytes_where_the_model_wants_zero_to_one_are_named() {
    let stage = Stage::new();
    stage.prepared("1", "[0, 0, 0]", "[1, 1, 1]", "rgb");
    only(&stage.problems().0, &["0 to 1 in place of 0 to 255", "`scale` = 1/255"]);
}

#[test]
fn statistics_in_another_unit_are_named_with_the_range_that_the_model_receives() {
    let stage = Stage::new();
    stage.prepared("0.00392156862745098", "[123.7, 116.3, 103.5]", "[58.4, 57.1, 57.4]", "rgb");
    only(&stage.problems().0, &["another unit", "-2.12", "`scale` = 1"]);
}

#[test]
fn a_graph_in_training_mode_is_named_and_one_in_inference_mode_is_not() {
    let stage = Stage::new();
    stage.model(Some(true));
    only(&stage.problems().0, &["training mode", "model.eval()"]);
    stage.model(Some(false));
    assert!(stage.problems().0.is_empty());
}

#[test]
fn one_picture_in_two_classes_is_named_and_listed() {
    let stage = Stage::new();
    let twice = std::fs::read(stage.at("data/red/07.png")).unwrap();
    std::fs::write(stage.at("data/green/twice.png"), twice).unwrap();
    let problems = stage.debug().diagnosis.judgement.problems;
    assert!(problems.iter().any(|p| p.sentence.contains("1 picture lies in two classes")), "{problems:?}");
}

#[test]
fn one_picture_in_two_splits_is_named() {
    let stage = Stage::new();
    for (at, name) in [("train", "a.png"), ("test", "b.png")] {
        for (class, _) in CLASSES {
            let from = if class == "red" {
                7
            } else if at == "train" {
                1
            } else {
                2
            };
            let picture = std::fs::read(stage.at(&format!("data/{class}/{from:02}.png"))).unwrap();
            let folder = stage.at("split").join(at).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), picture).unwrap();
        }
    }
    let classifier = Classifier::open(stage.at("model.onnx"), &OpenOptions::default()).unwrap();
    let settings = DebugSettings::default().with_scan(ScanSettings::default());
    let found = pellucid::debug(&classifier, stage.at("split"), &settings, &Silent).unwrap().diagnosis;
    assert!(found.verdict.iter().any(|s| s.contains("1 picture lies in two splits")), "{:?}", found.verdict);
}
