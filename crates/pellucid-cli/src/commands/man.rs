//! `pellucid man`: one page for the command and each of its subcommands.

use crate::args::Global;
use crate::output;
use anyhow::Result;
use std::process::ExitCode;

pub fn run(global: &Global, mut command: clap::Command) -> Result<ExitCode> {
    let mut page = Vec::new();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        clap_mangen::Man::new(sub.clone()).render(&mut page)?;
    }
    if global.json {
        output::json(&serde_json::json!({ "page": String::from_utf8_lossy(&page) }))?;
    } else {
        output::print(&page)?;
    }
    Ok(ExitCode::SUCCESS)
}
