//! `pellucid repair MODEL DATA`.

use crate::args::{Args, Condition, Figure, RepairArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::{Result, bail};
use pellucid::results::{Interval, Proportion, RepairRun, RunRecord, Tried};
use pellucid::{Classifier, DebugSettings, RepairOptions, RepairPaths, RunOptions};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, repair: &RepairArgs) -> Result<ExitCode> {
    if let Some(split) = &repair.run.split {
        bail!(
            "--split {split}: a repair needs every split, to train on, to choose by and to measure with; leave it out"
        );
    }
    let classifier = Classifier::open(&repair.model, &repair.open.options(&args.global))?;
    let settings = repair.run.settings().with_pictures(repair.pictures);
    let (options, run) = (repair.how.options()?, repair.run.options(!repair.no_pictures)?);
    let how = How { settings: &settings, options: &options, run: &run, out: repair.how.out.as_deref() };
    mend(args, &classifier, &repair.data, &how, &repair.fail_on)
}

/// How a repair is made and written.
pub struct How<'a> {
    pub settings: &'a DebugSettings,
    pub options: &'a RepairOptions,
    pub run: &'a RunOptions,
    pub out: Option<&'a Path>,
}

/// Runs the job, prints what it brought, and gives the exit code that `fail_on` asks for.
pub fn mend(
    args: &Args,
    classifier: &Classifier,
    data: &Path,
    &How { settings, options, run, out }: &How<'_>,
    fail_on: &[Condition],
) -> Result<ExitCode> {
    let bars = Bars::new(args.global.quiet);
    // Before the hours that a scan can take.
    out.map_or(Ok(()), |out| classifier.check_output(out))?;
    let scan = pellucid::scan_for_repair(classifier, data, settings, &bars)?;
    let claim = scan.claim_repair(settings, options, out, run)?;
    let made = scan.repair(settings, options, &bars)?;
    let written = made.write_into(claim, run, out)?;
    output::warnings(&made.result.run.warnings);
    output::warnings(&made.result.repair.warnings);
    if args.global.json {
        output::json(&Printed {
            directory: &written.run.directory,
            model: written.model.as_deref(),
            patch: written.patch.as_deref(),
            report: report(&written),
            record: &written.run.record,
            result: &made.result,
        })?;
    } else {
        output::lines(&describe(&made.result, &written))?;
    }
    judge(fail_on, &made.result)
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

fn report(written: &RepairPaths) -> &Path {
    written.run.report.as_deref().unwrap_or(&written.run.directory)
}

fn describe(result: &RepairRun, written: &RepairPaths) -> Vec<String> {
    let repair = &result.repair;
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
    let points =
        |i: &Interval| format!("{:+.1} points ({:+.1} to {:+.1})", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high);
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
    for (what, path) in [("model", &written.model), ("patch", &written.patch)] {
        if let Some(path) = path {
            lines.push(format!("{what:<12} {}", path.display()));
        }
    }
    lines.push(format!("report       {}", report(written).display()));
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
