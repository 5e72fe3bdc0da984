//! `pellucid debug MODEL DATA`.

use crate::args::{Args, Condition, DebugArgs, Figure};
use crate::output;
use crate::progress::Bars;
use anyhow::{Result, bail};
use pellucid::results::{Diagnosis, Proportion, RunRecord, Slice, Summary};
use pellucid::{Classifier, DebugSettings, RepairOptions, RunOptions};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, debug: &DebugArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&debug.model, &debug.open.options(&args.global))?;
    let mut settings = debug.run.settings();
    debug.examine.apply(&mut settings);
    let run = debug.run.options(!debug.examine.no_pictures)?.with_next(crate::args::repair_line());
    let code = examine(args, &classifier, &debug.data, &settings, &run, &debug.examine.fail_on)?;
    if !debug.repair {
        return Ok(code);
    }
    output::lines(&[String::new()])?;
    // The diagnosis has answered --fail-on; the repair is made whatever it said.
    let how = super::repair::How { settings: &settings, options: &RepairOptions::default(), run: &run, out: None };
    super::repair::mend(args, &classifier, &debug.data, &how, &[])?;
    Ok(code)
}

/// Runs the job, prints the verdict and the report's path, and gives the exit code that `fail_on` asks for.
pub fn examine(
    args: &Args,
    classifier: &Classifier,
    data: &Path,
    settings: &DebugSettings,
    run: &RunOptions,
    fail_on: &[Condition],
) -> Result<ExitCode> {
    let bars = Bars::new(args.global.quiet);
    let scan = pellucid::scan(classifier, data, &settings.scan, &bars)?;
    let claim = scan.claim_debug(settings, run)?;
    let found = scan.diagnose(settings, &bars)?;
    let written = found.write_into(claim, run)?;
    let (diagnosis, report) = (&found.diagnosis, written.report.as_deref().unwrap_or(&written.directory));
    output::warnings(&diagnosis.run.warnings);
    let next = if written.record.next.is_empty() { "" } else { &run.next };
    if args.global.json {
        output::json(&Printed { diagnosis, record: &written.record, directory: &written.directory, report })?;
    } else {
        output::lines(&describe(diagnosis, next, report))?;
    }
    judge(fail_on, &diagnosis.summary)
}

/// What `--json` prints: the diagnosis, how the run went, and where the results are.
#[derive(serde::Serialize)]
struct Printed<'a> {
    directory: &'a Path,
    report: &'a Path,
    record: &'a RunRecord,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
}

fn describe(diagnosis: &Diagnosis, next: &str, report: &Path) -> Vec<String> {
    let mut lines = diagnosis.verdict.clone();
    lines.push(String::new());
    lines.extend(output::summary(&diagnosis.summary));
    lines.push(format!("report       {}", report.display()));
    if !next.is_empty() {
        lines.push(format!("next         {next}"));
    }
    lines
}

/// The exit code: 1 if any condition holds. A condition on a figure that does not exist is an error, since a check that
/// can never fail is none.
fn judge(conditions: &[Condition], summary: &Summary) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for condition in conditions {
        if condition.figure == Figure::NoEdit {
            bail!("--fail-on no-edit: only a repair edits; say it to `pellucid repair`");
        }
        let Some(found) = figure(condition.figure, summary).filter(|p| p.total > 0) else {
            bail!("--fail-on {condition}: the data set has no groups, so there is no such figure");
        };
        if found.value < condition.below {
            output::note(&format!("failed: {} is {:.4}, below {}", condition.figure, found.value, condition.below));
            code = ExitCode::from(1);
        }
    }
    Ok(code)
}

fn figure(figure: Figure, summary: &Summary) -> Option<Proportion> {
    let slice = |slices: &[Slice], id: Option<usize>| slices.iter().find(|s| Some(s.id) == id).map(|s| s.accuracy);
    match figure {
        Figure::Accuracy => Some(summary.accuracy),
        Figure::WorstClass => slice(&summary.by_class, summary.worst_class),
        Figure::WorstGroup => slice(&summary.by_group, summary.worst_group),
        Figure::NoEdit => None,
    }
}
