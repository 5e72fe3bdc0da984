//! A diffusers folder exported to ONNX, as `optimum` lays it out, ready to be sampled and explained.

use crate::config::SchedulerConfig;
use crate::denoiser::{Conditions, Denoiser, DenoiserInputs, stacked, with_float_interface};
use crate::entries::{Entries, read_json, read_json_if_there, whole};
use crate::error::DiffusionError;
use crate::plain::{self, Description, admit_latent};
use crate::schedule::NoiseSchedule;
use crate::tokens::{TextTokenizer, Tokens};
use ndarray::{Array4, ArrayD, ArrayView3, Axis, Ix4, IxDyn, Slice};
use pellucid_graph::observed::Observations;
use pellucid_graph::{ElementType, Model, grad, lean::drop_zero_terms, widen_to_float32};
use pellucid_guard::Budget;
use pellucid_runtime::{Array, Batching, Device, Runtime, Session, SessionOptions, observe};
use pellucid_vision::picture::Picture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a pipeline is opened.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// The ONNX Runtime library; found by itself where `None`.
    pub library: Option<PathBuf>,
    /// Device and threads.
    pub session: SessionOptions,
    /// Bounds on everything whose size a file decides, activations among them.
    pub budget: Budget,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self { library: None, session: SessionOptions::default(), budget: Budget::default() }
    }
}

/// A prompt ready for the denoiser.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// As typed.
    pub text: String,
    /// Its tokens and words; `None` for a model without text.
    pub tokens: Option<Tokens>,
    /// What the denoiser is told.
    pub conditional: Conditions,
    /// What it is told for the unconditional half of guidance; `None` where the model takes no condition.
    pub unconditional: Option<Conditions>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A text encoder and its tokenizer.
#[derive(Debug)]
struct TextEncoder {
    session: Session,
    model: Model,
    tokenizer: TextTokenizer,
    vocabulary: Option<usize>,
}

/// A pipeline: models, schedule and sizes.
#[derive(Debug)]
pub struct Pipeline {
    /// Its folder.
    pub folder: PathBuf,
    /// The runtime.
    pub runtime: Runtime,
    /// The options it was opened with.
    pub options: PipelineOptions,
    /// What the scheduler's config says.
    pub scheduler: SchedulerConfig,
    /// ᾱ and the step.
    pub schedule: NoiseSchedule,
    /// Shape of one latent: channels, height, width.
    pub latent: [usize; 3],
    /// The factor between latents of the denoiser and of the decoder.
    pub scaling: f32,
    /// Added to a latent after it is divided by the factor.
    pub shift: f32,
    /// The U-Net as the file has it, with a float32 interface.
    pub unet: Model,
    /// blake3 over every file that decides what the pipeline computes.
    pub hash: String,
    denoiser: Option<Denoiser>,
    prepared: Option<(Model, Observations)>,
    encoders: Vec<TextEncoder>,
    decoder: Option<Session>,
    /// Channels, height and width of a decoded picture, once one was.
    decoded: Option<[usize; 3]>,
    encoder: Option<Session>,
    /// What describes a denoiser alone.
    plain: Option<Description>,
    /// Whether the empty prompt is zeros, as Stable Diffusion XL was trained.
    zero_empty: bool,
}

/// Rows in one run of the U-Net, at most. On a CPU more only leave the caches: the emoji-scene model gives 526 rows a second
/// at 16 and 475 at 64.
const CPU_BATCH: usize = 16;
const ACCELERATOR_BATCH: usize = 64;

/// Context of a text encoder whose configs do not say it: CLIP's.
const CONTEXT: usize = 77;

/// Longest context that a text encoder may have.
const MOST_CONTEXT: usize = 1 << 16;

/// Most channels, rows or columns of a latent that a config may say; how much they take together is for the budget.
const MOST_SIDE: usize = 1 << 20;

