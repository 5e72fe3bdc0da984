//! A classifier small enough to be written down, and pictures that it gets wrong where that is expected.

#![allow(clippy::unwrap_used, dead_code)] // A test that fails here says where; not every test needs everything.

use pellucid::data::Picture;
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid::{Classifier, DebugSettings, Error, OpenOptions, Progress, RunOptions, Scan, ScanSettings};
use std::path::PathBuf;
use tempfile::TempDir;

pub const NEURONS: usize = 4;
pub const PICTURES: usize = 300;
/// What each neuron reads of red, green and blue.
pub const KERNEL: [f32; 12] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5];
/// Features × classes.
pub const WEIGHT: [f32; 8] = [2.0, -1.0, 2.0, -1.5, 1.0, -2.0, 0.5, -0.5];
pub const BIAS: [f32; 2] = [-3.0, 1.5];

/// The class that picture `i` is filed under, and the picture.
pub fn picture(i: usize) -> (&'static str, Picture) {
    let bright = i.is_multiple_of(2);
    let class = if bright != i.is_multiple_of(10) { "bright" } else { "dark" };
    let level = if bright { 200 } else { 30 };
    let picture =
        Picture::from_fn(4, 4, |x, y| [level + (i % 50) as u8, level + (i / 50) as u8, level + (x * y) as u8]);
    (class, picture)
}

/// A classifier of bright and dark with neurons red, green, blue and their sum, and pictures of both kinds, of which every
/// tenth lies in the wrong folder.
pub struct Stage(TempDir);

impl Stage {
    pub fn new() -> Self {
        let stage = Self(TempDir::new().unwrap());
        let nodes = vec![
            Node::new("Conv", &["x", "k"], &["map"]),
            Node::new("GlobalAveragePool", &["map"], &["p"]),
            Node::new("Flatten", &["p"], &["f"]),
            Node::new("Gemm", &["f", "w", "b"], &["z"]),
        ];
        let constants = vec![
            Tensor::f32("k", &[NEURONS, 3, 1, 1], &KERNEL),
            Tensor::f32("w", &[NEURONS, 2], &WEIGHT),
            Tensor::f32("b", &[2], &BIAS),
        ];
        let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(4), Some(4)]);
        let graph = Graph::new(vec![input], nodes, constants, &["z"]).unwrap();
        Model::new("model.onnx", graph, 17).write(stage.at("model.onnx")).unwrap();
        let preprocessing = r#"{"width": 4, "height": 4, "resize": "exact", "filter": "bilinear",
            "scale": 0.00392156862745098, "mean": [0, 0, 0], "std": [1, 1, 1], "source": "the test"}"#;
        std::fs::write(stage.at("model.preprocess.json"), preprocessing).unwrap();
        for i in 0..PICTURES {
            let (class, picture) = picture(i);
            std::fs::create_dir_all(stage.at("data").join(class)).unwrap();
            std::fs::write(stage.at("data").join(class).join(format!("{i:03}.png")), picture.to_png().unwrap())
                .unwrap();
        }
        stage
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn open(&self) -> Classifier {
        Classifier::open(self.at("model.onnx"), &OpenOptions::default()).unwrap()
    }

    pub fn cached(&self) -> ScanSettings {
        ScanSettings::default().with_cache(self.at("runs/.cache"))
    }

    pub fn settings(&self) -> DebugSettings {
        DebugSettings::default().with_scan(self.cached())
    }

    pub fn run(&self) -> RunOptions {
        RunOptions::default().with_root(self.at("runs")).with_name("run".to_owned())
    }

    pub fn scan(&self, settings: &ScanSettings, progress: &dyn Progress) -> Result<Scan, Error> {
        pellucid::scan(&self.open(), self.at("data"), settings, progress)
    }
}
