//! Every rule against PyTorch float64: the stored cases of `zoo/gradients/operators.safetensors`, one table, one test.

#![allow(clippy::unwrap_used)]

mod common;

use common::{array, zoo};
use pellucid_graph::Model;
use pellucid_graph::grad::{self, Objective};
use pellucid_runtime::{Array, GradientOptions, Runtime, SessionOptions};
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

fn check(runtime: &Runtime, case: &Case) -> Result<(), String> {
    let objective = (Objective::value("y") * Objective::shared_input("test.weight", case.weight.shape())).sum();
    let wrt: Vec<&str> = case.gradients.keys().map(String::as_str).collect();
    let options = GradientOptions {
        session: SessionOptions { threads: 1, ..SessionOptions::default() },
        ..GradientOptions::default()
    };
    let mut session = runtime.gradient(&case.model, &objective, &wrt, &options).map_err(|e| e.to_string())?;
    let mut inputs: Vec<(&str, &Array)> = case.inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
    inputs.push(("test.weight", &case.weight));
    let run = session.run(&inputs).map_err(|e| e.to_string())?;
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
    let runtime = Runtime::load(None).expect("ONNX Runtime in .runtime/ (make setup)");
    let (cases, _folder) = cases();
    let failures: Vec<String> =
        cases.iter().filter_map(|c| check(&runtime, c).err().map(|e| format!("{}: {e}", c.name))).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn every_rule_has_a_case() {
    let covered: BTreeSet<String> = cases()
        .0
        .iter()
        .flat_map(|c| c.model.graph.nodes.iter().map(|n| n.op().to_owned()).collect::<Vec<_>>())
        .collect();
    // Operators without a gradient of their own, or that only preparation leaves behind.
    let flat = ["CastLike", "Ceil", "Floor", "Round", "Sign", "Swish"];
    let missing: Vec<&str> =
        grad::operators().into_iter().filter(|op| !covered.contains(*op) && !flat.contains(op)).collect();
    assert!(missing.is_empty(), "no stored case for {missing:?}");
}
