//! The plain results of a repair, for reports and JSON.

use super::compare::{Change, Comparison};
use super::compete::Standing;
use super::suspects::Suspect;
use super::train::Selection;
use crate::feature_visualization::results::PicturedNeuron;
use crate::results::{Direction, Proportion, RunCard};
use crate::shortcut::{Answer, Association, Side};
use serde::{Deserialize, Serialize};

/// The edits that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// The layer as it is.
    None,
    /// The layer fitted again to training and validation pictures.
    Refit,
    /// The same, each class counting alike.
    ClassBalanced,
    /// The suspects' columns of W set to 0.
    Zero,
    /// Class-weighted cross-entropy.
    ClassWeighted,
    /// Focal loss, γ = 2, with the same weights.
    Focal,
    /// The layer fitted again to training and validation pictures, each group counting alike; needs group labels.
    GroupBalanced,
    /// Deep feature re-weighting, as published; needs group labels of the validation split.
    Dfr,
    /// Automatic feature re-weighting.
    Afr,
    /// Just train twice.
    Jtt,
    /// The layer fitted again, each cluster of each class counting alike.
    ClusterBalanced,
    /// The published loss and schedule, λ₃ and o as published.
    Reference,
    /// The published loss as it was run on Waterbirds.
    ReferenceWaterbirds,
    /// The published loss in root-mean-square form, one ramp, λ₃ and o by grid.
    Ratio,
    /// The layer fitted again to training and validation pictures, each class with and without the cue counting alike.
    SliceBalanced,
    /// Concept erasure (see [`super::erase`]).
    Erase,
}

impl Edit {
    /// Every edit, in the order of the table.
    pub const ALL: [Edit; 16] = [
        Edit::None,
        Edit::Refit,
        Edit::ClassBalanced,
        Edit::Zero,
        Edit::ClassWeighted,
        Edit::Focal,
        Edit::GroupBalanced,
        Edit::Dfr,
        Edit::Afr,
        Edit::Jtt,
        Edit::ClusterBalanced,
        Edit::Reference,
        Edit::ReferenceWaterbirds,
        Edit::Ratio,
        Edit::SliceBalanced,
        Edit::Erase,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Edit::None => "none",
            Edit::Refit => "refit",
            Edit::ClassBalanced => "class-balanced",
            Edit::Zero => "zero",
            Edit::ClassWeighted => "class-weighted",
            Edit::Focal => "focal",
            Edit::GroupBalanced => "group-balanced",
            Edit::Dfr => "dfr",
            Edit::Afr => "afr",
            Edit::Jtt => "jtt",
            Edit::ClusterBalanced => "cluster-balanced",
            Edit::Reference => "reference",
            Edit::ReferenceWaterbirds => "reference-waterbirds",
            Edit::Ratio => "ratio",
            Edit::SliceBalanced => "slice-balanced",
            Edit::Erase => "erase",
        }
    }

    /// What it does, for people.
    pub fn description(self) -> &'static str {
        match self {
            Edit::None => "the decision layer as it is",
            Edit::Refit => "fitted again to training and validation pictures",
            Edit::ClassBalanced => "the same, classes counting alike",
            Edit::Zero => "the suspects' weights set to 0",
            Edit::ClassWeighted => "class-weighted cross-entropy",
            Edit::Focal => "focal loss",
            Edit::GroupBalanced => "the same, named groups counting alike (needs group labels)",
            Edit::Dfr => "DFR: balanced groups of the validation split alone (needs group labels)",
            Edit::Afr => "AFR: pictures that a first head doubts count more",
            Edit::Jtt => "JTT: pictures that a first head gets wrong count more",
            Edit::ClusterBalanced => "clusters of each class counting alike",
            Edit::Reference => "the published loss and schedule",
            Edit::ReferenceWaterbirds => "the published loss as run on Waterbirds",
            Edit::Ratio => "the published loss, batch-free, λ₃ and o by grid",
            Edit::SliceBalanced => "classes with and without the cue counting alike",
            Edit::Erase => "the suspects' cue erased from the features",
        }
    }
}

impl std::fmt::Display for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Edit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Edit::ALL.map(Edit::name).join(", ");
        Edit::ALL.into_iter().find(|e| e.name() == text).ok_or_else(|| format!("no edit '{text}'; there are {known}"))
    }
}

/// Figures of one edit on one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Right over all samples.
    pub overall: Proportion,
    /// The class that is repaired.
    pub class: Proportion,
    /// The worst class.
    pub worst_class: Proportion,
    /// The worst group, where there are groups.
    pub worst_group: Option<Proportion>,
    /// The worst slice: class × whether the suspects are active.
    pub worst_slice: Option<Proportion>,
}

/// One edit that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Which.
    pub edit: Edit,
    /// What was chosen on validation: epoch, λ₃ and o, the pull; empty where nothing was.
    pub chosen: String,
    /// On the validation split, which chose.
    pub validation: Figures,
    /// On the test split, which nothing was chosen by.
    pub test: Figures,
    /// Seconds it took, all settings tried included; in files they are among the times of `run.json`.
    #[serde(skip)]
    pub seconds: f64,
}

/// What the edit did to one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassEdit {
    /// Class.
    pub class: usize,
    /// Its name.
    pub name: String,
    /// ‖ΔW_c‖₂ over ‖W_c‖₂.
    pub moved: f64,
    /// Δb_c.
    pub bias: f64,
    /// Test pictures that it is predicted for, before and after.
    pub predicted: [usize; 2],
}

