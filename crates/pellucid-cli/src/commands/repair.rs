//! `pellucid repair MODEL DATA`.

use crate::args::{Condition, Figure, Global, OpenArgs, RunArgs, condition};
use crate::output;
use crate::progress::Bars;
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use pellucid::results::{Interval, Proportion, RepairRun, RunRecord, Tried};
use pellucid::settings::{Edit, RepairSettings, Route, Selection};
use pellucid::{Classifier, DebugSettings, RepairOptions, RepairPaths, RunOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct RepairArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// A folder per class, metadata.csv, CSV, JSONL or Parquet; with train, val and test splits, or they are made
    pub data: PathBuf,
    #[command(flatten)]
    pub how: RepairHow,
    /// Picture so many of the suspects, and score what they see: some seconds each
    #[arg(long, value_name = "COUNT", default_value_t = 0, help_heading = "Report")]
    pub pictures: usize,
    /// Leave pictures out of the report
    #[arg(long, help_heading = "Report")]
    pub no_pictures: bool,
    /// Exit with 1 if the edited model fails: accuracy<0.9, worst-class<0.8 or worst-group<0.8, or no-edit if none was
    /// shipped (may be given again)
    #[arg(long, value_name = "CONDITION", help_heading = "Report", value_parser = condition)]
    pub fail_on: Vec<Condition>,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a repair is made.
#[derive(Debug, ClapArgs)]
pub struct RepairHow {
    /// The class whose cue is at fault; by default the one that the data point at
    #[arg(long, value_name = "NAME", help_heading = "Repair")]
    pub class: Option<String>,
    /// The neurons at fault
    #[arg(long, value_name = "NEURON", num_args = 1.., conflicts_with = "auto", help_heading = "Repair")]
    pub neurons: Vec<usize>,
    /// Find the neurons in the validation split's mistakes: gap (default) or votes (as published)
    #[arg(long, value_name = "ROUTE", num_args = 0..=1, default_missing_value = "gap", help_heading = "Repair")]
    pub auto: Option<RouteName>,
    /// Neurons that --auto takes at most
    #[arg(long, default_value_t = 5, help_heading = "Repair")]
    pub count: usize,
    /// Write this edit, whatever the data say: erase, slice-balanced, ratio, reference, reference-waterbirds, group-balanced,
    /// dfr, afr, jtt, cluster-balanced, class-balanced, refit, class-weighted, focal or zero; by default the one that wins on
    /// validation, and none unless your data confirm a shortcut
    #[arg(long, value_name = "EDIT", help_heading = "Repair")]
    pub edit: Option<Edit>,
    /// You have looked at the pictures: the cue that is ranked first is no part of the class, edit it away
    #[arg(long, help_heading = "Repair")]
    pub confirm: bool,
    /// Try only the edit that is written, without the others beside it
    #[arg(long, help_heading = "Repair")]
    pub alone: bool,
    /// λ₃ of the published loss; by grid on validation for `ratio`, 0.01 for `reference`
    #[arg(long, value_name = "NUMBER", help_heading = "Repair")]
    pub strength: Option<f64>,
    /// o, what the ratio is drawn to; by grid on validation for `ratio`, 1 for `reference`
    #[arg(long, value_name = "NUMBER", help_heading = "Repair")]
    pub target: Option<f64>,
    /// What chooses epochs and settings on validation
    #[arg(long, default_value = "worst-slice", help_heading = "Repair")]
    pub select: SelectionName,
    /// Adam's learning rate, where the edit does not fix it
    #[arg(long, default_value_t = 1e-3, value_name = "NUMBER", help_heading = "Repair")]
    pub learning_rate: f64,
    /// Epochs at most
    #[arg(long, default_value_t = 20, help_heading = "Repair")]
    pub epochs: usize,
    /// Train on so many random views of each picture beside the whole one, as the published recipe does
    #[arg(long, default_value_t = 0, value_name = "VIEWS", help_heading = "Repair")]
    pub augmented: usize,
    /// Also write the edited model here
    #[arg(long, value_name = "FILE.onnx", help_heading = "Repair")]
    pub out: Option<PathBuf>,
}

impl RepairHow {
    /// Validated settings.
    pub fn options(&self) -> Result<RepairOptions> {
        for (name, value) in [("strength", self.strength), ("learning-rate", Some(self.learning_rate))] {
            if value.is_some_and(|v| !v.is_finite() || v < 0.0) {
                bail!("--{name} must be a number of at least 0");
            }
        }
        if self.count == 0 || self.epochs == 0 {
            bail!("--count and --epochs must be at least 1");
        }
        let settings = RepairSettings::default()
            .with_neurons(self.neurons.clone())
            .with_route(self.auto.map_or(Route::Gap, RouteName::route))
            .with_count(self.count)
            .with_edits(if self.alone { Vec::new() } else { Edit::ALL.to_vec() })
            .with_edit(self.edit)
            .with_confirm(self.confirm)
            .with_strength(self.strength)
            .with_target(self.target)
            .with_selection(self.select.selection())
            .with_rate(self.learning_rate)
            .with_epochs(self.epochs);
        Ok(RepairOptions::default().with_class(self.class.clone()).with_settings(settings).with_views(self.augmented))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RouteName {
    /// Neurons that stand in both lists of the evidence gap
    Gap,
    /// The published votes of the counterfactuals
    Votes,
}

impl RouteName {
    fn route(self) -> Route {
        match self {
            RouteName::Gap => Route::Gap,
            RouteName::Votes => Route::Votes,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SelectionName {
    /// Accuracy over all
    Overall,
    /// Accuracy of the worst class
    WorstClass,
    /// Accuracy of the worst class with or without the suspects active
    WorstSlice,
}

impl SelectionName {
    fn selection(self) -> Selection {
        match self {
            SelectionName::Overall => Selection::Overall,
            SelectionName::WorstClass => Selection::WorstClass,
            SelectionName::WorstSlice => Selection::WorstSlice,
        }
    }
}

pub fn run(global: &Global, repair: &RepairArgs) -> Result<ExitCode> {
    if let Some(split) = &repair.run.split {
        bail!(
            "--split {split}: a repair needs every split, to train on, to choose by and to measure with; leave it out"
        );
    }
    let classifier = Classifier::open(&repair.model, &repair.open.options(global))?;
    let settings = repair.run.settings().with_pictures(repair.pictures);
    let (options, run) = (repair.how.options()?, repair.run.options(!repair.no_pictures)?);
    let how = How { settings: &settings, options: &options, run: &run, out: repair.how.out.as_deref() };
    mend(global, &classifier, &repair.data, &how, &repair.fail_on)
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
    global: &Global,
    classifier: &Classifier,
    data: &Path,
    &How { settings, options, run, out }: &How<'_>,
    fail_on: &[Condition],
) -> Result<ExitCode> {
    let bars = Bars::new(global);
    // Before the hours that a scan can take.
    out.map_or(Ok(()), |out| classifier.check_output(out))?;
    let scan = pellucid::scan_for_repair(classifier, data, settings, &bars)?;
    let claim = scan.claim_repair(settings, options, out, run)?;
    let made = scan.repair(settings, options, &bars)?;
    let written = made.write_into(claim, run, out)?;
    output::warnings(&made.result.run.warnings);
    output::warnings(&made.result.repair.warnings);
    if global.json {
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
