//! Causal windows on a network whose answer is known by construction: each word is a bump at a place of its own, and words
//! count only at some timesteps.

use super::*;
use crate::explain::Store;
use crate::explain::cross_attention::AttentionExplainer;
use crate::network::{Attention, Capabilities, ClosedForm, Conditions, Engine, LayerInfo, Network};
use crate::pipeline::Prompts;
use crate::{NoiseSchedule, SchedulerConfig, Timesteps, Tokens, TrajectorySettings};
use pellucid_runtime::progress::Silent;
use serde_json::json;
use std::ops::Range;

const LATENT: [usize; 3] = [2, 6, 8];

/// Where each word's bump is; other words have none.
const PLACES: [(&str, (f32, f32)); 4] =
    [("sun", (1.0, 1.0)), ("moon", (1.0, 6.0)), ("star", (4.0, 3.0)), ("sea", (4.0, 6.0))];

#[derive(Debug)]
struct Sky;

impl Prompts for Sky {
    fn prompt(&mut self, text: &str) -> Result<Prompt, DiffusionError> {
        let mut words = Vec::new();
        for (k, word) in text.split_whitespace().enumerate() {
            let from = word.as_ptr() as usize - text.as_ptr() as usize;
            words.push(Word { text: word.to_owned(), tokens: vec![k], span: (from, from + word.len()) });
        }
        let pattern = |(k, y, x): (usize, usize, usize)| {
            let place = words.get(k).and_then(|word| PLACES.iter().find(|(name, _)| *name == word.text));
            place.map_or(0.0, |(_, (v, u))| 0.3 * (-((y as f32 - v).powi(2) + (x as f32 - u).powi(2)) / 3.0).exp())
        };
        let patterns = Array3::from_shape_fn((words.len().max(1), LATENT[1], LATENT[2]), pattern);
        Ok(Prompt {
            text: text.to_owned(),
            conditional: ClosedForm::condition(&patterns),
            unconditional: Some(ClosedForm::condition(&Array3::zeros(patterns.dim()))),
            tokens: Some(Tokens { ids: (0..words.len() as i64).collect(), words, cut: None, unknown: Vec::new() }),
            warnings: Vec::new(),
        })
    }
}

/// A closed form that hears its words only at the timesteps `hears`, and whose attention lies where it `lies`: the first word
/// gets the last one's.
#[derive(Debug)]
struct Known {
    inner: ClosedForm,
    hears: Range<usize>,
    lies: bool,
}

#[derive(Debug)]
struct Liar(Box<dyn Attention>);

impl Attention for Liar {
    fn layers(&self) -> &[LayerInfo] {
        self.0.layers()
    }

    fn at(&mut self, x: &Array4<f32>, t: usize, told: &Conditions) -> Result<Vec<Array2<f32>>, DiffusionError> {
        let reversed = |weights: Array2<f32>| weights.slice(ndarray::s![.., ..;-1]).to_owned();
        Ok(self.0.at(x, t, told)?.into_iter().map(reversed).collect())
    }
}

impl Network for Known {
    fn name(&self) -> String {
        "known".to_owned()
    }

    fn engine(&self) -> Engine {
        self.inner.engine()
    }

    fn capabilities(&mut self) -> Result<Capabilities, DiffusionError> {
        self.inner.capabilities()
    }

    fn predict(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
    ) -> Result<Vec<Array4<f32>>, DiffusionError> {
        if self.hears.contains(&t) {
            return self.inner.predict(x, t, conditions);
        }
        let deaf = ClosedForm::condition(&Array3::zeros((1, LATENT[1], LATENT[2])));
        self.inner.predict(x, t, &vec![&deaf; conditions.len()])
    }

    fn attention(&mut self) -> Result<Box<dyn Attention>, DiffusionError> {
        let honest = self.inner.attention()?;
        Ok(if self.lies { Box::new(Liar(honest)) } else { honest })
    }
}

