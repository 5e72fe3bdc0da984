//! Model files that are not what they should be, each with the error that says so; and files that must round-trip.

#![allow(clippy::unwrap_used)]

use pellucid_graph::{ElementType, Graph, Model, ModelError, Node, Tensor, Value};
use pellucid_guard::{Budget, Limit};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn tiny() -> Model {
    let graph = Graph::new(
        vec![Value::tensor("x", ElementType::F32, &[None, Some(4)])],
        vec![Node::new("MatMul", &["x", "w"], &["y"])],
        vec![Tensor::f32("w", &[4, 300], &[0.5; 1200])],
        &["y"],
    );
    Model::new("tiny.onnx", graph.unwrap(), 17)
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The tiny model with its weight said to be at `location`.
fn external(location: &str, length: &str) -> Vec<u8> {
    use pellucid_graph::onnx::{ModelProto, StringStringEntryProto};
    use prost::Message;
    let mut proto = ModelProto::decode(tiny().to_bytes().as_slice()).unwrap();
    let tensor = &mut proto.graph.as_mut().unwrap().initializer[0];
    let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    tensor.raw_data = None;
    tensor.data_location = Some(1);
    tensor.external_data = vec![entry("location", location), entry("offset", "0"), entry("length", length)];
    proto.encode_to_vec()
}

fn message(path: &Path) -> String {
    Model::read(path).unwrap_err().to_string()
}

#[test]
fn a_model_round_trips_through_its_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("m.onnx");
    tiny().write(&path).unwrap();
    let read = Model::read(&path).unwrap();
    assert_eq!(read.graph, Model::read(write(&folder, "again.onnx", &read.to_bytes())).unwrap().graph);
    assert_eq!(read.graph.initializers["w"].to_f32().unwrap(), [0.5; 1200]);
}

#[test]
fn a_rewritten_model_refers_to_its_weights_instead_of_copying_them() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "m.onnx", &tiny().to_bytes());
    let mut model = Model::read(&path).unwrap();
    model.graph.nodes.push(Node::new("Relu", &["y"], &["z"]));
    model.graph.add_output("z");
    let bytes = model.to_referencing_bytes();
    assert!(bytes.len() < 1000, "{} bytes for a graph with 4 800 bytes of weights", bytes.len());
    assert!(model.to_bytes().len() > 4800);
}

