//! DPM-Solver++ (2M) for the picture itself: a multistep solver reaches in 20 steps what DDIM needs 50 for. Explanations keep
//! to DDIM, whose step has no memory.
//!
//! Lu et al. 2022 (arXiv 2211.01095), data prediction, midpoint; the last step is of first order and ends at ᾱ = 1, as
//! diffusers' `DPMSolverMultistepScheduler` does by default.

use crate::error::DiffusionError;
use crate::pipeline::{Pipeline, Prompt};
use crate::schedule::NoiseSchedule;
use crate::trajectory::{TrajectorySettings, check_finite, noise};
use ndarray::{Array3, Array4, Axis};
use pellucid_runtime::progress::Progress;

/// Signal, noise, and λ = ln(signal / noise) of a timestep.
#[derive(Clone, Copy)]
struct Level {
    signal: f64,
    noise: f64,
    lambda: f64,
}

impl Level {
    fn of(schedule: &NoiseSchedule, t: usize) -> Self {
        // A schedule that ends in pure noise has ᾱ = 0 there, where λ is not finite.
        let alpha = schedule.alpha(Some(t)).clamp(1e-12, 1.0 - 1e-12);
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        Self { signal, noise, lambda: (signal / noise).ln() }
    }
}

/// Samples `prompt` with DPM-Solver++ and gives the picture: 3 × h × w in [−1, 1].
///
/// # Errors
/// [`DiffusionError::NotFinite`] names the step where NaN first appears; [`DiffusionError::Interrupted`] where the user
/// stopped it.
pub fn sample_multistep(
    pipeline: &mut Pipeline,
    prompt: &Prompt,
    settings: &TrajectorySettings,
    progress: &dyn Progress,
) -> Result<Array3<f32>, DiffusionError> {
    let (timesteps, _) = settings.timesteps.resolve(&pipeline.scheduler)?;
    let start = noise(pipeline.latent, settings.seed);
    let latent = solve(pipeline, prompt, settings.guidance, &timesteps, start, progress)?;
    Ok(pipeline.decode(&latent)?.index_axis(Axis(0), 0).to_owned())
}

/// The clean latent that DPM-Solver++ reaches from `x` at the first of `timesteps`.
pub fn solve(
    pipeline: &mut Pipeline,
    prompt: &Prompt,
    guidance: f32,
    timesteps: &[usize],
    mut x: Array4<f32>,
    progress: &dyn Progress,
) -> Result<Array4<f32>, DiffusionError> {
    let mut before: Option<(Array4<f32>, Level)> = None;
    progress.start("sampling", timesteps.len() as u64);
    for (at, &t) in timesteps.iter().enumerate() {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let epsilon = pipeline.epsilon(&x, t, prompt, guidance)?;
        let clean = pipeline.schedule.clean(&x.view(), &epsilon.view(), t);
        check_finite(pipeline, prompt, &clean, (at, t))?;
        let here = Level::of(&pipeline.schedule, t);
        x = match timesteps.get(at + 1) {
            None => clean.clone(),
            Some(&next) => advanced(&x, &clean, before.as_ref(), here, Level::of(&pipeline.schedule, next)),
        };
        before = Some((clean, here));
        progress.advance(1);
    }
    progress.finish();
    Ok(x)
}

/// One step: first order without a step before it, second order with one.
fn advanced(
    x: &Array4<f32>,
    clean: &Array4<f32>,
    before: Option<&(Array4<f32>, Level)>,
    here: Level,
    next: Level,
) -> Array4<f32> {
    let length = next.lambda - here.lambda;
    let share = -(next.signal * (-length).exp_m1());
    let mut result = x * (next.noise / here.noise) as f32 + clean * share as f32;
    if let Some((older, level)) = before {
        let ratio = (here.lambda - level.lambda) / length;
        result = result + (clean - older) * (0.5 * share / ratio) as f32;
    }
    result
}
