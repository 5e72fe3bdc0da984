//! `pellucid debug MODEL DATA`.

use super::repair::RepairArgs;
use crate::args::{Condition, Figure, Global, OpenArgs, RunArgs, condition, quoted};
use crate::output;
use crate::progress::Bars;
use anyhow::{Result, bail};
use clap::parser::ValueSource;
use clap::{Args as ClapArgs, ValueEnum};
use pellucid::results::{Diagnosis, Proportion, RunRecord, Slice, Summary};
use pellucid::settings::Variant;
use pellucid::{Classifier, DebugSettings, MistakeNames, RepairOptions, RunOptions};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct DebugArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// A folder per class, metadata.csv, CSV, JSONL or Parquet
    pub data: PathBuf,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub examine: ExamineArgs,
    /// Then repair: edit the decision layer against the class that most mistakes land on (every split takes part)
    #[arg(long, help_heading = "Repair")]
    pub repair: bool,
}

/// Which mistakes are examined, and how.
#[derive(Debug, ClapArgs)]
pub struct ExamineArgs {
    /// Examine the mistakes of this class (may be given again)
    #[arg(long, value_name = "NAME", help_heading = "Mistakes")]
    pub class: Vec<String>,
    /// Examine the mistakes that land on this class (may be given again)
    #[arg(long, value_name = "NAME", help_heading = "Mistakes")]
    pub predicted_as: Vec<String>,
    /// Examine the mistakes of this group (may be given again)
    #[arg(long, value_name = "NAME", help_heading = "Mistakes")]
    pub group: Vec<String>,
    /// Examine all mistakes together
    #[arg(long, help_heading = "Mistakes")]
    pub all_mistakes: bool,
    /// How counterfactuals are searched
    #[arg(long, default_value = "bounded", help_heading = "Mistakes")]
    pub variant: VariantName,
    /// Neurons shown per direction
    #[arg(long, default_value_t = 8, help_heading = "Mistakes")]
    pub neurons: usize,
    /// Make pictures for so many suspect neurons: some seconds each
    #[arg(long, value_name = "N", help_heading = "Report")]
    pub pictures: Option<usize>,
    /// Leave pictures and file names out of the report
    #[arg(long, help_heading = "Report")]
    pub no_pictures: bool,
    /// Exit with 1 if a condition holds: accuracy<0.9, worst-class<0.8 or worst-group<0.8 (may be given again)
    #[arg(long, value_name = "CONDITION", help_heading = "Report", value_parser = condition)]
    pub fail_on: Vec<Condition>,
}

impl ExamineArgs {
    /// Adds the examination to `settings`.
    pub fn apply(&self, settings: &mut DebugSettings) {
        settings.mistakes = MistakeNames::default()
            .with_class(self.class.clone())
            .with_predicted_as(self.predicted_as.clone())
            .with_group(self.group.clone())
            .with_all(self.all_mistakes);
        settings.diagnose.variant = match self.variant {
            VariantName::Bounded => Variant::Bounded,
            VariantName::Reference => Variant::Reference,
            VariantName::Sparse => Variant::Sparse,
        };
        settings.diagnose.neurons = self.neurons;
        settings.pictures = self.pictures.unwrap_or(settings.pictures);
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum VariantName {
    /// Every neuron stays inside its observed range (default)
    Bounded,
    /// As published: no bounds
    Reference,
    /// The fewest neurons that flip a sample
    Sparse,
}

pub fn run(global: &Global, debug: &DebugArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&debug.model, &debug.open.options(global))?;
    let mut settings = debug.run.settings();
    debug.examine.apply(&mut settings);
    let run = debug.run.options(!debug.examine.no_pictures)?.with_next(repair_line());
    let code = examine(global, &classifier, &debug.data, &settings, &run, &debug.examine.fail_on)?;
    if !debug.repair {
        return Ok(code);
    }
    output::lines(&[String::new()])?;
    // The diagnosis has answered --fail-on; the repair is made whatever it said.
    let how = super::repair::How { settings: &settings, options: &RepairOptions::default(), run: &run, out: None };
    super::repair::mend(global, &classifier, &debug.data, &how, &[])?;
    Ok(code)
}

/// Runs the job, prints the verdict and the report's path, and gives the exit code that `fail_on` asks for.
pub fn examine(
    global: &Global,
    classifier: &Classifier,
    data: &Path,
    settings: &DebugSettings,
    run: &RunOptions,
    fail_on: &[Condition],
) -> Result<ExitCode> {
    let bars = Bars::new(global);
    let scan = pellucid::scan(classifier, data, &settings.scan, &bars)?;
    let claim = scan.claim_debug(settings, run)?;
    let found = scan.diagnose(settings, &bars)?;
    let written = found.write_into(claim, run)?;
    let (diagnosis, report) = (&found.diagnosis, written.report.as_deref().unwrap_or(&written.directory));
    output::warnings(&diagnosis.run.warnings);
    let next = if written.record.next.is_empty() { "" } else { &run.next };
    if global.json {
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

/// The command that repairs what this process was asked to debug: its own line with those arguments that `repair` takes too.
/// The run's name stays with the run that has it.
pub fn repair_line() -> String {
    let line = |words: Vec<String>| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    repair_words(std::env::args_os()).map(line).unwrap_or_default()
}

/// Arguments that both commands have and that mean another thing to each, or hold for one run.
const DEBUGS_OWN: [&str; 7] = ["name", "force", "class", "neurons", "fail_on", "json", "verbose"];

fn repair_words(arguments: impl IntoIterator<Item = OsString>) -> Option<Vec<String>> {
    let command = |name| Global::augment_args(clap::Command::new(name));
    let whole = command("pellucid").subcommand(DebugArgs::augment_args(clap::Command::new("debug")));
    let taken = RepairArgs::augment_args(clap::Command::new("repair"));
    let matches = whole.clone().try_get_matches_from(arguments).ok()?;
    let given = matches.subcommand_matches("debug")?;
    let mut words = vec!["pellucid".to_owned(), "repair".to_owned()];
    let mut flags = Vec::new();
    for argument in taken.get_arguments().chain(whole.get_arguments().filter(|a| a.is_global_set())) {
        let id = argument.get_id().as_str();
        let said =
            matches!(given.try_contains_id(id), Ok(true)) && given.value_source(id) == Some(ValueSource::CommandLine);
        if !said || DEBUGS_OWN.contains(&id) {
            continue;
        }
        let values = given.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        match argument.get_long() {
            None => words.extend(values),
            Some(long) => {
                flags.push(format!("--{long}"));
                flags.extend(values.filter(|_| argument.get_action().takes_values()));
            }
        }
    }
    words.extend(flags);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_asked_for_with_what_both_commands_take() {
        let line = "pellucid debug a.onnx pictures --size 64 --neurons 3 --name first --threads 2 --mean 0,0,0 --quiet";
        let words = repair_words(line.split(' ').map(OsString::from)).unwrap();
        let repair = RepairArgs::augment_args(Global::augment_args(clap::Command::new("repair")));
        assert!(repair.try_get_matches_from(&words[1..]).is_ok(), "{words:?}");
        assert_eq!(words[..4], ["pellucid", "repair", "a.onnx", "pictures"]);
        assert!(words.join(" ").contains("--size 64") && words.contains(&"--threads".to_owned()), "{words:?}");
        assert!(!words.contains(&"--name".to_owned()) && !words.contains(&"--neurons".to_owned()), "{words:?}");
        assert_eq!(repair_words(["pellucid", "scan", "a", "b"].map(OsString::from)), None);
    }
}
