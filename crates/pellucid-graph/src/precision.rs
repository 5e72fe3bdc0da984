//! Half precision to single: the same computation with float32 weights and values.
//!
//! ONNX Runtime's CPU has few float16 kernels and casts around the others, and the rules of differentiation are measured in
//! float32; so a half-precision export is widened before it runs on a CPU. Values are the same: float16 and bfloat16 are
//! exact in float32.

use crate::graph::{Node, Value};
use crate::model::{Model, ModelError};
use crate::tensor::{ElementType, Tensor, TensorError};

fn is_half(element: ElementType) -> bool {
    matches!(element, ElementType::F16 | ElementType::BF16)
}

/// Why a model cannot be widened.
#[derive(Debug, thiserror::Error)]
pub enum WidenError {
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] ModelError),
    /// One of them is damaged.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Rewrites `model` so that everything that is float16 or bfloat16 becomes float32: weights, constants, casts, inputs and
/// outputs. Gives whether there was anything. The weights then live in memory, twice as large as in the file.
pub fn widen_to_float32(model: &mut Model) -> Result<bool, WidenError> {
    let halves = |v: &&Value| v.element().is_some_and(is_half);
    let graph = &model.graph;
    let any = graph.initializers.values().any(|t| is_half(t.element())) || graph.inputs.iter().any(|v| halves(&v));
    if !any {
        return Ok(false);
    }
    model.embed_weights()?;
    for tensor in model.graph.initializers.values_mut().filter(|t| is_half(t.element())) {
        *tensor = widened(tensor)?;
    }
    for node in &mut model.graph.nodes {
        widen_node(node)?;
    }
    for value in model.graph.inputs.iter_mut().chain(&mut model.graph.outputs) {
        if value.element().is_some_and(is_half) {
            *value = Value::tensor(value.name(), ElementType::F32, &value.shape().unwrap_or_default());
        }
    }
    // Types of values in between are hints; the runtime infers them anew.
    model.graph.rest.value_info.clear();
    Ok(true)
}

fn widened(tensor: &Tensor) -> Result<Tensor, TensorError> {
    let shape: Vec<usize> = tensor.dims().iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    Ok(Tensor::f32(tensor.name(), &shape, &tensor.to_f32()?))
}

/// Constants and types in a node's attributes.
fn widen_node(node: &mut Node) -> Result<(), TensorError> {
    let float = i64::from(ElementType::F32.to_onnx());
    for attribute in &mut node.proto.attribute {
        if let Some(proto) = attribute.t.take() {
            let tensor = Tensor::from_proto(proto);
            attribute.t = Some(if is_half(tensor.element()) { widened(&tensor)?.proto } else { tensor.proto });
        }
        let names_a_type = matches!(attribute.name(), "to" | "dtype");
        let type_of = |i: i64| i32::try_from(i).map(ElementType::from_onnx).ok();
        if names_a_type && attribute.i.and_then(type_of).is_some_and(is_half) {
            attribute.i = Some(float);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    fn half_model() -> Model {
        let one = Tensor::raw("w", ElementType::F16, &[2], vec![0x00, 0x3c, 0x00, 0xc0].into());
        let float = i64::from(ElementType::F32.to_onnx());
        let half = i64::from(ElementType::F16.to_onnx());
        let nodes = vec![
            Node::new("Cast", &["x"], &["wide"]).with_int("to", float),
            Node::new("Cast", &["wide"], &["narrow"]).with_int("to", half),
            Node::new("Mul", &["narrow", "w"], &["y"]),
        ];
        let x = Value::tensor("x", ElementType::F16, &[None, Some(2)]);
        Model::new("half.onnx", Graph::new(vec![x], nodes, vec![one], &["y"]).unwrap(), 17)
    }

    #[test]
    fn weights_casts_and_inputs_become_float32_with_the_same_values() {
        let mut model = half_model();
        assert!(widen_to_float32(&mut model).unwrap());
        let weight = &model.graph.initializers["w"];
        assert_eq!((weight.element(), weight.to_f32().unwrap()), (ElementType::F32, vec![1.0, -2.0]));
        assert_eq!(model.graph.inputs[0].element(), Some(ElementType::F32));
        assert_eq!(model.graph.inputs[0].shape(), Some(vec![None, Some(2)]));
        let float = i64::from(ElementType::F32.to_onnx());
        assert!(model.graph.nodes.iter().filter_map(|n| n.int("to")).all(|to| to == float));
    }

    #[test]
    fn a_float32_model_is_left_as_it_is() {
        let mut model = half_model();
        widen_to_float32(&mut model).unwrap();
        let before = model.to_bytes();
        assert!(!widen_to_float32(&mut model).unwrap());
        assert_eq!(model.to_bytes(), before);
    }
}
