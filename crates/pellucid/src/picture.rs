//! Pictures of what neurons respond to, beside what the data set has to show for them ([methods A4]).
//!
//! [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4

mod draw;
mod response;
mod suspects;

use crate::input::{Data, OnePicture};
use crate::run::{self, Claim, Identity, RunOptions, RunPaths};
use crate::scan::ScanSettings;
use crate::warning::{self, Unguided, Warning};
use crate::{Classifier, Error, Progress, VERSION};
use draw::{Drawn, draw, pictured};
use pellucid_classifier::feature_visualization::results::PictureResults;
use pellucid_classifier::feature_visualization::{
    Network, ObjectiveKind, Studied, Target, VisualizationSettings, optimise,
};
use pellucid_classifier::guide::{Guide, GuideOptions, words};
use pellucid_classifier::results::RunRecord;
use pellucid_classifier::scan;
use pellucid_vision::canvas::{Canvas, Parameterisation};
use pellucid_vision::dataset::Dataset;
use pellucid_vision::picture::Picture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use response::{Asked, Responses};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
pub(crate) use suspects::{Diagnosed, Suspects, picture_suspects, standing_out};

/// PNG files by the names that results call them by.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Pictures that a guide is calibrated on.
const CALIBRATION: usize = 24;
/// Class names that it is calibrated on, at most.
const CALIBRATION_NAMES: usize = 200;
/// Crops shown of the data set, a neuron.
const CROPS: usize = 6;

/// How the job runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PictureSettings {
    /// What is scanned of a data set to compare with.
    pub scan: ScanSettings,
    /// Neurons, or channels of `layer`.
    pub neurons: Vec<usize>,
    /// The layer whose channels are pictured; the features where `None`.
    pub layer: Option<String>,
    /// Classes that each neuron is pictured for, by name or index.
    pub classes: Vec<String>,
    /// Neurons with one class each, besides.
    pub pairs: Vec<(usize, String)>,
    /// Also picture each neuron for so many classes that it speaks for most.
    pub served: usize,
    // What follows counts by what it holds, and not by where it lies.
    /// The guide's folder.
    #[serde(skip)]
    pub guide: Option<PathBuf>,
    /// Sentences for class names.
    #[serde(skip)]
    pub templates: Option<PathBuf>,
    /// Words to label pictures with; the class names where `None`.
    #[serde(skip)]
    pub vocabulary: Option<PathBuf>,
    /// A picture to start at.
    #[serde(skip)]
    pub start: Option<OnePicture>,
    /// The ascent.
    pub visualization: VisualizationSettings,
}

pellucid_guard::builders!(PictureSettings {
    with_scan: scan => ScanSettings,
    with_neurons: neurons => Vec<usize>,
    with_layer: layer => Option<String>,
    with_classes: classes => Vec<String>,
    with_pairs: pairs => Vec<(usize, String)>,
    with_served: served: usize,
    with_guide: guide => Option<PathBuf>,
    with_templates: templates => Option<PathBuf>,
    with_vocabulary: vocabulary => Option<PathBuf>,
    with_start: start => Option<OnePicture>,
    with_visualization: visualization => VisualizationSettings,
});

/// What [`picture`] made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pictured {
    /// The results; names of files in them are keys of `files`.
    pub results: PictureResults,
    /// The pictures as PNG, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    classifier: Classifier,
    data_hash: String,
    settings_hash: String,
}

