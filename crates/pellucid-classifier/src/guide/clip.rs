//! Any CLIP exported to ONNX the way Hugging Face does it.

use super::tokens::{TextModel, mean};
use super::words::PromptBank;
use super::{GuideError, GuideOptions, Opened, Texts};
use crate::feature_visualization::Guidance;
use pellucid_graph::Model;
use pellucid_guard::Budget;
use pellucid_runtime::{Runtime, observe};
use pellucid_vision::preprocess::Preprocessing;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where no file says how long a text may be: what every published CLIP has.
const CONTEXT: usize = 77;
/// Where similarities of a CLIP lie before they are measured.
const MEAN_SIMILARITY: f32 = 0.2;
const SPREAD: f32 = 0.03;

/// Whether `folder` looks like a CLIP.
pub(super) fn is_one(folder: &Path) -> bool {
    let has = |name: &str| find(folder, name).is_some();
    has("tokenizer.json") && (has("vision_model.onnx") || has("model.onnx"))
}

/// `name` in the folder, or in its `onnx` folder, where some exports put the graphs.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join("onnx").join(name)].into_iter().find(|path| path.is_file())
}

/// The text side.
#[derive(Debug)]
pub(super) struct TextTower(TextModel);

impl TextTower {
    /// The mean over the bank.
    pub(super) fn embed_class(&mut self, class: &str, bank: &PromptBank) -> Result<Vec<f32>, GuideError> {
        let vectors: Result<Vec<Vec<f32>>, GuideError> =
            bank.sentences(class).iter().map(|sentence| self.0.embed(sentence)).collect();
        Ok(mean(&vectors?))
    }
}

pub(super) fn open(
    runtime: &Runtime,
    folder: &Path,
    budget: &Budget,
    options: &GuideOptions,
) -> Result<Opened, GuideError> {
    let needed = |name: &str| {
        find(folder, name).ok_or_else(|| GuideError::File {
            path: folder.join(name),
            reason: "it is missing; copy it from the model's page beside the ONNX files".to_owned(),
        })
    };
    let config = needed("preprocessor_config.json")?;
    let preprocessing = Preprocessing::open(&config)?;
    let tokenizer = needed("tokenizer.json")?;
    let (vision, text) = match find(folder, "vision_model.onnx") {
        Some(vision) => (Model::read_within(vision, budget)?, Model::read_within(needed("text_model.onnx")?, budget)?),
        None => {
            let both = Model::read_within(needed("model.onnx")?, budget)?;
            (both.clone(), both)
        }
    };
    let picture = output(&vision, "image_embeds")?;
    let sentence = output(&text, "text_embeds")?;
    let input = "pixel_values";
    if !vision.graph.inputs.iter().any(|v| v.name() == input) {
        let reason = "it has no input 'pixel_values'; export it with optimum, which names it so".to_owned();
        return Err(GuideError::File { path: vision.path().to_owned(), reason });
    }
    let width = width(runtime, &vision, input, &picture, &preprocessing)?;
    let context = context(folder, budget)?;
    let tower = TextModel::open(runtime, text, &sentence, &tokenizer, context, &options.session, budget)?;
    let templates = folder.join("templates.txt");
    let bank = if templates.is_file() { PromptBank::read(&templates)? } else { PromptBank::default() };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(Opened {
        guidance: Guidance {
            encoder: only(vision, &picture, input),
            input: input.to_owned(),
            embedding: picture,
            width,
            preprocessing,
            mean_similarity: MEAN_SIMILARITY,
            spread: SPREAD,
        },
        texts: Texts::Clip(Box::new(TextTower(tower))),
        bank,
        name: format!("CLIP '{name}'"),
        measured: String::new(),
    })
}

/// The model cut down to what `output` needs, with `input` alone.
fn only(mut model: Model, output: &str, input: &str) -> Model {
    model.graph.outputs.retain(|value| value.name() == output);
    model.graph.prune();
    model.graph.inputs.retain(|value| value.name() == input);
    model
}

/// The output that holds the embeddings: the one of that name.
fn output(model: &Model, name: &str) -> Result<String, GuideError> {
    if model.graph.outputs.iter().any(|v| v.name() == name) {
        return Ok(name.to_owned());
    }
    let found: Vec<&str> = model.graph.outputs.iter().map(|v| v.name()).collect();
    let reason = format!(
        "it has no output '{name}' (the projected embeddings) but {}; export it as CLIPVisionModelWithProjection and \
         CLIPTextModelWithProjection",
        found.join(", ")
    );
    Err(GuideError::File { path: model.path().to_owned(), reason })
}

/// Size of the picture embeddings, asked of the runtime.
fn width(
    runtime: &Runtime,
    vision: &Model,
    input: &str,
    output: &str,
    preprocessing: &Preprocessing,
) -> Result<usize, GuideError> {
    let alone = only(vision.clone(), output, input);
    let shape: Vec<usize> = std::iter::once(1).chain(preprocessing.shape()).collect();
    let observed = observe(runtime, &alone, &BTreeMap::from([(input.to_owned(), shape)]))?;
    let shape = observed.get(output).map(|o| o.shape.clone()).unwrap_or_default();
    match shape.as_slice() {
        [_, width] => Ok(*width),
        other => Err(GuideError::File {
            path: vision.path().to_owned(),
            reason: format!("'{output}' has shape {other:?}, expected one vector a picture"),
        }),
    }
}

/// Tokens that a text may have, from the configurations.
fn context(folder: &Path, budget: &Budget) -> Result<usize, GuideError> {
    let read = |name: &str| -> Result<Option<Value>, GuideError> {
        let Some(path) = find(folder, name) else { return Ok(None) };
        super::json(&path, budget).map(Some)
    };
    let model = read("config.json")?.and_then(|c| c.pointer("/text_config/max_position_embeddings")?.as_u64());
    // Tokenizers without a limit write an absurd number.
    let tokenizer =
        read("tokenizer_config.json")?.and_then(|c| c.get("model_max_length")?.as_u64()).filter(|n| *n < 1 << 20);
    Ok(model.or(tokenizer).and_then(|n| usize::try_from(n).ok()).unwrap_or(CONTEXT))
}