#[test]
fn files_that_are_no_models_are_named_for_what_they_are() {
    let folder = TempDir::new().unwrap();
    let cases: [(&str, &[u8], &str); 7] = [
        ("empty.onnx", b"", "it is empty"),
        ("zip.onnx", b"PK\x03\x04rest", "PyTorch checkpoint"),
        ("pickle.onnx", b"\x80\x02}q\x00.", "pickle"),
        ("page.onnx", b"<!DOCTYPE html>", "text file"),
        ("picture.onnx", b"\x89PNG\r\n\x1a\n", "picture"),
        ("hdf.onnx", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("noise.onnx", b"\xff\xff\xff\xff\xff\xff", "not an ONNX message"),
    ];
    for (name, bytes, expected) in cases {
        let message = message(&write(&folder, name, bytes));
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "m.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert!(matches!(Model::read(&path), Err(ModelError::LfsPointer(_))));
    assert!(message(&path).contains("git lfs pull"));
}

#[test]
fn every_truncation_is_an_error_and_never_a_panic() {
    let folder = TempDir::new().unwrap();
    let whole = tiny().to_bytes();
    for length in (1..whole.len()).step_by(97) {
        let path = write(&folder, "cut.onnx", &whole[..length]);
        if let Ok(model) = Model::read(&path) {
            // A cut between fields can leave a smaller message that is whole; it must still hold a graph.
            assert!(!model.graph.nodes.is_empty());
        }
    }
    let message = message(&write(&folder, "cut.onnx", &whole[..whole.len() / 2]));
    assert!(message.contains("truncated or damaged") && message.contains("copy or export it again"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    assert!(message(Path::new("no/such/model.onnx")).contains("no/such/model.onnx"));
}

#[test]
fn an_opset_outside_the_range_says_the_range() {
    let folder = TempDir::new().unwrap();
    let graph = tiny().graph;
    let old = Model::new("old.onnx", graph.clone(), 7);
    let message = message(&write(&folder, "old.onnx", &old.to_bytes()));
    assert!(message.contains("opset 7") && message.contains("9 to"), "{message}");
}

#[test]
fn external_data_must_lie_inside_the_models_folder() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    write(&folder, "outside.bin", &[0; 4800]);
    for location in [
        "../outside.bin",
        folder.path().join("outside.bin").to_str().unwrap(),
        "a/../../outside.bin",
        "..\\outside.bin",
    ] {
        let path = write(&folder, "model/m.onnx", &external(location, "4800"));
        let message = message(&path);
        assert!(
            message.contains("tensor 'w'") && message.contains("outside the model's folder"),
            "{location}: {message}"
        );
    }
}

#[test]
fn missing_and_short_external_data_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "m.onnx", &external("weights.bin", "4800"));
    assert!(message(&path).contains("cannot be opened"), "{}", message(&path));
    write(&folder, "weights.bin", &[0; 100]);
    let short = message(&path);
    assert!(short.contains("0..4800") && short.contains("has 100"), "{short}");
    write(&folder, "weights.bin", b"version https://git-lfs.github.com/spec/v1\n");
    assert!(message(&path).contains("git lfs pull"));
    write(&folder, "weights.bin", &[0; 4800]);
    assert!(Model::read(&path).is_ok());
}

#[test]
fn an_offset_that_is_no_number_is_named() {
    let folder = TempDir::new().unwrap();
    write(&folder, "weights.bin", &[0; 4800]);
    let message = message(&write(&folder, "m.onnx", &external("weights.bin", "-5")));
    assert!(message.contains("length '-5'"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_and_a_cache_of_links_into_one_folder_works() {
    use std::os::unix::fs::symlink;
    let folder = TempDir::new().unwrap();
    let sub = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (model, elsewhere) = (sub("model"), sub("elsewhere"));
    std::fs::write(elsewhere.join("w.bin"), [0; 4800]).unwrap();
    std::fs::write(model.join("m.onnx"), external("w.bin", "4800")).unwrap();
    symlink(elsewhere.join("w.bin"), model.join("w.bin")).unwrap();
    assert!(message(&model.join("m.onnx")).contains("is a link to"));

    let (blobs, snapshot) = (sub("blobs"), sub("snapshot"));
    std::fs::write(blobs.join("aaaa"), external("w.bin", "4800")).unwrap();
    std::fs::write(blobs.join("bbbb"), [0; 4800]).unwrap();
    symlink("../blobs/aaaa", snapshot.join("m.onnx")).unwrap();
    symlink("../blobs/bbbb", snapshot.join("w.bin")).unwrap();
    let cached = Model::read(snapshot.join("m.onnx")).unwrap();
    assert_eq!(cached.data_files(), ["bbbb"]);
    assert_eq!(cached.folder(), blobs.canonicalize().unwrap());
}

#[test]
fn a_model_is_written_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("is-a-folder");
    std::fs::create_dir(&target).unwrap();
    assert!(tiny().write(&target).unwrap_err().to_string().contains("is-a-folder"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["is-a-folder"], "no partial file stays behind");
}

/// The tiny model with something changed in its message.
fn changed(change: impl FnOnce(&mut pellucid_graph::onnx::ModelProto)) -> Vec<u8> {
    use prost::Message;
    let mut proto = pellucid_graph::onnx::ModelProto::decode(tiny().to_bytes().as_slice()).unwrap();
    change(&mut proto);
    proto.encode_to_vec()
}

#[test]
fn a_tensor_that_does_not_hold_what_its_shape_says_is_named() {
    let folder = TempDir::new().unwrap();
    for (dims, said) in [
        (vec![4, 301], "needs 1204 values, found 1200"),
        (vec![4, -300], "has a negative dimension"),
        (vec![i64::MAX, i64::MAX], "is larger than any memory"),
        (vec![1 << 62, 1], "is larger than any memory"),
        (vec![i64::MAX, 0], "needs 0 values, found 1200"),
        (vec![1; 65], "has more than 64 dimensions"),
    ] {
        let bytes = changed(|m| m.graph.as_mut().unwrap().initializer[0].dims = dims);
        let message = message(&write(&folder, "m.onnx", &bytes));
        assert!(message.contains("m.onnx: tensor 'w'") && message.contains(said), "{message}");
    }
}

#[test]
fn tensors_of_attributes_and_subgraphs_are_checked_as_weights_are() {
    use pellucid_graph::onnx::{AttributeProto, GraphProto, TensorProto};
    let folder = TempDir::new().unwrap();
    let bad = || TensorProto { dims: vec![-7], data_type: Some(1), ..TensorProto::default() };
    let inner = GraphProto { initializer: vec![bad()], ..GraphProto::default() };
    for attribute in [
        AttributeProto { name: Some("value".into()), t: Some(bad()), ..AttributeProto::default() },
        AttributeProto { name: Some("body".into()), g: Some(inner), ..AttributeProto::default() },
    ] {
        let bytes = changed(|m| m.graph.as_mut().unwrap().node[0].attribute.push(attribute));
        let message = message(&write(&folder, "m.onnx", &bytes));
        assert!(message.contains("negative dimension"), "{message}");
    }
}

#[test]
fn external_data_shorter_than_the_shape_is_named() {
    let folder = TempDir::new().unwrap();
    write(&folder, "w.bin", &[0; 4800]);
    let message = message(&write(&folder, "m.onnx", &external("w.bin", "4000")));
    assert!(message.contains("takes 4800 bytes") && message.contains("has 4000"), "{message}");
}

#[test]
fn a_graph_of_more_nodes_than_allowed_is_refused_before_it_is_decoded() {
    use pellucid_graph::onnx::{GraphProto, NodeProto};
    let folder = TempDir::new().unwrap();
    let many = || vec![NodeProto::default(); 5000];
    let budget = Budget::default().with(Limit::Nodes, 5000);
    let read = |bytes: &[u8]| Model::read_within(write(&folder, "m.onnx", bytes), &budget).unwrap_err().to_string();
    let message = read(&changed(|m| m.graph.as_mut().unwrap().node.extend(many())));
    assert!(message.contains("m.onnx: its graph is too large: 5001 nodes needed, 5000 nodes allowed"), "{message}");
    // In a subgraph.
    let body = GraphProto { node: many(), ..GraphProto::default() };
    let message = read(&changed(|m| {
        let attribute = pellucid_graph::onnx::AttributeProto { g: Some(body), ..Default::default() };
        m.graph.as_mut().unwrap().node[0].attribute.push(attribute);
    }));
    assert!(message.contains("5001 nodes needed"), "{message}");
}

#[test]
fn what_a_small_file_decodes_to_is_bounded() {
    use pellucid_graph::onnx::AttributeProto;
    let folder = TempDir::new().unwrap();
    // Two bytes each, and several hundred when they are decoded.
    let bytes = changed(|m| m.graph.as_mut().unwrap().node[0].attribute = vec![AttributeProto::default(); 400_000]);
    assert!(bytes.len() < 900_000);
    let budget = Budget::default().with(Limit::FileMemory, 64 << 20);
    let message = Model::read_within(write(&folder, "m.onnx", &bytes), &budget).unwrap_err().to_string();
    assert!(message.contains("its decoded graph is too large") && message.contains("`file_memory`"), "{message}");
}

#[test]
fn functions_that_double_with_each_call_are_refused() {
    use pellucid_graph::onnx::{FunctionProto, NodeProto};
    let folder = TempDir::new().unwrap();
    let call = |i: usize| NodeProto { op_type: Some(format!("f{i}")), domain: Some("d".into()), ..Default::default() };
    let function = |i: usize| FunctionProto {
        name: Some(format!("f{i}")),
        domain: Some("d".into()),
        node: if i == 0 { vec![NodeProto::default()] } else { vec![call(i - 1); 2] },
        ..FunctionProto::default()
    };
    let with = |functions: Vec<FunctionProto>, called: usize| {
        changed(|m| {
            m.functions = functions;
            let graph = m.graph.as_mut().unwrap();
            graph.node.push(call(called));
        })
    };
    let message = message(&write(&folder, "m.onnx", &with((0..40).map(function).collect(), 39)));
    assert!(message.contains("its functions, written out, are too large"), "{message}");
    // One that calls itself has no end.
    let round = FunctionProto { node: vec![call(0)], ..function(0) };
    let looped = write(&folder, "m.onnx", &with(vec![round], 0));
    assert!(Model::read(looped).unwrap_err().to_string().contains("more than 2^64"));
    let few = write(&folder, "m.onnx", &with((0..5).map(function).collect(), 4));
    assert!(Model::read(few).is_ok());
    // One name for all of them, told apart by their overloads; the last one is small.
    let overload = |i: usize| {
        let mut function = FunctionProto { name: Some("f".into()), overload: Some(i.to_string()), ..function(i) };
        for call in function.node.iter_mut().filter(|n| n.op_type.is_some()) {
            (call.op_type, call.overload) = (Some("f".into()), Some((i - 1).to_string()));
        }
        function
    };
    let hidden = changed(|m| {
        m.functions = (0..40).rev().map(overload).collect();
        let first = NodeProto { op_type: Some("f".into()), overload: Some("39".into()), ..call(0) };
        m.graph.as_mut().unwrap().node.push(first);
    });
    let message = self::message(&write(&folder, "m.onnx", &hidden));
    assert!(message.contains("its functions, written out, are too large"), "{message}");
}

#[test]
fn a_long_function_that_is_called_often_is_refused() {
    use pellucid_graph::onnx::{FunctionProto, NodeProto};
    let folder = TempDir::new().unwrap();
    let call = NodeProto { op_type: Some("f".into()), domain: Some("d".into()), ..NodeProto::default() };
    let body = NodeProto { name: Some("n".repeat(1 << 20)), ..NodeProto::default() };
    let function = FunctionProto {
        name: call.op_type.clone(),
        domain: call.domain.clone(),
        node: vec![body],
        ..Default::default()
    };
    let often = changed(|m| {
        m.functions = vec![function];
        m.graph.as_mut().unwrap().node.extend(vec![call; 2000]);
    });
    let message = message(&write(&folder, "m.onnx", &often));
    assert!(message.contains("its functions, written out, are too large"), "{message}");
}

#[test]
fn a_file_that_is_larger_than_any_message_is_not_read() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "m.onnx", b"");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
    assert!(message(&path).contains("larger than 2 GiB"));
    assert!(message(folder.path()).contains("not a regular file"));
}

#[test]
fn the_number_of_parameters_does_not_overflow() {
    let folder = TempDir::new().unwrap();
    let bytes = changed(|m| {
        let graph = m.graph.as_mut().unwrap();
        for name in ["a", "b", "c", "d"] {
            let mut strings = graph.initializer[0].clone();
            // 4-bit numbers, whose bytes are not compared with the shape.
            (strings.name, strings.data_type, strings.dims) = (Some(name.into()), Some(22), vec![1 << 58]);
            graph.initializer.push(strings);
        }
    });
    let model = Model::read(write(&folder, "m.onnx", &bytes)).unwrap();
    assert_eq!(model.graph.parameters(), (1 << 60) + 1200);
}

proptest::proptest! {
    #[test]
    fn random_damage_never_panics(at in 0usize..1000, byte in proptest::num::u8::ANY) {
        let folder = TempDir::new().unwrap();
        let mut bytes = tiny().to_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Model::read(write(&folder, "m.onnx", &bytes));
    }
}
