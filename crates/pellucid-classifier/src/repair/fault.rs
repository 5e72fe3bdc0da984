//! What is at fault, and on what ground an edit may be shipped ([methods A7]).
//!
//! [methods A7]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a7

use super::results::{Conduct, CueTest};
use super::suspects::{Detector, Route, Suspect};
use super::{RepairError, RepairSettings, Splits, class_name};
use crate::shortcut::{self, Answer, Candidate, Examination, Rows, Tested};
use ndarray::Array2;
use pellucid_guard::Setting;

/// With two classes no third tells how ordinary evidence ranks.
const TWO_CLASSES: &str = "With two classes, a cue of one looks like a part of it wherever validation pictures were drawn as the \
                           training pictures were: this holds only if they were not.";

/// Tells pictures that show the cue from those that do not.
#[derive(Debug, Clone)]
pub(super) enum Presence {
    /// By how active named neurons are.
    Detector(Detector),
    /// By what the suspects say together for the class.
    Candidate(Candidate),
    /// Nothing tells them apart.
    Absent,
}

impl Presence {
    /// Of neurons that are known only by their numbers.
    pub fn of_neurons(features: &Array2<f32>, neurons: &[usize]) -> Self {
        Detector::fit(features, neurons).map_or(Presence::Absent, Presence::Detector)
    }

    /// Whether each row shows the cue; `None` where nothing tells.
    pub fn active(&self, features: &Array2<f32>) -> Option<Vec<bool>> {
        match self {
            Presence::Detector(detector) => Some(detector.active(features)),
            Presence::Candidate(candidate) => Some(candidate.present(features)),
            Presence::Absent => None,
        }
    }

    /// Distance of the pictures with the cue from those without, in standard deviations.
    pub fn separation(&self) -> Option<f64> {
        match self {
            Presence::Detector(detector) => Some(detector.separation),
            Presence::Candidate(candidate) => Some(candidate.separation),
            Presence::Absent => None,
        }
    }
}

/// Why an edit may be shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// The user named the neurons or the edit.
    Named,
    /// The test rejects.
    Confirmed,
    /// The user says that what is ranked first is no part of the class.
    ConfirmedByUser,
    /// Named groups, one of which is worse than chance explains.
    Groups,
    /// None.
    Nothing,
}

/// Rows of a table as the shortcut test takes them; views of training pictures are left out.
pub(super) struct OwnRows {
    features: Array2<f32>,
    labels: Vec<usize>,
    units: Vec<usize>,
}

impl OwnRows {
    /// Training (0) or validation (1) rows of `splits`.
    pub fn of(splits: &Splits<'_>, part: usize) -> Self {
        let table = [splits.train, splits.validation][part];
        let whole = if part == 0 { table.labels.len() / (splits.views + 1) } else { table.labels.len() };
        let units = match splits.units {
            Some(units) => units[part][..whole].to_vec(),
            None => (0..whole).collect(),
        };
        let features = table.features.slice(ndarray::s![..whole, ..]).to_owned();
        Self { features, labels: table.labels[..whole].to_vec(), units }
    }

    /// A view of them.
    pub fn rows(&self) -> Rows<'_> {
        Rows { features: &self.features, labels: &self.labels, units: &self.units }
    }
}

/// The cue that the examination points at: of `class` where one is named, else the confirmed or first ranked one.
pub(super) fn pointed_at(found: &Examination, class: Option<usize>) -> Option<&Tested> {
    let of = |tested: &&Tested| class.is_none_or(|class| tested.candidate.class == class);
    found.confirmed.iter().find(of).or_else(|| found.ranked.iter().find(of))
}

/// The suspects of a candidate, `count` at most.
pub(super) fn suspects(candidate: &Candidate, count: usize) -> Vec<Suspect> {
    let of =
        |&neuron: &usize| Suspect { neuron, route: Route::Gap, insufficient: None, excessive: None, sensitivity: None };
    candidate.neurons.iter().take(count).map(of).collect()
}

