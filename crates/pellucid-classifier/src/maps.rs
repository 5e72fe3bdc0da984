//! Heat maps of neurons on pictures: the neuron's channel of the last feature map.

use crate::results::Finding;
use pellucid_guard::Budget;
use pellucid_runtime::{Runtime, RuntimeError, TapSession, TappedModel};
use pellucid_saliency::render::min_max;
use pellucid_vision::dataset::Dataset;
use pellucid_vision::loader;
use pellucid_vision::preprocess::Preprocessing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::scan::ScanSettings;

/// Draws the heat map of every top-activating picture of `findings`, each picture run once. A neuron without a map of
/// its own (layers between feature map and head), or whose map is constant, keeps an empty one.
pub fn draw(
    runtime: &Runtime,
    model: &TappedModel,
    data: &Arc<Dataset>,
    preprocessing: &Preprocessing,
    limits: &Budget,
    settings: &ScanSettings,
    findings: &mut [Finding],
) -> Result<(), RuntimeError> {
    let Some(map) = model.map.as_ref().filter(|m| m.is_direct()) else { return Ok(()) };
    let Some(mut session) = model.map_session(runtime, &settings.session, settings.memory, settings.largest_batch)?
    else {
        return Ok(());
    };
    let wanted = wanted_maps(findings);
    let indices: Vec<usize> = wanted.keys().copied().collect();
    let mut drawn: BTreeMap<(usize, usize), (Vec<f32>, [usize; 2])> = BTreeMap::new();
    for batch in loader::batches(data.clone(), preprocessing.clone(), indices, session.batching().size, *limits, None) {
        if batch.indices.is_empty() {
            continue;
        }
        let outputs = run_one(&mut session, batch.inputs.into_dyn())?;
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

fn run_one(session: &mut TapSession, pictures: ndarray::ArrayD<f32>) -> Result<ndarray::ArrayD<f32>, RuntimeError> {
    Ok(session.run(&pictures)?.into_iter().next().unwrap_or_default())
}
