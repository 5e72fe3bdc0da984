//! The main job on a prompt: the trajectory once, then every explainer on it.

use super::faithful::{games, over_steps};
use super::job::{Clock, hash};
use super::results::{Answer, Became, Explained, ExplainerSummary, Explanation, StepFigures};
use super::settings::ExplainSettings;
use crate::{Error, VERSION};
use pellucid_diffusion::explain::{Explainer, Findings, Outcome, StepFindings, Store, Subject, run};
use pellucid_diffusion::{DiffusionError, Pipeline, Stage, Trajectory};
use pellucid_runtime::progress::Progress;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Explains `prompt` step by step. What an interrupted run finished is used again where the settings name a cache.
///
/// An explainer that fails does not end the run: what became of it is in [`Explained::answers`].
///
/// # Errors
/// What sampling says; the first explainer's failure where none of those that ask something of the network found anything;
/// an interruption, a setting out of range, a bound on memory, or a cache that cannot be written.
pub fn explain(
    pipeline: &mut Pipeline,
    prompt: &str,
    settings: &ExplainSettings,
    progress: &dyn Progress,
) -> Result<Explained, Error> {
    let prompt = pipeline.prompt_against(prompt, settings.trajectory.negative.as_deref())?;
    let mut clock = Clock::default();
    let cache = settings.cache.as_deref();
    let trajectory =
        clock.time("trajectory", || Trajectory::compute(pipeline, &prompt, &settings.trajectory, cache, progress))?;
    let mut answers = Vec::with_capacity(settings.explainers.len());
    for explainer in &settings.explainers {
        let own = json!({ explainer.id(): explainer.settings() });
        let store = store(pipeline, &prompt.text, settings, &own);
        let earlier: Vec<&Findings> = answers.iter().filter_map(|answer: &Answer| answer.outcome.findings()).collect();
        let mut subject = Subject { pipeline, trajectory: &trajectory, store: &store, progress, earlier: &earlier };
        let outcome = clock.time(explainer.id(), || run(explainer.as_ref(), &mut subject))?;
        let (id, title) = (explainer.id().to_owned(), explainer.title().to_owned());
        answers.push(Answer { id, title, maps: explainer.maps().to_owned(), outcome });
    }
    if let Some(error) = all_failed(&settings.explainers, &mut answers) {
        return Err(error.into());
    }
    let faithfulness = match settings.faithfulness {
        Some(wanted) => {
            let store = store(pipeline, &prompt.text, settings, &settings.canonical());
            clock.time("faithfulness", || games(pipeline, &trajectory, &answers, wanted, &store, progress))?
        }
        None => Vec::new(),
    };
    let notes: Vec<String> = answers.iter().filter_map(note).collect();
    let explanation = Explanation {
        model: pipeline.name(),
        prompt: prompt.text,
        trajectory: settings.trajectory.clone(),
        is_guided: prompt.unconditional.is_some(),
        explainers: answers.iter().map(summary).collect(),
        details: details(&settings.explainers, &answers),
        steps: (0..trajectory.steps.len()).map(|at| figures(pipeline, &trajectory, &answers, at)).collect(),
        standings: over_steps(&faithfulness, &answers),
        faithfulness,
        notes,
        warnings: trajectory.warnings.clone(),
    };
    Ok(Explained { settings: settings.clone(), trajectory, answers, explanation, timings: clock.timings })
}

/// Where results that `deciding` decides, for this prompt and trajectory, are kept.
fn store(pipeline: &Pipeline, prompt: &str, settings: &ExplainSettings, deciding: &Value) -> Store {
    let Some(cache) = &settings.cache else { return Store::nowhere() };
    let key = json!({
        "prompt": prompt, "model": pipeline.hash, "trajectory": settings.trajectory, "by": deciding, "version": VERSION,
    });
    Store::at(cache.join(&hash(&key)[..24]), pipeline.options.budget.file_memory)
}

/// Why there is nothing at all, where there is nothing because explainers failed.
fn all_failed(explainers: &[Arc<dyn Explainer>], answers: &mut Vec<Answer>) -> Option<DiffusionError> {
    let asking = |(explainer, answer): (&Arc<dyn Explainer>, &Answer)| {
        !explainer.needs().is_empty() && answer.outcome.findings().is_some()
    };
    if explainers.iter().zip(answers.iter()).any(asking) {
        return None;
    }
    let failed = answers.iter().position(|answer| matches!(answer.outcome, Outcome::Failed(_)))?;
    match answers.swap_remove(failed).outcome {
        Outcome::Failed(error) => Some(error),
        _ => None,
    }
}

/// Why there are no maps of an explainer, if so.
fn note(answer: &Answer) -> Option<String> {
    match &answer.outcome {
        Outcome::Found(_) => None,
        Outcome::Absent(cannot) => Some(format!("No {}: {cannot}.", answer.maps)),
        Outcome::Failed(error) => Some(format!("No {}, which the other maps do not depend on: {error}", answer.maps)),
    }
}

fn summary(answer: &Answer) -> ExplainerSummary {
    let found = answer.outcome.findings();
    let first = found.and_then(|found| found.steps.first()).map(|step| step.figures.as_slice()).unwrap_or_default();
    ExplainerSummary {
        id: answer.id.clone(),
        title: answer.title.clone(),
        outcome: match &answer.outcome {
            Outcome::Found(_) => Became::Found,
            Outcome::Absent(cannot) => Became::Absent { reason: cannot.to_string() },
            Outcome::Failed(error) => Became::Failed { reason: error.to_string() },
        },
        figures: first.iter().map(|figure| (figure.id.to_owned(), figure.title.to_owned())).collect(),
        conclusions: found.map(|found| found.conclusions.clone()).unwrap_or_default(),
        results: found.and_then(|found| found.results.clone()),
        facts: found.map(|found| found.facts.clone()).unwrap_or_default(),
    }
}

/// Settings and options of what was found.
fn details(explainers: &[Arc<dyn Explainer>], answers: &[Answer]) -> BTreeMap<String, Value> {
    let mut details = BTreeMap::new();
    for (explainer, answer) in explainers.iter().zip(answers) {
        let Some(found) = answer.outcome.findings() else { continue };
        let settings = explainer.settings();
        if settings.as_object().is_none_or(|object| !object.is_empty()) {
            details.insert(answer.id.clone(), settings);
        }
        details.extend(found.axes.iter().filter_map(|axis| axis.listed.clone()));
    }
    details
}

fn figures(pipeline: &Pipeline, trajectory: &Trajectory, answers: &[Answer], at: usize) -> StepFigures {
    let of = |answer: &Answer| -> Vec<(String, _)> {
        let step: Option<&StepFindings> = answer.outcome.findings().and_then(|found| found.steps.get(at));
        step.map(|step| step.figures.iter().map(|f| (f.id.to_owned(), f.amount)).collect()).unwrap_or_default()
    };
    let t = trajectory.steps[at].t;
    StepFigures { t, stage: Stage::at(&pipeline.schedule, t), figures: answers.iter().flat_map(of).collect() }
}
