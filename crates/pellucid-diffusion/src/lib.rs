//! Explains a text-to-image diffusion model step by step.
//!
//! The flow: [`Pipeline::open`] reads a diffusers folder exported to ONNX (or a denoiser alone, described by a TOML file) and
//! puts a [`network`] into it, [`Timesteps`] chooses the steps, [`Trajectory::compute`] samples once and keeps every step, and
//! every explainer of [`explain::all`] reads that trajectory: [`explain::cross_attention`] (what each word looks at),
//! [`explain::rise`] (what the step depends on, by masking), [`explain::cam`] (which activations carry it),
//! [`explain::recovery`] (how far each place has come), [`explain::bands`] (how far each size of structures has), [`explain::causal`] (when and where each word acts, and which maps agree). [`auc`] says whether a map is faithful,
//! [`pellucid_saliency::evaluate`] whether more so than controls that know nothing. Results are plain structs.
//!
//! Every explainer uses the stateless DDIM step of [`NoiseSchedule::step`] (η = 0) with explicit (t, t′), so nothing that
//! is asked of one step changes another. Other ways to a picture are in [`sampler`].

pub mod auc;
mod config;
mod entries;
mod error;
pub mod explain;
mod inversion;
pub mod lime;
mod names;
pub mod network;
mod noise;
#[doc(hidden)]
pub mod parsers;
mod pipeline;
pub mod sampler;
mod schedule;
pub mod similarity;
mod spectrum;
mod tokens;
pub mod trajectory;

pub use config::{Prediction, SchedulerConfig, Spacing, Thresholding};
pub use error::DiffusionError;
pub use inversion::PictureStart;
pub use names::file_name;
pub use noise::gaussian;
pub use pipeline::{Pipeline, PipelineOptions, Prompt, Prompts, picture};
pub use schedule::{NoiseSchedule, Stage, Timesteps, exponential_steps};
pub use tokens::{Tokens, Unknown, Word};
pub use trajectory::{Step, Trajectory, TrajectorySettings};
