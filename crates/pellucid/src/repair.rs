//! The repair job: scan, find the neurons, edit the decision layer, prove the effect, ship model and patch.

use crate::debug::{find, run_card};
use crate::input::Data;
use crate::patch::{Patch, check_output};
use crate::picture::{Diagnosed, Files, Suspects, picture_suspects};
use crate::run::{self, Claim, RunDirectory, RunOptions, RunPaths};
use crate::scan::{Scan, ScanSettings, scan};
use crate::thumbnails::SeenByTheModel;
use crate::{Classifier, DebugSettings, Error, Progress, Warning, warning};
use pellucid_classifier::feature_visualization::Target;
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::repair::results::RepairRun;
use pellucid_classifier::repair::{self, RepairSettings, Splits};
use pellucid_classifier::results::Sample;
use pellucid_classifier::scan::FeatureTable;
use pellucid_vision::dataset::{Dataset, DatasetWarning};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Below this many pictures of a split that must be divided, no split is made.
pub(crate) const DIVISIBLE: usize = 30;

impl Classifier {
    /// Refuses an `out` that is the classifier's own model, before hours of work are lost to it.
    ///
    /// # Errors
    /// [`Error::OverModel`].
    pub fn check_output(&self, out: &Path) -> Result<(), Error> {
        check_output(out, self.path())
    }
}

/// What is repaired, by the names that the user gives.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// The class whose cue is at fault; by the test and the ranking where `None`.
    pub class: Option<String>,
    /// The method's settings; `class` above goes before theirs.
    pub settings: RepairSettings,
    /// Random views of each training picture that are trained on beside the whole one, as the published recipe does; 0 for none.
    pub views: usize,
}

pellucid_guard::builders!(RepairOptions {
    with_class: class => Option<String>,
    with_settings: settings => RepairSettings,
    with_views: views: usize,
});

/// What [`repair()`] made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Repaired {
    /// What was found and done, and how.
    pub result: RepairRun,
    /// The edited decision layer.
    pub layer: DecisionLayer,
    /// Pictures of the neurons as PNG, by the names that the result calls them by.
    pub pictures: Files,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    scan: Scan,
    parts: [FeatureTable; 3],
    examples: [Vec<Vec<usize>>; 2],
    settings_hash: String,
}

/// Where a repair was written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairPaths {
    /// The run.
    pub run: RunPaths,
    /// The edited model, where an edit was shipped.
    pub model: Option<PathBuf>,
    /// The patch, where an edit was shipped.
    pub patch: Option<PathBuf>,
}

/// The rows of a feature table by split.
#[derive(Debug, Clone)]
pub struct DividedFeatures {
    /// Training, validation and test.
    pub parts: [FeatureTable; 3],
    /// What was made up because the data set lacks it.
    pub warnings: Vec<Warning>,
}

