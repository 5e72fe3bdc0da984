//! Finds cross-attention by what its values depend on, not by names.
//!
//! Cross-attention is a softmax over scores whose keys come from the text embedding alone and whose queries come from the
//! latent. Dependence is of *values*: `Shape` and `Size` carry none, nor does what is computed from them alone. Works on
//! a graph of [`crate::grad::prepare`], in which fused standard attention is spelt out; attention that an optimiser fused
//! into an operator of its own cannot be looked into and is named.

use crate::graph::{Graph, Node};
use crate::observed::Observations;
use crate::tensor::Tensor;
use std::collections::HashMap;

/// The weights of one cross-attention layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrossAttention {
    /// The softmax's output.
    pub weights: String,
    /// The softmax, as [`Node::describe`] writes it.
    pub node: String,
    /// Heads.
    pub heads: usize,
    /// Height and width of the queries' grid.
    pub grid: (usize, usize),
    /// Number of text tokens.
    pub tokens: usize,
    /// Whether batch and heads share the first axis.
    merged: bool,
}

/// What [`find_cross_attention`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttentionLayers {
    /// Cross-attention, in order of computation.
    pub cross: Vec<CrossAttention>,
    /// Softmaxes whose keys come from the latent: self-attention.
    pub own: Vec<String>,
    /// Softmaxes over image and text tokens together.
    pub joint: Vec<String>,
    /// Operators that fuse attention and hide its weights.
    pub fused: Vec<String>,
}

const LATENT: u8 = 1;
const TEXT: u8 = 2;

/// Operators that fuse a whole attention.
const FUSED: [&str; 7] = [
    "Attention",
    "MultiHeadAttention",
    "PackedAttention",
    "PackedMultiHeadAttention",
    "GroupQueryAttention",
    "QAttention",
    "DecoderMaskedMultiHeadAttention",
];

/// Finds the attention layers of `graph`, whose inputs named in `text` carry the text embedding and `latent` the latent of
/// `size` (height, width).
pub fn find_cross_attention(
    graph: &Graph,
    observed: &Observations,
    latent: &str,
    text: &[&str],
    size: (usize, usize),
) -> AttentionLayers {
    let finder = Finder { graph, observed, producers: graph.producers(), sources: sources(graph, latent, text) };
    let mut found = AttentionLayers::default();
    for node in &graph.nodes {
        if FUSED.contains(&node.op()) {
            found.fused.push(node.describe());
        }
        if node.is("Softmax") {
            finder.classify(node, size, &mut found);
        }
    }
    found
}

/// Which of latent and text each value's numbers depend on.
fn sources<'a>(graph: &'a Graph, latent: &'a str, text: &[&'a str]) -> HashMap<&'a str, u8> {
    let mut sources: HashMap<&str, u8> = HashMap::from([(latent, LATENT)]);
    sources.extend(text.iter().map(|t| (*t, TEXT)));
    for node in &graph.nodes {
        if matches!(node.op(), "Shape" | "Size") {
            continue;
        }
        let bits = node.reads().iter().filter_map(|r| sources.get(r)).fold(0, |a, b| a | b);
        if bits != 0 {
            sources.extend(node.outputs().iter().map(|o| (o.as_str(), bits)));
        }
    }
    sources
}

struct Finder<'a> {
    graph: &'a Graph,
    observed: &'a Observations,
    producers: HashMap<&'a str, usize>,
    sources: HashMap<&'a str, u8>,
}

impl<'a> Finder<'a> {
    fn bits(&self, value: &str) -> u8 {
        self.sources.get(value).copied().unwrap_or(0)
    }

