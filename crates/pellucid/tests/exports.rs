//! Exports as people have them, each a few nodes: half and quantised precision, one logit, no linear head, training mode, inputs
//! of bytes, class names in the file; and where a map lies in its picture.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use pellucid::attribution::AttributionSettings;
use pellucid::data::Picture;
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid::network::Subject;
use pellucid::saliency::SaliencyMap;
use pellucid::{Attributions, Classifier, Error, OpenOptions, Question, ScanSettings, Silent, Warning};
use std::path::PathBuf;
use tempfile::TempDir;

const PREPROCESSING: &str = r#"{"width": 8, "height": 8, "resize": "exact", "filter": "nearest", "scale": 0.00392156862745098,
    "mean": [0, 0, 0], "std": [1, 1, 1], "source": "the test"}"#;
/// What each of four channels reads of red, green and blue.
const KERNEL: [f32; 12] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.5, -0.5, 0.25];
/// Channels × classes.
const WEIGHT: [f32; 8] = [1.0, -1.0, 0.5, 0.25, -0.75, 1.0, 0.25, -0.5];

fn picture() -> Picture {
    Picture::from_fn(8, 8, |x, y| [(x * 30) as u8, (y * 30) as u8, ((x * y * 11) % 256) as u8])
}

/// A 1×1 Conv with ReLU from `input`, pooled to `f`.
fn backbone(input: &str, kernel: &str) -> Vec<Node> {
    vec![
        Node::new("Conv", &[input, kernel], &["c"]),
        Node::new("Relu", &["c"], &["map"]),
        Node::new("GlobalAveragePool", &["map"], &["p"]),
        Node::new("Flatten", &["p"], &["f"]),
    ]
}

fn kernel() -> Tensor {
    Tensor::f32("k", &[4, 3, 1, 1], &KERNEL)
}

fn weight() -> Tensor {
    Tensor::f32("w", &[4, 2], &WEIGHT)
}

fn input() -> Value {
    Value::tensor("x", ElementType::F32, &[None, Some(3), Some(8), Some(8)])
}

struct Export {
    folder: TempDir,
}

impl Export {
    fn of(input: Value, nodes: Vec<Node>, constants: Vec<Tensor>) -> Self {
        Self::with_notes(input, nodes, constants, &[])
    }

    fn with_notes(input: Value, nodes: Vec<Node>, constants: Vec<Tensor>, notes: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let graph = Graph::new(vec![input], nodes, constants, &["z"]).unwrap();
        let mut model = Model::new("model.onnx", graph, 17);
        notes.iter().for_each(|(key, value)| model.set_metadata(key, value));
        model.write(folder.path().join("model.onnx")).unwrap();
        std::fs::write(folder.path().join("model.preprocess.json"), PREPROCESSING).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model.onnx")
    }

    fn open(&self) -> Classifier {
        Classifier::open(self.path(), &OpenOptions::default()).unwrap()
    }

    fn attribute(&self, question: &Question, methods: &[&str]) -> Attributions {
        let settings = AttributionSettings::default().with_checked(false);
        pellucid::attribute(&self.open(), picture(), question, methods, &settings).unwrap()
    }
}

fn plain() -> Export {
    let mut nodes = backbone("x", "k");
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    Export::of(input(), nodes, vec![kernel(), weight()])
}

/// Grad-CAM written out: the class's weights on the channels, what is positive, over the number of places.
fn grad_cam(class: usize, sign: f32) -> Vec<f32> {
    let seen = picture();
    let place = |x: u32, y: u32| {
        let colours = seen.pixel(x, y).map(|v| f32::from(v) / 255.0);
        let channel = |j: usize| (0..3).map(|c| KERNEL[3 * j + c] * colours[c]).sum::<f32>().max(0.0);
        (0..4).map(|j| sign * WEIGHT[2 * j + class] / 64.0 * channel(j)).sum::<f32>().max(0.0)
    };
    (0..64).map(|i| place(i % 8, i / 8)).collect()
}

