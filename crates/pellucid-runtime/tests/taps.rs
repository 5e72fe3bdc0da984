//! Taps are found by structure and verified by running: small graphs of every head, and the zoo's classifiers.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::{ElementType, Graph, HeadKind, Model, Node, TapNames, Tensor, Value};
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
fn behind_a_relu_between_conv_head_and_pooling_the_logits_stand_for_features() {
    let nodes = vec![
        Node::new("Conv", &["map", "w"], &["scores"]),
        Node::new("Relu", &["scores"], &["r"]),
        Node::new("GlobalAveragePool", &["r"], &["z"]),
    ];
    let t = tap(&model(nodes, vec![weights("w", &[4, 6, 1, 1])], &["z"])).unwrap();
    let reason = t.no_head.clone().unwrap();
    assert!(reason.contains("Relu") && !reason.contains("name an earlier layer"), "{reason}");
    assert_eq!((t.taps.layer.kind, t.taps.features.as_str()), (HeadKind::Absent, "z"));
    assert_eq!(t.weight, ndarray::Array2::<f32>::eye(4));
    // The class's own map of scores, which the pooling means.
    let map = t.map.unwrap();
    assert_eq!((map.value.as_str(), map.grid, map.pooling), ("r", [8, 8], Pooling::Mean));
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

/// Pooled features, normalised with their axes last as ConvNeXt does, and a head.
fn norm_behind_pooling(middle: Vec<Node>) -> Vec<Node> {
    let mut nodes = vec![
        Node::new("GlobalAveragePool", &["map"], &["p"]),
        Node::new("Transpose", &["p"], &["last"]).with_ints("perm", &[0, 2, 3, 1]),
        Node::new("LayerNormalization", &["last", "scale"], &["n"]).with_int("axis", -1),
        Node::new("Flatten", &["n"], &["f"]),
    ];
    nodes.extend(middle);
    nodes
}

#[test]
fn channels_behind_a_pooling_are_not_taken_for_places() {
    let scale = || Tensor::f32("scale", &[6], &[1.0, 2.0, 0.5, 1.5, 1.0, 0.7]);
    let direct = norm_behind_pooling(vec![Node::new("Gemm", &["f", "w"], &["z"])]);
    let deep = norm_behind_pooling(vec![
        Node::new("Gemm", &["f", "v"], &["h"]),
        Node::new("Gelu", &["h"], &["a"]),
        Node::new("Gemm", &["a", "w"], &["z"]),
    ]);
    for nodes in [direct, deep] {
        let graph = model(nodes, vec![scale(), weights("v", &[6, 6]), weights("w", &[6, 4])], &["z"]).graph;
        let m = Model::new("tiny.onnx", graph, 20);
        let map = tap(&m).unwrap().map.unwrap();
        assert_eq!((map.value.as_str(), map.grid, map.pooling), ("map", [8, 8], Pooling::Indirect));
    }
}

#[test]
fn tokens_of_a_wide_picture_have_its_grid() {
    // 4 × 16 = 64 tokens are not 8 × 8.
    let nodes = vec![
        Node::new("Conv", &["x", "k"], &["c"]).with_ints("strides", &[2, 2]),
        Node::new("Relu", &["c"], &["map"]),
        Node::new("Reshape", &["map", "shape"], &["r"]),
        Node::new("Transpose", &["r"], &["patches"]).with_ints("perm", &[0, 2, 1]),
        Node::new("Shape", &["x"], &["s"]).with_int("end", 1),
        Node::new("Concat", &["s", "rest"], &["target"]).with_int("axis", 0),
        Node::new("Expand", &["class", "target"], &["classes"]),
        Node::new("Concat", &["classes", "patches"], &["tokens"]).with_int("axis", 1),
        Node::new("Transpose", &["tokens"], &["channels"]).with_ints("perm", &[0, 2, 1]),
        Node::new("ReduceMean", &["channels"], &["f"]).with_ints("axes", &[2]).with_int("keepdims", 0),
        Node::new("Gemm", &["f", "w"], &["z"]),
    ];
    let constants = vec![
        weights("k", &[6, 3, 2, 2]),
        Tensor::i64("shape", &[3], &[0, 6, 64]),
        Tensor::i64("rest", &[2], &[1, 6]),
        weights("class", &[1, 1, 6]),
        weights("w", &[6, 4]),
    ];
    let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(8), Some(32)]);
    let t = tap(&Model::new("wide.onnx", Graph::new(vec![input], nodes, constants, &["z"]).unwrap(), 17)).unwrap();
    let map = t.map.unwrap();
    assert_eq!((map.value.as_str(), map.grid, map.first, map.pooling), ("tokens", [4, 16], 1, Pooling::Mean));
    // Token 1 + 16 row + column lies at (row, column).
    let values = ArrayD::from_shape_fn(IxDyn(&[1, 65, 6]), |i| i[1] as f32);
    assert_eq!(map.neuron(&values, 2).unwrap()[[0, 3, 5]], 1.0 + 16.0 * 3.0 + 5.0);
}

