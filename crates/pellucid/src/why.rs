//! One picture: its top classes, and the neurons that speak for and against the answer.

use crate::input::{OnePicture, Taken};
use crate::{Classifier, Error};
use ndarray::Axis;
use pellucid_classifier::layer::softmax;
use pellucid_classifier::network::{self, Taps};
use pellucid_saliency::render;
use pellucid_saliency::{Alignment, Grid, SaliencyMap};
use pellucid_vision::picture::Picture;
use serde::{Serialize, Serializer};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoMaps {
    /// Layers stand between the feature map and the head, or there is no feature map.
    Indirect,
}

impl fmt::Display for NoMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("layers stand between the feature map and the head: neurons have no map of their own")
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
    /// What the model saw.
    #[serde(skip)]
    pub seen: Picture,
}

/// Explains `classifier`'s answer on one picture with `count` neurons in each direction.
///
/// # Errors
/// Where the picture cannot be read or the network fails.
pub fn why(classifier: &Classifier, picture: impl Into<OnePicture>, count: usize) -> Result<Why, Error> {
    let Taken { seen, input } = picture.into().take(classifier)?;
    let network = classifier.network();
    let direct = network.feature_map().filter(|m| m.is_direct());
    let taps = if direct.is_some() { Taps::WithMap } else { Taps::Vectors };
    let given = network::forward(network, &input, taps)?;
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
    let map_of = |j: usize| {
        let maps = direct?.neuron(given.map.as_ref()?, j)?;
        let values = maps.index_axis(Axis(0), 0).to_owned();
        Some(SaliencyMap::new(format!("neuron-{j}"), format!("Neuron {j}"), values, Grid::Layer))
    };
    let evidence = |&(neuron, contribution): &(usize, f32)| Evidence {
        neuron,
        activation: features[neuron],
        contribution,
        map: map_of(neuron),
    };
    let supporting = neurons.iter().take_while(|n| n.1 > 0.0).take(count).map(evidence).collect();
    let opposing = neurons.iter().rev().take_while(|n| n.1 < 0.0).take(count).map(evidence).collect();
    let probabilities = softmax(logits.view());
    Ok(Why {
        classes: order.iter().take(5).map(|&c| (c, classifier.class_name(c), probabilities[c])).collect(),
        margin: logits[answer] - runner_up.map_or(0.0, |r| logits[r]),
        supporting,
        opposing,
        note: direct.is_none().then_some(NoMaps::Indirect),
        seen,
    })
}

fn ranked(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order
}
