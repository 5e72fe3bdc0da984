//! Spells out `Attention` (opset 23) in operators that have rules: softmax(scale · Q Kᵀ + mask) V.

use crate::graph::{Graph, Node};
use crate::tensor::{ElementType, Tensor};
use std::collections::HashSet;

/// Replaces every `Attention` that this form covers; one with a cache of keys or several outputs stays, and is named
/// when it lies on a needed path.
pub(super) fn spell_out(graph: &mut Graph) {
    if !graph.nodes.iter().any(|n| n.is("Attention")) {
        return;
    }
    let (tests, prefix) = (tests(graph), graph.unused_prefix("attention"));
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (at, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        let cached = (4..7).any(|i| node.input(i).is_some()) || node.outputs().iter().skip(1).any(|o| !o.is_empty());
        if !node.is("Attention") || cached {
            nodes.push(node);
            continue;
        }
        let scope = format!("{prefix}/{at}");
        let mut writer = Writer { graph, nodes: &mut nodes, tests: &tests, scope, made: 0 };
        writer.attention(&node);
    }
    graph.nodes = nodes;
}

/// Values that are true or false, as far as one sees without shapes.
fn tests(graph: &Graph) -> HashSet<String> {
    let test = |n: &&Node| {
        matches!(n.op(), "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Equal" | "Not" | "And" | "Or" | "Xor")
            || (n.is("Cast") && n.int("to") == Some(i64::from(ElementType::Bool.to_onnx())))
    };
    let computed = graph.nodes.iter().filter(test).flat_map(|n| n.outputs().iter().cloned());
    let given = graph.inputs.iter().filter(|v| v.element() == Some(ElementType::Bool)).map(|v| v.name().to_owned());
    computed.chain(given).collect()
}

struct Writer<'a> {
    graph: &'a mut Graph,
    nodes: &'a mut Vec<Node>,
    tests: &'a HashSet<String>,
    scope: String,
    made: usize,
}

