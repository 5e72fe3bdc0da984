//! The explainers on a network whose every answer is known.

use super::cam::{Cam, Score};
use super::cross_attention::word_maps;
use super::*;
use crate::network::{ClosedForm, Conditions};
use crate::pipeline::Prompts;
use crate::{NoiseSchedule, SchedulerConfig, Timesteps, Tokens, TrajectorySettings, Word};
use ndarray::{Array2, Array3, Axis};
use pellucid_runtime::progress::Silent;
use serde_json::json;

const LATENT: [usize; 3] = [2, 6, 8];
/// Of the data around their mean.
const VARIANCE: f64 = 0.04;

/// Each word is a bump at a place of its own.
#[derive(Debug)]
struct Bumps;

fn bumps(count: usize) -> Array3<f32> {
    let bump = |(k, y, x): (usize, usize, usize)| {
        let (dy, dx) = (y as f32 - 2.5, x as f32 - 1.0 - 2.0 * k as f32);
        0.05 + (-(dy * dy + dx * dx) / 2.0).exp()
    };
    Array3::from_shape_fn((count, LATENT[1], LATENT[2]), bump)
}

impl Prompts for Bumps {
    fn prompt(&mut self, text: &str) -> Result<Prompt, DiffusionError> {
        let word = |(k, word): (usize, &str)| {
            let from = word.as_ptr() as usize - text.as_ptr() as usize;
            Word { text: word.to_owned(), tokens: vec![k], span: (from, from + word.len()) }
        };
        let words: Vec<Word> = text.split_whitespace().enumerate().map(word).collect();
        let patterns = bumps(words.len().max(1));
        Ok(Prompt {
            text: text.to_owned(),
            conditional: ClosedForm::condition(&patterns),
            unconditional: Some(ClosedForm::condition(&Array3::zeros(patterns.dim()))),
            tokens: Some(Tokens { ids: (0..words.len() as i64).collect(), words, cut: None, unknown: Vec::new() }),
            warnings: Vec::new(),
        })
    }
}

fn scheduler() -> SchedulerConfig {
    let told = json!({ "prediction_type": "sample", "clip_sample": false });
    SchedulerConfig::from_json(&told).unwrap()
}

fn pipeline(lacking: &[Capability]) -> Pipeline {
    let network = ClosedForm::new(NoiseSchedule::new(&scheduler()), LATENT, VARIANCE);
    let network = lacking.iter().fold(network, |network, which| network.without(*which));
    Pipeline::around("closed-form", Box::new(network), scheduler(), LATENT, Box::new(Bumps))
}

fn sampled(prompt: &str) -> Trajectory {
    let mut pipeline = pipeline(&[]);
    let prompt = pipeline.prompt(prompt).unwrap();
    let settings = TrajectorySettings {
        timesteps: Timesteps::Uniform { steps: 4, spacing: None },
        guidance: 2.0,
        ..TrajectorySettings::default()
    };
    Trajectory::compute(&mut pipeline, &prompt, &settings, None, &Silent).unwrap()
}

/// What becomes of every explainer, by its name, on a network that lacks something.
fn outcomes(lacking: &[Capability], prompt: &str) -> Vec<(&'static str, Outcome)> {
    let (mut pipeline, trajectory) = (pipeline(lacking), sampled(prompt));
    let settings = BTreeMap::from([("rise".to_owned(), json!({ "count": 8 }))]);
    let explainers = choose(&all(), None, &settings).unwrap();
    explainers
        .iter()
        .map(|explainer| {
            let (store, progress) = (&Store::nowhere(), &Silent);
            let mut subject =
                Subject { pipeline: &mut pipeline, trajectory: &trajectory, store, progress, earlier: &[] };
            (explainer.id(), run(explainer.as_ref(), &mut subject).unwrap())
        })
        .collect()
}