fn agrees(map: &SaliencyMap, expected: &[f32], bound: f32) {
    let largest = expected.iter().copied().fold(0.0, f32::max);
    assert!(largest > 0.0);
    for (at, (found, expected)) in map.values.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= bound * largest, "place {at}: {found}, expected {expected}");
    }
}

#[test]
fn half_precision_gives_the_maps_of_single_precision_and_says_that_it_was_widened() {
    let half = |tensor: Tensor| {
        let dims: Vec<usize> = tensor.dims().iter().map(|&d| d as usize).collect();
        let bits = |v: f32| half::f16::from_f32(v).to_le_bytes();
        let bytes: Vec<u8> = tensor.to_f32().unwrap().into_iter().flat_map(bits).collect();
        Tensor::raw(tensor.name(), ElementType::F16, &dims, bytes.into())
    };
    let mut nodes = backbone("x", "k");
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    let input = Value::tensor("x", ElementType::F16, &[None, Some(3), Some(8), Some(8)]);
    let found = Export::of(input, nodes, vec![half(kernel()), half(weight())])
        .attribute(&Question::Class("1".into()), &["grad-cam"]);
    agrees(&found.maps[0].map, &grad_cam(1, 1.0), 1e-4);
    assert!(found.warnings.contains(&Warning::RunInFloat32));
}

#[test]
fn gradients_go_straight_through_quantised_values_and_that_is_said() {
    let bytes = |name: &str, shape: &[usize], scale: f32, values: &[f32]| {
        let stored: Vec<u8> = values.iter().map(|v| ((v / scale).round() as i8) as u8).collect();
        Tensor::raw(name, ElementType::I8, shape, stored.into())
    };
    let mut nodes = vec![
        Node::new("QuantizeLinear", &["x", "sx", "zx"], &["xq"]),
        Node::new("DequantizeLinear", &["xq", "sx", "zx"], &["xd"]),
        Node::new("DequantizeLinear", &["kq", "sk", "zk"], &["k"]),
        Node::new("DequantizeLinear", &["wq", "sk", "zk"], &["w"]),
    ];
    nodes.extend(backbone("xd", "k"));
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    let constants = vec![
        Tensor::f32("sx", &[], &[1.0 / 255.0]),
        Tensor::raw("zx", ElementType::U8, &[], vec![0u8].into()),
        bytes("kq", &[4, 3, 1, 1], 1.0 / 64.0, &KERNEL),
        Tensor::f32("sk", &[], &[1.0 / 64.0]),
        Tensor::raw("zk", ElementType::I8, &[], vec![0u8].into()),
        bytes("wq", &[4, 2], 1.0 / 64.0, &WEIGHT),
    ];
    let export = Export::of(input(), nodes, constants);
    let found = export.attribute(&Question::Class("0".into()), &["grad-cam", "smooth-grad"]);
    agrees(&found.maps[0].map, &grad_cam(0, 1.0), 1e-3);
    assert!(found.maps[1].map.values.iter().any(|v| *v > 0.0), "a gradient by the input exists");
    assert!(found.warnings.contains(&Warning::StraightThrough { nodes: 1 }));
    // The network that maps are compared with has lost its quantised weights too.
    let checked = AttributionSettings::default();
    let question = Question::Class("0".into());
    let checked = pellucid::attribute(&export.open(), picture(), &question, &["grad-cam"], &checked).unwrap();
    assert!(checked.maps[0].map.figure("randomization_test").unwrap() < 0.99);
}

#[test]
fn the_other_class_of_one_logit_has_the_score_with_the_other_sign() {
    let mut nodes = backbone("x", "k");
    nodes.push(Node::new("Gemm", &["f", "w1"], &["g"]));
    nodes.push(Node::new("Sigmoid", &["g"], &["z"]));
    let column: Vec<f32> = (0..4).map(|j| WEIGHT[2 * j + 1]).collect();
    let export = Export::of(input(), nodes, vec![kernel(), Tensor::f32("w1", &[4, 1], &column)]);
    let ask = |class: &str| export.attribute(&Question::Class(class.into()), &["grad-cam"]);
    let (no, yes) = (ask("0"), ask("1"));
    assert_eq!((no.subject, yes.subject), (Subject::Against(0), Subject::Class(0)));
    agrees(&yes.maps[0].map, &grad_cam(1, 1.0), 1e-4);
    agrees(&no.maps[0].map, &grad_cam(1, -1.0), 1e-4);
}

