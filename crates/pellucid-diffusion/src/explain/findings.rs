//! What an explainer gives: maps of every step in the same order, and what each is for.

use ndarray::ArrayD;
use pellucid_saliency::SaliencyMap;
use pellucid_saliency::stats::Interval;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an explainer found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What its maps show, in a sentence without its full stop.
    pub meaning: String,
    /// What to keep in mind when reading them, in sentences; empty where there is nothing.
    pub caution: String,
    /// Choices that the shown maps depend on; the first varies fastest in `tracks`.
    pub axes: Vec<Axis>,
    /// What each of the maps of a step is. Those that are shown stand first, one for each combination of the choices.
    pub tracks: Vec<Track>,
    /// Steps, from noise to picture.
    pub steps: Vec<StepFindings>,
    /// Maps of the whole trajectory.
    pub whole: Vec<SaliencyMap>,
    /// Numbers over the steps, to be drawn.
    pub curves: Vec<Curve>,
    /// How far several things have come, each beside its control.
    pub arrivals: Vec<Arrivals>,
    /// When several things act, each beside a floor.
    pub effects: Option<Effects>,
    /// What was found, in sentences: on the page, in the terminal, in JSON.
    pub conclusions: Vec<String>,
    /// The numbers behind them, as JSON.
    pub results: Option<Value>,
    /// Arrays that are no maps, for the arrays of a run, by name.
    pub arrays: Vec<(String, ArrayD<f32>)>,
    /// Facts of how it ran: term and value.
    pub facts: Vec<(String, String)>,
}

/// A choice: a word, a layer, a block.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    /// A stable key.
    pub id: String,
    /// What a person reads before the options.
    pub label: String,
    /// What can be chosen.
    pub options: Vec<String>,
    /// The option that is chosen first.
    pub start: usize,
    /// Whether all options are also shown side by side.
    pub is_side_by_side: bool,
    /// The options as JSON, and the key that they have there.
    pub listed: Option<(String, Value)>,
}

/// One of the maps that an explainer gives at every step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    /// Whether it is in the explainer's panel.
    pub is_shown: bool,
    /// What is said under it whatever the step.
    pub caption: String,
    /// The values that are drawn as none and all; those of each map where `None`.
    pub range: Option<(f32, f32)>,
    /// Its name among the arrays of a run; left out of them where `None`.
    pub array: Option<String>,
    /// Its name among the pictures of a run; left out of them where `None`.
    pub picture: Option<String>,
    /// How it takes part where faithfulness is measured, if it does.
    pub measured: Option<Measured>,
    /// How it takes part where maps are compared with what words change, if it does.
    pub compared: Option<Compared>,
    /// Which other map's standing says how far to trust it, where it has none of its own.
    pub judge: Option<Judge>,
}

/// How a map takes part where faithfulness is measured; a control where the maps themselves are controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What it is called there.
    pub name: String,
    /// For a control: whether every map has to beat it.
    pub is_gate: bool,
    /// Whether its curves are drawn.
    pub is_drawn: bool,
}

/// How a map takes part where maps are compared with what words change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What it is called there.
    pub name: String,
    /// The place of the word, among the prompt's, that it is the map of; `None` where it is the same for every word.
    pub word: Option<usize>,
}

/// A map that stands for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// What it is called where faithfulness is measured.
    pub name: String,
    /// What is said before its verdict.
    pub before: String,
}

impl Track {
    /// A map of the panel, with what is said under it.
    pub fn shown(caption: impl Into<String>) -> Self {
        Self { is_shown: true, caption: caption.into(), ..Self::default() }
    }

    /// A map that the panel does not show.
    pub fn hidden() -> Self {
        Self::default()
    }

    /// The same, filed as an array called `name`.
    #[must_use]
    pub fn array(self, name: impl Into<String>) -> Self {
        Self { array: Some(name.into()), ..self }
    }

    /// The same, drawn into a picture called `name` behind the step's number.
    #[must_use]
    pub fn picture(self, name: impl Into<String>) -> Self {
        Self { picture: Some(name.into()), ..self }
    }

    /// The same, measured as `name`, with its curves.
    #[must_use]
    pub fn measured(self, name: impl Into<String>) -> Self {
        Self { measured: Some(Measured { name: name.into(), is_gate: false, is_drawn: true }), ..self }
    }

    /// The same, measured as `name` without its curves.
    #[must_use]
    pub fn measured_quietly(self, name: impl Into<String>) -> Self {
        Self { measured: Some(Measured { name: name.into(), is_gate: false, is_drawn: false }), ..self }
    }

    /// The same, compared with what words change as `name`; as the map of `word` alone, where it is a word's.
    #[must_use]
    pub fn compared(self, name: impl Into<String>, word: Option<usize>) -> Self {
        Self { compared: Some(Compared { name: name.into(), word }), ..self }
    }

    /// The same as a control that every map has to beat.
    #[must_use]
    pub fn gate(self, name: impl Into<String>) -> Self {
        Self { measured: Some(Measured { name: name.into(), is_gate: true, is_drawn: true }), ..self }
    }
}

