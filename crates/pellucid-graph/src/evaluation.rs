//! From an export in training mode to the network as it is used: batch normalisation by the running statistics, no dropout.

use crate::graph::Graph;
use crate::tensor::{ElementType, Tensor};

/// Makes batch normalisation read its running statistics and dropout do nothing. Gives the number of nodes that were changed. A
/// node whose batch statistics are read elsewhere stays.
pub fn to_evaluation(graph: &mut Graph) -> usize {
    let is_read = |graph: &Graph, value: &String| {
        !value.is_empty()
            && (graph.outputs.iter().any(|o| o.name() == value)
                || graph.nodes.iter().any(|n| n.reads().contains(&value.as_str())))
    };
    let mut changed = 0;
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        match node.op() {
            _ if !node.domain().is_empty() => {}
            "BatchNormalization" => {
                let trains = node.int("training_mode").unwrap_or(0) != 0 || node.outputs().len() > 1;
                let statistics: Vec<String> = node.outputs().iter().skip(1).cloned().collect();
                if !trains || statistics.iter().any(|value| is_read(graph, value)) {
                    continue;
                }
                let node = &mut graph.nodes[at].proto;
                node.output.truncate(1);
                node.attribute.retain(|a| a.name() != "training_mode");
                changed += 1;
            }
            "Dropout" if node.input(2).is_some_and(|v| !v.is_empty() && is_true(graph, v)) => {
                graph.nodes[at].proto.input.truncate(2);
                changed += 1;
            }
            _ => {}
        }
    }
    changed
}

/// Whether a constant is true.
fn is_true(graph: &Graph, value: &str) -> bool {
    let tensor = |t: &Tensor| t.element() == ElementType::Bool && t.raw_bytes().is_some_and(|b| b.first() == Some(&1));
    let scalar = |t: &Tensor| tensor(t) || t.proto.int32_data.first() == Some(&1);
    match graph.initializers.get(value) {
        Some(t) => scalar(t),
        None => graph
            .producer(value)
            .filter(|n| n.is("Constant"))
            .and_then(|n| n.tensor("value"))
            .is_some_and(|t| scalar(&t)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Value};

    #[test]
    fn batch_statistics_and_dropout_give_way_to_running_statistics_and_nothing() {
        let nodes = vec![
            Node::new("BatchNormalization", &["x", "s", "b", "m", "v"], &["n", "m2", "v2"])
                .with_int("training_mode", 1),
            Node::new("Dropout", &["n", "ratio", "yes"], &["d", "mask"]),
            Node::new("Dropout", &["d", "ratio", "no"], &["y"]),
        ];
        let flag = |name: &str, on: u8| Tensor::raw(name, ElementType::Bool, &[], vec![on].into());
        let four = |name: &str| Tensor::f32(name, &[2], &[1.0, 2.0]);
        let constants = ["s", "b", "m", "v"].map(four).into_iter().chain([
            Tensor::f32("ratio", &[], &[0.5]),
            flag("yes", 1),
            flag("no", 0),
        ]);
        let x = Value::tensor("x", ElementType::F32, &[None, Some(2)]);
        let mut graph = Graph::new(vec![x], nodes, constants.collect(), &["y"]).unwrap();
        assert_eq!(to_evaluation(&mut graph), 2);
        assert_eq!((graph.nodes[0].outputs().len(), graph.nodes[0].int("training_mode")), (1, None));
        assert_eq!((graph.nodes[1].inputs().len(), graph.nodes[2].inputs().len()), (2, 3));
        assert_eq!(to_evaluation(&mut graph), 0);
    }
}
