//! Sums in which one term is nothing but zeros.
//!
//! PyTorch's attention adds its scores to an empty tensor times 0 (`baddbmm` with β = 0), and exporters write that out: a tensor
//! as large as the scores is made, multiplied and added, for nothing.

use crate::graph::{Graph, Node};
use crate::model::Model;
use crate::observed::Observations;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Takes additions of zeros out of `model` where the observed shapes say that they do not widen the other term; gives how many.
pub fn drop_zero_terms(model: &mut Model, observed: &Observations) -> usize {
    let graph = &model.graph;
    let shapes = |value: &str| observed.get(value).map(|o| (&o.shape, &o.shape_at_two));
    let outputs: HashSet<&str> = graph.outputs.iter().map(|v| v.name()).collect();
    let makers = Makers { graph, producers: graph.producers() };
    let mut replaced: BTreeMap<String, String> = BTreeMap::new();
    for node in graph.nodes.iter().filter(|n| n.is("Add")) {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else { continue };
        let known = shapes(a).is_some() && shapes(a) == shapes(b);
        if outputs.contains(node.output()) || !known {
            continue;
        }
        if makers.is_zero(b) {
            replaced.insert(node.output().to_owned(), a.to_owned());
        } else if makers.is_zero(a) {
            replaced.insert(node.output().to_owned(), b.to_owned());
        }
    }
    // A term may itself be a sum that is replaced; nodes stand in order, so its own term is not one any more.
    let names: Vec<String> = replaced.keys().cloned().collect();
    for name in names {
        let mut end = replaced[&name].clone();
        while let Some(next) = replaced.get(&end) {
            end = next.clone();
        }
        replaced.insert(name, end);
    }
    for node in &mut model.graph.nodes {
        let inputs: Vec<String> = node.inputs().iter().filter(|i| replaced.contains_key(*i)).cloned().collect();
        inputs.iter().for_each(|input| node.rename_input(input, &replaced[input]));
    }
    if !replaced.is_empty() {
        model.graph.prune();
    }
    replaced.len()
}

/// How the values of a graph are made.
struct Makers<'a> {
    graph: &'a Graph,
    producers: HashMap<&'a str, usize>,
}

impl Makers<'_> {
    fn producer(&self, value: &str) -> Option<&Node> {
        self.producers.get(value).map(|&at| &self.graph.nodes[at])
    }

    /// Whether every element of `value` is 0: a `ConstantOfShape` of 0, or one of any finite value times 0.
    fn is_zero(&self, value: &str) -> bool {
        let Some(node) = self.producer(value) else { return false };
        if node.is("ConstantOfShape") {
            return filled_with(node) == Some(0.0);
        }
        let [Some(a), Some(b)] = [node.input(0), node.input(1)] else { return false };
        let made = |v: &str| self.producer(v).filter(|n| n.is("ConstantOfShape")).and_then(filled_with);
        let times =
            |filled: &str, factor: &str| made(filled).is_some_and(f32::is_finite) && self.is_constant_zero(factor);
        node.is("Mul") && (times(a, b) || times(b, a) || made(a) == Some(0.0) && self.is_constant(b))
    }

    fn constant(&self, value: &str) -> Option<Vec<f32>> {
        if let Some(tensor) = self.graph.initializers.get(value) {
            return tensor.to_f32().ok();
        }
        self.producer(value).filter(|n| n.is("Constant"))?.tensor("value")?.to_f32().ok()
    }

    fn is_constant_zero(&self, value: &str) -> bool {
        self.constant(value).is_some_and(|values| !values.is_empty() && values.iter().all(|v| *v == 0.0))
    }

    fn is_constant(&self, value: &str) -> bool {
        self.constant(value).is_some_and(|values| values.iter().all(|v| v.is_finite()))
    }
}

fn filled_with(node: &Node) -> Option<f32> {
    match node.tensor("value") {
        None => Some(0.0),
        Some(tensor) => tensor.to_f32().ok()?.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Value;
    use crate::observed::Observed;
    use crate::tensor::{ElementType, Tensor};

    fn observations(shapes: &[(&str, &[usize])]) -> Observations {
        let of = |shape: &[usize]| Observed { element: ElementType::F32, shape: shape.to_vec(), shape_at_two: None };
        shapes.iter().map(|(name, shape)| ((*name).to_owned(), of(shape))).collect()
    }

    /// relu(x + 0 · empty) with an empty tensor of the shape `shape`.
    fn model(factor: f32) -> Model {
        let nodes = vec![
            Node::new("Shape", &["x"], &["shape"]),
            Node::new("ConstantOfShape", &["shape"], &["empty"]),
            Node::new("Mul", &["empty", "factor"], &["term"]),
            Node::new("Add", &["x", "term"], &["sum"]),
            Node::new("Relu", &["sum"], &["y"]),
        ];
        let input = Value::tensor("x", ElementType::F32, &[None, Some(3)]);
        let factor = vec![Tensor::f32("factor", &[], &[factor])];
        Model::new("m.onnx", Graph::new(vec![input], nodes, factor, &["y"]).unwrap(), 17)
    }

    #[test]
    fn an_empty_tensor_times_zero_goes_with_all_that_made_it() {
        let mut model = model(0.0);
        let same = observations(&[("x", &[1, 3]), ("term", &[1, 3]), ("sum", &[1, 3])]);
        assert_eq!(drop_zero_terms(&mut model, &same), 1);
        let left: Vec<&str> = model.graph.nodes.iter().map(|n| n.op()).collect();
        assert_eq!(left, ["Relu"]);
        assert_eq!(model.graph.nodes[0].input(0), Some("x"));
    }

    #[test]
    fn a_term_that_widens_the_other_or_whose_shape_nobody_saw_stays() {
        let wider = observations(&[("x", &[1, 3]), ("term", &[4, 3])]);
        assert_eq!(drop_zero_terms(&mut model(0.0), &wider), 0);
        assert_eq!(drop_zero_terms(&mut model(0.0), &Observations::new()), 0);
        let same = observations(&[("x", &[1, 3]), ("term", &[1, 3])]);
        assert_eq!(drop_zero_terms(&mut model(f32::NAN), &same), 0, "NaN times anything is NaN");
    }
}
