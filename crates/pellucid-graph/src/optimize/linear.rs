//! Linear layers whose result is cut into parts along the features, as gated units (GEGLU) are exported: the parts are
//! computed apart from parts of the weights, instead of computed together and copied.

use crate::graph::{Graph, GraphError, Names, Node};
use crate::model::Model;
use crate::observed::Observations;
use crate::tensor::Tensor;
use std::collections::HashSet;

/// A linear layer.
struct Linear {
    input: String,
    weight: String,
    bias: Option<String>,
    features: usize,
}

/// A part of its features: its value, from and to.
struct Part {
    value: String,
    from: usize,
    to: usize,
}

/// Splits every linear layer whose features only slices with constant bounds read; gives how many. The runtime folds the
/// slices of weights, so they are computed once.
///
/// # Errors
/// [`GraphError`] where the graph was not sound before.
pub fn split_linear_layers(model: &mut Model, observed: &Observations) -> Result<usize, GraphError> {
    let found: Vec<(Linear, Vec<Part>)> = {
        let graph = &model.graph;
        let consumers = graph.consumers();
        let outputs: HashSet<&str> = graph.outputs.iter().map(|o| o.name()).collect();
        let readers = |v: &str| consumers.get(v).map(Vec::as_slice).unwrap_or_default();
        let candidate = |product: &Node| {
            let mut layer = linear(graph, product)?;
            let mut value = product.output();
            if let [only] = readers(value)
                && let Some(bias) = bias(graph, &graph.nodes[*only], value, layer.features)
            {
                layer.bias = Some(bias);
                value = graph.nodes[*only].output();
            }
            let rank = observed.get(value)?.rank();
            let cut = |&at: &usize| part(graph, &graph.nodes[at], value, rank, layer.features);
            let parts: Option<Vec<Part>> = readers(value).iter().map(cut).collect();
            parts.filter(|p| p.len() > 1 && !outputs.contains(value)).map(|p| (layer, p))
        };
        graph.nodes.iter().filter(|n| n.is("MatMul")).filter_map(candidate).collect()
    };
    let parts = || found.iter().flat_map(|(_, parts)| parts);
    let replaced: HashSet<&str> = parts().map(|part| part.value.as_str()).collect();
    model.graph.nodes.retain(|n| !replaced.contains(n.output()));
    let mut names = model.graph.names();
    for (layer, parts) in &found {
        for part in parts {
            let nodes = split(&mut model.graph, &mut names, layer, part);
            model.graph.nodes.extend(nodes);
        }
    }
    if !found.is_empty() {
        model.graph.prune();
        model.graph.sort()?;
    }
    Ok(found.len())
}

fn linear(graph: &Graph, product: &Node) -> Option<Linear> {
    let (input, weight) = (product.input(0)?, product.input(1)?);
    let &[_, features] = graph.initializers.get(weight)?.dims() else { return None };
    let features = usize::try_from(features).ok()?;
    Some(Linear { input: input.to_owned(), weight: weight.to_owned(), bias: None, features })
}

/// The bias that `node` adds to `value`.
fn bias(graph: &Graph, node: &Node, value: &str, features: usize) -> Option<String> {
    let other = node.inputs().iter().find(|i| *i != value).filter(|_| node.is("Add"))?;
    let is_bias = graph.initializers.get(other)?.dims() == [features as i64];
    is_bias.then(|| other.clone())
}

/// What `node` cuts out of the last axis of `value`.
fn part(graph: &Graph, node: &Node, value: &str, rank: usize, features: usize) -> Option<Part> {
    if !node.is("Slice") || node.input(0) != Some(value) {
        return None;
    }
    let one = |input: usize| match graph.initializers.get(node.input(input)?)?.to_i64().ok()?.as_slice() {
        [number] => Some(*number),
        _ => None,
    };
    let (from, to, axis) = (one(1)?, one(2)?, one(3)?);
    let step = if node.input(4).is_some_and(|s| !s.is_empty()) { one(4)? } else { 1 };
    let counted = |v: i64| (if v < 0 { v + features as i64 } else { v }).clamp(0, features as i64) as usize;
    let (from, to) = (counted(from), counted(to));
    let is_last = axis == -1 || axis == rank as i64 - 1;
    (is_last && step == 1 && from < to).then(|| Part { value: node.output().to_owned(), from, to })
}

