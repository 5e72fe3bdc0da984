//! `pellucid completions SHELL`.

use crate::args::Args;
use crate::output;
use anyhow::Result;
use clap::CommandFactory;
use std::process::ExitCode;

pub fn run(args: &Args, shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "pellucid", &mut script);
    if args.global.json {
        output::json(&serde_json::json!({ "shell": shell.to_string(), "script": String::from_utf8_lossy(&script) }))?;
    } else {
        output::print(&script)?;
    }
    Ok(ExitCode::SUCCESS)
}
