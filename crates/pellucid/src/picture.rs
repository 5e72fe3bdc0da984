//! Pictures of what neurons respond to, beside what the data set has to show for them ([methods A4]).
//!
//! [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4

mod response;
mod suspects;

use crate::error::some;
use crate::run::{self, Manifest, RunDirectory};
use crate::{Classifier, Error, Progress, VERSION, debug};
use pellucid_classifier::guide::{Guide, GuideOptions, words};
use pellucid_classifier::illusion::results::{DataResponse, NeuronPicture, PictureResults, PicturedNeuron};
use pellucid_classifier::illusion::{
    Illusion, IllusionSettings, Network, ObjectiveKind, Studied, Target, mask, optimise,
};
use pellucid_classifier::scan;
use pellucid_guard::Setting;
use pellucid_vision::canvas::{Canvas, Parameterisation};
use pellucid_vision::dataset::{Dataset, DatasetOptions};
use pellucid_vision::picture::Picture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use response::Responses;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
pub(crate) use suspects::{Diagnosed, picture_suspects, standing_out};

/// Pictures that a guide is calibrated on.
const CALIBRATION: usize = 24;
/// Class names that it is calibrated on, at most.
const CALIBRATION_NAMES: usize = 200;
/// Crops shown of the data set, a neuron.
const CROPS: usize = 6;

/// How the job runs.
#[derive(Debug, Clone)]
pub struct PictureSettings {
    /// Where run directories are made.
    pub runs: PathBuf,
    /// Name of the run; made from model and settings where `None`.
    pub name: Option<String>,
    /// Replace a run of that name with other inputs.
    pub force: bool,
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
    /// The guide's folder.
    pub guide: Option<PathBuf>,
    /// Sentences for class names.
    pub templates: Option<PathBuf>,
    /// Words to label pictures with; the class names where `None`.
    pub vocabulary: Option<PathBuf>,
    /// A data set to compare with.
    pub data: Option<PathBuf>,
    /// The split to look at; all where `None`.
    pub split: Option<String>,
    /// A picture to start at.
    pub start: Option<PathBuf>,
    /// The ascent.
    pub illusion: IllusionSettings,
    /// The command line, for the results.
    pub command: String,
}

impl Default for PictureSettings {
    fn default() -> Self {
        Self {
            runs: PathBuf::from("runs"),
            name: None,
            force: false,
            neurons: Vec::new(),
            layer: None,
            classes: Vec::new(),
            pairs: Vec::new(),
            served: 0,
            guide: None,
            templates: None,
            vocabulary: None,
            data: None,
            split: None,
            start: None,
            illusion: IllusionSettings::default(),
            command: "pellucid picture".to_owned(),
        }
    }
}

/// What [`picture`] made.
#[derive(Debug, Clone)]
pub struct PictureOutcome {
    /// The results.
    pub results: PictureResults,
    /// The run directory.
    pub directory: PathBuf,
    /// The page.
    pub report: PathBuf,
}

