//! The `pellucid` command: parses arguments into settings, runs a job of the library, prints its result.

mod args;
mod cli;
mod commands;
mod flags;
mod log;
mod output;
mod progress;
#[cfg(unix)]
mod supervisor;

use clap::Parser;
use cli::Args;
use std::process::ExitCode;

/// What the command itself needs is not what the bound on a model's run is for.
#[global_allocator]
static HEAP: pellucid::engine::Heap = pellucid::engine::Heap;

fn main() -> ExitCode {
    settle_signals();
    pellucid::setting::spell(flags::SPELLING);
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(asked) if asked.kind() == clap::error::ErrorKind::DisplayVersion => return versions(),
        Err(other) => other.exit(),
    };
    #[cfg(unix)]
    if let supervisor::Role::Done(code) = supervisor::role(&args) {
        return code;
    }
    log::install(args.global.verbose);
    output::warnings(&args.library_warnings());
    match args.run() {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", output::describe(&error)));
            ExitCode::from(2)
        }
    }
}

/// A file that would grow over the process's limit is an error like a full disk, instead of the end by a signal; and how a
/// child ended can be asked for, even where whoever started this process did not care for its own.
fn settle_signals() {
    #[cfg(unix)]
    // SAFETY: called first of all, before any thread or handler; neither runs code of ours.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Prints this program's version, and that of the ONNX Runtime that it finds.
fn versions() -> ExitCode {
    let engine = match pellucid::objective::Runtime::load(None) {
        Ok(runtime) => format!("ONNX Runtime {} ({})", runtime.version(), runtime.path().display()),
        Err(error) => format!("ONNX Runtime: {error}"),
    };
    match output::lines(&[format!("pellucid {}", pellucid::VERSION), engine]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}
