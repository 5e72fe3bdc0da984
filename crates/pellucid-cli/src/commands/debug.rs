//! `pellucid debug MODEL DATA`.

use crate::args::{Args, Condition, DebugArgs, Figure};
use crate::output;
use crate::progress::Bars;
use anyhow::{Result, bail};
use pellucid::classifier_methods::results::{Diagnosis, Proportion, RunRecord, Slice, Summary};
use pellucid::{Classifier, DebugOutcome, DebugSettings, RepairOptions};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, debug: &DebugArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&debug.model, &debug.open.options(&args.global))?;
    let mut settings = debug.run.settings()?;
    debug.examine.apply(&mut settings);
    let code = examine(args, &classifier, &debug.data, &settings, &debug.examine.fail_on)?;
    if !debug.repair {
        return Ok(code);
    }
    output::lines(&[String::new()])?;
    // The diagnosis has answered --fail-on; the repair is made whatever it said.
    super::repair::mend(args, &classifier, &debug.data, &settings, &RepairOptions::default(), &[])?;
    Ok(code)
}

/// Runs the job, prints the verdict and the report's path, and gives the exit code that `fail_on` asks for.
pub fn examine(
    args: &Args,
    classifier: &Classifier,
    data: &Path,
    settings: &DebugSettings,
    fail_on: &[Condition],
) -> Result<ExitCode> {
    let bars = Bars::new(args.global.quiet);
    let outcome = pellucid::debug(classifier, data, settings, &bars)?;
    output::warnings(&outcome.diagnosis.run.warnings);
    if args.global.json {
        output::json(&Printed {
            diagnosis: &outcome.diagnosis,
            record: &outcome.diagnosis.run.record,
            directory: &outcome.directory,
            report: &outcome.report,
        })?;
    } else {
        output::lines(&describe(&outcome))?;
    }
    judge(fail_on, &outcome.diagnosis.summary)
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

fn describe(outcome: &DebugOutcome) -> Vec<String> {
    let mut lines = outcome.diagnosis.verdict.clone();
    lines.push(String::new());
    lines.extend(output::summary(&outcome.diagnosis.summary));
    lines.push(format!("report       {}", outcome.report.display()));
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
