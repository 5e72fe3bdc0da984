//! From an export in training mode to the network as it is used: batch normalisation by the running statistics, no dropout.

use crate::graph::Graph;
use crate::tensor::Tensor;

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
            // What drops nothing in training either is as in use.
            "Dropout"
                if is_constant(graph, node.input(2), |mode| mode.iter().any(|v| *v != 0.0))
                    && !is_constant(graph, node.input(1), |ratio| ratio.iter().all(|v| *v == 0.0)) =>
            {
                graph.nodes[at].proto.input.truncate(2);
                changed += 1;
            }
            _ => {}
        }
    }
    changed
}

/// Whether `value` is a constant, and one that `is` holds of.
fn is_constant(graph: &Graph, value: Option<&str>, is: impl Fn(&[f32]) -> bool) -> bool {
    let numbers = |tensor: Tensor| {
        let whole = || Some(tensor.to_i64().ok()?.into_iter().map(|v| v as f32).collect());
        tensor.to_f32().ok().or_else(whole)
    };
    let constant = value.filter(|v| !v.is_empty()).and_then(|v| graph.constant(v));
    constant.and_then(numbers).is_some_and(|numbers: Vec<f32>| is(&numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Value};
    use crate::tensor::ElementType;

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

    #[test]
    fn a_mode_is_looked_for_behind_copies_and_what_drops_nothing_is_left_alone() {
        let changed = |ratio: f32| {
            let nodes =
                vec![Node::new("Identity", &["yes"], &["mode"]), Node::new("Dropout", &["x", "ratio", "mode"], &["y"])];
            let yes = Tensor::raw("yes", ElementType::Bool, &[], vec![1].into());
            let constants = vec![yes, Tensor::f32("ratio", &[], &[ratio])];
            let mut graph = Graph::new(vec![Value::untyped("x")], nodes, constants, &["y"]).unwrap();
            to_evaluation(&mut graph)
        };
        assert_eq!((changed(0.3), changed(0.0)), (1, 0));
    }
}