#[test]
fn a_head_that_reads_the_class_token_gets_the_last_tokens_that_reach_it() {
    // One layer of attention without softmax, then a norm of every token: the patches beside the class token say nothing more.
    let nodes = vec![
        Node::new("Reshape", &["map", "shape"], &["r"]),
        Node::new("Transpose", &["r"], &["patches"]).with_ints("perm", &[0, 2, 1]),
        Node::new("Shape", &["x"], &["s"]).with_int("end", 1),
        Node::new("Concat", &["s", "rest"], &["target"]).with_int("axis", 0),
        Node::new("Expand", &["class", "target"], &["classes"]),
        Node::new("Concat", &["classes", "patches"], &["tokens"]).with_int("axis", 1),
        Node::new("MatMul", &["tokens", "q"], &["queries"]),
        Node::new("Transpose", &["tokens"], &["keys"]).with_ints("perm", &[0, 2, 1]),
        Node::new("MatMul", &["queries", "keys"], &["scores"]),
        Node::new("Softmax", &["scores"], &["attention"]).with_int("axis", -1),
        Node::new("MatMul", &["attention", "tokens"], &["mixed"]),
        Node::new("Add", &["tokens", "mixed"], &["out"]),
        Node::new("LayerNormalization", &["out", "scale"], &["normed"]).with_int("axis", -1),
        Node::new("Gather", &["normed", "zero"], &["f"]).with_int("axis", 1),
        Node::new("Gemm", &["f", "w"], &["z"]),
    ];
    let constants = vec![
        Tensor::i64("shape", &[3], &[0, 6, 64]),
        Tensor::i64("rest", &[2], &[1, 6]),
        Tensor::i64("zero", &[], &[0]),
        weights("class", &[1, 1, 6]),
        weights("q", &[6, 6]),
        Tensor::f32("scale", &[6], &[1.0; 6]),
        weights("w", &[6, 4]),
    ];
    let map = tap(&model(nodes, constants, &["z"])).unwrap().map.unwrap();
    assert_eq!((map.value.as_str(), map.grid, map.first, map.pooling), ("tokens", [8, 8], 1, Pooling::Indirect));
}

#[test]
fn a_map_whose_places_cannot_be_traced_is_none_and_the_reason_is_said() {
    let nodes = vec![
        Node::new("Reshape", &["map", "shape"], &["r"]),
        Node::new("Transpose", &["r"], &["ordered"]).with_ints("perm", &[0, 2, 1]),
        // The places in another order: which is which, no rule says.
        Node::new("Gather", &["ordered", "order"], &["tokens"]).with_int("axis", 1),
        Node::new("Relu", &["tokens"], &["a"]),
        Node::new("ReduceMean", &["a"], &["f"]).with_ints("axes", &[1]).with_int("keepdims", 0),
        Node::new("Gemm", &["f", "w"], &["z"]),
    ];
    let order: Vec<i64> = (0..64).map(|i| (i * 37) % 64).collect();
    let constants =
        vec![Tensor::i64("shape", &[3], &[0, 6, 64]), Tensor::i64("order", &[64], &order), weights("w", &[6, 4])];
    let m = model(nodes, constants, &["z"]);
    let names = TapNames { feature_map: Some("tokens".into()), ..TapNames::default() };
    let t = verify_taps(&runtime(), &m, &names, None, None, &SessionOptions::default()).unwrap();
    assert!(t.map.is_none());
    assert!(t.no_map.as_ref().unwrap().contains("Gather"), "{:?}", t.no_map);
    // Unasked, the last values whose places are known serve: those in front of it.
    assert_eq!(tap(&m).unwrap().map.unwrap().value, "ordered");
}

