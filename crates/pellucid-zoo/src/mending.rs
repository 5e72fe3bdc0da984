//! Which edit of the decision layer mitigates a known false correlation, and at what cost?
//!
//! Every edit is made from several bootstrap samples of the training and of the validation pictures, with neurons found
//! automatically and without group labels, and is read off the whole test split: once trained on the whole pictures alone,
//! and once with random views of them beside, as the published recipe trains.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use pellucid::internals::classifier_methods::repair::{self, Edit, RepairSettings, Splits};
use pellucid::internals::classifier_methods::scan::FeatureTable;
use pellucid::{Classifier, OpenOptions, ScanSettings, Silent, divide};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::benchmark::Benchmark;

/// Lines of a Markdown file between which the tables are written.
pub const MARKERS: [&str; 2] = ["<!-- begin: pellucid-zoo repair -->", "<!-- end: pellucid-zoo repair -->"];

/// Views of each training picture in the second round.
const VIEWS: usize = 4;

/// One edit's test figures over the seeds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Accuracy over all, one entry a seed.
    pub overall: Vec<f64>,
    /// Accuracy of the worst group.
    pub worst_group: Vec<f64>,
    /// Seconds, every setting tried included.
    pub seconds: Vec<f64>,
}

/// The edits on one benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Mending {
    /// Which.
    pub benchmark: Benchmark,
    /// The class found at fault by each seed.
    pub classes: Vec<String>,
    /// The neurons found by each seed.
    pub neurons: Vec<Vec<usize>>,
    /// By edit, and by the views of each training picture that it was trained on beside the whole one.
    pub rows: BTreeMap<(Edit, usize), Row>,
}

/// Measures every edit on `benchmark`, whose pictures `compose` wrote to `data`, from `seeds` bootstrap samples.
pub fn measure(benchmark: Benchmark, model: &Path, data: &Path, runs: &Path, seeds: u64) -> Result<Mending> {
    let classifier = Classifier::open(model, &OpenOptions::default())?;
    let settings = ScanSettings::default().with_cache(runs.join(".cache"));
    let scanned = pellucid::scan(&classifier, data, &settings, &Silent)?;
    let mut divided = divide(&scanned.data, &scanned.features()?, 0)?;
    let whole = divided.parts[0].labels.len();
    scanned.add_training_views(&mut divided.parts[0], VIEWS, &Silent)?;
    let [train, validation, test] = &divided.parts;
    let classes = scanned.classes();
    let mut mending = Mending { benchmark, classes: Vec::new(), neurons: Vec::new(), rows: BTreeMap::new() };
    for seed in 0..seeds {
        let validation = resample(validation, validation.labels.len(), 0, 2 * seed + 1);
        for views in [0, VIEWS] {
            let train = resample(train, whole, views, 2 * seed);
            let splits = Splits { train: &train, views, validation: &validation, test, units: None };
            let how = RepairSettings::default().with_seed(seed);
            let made = repair::repair(classifier.layer(), splits, classes, &scanned.data.groups, &how)?.repair;
            // Both are found on validation, which has no views.
            if views == 0 {
                mending.classes.push(made.class.1);
                mending.neurons.push(made.suspects.iter().map(|s| s.neuron).collect());
            }
            for tried in made.tried {
                // Neither is trained.
                if views > 0 && matches!(tried.edit, Edit::None | Edit::Zero) {
                    continue;
                }
                let row = mending.rows.entry((tried.edit, views)).or_default();
                row.overall.push(tried.test.overall.value);
                row.worst_group.push(tried.test.worst_group.map_or(f64::NAN, |p| p.value));
                row.seconds.push(tried.seconds);
            }
        }
    }
    Ok(mending)
}

/// As many of the `whole` first rows, drawn with replacement, with the first `views` views of each below.
fn resample(table: &FeatureTable, whole: usize, views: usize, seed: u64) -> FeatureTable {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let drawn: Vec<usize> = (0..whole).map(|_| rng.random_range(0..whole)).collect();
    let rows: Vec<usize> = (0..=views).flat_map(|view| drawn.iter().map(move |row| view * whole + row)).collect();
    table.select(&rows)
}

/// Mean, lowest and highest in percent.
fn spread(values: &[f64]) -> String {
    let mean = 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (v.min(low), v.max(high)));
    format!("{mean:.1} ({:.1}–{:.1})", 100.0 * low, 100.0 * high)
}

impl Mending {
    /// The table as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let named: Vec<String> =
            self.neurons.iter().map(|list| list.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")).collect();
        let _ = writeln!(out, "### {}\n", self.benchmark.name());
        let _ = writeln!(
            out,
            "{} seeds. Class found at fault: {}. Neurons found: {}.\n",
            self.classes.len(),
            self.classes.join(", "),
            named.join("; ")
        );
        let _ = writeln!(
            out,
            "| edit | overall, % | worst group, % | gained in the worst group, points | paid overall, points |"
        );
        let _ = writeln!(out, "|---|---|---|---|---|");
        let none = self.rows.get(&(Edit::None, 0));
        let mean = |values: &[f64]| 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64;
        for ((edit, views), row) in &self.rows {
            let views = if *views > 0 { format!(", on {views} views of each picture too") } else { String::new() };
            let gain = none.map_or(f64::NAN, |none| mean(&row.worst_group) - mean(&none.worst_group));
            let cost = none.map_or(f64::NAN, |none| mean(&none.overall) - mean(&row.overall));
            let _ = writeln!(
                out,
                "| `{}`: {}{views} | {} | {} | {gain:+.1} | {cost:+.1} |",
                edit.name(),
                edit.description(),
                spread(&row.overall),
                spread(&row.worst_group)
            );
        }
        out
    }
}