/// Repairs the decision layer of `classifier` with the pictures of `data`. Of `settings`, the cache, the pictures and the seed
/// count: every split takes part, whichever a diagnosis looked at.
///
/// # Errors
/// As [`scan()`], and where the data set is too small to be divided, no neuron stands out, or an edit cannot be made.
pub fn repair(
    classifier: &Classifier,
    data: impl Into<Data>,
    settings: &DebugSettings,
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<Repaired, Error> {
    scan_for_repair(classifier, data, settings, progress)?.repair(settings, options, progress)
}

/// Scans every split of `data`, for [`Scan::repair`].
///
/// # Errors
/// As [`scan()`].
pub fn scan_for_repair(
    classifier: &Classifier,
    data: impl Into<Data>,
    settings: &DebugSettings,
    progress: &dyn Progress,
) -> Result<Scan, Error> {
    classifier.needs_decision_layer("a repair")?;
    let every = ScanSettings { split: None, ..settings.scan.clone() };
    let mut scanned = scan(classifier, data, &every, progress)?;
    // The data set's own remark on that is none of the user's concern here.
    scanned.warnings.retain(|w| !matches!(w, Warning::Dataset(DatasetWarning::SplitsTaken { .. })));
    Ok(scanned)
}

/// What the method is told.
fn how(scan: &Scan, settings: &DebugSettings, options: &RepairOptions) -> Result<RepairSettings, Error> {
    let mut how = options.settings.clone();
    how.seed = settings.seed;
    if let Some(name) = &options.class {
        how.class = Some(find("class", scan.classes(), name)?);
    }
    Ok(how)
}

/// What tells one repair of a scan from another.
fn chosen(how: &RepairSettings, settings: &DebugSettings, options: &RepairOptions) -> String {
    run::hash_of(&(how, options.views, settings.pictures))
}

impl Scan {
    /// Takes the run directory that a repair will be written into, so that another run's is refused before the work is done, and
    /// refuses an `out` that is the model itself.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] for other inputs, [`Error::Busy`], [`Error::OverModel`], [`Error::Write`].
    pub fn claim_repair(
        &self,
        settings: &DebugSettings,
        options: &RepairOptions,
        out: Option<&Path>,
        run: &RunOptions,
    ) -> Result<Claim, Error> {
        if let Some(out) = out {
            check_output(out, self.classifier.path())?;
        }
        let chosen = chosen(&how(self, settings, options)?, settings, options);
        self.claim("repair", (chosen, &run.report), settings.seed, run)
    }

    /// Repairs the decision layer with a scan of every split ([`scan_for_repair`]).
    ///
    /// # Errors
    /// Where the data set is too small to be divided, no neuron stands out, an edit cannot be made, or `progress` interrupts.
    pub fn repair(
        &self,
        settings: &DebugSettings,
        options: &RepairOptions,
        progress: &dyn Progress,
    ) -> Result<Repaired, Error> {
        let classifier = &self.classifier;
        let mut timings = vec![("scan".to_owned(), self.seconds)];
        let start = Instant::now();
        let table = self.features()?;
        let how = how(self, settings, options)?;
        let mut divided = divide(&self.data, &table, settings.seed)?;
        self.add_training_views(&mut divided.parts[0], options.views, progress)?;
        let [train, validation, test] = &divided.parts;
        let units = divided.parts.each_ref().map(|part| units(&self.data, part));
        let units = units.each_ref().map(Vec::as_slice);
        let splits = Splits { train, views: options.views, validation, test, units: Some(units) };
        let mut made = repair::repair(classifier.layer(), splits, self.classes(), &self.data.groups, &how)?;
        let mut warnings = divided.warnings.clone();
        warnings.extend(std::mem::take(&mut made.warnings).into_iter().map(Warning::from));
        let files =
            |rows: &[usize]| rows.iter().map(|&r| self.data.samples[validation.index[r]].file.clone()).collect();
        for (group, rows) in made.repair.proposed.iter_mut().zip(&made.examples) {
            group.examples = files(rows);
        }
        for (cluster, rows) in made.repair.clusters.iter_mut().zip(&made.cluster_examples) {
            cluster.examples = files(rows);
        }
        timings.push(("repair".to_owned(), start.elapsed().as_secs_f64()));
        let begin = Instant::now();
        let diagnosed = Diagnosed { data: &self.data, table: validation };
        let class = Some(made.repair.class.0);
        let suspects = made.repair.suspects.iter().take(settings.pictures);
        let targets: Vec<Target> = suspects.map(|s| Target { channel: s.neuron, class }).collect();
        let Suspects { neurons, files, warning } =
            picture_suspects(classifier, &diagnosed, &targets, settings.seed, progress)?;
        warnings.extend(warning);
        made.repair.warnings = warning::lines(&warnings);
        for (suspect, pictured) in made.repair.suspects.iter_mut().zip(&neurons) {
            suspect.sensitivity = pictured.pictures.iter().find_map(|p| p.sensitivity);
        }
        if settings.pictures > 0 {
            timings.push(("pictures of neurons".to_owned(), begin.elapsed().as_secs_f64()));
        }
        timings.extend(made.repair.tried.iter().map(|tried| (format!("of these {}", tried.edit), tried.seconds)));
        let run = run_card(self, settings, &self.warnings, timings);
        let result = RepairRun { repair: made.repair, pictures: neurons, run };
        let settings_hash = chosen(&how, settings, options);
        Ok(Repaired {
            result,
            layer: made.layer,
            pictures: files,
            scan: self.clone(),
            parts: divided.parts,
            examples: [made.examples, made.cluster_examples],
            warnings,
            settings_hash,
        })
    }
}

impl Repaired {
    /// Writes `report.html`, `repair.json`, the edited model and `patch.safetensors` into a run directory; the model also to `out`.
    ///
    /// # Errors
    /// Where the classifier is no ONNX file, `out` is that file, the directory holds another run or is being written, or a file
    /// cannot be written.
    pub fn write_run(&self, run: &RunOptions, out: Option<&Path>) -> Result<RepairPaths, Error> {
        if let Some(out) = out {
            check_output(out, self.scan.classifier.path())?;
        }
        let settings = (&self.settings_hash, &run.report);
        self.write_into(self.scan.claim("repair", settings, self.result.run.seed, run)?, run, out)
    }

    /// Writes as [`Repaired::write_run`] does, into the directory that [`Scan::claim_repair`] took.
    ///
    /// # Errors
    /// Where the classifier is no ONNX file, or a file cannot be written.
    pub fn write_into(&self, claim: Claim, run: &RunOptions, out: Option<&Path>) -> Result<RepairPaths, Error> {
        let Claim { directory, manifest } = claim;
        let (classifier, data) = (&self.scan.classifier, &self.scan.data);
        let [_, validation, test] = &self.parts;
        directory.write_files(&self.pictures)?;
        let shipped = match self.result.repair.conduct.shipped {
            true => Some(ship(classifier, &self.layer, &self.result.repair, &directory, out)?),
            false => None,
        };
        let mut result = self.result.clone();
        result.run.record = run::record_for(run, classifier, result.run.record.timings);
        directory.write_json("repair.json", &result)?;
        let rows = |rows: &Vec<usize>| samples(data, classifier.layer(), validation, rows);
        let [proposed, clusters] = &self.examples;
        let shown = pellucid_report::ShownInRepair {
            changed: changed(data, &result, classifier.layer(), &self.layer, test),
            proposed: proposed.iter().map(rows).collect(),
            clusters: clusters.iter().map(rows).collect(),
        };
        let pictures = SeenByTheModel::of(&self.scan, &self.pictures);
        let page = pellucid_report::render_repair(&result, &shown, &run.report, &pictures)?;
        let report = directory.write("report.html", &page)?;
        let mut files = vec!["report.html".to_owned(), "repair.json".to_owned()];
        files.extend(self.pictures.keys().cloned());
        if let Some((model, patch, beside)) = &shipped {
            files.extend([model, patch].into_iter().chain(beside).map(|path| file(path)));
        }
        let (model, patch) = shipped.map(|(model, patch, _)| (model, patch)).unzip();
        let record = result.run.record;
        directory.finish(&manifest, &files, &record)?;
        let run = RunPaths { directory: directory.path().to_path_buf(), report: Some(report), record };
        Ok(RepairPaths { run, model, patch })
    }
}

/// Number of the unit of each row of `table`: that of the data set, or one of its own. The same whatever rows a table has.
pub(crate) fn units(data: &Dataset, table: &FeatureTable) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    for name in data.samples.iter().filter_map(|sample| sample.unit.as_deref()) {
        let next = numbers.len();
        numbers.entry(name).or_insert(next);
    }
    let number = |index: usize| match &data.samples[index].unit {
        Some(name) => numbers.get(name.as_str()).copied().unwrap_or(0),
        None => numbers.len() + index,
    };
    table.index.iter().map(|&index| number(index)).collect()
}

