//! Mitigates a false correlation by editing the decision layer, on cached features ([methods A5]).
//!
//! [`repair`] asks whether there is a ground to edit anything ([`crate::shortcut`]), lets the edits compete on validation rows
//! ([`compete`]), makes every edit of [`Edit`] beside the one that is shipped, and reads the test split once, at the end
//! ([`compare`]). Group labels, where every training and validation picture has one, are what the default edits are balanced by.
//!
//! [methods A5]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a5

pub mod baselines;
pub mod clusters;
pub mod compare;
pub mod compete;
pub mod erase;
mod fault;
pub mod lbfgs;
pub mod loss;
pub mod results;
pub mod sensitivity;
pub mod suspects;
pub mod train;

pub use results::{Conduct, Edit, Repair};

use crate::counterfactual::CounterfactualError;
use crate::importance;
use crate::layer::DecisionLayer;
use crate::results::Proportion;
use crate::scan::FeatureTable;
use crate::shortcut::folds::Refit;
use crate::shortcut::{self, Examination, Rows, Tested};
use crate::statistics::wilson;
use compare::Change;
use compete::{Contestant, Field, Outcome, Rules};
use erase::balanced;
use fault::{Ground, OwnRows, Presence};
use loss::{Loss, RatioNorm, RatioPenalty};
use ndarray::Axis;
use pellucid_guard::Setting;
use results::{CausalCheck, ClassEdit, Figures, MistakeCluster, NeuronEdit, ProposedGroup, Tried};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use suspects::{Route, Suspect};
use train::{Diverged, SMALLEST_PART, Samples, Schedule, Selection, Training};

/// Why a repair cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A neuron that does not exist.
    #[error("neuron {neuron} does not exist: the decision layer reads {features} features, 0 to {last}", last = features - 1)]
    Neuron {
        /// The neuron.
        neuron: usize,
        /// How many there are.
        features: usize,
    },
    /// No neurons given.
    #[error("the list of neurons is empty; name at least one, or let {auto} find them", auto = Setting::Auto)]
    NoNeurons,
    /// Every neuron given.
    #[error("all {0} neurons are named: without them nothing is left to decide by; name only those at fault")]
    AllNeurons(usize),
    /// None found.
    #[error(
        "no neuron stands out in the mistakes around '{class}' on the validation split ({missed} of its pictures are missed, {called} others \
         are called it); name neurons with {neurons}, or another class", neurons = Setting::Neurons)]
    NoSuspects {
        /// The class.
        class: String,
        /// Its mistakes.
        missed: usize,
        /// Others that are called it.
        called: usize,
    },
    /// A class without samples in a split.
    #[error(
        "class '{class}' has no pictures in the {split} split; a repair needs some in training, validation and test"
    )]
    ClassAbsent {
        /// The class.
        class: String,
        /// The split.
        split: &'static str,
    },
    /// The edit that was to be shipped cannot be made from these data.
    #[error("'{edit}' cannot be made: {reason}; choose another {edit}, class or neurons", edit = Setting::Edit)]
    NotPossible {
        /// The edit.
        edit: Edit,
        /// Why not.
        reason: &'static str,
    },
    /// The counterfactual search failed.
    #[error(transparent)]
    Counterfactual(#[from] CounterfactualError),
    /// Training failed.
    #[error(transparent)]
    Diverged(#[from] Diverged),
}

/// How a repair is made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RepairSettings {
    /// The class whose cue is at fault; by the test and the ranking where `None` (see [`crate::shortcut`]).
    pub class: Option<usize>,
    /// S; found where empty and `route` is not [`Route::Named`].
    pub neurons: Vec<usize>,
    /// How neurons are found.
    pub route: Route,
    /// How many are taken at most.
    pub count: usize,
    /// Edits that are tried; the original is always in the table.
    pub edits: Vec<Edit>,
    /// The edit that is shipped, whatever the data say; where `None`, the one that wins the competition, if there is a ground to
    /// ship one.
    pub edit: Option<Edit>,
    /// Ship an edit for the cue that is ranked first although the data do not confirm it.
    pub confirm: bool,
    /// How shortcuts are looked for.
    pub shortcut: shortcut::Settings,
    /// λ₃ of the published loss; by grid for [`Edit::Ratio`] where `None`.
    pub strength: Option<f64>,
    /// o; by grid for [`Edit::Ratio`] where `None`, 1 for the published forms.
    pub target: Option<f64>,
    /// What chooses epochs and settings.
    pub selection: Selection,
    /// Adam's learning rate where the edit does not fix it.
    pub rate: f64,
    /// Epochs at most.
    pub epochs: usize,
    /// Seed.
    pub seed: u64,
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self {
            class: None,
            neurons: Vec::new(),
            route: Route::Gap,
            count: 5,
            edits: Edit::ALL.to_vec(),
            edit: None,
            confirm: false,
            shortcut: shortcut::Settings::default(),
            strength: None,
            target: None,
            selection: Selection::WorstSlice,
            rate: 1e-3,
            epochs: 20,
            seed: 0,
        }
    }
}

