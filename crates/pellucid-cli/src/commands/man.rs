//! `pellucid man`: one page for the command and each of its subcommands.

use crate::args::Args;
use crate::output;
use anyhow::Result;
use clap::CommandFactory;
use std::process::ExitCode;

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut page = Vec::new();
    let mut command = Args::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        clap_mangen::Man::new(sub.clone()).render(&mut page)?;
    }
    if args.global.json {
        output::json(&serde_json::json!({ "page": String::from_utf8_lossy(&page) }))?;
    } else {
        output::print(&page)?;
    }
    Ok(ExitCode::SUCCESS)
}
