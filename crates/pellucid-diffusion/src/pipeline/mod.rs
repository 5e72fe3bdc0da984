//! A pipeline: a network, the noise process it was trained on, what makes its conditions, and what makes pictures of its
//! latents. Each kind of folder or file that one is read from has its own module and one row in [`KINDS`].

mod decoder;
mod diffusers;
pub(crate) mod single_file;
mod text;

use crate::config::SchedulerConfig;
use crate::error::DiffusionError;
use crate::network::{Conditions, DenoiserInputs, Network, with_float_interface};
use crate::schedule::NoiseSchedule;
use crate::tokens::Tokens;
use decoder::Decoder;
use ndarray::{Array4, ArrayView3};
use pellucid_graph::{Model, widen_to_float32};
use pellucid_guard::{Budget, Limit, OverBudget};
use pellucid_runtime::{Device, SessionOptions};
use pellucid_vision::picture::Picture;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use text::Conditioner;

/// How a pipeline is opened.
#[derive(Debug, Clone, Default)]
pub struct PipelineOptions {
    /// The ONNX Runtime library; found by itself where `None`.
    pub library: Option<PathBuf>,
    /// Device and threads.
    pub session: SessionOptions,
    /// Bounds on everything whose size a file decides, activations among them.
    pub budget: Budget,
}

/// A prompt ready for the network.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// As typed.
    pub text: String,
    /// Its tokens and words; `None` for a model without text.
    pub tokens: Option<Tokens>,
    /// What the network is told.
    pub conditional: Conditions,
    /// What it is told for the unconditional half of guidance; `None` where the model takes no condition.
    pub unconditional: Option<Conditions>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What makes prompts for a network that brings its own conditions ([`Pipeline::around`]).
pub trait Prompts: std::fmt::Debug + Send {
    /// Tokens, words and conditions of `text`.
    ///
    /// # Errors
    /// Where the text means nothing to the network.
    fn prompt(&mut self, text: &str) -> Result<Prompt, DiffusionError>;
}

/// A network with everything around it.
#[derive(Debug)]
pub struct Pipeline {
    /// Its folder.
    pub folder: PathBuf,
    /// The options it was opened with.
    pub options: PipelineOptions,
    /// What the scheduler's config says.
    pub scheduler: SchedulerConfig,
    /// ᾱ and the step.
    pub schedule: NoiseSchedule,
    /// Words by family, where the pipeline brings them (`words.json`): what a word can be swapped for.
    pub families: BTreeMap<String, Vec<String>>,
    /// Shape of one latent: channels, height, width.
    pub latent: [usize; 3],
    /// blake3 over every file that decides what the pipeline computes.
    pub hash: String,
    /// The network.
    pub network: Box<dyn Network>,
    conditioner: Conditioner,
    decoder: Decoder,
}

/// A kind of pipeline.
struct Kind {
    /// What is looked for, in words.
    expected: &'static str,
    /// The file that describes a pipeline of this kind at a path, if there is one.
    find: fn(&Path) -> Option<PathBuf>,
    /// Opens the pipeline that this file describes.
    open: fn(&Path, &PipelineOptions) -> Result<Pipeline, DiffusionError>,
}

/// Every kind, in the order in which they are looked for.
const KINDS: [Kind; 2] = [single_file::KIND, diffusers::KIND];

/// Arrays of a latent's size that a step holds at once: the latent, both predictions, x̂0, the picture, and what becomes
/// of them.
const HELD: usize = 8;

impl Pipeline {
    /// Opens the pipeline in `folder`, or the denoiser that a TOML file describes (`denoiser.toml` in the folder, or the file itself).
    ///
    /// # Errors
    /// Names the component that is missing, the config entry that is unknown, or what the runtime refuses.
    pub fn open(folder: impl AsRef<Path>, options: &PipelineOptions) -> Result<Self, DiffusionError> {
        let folder = folder.as_ref();
        match KINDS.iter().find_map(|kind| Some((kind, (kind.find)(folder)?))) {
            Some((kind, file)) => (kind.open)(&file, options),
            None => {
                let expected = KINDS.iter().rev().map(|kind| kind.expected).collect::<Vec<_>>().join(", or ");
                Err(missing(folder, "index", &format!("{expected}: give the pipeline's folder")))
            }
        }
    }

