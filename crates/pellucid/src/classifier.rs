//! A classifier ready to be studied: a network with verified taps, preprocessing and class names.

use crate::error::some;
use crate::{Error, Warning};
use ndarray::{ArrayD, Axis, IxDyn};
use pellucid_classifier::data_problems::preprocessing::{promised_range, units_disagree};
use pellucid_classifier::head;
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::network::{self, Network, OnnxNetwork, Taps};
use pellucid_graph::{Head, Model, TapNames};
use pellucid_guard::Budget;
use pellucid_runtime::{Runtime, SessionOptions, TOLERANCE, TappedModel, verify_taps};
use pellucid_vision::names;
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::{Preprocessing, PreprocessingOverrides};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// How a classifier is opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The ONNX Runtime library; found by itself where `None`.
    pub library: Option<PathBuf>,
    /// Device and threads.
    pub session: SessionOptions,
    /// Tap names, where the structure is ambiguous.
    pub taps: TapNames,
    /// A preprocessing file; looked for beside the model where `None`.
    pub preprocessing: Option<PathBuf>,
    /// Settings that override the file's.
    pub overrides: PreprocessingOverrides,
    /// A file of class names, one a line.
    pub classes: Option<PathBuf>,
    /// Class names themselves, in the order of the logits; they go before a file's.
    pub class_names: Option<Vec<String>>,
    /// Bounds on everything whose size a file decides.
    pub budget: Budget,
}

pellucid_guard::builders!(OpenOptions {
    with_library: library => Option<PathBuf>,
    with_session: session => SessionOptions,
    with_taps: taps => TapNames,
    with_preprocessing: preprocessing => Option<PathBuf>,
    with_overrides: overrides => PreprocessingOverrides,
    with_classes: classes => Option<PathBuf>,
    with_class_names: class_names => Option<Vec<String>>,
    with_budget: budget => Budget,
});

/// A classifier ready to be studied. It holds its compiled sessions: asking again costs a pass through the network. Clones
/// share them, and threads may ask at once.
#[derive(Debug, Clone)]
pub struct Classifier {
    network: Arc<dyn Network>,
    layer: Arc<DecisionLayer>,
    preprocessing: Arc<Preprocessing>,
    class_names: Option<Arc<[String]>>,
    path: Arc<Path>,
    model_hash: Arc<str>,
    options: Arc<OpenOptions>,
    /// What the user should know of the model.
    warnings: Arc<[Warning]>,
    /// A gray picture as the network reads it, batch 1: made when it is first asked for.
    gray: Arc<OnceLock<ArrayD<f32>>>,
}