pellucid_guard::builders!(RepairSettings {
    with_class: class => Option<usize>,
    with_neurons: neurons => Vec<usize>,
    with_route: route => Route,
    with_count: count: usize,
    with_edits: edits => Vec<Edit>,
    with_edit: edit => Option<Edit>,
    with_confirm: confirm: bool,
    with_shortcut: shortcut => shortcut::Settings,
    with_strength: strength => Option<f64>,
    with_target: target => Option<f64>,
    with_selection: selection => Selection,
    with_rate: rate: f64,
    with_epochs: epochs: usize,
    with_seed: seed: u64,
});

/// The three splits of a scanned data set.
#[derive(Debug, Clone, Copy)]
pub struct Splits<'a> {
    /// What layers are trained on: the training pictures, and where there are augmented views, those below them.
    pub train: &'a FeatureTable,
    /// Views of each training picture that lie below the whole ones.
    pub views: usize,
    /// What chooses.
    pub validation: &'a FeatureTable,
    /// What the result is read off, once.
    pub test: &'a FeatureTable,
    /// Unit of each row of training (its whole pictures first), validation and test; every row its own where `None`.
    pub units: Option<[&'a [usize]; 3]>,
}

/// What a repair went on without. It shows as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RepairWarning {
    /// No cue is on some pictures and off others.
    #[error("the suspects are equally active on every training picture, so the erasing edit has no cue to erase")]
    NoCue,
    /// Slices with too few pictures to choose by.
    #[error(
        "{slices} slices of the validation split have fewer than {fewest} pictures and do not take part in the choice"
    )]
    SmallSlices {
        /// How many.
        slices: usize,
        /// The pictures that a slice needs.
        fewest: usize,
    },
    /// An edit that the data do not allow.
    #[error("'{edit}' was left out: {reason}")]
    LeftOut {
        /// The edit.
        edit: Edit,
        /// What is missing.
        reason: &'static str,
    },
}

/// A repair and the layer that came out.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// What was found and done; `proposed` examples and file names are the caller's to fill.
    pub repair: Repair,
    /// The edited layer.
    pub layer: DecisionLayer,
    /// Validation rows that show each proposed group best, in its order.
    pub examples: Vec<Vec<usize>>,
    /// Validation rows of each cluster of mistakes, in its order.
    pub cluster_examples: Vec<Vec<usize>>,
    /// What the user should know; the lines of [`Repair::warnings`] are the caller's to fill.
    pub warnings: Vec<RepairWarning>,
}

/// λ₃ tried by [`Edit::Ratio`].
const STRENGTHS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];
/// Examples of a proposed group.
const EXAMPLES: usize = 6;

/// Repairs `layer` on the cached features of `splits`, if there is a ground to (see [`Conduct`]): the layer that comes out is
/// the one that went in where nothing is shipped.
pub fn repair(
    layer: &DecisionLayer,
    splits: Splits<'_>,
    classes: &[String],
    groups: &[String],
    settings: &RepairSettings,
) -> Result<Repaired, RepairError> {
    let mut warnings = Vec::new();
    let at_fault = Fault::find(layer, splits, classes, settings)?;
    if matches!(at_fault.presence, Presence::Absent) {
        warnings.push(RepairWarning::NoCue);
    }
    let ground = at_fault.ground(splits, layer, settings);
    let bench = Bench::new(layer, splits, &at_fault, settings, &mut warnings);
    let outcome = bench.compete();
    let edit = match (settings.edit, ground) {
        (Some(edit), _) => edit,
        (None, Ground::Nothing) => Edit::None,
        (None, Ground::Named) => Edit::Erase,
        (None, _) => bench.edit_of(outcome.winner),
    };
    let mut tried = Vec::new();
    let mut shipped = layer.clone();
    for other in Edit::ALL {
        if other != Edit::None && other != edit && !settings.edits.contains(&other) {
            continue;
        }
        let start = Instant::now();
        let Some((edited, chosen)) = bench.make(other)? else {
            // Shipping the layer as it was under the edit's name would be a lie.
            if other == edit {
                return Err(RepairError::NotPossible { edit, reason: bench.missing(edit) });
            }
            warnings.push(RepairWarning::LeftOut { edit: other, reason: bench.missing(other) });
            continue;
        };
        let seconds = start.elapsed().as_secs_f64();
        tried.push(Tried {
            edit: other,
            chosen,
            validation: bench.figures(&edited, Part::Validation),
            test: bench.figures(&edited, Part::Test),
            seconds,
        });
        if other == edit {
            shipped = edited;
        }
    }
    let mut conduct = at_fault.conduct(classes);
    conduct.shipped = edit != Edit::None;
    conduct.headline = fault::headline(&conduct, ground, &class_name(classes, at_fault.class), edit);
    conduct.over_refit = bench.over_refit(&outcome, &shipped).filter(|_| conduct.shipped);
    conduct.standings = outcome.standings;
    let comparison = compare::compare(splits.test, layer, &shipped, classes, groups, settings.seed);
    let predicted = predictions(layer, splits.validation);
    let (proposed, examples) = bench.proposed(&predicted);
    let (clusters, cluster_examples, cluster_agreement) = bench.clusters(&predicted);
    let ratio =
        |of: &DecisionLayer| mean(&bench.penalty(1.0, 1.0, RatioNorm::Norm).ratios(of, splits.test.features.view()));
    let repair = Repair {
        class: (at_fault.class, class_name(classes, at_fault.class)),
        separation: at_fault.presence.separation(),
        samples: [
            splits.train.labels.len() / (splits.views + 1),
            splits.validation.labels.len(),
            splits.test.labels.len(),
        ],
        views: splits.views,
        selection: settings.selection,
        tried,
        edit,
        comparison,
        classes: class_edits(layer, &shipped, splits.test, classes),
        neurons: neuron_edits(layer, &shipped, at_fault.class, &bench.neurons),
        causal: bench.causal(),
        agreement: bench.agreement(),
        proposed,
        clusters,
        cluster_agreement,
        ratio: [ratio(layer), ratio(&shipped)],
        suspects: at_fault.suspects,
        conduct,
        warnings: Vec::new(),
    };
    Ok(Repaired { repair, layer: shipped, examples, cluster_examples, warnings })
}

