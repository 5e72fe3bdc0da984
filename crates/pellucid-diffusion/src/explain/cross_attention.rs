//! What each word of the prompt looks at (`docs/methods.md#b5`): cross-attention of the conditional half, mean over heads, per step,
//! layer and word.
//!
//! The mean over heads is taken inside the graph, and words are summed over their pieces as each step is done, so what is
//! held is one step's layers × queries × tokens, and what is kept is steps × layers × words × queries.

use super::{Axis, Curve, Explainer, Findings, Judge, StepFindings, Subject, Track};
use crate::error::DiffusionError;
use crate::names::file_name;
use crate::network::{Cannot, Capability, LayerInfo};
use crate::pipeline::{Pipeline, Prompt};
use crate::tokens::Word;
use crate::trajectory::Trajectory;
use ndarray::Array2;
use pellucid_runtime::progress::Progress;
use pellucid_saliency::render::{self, Alignment};
use pellucid_saliency::{Grid, SaliencyMap};
use serde::{Deserialize, Serialize};
use serde_json::json;

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

/// Why there is nothing to show for `prompt`, if so.
fn has_words(prompt: &Prompt) -> Result<(), Cannot> {
    let has_words = prompt.tokens.as_ref().is_some_and(|tokens| !tokens.words.is_empty());
    if has_words { Ok(()) } else { Err(Cannot::new(Capability::Attention, "the prompt has no words")) }
}

/// The maps of every word at every step of `trajectory`.
///
/// # Errors
/// [`DiffusionError::Cannot`] where the prompt has no words or the network shows no attention, what running says otherwise.
pub fn word_maps(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    progress: &dyn Progress,
) -> Result<WordMaps, DiffusionError> {
    has_words(&trajectory.prompt)?;
    let words = trajectory.prompt.tokens.as_ref().map(|t| t.words.clone()).unwrap_or_default();
    let mut attention = pipeline.network.attention()?;
    let layers = attention.layers().to_vec();
    let mut maps = Vec::with_capacity(trajectory.steps.len());
    progress.start("attention", trajectory.steps.len() as u64);
    for step in &trajectory.steps {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let weights = attention.at(&step.latent, step.t, &trajectory.prompt.conditional)?;
        let of_layer = |(layer, weights): (&LayerInfo, &Array2<f32>)| {
            let odd = |e: ndarray::ShapeError| DiffusionError::Shape {
                model: pipeline.network.name().into(),
                reason: format!("{}: {e}", layer.node),
            };
            by_word(layer, weights, &words).map_err(odd)
        };
        maps.push(layers.iter().zip(&weights).map(of_layer).collect::<Result<Vec<_>, _>>()?);
        progress.advance(1);
    }
    progress.finish();
    Ok(WordMaps { words: words.into_iter().map(|w| w.text).collect(), layers, maps })
}

/// Queries × tokens as one map per word, its pieces summed.
fn by_word(layer: &LayerInfo, weights: &Array2<f32>, words: &[Word]) -> Result<Vec<Array2<f32>>, ndarray::ShapeError> {
    let one = |word: &Word| {
        let pieces = word.tokens.iter().filter(|t| **t < weights.ncols());
        let sum = pieces.fold(ndarray::Array1::zeros(weights.nrows()), |sum, &t| sum + weights.column(t));
        sum.into_shape_with_order(layer.grid)
    };
    words.iter().map(one).collect()
}

/// Attention to every word at every step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionExplainer {}

/// What all words together are called where faithfulness is measured.
const ALL_WORDS: &str = "attention to all words";
/// A prompt with at most so many words has each of them measured, and not only all of them together.
const MOST_WORDS: usize = 8;

impl Explainer for AttentionExplainer {
    fn id(&self) -> &'static str {
        "attention"
    }

    fn title(&self) -> &'static str {
        "Word"
    }

    fn summary(&self) -> &'static str {
        "where each word is looked up, layer by layer, from cross-attention"
    }

    fn maps(&self) -> &'static str {
        "word maps"
    }

    fn needs(&self) -> &'static [Capability] {
        &[Capability::Attention]
    }

    fn settings(&self) -> serde_json::Value {
        json!({})
    }

    fn applies(&self, prompt: &Prompt) -> Result<(), Cannot> {
        has_words(prompt)
    }

    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        let maps = word_maps(subject.pipeline, subject.trajectory, subject.progress)?;
        let [_, height, width] = subject.pipeline.latent;
        Ok(findings(&maps, (height, width)))
    }
}