impl Pipeline {
    /// Opens the pipeline in `folder`, or the denoiser that a TOML file describes (`denoiser.toml` in the folder, or the file itself).
    ///
    /// # Errors
    /// Names the component that is missing, the config entry that is unknown, or what the runtime refuses.
    pub fn open(folder: impl AsRef<Path>, options: &PipelineOptions) -> Result<Self, DiffusionError> {
        let folder = folder.as_ref();
        if let Some(file) = plain::file_at(folder) {
            return Self::open_plain(&file, options);
        }
        let index = folder.join("model_index.json");
        if !index.exists() {
            let expected = "model_index.json, or denoiser.toml for a denoiser alone: give the pipeline's folder";
            return Err(missing(folder, "index", expected));
        }
        let index_file = index;
        let index = read_json(&index_file, &options.budget)?;
        let index = Entries::of(&index).map_err(|reason| config(&index_file, reason))?;
        if !folder.join("unet").is_dir() && folder.join("transformer").is_dir() {
            let reason = "transformer/: joint attention (Stable Diffusion 3, Flux and their like) is not supported yet; \
                          expected a pipeline with a U-Net in unet/";
            return Err(DiffusionError::Unsupported { folder: folder.to_path_buf(), reason: reason.to_owned() });
        }
        let scheduler_file = component(folder, "scheduler", "scheduler/scheduler_config.json")?;
        let scheduler = SchedulerConfig::read(&scheduler_file, &options.budget)?;
        let unet_file = component(folder, "U-Net", "unet/model.onnx")?;
        let runtime = Runtime::load(options.library.as_deref())?;
        let unet = read(&unet_file, options)?;
        let latent = latent_shape(folder, &unet, &options.budget)?;
        let encoders = text_encoders(folder, &runtime, &unet, options)?;
        let (decoder, scaling, shift) = decoder(folder, &runtime, &index, options)?;
        let hash = hash(folder)?;
        // As diffusers: what the index says, and by default so for pipelines with two encoders.
        let told = index.flag("force_zeros_for_empty_prompt").map_err(|reason| config(&index_file, reason))?;
        let zero_empty = told.unwrap_or(encoders.len() > 1);
        let schedule = NoiseSchedule::new(&scheduler);
        Ok(Self {
            folder: folder.to_path_buf(),
            runtime,
            options: options.clone(),
            scheduler,
            schedule,
            latent,
            scaling,
            shift,
            unet,
            hash,
            denoiser: None,
            prepared: None,
            encoders,
            decoder,
            decoded: None,
            encoder: None,
            plain: None,
            zero_empty,
        })
    }

