//! Constants as initializers, and integers that only depend on shapes as constants.
//!
//! Exporters compute the operands of Reshape, Slice and Expand from `Shape` nodes. Once the runtime has said what comes
//! out, those that are the same at every batch become constants, so that rules can read them.

use crate::graph::{Graph, Node};
use crate::observed::Observations;
use crate::tensor::{ElementType, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The largest number of elements of a folded value.
const LARGEST: usize = 4096;

/// Turns `Constant` nodes into initializers and resolves `Identity` of an initializer. Outputs keep their producers.
pub(super) fn lift(graph: &mut Graph, keep: &[&str]) {
    let outputs: BTreeSet<String> =
        graph.outputs.iter().map(|v| v.name().to_owned()).chain(keep.iter().map(|&k| k.to_owned())).collect();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        rename_reads(&mut node, &renamed);
        let output = node.output().to_owned();
        if let Some(tensor) = node.constant() {
            graph.initializers.insert(output, tensor);
            continue;
        }
        let copied = node.is("Identity").then(|| node.input(0).map(str::to_owned)).flatten();
        if let Some(from) = copied.filter(|f| graph.initializers.contains_key(f) && !outputs.contains(&output)) {
            renamed.insert(output, from);
            continue;
        }
        nodes.push(node);
    }
    graph.nodes = nodes;
}

fn rename_reads(node: &mut Node, names: &BTreeMap<String, String>) {
    if names.is_empty() {
        return;
    }
    for input in &mut node.proto.input {
        if let Some(new) = names.get(input) {
            new.clone_into(input);
        }
    }
    for attribute in &mut node.proto.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            let mut inner: Vec<Node> =
                std::mem::take(&mut graph.node).into_iter().map(|proto| Node { proto }).collect();
            inner.iter_mut().for_each(|n| rename_reads(n, names));
            graph.node = inner.into_iter().map(|n| n.proto).collect();
        }
    }
}

/// Values that depend on shapes and constants only, are small, and are read by something that depends on more: what to
/// ask the runtime for, to give to [`fold_known`].
pub fn shape_computations(graph: &Graph, observed: &Observations) -> Vec<String> {
    let mut still: HashSet<&str> = graph.initializers.keys().map(String::as_str).collect();
    let mut moving: Vec<&Node> = Vec::new();
    for node in &graph.nodes {
        let random = node.op().starts_with("Random") || matches!(node.op(), "Bernoulli" | "Multinomial");
        let by_shape = matches!(node.op(), "Shape" | "Size") && node.domain().is_empty();
        if !random && (by_shape || node.reads().iter().all(|r| still.contains(r))) {
            still.extend(node.outputs().iter().map(String::as_str).filter(|o| !o.is_empty()));
        } else {
            moving.push(node);
        }
    }
    let carried = |v: &str| {
        observed.get(v).is_some_and(|o| {
            matches!(o.element, ElementType::I64 | ElementType::I32 | ElementType::Bool | ElementType::F32)
                && o.len() <= LARGEST
        })
    };
    let read: BTreeSet<&str> = moving.iter().flat_map(|n| n.reads()).collect();
    let fixed = |v: &str| !graph.initializers.contains_key(v) && still.contains(v) && carried(v);
    read.into_iter().filter(|v| fixed(v)).map(str::to_owned).collect()
}

/// Replaces values by constants (those of [`shape_computations`] that are the same at every batch) and drops what
/// computed them.
pub fn fold_known(graph: &mut Graph, known: Vec<Tensor>) {
    let outputs: BTreeSet<String> = graph.outputs.iter().map(|v| v.name().to_owned()).collect();
    let known: Vec<Tensor> = known.into_iter().filter(|t| !outputs.contains(t.name())).collect();
    let names: BTreeSet<String> = known.iter().map(|t| t.name().to_owned()).collect();
    for node in &mut graph.nodes {
        node.proto.output.iter_mut().filter(|o| names.contains(*o)).for_each(String::clear);
    }
    graph.nodes.retain(|n| n.outputs().iter().any(|o| !o.is_empty()));
    graph.initializers.extend(known.into_iter().map(|t| (t.name().to_owned(), t)));
    drop_unread(graph);
}

/// Drops nodes without effect and constants that nothing reads, and leaves every other value where it is.
fn drop_unread(graph: &mut Graph) {
    let mut read: BTreeSet<&str> = graph.outputs.iter().map(|v| v.name()).collect();
    // From the last node to the first: who reads a value stands behind what computes it.
    let mut useful: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in graph.nodes.iter().rev() {
        useful.push(!by_shape(node) || node.outputs().iter().any(|o| read.contains(o.as_str())));
        if useful.last() == Some(&true) {
            read.extend(node.reads());
        }
    }
    graph.initializers.retain(|name, _| read.contains(name.as_str()));
    graph.nodes.retain(|_| useful.pop().unwrap_or(true));
}

/// Whether a node belongs to the computation of shapes, by its operator.
fn by_shape(node: &Node) -> bool {
    const OPERATORS: [&str; 12] = [
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Gather",
        "Mul",
        "Range",
        "Shape",
        "Size",
        "Slice",
        "Squeeze",
        "Unsqueeze",
    ];
    node.domain().is_empty() && OPERATORS.contains(&node.op())
}
