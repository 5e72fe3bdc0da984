//! The zoo's own guides: features of a network and sentences, joined by a matrix (`guide.json`; zoo/build/guide_ridge.py).

use super::tokens::{TextModel, mean};
use super::words::PromptBank;
use super::{GuideError, GuideOptions, Opened, Texts, unreadable};
use crate::feature_visualization::Guidance;
use half::f16;
use ndarray::{Array1, Array2};
use pellucid_graph::{Model, Node, TapNames};
use pellucid_guard::{Budget, Limit, bounded};
use pellucid_runtime::{Runtime, verify_taps};
use pellucid_vision::preprocess::Preprocessing;
use pellucid_vision::{names, preprocess::PreprocessingOverrides};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The picture embedding's name in the encoder's graph.
const EMBEDDING: &str = "guide_embedding";
/// Centred class weights have mean similarity 0 over the classes, whatever the picture.
const MEAN_SIMILARITY: f32 = 0.0;
/// Standard deviation of the similarity over ImageNet's names, on photographs.
const SPREAD: f32 = 0.05;
/// Tokens that MiniLM takes.
const CONTEXT: usize = 512;

/// `guide.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    kind: String,
    name: String,
    image_model: PathBuf,
    map: PathBuf,
    texts: PathBuf,
    text_names: PathBuf,
    templates: PathBuf,
    text_model: PathBuf,
    #[serde(default)]
    measured: String,
}

/// The text side: sentence embeddings that are known, the encoder for others if it is installed, and the matrix.
#[derive(Debug)]
pub(super) struct SentenceMap {
    guide: PathBuf,
    names: PathBuf,
    encoder: PathBuf,
    known: BTreeMap<String, Array1<f32>>,
    /// The bank that the known embeddings were made with.
    bank: PromptBank,
    matrix: Array2<f32>,
    text_mean: Array1<f32>,
    model: Option<TextModel>,
    budget: Budget,
    runtime: Runtime,
    options: GuideOptions,
}

pub(super) fn open(
    runtime: &Runtime,
    folder: &Path,
    budget: &Budget,
    options: &GuideOptions,
) -> Result<Opened, GuideError> {
    let path = folder.join("guide.json");
    let described: Description = super::json(&path, budget)?;
    if described.kind != "ridge" {
        let reason = format!("the kind '{}' is not known, expected ridge", described.kind);
        return Err(GuideError::File { path, reason });
    }
    let bank = PromptBank::read(&folder.join(&described.templates))?;
    let guidance = encoder(runtime, &folder.join(&described.image_model), budget, options)?;
    let map_file = folder.join(&described.map);
    let matrix = tensor(&map_file, "map", budget)?;
    let text_mean = Array1::from_iter(tensor(&map_file, "text_mean", budget)?);
    let texts = tensor(&folder.join(&described.texts), "texts", budget)?;
    let names_file = folder.join(&described.text_names);
    let names = names::from_file(&names_file)?;
    if matrix.nrows() != text_mean.len() || texts.ncols() != text_mean.len() || names.len() != texts.nrows() {
        let reason = format!(
            "the matrix is {:?}, the texts are {:?} with {} names, the mean has {}; they do not fit, build the guide again",
            matrix.dim(),
            texts.dim(),
            names.len(),
            text_mean.len()
        );
        return Err(GuideError::File { path: map_file, reason });
    }
    if matrix.ncols() != guidance.width {
        return Err(GuideError::Sizes { guide: folder.to_owned(), picture: guidance.width, text: matrix.ncols() });
    }
    let known = names.into_iter().zip(texts.rows()).map(|(name, row)| (name, row.to_owned())).collect();
    let map = SentenceMap {
        guide: folder.to_owned(),
        names: names_file,
        encoder: folder.join(&described.text_model),
        known,
        bank: bank.clone(),
        matrix,
        text_mean,
        model: None,
        budget: *budget,
        runtime: runtime.clone(),
        options: options.clone(),
    };
    let texts = Texts::Ridge(Box::new(map));
    Ok(Opened { guidance, texts, bank, name: described.name, measured: described.measured })
}

