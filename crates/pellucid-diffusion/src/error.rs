//! Why a pipeline could not be opened, sampled or explained.

use std::path::PathBuf;

/// Each message names the file or step, what was expected, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    /// A file or folder of the pipeline is not there.
    #[error(
        "{folder}: the pipeline has no {component} (expected {expected}); export it again, for example with `optimum-cli export onnx`"
    )]
    Missing {
        /// The pipeline.
        folder: PathBuf,
        /// What is missing, for example `U-Net`.
        component: &'static str,
        /// Which file was looked for.
        expected: String,
    },
    /// A config cannot be read or says something unknown.
    #[error("{file}: {reason}")]
    Config {
        /// The config.
        file: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The pipeline is of a kind that is not supported.
    #[error("{folder}: {reason}")]
    Unsupported {
        /// The pipeline.
        folder: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The tokenizer and the text encoder disagree.
    #[error(
        "{tokenizer}: the prompt has token {token}, but the text encoder knows {vocabulary}; tokenizer and text encoder come from different models"
    )]
    Vocabulary {
        /// The tokenizer's file.
        tokenizer: PathBuf,
        /// The token that is out of range.
        token: u32,
        /// Number of tokens that the encoder knows.
        vocabulary: usize,
    },
    /// A setting is out of range.
    #[error("{name} is {found}; expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A latent is NaN or infinite.
    #[error(
        "step {step} (t = {t}) of '{prompt}': {count} of the latent's numbers are NaN or infinite; check the scheduler's prediction type ({prediction}), or export the model in float32"
    )]
    NotFinite {
        /// Number of the step, from 0.
        step: usize,
        /// Its timestep.
        t: usize,
        /// The prompt.
        prompt: String,
        /// How many numbers.
        count: usize,
        /// The configured prediction type.
        prediction: String,
    },
    /// A model gives something else than expected.
    #[error("{model}: {reason}")]
    Shape {
        /// The model's file.
        model: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// A file of the cache cannot be read or written.
    #[error("{path}: cannot {action} the cache: {reason}; free some space, or choose another folder")]
    Cache {
        /// The file.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
    /// The network cannot do what was asked of it, or there is nothing to show.
    #[error(transparent)]
    Cannot(#[from] crate::network::Cannot),
    /// The user asked to stop.
    #[error("stopped; what is finished is kept, and the same command goes on from there")]
    Interrupted,
    /// The model file.
    #[error(transparent)]
    Model(#[from] pellucid_graph::ModelError),
    /// A model in half precision that cannot be widened.
    #[error("{model}: {source}")]
    Widen {
        /// The model's file.
        model: PathBuf,
        /// Why.
        source: Box<pellucid_graph::WidenError>,
    },
    /// The graph.
    #[error(transparent)]
    Graph(#[from] pellucid_graph::grad::GradientError),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] pellucid_runtime::RuntimeError),
    /// Shapes.
    #[error(transparent)]
    Observe(#[from] pellucid_runtime::ObserveError),
    /// Gradients.
    #[error(transparent)]
    Gradients(#[from] pellucid_runtime::GradientsError),
    /// The runtime's library.
    #[error(transparent)]
    Library(#[from] pellucid_runtime::LibraryError),
}

impl DiffusionError {
    /// Whether nothing should go on after this, even what does not depend on what failed: the user asked to stop, or asked for
    /// what cannot be; a bound that the user set is reached; or nothing can be kept.
    pub fn ends_the_run(&self) -> bool {
        use pellucid_graph::grad::GradientError;
        use pellucid_runtime::{GradientsError, ObserveError, RuntimeError};
        let is_memory = |e: &RuntimeError| matches!(e, RuntimeError::Memory { .. });
        match self {
            Self::Interrupted | Self::Setting { .. } | Self::Cache { .. } | Self::Library(_) => true,
            Self::Runtime(e) | Self::Gradients(GradientsError::Runtime(e)) => is_memory(e),
            Self::Observe(e) | Self::Gradients(GradientsError::Observe(e)) => match e {
                ObserveError::Runtime(e) => is_memory(e),
                ObserveError::Large { .. } => true,
                _ => false,
            },
            Self::Graph(GradientError::Memory { .. }) => true,
            Self::Gradients(GradientsError::Gradient { source, .. }) => matches!(source, GradientError::Memory { .. }),
            _ => false,
        }
    }
}
