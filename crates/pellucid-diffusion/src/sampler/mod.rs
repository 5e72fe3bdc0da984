//! What solves the reverse process, from noise to picture. A sampler is one file here and one row of [`all`]. Explanations keep
//! to DDIM, whose step has no memory; any other is for the picture itself.

pub mod ddim;
pub mod dpm_solver;

use crate::error::DiffusionError;
use crate::pipeline::{Pipeline, Prompt};
use crate::trajectory::TrajectorySettings;
use ndarray::Array3;
use pellucid_runtime::progress::Progress;
use std::path::Path;

/// A sampler.
pub trait Sampler: std::fmt::Debug + Sync {
    /// What it is chosen by.
    fn id(&self) -> &'static str;

    /// What it is, in a line of a list.
    fn summary(&self) -> &'static str;

    /// Whether it can start from a picture.
    fn can_start_from_picture(&self) -> bool;

    /// Samples `prompt`. What it keeps for another time goes into the folder `cache`.
    ///
    /// # Errors
    /// [`DiffusionError::NotFinite`] names the step where NaN first appears; [`DiffusionError::Interrupted`] where the user
    /// stopped it; [`DiffusionError::Setting`] for a picture to start from that it has no use for.
    fn sample(
        &self,
        pipeline: &mut Pipeline,
        prompt: &Prompt,
        settings: &TrajectorySettings,
        cache: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<SampledPicture, DiffusionError>;
}

/// A picture, and how it came about.
#[derive(Debug, Clone)]
pub struct SampledPicture {
    /// 3 × h × w in [−1, 1], not clamped.
    pub picture: Array3<f32>,
    /// Steps taken.
    pub steps: usize,
    /// Steps that came from the cache.
    pub reused: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Every sampler; the first is taken where none is asked for.
pub fn all() -> &'static [&'static dyn Sampler] {
    &[&ddim::Ddim, &dpm_solver::DpmSolver]
}

/// The sampler called `id`.
///
/// # Errors
/// [`DiffusionError::Setting`] names those that there are.
pub fn named(id: &str) -> Result<&'static dyn Sampler, DiffusionError> {
    all().iter().copied().find(|sampler| sampler.id() == id).ok_or_else(|| {
        let known = all().iter().map(|sampler| sampler.id()).collect::<Vec<_>>().join(", ");
        DiffusionError::Setting { name: "sampler", found: format!("'{id}'"), expected: format!("one of {known}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_are_found_by_name_and_an_unknown_one_is_told_which_there_are() {
        for sampler in all() {
            assert_eq!(named(sampler.id()).unwrap().id(), sampler.id());
        }
        let refused = named("euler").unwrap_err().to_string();
        assert!(refused.contains("'euler'") && refused.contains("ddim, dpm++"), "{refused}");
    }
}