    fn classify(&self, softmax: &'a Node, size: (usize, usize), found: &mut AttentionLayers) {
        let Some(seen) = self.observed.get(softmax.output()) else { return };
        let rank = seen.shape.len();
        let axis = softmax.int("axis").unwrap_or(-1);
        if !(3..=4).contains(&rank) || (axis != -1 && axis != rank as i64 - 1) {
            return;
        }
        let Some((queries, keys)) = softmax.input(0).and_then(|v| self.operands(v)) else { return };
        let (queries, keys) = (self.bits(queries), self.bits(keys));
        let (rows, columns) = (seen.shape[rank - 2], seen.shape[rank - 1]);
        if queries & LATENT == 0 {
            return;
        }
        match keys {
            TEXT => {
                if let Some(grid) = grid(rows, size) {
                    found.cross.push(CrossAttention {
                        weights: softmax.output().to_owned(),
                        node: softmax.describe(),
                        heads: seen.shape[rank - 3],
                        grid,
                        tokens: columns,
                        merged: rank == 3,
                    });
                }
            }
            0 => {}
            _ if columns == rows => found.own.push(softmax.describe()),
            _ => found.joint.push(softmax.describe()),
        }
    }

    /// Queries and keys of scores: back through scaling, masks, casts and reshapes to the product.
    fn operands(&self, scores: &'a str) -> Option<(&'a str, &'a str)> {
        let mut value = scores;
        let mut swapped = false;
        loop {
            let node = &self.graph.nodes[*self.producers.get(value)?];
            let (first, second) = match node.op() {
                "MatMul" | "Gemm" => (node.input(0)?, node.input(1)?),
                "Einsum" => einsum_operands(node)?,
                "Transpose" => {
                    let perm = node.ints("perm")?;
                    let n = perm.len();
                    swapped ^= n > 1 && perm[n - 1] == n as i64 - 2;
                    value = node.input(0)?;
                    continue;
                }
                "Mul" | "Add" | "Sub" | "Div" | "Where" | "Cast" | "CastLike" | "Identity" | "Reshape" | "Squeeze"
                | "Unsqueeze" | "Clip" | "Max" | "Min" | "Expand" | "Softcap" | "Tanh" => {
                    value = self.heaviest(node)?;
                    continue;
                }
                _ => return None,
            };
            return Some(if swapped { (second, first) } else { (first, second) });
        }
    }

    /// The operand that carries the scores: one that depends on the latent, and of those the largest.
    fn heaviest(&self, node: &'a Node) -> Option<&'a str> {
        let weight = |v: &&'a str| (self.bits(v) & LATENT, self.observed.get(*v).map_or(0, crate::Observed::len));
        node.inputs().iter().map(String::as_str).filter(|v| !v.is_empty() && self.bits(v) != 0).max_by_key(weight)
    }
}

/// The operand that has the output's last label is the keys.
fn einsum_operands(node: &Node) -> Option<(&str, &str)> {
    let equation = node.string("equation")?.replace(' ', "");
    let (inputs, output) = equation.split_once("->")?;
    let (a, _) = inputs.split_once(',')?;
    let last = output.chars().next_back()?;
    let (first, second) = (node.input(0)?, node.input(1)?);
    Some(if a.contains(last) { (second, first) } else { (first, second) })
}

/// The grid of `count` queries on a latent of `size`: each level halves, rounding up.
fn grid(count: usize, (mut height, mut width): (usize, usize)) -> Option<(usize, usize)> {
    let area = |height: usize, width: usize| height.saturating_mul(width);
    while area(height, width) > count.max(1) {
        (height, width) = (height.div_ceil(2), width.div_ceil(2));
    }
    (area(height, width) == count).then_some((height, width))
}

impl CrossAttention {
    /// Adds an output that holds the mean over heads, batch × queries × tokens, so that only that leaves the graph. Gives
    /// its name.
    pub fn add_head_mean(&self, graph: &mut Graph) -> String {
        let rows = (self.grid.0 * self.grid.1) as i64;
        let split = if self.merged {
            let shape = graph.fresh(&format!("{}.shape", self.weights));
            let dims = [-1, self.heads as i64, rows, self.tokens as i64];
            graph.initializers.insert(shape.clone(), Tensor::i64(&shape, &[4], &dims));
            let split = graph.fresh(&format!("{}.heads", self.weights));
            graph.nodes.push(Node::new("Reshape", &[&self.weights, &shape], &[&split]));
            split
        } else {
            self.weights.clone()
        };
        let axes = graph.fresh(&format!("{}.axes", self.weights));
        graph.initializers.insert(axes.clone(), Tensor::i64(&axes, &[1], &[1]));
        let mean = graph.fresh(&format!("{}.mean", self.weights));
        graph.nodes.push(Node::new("ReduceMean", &[&split, &axes], &[&mean]).with_int("keepdims", 0));
        graph.add_output(&mean);
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ElementType, Observed, Value};

