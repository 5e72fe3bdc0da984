//! What is pictured, how it is optimised, and what can go wrong.

use pellucid_graph::grad::GradientError;
use pellucid_graph::{GraphError, ModelError};
use pellucid_guard::{Job, Setting};
use pellucid_runtime::{GradientsError, RuntimeError, SessionOptions};
use pellucid_vision::augment::Augmentation;
use pellucid_vision::canvas::Parameterisation;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is ascended, per picture, with a the mean of the channel, z the class logit and s the similarity of picture and
/// class name by the guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// (softplus(κ(s − s₀))/κ + ε)(a + γz), and a + γz + μs while a + γz ≤ 0. The published product, without its
    /// wrong direction where a factor is negative, and with every picture on its own.
    Guided,
    /// mean(s + ε) · mean(a + γz) over the batch, s with the un-normalised mean text embedding: as published.
    Reference,
    /// a + γz: no guide.
    Unguided,
    /// a + 0.1 z: the plain channel.
    Channel,
}

/// How pictures are optimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VisualizationSettings {
    /// What is ascended. Without a guide, `Guided` and `Reference` cannot be.
    pub objective: ObjectiveKind,
    /// Steps at most.
    pub steps: usize,
    /// Side of the picture, in pixels; the model's own input size where `None`.
    pub side: Option<usize>,
    /// What the parameters of a picture are.
    pub parameterisation: Parameterisation,
    /// The augmentation; none where `None`.
    pub augmentation: Option<Augmentation>,
    /// γ: weight of the class logit.
    pub class_weight: f32,
    /// ε: what the guide's factor is at least.
    pub floor: f32,
    /// μ: weight of the similarity while the rest is not positive.
    pub pull: f32,
    /// First learning rate; it falls to 0.12 of it by a cosine.
    pub learning_rate: f32,
    /// Weight decay, decoupled.
    pub weight_decay: f32,
    /// Weight of the total variation (pixels only).
    pub total_variation: f32,
    /// Steps without progress of any picture after which the ascent stops; 0 never stops early.
    pub patience: usize,
    /// First seed; picture k of a target has seed + k.
    pub seed: u64,
    /// Pictures of each target, with different seeds.
    pub seeds: usize,
    /// Pictures optimised at once, at most; fewer where memory is short.
    pub largest_batch: usize,
    /// Bound on the memory of activations, in bytes: how many are made at once, which changes no picture.
    #[serde(skip)]
    pub memory: u64,
    /// Device and threads.
    #[serde(skip)]
    pub session: SessionOptions,
}

impl Default for VisualizationSettings {
    fn default() -> Self {
        VisualizationSettings {
            objective: ObjectiveKind::Guided,
            steps: 450,
            side: None,
            parameterisation: Parameterisation::Fourier,
            augmentation: Some(Augmentation::default()),
            class_weight: 0.5,
            floor: 0.05,
            pull: 1.0,
            learning_rate: 9e-3,
            weight_decay: 1e-3,
            total_variation: 2.0,
            patience: 150,
            seed: 0,
            seeds: 2,
            largest_batch: 8,
            memory: pellucid_runtime::DEFAULT_MEMORY,
            session: SessionOptions::default(),
        }
    }
}

pellucid_guard::builders!(VisualizationSettings {
    with_objective: objective => ObjectiveKind,
    with_steps: steps: usize,
    with_side: side => Option<usize>,
    with_parameterisation: parameterisation => Parameterisation,
    with_augmentation: augmentation => Option<Augmentation>,
    with_class_weight: class_weight: f32,
    with_floor: floor: f32,
    with_pull: pull: f32,
    with_learning_rate: learning_rate: f32,
    with_weight_decay: weight_decay: f32,
    with_total_variation: total_variation: f32,
    with_patience: patience: usize,
    with_seed: seed: u64,
    with_seeds: seeds: usize,
    with_largest_batch: largest_batch: usize,
    with_memory: memory: u64,
    with_session: session => SessionOptions,
});

/// One thing to picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Channel of the pictured layer: a neuron, where that is the features.
    pub channel: usize,
    /// The class it is pictured for.
    pub class: Option<usize>,
}

/// Why a picture was not made.
#[derive(Debug, thiserror::Error)]
pub enum IllusionError {
    /// A channel that does not exist.
    #[error("there is no {what} {channel} in '{layer}', which has {channels}: 0 to {}", .channels.saturating_sub(1))]
    Channel {
        /// "neuron" or "channel".
        what: &'static str,
        /// What was asked for.
        channel: usize,
        /// The layer.
        layer: String,
        /// How many there are.
        channels: usize,
    },
    /// A class that does not exist.
    #[error("class {class} does not exist; the model has {classes}")]
    Class {
        /// What was asked for.
        class: usize,
        /// How many there are.
        classes: usize,
    },
    /// A layer without channels.
    #[error(
        "'{layer}' is no feature map: its shape is {shape:?}, expected N×C×H×W or N×T×C; {inspect} lists the \
         values there are", inspect = Job::InspectGradients, )]
    NotAMap {
        /// The value.
        layer: String,
        /// Its shape at batch 1.
        shape: Vec<usize>,
    },
    /// The objective needs a guide.
    #[error("the {0} objective needs a guide; give one with {guide}, or choose {objective} unguided or channel", guide = Setting::Guide, objective = Setting::Objective)]
    NoGuide(&'static str),
    /// The guide's two sides do not fit.
    #[error(
        "the guide's picture embeddings have {picture} numbers and its text embeddings {text}; both must come from one \
         guide"
    )]
    Embeddings {
        /// Size of a picture's embedding.
        picture: usize,
        /// Size of a text's embedding.
        text: usize,
    },
    /// Everything went to NaN.
    #[error(
        "every picture diverged (NaN or infinity; the first at step {step}); choose a lower {learning_rate}, and check \
         the model on real pictures", learning_rate = Setting::LearningRate)]
    Diverged {
        /// The first step whose gradient was not finite.
        step: usize,
    },
    /// The user interrupted.
    #[error("interrupted after {done} of {total} pictures; nothing was written")]
    Interrupted {
        /// Pictures finished.
        done: usize,
        /// Pictures in all.
        total: usize,
    },
    /// The settings make no sense.
    #[error("{0}")]
    Settings(String),
    /// The graphs could not be joined.
    #[error("{model}: {source}")]
    Graph {
        /// The model's path.
        model: PathBuf,
        /// What is wrong.
        source: GradientError,
    },
    /// A graph of ours is wrong.
    #[error(transparent)]
    Build(#[from] GraphError),
    /// A model file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The gradient.
    #[error(transparent)]
    Gradients(#[from] GradientsError),
    /// The run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl VisualizationSettings {
    /// The same if they make sense, else what does not.
    pub fn checked(&self) -> Result<(), IllusionError> {
        let wrong = |text: String| Err(IllusionError::Settings(text));
        let positive = |v: f32| v.is_finite() && v > 0.0;
        match self {
            s if s.steps == 0 => wrong(format!("0 steps make no picture; give {} 1 or more", Setting::Steps)),
            s if s.seeds == 0 => wrong(format!("0 seeds make no picture; give {} 1 or more", Setting::Seeds)),
            s if s.side.is_some_and(|side| !(16..=2048).contains(&side)) => {
                wrong(format!("a picture of {} pixels; give a side from 16 to 2048", s.side.unwrap_or(0)))
            }
            s if !positive(s.learning_rate) => {
                wrong(format!("a learning rate of {}; give a positive number", s.learning_rate))
            }
            _ => Ok(()),
        }
    }
}
