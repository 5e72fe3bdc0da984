//! The plain results of a diagnosis: what `debug` computes and what reports read.
//!
//! Nothing here knows HTML, colours or terminals; everything serialises to JSON. Percentages are in
//! `[0, 100]`, proportions in `[0, 1]`, and every list is sorted, so that equal runs give equal bytes. A number
//! that does not exist (a share of nothing, a quantile of no samples) is NaN in memory and null in JSON.

use crate::feature_visualization::results::PicturedNeuron;
use crate::verdict::judgement::Judgement;
pub use pellucid_saliency::stats::Proportion;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A value with the 95 % interval of its bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    #[serde(deserialize_with = "null_as_nan")]
    pub value: f64,
    /// Lower bound.
    #[serde(deserialize_with = "null_as_nan")]
    pub low: f64,
    /// Upper bound.
    #[serde(deserialize_with = "null_as_nan")]
    pub high: f64,
}

impl Interval {
    /// The interval of zero width around `value`.
    pub fn point(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

/// Accuracy of one class or one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Index of the class or group.
    pub id: usize,
    /// Its name, as the user wrote it (not escaped).
    pub name: String,
    /// Right predictions among its samples.
    pub accuracy: Proportion,
}

/// How often class `truth` was called class `predicted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// True class.
    pub truth: usize,
    /// Predicted class.
    pub predicted: usize,
    /// Number of samples.
    pub count: usize,
}

/// What a scan says about a model on a data set ([methods A1]).
///
/// [methods A1]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a1
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples scanned.
    pub samples: usize,
    /// Number of features d.
    pub features: usize,
    /// Class names, by index.
    pub classes: Vec<String>,
    /// Group names, by index; empty where the data set has none.
    pub groups: Vec<String>,
    /// Right predictions over all samples.
    pub accuracy: Proportion,
    /// Accuracy of each class that has samples.
    pub by_class: Vec<Slice>,
    /// Accuracy of each group that has samples.
    pub by_group: Vec<Slice>,
    /// Index of the class with the lowest accuracy (ties: the lowest index).
    pub worst_class: Option<usize>,
    /// Index of the group with the lowest accuracy.
    pub worst_group: Option<usize>,
    /// Off-diagonal confusions, most frequent first.
    pub confusions: Vec<Confusion>,
}

/// Which mistakes a finding examines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mistakes {
    /// Samples of class `class` that were called something else.
    TrueClass {
        /// The class.
        class: usize,
    },
    /// Samples that were wrongly called `class`.
    PredictedAs {
        /// The class.
        class: usize,
    },
    /// Mistakes within one group.
    Group {
        /// The group.
        group: usize,
    },
    /// Every mistake.
    All,
}

/// One picture, as a report shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Row in the scan.
    pub index: usize,
    /// File name relative to the data set's folder (not escaped).
    pub file: String,
    /// True class.
    pub truth: usize,
    /// Predicted class.
    pub predicted: usize,
    /// Softmax probability of the prediction.
    pub confidence: f64,
    /// Group, where the data set has groups.
    pub group: Option<usize>,
    /// How the counterfactual of this sample went; absent for samples that are right.
    pub counterfactual: Option<CounterfactualOutcome>,
}

/// How the search for a counterfactual ended for one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterfactualOutcome {
    /// Whether the sample flipped to its true class.
    pub reached: bool,
    /// Optimiser steps taken.
    pub steps: usize,
    /// Largest true-class margin at the end: logit of the true class minus the best other.
    #[serde(deserialize_with = "null_as_nan")]
    pub margin: f64,
    /// `‖w‖₁`.
    #[serde(deserialize_with = "null_as_nan")]
    pub l1: f64,
    /// Number of neurons with a non-zero change.
    pub changed: usize,
}

/// Which way a neuron's evidence was off ([methods A2]).
///
/// [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Evidence that was missing: the counterfactual raises it.
    Insufficient,
    /// Evidence that should not have counted: the counterfactual lowers it.
    Excessive,
}

/// The distribution of a neuron's activation over one set of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// Number of samples.
    pub samples: usize,
    /// Mean.
    #[serde(deserialize_with = "null_as_nan")]
    pub mean: f64,
    /// 5, 25, 50, 75 and 95 % quantiles.
    #[serde(deserialize_with = "nulls_as_nan")]
    pub quantiles: [f64; 5],
}

/// A picture that activates a neuron strongly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopSample {
    /// The picture.
    pub sample: Sample,
    /// The neuron's activation on it.
    pub activation: f64,
    /// The neuron's heat map on it: `height × width` values, row-major, min–max scaled to `[0, 1]`; empty when the
    /// model has no feature map or the map is constant.
    pub heat: Vec<f32>,
    /// Height and width of `heat`.
    pub heat_size: [usize; 2],
}

