//! Which values a gradient can reach, without building it: for people who look at a model.

use super::rules::{self, Found};
use crate::graph::Graph;
use crate::observed::Observations;
use std::collections::{BTreeSet, HashMap};

/// What a gradient of some values can reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Float values that the gradient reaches, the model's inputs included, in the order of computation.
    pub values: Vec<String>,
    /// Nodes on the way that have no rule, with the reason.
    pub refused: Vec<(String, String)>,
}

/// Walks back from `from` over `graph` (prepared; see [`super::prepare`]) whose values were `observed`. A rule may still
/// refuse a node for its attributes when the gradient is built.
pub fn reach(graph: &Graph, observed: &Observations, from: &[&str]) -> Reach {
    let producers: HashMap<&str, usize> = graph.producers();
    let straight = rules::straight_through(graph);
    let floating = |v: &str| straight.contains(v) || observed.get(v).is_some_and(|o| o.element.is_float());
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut refused: BTreeSet<usize> = BTreeSet::new();
    let mut reasons: HashMap<usize, String> = HashMap::new();
    let mut open: Vec<&str> = from.iter().copied().filter(|v| floating(v)).collect();
    while let Some(value) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        let Some(&at) = producers.get(value) else { continue };
        match rules::find(&graph.nodes[at]) {
            Found::Rule(_) => {
                let reads = graph.nodes[at].reads();
                open.extend(reads.into_iter().filter(|r| floating(r) && !graph.initializers.contains_key(*r)));
            }
            Found::Refusal(reason) => {
                refused.insert(at);
                reasons.insert(at, reason);
            }
        }
    }
    let inputs = graph.inputs.iter().map(|v| v.name());
    let values = inputs.chain(graph.values()).filter(|v| seen.contains(v)).map(str::to_owned).collect();
    let refused =
        refused.into_iter().map(|at| (graph.nodes[at].describe(), reasons.remove(&at).unwrap_or_default())).collect();
    Reach { values, refused }
}
