//! Whole networks: small copies of well-known ones, through both of PyTorch's exporters, against PyTorch float64; and the
//! zoo's classifiers against finite differences.

#![allow(clippy::unwrap_used)]

mod common;

use common::{array, array_of, networks, runtime, zoo};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::Model;
use pellucid_graph::grad::{Checkpointing, Index, Objective};
use pellucid_runtime::{Array, GradientOptions, Runtime, SessionOptions};
use safetensors::SafeTensors;
use std::path::Path;

fn options() -> GradientOptions {
    GradientOptions {
        session: SessionOptions { threads: 1, ..SessionOptions::default() },
        ..GradientOptions::default()
    }
}

/// ‖a − b‖₂ / ‖b‖₂.
fn distance(a: &Array, b: &Array) -> f64 {
    let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    assert_eq!(a.shape(), b.shape());
    let (mut off, mut size) = (0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        off += (f64::from(x) - f64::from(y)).powi(2);
        size += f64::from(y).powi(2);
    }
    (off / size).sqrt()
}

/// The error of the value and of the worst gradient.
fn compare(runtime: &Runtime, path: &Path, checkpointing: Checkpointing) -> Result<(f64, f64), String> {
    let text = path.file_stem().unwrap().to_string_lossy().into_owned();
    let name = text.split('.').next().unwrap_or_default();
    let bytes = std::fs::read(path.with_file_name(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let named = metadata.metadata().as_ref().and_then(|m| m.get("output"));
    let output = named.map_or("y", String::as_str);
    let model = Model::read(path).map_err(|e| e.to_string())?;
    let weight = array(&file, "weight");
    let wrt: Vec<&str> = file.names().into_iter().filter_map(|n| n.strip_prefix("grad|")).collect();
    let objective = (Objective::value(output) * Objective::input("test.weight", &weight.shape()[1..])).sum();
    let mut options = GradientOptions { checkpointing, ..options() };
    let fed: Vec<(String, Array)> =
        model.graph.inputs.iter().map(|v| (v.name().to_owned(), array(&file, &format!("in|{}", v.name())))).collect();
    for (name, value) in &fed {
        let mut shape = value.shape().to_vec();
        shape.iter_mut().take(1).for_each(|batch| *batch = 1);
        options.shapes.insert(name.clone(), shape);
    }
    let mut session = runtime.gradient(&model, &objective, &wrt, &options).map_err(|e| e.to_string())?;
    let mut inputs: Vec<(&str, &Array)> = fed.iter().map(|(n, a)| (n.as_str(), a)).collect();
    inputs.push(("test.weight", &weight));
    let run = session.run_checked(&inputs).map_err(|e| e.to_string())?;
    let value = distance(&run.outputs[output], &array(&file, "y"));
    let worst =
        wrt.iter().map(|n| distance(&run.gradients[*n], &array(&file, &format!("grad|{n}")))).fold(0.0, f64::max);
    Ok((value, worst))
}

#[test]
fn whole_networks_agree_with_pytorch_in_float64() {
    let runtime = runtime();
    let mut failures = Vec::new();
    println!("{:<28} {:>10} {:>10}", "network.exporter", "value", "gradient");
    for path in networks() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match compare(&runtime, &path, Checkpointing::Nothing) {
            Ok((value, gradient)) => {
                println!("{name:<28} {value:>10.1e} {gradient:>10.1e}");
                if value.is_nan() || value > 1e-4 || gradient.is_nan() || gradient > 1e-4 {
                    failures.push(format!("{name}: value {value:.1e}, gradient {gradient:.1e}"));
                }
            }
            Err(e) => {
                println!("{name:<28} {e}");
                failures.push(format!("{name}: {e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn recomputed_segments_agree_as_well() {
    let runtime = runtime();
    for path in networks().iter().filter(|p| p.to_string_lossy().ends_with(".script.onnx")) {
        let (_, gradient) = compare(&runtime, path, Checkpointing::Segments(5)).unwrap();
        assert!(gradient <= 1e-4, "{}: {gradient:.1e}", path.display());
    }
}

/// Two pictures of smooth waves, so that small steps stay small.
fn waves(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::from_shape_fn(IxDyn(shape), |i| {
        let (y, x) = (i[2] as f32, i[3] as f32);
        0.8 * ((0.05 + 0.01 * i[1] as f32) * x + 0.07 * y + 1.3 * i[0] as f32).sin()
    })
}

/// The gradient of a class logit along a direction against central differences of the logit.
fn check_logit(path: &str, input: &str, logits: &str, size: usize) {
    let runtime = runtime();
    let model = Model::read(zoo(path)).unwrap();
    let objective = Objective::value(logits).select(1, Index::input("class"));
    let mut session = runtime.gradient(&model, &objective, &[input], &options()).unwrap();
    let x = waves(&[2, 3, size, size]);
    let class = Array::from(ArrayD::from_shape_vec(IxDyn(&[2]), vec![3i64, 201]).unwrap());
    let mut run = |x: &ArrayD<f32>| {
        let x = Array::from(x.clone());
        session.run(&[(input, &x), ("class", &class)]).unwrap()
    };
    let base = run(&x);
    let gradient = base.gradients[input].as_f32().unwrap().clone();
    for sample in 0..2 {
        // Along the gradient itself: the slope is its squared norm, far above rounding.
        let mut direction = gradient.clone();
        let other = 1 - sample;
        direction.index_axis_mut(ndarray::Axis(0), other).fill(0.0);
        let slope: f64 = direction.iter().map(|&g| f64::from(g).powi(2)).sum();
        let step = (2e-3 / slope.sqrt()) as f32;
        let (ahead, behind) = (run(&(&x + &(&direction * step))), run(&(&x - &(&direction * step))));
        let (a, b) = (array_of(&ahead.objective), array_of(&behind.objective));
        let found = f64::from(a[[sample]] - b[[sample]]) / (2.0 * f64::from(step));
        assert!(
            (found - slope).abs() <= 0.05 * slope,
            "{path}, sample {sample}: {found} by differences, {slope} by rules"
        );
        let untouched = (a[[other]] - array_of(&base.objective)[[other]]).abs();
        assert!(untouched < 1e-6, "samples mix: {untouched}");
    }
}

#[test]
fn efficientnet_lite0_agrees_with_finite_differences() {
    check_logit("models/efficientnet_lite0/efficientnet_lite0.onnx", "input", "logits", 224);
}

#[test]
fn squeezenet_agrees_with_finite_differences() {
    check_logit("models/squeezenet1_1/squeezenet1_1.onnx", "input", "logits", 227);
}
