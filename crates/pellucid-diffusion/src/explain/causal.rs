//! When and where each word acts (`docs/methods.md#b7`, causal windows): a word is swapped for another while the steps lie in
//! a window, and only there; what changes in the picture is what the word does there.
//!
//! Attention says where a word is looked up. Whether that is where it acts is asked here, of the picture itself: the maps of
//! the other explainers are compared with the map of what the swap changes.

use super::places::{clipped, root_mean};
use super::{
    Agreement, Axis, Compared, Effect, Effects, Explainer, Findings, StepFindings, Subject, Track, by_words,
    capitalised, signed, steps_in_words,
};
use crate::error::DiffusionError;
use crate::names::file_name;
use crate::network::{Cannot, Capability, stacked};
use crate::pipeline::{Pipeline, Prompt};
use crate::tokens::Word;
use crate::trajectory::{Trajectory, check_finite, noise};
use ndarray::{Array2, Array3, Array4, Axis as Dimension};
use pellucid_runtime::progress::Progress;
use pellucid_saliency::stats::{Interval, spearman};
use pellucid_saliency::{Grid, SaliencyMap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The family whose words say nothing of their own: what swapping them does is the floor.
pub const FILLER: &str = "filler";

/// Fillers where no family says which they are: English articles, conjunctions and prepositions that name no place.
const FILLERS: [&str; 14] = ["a", "an", "the", "of", "and", "or", "with", "to", "for", "by", "as", "is", "its", "this"];

/// A reading of a word agrees with what the word does where their rank correlation is at least this high.
const AGREES: f64 = 0.2;
/// Effects closer than this to the floor are rounding.
const ROUNDING: f64 = 1e-6;

/// Most latents in one pass.
const ROWS: usize = 16;

/// How words are swapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CausalSettings {
    /// Windows of equal width in log signal-to-noise ratio.
    pub windows: usize,
    /// Most other words of its family that a word is swapped for.
    pub swaps: usize,
    /// Noises: the trajectory's own seed and those that follow it.
    pub seeds: usize,
    /// Words by family, in the place of those that the pipeline brings; a word of no family is left out instead of swapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub families: Option<BTreeMap<String, Vec<String>>>,
}

impl Default for CausalSettings {
    fn default() -> Self {
        Self { windows: 5, swaps: 3, seeds: 2, families: None }
    }
}

/// What swapping one word does, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Swapped {
    /// What took the word's place; empty where it was left out.
    by: Vec<String>,
    /// By seed and swap, effect in each window; then over all steps.
    effects: Vec<Vec<Vec<f64>>>,
    whole: Vec<Vec<f64>>,
    /// For the trajectory's own seed: the change by swap over all steps, and by window, the mean over swaps; latent's size.
    maps: Vec<Array2<f32>>,
    window_maps: Vec<Array2<f32>>,
}

/// Steps [from, until) in which one word is swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: usize,
    until: usize,
}

/// Windows of equal width in log signal-to-noise ratio that hold at least one step.
fn windows(pipeline: &Pipeline, trajectory: &Trajectory, count: usize) -> Vec<Window> {
    let snr = |t: usize| {
        let alpha = pipeline.schedule.alpha(Some(t)).clamp(1e-12, 1.0 - 1e-12);
        (alpha / (1.0 - alpha)).ln()
    };
    let ratios: Vec<f64> = trajectory.steps.iter().map(|step| snr(step.t)).collect();
    let (Some(first), Some(last)) = (ratios.first(), ratios.last()) else { return Vec::new() };
    let width = (last - first).abs().max(f64::MIN_POSITIVE);
    let of = |ratio: &f64| (((ratio - first).abs() / width * count as f64) as usize).min(count.saturating_sub(1));
    let mut windows: Vec<Window> = Vec::new();
    let mut place = None;
    for (at, ratio) in ratios.iter().enumerate() {
        if place == Some(of(ratio)) {
            windows.iter_mut().last().into_iter().for_each(|window| window.until = at + 1);
        } else {
            windows.push(Window { from: at, until: at + 1 });
        }
        place = Some(of(ratio));
    }
    windows
}

