//! What makes a network's conditions of a prompt: text encoders, the number of a class, a number of any meaning, or nothing.

use super::{PipelineOptions, Prompt, Prompts, config, missing, read};
use crate::entries::{Entries, read_json_if_there};
use crate::error::DiffusionError;
use crate::network::{Conditions, stacked};
use crate::tokens::{TextTokenizer, Tokens, Unknown};
use ndarray::{ArrayD, Axis, IxDyn};
use pellucid_graph::{ElementType, Model};
use pellucid_runtime::{Array, Runtime, Session};
use std::path::Path;

/// Context of a text encoder whose configs do not say it: CLIP's.
const CONTEXT: usize = 77;

/// Longest context that a text encoder may have.
const MOST_CONTEXT: usize = 1 << 16;

/// What makes conditions.
#[derive(Debug)]
pub(super) enum Conditioner {
    /// The network takes none.
    Nothing,
    /// The number of a class, for the one of these inputs.
    Class(Vec<String>),
    /// A number that a description names.
    Number(Told),
    /// Words.
    Text(TextEncoders),
    /// Whatever a network brings with it.
    Own(Box<dyn Prompts>),
}

/// An input and its type.
type Input = (String, Option<ElementType>);

/// Numbers that a denoiser alone is told.
#[derive(Debug)]
pub(super) struct Told {
    /// The same for every run.
    pub(super) constants: Vec<(Input, f64)>,
    /// The input that the prompt is for.
    pub(super) prompt: Option<Input>,
}

impl Conditioner {
    /// Whether [`Conditioner::prompt`] looks at the picture's size.
    pub(super) fn needs_size(&self) -> bool {
        matches!(self, Self::Text(text) if text.encoders.len() > 1)
    }

    /// Tokens that the network's text has; `None` without text.
    pub(super) fn context(&self) -> Option<usize> {
        match self {
            Self::Text(text) => text.encoders.first().map(|e| e.tokenizer.context),
            _ => None,
        }
    }

    /// The prompt for a picture of `size` (height, width). `folder` is the pipeline's, for messages.
    pub(super) fn prompt(&mut self, text: &str, folder: &Path, size: (usize, usize)) -> Result<Prompt, DiffusionError> {
        match self {
            Self::Nothing => Ok(Prompt { text: text.to_owned(), warnings: ignored(text), ..Prompt::default() }),
            Self::Class(inputs) => of_class(text, folder, inputs),
            Self::Number(told) => told.prompt(text),
            Self::Text(encoders) => encoders.prompt(text, folder, size),
            Self::Own(prompts) => prompts.prompt(text),
        }
    }
}

/// What is said of a prompt that the model has no use for.
fn ignored(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec!["the model takes no prompt; it is ignored".to_owned()] }
}

fn of_class(text: &str, folder: &Path, inputs: &[String]) -> Result<Prompt, DiffusionError> {
    let expected = "the number of a class, since the model has no text encoder".to_owned();
    let wrong = || DiffusionError::Setting { name: "prompt", found: format!("'{text}'"), expected };
    let class: i64 = text.trim().parse().map_err(|_| wrong())?;
    let [name] = inputs else {
        let reason = format!("its U-Net takes {}, and there is no text encoder to make them", inputs.join(", "));
        return Err(DiffusionError::Unsupported { folder: folder.to_path_buf(), reason });
    };
    let conditional = vec![(name.clone(), Array::I64(ArrayD::from_elem(IxDyn(&[1]), class)))];
    Ok(Prompt { text: text.to_owned(), conditional, ..Prompt::default() })
}

impl Told {
    fn prompt(&self, text: &str) -> Result<Prompt, DiffusionError> {
        let mut warnings = Vec::new();
        let constants = self.constants.iter().map(|(input, value)| (input, *value));
        let told = match &self.prompt {
            Some(input) => {
                let number = text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
                let expected = || format!("a number, which the model's input '{}' is told", input.0);
                let wrong =
                    || DiffusionError::Setting { name: "prompt", found: format!("'{text}'"), expected: expected() };
                Some((input, number.ok_or_else(wrong)?))
            }
            None => {
                warnings = ignored(text);
                None
            }
        };
        let array = |((name, element), value): (&Input, f64)| {
            let array = match element {
                Some(ElementType::I64) => Array::I64(ArrayD::from_elem(IxDyn(&[1]), value as i64)),
                _ => Array::F32(ArrayD::from_elem(IxDyn(&[1]), value as f32)),
            };
            (name.clone(), array)
        };
        let conditional = constants.chain(told).map(array).collect();
        Ok(Prompt { text: text.to_owned(), conditional, warnings, ..Prompt::default() })
    }
}

