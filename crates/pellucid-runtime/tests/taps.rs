//! Taps are found by structure and verified by running: small graphs of every head, and the zoo's classifiers.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::{ElementType, Graph, HeadKind, Model, Node, TapError, TapNames, Tensor, Value};
use pellucid_runtime::{Layout, Pooling, SessionOptions, TappedModel, TapsError, verify_taps};
use std::path::{Path, PathBuf};

fn weights(name: &str, shape: &[usize]) -> Tensor {
    Tensor::f32(name, shape, &numbers(shape.iter().product(), name.len() as u32))
}

fn picture_input(batch: Option<i64>) -> Value {
    Value::tensor("x", ElementType::F32, &[batch, Some(3), Some(8), Some(8)])
}

/// A backbone of one Conv with ReLU, 3 → 6 channels, and whatever head follows its output `map`.
fn model(head: Vec<Node>, constants: Vec<Tensor>, outputs: &[&str]) -> Model {
    let mut nodes = vec![
        Node::new("Conv", &["x", "k"], &["c"]).with_ints("pads", &[1, 1, 1, 1]),
        Node::new("Relu", &["c"], &["map"]),
    ];
    nodes.extend(head);
    let mut all = vec![weights("k", &[6, 3, 3, 3])];
    all.extend(constants);
    Model::new("tiny.onnx", Graph::new(vec![picture_input(None)], nodes, all, outputs).unwrap(), 17)
}

fn pooled() -> Vec<Node> {
    vec![Node::new("GlobalAveragePool", &["map"], &["p"]), Node::new("Flatten", &["p"], &["f"])]
}

fn tap(model: &Model) -> Result<TappedModel, TapsError> {
    verify_taps(&runtime(), model, &TapNames::default(), None, None, &SessionOptions::default())
}

#[test]
fn a_gemm_head_is_found_with_its_features_and_its_feature_map() {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w", "b"], &["z"]).with_int("transB", 1));
    let t = tap(&model(nodes, vec![weights("w", &[4, 6]), weights("b", &[4])], &["z"])).unwrap();
    assert_eq!((t.taps.features.as_str(), t.taps.logits.as_str()), ("f", "z"));
    assert_eq!((t.classes(), t.features()), (4, 6));
    let map = t.map.unwrap();
    assert_eq!((map.value.as_str(), map.pooling, map.layout), ("map", Pooling::Mean, Layout::ChannelsFirst));
}

#[test]
fn matmul_and_add_behind_a_softmax_is_a_head() {
    let mut nodes = pooled();
    nodes.push(Node::new("MatMul", &["f", "w"], &["m"]));
    nodes.push(Node::new("Add", &["b", "m"], &["z"]));
    nodes.push(Node::new("Softmax", &["z"], &["p2"]).with_int("axis", 1));
    let t = tap(&model(nodes, vec![weights("w", &[6, 4]), weights("b", &[4])], &["p2"])).unwrap();
    assert_eq!(t.taps.logits, "z");
    assert_eq!(t.taps.head, pellucid_graph::Head::Softmax);
    assert_eq!(t.weight.dim(), (4, 6));
}

#[test]
fn gemm_factors_are_part_of_the_weights() {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w", "b"], &["z"]).with_float("alpha", 0.5).with_float("beta", 2.0));
    let (w, b) = (weights("w", &[6, 4]), weights("b", &[4]));
    let (w0, b0) = (w.to_f32().unwrap()[0], b.to_f32().unwrap()[0]);
    let t = tap(&model(nodes, vec![w, b], &["z"])).unwrap();
    assert_eq!((t.weight[[0, 0]], t.bias[0]), (0.5 * w0, 2.0 * b0));
}

#[test]
fn a_conv_head_before_pooling_gets_pooled_features_added() {
    let nodes = vec![
        Node::new("Conv", &["map", "w", "b"], &["scores"]),
        Node::new("GlobalAveragePool", &["scores"], &["p"]),
        Node::new("Flatten", &["p"], &["z"]),
    ];
    let t = tap(&model(nodes, vec![weights("w", &[4, 6, 1, 1]), weights("b", &[4])], &["z"])).unwrap();
    assert_eq!(t.taps.layer.kind, HeadKind::PooledConv);
    assert_eq!(t.features(), 6);
    assert_eq!(t.map.unwrap().pooling, Pooling::Mean);
}

#[test]
fn a_relu_between_conv_head_and_pooling_is_refused_by_name() {
    let nodes = vec![
        Node::new("Conv", &["map", "w"], &["scores"]),
        Node::new("Relu", &["scores"], &["r"]),
        Node::new("GlobalAveragePool", &["r"], &["z"]),
    ];
    let error = tap(&model(nodes, vec![weights("w", &[4, 6, 1, 1])], &["z"])).unwrap_err();
    assert!(
        matches!(&error, TapsError::Structure { source: TapError::NonLinearPooling { between, .. }, .. } if between.contains("Relu")),
        "{error}"
    );
}

