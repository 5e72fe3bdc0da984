//! Jobs on a diffusion pipeline: sample a prompt, explain it step by step, measure whether the explanations are faithful.

mod explain;
mod faithful;
mod files;
mod kept;
mod page;

pub use explain::{ExplainSettings, Explained, Explanation, StepFigures, explain};
pub use faithful::{FaithfulnessSettings, MapFaithfulness, Study, study};

use crate::Error;
use pellucid_diffusion::multistep::sample_multistep;
use pellucid_diffusion::trajectory::{Trajectory, TrajectorySettings};
use pellucid_diffusion::{Pipeline, picture};
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

/// What solves the reverse process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// DDIM, step by step, cached and resumable.
    Ddim,
    /// DPM-Solver++ (2M): fewer steps for the same picture, none of them kept.
    DpmSolver,
}

/// A file name made from text: letters, digits and dashes only, at most 60 of them.
pub fn file_name(text: &str) -> String {
    let safe = text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' });
    let joined = safe.collect::<String>().split('-').filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-");
    let short: String = joined.chars().take(60).collect();
    if short.is_empty() { "empty-prompt".to_owned() } else { short }
}

/// Samples `prompt` and writes the picture to `folder` as PNG, named after prompt and seed.
pub fn sample(
    pipeline: &mut Pipeline,
    prompt: &str,
    settings: &TrajectorySettings,
    solver: Solver,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Sampled, Error> {
    let prompt = pipeline.prompt(prompt)?;
    let (decoded, steps, reused, warnings) = match solver {
        Solver::Ddim => {
            let cache = folder.join(".cache");
            let t = Trajectory::compute(pipeline, &prompt, settings, Some(&cache), progress)?;
            (t.picture, t.steps.len(), t.reused, t.warnings)
        }
        Solver::DpmSolver => {
            let (timesteps, mut warnings) = settings.timesteps.resolve(&pipeline.scheduler)?;
            warnings.extend(prompt.warnings.iter().cloned());
            (sample_multistep(pipeline, &prompt, settings, progress)?, timesteps.len(), 0, warnings)
        }
    };
    std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
    let path = folder.join(format!("{}-seed{}.png", file_name(&prompt.text), settings.seed));
    let png = picture(decoded.view()).to_png()?;
    std::fs::write(&path, png).map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(Sampled { prompt: prompt.text, picture: path, steps, reused, warnings })
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn file_names_are_safe_and_never_empty() {
        assert_eq!(file_name("a cat on blue"), "a-cat-on-blue");
        assert_eq!(file_name("../../etc/passwd: \"x\""), "etc-passwd-x");
        assert_eq!(file_name("  "), "empty-prompt");
        assert_eq!(file_name(&"é".repeat(200)).chars().count(), 60);
    }
}