/// What a repair would find before it edits anything, for a diagnosis to say the same.
pub fn conduct(layer: &DecisionLayer, splits: Splits<'_>, classes: &[String], settings: &RepairSettings) -> Conduct {
    let (train, validation) = (OwnRows::of(&splits, 0), OwnRows::of(&splits, 1));
    let found = fault::examine(layer, &train, &validation, settings);
    let cue = fault::pointed_at(&found, settings.class);
    fault::conduct(Some(&found), cue, classes)
}

/// What is at fault: the class, its suspects, and how pictures with the cue are told from those without.
struct Fault {
    class: usize,
    suspects: Vec<Suspect>,
    presence: Presence,
    /// Asked for where the neurons were not named.
    examination: Option<Examination>,
    cue: Option<Tested>,
    train: OwnRows,
    validation: OwnRows,
}

impl Fault {
    /// By the test and the ranking; by the user's list where there is one, or by the published votes where they are asked for.
    fn find(
        layer: &DecisionLayer,
        splits: Splits<'_>,
        classes: &[String],
        settings: &RepairSettings,
    ) -> Result<Self, RepairError> {
        let (train, validation) = (OwnRows::of(&splits, 0), OwnRows::of(&splits, 1));
        let predicted = predictions(layer, splits.validation);
        let listed = !settings.neurons.is_empty() || settings.route != Route::Gap;
        if let Some(class) = settings.class {
            fault::check_presence(splits, class, &class_name(classes, class))?;
        }
        let examination = (!listed).then(|| fault::examine(layer, &train, &validation, settings));
        let cue = examination.as_ref().and_then(|found| fault::pointed_at(found, settings.class)).cloned();
        let class = match (&cue, settings.class) {
            (_, Some(class)) => class,
            (Some(cue), None) => cue.candidate.class,
            (None, None) => most_costly(splits.validation, &predicted),
        };
        // Training rows without mistakes give no candidate; what the user asks for by name is then made of validation's mistakes.
        let asked = listed || (cue.is_none() && (settings.edit.is_some() || settings.class.is_some()));
        if asked {
            fault::check_presence(splits, class, &class_name(classes, class))?;
        }
        let (suspects, presence) = match (&cue, asked) {
            (Some(cue), _) => {
                let presence = Presence::Candidate(cue.candidate.clone());
                (fault::suspects(&cue.candidate, settings.count), presence)
            }
            (None, true) => {
                let found = chosen_suspects(layer, splits.validation, &predicted, class, classes, settings)?;
                let neurons: Vec<usize> = found.iter().map(|s| s.neuron).collect();
                (found, Presence::of_neurons(&splits.train.features, &neurons))
            }
            (None, false) => (Vec::new(), Presence::Absent),
        };
        Ok(Self { class, suspects, presence, examination, cue, train, validation })
    }

    fn ground(&self, splits: Splits<'_>, layer: &DecisionLayer, settings: &RepairSettings) -> Ground {
        let predicted = predictions(layer, splits.validation);
        let wrong: Vec<bool> = predicted.iter().zip(&splits.validation.labels).map(|(p, y)| p != y).collect();
        let worse = !crate::verdict::standing_out(&wrong, &splits.validation.groups).is_empty();
        fault::ground(settings, self.examination.as_ref(), self.cue.as_ref(), worse)
    }

    fn conduct(&self, classes: &[String]) -> Conduct {
        fault::conduct(self.examination.as_ref(), self.cue.as_ref(), classes)
    }
}

fn class_name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