    /// A pipeline of pixels around a network that is not read from a file here: `name`d, of the training process that
    /// `scheduler` describes, with latents of that shape and its own `prompts`.
    pub fn around(
        name: &str,
        network: Box<dyn Network>,
        scheduler: SchedulerConfig,
        latent: [usize; 3],
        prompts: Box<dyn Prompts>,
    ) -> Self {
        let told = serde_json::json!({ "name": name, "scheduler": scheduler, "latent": latent });
        Self {
            folder: PathBuf::from(name),
            options: PipelineOptions::default(),
            schedule: NoiseSchedule::new(&scheduler),
            scheduler,
            families: BTreeMap::new(),
            latent,
            hash: blake3::hash(told.to_string().as_bytes()).to_hex().to_string(),
            network,
            conditioner: Conditioner::Own(prompts),
            decoder: Decoder::of_pixels(latent),
        }
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(|| self.folder.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// Tokens, words and embeddings of `text`; for a class-conditional model `text` is the class's number.
    ///
    /// # Errors
    /// Where the text is not what the model is told, or encoding it fails.
    pub fn prompt(&mut self, text: &str) -> Result<Prompt, DiffusionError> {
        // Stable Diffusion XL is told the picture's size.
        let scale = if self.conditioner.needs_size() { self.pixels_per_latent()? } else { 1 };
        let [_, height, width] = self.latent;
        self.conditioner.prompt(text, &self.folder, (height * scale, width * scale))
    }

    /// The same with `negative` for the unconditional half of guidance, where there is one.
    ///
    /// # Errors
    /// As [`Pipeline::prompt`]; [`DiffusionError::Setting`] for a negative prompt to a model that takes no text.
    pub fn prompt_against(&mut self, text: &str, negative: Option<&str>) -> Result<Prompt, DiffusionError> {
        let mut prompt = self.prompt(text)?;
        let Some(negative) = negative else { return Ok(prompt) };
        if prompt.tokens.is_none() || prompt.unconditional.is_none() {
            let expected = "none: the model takes no text".to_owned();
            return Err(DiffusionError::Setting { name: "negative", found: format!("'{negative}'"), expected });
        }
        let other = self.prompt(negative)?;
        prompt.unconditional = Some(other.conditional);
        prompt.warnings.extend(other.warnings.iter().map(|said| format!("the negative prompt: {said}")));
        Ok(prompt)
    }

    /// Pixels per place of the latent, along one side; found by decoding a latent of zeros.
    ///
    /// # Errors
    /// What decoding says.
    pub fn pixels_per_latent(&mut self) -> Result<usize, DiffusionError> {
        let [_, height, _] = self.latent;
        Ok((self.decoder.size()?[1] / height).max(1))
    }

    /// Latents (scaled as the network has them) of pictures: N × 3 × h × w in [−1, 1]. The mean of the encoder's
    /// distribution, so that equal pictures give equal latents; the pictures themselves for a model of pixels.
    ///
    /// # Errors
    /// [`DiffusionError::Missing`] where the pipeline has a decoder but no `vae_encoder/model.onnx`.
    pub fn encode_picture(&mut self, pictures: &Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        self.decoder.encode(pictures, &self.network.name())
    }

    /// Pictures of latents (N × Ch × H × W) as N × 3 × h × w in [−1, 1], not clamped; the latents themselves for a model of
    /// pixels.
    ///
    /// # Errors
    /// Where the decoder fails, or gives no pictures.
    pub fn decode(&mut self, latents: &Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        self.decoder.decode(latents)
    }

    /// ε of every row of `x` (N × Ch × H × W) at `t` under guidance `w`: ε_u + w(ε_c − ε_u). The half that does not count
    /// (ε_u at w = 1, ε_c at w = 0) is not computed.
    ///
    /// # Errors
    /// What the network says.
    pub fn epsilon(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        prompt: &Prompt,
        guidance: f32,
    ) -> Result<Array4<f32>, DiffusionError> {
        let raw = match &prompt.unconditional {
            Some(free) if guidance == 0.0 => self.predict(x, t, free)?,
            Some(free) if guidance != 1.0 => {
                let [u, c] = self.predict_both(x, t, free, &prompt.conditional)?;
                guide(&u, &c, guidance)
            }
            _ => self.predict(x, t, &prompt.conditional)?,
        };
        Ok(self.schedule.epsilon(&raw.view(), &x.view(), t))
    }

    /// ε_u (where the model has a condition) and ε_c of every row of `x`.
    ///
    /// # Errors
    /// What the network says.
    pub fn both_epsilons(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        prompt: &Prompt,
    ) -> Result<(Option<Array4<f32>>, Array4<f32>), DiffusionError> {
        let as_epsilon = |of: &Self, raw: Array4<f32>| of.schedule.epsilon(&raw.view(), &x.view(), t);
        match &prompt.unconditional {
            Some(free) => {
                let [u, c] = self.predict_both(x, t, free, &prompt.conditional)?;
                Ok((Some(as_epsilon(self, u)), as_epsilon(self, c)))
            }
            None => {
                let c = self.predict(x, t, &prompt.conditional)?;
                Ok((None, as_epsilon(self, c)))
            }
        }
    }

    fn predict(&mut self, x: &Array4<f32>, t: usize, told: &Conditions) -> Result<Array4<f32>, DiffusionError> {
        let [one] = exactly(self.network.predict(x, t, &[told])?, || self.network.name())?;
        Ok(one)
    }

    fn predict_both(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        first: &Conditions,
        second: &Conditions,
    ) -> Result<[Array4<f32>; 2], DiffusionError> {
        exactly(self.network.predict(x, t, &[first, second])?, || self.network.name())
    }
}

/// As many predictions as were asked for.
fn exactly<const N: usize>(
    predictions: Vec<Array4<f32>>,
    network: impl FnOnce() -> String,
) -> Result<[Array4<f32>; N], DiffusionError> {
    predictions.try_into().map_err(|found: Vec<_>| DiffusionError::Shape {
        model: network().into(),
        reason: format!("it gives {} predictions for {N} conditions", found.len()),
    })
}

/// ε_u + w(ε_c − ε_u); at w = 1 and w = 0 exactly one half, as where only that half is computed.
pub(crate) fn guide(u: &Array4<f32>, c: &Array4<f32>, guidance: f32) -> Array4<f32> {
    match guidance {
        1.0 => c.clone(),
        0.0 => u.clone(),
        w => ndarray::Zip::from(u).and(c).map_collect(|&u, &c| u + w * (c - u)),
    }
}

/// One decoded picture (3 × h × w or 1 × h × w, in [−1, 1]) as 8-bit RGB.
pub fn picture(decoded: ArrayView3<'_, f32>) -> Picture {
    let (channels, height, width) = decoded.dim();
    let level = |v: f32| ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8;
    Picture::from_fn(width as u32, height as u32, |x, y| {
        [0, 1, 2].map(|c: usize| level(decoded[[c.min(channels - 1), y as usize, x as usize]]))
    })
}

/// A model with a float32 interface; in float32 altogether unless an accelerator was asked for, which has kernels for half.
fn read(file: &Path, options: &PipelineOptions) -> Result<Model, DiffusionError> {
    let mut model = Model::read_within(file, &options.budget)?;
    if is_on_cpu(options) {
        let widen = |e| DiffusionError::Widen { model: file.to_path_buf(), source: Box::new(e) };
        widen_to_float32(&mut model).map_err(widen)?;
    } else {
        with_float_interface(&mut model);
    }
    Ok(model)
}

/// Whether no accelerator was asked for.
pub(crate) fn is_on_cpu(options: &PipelineOptions) -> bool {
    matches!(options.session.device, Device::Auto | Device::Cpu)
}

fn missing(folder: &Path, component: &'static str, expected: &str) -> DiffusionError {
    DiffusionError::Missing { folder: folder.to_path_buf(), component, expected: expected.to_owned() }
}

fn config(file: &Path, reason: String) -> DiffusionError {
    DiffusionError::Config { file: file.to_path_buf(), reason }
}

fn component(folder: &Path, what: &'static str, file: &str) -> Result<PathBuf, DiffusionError> {
    let path = folder.join(file);
    if path.exists() { Ok(path) } else { Err(missing(folder, what, file)) }
}

/// Channels, height and width of the latent, each where the file fixes it.
fn declared_shape(unet: &Model) -> Result<[Option<usize>; 3], DiffusionError> {
    let inputs = DenoiserInputs::find(unet)?;
    let declared = unet.graph.inputs.iter().find(|v| v.name() == inputs.sample).and_then(pellucid_graph::Value::shape);
    let at = |i: usize| usize::try_from(declared.as_ref()?.get(i).copied().flatten()?).ok();
    Ok([at(1), at(2), at(3)])
}

/// Whether the arrays of one step fit the bound on memory.
fn admit_latent([channels, height, width]: [usize; 3], budget: &Budget) -> Result<u64, OverBudget> {
    budget.admit_array(Limit::Memory, &[HELD, channels, height, width], size_of::<f32>())
}

/// blake3 over `files`, named relative to `folder`.
fn hash_files(folder: &Path, mut files: Vec<PathBuf>) -> Result<String, DiffusionError> {
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().as_bytes());
        let read = std::fs::File::open(&file).and_then(|f| hasher.update_reader(f).map(|_| ()));
        read.map_err(|e| DiffusionError::Config { file: file.clone(), reason: format!("cannot be read: {e}") })?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A pipeline of the zoo, for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn of_the_zoo(name: &str) -> Pipeline {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Pipeline::open(here.join("../../zoo/models").join(name), &PipelineOptions::default()).unwrap()
}