#[test]
fn a_conv_head_on_pooled_features_is_a_linear_layer() {
    let nodes = vec![
        Node::new("GlobalMaxPool", &["map"], &["p"]),
        Node::new("Conv", &["p", "w"], &["s"]),
        Node::new("Flatten", &["s"], &["z"]),
    ];
    let t = tap(&model(nodes, vec![weights("w", &[4, 6, 1, 1])], &["z"])).unwrap();
    assert_eq!(t.taps.layer.kind, HeadKind::PointwiseConv);
    assert_eq!(t.map.unwrap().pooling, Pooling::Max);
}

#[test]
fn a_token_that_the_head_reads_is_recognised() {
    let nodes = vec![
        Node::new("Reshape", &["map", "shape"], &["r"]),
        Node::new("Transpose", &["r"], &["tokens"]).with_ints("perm", &[0, 2, 1]),
        Node::new("Gather", &["tokens", "zero"], &["f"]).with_int("axis", 1),
        Node::new("Gemm", &["f", "w"], &["z"]),
    ];
    let constants =
        vec![Tensor::i64("shape", &[3], &[0, 6, 64]), Tensor::i64("zero", &[], &[0]), weights("w", &[6, 4])];
    let t = tap(&model(nodes, constants, &["z"])).unwrap();
    let map = t.map.unwrap();
    assert_eq!((map.layout, map.pooling), (Layout::Tokens, Pooling::Token(0)));
}

#[test]
fn layers_between_pooling_and_head_make_the_map_indirect() {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "v"], &["h"]));
    nodes.push(Node::new("HardSwish", &["h"], &["g"]));
    nodes.push(Node::new("Gemm", &["g", "w"], &["z"]));
    let t = tap(&model(nodes, vec![weights("v", &[6, 6]), weights("w", &[6, 4])], &["z"])).unwrap();
    assert_eq!(t.taps.features, "g");
    assert_eq!(t.map.unwrap().pooling, Pooling::Indirect);
}

#[test]
fn a_model_without_a_linear_head_is_refused() {
    let error = tap(&model(vec![Node::new("GlobalAveragePool", &["map"], &["z"])], vec![], &["z"])).unwrap_err();
    assert!(error.to_string().contains("no linear head found"), "{error}");
}

#[test]
fn two_heads_are_ambiguous_until_one_is_named() {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w"], &["z1"]));
    nodes.push(Node::new("Gemm", &["f", "v"], &["z2"]));
    let m = model(nodes, vec![weights("w", &[6, 4]), weights("v", &[6, 2])], &["z1", "z2"]);
    let message = tap(&m).unwrap_err().to_string();
    assert!(message.contains("'z1'") && message.contains("'z2'") && message.contains("`logits`"), "{message}");
    let names = TapNames { logits: Some("z2".into()), ..TapNames::default() };
    let t = verify_taps(&runtime(), &m, &names, None, None, &SessionOptions::default()).unwrap();
    assert_eq!(t.classes(), 2);
}

#[test]
fn naming_features_that_the_head_is_not_linear_in_is_refused_by_measurement() {
    let mut nodes = pooled();
    nodes.push(Node::new("Tanh", &["f"], &["g"]));
    nodes.push(Node::new("Gemm", &["g", "w"], &["z"]));
    let names = TapNames { features: Some("f".into()), ..TapNames::default() };
    let m = model(nodes, vec![weights("w", &[6, 4])], &["z"]);
    let error = verify_taps(&runtime(), &m, &names, None, None, &SessionOptions::default()).unwrap_err();
    assert!(matches!(error, TapsError::NotLinear { .. }), "{error}");
}

#[test]
fn a_misspelt_name_gets_a_suggestion() {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w"], &["logits"]));
    let names = TapNames { logits: Some("logit".into()), ..TapNames::default() };
    let m = model(nodes, vec![weights("w", &[6, 4])], &["logits"]);
    let error = verify_taps(&runtime(), &m, &names, None, None, &SessionOptions::default()).unwrap_err();
    assert!(error.to_string().contains("did you mean 'logits'"), "{error}");
}