impl Classifier {
    /// Opens and verifies the classifier at `path`, an `.onnx` file.
    ///
    /// # Errors
    /// Where the file cannot be read, ONNX Runtime is not there or refuses it, no decision layer is found or it is not linear in
    /// the features, no preprocessing is known, or the class names do not fit the logits.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let model = read(path, &options.budget)?;
        let runtime = Runtime::load(options.library.as_deref())?;
        let preprocessing = preprocessing(path, &model, options)?;
        takes_whole_numbers(path, &model, &preprocessing)?;
        let shape = preprocessing.shape();
        let tapped = verify_taps(&runtime, &model, &options.taps, Some(&shape), None, &options.session)?;
        let layer = two_classes(path, &tapped.weight, &tapped.bias, tapped.taps.head)?;
        let (model_hash, notes) = (hash_files(&model)?, model.metadata());
        // Another tap is another network to whatever is kept of it.
        let identity = serde_json::to_string(&(&model_hash, &tapped.taps.features, &tapped.taps.logits));
        let fingerprint = blake3::hash(identity.unwrap_or_default().as_bytes()).to_hex().to_string();
        let (session, memory) = (options.session.clone(), options.budget.memory);
        let mut warnings = warnings(&tapped);
        warnings.extend(units(&preprocessing));
        let network = OnnxNetwork::new(runtime, tapped, fingerprint, session, memory);
        let class_names = class_names(path, options, layer.classes(), &notes)?;
        let classifier = Self::of(Arc::new(network), layer, preprocessing, class_names, model_hash, path, options);
        Ok(Self { warnings: warnings.into(), ..classifier })
    }

    /// The classifier of a network that somebody else runs, checked on two made-up inputs. Of `options`, class names and budget
    /// count; jobs that need what the network does not offer say so.
    ///
    /// # Errors
    /// Where the network fails, its logits are not W f + b, or the class names do not fit the logits.
    pub fn from_network(
        network: Arc<dyn Network>,
        preprocessing: Preprocessing,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let name = PathBuf::from(network.name());
        let (weight, bias) = (&network.layer().weight, &network.layer().bias);
        let layer = two_classes(&name, weight, bias, Head::Softmax)?;
        check_linear(network.as_ref(), &preprocessing)?;
        let class_names = class_names(&name, options, layer.classes(), &BTreeMap::new())?;
        let model_hash = network.fingerprint();
        Ok(Self::of(network, layer, preprocessing, class_names, model_hash, &name, options))
    }

    fn of(
        network: Arc<dyn Network>,
        layer: DecisionLayer,
        preprocessing: Preprocessing,
        class_names: Option<Vec<String>>,
        model_hash: String,
        path: &Path,
        options: &OpenOptions,
    ) -> Self {
        Self {
            network,
            layer: Arc::new(layer),
            preprocessing: Arc::new(preprocessing),
            class_names: class_names.map(Into::into),
            path: path.into(),
            model_hash: model_hash.into(),
            options: Arc::new(options.clone()),
            warnings: Arc::new([]),
            gray: Arc::default(),
        }
    }

    /// The network, to be asked directly.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// The decision layer z = W f + b; a one-logit head as two classes.
    pub fn layer(&self) -> &DecisionLayer {
        &self.layer
    }

    /// How pictures become inputs, and where that is known from.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Class names, where a file, a config or the options give them.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The class of that name, or of the first of its comma-separated names, or of that number.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are.
    pub fn class_index(&self, name: &str) -> Result<usize, Error> {
        let names = self.class_names().unwrap_or_default();
        let called =
            |is: &dyn Fn(&String) -> bool| -> Vec<usize> { (0..names.len()).filter(|&i| is(&names[i])).collect() };
        let exact = called(&|known| known == name);
        let found = if exact.is_empty() { called(&|known| names::aliases(known).contains(&name)) } else { exact };
        let by_number = || name.parse::<usize>().ok().filter(|i| *i < self.layer.classes());
        match found.as_slice() {
            [one] => Ok(*one),
            [] => {
                by_number().ok_or_else(|| Error::Unknown { kind: "class", name: name.to_owned(), known: some(names) })
            }
            several => {
                let listed: Vec<String> = several.iter().map(|i| format!("{i} ({})", names[*i])).collect();
                Err(Error::AmbiguousClass { name: name.to_owned(), classes: listed.join(", ") })
            }
        }
    }

    /// What the class is called: `class 3` where nobody says.
    pub fn class_name(&self, class: usize) -> String {
        let known = self.class_names().and_then(|names| names.get(class).cloned());
        known.unwrap_or_else(|| format!("class {class}"))
    }

    /// The model's path; the name of a network that is no file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's file name.
    pub fn file_name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// blake3 over the model's file and its data files; the fingerprint of a network that is no file.
    pub fn model_hash(&self) -> &str {
        &self.model_hash
    }

    /// The options it was opened with.
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// What the user should know of the model: every result of it says so.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What the user should know of gradients of the model.
    pub(crate) fn gradient_warnings(&self) -> Vec<Warning> {
        let graph = self.network.as_onnx().map(|onnx| &onnx.tapped().model.graph);
        let nodes = graph.map_or(0, |g| g.nodes.iter().filter(|n| n.is("QuantizeLinear")).count());
        let straight = (nodes > 0).then_some(Warning::StraightThrough { nodes });
        self.warnings.iter().cloned().chain(straight).collect()
    }

    /// Refuses `job` where there is no decision layer.
    pub(crate) fn needs_decision_layer(&self, job: &'static str) -> Result<(), Error> {
        let refuse =
            |reason: &str| Error::NoDecisionLayer { model: self.path().to_owned(), job, reason: reason.to_owned() };
        self.network.no_decision_layer().map_or(Ok(()), |reason| Err(refuse(reason)))
    }

    /// Bounds on everything whose size a file decides.
    pub(crate) fn budget(&self) -> &Budget {
        &self.options.budget
    }

    /// A gray picture as the network reads it, batch 1: the absence that maps are measured against.
    pub(crate) fn gray(&self) -> &ArrayD<f32> {
        self.gray.get_or_init(|| {
            let gray = Picture::from_fn(self.preprocessing.width, self.preprocessing.height, |_, _| [127; 3]);
            self.preprocessing.run(&gray).insert_axis(Axis(0)).into_dyn()
        })
    }

    /// The ONNX network, which jobs need that edit or join graphs.
    pub(crate) fn onnx(&self, job: &'static str) -> Result<&OnnxNetwork, Error> {
        self.network.as_onnx().ok_or_else(|| Error::NeedsOnnx { network: self.network.name(), job })
    }

    /// What runs it, for manifests.
    pub(crate) fn engine(&self) -> String {
        self.network.as_onnx().map_or_else(|| "none".to_owned(), |onnx| onnx.runtime().version())
    }

    /// Where it runs, for manifests.
    pub(crate) fn device(&self) -> String {
        self.network.as_onnx().map_or_else(|| "live".to_owned(), |onnx| onnx.session().device.to_string())
    }
}

