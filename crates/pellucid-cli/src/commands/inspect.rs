//! `pellucid inspect MODEL`.

use crate::args::{Global, OpenArgs};
use crate::output;
use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use pellucid::{InspectedValue, Inspection};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// The ONNX model
    pub model: PathBuf,
    /// List the values that gradients of the outputs reach, and what stands in their way
    #[arg(long)]
    pub gradients: bool,
    /// Shape of an input whose dimensions are free: NAME=1,3,224,224 (may be given again)
    #[arg(long, value_name = "NAME=SHAPE", value_parser = input_shape)]
    pub input_shape: Vec<(String, Vec<usize>)>,
    #[command(flatten)]
    pub open: OpenArgs,
}

fn input_shape(text: &str) -> Result<(String, Vec<usize>)> {
    let (name, shape) = text.rsplit_once('=').context("expected NAME=1,3,224,224")?;
    let shape: Result<Vec<usize>, _> = shape.split(',').map(|d| d.trim().parse()).collect();
    Ok((name.to_owned(), shape.context("expected whole numbers, as in NAME=1,3,224,224")?))
}

pub fn run(global: &Global, inspect: &InspectArgs) -> Result<ExitCode> {
    if inspect.gradients {
        return gradients(global, inspect);
    }
    let shapes = inspect.input_shape.iter().cloned().collect();
    let inspection = pellucid::inspect_with_shapes(&inspect.model, &shapes, &inspect.open.options(global))?;
    if global.json {
        output::json(&inspection)?;
    } else {
        output::lines(&describe(&inspection))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `--gradients`: the values that gradients of the outputs reach.
fn gradients(global: &Global, inspect: &InspectArgs) -> Result<ExitCode> {
    let shapes = inspect.input_shape.iter().cloned().collect();
    let reach = pellucid::gradient_reach(&inspect.model, &shapes, &inspect.open.options(global))?;
    if global.json {
        output::json(&reach)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<String> = reach.values.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    lines.extend(reach.refused.iter().map(|(node, reason)| format!("no gradient through node {node}: {reason}")));
    lines.push(format!("{} values are reached from {}", reach.values.len(), reach.from.join(", ")));
    output::lines(&lines)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(i: &Inspection) -> Vec<String> {
    let mega = |b: u64| format!("{:.1} MB", b as f64 / 1e6);
    let value = |v: &InspectedValue| format!("{} {}[{}]", v.name, v.element, v.dimensions.join(", "));
    let all = |vs: &[InspectedValue]| vs.iter().map(value).collect::<Vec<_>>().join("; ");
    let beside = if i.bytes.1 > 0 { format!(" + {} beside it", mega(i.bytes.1)) } else { String::new() };
    let opsets: Vec<String> = i.opsets.iter().map(|(d, v)| format!("{d} {v}")).collect();
    let operators: Vec<String> = i.operators.iter().map(|(o, n)| format!("{o} ×{n}")).collect();
    let mut lines = vec![
        format!(
            "model          {} ({}{beside}), {:.2} M parameters",
            i.file,
            mega(i.bytes.0),
            i.parameters as f64 / 1e6
        ),
        format!("written by     {}", if i.producer.is_empty() { "unknown" } else { &i.producer }),
        format!("opset          {}", opsets.join(", ")),
        format!("input          {}", all(&i.inputs)),
        format!("output         {}", all(&i.outputs)),
    ];
    match &i.taps {
        Some(t) => {
            match &t.no_head {
                Some(reason) => lines.push(format!("decision layer none: {reason}")),
                None => lines.push(format!("decision layer {}: {}, then {}", t.head, t.kind, t.activation)),
            }
            lines.push(format!("logits         {} ({})", t.logits.0, t.logits.1));
            if t.no_head.is_none() {
                lines.push(format!(
                    "features       {} ({}); verified: |W f + b - logits| <= {:.1e}",
                    t.features.0, t.features.1, t.linear_error
                ));
            }
            let note = |mark: &str| t.map_note.as_ref().map(|note| format!("{mark}{note}")).unwrap_or_default();
            lines.push(match (&t.feature_map, t.grid) {
                (Some((value, shape, pooling)), Some([h, w])) => {
                    format!("feature map    {value} {shape:?}, {h}×{w} places, pooled: {pooling}{}", note("; "))
                }
                _ => format!("feature map    none{}", note(": ")),
            });
            if t.widened {
                lines.push("precision      half; run in float32".to_owned());
            }
        }
        None => lines.push(format!("taps           none: {}", i.taps_error.as_deref().unwrap_or_default())),
    }
    lines.push(format!(
        "preprocessing  {}",
        i.preprocessing.as_deref().unwrap_or(
            "not found; give --size, --mean, --std (and --scale, --resize, --filter), or --preprocessing FILE"
        )
    ));
    if let Some(n) = i.class_names {
        lines.push(format!("class names    {n}"));
    }
    lines.push(format!("operators      {}", operators.join(", ")));
    lines
}
