//! The `pellucid` command: parses arguments into settings, runs a job of the library, prints its result.

mod args;
mod commands;
mod output;
mod progress;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    limits_are_errors();
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", output::describe(&error)));
            ExitCode::from(2)
        }
    }
}

/// A file that would grow over the process's limit is an error like a full disk, instead of the end by a signal.
fn limits_are_errors() {
    #[cfg(unix)]
    // SAFETY: called first of all, before any thread or handler; ignoring a signal runs no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Inspect(a) => commands::inspect::run(&args, a),
        Command::Scan(a) => commands::scan::run(&args, a),
        Command::Debug(a) => commands::debug::run(&args, a),
        Command::Repair(a) => commands::repair::run(&args, a),
        Command::Patch { command } => commands::patch::run(&args, command),
        Command::Why(a) => commands::why::run(&args, a),
        Command::Picture(a) => commands::picture::run(&args, a),
        Command::Attribute(a) => commands::attribute::run(&args, a),
        Command::Demo(a) => commands::demo::run(&args, a),
        Command::Gradient(a) => commands::gradient::run(&args, a),
        Command::Compare(a) => commands::compare::run(&args, a),
        Command::Diffusion(a) => commands::diffusion::run(&args, a),
        Command::Completions { shell } => commands::completions::run(&args, *shell),
        Command::Man => commands::man::run(&args),
    }
}