/// The text encoders of a pipeline, one or two.
#[derive(Debug)]
pub(super) struct TextEncoders {
    encoders: Vec<TextEncoder>,
    /// The network's inputs besides latent and timestep.
    inputs: Vec<String>,
    /// Whether the empty prompt is zeros, as Stable Diffusion XL was trained.
    zero_empty: bool,
}

/// A text encoder and its tokenizer.
#[derive(Debug)]
struct TextEncoder {
    session: Session,
    model: Model,
    tokenizer: TextTokenizer,
    vocabulary: Option<usize>,
}

impl TextEncoders {
    /// Those in `folder`, for a network with `inputs` besides latent and timestep. `zero_empty` is what the index says of the
    /// empty prompt.
    pub(super) fn open(
        folder: &Path,
        runtime: &Runtime,
        inputs: Vec<String>,
        zero_empty: Option<bool>,
        options: &PipelineOptions,
    ) -> Result<Self, DiffusionError> {
        let mut encoders = Vec::new();
        for (encoder, tokenizer) in [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")] {
            let file = folder.join(encoder).join("model.onnx");
            if !file.exists() {
                continue;
            }
            let config_file = folder.join(encoder).join("config.json");
            let json = read_json_if_there(&config_file, &options.budget)?;
            let number = |key: &str, most: usize| {
                let entries = Entries::of(&json).map_err(|reason| config(&config_file, reason))?;
                entries.count(key, (1, most)).map_err(|reason| config(&config_file, reason))
            };
            let most_tokens = usize::try_from(options.budget.tokens).unwrap_or(usize::MAX);
            let (context, vocabulary) =
                (number("max_position_embeddings", MOST_CONTEXT)?, number("vocab_size", most_tokens)?);
            let model = read(&file, options)?;
            encoders.push(TextEncoder {
                tokenizer: TextTokenizer::open(&folder.join(tokenizer), context.unwrap_or(CONTEXT), &options.budget)?,
                vocabulary,
                session: runtime.session(&model, &options.session)?,
                model,
            });
        }
        if encoders.is_empty() {
            let expected = "text_encoder/model.onnx, since the U-Net takes encoder_hidden_states";
            return Err(missing(folder, "text encoder", expected));
        }
        // As diffusers: what the index says, and by default so for pipelines with two encoders.
        let zero_empty = zero_empty.unwrap_or(encoders.len() > 1);
        Ok(Self { encoders, inputs, zero_empty })
    }

    fn prompt(&mut self, text: &str, folder: &Path, size: (usize, usize)) -> Result<Prompt, DiffusionError> {
        let (conditional, tokens) = self.encode(text, folder, size)?;
        let (mut unconditional, _) = self.encode("", folder, size)?;
        if self.zero_empty {
            // The embeddings, not the sizes.
            for (_, array) in unconditional.iter_mut().filter(|(name, _)| name != "time_ids") {
                if let Array::F32(values) = array {
                    values.fill(0.0);
                }
            }
        }
        let mut warnings = Vec::new();
        if let Some(cut) = tokens.cut.as_ref() {
            warnings.push(format!(
                "the prompt is longer than the context of {} tokens; cut off: '{cut}'",
                tokens.ids.len()
            ));
        }
        warnings
            .extend(unknown(&tokens, self.encoders.first().and_then(|e| e.tokenizer.small_vocabulary()).as_deref()));
        Ok(Prompt {
            text: text.to_owned(),
            tokens: Some(tokens),
            conditional,
            unconditional: Some(unconditional),
            warnings,
        })
    }

