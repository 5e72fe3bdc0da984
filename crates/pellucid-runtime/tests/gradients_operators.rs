//! Every rule against PyTorch float64, and against differences of its own forward pass: the stored cases of
//! `zoo/gradients/operators.safetensors`, one table, a test each.

#![allow(clippy::unwrap_used)]

mod common;

use common::{array, numbers, zoo};
use ndarray::ArrayD;
use pellucid_graph::Model;
use pellucid_graph::grad::{self, Objective};
use pellucid_runtime::{Array, GradientOptions, GradientRun, GradientSession, Runtime, SessionOptions};
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};

/// What one case needs.
struct Case {
    name: String,
    model: Model,
    inputs: BTreeMap<String, Array>,
    weight: Array,
    y: Array,
    gradients: BTreeMap<String, Array>,
    tolerance: f32,
}

/// The cases, and the folder that their models lie in while they run.
fn cases() -> (Vec<Case>, tempfile::TempDir) {
    let bytes = std::fs::read(zoo("gradients/operators.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names: BTreeSet<&str> = file.names().into_iter().filter_map(|n| n.strip_suffix("|model")).collect();
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| {
        let path = folder.path().join(format!("{}.onnx", name.replace([' ', ',', '>', '.'], "_")));
        std::fs::write(&path, file.tensor(&format!("{name}|model")).unwrap().data()).unwrap();
        let part = |kind: &str| -> BTreeMap<String, Array> {
            let prefix = format!("{name}|{kind}|");
            let own = file.names().into_iter().filter(|n| n.starts_with(&prefix));
            own.map(|n| (n[prefix.len()..].to_owned(), array(&file, n))).collect()
        };
        let tolerance = file.tensor(&format!("{name}|tolerance")).map(|_| array(&file, &format!("{name}|tolerance")));
        Case {
            name: name.to_owned(),
            model: Model::read(&path).unwrap(),
            inputs: part("in"),
            weight: array(&file, &format!("{name}|weight")),
            y: array(&file, &format!("{name}|y")),
            gradients: part("grad"),
            tolerance: tolerance.map_or(1e-5, |t| t.as_f32().unwrap()[0]),
        }
    };
    (names.into_iter().map(read).collect(), folder)
}

/// The largest difference, relative to the largest expected number.
fn error(found: &Array, expected: &Array) -> Result<f32, String> {
    let (found, expected) = (found.as_f32().ok_or("not float32")?, expected.as_f32().ok_or("not float32")?);
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?}, expected {:?}", found.shape(), expected.shape()));
    }
    let scale = expected.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m: f32, v| if v > m || v.is_nan() { v } else { m });
    Ok(worst / scale)
}

/// The case's gradient, compiled.
fn compile(runtime: &Runtime, case: &Case) -> Result<GradientSession, String> {
    let objective = (Objective::value("y") * Objective::shared_input("test.weight", case.weight.shape())).sum();
    let wrt: Vec<&str> = case.gradients.keys().map(String::as_str).collect();
    let options = GradientOptions {
        session: SessionOptions { threads: 1, ..SessionOptions::default() },
        ..GradientOptions::default()
    };
    runtime.gradient(&case.model, &objective, &wrt, &options).map_err(|e| e.to_string())
}

fn run(session: &mut GradientSession, case: &Case, inputs: &BTreeMap<String, Array>) -> Result<GradientRun, String> {
    let mut fed: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
    fed.push(("test.weight", &case.weight));
    session.run(&fed).map_err(|e| e.to_string())
}

fn check(runtime: &Runtime, case: &Case) -> Result<(), String> {
    let run = run(&mut compile(runtime, case)?, case, &case.inputs)?;
    let value = error(&run.outputs["y"], &case.y)?;
    if value > 10.0 * case.tolerance {
        return Err(format!("the value is off by {value:e}"));
    }
    for (name, expected) in &case.gradients {
        let off = error(&run.gradients[name], expected).map_err(|e| format!("gradient of {name}: {e}"))?;
        if off.is_nan() || off > case.tolerance {
            return Err(format!("gradient of {name} is off by {off:e} of its maximum"));
        }
    }
    Ok(())
}

