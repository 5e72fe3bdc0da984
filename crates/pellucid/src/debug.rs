//! The main job: scan, find the neurons behind the mistakes, report.

use crate::error::some;
use crate::picture::{Diagnosed, picture_suspects, standing_out};
use crate::run::{self, Manifest, RunDirectory};
use crate::thumbnails::SeenByTheModel;
use crate::{Classifier, Error, Progress, VERSION, judgement, verdict};
use pellucid_classifier::diagnose::{self, DiagnoseSettings, Evidence};
use pellucid_classifier::illusion::results::PicturedNeuron;
use pellucid_classifier::maps;
use pellucid_classifier::results::{Diagnosis, Finding, Mistakes, RunCard, RunRecord, Summary};
use pellucid_classifier::scan::{self, FeatureTable, ScanReport, ScanSettings, ScanSource};
use pellucid_classifier::statistics;
use pellucid_classifier::verdict::{FEWEST_MISTAKES, coverage};
use pellucid_report::ReportOptions;
use pellucid_vision::dataset::{Dataset, DatasetOptions};
use pellucid_vision::preprocess::Preprocessing;
use pellucid_vision::training_view::TrainingView;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Sets of mistakes that are examined where none is named.
const EXAMINED: usize = 3;

/// Warnings shown in a report.
const SHOWN_WARNINGS: usize = 30;

/// Mistakes to examine, by the names that the user gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MistakeNames {
    /// Mistakes of these classes.
    pub class: Vec<String>,
    /// Mistakes that land on these classes.
    pub predicted_as: Vec<String>,
    /// Mistakes in these groups.
    pub group: Vec<String>,
    /// All mistakes.
    pub all: bool,
}

/// How the job runs.
#[derive(Debug, Clone)]
pub struct DebugSettings {
    /// Where run directories are made.
    pub runs: PathBuf,
    /// Name of the run; made from model and data where `None`.
    pub name: Option<String>,
    /// Replace a run of that name with other inputs.
    pub force: bool,
    /// The split to look at; all where `None`.
    pub split: Option<String>,
    /// Which mistakes; the worst class in both directions by default.
    pub mistakes: MistakeNames,
    /// How mistakes are examined.
    pub diagnose: DiagnoseSettings,
    /// Suspect neurons that pictures are made for; 0 makes none.
    pub pictures: usize,
    /// Seed of everything random (bootstrap, pictures).
    pub seed: u64,
    /// The report.
    pub report: ReportOptions,
    /// The command line, for the run card; absolute paths in it are shortened.
    pub command: String,
}

impl Default for DebugSettings {
    fn default() -> Self {
        Self {
            runs: PathBuf::from("runs"),
            name: None,
            force: false,
            split: None,
            mistakes: MistakeNames::default(),
            diagnose: DiagnoseSettings::default(),
            pictures: 0,
            seed: 0,
            report: ReportOptions::default(),
            command: "pellucid debug".to_owned(),
        }
    }
}

/// What [`debug`] made.
#[derive(Debug, Clone)]
pub struct DebugOutcome {
    /// The findings.
    pub diagnosis: Diagnosis,
    /// The run directory.
    pub directory: PathBuf,
    /// The report.
    pub report: PathBuf,
}

/// What [`scan`] made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ScanOutcome {
    /// Accuracy and confusions.
    pub summary: Summary,
    /// Pictures taken from the cache.
    pub reused: usize,
    /// Pictures computed now.
    pub computed: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The run directory.
    pub directory: PathBuf,
}

/// A scanned data set.
pub(crate) struct Scanned {
    pub data: Arc<Dataset>,
    pub report: ScanReport,
    pub warnings: Vec<String>,
    pub seconds: f64,
}