/// One disturbed way to a picture: from step `window.from` on, the undisturbed latent before it.
struct Way {
    latent: Array4<f32>,
    window: Window,
    swap: usize,
}

/// Goes every way to its end: gives the final latents. Ways that are told the same at a step share its passes.
fn followed(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    swaps: &[Prompt],
    mut ways: Vec<Way>,
    progress: &dyn Progress,
) -> Result<Vec<Array4<f32>>, DiffusionError> {
    let guidance = trajectory.guidance();
    for (at, step) in trajectory.steps.iter().enumerate() {
        let mut groups: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (which, way) in ways.iter().enumerate().filter(|(_, way)| way.window.from <= at) {
            let told = (at < way.window.until).then_some(way.swap);
            groups.entry(told).or_default().push(which);
        }
        for (told, group) in groups {
            let prompt = told.map_or(&trajectory.prompt, |swap| &swaps[swap]);
            for some in group.chunks(ROWS) {
                if progress.interrupted() {
                    return Err(DiffusionError::Interrupted);
                }
                let rows: Vec<Array4<f32>> = some.iter().map(|&which| ways[which].latent.clone()).collect();
                let rows = stacked(Dimension(0), &rows).map_err(|e| DiffusionError::Shape {
                    model: pipeline.network.name().into(),
                    reason: format!("its latents cannot be put together: {e}"),
                })?;
                let epsilon = pipeline.epsilon(&rows, step.t, prompt, guidance)?;
                let clean = pipeline.schedule.clean(&rows.view(), &epsilon.view(), step.t);
                check_finite(pipeline, prompt, &clean, (at, step.t))?;
                let next = pipeline.schedule.step(&clean.view(), &epsilon.view(), step.next);
                for (row, &which) in some.iter().enumerate() {
                    ways[which].latent.assign(&next.slice_axis(Dimension(0), (row..row + 1).into()));
                }
                progress.advance(some.len() as u64);
            }
        }
    }
    Ok(ways.into_iter().map(|way| way.latent).collect())
}

/// What is swapped for what.
struct Plan {
    /// The word's place among the words, and its family.
    word: usize,
    family: Option<String>,
    is_filler: bool,
    /// Empty where the word is left out.
    by: Vec<String>,
    prompts: Vec<Prompt>,
}

/// The prompt with `word` replaced by `by`; left out where that is empty.
fn replaced(text: &str, word: &Word, by: &str) -> String {
    let (before, after) = (text.get(..word.span.0).unwrap_or_default(), text.get(word.span.1..).unwrap_or_default());
    match by {
        "" => format!("{} {}", before.trim_end(), after.trim_start()).trim().to_owned(),
        _ => format!("{before}{by}{after}"),
    }
}

