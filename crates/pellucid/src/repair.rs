//! The repair job: scan, find the neurons, edit the decision layer, prove the effect, ship model and patch.

use crate::debug::{add_training_views, class_names, find, manifest, run_card, run_name, scan_data};
use crate::patch::{Patch, check_output};
use crate::picture::{Diagnosed, picture_suspects};
use crate::run::RunDirectory;
use crate::thumbnails::SeenByTheModel;
use crate::{Classifier, DebugSettings, Error, Progress};
use pellucid_classifier::illusion::Target;
use pellucid_classifier::illusion::results::PicturedNeuron;
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::repair::results::RepairRun;
use pellucid_classifier::repair::{self, RepairSettings, Splits};
use pellucid_classifier::results::Sample;
use pellucid_classifier::scan::FeatureTable;
use pellucid_vision::dataset::Dataset;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Below this many pictures of a split that must be divided, no split is made.
const DIVISIBLE: usize = 30;

/// What is repaired, by the names that the user gives.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// The class whose cue is at fault; by the test and the ranking where `None`.
    pub class: Option<String>,
    /// The method's settings; `class` above goes before theirs.
    pub settings: RepairSettings,
    /// Random views of each training picture that are trained on beside the whole one, as the published recipe does; 0 for none.
    pub views: usize,
    /// Where the edited model is written beside the run directory; only into the run directory where `None`.
    pub out: Option<PathBuf>,
}

/// What [`repair()`] made.
#[derive(Debug, Clone)]
pub struct RepairOutcome {
    /// What was found and done, and how.
    pub result: RepairRun,
    /// The run directory.
    pub directory: PathBuf,
    /// The edited model, where an edit was shipped.
    pub model: Option<PathBuf>,
    /// The patch, where an edit was shipped.
    pub patch: Option<PathBuf>,
    /// The report.
    pub report: PathBuf,
}

/// The rows of a feature table by split.
#[derive(Debug, Clone)]
pub struct DividedFeatures {
    /// Training, validation and test.
    pub parts: [FeatureTable; 3],
    /// What was made up because the data set lacks it.
    pub warnings: Vec<String>,
}