/// Pictures `settings.neurons` of `classifier`, beside what `data` has to show for them.
///
/// # Errors
/// Where a neuron or class does not exist, the network is no ONNX model or has no gradient, a guide cannot be read, every picture
/// diverges, or `progress` interrupts.
pub fn picture(
    classifier: &Classifier,
    data: Option<Data>,
    settings: &PictureSettings,
    progress: &dyn Progress,
) -> Result<Pictured, Error> {
    let start = Instant::now();
    let onnx = classifier.onnx("pictures of neurons")?;
    let targets = targets(classifier, settings)?;
    let data = data
        .map(|data| data.open(settings.scan.split.as_deref(), None, &settings.scan.reading, *classifier.budget()))
        .transpose()?;
    let asked = Asked::of(settings);
    let responses = data.as_ref().map(|data| Responses::measure(classifier, data, &asked, progress)).transpose()?;
    let mut visualization = settings.visualization.clone();
    visualization.session = onnx.session().clone();
    visualization.memory = onnx.memory();
    let mut guide = guide(classifier, settings, data.as_deref())?;
    let mut warnings = classifier.gradient_warnings();
    let unguided = match (&guide, targets.iter().any(|t| t.class.is_none())) {
        (None, _) => Some(Unguided::NoGuide),
        (Some(_), true) => Some(Unguided::NoClass),
        _ => None,
    };
    if let Some(why) = unguided
        && visualization.objective == ObjectiveKind::Guided
    {
        visualization.objective = ObjectiveKind::Unguided;
        warnings.push(Warning::Unguided(why));
    }
    let guided = matches!(visualization.objective, ObjectiveKind::Guided | ObjectiveKind::Reference);
    let texts = match (&mut guide, guided) {
        (Some(guide), true) => texts(classifier, guide, &targets)?,
        _ => vec![Vec::new(); targets.len()],
    };
    let studied = Studied {
        model: onnx.tapped(),
        preprocessing: classifier.preprocessing(),
        classes: classifier.layer().classes(),
        layer: settings.layer.as_deref(),
    };
    let guidance = guide.as_ref().filter(|_| guided).map(|g| &g.guidance);
    let mut network = Network::compile(onnx.runtime(), &studied, guidance, &visualization)?;
    let begin = settings.start.as_ref().map(|start| start.picture(classifier.budget())).transpose()?;
    let made = optimise(&mut network, &targets, &texts, begin.as_ref(), &visualization, progress)?;
    let settings_hash = settings_hash(classifier, settings, begin.as_ref())?;
    let none = || blake3::hash(&[]).to_hex().to_string();
    let data_hash = data.as_ref().map_or_else(none, |data| scan::content_hash(data, classifier.budget()));

    let vocabulary = vocabulary(classifier, settings, guide.as_mut())?;
    let mut files = Files::new();
    let mut neurons = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        let shown = responses.as_ref().map(|r| r.of(target.channel, CROPS, &mut files)).transpose()?;
        let mut pictures = Vec::new();
        for one in &made[at * visualization.seeds..(at + 1) * visualization.seeds] {
            let drawn = Drawn { one, suffix: "", data: shown.as_ref() };
            pictures.push(draw(classifier, drawn, guide.as_mut(), &vocabulary, &mut files)?);
        }
        neurons.push(pictured(classifier, target, pictures, shown, settings.layer.is_none()));
    }
    let timings = vec![("pictures".to_owned(), start.elapsed().as_secs_f64())];
    let results = PictureResults {
        pellucid: VERSION.to_owned(),
        model: classifier.file_name(),
        model_hash: classifier.model_hash().to_owned(),
        layer: settings.layer.clone().unwrap_or_else(|| "features".to_owned()),
        data: data.as_ref().map(|d| folder_name(&d.root)),
        guide: guide.filter(|_| guided).map(|g| g.card),
        settings: visualization,
        neurons,
        warnings: warning::lines(&warnings),
        record: RunRecord { timings, ..RunRecord::default() },
    };
    Ok(Pictured { results, files, warnings, classifier: classifier.clone(), data_hash, settings_hash })
}

impl Pictured {
    /// The page.
    pub fn to_html(&self) -> String {
        self.page(&self.results)
    }

    fn page(&self, results: &PictureResults) -> String {
        pellucid_report::render_pictures(results, &|file: &str| self.files.get(file).cloned())
    }

    /// Writes `report.html`, `results.json` and the pictures into a run directory.
    ///
    /// # Errors
    /// Where the directory holds another run or is being written, or a file cannot be written.
    pub fn write_run(&self, run: &RunOptions) -> Result<RunPaths, Error> {
        let identity = Identity {
            job: "picture",
            data_hash: self.data_hash.clone(),
            data: None,
            settings: self.settings_hash.clone(),
            seed: self.results.settings.seed,
            warnings: self.results.warnings.clone(),
        };
        let Claim { directory, manifest } = identity.claim(&self.classifier, run)?;
        let mut results = self.results.clone();
        results.record = run::record_for(run, &self.classifier, results.record.timings);
        directory.write_files(&self.files)?;
        let report = directory.write("report.html", &self.page(&results))?;
        directory.write_json("results.json", &results)?;
        let mut files = vec!["report.html".to_owned(), "results.json".to_owned()];
        files.extend(self.files.keys().cloned());
        directory.finish(&manifest, &files, &results.record)?;
        Ok(RunPaths { directory: directory.path().to_owned(), report: Some(report), record: results.record })
    }
}