fn plan(
    pipeline: &mut Pipeline,
    prompt: &Prompt,
    word: usize,
    settings: &CausalSettings,
) -> Result<Plan, DiffusionError> {
    let words = prompt.tokens.as_ref().map(|tokens| tokens.words.as_slice()).unwrap_or_default();
    let families = settings.families.clone().unwrap_or_else(|| pipeline.families.clone());
    let typed = prompt.text.get(words[word].span.0..words[word].span.1).unwrap_or_default().to_lowercase();
    let family = families.iter().find(|(_, members)| members.iter().any(|member| member.to_lowercase() == typed));
    // Words that the prompt has already would make it say something twice.
    let is_there = |other: &str| {
        words
            .iter()
            .any(|w| prompt.text.get(w.span.0..w.span.1).unwrap_or_default().to_lowercase() == other.to_lowercase())
    };
    let members = family.map(|(_, members)| members.as_slice()).unwrap_or_default();
    let is_filler = match families.contains_key(FILLER) {
        true => family.is_some_and(|(name, _)| name == FILLER),
        false => FILLERS.contains(&typed.as_str()),
    };
    let keep = |other: &&String| other.to_lowercase() != typed && (is_filler || !is_there(other));
    let mut by: Vec<String> = members.iter().filter(keep).take(settings.swaps.max(1)).cloned().collect();
    if by.is_empty() {
        by.push(String::new());
    }
    // The other half of guidance stays as it is.
    let told = |by: &String| {
        let swapped = pipeline.prompt(&replaced(&prompt.text, &words[word], by))?;
        Ok(Prompt { unconditional: prompt.unconditional.clone(), ..swapped })
    };
    let prompts: Result<Vec<Prompt>, DiffusionError> = by.iter().map(told).collect();
    Ok(Plan { word, family: family.map(|(name, _)| name.clone()), is_filler, by, prompts: prompts? })
}

/// The undisturbed way of one seed.
struct Undisturbed {
    /// What each step is given.
    latents: Vec<Array4<f32>>,
    /// The picture, clipped.
    picture: Array3<f32>,
}

