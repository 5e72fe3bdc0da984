//! What explains a step. An explainer is one file here and one row of [`all`]; whoever shows, files, measures or lists them
//! goes over the rows and what was found, and knows none by name.

pub mod bands;
pub mod cam;
pub mod causal;
pub mod cross_attention;
mod findings;
mod places;
pub mod recovery;
pub mod rise;
mod store;

pub use findings::{
    Agreement, Amount, Arrival, Arrivals, Axis, Compared, Curve, Effect, Effects, Findings, Judge, Measured,
    StepFigure, StepFindings, Track, by_words, capitalised, settled, signed, steps_in_words,
};
pub use store::Store;

use crate::error::DiffusionError;
use crate::network::{Cannot, Capability};
use crate::pipeline::{Pipeline, Prompt};
use crate::trajectory::Trajectory;
use pellucid_runtime::progress::Progress;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that explains the steps of a trajectory, with its settings.
pub trait Explainer: std::fmt::Debug + Send + Sync {
    /// A stable key: the name of its settings in JSON, of its panel, and on the command line.
    fn id(&self) -> &'static str;

    /// What a person reads above its maps.
    fn title(&self) -> &'static str;

    /// What it says, in a line of a list.
    fn summary(&self) -> &'static str;

    /// Its maps in the plural, as in `No word maps: …`.
    fn maps(&self) -> &'static str;

    /// What it asks of the network; nothing where the trajectory says all, and such an explainer always runs.
    fn needs(&self) -> &'static [Capability];

    /// Everything that decides what it gives, in a canonical form; an empty object where nothing does.
    fn settings(&self) -> Value;

    /// Whether there is something to explain for `prompt`.
    ///
    /// # Errors
    /// Why not.
    fn applies(&self, _prompt: &Prompt) -> Result<(), Cannot> {
        Ok(())
    }

    /// Explains every step.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`] where there turns out to be nothing to show, what running says otherwise.
    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError>;
}

/// What is explained, and what an explainer works with.
pub struct Subject<'a> {
    /// The pipeline.
    pub pipeline: &'a mut Pipeline,
    /// The trajectory, which no explainer changes.
    pub trajectory: &'a Trajectory,
    /// Where it keeps what it has finished.
    pub store: &'a Store,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
    /// What the explainers before it found.
    pub earlier: &'a [&'a Findings],
}

/// What became of an explainer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one an explainer")]
pub enum Outcome {
    /// It explained every step.
    Found(Findings),
    /// There is nothing to show, for a reason that lies in network or prompt.
    Absent(Cannot),
    /// It failed; what the others give does not depend on it.
    Failed(DiffusionError),
}

impl Outcome {
    /// What was found.
    pub fn findings(&self) -> Option<&Findings> {
        match self {
            Self::Found(findings) => Some(findings),
            _ => None,
        }
    }
}

/// Runs `explainer`, after asking whether prompt and network have what it needs.
///
/// # Errors
/// Only where nothing should go on ([`DiffusionError::ends_the_run`]): the user asked to stop, a setting is out of range, a
/// bound that the user set is reached, or nothing can be kept.
pub fn run(explainer: &dyn Explainer, subject: &mut Subject<'_>) -> Result<Outcome, DiffusionError> {
    let found = possible(explainer, subject).and_then(|()| explainer.run(subject));
    match found {
        Ok(findings) => Ok(Outcome::Found(findings)),
        Err(DiffusionError::Cannot(cannot)) => Ok(Outcome::Absent(cannot)),
        Err(error) if error.ends_the_run() => Err(error),
        Err(error) => {
            subject.progress.finish();
            Ok(Outcome::Failed(error))
        }
    }
}

fn possible(explainer: &dyn Explainer, subject: &mut Subject<'_>) -> Result<(), DiffusionError> {
    explainer.applies(&subject.trajectory.prompt)?;
    if explainer.needs().is_empty() {
        return Ok(());
    }
    let capabilities = subject.pipeline.network.capabilities()?;
    explainer.needs().iter().try_for_each(|which| capabilities.can(*which))?;
    Ok(())
}

/// Makes an explainer from its settings, or with its defaults.
type Make = fn(Option<&Value>) -> Result<Arc<dyn Explainer>, DiffusionError>;

/// A row of the list of explainers.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    make: Make,
}

impl Row {
    /// The row of `E`, whose settings are what it is read from.
    pub fn of<E: Explainer + Default + DeserializeOwned + 'static>() -> Self {
        fn make<E: Explainer + Default + DeserializeOwned + 'static>(
            settings: Option<&Value>,
        ) -> Result<Arc<dyn Explainer>, DiffusionError> {
            let Some(settings) = settings else { return Ok(Arc::new(E::default())) };
            let made: Result<E, _> = serde_json::from_value(settings.clone());
            let wrong = |e: serde_json::Error| DiffusionError::Setting {
                name: E::default().id(),
                found: settings.to_string(),
                expected: format!("its settings ({e})"),
            };
            made.map(|made| Arc::new(made) as Arc<dyn Explainer>).map_err(wrong)
        }
        Self { make: make::<E> }
    }

    /// The explainer with `settings` (what its own [`Explainer::settings`] would give; entries left out have their defaults), or
    /// with its defaults.
    ///
    /// # Errors
    /// [`DiffusionError::Setting`] where they are no settings of this explainer.
    pub fn explainer(&self, settings: Option<&Value>) -> Result<Arc<dyn Explainer>, DiffusionError> {
        (self.make)(settings)
    }
}

/// Every explainer, in the order in which their panels stand.
pub fn all() -> Vec<Row> {
    vec![
        Row::of::<rise::RiseExplainer>(),
        Row::of::<cam::CamExplainer>(),
        Row::of::<cross_attention::AttentionExplainer>(),
        Row::of::<causal::CausalExplainer>(),
        Row::of::<recovery::RecoveryExplainer>(),
        Row::of::<bands::BandsExplainer>(),
    ]
}

/// The explainers of `rows` that `names` names (all of them for `None`), and those that need nothing, each with its entry in
/// `settings` where there is one.
///
/// # Errors
/// [`DiffusionError::Setting`] for a name that no row has, or settings that are not an explainer's.
pub fn choose(
    rows: &[Row],
    names: Option<&[String]>,
    settings: &BTreeMap<String, Value>,
) -> Result<Vec<Arc<dyn Explainer>>, DiffusionError> {
    let known = rows.iter().map(|row| row.explainer(None)).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<&str> = known.iter().map(|e| e.id()).collect();
    if let Some(unknown) = names.unwrap_or_default().iter().chain(settings.keys()).find(|n| !ids.contains(&n.as_str()))
    {
        let expected = format!("one or more of {}", ids.join(", "));
        return Err(DiffusionError::Setting { name: "explainers", found: format!("'{unknown}'"), expected });
    }
    let is_wanted = |e: &Arc<dyn Explainer>| {
        e.needs().is_empty() || names.is_none_or(|names| names.iter().any(|name| name == e.id()))
    };
    let wanted = rows.iter().zip(&known).filter(|(_, e)| is_wanted(e));
    wanted.map(|(row, e)| row.explainer(settings.get(e.id()))).collect()
}

#[cfg(test)]
mod tests;