fn findings(maps: &WordMaps, size: (usize, usize)) -> Findings {
    let (words, layers) = (&maps.words, &maps.layers);
    let name = |k: usize| file_name(&words[k]);
    let is_each_measured = words.len() <= MOST_WORDS;
    let mean = |(k, word): (usize, &String)| {
        let track = Track::shown(format!("“{word}”"))
            .compared("attention", Some(k))
            .array(format!("word_{}_{}", k + 1, name(k)))
            .picture(format!("word-{}-{}", k + 1, name(k)));
        let judge = Some(Judge { name: ALL_WORDS.to_owned(), before: "All words together: ".to_owned() });
        let measured = |track: Track| track.measured_quietly(format!("attention to “{word}”"));
        Track { judge, ..if is_each_measured { measured(track) } else { track } }
    };
    let of_layer =
        |layer: &LayerInfo| words.iter().map(|word| Track::shown(format!("“{word}”, {}", layer.name))).collect();
    let mut tracks: Vec<Track> = words.iter().enumerate().map(mean).collect();
    tracks.extend(layers.iter().map(of_layer).collect::<Vec<Vec<Track>>>().concat());
    tracks.push(Track::hidden().measured(ALL_WORDS));
    let steps: Vec<StepFindings> = (0..maps.maps.len()).map(|at| of_step(maps, at, size)).collect();
    let share = |k: usize| {
        let mean = |step: &StepFindings| step.maps[k].as_ref().and_then(|map| map.values.mean());
        steps.iter().map(|step| f64::from(mean(step).unwrap_or(0.0))).collect()
    };
    let curve = Curve {
        title: "Attention per word".to_owned(),
        meaning: "Share of all attention that each word gets; the rest goes to the tokens that frame the prompt."
            .to_owned(),
        lines: words.iter().enumerate().map(|(k, word)| (word.clone(), share(k))).collect(),
        range: None,
    };
    Findings {
        meaning: "Where the word's attention lies".to_owned(),
        caution: "Attention says where a word is looked up, not what it causes.".to_owned(),
        axes: axes(words, layers),
        tracks,
        steps,
        curves: vec![curve],
        facts: vec![("Attention layers".to_owned(), layers.len().to_string())],
        ..Findings::default()
    }
}

fn axes(words: &[String], layers: &[LayerInfo]) -> Vec<Axis> {
    let names = layers.iter().map(|layer| layer.name.clone());
    vec![
        Axis {
            id: "word".to_owned(),
            label: "Word".to_owned(),
            options: words.to_vec(),
            // A content word says more than an article: begin with the longest.
            start: (0..words.len()).rev().max_by_key(|&k| words[k].chars().count()).unwrap_or(0),
            is_side_by_side: true,
            listed: Some(("words".to_owned(), json!(words))),
        },
        Axis {
            id: "layer".to_owned(),
            label: "Layer".to_owned(),
            options: std::iter::once("mean of all layers".to_owned()).chain(names).collect(),
            listed: Some(("layers".to_owned(), json!(layers))),
            ..Axis::default()
        },
    ]
}

/// Means over layers, then layer by layer, then all words together.
fn of_step(maps: &WordMaps, at: usize, size: (usize, usize)) -> StepFindings {
    let id = |k: usize| format!("word-{}-{}", k + 1, file_name(&maps.words[k]));
    let map = |id: String, title: &str, values, grid| Some(SaliencyMap::new(id, title, values, grid));
    let words = || maps.words.iter().enumerate();
    let mean = words().map(|(k, word)| map(id(k), word, maps.mean(at, k, size), Grid::Latent));
    let each = maps.maps[at].iter().enumerate().flat_map(|(l, layer)| {
        words().map(move |(k, word)| map(format!("{}-layer-{}", id(k), l + 1), word, layer[k].clone(), Grid::Layer))
    });
    let all = map("words".to_owned(), ALL_WORDS, maps.all_words(at, size), Grid::Latent);
    StepFindings { maps: mean.chain(each).chain([all]).collect(), ..StepFindings::default() }
}