    fn open_plain(file: &Path, options: &PipelineOptions) -> Result<Self, DiffusionError> {
        let described = Description::read(file, &options.budget)?;
        let scheduler = described.scheduler(file)?;
        let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
        let runtime = Runtime::load(options.library.as_deref())?;
        let path = folder.join(&described.model);
        let mut unet = read(&path, options)?;
        described.adapt(file, &mut unet)?;
        let latent = described.latent(file, declared_shape(&unet)?, &options.budget)?;
        let schedule = NoiseSchedule::new(&scheduler);
        let data = unet.data_files().into_iter().map(|name| unet.folder().join(name));
        let files = [file.to_path_buf(), path].into_iter().chain(data).collect();
        Ok(Self {
            hash: hash_files(&folder, files)?,
            folder: if file.ends_with(plain::FILE) { folder } else { file.with_extension("") },
            runtime,
            options: options.clone(),
            scheduler,
            schedule,
            latent,
            scaling: 1.0,
            shift: 0.0,
            unet,
            denoiser: None,
            prepared: None,
            encoders: Vec::new(),
            decoder: None,
            decoded: None,
            encoder: None,
            plain: Some(described),
            zero_empty: false,
        })
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(|| self.folder.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// Whether the model is told anything but latent and timestep.
    pub fn is_conditional(&self) -> bool {
        self.unet.graph.inputs.len() > 2
    }

    /// Tokens, words and embeddings of `text`; for a class-conditional model `text` is the class's number.
    pub fn prompt(&mut self, text: &str) -> Result<Prompt, DiffusionError> {
        if let Some(plain) = &self.plain {
            return self.plain_prompt(plain, text);
        }
        if !self.is_conditional() {
            let warnings = ignored(text).into_iter().collect();
            return Ok(Prompt {
                text: text.to_owned(),
                tokens: None,
                conditional: Vec::new(),
                unconditional: None,
                warnings,
            });
        }
        if self.encoders.is_empty() {
            return self.class_prompt(text);
        }
        let (conditional, tokens) = self.encode(text)?;
        let (mut unconditional, _) = self.encode("")?;
        if self.zero_empty {
            // The embeddings, not the sizes.
            for (_, array) in unconditional.iter_mut().filter(|(name, _)| name != "time_ids") {
                if let Array::F32(values) = array {
                    values.fill(0.0);
                }
            }
        }
        let mut warnings = Vec::new();
        if let Some(cut) = tokens.cut.as_ref() {
            warnings.push(format!(
                "the prompt is longer than the context of {} tokens; cut off: '{cut}'",
                tokens.ids.len()
            ));
        }
        Ok(Prompt {
            text: text.to_owned(),
            tokens: Some(tokens),
            conditional,
            unconditional: Some(unconditional),
            warnings,
        })
    }

    fn plain_prompt(&self, plain: &Description, text: &str) -> Result<Prompt, DiffusionError> {
        let mut conditional = Vec::new();
        let mut warnings = Vec::new();
        let constants = plain.constants.iter().map(|(name, value)| (name, *value));
        let told = match &plain.inputs.condition {
            Some(name) => {
                let number = text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
                let expected = || format!("a number, which the model's input '{name}' is told");
                let wrong =
                    || DiffusionError::Setting { name: "prompt", found: format!("'{text}'"), expected: expected() };
                Some((name, number.ok_or_else(wrong)?))
            }
            None => {
                warnings.extend(ignored(text));
                None
            }
        };
        for (name, value) in constants.chain(told) {
            let input = self.unet.graph.inputs.iter().find(|v| v.name() == *name);
            let array = match input.and_then(pellucid_graph::Value::element) {
                Some(ElementType::I64) => Array::I64(ArrayD::from_elem(IxDyn(&[1]), value as i64)),
                _ => Array::F32(ArrayD::from_elem(IxDyn(&[1]), value as f32)),
            };
            conditional.push((name.clone(), array));
        }
        Ok(Prompt { text: text.to_owned(), tokens: None, conditional, unconditional: None, warnings })
    }

    fn class_prompt(&self, text: &str) -> Result<Prompt, DiffusionError> {
        let inputs = DenoiserInputs::find(&self.unet)?.others;
        let expected = "the number of a class, since the model has no text encoder".to_owned();
        let wrong =
            || DiffusionError::Setting { name: "prompt", found: format!("'{text}'"), expected: expected.clone() };
        let class: i64 = text.trim().parse().map_err(|_| wrong())?;
        let [name] = inputs.as_slice() else {
            let reason = format!("its U-Net takes {}, and there is no text encoder to make them", inputs.join(", "));
            return Err(DiffusionError::Unsupported { folder: self.folder.clone(), reason });
        };
        let conditional = vec![(name.clone(), Array::I64(ArrayD::from_elem(IxDyn(&[1]), class)))];
        Ok(Prompt { text: text.to_owned(), tokens: None, conditional, unconditional: None, warnings: Vec::new() })
    }

    /// The conditions of one text: hidden states side by side where there are two encoders, with SDXL's pooled
    /// embedding and sizes.
    fn encode(&mut self, text: &str) -> Result<(Conditions, Tokens), DiffusionError> {
        let several = self.encoders.len() > 1;
        let scale = if several { self.pixels_per_latent()? } else { 1 };
        let mut states: Vec<ArrayD<f32>> = Vec::new();
        let (mut pooled, mut tokens) = (None, None);
        for encoder in &mut self.encoders {
            let encoded = encoder.tokenizer.encode(text)?;
            let (state, pool) = encoder.run(&encoded, several)?;
            states.push(state);
            pooled = pool.or(pooled);
            tokens.get_or_insert(encoded);
        }
        let odd = |reason: String| DiffusionError::Unsupported { folder: self.folder.clone(), reason };
        let hidden =
            stacked(Axis(2), &states).map_err(|e| odd(format!("the text encoders' outputs do not fit: {e}")))?;
        let [_, height, width] = self.latent;
        let mut conditions = Vec::new();
        for name in DenoiserInputs::find(&self.unet)?.others {
            let array = match name.as_str() {
                "text_embeds" => pooled.clone(),
                "time_ids" => {
                    let (h, w) = ((height * scale) as f32, (width * scale) as f32);
                    ArrayD::from_shape_vec(IxDyn(&[1, 6]), vec![h, w, 0.0, 0.0, h, w]).ok()
                }
                _ if name.contains("encoder_hidden_states") => Some(hidden.clone()),
                _ => None,
            };
            let array =
                array.ok_or_else(|| odd(format!("its U-Net has the input '{name}', which nothing here makes")))?;
            conditions.push((name, Array::F32(array)));
        }
        let tokens = tokens.ok_or_else(|| odd("it has no text encoder".to_owned()))?;
        Ok((conditions, tokens))
    }

    /// Pixels per place of the latent, along one side; found by decoding a latent of zeros.
    pub fn pixels_per_latent(&mut self) -> Result<usize, DiffusionError> {
        let [c, h, w] = self.latent;
        if self.decoded.is_none() {
            self.decode(&Array4::zeros((1, c, h, w)))?;
        }
        Ok(self.decoded.map_or(1, |[_, height, _]| height / h).max(1))
    }

    /// Latents (scaled as the denoiser has them) of pictures: N × 3 × h × w in [−1, 1]. The mean of the encoder's
    /// distribution, so that equal pictures give equal latents; the pictures themselves for a model of pixels.
    ///
    /// # Errors
    /// [`DiffusionError::Missing`] where the pipeline has a decoder but no `vae_encoder/model.onnx`.
    pub fn encode_picture(&mut self, pictures: &Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        if let Some(Description { range: [low, high], .. }) = self.plain {
            let gray = self.latent[0] == 1 && pictures.len_of(Axis(1)) == 3;
            let mean = gray.then(|| pictures.mean_axis(Axis(1)).map(|mean| mean.insert_axis(Axis(1)))).flatten();
            let pictures = self.in_its_shape(mean.as_ref().unwrap_or(pictures).clone())?;
            return Ok(pictures.mapv(|v| v * (high - low) / 2.0 + (low + high) / 2.0));
        }
        if self.decoder.is_none() {
            return self.in_its_shape(pictures.clone());
        }
        let file = self.folder.join("vae_encoder/model.onnx");
        let mut session = match self.encoder.take() {
            Some(session) => session,
            None => {
                let path = component(&self.folder, "encoder of pictures", "vae_encoder/model.onnx")?;
                let model = read(&path, &self.options)?;
                self.runtime.session(&model, &self.options.session)?
            }
        };
        let name = session.inputs().into_iter().next().unwrap_or_default();
        let output = session.run(&[(&name, &Array::F32(pictures.clone().into_dyn()))]);
        self.encoder = Some(session);
        let channels = self.latent[0];
        let latent = output?.into_iter().next().and_then(Array::into_f32);
        let [_, height, width] = self.latent;
        let fits = |l: &Array4<f32>| {
            let (n, c, h, w) = l.dim();
            n == pictures.len_of(Axis(0)) && c >= channels && (h, w) == (height, width)
        };
        let latent = latent.and_then(|o| o.into_dimensionality::<Ix4>().ok()).filter(fits);
        let latent = latent.ok_or_else(|| DiffusionError::Shape {
            model: file,
            reason: format!("it gives no latent of {channels} × {height} × {width} for each picture"),
        })?;
        // Mean and logarithm of the variance lie behind each other where the export gives the distribution.
        let mean = latent.slice_axis(Axis(1), Slice::from(..channels));
        Ok(mean.mapv(|v| (v - self.shift) * self.scaling))
    }

    /// `pictures`, if a model of pixels takes such.
    fn in_its_shape(&self, pictures: Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        let (_, c, h, w) = pictures.dim();
        if [c, h, w] == self.latent {
            return Ok(pictures);
        }
        let reason = format!(
            "it takes pictures of {:?} (channels, height, width), and a picture to start from is {:?}",
            self.latent,
            [c, h, w]
        );
        Err(DiffusionError::Shape { model: self.unet.path().to_path_buf(), reason })
    }

    /// The U-Net in the form that taps and gradients are written for, with every value's shape.
    pub fn prepared(&mut self) -> Result<&(Model, Observations), DiffusionError> {
        if self.prepared.is_none() {
            let mut model = grad::prepare(&self.unet, &[])?;
            let shapes = self.input_shapes();
            let observed = observe(&self.runtime, &model, &shapes)?;
            drop_zero_terms(&mut model, &observed);
            self.prepared = Some((model, observed));
        }
        self.prepared.as_ref().ok_or_else(|| missing(&self.folder, "U-Net", "unet/model.onnx"))
    }

    /// Full shapes (batch 1) of the U-Net's inputs.
    pub fn input_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        let [c, h, w] = self.latent;
        let context = self.encoders.first().map_or(1, |e| e.tokenizer.context);
        for input in &self.unet.graph.inputs {
            let declared = input.shape().unwrap_or_default();
            let free = |d: &Option<i64>, default: usize| d.and_then(|d| usize::try_from(d).ok()).unwrap_or(default);
            let shape = match declared.as_slice() {
                [_, _, _, _] => vec![1, c, h, w],
                [_, tokens, width] => vec![1, free(tokens, context), free(width, 1)],
                [_, width] => vec![1, free(width, 6)],
                [one] => vec![free(one, 1)],
                _ => Vec::new(),
            };
            shapes.insert(input.name().to_owned(), shape);
        }
        if let (Some(encoder), Ok(inputs)) = (self.encoders.first(), DenoiserInputs::find(&self.unet)) {
            for name in inputs.others {
                if let Some([_, tokens, _]) = shapes.get_mut(&name).map(Vec::as_mut_slice) {
                    *tokens = encoder.tokenizer.context;
                }
            }
        }
        shapes
    }

    /// The compiled U-Net, with batches that fit the memory bound.
    pub fn denoiser(&mut self) -> Result<&mut Denoiser, DiffusionError> {
        if self.denoiser.is_none() {
            let memory = self.options.budget.memory;
            let baked = grad::baked_batch(&self.unet).and_then(|b| usize::try_from(b).ok());
            let most = if on_cpu(&self.options) { CPU_BATCH } else { ACCELERATOR_BATCH };
            let observed = &self.prepared()?.1;
            let batch = Batching::fit(observed, None, memory, most).size;
            // The operator for attention is the CPU's; accelerators have their own ways, which are not measured here.
            let fuse = on_cpu(&self.options);
            let shapes = self.input_shapes();
            let model = if baked.is_some() {
                let widened = grad::prepare(&self.runtime.widen(&self.unet)?, &[])?;
                let observed = observe(&self.runtime, &widened, &shapes)?;
                self.runtime.lean(&widened, &observed, &shapes, fuse)?
            } else {
                let runtime = self.runtime.clone();
                let (model, observed) = self.prepared()?;
                runtime.lean(model, observed, &shapes, fuse)?
            };
            self.denoiser = Some(Denoiser::new(&self.runtime, &model, &self.options.session, batch)?);
        }
        self.denoiser.as_mut().ok_or_else(|| missing(&self.folder, "U-Net", "unet/model.onnx"))
    }

    /// Bytes of the U-Net's weights.
    fn weight_bytes(&self) -> u64 {
        let bytes = |t: &pellucid_graph::Tensor| (t.len() * t.element().size().unwrap_or(4)) as u64;
        self.unet.graph.initializers.values().map(bytes).sum()
    }

    /// Lets the compiled U-Net go where its weights alone exceed the bound on memory, so that two copies of them never
    /// stand side by side; it is compiled again when it is next needed.
    pub(crate) fn make_room(&mut self) {
        if self.weight_bytes() > self.options.budget.memory {
            self.denoiser = None;
        }
    }

    /// ε of every row of `x` (N × Ch × H × W) at `t` under guidance `w`: ε_u + w(ε_c − ε_u). The half that does not count
    /// (ε_u at w = 1, ε_c at w = 0) is not computed.
    pub fn epsilon(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        prompt: &Prompt,
        guidance: f32,
    ) -> Result<Array4<f32>, DiffusionError> {
        let schedule = self.schedule.clone();
        let denoiser = self.denoiser()?;
        let raw = match &prompt.unconditional {
            Some(free) if guidance == 0.0 => denoiser.predict(x, t, free)?,
            Some(free) if guidance != 1.0 => {
                let (u, c) = denoiser.predict_both(x, t, free, &prompt.conditional)?;
                guide(&u, &c, guidance)
            }
            _ => denoiser.predict(x, t, &prompt.conditional)?,
        };
        Ok(schedule.epsilon(&raw.view(), &x.view(), t))
    }

    /// ε_u (where the model has a condition) and ε_c of every row of `x`.
    pub fn both_epsilons(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        prompt: &Prompt,
    ) -> Result<(Option<Array4<f32>>, Array4<f32>), DiffusionError> {
        let schedule = self.schedule.clone();
        let denoiser = self.denoiser()?;
        let as_epsilon = |raw: Array4<f32>| schedule.epsilon(&raw.view(), &x.view(), t);
        match &prompt.unconditional {
            Some(free) => {
                let (u, c) = denoiser.predict_both(x, t, free, &prompt.conditional)?;
                Ok((Some(as_epsilon(u)), as_epsilon(c)))
            }
            None => Ok((None, as_epsilon(denoiser.predict(x, t, &prompt.conditional)?))),
        }
    }

    /// Pictures of latents (N × Ch × H × W) as N × 3 × h × w in [−1, 1], not clamped; the latents themselves for a model of
    /// pixels.
    pub fn decode(&mut self, latents: &Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        if let Some(Description { range: [low, high], .. }) = self.plain {
            self.decoded = Some(self.latent);
            // Exactly as it is where it is in [−1, 1] already.
            let (scale, middle) = (2.0 / (high - low), (low + high) / 2.0);
            return Ok(latents.mapv(|v| (v - middle) * scale));
        }
        let Some(decoder) = &mut self.decoder else {
            self.decoded = Some(self.latent);
            return Ok(latents.clone());
        };
        let (scaling, shift) = (self.scaling, self.shift);
        let input = Array::F32(latents.mapv(|v| v / scaling + shift).into_dyn());
        let name = decoder.inputs().into_iter().next().unwrap_or_default();
        let output = decoder.run(&[(&name, &input)])?.into_iter().next().and_then(Array::into_f32);
        let rows = latents.len_of(Axis(0));
        let shape = output.as_ref().map(|o| o.shape().to_vec()).unwrap_or_default();
        let odd = |expected: String| DiffusionError::Shape {
            model: self.folder.join("vae_decoder/model.onnx"),
            reason: format!("it gives {shape:?} for {rows} latents; expected {expected}"),
        };
        let pictures = match shape.as_slice() {
            [n, channels @ (1 | 3), height, width] if *n == rows && *height > 0 && *width > 0 => {
                Some([*channels, *height, *width])
            }
            _ => None,
        };
        let size = pictures.ok_or_else(|| odd(format!("float pictures of {rows} × 3 × height × width")))?;
        match self.decoded {
            Some(before) if before != size => return Err(odd(format!("pictures of {before:?} as before"))),
            _ => self.decoded = Some(size),
        }
        let output = output.and_then(|o| o.into_dimensionality::<Ix4>().ok());
        output.ok_or_else(|| odd("pictures".to_owned()))
    }

    /// Length of the text context in tokens; 0 without text.
    pub fn context(&self) -> usize {
        self.encoders.first().map_or(0, |e| e.tokenizer.context)
    }
}

/// What is said of a prompt that the model has no use for.
fn ignored(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| "the model takes no prompt; it is ignored".to_owned())
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

impl TextEncoder {
    /// Hidden states (1 × tokens × width) and the pooled embedding. Of several encoders the last layer but one counts.
    fn run(&mut self, tokens: &Tokens, several: bool) -> Result<(ArrayD<f32>, Option<ArrayD<f32>>), DiffusionError> {
        if let Some(vocabulary) = self.vocabulary
            && let Some(&bad) = tokens.ids.iter().find(|&&id| id < 0 || id as usize >= vocabulary)
        {
            let tokenizer = self.tokenizer.file.clone();
            return Err(DiffusionError::Vocabulary { tokenizer, token: bad as u32, vocabulary });
        }
        let shape = IxDyn(&[1, tokens.ids.len()]);
        let mut fed: Vec<(String, Array)> = Vec::new();
        for input in &self.model.graph.inputs {
            let values: Vec<i64> =
                if input.name().contains("mask") { vec![1; tokens.ids.len()] } else { tokens.ids.clone() };
            let narrow = values.iter().map(|&v| v as i32).collect();
            let array = match input.element() {
                Some(ElementType::I32) => ArrayD::from_shape_vec(shape.clone(), narrow).ok().map(Array::I32),
                _ => ArrayD::from_shape_vec(shape.clone(), values).ok().map(Array::I64),
            };
            fed.extend(array.map(|a| (input.name().to_owned(), a)));
        }
        let fed: Vec<(&str, &Array)> = fed.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let names = self.session.outputs();
        let outputs: Vec<(String, Array)> = names.into_iter().zip(self.session.run(&fed)?).collect();
        let floats = || outputs.iter().filter_map(|(n, a)| Some((n.as_str(), a.as_f32()?)));
        let layers: Vec<&ArrayD<f32>> =
            floats().filter(|(n, a)| n.starts_with("hidden_states") && a.ndim() == 3).map(|o| o.1).collect();
        let state = match layers.len() {
            2.. if several => Some(layers[layers.len() - 2]),
            _ => floats()
                .find(|(n, _)| n.starts_with("last_hidden_state"))
                .or_else(|| floats().find(|o| o.1.ndim() == 3))
                .map(|o| o.1),
        };
        let pooled = floats().find(|(n, _)| *n == "text_embeds").map(|o| o.1.clone());
        let model = self.model.path().to_path_buf();
        let state = state.ok_or_else(|| DiffusionError::Shape {
            model,
            reason: "it gives no tokens × width hidden states".to_owned(),
        })?;
        Ok((state.clone(), pooled))
    }
}

/// A model with a float32 interface; in float32 altogether unless an accelerator was asked for, which has kernels for half.
fn read(file: &Path, options: &PipelineOptions) -> Result<Model, DiffusionError> {
    let mut model = Model::read_within(file, &options.budget)?;
    if on_cpu(options) {
        let widen = |e| DiffusionError::Widen { model: file.to_path_buf(), source: Box::new(e) };
        widen_to_float32(&mut model).map_err(widen)?;
    } else {
        with_float_interface(&mut model);
    }
    Ok(model)
}

/// Whether no accelerator was asked for.
fn on_cpu(options: &PipelineOptions) -> bool {
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

fn latent_shape(folder: &Path, unet: &Model, budget: &Budget) -> Result<[usize; 3], DiffusionError> {
    let file = folder.join("unet/config.json");
    let wrong = |reason: String| config(&file, reason);
    let json = read_json_if_there(&file, budget)?;
    let entries = Entries::of(&json).map_err(wrong)?;
    let [channels, height, width] = declared_shape(unet)?;
    let in_channels = entries.count("in_channels", (1, MOST_SIDE)).map_err(wrong)?;
    let one = |v: &Value| whole(v).filter(|n| (1..=MOST_SIDE).contains(n));
    let sides = |v: &Value| match v.as_array().map(Vec::as_slice) {
        None => one(v).map(|n| [n, n]),
        Some([height, width]) => Some([one(height)?, one(width)?]),
        Some(_) => None,
    };
    let expected = format!("a whole number from 1 to {MOST_SIDE}, or a list of two, height and width");
    let sides = entries.read("sample_size", &expected, sides).map_err(wrong)?;
    let shape = (channels.or(in_channels), height.or(sides.map(|s| s[0])), width.or(sides.map(|s| s[1])));
    let (Some(channels), Some(height), Some(width)) = shape else {
        return Err(wrong("the latent's size is unknown; expected in_channels and sample_size".to_owned()));
    };
    let shape = [channels, height, width];
    if shape.contains(&0) {
        let reason = format!("the latent's shape is {shape:?}; expected channels, height and width of at least 1");
        return Err(DiffusionError::Shape { model: unet.path().to_path_buf(), reason });
    }
    admit_latent(shape, budget).map_err(|e| wrong(format!("the latent's shape is {shape:?}: {e}")))?;
    Ok(shape)
}

fn text_encoders(
    folder: &Path,
    runtime: &Runtime,
    unet: &Model,
    options: &PipelineOptions,
) -> Result<Vec<TextEncoder>, DiffusionError> {
    let needs_text = DenoiserInputs::find(unet)?.others.iter().any(|n| n.contains("encoder_hidden_states"));
    if !needs_text {
        return Ok(Vec::new());
    }
    let mut encoders = Vec::new();
    for (encoder, tokenizer) in [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")] {
        let file = folder.join(encoder).join("model.onnx");
        if !file.exists() {
            continue;
        }
        let config_file = folder.join(encoder).join("config.json");
        let json = read_json_if_there(&config_file, &options.budget)?;
        let number = |key: &str, most: usize| {
            let entries = Entries::of(&json).map_err(|reason| config(&config_file, reason))?;
            entries.count(key, (1, most)).map_err(|reason| config(&config_file, reason))
        };
        let most_tokens = usize::try_from(options.budget.tokens).unwrap_or(usize::MAX);
        let (context, vocabulary) =
            (number("max_position_embeddings", MOST_CONTEXT)?, number("vocab_size", most_tokens)?);
        let model = read(&file, options)?;
        encoders.push(TextEncoder {
            tokenizer: TextTokenizer::open(&folder.join(tokenizer), context.unwrap_or(CONTEXT), &options.budget)?,
            vocabulary,
            session: runtime.session(&model, &options.session)?,
            model,
        });
    }
    if encoders.is_empty() {
        return Err(missing(
            folder,
            "text encoder",
            "text_encoder/model.onnx, since the U-Net takes encoder_hidden_states",
        ));
    }
    Ok(encoders)
}

/// The decoder with its scaling and shift. A pipeline without one works on pixels.
fn decoder(
    folder: &Path,
    runtime: &Runtime,
    index: &Entries<'_>,
    options: &PipelineOptions,
) -> Result<(Option<Session>, f32, f32), DiffusionError> {
    let file = folder.join("vae_decoder/model.onnx");
    if !file.exists() {
        let named = ["vae_decoder", "vae"].iter().any(|n| index.get(n).is_some());
        return if named { Err(missing(folder, "decoder", "vae_decoder/model.onnx")) } else { Ok((None, 1.0, 0.0)) };
    }
    let config_file = folder.join("vae_decoder/config.json");
    let json = read_json_if_there(&config_file, &options.budget)?;
    let wrong = |reason| config(&config_file, reason);
    let entries = Entries::of(&json).map_err(wrong)?;
    let scales = |n: f64| (n as f32).is_normal() && n > 0.0;
    let scaling = entries.number("scaling_factor", 0.18215, "a positive number", scales).map_err(wrong)?;
    let shift = entries.number("shift_factor", 0.0, "a number", |n| (n as f32).is_finite()).map_err(wrong)?;
    let model = read(&file, options)?;
    let session = runtime.session(&model, &options.session)?;
    Ok((Some(session), scaling as f32, shift as f32))
}

/// blake3 over the models, their data files, and the configs, by name.
fn hash(folder: &Path) -> Result<String, DiffusionError> {
    let mut files = Vec::new();
    let parts = [
        "unet",
        "text_encoder",
        "text_encoder_2",
        "vae_decoder",
        "vae_encoder",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ];
    for part in parts {
        let Ok(entries) = std::fs::read_dir(folder.join(part)) else { continue };
        files.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_file()));
    }
    hash_files(folder, files)
}

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
