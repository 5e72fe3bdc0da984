//! A stage for the command: a small classifier that tells colours apart, pictures that it gets right and wrong, and the
//! real binary run on them.
//!
//! The classifier is exact by construction, so a test knows every answer: its neurons are the means of red, green and
//! blue, a constant, their sum and a dead one; its classes are red, green and blue, by the largest mean.

use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid::internals::vision::picture::Picture;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Side of the small classifier's input.
pub const SIDE: i64 = 8;
/// Its neurons.
pub const NEURONS: usize = 6;

const PREPROCESSING: &str = r#"{"width": 8, "height": 8, "resize": "exact", "filter": "bilinear",
    "scale": 0.00392156862745098, "mean": [0, 0, 0], "std": [1, 1, 1], "source": "the test"}"#;

/// A folder with a model and a data set, thrown away at the end.
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    /// The colour classifier, with its preprocessing and class names beside it, and no pictures.
    pub fn new() -> Self {
        let stage = Self { folder: TempDir::new().unwrap() };
        stage.model(&colours(None));
        stage.write("model.preprocess.json", PREPROCESSING);
        stage.write("model.labels.txt", "red\ngreen\nblue\n");
        stage
    }

    /// The classifier with 6 pictures of each colour in `data/<class>/`, of which the last two of `red` are blue for the
    /// most part, so that it calls them blue.
    pub fn with_mistakes() -> Self {
        let stage = Self::new();
        for (class, colour) in COLOURS {
            for i in 0..6 {
                let wrong = class == "red" && i >= 4;
                stage.picture(
                    &format!("data/{class}/{i}.png"),
                    if wrong { BLUE } else { colour },
                    if wrong { i + 6 } else { i },
                );
            }
        }
        stage
    }

    /// Pictures enough for a repair to split, in `many/<split>/<class>/`: 30 of each colour, of which every fifth of `red` is
    /// blue for the most part.
    pub fn many(&self) {
        for (class, colour) in COLOURS {
            for i in 0..30 {
                let wrong = class == "red" && i % 5 == 4;
                let split = ["train", "val", "test"][i % 3];
                let (colour, variant) = if wrong { (BLUE, i + 31) } else { (colour, i) };
                self.picture(&format!("many/{split}/{class}/{i}.png"), colour, variant);
            }
        }
    }

    /// Where everything lies.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file on the stage.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the model.
    pub fn model(&self, model: &Model) {
        model.write(self.at("model.onnx")).unwrap();
    }

    /// Writes a file, its folders included.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes a picture that is `colour` for the most part; `variant` makes it unlike the others.
    pub fn picture(&self, name: &str, colour: [u8; 3], variant: usize) {
        let shade = |x: u32, y: u32| ((x as usize * 7 + y as usize * 13 + variant * 29) % 40) as u8;
        let picture = Picture::from_fn(12, 12, |x, y| colour.map(|c| c.saturating_add(shade(x, y))));
        self.write(name, picture.to_png().unwrap());
    }

    /// The command with these arguments, run in the stage's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pellucid"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs the command.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs `job model.onnx <data>` with further arguments.
    pub fn job(&self, job: &str, data: &str, more: &[&str]) -> Ran {
        self.run(&[&[job, "model.onnx", data], more].concat())
    }

    /// The only file of this name in a finished run's directory.
    pub fn result(&self, name: &str) -> String {
        let runs = std::fs::read_dir(self.at("runs")).unwrap().flatten().map(|e| e.path());
        let mut found: Vec<PathBuf> = runs.map(|run| run.join(name)).filter(|path| path.is_file()).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        std::fs::read_to_string(found.remove(0)).unwrap()
    }
}

/// What a run of the command gave.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it printed as its result.
    pub out: String,
    /// What it said beside that.
    pub err: String,
}

impl Ran {
    /// From the process's output.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Expects exit code 0.
    pub fn fine(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Expects exit code 2, no result, and an error that holds each of `parts`.
    pub fn refused(self, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(2), "{self:#?}");
        assert!(self.out.is_empty(), "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "'{part}' is not in: {}", self.err);
        }
        self
    }

