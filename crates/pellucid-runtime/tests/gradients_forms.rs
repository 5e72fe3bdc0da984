//! Forms that models come in: fixed batches, two models in one graph, objectives over intermediate values.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, Axis, IxDyn};
use pellucid_graph::grad::{self, Objective};
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::{Array, GradientOptions, GradientSession, SessionOptions};

fn array(shape: &[usize], seed: u32) -> Array {
    Array::F32(ArrayD::from_shape_vec(IxDyn(shape), numbers(shape.iter().product(), seed)).unwrap())
}

fn weights(name: &str, shape: &[usize], seed: u32) -> Tensor {
    Tensor::f32(name, shape, &numbers(shape.iter().product(), seed))
}

fn gradient(model: &Model, objective: &Objective, wrt: &[&str]) -> GradientSession {
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    runtime().gradient(model, objective, wrt, &GradientOptions { session, ..GradientOptions::default() }).unwrap()
}

fn close(a: &ArrayD<f32>, b: &ArrayD<f32>, bound: f32) {
    assert_eq!(a.shape(), b.shape());
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst <= bound, "off by {worst:e}");
}

/// A small transformer-like model exported at batch 1: a class token, reshapes with the batch written out.
fn fixed_batch() -> Model {
    let constants = vec![
        weights("token", &[1, 1, 6], 1),
        weights("w", &[6, 6], 2),
        Tensor::i64("heads", &[4], &[1, 5, 2, 3]),
        Tensor::i64("flat", &[3], &[1, -1, 6]),
    ];
    let nodes = vec![
        Node::new("Concat", &["token", "x"], &["t"]).with_int("axis", 1),
        Node::new("MatMul", &["t", "w"], &["q"]),
        Node::new("Reshape", &["q", "heads"], &["h"]),
        Node::new("Softmax", &["h"], &["s"]).with_int("axis", 1),
        Node::new("Reshape", &["s", "flat"], &["y"]),
    ];
    let x = Value::tensor("x", ElementType::F32, &[Some(1), Some(4), Some(6)]);
    Model::new("fixed.onnx", Graph::new(vec![x], nodes, constants, &["y"]).unwrap(), 18)
}

#[test]
fn a_fixed_batch_is_freed_when_samples_stay_apart() {
    let wide = runtime().make_batch_dynamic(&fixed_batch()).unwrap();
    let mut session = gradient(&wide, &Objective::value("y").select(1, 0).sum(), &["x"]);
    let x = array(&[3, 4, 6], 9);
    let together = session.run(&[("x", &x)]).unwrap();
    for sample in 0..3 {
        let row = x.as_f32().unwrap().index_axis(Axis(0), sample).insert_axis(Axis(0)).to_owned();
        let alone = session.run(&[("x", &Array::F32(row))]).unwrap();
        let whole =
            together.gradients["x"].as_f32().unwrap().index_axis(Axis(0), sample).insert_axis(Axis(0)).to_owned();
        close(&whole, alone.gradients["x"].as_f32().unwrap(), 1e-6);
    }
}

#[test]
fn a_fixed_batch_that_mixes_samples_is_refused() {
    let nodes =
        vec![Node::new("ReduceMean", &["x"], &["m"]).with_int("keepdims", 1), Node::new("Sub", &["x", "m"], &["y"])];
    let x = Value::tensor("x", ElementType::F32, &[Some(1), Some(4)]);
    let model = Model::new("mixes.onnx", Graph::new(vec![x], nodes, vec![], &["y"]).unwrap(), 18);
    let message = runtime().make_batch_dynamic(&model).unwrap_err().to_string();
    assert!(message.contains("fixed at 1") && message.contains("'y'") && message.contains("differs"), "{message}");
}

#[test]
fn a_free_batch_needs_no_widening() {
    let nodes = vec![Node::new("Relu", &["x"], &["y"])];
    let x = Value::tensor("x", ElementType::F32, &[None, Some(4)]);
    let model = Model::new("free.onnx", Graph::new(vec![x], nodes, vec![], &["y"]).unwrap(), 18);
    assert_eq!(runtime().make_batch_dynamic(&model).unwrap().graph, model.graph);
}

fn linear(path: &str, from: usize, to: usize, seed: u32) -> Model {
    let nodes = vec![Node::new("MatMul", &["x", "w"], &["h"]), Node::new("Tanh", &["h"], &["y"])];
    let x = Value::tensor("x", ElementType::F32, &[None, Some(from as i64)]);
    let graph = Graph::new(vec![x], nodes, vec![weights("w", &[from, to], seed)], &["y"]).unwrap();
    grad::prepare(&Model::new(path, graph, 18), &["h", "y"]).unwrap()
}

#[test]
fn two_models_share_an_input_and_an_objective() {
    let (a, b) = (linear("a.onnx", 4, 3, 1), linear("b.onnx", 4, 3, 2));
    let both = grad::join(&a, &b, "second.", &[("x", "x")]).unwrap();
    assert_eq!(both.graph.inputs.len(), 1);
    let product = Objective::value("y").dot(Objective::value("second.y"));
    let x = array(&[2, 4], 5);
    let joint = gradient(&both, &product, &["x"]).run(&[("x", &x)]).unwrap();
    // The product rule, by hand: each model's gradient of its outputs weighted with the other's outputs.
    let alone = |model: &Model, weight: &Array| {
        let weighted = Objective::value("y").dot(Objective::input("r", &[3]));
        gradient(model, &weighted, &["x"]).run(&[("x", &x), ("r", weight)]).unwrap()
    };
    let (ya, yb) = (joint.outputs["y"].clone(), joint.outputs["second.y"].clone());
    let (ga, gb) = (alone(&a, &yb), alone(&b, &ya));
    let sum = ga.gradients["x"].as_f32().unwrap() + gb.gradients["x"].as_f32().unwrap();
    close(joint.gradients["x"].as_f32().unwrap(), &sum, 1e-5);
}