fn predictions(layer: &DecisionLayer, table: &FeatureTable) -> Vec<usize> {
    crate::scan::predictions(&layer.logits(&table.features))
}

/// The class at fault where no cue points at one: that which is given to pictures of others most beyond its share, else the one
/// that most mistakes land on, else the first.
fn most_costly(table: &FeatureTable, predicted: &[usize]) -> usize {
    let classes = table.logits.ncols();
    if let Some(part) = crate::verdict::judgement::sinks(&table.labels, predicted, classes).first() {
        return part.id;
    }
    let mut landed: BTreeMap<usize, usize> = BTreeMap::new();
    let mistakes = table.labels.iter().zip(predicted).filter(|(y, p)| y != p);
    mistakes.for_each(|(&p, _)| *landed.entry(p).or_default() += 1);
    landed.into_iter().max_by_key(|&(class, count)| (count, std::cmp::Reverse(class))).map_or(0, |(class, _)| class)
}

fn chosen_suspects(
    layer: &DecisionLayer,
    validation: &FeatureTable,
    predictions: &[usize],
    class: usize,
    classes: &[String],
    settings: &RepairSettings,
) -> Result<Vec<Suspect>, RepairError> {
    let features = layer.features();
    let mut named = settings.neurons.clone();
    named.sort_unstable();
    named.dedup();
    if let Some(&neuron) = named.iter().find(|&&n| n >= features) {
        return Err(RepairError::Neuron { neuron, features });
    }
    if named.len() == features {
        return Err(RepairError::AllNeurons(features));
    }
    if !named.is_empty() {
        let of =
            |neuron| Suspect { neuron, route: Route::Named, insufficient: None, excessive: None, sensitivity: None };
        return Ok(named.into_iter().map(of).collect());
    }
    if settings.route == Route::Named {
        return Err(RepairError::NoNeurons);
    }
    let found = suspects::suspects(validation, predictions, layer, class, settings.route, settings.count)?;
    if found.is_empty() {
        let pairs = || validation.labels.iter().zip(predictions);
        let missed = pairs().filter(|&(y, p)| *y == class && *p != class).count();
        let called = pairs().filter(|&(y, p)| *y != class && *p == class).count();
        return Err(RepairError::NoSuspects { class: class_name(classes, class), missed, called });
    }
    Ok(found)
}

enum Part {
    Validation,
    Test,
}

/// What the edits are made and judged with.
struct Bench<'a> {
    layer: &'a DecisionLayer,
    splits: Splits<'a>,
    class: usize,
    neurons: Vec<usize>,
    train: Samples,
    validation: Samples,
    /// Slices of the test samples.
    test_slices: Vec<usize>,
    active: Option<[Vec<bool>; 2]>,
    own: [&'a OwnRows; 2],
    /// Slices of the whole training rows, then of the validation rows, that edits are balanced and judged by: the named
    /// groups, else class × cue.
    judged: Vec<usize>,
    /// Whether those are the named groups.
    by_groups: bool,
    /// Whether each of those rows shows the cue; empty where nothing tells.
    present: Vec<bool>,
    settings: &'a RepairSettings,
}

impl<'a> Bench<'a> {
    fn new(
        layer: &'a DecisionLayer,
        splits: Splits<'a>,
        at_fault: &'a Fault,
        settings: &'a RepairSettings,
        warnings: &mut Vec<RepairWarning>,
    ) -> Self {
        let active = |table: &FeatureTable| at_fault.presence.active(&table.features);
        let slices = |table: &FeatureTable, active: &Option<Vec<bool>>| -> Vec<usize> {
            active
                .as_ref()
                .map_or_else(|| table.labels.iter().map(|y| 2 * y).collect(), |a| shortcut::slices(&table.labels, a))
        };
        let (on_train, on_validation, on_test) = (active(splits.train), active(splits.validation), active(splits.test));
        let samples = |table: &FeatureTable, active: &Option<Vec<bool>>| Samples {
            features: table.features.clone(),
            labels: table.labels.clone(),
            slices: slices(table, active),
            importance: Vec::new(),
        };
        let (train, validation) = (samples(splits.train, &on_train), samples(splits.validation, &on_validation));
        let small = sizes(&validation.slices).into_iter().filter(|(_, n)| *n < SMALLEST_PART).count();
        if small > 0 {
            warnings.push(RepairWarning::SmallSlices { slices: small, fewest: SMALLEST_PART });
        }
        let whole = splits.train.labels.len() / (splits.views + 1);
        let groups: Option<Vec<usize>> =
            splits.train.groups[..whole].iter().chain(&splits.validation.groups).copied().collect();
        let by_groups = groups.is_some();
        let judged = groups.unwrap_or_else(|| [&train.slices[..whole], &validation.slices].concat());
        let active = on_train.zip(on_validation).map(|(a, b)| [a, b]);
        let present = active.as_ref().map_or(Vec::new(), |[a, b]| [&a[..whole], b.as_slice()].concat());
        Self {
            layer,
            class: at_fault.class,
            neurons: at_fault.suspects.iter().map(|s| s.neuron).collect(),
            train,
            validation,
            test_slices: slices(splits.test, &on_test),
            active,
            own: [&at_fault.train, &at_fault.validation],
            judged,
            by_groups,
            present,
            splits,
            settings,
        }
    }

