//! What a decoded model declares, checked before anything relies on it: tensors that hold what their shapes say, and
//! functions whose calls, written out, stay within the bound on nodes.

use crate::onnx::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataLocation};
use crate::tensor::{ElementType, TensorError};
use pellucid_guard::budget::product;
use std::collections::HashMap;

/// Dimensions that a tensor may have.
const RANK: usize = 64;

/// Checks every tensor that stands in `graph`, those of attributes and subgraphs included.
pub(crate) fn tensors(graph: &GraphProto) -> Result<(), TensorError> {
    graph.initializer.iter().try_for_each(|t| tensor(t, || t.name().to_owned()))?;
    graph.node.iter().try_for_each(node)
}

fn node(node: &NodeProto) -> Result<(), TensorError> {
    for attribute in &node.attribute {
        let name = || format!("{} of node {}", attribute.name(), node.name());
        attribute.t.iter().chain(&attribute.tensors).try_for_each(|t| tensor(t, name))?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(tensors)?;
    }
    Ok(())
}

/// Bytes that the values of `tensor` take by its shape; `None` for strings and packed types.
pub(crate) fn declared_bytes(tensor: &TensorProto) -> Option<u64> {
    let size = ElementType::from_onnx(tensor.data_type()).size()? as u64;
    product(tensor.dims.iter().map(|&d| u64::try_from(d).unwrap_or(0)).chain([size]))
}

fn tensor(tensor: &TensorProto, name: impl Fn() -> String) -> Result<(), TensorError> {
    let dims = &tensor.dims;
    let shape = |reason: &'static str| TensorError::Shape {
        name: name(),
        shape: dims.iter().copied().take(RANK).collect(),
        reason,
    };
    if dims.len() > RANK {
        return Err(shape("has more than 64 dimensions"));
    }
    if dims.iter().any(|&d| d < 0) {
        return Err(shape("has a negative dimension"));
    }
    // 16: the largest element.
    let count = product(dims.iter().map(|&d| d as u64)).filter(|n| n.checked_mul(16).is_some_and(|b| b < 1 << 63));
    let count = count.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| shape("is larger than any memory"))?;
    if tensor.data_location() == DataLocation::External {
        return Ok(());
    }
    match held(tensor) {
        Some(found) if found != count => {
            Err(TensorError::Length { name: name(), shape: dims.clone(), expected: count, found })
        }
        _ => Ok(()),
    }
}

/// Values that `tensor` carries; `None` where its type is packed or not known.
fn held(tensor: &TensorProto) -> Option<usize> {
    let element = ElementType::from_onnx(tensor.data_type());
    if let (Some(raw), Some(size)) = (tensor.raw_data.as_ref().filter(|raw| !raw.is_empty()), element.size()) {
        // A rest that is no whole value counts as one more: it does not fit either.
        return Some(raw.len().div_ceil(size));
    }
    Some(match element {
        ElementType::F32 => tensor.float_data.len(),
        ElementType::F64 => tensor.double_data.len(),
        ElementType::I64 => tensor.int64_data.len(),
        ElementType::U32 | ElementType::U64 => tensor.uint64_data.len(),
        ElementType::String => tensor.string_data.len(),
        ElementType::Other(_) => return None,
        _ => tensor.int32_data.len(),
    })
}

/// Nodes of `model` with every call of its own functions written out, as the runtime does it; `None` where a function
/// calls itself or the number does not fit.
pub(crate) fn nodes_written_out(model: &ModelProto) -> Option<u64> {
    let functions: HashMap<(&str, &str), &FunctionProto> =
        model.functions.iter().map(|f| ((f.domain(), f.name()), f)).collect();
    let mut count = Count { functions, known: HashMap::new(), depth: 0 };
    count.graph(model.graph.as_ref()?)
}

/// Levels of functions that call functions.
const CALLS: usize = 64;

struct Count<'a> {
    functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    known: HashMap<(&'a str, &'a str), u64>,
    depth: usize,
}

impl<'a> Count<'a> {
    fn graph(&mut self, graph: &'a GraphProto) -> Option<u64> {
        self.nodes(&graph.node)
    }

    fn nodes(&mut self, nodes: &'a [NodeProto]) -> Option<u64> {
        nodes.iter().try_fold(0u64, |sum, node| sum.checked_add(self.node(node)?))
    }

    fn node(&mut self, node: &'a NodeProto) -> Option<u64> {
        let mut sum = 1u64;
        for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            sum = sum.checked_add(self.graph(graph)?)?;
        }
        let key = (node.domain(), node.op_type());
        let Some(&function) = self.functions.get(&key) else { return Some(sum) };
        let inside = match self.known.get(&key) {
            Some(&known) => known,
            None if self.depth >= CALLS => return None,
            None => {
                self.depth += 1;
                let inside = self.nodes(&function.node)?;
                self.depth -= 1;
                self.known.insert(key, inside);
                inside
            }
        };
        sum.checked_add(inside)
    }
}
