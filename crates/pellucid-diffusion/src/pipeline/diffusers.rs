//! A diffusers folder exported to ONNX, as `optimum` lays it out.

use super::decoder::Decoder;
use super::text::{Conditioner, TextEncoders};
use super::{Kind, Pipeline, PipelineOptions, admit_latent, component, config, declared_shape, hash_files, read};
use crate::config::SchedulerConfig;
use crate::entries::{Entries, read_json, read_json_if_there, shown, whole};
use crate::error::DiffusionError;
use crate::network::{DenoiserInputs, OnnxNetwork};
use crate::schedule::NoiseSchedule;
use pellucid_graph::Model;
use pellucid_guard::Budget;
use pellucid_runtime::Runtime;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the folder's index is called.
const INDEX: &str = "model_index.json";

/// The file of words by family, which is not diffusers' own.
const FAMILIES: &str = "words.json";

/// Most channels, rows or columns of a latent that a config may say; how much they take together is for the budget.
const MOST_SIDE: usize = 1 << 20;

/// Folders whose files decide what a pipeline computes.
const PARTS: [&str; 8] =
    ["unet", "text_encoder", "text_encoder_2", "vae_decoder", "vae_encoder", "tokenizer", "tokenizer_2", "scheduler"];

pub(super) const KIND: Kind = Kind { expected: INDEX, find, open };

fn find(path: &Path) -> Option<PathBuf> {
    Some(path.join(INDEX)).filter(|index| index.exists())
}

fn open(index_file: &Path, options: &PipelineOptions) -> Result<Pipeline, DiffusionError> {
    let folder = index_file.parent().unwrap_or(index_file);
    let index = read_json(index_file, &options.budget)?;
    let index = Entries::of(&index).map_err(|reason| config(index_file, reason))?;
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
    let zero_empty = index.flag("force_zeros_for_empty_prompt").map_err(|reason| config(index_file, reason))?;
    let inputs = DenoiserInputs::find(&unet)?.others;
    let conditioner = if inputs.iter().any(|n| n.contains("encoder_hidden_states")) {
        Conditioner::Text(TextEncoders::open(folder, &runtime, inputs, zero_empty, options)?)
    } else if inputs.is_empty() {
        Conditioner::Nothing
    } else {
        Conditioner::Class(inputs)
    };
    let context = conditioner.context();
    let families = families(&folder.join(FAMILIES), &options.budget)?;
    let decoder = Decoder::of_folder(folder, &runtime, &index, latent, options)?;
    let hash = hash(folder)?;
    Ok(Pipeline {
        folder: folder.to_path_buf(),
        options: options.clone(),
        schedule: NoiseSchedule::new(&scheduler),
        scheduler,
        families,
        latent,
        hash,
        network: Box::new(OnnxNetwork::new(runtime, options.clone(), unet, latent, context)),
        conditioner,
        decoder,
    })
}

/// Words by family in `file`; none where it is not there.
fn families(file: &Path, budget: &Budget) -> Result<BTreeMap<String, Vec<String>>, DiffusionError> {
    let json = read_json_if_there(file, budget)?;
    let families: Result<BTreeMap<String, Vec<String>>, _> = serde_json::from_value(json.clone());
    let expected = r#"families of words, as {"colour": ["red", "blue"], "filler": ["a"]}"#;
    families.map_err(|_| config(file, format!("is {}; expected {expected}", shown(&json))))
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

/// blake3 over the models, their data files, and the configs, by name.
fn hash(folder: &Path) -> Result<String, DiffusionError> {
    let mut files = Vec::new();
    for part in PARTS {
        let Ok(entries) = std::fs::read_dir(folder.join(part)) else { continue };
        files.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_file()));
    }
    files.extend(Some(folder.join(FAMILIES)).filter(|file| file.is_file()));
    hash_files(folder, files)
}
