//! Texts as token ids, and a text model that takes them.

use super::{GuideError, unreadable};
use ndarray::{Array2, ArrayD};
use pellucid_graph::{ElementType, Model};
use pellucid_guard::{Budget, Limit, bounded, parse, printable};
use pellucid_runtime::{Array, Runtime, RuntimeError, Session, SessionOptions};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// A text model with its tokenizer.
pub(super) struct TextModel {
    tokenizer: Tokenizer,
    /// The tokenizer's file, for messages.
    file: PathBuf,
    session: Session,
    output: String,
    inputs: Vec<(String, ElementType)>,
    /// Tokens that a text may have.
    context: usize,
    /// Length that the export wants every text padded to, if it is fixed.
    fixed: Option<usize>,
    pad: i64,
}

impl std::fmt::Debug for TextModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextModel")
            .field("output", &self.output)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

fn read_tokenizer(file: &Path, budget: &Budget) -> Result<Tokenizer, GuideError> {
    let bytes = bounded::read(file, budget, Limit::TextBytes).map_err(|e| unreadable(file, &e))?;
    let read = parse("tokenizer", || Tokenizer::from_bytes(&bytes).map_err(|e| e.to_string()));
    let read = read.unwrap_or_else(|e| Err(e.to_string())).map_err(|e| unreadable(file, &printable::name(&e)))?;
    let size = read.get_vocab_size(true) as u64;
    budget
        .admit(Limit::Tokens, Some(size))
        .map_err(|e| unreadable(file, &format!("its vocabulary is too large: {e}")))?;
    Ok(read)
}

impl TextModel {
    /// A model whose inputs are `input_ids` and perhaps `attention_mask`, and whose `output` is one vector a text.
    pub(super) fn open(
        runtime: &Runtime,
        mut model: Model,
        output: &str,
        tokenizer: &Path,
        context: usize,
        options: &SessionOptions,
        budget: &Budget,
    ) -> Result<TextModel, GuideError> {
        let mut read = read_tokenizer(tokenizer, budget)?;
        let pad = read.get_padding().map_or(0, |padding| i64::from(padding.pad_id));
        // Length is checked here, where an error can say so; nothing is cut off silently.
        read.with_padding(None);
        read.with_truncation(None).map_err(|e| unreadable(tokenizer, &e))?;
        model.graph.outputs.retain(|value| value.name() == output);
        model.graph.prune();
        let needed =
            model.graph.nodes.iter().flat_map(|n| n.reads().into_iter().map(str::to_owned).collect::<Vec<_>>());
        let needed: std::collections::BTreeSet<String> = needed.collect();
        model.graph.inputs.retain(|value| needed.contains(value.name()));
        let shape = model.graph.inputs.first().and_then(|value| value.shape());
        let fixed = shape.and_then(|s| s.get(1).copied().flatten()).and_then(|n| usize::try_from(n).ok());
        let inputs: Vec<(String, ElementType)> = model
            .graph
            .inputs
            .iter()
            .map(|value| (value.name().to_owned(), value.element().unwrap_or(ElementType::I64)))
            .collect();
        if let Some((name, _)) = inputs.iter().find(|(name, _)| name != "input_ids" && name != "attention_mask") {
            let reason = format!("its text side has the input '{name}', expected input_ids and attention_mask only");
            return Err(GuideError::File { path: model.path().to_owned(), reason });
        }
        let session = runtime.session(&model, options)?;
        let context = fixed.unwrap_or(context);
        let file = tokenizer.to_owned();
        Ok(TextModel { tokenizer: read, file, session, output: output.to_owned(), inputs, context, fixed, pad })
    }

    /// The unit-norm embedding of `text`.
    pub(super) fn embed(&mut self, text: &str) -> Result<Vec<f32>, GuideError> {
        // What the file declares wrongly shows only here, and the crate panics at some of it.
        let encoded = parse("tokenizer", || self.tokenizer.encode(text, true).map_err(|e| e.to_string()));
        let encoding = encoded.unwrap_or_else(|e| Err(e.to_string())).map_err(|e| GuideError::File {
            path: self.file.clone(),
            reason: format!("'{}' cannot be tokenised: {}", printable::name(text), printable::name(&e)),
        })?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        let tokens = ids.len();
        if tokens > self.context {
            return Err(GuideError::TooLong { text: text.to_owned(), tokens, context: self.context });
        }
        let mut mask = vec![1i64; tokens];
        if let Some(length) = self.fixed {
            ids.resize(length, self.pad);
            mask.resize(length, 0);
        }
        let mut vector = self.run(&ids, &mask)?;
        let norm = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        vector.iter_mut().for_each(|v| *v /= norm);
        Ok(vector)
    }

    fn run(&mut self, ids: &[i64], mask: &[i64]) -> Result<Vec<f32>, RuntimeError> {
        let row = |values: &[i64], element: ElementType| -> Array {
            let row = |n: usize| Array2::from_shape_fn((1, n), |(_, i)| values[i]).into_dyn();
            match element {
                ElementType::I32 => Array::I32(row(values.len()).mapv(|v| v as i32)),
                _ => Array::I64(row(values.len())),
            }
        };
        let fed: Vec<(String, Array)> = self
            .inputs
            .iter()
            .map(|(name, element)| (name.clone(), row(if name == "input_ids" { ids } else { mask }, *element)))
            .collect();
        let fed: Vec<(&str, &Array)> = fed.iter().map(|(name, array)| (name.as_str(), array)).collect();
        let out: ArrayD<f32> = self.session.run(&fed)?.into_iter().next().and_then(Array::into_f32).unwrap_or_default();
        Ok(out.iter().copied().collect())
    }
}

/// The mean of unit-norm embeddings of sentences.
pub(super) fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let width = vectors.first().map_or(0, Vec::len);
    let share = 1.0 / vectors.len().max(1) as f32;
    (0..width).map(|i| vectors.iter().filter_map(|v| v.get(i)).sum::<f32>() * share).collect()
}
