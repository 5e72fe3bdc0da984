//! Brings a model to the one form that rules are written for: model-local functions inlined, operators at opset 18 or
//! later, constants as initializers, attention spelt out, batch normalisation folded into the convolution before it.
//!
//! Nothing here changes what the model computes beyond rounding; names of the model's own values stay.

mod attention;
mod batch_norm;
mod constants;
mod expand;
mod opset;

use super::error::GradientError;
use crate::graph::Node;
use crate::model::Model;
use crate::onnx::NodeProto;
use std::collections::BTreeSet;

pub use constants::{fold_known, shape_computations};

/// The opset that rules emit nodes of; later ones are kept.
const OPSET: i64 = 18;

/// The model in the form that [`super::differentiate`] takes. Observe the shapes of *this* model. `keep` names values
/// that the objective reads or that gradients are asked for: they stay as they are.
pub fn prepare(model: &Model, keep: &[&str]) -> Result<Model, GradientError> {
    for value in keep {
        model.graph.check(value)?;
    }
    let mut prepared = model.clone();
    let mut context = expand::Expansion::new(model);
    let nodes: Vec<NodeProto> = std::mem::take(&mut prepared.graph.nodes).into_iter().map(|n| n.proto).collect();
    let nodes = context.expand(nodes, model.opset())?;
    prepared.graph.nodes = nodes.into_iter().map(|proto| Node { proto }).collect();
    prepared.graph.initializers.extend(context.constants.into_iter().map(|t| (t.name().to_owned(), t)));
    constants::lift(&mut prepared.graph, keep);
    attention::spell_out(&mut prepared.graph);
    batch_norm::fold(&mut prepared.graph, keep);
    prepared.graph.sort()?;
    declare_form(&mut prepared);
    Ok(prepared)
}

fn declare_form(model: &mut Model) {
    model.rest.functions.clear();
    model.rest.ir_version = Some(model.rest.ir_version.unwrap_or(8).max(8));
    let used: BTreeSet<String> = domains(model.graph.nodes.iter().map(|n| &n.proto));
    model.rest.opset_import.retain(|o| matches!(o.domain(), "" | "ai.onnx") || used.contains(o.domain()));
    for import in &mut model.rest.opset_import {
        if matches!(import.domain(), "" | "ai.onnx") {
            import.version = Some(import.version().max(OPSET));
        }
    }
}

/// The operator domains that nodes use, those in sub-graphs included.
fn domains<'a>(nodes: impl Iterator<Item = &'a NodeProto>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for node in nodes {
        used.insert(node.domain().to_owned());
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                used.extend(domains(graph.node.iter()));
            }
        }
    }
    used
}

/// Refuses a model that did not come from [`prepare`].
pub(crate) fn check(model: &Model) -> Result<(), GradientError> {
    let unprepared = |why: String| Err(GradientError::Unprepared(why));
    if model.opset() < OPSET {
        return unprepared(format!("it uses opset {}, and rules are written for {OPSET} and later", model.opset()));
    }
    if let Some(function) = model.rest.functions.first() {
        return unprepared(format!("it has the model-local function {}", function.name()));
    }
    match model.graph.nodes.iter().find(|n| n.is("Constant")) {
        Some(node) => unprepared(format!("node {} is a constant that is not an initializer", node.describe())),
        None => Ok(()),
    }
}
