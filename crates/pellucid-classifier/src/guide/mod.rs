//! Guides: pairs of an image encoder and a text encoder whose embeddings of a picture and of its name lie close.
//!
//! A guide is a folder. `clip` reads any CLIP as Hugging Face exports it (`vision_model.onnx`, `text_model.onnx` or one
//! `model.onnx`, `tokenizer.json`, `preprocessor_config.json`); `ridge` reads the zoo's own kind (`guide.json`):
//! features of an ImageNet network and a sentence encoder joined by one matrix, which is real, small, and no CLIP.
//! [`words`] puts class names into sentences, and `kinship` refuses a guide that is the studied model again.

mod clip;
mod kinship;
mod ridge;
mod tokens;
pub mod words;

use crate::feature_visualization::Guidance;
use ndarray::{Array2, ArrayD, Axis};
use pellucid_graph::{Model, ModelError};
use pellucid_guard::{Budget, Limit, bounded};
use pellucid_runtime::{Array, ObserveError, Runtime, RuntimeError, Session, SessionOptions, TapsError};
use pellucid_vision::names::NamesError;
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::PreprocessingError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use words::PromptBank;

/// Why a guide was refused.
#[derive(Debug, thiserror::Error)]
pub enum GuideError {
    /// The folder is no guide.
    #[error(
        "{0} is no guide: expected guide.json, or a CLIP exported to ONNX (vision_model.onnx and text_model.onnx, or \
         model.onnx; with tokenizer.json and preprocessor_config.json)"
    )]
    NotAGuide(PathBuf),
    /// The network has no features in front of a decision layer.
    #[error("{path}: a guide needs features in front of a decision layer: {reason}")]
    NoFeatures {
        /// The network.
        path: PathBuf,
        /// Why there are none.
        reason: String,
    },
    /// A file of the guide.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The guide is the model under study.
    #[error(
        "the guide {guide} shares weights with the studied model {model} ({tensor}, {elements} numbers, and {share:.0} % of \
         the guide's weights): it would only repeat what that model sees; give a guide made from another network"
    )]
    Kin {
        /// The guide.
        guide: PathBuf,
        /// The studied model.
        model: PathBuf,
        /// A tensor that both hold.
        tensor: String,
        /// Its size.
        elements: usize,
        /// Percentage of the guide's weights that are the model's.
        share: f64,
    },
    /// The two sides have embeddings of different sizes.
    #[error(
        "{guide}: its picture embeddings have {picture} numbers and its text embeddings {text}; both must come from one \
         guide"
    )]
    Sizes {
        /// The guide.
        guide: PathBuf,
        /// Size of a picture's embedding.
        picture: usize,
        /// Size of a text's embedding.
        text: usize,
    },
    /// A name without an embedding.
    #[error(
        "{guide} has no embedding of '{name}', and its sentence encoder is not installed in {folder}; write it with \
         `python zoo/build/guide_ridge.py --encoder-only`, or name a class that {names} lists"
    )]
    UnknownText {
        /// The guide.
        guide: PathBuf,
        /// The name.
        name: String,
        /// Where the encoder would be.
        folder: PathBuf,
        /// The list of known names.
        names: PathBuf,
    },
    /// A text that does not fit.
    #[error(
        "'{text}' makes {tokens} tokens, and the guide's context holds {context}; use a shorter name or a shorter template"
    )]
    TooLong {
        /// The text.
        text: String,
        /// Its tokens.
        tokens: usize,
        /// How many fit.
        context: usize,
    },
    /// Values that are not numbers.
    #[error("{guide}: the embedding of {what} is not finite or has no length; the guide's files are damaged")]
    NotFinite {
        /// The guide.
        guide: PathBuf,
        /// Of what.
        what: String,
    },
    /// The prompt bank or a vocabulary.
    #[error(transparent)]
    Words(#[from] words::WordsError),
    /// Names.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// The preprocessing.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// A model file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model's structure.
    #[error(transparent)]
    Taps(#[from] TapsError),
    /// A model's shapes.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A model's run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// How a guide is opened.
#[derive(Debug, Clone, Default)]
pub struct GuideOptions {
    /// Device and threads.
    pub session: SessionOptions,
    /// Sentences for class names; the guide's own, or the built-in ones, where `None`.
    pub templates: Option<PathBuf>,
    /// Bounds on the guide's files.
    pub budget: Budget,
}

/// What a guide is, for a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuideCard {
    /// Its name, in words.
    pub name: String,
    /// The folder's name.
    pub folder: String,
    /// What was measured of it; empty where nothing is known.
    pub measured: String,
    /// s₀: mean similarity over pictures and classes.
    pub mean_similarity: f64,
    /// Standard deviation of the similarities.
    pub spread: f64,
}

/// An image–text guide.
#[derive(Debug)]
pub struct Guide {
    /// What a step of the ascent needs.
    pub guidance: Guidance,
    /// What it is.
    pub card: GuideCard,
    folder: PathBuf,
    bank: PromptBank,
    texts: Texts,
    pictures: Option<Session>,
    runtime: Runtime,
    session: SessionOptions,
}

/// The text side.
#[derive(Debug)]
enum Texts {
    Clip(Box<clip::TextTower>),
    Ridge(Box<ridge::SentenceMap>),
}

/// What opening either kind gives.
struct Opened {
    guidance: Guidance,
    texts: Texts,
    bank: PromptBank,
    name: String,
    measured: String,
}

/// The class of a vocabulary that a picture is most like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The word.
    pub word: String,
    /// Cosine of picture and word.
    pub similarity: f32,
    /// How far the second word lies behind, in standard deviations of the guide's similarities: below 1 it is weak.
    pub margin: f32,
    /// The second word.
    pub runner_up: String,
}

