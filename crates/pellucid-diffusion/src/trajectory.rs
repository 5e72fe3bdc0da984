//! The way from noise to picture, computed once and kept: every explainer reads it.
//!
//! With a folder, each step is written as it is finished (safetensors, whole or not at all, its hash in its name), so that
//! an interrupted run goes on where it stopped. A step is reused only if pipeline, prompt, seed, guidance and timesteps
//! are the same, and only if it is what was written; anything else is said and computed again.

use crate::error::DiffusionError;
use crate::inversion::PictureStart;
use crate::noise::gaussian;
use crate::pipeline::{Pipeline, Prompt, guide};
use crate::schedule::Timesteps;
use ndarray::{Array3, Array4, ArrayD, Axis, Dimension, Ix4, IxDyn};
use pellucid_guard::seal::{self, Found};
use pellucid_runtime::progress::Progress;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How the trajectory is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrajectorySettings {
    /// Which timesteps.
    pub timesteps: Timesteps,
    /// Guidance w: ε̂ = ε_u + w(ε_c − ε_u). 1 is the condition alone, 0 none.
    pub guidance: f32,
    /// Seed of the initial noise.
    pub seed: u64,
    /// A picture to start from; noise for `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<PictureStart>,
    /// What guidance leads away from, in the place of the empty prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
}

impl Default for TrajectorySettings {
    fn default() -> Self {
        Self {
            timesteps: Timesteps::Uniform { steps: 20, spacing: None },
            guidance: 7.5,
            seed: 0,
            start: None,
            negative: None,
        }
    }
}

/// One step: what went in and what the model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Timestep.
    pub t: usize,
    /// The next timestep; `None` after the last.
    pub next: Option<usize>,
    /// The noisy latent, 1 × Ch × H × W.
    pub latent: Array4<f32>,
    /// ε without the condition, where the model has one.
    pub unconditional: Option<Array4<f32>>,
    /// ε with the condition.
    pub conditional: Array4<f32>,
    /// x̂0 under guidance.
    pub clean: Array4<f32>,
    /// x̂0 decoded: 3 × h × w in [−1, 1], not clamped.
    pub decoded: Array3<f32>,
}

impl Step {
    /// ε under guidance `w`.
    pub fn epsilon(&self, guidance: f32) -> Array4<f32> {
        match &self.unconditional {
            Some(u) => guide(u, &self.conditional, guidance),
            None => self.conditional.clone(),
        }
    }
}

/// A finished trajectory.
#[derive(Debug, Clone)]
pub struct Trajectory {
    /// The prompt.
    pub prompt: Prompt,
    /// How it was computed.
    pub settings: TrajectorySettings,
    /// Steps, from noise to picture.
    pub steps: Vec<Step>,
    /// The final latent x0, 1 × Ch × H × W.
    pub last: Array4<f32>,
    /// The picture: 3 × h × w in [−1, 1].
    pub picture: Array3<f32>,
    /// How many steps came from the cache.
    pub reused: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Kept steps that were not what was written, one a line with their file; they were computed again.
    pub remade: Vec<String>,
}