/// The preprocessing: from the file named, or found beside the model, with the overrides on top.
fn preprocessing(path: &Path, model: &Model, options: &OpenOptions) -> Result<Preprocessing, Error> {
    let found = match &options.preprocessing {
        Some(file) => Some(Preprocessing::open(file)?),
        None => Preprocessing::find_beside(path)?,
    };
    let mut overrides = options.overrides.clone();
    if found.is_none() && overrides.size.is_none() {
        // Nobody needs to say what the model says.
        overrides.size = declared_size(model).or_else(|| noted_size(&model.metadata()));
    }
    Ok(overrides.apply(found)?)
}

/// What the user should know of a model.
fn warnings(tapped: &TappedModel) -> Vec<Warning> {
    let apart = tapped.apart.then(|| Warning::NotTheOutput { value: tapped.taps.logits.clone() });
    let widened = tapped.widened.then_some(Warning::RunInFloat32);
    let bare = tapped.no_head.clone().map(|reason| Warning::NoDecisionLayer { reason });
    let trained = (tapped.trained_nodes > 0).then_some(Warning::TrainingMode { nodes: tapped.trained_nodes });
    apart.into_iter().chain(widened).chain(trained).chain(bare).collect()
}

/// Width and height of the model's first input, where it fixes them.
fn declared_size(model: &Model) -> Option<(u32, u32)> {
    let declared = model.graph.inputs.first()?.shape()?;
    let fixed = |at: usize| u32::try_from(declared.get(at).copied().flatten()?).ok();
    match [fixed(1), fixed(2), fixed(3)] {
        _ if declared.len() != 4 => None,
        [Some(1 | 3), Some(height), Some(width)] => Some((width, height)),
        [Some(height), Some(width), Some(1 | 3)] => Some((width, height)),
        _ => None,
    }
}

/// Mean and deviation in another unit than the values.
fn units(p: &Preprocessing) -> Option<Warning> {
    let range = || promised_range(p.scale, p.mean, p.std);
    units_disagree(p.scale, p.mean, p.std).then(|| Warning::Units { range: range(), scale: p.scale })
}

