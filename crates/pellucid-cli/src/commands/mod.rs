//! One file per command: arguments to settings, a job of the library, its result printed.

use crate::args::{Args, Command};

pub mod attribute;
pub mod compare;
pub mod completions;
pub mod debug;
pub mod demo;
pub mod diffusion;
pub mod gradient;
pub mod inspect;
pub mod man;
pub mod patch;
pub mod picture;
pub mod repair;
pub mod scan;
pub mod why;

/// What the user should know of the ONNX Runtime that was named, before it is loaded. That none is there, or none that may
/// be loaded, the command itself says when it needs one.
pub fn library_warnings(args: &Args) -> Vec<String> {
    match args.command {
        Command::Patch { .. } | Command::Completions { .. } | Command::Man => Vec::new(),
        _ => pellucid::engine::find_library(args.global.onnxruntime.as_deref()).map_or(Vec::new(), |l| l.warnings),
    }
}