#[test]
fn a_chain_differentiates_through_both_models() {
    let (a, b) = (linear("a.onnx", 4, 3, 1), linear("b.onnx", 3, 2, 2));
    let chain = grad::join(&a, &b, "second.", &[("y", "x")]).unwrap();
    let x = array(&[2, 4], 5);
    let run = gradient(&chain, &Objective::value("second.y").sum(), &["x", "y"]).run(&[("x", &x)]).unwrap();
    let inner = run.gradients["y"].clone();
    let weighted = Objective::value("y").dot(Objective::input("r", &[3]));
    let outer = gradient(&a, &weighted, &["x"]).run(&[("x", &x), ("r", &inner)]).unwrap();
    close(run.gradients["x"].as_f32().unwrap(), outer.gradients["x"].as_f32().unwrap(), 1e-6);
}

#[test]
fn joining_names_what_does_not_fit() {
    let (a, b) = (linear("a.onnx", 4, 3, 1), linear("b.onnx", 4, 3, 2));
    let message = |prefix: &str, pairs: &[(&str, &str)]| grad::join(&a, &b, prefix, pairs).unwrap_err().to_string();
    assert!(message("", &[("x", "x")]).contains("choose another prefix"));
    assert!(message("b.", &[("x", "picture")]).contains("which are x"));
    assert!(message("b.", &[("z", "x")]).contains("no value 'z'"));
}

#[test]
fn values_in_between_get_gradients_and_batch_norm_stays_where_asked() {
    let constants = vec![
        weights("w", &[4, 3, 3, 3], 1),
        Tensor::f32("s", &[4], &[0.5, 1.0, 1.5, 2.0]),
        Tensor::f32("o", &[4], &[0.1; 4]),
        Tensor::f32("m", &[4], &[0.0; 4]),
        Tensor::f32("v", &[4], &[1.0, 2.0, 3.0, 4.0]),
    ];
    let nodes = vec![
        Node::new("Conv", &["x", "w"], &["c"]),
        Node::new("BatchNormalization", &["c", "s", "o", "m", "v"], &["n"]),
        Node::new("Relu", &["n"], &["y"]),
    ];
    let x = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(6), Some(6)]);
    let model = Model::new("bn.onnx", Graph::new(vec![x], nodes, constants, &["y"]).unwrap(), 18);
    let picture = array(&[2, 3, 6, 6], 3);
    let folded = gradient(&model, &Objective::value("y").sum(), &["x"]);
    let ops = folded.model().model.graph.operator_counts();
    assert!(!ops.contains_key("BatchNormalization"), "{ops:?}");
    let mut folded = folded;
    let mut kept = gradient(&model, &Objective::value("y").sum(), &["x", "c"]);
    assert!(kept.model().model.graph.operator_counts().contains_key("BatchNormalization"));
    let (a, b) = (folded.run(&[("x", &picture)]).unwrap(), kept.run(&[("x", &picture)]).unwrap());
    close(a.gradients["x"].as_f32().unwrap(), b.gradients["x"].as_f32().unwrap(), 1e-5);
    assert_eq!(b.gradients["c"].shape(), [2, 4, 4, 4]);
}

#[test]
fn objectives_can_be_masked_detached_and_stored_as_data() {
    let model = linear("a.onnx", 4, 3, 1);
    let y = || Objective::value("y");
    let objective = (y() * Objective::shared_input("mask", &[1, 3])).sum() * y().sum().detach();
    let mut session = gradient(&model, &objective, &["x"]);
    let (x, mask) =
        (array(&[2, 4], 5), Array::F32(ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![1.0, 0.0, 2.0]).unwrap()));
    let run = session.run(&[("x", &x), ("mask", &mask)]).unwrap();
    // Without the detached factor, scaled afterwards.
    let plain = (y() * Objective::shared_input("mask", &[1, 3])).sum();
    let base = gradient(&model, &plain, &["x"]).run(&[("x", &x), ("mask", &mask)]).unwrap();
    let mut expected = base.gradients["x"].as_f32().unwrap().clone();
    let sums = base.outputs["y"].as_f32().unwrap().sum_axis(Axis(1));
    expected.outer_iter_mut().zip(&sums).for_each(|(mut row, s)| row *= *s);
    close(run.gradients["x"].as_f32().unwrap(), &expected, 1e-5);
}

#[test]
fn cosines_and_norms_have_the_textbook_gradient() {
    let model = linear("a.onnx", 4, 3, 1);
    let objective = Objective::value("y").cosine(Objective::input("text", &[3]));
    let mut session = gradient(&model, &objective, &["y"]);
    let (x, text) = (array(&[2, 4], 5), array(&[2, 3], 8));
    let run = session.run(&[("x", &x), ("text", &text)]).unwrap();
    let (y, t) = (run.outputs["y"].as_f32().unwrap(), text.as_f32().unwrap());
    let expected = ArrayD::from_shape_fn(IxDyn(&[2, 3]), |i| {
        let (y, t) = (y.index_axis(Axis(0), i[0]), t.index_axis(Axis(0), i[0]));
        let dot = |a: &ndarray::ArrayViewD<'_, f32>, b: &ndarray::ArrayViewD<'_, f32>| (a * b).sum();
        let (ny, nt) = (dot(&y, &y).sqrt(), dot(&t, &t).sqrt());
        t[i[1]] / (ny * nt) - dot(&y, &t) * y[i[1]] / (ny.powi(3) * nt)
    });
    close(run.gradients["y"].as_f32().unwrap(), &expected, 1e-5);
}