/// Repairs the decision layer of `classifier` with the pictures of `data`: `report.html`, `repair.json`, the edited model and
/// `patch.safetensors` in the run directory.
pub fn repair(
    classifier: &Classifier,
    data: impl AsRef<Path>,
    settings: &DebugSettings,
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<RepairOutcome, Error> {
    // Before the hours that a scan can take.
    if let Some(out) = &options.out {
        check_output(out, classifier.path())?;
    }
    // Every split takes part, whichever a diagnosis looked at.
    let scanning = DebugSettings { split: None, ..settings.clone() };
    let mut scanned = scan_data(classifier, data.as_ref(), &scanning, progress)?;
    // The data set's own remark on that is none of the user's concern here.
    scanned.warnings.retain(|w| !w.starts_with("all splits"));
    let mut timings = vec![("scan".to_owned(), scanned.seconds)];
    let start = Instant::now();
    let table = scanned.report.load(&scanned.data, classifier.tapped.classes(), classifier.tapped.features())?;
    let classes = class_names(classifier, &scanned.data);
    let mut how = options.settings.clone();
    how.seed = settings.seed;
    if let Some(name) = &options.class {
        how.class = Some(find("class", &classes, name)?);
    }
    let mut manifest = manifest("repair", classifier, &scanned, &scanning);
    let asked = format!("{} {how:?} {} {}", manifest.settings_hash, options.views, settings.pictures);
    manifest.settings_hash = blake3::hash(asked.as_bytes()).to_hex().to_string();
    let name = run_name(classifier, &scanned.data, &scanning, &manifest);
    let directory = RunDirectory::open(&settings.runs, &name, &manifest, settings.force)?;

    let mut divided = divide(&scanned.data, &table, settings.seed)?;
    add_training_views(classifier, &scanned.data, &mut divided.parts[0], options.views, settings, progress)?;
    let [train, validation, test] = &divided.parts;
    let units = divided.parts.each_ref().map(|part| units(&scanned.data, part));
    let units = units.each_ref().map(Vec::as_slice);
    let splits = Splits { train, views: options.views, validation, test, units: Some(units) };
    let mut made = repair::repair(&classifier.layer, splits, &classes, &scanned.data.groups, &how)?;
    made.repair.warnings.splice(0..0, divided.warnings.iter().cloned());
    let files = |rows: &[usize]| rows.iter().map(|&r| scanned.data.samples[validation.index[r]].file.clone()).collect();
    for (group, rows) in made.repair.proposed.iter_mut().zip(&made.examples) {
        group.examples = files(rows);
    }
    for (cluster, rows) in made.repair.clusters.iter_mut().zip(&made.cluster_examples) {
        cluster.examples = files(rows);
    }
    timings.push(("repair".to_owned(), start.elapsed().as_secs_f64()));
    let begin = Instant::now();
    let diagnosed = Diagnosed { data: &scanned.data, table: validation };
    let class = Some(made.repair.class.0);
    let suspects = made.repair.suspects.iter().take(settings.pictures);
    let targets: Vec<Target> = suspects.map(|s| Target { channel: s.neuron, class }).collect();
    let warnings = &mut made.repair.warnings;
    let pictures = picture_suspects(classifier, &diagnosed, &targets, settings.seed, &directory, warnings, progress)?;
    for (suspect, pictured) in made.repair.suspects.iter_mut().zip(&pictures) {
        suspect.sensitivity = pictured.pictures.iter().find_map(|p| p.sensitivity);
    }
    if settings.pictures > 0 {
        timings.push(("pictures of neurons".to_owned(), begin.elapsed().as_secs_f64()));
    }
    timings.extend(made.repair.tried.iter().map(|tried| (format!("of these {}", tried.edit), tried.seconds)));
    let shipped = match made.repair.conduct.shipped {
        true => Some(ship(classifier, &made.layer, &made.repair, &directory, options.out.as_deref())?),
        false => None,
    };
    let run = run_card(classifier, &scanned, &scanning, timings);
    let result = RepairRun { repair: made.repair, pictures, run };
    directory.write_json("repair.json", &result)?;
    let (data, limits) = (&scanned.data, &classifier.options.budget);
    let pictures = SeenByTheModel { data, preprocessing: &classifier.preprocessing, limits, made: directory.path() };
    let shown = pellucid_report::ShownInRepair {
        changed: changed(data, &result, &classifier.layer, &made.layer, test),
        proposed: made.examples.iter().map(|rows| samples(data, &classifier.layer, validation, rows)).collect(),
        clusters: made.cluster_examples.iter().map(|rows| samples(data, &classifier.layer, validation, rows)).collect(),
    };
    let page = pellucid_report::render_repair(&result, &shown, &settings.report, &pictures)?;
    let report = directory.write("report.html", &page)?;
    let mut files = vec!["report.html".to_owned(), "repair.json".to_owned()];
    files.extend(result.pictures.iter().flat_map(PicturedNeuron::files));
    if let Some((model, patch, beside)) = &shipped {
        files.extend([model, patch].into_iter().chain(beside).map(|path| file(path)));
    }
    directory.finish(&manifest, &files, &result.run.record)?;
    let (model, patch) = shipped.map(|(model, patch, _)| (model, patch)).unzip();
    Ok(RepairOutcome { result, directory: directory.path().to_path_buf(), model, patch, report })
}

/// Unit of each row of `table`: that of the data set, or one of its own.
pub(crate) fn units(data: &Dataset, table: &FeatureTable) -> Vec<usize> {
    let beyond = data.samples.iter().filter_map(|sample| sample.unit).max().map_or(0, |last| last + 1);
    table.index.iter().map(|&index| data.samples[index].unit.unwrap_or(beyond + index)).collect()
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
    let mut original = crate::classifier::read(classifier.path(), &classifier.options.budget)?;
    original.embed_weights()?;
    let patch = Patch::between(&original, &classifier.tapped.taps.layer, layer, &note)?;
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
    let preprocessing = serde_json::to_string_pretty(&classifier.preprocessing);
    let failed =
        |e: serde_json::Error| Error::Write { path: model.with_extension("preprocess.json"), source: e.into() };
    let mut files = vec![write("preprocess.json", &preprocessing.map_err(failed)?)?];
    if let Some(names) = &classifier.class_names {
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
        warnings.push(format!(
            "the data set has no {split} split: {} of the training pictures, drawn class by class, were set aside as one",
            taken.len()
        ));
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
