//! The first step of every job on a data set: logits and features of each picture.

use crate::error::some;
use crate::input::Data;
use crate::run::{self, Claim, Identity, RunOptions, RunPaths};
use crate::warning;
use crate::warning::FolderOrders;
use crate::{Classifier, Error, Progress, Warning};
use pellucid_classifier::results::Summary;
use pellucid_classifier::scan::{self, FeatureTable, ScanReport, ScanSource};
use pellucid_classifier::statistics;
use pellucid_vision::dataset::{Dataset, FolderOrder, Reading};
use pellucid_vision::training_view::TrainingView;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What is scanned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ScanSettings {
    /// The split to look at; all where `None`.
    pub split: Option<String>,
    /// A folder that rows are kept in as they are computed, by the content of their pictures: a scan that was stopped goes on, and
    /// the next one computes only what is new. Without one, memory holds them.
    #[serde(skip)]
    pub cache: Option<PathBuf>,
    /// How a table and folders are read, where their own names do not say.
    pub reading: Reading,
}

pellucid_guard::builders!(ScanSettings {
    with_split: split => Option<String>,
    with_cache: cache => Option<PathBuf>,
    with_reading: reading => Reading,
});

/// A scanned data set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scan {
    /// The data set.
    pub data: Arc<Dataset>,
    /// Accuracy and confusions.
    pub summary: Summary,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    pub(crate) classifier: Classifier,
    pub(crate) settings: ScanSettings,
    pub(crate) report: ScanReport,
    pub(crate) classes: Vec<String>,
    pub(crate) seconds: f64,
}

/// Scans `data` with `classifier`.
///
/// # Errors
/// Where the data set cannot be opened or has other classes than the model, no picture can be used, the network fails, or the
/// cache cannot be written; and where `progress` interrupts.
pub fn scan(
    classifier: &Classifier,
    data: impl Into<Data>,
    settings: &ScanSettings,
    progress: &dyn Progress,
) -> Result<Scan, Error> {
    let start = Instant::now();
    let source: Data = data.into();
    let open = |reading: &Reading| {
        let (split, names) = (settings.split.as_deref(), classifier.class_names());
        source.clone().open(split, names, reading, *classifier.budget())
    };
    let mut data = open(&settings.reading)?;
    check_classes(classifier, &data)?;
    let mut report = scan_samples(classifier, &data, None, None, settings, progress)?;
    let order = folder_order(&data, &report)?;
    if let Some(order) = order.as_ref().filter(|order| order.taken == order.other) {
        // The files and their order stay; only what they are labelled changes, which no pass depends on.
        data = open(&Reading { folder_order: Some(order.other), ..settings.reading.clone() })?;
        report = report.under_other_labels(&data);
    }
    let mut warnings = classifier.warnings().to_vec();
    warnings.extend(data.warnings.iter().cloned().map(Warning::from));
    warnings.extend(report.warnings.iter().cloned().map(Warning::from));
    warnings.extend(order.map(Warning::FolderOrder));
    let classes = class_names(classifier, &data);
    let predictions = report.predictions()?;
    let indices = report.rows.iter().map(|(index, _)| *index);
    let (labels, groups): (Vec<usize>, Vec<Option<usize>>) =
        indices.map(|i| (data.samples[i].label, data.samples[i].group)).unzip();
    let features = classifier.network().layer().features();
    let summary = statistics::summarise(&labels, &predictions, &groups, &classes, &data.groups, features);
    let (reused, computed) = (report.reused, report.computed);
    tracing::info!(reused, computed, seconds = start.elapsed().as_secs_f64(), "the data set is scanned");
    let (classifier, settings, seconds) = (classifier.clone(), settings.clone(), start.elapsed().as_secs_f64());
    Ok(Scan { data, summary, warnings, classifier, settings, report, classes, seconds })
}

impl Scan {
    /// Class names: the model's own, or the data set's.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Pictures taken from the cache.
    pub fn reused(&self) -> usize {
        self.report.reused
    }

    /// Pictures computed now.
    pub fn computed(&self) -> usize {
        self.report.computed
    }

    /// blake3 over the pictures, their labels and groups.
    pub fn data_hash(&self) -> &str {
        &self.report.data_hash
    }

    /// The classifier that scanned.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Logits and features of every usable picture, in memory.
    ///
    /// # Errors
    /// Where the cache was changed meanwhile.
    pub fn features(&self) -> Result<FeatureTable, Error> {
        let layer = self.classifier.network().layer();
        Ok(self.report.load(&self.data, layer.classes(), layer.features())?)
    }

