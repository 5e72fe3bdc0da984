//! `pellucid completions SHELL`.

use crate::args::Global;
use crate::output;
use anyhow::Result;
use std::process::ExitCode;

pub fn run(global: &Global, mut whole: clap::Command, shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole, "pellucid", &mut script);
    if global.json {
        output::json(&serde_json::json!({ "shell": shell.to_string(), "script": String::from_utf8_lossy(&script) }))?;
    } else {
        output::print(&script)?;
    }
    Ok(ExitCode::SUCCESS)
}