/// The network's pooled features as a picture's embedding.
fn encoder(runtime: &Runtime, path: &Path, budget: &Budget, options: &GuideOptions) -> Result<Guidance, GuideError> {
    let model = Model::read_within(path, budget)?;
    let found = Preprocessing::find_beside(path)?;
    let preprocessing = PreprocessingOverrides::default().apply(found)?;
    let shape = preprocessing.shape();
    let tapped = verify_taps(runtime, &model, &TapNames::default(), Some(&shape), None, &options.session)?;
    if let Some(reason) = tapped.no_head {
        return Err(GuideError::NoFeatures { path: path.to_owned(), reason });
    }
    let width = tapped.features();
    let mut encoder = tapped.model;
    encoder.graph.nodes.push(Node::new("Flatten", &[&tapped.taps.features], &[EMBEDDING]).with_int("axis", 1));
    encoder.graph.outputs.clear();
    encoder.graph.add_output(EMBEDDING);
    encoder.graph.prune();
    Ok(Guidance {
        encoder,
        input: tapped.input,
        embedding: EMBEDDING.to_owned(),
        width,
        preprocessing,
        mean_similarity: MEAN_SIMILARITY,
        spread: SPREAD,
    })
}

impl SentenceMap {
    /// (t − mean) B of the class's sentence embedding t.
    pub(super) fn embed_class(&mut self, class: &str, bank: &PromptBank) -> Result<Vec<f32>, GuideError> {
        let name = bank.name(class);
        let sentence = match self.known.get(&name) {
            Some(known) if bank.has_templates_of(&self.bank) => known.clone(),
            _ => Array1::from_vec(self.encode(class, bank)?),
        };
        if sentence.len() != self.text_mean.len() {
            let (found, expected) = (sentence.len(), self.text_mean.len());
            let reason =
                format!("it gives {found} numbers for a sentence; expected {expected}, as the guide's map takes");
            return Err(GuideError::File { path: self.encoder.join("model.onnx"), reason });
        }
        Ok((sentence - &self.text_mean).dot(&self.matrix).to_vec())
    }

    /// The sentence encoder's answer, as a unit vector.
    fn encode(&mut self, class: &str, bank: &PromptBank) -> Result<Vec<f32>, GuideError> {
        let (model, tokenizer) = (self.encoder.join("model.onnx"), self.encoder.join("tokenizer.json"));
        if !model.is_file() || !tokenizer.is_file() {
            return Err(GuideError::UnknownText {
                guide: self.guide.clone(),
                name: class.to_owned(),
                folder: self.encoder.clone(),
                names: self.names.clone(),
            });
        }
        let encoder = match &mut self.model {
            Some(encoder) => encoder,
            none => {
                let session = &self.options.session;
                let read = Model::read_within(&model, &self.budget)?;
                none.insert(TextModel::open(
                    &self.runtime,
                    read,
                    "sentence",
                    &tokenizer,
                    CONTEXT,
                    session,
                    &self.budget,
                )?)
            }
        };
        let vectors: Result<Vec<Vec<f32>>, GuideError> =
            bank.sentences(class).iter().map(|sentence| encoder.embed(sentence)).collect();
        let mut vector = mean(&vectors?);
        let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
        Ok(vector)
    }
}

/// A tensor of a safetensors file as float32; a vector is one row.
fn tensor(path: &Path, name: &str, budget: &Budget) -> Result<Array2<f32>, GuideError> {
    let bytes = bounded::read(path, budget, Limit::FileMemory).map_err(|e| unreadable(path, &e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| unreadable(path, &e))?;
    let view = file.tensor(name).map_err(|e| unreadable(path, &e))?;
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => view.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        other => return Err(unreadable(path, &format!("'{name}' is {other:?}, expected F32 or F16"))),
    };
    let shape = match view.shape() {
        [n] => (1, *n),
        [rows, columns] => (*rows, *columns),
        other => {
            return Err(unreadable(path, &format!("'{name}' has shape {other:?}, expected one or two dimensions")));
        }
    };
    Array2::from_shape_vec(shape, values).map_err(|e| unreadable(path, &e))
}
