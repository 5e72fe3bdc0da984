//! Batch sizes that fit a memory budget.

use pellucid_graph::observed::Observations;
use serde::{Deserialize, Serialize};

pub use pellucid_guard::budget::DEFAULT_MEMORY;

/// How many samples go through a model at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    /// Samples per run.
    pub size: usize,
    /// Whether every run must have exactly `size` samples (a batch baked into the export); the last run is padded.
    pub fixed: bool,
}

impl Batching {
    /// The largest batch, at most `largest`, whose activations stay below `budget` bytes, for a model whose values are
    /// `observed` and whose declared batch is `baked` (if it is fixed).
    ///
    /// The estimate counts the largest values that a run could hold at once: the runtime frees a value after its last
    /// reader, so the sum of the four largest bounds it well for chains and residual blocks.
    pub fn fit(observed: &Observations, baked: Option<usize>, budget: u64, largest: usize) -> Self {
        if let Some(size) = baked {
            return Self { size, fixed: true };
        }
        let mut bytes: Vec<u64> = observed.values().map(|o| (o.len() * o.element.size().unwrap_or(8)) as u64).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        let per_sample: u64 = bytes.iter().take(4).sum::<u64>().max(1);
        let size = usize::try_from(budget / per_sample).unwrap_or(usize::MAX).clamp(1, largest.max(1));
        Self { size, fixed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid_graph::{ElementType, Observed};

    fn one_value(elements: usize) -> Observations {
        let observed = Observed { element: ElementType::F32, shape: vec![1, elements], shape_at_two: None };
        Observations::from([("x".to_owned(), observed)])
    }

    #[test]
    fn the_budget_bounds_the_batch() {
        assert_eq!(Batching::fit(&one_value(1 << 20), None, 64 << 20, 64).size, 16);
        assert_eq!(Batching::fit(&one_value(1 << 20), None, 1, 64).size, 1);
        assert_eq!(Batching::fit(&one_value(1), None, 1 << 40, 64).size, 64);
    }

    #[test]
    fn a_baked_batch_is_kept() {
        assert_eq!(Batching::fit(&one_value(1), Some(8), 1, 64), Batching { size: 8, fixed: true });
    }
}