/// What an explainer says of one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepFindings {
    /// One map a track; `None` where there is nothing to show.
    pub maps: Vec<Option<SaliencyMap>>,
    /// Numbers about the step.
    pub figures: Vec<StepFigure>,
    /// What is said under the panel's picture.
    pub reading: String,
    /// How far the step is, in words; empty where the explainer does not know.
    pub status: String,
}

/// A number about a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepFigure {
    /// Its key in JSON, which no other explainer has.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
    /// The number.
    pub amount: Amount,
}

/// A number, or how many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// How many.
    Count(u64),
    /// A number.
    Number(f64),
}

/// Numbers over steps, drawn as lines in one chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// Heading.
    pub title: String,
    /// What it means, in a sentence.
    pub meaning: String,
    /// Lines: name and one number per step.
    pub lines: Vec<(String, Vec<f64>)>,
    /// Least and greatest value of the axis; from the numbers where `None`.
    pub range: Option<(f64, f64)>,
}

/// Levels over the steps that end at 1, drawn in rows under each other, each in front of its control.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arrivals {
    /// Heading.
    pub title: String,
    /// What it means, in sentences.
    pub meaning: String,
    /// What is there when it stays at least this high.
    pub threshold: f64,
    /// What the controls are.
    pub control: String,
    /// Rows, from top to bottom.
    pub rows: Vec<Arrival>,
}

/// A row of [`Arrivals`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arrival {
    /// What comes.
    pub name: String,
    /// One number per step; at most 1.
    pub levels: Vec<f64>,
    /// The same of the control.
    pub control: Vec<f64>,
}

/// When several things act, and where other maps have them act: the effect of changing each, window by window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Effects {
    /// Heading.
    pub title: String,
    /// What it means, in sentences.
    pub meaning: String,
    /// Windows: the first step (from 0), and the one behind the last.
    pub windows: Vec<[usize; 2]>,
    /// Effect of what says nothing, in each window; `None` where there is no such thing.
    pub floor: Option<Vec<f64>>,
    /// The same over all steps.
    pub whole_floor: Option<f64>,
    /// The things.
    pub things: Vec<Effect>,
}

/// What changing one thing does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The thing: a word.
    pub name: String,
    /// Its family, if it has one.
    pub family: Option<String>,
    /// What took its place; empty where it was left out.
    pub by: Vec<String>,
    /// Whether it is among those that say nothing, which the floor is made of.
    pub is_floor: bool,
    /// Whether its effect over all steps lies above the floor.
    pub acts: bool,
    /// The window in which it acts most, if it acts.
    pub strongest: Option<usize>,
    /// Effect over all steps, with its interval over what took its place and over noises.
    pub whole: Interval,
    /// Effect in each window.
    pub windows: Vec<Interval>,
    /// Mean rank correlation of where two changes act: no map can be expected to agree better. `None` for one change.
    pub swaps_agree: Option<f64>,
    /// Other maps beside where it acts.
    pub agreements: Vec<Agreement>,
    /// Maps of the thing's own that do not show where it acts.
    pub disagrees: Vec<String>,
}

/// How far a map lies where a thing acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// What the map is called.
    pub reading: String,
    /// Whether it is the thing's own map, and not the same for all.
    pub is_own: bool,
    /// Rank correlation with the mean change.
    pub rho: f64,
    /// With what each change does.
    pub by_swap: Vec<f64>,
    /// Mean rank correlation of the other things' maps of this name with this thing's change: what a map earns that is not
    /// about the thing. `None` where there are no others.
    pub other_words: Option<f64>,
}

/// A number with its sign as people write it.
pub fn signed(number: f64) -> String {
    format!("{number:.2}").replace('-', "−")
}

/// How a word was swapped: for what, or that it was left out.
pub fn by_words(by: &[String]) -> String {
    let named: Vec<String> = by.iter().filter(|by| !by.is_empty()).map(|by| format!("“{by}”")).collect();
    if named.is_empty() { "left out".to_owned() } else { format!("swapped for {}", named.join(", ")) }
}

/// The step (from 0) from which on `levels` stay at least `threshold`; `None` where the last one does not.
pub fn settled(levels: &[f64], threshold: f64) -> Option<usize> {
    let first = levels
        .iter()
        .rposition(|level| level.partial_cmp(&threshold).is_none_or(std::cmp::Ordering::is_lt))
        .map_or(0, |last| last + 1);
    (first < levels.len()).then_some(first)
}

/// Steps for people, who count from 1.
pub fn steps_in_words(from: usize, until: usize) -> String {
    if until == from + 1 { format!("at step {until}") } else { format!("at steps {}–{until}", from + 1) }
}

/// `text` with its first letter large.
pub fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

impl Findings {
    /// The maps of a track, one a step.
    pub fn maps(&self, track: usize) -> impl Iterator<Item = Option<&SaliencyMap>> {
        self.steps.iter().map(move |step| step.maps.get(track).and_then(Option::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_back_is_not_settled() {
        assert_eq!(settled(&[0.1, 0.9, 0.7, 0.8, 1.0], 0.8), Some(3));
        assert_eq!(settled(&[0.9, 0.9], 0.8), Some(0));
        assert_eq!(settled(&[0.9, 0.7], 0.8), None);
        assert_eq!(settled(&[0.9, f64::NAN], 0.8), None);
        assert_eq!(settled(&[], 0.8), None);
    }
}