#[test]
fn a_coarse_map_says_so() {
    let mut nodes = vec![
        Node::new("MaxPool", &["map"], &["small"]).with_ints("kernel_shape", &[4, 4]).with_ints("strides", &[4, 4]),
    ];
    nodes.push(Node::new("GlobalAveragePool", &["small"], &["p"]));
    nodes.push(Node::new("Flatten", &["p"], &["f"]));
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    let map = tap(&model(nodes, vec![weights("w", &[6, 4])], &["z"])).unwrap().map.unwrap();
    assert!(map.coarse().unwrap().contains("2×2"));
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    assert_eq!(tap(&model(nodes, vec![weights("w", &[6, 4])], &["z"])).unwrap().map.unwrap().coarse(), None);
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
fn without_a_linear_head_the_logits_stand_for_features_and_the_reason_is_kept() {
    let t = tap(&model(vec![Node::new("GlobalAveragePool", &["map"], &["z"])], vec![], &["z"])).unwrap();
    let reason = t.no_head.clone().unwrap();
    assert!(reason.contains("no linear head found"), "{reason}");
    assert_eq!((t.taps.layer.kind, t.features(), t.classes()), (HeadKind::Absent, 6, 6));
}

#[test]
fn a_map_of_answers_is_called_one() {
    let nodes = vec![Node::new("Conv", &["map", "w"], &["z"])];
    let error = tap(&model(nodes, vec![weights("w", &[4, 6, 1, 1])], &["z"])).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("1×4×8×8") && message.contains("segmentation"), "{message}");
}

/// W of the Gemm that the affine heads below begin with, C × d, and its b.
fn gemm_layer() -> (ndarray::Array2<f32>, Vec<f32>) {
    let w = ndarray::Array2::from_shape_vec((4, 6), weights("w", &[4, 6]).to_f32().unwrap()).unwrap();
    (w, weights("b1", &[4]).to_f32().unwrap())
}

/// The taps of pooled features, a Gemm, and `tail` from `g` to `z`.
fn with_tail(tail: Vec<Node>, constants: Vec<Tensor>) -> TappedModel {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w", "b1"], &["g"]).with_int("transB", 1));
    nodes.extend(tail);
    let mut all = vec![weights("w", &[4, 6]), weights("b1", &[4])];
    all.extend(constants);
    tap(&model(nodes, all, &["z"])).unwrap()
}

fn close(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= 1e-5 * (1.0 + expected.abs())
}

