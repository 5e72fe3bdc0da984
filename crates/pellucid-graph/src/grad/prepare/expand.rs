//! Inlines model-local functions and raises every operator to the present opset, in one pass over the nodes.

use super::opset::{self, Standing};
use crate::grad::error::GradientError;
use crate::model::Model;
use crate::onnx::{AttributeProto, FunctionProto, GraphProto, NodeProto, attribute_proto::AttributeType};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

type Key = (String, String, String);

/// The functions of a model, and what inlining them adds.
pub(super) struct Expansion {
    functions: HashMap<Key, FunctionProto>,
    /// Constants that raised operators read, with names that the model does not use.
    pub constants: Vec<Tensor>,
    prefix: String,
    calls: usize,
    open: Vec<Key>,
}

fn key(domain: &str, name: &str, overload: &str) -> Key {
    (domain.to_owned(), name.to_owned(), overload.to_owned())
}

impl Expansion {
    pub fn new(model: &Model) -> Self {
        let functions =
            model.rest.functions.iter().map(|f| (key(f.domain(), f.name(), f.overload()), f.clone())).collect();
        let prefix = model.graph.unused_prefix("prepared");
        Self { functions, constants: Vec::new(), prefix, calls: 0, open: Vec::new() }
    }

    /// The nodes with every call replaced by its body, and every standard operator at the present opset; `version` is
    /// the standard opset that `nodes` are written in.
    pub fn expand(&mut self, nodes: Vec<NodeProto>, version: i64) -> Result<Vec<NodeProto>, GradientError> {
        let mut out = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            let called = key(node.domain(), node.op_type(), node.overload());
            if let Some(function) = self.functions.get(&called).cloned() {
                if self.open.contains(&called) {
                    return Err(GradientError::RecursiveFunction(function.name().to_owned()));
                }
                let own = function.opset_import.iter().find(|o| matches!(o.domain(), "" | "ai.onnx"));
                let own = own.map_or(version, |o| o.version());
                self.calls += 1;
                let body = instantiate(&function, &node, &format!("{}/call{}", self.prefix, self.calls));
                self.open.push(called);
                out.extend(self.expand(body, own)?);
                self.open.pop();
                continue;
            }
            for attribute in &mut node.attribute {
                for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    graph.node = self.expand(std::mem::take(&mut graph.node), version)?;
                }
            }
            let mut standing = Standing { constants: &mut self.constants, prefix: &self.prefix };
            out.extend(opset::raise(node, version, &mut standing)?);
        }
        Ok(out)
    }
}

/// The body of `function` as called by `node`: its inputs and outputs are the call's, its inner values get `scope`.
fn instantiate(function: &FunctionProto, node: &NodeProto, scope: &str) -> Vec<NodeProto> {
    let mut names: HashMap<String, String> = HashMap::new();
    for (i, inner) in function.input.iter().enumerate() {
        names.insert(inner.clone(), node.input.get(i).cloned().unwrap_or_default());
    }
    for (i, inner) in function.output.iter().enumerate() {
        if let Some(outer) = node.output.get(i).filter(|o| !o.is_empty()) {
            // A function may hand an input straight on; then the output keeps an inner name and a copy follows.
            names.entry(inner.clone()).or_insert_with(|| outer.clone());
        }
    }
    let mut attributes: HashMap<&str, &AttributeProto> =
        function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
    attributes.extend(node.attribute.iter().map(|a| (a.name(), a)));
    let mut body = function.node.clone();
    for inner in body.iter().flat_map(|n| &n.output).filter(|o| !o.is_empty()) {
        names.entry(inner.clone()).or_insert_with(|| format!("{scope}/{inner}"));
    }
    for inner in &mut body {
        inner.name = Some(format!("{scope}/{}", inner.name()));
        rename(inner, &names);
        bind(inner, &attributes);
    }
    for (inner, outer) in function.output.iter().zip(&node.output) {
        let handed_on = names.get(inner).filter(|n| *n != outer && !outer.is_empty());
        if let Some(from) = handed_on {
            body.push(NodeProto {
                op_type: Some("Identity".to_owned()),
                input: vec![from.clone()],
                output: vec![outer.clone()],
                name: Some(outer.clone()),
                ..NodeProto::default()
            });
        }
    }
    body
}

fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = names.get(name) {
            new.clone_into(name);
        }
    }
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            rename_captured(graph, names);
        }
    }
}

/// Renames what a sub-graph reads from outside; its own names hide outer ones.
fn rename_captured(graph: &mut GraphProto, names: &HashMap<String, String>) {
    let own: HashSet<String> = graph
        .input
        .iter()
        .map(|v| v.name().to_owned())
        .chain(graph.initializer.iter().map(|t| t.name().to_owned()))
        .chain(graph.node.iter().flat_map(|n| n.output.iter().cloned()))
        .collect();
    let visible: HashMap<String, String> =
        names.iter().filter(|(k, _)| !own.contains(*k)).map(|(k, v)| (k.clone(), v.clone())).collect();
    graph.node.iter_mut().for_each(|n| rename(n, &visible));
    for output in &mut graph.output {
        if let Some(new) = visible.get(output.name()) {
            output.name = Some(new.clone());
        }
    }
}

/// Replaces attributes that refer to the function's parameters; one that the call leaves out is dropped.
fn bind(node: &mut NodeProto, given: &HashMap<&str, &AttributeProto>) {
    let is_reference = |a: &AttributeProto| a.ref_attr_name.as_deref().is_some_and(|r| !r.is_empty());
    let mut bound = Vec::with_capacity(node.attribute.len());
    for mut attribute in std::mem::take(&mut node.attribute) {
        if is_reference(&attribute) {
            let Some(value) = given.get(attribute.ref_attr_name()) else { continue };
            let mut value = (*value).clone();
            value.name = attribute.name.clone();
            bound.push(value);
            continue;
        }
        if matches!(attribute.r#type(), AttributeType::Graph | AttributeType::Graphs) {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                graph.node.iter_mut().for_each(|n| bind(n, given));
            }
        }
        bound.push(attribute);
    }
    node.attribute = bound;
}
