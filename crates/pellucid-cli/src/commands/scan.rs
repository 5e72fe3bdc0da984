//! `pellucid scan MODEL DATA`.

use crate::args::{Args, ScanArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::Result;
use pellucid::results::Summary;
use pellucid::{Classifier, Warning};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, scan: &ScanArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&scan.model, &scan.open.options(&args.global))?;
    let bars = Bars::new(args.global.quiet);
    let run = scan.run.options(true)?;
    let found = pellucid::scan(&classifier, &scan.data, &scan.run.scan(), &bars)?;
    let written = found.write_run(&run)?;
    output::warnings(&found.warnings);
    if args.global.json {
        output::json(&Printed {
            summary: &found.summary,
            reused: found.reused(),
            computed: found.computed(),
            warnings: &found.warnings,
            directory: &written.directory,
        })?;
    } else {
        let mut lines = output::summary(&found.summary);
        lines.push(format!("pictures     {} computed, {} from the cache", found.computed(), found.reused()));
        lines.push(format!("results      {}", written.directory.display()));
        output::lines(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Printed<'a> {
    summary: &'a Summary,
    reused: usize,
    computed: usize,
    warnings: &'a [Warning],
    directory: &'a Path,
}