#[test]
fn affine_operators_behind_the_layer_are_folded_into_its_weights() {
    let (w, b) = gemm_layer();
    let scalar = |v: f32| Tensor::f32("t", &[], &[v]);
    type Row = (Vec<Node>, Vec<Tensor>, fn(f32, usize) -> f32, fn(f32, usize) -> f32);
    let rows: Vec<Row> = vec![
        // A temperature.
        (vec![Node::new("Div", &["g", "t"], &["z"])], vec![scalar(1.7)], |w, _| w / 1.7, |b, _| b / 1.7),
        // A prior.
        (
            vec![Node::new("Sub", &["g", "prior"], &["z"])],
            vec![Tensor::f32("prior", &[4], &[0.1, 0.2, 0.3, 0.4])],
            |w, _| w,
            |b, c| b - [0.1, 0.2, 0.3, 0.4][c],
        ),
        // Batch normalisation: (g − 1) / 2 · 3 + 4.
        (
            vec![Node::new("BatchNormalization", &["g", "s", "o", "m", "v"], &["z"]).with_float("epsilon", 0.0)],
            vec![
                Tensor::f32("s", &[4], &[3.0; 4]),
                Tensor::f32("o", &[4], &[4.0; 4]),
                Tensor::f32("m", &[4], &[1.0; 4]),
                Tensor::f32("v", &[4], &[4.0; 4]),
            ],
            |w, _| 1.5 * w,
            |b, _| 1.5 * (b - 1.0) + 4.0,
        ),
    ];
    for (tail, constants, weight, bias) in rows {
        let op = tail[0].op().to_owned();
        let t = with_tail(tail, constants);
        assert_eq!((t.taps.layer.kind, t.taps.features.as_str(), t.features()), (HeadKind::Folded, "f", 6), "{op}");
        for c in 0..4 {
            assert!(close(t.bias[c], bias(b[c], c)), "{op}: b[{c}] is {}", t.bias[c]);
            (0..6).for_each(|j| assert!(close(t.weight[[c, j]], weight(w[[c, j]], c)), "{op}: W[{c},{j}]"));
        }
        assert!(t.map.unwrap().is_direct());
    }
}

#[test]
fn logits_in_another_order_have_their_rows_in_that_order() {
    let (w, b) = gemm_layer();
    let t = with_tail(
        vec![Node::new("Gather", &["g", "i"], &["z"]).with_int("axis", 1)],
        vec![Tensor::i64("i", &[4], &[2, 0, 3, 1])],
    );
    for (row, from) in [2, 0, 3, 1].into_iter().enumerate() {
        assert!(close(t.bias[row], b[from]) && close(t.weight[[row, 5]], w[[from, 5]]));
    }
}

#[test]
fn an_einsum_is_a_layer() {
    let mut nodes = pooled();
    nodes.push(Node::new("Einsum", &["f", "w"], &["z"]).with_string("equation", "nd,cd->nc"));
    let t = tap(&model(nodes, vec![weights("w", &[4, 6])], &["z"])).unwrap();
    assert!(close(t.weight[[3, 4]], gemm_layer().0[[3, 4]]));
}

#[test]
fn the_mean_of_two_heads_on_one_feature_is_the_mean_layer() {
    let (w, b) = gemm_layer();
    let other = weights("other", &[4, 6]).to_f32().unwrap();
    let t = with_tail(
        vec![
            Node::new("Gemm", &["f", "other"], &["h"]).with_int("transB", 1),
            Node::new("Add", &["g", "h"], &["sum"]),
            Node::new("Div", &["sum", "two"], &["z"]),
        ],
        vec![weights("other", &[4, 6]), Tensor::f32("two", &[], &[2.0])],
    );
    assert_eq!(t.features(), 6);
    assert!(close(t.weight[[1, 2]], 0.5 * (w[[1, 2]] + other[8])));
    assert!(close(t.bias[3], 0.5 * b[3]));
}

#[test]
fn the_mean_of_two_heads_on_two_features_is_one_layer_on_both() {
    let (w, _) = gemm_layer();
    let other = weights("other", &[4, 6]).to_f32().unwrap();
    let t = with_tail(
        vec![
            Node::new("GlobalMaxPool", &["map"], &["most"]),
            Node::new("Flatten", &["most"], &["f2"]),
            Node::new("Gemm", &["f2", "other"], &["h"]).with_int("transB", 1),
            Node::new("Mean", &["g", "h"], &["z"]),
        ],
        vec![weights("other", &[4, 6])],
    );
    assert_eq!(t.weight.dim(), (4, 12));
    assert!(close(t.weight[[1, 2]], 0.5 * w[[1, 2]]) && close(t.weight[[1, 8]], 0.5 * other[8]));
    assert_eq!(t.map.unwrap().value, "map");
}

