//! What cannot be differentiated is refused with its name and the reason, and only if it matters.

#![allow(clippy::unwrap_used)]

mod common;

use common::runtime;
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::grad::{self, GradientError, Index, Objective};
use pellucid_graph::{ElementType, Graph, GraphError, Model, Node, Tensor, Value};
use pellucid_runtime::{Array, GradientOptions, GradientSession, GradientsError, SessionOptions};

fn input(dims: &[Option<i64>]) -> Value {
    Value::tensor("x", ElementType::F32, dims)
}

/// A model of N × 4 inputs with constants `w` (4 × 3) and `i` (a vector of int64).
fn model(nodes: Vec<Node>, outputs: &[&str]) -> Model {
    let constants = vec![
        Tensor::f32("w", &[4, 3], &[0.5, -1.0, 2.0, 1.0, 0.3, -0.7, 0.2, 0.9, -0.4, 1.1, -0.6, 0.8]),
        Tensor::i64("i", &[1], &[2]),
    ];
    Model::new("tiny.onnx", Graph::new(vec![input(&[None, Some(4)])], nodes, constants, outputs).unwrap(), 18)
}

fn compile(model: &Model, objective: &Objective, wrt: &[&str]) -> Result<GradientSession, GradientsError> {
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    runtime().gradient(model, objective, wrt, &GradientOptions { session, ..GradientOptions::default() })
}

fn refusal(model: &Model, objective: &Objective, wrt: &[&str]) -> String {
    compile(model, objective, wrt).map(|_| ()).unwrap_err().to_string()
}

fn y() -> Objective {
    Objective::value("y").sum()
}

#[test]
fn an_operator_without_a_rule_is_named_with_its_node_and_reason() {
    let nodes = vec![Node::new("MatMul", &["x", "w"], &["z"]), Node::new("Hardmax", &["z"], &["y"])];
    let message = refusal(&model(nodes, &["y"]), &y(), &["x"]);
    assert!(message.contains("'y' (Hardmax)") && message.contains("no gradient rule"), "{message}");
    assert!(message.contains("between 'x' and the objective"), "{message}");
}

#[test]
fn an_unknown_operator_on_the_path_is_named() {
    let m = model(vec![Node::new("Relu", &["x"], &["z"]), Node::new("Wobble", &["z"], &["y"])], &["y"]);
    let message = refusal(&m, &y(), &["x"]);
    assert!(message.contains("'y' (Wobble)") && message.contains("no gradient rule"), "{message}");
}

#[test]
fn an_unknown_domain_on_the_path_is_named() {
    let m = model(
        vec![Node::new("Relu", &["x"], &["z"]), Node::new("Relu", &["z"], &["y"]).in_domain("com.example")],
        &["y"],
    );
    let message = refusal(&m, &y(), &["x"]);
    assert!(message.contains("com.example"), "{message}");
}

#[test]
fn what_is_made_from_a_shape_is_not_blamed_for_what_the_runtime_refuses() {
    let nodes = vec![
        Node::new("Shape", &["x"], &["s"]),
        Node::new("ConstantOfShape", &["s"], &["zeros"]),
        Node::new("MatMul", &["x", "x"], &["product"]),
        Node::new("Add", &["product", "zeros"], &["y"]),
    ];
    let m = model(nodes, &["y"]);
    assert!(grad::foreign_operator(&m.graph, &["y"], &["x"]).is_none());
    let message = refusal(&m, &y(), &["x"]);
    assert!(message.contains("MatMul") && !message.contains("ConstantOfShape"), "{message}");
}

#[test]
fn what_has_no_rule_is_ignored_beside_the_path() {
    let nodes = vec![
        Node::new("Relu", &["x"], &["y"]),
        Node::new("NonZero", &["x"], &["n"]),
        Node::new("Unique", &["x"], &["u"]),
    ];
    assert!(compile(&model(nodes, &["y", "n", "u"]), &y(), &["x"]).is_ok());
}

#[test]
fn a_path_through_integers_is_refused_with_the_node() {
    let nodes =
        vec![Node::new("Cast", &["x"], &["c"]).with_int("to", 7), Node::new("Cast", &["c"], &["y"]).with_int("to", 1)];
    let message = refusal(&model(nodes, &["y"]), &y(), &["x"]);
    assert!(message.contains("'c' (Cast)") && message.contains("integers"), "{message}");
}

#[test]
fn an_integer_objective_is_refused() {
    let nodes = vec![Node::new("ArgMax", &["x"], &["y"]).with_int("axis", 1)];
    let message = refusal(&model(nodes, &["y"]), &y(), &["x"]);
    assert!(message.contains("'y' holds I64") && message.contains("float"), "{message}");
}

#[test]
fn an_integer_cannot_be_asked_for() {
    let nodes = vec![Node::new("Cast", &["x"], &["c"]).with_int("to", 7), Node::new("Relu", &["x"], &["y"])];
    let message = refusal(&model(nodes, &["y", "c"]), &y(), &["c"]);
    assert!(message.contains("'c' holds I64"), "{message}");
}

#[test]
fn a_constant_cannot_be_asked_for() {
    let m = model(vec![Node::new("MatMul", &["x", "w"], &["y"])], &["y"]);
    assert!(refusal(&m, &y(), &["w"]).contains("'w' is a constant"));
}

#[test]
fn a_value_that_the_objective_does_not_depend_on_is_named() {
    let m = model(vec![Node::new("Relu", &["x"], &["y"]), Node::new("Neg", &["x"], &["z"])], &["y", "z"]);
    let message = refusal(&m, &y(), &["z"]);
    assert!(message.contains("does not depend on 'z'") && message.contains("no node leads"), "{message}");
}

