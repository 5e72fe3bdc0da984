//! Where a trajectory starts when it is to end at, or near, an existing picture: the picture is encoded, and then either
//! brought back to noise by running DDIM the other way (inversion) or mixed with noise.

use crate::error::DiffusionError;
use crate::pipeline::{Pipeline, Prompt};
use crate::trajectory::noise;
use ndarray::Array4;
use pellucid_runtime::progress::Progress;
use pellucid_vision::picture::Picture;
use pellucid_vision::resize::{Filter, resize};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A picture to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureStart {
    /// Its file; in results only its name, as they name no folder of a machine.
    #[serde(serialize_with = "name_alone")]
    pub picture: PathBuf,
    /// blake3 of the file, so that another picture of that name is another trajectory.
    pub hash: String,
    /// `None`: DDIM inversion, which ends at the picture again. Else the share of the timesteps, 0…1, that is run from the
    /// picture mixed with noise: 1 leaves nothing of it, 0.1 changes little.
    pub strength: Option<f64>,
}

fn name_alone<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.file_name().unwrap_or_default().to_string_lossy())
}

impl PictureStart {
    /// Reads the picture's hash.
    ///
    /// # Errors
    /// Where the file cannot be read, or `strength` is not above 0 and at most 1.
    pub fn new(picture: impl AsRef<Path>, strength: Option<f64>) -> Result<Self, DiffusionError> {
        let picture = picture.as_ref();
        if let Some(wrong) = strength.filter(|s| !(*s > 0.0 && *s <= 1.0)) {
            let expected = "a number above 0 and at most 1".to_owned();
            return Err(DiffusionError::Setting { name: "strength", found: wrong.to_string(), expected });
        }
        let mut hasher = blake3::Hasher::new();
        let read = std::fs::File::open(picture).and_then(|file| hasher.update_reader(file).map(|_| ()));
        read.map_err(|e| unreadable(picture, &e))?;
        Ok(Self { picture: picture.to_path_buf(), hash: hasher.finalize().to_hex().to_string(), strength })
    }

    /// The latent that the trajectory starts from, and how many of the first `timesteps` are left out.
    pub(crate) fn latent(
        &self,
        pipeline: &mut Pipeline,
        prompt: &Prompt,
        (timesteps, guidance, seed): (&[usize], f32, u64),
        progress: &dyn Progress,
    ) -> Result<(Array4<f32>, usize), DiffusionError> {
        let picture =
            Picture::open(&self.picture, &pipeline.options.budget).map_err(|e| unreadable(&self.picture, &e))?;
        let clean = encoded(pipeline, &picture)?;
        let Some(strength) = self.strength else {
            return Ok((inverted(pipeline, prompt, clean, (timesteps, guidance), progress)?, 0));
        };
        let run = ((timesteps.len() as f64 * strength).round() as usize).clamp(1, timesteps.len());
        let left_out = timesteps.len() - run;
        let noise = noise(pipeline.latent, seed);
        Ok((pipeline.schedule.step(&clean.view(), &noise.view(), Some(timesteps[left_out])), left_out))
    }
}

fn unreadable(picture: &Path, reason: &dyn std::fmt::Display) -> DiffusionError {
    DiffusionError::Config { file: picture.to_path_buf(), reason: format!("cannot be read as a picture: {reason}") }
}

/// `picture`, brought to the pipeline's size, as a latent.
fn encoded(pipeline: &mut Pipeline, picture: &Picture) -> Result<Array4<f32>, DiffusionError> {
    let factor = pipeline.pixels_per_latent()?;
    let [_, rows, columns] = pipeline.latent;
    let (height, width) = (rows * factor, columns * factor);
    let sized = resize(picture, width as u32, height as u32, Filter::Bicubic);
    let pixels = Array4::from_shape_fn((1, 3, height, width), |(_, c, y, x)| {
        f32::from(sized.data()[(y * width + x) * 3 + c]) / 127.5 - 1.0
    });
    pipeline.encode_picture(&pixels)
}

/// DDIM the other way: from the clean latent to the first timestep.
fn inverted(
    pipeline: &mut Pipeline,
    prompt: &Prompt,
    mut x: Array4<f32>,
    (timesteps, guidance): (&[usize], f32),
    progress: &dyn Progress,
) -> Result<Array4<f32>, DiffusionError> {
    progress.start("inverting", timesteps.len() as u64);
    let mut level = None;
    for &t in timesteps.iter().rev() {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let epsilon = pipeline.epsilon(&x, t, prompt, guidance)?;
        let alpha = pipeline.schedule.alpha(level);
        let (signal, share) = (alpha.sqrt() as f32, (1.0 - alpha).max(0.0).sqrt() as f32);
        let clean = (&x - &(&epsilon * share)) / signal;
        x = pipeline.schedule.step(&clean.view(), &epsilon.view(), Some(t));
        level = Some(t);
        progress.advance(1);
    }
    progress.finish();
    Ok(x)
}
