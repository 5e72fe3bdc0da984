//! Attention written out (scores, softmax, weighted sum) as the runtime's one operator for it, which never holds all scores.
//!
//! Where heads are split and merged is told by what the reshapes and transpositions on the way do to places, tried on the
//! observed shapes, not by how they are written: exporters write the same split in half a dozen ways.

use crate::graph::{Graph, GraphError, Node};
use crate::model::Model;
use crate::observed::{Observations, elements};
use crate::onnx::OperatorSetIdProto;
use crate::tensor::ElementType;
use std::collections::{HashMap, HashSet};

const DOMAIN: &str = "com.microsoft";
/// The most elements of a value whose places are followed, and the most moves that they are followed through: attention
/// beyond stays written out.
const MOST: u32 = 1 << 25;
const MOVES: usize = 16;

/// Replaces every attention over heads without a mask by `com.microsoft.MultiHeadAttention`; gives how many. `observed` must have
/// seen two batch sizes. What cannot be told for certain stays as it is.
///
/// # Errors
/// [`GraphError`] where the graph was not sound before.
pub fn fuse_attention(model: &mut Model, observed: &Observations) -> Result<usize, GraphError> {
    let found: Vec<(Node, String)> = {
        let graph = &model.graph;
        let outputs = graph.outputs.iter().map(|o| o.name()).collect();
        let (producers, consumers) = (graph.producers(), graph.consumers());
        let finder = Finder { graph, observed, producers, consumers, outputs };
        model.graph.nodes.iter().filter(|n| n.is("Softmax")).filter_map(|n| finder.attention(n)).collect()
    };
    let replaced: HashSet<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
    model.graph.nodes.retain(|n| !replaced.contains(n.output()));
    model.graph.nodes.extend(found.iter().map(|(node, _)| node.clone()));
    if !found.is_empty() {
        model.graph.prune();
        model.graph.sort()?;
        let imports = &mut model.rest.opset_import;
        if !imports.iter().any(|o| o.domain() == DOMAIN) {
            imports.push(OperatorSetIdProto { domain: Some(DOMAIN.to_owned()), version: Some(1) });
        }
    }
    Ok(found.len())
}

/// Where every element of a value came from, as numbers of the elements of some value before it.
struct Places {
    shape: Vec<usize>,
    from: Vec<u32>,
}

impl Places {
    fn new(shape: &[usize]) -> Option<Self> {
        let count = u32::try_from(elements(shape)).ok().filter(|count| *count <= MOST)?;
        Some(Self { shape: shape.to_vec(), from: (0..count).collect() })
    }

    fn transposed(&self, perm: &[i64]) -> Option<Self> {
        let rank = self.shape.len();
        let perm: Vec<usize> = perm.iter().filter_map(|p| usize::try_from(*p).ok()).collect();
        if perm.len() != rank || !(0..rank).all(|axis| perm.contains(&axis)) {
            return None;
        }
        let mut strides = vec![1; rank];
        (0..rank.saturating_sub(1)).rev().for_each(|i| strides[i] = strides[i + 1] * self.shape[i + 1]);
        let shape: Vec<usize> = perm.iter().map(|&p| self.shape[p]).collect();
        let steps: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
        let mut index = vec![0; rank];
        let mut from = Vec::with_capacity(self.from.len());
        for _ in 0..self.from.len() {
            from.push(self.from[index.iter().zip(&steps).map(|(i, s)| i * s).sum::<usize>()]);
            for axis in (0..rank).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(Self { shape, from })
    }

    fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        (elements(shape) == self.from.len()).then(|| Self { shape: shape.to_vec(), from: self.from.clone() })
    }
}

/// Heads and their sizes: batch, heads, queries or keys, features of a head.
#[derive(Clone, Copy)]
struct Heads {
    batch: usize,
    heads: usize,
    rows: usize,
    features: usize,
}

impl Heads {
    /// Batch × rows × (heads × features), split into batch × heads × rows × features.
    fn split(self) -> Option<Vec<u32>> {
        let whole = Places::new(&[self.batch, self.rows, self.heads, self.features])?;
        Some(whole.transposed(&[0, 2, 1, 3])?.from)
    }
}

struct Finder<'a> {
    graph: &'a Graph,
    observed: &'a Observations,
    producers: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    outputs: HashSet<&'a str>,
}