/// Pictures `settings.neurons` of `classifier`: PNG files, `results.json` and `report.html` in a run directory.
pub fn picture(
    classifier: &Classifier,
    settings: &PictureSettings,
    progress: &dyn Progress,
) -> Result<PictureOutcome, Error> {
    let start = Instant::now();
    let mut warnings = Vec::new();
    let targets = targets(classifier, settings)?;
    let data = settings.data.as_ref().map(|path| open(path, settings, classifier)).transpose()?;
    let responses = data.as_ref().map(|data| Responses::measure(classifier, data, settings, progress)).transpose()?;
    let mut illusion = settings.illusion.clone();
    illusion.session = classifier.options.session.clone();
    illusion.memory = classifier.options.budget.memory;
    let mut guide = guide(classifier, settings, data.as_deref())?;
    let unguided = match (&guide, targets.iter().any(|t| t.class.is_none())) {
        (None, _) => Some(format!("there is no guide ({:#})", Setting::Guide)),
        (Some(_), true) => {
            Some(format!("no class was named ({:#}), so the guide has nothing to compare with", Setting::Class))
        }
        _ => None,
    };
    if let Some(reason) = unguided
        && illusion.objective == ObjectiveKind::Guided
    {
        illusion.objective = ObjectiveKind::Unguided;
        warnings.push(format!("{reason}: the pictures were made without one"));
    }
    let guided = matches!(illusion.objective, ObjectiveKind::Guided | ObjectiveKind::Reference);
    let texts = match (&mut guide, guided) {
        (Some(guide), true) => texts(classifier, guide, &targets)?,
        _ => vec![Vec::new(); targets.len()],
    };
    let studied = Studied {
        model: &classifier.tapped,
        preprocessing: &classifier.preprocessing,
        classes: classifier.layer.classes(),
        layer: settings.layer.as_deref(),
    };
    let guidance = guide.as_ref().filter(|_| guided).map(|g| &g.guidance);
    let mut network = Network::compile(&classifier.runtime, &studied, guidance, &illusion)?;
    let begin = settings.start.as_ref().map(|path| Picture::open(path, &classifier.options.budget)).transpose()?;
    let made = optimise(&mut network, &targets, &texts, begin.as_ref(), &illusion, progress)?;
    let manifest = manifest(classifier, settings, data.as_deref())?;
    let directory =
        RunDirectory::open(&settings.runs, &run_name(classifier, settings, &manifest), &manifest, settings.force)?;

    let vocabulary = vocabulary(classifier, settings, guide.as_mut())?;
    let mut neurons = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        let shown = responses.as_ref().map(|r| r.of(target.channel, CROPS, &directory)).transpose()?;
        let mut pictures = Vec::new();
        for one in &made[at * illusion.seeds..(at + 1) * illusion.seeds] {
            pictures.push(write(classifier, one, "", shown.as_ref(), guide.as_mut(), &vocabulary, &directory)?);
        }
        neurons.push(pictured(classifier, target, pictures, shown, settings.layer.is_none()));
    }
    let timings = vec![("pictures".to_owned(), start.elapsed().as_secs_f64())];
    let results = PictureResults {
        pellucid: VERSION.to_owned(),
        model: classifier.file_name(),
        model_hash: classifier.model_hash.clone(),
        layer: settings.layer.clone().unwrap_or_else(|| "features".to_owned()),
        data: data.as_ref().map(|d| folder_name(&d.root)),
        guide: guide.filter(|_| guided).map(|g| g.card),
        settings: illusion,
        neurons,
        warnings,
        record: run::record(&settings.command, classifier.options.session.thread_count(), timings),
    };
    finish(results, directory, manifest)
}

/// A target with its pictures; `is_neuron` tells it from a channel of another layer.
fn pictured(
    classifier: &Classifier,
    target: &Target,
    pictures: Vec<NeuronPicture>,
    data: Option<DataResponse>,
    is_neuron: bool,
) -> PicturedNeuron {
    PicturedNeuron {
        neuron: target.channel,
        class: target.class,
        class_name: target.class.map(|c| class_name(classifier, c)),
        weight: target.class.filter(|_| is_neuron).map(|c| classifier.layer.weight[[c, target.channel]]),
        pictures,
        data,
    }
}

/// Writes the page and the data, the manifest last.
fn finish(results: PictureResults, directory: RunDirectory, mut manifest: Manifest) -> Result<PictureOutcome, Error> {
    let folder = directory.path().to_path_buf();
    let page = pellucid_report::render_pictures(&results, &|file: &str| std::fs::read(folder.join(file)).ok());
    let report = directory.write("report.html", &page)?;
    directory.write_json("results.json", &results)?;
    manifest.warnings = results.warnings.clone();
    let mut files = vec!["report.html".to_owned(), "results.json".to_owned()];
    files.extend(results.neurons.iter().flat_map(PicturedNeuron::files));
    directory.finish(&manifest, &files, &results.record)?;
    Ok(PictureOutcome { results, directory: folder, report })
}

