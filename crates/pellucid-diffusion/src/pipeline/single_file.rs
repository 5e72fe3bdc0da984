//! A denoiser alone: one ONNX file of pixels, described by a small TOML file instead of a pipeline's folder.
//!
//! ```toml
//! model = "denoiser.onnx"          # beside this file
//! prediction = "x0"                # epsilon (default), v or x0: what the output is
//! range = [-1.0, 1.0]              # black and white in the model's numbers (default)
//! shape = [1, 128, 128]            # channels, height, width, where the file leaves them open
//!
//! [inputs]
//! sample = "noisy"                 # the noisy picture
//! time = "sigma"                   # the timestep, or the noise level where there is a [sigma]
//! condition = "difficulty"         # what the prompt says, a number; without it the prompt is ignored
//!
//! [constants]                      # any other input, the same for every run
//! scale = 1.0
//!
//! [sigma]                          # EDM and consistency models: x = x0 + σ · noise, told σ instead of a timestep
//! min = 0.002
//! max = 80.0
//! rho = 7.0                        # spacing of the levels (Karras et al. 2022), 7 by default
//!
//! [schedule]                       # without [sigma]: as in a scheduler_config.json
//! beta_schedule = "linear"
//! ```
//!
//! A model told σ becomes one told a timestep by a rewrite of its graph: x / √ᾱ = x0 + σ · noise with σ = √((1 − ᾱ) / ᾱ), so a
//! table of levels and a product before its first layer make it a model of the variance-preserving process that
//! everything else here works on.

use super::decoder::Decoder;
use super::text::{Conditioner, Told};
use super::{Kind, Pipeline, PipelineOptions, admit_latent, declared_shape, hash_files, read};
use crate::config::{Prediction, SchedulerConfig, check_betas};
use crate::error::DiffusionError;
use crate::network::OnnxNetwork;
use crate::schedule::NoiseSchedule;
use pellucid_graph::{ElementType, Model, Node, Tensor, Value};
use pellucid_guard::{Budget, Limit, bounded, printable};
use pellucid_runtime::Runtime;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) const KIND: Kind = Kind { expected: "denoiser.toml for a denoiser alone", find, open };

/// The name of the file in a folder.
const FILE: &str = "denoiser.toml";
/// Levels of noise between the least and the largest.
const LEVELS: usize = 1000;

/// The TOML file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    model: PathBuf,
    prediction: Option<Output>,
    #[serde(default = "unit_range", deserialize_with = "exactly")]
    range: [f32; 2],
    #[serde(default, deserialize_with = "exactly_if_any")]
    shape: Option<[usize; 3]>,
    inputs: Inputs,
    #[serde(default)]
    constants: BTreeMap<String, f64>,
    sigma: Option<Sigma>,
    schedule: Option<toml::Table>,
}

/// What the denoiser's output is.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Output {
    Epsilon,
    #[serde(alias = "v_prediction")]
    V,
    #[serde(alias = "sample")]
    X0,
}

/// Names of the model's inputs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    sample: String,
    time: String,
    condition: Option<String>,
}

/// Noise levels.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sigma {
    min: f64,
    max: f64,
    #[serde(default = "karras")]
    rho: f64,
}

/// An array of just so many numbers: serde's own reading of arrays leaves out what is too many.
fn exactly<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(from: D) -> Result<[T; N], D::Error> {
    let found = Vec::<T>::deserialize(from)?;
    let count = found.len();
    found.try_into().map_err(|_| D::Error::custom(format!("{count} numbers, expected {N}")))
}

fn exactly_if_any<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(
    from: D,
) -> Result<Option<[T; N]>, D::Error> {
    exactly(from).map(Some)
}

fn unit_range() -> [f32; 2] {
    [-1.0, 1.0]
}

fn karras() -> f64 {
    7.0
}

/// The description that `path` names: the file itself, or the one in that folder.
fn find(path: &Path) -> Option<PathBuf> {
    let is_file = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    if is_file {
        return Some(path.to_path_buf());
    }
    Some(path.join(FILE)).filter(|file| file.is_file())
}

fn open(file: &Path, options: &PipelineOptions) -> Result<Pipeline, DiffusionError> {
    let described = Description::read(file, &options.budget)?;
    let scheduler = described.scheduler(file)?;
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let runtime = Runtime::load(options.library.as_deref())?;
    let path = folder.join(&described.model);
    let mut model = read(&path, options)?;
    described.adapt(file, &mut model)?;
    let latent = described.latent(file, declared_shape(&model)?, &options.budget)?;
    let data = model.data_files().into_iter().map(|name| model.folder().join(name));
    let files = [file.to_path_buf(), path].into_iter().chain(data).collect();
    Ok(Pipeline {
        hash: hash_files(&folder, files)?,
        folder: if file.ends_with(FILE) { folder } else { file.with_extension("") },
        options: options.clone(),
        schedule: NoiseSchedule::new(&scheduler),
        scheduler,
        families: std::collections::BTreeMap::new(),
        latent,
        conditioner: Conditioner::Number(described.told(&model)),
        network: Box::new(OnnxNetwork::new(runtime, options.clone(), model, latent, None)),
        decoder: Decoder::of_range(latent, described.range),
    })
}

