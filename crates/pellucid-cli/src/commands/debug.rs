//! `pellucid debug MODEL DATA`.

use crate::args::{Args, Condition, DebugArgs, Figure};
use crate::output;
use crate::progress::Bars;
use anyhow::Result;
use pellucid::classifier_methods::results::{Proportion, Slice, Summary};
use pellucid::{Classifier, DebugOutcome, DebugSettings};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, debug: &DebugArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&debug.model, &debug.open.options(&args.global))?;
    let mut settings = debug.run.settings()?;
    debug.examine.apply(&mut settings);
    examine(args, &classifier, &debug.data, &settings, &debug.examine.fail_on)
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
    outcome.diagnosis.run.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    if args.global.json {
        output::json(&outcome.diagnosis)?;
    } else {
        output::lines(&describe(&outcome))?;
    }
    let failed: Vec<&Condition> = fail_on.iter().filter(|c| holds(c, &outcome.diagnosis.summary)).collect();
    failed.iter().for_each(|c| eprintln!("failed: {:?} is below {}", c.figure, c.below));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn describe(outcome: &DebugOutcome) -> Vec<String> {
    let mut lines = outcome.diagnosis.verdict.clone();
    lines.push(String::new());
    lines.extend(output::summary(&outcome.diagnosis.summary));
    lines.push(format!("report       {}", outcome.report.display()));
    lines
}

fn holds(condition: &Condition, summary: &Summary) -> bool {
    let slice = |slices: &[Slice], id: Option<usize>| slices.iter().find(|s| Some(s.id) == id).map(|s| s.accuracy);
    let figure: Option<Proportion> = match condition.figure {
        Figure::Accuracy => Some(summary.accuracy),
        Figure::WorstClass => slice(&summary.by_class, summary.worst_class),
        Figure::WorstGroup => slice(&summary.by_group, summary.worst_group),
    };
    figure.is_some_and(|p| p.value < condition.below)
}