/// Refuses to give fractions to an input of whole numbers, which would cut them off.
fn takes_whole_numbers(path: &Path, model: &Model, preprocessing: &Preprocessing) -> Result<(), Error> {
    let Some((name, element)) = model.graph.inputs.first().and_then(|v| Some((v.name(), v.element()?))) else {
        return Ok(());
    };
    if element.is_float() || preprocessing.is_whole() {
        return Ok(());
    }
    let [low, high] = promised_range(preprocessing.scale, preprocessing.mean, preprocessing.std);
    Err(Error::WholeNumbers {
        model: path.to_owned(),
        input: name.to_owned(),
        element: format!("{element:?}").to_lowercase(),
        low,
        high,
    })
}

/// Width and height that the model's own notes give, as Ultralytics writes them: `imgsz` = `[height, width]`.
fn noted_size(notes: &BTreeMap<String, String>) -> Option<(u32, u32)> {
    let sides: Vec<u32> = serde_json::from_str(notes.get("imgsz")?).ok()?;
    match sides.as_slice() {
        [height, width] => Some((*width, *height)),
        _ => None,
    }
}

/// The decision layer that methods work on.
fn two_classes(
    path: &Path,
    weight: &ndarray::Array2<f32>,
    bias: &ndarray::Array1<f32>,
    head: Head,
) -> Result<DecisionLayer, Error> {
    let failed = |e: head::HeadError| Error::Head { model: path.to_owned(), reason: e.to_string() };
    head::decision_layer(weight, bias, head).map_err(failed)
}

/// Reads the model at `path`; a folder, which is what the arguments in the wrong order give, is named for what it is.
pub(crate) fn read(path: &Path, budget: &Budget) -> Result<Model, Error> {
    if path.is_dir() {
        return Err(Error::ModelIsFolder(path.to_owned()));
    }
    Ok(Model::read_within(path, budget)?)
}

/// The names of the classes. Of another number than the logits, they would call every class by another's name.
fn class_names(
    path: &Path,
    options: &OpenOptions,
    logits: usize,
    notes: &BTreeMap<String, String>,
) -> Result<Option<Vec<String>>, Error> {
    let (found, from) = match (&options.class_names, &options.classes) {
        (Some(names), _) => (Some(names.clone()), "given".to_owned()),
        (None, Some(file)) => (Some(names::from_file(file)?), file.display().to_string()),
        (None, None) => match names::beside(path) {
            Some(found) => (Some(found), "found beside the model".to_owned()),
            // Notes of a model mean many things; of another number, they are no class names.
            None => {
                let noted = names::from_notes(|key| notes.get(key).cloned()).filter(|names| names.len() == logits);
                (noted, "the model's own notes".to_owned())
            }
        },
    };
    match found {
        Some(names) if names.len() != logits => {
            Err(Error::ClassNames { model: path.to_owned(), logits, from, names: names.len() })
        }
        found => Ok(found),
    }
}

/// Holds a network to what it says of its decision layer.
fn check_linear(network: &dyn Network, preprocessing: &Preprocessing) -> Result<(), Error> {
    let shape: Vec<usize> = std::iter::once(2).chain(preprocessing.shape()).collect();
    let mut state = 1u32;
    let inputs = ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    });
    let given = network::forward(network, &inputs, Taps::Vectors)?;
    let expected = network.layer().logits(&given.features);
    let size = given.logits.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let error = expected.iter().zip(&given.logits).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    // A NaN is not close either.
    if error <= TOLERANCE * size && given.logits.iter().all(|v| v.is_finite()) {
        return Ok(());
    }
    let reason = format!(
        "its logits are not W f + b of its features: they lie up to {error:.3e} apart on a made-up input, expected at most \
         {:.1e}",
        TOLERANCE * size
    );
    Err(Error::Head { model: network.name().into(), reason })
}

/// blake3 over the model's file and the data files beside it.
fn hash_files(model: &Model) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(model.file_bytes());
    for file in model.data_files() {
        let path = model.folder().join(&file);
        let read = std::fs::File::open(&path).and_then(|f| hasher.update_reader(f).map(|_| ()));
        read.map_err(|source| pellucid_graph::ModelError::Open { path, source })?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}
