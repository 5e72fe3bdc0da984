//! What is explained, and how.

use crate::VERSION;
use pellucid_diffusion::explain::{Explainer, all, choose};
use pellucid_diffusion::{DiffusionError, TrajectorySettings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// How a prompt is explained: by default every explainer with its own defaults, nothing measured, nothing kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExplainSettings {
    /// The trajectory.
    pub trajectory: TrajectorySettings,
    /// What explains it, in the order in which it is shown.
    pub explainers: Vec<Arc<dyn Explainer>>,
    /// Deletion and insertion, unless they are left out.
    pub faithfulness: Option<FaithfulnessSettings>,
    /// Where finished steps are kept, so that an interrupted run goes on from them.
    pub cache: Option<PathBuf>,
}

/// Where deletion and insertion are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FaithfulnessSettings {
    /// Number of steps, spread evenly.
    pub steps: usize,
    /// Whether LIME is fitted (1000 passes a step) and played too.
    pub lime: bool,
}

impl FaithfulnessSettings {
    /// At so many steps, without LIME.
    pub fn at(steps: usize) -> Self {
        Self { steps, lime: false }
    }

    /// The same with LIME, or without.
    #[must_use]
    pub fn with_lime(self, lime: bool) -> Self {
        Self { lime, ..self }
    }
}

impl Default for ExplainSettings {
    fn default() -> Self {
        // The explainers of the list have settings of their own, so nothing can be wrong with them.
        let explainers = choose(&all(), None, &BTreeMap::new()).unwrap_or_default();
        Self { trajectory: TrajectorySettings::default(), explainers, faithfulness: None, cache: None }
    }
}

impl ExplainSettings {
    /// The same with this trajectory.
    #[must_use]
    pub fn with_trajectory(self, trajectory: TrajectorySettings) -> Self {
        Self { trajectory, ..self }
    }

    /// The same with the explainers of the list that `names` names, with `settings` by name where they are not the defaults;
    /// those that ask nothing of the network are always there.
    ///
    /// # Errors
    /// Names the explainer that there is not, or what is wrong with its settings.
    pub fn with_explainers(self, names: &[&str], settings: &BTreeMap<String, Value>) -> Result<Self, DiffusionError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(self.with_these_explainers(choose(&all(), Some(&names), settings)?))
    }

    /// The same with exactly these explainers, whether they are in the list or not.
    #[must_use]
    pub fn with_these_explainers(self, explainers: Vec<Arc<dyn Explainer>>) -> Self {
        Self { explainers, ..self }
    }

    /// The same with deletion and insertion, or without.
    #[must_use]
    pub fn with_faithfulness(self, faithfulness: Option<FaithfulnessSettings>) -> Self {
        Self { faithfulness, ..self }
    }

    /// The same with finished steps kept in this folder.
    #[must_use]
    pub fn with_cache(self, folder: impl Into<PathBuf>) -> Self {
        Self { cache: Some(folder.into()), ..self }
    }

    /// Everything that decides what is found for a prompt, in a canonical form.
    pub(super) fn canonical(&self) -> Value {
        let explainers: serde_json::Map<String, Value> =
            self.explainers.iter().map(|e| (e.id().to_owned(), e.settings())).collect();
        json!({
            "trajectory": self.trajectory, "explainers": explainers, "faithfulness": self.faithfulness, "version": VERSION,
        })
    }
}
