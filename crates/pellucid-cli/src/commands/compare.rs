//! `pellucid compare MODEL reference.npz`.

use crate::args::{Global, OpenArgs};
use crate::output;
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use pellucid::Tolerances;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// The ONNX model
    pub model: PathBuf,
    /// Arrays by name: inputs are fed, values and gradient.<value> are compared
    pub reference: PathBuf,
    /// What the reference's gradients are of: VALUE[:index…]; the first output by default
    #[arg(long, value_name = "VALUE", default_value = "")]
    pub of: String,
    /// Bound on the relative error: the norm of the difference over the norm of the reference
    #[arg(long, default_value_t = pellucid::Tolerances::default().relative)]
    pub rtol: f64,
    /// A largest difference up to this passes whatever the relative error
    #[arg(long, default_value_t = pellucid::Tolerances::default().absolute)]
    pub atol: f64,
}

pub fn run(global: &Global, compare: &CompareArgs) -> Result<ExitCode> {
    let tolerances = Tolerances { relative: compare.rtol, absolute: compare.atol };
    let options = OpenArgs::default().options(global);
    let reference = pellucid::read_arrays_within(&compare.reference, &options.budget)?;
    let compared = pellucid::compare(&compare.model, &reference, &compare.of, tolerances, &options)?;
    if compared.is_empty() {
        bail!(
            "{} holds nothing to compare: name arrays as the model's values, or gradient.<value>; arrays named as inputs are fed",
            compare.reference.display()
        );
    }
    if global.json {
        output::json(&compared)?;
    } else {
        let wide = compared.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let mut lines = vec![format!("{:<wide$}  relative   largest", "value")];
        for c in &compared {
            let mark = if c.close { "" } else { "   FAR" };
            lines.push(format!("{:<wide$}  {:>8.1e}  {:>8.1e}{mark}", c.name, c.relative, c.largest));
        }
        output::lines(&lines)?;
    }
    Ok(if compared.iter().all(|c| c.close) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