impl<'a> Finder<'a> {
    fn producer(&self, value: &str) -> Option<&'a Node> {
        self.producers.get(value).map(|&at| &self.graph.nodes[at])
    }

    /// The shape at two samples.
    fn shape(&self, value: &str) -> Option<&'a [usize]> {
        self.observed.get(value)?.shape_at_two.as_deref()
    }

    /// The one node that reads `value`, if nothing else does and it is no output.
    fn reader(&self, value: &str) -> Option<&'a Node> {
        let [only] = self.consumers.get(value)?.as_slice() else { return None };
        (!self.outputs.contains(value)).then(|| &self.graph.nodes[*only])
    }

    /// The number of a constant of one element.
    fn number(&self, value: &str) -> Option<f32> {
        match self.graph.initializers.get(value)?.to_f32().ok()?.as_slice() {
            [number] if number.is_finite() => Some(*number),
            _ => None,
        }
    }

    /// `value` without casts to its own type, and products with constant numbers, whose product is given beside it.
    fn unscaled(&self, mut value: &'a str) -> (&'a str, f32) {
        let mut scale = 1.0;
        while let Some(node) = self.producer(value) {
            let (Some(first), second) = (node.input(0), node.input(1)) else { break };
            let inner = match node.op() {
                "Identity" => first,
                "Cast" if self.element(first) == self.element(value) => first,
                "Mul" => match (second.and_then(|s| self.number(s)), self.number(first), second) {
                    (Some(factor), _, _) => {
                        scale *= factor;
                        first
                    }
                    (_, Some(factor), Some(second)) => {
                        scale *= factor;
                        second
                    }
                    _ => break,
                },
                "Div" => match second.and_then(|s| self.number(s)) {
                    Some(divisor) if divisor != 0.0 => {
                        scale /= divisor;
                        first
                    }
                    _ => break,
                },
                _ => break,
            };
            value = inner;
        }
        (value, scale)
    }

    fn element(&self, value: &str) -> Option<ElementType> {
        self.observed.get(value).map(|o| o.element)
    }

    /// The value of rank 3 that `operand` is made of by moving places alone, how it got there, and by what it was multiplied.
    fn source(&self, operand: &'a str) -> Option<(&'a str, Places, f32)> {
        let (mut value, mut scale) = self.unscaled(operand);
        let mut moves: Vec<&'a Node> = Vec::new();
        while let Some(node) = self.producer(value).filter(|n| n.is("Reshape") || n.is("Transpose")) {
            moves.push(node);
            if moves.len() > MOVES {
                return None;
            }
            let (inner, factor) = self.unscaled(node.input(0)?);
            value = inner;
            scale *= factor;
        }
        // The last one of rank 3 on the way back: a reshape of it may belong to what is before attention.
        let mut start = (value, moves.len());
        while self.shape(start.0)?.len() != 3 {
            let at = start.1.checked_sub(1)?;
            start = (moves[at].output(), at);
        }
        let mut places = Places::new(self.shape(start.0)?)?;
        for node in moves[..start.1].iter().rev() {
            places = match node.op() {
                "Transpose" => places.transposed(node.ints("perm")?)?,
                _ => places.reshaped(self.shape(node.output())?)?,
            };
        }
        Some((start.0, places, scale))
    }

    /// The operator in the place of the attention around `softmax`, and the value that it gives.
    fn attention(&self, softmax: &'a Node) -> Option<(Node, String)> {
        let weights = self.shape(softmax.output())?;
        let rank = weights.len();
        let axis = softmax.int("axis").unwrap_or(-1);
        if !(3..=4).contains(&rank) || (axis != -1 && axis != rank as i64 - 1) {
            return None;
        }
        let (scores, scale) = self.unscaled(softmax.input(0)?);
        let product = self.producer(scores).filter(|n| n.is("MatMul"))?;
        let mut value = softmax.output();
        let mut sum = self.reader(value)?;
        while sum.is("Identity") || (sum.is("Cast") && self.element(sum.output()) == self.element(value)) {
            value = sum.output();
            sum = self.reader(value)?;
        }
        if !sum.is("MatMul") || sum.input(0) != Some(value) || self.element(value) != Some(ElementType::F32) {
            return None;
        }
        let (query, query_places, query_scale) = self.source(product.input(0)?)?;
        let (key, key_places, key_scale) = self.source(product.input(1)?)?;
        let (values, value_places, value_scale) = self.source(sum.input(1)?)?;
        let [batch, queries, width] = *self.shape(query)? else { return None };
        let [_, keys, _] = *self.shape(key)? else { return None };
        let features = *query_places.shape.last()?;
        let heads = width.checked_div(features)?;
        let (of_queries, of_keys) =
            (Heads { batch, heads, rows: queries, features }, Heads { batch, heads, rows: keys, features });
        let value_features = *value_places.shape.last()?;
        let of_values = Heads { features: value_features, ..of_keys };
        // Keys come transposed: batch × heads × features × keys.
        let mut turned: Vec<i64> = (0..key_places.shape.len() as i64).collect();
        let last = turned.len().checked_sub(1)?;
        turned.swap(last, last.checked_sub(1)?);
        let key_places = key_places.transposed(&turned)?;
        let fits = |source: &str, heads: Heads| {
            self.shape(source) == Some(&[heads.batch, heads.rows, heads.heads.saturating_mul(heads.features)])
        };
        let is_split = fits(query, of_queries)
            && fits(key, of_keys)
            && fits(values, of_values)
            && Some(query_places.from) == of_queries.split()
            && Some(key_places.from) == of_keys.split()
            && Some(value_places.from) == of_values.split();
        if !is_split || value_scale != 1.0 {
            return None;
        }
        let merged = self.merged(sum.output(), Heads { features: value_features, ..of_queries })?;
        let node = Node::new("MultiHeadAttention", &[query, key, values], &[merged])
            .in_domain(DOMAIN)
            .with_int("num_heads", heads as i64)
            .with_float("scale", scale * query_scale * key_scale);
        Some((node, merged.to_owned()))
    }

    /// The value after `sum` in which the heads lie side by side again, batch × rows × (heads × features).
    fn merged(&self, sum: &'a str, heads: Heads) -> Option<&'a str> {
        let mut places = Places::new(self.shape(sum)?)?;
        let whole = [heads.batch, heads.rows, heads.heads * heads.features];
        let back =
            Places::new(&[heads.batch, heads.heads, heads.rows, heads.features])?.transposed(&[0, 2, 1, 3])?.from;
        let (mut value, mut moves) = (sum, 0);
        while places.shape != whole || places.from != back {
            let node = self.reader(value).filter(|_| moves < MOVES)?;
            moves += 1;
            places = match node.op() {
                "Transpose" => places.transposed(node.ints("perm")?)?,
                "Reshape" => places.reshaped(self.shape(node.output())?)?,
                _ => return None,
            };
            value = node.output();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Value;
    use crate::observed::Observed;
    use crate::tensor::Tensor;

    const HEADS: i64 = 2;
    const FEATURES: i64 = 3;

    /// How a split is written.
    #[derive(Clone, Copy, PartialEq)]
    enum Written {
        /// Batch and heads apart, keys transposed at once.
        Apart,
        /// Batch and heads in one axis, keys transposed after.
        Merged,
        /// The features of a head lie apart from each other: not a split into heads.
        Interleaved,
    }

    struct Builder {
        nodes: Vec<Node>,
        constants: Vec<Tensor>,
        seen: Observations,
    }

    impl Builder {
        fn node(&mut self, node: Node, two: &[usize]) {
            let one: Vec<usize> = two.iter().enumerate().map(|(i, d)| if i == 0 { d / 2 } else { *d }).collect();
            let seen = Observed { element: ElementType::F32, shape: one, shape_at_two: Some(two.to_vec()) };
            self.seen.insert(node.output().to_owned(), seen);
            self.nodes.push(node);
        }

        fn reshape(&mut self, from: &str, to: &str, two: &[usize]) {
            let mut target: Vec<i64> = two.iter().map(|d| *d as i64).collect();
            target[0] = -1;
            self.constants.push(Tensor::i64(&format!("{to}.target"), &[target.len()], &target));
            self.node(Node::new("Reshape", &[from, &format!("{to}.target")], &[to]), two);
        }

        fn heads(&mut self, name: &str, rows: usize, written: Written) -> String {
            let (h, d) = (HEADS as usize, FEATURES as usize);
            let (split, moved) = (format!("{name}.split"), format!("{name}.moved"));
            if written == Written::Interleaved {
                self.reshape(name, &split, &[2, rows, d, h]);
                self.node(
                    Node::new("Transpose", &[&split], &[&moved]).with_ints("perm", &[0, 3, 1, 2]),
                    &[2, h, rows, d],
                );
                return moved;
            }
            self.reshape(name, &split, &[2, rows, h, d]);
            if name == "k" && written == Written::Apart {
                self.node(
                    Node::new("Transpose", &[&split], &[&moved]).with_ints("perm", &[0, 2, 3, 1]),
                    &[2, h, d, rows],
                );
                return moved;
            }
            self.node(Node::new("Transpose", &[&split], &[&moved]).with_ints("perm", &[0, 2, 1, 3]), &[2, h, rows, d]);
            if written == Written::Apart {
                return moved;
            }
            let flat = format!("{name}.flat");
            self.reshape(&moved, &flat, &[2 * h, rows, d]);
            if name == "k" {
                let turned = format!("{name}.turned");
                self.node(
                    Node::new("Transpose", &[&flat], &[&turned]).with_ints("perm", &[0, 2, 1]),
                    &[2 * h, d, rows],
                );
                return turned;
            }
            flat
        }
    }

    /// Attention of 4 queries over 5 keys; a mask is added where asked for.
    fn attention(written: Written, masked: bool) -> (Model, Observations) {
        let (h, d, queries, keys) = (HEADS as usize, FEATURES as usize, 4, 5);
        let mut b = Builder { nodes: Vec::new(), constants: Vec::new(), seen: Observations::new() };
        for (name, rows) in [("q", queries), ("k", keys), ("v", keys)] {
            b.node(Node::new("Relu", &[&format!("{name}.input")], &[name]), &[2, rows, h * d]);
        }
        let (q, k, v) = (b.heads("q", queries, written), b.heads("k", keys, written), b.heads("v", keys, written));
        let front = if written == Written::Merged { vec![2 * h] } else { vec![2, h] };
        let shape = |rows: usize, columns: usize| [front.clone(), vec![rows, columns]].concat();
        b.node(Node::new("MatMul", &[&q, &k], &["scores"]), &shape(queries, keys));
        b.constants.push(Tensor::f32("factor", &[], &[0.25]));
        b.node(Node::new("Mul", &["scores", "factor"], &["scaled"]), &shape(queries, keys));
        if masked {
            b.node(Node::new("Add", &["scaled", "q.input"], &["masked"]), &shape(queries, keys));
        }
        let softmax =
            Node::new("Softmax", &[if masked { "masked" } else { "scaled" }], &["weights"]).with_int("axis", -1);
        b.node(softmax, &shape(queries, keys));
        b.node(Node::new("MatMul", &["weights", &v], &["sum"]), &shape(queries, d));
        let mut sum = "sum";
        if written == Written::Merged {
            b.reshape("sum", "sum.split", &[2, h, queries, d]);
            sum = "sum.split";
        }
        b.node(Node::new("Transpose", &[sum], &["back"]).with_ints("perm", &[0, 2, 1, 3]), &[2, queries, h, d]);
        b.reshape("back", "whole", &[2, queries, h * d]);
        b.node(Node::new("Relu", &["whole"], &["y"]), &[2, queries, h * d]);
        let input =
            |n: &str, rows: i64| Value::tensor(n, ElementType::F32, &[None, Some(rows), Some(HEADS * FEATURES)]);
        let inputs = vec![input("q.input", 4), input("k.input", 5), input("v.input", 5)];
        let graph = Graph::new(inputs, b.nodes, b.constants, &["y"]).unwrap();
        (Model::new("m.onnx", graph, 18), b.seen)
    }

    #[test]
    fn every_way_of_writing_the_split_becomes_one_operator() {
        for written in [Written::Apart, Written::Merged] {
            let (mut model, seen) = attention(written, false);
            assert_eq!(fuse_attention(&mut model, &seen).unwrap(), 1);
            let node = model.graph.producer("whole").unwrap();
            assert_eq!(
                (node.op(), node.int("num_heads"), node.float("scale")),
                ("MultiHeadAttention", Some(2), Some(0.25))
            );
            assert_eq!(node.inputs(), ["q", "k", "v"]);
            assert!(!model.graph.nodes.iter().any(|n| n.is("Softmax")));
            assert_eq!(model.domains()["com.microsoft"], 1);
        }
    }

    #[test]
    fn what_is_not_a_split_into_heads_stays_written_out() {
        let (mut model, seen) = attention(Written::Interleaved, false);
        assert_eq!(fuse_attention(&mut model, &seen).unwrap(), 0);
    }

    #[test]
    fn attention_with_a_mask_stays_written_out() {
        let (mut model, seen) = attention(Written::Apart, true);
        assert_eq!(fuse_attention(&mut model, &seen).unwrap(), 0);
    }

    #[test]
    fn weights_that_something_else_reads_stay() {
        let (mut model, seen) = attention(Written::Apart, false);
        model.graph.add_output("weights");
        assert_eq!(fuse_attention(&mut model, &seen).unwrap(), 0);
    }

    #[test]
    fn without_a_second_batch_nothing_is_told_for_certain() {
        let (mut model, mut seen) = attention(Written::Apart, false);
        seen.values_mut().for_each(|o| o.shape_at_two = None);
        assert_eq!(fuse_attention(&mut model, &seen).unwrap(), 0);
    }
}
