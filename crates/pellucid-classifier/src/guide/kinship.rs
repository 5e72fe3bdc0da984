//! Whether a guide is the model under study again. Weights are compared by content, so renamed and shared files count.

use super::GuideError;
use pellucid_graph::{Model, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Tensors of fewer numbers may be equal by chance: zeros, ones, normalisation constants.
const SMALLEST: usize = 512;

/// Refuses a guide of which a tensor of weights is the studied model's.
pub(super) fn refuse(guide: &Path, encoder: &Model, studied: &Model) -> Result<(), GuideError> {
    let own: BTreeSet<[u8; 32]> = weights(studied)?.into_values().map(|(hash, _)| hash).collect();
    let theirs = weights(encoder)?;
    let total: usize = theirs.values().map(|(_, n)| n).sum();
    let shared: Vec<(&String, usize)> =
        theirs.iter().filter(|(_, (hash, _))| own.contains(hash)).map(|(name, (_, n))| (name, *n)).collect();
    let Some((tensor, elements)) = shared.iter().max_by_key(|(_, n)| *n) else { return Ok(()) };
    Err(GuideError::Kin {
        guide: guide.to_owned(),
        model: studied.path().to_owned(),
        tensor: (*tensor).clone(),
        elements: *elements,
        share: 100.0 * shared.iter().map(|(_, n)| n).sum::<usize>() as f64 / total.max(1) as f64,
    })
}

/// Content hash and size of every tensor of weights, by name.
fn weights(model: &Model) -> Result<BTreeMap<String, ([u8; 32], usize)>, GuideError> {
    let mut whole = model.clone();
    whole.embed_weights()?;
    let large = |t: &&Tensor| t.element().is_float() && t.len() >= SMALLEST;
    let hashed = whole.graph.initializers.values().filter(large).filter_map(|tensor| {
        let values = tensor.to_f32().ok()?;
        // A constant tensor says nothing about whose it is.
        values.iter().any(|v| v != &values[0]).then(|| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (tensor.name().to_owned(), (*blake3::hash(&bytes).as_bytes(), values.len()))
        })
    });
    Ok(hashed.collect())
}