#[test]
fn an_integer_head_is_refused_by_name() {
    let mut nodes = pooled();
    nodes.push(Node::new("DynamicQuantizeLinear", &["f"], &["q", "s", "zp"]));
    nodes.push(Node::new("MatMulInteger", &["q", "w", "zp"], &["i"]));
    nodes.push(Node::new("Cast", &["i"], &["z"]).with_int("to", 1));
    let w = Tensor::raw("w", ElementType::I8, &[6, 4], vec![3u8; 24].into());
    let error = tap(&model(nodes, vec![w], &["z"])).unwrap_err();
    assert!(error.to_string().contains("runs in integers"), "{error}");
}

#[test]
fn a_head_with_quantised_weights_is_read_through_dequantisation() {
    let mut nodes = pooled();
    nodes.push(Node::new("DequantizeLinear", &["q", "s", "zp"], &["w"]));
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    let q = Tensor::raw("q", ElementType::I8, &[6, 4], (0..24u8).collect::<Vec<_>>().into());
    let constants = vec![q, Tensor::f32("s", &[], &[0.5]), Tensor::raw("zp", ElementType::I8, &[], vec![4u8].into())];
    let t = tap(&model(nodes, constants, &["z"])).unwrap();
    assert_eq!(t.weight[[1, 0]], (1.0 - 4.0) * 0.5);
}

#[test]
fn a_half_precision_model_is_fed_and_read_as_float32() {
    let nodes = vec![
        Node::new("Conv", &["x", "k"], &["map"]),
        Node::new("GlobalAveragePool", &["map"], &["p"]),
        Node::new("Flatten", &["p"], &["f"]),
        Node::new("Gemm", &["f", "w"], &["z"]),
    ];
    let half = |name: &str, shape: &[usize]| {
        let one = 0x3c00u16.to_le_bytes();
        let count: usize = shape.iter().product();
        Tensor::raw(name, ElementType::F16, shape, one.repeat(count).into())
    };
    let input = Value::tensor("x", ElementType::F16, &[None, Some(3), Some(8), Some(8)]);
    let graph = Graph::new(vec![input], nodes, vec![half("k", &[6, 3, 1, 1]), half("w", &[6, 4])], &["z"]).unwrap();
    let t = tap(&Model::new("half.onnx", graph, 17)).unwrap();
    assert_eq!(t.weight[[0, 0]], 1.0);
}

#[test]
fn a_baked_batch_of_one_gives_the_rows_of_a_free_batch() {
    let head = || {
        let mut nodes = pooled();
        nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
        nodes
    };
    let free = model(head(), vec![weights("w", &[6, 4])], &["z"]);
    let mut baked = free.clone();
    baked.graph.inputs = vec![picture_input(Some(1))];
    let pictures = ArrayD::from_shape_vec(IxDyn(&[3, 3, 8, 8]), numbers(3 * 3 * 64, 9)).unwrap();
    let rows = |m: &Model| {
        let t = tap(m).unwrap();
        let mut s = t.session(&runtime(), &SessionOptions::default(), 1 << 30, 16, false).unwrap();
        s.run(&pictures).unwrap()
    };
    let (a, b) = (rows(&free), rows(&baked));
    assert_eq!(a[0].shape(), [3, 4]);
    assert!(a.iter().zip(&b).all(|(a, b)| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-5)));
}

#[test]
fn a_free_picture_size_asks_for_it() {
    let mut m = model(pooled(), vec![], &["f"]);
    m.graph.nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    m.graph.initializers.insert("w".into(), weights("w", &[6, 4]));
    m.graph.outputs = vec![Value::untyped("z")];
    m.graph.inputs = vec![Value::tensor("x", ElementType::F32, &[None, Some(3), None, None])];
    let error = tap(&m).unwrap_err();
    assert!(error.to_string().contains("`input_shape` x=1,3,224,224"), "{error}");
    let t =
        verify_taps(&runtime(), &m, &TapNames::default(), Some(&[3, 8, 8]), None, &SessionOptions::default()).unwrap();
    assert_eq!(t.input_shape, [1, 3, 8, 8]);
}

/// The zoo's model `name`, wherever its folder keeps it.
fn zoo(name: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models");
    let mut open = vec![models];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|n| n == name) {
                return path;
            }
        }
    }
    panic!("zoo/models holds no {name}");
}

#[test]
fn the_zoo_classifiers_have_verified_taps() {
    for (file, d, kind) in
        [("efficientnet_lite0.onnx", 1280, HeadKind::Linear), ("squeezenet1_1.onnx", 512, HeadKind::PooledConv)]
    {
        let t = tap(&Model::read(zoo(file)).unwrap()).unwrap();
        assert_eq!((t.classes(), t.features(), t.taps.layer.kind), (1000, d, kind), "{file}");
        assert_eq!(t.map.unwrap().pooling, Pooling::Mean, "{file}");
        assert!(t.linear_error < 1e-3, "{file}: {}", t.linear_error);
    }
}