    fn refitting(&self) -> Refit {
        self.settings.shortcut.refit
    }

    fn rules(&self) -> Rules {
        Rules { refit: self.refitting(), seed: self.settings.seed, ..Rules::default() }
    }

    /// Whole training and validation rows with the slices that edits are balanced and judged by.
    fn field(&self) -> Field<'_> {
        Field {
            layer: self.layer,
            train: self.own[0].rows(),
            validation: self.own[1].rows(),
            slices: &self.judged,
            present: &self.present,
            class: (!self.by_groups && !self.present.is_empty()).then_some(self.class),
        }
    }

    fn compete(&self) -> Outcome {
        let takes_part = |c: &Contestant| *c != Contestant::Erase || !self.present.is_empty();
        let contestants: Vec<Contestant> = Contestant::ALL.into_iter().filter(takes_part).collect();
        compete::compete(&self.field(), &contestants, &self.rules())
    }

    /// The edit that a contestant is in this field.
    fn edit_of(&self, contestant: Contestant) -> Edit {
        match contestant {
            Contestant::None => Edit::None,
            Contestant::Refit => Edit::Refit,
            Contestant::ClassBalanced => Edit::ClassBalanced,
            Contestant::SliceBalanced if self.by_groups => Edit::GroupBalanced,
            Contestant::SliceBalanced => Edit::SliceBalanced,
            Contestant::Erase => Edit::Erase,
        }
    }

    /// A contestant fitted to training and validation rows; by class × cue where named groups do not judge.
    fn fitted(&self, contestant: Contestant, slices: &[usize]) -> Option<(DecisionLayer, String)> {
        let all: Vec<usize> = (0..self.splits.validation.labels.len()).collect();
        let field = Field { slices, ..self.field() };
        Some((field.fit(contestant, &all, &self.rules())?, String::new()))
    }

    /// Class × cue of the whole training rows, then of the validation rows.
    fn by_cue(&self) -> Option<Vec<usize>> {
        let labels = [self.own[0].rows().labels, self.own[1].rows().labels].concat();
        (!self.present.is_empty()).then(|| shortcut::slices(&labels, &self.present))
    }

    /// What `shipped` gains on the test split over the refit that stands better on validation.
    fn over_refit(&self, outcome: &Outcome, shipped: &DecisionLayer) -> Option<Change> {
        let refits = outcome.standings.iter().filter(|s| s.contestant.is_refit());
        let better =
            refits.max_by(|a, b| a.worst_slice.total_cmp(&b.worst_slice).then(b.contestant.cmp(&a.contestant)))?;
        let (refit, _) = self.fitted(better.contestant, &self.judged)?;
        let test = self.splits.test;
        let right = |layer: &DecisionLayer| -> Vec<bool> {
            predictions(layer, test).iter().zip(&test.labels).map(|(p, y)| p == y).collect()
        };
        let all: Vec<usize> = (0..test.labels.len()).collect();
        Some(compare::change(&right(&refit), &right(shipped), &all, self.settings.seed))
    }

    /// Groups of the validation rows, where all are known.
    fn held_out_groups(&self) -> Option<Vec<usize>> {
        self.splits.validation.groups.iter().copied().collect()
    }

    /// What baselines choose their settings by: the worst group of validation, else its worst class.
    fn chosen_by(&self) -> Vec<usize> {
        self.held_out_groups().unwrap_or_else(|| self.splits.validation.labels.clone())
    }

    /// Why an edit was not made.
    fn missing(&self, edit: Edit) -> &'static str {
        match edit {
            Edit::GroupBalanced | Edit::Dfr if self.splits.validation.groups.iter().all(Option::is_none) => {
                "the data set has no groups"
            }
            Edit::GroupBalanced
                if self.splits.train.groups.iter().all(Option::is_none) && self.held_out_groups().is_some() =>
            {
                "the pictures of the training split have no groups; dfr needs them on the validation split only"
            }
            Edit::GroupBalanced => "some pictures of the training and of the validation split have no group",
            Edit::Dfr => "some pictures of the validation split have no group",
            _ if self.neurons.is_empty() => "no neuron is suspected",
            _ => "no picture of any class differs from the others in the suspects",
        }
    }

    /// The edited layer and the settings chosen on validation; `None` where the data do not allow the edit.
    fn make(&self, edit: Edit) -> Result<Option<(DecisionLayer, String)>, RepairError> {
        let others = if edit == Edit::ReferenceWaterbirds { 0.95 } else { 0.9 };
        let class_weights: Vec<f64> =
            (0..self.layer.classes()).map(|c| if c == self.class { 1.0 } else { others }).collect();
        let made = match edit {
            Edit::None => (self.layer.clone(), String::new()),
            Edit::Zero | Edit::Reference | Edit::ReferenceWaterbirds | Edit::Ratio if self.neurons.is_empty() => {
                return Ok(None);
            }
            Edit::Zero => (self.zeroed(&self.neurons), String::new()),
            Edit::ClassWeighted => {
                self.trained(edit, &Loss { class_weights, ..Loss::cross_entropy() }, &self.ours())?
            }
            Edit::Focal => self.trained(edit, &Loss { class_weights, focal: 2.0, ratio: None }, &self.ours())?,
            Edit::Reference => self.trained(edit, &self.published(RatioNorm::Norm), &self.as_published())?,
            Edit::ReferenceWaterbirds => {
                let how =
                    Training { rate: 5e-5, weight_decay: 1e-4, schedule: Schedule::Constant, ..self.as_published() };
                self.trained(edit, &self.published(RatioNorm::Mean), &how)?
            }
            Edit::Ratio => self.best_ratio()?,
            Edit::Refit | Edit::ClassBalanced | Edit::GroupBalanced | Edit::SliceBalanced | Edit::Erase => {
                return Ok(self.refitted(edit));
            }
            Edit::Dfr | Edit::Afr | Edit::Jtt | Edit::ClusterBalanced => return Ok(self.baseline(edit)),
        };
        Ok(Some(made))
    }

    fn ours(&self) -> Training {
        Training {
            rate: self.settings.rate,
            epochs: self.settings.epochs,
            seed: self.settings.seed,
            ..Training::default()
        }
    }

    fn as_published(&self) -> Training {
        Training { rate: 1e-3, schedule: Schedule::RampEachEpoch, keeps_original: false, ..self.ours() }
    }

    fn penalty(&self, strength: f64, target: f64, norm: RatioNorm) -> RatioPenalty {
        RatioPenalty { suspects: self.neurons.clone(), class: self.class, strength, target, norm }
    }

    fn published(&self, norm: RatioNorm) -> Loss {
        let (strength, target) = (self.settings.strength.unwrap_or(0.01), self.settings.target.unwrap_or(1.0));
        Loss { ratio: Some(self.penalty(strength, target, norm)), ..Loss::cross_entropy() }
    }

    fn trained(&self, edit: Edit, loss: &Loss, how: &Training) -> Result<(DecisionLayer, String), RepairError> {
        // The published choice knows no slices.
        let selection = match (edit, self.settings.selection) {
            (Edit::ReferenceWaterbirds, _) => Selection::WorstClass,
            (Edit::Reference, Selection::WorstSlice) => Selection::Overall,
            (_, chosen) => chosen,
        };
        let done = train::train(edit.name(), self.layer, loss, &self.train, &self.validation, selection, how)?;
        Ok((done.layer, format!("epoch {}", done.epoch)))
    }

    /// λ₃ and o by grid on validation.
    fn best_ratio(&self) -> Result<(DecisionLayer, String), RepairError> {
        let strengths = self.settings.strength.map_or(STRENGTHS.to_vec(), |s| vec![s]);
        let targets = self.settings.target.map_or_else(|| vec![1.0, self.milder_target()], |t| vec![t]);
        let mut best: Option<((f64, f64), DecisionLayer, String)> = None;
        for &strength in &strengths {
            for &target in &targets {
                let ratio = Some(self.penalty(strength, target, RatioNorm::RootMeanSquare));
                let (layer, epoch) =
                    self.trained(Edit::Ratio, &Loss { ratio, ..Loss::cross_entropy() }, &self.ours())?;
                let score = self.validation.score(&layer, self.settings.selection);
                if best.as_ref().is_none_or(|(s, _, _)| score > *s) {
                    best = Some((score, layer, format!("λ₃ = {strength}, o = {target:.3}, {epoch}")));
                }
            }
        }
        Ok(best.map_or_else(|| (self.layer.clone(), String::new()), |(_, layer, chosen)| (layer, chosen)))
    }

    /// o = (min ρ_j − 1) / 3 + 1 over the suspects, at the mean training features.
    fn milder_target(&self) -> f64 {
        let mean = importance::mean_features(&self.splits.train.features);
        let ratios = importance::ratio_at(&mean, self.layer, self.class);
        let least = self.neurons.iter().map(|&j| ratios[j]).fold(f64::INFINITY, f64::min);
        (least - 1.0) / 3.0 + 1.0
    }

    fn zeroed(&self, neurons: &[usize]) -> DecisionLayer {
        let mut layer = self.layer.clone();
        neurons.iter().for_each(|&j| layer.weight.column_mut(j).fill(0.0));
        layer
    }

    /// Edits that are fitted to training and validation pictures together.
    fn refitted(&self, edit: Edit) -> Option<(DecisionLayer, String)> {
        match edit {
            Edit::Refit => self.fitted(Contestant::Refit, &self.judged),
            Edit::ClassBalanced => self.fitted(Contestant::ClassBalanced, &self.judged),
            Edit::SliceBalanced => self.fitted(Contestant::SliceBalanced, &self.by_cue()?),
            Edit::GroupBalanced if self.by_groups => self.fitted(Contestant::SliceBalanced, &self.judged),
            Edit::GroupBalanced => {
                // Only the validation split has groups.
                let (groups, rows) = (self.held_out_groups()?, self.own[1].rows());
                let (how, classes) = (self.refitting(), self.layer.classes());
                let layer = shortcut::folds::refit(rows.features, rows.labels, &balanced(&groups), classes, how);
                Some((layer, "on the validation split alone".to_owned()))
            }
            // Where named groups judge, the erased features are balanced by them too.
            _ if self.present.is_empty() => None,
            _ => self.fitted(Contestant::Erase, &self.judged),
        }
    }

    /// What others would do.
    fn baseline(&self, edit: Edit) -> Option<(DecisionLayer, String)> {
        let (train, held_out) = (self.own[0].rows(), self.own[1].rows());
        let (classes, how, seed) = (self.layer.classes(), self.refitting(), self.settings.seed);
        let said = |name: &str, (layer, value): (DecisionLayer, f64)| (layer, format!("{name} = {value}"));
        Some(match edit {
            Edit::Dfr => said("1/L1", baselines::dfr(held_out, &self.held_out_groups()?, classes, seed)),
            Edit::Afr => said("γ", baselines::afr(train, held_out, &self.chosen_by(), classes, how, seed)),
            Edit::Jtt => said("λ", baselines::jtt(train, held_out, &self.chosen_by(), classes, how, seed)),
            _ => {
                let features = ndarray::concatenate![Axis(0), *train.features, *held_out.features];
                let labels = [train.labels, held_out.labels].concat();
                let rows = Rows { features: &features, labels: &labels, units: &labels };
                (baselines::cluster_balanced(rows, classes, how, seed), String::new())
            }
        })
    }

    fn figures(&self, layer: &DecisionLayer, part: Part) -> Figures {
        let (table, slices) = match part {
            Part::Validation => (self.splits.validation, &self.validation.slices),
            Part::Test => (self.splits.test, &self.test_slices),
        };
        let right: Vec<bool> = predictions(layer, table).iter().zip(&table.labels).map(|(p, y)| p == y).collect();
        let lowest = |key: &dyn Fn(usize) -> Option<usize>| {
            let mut tally: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
            for (i, &right) in right.iter().enumerate() {
                if let Some(part) = key(i) {
                    let cell = tally.entry(part).or_default();
                    *cell = (cell.0 + usize::from(right), cell.1 + 1);
                }
            }
            let parts = tally.values().map(|&(right, total)| wilson(right, total));
            parts.min_by(|a: &Proportion, b| a.value.total_cmp(&b.value))
        };
        let none = wilson(0, 0);
        Figures {
            overall: lowest(&|_| Some(0)).unwrap_or(none),
            class: lowest(&|i| (table.labels[i] == self.class).then_some(0)).unwrap_or(none),
            worst_class: lowest(&|i| Some(table.labels[i])).unwrap_or(none),
            worst_group: lowest(&|i| table.groups[i]),
            worst_slice: self.active.as_ref().and_then(|_| lowest(&|i| Some(slices[i]))),
        }
    }

    /// Zeroing each suspect, where validation has groups.
    fn causal(&self) -> Vec<CausalCheck> {
        let before = self.figures(self.layer, Part::Validation);
        let Some(worst) = before.worst_group else { return Vec::new() };
        let check = |&neuron: &usize| {
            let after = self.figures(&self.zeroed(&[neuron]), Part::Validation);
            CausalCheck {
                neuron,
                worst_group: after.worst_group.map_or(f64::NAN, |p| p.value) - worst.value,
                overall: after.overall.value - before.overall.value,
            }
        };
        self.neurons.iter().map(check).collect()
    }

    /// Slices of the validation split, which is predicted as `predictions`, as groups for a person to name, the worst first, and the rows that show each best:
    /// the mistakes in it, then the rest.
    fn proposed(&self, predictions: &[usize]) -> (Vec<ProposedGroup>, Vec<Vec<usize>>) {
        let Some([_, active]) = &self.active else { return (Vec::new(), Vec::new()) };
        let labels = &self.splits.validation.labels;
        let mut found: Vec<(ProposedGroup, Vec<usize>)> = Vec::new();
        for slice in sizes(&self.validation.slices).into_keys() {
            let mut rows: Vec<usize> = (0..labels.len()).filter(|&i| self.validation.slices[i] == slice).collect();
            let right = rows.iter().filter(|&&i| predictions[i] == labels[i]).count();
            let accuracy = wilson(right, rows.len());
            let group = ProposedGroup {
                class: slice / 2,
                active: active[rows[0]],
                samples: rows.len(),
                accuracy,
                examples: Vec::new(),
            };
            rows.sort_by_key(|&i| (predictions[i] == labels[i], i));
            rows.truncate(EXAMPLES);
            found.push((group, rows));
        }
        found.sort_by(|a, b| a.0.accuracy.value.total_cmp(&b.0.accuracy.value).then(a.0.class.cmp(&b.0.class)));
        found.into_iter().unzip()
    }

    /// The validation split's mistakes around the class by cluster, the largest first; rows of each; and how far the clusters
    /// tell the same as the suspects.
    fn clusters(&self, predictions: &[usize]) -> (Vec<MistakeCluster>, Vec<Vec<usize>>, Option<f64>) {
        let table = self.splits.validation;
        let around = |&i: &usize| {
            let (truth, called) = (table.labels[i], predictions[i]);
            truth != called && (truth == self.class || called == self.class)
        };
        let rows: Vec<usize> = (0..table.labels.len()).filter(around).collect();
        let parts = clusters::clusters(&table.features.select(Axis(0), &rows), self.settings.seed);
        let active = self.active.as_ref().map(|[_, active]| active);
        let is_active = |i: &&usize| active.is_some_and(|a| a[**i]);
        let mut found: Vec<(MistakeCluster, Vec<usize>)> = Vec::new();
        for part in sizes(&parts).into_keys() {
            let mut own: Vec<usize> = rows.iter().zip(&parts).filter(|(_, p)| **p == part).map(|(i, _)| *i).collect();
            let mut truths: Vec<(usize, usize)> =
                sizes(&own.iter().map(|&i| table.labels[i]).collect::<Vec<_>>()).into_iter().collect();
            truths.sort_by_key(|&(class, count)| (std::cmp::Reverse(count), class));
            let cluster = MistakeCluster {
                samples: own.len(),
                active: own.iter().filter(is_active).count(),
                truths,
                called: own.iter().filter(|&&i| predictions[i] == self.class).count(),
                examples: Vec::new(),
            };
            own.truncate(EXAMPLES);
            found.push((cluster, own));
        }
        found.sort_by_key(|(cluster, _)| std::cmp::Reverse(cluster.samples));
        let told: usize = found.iter().map(|(c, _)| c.active.max(c.samples - c.active)).sum();
        let agreement = (active.is_some() && found.len() > 1).then(|| told as f64 / rows.len() as f64);
        let (clusters, examples) = found.into_iter().unzip();
        (clusters, examples, agreement)
    }

    /// How far the proposed groups are the known ones: within each class, the best one-to-one naming of known groups
    /// as active and not.
    fn agreement(&self) -> Option<f64> {
        let [_, active] = self.active.as_ref()?;
        let table = self.splits.validation;
        let mut cells: BTreeMap<(usize, usize), [usize; 2]> = BTreeMap::new();
        for (i, &on) in active.iter().enumerate() {
            cells.entry((table.labels[i], table.groups[i]?)).or_default()[usize::from(on)] += 1;
        }
        let agreeing: usize = cells.values().map(|[off, on]| off.max(on)).sum();
        Some(agreeing as f64 / active.len().max(1) as f64)
    }
}