#[test]
fn a_derivative_that_is_zero_everywhere_is_said_to_be() {
    let m = model(vec![Node::new("Round", &["x"], &["y"])], &["y"]);
    assert!(refusal(&m, &y(), &["x"]).contains("derivative zero"));
}

#[test]
fn indices_outside_an_axis_are_refused_before_and_while_running() {
    let m = model(vec![Node::new("MatMul", &["x", "w"], &["y"])], &["y"]);
    let message = refusal(&m, &Objective::value("y").select(1, 3), &["x"]);
    assert!(message.contains("index 3") && message.contains("3 elements"), "{message}");
    assert!(refusal(&m, &Objective::value("y").select(2, 0), &["x"]).contains("axis 2"));
    let mut session = compile(&m, &Objective::value("y").select(1, Index::input("class")), &["x"]).unwrap();
    let x = Array::from(ArrayD::<f32>::zeros(IxDyn(&[2, 4])));
    let class = |v: Vec<i64>| Array::from(ArrayD::from_shape_vec(IxDyn(&[2]), v).unwrap());
    assert!(session.run(&[("x", &x), ("class", &class(vec![0, 2]))]).is_ok());
    assert!(session.run(&[("x", &x), ("class", &class(vec![0, 5]))]).is_err());
}

#[test]
fn misspelt_values_get_a_suggestion() {
    let m = model(vec![Node::new("Relu", &["x"], &["hidden"]), Node::new("Neg", &["hidden"], &["y"])], &["y"]);
    assert!(refusal(&m, &y(), &["hiden"]).contains("did you mean 'hidden'"));
    assert!(refusal(&m, &Objective::value("z"), &["x"]).contains("no value 'z'"));
}

#[test]
fn shapes_that_do_not_go_together_are_refused_with_both_names() {
    let m = model(vec![Node::new("MatMul", &["x", "w"], &["y"])], &["y"]);
    let message = refusal(&m, &(Objective::value("y") * Objective::value("x")).sum(), &["x"]);
    assert!(message.contains("'y'") && message.contains("'x'") && message.contains("do not go together"), "{message}");
}

#[test]
fn cycles_and_missing_inputs_are_named() {
    let graph = |nodes| Graph::new(vec![input(&[None, Some(4)])], nodes, vec![], &["y"]);
    let cyclic = graph(vec![Node::new("Add", &["x", "b"], &["y"]), Node::new("Neg", &["y"], &["b"])]);
    let cyclic = cyclic.unwrap_err();
    assert!(matches!(cyclic, GraphError::Cyclic(_)));
    let message = cyclic.to_string();
    assert!(message.contains("cyclic") && (message.contains("(Add)") || message.contains("(Neg)")), "{message}");
    let missing = graph(vec![Node::new("Add", &["x", "nowhere"], &["y"])]).unwrap_err().to_string();
    assert!(missing.contains("'y' (Add)") && missing.contains("'nowhere'"), "{missing}");
}

#[test]
fn a_model_that_was_not_prepared_is_refused() {
    let nodes =
        vec![Node::new("Constant", &[], &["c"]).with_float("value_float", 2.0), Node::new("Mul", &["x", "c"], &["y"])];
    let m = model(nodes, &["y"]);
    let error = grad::differentiate(&m, &Default::default(), &y(), &["x"]).unwrap_err();
    assert!(matches!(error, GradientError::Unprepared(_)), "{error}");
}

#[test]
fn nan_is_traced_to_the_value_whose_gradient_it_enters_first() {
    let nodes = vec![Node::new("Sqrt", &["x"], &["s"]), Node::new("Mul", &["s", "s"], &["y"])];
    let mut session = compile(&model(nodes, &["y"]), &y(), &["x"]).unwrap();
    let x = Array::from(ArrayD::from_shape_vec(IxDyn(&[1, 4]), vec![1.0, 0.0, 4.0, 9.0]).unwrap());
    let message = session.run_checked(&[("x", &x)]).unwrap_err().to_string();
    // √x has an infinite slope at 0, and 0 · ∞ is NaN: it begins at the gradient of x.
    assert!(message.contains("1 values") && message.contains("is that of 'x'"), "{message}");
}

#[test]
fn nan_inside_the_network_is_traced_to_its_node() {
    // The slope of √ is infinite where relu(x) is 0; what lies before it, back to x, only inherits that.
    let nodes = vec![
        Node::new("MatMul", &["x", "w"], &["z"]),
        Node::new("Relu", &["z"], &["r"]),
        Node::new("Sqrt", &["r"], &["s"]),
        Node::new("Mul", &["s", "s"], &["y"]),
    ];
    let mut session = compile(&model(nodes, &["y"]), &y(), &["x"]).unwrap();
    let x = Array::from(ArrayD::from_shape_vec(IxDyn(&[1, 4]), vec![1.0, 0.0, 0.0, 0.0]).unwrap());
    let message = session.run_checked(&[("x", &x)]).unwrap_err().to_string();
    assert!(message.contains("is that of 'r', which node 'r' (Relu) computes"), "{message}");
    assert!(message.contains("with respect to 'x'") && !message.contains("not finite either"), "{message}");
}

#[test]
fn nan_in_the_forward_pass_is_told_apart() {
    let nodes = vec![Node::new("Log", &["x"], &["l"]), Node::new("Mul", &["l", "x"], &["y"])];
    let mut session = compile(&model(nodes, &["y"]), &y(), &["x"]).unwrap();
    let x = Array::from(ArrayD::from_shape_vec(IxDyn(&[1, 4]), vec![1.0, -1.0, 4.0, f32::NAN]).unwrap());
    let message = session.run_checked(&[("x", &x)]).unwrap_err().to_string();
    assert!(message.contains("not finite either"), "{message}");
}
