//! The main job: scan, find the neurons behind the mistakes, report.

use crate::input::Data;
use crate::picture::{Diagnosed, Suspects, picture_suspects, standing_out};
use crate::repair::DIVISIBLE;
use crate::run::{self, Claim, RunOptions, RunPaths};
use crate::scan::{Scan, ScanSettings, scan};
use crate::thumbnails::SeenByTheModel;
use crate::{Classifier, Error, Progress, VERSION, Warning, judgement, verdict, warning};
use pellucid_classifier::diagnose::{self, DiagnoseSettings, Evidence};
use pellucid_classifier::maps;
use pellucid_classifier::results::{Diagnosis, Finding, Mistakes, RunCard, RunRecord};
use pellucid_classifier::shortcut::Answer;
use pellucid_classifier::verdict::{FEWEST_MISTAKES, coverage};
use pellucid_report::ReportOptions;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// Sets of mistakes that are examined where none is named.
const EXAMINED: usize = 3;

/// Warnings shown in a report.
const SHOWN_WARNINGS: usize = 30;

/// Mistakes to examine, by the names that the user gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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

pellucid_guard::builders!(MistakeNames {
    with_class: class => Vec<String>,
    with_predicted_as: predicted_as => Vec<String>,
    with_group: group => Vec<String>,
    with_all: all: bool,
});

/// How the job runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DebugSettings {
    /// What is scanned.
    pub scan: ScanSettings,
    /// Which mistakes; the worst class in both directions by default.
    pub mistakes: MistakeNames,
    /// How mistakes are examined.
    pub diagnose: DiagnoseSettings,
    /// Suspect neurons that pictures are made for; 0 makes none.
    pub pictures: usize,
    /// Seed of everything random (bootstrap, pictures).
    pub seed: u64,
}

pellucid_guard::builders!(DebugSettings {
    with_scan: scan => ScanSettings,
    with_mistakes: mistakes => MistakeNames,
    with_diagnose: diagnose => DiagnoseSettings,
    with_pictures: pictures: usize,
    with_seed: seed: u64,
});

/// What [`debug`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Debugged {
    /// The findings; names of files in it are keys of `pictures`.
    pub diagnosis: Diagnosis,
    /// Pictures of suspect neurons as PNG, by name.
    pub pictures: BTreeMap<String, Vec<u8>>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    scan: Scan,
    settings: DebugSettings,
}