#[test]
fn a_mean_over_tokens_of_a_layer_has_the_mean_tokens_as_features() {
    let nodes = vec![
        Node::new("Reshape", &["map", "shape"], &["r"]),
        Node::new("Transpose", &["r"], &["tokens"]).with_ints("perm", &[0, 2, 1]),
        Node::new("MatMul", &["tokens", "w"], &["scores"]),
        Node::new("ReduceMean", &["scores"], &["z"]).with_ints("axes", &[1]).with_int("keepdims", 0),
    ];
    let t = tap(&model(nodes, vec![Tensor::i64("shape", &[3], &[0, 6, 64]), weights("w", &[6, 4])], &["z"])).unwrap();
    let map = t.map.unwrap();
    assert_eq!(
        (map.value.as_str(), map.grid, map.layout, map.pooling),
        ("tokens", [8, 8], Layout::Tokens, Pooling::Mean)
    );
    assert!(close(t.weight[[1, 0]], weights("w", &[6, 4]).to_f32().unwrap()[1]));
}

#[test]
fn features_of_a_normalised_head_are_those_behind_the_normalisation() {
    let mut nodes = pooled();
    nodes.push(Node::new("LpNormalization", &["f"], &["n"]).with_int("axis", 1));
    nodes.push(Node::new("MatMul", &["n", "w"], &["cosine"]));
    nodes.push(Node::new("Mul", &["cosine", "s"], &["z"]));
    let t = tap(&model(nodes, vec![weights("w", &[6, 4]), Tensor::f32("s", &[], &[16.0])], &["z"])).unwrap();
    assert_eq!((t.taps.features.as_str(), t.map.unwrap().pooling), ("n", Pooling::Indirect));
    assert!(close(t.weight[[0, 0]], 16.0 * weights("w", &[6, 4]).to_f32().unwrap()[0]));
}

#[test]
fn small_logits_do_not_pass_for_linear_because_they_are_small() {
    // The pooling leaves the last row and column out, so the mean of all places is not what the head reads.
    for scale in [1.0, 1e-3, 1e-6] {
        let nodes = vec![
            Node::new("Conv", &["map", "w"], &["scores"]),
            Node::new("AveragePool", &["scores"], &["z"])
                .with_ints("kernel_shape", &[7, 7])
                .with_ints("strides", &[7, 7]),
        ];
        let small: Vec<f32> = weights("w", &[4, 6, 1, 1]).to_f32().unwrap().iter().map(|w| w * scale).collect();
        let t = tap(&model(nodes.clone(), vec![Tensor::f32("w", &[4, 6, 1, 1], &small)], &["z"])).unwrap();
        assert_eq!((t.no_head.clone(), t.map.as_ref().unwrap().pooling), (None, Pooling::Indirect), "{scale}");
        assert!(t.linear_error <= 1e-5 * scale, "{scale}: {}", t.linear_error);
        let names = TapNames { features: Some("all".into()), ..TapNames::default() };
        let mut wrong = nodes;
        wrong.push(Node::new("GlobalAveragePool", &["map"], &["all"]));
        wrong.push(Node::new("Identity", &["all"], &["unused"]));
        let m = model(wrong, vec![Tensor::f32("w", &[4, 6, 1, 1], &small)], &["z", "unused"]);
        let error = verify_taps(
            &runtime(),
            &m,
            &TapNames { logits: Some("z".into()), ..names },
            None,
            None,
            &SessionOptions::default(),
        );
        assert!(matches!(error, Err(TapsError::NotLinear { .. })), "{scale}: {error:?}");
    }
}

#[test]
fn logits_that_are_not_the_models_output_are_told_apart() {
    let mut nodes = pooled();
    nodes.push(Node::new("Gemm", &["f", "w"], &["g"]));
    nodes.push(Node::new("Div", &["g", "t"], &["y"]));
    nodes.push(Node::new("Softmax", &["y"], &["z"]));
    let m = model(nodes, vec![weights("w", &[6, 4]), Tensor::f32("t", &[], &[1.7])], &["z"]);
    let named = |logits: &str| {
        let names = TapNames { logits: Some(logits.into()), ..TapNames::default() };
        verify_taps(&runtime(), &m, &names, None, None, &SessionOptions::default()).unwrap().apart
    };
    assert_eq!((named("g"), named("y"), named("z")), (true, false, false));
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
    assert_eq!((t.weight[[0, 0]], t.widened), (1.0, true));
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