/// The ground for shipping.
pub(super) fn ground(
    settings: &RepairSettings,
    found: Option<&Examination>,
    cue: Option<&Tested>,
    a_group_is_worse: bool,
) -> Ground {
    if settings.edit.is_some() || found.is_none() {
        return Ground::Named;
    }
    let confirmed = |cue: &Tested| cue.p_value <= settings.shortcut.alpha;
    match found {
        Some(found) if found.answer == Answer::Confirmed && cue.is_some_and(confirmed) => Ground::Confirmed,
        Some(_) if settings.confirm && cue.is_some() => Ground::ConfirmedByUser,
        Some(_) if a_group_is_worse => Ground::Groups,
        _ => Ground::Nothing,
    }
}

/// What is said of the examination, before an edit is chosen.
pub(super) fn conduct(found: Option<&Examination>, cue: Option<&Tested>, classes: &[String]) -> Conduct {
    let test = |tested: &Tested| CueTest {
        class: (tested.candidate.class, class_name(classes, tested.candidate.class)),
        side: tested.candidate.side,
        direction: tested.candidate.direction,
        neurons: tested.candidate.neurons.clone(),
        p_value: tested.p_value,
        effect: tested.effect,
        rank: tested.rank_z,
        association: Some(tested.association),
    };
    Conduct {
        answer: found.map(|found| found.answer),
        cue: cue.map(test),
        others: found.map_or(Vec::new(), |found| found.confirmed.iter().skip(1).map(test).collect()),
        detectable: found.map(|found| found.detectable),
        limit: (classes.len() == 2).then(|| TWO_CLASSES.to_owned()),
        standings: Vec::new(),
        shipped: false,
        headline: String::new(),
        over_refit: None,
    }
}

/// Asks whether there is a shortcut.
pub(super) fn examine(
    layer: &crate::layer::DecisionLayer,
    train: &OwnRows,
    validation: &OwnRows,
    settings: &RepairSettings,
) -> Examination {
    let how = shortcut::Settings { seed: settings.seed, ..settings.shortcut };
    shortcut::examine(layer, train.rows(), validation.rows(), &how)
}

/// The headline: shipped or not, and why.
pub(super) fn headline(conduct: &Conduct, ground: Ground, class: &str, edit: super::Edit) -> String {
    if conduct.shipped {
        let why = match ground {
            Ground::Named => "asked for by name".to_owned(),
            Ground::Confirmed => format!("a shortcut of “{class}” is confirmed by your data"),
            Ground::ConfirmedByUser => format!("you said that the cue is no part of “{class}”"),
            Ground::Groups | Ground::Nothing => "it lifts the worst of the named groups".to_owned(),
        };
        return format!("An edit was shipped ({edit}): {why}.");
    }
    let shares = conduct.cue.as_ref().and_then(CueTest::in_training_alone);
    match (ground, conduct.answer) {
        (Ground::Confirmed | Ground::ConfirmedByUser, _) => format!(
            "Nothing was edited: a shortcut of “{class}” is {}, but no edit is better than leaving the layer as it is.",
            if ground == Ground::Confirmed { Answer::Confirmed.words() } else { "named by you" }
        ),
        (Ground::Groups, _) => "Nothing was edited: no edit lifts the worst group beyond what chance gives.".to_owned(),
        (_, Some(Answer::NeedsYourEye)) => format!(
            "Nothing was edited. A cue of “{class}” {} {}Look at the pictures with and without it, and run again with {} if it \
             is not.",
            Answer::NeedsYourEye,
            shares.map_or_else(String::new, |said| format!("{said} ")),
            Setting::Confirm
        ),
        _ => {
            let power = conduct.power("One").map_or_else(String::new, |said| format!(" {said}."));
            let limit = conduct.limit.as_ref().map_or_else(String::new, |limit| format!(" {limit}"));
            format!("Nothing was edited: no shortcut was found.{power}{limit}")
        }
    }
}

/// Refuses a class that a split lacks.
pub(super) fn check_presence(splits: Splits<'_>, class: usize, name: &str) -> Result<(), RepairError> {
    let parts = [("training", splits.train), ("validation", splits.validation), ("test", splits.test)];
    match parts.into_iter().find(|(_, table)| !table.labels.contains(&class)) {
        Some((split, _)) => Err(RepairError::ClassAbsent { class: name.to_owned(), split }),
        None => Ok(()),
    }
}
