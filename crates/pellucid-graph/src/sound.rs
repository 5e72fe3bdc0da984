//! What a decoded model declares, checked before anything relies on it: tensors that hold what their shapes say, and
//! functions whose calls, written out, stay within the bound on nodes.

use crate::onnx::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataLocation};
use crate::tensor::{ElementType, TensorError};
use pellucid_guard::budget::product;
use prost::Message;
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

/// What `model` takes with every call of its own functions written out, as the runtime does it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Written {
    /// Nodes.
    pub nodes: u64,
    /// Bytes of the nodes that are written in the place of calls.
    pub bytes: u64,
}

impl Written {
    fn and(self, other: Self) -> Option<Self> {
        Some(Self { nodes: self.nodes.checked_add(other.nodes)?, bytes: self.bytes.checked_add(other.bytes)? })
    }
}

/// What `model` takes with every call of its own functions written out; `None` where a function calls itself or a number
/// does not fit.
pub(crate) fn written_out(model: &ModelProto) -> Option<Written> {
    let functions: HashMap<Key<'_>, &FunctionProto> =
        model.functions.iter().map(|f| ((f.domain(), f.name(), f.overload()), f)).collect();
    let mut count = Count { functions, known: HashMap::new(), depth: 0 };
    count.graph(model.graph.as_ref()?)
}

/// Levels of functions that call functions.
const CALLS: usize = 64;

/// Domain, name and overload of a function.
type Key<'a> = (&'a str, &'a str, &'a str);

struct Count<'a> {
    functions: HashMap<Key<'a>, &'a FunctionProto>,
    known: HashMap<Key<'a>, Written>,
    depth: usize,
}

impl<'a> Count<'a> {
    fn graph(&mut self, graph: &'a GraphProto) -> Option<Written> {
        self.nodes(&graph.node)
    }

    fn nodes(&mut self, nodes: &'a [NodeProto]) -> Option<Written> {
        nodes.iter().try_fold(Written::default(), |sum, node| sum.and(self.node(node)?))
    }

    fn node(&mut self, node: &'a NodeProto) -> Option<Written> {
        let mut sum = Written { nodes: 1, bytes: 0 };
        for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            sum = sum.and(self.graph(graph)?)?;
        }
        let key = (node.domain(), node.op_type(), node.overload());
        let Some(&function) = self.functions.get(&key) else { return Some(sum) };
        let inside = match self.known.get(&key) {
            Some(&known) => known,
            None if self.depth >= CALLS => return None,
            None => {
                self.depth += 1;
                let own = function.node.iter().map(|n| n.encoded_len() as u64).sum();
                let inside = self.nodes(&function.node)?.and(Written { nodes: 0, bytes: own })?;
                self.depth -= 1;
                self.known.insert(key, inside);
                inside
            }
        };
        sum.and(inside)
    }
}
