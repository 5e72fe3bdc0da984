//! `pellucid scan MODEL DATA`.

use crate::args::{Args, ScanArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::Result;
use pellucid::Classifier;
use std::process::ExitCode;

pub fn run(args: &Args, scan: &ScanArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&scan.model, &scan.open.options(&args.global))?;
    let bars = Bars::new(args.global.quiet);
    let outcome = pellucid::scan(&classifier, &scan.data, &scan.run.settings()?, &bars)?;
    output::warnings(&outcome.warnings);
    if args.global.json {
        output::json(&outcome)?;
    } else {
        let mut lines = output::summary(&outcome.summary);
        lines.push(format!("pictures     {} computed, {} from the cache", outcome.computed, outcome.reused));
        lines.push(format!("results      {}", outcome.directory.display()));
        output::lines(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}
