//! Weights that lie in files beside the model: mirrored ones are made once, and the originals are never copied.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::grad::Objective;
use pellucid_graph::onnx::{StringStringEntryProto, TensorProto, tensor_proto::DataLocation};
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::{Array, GradientOptions, GradientRun, GradientSession, SessionOptions};
use std::path::{Path, PathBuf};

const CHANNELS: usize = 16;

/// A weight of 16 × 16 × 3 × 3 in a file of its own.
fn external(folder: &Path, name: &str, seed: u32) -> Tensor {
    let shape = [CHANNELS, CHANNELS, 3, 3];
    let bytes: Vec<u8> = numbers(shape.iter().product(), seed).iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join(name), bytes).unwrap();
    let location = StringStringEntryProto { key: Some("location".to_owned()), value: Some(name.to_owned()) };
    Tensor::from_proto(TensorProto {
        name: Some(name.to_owned()),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: Some(ElementType::F32.to_onnx()),
        data_location: Some(DataLocation::External as i32),
        external_data: vec![location],
        ..TensorProto::default()
    })
}

/// Two convolutions, one of them strided, whose weights lie beside the model.
fn model(folder: &Path, seed: u32) -> Model {
    let constants = vec![external(folder, "first", seed), external(folder, "second", seed + 1)];
    let nodes = vec![
        Node::new("Conv", &["x", "first"], &["c"]).with_ints("pads", &[1; 4]),
        Node::new("Relu", &["c"], &["r"]),
        Node::new("Conv", &["r", "second"], &["y"]).with_ints("pads", &[1; 4]).with_ints("strides", &[2, 2]),
    ];
    let x = Value::tensor("x", ElementType::F32, &[None, Some(CHANNELS as i64), Some(8), Some(8)]);
    let graph = Graph::new(vec![x], nodes, constants, &["y"]).unwrap();
    let path = folder.join("model.onnx");
    Model::new(&path, graph, 18).write(&path).unwrap();
    Model::read(&path).unwrap()
}

fn compile(model: &Model, cache: Option<&Path>) -> GradientSession {
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    let options = GradientOptions { session, cache: cache.map(Path::to_owned), ..GradientOptions::default() };
    runtime().gradient(model, &Objective::value("y").sum(), &["x"], &options).unwrap()
}

fn run(model: &Model, cache: Option<&Path>) -> GradientRun {
    let x: Array = ArrayD::from_shape_vec(IxDyn(&[2, CHANNELS, 8, 8]), numbers(2 * CHANNELS * 64, 7)).unwrap().into();
    compile(model, cache).run(&[("x", &x)]).unwrap()
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(cache.join("weights")).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn mirrored_weights_are_made_once_and_read_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let model = model(folder.path(), 1);
    let without = run(&model, None);
    assert!(files(&cache).is_empty());
    let made = run(&model, Some(&cache));
    let [file] = &files(&cache)[..] else { panic!("one file is kept") };
    let bytes = std::fs::read(file).unwrap();
    assert!(bytes.len() > 2 * 4 * CHANNELS * CHANNELS * 9, "both weights are kept");
    // Read-only: whoever wrote it again would fail or replace it.
    let written = std::fs::metadata(file).unwrap().modified().unwrap();
    let read = run(&model, Some(&cache));
    assert_eq!(std::fs::metadata(file).unwrap().modified().unwrap(), written);
    for run in [&made, &read] {
        assert_eq!(run.gradients, without.gradients);
        assert_eq!(run.outputs, without.outputs);
    }
}

#[test]
fn what_is_kept_is_what_is_computed_with() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let model = model(folder.path(), 1);
    let whole = run(&model, Some(&cache));
    let [file] = &files(&cache)[..] else { panic!("one file is kept") };
    // One number changed and sealed again: the gradient must change with it, or the file was not read.
    let mut bytes = std::fs::read(file).unwrap();
    let end = bytes.len() - 32;
    bytes[end - 4..end].copy_from_slice(&100f32.to_le_bytes());
    let mut seal = blake3::Hasher::new();
    seal.update(file.file_name().unwrap().as_encoded_bytes()).update(&bytes[..end]);
    bytes[end..].copy_from_slice(seal.finalize().as_bytes());
    std::fs::write(file, bytes).unwrap();
    assert_ne!(run(&model, Some(&cache)).gradients, whole.gradients);
}

#[test]
fn a_damaged_file_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let model = model(folder.path(), 1);
    let whole = run(&model, Some(&cache));
    let [file] = &files(&cache)[..] else { panic!("one file is kept") };
    let good = std::fs::read(file).unwrap();
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        bad
    };
    for bad in [good[..good.len() / 2].to_vec(), Vec::new(), flipped(good.len() / 2), flipped(3), flipped(15)] {
        std::fs::write(file, bad).unwrap();
        let said = compile(&model, Some(&cache)).warnings().to_vec();
        assert!(said.len() == 1 && said[0].contains(&file.display().to_string()), "{said:?}");
        assert_eq!(std::fs::read(file).unwrap(), good);
        assert_eq!(run(&model, Some(&cache)).gradients, whole.gradients);
    }
    assert!(compile(&model, Some(&cache)).warnings().is_empty());
}

#[test]
fn a_file_under_the_name_of_another_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    run(&model(folder.path(), 1), Some(&cache));
    let other = files(&cache).remove(0);
    let whole = run(&model(folder.path(), 2), Some(&cache));
    let own = files(&cache).into_iter().find(|f| *f != other).unwrap();
    std::fs::copy(&other, &own).unwrap();
    assert_eq!(run(&model(folder.path(), 2), Some(&cache)).gradients, whole.gradients);
}

#[test]
fn other_weights_under_the_same_names_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let first = run(&model(folder.path(), 1), Some(&cache));
    let second_model = model(folder.path(), 5);
    let second = run(&second_model, Some(&cache));
    assert_eq!(files(&cache).len(), 2);
    assert_ne!(first.gradients, second.gradients);
    assert_eq!(second.gradients, run(&second_model, None).gradients);
}

#[test]
fn the_gradient_refers_to_the_original_weight_files() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), 1);
    let session = compile(&model, None);
    let gradient = &session.model().model;
    for name in ["first", "second"] {
        assert_eq!(gradient.external_data(name).unwrap().0, folder.path().canonicalize().unwrap().join(name));
    }
    assert!(gradient.to_bytes().len() < 4 * CHANNELS * CHANNELS * 9, "no weight is copied into the graph");
}
