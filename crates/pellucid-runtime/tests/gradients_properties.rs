//! Over shapes, strides, paddings, groups and broadcasts at random. A linear map satisfies f(x) = ∇f · x exactly, so its
//! forward pass checks its rule; a smooth one is checked by a directional difference.

#![allow(clippy::unwrap_used)]

mod common;

use common::numbers;
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::grad::Objective;
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::{Array, GradientOptions, GradientSession, Runtime, SessionOptions};
use proptest::prelude::*;
use std::sync::OnceLock;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(common::runtime)
}

fn random(shape: &[usize], seed: u32) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), numbers(shape.iter().product(), seed)).unwrap()
}

fn compile(node: Node, constants: Vec<Tensor>, shape: &[usize]) -> Result<GradientSession, String> {
    let dims: Vec<Option<i64>> = std::iter::once(None).chain(shape[1..].iter().map(|&d| Some(d as i64))).collect();
    let x = Value::tensor("x", ElementType::F32, &dims);
    let model = Model::new("one.onnx", Graph::new(vec![x], vec![node], constants, &["y"]).unwrap(), 19);
    // A cosine of the position weighs every element of y differently without naming its shape.
    let objective = Objective::value("y");
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    let options = GradientOptions { session, ..GradientOptions::default() };
    runtime()
        .gradient(&model, &(objective.clone() * objective.detach()).sum(), &["x"], &options)
        .map_err(|e| e.to_string())
}

fn total(a: &Array) -> f64 {
    a.as_f32().unwrap().iter().map(|&v| f64::from(v)).sum()
}

/// For linear `node`: with y held fixed on one side, Σ y·y = ∇(Σ y·ȳ) · x.
fn check_linear(node: Node, constants: Vec<Tensor>, shape: &[usize]) -> Result<(), TestCaseError> {
    let mut session = compile(node, constants, shape).map_err(TestCaseError::fail)?;
    let x = random(shape, 7);
    let run = session.run(&[("x", &Array::F32(x.clone()))]).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let value = total(&run.objective);
    let gradient = run.gradients["x"].as_f32().unwrap();
    prop_assert_eq!(gradient.shape(), x.shape());
    let product: f64 = gradient.iter().zip(&x).map(|(&g, &v)| f64::from(g) * f64::from(v)).sum();
    prop_assert!((value - product).abs() <= 1e-4 * value.abs().max(1e-3), "f = {}, gradient · x = {}", value, product);
    Ok(())
}

/// A convolution's geometry.
#[derive(Debug, Clone)]
struct Geometry {
    batch: usize,
    group: usize,
    inputs: usize,
    outputs: usize,
    extent: [usize; 2],
    kernel: [usize; 2],
    strides: [i64; 2],
    dilations: [i64; 2],
    pads: [i64; 4],
}

fn geometry() -> impl Strategy<Value = Geometry> {
    let pair = |low: i64, high: i64| [low..=high, low..=high];
    let sizes = (1..3usize, 1..4usize, 1..3usize, 1..3usize);
    (sizes, [6..12usize, 6..12], [1..5usize, 1..5], pair(1, 3), pair(1, 2), [0..3i64, 0..3, 0..3, 0..3]).prop_map(
        |((batch, group, inputs, outputs), extent, kernel, strides, dilations, pads)| Geometry {
            batch,
            group,
            inputs: group * inputs,
            outputs: group * outputs,
            extent,
            kernel,
            strides,
            dilations,
            pads,
        },
    )
}

