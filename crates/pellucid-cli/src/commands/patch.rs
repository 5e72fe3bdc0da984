//! `pellucid patch apply|revert|show`.

use crate::args::Global;
use crate::output;
use anyhow::Result;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub enum PatchCommand {
    /// Write MODEL with the patch in it
    Apply {
        /// The model that the patch was made for
        model: PathBuf,
        /// patch.safetensors of a repair
        patch: PathBuf,
        /// Where to write the edited model
        #[arg(long, value_name = "FILE.onnx")]
        out: PathBuf,
    },
    /// Write MODEL, which holds the patch, as it was before, to the byte of its weights
    Revert {
        /// The edited model
        model: PathBuf,
        /// patch.safetensors of the repair
        patch: PathBuf,
        /// Where to write the restored model
        #[arg(long, value_name = "FILE.onnx")]
        out: PathBuf,
    },
    /// Say what a patch changes, and in which model
    Show {
        /// patch.safetensors of a repair
        patch: PathBuf,
    },
}

pub fn run(global: &Global, command: &PatchCommand) -> Result<ExitCode> {
    match command {
        PatchCommand::Apply { model, patch, out } => write(global, model, patch, out, false),
        PatchCommand::Revert { model, patch, out } => write(global, model, patch, out, true),
        PatchCommand::Show { patch } => show(global, patch),
    }
}

fn write(global: &Global, model: &Path, patch: &Path, out: &Path, revert: bool) -> Result<ExitCode> {
    let budget = global.budget();
    pellucid::patch_model(model, patch, out, revert, &budget)?;
    let summary = pellucid::patch_summary(patch, &budget)?;
    let tensors: Vec<&str> = summary.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let changed = if revert { "restored" } else { "edited" };
    if global.json {
        output::json(&serde_json::json!({"model": out, changed: tensors}))?;
    } else {
        output::lines(&[format!("{}: {} {changed}", out.display(), tensors.join(" and "))])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, patch: &Path) -> Result<ExitCode> {
    let summary = pellucid::patch_summary(patch, &global.budget())?;
    if global.json {
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