fn undisturbed(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Undisturbed, DiffusionError> {
    if seed == trajectory.settings.seed {
        let latents = trajectory.steps.iter().map(|step| step.latent.clone()).collect();
        return Ok(Undisturbed { latents, picture: clipped(trajectory.picture.view()) });
    }
    let mut latent = noise(pipeline.latent, seed);
    let mut latents = Vec::with_capacity(trajectory.steps.len());
    for (at, step) in trajectory.steps.iter().enumerate() {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let epsilon = pipeline.epsilon(&latent, step.t, &trajectory.prompt, trajectory.guidance())?;
        let clean = pipeline.schedule.clean(&latent.view(), &epsilon.view(), step.t);
        check_finite(pipeline, &trajectory.prompt, &clean, (at, step.t))?;
        let next = pipeline.schedule.step(&clean.view(), &epsilon.view(), step.next);
        latents.push(std::mem::replace(&mut latent, next));
    }
    let picture = pipeline.decode(&latent)?;
    Ok(Undisturbed { latents, picture: clipped(picture.index_axis(Dimension(0), 0)) })
}

/// Root mean square of a change, in parts of the range from black to white.
fn distance(change: &Array3<f32>) -> f64 {
    let sum: f64 = change.iter().map(|v| f64::from(*v).powi(2)).sum();
    (sum / change.len().max(1) as f64).sqrt() / 2.0
}

/// Where a change lies, at the latent's size, in parts of the range from black to white.
fn places(change: &Array3<f32>, size: (usize, usize)) -> Array2<f32> {
    let power = change.mapv(|v| v * v / 4.0).mean_axis(Dimension(0)).unwrap_or_else(|| Array2::zeros(size));
    root_mean(&power, size)
}

fn mean_map(maps: &[Array2<f32>], size: (usize, usize)) -> Array2<f32> {
    let sum = maps.iter().fold(Array2::zeros(size), |sum: Array2<f32>, map| sum + map);
    sum / maps.len().max(1) as f32
}

/// What the swaps of `plan` do, over all seeds.
fn swapped(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    plan: &Plan,
    windows: &[Window],
    seeds: &[Undisturbed],
    progress: &dyn Progress,
) -> Result<Swapped, DiffusionError> {
    let size = (pipeline.latent[1], pipeline.latent[2]);
    let all = Window { from: 0, until: trajectory.steps.len() };
    let each: Vec<Window> = windows.iter().copied().chain([all]).collect();
    let mut found = Swapped {
        by: plan.by.clone(),
        effects: Vec::new(),
        whole: Vec::new(),
        maps: Vec::new(),
        window_maps: Vec::new(),
    };
    for (which, seed) in seeds.iter().enumerate() {
        let way = |swap: usize, window: Window| Way { latent: seed.latents[window.from].clone(), window, swap };
        let ways = (0..plan.by.len()).flat_map(|swap| each.iter().map(move |window| (swap, *window)));
        let ways = ways.map(|(swap, window)| way(swap, window)).collect();
        let ends = followed(pipeline, trajectory, &plan.prompts, ways, progress)?;
        let mut changes = Vec::with_capacity(ends.len());
        for end in &ends {
            changes.push(clipped(pipeline.decode(end)?.index_axis(Dimension(0), 0)) - &seed.picture);
        }
        let by_swap: Vec<&[Array3<f32>]> = changes.chunks(each.len()).collect();
        let distances = |changes: &[Array3<f32>]| changes.iter().map(distance).collect::<Vec<f64>>();
        found.effects.push(by_swap.iter().map(|changes| distances(&changes[..windows.len()])).collect());
        found.whole.push(by_swap.iter().map(|changes| distance(&changes[windows.len()])).collect());
        if which == 0 {
            found.maps = by_swap.iter().map(|changes| places(&changes[windows.len()], size)).collect();
            let of_window = |window: usize| {
                let maps: Vec<Array2<f32>> = by_swap.iter().map(|changes| places(&changes[window], size)).collect();
                mean_map(&maps, size)
            };
            found.window_maps = (0..windows.len()).map(of_window).collect();
        }
    }
    Ok(found)
}

/// When and where each word acts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CausalExplainer(pub CausalSettings);

const NAME: &str = "Where the word acts";

impl Explainer for CausalExplainer {
    fn id(&self) -> &'static str {
        "causal"
    }

    fn title(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "when and where each word acts, by swapping it in a window of steps; holds the word maps against it"
    }

    fn maps(&self) -> &'static str {
        "maps of what a word changes"
    }

    fn needs(&self) -> &'static [Capability] {
        &[Capability::Passes]
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    fn applies(&self, prompt: &Prompt) -> Result<(), Cannot> {
        let has_words = prompt.tokens.as_ref().is_some_and(|tokens| !tokens.words.is_empty());
        if has_words { Ok(()) } else { Err(Cannot::new(Capability::Passes, "the prompt has no words")) }
    }

    /// A word that is in the store is read from there.
    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        let Self(settings) = self;
        let Subject { pipeline, trajectory, store, progress, earlier } = subject;
        for (name, found) in [("windows", settings.windows), ("swaps", settings.swaps), ("seeds", settings.seeds)] {
            if found == 0 {
                let expected = "at least 1".to_owned();
                return Err(DiffusionError::Setting { name, found: found.to_string(), expected });
            }
        }
        let count = trajectory.prompt.tokens.as_ref().map_or(0, |tokens| tokens.words.len());
        let plans: Result<Vec<Plan>, DiffusionError> =
            (0..count).map(|word| plan(pipeline, &trajectory.prompt, word, settings)).collect();
        let plans = plans?;
        let windows = windows(pipeline, trajectory, settings.windows);
        let steps = trajectory.steps.len();
        // A trajectory that began with a picture has no other noise to begin with.
        let seeds = if trajectory.settings.start.is_some() { 1 } else { settings.seeds };
        let way: usize = windows.iter().map(|window| steps - window.from).sum::<usize>() + steps;
        let passes = |plan: &Plan| (seeds * plan.by.len() * way) as u64;
        let total: u64 = plans.iter().map(passes).sum::<u64>() + ((seeds - 1) * steps) as u64;
        progress.start("word swaps, passes", total);
        let mut undisturbed_ways = Vec::with_capacity(seeds);
        for seed in 0..seeds as u64 {
            let seed = trajectory.settings.seed.wrapping_add(seed);
            undisturbed_ways.push(undisturbed(pipeline, trajectory, seed, *progress)?);
        }
        progress.advance(((seeds - 1) * steps) as u64);
        let mut found = Vec::with_capacity(plans.len());
        for plan in &plans {
            let done = std::cell::Cell::new(0);
            let size = (pipeline.latent[1], pipeline.latent[2]);
            let fits = |kept: &Swapped| {
                kept.by == plan.by
                    && kept.whole.len() == seeds
                    && kept.window_maps.len() == windows.len()
                    && kept.maps.iter().chain(&kept.window_maps).all(|map| map.dim() == size)
            };
            let compute = || {
                done.set(passes(plan));
                swapped(pipeline, trajectory, plan, &windows, &undisturbed_ways, *progress)
            };
            found.push(store.load_or_compute(&format!("swaps-{:04}", plan.word), *progress, fits, compute)?);
            // A word that was kept counts as done.
            progress.advance(passes(plan) - done.get());
        }
        progress.finish();
        let words = trajectory.prompt.tokens.as_ref().map(|tokens| tokens.words.as_slice()).unwrap_or_default();
        let done = Done { words, plans: &plans, windows: &windows, found: &found, steps, passes: total };
        Ok(done.findings(earlier, (pipeline.latent[1], pipeline.latent[2])))
    }
}

