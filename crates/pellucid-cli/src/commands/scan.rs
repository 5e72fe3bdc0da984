//! `pellucid scan MODEL DATA`.

use crate::args::{Global, OpenArgs, RunArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::Result;
use clap::Args as ClapArgs;
use pellucid::results::Summary;
use pellucid::{Classifier, Warning};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct ScanArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// A folder per class, metadata.csv, CSV, JSONL or Parquet
    pub data: PathBuf,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

pub fn run(global: &Global, scan: &ScanArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&scan.model, &scan.open.options(global))?;
    let bars = Bars::new(global);
    let run = scan.run.options(true)?;
    let found = pellucid::scan(&classifier, &scan.data, &scan.run.scan(), &bars)?;
    let written = found.write_run(&run)?;
    output::warnings(&found.warnings);
    if global.json {
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
