//! Rules that are held to loops written out here: quantisation, whose gradient goes straight through the rounding, and Col2Im,
//! whose transpose cuts patches out.

#![allow(clippy::unwrap_used)]

mod common;

use common::{numbers, runtime};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::grad::Objective;
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::{Array, GradientOptions, GradientRun, SessionOptions};

/// The gradient of Σ weight · y by x.
fn run(model: &Model, x: &ArrayD<f32>, weight: &ArrayD<f32>) -> (GradientRun, usize) {
    let objective = (Objective::value("y") * Objective::shared_input("weight", weight.shape())).sum();
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    let options = GradientOptions { session, ..GradientOptions::default() };
    let mut session = runtime().gradient(model, &objective, &["x"], &options).unwrap();
    let straight = session.model().straight_through;
    let run = session.run(&[("x", &Array::F32(x.clone())), ("weight", &Array::F32(weight.clone()))]).unwrap();
    (run, straight)
}

fn array(shape: &[usize], seed: u32, scale: f32) -> ArrayD<f32> {
    let values = numbers(shape.iter().product(), seed).into_iter().map(|v| v * scale).collect();
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

#[test]
fn a_gradient_goes_straight_through_rounding_and_stops_where_values_are_clipped() {
    // Steps of 0.05 around 10: from −0.5 to 12.25.
    let constants = vec![
        Tensor::f32("s", &[], &[0.05]),
        Tensor::raw("zp", ElementType::U8, &[], vec![10u8].into()),
        Tensor::i64("shape", &[2], &[0, -1]),
    ];
    let nodes = vec![
        Node::new("QuantizeLinear", &["x", "s", "zp"], &["q"]),
        // Integers that are moved on the way.
        Node::new("Transpose", &["q"], &["t"]).with_ints("perm", &[0, 2, 1]),
        Node::new("Reshape", &["t", "shape"], &["r"]),
        Node::new("DequantizeLinear", &["r", "s", "zp"], &["d"]),
        Node::new("Mul", &["d", "d"], &["y"]),
    ];
    let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(4)]);
    let model = Model::new("quantised.onnx", Graph::new(vec![input], nodes, constants, &["y"]).unwrap(), 18);
    let (x, weight) = (array(&[2, 3, 4], 3, 3.0), array(&[2, 12], 4, 1.0));
    let (run, straight) = run(&model, &x, &weight);
    assert_eq!(straight, 1);
    let gradient = run.gradients["x"].as_f32().unwrap();
    let mut clipped = 0;
    for ((sample, row, column), &value) in x.view().into_dimensionality::<ndarray::Ix3>().unwrap().indexed_iter() {
        let rounded = ((value / 0.05).round_ties_even() + 10.0).clamp(0.0, 255.0);
        let back = (rounded - 10.0) * 0.05;
        let inside = (value - back).abs() <= 0.026;
        clipped += usize::from(!inside);
        let expected = if inside { 2.0 * back * weight[[sample, column * 3 + row]] } else { 0.0 };
        let found = gradient[[sample, row, column]];
        assert!((found - expected).abs() < 1e-5, "at {value}: {found}, expected {expected}");
    }
    assert!((3..20).contains(&clipped), "{clipped} of 24 are clipped");
}

#[test]
fn col2im_is_transposed_by_cutting_patches_out() {
    // Patches of 2 × 3 at steps 2 × 1 with dilation 1 × 2 and borders, on pictures of 5 × 6 with 2 channels.
    let (steps, dilations, pads) = ([2usize, 1], [1usize, 2], [1i64, 0, 0, 2]);
    let (picture, patch) = ([5usize, 6], [2usize, 3]);
    let count = |i: usize| {
        let borders = (pads[i] + pads[i + 2]) as usize;
        (picture[i] + borders - dilations[i] * (patch[i] - 1) - 1) / steps[i] + 1
    };
    let grid = [count(0), count(1)];
    let shape = [2, 2 * 6, grid[0] * grid[1]];
    let nodes = vec![
        Node::new("Col2Im", &["x", "picture", "patch"], &["y"])
            .with_ints("strides", &[2, 1])
            .with_ints("dilations", &[1, 2])
            .with_ints("pads", &pads),
    ];
    let constants = vec![Tensor::i64("picture", &[2], &[5, 6]), Tensor::i64("patch", &[2], &[2, 3])];
    let input = Value::tensor("x", ElementType::F32, &[None, Some(12), Some(shape[2] as i64)]);
    let model = Model::new("patches.onnx", Graph::new(vec![input], nodes, constants, &["y"]).unwrap(), 18);
    let (x, weight) = (array(&shape, 5, 1.0), array(&[2, 2, 5, 6], 6, 1.0));
    let (run, _) = run(&model, &x, &weight);
    let (gradient, y) = (run.gradients["x"].as_f32().unwrap(), run.outputs["y"].as_f32().unwrap());
    let mut sum = ArrayD::<f32>::zeros(IxDyn(&[2, 2, 5, 6]));
    for sample in 0..2 {
        for channel in 0..2 {
            for place in 0..6 {
                for at in 0..shape[2] {
                    let row = (at / grid[1] * steps[0] + place / 3 * dilations[0]) as i64 - pads[0];
                    let column = (at % grid[1] * steps[1] + place % 3 * dilations[1]) as i64 - pads[1];
                    let inside = (0..5).contains(&row) && (0..6).contains(&column);
                    let index = [sample, channel, row.max(0) as usize, column.max(0) as usize];
                    let expected = if inside { weight[IxDyn(&index)] } else { 0.0 };
                    let found = gradient[[sample, channel * 6 + place, at]];
                    assert!((found - expected).abs() < 1e-6, "patch {at}, place {place}: {found}, expected {expected}");
                    if inside {
                        sum[IxDyn(&index)] += x[[sample, channel * 6 + place, at]];
                    }
                }
            }
        }
    }
    assert!(sum.iter().zip(y).all(|(a, b)| (a - b).abs() < 1e-5), "the loop means another operator");
}