/// Scans `data` and examines the mistakes.
///
/// # Errors
/// As [`scan()`], and where a class or group that is named does not exist.
pub fn debug(
    classifier: &Classifier,
    data: impl Into<Data>,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<Debugged, Error> {
    classifier.needs_decision_layer("debugging")?;
    scan(classifier, data, &settings.scan, progress)?.diagnose(settings, progress)
}

impl Scan {
    /// Takes the run directory that a diagnosis will be written into, so that another run's is refused before the work is done.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] for other inputs, [`Error::Busy`], [`Error::Write`].
    pub fn claim_debug(&self, settings: &DebugSettings, run: &RunOptions) -> Result<Claim, Error> {
        let chosen = (&settings.mistakes, &settings.diagnose, settings.pictures, &run.report);
        self.claim("debug", chosen, settings.seed, run)
    }

    /// Examines the mistakes. What `settings` say of the scan has happened already.
    ///
    /// # Errors
    /// Where a class or group that is named does not exist, the network fails, or `progress` interrupts.
    pub fn diagnose(&self, settings: &DebugSettings, progress: &dyn Progress) -> Result<Debugged, Error> {
        let (classifier, classes) = (&self.classifier, &self.classes);
        classifier.needs_decision_layer("debugging")?;
        let mut timings = vec![("scan".to_owned(), self.seconds)];
        let table = self.features()?;

        let start = Instant::now();
        let evidence = Evidence::new(&table, classifier.layer(), &self.data, classes);
        let mut examine = settings.diagnose.clone();
        examine.votes.seed = settings.seed;
        examine.mistakes.extend(by_name(&settings.mistakes, classes, &self.data.groups)?);
        let mut judgement = judgement::judge(self, &table, &evidence.predictions, settings.seed);
        let summary = &self.summary;
        let chosen = match examine.mistakes.is_empty() {
            // Wrong names make every mistake a wrong one; with few of them there is nothing to tell apart.
            true if summary.accuracy.count == summary.accuracy.total => Vec::new(),
            true if judgement.corrected_classes.is_some() => Vec::new(),
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
        let wrong = (0..table.labels.len()).filter(|&r| evidence.predictions[r] != table.labels[r]);
        judgement.coverage = Some(coverage(&wrong.collect::<Vec<_>>(), &rows));
        let units = crate::repair::units(&self.data, &table);
        let slices =
            |(at, rows): (usize, &Vec<usize>)| diagnose::unnamed_slices(&evidence, at, rows, &units, settings.seed);
        judgement.slices = rows.iter().enumerate().flat_map(slices).collect();
        let cue =
            judgement.shortcut.as_ref().filter(|s| s.answer != Some(Answer::NoneFound)).and_then(|s| s.cue.as_ref());
        judgement.cue = cue.map(|cue| diagnose::cue_pictures(&evidence, cue));
        timings.push(("votes and evidence gap".to_owned(), start.elapsed().as_secs_f64()));

        let start = Instant::now();
        let (preprocessing, limits) = (classifier.preprocessing(), classifier.budget());
        let undrawn = maps::draw(classifier.network(), &self.data, preprocessing, limits, &mut findings)?;
        timings.push(("heat maps".to_owned(), start.elapsed().as_secs_f64()));

        let start = Instant::now();
        let diagnosed = Diagnosed { data: &self.data, table: &table };
        let targets = standing_out(&findings, settings.pictures);
        let Suspects { neurons, files, warning } =
            picture_suspects(classifier, &diagnosed, &targets, settings.seed, progress)?;
        if settings.pictures > 0 {
            timings.push(("pictures of neurons".to_owned(), start.elapsed().as_secs_f64()));
        }

        let mut warnings = self.warnings.clone();
        warnings.extend(warning);
        let mut run = run_card(self, settings, &warnings, timings);
        if let Some(why) = undrawn {
            run.heat_maps = format!("none: {why}");
        }
        let diagnosis = Diagnosis {
            verdict: verdict::write(&self.summary, &judgement, &findings),
            judgement,
            run,
            pictures: neurons,
            summary: self.summary.clone(),
            findings,
            data_root: self.data.root.clone(),
        };
        Ok(Debugged { diagnosis, pictures: files, warnings, scan: self.clone(), settings: settings.clone() })
    }
}

impl Debugged {
    /// The scan behind it.
    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// The page.
    ///
    /// # Errors
    /// Where it cannot be kept within [`ReportOptions::max_bytes`].
    pub fn to_html(&self, options: &ReportOptions) -> Result<String, Error> {
        self.page(&self.diagnosis, options)
    }

    fn page(&self, diagnosis: &Diagnosis, options: &ReportOptions) -> Result<String, Error> {
        Ok(pellucid_report::render(diagnosis, options, &SeenByTheModel::of(&self.scan, &self.pictures))?)
    }

    /// Writes `report.html`, `diagnosis.json` and the pictures into a run directory.
    ///
    /// # Errors
    /// Where the directory holds another run or is being written, or a file cannot be written.
    pub fn write_run(&self, run: &RunOptions) -> Result<RunPaths, Error> {
        self.write_into(self.scan.claim_debug(&self.settings, run)?, run)
    }

    /// Whether a repair has something to ask: there is a cue to look at, or mistakes enough and nobody asked about one.
    fn is_worth_a_repair(&self) -> bool {
        let accuracy = self.diagnosis.summary.accuracy;
        match self.diagnosis.judgement.shortcut.as_ref().and_then(|shortcut| shortcut.answer) {
            Some(answer) => answer != Answer::NoneFound,
            None => accuracy.total >= 2 * DIVISIBLE && accuracy.total - accuracy.count >= FEWEST_MISTAKES,
        }
    }

    /// Writes as [`Debugged::write_run`] does, into the directory that [`Scan::claim_debug`] took.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn write_into(&self, claim: Claim, run: &RunOptions) -> Result<RunPaths, Error> {
        let Claim { directory, mut manifest } = claim;
        let mut diagnosis = self.diagnosis.clone();
        diagnosis.run.record = run::record_for(run, &self.scan.classifier, diagnosis.run.record.timings);
        if self.is_worth_a_repair() {
            diagnosis.run.record.next = run::without_folders(&run.next);
        }
        directory.write_files(&self.pictures)?;
        let report = directory.write("report.html", &self.page(&diagnosis, &run.report)?)?;
        directory.write_json("diagnosis.json", &diagnosis)?;
        manifest.warnings = warning::lines(&self.warnings);
        let mut files = vec!["report.html".to_owned(), "diagnosis.json".to_owned()];
        files.extend(judgement::write_classes(&directory, &diagnosis.judgement)?);
        files.extend(judgement::write_suspects(&directory, &self.scan.data, &diagnosis.judgement)?);
        files.extend(self.pictures.keys().cloned());
        let record = diagnosis.run.record;
        directory.finish(&manifest, &files, &record)?;
        Ok(RunPaths { directory: directory.path().to_path_buf(), report: Some(report), record })
    }
}

/// The place of `name` among the `known` names of a `kind`; a number is a place where no name is so written.
pub(crate) fn find(kind: &'static str, known: &[String], name: &str) -> Result<usize, Error> {
    let by_number = || name.parse::<usize>().ok().filter(|i| *i < known.len());
    known.iter().position(|k| k == name).or_else(by_number).ok_or_else(|| Error::Unknown {
        kind,
        name: name.to_owned(),
        known: crate::error::some(known),
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

/// The first warnings, and how many more there are: a page is no place for thousands. The manifest holds them all.
fn shortened(warnings: &[Warning]) -> Vec<String> {
    let mut shown: Vec<String> = warnings.iter().take(SHOWN_WARNINGS).map(ToString::to_string).collect();
    if warnings.len() > SHOWN_WARNINGS {
        shown.push(format!("… and {} more, which the run's manifest.json holds", warnings.len() - SHOWN_WARNINGS));
    }
    shown
}

pub(crate) fn run_card(
    scan: &Scan,
    settings: &DebugSettings,
    warnings: &[Warning],
    timings: Vec<(String, f64)>,
) -> RunCard {
    for (stage, seconds) in &timings {
        tracing::info!(stage, seconds, "done");
    }
    let classifier = &scan.classifier;
    let root = scan.data.root.canonicalize().unwrap_or_else(|_| scan.data.root.clone());
    RunCard {
        pellucid: VERSION.to_owned(),
        onnxruntime: classifier.engine(),
        model: classifier.file_name(),
        model_hash: classifier.model_hash().to_owned(),
        data: root.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        data_hash: scan.report.data_hash.clone(),
        device: classifier.device(),
        seed: settings.seed,
        variant: settings.diagnose.variant.to_string(),
        preprocessing: classifier.preprocessing().describe(),
        heat_maps: heat_maps(classifier),
        warnings: shortened(warnings),
        record: RunRecord { timings, ..RunRecord::default() },
    }
}

/// How the heat maps were made, in words.
fn heat_maps(classifier: &Classifier) -> String {
    let network = classifier.network();
    let Some(map) = network.feature_map() else {
        return network.no_feature_map().map_or_else(String::new, |why| format!("none: {why}"));
    };
    let made = match map.is_direct() {
        true => {
            format!("the neuron's channel of the feature map '{}', scaled to its own range on each picture", map.value)
        }
        false => format!(
            "gradient × activation of the neuron at the feature map '{}', summed over channels, what is positive: layers stand \
             between, so neurons are not its channels",
            map.value
        ),
    };
    map.coarse().map_or(made.clone(), |coarse| format!("{made}; {coarse}"))
}
