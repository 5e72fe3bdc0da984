//! `pellucid patch apply|revert|show`.

use crate::args::{Args, PatchCommand};
use crate::output;
use anyhow::Result;
use std::process::ExitCode;

pub fn run(args: &Args, command: &PatchCommand) -> Result<ExitCode> {
    match command {
        PatchCommand::Apply { model, patch, out } => pellucid::patch_model(model, patch, out, false)?,
        PatchCommand::Revert { model, patch, out } => pellucid::patch_model(model, patch, out, true)?,
        PatchCommand::Show { patch } => return show(args, patch),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args, patch: &std::path::Path) -> Result<ExitCode> {
    let summary = pellucid::patch_summary(patch)?;
    if args.global.json {
        output::json(&summary)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![format!("made for     {}", summary.made_for), format!("what         {}", summary.note)];
    for tensor in &summary.tensors {
        lines.push(format!(
            "{:<12} {:?}: {} of {} entries change, by {:.4} at most; ‖Δ‖/‖original‖ = {:.4}",
            tensor.name, tensor.shape, tensor.changed, tensor.entries, tensor.largest, tensor.relative
        ));
        lines.push(format!("             before {}", tensor.before));
        lines.push(format!("             after  {}", tensor.after));
    }
    output::lines(&lines)?;
    Ok(ExitCode::SUCCESS)
}