#[test]
fn without_a_linear_head_maps_and_scans_go_on_and_what_needs_one_says_why() {
    // The scores of places pass a ReLU before they are pooled.
    let nodes = vec![
        Node::new("Conv", &["x", "k"], &["c"]),
        Node::new("Relu", &["c"], &["map"]),
        Node::new("Conv", &["map", "w"], &["scores"]),
        Node::new("Relu", &["scores"], &["r"]),
        Node::new("GlobalAveragePool", &["r"], &["z"]),
    ];
    let turned: Vec<f32> = (0..2).flat_map(|c| (0..4).map(move |j| WEIGHT[2 * j + c])).collect();
    let export = Export::of(input(), nodes, vec![kernel(), Tensor::f32("w", &[2, 4, 1, 1], &turned)]);
    let found = export.attribute(&Question::Class("0".into()), &[]);
    assert!(found.maps.iter().all(|m| m.map.values.iter().any(|v| *v > 0.0)), "{:?}", found.maps);
    let classifier = export.open();
    let refused = pellucid::why(&classifier, picture(), 3).unwrap_err();
    assert!(matches!(&refused, Error::NoDecisionLayer { .. }), "{refused}");
    assert!(refused.to_string().contains("Relu"), "{refused}");
    let neuron =
        pellucid::attribute(&classifier, picture(), &Question::Neuron(0), &[], &AttributionSettings::default());
    assert!(neuron.unwrap_err().to_string().contains("no neurons"));
    let data = export.folder.path().join("data");
    for (class, name) in [("a", "0.png"), ("b", "1.png")] {
        std::fs::create_dir_all(data.join(class)).unwrap();
        std::fs::write(data.join(class).join(name), picture().to_png().unwrap()).unwrap();
    }
    let scan = pellucid::scan(&classifier, data.clone(), &ScanSettings::default(), &Silent).unwrap();
    assert_eq!((scan.summary.accuracy.count, scan.summary.accuracy.total), (1, 2));
    assert!(scan.warnings.iter().any(|w| matches!(w, Warning::NoDecisionLayer { .. })));
    let debugged = pellucid::debug(&classifier, data, &pellucid::DebugSettings::default(), &Silent);
    assert!(matches!(debugged, Err(Error::NoDecisionLayer { .. })));
}

#[test]
fn an_export_in_training_mode_answers_as_in_use_and_that_is_said() {
    let normalised = |training: bool| {
        let outputs: &[&str] = if training { &["n", "m2", "v2"] } else { &["n"] };
        let norm = Node::new("BatchNormalization", &["c", "s", "o", "m", "v"], outputs);
        let nodes = vec![
            Node::new("Conv", &["x", "k"], &["c"]),
            if training { norm.with_int("training_mode", 1) } else { norm },
            Node::new("Relu", &["n"], &["map"]),
            Node::new("GlobalAveragePool", &["map"], &["p"]),
            Node::new("Flatten", &["p"], &["f"]),
            Node::new("Gemm", &["f", "w"], &["z"]),
        ];
        let four = |name: &str, values: [f32; 4]| Tensor::f32(name, &[4], &values);
        let constants = vec![
            kernel(),
            weight(),
            four("s", [1.0, 2.0, 0.5, 1.0]),
            four("o", [0.1, 0.0, -0.1, 0.2]),
            four("m", [0.4, 0.1, 0.2, 0.0]),
            four("v", [0.5, 1.0, 2.0, 1.0]),
        ];
        Export::of(input(), nodes, constants)
    };
    let (trained, used) = (normalised(true).open(), normalised(false).open());
    let answer = |classifier: &Classifier| pellucid::why(classifier, picture(), 1).unwrap();
    assert_eq!(answer(&trained).classes, answer(&used).classes);
    assert!(answer(&trained).warnings.contains(&Warning::TrainingMode { nodes: 1 }));
    assert!(answer(&used).warnings.is_empty());
}