/// The nodes that compute the part by itself.
fn split(graph: &mut Graph, names: &mut Names, layer: &Linear, part: &Part) -> Vec<Node> {
    let mut constant = |what: &str, number: usize| {
        let name = names.fresh(&format!("{}.{what}", part.value));
        graph.initializers.insert(name.clone(), Tensor::i64(&name, &[1], &[number as i64]));
        name
    };
    let (from, to) = (constant("from", part.from), constant("to", part.to));
    let (first, second) = (constant("first_axis", 0), constant("second_axis", 1));
    let weight = names.fresh(&format!("{}.weight", part.value));
    let cut = Node::new("Slice", &[&layer.weight, &from, &to, &second], &[&weight]);
    let Some(bias) = &layer.bias else {
        return vec![cut, Node::new("MatMul", &[&layer.input, &weight], &[&part.value])];
    };
    let (own, product) =
        (names.fresh(&format!("{}.bias", part.value)), names.fresh(&format!("{}.product", part.value)));
    vec![
        cut,
        Node::new("Slice", &[bias, &from, &to, &first], &[&own]),
        Node::new("MatMul", &[&layer.input, &weight], &[&product]),
        Node::new("Add", &[&product, &own], &[&part.value]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Value;
    use crate::observed::Observed;
    use crate::tensor::ElementType;

    /// A linear layer of 6 features, cut at 0, `middle` and the end; `extra` reads it whole, too.
    fn gated(middle: i64, extra: bool) -> Model {
        let mut nodes = vec![
            Node::new("MatMul", &["x", "w"], &["p"]),
            Node::new("Add", &["b", "p"], &["y"]),
            Node::new("Slice", &["y", "zero", "middle", "last"], &["left"]),
            Node::new("Slice", &["y", "middle", "end", "last"], &["right"]),
        ];
        if extra {
            nodes.push(Node::new("Relu", &["y"], &["whole"]));
        }
        let number = |name: &str, v: i64| Tensor::i64(name, &[1], &[v]);
        let constants = vec![
            Tensor::f32("w", &[2, 6], &[0.0; 12]),
            Tensor::f32("b", &[6], &[0.0; 6]),
            number("zero", 0),
            number("middle", middle),
            number("end", i64::MAX),
            number("last", -1),
        ];
        let input = Value::tensor("x", ElementType::F32, &[None, Some(5), Some(2)]);
        let outputs: &[&str] = if extra { &["left", "right", "whole"] } else { &["left", "right"] };
        Model::new("m.onnx", Graph::new(vec![input], nodes, constants, outputs).unwrap(), 18)
    }

    fn observed() -> Observations {
        let seen = Observed { element: ElementType::F32, shape: vec![1, 5, 6], shape_at_two: Some(vec![2, 5, 6]) };
        ["p", "y"].map(|v| (v.to_owned(), seen.clone())).into()
    }

    #[test]
    fn parts_get_products_of_their_own() {
        let mut model = gated(3, false);
        assert_eq!(split_linear_layers(&mut model, &observed()).unwrap(), 1);
        let counts = model.graph.operator_counts();
        assert_eq!((counts["MatMul"], counts["Add"], counts["Slice"]), (2, 2, 4));
        let constant = |v: &str| model.graph.initializers.contains_key(v);
        let slices: Vec<&Node> = model.graph.nodes.iter().filter(|n| n.is("Slice")).collect();
        assert!(slices.iter().all(|n| constant(n.input(0).unwrap())), "only weights are cut");
        let ends = |n: &Node| model.graph.initializers[n.input(2).unwrap()].to_i64().unwrap()[0];
        let mut all: Vec<i64> = slices.iter().map(|n| ends(n)).collect();
        all.sort_unstable();
        assert_eq!(all, [3, 3, 6, 6]);
    }

    #[test]
    fn a_layer_that_is_also_read_whole_stays() {
        assert_eq!(split_linear_layers(&mut gated(3, true), &observed()).unwrap(), 0);
    }
}