/// What the edit did to one neuron.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronEdit {
    /// Neuron.
    pub neuron: usize,
    /// Its weight for the repaired class before and after.
    pub weight: [f64; 2],
    /// ‖ΔW_{:,j}‖₂.
    pub moved: f64,
    /// Whether it is a suspect.
    pub suspect: bool,
}

/// Zeroing one suspect, where groups are known: a check by experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CausalCheck {
    /// Neuron.
    pub neuron: usize,
    /// Worst-group accuracy on validation with its weights at 0, less that without.
    pub worst_group: f64,
    /// The same for overall accuracy.
    pub overall: f64,
}

/// A group that the mistakes suggest, for a person to name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposedGroup {
    /// Class.
    pub class: usize,
    /// Whether the suspects are active.
    pub active: bool,
    /// Pictures of the validation split in it.
    pub samples: usize,
    /// Accuracy before the edit.
    pub accuracy: Proportion,
    /// Pictures that show it best, by file name.
    pub examples: Vec<String>,
}

/// Mistakes around the repaired class that go together in feature space, for a person to name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MistakeCluster {
    /// Mistakes in it, on the validation split.
    pub samples: usize,
    /// Of them, those on which the suspects are active.
    pub active: usize,
    /// True classes with their counts, the commonest first.
    pub truths: Vec<(usize, usize)>,
    /// Of them, those that are called the repaired class.
    pub called: usize,
    /// Some of them, by file name.
    pub examples: Vec<String>,
}

/// Everything that `pellucid repair` found and did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repair {
    /// The class whose cue is at fault, and its name.
    pub class: (usize, String),
    /// The neurons, and by which route.
    pub suspects: Vec<Suspect>,
    /// Distance of pictures with the suspects active from those without, in standard deviations; null where they cannot
    /// be told apart.
    pub separation: Option<f64>,
    /// Pictures of training, validation and test.
    pub samples: [usize; 3],
    /// Random views of each training picture that were trained on beside the whole one.
    pub views: usize,
    /// What chose epochs and settings.
    pub selection: Selection,
    /// Every edit that was tried, in the order of [`Edit::ALL`].
    pub tried: Vec<Tried>,
    /// The edit that is shipped.
    pub edit: Edit,
    /// Its effect on the test split.
    pub comparison: Comparison,
    /// What it did to each class.
    pub classes: Vec<ClassEdit>,
    /// The neurons it moved most, the suspects first.
    pub neurons: Vec<NeuronEdit>,
    /// Zeroing each suspect, where groups are known.
    pub causal: Vec<CausalCheck>,
    /// Groups that the mistakes suggest.
    pub proposed: Vec<ProposedGroup>,
    /// Mistakes around the class by cluster, the largest first.
    pub clusters: Vec<MistakeCluster>,
    /// Share of those mistakes whose cluster says by its majority whether the suspects are active on them: 1 where the clusters and
    /// the suspects tell the same story. Null without suspects that vary, or with a single cluster.
    pub cluster_agreement: Option<f64>,
    /// Agreement of the proposed groups with the known ones on validation, where groups are known: the share of samples of a
    /// class that a one-to-one naming gets right.
    pub agreement: Option<f64>,
    /// How much the repaired class's probability owes the suspects on the test split: mean ratio before and after.
    pub ratio: [f64; 2],
    /// What the data say about a shortcut, and whether an edit was shipped.
    pub conduct: Conduct,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A would-be cue and what the data say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CueTest {
    /// The class that it speaks for, and its name.
    pub class: (usize, String),
    /// The mistakes that it was found in.
    pub side: Side,
    /// Whether those show too much of its evidence or too little.
    pub direction: Direction,
    /// Its neurons.
    pub neurons: Vec<usize>,
    /// Family-wise p-value of the score test.
    pub p_value: f64,
    /// By how much the class's probability is too high where it is present.
    pub effect: f64,
    /// How far its presence tells the mistakes around the class.
    #[serde(deserialize_with = "crate::results::null_as_nan")]
    pub rank: f64,
    /// How often pictures of the class and others show it, in training and in validation.
    pub association: Option<Association>,
}

impl CueTest {
    /// How the cue goes with its class in the splits, where it does in training and hardly in validation.
    pub fn in_training_alone(&self) -> Option<&Association> {
        self.association.as_ref().filter(|association| association.is_of_training(1.0, 1))
    }
}

/// What a repair found before it edited anything, and what it decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    /// The answer; none where the neurons were named.
    pub answer: Option<Answer>,
    /// The cue that the repair is about.
    pub cue: Option<CueTest>,
    /// Further confirmed cues.
    pub others: Vec<CueTest>,
    /// The effect that would have been seen with 80 % power.
    pub detectable: Option<f64>,
    /// What the data could not have shown, in words, where that is known.
    pub limit: Option<String>,
    /// How the edits stand on validation, the simplest first.
    pub standings: Vec<Standing>,
    /// Whether an edit was shipped.
    pub shipped: bool,
    /// That and why, in a sentence.
    pub headline: String,
    /// What the shipped edit gains over the better of the plain and the class-balanced refit, on the test split.
    pub over_refit: Option<Change>,
}

impl Conduct {
    /// What would have been seen, as a sentence about `one` without its end; `None` where that is not known.
    pub fn power(&self, one: &str) -> Option<String> {
        let points = 100.0 * self.detectable.filter(|effect| effect.is_finite())?;
        Some(format!(
            "{one} that makes a class's probability {points:.0} points too high would have been seen in four cases of five"
        ))
    }
}

/// A repair with how it was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepairRun {
    /// What was found and done.
    pub repair: Repair,
    /// Pictures of the suspects, where they were asked for.
    #[serde(default)]
    pub pictures: Vec<PicturedNeuron>,
    /// How.
    pub run: RunCard,
}
