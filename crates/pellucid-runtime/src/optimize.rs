//! A model rewritten to run faster where nothing inside it is read.

use crate::gradients::GradientsError;
use crate::library::Runtime;
use pellucid_graph::optimize::{drop_zero_terms, fix_reshapes, fuse_attention, split_linear_layers};
use pellucid_graph::{Model, Observations, grad};
use std::collections::BTreeMap;

impl Runtime {
    /// A model of [`grad::prepare`], of which `observed` and its inputs' `shapes` at one sample are known, with what its shapes
    /// alone decide computed, sums with zeros left out, gated layers split and, where `fuse` allows the runtime's own operator,
    /// attention fused. Outputs keep their names and, but for rounding, their numbers; other values may be gone.
    ///
    /// # Errors
    /// [`GradientsError`] where the shape computations cannot be run, or where the graph was not sound.
    pub fn optimize(
        &self,
        prepared: &Model,
        observed: &Observations,
        shapes: &BTreeMap<String, Vec<usize>>,
        fuse: bool,
    ) -> Result<Model, GradientsError> {
        let unsound = |source: pellucid_graph::GraphError| GradientsError::Gradient {
            model: prepared.path().to_path_buf(),
            source: source.into(),
        };
        let mut optimized = prepared.clone();
        let known = self.known_constants(&optimized, observed, shapes)?;
        grad::fold_known(&mut optimized.graph, known);
        drop_zero_terms(&mut optimized, observed);
        fix_reshapes(&mut optimized, observed);
        split_linear_layers(&mut optimized, observed).map_err(unsound)?;
        if fuse {
            fuse_attention(&mut optimized, observed).map_err(unsound)?;
        }
        Ok(optimized)
    }
}
