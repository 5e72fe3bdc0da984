//! `pellucid compare MODEL reference.npz`.

use crate::args::{Args, CompareArgs, OpenArgs};
use crate::output;
use anyhow::{Result, bail};
use pellucid::Tolerances;
use std::process::ExitCode;

pub fn run(args: &Args, compare: &CompareArgs) -> Result<ExitCode> {
    let tolerances = Tolerances { relative: compare.rtol, absolute: compare.atol };
    let options = OpenArgs::default().options(&args.global);
    let reference = pellucid::read_arrays_within(&compare.reference, &options.budget)?;
    let compared = pellucid::compare(&compare.model, &reference, &compare.of, tolerances, &options)?;
    if compared.is_empty() {
        bail!(
            "{} holds nothing to compare: name arrays as the model's values, or gradient.<value>; arrays named as inputs are fed",
            compare.reference.display()
        );
    }
    if args.global.json {
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