impl Guide {
    /// Opens the guide in `folder` for studying `studied`, within its budget; refuses one that holds the studied model's own
    /// weights.
    pub fn open(
        runtime: &Runtime,
        folder: &Path,
        studied: &Model,
        options: &GuideOptions,
    ) -> Result<Guide, GuideError> {
        let opened = if folder.join("guide.json").is_file() {
            ridge::open(runtime, folder, studied.budget(), options)?
        } else if clip::is_one(folder) {
            clip::open(runtime, folder, studied.budget(), options)?
        } else {
            return Err(GuideError::NotAGuide(folder.to_owned()));
        };
        kinship::refuse(folder, &opened.guidance.encoder, studied)?;
        let bank = match &options.templates {
            Some(file) => PromptBank::read(file)?,
            None => opened.bank,
        };
        let card = GuideCard {
            name: opened.name,
            folder: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            measured: opened.measured,
            mean_similarity: f64::from(opened.guidance.mean_similarity),
            spread: f64::from(opened.guidance.spread),
        };
        Ok(Guide {
            guidance: opened.guidance,
            card,
            folder: folder.to_owned(),
            bank,
            texts: opened.texts,
            pictures: None,
            runtime: runtime.clone(),
            session: options.session.clone(),
        })
    }

    /// The embedding of a class: the mean over the prompt bank of its unit-norm embeddings, not normalised again for a
    /// CLIP (the published objective wants it so; a cosine does not care).
    pub fn text(&mut self, class: &str) -> Result<Vec<f32>, GuideError> {
        let embedding = match &mut self.texts {
            Texts::Clip(tower) => tower.embed_class(class, &self.bank)?,
            Texts::Ridge(map) => map.embed_class(class, &self.bank)?,
        };
        self.sound(&embedding, || format!("'{class}'"))?;
        if embedding.len() != self.guidance.width {
            let (picture, text) = (self.guidance.width, embedding.len());
            return Err(GuideError::Sizes { guide: self.folder.clone(), picture, text });
        }
        Ok(embedding)
    }