fn fits(g: &Geometry) -> bool {
    (0..2).all(|i| {
        let reach = g.dilations[i] * (g.kernel[i] as i64 - 1) + 1;
        reach <= g.extent[i] as i64 + g.pads[i] + g.pads[i + 2]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_global_rejects: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_of_any_geometry_are_linear(g in geometry().prop_filter("the window fits", fits)) {
        let shape = [g.outputs, g.inputs / g.group, g.kernel[0], g.kernel[1]];
        let w = Tensor::f32("w", &shape, &numbers(shape.iter().product(), 3));
        let node = Node::new("Conv", &["x", "w"], &["y"]).with_int("group", g.group as i64).with_ints("strides", &g.strides);
        let node = node.with_ints("dilations", &g.dilations).with_ints("pads", &g.pads);
        check_linear(node, vec![w], &[g.batch, g.inputs, g.extent[0], g.extent[1]])?;
    }

    /// Long rows are put together in another way than short ones.
    #[test]
    fn strided_convolutions_of_long_rows_are_linear(
        g in geometry().prop_filter("the window fits", fits),
        stride in 2..4i64,
        width in 38..90usize,
    ) {
        let shape = [g.outputs, g.inputs / g.group, 3, 3];
        let w = Tensor::f32("w", &shape, &numbers(shape.iter().product(), 3));
        let node = Node::new("Conv", &["x", "w"], &["y"]).with_int("group", g.group as i64).with_ints("strides", &[stride; 2]);
        check_linear(node.with_ints("pads", &[1, 0, 1, 1]), vec![w], &[g.batch, g.inputs, 7, width])?;
    }

    #[test]
    fn transposed_convolutions_of_any_geometry_are_linear(g in geometry().prop_filter("padding is inside", |g| (0..2).all(|i| g.pads[i] + g.pads[i + 2] < g.kernel[i] as i64))) {
        let shape = [g.inputs, g.outputs / g.group, g.kernel[0], g.kernel[1]];
        let w = Tensor::f32("w", &shape, &numbers(shape.iter().product(), 3));
        let node = Node::new("ConvTranspose", &["x", "w"], &["y"]).with_int("group", g.group as i64);
        let node = node.with_ints("strides", &g.strides).with_ints("dilations", &g.dilations).with_ints("pads", &g.pads);
        check_linear(node, vec![w], &[g.batch, g.inputs, g.extent[0], g.extent[1]])?;
    }

    #[test]
    fn average_pooling_of_any_geometry_is_linear(
        g in geometry().prop_filter("padding is inside the window", |g| (0..4).all(|i| g.pads[i] < g.kernel[i % 2] as i64) && fits(g)),
        include in 0..2i64,
        ceil in 0..2i64,
    ) {
        // Where a last window would start behind the input, the runtime's shape inference contradicts what it computes.
        let inside = g.pads == [0; 4] && (0..2).all(|i| g.strides[i] <= g.kernel[i] as i64);
        let ceil = if inside { ceil } else { 0 };
        let kernel = g.kernel.map(|k| k as i64);
        let node = Node::new("AveragePool", &["x"], &["y"]).with_ints("kernel_shape", &kernel).with_ints("strides", &g.strides);
        let node = node.with_ints("pads", &g.pads).with_int("count_include_pad", include).with_int("ceil_mode", ceil);
        check_linear(node, vec![], &[g.batch, g.inputs, g.extent[0], g.extent[1]])?;
    }

    #[test]
    fn slices_are_linear(start in -9..9i64, end in -9..9i64, step in prop_oneof![-3..0i64, 1..4i64], axis in 1..3i64) {
        let n = 8i64;
        let clamp = |v: i64, low: i64, high: i64| (if v < 0 { v + n } else { v }).clamp(low, high);
        let count = if step > 0 { (clamp(end, 0, n) - clamp(start, 0, n) + step - 1) / step } else { (clamp(end, -1, n - 1) - clamp(start, 0, n - 1) + step + 1) / step };
        prop_assume!(count > 0);
        let constants = vec![Tensor::i64("s", &[1], &[start]), Tensor::i64("e", &[1], &[end]), Tensor::i64("a", &[1], &[axis]), Tensor::i64("t", &[1], &[step])];
        check_linear(Node::new("Slice", &["x", "s", "e", "a", "t"], &["y"]), constants, &[2, 8, 8])?;
    }

    #[test]
    fn gathers_are_linear(indices in prop::collection::vec(-5..5i64, 1..7), axis in 1..3i64) {
        let i = Tensor::i64("i", &[indices.len()], &indices);
        check_linear(Node::new("Gather", &["x", "i"], &["y"]).with_int("axis", axis), vec![i], &[2, 5, 5])?;
    }

    #[test]
    fn padding_is_linear(pads in [0..4i64, 0..4, 0..4, 0..4], mode in 0..4usize) {
        let p = Tensor::i64("p", &[8], &[0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]]);
        let mode = ["constant", "reflect", "edge", "wrap"][mode];
        check_linear(Node::new("Pad", &["x", "p"], &["y"]).with_string("mode", mode), vec![p], &[2, 3, 5, 6])?;
    }

    #[test]
    fn resizing_is_linear(size in [2..12i64, 2..12], mode in 0..3usize, coordinates in 0..4usize, antialias in 0..2i64) {
        let sizes = Tensor::i64("sizes", &[2], &size);
        let mode = ["nearest", "linear", "cubic"][mode];
        let coordinates = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"][coordinates];
        let node = Node::new("Resize", &["x", "", "", "sizes"], &["y"]).with_string("mode", mode).with_ints("axes", &[2, 3]);
        let node = node.with_string("coordinate_transformation_mode", coordinates);
        let node = if mode == "nearest" { node } else { node.with_int("antialias", antialias) };
        check_linear(node, vec![sizes], &[2, 3, 5, 7])?;
    }

    #[test]
    fn broadcast_products_agree_with_differences(rank in 0..4usize, ones in [any::<bool>(), any::<bool>(), any::<bool>()]) {
        let full = [3usize, 4, 5];
        let shape: Vec<usize> = (3 - rank.min(3)..3).map(|i| if ones[i] { 1 } else { full[i] }).collect();
        let w = Tensor::f32("w", &shape, &numbers(shape.iter().product(), 3));
        check_linear(Node::new("Mul", &["x", "w"], &["y"]), vec![w], &[2, 3, 4, 5])?;
    }
}