    /// Adds to `table` the features of `views` random views of each of its pictures, below the whole ones.
    ///
    /// # Errors
    /// As [`scan()`]; and where the data set holds prepared inputs, of which there are no views.
    pub fn add_training_views(
        &self,
        table: &mut FeatureTable,
        views: usize,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let (whole, layer) = (table.index.clone(), self.classifier.network().layer());
        for number in 0..views as u64 {
            let view = Some(TrainingView { number });
            let report = scan_samples(&self.classifier, &self.data, view, Some(&whole), &self.settings, progress)?;
            table.append(report.load(&self.data, layer.classes(), layer.features())?);
        }
        Ok(())
    }

    /// Takes a run directory for a job called `job` on this scan, before the job is done: another run's is refused early.
    pub(crate) fn claim(
        &self,
        job: &'static str,
        settings: impl Serialize,
        seed: u64,
        run: &RunOptions,
    ) -> Result<Claim, Error> {
        let identity = Identity {
            job,
            data_hash: self.report.data_hash.clone(),
            data: Some(&self.data.root),
            settings: run::settings_hash(&(&self.settings, settings), &self.classifier),
            seed,
            warnings: warning::lines(&self.warnings),
        };
        identity.claim(&self.classifier, run)
    }

    /// Writes `scan.parquet` and `summary.json` into a run directory.
    ///
    /// # Errors
    /// Where the directory holds another run or is being written, or a file cannot be written.
    pub fn write_run(&self, run: &RunOptions) -> Result<RunPaths, Error> {
        let claim = self.claim("scan", (), 0, run)?;
        let directory = &claim.directory;
        self.report.export(&self.data, &directory.file("scan.parquet"))?;
        directory.write_json("summary.json", &self.summary)?;
        let record = run::record_for(run, &self.classifier, vec![("scan".to_owned(), self.seconds)]);
        directory.finish(&claim.manifest, &["scan.parquet", "summary.json"].map(str::to_owned), &record)?;
        Ok(RunPaths { directory: directory.path().to_owned(), report: None, record })
    }
}

/// Scans a part of `data`, or views of it.
pub(crate) fn scan_samples(
    classifier: &Classifier,
    data: &Arc<Dataset>,
    view: Option<TrainingView>,
    only: Option<&[usize]>,
    settings: &ScanSettings,
    progress: &dyn Progress,
) -> Result<ScanReport, Error> {
    let source = ScanSource {
        network: classifier.network(),
        data,
        preprocessing: classifier.preprocessing(),
        limits: classifier.budget(),
        view,
        only,
    };
    Ok(scan::scan(&source, settings.cache.as_deref(), progress)?)
}

/// For class folders named by number: how often the model is right in either order, and which is taken: that of the model's
/// training, which the folders do not say and its answers do.
fn folder_order(data: &Dataset, report: &ScanReport) -> Result<Option<FolderOrders>, Error> {
    let Some((other, map)) = &data.other_order else { return Ok(None) };
    let predictions = report.predictions()?;
    let labels: Vec<usize> = report.rows.iter().map(|(index, _)| data.samples[*index].label).collect();
    let right =
        |class: &dyn Fn(usize) -> usize| labels.iter().zip(&predictions).filter(|(l, p)| class(**l) == **p).count();
    let (first, second) = (right(&|label| label), right(&|label| map[label]));
    let of = labels.len();
    // Far beyond what chance moves: half the standard deviation of a count is at most √n / 4.
    let clear = second as f64 > first as f64 + 3.0 * (of as f64).sqrt();
    let one = if *other == FolderOrder::Sorted { FolderOrder::Number } else { FolderOrder::Sorted };
    let (sorted, number) = if *other == FolderOrder::Sorted { (second, first) } else { (first, second) };
    Ok(Some(FolderOrders { taken: if clear { *other } else { one }, other: *other, sorted, number, of }))
}

fn check_classes(classifier: &Classifier, data: &Dataset) -> Result<(), Error> {
    let logits = classifier.layer().classes();
    let highest = data.samples.iter().map(|s| s.label + 1).max().unwrap_or(0);
    let own_names = classifier.class_names().is_some_and(|n| n.len() == logits);
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

fn class_names(classifier: &Classifier, data: &Dataset) -> Vec<String> {
    let logits = classifier.layer().classes();
    let own = classifier.class_names().filter(|n| n.len() == logits);
    own.map_or_else(|| data.classes.clone(), <[String]>::to_vec)
}
