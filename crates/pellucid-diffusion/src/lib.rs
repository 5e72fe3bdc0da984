//! Explains a text-to-image diffusion model step by step.
//!
//! The flow: [`Pipeline::open`] reads a diffusers folder exported to ONNX (or a denoiser alone, described by a TOML file), [`Timesteps`] chooses the steps,
//! [`Trajectory::compute`] samples once and keeps every step, and every explainer reads that trajectory: [`words`]
//! (what each word looks at), [`rise`] (what the step depends on, by masking), [`cam`] (which activations carry it),
//! [`recovery`](mod@recovery) (how far each place has come), [`auc`] (whether a map is faithful; [`pellucid_saliency::evaluate`] says whether more so
//! than controls that know nothing). Results are plain structs.
//!
//! Every explainer uses the stateless DDIM step of [`NoiseSchedule::step`] (η = 0) with explicit (t, t′), so nothing that
//! is asked of one step changes another.

pub mod auc;
pub mod cam;
mod config;
mod denoiser;
mod entries;
mod error;
pub mod lime;
pub mod multistep;
mod noise;
#[doc(hidden)]
pub mod parsers;
mod pipeline;
mod plain;
pub mod recovery;
pub mod rise;
mod schedule;
pub mod similarity;
mod start;
mod tokens;
pub mod trajectory;
pub mod words;

pub use config::{Prediction, SchedulerConfig, Spacing, Thresholding};
pub use denoiser::Denoiser;
pub use error::DiffusionError;
pub use noise::gaussian;
pub use pipeline::{Pipeline, PipelineOptions, Prompt, picture};
pub use schedule::{NoiseSchedule, Timesteps, exponential_steps};
pub use start::PictureStart;
pub use tokens::{Tokens, Word};
pub use trajectory::{Step, Trajectory, TrajectorySettings};