    /// The result as JSON.
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

pub const RED: [u8; 3] = [200, 20, 20];
pub const GREEN: [u8; 3] = [20, 200, 20];
pub const BLUE: [u8; 3] = [20, 20, 200];
/// Class names with the colour that makes the classifier say so.
pub const COLOURS: [(&str, [u8; 3]); 3] = [("red", RED), ("green", GREEN), ("blue", BLUE)];

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap().join(path)
}

/// The colour classifier, its batch free or baked in.
pub fn colours(batch: Option<i64>) -> Model {
    colours_with(batch, &[("w", HEAD.to_vec(), 3)])
}

/// W of the colour classifier, 3 × 6: each class by its colour, a little by the sum.
const HEAD: [f32; 18] = [
    4.0, -1.0, -1.0, 0.1, 0.2, 0.5, //
    -1.0, 4.0, -1.0, 0.1, 0.2, 0.5, //
    -1.0, -1.0, 4.0, 0.1, 0.2, 0.5,
];

/// The colour backbone with one Gemm, of bias 0, for each head: name, weights (classes × 6), classes.
pub fn colours_with(batch: Option<i64>, heads: &[(&str, Vec<f32>, usize)]) -> Model {
    let (mut nodes, mut constants) = backbone();
    for (name, weight, classes) in heads {
        let bias = format!("{name}_bias");
        nodes.push(Node::new("Gemm", &["f", name, &bias], &[&format!("logits_{name}")]).with_int("transB", 1));
        constants.push(Tensor::f32(name, &[*classes, NEURONS], weight));
        constants.push(Tensor::f32(&bias, &[*classes], &vec![0.0; *classes]));
    }
    let outputs: Vec<String> = heads.iter().map(|(name, ..)| format!("logits_{name}")).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    finish(batch, nodes, constants, &outputs)
}

/// The colour backbone alone: a model without a linear head.
pub fn headless() -> Model {
    let (mut nodes, mut constants) = backbone();
    // A 1×1 convolution could be meant as a head; a 3×3 one cannot.
    nodes[0] = Node::new("Conv", &["x", "k"], &["c"]).with_ints("pads", &[1, 1, 1, 1]);
    constants[0] = Tensor::f32("k", &[NEURONS, 3, 3, 3], &[0.1; NEURONS * 27]);
    finish(None, nodes, constants, &["f"])
}

/// A layer that reads the pixels one by one, so that no value has places: red by red.
pub fn without_places() -> Model {
    let pixels = SIDE as usize * SIDE as usize;
    let weight: Vec<f32> =
        (0..3).flat_map(|class| (0..3 * pixels).map(move |at| f32::from(at / pixels == class))).collect();
    let nodes =
        vec![Node::new("Flatten", &["x"], &["f"]), Node::new("Gemm", &["f", "w", "b"], &["z"]).with_int("transB", 1)];
    finish(None, nodes, vec![Tensor::f32("w", &[3, 3 * pixels], &weight), Tensor::f32("b", &[3], &[0.0; 3])], &["z"])
}

fn backbone() -> (Vec<Node>, Vec<Tensor>) {
    let kernel =
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.3, 0.3, 0.3], [-1.0, -1.0, -1.0]];
    let nodes = vec![
        Node::new("Conv", &["x", "k", "kb"], &["c"]),
        Node::new("Relu", &["c"], &["map"]),
        Node::new("GlobalAveragePool", &["map"], &["p"]),
        Node::new("Flatten", &["p"], &["f"]),
    ];
    let bias = [0.0, 0.0, 0.0, 0.5, 0.0, 0.0];
    (nodes, vec![Tensor::f32("k", &[NEURONS, 3, 1, 1], kernel.as_flattened()), Tensor::f32("kb", &[NEURONS], &bias)])
}

fn finish(batch: Option<i64>, nodes: Vec<Node>, constants: Vec<Tensor>, outputs: &[&str]) -> Model {
    let input = Value::tensor("x", ElementType::F32, &[batch, Some(3), Some(SIDE), Some(SIDE)]);
    Model::new("model.onnx", Graph::new(vec![input], nodes, constants, outputs).unwrap(), 17)
}