/// Every neuron for every class named, then for the classes it speaks for most (without any class, the neuron alone);
/// then the pairs.
fn targets(classifier: &Classifier, settings: &PictureSettings) -> Result<Vec<Target>, Error> {
    let classes: Vec<usize> =
        settings.classes.iter().map(|name| classifier.class_index(name)).collect::<Result<_, _>>()?;
    let mut targets = Vec::new();
    for &channel in &settings.neurons {
        let mut wanted: Vec<Option<usize>> = classes.iter().copied().map(Some).collect();
        if settings.served > 0 && settings.layer.is_none() && channel < classifier.layer().features() {
            let column = classifier.layer().weight.column(channel);
            let mut order: Vec<usize> = (0..column.len()).collect();
            order.sort_by(|&a, &b| column[b].total_cmp(&column[a]).then(a.cmp(&b)));
            wanted.extend(order.into_iter().filter(|c| !classes.contains(c)).take(settings.served).map(Some));
        }
        if wanted.is_empty() {
            wanted.push(None);
        }
        targets.extend(wanted.into_iter().map(|class| Target { channel, class }));
    }
    for (channel, class) in &settings.pairs {
        targets.push(Target { channel: *channel, class: Some(classifier.class_index(class)?) });
    }
    Ok(targets)
}

/// Opens the guide and measures where its similarities lie: on the data set, or on pictures of nothing.
fn guide(classifier: &Classifier, settings: &PictureSettings, data: Option<&Dataset>) -> Result<Option<Guide>, Error> {
    let Some(folder) = &settings.guide else { return Ok(None) };
    let onnx = classifier.onnx("a guide")?;
    let options = GuideOptions {
        session: onnx.session().clone(),
        templates: settings.templates.clone(),
        budget: *classifier.budget(),
    };
    let mut guide = Guide::open(onnx.runtime(), folder, &onnx.tapped().model, &options)?;
    let mut names = classifier.class_names().unwrap_or_default().to_vec();
    let every = names.len().div_ceil(CALIBRATION_NAMES).max(1);
    names = names.into_iter().step_by(every).collect();
    let texts: Vec<Vec<f32>> = names.iter().map(|name| guide.text(name)).collect::<Result<_, _>>()?;
    let pictures = match data {
        Some(data) => {
            let every = data.len().div_ceil(CALIBRATION).max(1);
            let limits = classifier.budget();
            (0..data.len()).step_by(every).filter_map(|i| data.read(i, limits).ok()).collect()
        }
        None => of_nothing(),
    };
    guide.calibrate(&pictures, &texts)?;
    Ok(Some(guide))
}

/// Pictures with the spectrum of photographs and nothing on them.
fn of_nothing() -> Vec<Picture> {
    let canvas = Canvas::new(Parameterisation::Phase, 128);
    let mut random = ChaCha8Rng::seed_from_u64(0);
    (0..CALIBRATION / 3).map(|_| canvas.to_picture(&canvas.picture(&canvas.spark(&mut random)))).collect()
}

fn texts(classifier: &Classifier, guide: &mut Guide, targets: &[Target]) -> Result<Vec<Vec<f32>>, Error> {
    let each = |target: &Target| match target.class {
        Some(class) => Ok(guide.text(&classifier.class_name(class))?),
        None => Ok(Vec::new()),
    };
    targets.iter().map(each).collect()
}

/// The words that pictures are labelled with, embedded.
fn vocabulary(
    classifier: &Classifier,
    settings: &PictureSettings,
    guide: Option<&mut Guide>,
) -> Result<Vec<(String, Vec<f32>)>, Error> {
    let listed = settings.vocabulary.as_ref().map(|file| words::vocabulary(file)).transpose();
    let listed = listed.map_err(pellucid_classifier::guide::GuideError::from)?;
    let Some(guide) = guide else { return Ok(Vec::new()) };
    let words = listed.or_else(|| classifier.class_names().map(<[String]>::to_vec)).unwrap_or_default();
    let embed = |word: String| guide.text(&word).map(|text| (word, text));
    Ok(words.into_iter().map(embed).collect::<Result<_, _>>()?)
}

fn settings_hash(
    classifier: &Classifier,
    settings: &PictureSettings,
    start: Option<&Picture>,
) -> Result<String, Error> {
    let named = [&settings.guide, &settings.templates, &settings.vocabulary];
    let held: Vec<String> = named.into_iter().map(content).collect::<Result<_, _>>()?;
    let start = start.map(|picture| run::hash_of(&(picture.width(), picture.height(), picture.data())));
    Ok(run::settings_hash(&(settings, held, start), classifier))
}

/// Hash of a file, or of the names and contents of a folder's files; empty for none.
fn content(path: &Option<PathBuf>) -> Result<String, Error> {
    let Some(path) = path else { return Ok(String::new()) };
    let unreadable = |source| Error::Unreadable { path: path.clone(), source };
    if path.is_file() {
        return run::hash(path);
    }
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut files: Vec<PathBuf> = entries.map_err(unreadable)?.into_iter().map(|e| e.path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        hasher.update(format!("{name}\0{}\n", run::hash(&file)?).as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn folder_name(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