/// All that was found, to be put into words.
struct Done<'a> {
    words: &'a [Word],
    plans: &'a [Plan],
    windows: &'a [Window],
    found: &'a [Swapped],
    steps: usize,
    passes: u64,
}

impl Done<'_> {
    /// The effect of a word over all steps, by seed and swap.
    fn whole(&self, word: usize) -> Interval {
        Interval::of(&self.found[word].whole.concat())
    }

    fn in_window(&self, word: usize, window: usize) -> Interval {
        let all = self.found[word].effects.iter().flatten().map(|effects| effects[window]);
        Interval::of(&all.collect::<Vec<_>>())
    }

    /// The greatest mean of a filler.
    fn floor(&self, of: impl Fn(usize) -> Interval) -> Option<f64> {
        let fillers = self.plans.iter().filter(|plan| plan.is_filler).map(|plan| of(plan.word).value);
        fillers.reduce(f64::max)
    }

    fn effects(&self, earlier: &[&Findings], size: (usize, usize)) -> Effects {
        let floor = self.floor(|word| self.whole(word));
        let things = self.plans.iter().map(|plan| {
            let of_windows: Vec<Interval> = (0..self.windows.len()).map(|w| self.in_window(plan.word, w)).collect();
            let whole = self.whole(plan.word);
            let acts = !plan.is_filler && whole.value > floor.unwrap_or(0.0) + ROUNDING;
            let strongest = of_windows.iter().enumerate().max_by(|a, b| a.1.value.total_cmp(&b.1.value));
            let agreements = self.agreements(plan.word, earlier, size);
            Effect {
                name: self.words[plan.word].text.clone(),
                family: plan.family.clone(),
                by: plan.by.clone(),
                is_floor: plan.is_filler,
                acts,
                strongest: strongest.filter(|_| acts).map(|(window, _)| window),
                whole,
                windows: of_windows,
                swaps_agree: self.swaps_agree(plan.word),
                disagrees: agreements
                    .iter()
                    .filter(|a| acts && a.is_own && a.rho < AGREES)
                    .map(|a| a.reading.clone())
                    .collect(),
                agreements,
            }
        });
        let floors = (0..self.windows.len()).map(|window| self.floor(|word| self.in_window(word, window)));
        Effects {
            title: "When and where each word acts".to_owned(),
            meaning: format!(
                "Each word is swapped for another of its family (left out, where it has none) while the steps lie in a \
                 window, and the rest goes on as before: how far that moves the finished picture, root mean square in \
                 percent of the range from black to white, over {} noises and the swaps. The dashed line is the greatest \
                 effect of a filler word. Windows are equally wide in log signal-to-noise ratio. Below: the rank \
                 correlation of other maps, averaged over steps, with where the swap changes the picture; under {AGREES} a \
                 word's own map does not show where the word acts.",
                self.found.first().map_or(0, |found| found.whole.len())
            ),
            windows: self.windows.iter().map(|window| [window.from, window.until]).collect(),
            floor: floors.collect::<Option<Vec<f64>>>(),
            whole_floor: floor,
            things: things.collect(),
        }
    }

    /// Mean rank correlation of the maps of two swaps of a word: no map can be expected to agree better.
    fn swaps_agree(&self, word: usize) -> Option<f64> {
        let maps = &self.found[word].maps;
        let pairs = (0..maps.len()).flat_map(|i| (i + 1..maps.len()).map(move |j| (i, j)));
        let all: Vec<f64> = pairs.map(|(i, j)| correlation(&maps[i], &maps[j])).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }

    fn change(&self, word: usize, size: (usize, usize)) -> Array2<f32> {
        mean_map(&self.found[word].maps, size)
    }

    /// How far the other explainers' maps lie where the word acts.
    fn agreements(&self, word: usize, earlier: &[&Findings], size: (usize, usize)) -> Vec<Agreement> {
        let change = self.change(word, size);
        let mut agreements = Vec::new();
        for found in earlier {
            let numbered = found.tracks.iter().enumerate();
            let tracks: Vec<(usize, &Compared)> =
                numbered.filter_map(|(at, track)| Some((at, track.compared.as_ref()?))).collect();
            for (track, how) in tracks.iter().filter(|(_, how)| how.word.is_none_or(|own| own == word)) {
                let Some(map) = over_steps(found, *track, size) else { continue };
                let is_content = |word: usize| self.plans.get(word).is_some_and(|plan| !plan.is_filler);
                let is_another = |other: &Compared| {
                    other.name == how.name && other.word.is_some_and(|other| other != word && is_content(other))
                };
                let others = tracks.iter().filter(|(_, other)| is_another(other));
                let others = others.filter_map(|(at, _)| Some(correlation(&over_steps(found, *at, size)?, &change)));
                let others: Vec<f64> = others.collect();
                agreements.push(Agreement {
                    reading: how.name.clone(),
                    is_own: how.word.is_some(),
                    rho: correlation(&map, &change),
                    by_swap: self.found[word].maps.iter().map(|change| correlation(&map, change)).collect(),
                    other_words: (!others.is_empty()).then(|| others.iter().sum::<f64>() / others.len() as f64),
                });
            }
        }
        agreements
    }

    fn findings(&self, earlier: &[&Findings], size: (usize, usize)) -> Findings {
        let effects = self.effects(earlier, size);
        let names: Vec<String> = self.words.iter().map(|word| word.text.clone()).collect();
        let id = |k: usize| format!("change_{}_{}", k + 1, file_name(&names[k]));
        let most = |word: usize| self.found[word].window_maps.iter().flatten().fold(0.0f32, |most, v| most.max(*v));
        let track = |word: usize| Track {
            range: Some((0.0, most(word))),
            ..Track::shown(format!("“{}”: {}", names[word], by_words(&self.plans[word].by)))
        };
        let window_of = |at: usize| self.windows.iter().position(|window| (window.from..window.until).contains(&at));
        let of_step = |at: usize| {
            let window = window_of(at).unwrap_or(0);
            let map = |word: usize| {
                let values = self.found[word].window_maps.get(window)?.clone();
                Some(SaliencyMap::new(format!("acts-{}", word + 1), NAME, values, Grid::Latent))
            };
            let Window { from, until } = self.windows[window];
            StepFindings {
                maps: (0..names.len()).map(map).collect(),
                reading: format!("swapped {} alone", steps_in_words(from, until)),
                ..StepFindings::default()
            }
        };
        let whole = |word: usize| {
            SaliencyMap::new(id(word), format!("What “{}” changes", names[word]), self.change(word, size), Grid::Latent)
        };
        let table = Array2::from_shape_fn((names.len(), self.windows.len()), |(word, window)| {
            self.in_window(word, window).value as f32
        });
        Findings {
            meaning: "What changes when the word is swapped around this step and nowhere else".to_owned(),
            caution:
                "What a swap changes depends on what the word is swapped for; the swaps are named with each word. \
                      Leaving a word out moves all words behind it by one place."
                    .to_owned(),
            axes: vec![Axis {
                id: "word".to_owned(),
                label: "Word".to_owned(),
                options: names.clone(),
                start: effects.things.iter().position(|thing| thing.acts).unwrap_or(0),
                ..Axis::default()
            }],
            tracks: (0..names.len()).map(track).collect(),
            steps: (0..self.steps).map(of_step).collect(),
            whole: (0..names.len()).map(whole).collect(),
            conclusions: conclusions(&effects),
            results: serde_json::to_value(&effects).ok(),
            arrays: vec![("word_effects".to_owned(), table.into_dyn())],
            facts: vec![(
                "Word swaps".to_owned(),
                format!(
                    "{} passes, as many as {:.0} trajectories, and {} decoded pictures",
                    self.passes,
                    self.passes as f64 / self.steps.max(1) as f64,
                    self.found.iter().map(|found| found.whole.concat().len()).sum::<usize>() * (self.windows.len() + 1)
                ),
            )],
            effects: Some(effects),
            ..Findings::default()
        }
    }
}