    /// The conditions of one text: hidden states side by side where there are two encoders, with SDXL's pooled
    /// embedding and sizes.
    fn encode(
        &mut self,
        text: &str,
        folder: &Path,
        (height, width): (usize, usize),
    ) -> Result<(Conditions, Tokens), DiffusionError> {
        let several = self.encoders.len() > 1;
        let mut states: Vec<ArrayD<f32>> = Vec::new();
        let (mut pooled, mut tokens) = (None, None);
        for encoder in &mut self.encoders {
            let encoded = encoder.tokenizer.encode(text)?;
            let (state, pool) = encoder.run(&encoded, several)?;
            states.push(state);
            pooled = pool.or(pooled);
            tokens.get_or_insert(encoded);
        }
        let odd = |reason: String| DiffusionError::Unsupported { folder: folder.to_path_buf(), reason };
        let hidden =
            stacked(Axis(2), &states).map_err(|e| odd(format!("the text encoders' outputs do not fit: {e}")))?;
        let mut conditions = Vec::new();
        for name in &self.inputs {
            let array = match name.as_str() {
                "text_embeds" => pooled.clone(),
                "time_ids" => {
                    let (h, w) = (height as f32, width as f32);
                    ArrayD::from_shape_vec(IxDyn(&[1, 6]), vec![h, w, 0.0, 0.0, h, w]).ok()
                }
                _ if name.contains("encoder_hidden_states") => Some(hidden.clone()),
                _ => None,
            };
            let array =
                array.ok_or_else(|| odd(format!("its U-Net has the input '{name}', which nothing here makes")))?;
            conditions.push((name.clone(), Array::F32(array)));
        }
        let tokens = tokens.ok_or_else(|| odd("it has no text encoder".to_owned()))?;
        Ok((conditions, tokens))
    }
}

/// What is to be said of words that the vocabulary lacks; `small` are all of its words, where they are few.
fn unknown(tokens: &Tokens, small: Option<&[String]>) -> Option<String> {
    if tokens.unknown.is_empty() {
        return None;
    }
    let quoted = |words: &[String]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    let one = |unknown: &Unknown| match unknown.nearest.as_slice() {
        [] => format!("'{}'", unknown.word),
        near => format!("'{}' (nearest: {})", unknown.word, quoted(near)),
    };
    let named = tokens.unknown.iter().map(one).collect::<Vec<_>>().join(", ");
    let all = small.map(|words| format!(" It has {} words: {}.", words.len(), words.join(", "))).unwrap_or_default();
    Some(format!(
        "the text encoder's vocabulary lacks {named}: whatever such a word is, the model is told the same, so neither the picture \
         nor a map says anything about it.{all}"
    ))
}

impl TextEncoder {
    /// Hidden states (1 × tokens × width) and the pooled embedding. Of several encoders the last layer but one counts.
    fn run(&mut self, tokens: &Tokens, several: bool) -> Result<(ArrayD<f32>, Option<ArrayD<f32>>), DiffusionError> {
        if let Some(vocabulary) = self.vocabulary
            && let Some(&bad) = tokens.ids.iter().find(|&&id| id < 0 || id as usize >= vocabulary)
        {
            let tokenizer = self.tokenizer.file.clone();
            return Err(DiffusionError::Vocabulary { tokenizer, token: bad as u32, vocabulary });
        }
        let shape = IxDyn(&[1, tokens.ids.len()]);
        let mut fed: Vec<(String, Array)> = Vec::new();
        for input in &self.model.graph.inputs {
            let values: Vec<i64> =
                if input.name().contains("mask") { vec![1; tokens.ids.len()] } else { tokens.ids.clone() };
            let narrow = values.iter().map(|&v| v as i32).collect();
            let array = match input.element() {
                Some(ElementType::I32) => ArrayD::from_shape_vec(shape.clone(), narrow).ok().map(Array::I32),
                _ => ArrayD::from_shape_vec(shape.clone(), values).ok().map(Array::I64),
            };
            fed.extend(array.map(|a| (input.name().to_owned(), a)));
        }
        let fed: Vec<(&str, &Array)> = fed.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let names = self.session.outputs();
        let outputs: Vec<(String, Array)> = names.into_iter().zip(self.session.run(&fed)?).collect();
        let floats = || outputs.iter().filter_map(|(n, a)| Some((n.as_str(), a.as_f32()?)));
        let layers: Vec<&ArrayD<f32>> =
            floats().filter(|(n, a)| n.starts_with("hidden_states") && a.ndim() == 3).map(|o| o.1).collect();
        let state = match layers.len() {
            2.. if several => Some(layers[layers.len() - 2]),
            _ => floats()
                .find(|(n, _)| n.starts_with("last_hidden_state"))
                .or_else(|| floats().find(|o| o.1.ndim() == 3))
                .map(|o| o.1),
        };
        let pooled = floats().find(|(n, _)| *n == "text_embeds").map(|o| o.1.clone());
        let model = self.model.path().to_path_buf();
        let state = state.ok_or_else(|| DiffusionError::Shape {
            model,
            reason: "it gives no tokens × width hidden states".to_owned(),
        })?;
        Ok((state.clone(), pooled))
    }
}
