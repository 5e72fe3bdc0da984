//! `pellucid repair MODEL DATA`.

use crate::args::{Args, Condition, Figure, RepairArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::{Result, bail};
use pellucid::classifier_methods::repair::results::{RepairRun, Tried};
use pellucid::classifier_methods::results::{Proportion, RunRecord};
use pellucid::{Classifier, DebugSettings, RepairOptions, RepairOutcome};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, repair: &RepairArgs) -> Result<ExitCode> {
    if let Some(split) = &repair.run.split {
        bail!(
            "--split {split}: a repair needs every split, to train on, to choose by and to measure with; leave it out"
        );
    }
    let classifier = Classifier::open(&repair.model, &repair.open.options(&args.global))?;
    let mut settings = repair.run.settings()?;
    settings.report.pictures = !repair.no_pictures;
    settings.pictures = repair.pictures;
    mend(args, &classifier, &repair.data, &settings, &repair.how.options()?, &repair.fail_on)
}

/// Runs the job, prints what it brought, and gives the exit code that `fail_on` asks for.
pub fn mend(
    args: &Args,
    classifier: &Classifier,
    data: &Path,
    settings: &DebugSettings,
    options: &RepairOptions,
    fail_on: &[Condition],
) -> Result<ExitCode> {
    let bars = Bars::new(args.global.quiet);
    let outcome = pellucid::repair(classifier, data, settings, options, &bars)?;
    output::warnings(&outcome.result.run.warnings);
    output::warnings(&outcome.result.repair.warnings);
    if args.global.json {
        output::json(&Printed {
            directory: &outcome.directory,
            model: outcome.model.as_deref(),
            patch: outcome.patch.as_deref(),
            report: &outcome.report,
            record: &outcome.result.run.record,
            result: &outcome.result,
        })?;
    } else {
        output::lines(&describe(&outcome))?;
    }
    judge(fail_on, &outcome.result)
}

/// What `--json` prints: the result, how the run went, and where the files are.
#[derive(serde::Serialize)]
struct Printed<'a> {
    directory: &'a Path,
    model: Option<&'a Path>,
    patch: Option<&'a Path>,
    report: &'a Path,
    record: &'a RunRecord,
    #[serde(flatten)]
    result: &'a RepairRun,
}

fn describe(outcome: &RepairOutcome) -> Vec<String> {
    let repair = &outcome.result.repair;
    let neurons: Vec<String> = repair.suspects.iter().map(|s| s.neuron.to_string()).collect();
    let mut lines = vec![
        repair.conduct.headline.clone(),
        String::new(),
        format!("class        {}", repair.class.1),
        format!("neurons      {}", if neurons.is_empty() { "none".to_owned() } else { neurons.join(" ") }),
        String::new(),
        format!(
            "{:<22} {:>8} {:>12} {:>12} {:>12}  on the test split",
            "edit", "overall", "worst group", "worst class", "worst slice"
        ),
    ];
    let shipped = |tried: &Tried| repair.conduct.shipped && tried.edit == repair.edit;
    lines.extend(repair.tried.iter().map(|tried| row(tried, shipped(tried))));
    let (overall, comparison) = (&repair.comparison.overall, &repair.comparison);
    lines.push(String::new());
    let points = |i: &pellucid::classifier_methods::results::Interval| {
        format!("{:+.1} points ({:+.1} to {:+.1})", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
    };
    for (name, worst) in [("worst group", &comparison.worst_group), ("worst class", &comparison.worst_class)] {
        if let Some(worst) = worst {
            lines.push(format!("{name:<12} {}", points(&worst.difference)));
        }
    }
    lines.push(format!("overall      {}", points(&overall.difference)));
    if let Some(gain) = &repair.conduct.over_refit {
        lines.push(format!("over refit   {}", points(&gain.difference)));
    }
    lines.push(format!("pictures     {} fixed, {} broken", overall.fixed, overall.broken));
    for check in &repair.causal {
        let (worst, overall) = (100.0 * check.worst_group, 100.0 * check.overall);
        lines.push(format!(
            "neuron {:<6}at 0: worst group {worst:+.1}, overall {overall:+.1} points on validation",
            check.neuron
        ));
    }
    for (what, path) in [("model", &outcome.model), ("patch", &outcome.patch)] {
        if let Some(path) = path {
            lines.push(format!("{what:<12} {}", path.display()));
        }
    }
    lines.push(format!("report       {}", outcome.report.display()));
    lines
}

fn row(tried: &Tried, shipped: bool) -> String {
    let percent = |p: Option<Proportion>| match p {
        Some(p) if p.total > 0 => format!("{:.1} %", 100.0 * p.value),
        _ => "–".to_owned(),
    };
    let test = &tried.test;
    let mark = if shipped { "  ← shipped" } else { "" };
    format!(
        "{:<22} {:>8} {:>12} {:>12} {:>12}{mark}",
        tried.edit.name(),
        percent(Some(test.overall)),
        percent(test.worst_group),
        percent(Some(test.worst_class)),
        percent(test.worst_slice)
    )
}

/// The exit code: 1 if any condition holds of the edited model on the test split.
fn judge(conditions: &[Condition], result: &RepairRun) -> Result<ExitCode> {
    let comparison = &result.repair.comparison;
    let mut code = ExitCode::SUCCESS;
    for condition in conditions {
        if condition.figure == Figure::NoEdit {
            if !result.repair.conduct.shipped {
                output::note("failed: no edit was shipped");
                code = ExitCode::from(1);
            }
            continue;
        }
        let found = match condition.figure {
            Figure::Accuracy => Some(comparison.overall.after),
            Figure::WorstClass => comparison.worst_class.as_ref().map(|w| w.after.1),
            Figure::WorstGroup => comparison.worst_group.as_ref().map(|w| w.after.1),
            Figure::NoEdit => None,
        };
        let Some(found) = found.filter(|p| p.total > 0) else {
            bail!("--fail-on {condition}: the data set has no groups, so there is no such figure");
        };
        if found.value < condition.below {
            output::note(&format!("failed: {} is {:.4}, below {}", condition.figure, found.value, condition.below));
            code = ExitCode::from(1);
        }
    }
    Ok(code)
}
