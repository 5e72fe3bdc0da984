//! `pellucid patch apply|revert|show`.

use crate::args::{Args, PatchCommand};
use crate::output;
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, command: &PatchCommand) -> Result<ExitCode> {
    match command {
        PatchCommand::Apply { model, patch, out } => write(args, model, patch, out, false),
        PatchCommand::Revert { model, patch, out } => write(args, model, patch, out, true),
        PatchCommand::Show { patch } => show(args, patch),
    }
}

fn write(args: &Args, model: &Path, patch: &Path, out: &Path, revert: bool) -> Result<ExitCode> {
    let budget = args.global.budget();
    pellucid::patch_model(model, patch, out, revert, &budget)?;
    let summary = pellucid::patch_summary(patch, &budget)?;
    let tensors: Vec<&str> = summary.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let changed = if revert { "restored" } else { "edited" };
    if args.global.json {
        output::json(&serde_json::json!({"model": out, changed: tensors}))?;
    } else {
        output::lines(&[format!("{}: {} {changed}", out.display(), tensors.join(" and "))])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args, patch: &Path) -> Result<ExitCode> {
    let summary = pellucid::patch_summary(patch, &args.global.budget())?;
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