fn absent(outcomes: &[(&'static str, Outcome)]) -> Vec<&'static str> {
    outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Absent(_))).map(|(id, _)| *id).collect()
}

#[test]
fn every_explainer_works_through_the_networks_doors_alone_and_has_a_map_a_track() {
    for (id, outcome) in outcomes(&[], "red frog") {
        let found = outcome.findings().unwrap_or_else(|| panic!("{id}: {outcome:?}"));
        assert_eq!(found.steps.len(), 4, "{id}");
        assert!(found.steps.iter().all(|step| step.maps.len() == found.tracks.len()), "{id}");
        let combinations: usize = found.axes.iter().map(|axis| axis.options.len()).product();
        let shown = found.tracks.iter().take_while(|track| track.is_shown).count();
        assert_eq!(shown, combinations, "{id}: one shown map for each combination of the choices");
        assert!(found.tracks[shown..].iter().all(|track| !track.is_shown), "{id}");
    }
}

#[test]
fn what_the_network_cannot_do_is_named_and_the_others_go_on() {
    for (lacking, expected) in [
        (vec![Capability::Attention], vec!["attention"]),
        (vec![Capability::Gradient], vec!["cam"]),
        (vec![Capability::Passes], vec!["rise", "causal"]),
        (vec![Capability::Passes, Capability::Taps, Capability::Attention], vec!["rise", "cam", "attention", "causal"]),
    ] {
        let outcomes = outcomes(&lacking, "red frog");
        assert_eq!(absent(&outcomes), expected);
        for (_, outcome) in outcomes {
            match outcome {
                Outcome::Absent(cannot) => assert!(lacking.contains(&cannot.capability), "{cannot:?}"),
                Outcome::Found(_) => {}
                Outcome::Failed(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(absent(&outcomes(&[], "")), ["attention", "causal"], "a prompt without words has none to explain");
}

#[test]
fn attention_is_the_share_of_the_words_pattern() {
    let (mut pipeline, trajectory) = (pipeline(&[]), sampled("red frog"));
    let maps = word_maps(&mut pipeline, &trajectory, &Silent).unwrap();
    let patterns = bumps(2);
    let sum = patterns.sum_axis(Axis(0));
    for (k, word) in ["red", "frog"].iter().enumerate() {
        assert_eq!(maps.words[k], *word);
        let expected = &patterns.index_axis(Axis(0), k) / &sum;
        assert!((&maps.maps[2][0][k] - &expected).iter().all(|d| d.abs() < 1e-6), "{word}");
    }
}

#[test]
fn a_class_activation_map_is_the_one_written_out() {
    let (mut pipeline, trajectory) = (pipeline(&[]), sampled("red frog"));
    let found = Cam::new(&mut pipeline).unwrap().maps(&trajectory, 1, &Score::Sum).unwrap().overall.unwrap();
    // The gradient of the sum is the same everywhere, so the map is the guided departure, summed over channels.
    let step = &trajectory.steps[1];
    let signal = trajectory_signal(step.t);
    let mean = |conditions: &Conditions| {
        let patterns = conditions[0].1.as_f32().unwrap().view().into_dimensionality::<ndarray::Ix3>().unwrap();
        patterns.sum_axis(Axis(0)) * signal
    };
    let (u, c) = (mean(trajectory.prompt.unconditional.as_ref().unwrap()), mean(&trajectory.prompt.conditional));
    let latent = step.latent.index_axis(Axis(0), 0).sum_axis(Axis(0));
    let departure: Array2<f32> = latent - (&u + (&c - &u) * 2.0) * LATENT[0] as f32;
    let expected = pellucid_saliency::render::min_max(departure.mapv(|v| v.max(0.0)).view()).unwrap();
    assert!((&found - &expected).iter().all(|d| d.abs() < 1e-5));
}

fn trajectory_signal(t: usize) -> f32 {
    NoiseSchedule::new(&scheduler()).alpha(Some(t)).sqrt() as f32
}

#[derive(Debug)]
struct Broken(fn() -> DiffusionError);

impl Explainer for Broken {
    fn id(&self) -> &'static str {
        "broken"
    }
    fn title(&self) -> &'static str {
        "Broken"
    }
    fn summary(&self) -> &'static str {
        "nothing"
    }
    fn maps(&self) -> &'static str {
        "broken maps"
    }
    fn needs(&self) -> &'static [Capability] {
        &[Capability::Passes]
    }
    fn settings(&self) -> Value {
        json!({})
    }
    fn run(&self, _subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        Err((self.0)())
    }
}

#[test]
fn a_failure_is_the_explainers_own_unless_nothing_should_go_on() {
    let trajectory = sampled("frog");
    let outcome = |error| {
        let (mut pipeline, store) = (pipeline(&[]), Store::nowhere());
        let mut subject = Subject {
            pipeline: &mut pipeline,
            trajectory: &trajectory,
            store: &store,
            progress: &Silent,
            earlier: &[],
        };
        run(&Broken(error), &mut subject)
    };
    let failed = outcome(|| DiffusionError::Shape { model: "m.onnx".into(), reason: "is odd".to_owned() });
    assert!(matches!(failed, Ok(Outcome::Failed(_))), "{failed:?}");
    assert!(matches!(outcome(|| DiffusionError::Interrupted), Err(DiffusionError::Interrupted)));
    let full = || DiffusionError::Cache { path: "x".into(), action: "write", reason: "disk full".to_owned() };
    assert!(matches!(outcome(full), Err(DiffusionError::Cache { .. })));
}

#[test]
fn explainers_are_chosen_by_name_and_set_by_their_own_settings() {
    let names = |names: Option<&[&str]>| {
        let names: Option<Vec<String>> = names.map(|n| n.iter().map(|n| (*n).to_owned()).collect());
        let chosen = choose(&all(), names.as_deref(), &BTreeMap::new())?;
        Ok::<Vec<&str>, DiffusionError>(chosen.iter().map(|e| e.id()).collect())
    };
    assert_eq!(names(None).unwrap(), ["rise", "cam", "attention", "causal", "recovery", "bands"]);
    assert_eq!(names(Some(&["cam"])).unwrap(), ["cam", "recovery", "bands"], "what needs nothing is always there");
    let refused = names(Some(&["rise", "lrp"])).unwrap_err().to_string();
    assert!(
        refused.contains("'lrp'") && refused.contains("rise, cam, attention, causal, recovery, bands"),
        "{refused}"
    );

    let set = |settings: Value| choose(&all(), None, &BTreeMap::from([("rise".to_owned(), settings)]));
    let chosen = set(json!({ "count": 12 })).unwrap();
    assert_eq!((&chosen[0].settings()["count"], &chosen[0].settings()["antithetic"]), (&json!(12), &json!(true)));
    let refused = set(json!({ "cuont": 12 })).unwrap_err().to_string();
    assert!(refused.contains("rise") && refused.contains("cuont"), "{refused}");
    // What an explainer says of its settings makes it again.
    for explainer in chosen {
        let again = choose(&all(), None, &BTreeMap::from([(explainer.id().to_owned(), explainer.settings())])).unwrap();
        let again = again.iter().find(|e| e.id() == explainer.id()).unwrap();
        assert_eq!(again.settings(), explainer.settings());
    }
}
