//! A prompt to its picture.

use crate::Error;
use pellucid_diffusion::sampler::Sampler;
use pellucid_diffusion::{Pipeline, TrajectorySettings, file_name, picture};
use pellucid_runtime::progress::Progress;
use std::path::{Path, PathBuf};

/// What a sampled prompt gives.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Sampled {
    /// The prompt.
    pub prompt: String,
    /// The picture's file.
    pub picture: PathBuf,
    /// Steps taken, and how many of them came from the cache.
    pub steps: usize,
    /// Steps that came from the cache.
    pub reused: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Samples `prompt` with `sampler` and writes the picture to `folder` as PNG, named after prompt and seed.
///
/// # Errors
/// What sampling says, and where the picture cannot be written.
pub fn sample(
    pipeline: &mut Pipeline,
    prompt: &str,
    settings: &TrajectorySettings,
    sampler: &dyn Sampler,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Sampled, Error> {
    let prompt = pipeline.prompt_against(prompt, settings.negative.as_deref())?;
    let done = sampler.sample(pipeline, &prompt, settings, Some(&folder.join(".cache")), progress)?;
    std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
    let path = folder.join(format!("{}-seed{}.png", file_name(&prompt.text), settings.seed));
    let png = picture(done.picture.view()).to_png()?;
    std::fs::write(&path, png).map_err(|source| Error::Write { path: path.clone(), source })?;
    let (steps, reused, warnings) = (done.steps, done.reused, done.warnings);
    Ok(Sampled { prompt: prompt.text, picture: path, steps, reused, warnings })
}