fn pipeline(hears: Range<usize>, lies: bool) -> Pipeline {
    let told = json!({ "prediction_type": "sample", "clip_sample": false });
    let scheduler = SchedulerConfig::from_json(&told).unwrap();
    let inner = ClosedForm::new(NoiseSchedule::new(&scheduler), LATENT, 0.04);
    Pipeline::around("known", Box::new(Known { inner, hears, lies }), scheduler, LATENT, Box::new(Sky))
}

fn settings() -> CausalSettings {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let families = [("body", words(&["sun", "moon", "star"])), (FILLER, words(&["of", "the"]))];
    let families = families.map(|(name, words)| (name.to_owned(), words)).into_iter().collect();
    CausalSettings { families: Some(families), ..CausalSettings::default() }
}

fn sampled(pipeline: &mut Pipeline, prompt: &str) -> Trajectory {
    let prompt = pipeline.prompt(prompt).unwrap();
    let way = TrajectorySettings {
        timesteps: Timesteps::Uniform { steps: 10, spacing: None },
        guidance: 2.0,
        ..TrajectorySettings::default()
    };
    Trajectory::compute(pipeline, &prompt, &way, None, &Silent).unwrap()
}

/// What is found, with attention to compare.
fn found(pipeline: &mut Pipeline, prompt: &str) -> (Effects, Findings) {
    let trajectory = sampled(pipeline, prompt);
    let (store, progress) = (&Store::nowhere(), &Silent);
    let mut subject = Subject { pipeline, trajectory: &trajectory, store, progress, earlier: &[] };
    let attention = AttentionExplainer {}.run(&mut subject).unwrap();
    let mut subject = Subject { earlier: &[&attention], ..subject };
    let found = CausalExplainer(settings()).run(&mut subject).unwrap();
    (found.effects.clone().unwrap(), found)
}

fn thing<'a>(effects: &'a Effects, name: &str) -> &'a Effect {
    effects.things.iter().find(|thing| thing.name == name).unwrap()
}

#[test]
fn a_word_acts_in_the_window_in_which_the_network_hears_it_and_in_no_other() {
    // Ten steps, 900 to 0: words count at 300 and 400 alone.
    let (effects, said) = found(&mut pipeline(300..500, false), "sun of sea");
    let sun = thing(&effects, "sun");
    assert_eq!(sun.by, ["moon", "star"]);
    for (window, effect) in effects.windows.iter().zip(&sun.windows) {
        let is_heard = (window[0]..window[1]).any(|at| [5, 6].contains(&at));
        assert_eq!(effect.value > ROUNDING, is_heard, "{window:?} {effect:?}");
    }
    let [from, until] = effects.windows[sun.strongest.unwrap()];
    assert!((from..until).any(|at| [5, 6].contains(&at)));
    let when = format!("“sun” {}", steps_in_words(from, until));
    assert!(said.conclusions.iter().any(|s| s.contains(&when)), "{:?}", said.conclusions);
}

#[test]
fn a_word_without_a_part_in_the_picture_does_no_more_than_a_filler() {
    let (effects, said) = found(&mut pipeline(0..1000, false), "sun of ghost");
    assert!(thing(&effects, "of").is_floor && effects.whole_floor.is_some_and(|floor| floor < ROUNDING));
    assert!(thing(&effects, "sun").acts && !thing(&effects, "ghost").acts);
    assert_eq!(thing(&effects, "ghost").strongest, None);
    assert!(
        said.conclusions.iter().any(|s| s == "No more than a filler word changes: “ghost”."),
        "{:?}",
        said.conclusions
    );
}

#[test]
fn what_a_word_changes_lies_where_its_bump_is() {
    let (_, said) = found(&mut pipeline(0..1000, false), "sea of sun");
    // Of no family, so left out: only its own bump goes.
    let change = &said.whole[0].values;
    let most = change.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert_eq!(most, (4, 6), "{change:?}");
}

