//! Jobs on a diffusion pipeline: sample a prompt, explain it step by step, measure whether the explanations are faithful.
//!
//! [`explain()`] gives trajectory, maps and figures as values; [`ExplainRun`] writes them into a run directory. Nothing here knows
//! an explainer by name: [`explainers`] lists them, and each says what it found ([`Findings`]).

mod explain;
mod faithful;
mod files;
mod job;
mod page;
mod results;
mod run;
mod sample;
mod settings;
mod study;

pub use explain::explain;
pub use results::{
    Answer, Became, Explained, ExplainerSummary, Explanation, MapFaithfulness, StepFigures, WrittenExplanation,
};
pub use run::{ExplainRun, RunPlace, write_explanation};
pub use sample::{Sampled, sample};
pub use settings::{ExplainSettings, FaithfulnessSettings};
pub use study::{Study, study};

pub use pellucid_diffusion::explain::{
    Amount, Arrival, Arrivals, Axis, Curve, Effect, Effects, Explainer, Findings, Outcome, Row as ExplainerRow,
    StepFigure, StepFindings, Subject, Track, all as explainers, choose as choose_explainers,
};
pub use pellucid_diffusion::network::Capability;
pub use pellucid_diffusion::sampler::{Sampler, all as samplers, named as sampler};
pub use pellucid_diffusion::{
    DiffusionError, Pipeline, PipelineOptions, Prompts, Timesteps, Trajectory, TrajectorySettings, file_name,
};
pub use pellucid_saliency::{Figure, Grid, Role, SaliencyMap};
