//! The command line as a whole: its commands, and what each of them calls. Help, man page and completions are made from it.

use crate::args::Global;
use crate::commands::{
    attribute, compare, completions, debug, demo, diffusion, gradient, inspect, man, patch, repair, scan, visualize,
    why,
};
use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// See what a vision model does, why it fails, and repair it.
///
/// Works on any ONNX model; ONNX Runtime does the computing. Exit codes: 0 fine, 1 findings asked for by --fail-on,
/// 2 error.
#[derive(Debug, Parser)]
#[command(name = "pellucid", version, propagate_version = true, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a model holds: inputs, outputs, taps, preprocessing, operators
    Inspect(inspect::InspectArgs),
    /// Run a model over a data set: accuracy by class and group, features to Parquet
    Scan(scan::ScanArgs),
    /// Find the neurons behind a model's mistakes and write a report
    Debug(debug::DebugArgs),
    /// Mitigate a false correlation: edit the decision layer, measure the effect, write the edited model
    Repair(repair::RepairArgs),
    /// Apply, take back or show the patch of a repair
    Patch {
        #[command(subcommand)]
        command: patch::PatchCommand,
    },
    /// Explain the answer on one picture
    Why(why::WhyArgs),
    /// Visualize features: make pictures of what neurons respond to, for a class
    #[command(alias = "picture")]
    Visualize(visualize::VisualizeArgs),
    /// Show which parts of one picture speak for a class or a neuron
    Attribute(attribute::AttributeArgs),
    /// Run the main job on the benchmark with a known false correlation
    Demo(demo::DemoArgs),
    /// Differentiate any value of a model with respect to its inputs or other values
    Gradient(gradient::GradientArgs),
    /// Compare a model's values with arrays saved elsewhere; exit code 1 if any lies too far off
    Compare(compare::CompareArgs),
    /// Explain a text-to-image diffusion model step by step
    Diffusion(diffusion::DiffusionArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
}

#[cfg(unix)]
impl Command {
    /// The command's words, the model that it works on as the user wrote it, and whether what it finishes on the way is kept
    /// and used by the same command again.
    pub fn what_runs(&self) -> (&'static str, String, bool) {
        let of = |words, model: &std::path::Path, is_kept| (words, shown(model), is_kept);
        match self {
            Self::Inspect(a) => of("inspect", &a.model, false),
            Self::Scan(a) => of("scan", &a.model, true),
            Self::Debug(a) => of("debug", &a.model, true),
            Self::Repair(a) => of("repair", &a.model, true),
            Self::Patch { command: patch::PatchCommand::Apply { model, .. } } => of("patch apply", model, false),
            Self::Patch { command: patch::PatchCommand::Revert { model, .. } } => of("patch revert", model, false),
            Self::Patch { command: patch::PatchCommand::Show { patch } } => of("patch show", patch, false),
            Self::Why(a) => of("why", &a.model, false),
            Self::Visualize(a) => of("visualize", &a.model, a.data.is_some()),
            Self::Attribute(a) => of("attribute", &a.model, false),
            Self::Demo(a) => of("demo", &a.zoo, true),
            Self::Gradient(a) => of("gradient", &a.model, false),
            Self::Compare(a) => of("compare", &a.model, false),
            Self::Diffusion(a) => {
                let (words, pipeline) = a.command.what_runs();
                of(words, pipeline, true)
            }
            Self::Completions { .. } => ("completions", String::new(), false),
            Self::Man => ("man", String::new(), false),
        }
    }
}

/// A path as the user wrote it, fit for a terminal.
#[cfg(unix)]
fn shown(path: &std::path::Path) -> String {
    pellucid::printable::name(&path.to_string_lossy()).into_owned()
}

impl Args {
    /// Runs the command that was asked for.
    ///
    /// # Errors
    ///
    /// Whatever keeps the command from its result.
    pub fn run(&self) -> Result<ExitCode> {
        let global = &self.global;
        match &self.command {
            Command::Inspect(a) => inspect::run(global, a),
            Command::Scan(a) => scan::run(global, a),
            Command::Debug(a) => debug::run(global, a),
            Command::Repair(a) => repair::run(global, a),
            Command::Patch { command } => patch::run(global, command),
            Command::Why(a) => why::run(global, a),
            Command::Visualize(a) => visualize::run(global, a),
            Command::Attribute(a) => attribute::run(global, a),
            Command::Demo(a) => demo::run(global, a),
            Command::Gradient(a) => gradient::run(global, a),
            Command::Compare(a) => compare::run(global, a),
            Command::Diffusion(a) => diffusion::run(global, a),
            Command::Completions { shell } => completions::run(global, Self::command(), *shell),
            Command::Man => man::run(global, Self::command()),
        }
    }

    /// What the user should know of the ONNX Runtime that was named, before it is loaded. That none is there, or none that may
    /// be loaded, the command itself says when it needs one.
    pub fn library_warnings(&self) -> Vec<String> {
        match self.command {
            Command::Patch { .. } | Command::Completions { .. } | Command::Man => Vec::new(),
            _ => pellucid::engine::find_library(self.global.onnxruntime.as_deref()).map_or(Vec::new(), |l| l.warnings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