impl Trajectory {
    /// Samples `prompt` with `pipeline`, keeping every step. With `cache`, steps are read from and written to that folder.
    ///
    /// # Errors
    /// [`DiffusionError::NotFinite`] names the step where NaN first appears; [`DiffusionError::Interrupted`] where the
    /// user stopped it.
    pub fn compute(
        pipeline: &mut Pipeline,
        prompt: &Prompt,
        settings: &TrajectorySettings,
        cache: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Self, DiffusionError> {
        let (timesteps, mut warnings) = settings.timesteps.resolve(&pipeline.scheduler)?;
        if !settings.guidance.is_finite() {
            let expected = "a finite number".to_owned();
            return Err(DiffusionError::Setting { name: "guidance", found: settings.guidance.to_string(), expected });
        }
        warnings.extend(prompt.warnings.iter().cloned());
        let cache = cache.map(|folder| Cache::new(folder, pipeline, prompt, settings)).transpose()?;
        let (mut latent, left_out) = match &settings.start {
            Some(start) => start.latent(pipeline, prompt, (&timesteps, settings.guidance, settings.seed), progress)?,
            None => (noise(pipeline.latent, settings.seed), 0),
        };
        let timesteps = &timesteps[left_out..];
        let mut steps: Vec<Step> = Vec::with_capacity(timesteps.len());
        let (mut reused, mut remade) = (0, Vec::new());
        progress.start("sampling", timesteps.len() as u64);
        for (at, &t) in timesteps.iter().enumerate() {
            if progress.interrupted() {
                return Err(DiffusionError::Interrupted);
            }
            let next = timesteps.get(at + 1).copied();
            let mut say = |words: String| {
                progress.warn(&words);
                remade.push(words);
            };
            let kept = cache.as_ref().and_then(|c| c.read(pipeline, prompt, at, (t, next), &mut say));
            let step = match kept.filter(|s| s.latent == latent) {
                Some(step) => {
                    reused += 1;
                    step
                }
                None => {
                    let step = take_step(pipeline, prompt, settings, &latent, at, (t, next))?;
                    cache.as_ref().map_or(Ok(()), |cache| cache.write(at, &step))?;
                    step
                }
            };
            latent = pipeline.schedule.step(&step.clean.view(), &step.epsilon(settings.guidance).view(), next);
            steps.push(step);
            progress.advance(1);
        }
        progress.finish();
        let picture = decoded(pipeline, &latent)?;
        // Only now is it known how large a picture is, where every step came from the cache.
        for (at, step) in steps.iter_mut().enumerate().filter(|(_, step)| step.decoded.dim() != picture.dim()) {
            let found = format!("its picture is {:?}, and this pipeline's are {:?}", step.decoded.dim(), picture.dim());
            let words = again(&cache.as_ref().map(|c| c.name(at)).unwrap_or_default(), &found);
            progress.warn(&words);
            remade.push(words);
            reused -= 1;
            step.decoded = decoded(pipeline, &step.clean)?;
            cache.as_ref().map_or(Ok(()), |cache| cache.write(at, step))?;
        }
        let (prompt, settings) = (prompt.clone(), settings.clone());
        Ok(Self { prompt, settings, steps, last: latent, picture, reused, warnings, remade })
    }

    /// Guidance.
    pub fn guidance(&self) -> f32 {
        self.settings.guidance
    }

    /// The latent after step `at`: the next step's, or the last one.
    pub fn after(&self, at: usize) -> &Array4<f32> {
        self.steps.get(at + 1).map_or(&self.last, |s| &s.latent)
    }
}

/// The latent of `seed` from which a picture is sampled: 1 × Ch × H × W.
pub(crate) fn noise([c, h, w]: [usize; 3], seed: u64) -> Array4<f32> {
    let noise = gaussian(seed, c * h * w);
    Array4::from_shape_fn((1, c, h, w), |i| noise[(i.1 * h + i.2) * w + i.3])
}

/// [`DiffusionError::NotFinite`] where x̂0 of step `at` holds NaN or infinity.
pub(crate) fn check_finite(
    pipeline: &Pipeline,
    prompt: &Prompt,
    clean: &Array4<f32>,
    (at, t): (usize, usize),
) -> Result<(), DiffusionError> {
    let count = clean.iter().filter(|v| !v.is_finite()).count();
    if count == 0 {
        return Ok(());
    }
    let prediction = pipeline.schedule.prediction.to_string();
    Err(DiffusionError::NotFinite { step: at, t, prompt: prompt.text.clone(), count, prediction })
}

fn take_step(
    pipeline: &mut Pipeline,
    prompt: &Prompt,
    settings: &TrajectorySettings,
    latent: &Array4<f32>,
    at: usize,
    (t, next): (usize, Option<usize>),
) -> Result<Step, DiffusionError> {
    let (unconditional, conditional) = pipeline.both_epsilons(latent, t, prompt)?;
    let epsilon = match &unconditional {
        Some(u) => guide(u, &conditional, settings.guidance),
        None => conditional.clone(),
    };
    let clean = pipeline.schedule.clean(&latent.view(), &epsilon.view(), t);
    check_finite(pipeline, prompt, &clean, (at, t))?;
    let decoded = decoded(pipeline, &clean)?;
    Ok(Step { t, next, latent: latent.clone(), unconditional, conditional, clean, decoded })
}

fn decoded(pipeline: &mut Pipeline, latent: &Array4<f32>) -> Result<Array3<f32>, DiffusionError> {
    Ok(pipeline.decode(latent)?.index_axis(Axis(0), 0).to_owned())
}

/// Steps on disk, under a name made from everything that decides them.
struct Cache {
    folder: PathBuf,
}

const FIELDS: [&str; 5] = ["latent", "unconditional", "conditional", "clean", "decoded"];

impl Cache {
    fn new(
        folder: &Path,
        pipeline: &Pipeline,
        prompt: &Prompt,
        settings: &TrajectorySettings,
    ) -> Result<Self, DiffusionError> {
        let mut hasher = blake3::Hasher::new();
        let settings = serde_json::to_string(settings).unwrap_or_default();
        for part in [env!("CARGO_PKG_VERSION"), &pipeline.hash, &prompt.text, &settings] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let folder = folder.join(&hasher.finalize().to_hex()[..24]);
        std::fs::create_dir_all(&folder).map_err(|e| failed(&folder, "write", e))?;
        Ok(Self { folder })
    }

    /// A step's file, without hash and ending, for messages.
    fn name(&self, at: usize) -> String {
        self.folder.join(stem(at)).display().to_string()
    }

