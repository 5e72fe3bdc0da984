//! A graph that was exported in training mode: batch norm reads the batch, dropout drops.
//!
//! Such a model answers differently for the same picture in another batch, and every accuracy read off it is wrong.

use pellucid_graph::{Graph, Node, Tensor};
use serde::{Deserialize, Serialize};

/// Nodes that behave as in training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingMode {
    /// Normalisations by the batch's statistics, by node.
    pub normalisations: Vec<String>,
    /// Dropouts that drop, by node.
    pub dropouts: Vec<String>,
}

/// What in `graph` runs in training mode, if anything does.
pub fn training_mode(graph: &Graph) -> Option<TrainingMode> {
    let named = |is: &dyn Fn(&Node) -> bool| -> Vec<String> {
        graph.nodes.iter().filter(|node| is(node)).map(Node::describe).collect()
    };
    let normalises = |node: &Node| node.is("BatchNormalization") && node.int("training_mode").unwrap_or(0) != 0;
    let drops = |node: &Node| {
        let keeps_all = node.input(1).is_some_and(|ratio| is_zero(graph, ratio));
        node.is("Dropout") && node.input(2).is_some_and(|mode| is_true(graph, mode)) && !keeps_all
    };
    let found = TrainingMode { normalisations: named(&normalises), dropouts: named(&drops) };
    (!found.normalisations.is_empty() || !found.dropouts.is_empty()).then_some(found)
}

/// Whether a value is a constant that is true.
fn is_true(graph: &Graph, value: &str) -> bool {
    constant(graph, value).and_then(|t| t.to_i64().ok()).is_some_and(|values| values.iter().any(|v| *v != 0))
}

fn is_zero(graph: &Graph, value: &str) -> bool {
    constant(graph, value).and_then(|t| t.to_f32().ok()).is_some_and(|values| values.iter().all(|v| *v == 0.0))
}

/// The constant behind a value; copies are looked through.
fn constant(graph: &Graph, value: &str) -> Option<Tensor> {
    if let Some(found) = graph.initializers.get(value) {
        return Some(found.clone());
    }
    let node = graph.producer(value)?;
    match node.op() {
        "Identity" => constant(graph, node.input(0)?),
        "Constant" => node.tensor("value"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pellucid_graph::{ElementType, Value};

    fn graph(training: bool) -> Graph {
        let mode = Tensor::raw("mode", ElementType::Bool, &[], Bytes::from(vec![u8::from(training)]));
        let ratio = Tensor::f32("ratio", &[], &[0.3]);
        let norm = Node::new("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"]);
        let norm = if training { norm.with_int("training_mode", 1) } else { norm };
        let nodes = vec![norm, Node::new("Dropout", &["y", "ratio", "mode"], &["z"])];
        let vector = |name| Tensor::f32(name, &[1], &[1.0]);
        let constants = vec![mode, ratio, vector("s"), vector("b"), vector("m"), vector("v")];
        Graph::new(vec![Value::untyped("x")], nodes, constants, &["z"]).unwrap()
    }

    #[test]
    fn a_graph_that_normalises_by_the_batch_and_drops_is_named() {
        let found = training_mode(&graph(true)).unwrap();
        assert_eq!((found.normalisations.len(), found.dropouts.len()), (1, 1));
        assert_eq!(training_mode(&graph(false)), None);
    }
}
