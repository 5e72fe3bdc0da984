//! `pellucid gradient MODEL --input x.npy --of VALUE[:index…] --out g.npz`.

use crate::args::{Args, GradientArgs, OpenArgs};
use crate::output;
use anyhow::{Result, bail};
use pellucid::{Array, Budget, Differentiation, Gradients};
use std::collections::BTreeMap;
use std::process::ExitCode;

pub fn run(args: &Args, gradient: &GradientArgs) -> Result<ExitCode> {
    let options = OpenArgs::default().options(&args.global);
    let inputs = read_inputs(&gradient.input, &options.budget)?;
    let differentiation = Differentiation::new(&gradient.model, &inputs, &gradient.settings(), &options)?;
    let mut lines = Vec::new();
    if let Some(graph) = &gradient.graph {
        differentiation.write(graph)?;
        lines.push(format!("model      {}", graph.display()));
    }
    let Some(out) = &gradient.out else {
        if args.global.json {
            output::json(&serde_json::json!({ "graph": gradient.graph }))?;
        } else {
            output::lines(&lines)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let result = differentiation.run()?;
    output::warnings(&result.warnings);
    pellucid::write_arrays(out, &result.arrays())?;
    if args.global.json {
        let arrays = result.arrays();
        let shapes: BTreeMap<&str, &[usize]> = arrays.iter().map(|(n, a)| (n.as_str(), a.shape())).collect();
        output::json(&serde_json::json!({ "of": result.of, "out": out, "graph": gradient.graph, "arrays": shapes }))?;
    } else {
        lines.extend(describe(&result));
        lines.push(format!("written    {}", out.display()));
        output::lines(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads `FILE.npy`, `NAME=FILE.npy` and `FILE.npz` arguments into inputs by name.
fn read_inputs(arguments: &[String], budget: &Budget) -> Result<BTreeMap<String, Array>> {
    let mut inputs = BTreeMap::new();
    for argument in arguments {
        let (name, file) = match argument.split_once('=') {
            Some((name, file)) if !std::path::Path::new(argument).exists() => (name, file),
            _ => ("", argument.as_str()),
        };
        for (inner, array) in pellucid::read_arrays_within(file, budget)? {
            let name = if name.is_empty() { inner } else { name.to_owned() };
            if inputs.insert(name.clone(), array).is_some() {
                bail!("--input gives '{name}' twice");
            }
        }
    }
    Ok(inputs)
}

fn describe(result: &Gradients) -> Vec<String> {
    let numbers = |a: &Array| -> Vec<f32> { a.as_f32().map(|a| a.iter().copied().collect()).unwrap_or_default() };
    let shown: Vec<String> = numbers(&result.objective).iter().take(8).map(|v| format!("{v:.6}")).collect();
    let mut lines = vec![format!("objective  {} = {}", result.of, shown.join(", "))];
    for (name, array) in &result.gradients {
        let values = numbers(array);
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        lines.push(format!("gradient   {name} {:?}, norm {norm:.6}", array.shape()));
    }
    lines
}