#[test]
fn attention_that_lies_is_marked_and_attention_that_does_not_is_not() {
    let (honest, said) = found(&mut pipeline(0..1000, false), "sea of sun");
    for word in ["sea", "sun"] {
        let word = thing(&honest, word);
        assert!(word.disagrees.is_empty() && word.agreements[0].rho > 0.3, "{word:?}");
        assert!(word.agreements[0].other_words.unwrap() < word.agreements[0].rho, "{word:?}");
    }
    assert!(!said.conclusions.iter().any(|s| s.contains("does not show")));
    let (lying, said) = found(&mut pipeline(0..1000, true), "sea of sun");
    let sea = thing(&lying, "sea");
    assert_eq!((sea.disagrees.as_slice(), sea.agreements[0].rho < 0.0), (["attention".to_owned()].as_slice(), true));
    let marked = "Attention does not show where “sea” acts: rank correlation −";
    assert!(said.conclusions.iter().any(|s| s.starts_with(marked)), "{:?}", said.conclusions);
}

/// Every way alone, straight from `docs/methods.md#b7`.
#[test]
fn effects_equal_ways_one_by_one() {
    let mut pipeline = pipeline(0..1000, false);
    let (effects, _) = found(&mut pipeline, "sun of sea");
    let trajectory = sampled(&mut pipeline, "sun of sea");
    for (w, window) in effects.windows.iter().chain([&[0, 10]]).enumerate() {
        let mut distances = Vec::new();
        for seed in [0, 1] {
            let mut ends = Vec::new();
            for by in ["sun", "moon", "star"] {
                let swapped = pipeline.prompt(&format!("{by} of sea")).unwrap();
                let mut x = noise(LATENT, seed);
                for (at, step) in trajectory.steps.iter().enumerate() {
                    let told = if (window[0]..window[1]).contains(&at) { &swapped } else { &trajectory.prompt };
                    let epsilon = pipeline.epsilon(&x, step.t, told, 2.0).unwrap();
                    let clean = pipeline.schedule.clean(&x.view(), &epsilon.view(), step.t);
                    x = pipeline.schedule.step(&clean.view(), &epsilon.view(), step.next);
                }
                ends.push(x.mapv(|v| v.clamp(-1.0, 1.0)));
            }
            let distance = |other: usize| {
                let sum: f64 = ends[other].iter().zip(&ends[0]).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                (sum / ends[0].len() as f64).sqrt() / 2.0
            };
            distances.extend([distance(1), distance(2)]);
        }
        let expected = distances.iter().sum::<f64>() / 4.0;
        let sun = thing(&effects, "sun");
        let found = sun.windows.get(w).unwrap_or(&sun.whole).value;
        assert!((found - expected).abs() < 1e-6, "window {window:?}: {found} {expected}");
    }
}

#[test]
fn windows_are_disjoint_and_hold_every_step() {
    let mut pipeline = pipeline(0..1000, false);
    let trajectory = sampled(&mut pipeline, "sun");
    for count in [1, 3, 5, 40] {
        let windows = windows(&pipeline, &trajectory, count);
        let covered: Vec<usize> = windows.iter().flat_map(|window| window.from..window.until).collect();
        assert_eq!(covered, (0..10).collect::<Vec<_>>());
        assert!(windows.len() <= count, "{count}");
    }
}

#[test]
fn a_word_is_replaced_in_its_place_or_left_out() {
    let prompt = Sky.prompt("a sun  left of the sea").unwrap();
    let words = prompt.tokens.unwrap().words;
    assert_eq!(replaced(&prompt.text, &words[1], "moon"), "a moon  left of the sea");
    assert_eq!(replaced(&prompt.text, &words[1], ""), "a left of the sea");
    assert_eq!(replaced(&prompt.text, &words[0], ""), "sun  left of the sea");
    assert_eq!(replaced(&prompt.text, &words[5], ""), "a sun  left of the");
}
