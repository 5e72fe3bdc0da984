//! What an explained prompt gives, as values.

use super::settings::ExplainSettings;
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::explain::{Amount, Findings, Outcome};
use pellucid_diffusion::{Stage, Trajectory, TrajectorySettings};
use pellucid_saliency::SaliencyMap;
use pellucid_saliency::evaluate::{DistanceGames, Standing};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An explained prompt: the trajectory, what each explainer found in it, and the figures.
#[derive(Debug)]
#[non_exhaustive]
pub struct Explained {
    /// How it was explained.
    pub settings: ExplainSettings,
    /// The trajectory.
    pub trajectory: Trajectory,
    /// What became of each explainer, in their order.
    pub answers: Vec<Answer>,
    /// The figures.
    pub explanation: Explanation,
    /// Seconds each stage took.
    pub timings: Vec<(String, f64)>,
}

/// What became of an explainer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The explainer's key.
    pub id: String,
    /// What a person reads above its maps.
    pub title: String,
    /// Its maps in the plural: `word maps`.
    pub maps: String,
    /// What it found, or why it did not.
    pub outcome: Outcome,
}

impl Explained {
    /// What the explainer called `id` found.
    pub fn findings(&self, id: &str) -> Option<&Findings> {
        self.answers.iter().find(|answer| answer.id == id).and_then(|answer| answer.outcome.findings())
    }

    /// The map called `id` at step `step` (from 0), whichever explainer made it.
    pub fn map(&self, id: &str, step: usize) -> Option<&SaliencyMap> {
        let steps = self.found().filter_map(|(_, found)| found.steps.get(step));
        steps.flat_map(|step| step.maps.iter().flatten()).find(|map| map.id == id)
    }

    /// The explainers that found something.
    pub(super) fn found(&self) -> impl Iterator<Item = (&Answer, &Findings)> {
        self.answers.iter().filter_map(|answer| Some((answer, answer.outcome.findings()?)))
    }
}

/// What `explanation.json` holds; the maps themselves are in `maps.npz`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The pipeline's name.
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// How it was sampled.
    pub trajectory: TrajectorySettings,
    /// Whether guidance took part: only a model with an unconditional half has it.
    pub is_guided: bool,
    /// What became of each explainer.
    pub explainers: Vec<ExplainerSummary>,
    /// Settings of the explainers that found something, by their key, and the options of their choices (`words`, `layers`,
    /// `blocks`).
    #[serde(flatten)]
    pub details: BTreeMap<String, Value>,
    /// Steps, from noise to picture.
    pub steps: Vec<StepFigures>,
    /// Deletion and insertion, where asked for.
    pub faithfulness: Vec<MapFaithfulness>,
    /// What they say of each map, over the steps where they were played.
    pub standings: Vec<Standing>,
    /// What is left out and why.
    pub notes: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// An explainer's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainerSummary {
    /// Its key.
    pub id: String,
    /// What a person reads above its maps.
    pub title: String,
    /// What became of it.
    pub outcome: Became,
    /// Its figures of each step: the key in [`StepFigures`], and what a person reads.
    pub figures: Vec<(String, String)>,
    /// What it found, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conclusions: Vec<String>,
    /// The numbers behind them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Value>,
    /// Facts of how it ran: term and value.
    pub facts: Vec<(String, String)>,
}

/// What became of an explainer, in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Became {
    /// It explained every step.
    Found,
    /// There is nothing to show.
    Absent {
        /// Why.
        reason: String,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Figures of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Timestep.
    pub t: usize,
    /// By signal-to-noise ratio.
    pub stage: Stage,
    /// The explainers' figures.
    #[serde(flatten)]
    pub figures: BTreeMap<String, Amount>,
}

/// How faithful a map is at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapFaithfulness {
    /// Number of the step, from 0.
    pub step: usize,
    /// Timestep.
    pub t: usize,
    /// The map, or the control.
    pub map: String,
    /// Whether it is there to be compared with.
    pub is_control: bool,
    /// Both games.
    #[serde(flatten)]
    pub games: DistanceGames,
}

/// What was written of an explained prompt.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WrittenExplanation {
    /// The run directory.
    pub directory: PathBuf,
    /// The report.
    pub report: PathBuf,
    /// The figures.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Seconds each stage took, the writing of files included.
    pub timings: Vec<(String, f64)>,
    /// What `run.json` holds.
    #[serde(skip)]
    pub record: RunRecord,
}