/// Least and largest level of noise: beyond them ᾱ is 1 or 0 to the precision that steps are computed in.
const SIGMAS: [f64; 2] = [1e-6, 1e6];

impl Description {
    pub(crate) fn read(file: &Path, budget: &Budget) -> Result<Self, DiffusionError> {
        let wrong = |reason: String| DiffusionError::Config { file: file.to_path_buf(), reason };
        let bytes = bounded::read(file, budget, Limit::TextBytes).map_err(|e| wrong(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text".to_owned()))?;
        let read: Self = toml::from_str(&text).map_err(|e| wrong(in_a_line(&text, &e)))?;
        if read.sigma.is_some() && read.schedule.is_some() {
            return Err(wrong(
                "it has both [sigma] and [schedule]; keep the one that the model was trained with".to_owned(),
            ));
        }
        let [least, most] = SIGMAS;
        if let Some(Sigma { min, max, rho }) = read.sigma
            && !(min >= least && max > min && max <= most && rho > 0.0 && rho.is_finite())
        {
            return Err(wrong(format!(
                "[sigma] has min = {min}, max = {max}, rho = {rho}; expected 0 < min < max, from {least} to {most}, and rho above 0"
            )));
        }
        let [low, high] = read.range;
        let scale = 2.0 / (high - low);
        if !(low < high && low.is_finite() && high.is_finite() && scale.is_finite() && scale > 0.0) {
            return Err(wrong(format!("range is [{low}, {high}]; expected two numbers, the lower first")));
        }
        if let Some(shape) = read.shape.filter(|shape| shape.contains(&0)) {
            return Err(wrong(format!("shape is {shape:?}; expected [channels, height, width], each at least 1")));
        }
        let odd = read.constants.iter().find(|(_, value)| !(**value as f32).is_finite());
        if let Some((name, value)) = odd {
            return Err(wrong(format!("[constants]: {} is {value}; expected a finite number", printable::name(name))));
        }
        Ok(read)
    }

    /// ᾱ and everything else that the steps need.
    pub(crate) fn scheduler(&self, file: &Path) -> Result<SchedulerConfig, DiffusionError> {
        let wrong = |reason: String| DiffusionError::Config { file: file.to_path_buf(), reason };
        let prediction = match self.prediction {
            None | Some(Output::Epsilon) => Prediction::Epsilon,
            Some(Output::V) => Prediction::VPrediction,
            Some(Output::X0) => Prediction::Sample,
        };
        let schedule = self.schedule.clone().unwrap_or_default();
        if let Some((key, value)) = schedule.iter().find_map(|(key, value)| Some((key, not_in_json(value)?))) {
            let key = printable::name(key);
            return Err(wrong(format!("[schedule]: {key} holds {value}; expected a finite number, a text or a list")));
        }
        let json = serde_json::to_value(schedule).map_err(|e| wrong(e.to_string()))?;
        let mut config = SchedulerConfig::from_json(&json).map_err(|reason| wrong(format!("[schedule]: {reason}")))?;
        config.prediction = prediction;
        if let Some(sigma) = self.sigma {
            let mut before = 1.0;
            config.betas = sigma
                .levels()
                .map(|level| {
                    let alpha = 1.0 / (1.0 + level * level);
                    1.0 - alpha / std::mem::replace(&mut before, alpha)
                })
                .collect();
            check_betas(&config.betas).map_err(|_| {
                let Sigma { min, max, rho } = sigma;
                wrong(format!(
                    "[sigma] has min = {min}, max = {max}, rho = {rho}, whose {LEVELS} levels do not rise from one to the \
                     next; expected numbers further apart, or a smaller rho (7 is usual)"
                ))
            })?;
            config.class = "levels of noise".to_owned();
            config.spacing = crate::config::Spacing::Trailing;
            (config.clip, config.set_alpha_to_one, config.steps_offset) = (None, true, 0);
        }
        Ok(config)
    }

    /// Channels, height and width of `model`'s pictures: what the file says, and it must agree with what the model fixes.
    fn latent(&self, file: &Path, declared: [Option<usize>; 3], budget: &Budget) -> Result<[usize; 3], DiffusionError> {
        let wrong = |reason: String| DiffusionError::Config { file: file.to_path_buf(), reason };
        let fixed = || declared.map(|n| n.map_or_else(|| "any".to_owned(), |n| n.to_string())).join(", ");
        let shape = match (self.shape, declared) {
            (Some(shape), _) if shape.iter().zip(declared).any(|(n, d)| d.is_some_and(|d| d != *n)) => {
                return Err(wrong(format!("shape is {shape:?}; expected [{}], which the model fixes", fixed())));
            }
            (Some(shape), _) => shape,
            (None, [Some(channels), Some(height), Some(width)]) => [channels, height, width],
            (None, _) => {
                let reason = "the model leaves its input's size open; add shape = [channels, height, width]";
                return Err(wrong(reason.to_owned()));
            }
        };
        admit_latent(shape, budget).map_err(|e| wrong(format!("shape is {shape:?}: {e}")))?;
        Ok(shape)
    }

    /// What `model` is told besides picture and time.
    fn told(&self, model: &Model) -> Told {
        let element = |name: &String| {
            let input = model.graph.inputs.iter().find(|v| v.name() == name.as_str());
            (name.clone(), input.and_then(Value::element))
        };
        Told {
            constants: self.constants.iter().map(|(name, value)| (element(name), *value)).collect(),
            prompt: self.inputs.condition.as_ref().map(element),
        }
    }

    /// `model` with the inputs `sample` and `timestep` that a denoiser has here.
    fn adapt(&self, file: &Path, model: &mut Model) -> Result<(), DiffusionError> {
        let graph = &model.graph;
        let names = || graph.inputs.iter().map(Value::name).collect::<Vec<_>>().join(", ");
        let wrong = |reason: String| DiffusionError::Config { file: file.to_path_buf(), reason };
        let find = |name: &str| graph.inputs.iter().position(|v| v.name() == name);
        let Inputs { sample, time, condition } = &self.inputs;
        let known = [Some(sample), Some(time), condition.as_ref()].into_iter().flatten().chain(self.constants.keys());
        if let Some(absent) = known.clone().find(|name| find(name).is_none()) {
            return Err(wrong(format!("the model has no input '{absent}'; it has {}", names())));
        }
        if let Some(open) = graph.inputs.iter().find(|v| !known.clone().any(|name| name == v.name())) {
            let name = open.name();
            return Err(wrong(format!("nothing is said of the input '{name}'; give it a number under [constants]")));
        }
        let (Some(at), Some(time_at)) = (find(sample), find(time)) else { return Ok(()) };
        let time_shape = graph.inputs[time_at].shape().unwrap_or_default();
        let (noisy, level) = (graph.fresh("sample.scaled"), graph.fresh("time.level"));
        let graph = &mut model.graph;
        for node in &mut graph.nodes {
            node.rename_input(sample, &noisy);
            node.rename_input(time, &level);
        }
        let sample_shape = graph.inputs[at].shape().unwrap_or_default();
        let mut nodes = Vec::new();
        let mut element = graph.inputs[time_at].element().unwrap_or(ElementType::I64);
        match self.sigma {
            None => {
                nodes.push(Node::new("Identity", &["sample"], &[&noisy]));
                nodes.push(Node::new("Identity", &["timestep"], &[&level]));
            }
            Some(sigma) => {
                element = ElementType::I64;
                let levels: Vec<f32> = sigma.levels().map(|s| s as f32).collect();
                let scales: Vec<f32> = sigma.levels().map(|s| (1.0 + s * s).sqrt() as f32).collect();
                let [table, scale, four] = ["sigma.levels", "sigma.scales", "sigma.shape"].map(|n| graph.fresh(n));
                let [scaled, shaped] = ["sigma.scale", "sigma.scale.shaped"].map(|n| graph.fresh(n));
                for tensor in [
                    Tensor::f32(&table, &[LEVELS], &levels),
                    Tensor::f32(&scale, &[LEVELS], &scales),
                    Tensor::i64(&four, &[4], &[-1, 1, 1, 1]),
                ] {
                    graph.initializers.insert(tensor.name().to_owned(), tensor);
                }
                nodes.push(Node::new("Gather", &[&table, "timestep"], &[&level]));
                nodes.push(Node::new("Gather", &[&scale, "timestep"], &[&scaled]));
                nodes.push(Node::new("Reshape", &[&scaled, &four], &[&shaped]));
                nodes.push(Node::new("Mul", &["sample", &shaped], &[&noisy]));
            }
        }
        graph.inputs[at] = Value::tensor("sample", ElementType::F32, &sample_shape);
        graph.inputs[time_at] = Value::tensor("timestep", element, &time_shape);
        nodes.append(&mut graph.nodes);
        graph.nodes = nodes;
        graph.sort().map_err(|e| wrong(format!("its graph cannot be adapted: {e}")))
    }
}

/// What is wrong with `text`, and in which line.
fn in_a_line(text: &str, error: &toml::de::Error) -> String {
    let reason = printable::name(error.message().trim_end()).into_owned();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {reason}", before.matches('\n').count() + 1),
        None => reason,
    }
}

/// A value that JSON has no number for, and that would be taken for absent.
fn not_in_json(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::Float(number) if !number.is_finite() => Some(number.to_string()),
        toml::Value::Datetime(date) => Some(date.to_string()),
        toml::Value::Array(values) => values.iter().find_map(not_in_json),
        toml::Value::Table(values) => values.values().find_map(not_in_json),
        _ => None,
    }
}

impl Sigma {
    /// The levels, ascending.
    fn levels(self) -> impl Iterator<Item = f64> {
        let (low, high) = (self.min.powf(1.0 / self.rho), self.max.powf(1.0 / self.rho));
        (0..LEVELS).map(move |i| (low + (high - low) * i as f64 / (LEVELS - 1) as f64).powf(self.rho))
    }
}
