//! Puts two models into one graph, so that an objective can read values of both: models that look at one input (a
//! classifier and an image encoder), or a chain (a text encoder that feeds a U-Net).

use super::error::GradientError;
use crate::graph::{Graph, Node};
use crate::model::Model;
use crate::onnx::{GraphProto, NodeProto};
use crate::tensor::Tensor;
use std::collections::{BTreeSet, HashMap};

/// `first` and `second` as one model. Every name of `second` gets `prefix`; each of its inputs that `connections` names
/// (pairs of a value of `first`, its inputs included, and an input of `second`) reads that value instead. The outputs are
/// those of both.
///
/// Both come from [`super::prepare`]. Fails if a connected name does not exist, if the prefix makes two names equal, or
/// if weights lie beside models in different folders (the runtime reads weights from one folder only).
pub fn join(first: &Model, second: &Model, prefix: &str, connections: &[(&str, &str)]) -> Result<Model, GradientError> {
    super::prepare::check(first)?;
    super::prepare::check(second)?;
    let cannot = |reason: String| Err(GradientError::Join { second: second.path().to_path_buf(), reason });
    let mut names: HashMap<String, String> = HashMap::new();
    for (value, input) in connections {
        first.graph.check(value)?;
        if !second.graph.inputs.iter().any(|v| v.name() == *input) {
            let inputs: Vec<&str> = second.graph.inputs.iter().map(|v| v.name()).collect();
            return cannot(format!("'{input}' is not one of its inputs, which are {}", inputs.join(", ")));
        }
        names.insert((*input).to_owned(), (*value).to_owned());
    }
    if !second.places.is_empty() && first.folder() != second.folder() {
        return cannot("its weights lie in another folder than the first model's; put both models into one".to_owned());
    }
    if first.opset() != second.opset() && (old_groups(first) || old_groups(second)) {
        return cannot("GroupNormalization changed its meaning between the two opsets; export both at one".to_owned());
    }
    let mut joined = first.clone();
    let taken: BTreeSet<String> = known(&first.graph).map(str::to_owned).collect();
    for name in known(&second.graph) {
        if names.contains_key(name) {
            continue;
        }
        let new = format!("{prefix}{name}");
        if taken.contains(&new) {
            return cannot(format!("the name '{new}' exists in the first model; choose another prefix"));
        }
        names.insert(name.to_owned(), new);
    }
    append(&mut joined, second, &names);
    joined.raise_opset(second.opset());
    joined.graph.sort()?;
    Ok(joined)
}

fn old_groups(model: &Model) -> bool {
    model.opset() < 21 && model.graph.nodes.iter().any(|n| n.is("GroupNormalization"))
}

/// Every name of a graph: inputs, initializers, and what nodes give.
fn known(graph: &Graph) -> impl Iterator<Item = &str> {
    let inputs = graph.inputs.iter().map(|v| v.name());
    inputs.chain(graph.initializers.keys().map(String::as_str)).chain(graph.values())
}

fn append(joined: &mut Model, second: &Model, names: &HashMap<String, String>) {
    let renamed = |name: &str| names.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let own: BTreeSet<String> = known(&joined.graph).map(str::to_owned).collect();
    for input in second.graph.inputs.iter().filter(|v| !own.contains(&renamed(v.name()))) {
        let mut input = input.clone();
        input.proto.name = Some(renamed(input.name()));
        joined.graph.inputs.push(input);
    }
    for (name, tensor) in &second.graph.initializers {
        let mut proto = tensor.proto.clone();
        proto.name = Some(renamed(name));
        joined.graph.initializers.insert(renamed(name), Tensor::from_proto(proto));
    }
    for (name, place) in &second.places {
        joined.places.insert(renamed(name), place.clone());
    }
    for node in &second.graph.nodes {
        let mut proto = node.proto.clone();
        proto.name = Some(renamed(node.name()));
        rename(&mut proto, names);
        joined.graph.nodes.push(Node { proto });
    }
    for output in &second.graph.outputs {
        joined.graph.add_output(&renamed(output.name()));
    }
}

/// Renames what a node and its sub-graphs read and give; a sub-graph's own names cannot be outer ones.
fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = names.get(name) {
            new.clone_into(name);
        }
    }
    let inner = |graph: &mut GraphProto| {
        graph.node.iter_mut().for_each(|n| rename(n, names));
        for output in &mut graph.output {
            if let Some(new) = names.get(output.name()) {
                output.name = Some(new.clone());
            }
        }
    };
    node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)).for_each(inner);
}
