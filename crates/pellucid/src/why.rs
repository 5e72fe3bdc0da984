//! One picture: its top classes, and the neurons that speak for and against the answer.

use crate::{Classifier, Error};
use ndarray::{Array4, ArrayView1, Axis};
use pellucid_classifier::layer::softmax;
use pellucid_classifier::scan::predicted;
use pellucid_saliency::render::{self, Alignment};
use pellucid_vision::picture::Picture;
use serde::Serialize;
use std::path::Path;

/// Activations of the batch that a single picture makes.
const ONE: usize = 1;

/// A neuron's share in the decision.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// The neuron.
    pub neuron: usize,
    /// Its activation on the picture.
    pub activation: f32,
    /// What it adds to the margin of the answer over the runner-up: (W_answer − W_runner-up) f.
    pub contribution: f32,
    /// Its heat map drawn on the picture, PNG; absent where the map is constant or layers stand between.
    #[serde(skip)]
    pub picture: Option<Vec<u8>>,
}

/// Why a picture got its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// Class index, name and probability, most likely first.
    pub classes: Vec<(usize, String, f64)>,
    /// Margin of the answer over the runner-up, in logits.
    pub margin: f32,
    /// Neurons for the answer, strongest first.
    pub supporting: Vec<Evidence>,
    /// Neurons against it, strongest first.
    pub opposing: Vec<Evidence>,
    /// Why there are no heat maps, if there are none.
    pub note: Option<String>,
    /// What the model saw, PNG.
    #[serde(skip)]
    pub seen: Vec<u8>,
}

/// Explains `classifier`'s answer on the picture at `path` with `count` neurons in each direction.
pub fn why(classifier: &Classifier, path: impl AsRef<Path>, count: usize) -> Result<Why, Error> {
    let options = &classifier.options;
    let picture = Picture::open(path, &options.budget)?;
    let seen = classifier.preprocessing.view(&picture);
    let input = classifier.preprocessing.run(&picture);
    let input: Array4<f32> = input.insert_axis(Axis(0));
    let mut session =
        classifier.tapped.scan_session(&classifier.runtime, &options.session, options.budget.memory, ONE)?;
    let features = session.run(&input.clone().into_dyn())?.pop().unwrap_or_default();
    let features: Vec<f32> = features.iter().copied().collect();
    let logits = classifier.layer.weight.dot(&ArrayView1::from(&features)) + &classifier.layer.bias;
    let order = ranked(logits.as_slice().unwrap_or_default());
    let (Some(&answer), runner_up) = (order.first(), order.get(1).copied()) else {
        return Err(Error::Head {
            model: classifier.path().to_path_buf(),
            reason: "the model gives no logits".to_owned(),
        });
    };
    debug_assert_eq!(answer, predicted(logits.as_slice().unwrap_or_default()));
    let contribution = |j: usize| {
        let against = runner_up.map_or(0.0, |r| classifier.layer.weight[[r, j]]);
        (classifier.layer.weight[[answer, j]] - against) * features[j]
    };
    let mut neurons: Vec<(usize, f32)> = (0..features.len()).map(|j| (j, contribution(j))).collect();
    neurons.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let map = feature_map(classifier, &input)?;
    let evidence = |&(j, contribution): &(usize, f32)| Evidence {
        neuron: j,
        activation: features[j],
        contribution,
        picture: map.as_ref().and_then(|m| draw(classifier, m, j, &seen)),
    };
    let supporting = neurons.iter().take_while(|n| n.1 > 0.0).take(count).map(&evidence).collect();
    let opposing = neurons.iter().rev().take_while(|n| n.1 < 0.0).take(count).map(&evidence).collect();
    let probabilities = softmax(logits.view());
    let name = |c: usize| {
        classifier.class_names.as_ref().and_then(|n| n.get(c).cloned()).unwrap_or_else(|| format!("class {c}"))
    };
    Ok(Why {
        classes: order.iter().take(5).map(|&c| (c, name(c), probabilities[c])).collect(),
        margin: logits[answer] - runner_up.map_or(0.0, |r| logits[r]),
        supporting,
        opposing,
        note: map
            .is_none()
            .then(|| "layers stand between the feature map and the head: neurons have no map of their own".to_owned()),
        seen: seen.to_png()?,
    })
}

fn ranked(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order
}

fn feature_map(classifier: &Classifier, input: &Array4<f32>) -> Result<Option<ndarray::ArrayD<f32>>, Error> {
    let options = &classifier.options;
    if !classifier.tapped.map.as_ref().is_some_and(|m| m.is_direct()) {
        return Ok(None);
    }
    let session = classifier.tapped.map_session(&classifier.runtime, &options.session, options.budget.memory, ONE)?;
    Ok(match session {
        Some(mut session) => session.run(&input.clone().into_dyn())?.pop(),
        None => None,
    })
}

fn draw(classifier: &Classifier, map: &ndarray::ArrayD<f32>, j: usize, seen: &Picture) -> Option<Vec<u8>> {
    let maps = classifier.tapped.map.as_ref()?.neuron(map, j)?;
    render::render(seen, maps.index_axis(Axis(0), 0), Alignment::Centres, 0.55)?.to_png().ok()
}
