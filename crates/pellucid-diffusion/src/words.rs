//! What each word of the prompt looks at ([methods B5]): cross-attention of the conditional half, mean over heads, per step,
//! layer and word.
//!
//! The mean over heads is taken inside the graph, and words are summed over their pieces as each step is done, so what is
//! held is one step's layers × queries × tokens, and what is kept is steps × layers × words × queries.
//!
//! [methods B5]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b5

use crate::denoiser::Denoiser;
use crate::error::DiffusionError;
use crate::pipeline::Pipeline;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Axis, Ix3};
use pellucid_graph::attention::{AttentionLayers, CrossAttention, find_cross_attention};
use pellucid_runtime::Array;
use pellucid_runtime::progress::Progress;
use pellucid_saliency::render::{self, Alignment};
use serde::{Deserialize, Serialize};

/// A cross-attention layer, by a name for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// `cross-attention 3, 8×8`.
    pub name: String,
    /// The softmax in the graph.
    pub node: String,
    /// Height and width of its grid.
    pub grid: (usize, usize),
    /// Heads that the maps are the mean of.
    pub heads: usize,
}

/// The words' maps over a trajectory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WordMaps {
    /// Words of the prompt, in order.
    pub words: Vec<String>,
    /// Layers, in order of computation.
    pub layers: Vec<LayerInfo>,
    /// Maps by step, layer and word, each on its layer's grid: the share of a place's attention that the word's pieces get.
    pub maps: Vec<Vec<Vec<Array2<f32>>>>,
}

impl WordMaps {
    /// The mean over layers of a word's maps at a step, brought to `height` × `width` bilinearly (as DAAM does).
    pub fn mean(&self, step: usize, word: usize, (height, width): (usize, usize)) -> Array2<f32> {
        let layers = &self.maps[step];
        let sum = layers.iter().fold(Array2::zeros((height, width)), |sum: Array2<f32>, maps| {
            sum + render::upsample(maps[word].view(), width, height, Alignment::Centres).mapv(|v| v.max(0.0))
        });
        sum / layers.len().max(1) as f32
    }

    /// The sum over words of [`WordMaps::mean`].
    pub fn all_words(&self, step: usize, size: (usize, usize)) -> Array2<f32> {
        (0..self.words.len()).fold(Array2::zeros(size), |sum: Array2<f32>, word| sum + self.mean(step, word, size))
    }

    /// The mean over steps of [`WordMaps::mean`].
    pub fn overall(&self, word: usize, size: (usize, usize)) -> Array2<f32> {
        let steps = self.maps.len();
        let sum = (0..steps).fold(Array2::zeros(size), |sum: Array2<f32>, at| sum + self.mean(at, word, size));
        sum / steps.max(1) as f32
    }
}

/// Why a model has no word maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoWords {
    /// In a sentence.
    pub reason: String,
}

/// The attention layers of a pipeline's U-Net.
pub fn layers(pipeline: &mut Pipeline) -> Result<AttentionLayers, DiffusionError> {
    let [_, height, width] = pipeline.latent;
    let inputs = crate::denoiser::DenoiserInputs::find(&pipeline.unet)?;
    let text: Vec<&str> = inputs.others.iter().map(String::as_str).filter(|n| n.contains("hidden_states")).collect();
    let (model, observed) = pipeline.prepared()?;
    Ok(find_cross_attention(&model.graph, observed, &inputs.sample, &text, (height, width)))
}

/// Why there is nothing to show, in a sentence that says what to do.
fn nothing(found: &AttentionLayers, has_words: bool) -> NoWords {
    let reason = match (found.fused.first(), found.joint.first()) {
        _ if !has_words => "the prompt has no words".to_owned(),
        (Some(node), _) => format!(
            "attention is fused into {node}, which hides its weights; export the U-Net again without attention fusion"
        ),
        (_, Some(node)) => {
            format!("{node} attends to image and text together (joint attention), which is not supported yet")
        }
        _ => "the U-Net has no cross-attention: no softmax has keys from the text alone".to_owned(),
    };
    NoWords { reason }
}

/// The maps of every word at every step of `trajectory`; or why there are none.
pub fn word_maps(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    progress: &dyn Progress,
) -> Result<Result<WordMaps, NoWords>, DiffusionError> {
    let words = trajectory.prompt.tokens.as_ref().map(|t| t.words.clone()).unwrap_or_default();
    let found = layers(pipeline)?;
    if found.cross.is_empty() || words.is_empty() {
        return Ok(Err(nothing(&found, !words.is_empty())));
    }
    let mut model = pipeline.prepared()?.0.clone();
    model.graph.outputs.clear();
    let outputs: Vec<String> = found.cross.iter().map(|c| c.add_head_mean(&mut model.graph)).collect();
    model.graph.prune();
    pipeline.make_room();
    let mut session = Denoiser::new(&pipeline.runtime, &model, &pipeline.options.session, 1)?;
    let mut maps = Vec::with_capacity(trajectory.steps.len());
    progress.start("attention", trajectory.steps.len() as u64);
    for step in &trajectory.steps {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let weights = session.outputs(&step.latent, step.t, &[(&trajectory.prompt.conditional, 1)])?;
        let mut layers = Vec::with_capacity(outputs.len());
        for (layer, weights) in found.cross.iter().zip(weights) {
            layers.push(by_word(pipeline, layer, weights, &words)?);
        }
        maps.push(layers);
        progress.advance(1);
    }
    progress.finish();
    let info = |(i, c): (usize, &CrossAttention)| LayerInfo {
        name: format!("cross-attention {}, {}×{}", i + 1, c.grid.0, c.grid.1),
        node: c.node.clone(),
        grid: c.grid,
        heads: c.heads,
    };
    let words = words.into_iter().map(|w| w.text).collect();
    Ok(Ok(WordMaps { words, layers: found.cross.iter().enumerate().map(info).collect(), maps }))
}

/// 1 × queries × tokens as one map per word, its pieces summed.
fn by_word(
    pipeline: &Pipeline,
    layer: &CrossAttention,
    weights: Array,
    words: &[crate::tokens::Word],
) -> Result<Vec<Array2<f32>>, DiffusionError> {
    let odd = |reason: String| DiffusionError::Shape { model: pipeline.unet.path().to_path_buf(), reason };
    let (height, width) = layer.grid;
    let weights = weights.into_f32().and_then(|w| w.into_dimensionality::<Ix3>().ok());
    let weights = weights.filter(|w| w.len_of(Axis(0)) > 0);
    let weights = weights.ok_or_else(|| odd(format!("{} gives no batch × queries × tokens weights", layer.node)))?;
    let weights = weights.index_axis(Axis(0), 0);
    words
        .iter()
        .map(|word| {
            let pieces = word.tokens.iter().filter(|t| **t < weights.ncols());
            let sum = pieces.fold(ndarray::Array1::zeros(weights.nrows()), |sum, &t| sum + weights.column(t));
            sum.into_shape_with_order((height, width)).map_err(|e| odd(format!("{}: {e}", layer.node)))
        })
        .collect()
}
