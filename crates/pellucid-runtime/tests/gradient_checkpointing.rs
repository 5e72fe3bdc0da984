//! Recomputed segments give the same gradients in less memory.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::grad::{Checkpointing, Objective};
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::{Array, GradientOptions, GradientRun, GradientSession, GradientsError, SessionOptions};

/// Channels, and the side of a picture: 1 MB per value.
const SHAPE: [usize; 4] = [1, 16, 128, 128];
const BLOCKS: usize = 20;

/// Residual blocks of a convolution and x·σ(x), and a long skip from the first to the last.
fn deep() -> Model {
    let mut nodes = Vec::new();
    let mut constants = Vec::new();
    let mut x = "x".to_owned();
    for i in 0..BLOCKS {
        let name = |what: &str| format!("{what}{i}");
        constants.push(Tensor::f32(&name("w"), &[16, 16, 3, 3], &numbers(16 * 16 * 9, i as u32)));
        nodes.push(Node::new("Conv", &[&x, &name("w")], &[&name("c")]).with_ints("pads", &[1; 4]));
        nodes.push(Node::new("Sigmoid", &[&name("c")], &[&name("s")]));
        nodes.push(Node::new("Mul", &[&name("c"), &name("s")], &[&name("m")]));
        nodes.push(Node::new("Add", &[&x, &name("m")], &[&name("x")]));
        x = name("x");
    }
    nodes.push(Node::new("Mul", &[&x, "x0"], &["skipped"]));
    let pool = Node::new("MaxPool", &["skipped"], &["p"]).with_ints("kernel_shape", &[3, 3]);
    nodes.push(pool.with_ints("strides", &[2, 2]));
    nodes.push(Node::new("ReduceMean", &["p", "axes"], &["y"]).with_int("keepdims", 0));
    constants.push(Tensor::i64("axes", &[2], &[2, 3]));
    let dims: Vec<Option<i64>> = std::iter::once(None).chain(SHAPE[1..].iter().map(|&d| Some(d as i64))).collect();
    let x = Value::tensor("x", ElementType::F32, &dims);
    Model::new("deep.onnx", Graph::new(vec![x], nodes, constants, &["y"]).unwrap(), 18)
}

fn compile(wrt: &[&str], checkpointing: Checkpointing) -> Result<GradientSession, GradientsError> {
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    let options = GradientOptions { session, checkpointing, ..GradientOptions::default() };
    runtime().gradient(&deep(), &Objective::value("y").select(1, 3), wrt, &options)
}

fn input() -> Array {
    ArrayD::from_shape_vec(IxDyn(&SHAPE), numbers(SHAPE.iter().product(), 99)).unwrap().into()
}

fn run(wrt: &[&str], checkpointing: Checkpointing) -> GradientRun {
    compile(wrt, checkpointing).unwrap().run(&[("x", &input())]).unwrap()
}

/// The largest difference over the largest number.
fn off(a: &Array, b: &Array) -> f32 {
    let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    let scale = b.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    assert!(scale > 0.0);
    a.iter().zip(b).fold(0.0, |m: f32, (x, y)| m.max((x - y).abs())) / scale
}

#[test]
fn any_number_of_segments_gives_the_same_gradients() {
    let wrt = ["x", "m3", "x11", "p"];
    let whole = run(&wrt, Checkpointing::Nothing);
    for checkpointing in
        [Checkpointing::Segments(2), Checkpointing::Segments(5), Checkpointing::Segments(40), Checkpointing::Least]
    {
        let parts = run(&wrt, checkpointing);
        assert_eq!(parts.outputs["y"], whole.outputs["y"]);
        for value in wrt {
            let worst = off(&parts.gradients[value], &whole.gradients[value]);
            assert!(worst <= 1e-6, "{checkpointing:?}: the gradient of {value} is off by {worst:e}");
        }
    }
}

#[test]
fn the_forward_pass_is_repeated_but_for_its_last_segment() {
    let count = |checkpointing| {
        let session = compile(&["x"], checkpointing).unwrap();
        session.model().model.graph.nodes.iter().filter(|n| n.is("Sigmoid")).count()
    };
    assert_eq!(count(Checkpointing::Nothing), BLOCKS);
    assert_eq!(count(Checkpointing::Segments(1)), BLOCKS);
    let repeated = count(Checkpointing::Segments(4)) - BLOCKS;
    assert!((BLOCKS / 2..BLOCKS).contains(&repeated), "{repeated} of {BLOCKS} blocks were repeated");
}

#[test]
fn a_bound_that_cannot_be_kept_says_what_can() {
    let bytes = 4 * SHAPE.iter().product::<usize>() as u64;
    assert!(compile(&["x"], Checkpointing::Within(30 * bytes)).is_ok());
    let message = compile(&["x"], Checkpointing::Within(bytes)).map(drop).unwrap_err().to_string();
    assert!(message.contains("the least is about") && message.contains("segments"), "{message}");
}

/// The peak of this process in kB.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Not a test of its own: what the next one runs in a process each.
#[test]
#[cfg(target_os = "linux")]
fn peak_of_one_process() {
    let Ok(segments) = std::env::var("PELLUCID_TEST_SEGMENTS") else { return };
    let checkpointing = match segments.parse().unwrap() {
        0 => Checkpointing::Nothing,
        n => Checkpointing::Segments(n),
    };
    let mut session = compile(&["x"], checkpointing).unwrap();
    let before = peak();
    session.run(&[("x", &input())]).unwrap();
    println!("grew by {} kB", peak() - before);
}

#[test]
#[cfg(target_os = "linux")]
fn segments_lower_the_peak() {
    let grown = |segments: &str| -> u64 {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "peak_of_one_process", "--nocapture"]).env("PELLUCID_TEST_SEGMENTS", segments);
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let number = out.split("grew by ").nth(1).unwrap().split_whitespace().next().unwrap();
        number.parse().unwrap()
    };
    let (whole, parts) = (grown("0"), grown("5"));
    assert!(2 * parts < whole, "{parts} kB in segments, {whole} kB without");
}