pub(crate) fn scan_data(
    classifier: &Classifier,
    data: &Path,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<Scanned, Error> {
    let start = Instant::now();
    let options = DatasetOptions {
        split: settings.split.clone(),
        class_names: classifier.class_names.clone(),
        budget: classifier.options.budget,
        ..DatasetOptions::default()
    };
    let data = Arc::new(Dataset::open(data, &options)?);
    check_classes(classifier, &data)?;
    let report = scan_samples(classifier, &data, None, None, settings, progress)?;
    let mut warnings = data.warnings.clone();
    warnings.extend(report.warnings.iter().cloned());
    Ok(Scanned { data, report, warnings, seconds: start.elapsed().as_secs_f64() })
}

fn scan_samples(
    classifier: &Classifier,
    data: &Arc<Dataset>,
    view: Option<TrainingView>,
    only: Option<&[usize]>,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<ScanReport, Error> {
    let source = ScanSource {
        model: &classifier.tapped,
        model_hash: &classifier.model_hash,
        data,
        preprocessing: &classifier.preprocessing,
        limits: &classifier.options.budget,
        view,
        only,
    };
    let cache = settings.runs.join(".cache");
    Ok(scan::scan(&classifier.runtime, &source, &cache, &scan_settings(classifier), progress)?)
}

/// Adds to `table` the features of `views` random views of each of its pictures, below the whole ones. They are cached as any
/// scan is.
pub fn add_training_views(
    classifier: &Classifier,
    data: &Arc<Dataset>,
    table: &mut FeatureTable,
    views: usize,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let whole = table.index.clone();
    for number in 0..views as u64 {
        let report = scan_samples(classifier, data, Some(TrainingView { number }), Some(&whole), settings, progress)?;
        table.append(report.load(data, classifier.tapped.classes(), classifier.tapped.features())?);
    }
    Ok(())
}

pub(crate) fn scan_settings(classifier: &Classifier) -> ScanSettings {
    let session = classifier.options.session.clone();
    ScanSettings { session, memory: classifier.options.budget.memory, ..ScanSettings::default() }
}

fn check_classes(classifier: &Classifier, data: &Dataset) -> Result<(), Error> {
    let logits = classifier.layer.bias.len();
    let highest = data.samples.iter().map(|s| s.label + 1).max().unwrap_or(0);
    let own_names = classifier.class_names.as_ref().is_some_and(|n| n.len() == logits);
    if highest <= logits && (own_names || data.classes.len() == logits) {
        return Ok(());
    }
    Err(Error::Classes {
        model: classifier.path().to_path_buf(),
        logits,
        data: data.root.clone(),
        classes: data.classes.len(),
        names: some(&data.classes),
    })
}

pub(crate) fn class_names(classifier: &Classifier, data: &Dataset) -> Vec<String> {
    let logits = classifier.layer.bias.len();
    classifier.class_names.clone().filter(|n| n.len() == logits).unwrap_or_else(|| data.classes.clone())
}

/// The summary of the samples at `indices` of the data set from their predictions alone.
fn summarise(
    classifier: &Classifier,
    data: &Dataset,
    classes: &[String],
    indices: impl Iterator<Item = usize>,
    predictions: &[usize],
) -> Summary {
    let (labels, groups): (Vec<usize>, Vec<Option<usize>>) =
        indices.map(|i| (data.samples[i].label, data.samples[i].group)).unzip();
    statistics::summarise(&labels, predictions, &groups, classes, &data.groups, classifier.tapped.features())
}

/// A scanned data set with its features in memory, for studies that go beyond [`debug`].
#[derive(Debug, Clone)]
pub struct Features {
    /// The data set.
    pub data: Arc<Dataset>,
    /// Logits and features of its readable pictures.
    pub table: FeatureTable,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Scans `data` with `classifier` into the cache of `settings.runs`, without a run directory.
pub fn features(
    classifier: &Classifier,
    data: impl AsRef<Path>,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<Features, Error> {
    let Scanned { data, report, warnings, .. } = scan_data(classifier, data.as_ref(), settings, progress)?;
    let table = report.load(&data, classifier.tapped.classes(), classifier.tapped.features())?;
    Ok(Features { data, table, warnings })
}

/// Scans `data` with `classifier`: `scan.parquet` and `summary.json` in the run directory.
pub fn scan(
    classifier: &Classifier,
    data: impl AsRef<Path>,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<ScanOutcome, Error> {
    let scanned = scan_data(classifier, data.as_ref(), settings, progress)?;
    let manifest = manifest("scan", classifier, &scanned, settings);
    let directory = RunDirectory::open(
        &settings.runs,
        &run_name(classifier, &scanned.data, settings, &manifest),
        &manifest,
        settings.force,
    )?;
    scanned.report.export(&scanned.data, &directory.file("scan.parquet"))?;
    let classes = class_names(classifier, &scanned.data);
    let indices = scanned.report.rows.iter().map(|(index, _)| *index);
    let summary = summarise(classifier, &scanned.data, &classes, indices, &scanned.report.predictions()?);
    directory.write_json("summary.json", &summary)?;
    let files = ["scan.parquet", "summary.json"].map(str::to_owned);
    directory.finish(
        &manifest,
        &files,
        &run_record(classifier, settings, vec![("scan".to_owned(), scanned.seconds)]),
    )?;
    Ok(ScanOutcome {
        summary,
        reused: scanned.report.reused,
        computed: scanned.report.computed,
        warnings: scanned.warnings,
        directory: directory.path().to_path_buf(),
    })
}

/// Scans `data`, examines the mistakes, and writes `report.html` and `diagnosis.json` into the run directory.
pub fn debug(
    classifier: &Classifier,
    data: impl AsRef<Path>,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<DebugOutcome, Error> {
    let mut scanned = scan_data(classifier, data.as_ref(), settings, progress)?;
    let mut timings = vec![("scan".to_owned(), scanned.seconds)];
    let mut manifest = manifest("debug", classifier, &scanned, settings);
    let name = run_name(classifier, &scanned.data, settings, &manifest);
    let directory = RunDirectory::open(&settings.runs, &name, &manifest, settings.force)?;
    let table = scanned.report.load(&scanned.data, classifier.tapped.classes(), classifier.tapped.features())?;
    let classes = class_names(classifier, &scanned.data);

    let start = Instant::now();
    let evidence = Evidence::new(&table, &classifier.layer, &scanned.data, &classes);
    let indices = table.index.iter().copied();
    let summary = summarise(classifier, &scanned.data, &classes, indices, &evidence.predictions);
    let mut examine = settings.diagnose.clone();
    examine.votes.seed = settings.seed;
    examine.mistakes.extend(by_name(&settings.mistakes, &classes, &scanned.data.groups)?);
    let mut judgement = judgement::judge(classifier, &scanned, &table, &evidence.predictions, &classes, settings.seed);
    let chosen = match examine.mistakes.is_empty() {
        // Wrong names make every mistake a wrong one; with few of them there is nothing to tell apart.
        true if summary.accuracy.count == summary.accuracy.total => Vec::new(),
        true => judgement.mistakes(EXAMINED),
        false => examine.mistakes.clone(),
    };
    progress.start("examine mistakes", chosen.len() as u64);
    let mut searched = Vec::with_capacity(chosen.len());
    for mistakes in &chosen {
        searched.push(diagnose::search(&evidence, mistakes, &examine)?);
        progress.advance(1);
    }
    progress.finish();
    timings.push(("counterfactuals".to_owned(), start.elapsed().as_secs_f64()));

    let start = Instant::now();
    let describe = |(mistakes, searched)| diagnose::describe(&evidence, mistakes, searched, &examine);
    let mut findings: Vec<Finding> = chosen.iter().zip(&searched).map(describe).collect();
    findings.iter_mut().filter(|finding| finding.count < FEWEST_MISTAKES).for_each(|finding| {
        // Of so few only the pictures are shown.
        [&mut finding.gap, &mut finding.insufficient, &mut finding.excessive].into_iter().for_each(Vec::clear);
    });
    let rows: Vec<Vec<usize>> = searched.iter().map(|searched| searched.rows.clone()).collect();
    let wrong: Vec<usize> = (0..table.labels.len()).filter(|&r| evidence.predictions[r] != table.labels[r]).collect();
    judgement.coverage = Some(coverage(&wrong, &rows));
    judgement::write_suspects(&directory, &scanned.data, &judgement)?;
    timings.push(("votes and evidence gap".to_owned(), start.elapsed().as_secs_f64()));

    let start = Instant::now();
    let limits = &classifier.options.budget;
    let preprocessing = &classifier.preprocessing;
    maps::draw(
        &classifier.runtime,
        &classifier.tapped,
        &scanned.data,
        preprocessing,
        limits,
        &scan_settings(classifier),
        &mut findings,
    )?;
    timings.push(("heat maps".to_owned(), start.elapsed().as_secs_f64()));

    let start = Instant::now();
    let diagnosed = Diagnosed { data: &scanned.data, table: &table };
    let targets = standing_out(&findings, settings.pictures);
    let warnings = &mut scanned.warnings;
    let pictures = picture_suspects(classifier, &diagnosed, &targets, settings.seed, &directory, warnings, progress)?;
    if settings.pictures > 0 {
        timings.push(("pictures of neurons".to_owned(), start.elapsed().as_secs_f64()));
    }

    let diagnosis = Diagnosis {
        verdict: verdict::write(&summary, &judgement, &findings),
        judgement,
        run: run_card(classifier, &scanned, settings, timings),
        pictures,
        summary,
        findings,
        data_root: scanned.data.root.clone(),
    };
    let thumbnails = SeenByTheModel { data: &scanned.data, preprocessing, limits, made: directory.path() };
    let page = pellucid_report::render(&diagnosis, &settings.report, &thumbnails)?;
    let report = directory.write("report.html", &page)?;
    directory.write_json("diagnosis.json", &diagnosis)?;
    manifest.warnings = scanned.warnings;
    let mut files = vec!["report.html".to_owned(), "diagnosis.json".to_owned()];
    files.extend(judgement::has_suspects(&diagnosis.judgement).then(|| judgement::SUSPECTS.to_owned()));
    files.extend(diagnosis.pictures.iter().flat_map(PicturedNeuron::files));
    directory.finish(&manifest, &files, &diagnosis.run.record)?;
    Ok(DebugOutcome { diagnosis, directory: directory.path().to_path_buf(), report })
}

/// The place of `name` among the `known` names of a `kind`; a number is a place where no name is so written.
pub(crate) fn find(kind: &'static str, known: &[String], name: &str) -> Result<usize, Error> {
    let by_number = || name.parse::<usize>().ok().filter(|i| *i < known.len());
    known.iter().position(|k| k == name).or_else(by_number).ok_or_else(|| Error::Unknown {
        kind,
        name: name.to_owned(),
        known: some(known),
    })
}

fn by_name(names: &MistakeNames, classes: &[String], groups: &[String]) -> Result<Vec<Mistakes>, Error> {
    let mut chosen = Vec::new();
    for name in &names.class {
        chosen.push(Mistakes::TrueClass { class: find("class", classes, name)? });
    }
    for name in &names.predicted_as {
        chosen.push(Mistakes::PredictedAs { class: find("class", classes, name)? });
    }
    for name in &names.group {
        chosen.push(Mistakes::Group { group: find("group", groups, name)? });
    }
    if names.all {
        chosen.push(Mistakes::All);
    }
    Ok(chosen)
}

pub(crate) fn manifest(job: &str, classifier: &Classifier, scanned: &Scanned, settings: &DebugSettings) -> Manifest {
    let chosen = (&settings.split, &settings.mistakes, &settings.diagnose, &settings.pictures, &settings.report);
    let settings_text = format!("{chosen:?} {:?} {}", classifier.options.taps, computed(&classifier.preprocessing));
    Manifest {
        pellucid: VERSION.to_owned(),
        onnxruntime: classifier.runtime.version(),
        job: job.to_owned(),
        model_hash: classifier.model_hash.clone(),
        data_hash: scanned.report.data_hash.clone(),
        settings_hash: blake3::hash(settings_text.as_bytes()).to_hex().to_string(),
        seed: settings.seed,
        device: classifier.options.session.device.to_string(),
        warnings: scanned.warnings.clone(),
        files: Default::default(),
    }
}

/// What a preprocessing computes, wherever it comes from.
pub(crate) fn computed(preprocessing: &Preprocessing) -> String {
    format!("{:?}", Preprocessing { source: String::new(), ..preprocessing.clone() })
}

/// How the run of a job on a classifier went.
pub(crate) fn run_record(classifier: &Classifier, settings: &DebugSettings, timings: Vec<(String, f64)>) -> RunRecord {
    run::record(&settings.command, classifier.options.session.thread_count(), timings)
}

/// `<model>-<data>-<hash>`: other inputs get another directory, the same inputs the same one.
pub(crate) fn run_name(
    classifier: &Classifier,
    data: &Dataset,
    settings: &DebugSettings,
    manifest: &Manifest,
) -> String {
    if let Some(name) = &settings.name {
        return name.clone();
    }
    let stem = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let root = data.root.canonicalize().unwrap_or_else(|_| data.root.clone());
    let key = format!(
        "{} {} {} {} {}",
        manifest.job, manifest.model_hash, manifest.data_hash, manifest.settings_hash, manifest.seed
    );
    format!(
        "{}-{}-{}-{}",
        manifest.job,
        stem(classifier.path()),
        stem(&root),
        &blake3::hash(key.as_bytes()).to_hex()[..8]
    )
}

/// The first warnings, and how many more there are: a page is no place for thousands. The manifest holds them all.
fn shortened(warnings: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = warnings.iter().take(SHOWN_WARNINGS).cloned().collect();
    if warnings.len() > SHOWN_WARNINGS {
        shown.push(format!("… and {} more, which the run's manifest.json holds", warnings.len() - SHOWN_WARNINGS));
    }
    shown
}

pub(crate) fn run_card(
    classifier: &Classifier,
    scanned: &Scanned,
    settings: &DebugSettings,
    timings: Vec<(String, f64)>,
) -> RunCard {
    let root = scanned.data.root.canonicalize().unwrap_or_else(|_| scanned.data.root.clone());
    RunCard {
        pellucid: VERSION.to_owned(),
        onnxruntime: classifier.runtime.version(),
        model: classifier.file_name(),
        model_hash: classifier.model_hash.clone(),
        data: root.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        data_hash: scanned.report.data_hash.clone(),
        device: classifier.options.session.device.to_string(),
        seed: settings.seed,
        variant: settings.diagnose.variant.to_string(),
        preprocessing: classifier.preprocessing.describe(),
        heat_maps: heat_maps(classifier),
        warnings: shortened(&scanned.warnings),
        record: run_record(classifier, settings, timings),
    }
}

/// How the heat maps were made, in words.
fn heat_maps(classifier: &Classifier) -> String {
    match &classifier.tapped.map {
        None => String::new(),
        Some(map) if map.is_direct() => {
            format!("the neuron's channel of the feature map '{}', scaled to its own range on each picture", map.value)
        }
        Some(map) => format!(
            "none: layers stand between the feature map '{}' and the decision layer, so neurons are not its channels",
            map.value
        ),
    }
}
