//! DDIM (η = 0), as explanations take it: step by step, each kept.

use super::{SampledPicture, Sampler};
use crate::error::DiffusionError;
use crate::pipeline::{Pipeline, Prompt};
use crate::trajectory::{Trajectory, TrajectorySettings};
use pellucid_runtime::progress::Progress;
use std::path::Path;

/// DDIM.
#[derive(Debug, Clone, Copy)]
pub struct Ddim;

impl Sampler for Ddim {
    fn id(&self) -> &'static str {
        "ddim"
    }

    fn summary(&self) -> &'static str {
        "DDIM, step by step, cached and resumable"
    }

    fn can_start_from_picture(&self) -> bool {
        true
    }

    fn sample(
        &self,
        pipeline: &mut Pipeline,
        prompt: &Prompt,
        settings: &TrajectorySettings,
        cache: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<SampledPicture, DiffusionError> {
        let done = Trajectory::compute(pipeline, prompt, settings, cache, progress)?;
        let Trajectory { picture, steps, reused, warnings, .. } = done;
        Ok(SampledPicture { picture, steps: steps.len(), reused, warnings })
    }
}