    /// Embeddings of pictures, one row each.
    pub fn pictures(&mut self, pictures: &[Picture]) -> Result<Array2<f32>, GuideError> {
        let mut rows = Vec::with_capacity(pictures.len() * self.guidance.width);
        for picture in pictures {
            let input = self.guidance.preprocessing.run(picture).insert_axis(Axis(0)).into_dyn();
            let embedding = self.encode(input)?;
            self.sound(&embedding, || "a picture".to_owned())?;
            rows.extend(embedding);
        }
        Ok(Array2::from_shape_vec((pictures.len(), self.guidance.width), rows).unwrap_or_default())
    }

    fn encode(&mut self, input: ArrayD<f32>) -> Result<Vec<f32>, GuideError> {
        let session = match &mut self.pictures {
            Some(session) => session,
            none => {
                let mut model = self.guidance.encoder.clone();
                model.graph.outputs.clear();
                model.graph.add_output(&self.guidance.embedding);
                model.graph.prune();
                model.graph.inputs.retain(|v| v.name() == self.guidance.input);
                none.insert(self.runtime.session(&model, &self.session)?)
            }
        };
        let out = session.run(&[(&self.guidance.input, &Array::F32(input))])?;
        let first = out.into_iter().next().and_then(Array::into_f32).unwrap_or_default();
        Ok(first.iter().copied().collect())
    }

    fn sound(&self, embedding: &[f32], what: impl Fn() -> String) -> Result<(), GuideError> {
        if embedding.iter().all(|v| v.is_finite()) && embedding.iter().any(|v| *v != 0.0) {
            return Ok(());
        }
        Err(GuideError::NotFinite { guide: self.folder.clone(), what: what() })
    }

    /// Measures s₀ and the spread of similarities on `pictures` and the `texts` of all classes. Few pictures do: what
    /// matters is where "no likeness" lies.
    pub fn calibrate(&mut self, pictures: &[Picture], texts: &[Vec<f32>]) -> Result<(), GuideError> {
        let embeddings = self.pictures(pictures)?;
        let mut similarities = Vec::new();
        for row in embeddings.rows() {
            similarities.extend(texts.iter().map(|t| f64::from(cosine(row.as_slice().unwrap_or_default(), t))));
        }
        if similarities.len() < 2 {
            return Ok(());
        }
        let mean = similarities.iter().sum::<f64>() / similarities.len() as f64;
        let variance = similarities.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (similarities.len() - 1) as f64;
        (self.guidance.mean_similarity, self.guidance.spread) = (mean as f32, variance.sqrt().max(1e-3) as f32);
        (self.card.mean_similarity, self.card.spread) = (mean, variance.sqrt());
        Ok(())
    }

    /// The word of `vocabulary` that `picture` is most like.
    pub fn label(&mut self, picture: &Picture, vocabulary: &[(String, Vec<f32>)]) -> Result<Option<Label>, GuideError> {
        let embedding = self.pictures(std::slice::from_ref(picture))?;
        let row: Vec<f32> = embedding.iter().copied().collect();
        let mut near: Vec<(f32, &str)> =
            vocabulary.iter().map(|(word, text)| (cosine(&row, text), word.as_str())).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let Some((similarity, word)) = near.first().copied() else { return Ok(None) };
        let (second, runner_up) = near.get(1).copied().unwrap_or((0.0, ""));
        let margin = (similarity - second) / self.guidance.spread.max(1e-6);
        Ok(Some(Label { word: word.to_owned(), similarity, margin, runner_up: runner_up.to_owned() }))
    }
}

/// The cosine of two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    crate::feature_visualization::cosine(Some(a), Some(b))
}

/// The JSON file at `path`.
fn json<T: serde::de::DeserializeOwned>(path: &Path, budget: &Budget) -> Result<T, GuideError> {
    let bytes = bounded::read(path, budget, Limit::TextBytes).map_err(|e| unreadable(path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| unreadable(path, &e))
}

/// A file of the guide that cannot be read.
fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> GuideError {
    GuideError::File { path: path.to_owned(), reason: error.to_string() }
}
