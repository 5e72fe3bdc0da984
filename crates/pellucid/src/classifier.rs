//! A classifier ready to be studied: model, verified taps, preprocessing and class names.

use crate::Error;
use pellucid_classifier::head;
use pellucid_classifier::layer::DecisionLayer;
use pellucid_graph::{Model, TapNames};
use pellucid_guard::Budget;
use pellucid_runtime::{Runtime, SessionOptions, TappedModel, verify_taps};
use pellucid_vision::names;
use pellucid_vision::preprocess::{Preprocessing, PreprocessingOverrides};
use std::path::{Path, PathBuf};

/// How a classifier is opened.
#[derive(Debug, Clone)]
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
    /// Bounds on everything whose size a file decides.
    pub budget: Budget,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            library: None,
            session: SessionOptions::default(),
            taps: TapNames::default(),
            preprocessing: None,
            overrides: PreprocessingOverrides::default(),
            classes: None,
            budget: Budget::default(),
        }
    }
}

/// A classifier ready to be studied.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// The runtime.
    pub runtime: Runtime,
    /// The model with verified taps.
    pub tapped: TappedModel,
    /// The decision layer; a one-logit head as two classes.
    pub layer: DecisionLayer,
    /// How pictures become tensors, and where that is known from.
    pub preprocessing: Preprocessing,
    /// Class names, where a file or a config gives them.
    pub class_names: Option<Vec<String>>,
    /// blake3 over the model's file and its data files.
    pub model_hash: String,
    /// The options it was opened with.
    pub options: OpenOptions,
}

impl Classifier {
    /// Opens and verifies the classifier at `path`.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let model = read(path, &options.budget)?;
        let runtime = Runtime::load(options.library.as_deref())?;
        let preprocessing = preprocessing(path, options)?;
        let shape = preprocessing.shape();
        let tapped = verify_taps(&runtime, &model, &options.taps, Some(&shape), None, &options.session)?;
        let layer = head::decision_layer(&tapped.weight, &tapped.bias, tapped.taps.head)
            .map_err(|e| Error::Head { model: path.to_owned(), reason: e.to_string() })?;
        let class_names = match &options.classes {
            Some(file) => Some(names::from_file(file)?),
            None => names::beside(path),
        };
        check_names(path, options.classes.as_deref(), class_names.as_deref(), layer.classes())?;
        let model_hash = hash_files(&model)?;
        Ok(Self { runtime, tapped, layer, preprocessing, class_names, model_hash, options: options.clone() })
    }

    /// The model's path.
    pub fn path(&self) -> &Path {
        self.tapped.model.path()
    }

    /// The model's file name.
    pub fn file_name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The preprocessing: from the file named, or found beside the model, with the overrides on top.
fn preprocessing(path: &Path, options: &OpenOptions) -> Result<Preprocessing, Error> {
    let found = match &options.preprocessing {
        Some(file) => Some(Preprocessing::open(file)?),
        None => Preprocessing::find_beside(path)?,
    };
    Ok(options.overrides.apply(found)?)
}

/// Reads the model at `path`; a folder, which is what the arguments in the wrong order give, is named for what it is.
pub(crate) fn read(path: &Path, budget: &Budget) -> Result<Model, Error> {
    if path.is_dir() {
        return Err(Error::ModelIsFolder(path.to_owned()));
    }
    Ok(Model::read_within(path, budget)?)
}

/// Names of another number than the logits would call every class by another's name.
fn check_names(path: &Path, file: Option<&Path>, names: Option<&[String]>, logits: usize) -> Result<(), Error> {
    match names {
        Some(names) if names.len() != logits => Err(Error::ClassNames {
            model: path.to_owned(),
            logits,
            from: file.map_or_else(|| "found beside the model".to_owned(), |f| f.display().to_string()),
            names: names.len(),
        }),
        _ => Ok(()),
    }
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