fn file(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes the edited model, its patch, and what the model is opened with; the model also to `out`.
fn ship(
    classifier: &Classifier,
    layer: &DecisionLayer,
    repair: &repair::Repair,
    directory: &RunDirectory,
    out: Option<&Path>,
) -> Result<(PathBuf, PathBuf, Vec<PathBuf>), Error> {
    let neurons: Vec<String> = repair.suspects.iter().map(|s| s.neuron.to_string()).collect();
    let note = format!(
        "pellucid {} repair: edit '{}' for class '{}', neurons {}",
        crate::VERSION,
        repair.edit,
        repair.class.1,
        neurons.join(" ")
    );
    // Read afresh: the opened model's graph has taps and poolings added.
    let tapped = classifier.onnx("an edited model")?.tapped();
    let mut original = match tapped.is_rewritten() {
        // The layer is in no file: it was folded, or its numbers are of another precision there.
        true => tapped.with_one_layer()?,
        false => crate::classifier::read(classifier.path(), classifier.budget())?,
    };
    original.embed_weights()?;
    let patch = Patch::between(&original, &tapped.taps.layer, layer, &note)?;
    let (patch_path, stem) = (directory.file("patch.safetensors"), classifier.path().file_stem().unwrap_or_default());
    directory.write_bytes("patch.safetensors", &patch.to_bytes()?)?;
    let edited = patch.apply(&original, &patch_path)?;
    let model = directory.file(&format!("{}.repaired.onnx", stem.to_string_lossy()));
    edited.write(&model)?;
    let beside = describe_beside(classifier, &model, false)?;
    if let Some(out) = out {
        edited.write(out)?;
        describe_beside(classifier, out, true)?;
    }
    Ok((model, patch_path, beside))
}

/// Writes preprocessing and class names beside a copy of the classifier's model, so that it is opened as the original was.
/// With `keep`, files that are there already stay. Gives the files.
fn describe_beside(classifier: &Classifier, model: &Path, keep: bool) -> Result<Vec<PathBuf>, Error> {
    let write = |ending: &str, text: &str| {
        let path = model.with_extension(ending);
        if !(keep && path.exists()) {
            let written = pellucid_guard::seal::write_whole(&path, text.as_bytes());
            written.map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        Ok::<_, Error>(path)
    };
    let preprocessing = serde_json::to_string_pretty(classifier.preprocessing());
    let failed =
        |e: serde_json::Error| Error::Write { path: model.with_extension("preprocess.json"), source: e.into() };
    let mut files = vec![write("preprocess.json", &preprocessing.map_err(failed)?)?];
    if let Some(names) = classifier.class_names() {
        files.push(write("labels.txt", &(names.join("\n") + "\n"))?);
    }
    Ok(files)
}

/// The test samples that a report shows: fixed and broken ones, as they were before and are after.
fn changed(
    data: &Dataset,
    result: &RepairRun,
    before: &DecisionLayer,
    after: &DecisionLayer,
    test: &FeatureTable,
) -> Vec<pellucid_report::Changed> {
    let place: BTreeMap<usize, usize> = test.index.iter().enumerate().map(|(row, &index)| (index, row)).collect();
    let comparison = &result.repair.comparison;
    let rows: Vec<usize> =
        comparison.fixed.iter().chain(&comparison.broken).filter_map(|index| place.get(index).copied()).collect();
    let pairs = samples(data, before, test, &rows).into_iter().zip(samples(data, after, test, &rows));
    pairs.map(|(before, after)| pellucid_report::Changed { before, after }).collect()
}

/// The samples in `rows` of `table` with what `layer` says of them.
fn samples(data: &Dataset, layer: &DecisionLayer, table: &FeatureTable, rows: &[usize]) -> Vec<Sample> {
    let logits = layer.logits(&table.features.select(ndarray::Axis(0), rows));
    let sample = |(&row, logits): (&usize, ndarray::ArrayView1<'_, f32>)| {
        let predicted = pellucid_classifier::scan::predicted(&logits.to_vec());
        Sample {
            index: table.index[row],
            file: data.samples[table.index[row]].file.clone(),
            truth: table.labels[row],
            predicted,
            confidence: pellucid_classifier::layer::softmax(logits)[predicted],
            group: table.groups[row],
            counterfactual: None,
        }
    };
    rows.iter().zip(logits.rows()).map(sample).collect()
}

/// Divides a table by the data set's splits. Without a validation split a fifth of the training pictures becomes one, without
/// a test split a quarter; without any, half of the pictures train, a quarter chooses and a quarter measures. Divided
/// class by class, from the seed, and said in the warnings.
///
/// # Errors
/// [`Error::TooFewToSplit`].
pub fn divide(data: &Dataset, table: &FeatureTable, seed: u64) -> Result<DividedFeatures, Error> {
    let of = |name: &str| -> Vec<usize> {
        let is = |&r: &usize| data.samples[table.index[r]].split.as_deref() == Some(name);
        (0..table.index.len()).filter(is).collect()
    };
    let (mut train, mut validation, mut test) = (of("train"), of("val"), of("test"));
    let mut warnings = Vec::new();
    if train.is_empty() {
        let known: Vec<usize> = validation.iter().chain(&test).copied().collect();
        train = (0..table.index.len()).filter(|r| !known.contains(r)).collect();
    }
    let mut made = |from: &mut Vec<usize>, share: f64, split: &'static str| -> Result<Vec<usize>, Error> {
        if from.len() < DIVISIBLE {
            return Err(Error::TooFewToSplit { data: data.root.clone(), split, pictures: from.len() });
        }
        let taken = take(table, from, share, seed);
        warnings.push(Warning::SplitDrawn { split, pictures: taken.len() });
        Ok(taken)
    };
    if train.is_empty() {
        return Err(Error::TooFewToSplit { data: data.root.clone(), split: "training", pictures: table.index.len() });
    }
    if test.is_empty() {
        test = made(&mut train, 0.25, "test")?;
    }
    if validation.is_empty() {
        validation = made(&mut train, 0.2, "validation")?;
    }
    Ok(DividedFeatures { parts: [&train, &validation, &test].map(|rows| table.select(rows)), warnings })
}

/// Moves `share` of each class's rows out of `from`.
fn take(table: &FeatureTable, from: &mut Vec<usize>, share: f64, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    from.iter().for_each(|&r| classes.entry(table.labels[r]).or_default().push(r));
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for rows in classes.values_mut() {
        rows.shuffle(&mut rng);
        let count = (rows.len() as f64 * share).round() as usize;
        taken.extend_from_slice(&rows[..count]);
        kept.extend_from_slice(&rows[count..]);
    }
    kept.sort_unstable();
    taken.sort_unstable();
    *from = kept;
    taken
}
