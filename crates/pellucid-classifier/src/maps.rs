//! Heat maps of neurons on pictures: the neuron's channel of the last feature map, or where other layers stand between, what
//! the map's places give it: ReLU of Σ over channels of gradient × activation.

use crate::network::{self, Forward, Network, NetworkError, Offer, Score, Subject, Taps};
use crate::results::Finding;
use ndarray::{Array3, ArrayD, Axis};
use pellucid_guard::Budget;
use pellucid_saliency::render::min_max;
use pellucid_vision::dataset::Dataset;
use pellucid_vision::loader;
use pellucid_vision::preprocess::Preprocessing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Draws the heat map of every top-activating picture of `findings`, each picture run once for each of its neurons. A neuron
/// whose map is constant keeps an empty one. Gives why none was drawn, where none was.
///
/// # Errors
/// What the network says.
pub fn draw(
    network: &dyn Network,
    data: &Arc<Dataset>,
    preprocessing: &Preprocessing,
    limits: &Budget,
    findings: &mut [Finding],
) -> Result<Option<String>, NetworkError> {
    if network.feature_map().is_none() {
        return Ok(network.no_feature_map().map(str::to_owned));
    }
    let wanted = wanted_maps(findings);
    let indices: Vec<usize> = wanted.keys().copied().collect();
    let mut drawn: BTreeMap<(usize, usize), (Vec<f32>, [usize; 2])> = BTreeMap::new();
    for batch in loader::batches(data.clone(), preprocessing.clone(), indices, network.batch(), *limits, None) {
        if batch.indices.is_empty() {
            continue;
        }
        let neurons: BTreeSet<usize> = batch.indices.iter().flat_map(|i| wanted[i].iter().copied()).collect();
        let maps = NeuronMaps::on(network, batch.inputs.into_dyn())?;
        for j in neurons {
            let rows: Vec<usize> =
                (0..batch.indices.len()).filter(|&r| wanted[&batch.indices[r]].contains(&j)).collect();
            let found = match maps.of(j, &rows) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                // What is found is worth reading without maps.
                Err(NetworkError::Gradients(error)) => return Ok(Some(error.to_string())),
                Err(error) => return Err(error),
            };
            for (one, row) in found.outer_iter().zip(rows) {
                if let Some(scaled) = min_max(one) {
                    drawn.insert(
                        (batch.indices[row], j),
                        (scaled.iter().copied().collect(), [one.nrows(), one.ncols()]),
                    );
                }
            }
        }
    }
    for neuron in findings.iter_mut().flat_map(Finding::neurons_mut) {
        for top in &mut neuron.top {
            if let Some((heat, size)) = drawn.get(&(top.sample.index, neuron.index)) {
                top.heat.clone_from(heat);
                top.heat_size = *size;
            }
        }
    }
    Ok(None)
}

/// Where neurons respond on some inputs.
#[derive(Debug)]
pub struct NeuronMaps<'a> {
    network: &'a dyn Network,
    inputs: ArrayD<f32>,
    /// Logits and features, and the feature map, where neurons are its channels.
    given: Forward,
}

impl<'a> NeuronMaps<'a> {
    /// Runs the network on `inputs`, N first.
    ///
    /// # Errors
    /// What the network says.
    pub fn on(network: &'a dyn Network, inputs: ArrayD<f32>) -> Result<Self, NetworkError> {
        let direct = network.feature_map().is_some_and(|m| m.is_direct());
        let given = network::forward(network, &inputs, if direct { Taps::WithMap } else { Taps::Vectors })?;
        Ok(Self { network, inputs, given })
    }

    /// What the pass gave.
    pub fn given(&self) -> &Forward {
        &self.given
    }

    /// Whether a neuron's map is its channel; else it is made with gradients.
    pub fn are_channels(&self) -> bool {
        self.given.map.is_some()
    }

    /// The maps of neuron `j` on `rows`, rows × h × w; `None` where there is no feature map or no gradient.
    ///
    /// # Errors
    /// What the network says.
    pub fn of(&self, j: usize, rows: &[usize]) -> Result<Option<Array3<f32>>, NetworkError> {
        let Some(map) = self.network.feature_map() else { return Ok(None) };
        if let Some(channels) = &self.given.map {
            return Ok(map.neuron(&channels.select(Axis(0), rows), j));
        }
        if !self.network.offers(Offer::Gradient) {
            return Ok(None);
        }
        let layer = self.network.layer();
        let score = Score::of(Subject::Neuron(j), layer.classes(), layer.features());
        let mut parts = Vec::new();
        for rows in rows.chunks(self.network.batch().max(1)) {
            let gradient = network::gradient(self.network, &self.inputs.select(Axis(0), rows), &score)?;
            let Some([values, by_map]) = gradient.map else { return Ok(None) };
            let Some((values, by_map)) = map.places(&values).zip(map.places(&by_map)) else { return Ok(None) };
            parts.push((values * by_map).sum_axis(Axis(1)).mapv(|v| v.max(0.0)));
        }
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        Ok(ndarray::concatenate(Axis(0), &views).ok())
    }
}

/// Which neurons are drawn on each picture.
fn wanted_maps(findings: &[Finding]) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut wanted: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for neuron in findings.iter().flat_map(Finding::neurons) {
        for top in &neuron.top {
            wanted.entry(top.sample.index).or_default().insert(neuron.index);
        }
    }
    wanted
}
