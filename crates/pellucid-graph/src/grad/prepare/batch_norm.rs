//! Folds batch normalisation into the convolution before it, so that neither pass does it.
//!
//! The new weights are written as nodes over the old ones: the runtime computes them once when it compiles the model,
//! and weights that lie in other files stay there.

use crate::graph::{Graph, Node};
use std::collections::{BTreeSet, HashMap};

/// Folds wherever a Conv's output is read by one BatchNormalization only and nobody asked for it.
pub(super) fn fold(graph: &mut Graph, keep: &[&str]) {
    let mut asked: BTreeSet<&str> = keep.iter().copied().collect();
    asked.extend(graph.outputs.iter().map(|v| v.name()));
    let producers: HashMap<&str, usize> = graph.producers();
    let consumers = graph.consumers();
    let is_constant = |v: Option<&str>| v.is_some_and(|v| graph.initializers.contains_key(v));
    let foldable = |norm: &Node| -> Option<usize> {
        let x = norm.input(0)?;
        let conv = *producers.get(x)?;
        let node = &graph.nodes[conv];
        let alone = consumers.get(x).is_some_and(|c| c.len() == 1) && !asked.contains(x);
        let constant = is_constant(node.input(1)) && (node.input(2).is_none() || is_constant(node.input(2)));
        let inference = norm.int("training_mode").unwrap_or(0) == 0 && (1..5).all(|i| is_constant(norm.input(i)));
        let float = (1..5).all(|i| {
            norm.input(i)
                .and_then(|v| graph.initializers.get(v))
                .is_some_and(|t| t.element() == crate::ElementType::F32)
        });
        let rank = node.input(1).and_then(|w| graph.initializers.get(w)).map_or(0, |w| w.dims().len());
        (node.is("Conv") && rank > 2 && alone && constant && inference && float).then_some(conv)
    };
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if node.is("BatchNormalization")
            && let Some(conv) = foldable(node)
        {
            pairs.push((conv, at));
        }
    }
    let mut dropped = BTreeSet::new();
    let prefix = graph.unused_prefix("folded");
    for (conv, norm) in pairs {
        fold_pair(graph, conv, norm, &format!("{prefix}/{norm}"));
        dropped.insert(norm);
    }
    let mut at = 0;
    graph.nodes.retain(|_| {
        at += 1;
        !dropped.contains(&(at - 1))
    });
}

/// s = γ/√(σ² + ε), W′ = s W, b′ = (b − μ) s + β, with names that begin with `scope`.
fn fold_pair(graph: &mut Graph, conv: usize, norm: usize, scope: &str) {
    let (node, old) = (graph.nodes[conv].clone(), graph.nodes[norm].clone());
    let y = old.output().to_owned();
    let (Some(w), Some(gamma), Some(beta), Some(mean), Some(variance)) =
        (node.input(1), old.input(1), old.input(2), old.input(3), old.input(4))
    else {
        return;
    };
    let rank = graph.initializers.get(w).map_or(4, |t| t.dims().len());
    let name = |part: &str| format!("{scope}/{part}");
    let mut constant = |part: &str, tensor: crate::Tensor| {
        let full = name(part);
        graph.initializers.insert(full.clone(), tensor);
        full
    };
    let epsilon = old.float("epsilon").unwrap_or(1e-5);
    let epsilon = constant("epsilon", crate::Tensor::f32(&name("epsilon"), &[], &[epsilon]));
    let mut column = vec![1i64; rank];
    column[0] = -1;
    let column = constant("column", crate::Tensor::i64(&name("column"), &[rank], &column));
    let made = |op: &str, inputs: &[&str], part: &str| Node::new(op, inputs, &[&name(part)]);
    let mut nodes = vec![
        made("Add", &[variance, &epsilon], "shifted"),
        made("Sqrt", &[&name("shifted")], "deviation"),
        made("Div", &[gamma, &name("deviation")], "scale"),
        made("Reshape", &[&name("scale"), &column], "scale_column"),
        made("Mul", &[w, &name("scale_column")], "weight"),
    ];
    let centred = match node.input(2) {
        Some(bias) => made("Sub", &[bias, mean], "centred"),
        None => made("Neg", &[mean], "centred"),
    };
    nodes.extend([
        centred,
        made("Mul", &[&name("centred"), &name("scale")], "scaled"),
        made("Add", &[&name("scaled"), beta], "bias"),
    ]);
    let mut folded = node.clone();
    folded.proto.input = vec![node.inputs()[0].clone(), name("weight"), name("bias")];
    folded.proto.output = vec![y.clone()];
    graph.nodes[conv] = folded;
    graph.nodes.extend(nodes);
}