fn sizes(parts: &[usize]) -> BTreeMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    parts.iter().for_each(|&p| *sizes.entry(p).or_default() += 1);
    sizes
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn class_edits(before: &DecisionLayer, after: &DecisionLayer, test: &FeatureTable, names: &[String]) -> Vec<ClassEdit> {
    let counts = |layer: &DecisionLayer| {
        let mut counts = vec![0; layer.classes()];
        predictions(layer, test).into_iter().for_each(|p| counts[p] += 1);
        counts
    };
    let (was, is) = (counts(before), counts(after));
    let norm = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
    let moved = &after.weight - &before.weight;
    (0..before.classes())
        .map(|c| ClassEdit {
            class: c,
            name: class_name(names, c),
            moved: norm(moved.row(c)) / norm(before.weight.row(c)).max(f64::MIN_POSITIVE),
            bias: f64::from(after.bias[c] - before.bias[c]),
            predicted: [was[c], is[c]],
        })
        .collect()
}

/// The suspects, then the neurons that moved most, twenty in all at least.
fn neuron_edits(before: &DecisionLayer, after: &DecisionLayer, class: usize, suspects: &[usize]) -> Vec<NeuronEdit> {
    let moved = &after.weight - &before.weight;
    let of = |neuron: usize| NeuronEdit {
        neuron,
        weight: [before.weight[[class, neuron]], after.weight[[class, neuron]]].map(f64::from),
        moved: moved.column(neuron).iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt(),
        suspect: suspects.contains(&neuron),
    };
    let mut all: Vec<NeuronEdit> = (0..before.features()).map(of).collect();
    all.sort_by(|a, b| b.suspect.cmp(&a.suspect).then(b.moved.total_cmp(&a.moved)).then(a.neuron.cmp(&b.neuron)));
    all.truncate(20.max(suspects.len()));
    all
}