impl Writer<'_> {
    fn name(&mut self) -> String {
        self.made += 1;
        format!("{}/{}", self.scope, self.made)
    }

    fn push(&mut self, op: &str, inputs: &[&str], set: impl FnOnce(Node) -> Node) -> String {
        let name = self.name();
        self.nodes.push(set(Node::new(op, inputs, &[&name])));
        name
    }

    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.push(op, inputs, |n| n)
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let name = self.name();
        self.graph.initializers.insert(name.clone(), Tensor::i64(&name, &[values.len()], values));
        name
    }

    /// A float in the type of `like`.
    fn float(&mut self, value: f32, like: &str) -> String {
        let name = self.name();
        self.graph.initializers.insert(name.clone(), Tensor::f32(&name, &[], &[value]));
        self.op("CastLike", &[&name, like])
    }

    /// B × L × (heads·D) as B × heads × L × D.
    fn heads(&mut self, x: &str, heads: Option<i64>) -> String {
        let Some(heads) = heads else { return x.to_owned() };
        let shape = self.ints(&[0, 0, heads, -1]);
        let split = self.op("Reshape", &[x, &shape]);
        self.push("Transpose", &[&split], |n| n.with_ints("perm", &[0, 2, 1, 3]))
    }

    /// Repeats key or value heads so that each query head has one of its own: head h of the query reads h·k/q.
    fn repeat(&mut self, x: &str, groups: i64) -> String {
        if groups == 1 {
            return x.to_owned();
        }
        let axis = self.ints(&[2]);
        let lifted = self.op("Unsqueeze", &[x, &axis]);
        let times = self.ints(&[1, 1, groups, 1, 1]);
        let tiled = self.op("Tile", &[&lifted, &times]);
        let shape = self.op("Shape", &[x]);
        let (head, tail) = (self.part(&shape, 0, 1), self.part(&shape, 2, 4));
        let open = self.ints(&[-1]);
        let shape = self.push("Concat", &[&head, &open, &tail], |n| n.with_int("axis", 0));
        self.op("Reshape", &[&tiled, &shape])
    }

    fn part(&mut self, shape: &str, from: i64, to: i64) -> String {
        let (from, to) = (self.ints(&[from]), self.ints(&[to]));
        self.op("Slice", &[shape, &from, &to])
    }

    fn attention(&mut self, node: &Node) {
        let (Some(q), Some(k), Some(v)) = (node.input(0), node.input(1), node.input(2)) else {
            return self.nodes.push(node.clone());
        };
        let (own, theirs) = (node.int("q_num_heads"), node.int("kv_num_heads"));
        let (q, k, v) = (self.heads(q, own), self.heads(k, theirs), self.heads(v, theirs));
        let groups = own.zip(theirs).map_or(1, |(q, k)| (q / k.max(1)).max(1));
        let (k, v) = (self.repeat(&k, groups), self.repeat(&v, groups));
        let keys = self.push("Transpose", &[&k], |n| n.with_ints("perm", &[0, 1, 3, 2]));
        let scaled = self.scaled(&q, node.float("scale"));
        let mut scores = self.op("MatMul", &[&scaled, &keys]);
        if let Some(cap) = node.float("softcap").filter(|c| *c > 0.0) {
            let cap = self.float(cap, &scores);
            let small = self.op("Div", &[&scores, &cap]);
            let bounded = self.op("Tanh", &[&small]);
            scores = self.op("Mul", &[&bounded, &cap]);
        }
        if let Some(mask) = node.input(3) {
            scores = self.masked(&scores, mask);
        }
        if node.int("is_causal").unwrap_or(0) != 0 {
            scores = self.causal(&scores);
        }
        let weights = self.push("Softmax", &[&scores], |n| n.with_int("axis", -1));
        let y = node.output();
        if own.is_none() {
            return self.nodes.push(Node::new("MatMul", &[&weights, &v], &[y]));
        }
        let mixed = self.op("MatMul", &[&weights, &v]);
        let merged = self.push("Transpose", &[&mixed], |n| n.with_ints("perm", &[0, 2, 1, 3]));
        let shape = self.ints(&[0, 0, -1]);
        self.nodes.push(Node::new("Reshape", &[&merged, &shape], &[y]));
    }

    /// Q times the scale: 1/√D unless given.
    fn scaled(&mut self, q: &str, scale: Option<f32>) -> String {
        if let Some(scale) = scale {
            let scale = self.float(scale, q);
            return self.op("Mul", &[q, &scale]);
        }
        let shape = self.op("Shape", &[q]);
        let depth = self.part(&shape, 3, 4);
        let depth = self.op("CastLike", &[&depth, q]);
        let root = self.op("Sqrt", &[&depth]);
        self.op("Div", &[q, &root])
    }

    /// A mask of bool says where to look; one of floats is added.
    fn masked(&mut self, scores: &str, mask: &str) -> String {
        // Adding works for both once a bool mask is 0 where it is true and −∞ elsewhere: log of 1 and 0.
        let initial = self.graph.initializers.get(mask).map(Tensor::element);
        if initial == Some(ElementType::Bool) || self.tests.contains(mask) {
            let number = self.op("CastLike", &[mask, scores]);
            let bias = self.op("Log", &[&number]);
            return self.op("Add", &[scores, &bias]);
        }
        self.op("Add", &[scores, mask])
    }

    /// Row l sees columns up to l.
    fn causal(&mut self, scores: &str) -> String {
        let shape = self.op("Shape", &[scores]);
        let square = self.part(&shape, 2, 4);
        let one = self.float_tensor(1.0);
        let ones = self.op("Expand", &[&one, &square]);
        let lower = self.push("Trilu", &[&ones], |n| n.with_int("upper", 0));
        let number = self.op("CastLike", &[&lower, scores]);
        let bias = self.op("Log", &[&number]);
        self.op("Add", &[scores, &bias])
    }

    fn float_tensor(&mut self, value: f32) -> String {
        let name = self.name();
        self.graph.initializers.insert(name.clone(), Tensor::f32(&name, &[1], &[value]));
        name
    }
}
