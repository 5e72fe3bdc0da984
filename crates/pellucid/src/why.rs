//! One picture: its top classes, and the neurons that speak for and against the answer.

use crate::input::{OnePicture, Taken};
use crate::{Classifier, Error, Warning};
use ndarray::Axis;
use pellucid_classifier::layer::softmax;
use pellucid_classifier::maps::NeuronMaps;
use pellucid_runtime::Array;
use pellucid_saliency::render;
use pellucid_saliency::{Alignment, Grid, SaliencyMap};
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::ViewBox;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// How strongly a map covers the picture that it is drawn on.
pub(crate) const OPACITY: f32 = 0.55;

/// A neuron's share in the decision.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Evidence {
    /// The neuron.
    pub neuron: usize,
    /// Its activation on the picture.
    pub activation: f32,
    /// What it adds to the margin of the answer over the runner-up: (W_answer − W_runner-up) f.
    pub contribution: f32,
    /// Where it responds, on the feature map's grid; `None` where there are no maps ([`Why::note`]).
    #[serde(skip)]
    pub map: Option<SaliencyMap>,
}

impl Evidence {
    /// Its map over `seen` ([`Why::seen`]); `None` without one, or where it is constant.
    pub fn drawn(&self, seen: &Picture) -> Option<Picture> {
        render::render(seen, self.map.as_ref()?.values.view(), Alignment::Centres, OPACITY)
    }
}

/// Why neurons have no maps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoMaps {
    /// There is no feature map.
    NoFeatureMap(String),
    /// Layers stand between the feature map and the head, and there is no gradient.
    NoGradient(String),
}

impl fmt::Display for NoMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFeatureMap(why) => write!(f, "neurons have no maps: {why}"),
            Self::NoGradient(why) => write!(
                f,
                "neurons have no maps: layers stand between the feature map and the head, so that a map takes a gradient, and \
                 there is none: {why}"
            ),
        }
    }
}

impl Serialize for NoMaps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a picture got its answer.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// Class index, name and probability, most likely first.
    pub classes: Vec<(usize, String, f64)>,
    /// Margin of the answer over the runner-up, in logits.
    pub margin: f32,
    /// Neurons for the answer, strongest first.
    pub supporting: Vec<Evidence>,
    /// Neurons against it, strongest first.
    pub opposing: Vec<Evidence>,
    /// Why there are no maps, if there are none.
    pub note: Option<NoMaps>,
    /// How the maps are made and what to keep in mind when looking at them.
    pub maps: Option<String>,
    /// What the user should know of the model.
    pub warnings: Vec<Warning>,
    /// Where what the model saw lies in the picture; `None` for an input that was prepared already.
    pub view: Option<ViewBox>,
    /// What the model saw.
    #[serde(skip)]
    pub seen: Picture,
}

impl Why {
    /// Every neuron's map as numbers, on the feature map's grid, by its id (`neuron-7`).
    pub fn arrays(&self) -> BTreeMap<String, Array> {
        let maps = self.supporting.iter().chain(&self.opposing).filter_map(|e| e.map.as_ref());
        maps.map(|map| (map.id.clone(), Array::F32(map.values.clone().into_dyn()))).collect()
    }
}

/// Explains `classifier`'s answer on one picture with `count` neurons in each direction.
///
/// # Errors
/// Where the picture cannot be read or the network fails.
pub fn why(classifier: &Classifier, picture: impl Into<OnePicture>, count: usize) -> Result<Why, Error> {
    classifier.needs_decision_layer("why")?;
    let Taken { seen, input, whole } = picture.into().take(classifier)?;
    let network = classifier.network();
    let neuron_maps = NeuronMaps::on(network, input)?;
    let given = neuron_maps.given();
    let (layer, features) = (classifier.layer(), given.features.row(0));
    let logits = layer.weight.dot(&features) + &layer.bias;
    let order = ranked(&logits.to_vec());
    let (Some(&answer), runner_up) = (order.first(), order.get(1).copied()) else {
        let reason = "the model gives no logits".to_owned();
        return Err(Error::Head { model: classifier.path().to_path_buf(), reason });
    };
    let contribution = |j: usize| {
        let against = runner_up.map_or(0.0, |r| layer.weight[[r, j]]);
        (layer.weight[[answer, j]] - against) * features[j]
    };
    let mut neurons: Vec<(usize, f32)> = (0..features.len()).map(|j| (j, contribution(j))).collect();
    neurons.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let channels = neuron_maps.are_channels();
    let mut note = match network.feature_map() {
        Some(_) => None,
        None => Some(NoMaps::NoFeatureMap(network.no_feature_map().unwrap_or("there is no feature map").to_owned())),
    };
    let coarse = network.feature_map().and_then(pellucid_classifier::network::FeatureMap::coarse);
    let mut map_of = |j: usize| {
        if note.is_some() {
            return None;
        }
        // A map is worth an answer without it.
        let values = match neuron_maps.of(j, &[0]) {
            Ok(Some(maps)) => maps.index_axis(Axis(0), 0).to_owned(),
            Ok(None) => {
                note = Some(NoMaps::NoGradient("the network offers none".to_owned()));
                return None;
            }
            Err(error) => {
                note = Some(NoMaps::NoGradient(error.to_string()));
                return None;
            }
        };
        let title = if channels { format!("Neuron {j}") } else { format!("Neuron {j}: gradient × activation") };
        Some(SaliencyMap::new(format!("neuron-{j}"), title, values, Grid::Layer).with_doubts(coarse.clone()))
    };
    let mut evidence = |&(neuron, contribution): &(usize, f32)| Evidence {
        neuron,
        activation: features[neuron],
        contribution,
        map: map_of(neuron),
    };
    let supporting: Vec<Evidence> = neurons.iter().take_while(|n| n.1 > 0.0).take(count).map(&mut evidence).collect();
    let opposing: Vec<Evidence> =
        neurons.iter().rev().take_while(|n| n.1 < 0.0).take(count).map(&mut evidence).collect();
    let how = (!channels).then(|| {
        "layers stand between the feature map and the head: maps show gradient × activation there, summed over channels, what \
         is positive"
            .to_owned()
    });
    let said: Vec<String> = how.into_iter().chain(coarse.clone()).collect();
    let probabilities = softmax(logits.view());
    Ok(Why {
        classes: order.iter().take(5).map(|&c| (c, classifier.class_name(c), probabilities[c])).collect(),
        margin: logits[answer] - runner_up.map_or(0.0, |r| logits[r]),
        supporting,
        opposing,
        maps: note.is_none().then(|| said.join("; ")).filter(|said| !said.is_empty()),
        note,
        warnings: classifier.warnings().to_vec(),
        view: whole.map(|(_, view)| view),
        seen,
    })
}

fn ranked(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order
}
