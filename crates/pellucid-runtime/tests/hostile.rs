//! Models from strangers: two kilobytes that ask for more than any machine has are errors of one line, soon and in little
//! memory.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::grad::Objective;
use pellucid_graph::{ElementType, Graph, Model, Node, TapNames, Tensor, Value};
use pellucid_guard::Budget;
use pellucid_runtime::{
    Array, GradientOptions, Heap, RuntimeError, SessionOptions, TappedModel, TapsError, verify_taps,
};

#[global_allocator]
static HEAP: Heap = Heap;

const MEMORY: u64 = 64 << 20;

/// A classifier of a convolution, a mean and a linear layer, for pictures of these extents.
fn classifier(extents: [i64; 2], convolution: Node) -> Model {
    let shape = [None, Some(3), Some(extents[0]), Some(extents[1])];
    let nodes = vec![
        convolution,
        Node::new("Relu", &["c"], &["map"]),
        Node::new("GlobalAveragePool", &["map"], &["p"]),
        Node::new("Flatten", &["p"], &["f"]),
        Node::new("Gemm", &["f", "w", "b"], &["z"]).with_int("transB", 1),
    ];
    let weights = |name: &str, shape: &[usize]| Tensor::f32(name, shape, &numbers(shape.iter().product(), 7));
    let constants = vec![weights("k", &[16, 3, 3, 3]), weights("w", &[3, 16]), weights("b", &[3])];
    let input = Value::tensor("x", ElementType::F32, &shape);
    let graph = Graph::new(vec![input], nodes, constants, &["z"]).unwrap();
    Model::new("hostile.onnx", graph, 17).within(&Budget::for_memory(MEMORY))
}

fn convolution(pads: [i64; 4]) -> Node {
    Node::new("Conv", &["x", "k"], &["c"]).with_ints("pads", &pads)
}

fn tap(model: &Model) -> Result<TappedModel, TapsError> {
    verify_taps(&runtime(), model, &TapNames::default(), None, None, &SessionOptions::default())
}

/// The most that the process has held.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn an_input_that_declares_more_than_is_allowed_is_refused_before_memory_is_taken() {
    for extents in [[100_000, 100_000], [16_000, 16_000], [1 << 31, 1 << 31], [1 << 62, 2]] {
        let message = tap(&classifier(extents, convolution([1; 4]))).unwrap_err().to_string();
        assert!(message.starts_with("hostile.onnx: input 'x' of shape 1×3×"), "{message}");
        assert!(message.contains(&extents[0].to_string()) && message.contains("64 MiB allowed"), "{message}");
        assert!(message.contains("`memory`") && message.lines().count() == 1, "{message}");
    }
    // What the runtime's own arithmetic refuses first.
    let message = tap(&classifier([i64::MAX, 2], convolution([1; 4]))).unwrap_err().to_string();
    assert!(message.starts_with("hostile.onnx: ") && message.lines().count() == 1, "{message}");
}

#[test]
fn two_pictures_that_do_not_fit_are_refused_where_one_does() {
    let coarse = convolution([1; 4]).with_ints("strides", &[64, 64]);
    let message = tap(&classifier([2048, 2048], coarse)).unwrap_err().to_string();
    assert!(message.contains("'x' of shape 2×3×2048×2048"), "{message}");
}

#[test]
#[cfg(target_os = "linux")]
fn values_that_no_file_declares_are_bounded_by_the_system() {
    let before = rustix::process::getrlimit(rustix::process::Resource::Data);
    let held = peak();
    let error = tap(&classifier([16, 16], convolution([1, 1, 1, 1_000_000]))).unwrap_err();
    assert!(matches!(&error, TapsError::Runtime(RuntimeError::Memory { allowed: MEMORY, .. })), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with("hostile.onnx: running it takes more memory than the 64 MiB"), "{message}");
    assert!(message.contains("at the node 'c' (Conv)") && message.contains("`memory`"), "{message}");
    assert!(message.lines().count() == 1, "{message}");
    assert!(peak() - held < MEMORY + (160 << 20), "{} bytes more", peak() - held);
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Data), before);
}