    /// x → queries; `keys` → keys; softmax of the scaled product.
    fn attention(keys: &str, detour: bool) -> Graph {
        let input = |n: &str| Value::tensor(n, ElementType::F32, &[None, Some(4), Some(8)]);
        let source = if detour { "joined" } else { keys };
        let mut nodes = vec![
            Node::new("MatMul", &["x", "wq"], &["q"]),
            Node::new("MatMul", &[source, "wk"], &["k"]),
            Node::new("Transpose", &["k"], &["kt"]).with_ints("perm", &[0, 2, 1]),
            Node::new("MatMul", &["q", "kt"], &["scores"]),
            Node::new("Mul", &["scores", "scale"], &["scaled"]),
            Node::new("Softmax", &["scaled"], &["weights"]).with_int("axis", -1),
        ];
        if detour {
            // The text, brought to a length that is computed from the latent's shape: still text alone.
            nodes.push(Node::new("Shape", &["x"], &["length"]));
            nodes.push(Node::new("Expand", &[keys, "length"], &["joined"]));
        }
        let constants = ["wq", "wk", "scale"].map(|n| Tensor::f32(n, &[1], &[1.0])).to_vec();
        Graph::new(vec![input("x"), input("text")], nodes, constants, &["weights"]).unwrap()
    }

    fn observed(graph: &Graph, tokens: usize) -> Observations {
        let seen = |shape: &[usize]| Observed { element: ElementType::F32, shape: shape.to_vec(), shape_at_two: None };
        let mut all: Observations = graph.values().map(|v| (v.to_owned(), seen(&[2, 4, tokens]))).collect();
        all.insert("scale".to_owned(), seen(&[1]));
        all
    }

    fn found(keys: &str, detour: bool, tokens: usize) -> AttentionLayers {
        let graph = attention(keys, detour);
        find_cross_attention(&graph, &observed(&graph, tokens), "x", &["text"], (2, 2))
    }

    #[test]
    fn keys_of_text_and_queries_of_the_latent_are_cross_attention() {
        let layers = found("text", false, 7);
        assert_eq!(layers.cross.len(), 1);
        let layer = &layers.cross[0];
        assert_eq!((layer.weights.as_str(), layer.heads, layer.grid, layer.tokens), ("weights", 2, (2, 2), 7));
    }

    #[test]
    fn a_shape_carries_no_dependence() {
        assert_eq!(found("text", true, 7).cross.len(), 1);
    }

    #[test]
    fn keys_of_the_latent_are_self_attention() {
        let layers = found("x", false, 4);
        assert_eq!((layers.cross.len(), layers.own.len()), (0, 1));
    }

    #[test]
    fn fused_attention_is_named() {
        let nodes = vec![Node::new("MultiHeadAttention", &["x", "text", "text"], &["y"]).in_domain("com.microsoft")];
        let input = |n: &str| Value::tensor(n, ElementType::F32, &[None, Some(4), Some(8)]);
        let graph = Graph::new(vec![input("x"), input("text")], nodes, Vec::new(), &["y"]).unwrap();
        let layers = find_cross_attention(&graph, &Observations::new(), "x", &["text"], (2, 2));
        assert_eq!(layers.fused, ["'y' (com.microsoft.MultiHeadAttention)"]);
    }

    #[test]
    fn grids_follow_the_halvings_of_the_latent() {
        assert_eq!(grid(256, (16, 16)), Some((16, 16)));
        assert_eq!(grid(16, (16, 16)), Some((4, 4)));
        assert_eq!(grid(12, (5, 7)), Some((3, 4)));
        assert_eq!(grid(5, (4, 4)), None);
    }
}