#[test]
fn every_rule_agrees_with_pytorch_in_float64() {
    let runtime = Runtime::load(None).expect("ONNX Runtime (make setup)");
    let (cases, _folder) = cases();
    let failures: Vec<String> =
        cases.iter().filter_map(|c| check(&runtime, c).err().map(|e| format!("{}: {e}", c.name))).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// The slope along `directions` by a central difference of the float32 forward pass, summed in float64.
fn difference(
    session: &mut GradientSession,
    case: &Case,
    directions: &BTreeMap<String, ArrayD<f32>>,
    step: f32,
) -> Result<f64, String> {
    let mut at = |sign: f32| -> Result<f64, String> {
        let mut inputs = case.inputs.clone();
        for (name, direction) in directions {
            let x = case.inputs[name].as_f32().ok_or("not float32")?;
            inputs.insert(name.clone(), Array::F32(x + &(direction * (sign * step))));
        }
        let y = run(session, case, &inputs)?.outputs["y"].clone();
        let pairs = y.as_f32().into_iter().flatten().zip(case.weight.as_f32().into_iter().flatten());
        Ok(pairs.map(|(&y, &w)| f64::from(y) * f64::from(w)).sum())
    };
    Ok((at(1.0)? - at(-1.0)?) / (2.0 * f64::from(step)))
}

/// Compares ∇f·d with differences along random d. Where two step sizes disagree, a kink lies between: another d is taken.
fn check_differences(runtime: &Runtime, case: &Case) -> Result<(), String> {
    let mut session = compile(runtime, case)?;
    let gradients = run(&mut session, case, &case.inputs)?.gradients;
    for seed in 0..8 {
        let (mut slope, mut size) = (0.0, 0.0);
        let mut directions = BTreeMap::new();
        for (i, (name, gradient)) in gradients.iter().enumerate() {
            let g = gradient.as_f32().ok_or("not float32")?;
            let d = ArrayD::from_shape_vec(g.raw_dim(), numbers(g.len(), 97 * seed + i as u32))
                .map_err(|e| e.to_string())?;
            slope += g.iter().zip(&d).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum::<f64>();
            size += g.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
            directions.insert(name.clone(), d);
        }
        let bound = 5e-3 * size.sqrt().max(1e-2);
        let coarse = difference(&mut session, case, &directions, 4e-3)?;
        let fine = difference(&mut session, case, &directions, 2e-3)?;
        if (coarse - fine).abs() > bound / 2.0 {
            continue;
        }
        let off = (fine - slope).abs();
        return if off <= bound { Ok(()) } else { Err(format!("{fine} by differences, {slope} by rules")) };
    }
    Err("no direction without a kink".to_owned())
}

#[test]
fn every_rule_agrees_with_differences_of_the_float32_forward_pass() {
    let runtime = Runtime::load(None).expect("ONNX Runtime (make setup)");
    let (cases, _folder) = cases();
    // Differences say nothing of what is rounded to half precision on the way.
    let exact: Vec<&Case> = cases.iter().filter(|c| c.tolerance < 1e-4).collect();
    let missing = uncovered(exact.iter().copied());
    assert!(missing.is_empty(), "no case for {missing:?}");
    let failures: Vec<String> =
        exact.iter().filter_map(|c| check_differences(&runtime, c).err().map(|e| format!("{}: {e}", c.name))).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), exact.len(), failures.join("\n"));
}

/// Operators with a rule that are in no case.
fn uncovered<'a>(cases: impl Iterator<Item = &'a Case>) -> Vec<&'static str> {
    let covered: BTreeSet<String> = cases.flat_map(|c| c.model.graph.operator_counts().into_keys()).collect();
    let elsewhere = |op: &&str| LINEAR_MAPS.contains(op);
    grad::operators().into_iter().filter(|op| !covered.contains(*op) && !elsewhere(op)).collect()
}

/// Rules that `gradients_linear_maps.rs` holds to loops.
const LINEAR_MAPS: &[&str] = &["Col2Im", "DequantizeLinear", "QuantizeLinear"];

#[test]
fn every_rule_has_a_case() {
    let (cases, _folder) = cases();
    let missing = uncovered(cases.iter());
    assert!(missing.is_empty(), "no stored case for {missing:?}");
}