/// A neuron that a finding names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neuron {
    /// Component of the feature vector.
    pub index: usize,
    /// Which way its evidence was off.
    pub direction: Direction,
    /// Percentage of the mistakes that list it (Prec@k %), with its bootstrap interval.
    pub votes: Interval,
    /// How often it comes back, in `[0, 1]`, over the bootstrap's resamples.
    #[serde(deserialize_with = "null_as_nan")]
    pub stability: f64,
    /// Logits a mistake that it is held to account for (see [`crate::gap`]), with the bootstrap interval; all 0 where it
    /// takes no part in the gap on its side.
    pub gap: Interval,
    /// Its retaining ratio ρ for the finding's class ([methods A3]): above 1, the class needs it.
    ///
    /// [methods A3]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a3
    #[serde(deserialize_with = "null_as_nan")]
    pub importance: f64,
    /// Its weight for the finding's class in the decision layer.
    #[serde(deserialize_with = "null_as_nan")]
    pub weight: f64,
    /// Activation over the finding's mistakes.
    pub on_mistakes: Activation,
    /// Activation over the class's samples that were right.
    pub on_correct: Activation,
    /// Activation over the whole data set.
    pub on_all: Activation,
    /// Share of the finding's mistakes on which the neuron is silent (activation 0, or its minimum).
    #[serde(deserialize_with = "null_as_nan")]
    pub silent_share: f64,
    /// The data set's own top-activating pictures.
    pub top: Vec<TopSample>,
}

/// What the examination of one set of mistakes found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The set of mistakes.
    pub mistakes: Mistakes,
    /// A plain-words title, for example "Pictures of animal that were called something else".
    pub title: String,
    /// The class whose evidence is examined, if there is one.
    pub class: Option<usize>,
    /// Number of mistakes in the set.
    pub count: usize,
    /// Mistakes whose counterfactual was not reached (excluded from the votes).
    pub unreached: usize,
    /// The mistakes shown (a sample of them where there are many).
    pub samples: Vec<Sample>,
    /// Neurons of both directions by falling share of the evidence gap (see [`crate::gap`]).
    pub gap: Vec<Neuron>,
    /// Insufficient neurons, by falling votes.
    pub insufficient: Vec<Neuron>,
    /// Excessive neurons, by falling votes.
    pub excessive: Vec<Neuron>,
}

impl Finding {
    /// Every neuron of the three lists, by falling share of the gap, then by votes. One that stands in two lists comes twice.
    pub fn neurons(&self) -> impl Iterator<Item = &Neuron> {
        self.gap.iter().chain(&self.insufficient).chain(&self.excessive)
    }

    /// The same, to change.
    pub fn neurons_mut(&mut self) -> impl Iterator<Item = &mut Neuron> {
        self.gap.iter_mut().chain(&mut self.insufficient).chain(&mut self.excessive)
    }
}

/// How a run went on its machine: what differs between runs that are equal in everything else. It is `run.json`; no other
/// result holds it, and a page in one block only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The command, without absolute paths.
    pub command: String,
    /// The command that goes on from here, where there is something to go on with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// When the results were written, UTC, RFC 3339.
    pub date: String,
    /// Threads used.
    pub threads: usize,
    /// The machine.
    pub machine: Machine,
    /// Seconds each stage took, in order.
    pub timings: Vec<(String, f64)>,
    /// The run's pages, which show this record, with their blake3.
    #[serde(default)]
    pub pages: BTreeMap<String, String>,
}

/// A machine, as far as it says how fast a run can be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// System and processor, for example "linux x86_64".
    pub system: String,
    /// Processors that the process may use.
    pub processors: usize,
    /// Bytes of memory, where the system says.
    pub memory: Option<u64>,
}

/// What ran, on what, and how: enough to run it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCard {
    /// Version of pellucid.
    pub pellucid: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// The model's file name.
    pub model: String,
    /// blake3 of the model, hexadecimal.
    pub model_hash: String,
    /// The data set's folder or file name.
    pub data: String,
    /// blake3 over the data set's files, hexadecimal.
    pub data_hash: String,
    /// Device, for example "cpu".
    pub device: String,
    /// Seed.
    pub seed: u64,
    /// Counterfactual variant: "bounded", "reference" or "sparse".
    pub variant: String,
    /// The preprocessing used, in words, and where it came from.
    pub preprocessing: String,
    /// How the heat maps were made, in words; empty where the model has no feature map.
    #[serde(default)]
    pub heat_maps: String,
    /// Anything the user should know: unreadable pictures, assumptions made.
    pub warnings: Vec<String>,
    /// How the run went, for the page; in files it is `run.json`, and nowhere else.
    #[serde(skip)]
    pub record: RunRecord,
}

/// Everything `pellucid debug` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The verdict in plain words, one sentence an entry.
    pub verdict: Vec<String>,
    /// Accuracy and confusions.
    pub summary: Summary,
    /// What the data can carry: what stands out, what is wrong with the data, whether there is a shortcut.
    #[serde(default)]
    pub judgement: Judgement,
    /// One entry per examined set of mistakes.
    pub findings: Vec<Finding>,
    /// Pictures made for the first suspect neurons; their files lie in the run directory.
    #[serde(default)]
    pub pictures: Vec<PicturedNeuron>,
    /// How it was made.
    pub run: RunCard,
    /// The data set's folder, for reading thumbnails; never written into a report.
    #[serde(skip)]
    pub data_root: PathBuf,
}

/// Reads null as NaN, which is how JSON writes it.
pub(crate) fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same for five quantiles.
fn nulls_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 5], D::Error> {
    Ok(<[Option<f64>; 5]>::deserialize(deserializer)?.map(|value| value.unwrap_or(f64::NAN)))
}