    /// A step that is what was written and has the shapes of this pipeline. `say` hears why one that is there is not
    /// taken.
    fn read(
        &self,
        pipeline: &Pipeline,
        prompt: &Prompt,
        at: usize,
        (t, next): (usize, Option<usize>),
        say: &mut dyn FnMut(String),
    ) -> Option<Step> {
        let most = pipeline.options.budget.file_memory;
        let (path, read) = match seal::read_within(&self.folder, &stem(at), ENDING, most) {
            Ok(Found::Absent) => return None,
            Ok(Found::Whole(sealed)) => {
                (sealed.path, parsed(&sealed.bytes, pipeline.latent, prompt.unconditional.is_some(), (t, next)))
            }
            Ok(Found::Damaged(path)) => (path, Err("it is damaged".to_owned())),
            Err(e) => (PathBuf::from(self.name(at)), Err(e.to_string())),
        };
        read.map_err(|reason| say(again(&path.display().to_string(), &reason))).ok()
    }

    fn write(&self, at: usize, step: &Step) -> Result<(), DiffusionError> {
        // What is not finite would be refused when it is read.
        let latents = [Some(&step.latent), step.unconditional.as_ref(), Some(&step.conditional), Some(&step.clean)];
        if latents.into_iter().flatten().flatten().chain(&step.decoded).any(|v| !v.is_finite()) {
            return Ok(());
        }
        let arrays = [
            Some(step.latent.view().into_dyn()),
            step.unconditional.as_ref().map(|u| u.view().into_dyn()),
            Some(step.conditional.view().into_dyn()),
            Some(step.clean.view().into_dyn()),
            Some(step.decoded.view().into_dyn()),
        ];
        let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = FIELDS
            .into_iter()
            .zip(arrays)
            .filter_map(|(n, a)| a.map(|a| (n, a.shape().to_vec(), a.iter().flat_map(|v| v.to_le_bytes()).collect())))
            .collect();
        let failed = |e: &dyn std::fmt::Display| failed(&self.folder.join(stem(at)), "write", e);
        let mut views = HashMap::new();
        for (name, shape, data) in &bytes {
            let view = TensorView::new(Dtype::F32, shape.clone(), data).map_err(|e| failed(&e))?;
            views.insert((*name).to_owned(), view);
        }
        let file = safetensors::serialize(views, None).map_err(|e| failed(&e))?;
        seal::write(&self.folder, &stem(at), ENDING, &file).map(|_| ()).map_err(|e| failed(&e))
    }
}

const ENDING: &str = "safetensors";

fn stem(at: usize) -> String {
    format!("step-{at:04}")
}

/// What is said of a kept step that is not taken.
fn again(file: &str, reason: &str) -> String {
    format!("{file}: a kept step cannot be used ({reason}); it is computed again")
}

/// The step in `bytes`, if its latents are of this shape and it has a prediction without the prompt just where it is
/// `guided`; else what is wrong with it.
pub(crate) fn parsed(
    bytes: &[u8],
    [c, h, w]: [usize; 3],
    guided: bool,
    (t, next): (usize, Option<usize>),
) -> Result<Step, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("it is no safetensors file: {e}"))?;
    let latent = |name: &str| array::<Ix4>(&tensors, name, Some(&[1, c, h, w]));
    let unconditional = match (guided, tensors.tensor("unconditional").is_ok()) {
        (true, true) => Some(latent("unconditional")?),
        (false, false) => None,
        (expected, _) => {
            let what = if expected { "lacks" } else { "has" };
            return Err(format!("it {what} the prediction without the prompt"));
        }
    };
    Ok(Step {
        t,
        next,
        latent: latent("latent")?,
        unconditional,
        conditional: latent("conditional")?,
        clean: latent("clean")?,
        decoded: array(&tensors, "decoded", None)?,
    })
}

/// A float array of the file, finite, in `expected` shape where that is known.
fn array<D: Dimension>(
    tensors: &SafeTensors<'_>,
    name: &str,
    expected: Option<&[usize]>,
) -> Result<ndarray::Array<f32, D>, String> {
    let view = tensors.tensor(name).map_err(|_| format!("it lacks '{name}'"))?;
    if view.dtype() != Dtype::F32 {
        return Err(format!("'{name}' is {:?}, expected F32", view.dtype()));
    }
    if let Some(expected) = expected.filter(|shape| *shape != view.shape()) {
        return Err(format!("'{name}' is {:?}, expected {expected:?}", view.shape()));
    }
    let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(format!("'{name}' holds numbers that are not finite"));
    }
    let shaped = ArrayD::from_shape_vec(IxDyn(view.shape()), values).and_then(ArrayD::into_dimensionality);
    shaped.map_err(|_| format!("'{name}' is {:?}, which is no such array", view.shape()))
}

fn failed(path: &Path, action: &'static str, reason: impl std::fmt::Display) -> DiffusionError {
    DiffusionError::Cache { path: path.to_path_buf(), action, reason: reason.to_string() }
}
