//! Writes what is known of shapes into the graph, so that the runtime sees that a gradient has the shape of its value.
//!
//! ONNX Runtime keeps its blocked layout through a product only if both factors are known to have one shape, and its own
//! inference loses the batch wherever a shape is computed.

use super::emit::{Dim, GraphBuilder};
use crate::graph::{Graph, Node, Value};
use crate::onnx::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use crate::tensor::ElementType;
use std::collections::HashSet;

/// The name of the batch dimension in a differentiated model.
const BATCH: &str = "batch";

/// A value with as much of its shape as is known: numbers, and one name for the batch.
fn described(name: &str, element: ElementType, dims: &[Dim]) -> ValueInfoProto {
    let dimension = |d: &Dim| Dimension {
        denotation: None,
        value: match d {
            Dim::Fixed(n) => Some(dimension::Value::DimValue(*n as i64)),
            Dim::Batch(1) => Some(dimension::Value::DimParam(BATCH.to_owned())),
            Dim::Batch(_) | Dim::Free => None,
        },
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element.to_onnx()), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// Whether the runtime infers a larger output for a pooling than it then computes: with `ceil_mode`, its inference counts
/// a last window that would start in the padding. What follows such a node must not be contradicted by true shapes.
fn misjudged(emitter: &GraphBuilder, node: &Node) -> bool {
    if node.int("ceil_mode").unwrap_or(0) == 0 {
        return false;
    }
    let (Some(x), Some(kernel)) = (node.input(0), node.ints("kernel_shape")) else { return true };
    let (Ok(input), Ok(output)) = (emitter.dims(x), emitter.dims(node.output())) else { return true };
    // Twice the bits: the attributes may be any numbers.
    let at = |name: &str, i: usize, default: i64| {
        i128::from(node.ints(name).and_then(|v| v.get(i).copied()).unwrap_or(default))
    };
    (0..kernel.len()).any(|i| {
        let (Some(Dim::Fixed(n)), Some(Dim::Fixed(m))) = (input.get(i + 2), output.get(i + 2)) else { return true };
        let reach = at("dilations", i, 1) * (i128::from(kernel[i]) - 1) + 1;
        let room = *n as i128 + at("pads", i, 0) + at("pads", i + kernel.len(), 0) - reach;
        let stride = at("strides", i, 1).max(1);
        (room + stride - 1) / stride + 1 != *m as i128
    })
}

/// Declares the shapes of inputs, of observed values and of `pairs` (a value, and another of the same shape).
pub(super) fn declare(emitter: &GraphBuilder, graph: &mut Graph, pairs: &[(String, String)]) {
    let known = |name: &str| Some((emitter.element_of(name)?, emitter.dims(name).ok()?));
    for input in &mut graph.inputs {
        if let Some((element, dims)) = known(input.name()) {
            *input = Value { proto: described(input.name(), element, &dims) };
        }
    }
    if graph.nodes.iter().any(|n| misjudged(emitter, n)) {
        return;
    }
    let outputs: HashSet<&str> = graph.outputs.iter().map(Value::name).collect();
    let inner = |name: &str| !outputs.contains(name) && !graph.initializers.contains_key(name);
    let mut declared: Vec<ValueInfoProto> = Vec::new();
    for name in graph.values().filter(|n| inner(n)) {
        declared.extend(known(name).map(|(element, dims)| described(name, element, &dims)));
    }
    // A cotangent has its value's shape and is a float, also where a gradient goes straight through integers.
    let float = |element: ElementType| if element.is_float() { element } else { ElementType::F32 };
    for (like, name) in pairs.iter().filter(|(_, n)| inner(n) && !emitter.observed.contains_key(n)) {
        declared.extend(known(like).map(|(element, dims)| described(name, float(element), &dims)));
    }
    declared.sort_by(|a, b| a.name().cmp(b.name()));
    declared.dedup_by(|a, b| a.name() == b.name());
    graph.rest.value_info = declared;
}