#[test]
#[cfg(target_os = "linux")]
fn gradients_are_bounded_as_runs_are() {
    let model = classifier([16, 16], convolution([1, 1, 1, 1_000_000]));
    let error = runtime().differentiate(&model, &Objective::value("z"), &["x"], &GradientOptions::default());
    let message = error.unwrap_err().to_string();
    assert!(message.contains("running it takes more memory"), "{message}");
}

#[test]
#[cfg(target_os = "linux")]
fn what_compiling_computes_is_bounded() {
    // A constant of 4 GB, which the runtime would fold.
    let nodes = vec![
        Node::new("ConstantOfShape", &["n"], &["zeros"]),
        Node::new("Add", &["zeros", "one"], &["ones"]),
        Node::new("ReduceSum", &["ones"], &["sum"]),
        Node::new("Add", &["x", "sum"], &["y"]),
    ];
    let constants = vec![Tensor::i64("n", &[1], &[1 << 30]), Tensor::f32("one", &[1], &[1.0])];
    let input = Value::tensor("x", ElementType::F32, &[None, Some(1)]);
    let graph = Graph::new(vec![input], nodes, constants, &["y"]).unwrap();
    let model = Model::new("fold.onnx", graph, 17).within(&Budget::for_memory(MEMORY));
    let x = Array::F32(ArrayD::zeros(IxDyn(&[1, 1])));
    let run = runtime().session(&model, &SessionOptions::default()).and_then(|mut s| s.run(&[("x", &x)]));
    let error = run.unwrap_err();
    assert!(matches!(error, RuntimeError::Memory { .. }), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn outputs_are_not_copied_out_beyond_the_bound() {
    let nodes = vec![Node::new("Expand", &["x", "n"], &["y"])];
    // 120 MB fit once into 64 MiB and the base, and not twice.
    let constants = vec![Tensor::i64("n", &[2], &[30_000_000, 1])];
    let input = Value::tensor("x", ElementType::F32, &[Some(1), Some(1)]);
    let graph = Graph::new(vec![input], nodes, constants, &["y"]).unwrap();
    let model = Model::new("wide.onnx", graph, 17).within(&Budget::for_memory(MEMORY));
    let x = Array::F32(ArrayD::zeros(IxDyn(&[1, 1])));
    let message = runtime().session(&model, &SessionOptions::default()).unwrap().run(&[("x", &x)]).unwrap_err();
    assert!(matches!(message, RuntimeError::Memory { .. }), "{message}");
    let free = model.within(&Budget::for_memory(u64::MAX));
    let given = runtime().session(&free, &SessionOptions::default()).unwrap().run(&[("x", &x)]).unwrap();
    assert_eq!(given[0].shape(), [30_000_000, 1]);
}

#[test]
fn a_negative_inferred_dimension_is_an_error_and_no_panic() {
    let long = convolution([1; 4]).with_ints("kernel_shape", &[3, i64::MAX]);
    let message = tap(&classifier([16, 16], long)).unwrap_err().to_string();
    assert!(!message.contains("0x"), "{message}");
    assert!(message.starts_with("hostile.onnx: ") && message.lines().count() == 1, "{message}");
}

#[test]
fn batches_are_halved_until_they_fit() {
    let mut model = tap(&classifier([64, 64], convolution([1; 4])).within(&Budget::default())).unwrap();
    let pictures = ArrayD::from_shape_vec(IxDyn(&[512, 3, 64, 64]), numbers(512 * 3 * 64 * 64, 3)).unwrap();
    let mut run = |memory: u64| {
        model.model = model.model.clone().within(&Budget::for_memory(memory));
        let mut session = model.session(&runtime(), &SessionOptions::default(), 1 << 30, 512, false).unwrap();
        let before = session.batching().size;
        (session.run(&pictures).unwrap(), before, session.batching().size)
    };
    let (whole, before, after) = run(1 << 30);
    assert_eq!((before, after), (512, 512));
    let (parts, before, after) = run(1);
    assert_eq!(before, 512);
    assert!(cfg!(not(target_os = "linux")) || after < 512, "a batch of {after}");
    let far = whole.iter().zip(&parts).flat_map(|(a, b)| a.iter().zip(b)).any(|(a, b)| (a - b).abs() > 1e-5);
    assert!(!far);
}