#[test]
fn an_input_of_bytes_takes_no_fractions_and_gradients_reach_it() {
    let nodes = vec![
        Node::new("Transpose", &["x"], &["first"]).with_ints("perm", &[0, 3, 1, 2]),
        Node::new("Cast", &["first"], &["float"]).with_int("to", 1),
        Node::new("Div", &["float", "most"], &["scaled"]),
    ];
    let nodes: Vec<Node> =
        nodes.into_iter().chain(backbone("scaled", "k")).chain([Node::new("Gemm", &["f", "w"], &["z"])]).collect();
    let bytes = Value::tensor("x", ElementType::U8, &[None, Some(8), Some(8), Some(3)]);
    let export = Export::of(bytes, nodes, vec![kernel(), weight(), Tensor::f32("most", &[], &[255.0])]);
    let text = PREPROCESSING.replace("\"source\"", "\"layout\": \"nhwc\", \"source\"");
    let preprocessing = export.folder.path().join("model.preprocess.json");
    std::fs::write(&preprocessing, &text).unwrap();
    let refused = Classifier::open(export.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("whole numbers") && refused.contains("`scale` = 1"), "{refused}");
    std::fs::write(&preprocessing, text.replace("0.00392156862745098", "1")).unwrap();
    let found = export.attribute(&Question::Class("1".into()), &["grad-cam", "smooth-grad"]);
    agrees(&found.maps[0].map, &grad_cam(1, 1.0), 1e-4);
    assert!(found.maps[1].map.values.iter().any(|v| *v > 0.0), "a gradient by the input exists");
}

#[test]
fn class_names_in_the_models_own_notes_are_read_and_a_name_of_two_classes_is_refused() {
    let named = |notes: &str| {
        let mut nodes = backbone("x", "k");
        nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
        Export::with_notes(input(), nodes, vec![kernel(), weight()], &[("names", notes)]).open()
    };
    let classifier = named("{0: 'circle', 1: 'n01440764 tench, Tinca tinca'}");
    assert_eq!(classifier.class_index("circle").unwrap(), 0);
    for alias in ["n01440764", "tench", "Tinca tinca", "1"] {
        assert_eq!(classifier.class_index(alias).unwrap(), 1, "{alias}");
    }
    let twice = named("{0: 'crane', 1: 'crane'}");
    let refused = twice.class_index("crane").unwrap_err().to_string();
    assert!(refused.contains("0 (crane), 1 (crane)"), "{refused}");
    assert_eq!(twice.class_index("1").unwrap(), 1);
}

#[test]
fn a_map_lies_on_the_whole_picture_where_the_model_saw_it() {
    let export = plain();
    let text = PREPROCESSING.replace("\"exact\"", "{\"shortest_side\": 8}");
    std::fs::write(export.folder.path().join("model.preprocess.json"), text).unwrap();
    // A wide picture of which the middle third is seen, red at its top left corner.
    let wide = Picture::from_fn(24, 8, |x, y| if x == 8 && y == 0 { [255, 0, 0] } else { [0; 3] });
    let settings = AttributionSettings::default().with_checked(false);
    let found =
        pellucid::attribute(&export.open(), wide, &Question::Class("0".into()), &["grad-cam"], &settings).unwrap();
    assert_eq!(found.view.as_ref().unwrap().edges, [8.0, 0.0, 16.0, 8.0]);
    let map = &found.maps[0].map;
    let whole = found.on_picture(map).unwrap();
    assert_eq!(whole.dim(), (8, 24));
    assert!(map.values[[0, 0]] > 0.0 && (whole[[0, 8]] - map.values[[0, 0]]).abs() < 1e-6);
    assert!(whole.indexed_iter().all(|((_, x), v)| (8..16).contains(&x) || *v == 0.0));
    assert_eq!(found.arrays()["grad-cam"].shape(), [8, 8]);
}
