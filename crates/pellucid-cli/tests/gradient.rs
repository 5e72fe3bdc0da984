//! `pellucid gradient`, `compare` and `inspect --gradients`: the real binary on a zoo model.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use pellucid::internals::runtime::Array;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models/squeezenet1_1/squeezenet1_1.onnx")
}

fn pellucid(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pellucid")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A picture of waves as `x.npz` in `folder`.
fn picture(folder: &Path) -> String {
    let x = ndarray::ArrayD::from_shape_fn(ndarray::IxDyn(&[1, 3, 227, 227]), |i| {
        ((i[1] + 2 * i[2]) as f32 * 0.1).sin() + (i[3] as f32 * 0.07).cos()
    });
    let path = folder.join("x.npz");
    pellucid::write_arrays(&path, &BTreeMap::from([("input".to_owned(), Array::F32(x))])).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_gradient_is_written_and_compares_equal_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (model, input) = (model().to_string_lossy().into_owned(), picture(folder.path()));
    let out = folder.path().join("g.npz").to_string_lossy().into_owned();
    let run = pellucid(&["gradient", &model, "--input", &input, "--of", "logits:7", "--out", &out]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let mut arrays = pellucid::read_arrays(&out).unwrap();
    assert_eq!(arrays["gradient.input"].shape(), [1, 3, 227, 227]);
    let logits = arrays["logits"].as_f32().unwrap();
    assert_eq!(arrays["objective"].as_f32().unwrap()[[0]], logits[[0, 7]]);

    arrays.extend(pellucid::read_arrays(&input).unwrap());
    let reference = folder.path().join("r.npz").to_string_lossy().into_owned();
    pellucid::write_arrays(&reference, &arrays).unwrap();
    let same = pellucid(&["compare", &model, &reference, "--of", "logits:7"]);
    assert!(same.status.success(), "{}{}", text(&same.stdout), text(&same.stderr));
    let other = pellucid(&["compare", &model, &reference, "--of", "logits:8"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other.stdout));
    assert!(text(&other.stdout).lines().any(|l| l.starts_with("gradient.input") && l.ends_with("FAR")));
}

#[test]
fn one_command_writes_the_graph_and_the_gradient_and_recomputing_changes_neither_name_nor_number() {
    let folder = tempfile::tempdir().unwrap();
    let (model, input) = (model().to_string_lossy().into_owned(), picture(folder.path()));
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (graph, plain, again) = (path("g.onnx"), path("plain.npz"), path("again.npz"));
    let common = ["gradient", &model, "--input", &input, "--of", "logits:7"];
    let run = pellucid(&[&common[..], &["--out", &plain]].concat());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let run = pellucid(&[&common[..], &["--out", &again, "--graph", &graph, "--recompute", "3"]].concat());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let (plain, again) = (pellucid::read_arrays(&plain).unwrap(), pellucid::read_arrays(&again).unwrap());
    for (name, array) in &plain {
        let (a, b) = (array.as_f32().unwrap(), again[name].as_f32().unwrap());
        let worst = a.iter().zip(b).fold(0.0, |m: f32, (x, y)| m.max((x - y).abs()));
        assert!(worst <= 1e-6, "{name} is off by {worst:e}");
    }
    let written = pellucid::internals::graph::Model::read(&graph).unwrap();
    let outputs: Vec<&str> = written.graph.outputs.iter().map(pellucid::internals::graph::Value::name).collect();
    assert_eq!(outputs, ["logits", "objective", "gradient.input"]);
    let run = pellucid(&[&common[..], &["--out", &path("x.npz"), "--checkpointing", "soon"]].concat());
    assert!(text(&run.stderr).contains("neither a number of segments"), "{}", text(&run.stderr));
}

#[test]
fn a_batch_that_the_export_fixed_is_free_in_the_graph_that_is_written_too() {
    use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (model, input, out, written) = (path("fixed.onnx"), path("x.npz"), path("g.npz"), path("g.onnx"));
    let weights = Tensor::f32("w", &[4, 2], &[0.5, -1.0, 2.0, 0.25, -0.75, 1.0, 1.5, -0.5]);
    let nodes = vec![
        Node::new("MatMul", &["x", "w"], &["z"]),
        Node::new("Reshape", &["z", "shape"], &["flat"]),
        Node::new("Tanh", &["flat"], &["y"]),
    ];
    let constants = vec![weights, Tensor::i64("shape", &[2], &[1, 2])];
    let x = Value::tensor("x", ElementType::F32, &[Some(1), Some(4)]);
    Model::new(&model, Graph::new(vec![x], nodes, constants, &["y"]).unwrap(), 18).write(&model).unwrap();
    let x = ndarray::ArrayD::from_shape_fn(ndarray::IxDyn(&[3, 4]), |i| (i[0] * 4 + i[1]) as f32 * 0.1 - 0.5);
    let x = BTreeMap::from([("x".to_owned(), Array::F32(x))]);
    pellucid::write_arrays(&input, &x).unwrap();
    let run = pellucid(&["gradient", &model, "--input", &input, "--of", "y:1", "--out", &out, "--graph", &written]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let ours = pellucid::read_arrays(&out).unwrap();
    assert_eq!(ours["gradient.x"].shape(), [3, 4]);
    let runtime = pellucid::internals::runtime::Runtime::load(None).unwrap();
    let graph = Model::read(&written).unwrap();
    let mut session = runtime.session(&graph, &pellucid::internals::runtime::SessionOptions::default()).unwrap();
    let theirs = session.run(&[("x", &x["x"])]).unwrap();
    for (name, array) in session.outputs().into_iter().zip(&theirs) {
        assert_eq!(array.shape()[0], 3, "{name}");
        let known = ours.get(&name).unwrap_or(&ours["objective"]);
        assert_eq!(array, known, "{name}");
    }
}

#[test]
fn wrong_indices_values_and_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (model, input) = (model().to_string_lossy().into_owned(), picture(folder.path()));
    let out = folder.path().join("g.npz").to_string_lossy().into_owned();
    let cases: [(&[&str], &str); 5] = [
        (&["--of", "logits:4000"], "4000"),
        (&["--of", "logitz"], "did you mean 'logits'"),
        (&["--of", "logits:three"], "no index 'three'"),
        (&["--wrt", "nowhere"], "'nowhere'"),
        (&["--input", "missing.npy"], "missing.npy"),
    ];
    for (arguments, expected) in cases {
        let all = [&["gradient", &model, "--input", &input, "--out", &out], arguments].concat();
        let run = pellucid(&all);
        let message = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(expected) && message.lines().count() == 1, "{arguments:?}: {message}");
    }
    assert!(!Path::new(&out).exists(), "a failed command leaves no file");
}

#[test]
fn inspect_lists_what_gradients_reach() {
    let run = pellucid(&["inspect", &model().to_string_lossy(), "--gradients"]);
    let listed = text(&run.stdout);
    assert!(run.status.success() && listed.contains("input [1, 3, 227, 227]"), "{listed}");
    assert!(listed.contains("values are reached from logits"), "{listed}");
}
