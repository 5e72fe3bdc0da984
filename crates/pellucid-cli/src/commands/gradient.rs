//! `pellucid gradient MODEL --input x.npy --of VALUE[:index…] --out g.npz`.

use crate::args::{Global, OpenArgs};
use crate::output;
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use pellucid::engine::Checkpointing;
use pellucid::{Array, Budget, ByteSize, Differentiation, GradientSettings, Gradients};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct GradientArgs {
    /// The ONNX model
    pub model: PathBuf,
    /// An input: FILE.npy, NAME=FILE.npy, or FILE.npz with all of them by name (may be given again)
    #[arg(long, value_name = "FILE", required = true)]
    pub input: Vec<String>,
    /// What to differentiate: VALUE[:index…], one index per axis after the batch, the rest is summed (logits:281);
    /// logits:281,7 gives one index per sample. The first output by default
    #[arg(long, value_name = "VALUE", default_value = "")]
    pub of: String,
    /// A value to differentiate with respect to (may be given again); every float input by default
    #[arg(long, value_name = "VALUE")]
    pub wrt: Vec<String>,
    /// Where to write the outputs, the objective and the gradients
    #[arg(long, value_name = "FILE.npz", required_unless_present = "graph")]
    pub out: Option<PathBuf>,
    /// Where to write the differentiated model, which any ONNX runtime runs: beside the model if its weights lie in
    /// other files
    #[arg(long, value_name = "FILE.onnx")]
    pub graph: Option<PathBuf>,
    /// Less memory for more time: compute the forward pass again in so many segments (8), or in as few as keep its values
    /// within a bound (512MB); alone, in as many as need the least memory
    #[arg(long, alias = "recompute", value_name = "SEGMENTS|SIZE", num_args = 0..=1, default_missing_value = "least", value_parser = checkpointing)]
    pub checkpointing: Option<Checkpointing>,
    /// Where to keep mirrored weights, by their content, for a model whose weights lie in other files (runs/.cache)
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

impl GradientArgs {
    /// Validated settings.
    pub fn settings(&self) -> GradientSettings {
        GradientSettings::default()
            .with_of(self.of.clone())
            .with_wrt(self.wrt.clone())
            .with_checkpointing(self.checkpointing.unwrap_or_default())
            .with_cache(self.cache.clone())
    }
}

/// `8`, `512MB`, `2GiB` or `least`.
fn checkpointing(text: &str) -> std::result::Result<Checkpointing, String> {
    if text == "least" {
        return Ok(Checkpointing::Least);
    }
    if let Ok(segments) = text.parse() {
        return Ok(Checkpointing::Segments(segments));
    }
    let size = text.parse().map(|ByteSize(bytes)| Checkpointing::Within(bytes));
    size.map_err(|_| format!("'{text}' is neither a number of segments (8) nor a size (512MB, 2GiB)"))
}

pub fn run(global: &Global, gradient: &GradientArgs) -> Result<ExitCode> {
    let options = OpenArgs::default().options(global);
    let inputs = read_inputs(&gradient.input, &options.budget)?;
    let differentiation = Differentiation::new(&gradient.model, &inputs, &gradient.settings(), &options)?;
    let mut lines = Vec::new();
    if let Some(graph) = &gradient.graph {
        differentiation.write(graph)?;
        lines.push(format!("model      {}", graph.display()));
    }
    let Some(out) = &gradient.out else {
        if global.json {
            output::json(&serde_json::json!({ "graph": gradient.graph }))?;
        } else {
            output::lines(&lines)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let result = differentiation.run()?;
    output::warnings(&result.warnings);
    pellucid::write_arrays(out, &result.arrays())?;
    if global.json {
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