/// The mean over steps of a track's maps, where all of them are there and of the latent's size.
fn over_steps(found: &Findings, track: usize, size: (usize, usize)) -> Option<Array2<f32>> {
    let maps: Vec<Array2<f32>> =
        found.maps(track).flatten().filter(|map| map.values.dim() == size).map(|map| map.values.clone()).collect();
    (!maps.is_empty()).then(|| mean_map(&maps, size))
}

fn correlation(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let flat = |map: &Array2<f32>| map.iter().copied().collect::<Vec<f32>>();
    spearman(&flat(a), &flat(b))
}

fn conclusions(effects: &Effects) -> Vec<String> {
    let mut said = Vec::new();
    for thing in effects.things.iter().filter(|thing| thing.acts) {
        for agreement in thing.agreements.iter().filter(|a| a.is_own && a.rho < AGREES) {
            let (least, most) = agreement.by_swap.iter().fold((1.0f64, -1.0f64), |(l, m), r| (l.min(*r), m.max(*r)));
            let range = match agreement.by_swap.len() {
                0 | 1 => String::new(),
                _ => format!(", {} to {} over its swaps", signed(least), signed(most)),
            };
            said.push(format!(
                "{} does not show where “{}” acts: rank correlation {} with what swapping the word changes{range}.",
                capitalised(&agreement.reading),
                thing.name,
                signed(agreement.rho)
            ));
        }
    }
    let when: Vec<String> = effects
        .things
        .iter()
        .filter_map(|thing| {
            let [from, until] = effects.windows[thing.strongest?];
            Some(format!("“{}” {}", thing.name, steps_in_words(from, until)))
        })
        .collect();
    if !when.is_empty() {
        said.push(format!("Words act most: {}.", when.join(", ")));
    }
    let idle: Vec<String> =
        effects.things.iter().filter(|t| !t.acts && !t.is_floor).map(|t| format!("“{}”", t.name)).collect();
    if !idle.is_empty() {
        said.push(format!("No more than a filler word changes: {}.", idle.join(", ")));
    }
    if effects.whole_floor.is_none() {
        said.push("The prompt has no filler word, so there is no floor to hold the effects against.".to_owned());
    }
    if effects.things.iter().all(|thing| thing.agreements.is_empty()) {
        said.push("No other maps were made that could be compared with what the words change.".to_owned());
    }
    said
}

#[cfg(test)]
mod tests;