/// Every neuron for every class named, then for the classes it speaks for most (without any class, the neuron alone);
/// then the pairs.
fn targets(classifier: &Classifier, settings: &PictureSettings) -> Result<Vec<Target>, Error> {
    let classes: Vec<usize> =
        settings.classes.iter().map(|name| class_index(classifier, name)).collect::<Result<_, _>>()?;
    let mut targets = Vec::new();
    for &channel in &settings.neurons {
        let mut wanted: Vec<Option<usize>> = classes.iter().copied().map(Some).collect();
        if settings.served > 0 && settings.layer.is_none() && channel < classifier.layer.features() {
            let column = classifier.layer.weight.column(channel);
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
        targets.push(Target { channel: *channel, class: Some(class_index(classifier, class)?) });
    }
    Ok(targets)
}

/// The class of that name, or of the first of its comma-separated names, or of that number.
fn class_index(classifier: &Classifier, name: &str) -> Result<usize, Error> {
    let names = classifier.class_names.clone().unwrap_or_default();
    let short = |known: &String| known.split(',').next().unwrap_or_default().trim() == name;
    let by_number = || name.parse::<usize>().ok().filter(|i| *i < classifier.layer.classes());
    let found =
        names.iter().position(|known| known == name).or_else(|| names.iter().position(short)).or_else(by_number);
    found.ok_or_else(|| Error::Unknown { kind: "class", name: name.to_owned(), known: some(&names) })
}

fn class_name(classifier: &Classifier, class: usize) -> String {
    let known = classifier.class_names.as_ref().and_then(|names| names.get(class).cloned());
    known.unwrap_or_else(|| format!("class {class}"))
}

fn open(path: &Path, settings: &PictureSettings, classifier: &Classifier) -> Result<Arc<Dataset>, Error> {
    let budget = classifier.options.budget;
    let options = DatasetOptions { split: settings.split.clone(), budget, ..DatasetOptions::default() };
    Ok(Arc::new(Dataset::open(path, &options)?))
}

/// Opens the guide and measures where its similarities lie: on the data set, or on pictures of nothing.
fn guide(classifier: &Classifier, settings: &PictureSettings, data: Option<&Dataset>) -> Result<Option<Guide>, Error> {
    let Some(folder) = &settings.guide else { return Ok(None) };
    let options = GuideOptions {
        session: classifier.options.session.clone(),
        templates: settings.templates.clone(),
        budget: classifier.options.budget,
    };
    let mut guide = Guide::open(&classifier.runtime, folder, &classifier.tapped.model, &options)?;
    let mut names = classifier.class_names.clone().unwrap_or_default();
    let every = names.len().div_ceil(CALIBRATION_NAMES).max(1);
    names = names.into_iter().step_by(every).collect();
    let texts: Vec<Vec<f32>> = names.iter().map(|name| guide.text(name)).collect::<Result<_, _>>()?;
    let pictures = match data {
        Some(data) => {
            let every = data.len().div_ceil(CALIBRATION).max(1);
            let limits = &classifier.options.budget;
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
        Some(class) => Ok(guide.text(&class_name(classifier, class))?),
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
    let words = listed.or_else(|| classifier.class_names.clone()).unwrap_or_default();
    let embed = |word: String| guide.text(&word).map(|text| (word, text));
    Ok(words.into_iter().map(embed).collect::<Result<_, _>>()?)
}

/// Writes one picture, its file names ending in `suffix`, and says what it shows.
fn write(
    classifier: &Classifier,
    one: &Illusion,
    suffix: &str,
    data: Option<&DataResponse>,
    guide: Option<&mut Guide>,
    vocabulary: &[(String, Vec<f32>)],
    directory: &RunDirectory,
) -> Result<NeuronPicture, Error> {
    let class = one.target.class.map_or(String::new(), |c| format!("-class-{c}"));
    let stem = format!("neuron-{}{class}-seed-{}{suffix}", one.target.channel, one.seed);
    let side = one.picture.width() as usize;
    let file = directory.write_bytes(&format!("{stem}.png"), &one.picture.to_png()?)?;
    let mask = one.map.as_ref().and_then(|map| mask::heat_mask(map.view(), side, side));
    let masked = match &mask {
        Some(mask) => {
            Some(directory.write_bytes(&format!("{stem}-masked.png"), &mask::dimmed(&one.picture, mask).to_png()?)?)
        }
        None => None,
    };
    let fraction = |of: f32| (of > 0.0).then(|| one.activation / of);
    let label = match guide {
        Some(guide) => guide.label(&one.picture, vocabulary)?,
        None => None,
    };
    let finite = |v: f32| v.is_finite().then_some(v);
    Ok(NeuronPicture {
        seed: one.seed,
        file,
        masked,
        masked_contrast: mask.as_ref().map(|_| one.map_contrast),
        start: None,
        steps: one.steps,
        activation: one.activation,
        of_max: data.and_then(|d| fraction(d.max)),
        of_p99: data.and_then(|d| fraction(d.p99)),
        logit: finite(one.logit),
        similarity: finite(one.similarity),
        label,
        sensitivity: None,
        answer: one.top_classes.iter().map(|&(c, z)| (class_name(classifier, c), z)).collect(),
        flags: flags(one, mask.is_none(), data),
    })
}

/// What is wrong with a picture, in words.
fn flags(one: &Illusion, unmasked: bool, data: Option<&DataResponse>) -> Vec<String> {
    let mut flags = Vec::new();
    if let Some(step) = one.diverged {
        flags.push(format!("diverged at step {step} (NaN or infinity); the picture is that of the step before"));
    }
    if one.dead {
        flags.push("dead: it never responded, on the way or at the end".to_owned());
    }
    if data.is_some_and(|d| d.dead) {
        flags.push("no picture of the data set activates it".to_owned());
    }
    if unmasked && one.map.is_some() {
        flags.push("its map is constant on this picture".to_owned());
    }
    if one.plateau {
        flags.push(format!("stopped at step {}, as nothing was gained any more", one.steps));
    }
    flags
}

fn manifest(classifier: &Classifier, settings: &PictureSettings, data: Option<&Dataset>) -> Result<Manifest, Error> {
    let shown = PictureSettings {
        runs: PathBuf::new(),
        name: None,
        force: false,
        command: String::new(),
        // By what they hold, below, and not by where they lie.
        guide: None,
        templates: None,
        vocabulary: None,
        data: None,
        start: None,
        illusion: IllusionSettings { session: Default::default(), memory: 0, ..settings.illusion.clone() },
        ..settings.clone()
    };
    let named = [&settings.guide, &settings.templates, &settings.vocabulary, &settings.start];
    let held: Vec<String> = named.into_iter().map(content).collect::<Result<_, _>>()?;
    let text =
        format!("{shown:?} {held:?} {:?} {}", classifier.options.taps, debug::computed(&classifier.preprocessing));
    let none = || blake3::hash(&[]).to_hex().to_string();
    let data_hash = data.map_or_else(none, |data| scan::content_hash(data, &classifier.options.budget));
    Ok(Manifest {
        pellucid: VERSION.to_owned(),
        onnxruntime: classifier.runtime.version(),
        job: "picture".to_owned(),
        model_hash: classifier.model_hash.clone(),
        data_hash,
        settings_hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
        seed: settings.illusion.seed,
        device: classifier.options.session.device.to_string(),
        warnings: Vec::new(),
        files: Default::default(),
    })
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

fn run_name(classifier: &Classifier, settings: &PictureSettings, manifest: &Manifest) -> String {
    if let Some(name) = &settings.name {
        return name.clone();
    }
    let stem = classifier.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let key = format!("{} {} {} {}", manifest.model_hash, manifest.data_hash, manifest.settings_hash, manifest.seed);
    format!("picture-{stem}-{}", &blake3::hash(key.as_bytes()).to_hex()[..8])
}

fn folder_name(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
