//! Heat maps of neurons on pictures: the neuron's channel of the last feature map.

use crate::network::{self, Network, NetworkError, Taps};
use crate::results::Finding;
use pellucid_guard::Budget;
use pellucid_saliency::render::min_max;
use pellucid_vision::dataset::Dataset;
use pellucid_vision::loader;
use pellucid_vision::preprocess::Preprocessing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Draws the heat map of every top-activating picture of `findings`, each picture run once. A neuron without a map of
/// its own (layers between feature map and head), or whose map is constant, keeps an empty one.
///
/// # Errors
/// What the network says.
pub fn draw(
    network: &dyn Network,
    data: &Arc<Dataset>,
    preprocessing: &Preprocessing,
    limits: &Budget,
    findings: &mut [Finding],
) -> Result<(), NetworkError> {
    let Some(map) = network.feature_map().filter(|m| m.is_direct()) else { return Ok(()) };
    let wanted = wanted_maps(findings);
    let indices: Vec<usize> = wanted.keys().copied().collect();
    let mut drawn: BTreeMap<(usize, usize), (Vec<f32>, [usize; 2])> = BTreeMap::new();
    for batch in loader::batches(data.clone(), preprocessing.clone(), indices, network.batch(), *limits, None) {
        if batch.indices.is_empty() {
            continue;
        }
        let given = network::forward(network, &batch.inputs.into_dyn(), Taps::WithMap)?;
        let outputs = given.map.unwrap_or_default();
        for (row, index) in batch.indices.iter().enumerate() {
            for &j in &wanted[index] {
                let Some(maps) = map.neuron(&outputs, j) else { continue };
                let one = maps.index_axis(ndarray::Axis(0), row);
                if let Some(scaled) = min_max(one) {
                    drawn.insert((*index, j), (scaled.iter().copied().collect(), [one.nrows(), one.ncols()]));
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
    Ok(())
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
