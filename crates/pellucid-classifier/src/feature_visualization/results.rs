//! The plain results of a picture job, for reports and `results.json`.

use super::settings::VisualizationSettings;
use crate::guide::{GuideCard, Label};
use crate::results::RunRecord;
use serde::{Deserialize, Serialize};

/// Everything `pellucid picture` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureResults {
    /// Version of pellucid.
    pub pellucid: String,
    /// The model's file name.
    pub model: String,
    /// blake3 of the model, hexadecimal.
    pub model_hash: String,
    /// The layer whose channels are pictured; "features" are the neurons.
    pub layer: String,
    /// The data set's folder name, where one was given.
    pub data: Option<String>,
    /// The guide, where one led.
    pub guide: Option<GuideCard>,
    /// How the pictures were optimised.
    pub settings: VisualizationSettings,
    /// One entry a neuron and class, in the order asked for.
    pub neurons: Vec<PicturedNeuron>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// How the run went, for the page; in files it is `run.json`, and nowhere else.
    #[serde(skip)]
    pub record: RunRecord,
}

/// A neuron, pictured for a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PicturedNeuron {
    /// Neuron, or channel of the layer.
    pub neuron: usize,
    /// Class index.
    pub class: Option<usize>,
    /// Class name.
    pub class_name: Option<String>,
    /// Its weight for the class in the decision layer; only for neurons.
    pub weight: Option<f32>,
    /// One picture a seed.
    pub pictures: Vec<NeuronPicture>,
    /// What the data set says of it.
    pub data: Option<DataResponse>,
}

/// One finished picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronPicture {
    /// Its seed.
    pub seed: u64,
    /// PNG file in the run directory.
    pub file: String,
    /// PNG with everything dimmed where the neuron does not respond; absent where its map is constant or it has none.
    pub masked: Option<String>,
    /// The picture's contrast at which `masked` was read off: below 1 where the neuron responds everywhere at full contrast.
    #[serde(default)]
    pub masked_contrast: Option<f32>,
    /// PNG of the real picture that it began as; absent where it began as noise.
    #[serde(default)]
    pub start: Option<String>,
    /// Steps taken.
    pub steps: usize,
    /// The neuron's activation on the picture.
    pub activation: f32,
    /// The activation as a fraction of the data set's largest.
    pub of_max: Option<f32>,
    /// The activation as a fraction of the data set's 99th percentile.
    pub of_p99: Option<f32>,
    /// The class logit.
    pub logit: Option<f32>,
    /// Cosine of picture and class name by the guide.
    pub similarity: Option<f32>,
    /// What the picture is most like, of the vocabulary.
    pub label: Option<Label>,
    /// The model's own answer: class names and logits, largest first.
    pub answer: Vec<(String, f32)>,
    /// The sensitivity score of [methods A5] for the class: below 1 what the neuron sees is less like the class than like the classes
    /// near by. Absent without a class, a map or a data set.
    ///
    /// [methods A5]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a5
    #[serde(default)]
    pub sensitivity: Option<f64>,
    /// What is wrong with it, in words; empty for a sound picture.
    pub flags: Vec<String>,
}

/// A neuron on a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataResponse {
    /// Pictures.
    pub samples: usize,
    /// Largest activation.
    pub max: f32,
    /// 99th percentile of the activation.
    pub p99: f32,
    /// Whether no picture activates it.
    pub dead: bool,
    /// The crops that activate it most, strongest first.
    pub top: Vec<TopCrop>,
}

/// Part of a data set's picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopCrop {
    /// The data set's file.
    pub file: String,
    /// Its class name.
    pub class_name: String,
    /// The neuron's activation on the whole picture.
    pub activation: f32,
    /// PNG file of the crop in the run directory.
    pub crop: String,
}

impl PicturedNeuron {
    /// Its files in the run directory, each once, sorted.
    pub fn files(&self) -> Vec<String> {
        let of = |p: &NeuronPicture| [Some(p.file.clone()), p.masked.clone(), p.start.clone()];
        let mut files: Vec<String> = self.pictures.iter().flat_map(of).flatten().collect();
        files.extend(self.data.iter().flat_map(|data| data.top.iter().map(|top| top.crop.clone())));
        files.sort();
        files.dedup();
        files
    }

    /// `neuron 17 for "balloon"`.
    pub fn title(&self) -> String {
        match &self.class_name {
            Some(class) => format!("Neuron {} for {class}", self.neuron),
            None => format!("Neuron {}", self.neuron),
        }
    }
}
