//! What decoding a model file will take, found by walking its bytes before anything is decoded.
//!
//! Two bytes of a protobuf message can become a node of several hundred, so that a file of a few megabytes fills any
//! machine. The walk takes no memory of its own and time in proportion to the file, large weights being stepped over.

use crate::onnx;
use std::mem::size_of;

/// What a file decodes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Nodes, those of subgraphs and functions included.
    pub nodes: u64,
    /// Bytes of the decoded messages, weights apart (they stay slices of the file): an upper bound.
    pub bytes: u64,
}

/// Levels of messages, as prost bounds them: deeper files are refused by it.
const DEPTH: usize = 100;

/// Bytes that one byte of a message without weight of its own here (devices, shards, training) could become.
const RARE: u64 = 128;

/// The messages that are walked into.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    /// A tensor's or sparse tensor's type.
    TensorType,
    /// A sequence's, an optional's or a map's type.
    Nested,
    Shape,
    Dimension,
    Annotation,
    Function,
    OperatorSet,
    Entry,
}

/// What a length-delimited field holds.
enum Field {
    /// A message, which takes so many bytes.
    Of(Message, usize),
    /// A string or a small run of bytes: so many for its place, and a copy where it is text.
    Text,
    /// A slice of the file.
    Slice,
    /// Packed numbers: so many bytes for each byte in the file.
    Packed(u64),
    /// Anything else.
    Rare,
}

fn field(message: Message, tag: u64) -> Field {
    use Field::{Of, Packed, Rare, Slice, Text};
    use Message as M;
    match (message, tag) {
        (M::Model, 7) => Of(M::Graph, size_of::<onnx::GraphProto>()),
        (M::Model, 8) | (M::Function, 9) => Of(M::OperatorSet, size_of::<onnx::OperatorSetIdProto>()),
        (M::Model, 25) => Of(M::Function, size_of::<onnx::FunctionProto>()),
        (M::Graph, 1) | (M::Function, 7) => Of(M::Node, size_of::<onnx::NodeProto>()),
        (M::Graph, 5) | (M::Attribute, 5 | 10) | (M::Sparse, 1 | 2) => Of(M::Tensor, size_of::<onnx::TensorProto>()),
        (M::Graph, 15) | (M::Attribute, 22 | 23) => Of(M::Sparse, size_of::<onnx::SparseTensorProto>()),
        (M::Graph, 11..=13) | (M::Function, 12) => Of(M::ValueInfo, size_of::<onnx::ValueInfoProto>()),
        (M::Graph, 14) => Of(M::Annotation, size_of::<onnx::TensorAnnotation>()),
        (M::Node, 5) | (M::Function, 11) => Of(M::Attribute, size_of::<onnx::AttributeProto>()),
        (M::Attribute, 6 | 11) => Of(M::Graph, size_of::<onnx::GraphProto>()),
        (M::Attribute, 14 | 15) | (M::ValueInfo, 2) | (M::Nested, 1 | 2) => Of(M::Type, size_of::<onnx::TypeProto>()),
        (M::Type, 1 | 8) => Of(M::TensorType, size_of::<onnx::type_proto::Tensor>()),
        (M::Type, 4 | 5 | 9) => Of(M::Nested, size_of::<onnx::type_proto::Map>()),
        (M::TensorType, 2) => Of(M::Shape, size_of::<onnx::TensorShapeProto>()),
        (M::Shape, 1) => Of(M::Dimension, size_of::<onnx::tensor_shape_proto::Dimension>()),
        (M::Model | M::Function, 14)
        | (M::Graph | M::Tensor, 16)
        | (M::Node, 9)
        | (M::Tensor, 13)
        | (M::Annotation, 2)
        | (M::ValueInfo, 4) => Of(M::Entry, size_of::<onnx::StringStringEntryProto>()),
        (M::Tensor, 9) | (M::Attribute, 4) => Slice,
        (M::Tensor, 4 | 10 | 11) => Packed(16),
        (M::Attribute, 7) => Packed(2),
        (M::Tensor, 5) => Packed(8),
        (M::Tensor, 1 | 7) | (M::Attribute, 8) | (M::Sparse, 3) => Packed(16),
        (M::Model, 20 | 26) | (M::Node, 10) => Rare,
        _ => Text,
    }
}

/// Walks `file`, an encoded model. Where it is damaged the walk ends: what comes behind is not decoded either.
pub(crate) fn weigh(file: &[u8]) -> Weight {
    let mut weight = Weight::default();
    walk(Message::Model, file, 0, &mut weight);
    weight
}

fn walk(message: Message, mut rest: &[u8], depth: usize, weight: &mut Weight) -> Option<()> {
    // A vector that grows holds up to twice what is in it.
    let taken = |bytes: usize| 2 * bytes as u64;
    let add = |weight: &mut Weight, bytes: u64| weight.bytes = weight.bytes.saturating_add(bytes);
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                varint(&mut rest)?;
                add(weight, 16);
            }
            1 => {
                rest = rest.get(8..)?;
                add(weight, 16);
            }
            5 => {
                rest = rest.get(4..)?;
                add(weight, 8);
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let inner = rest.get(..length)?;
                rest = rest.get(length..)?;
                match field(message, key >> 3) {
                    Field::Of(kind, size) => {
                        add(weight, taken(size));
                        weight.nodes += u64::from(matches!(kind, Message::Node));
                        if depth < DEPTH {
                            walk(kind, inner, depth + 1, weight)?;
                        }
                    }
                    Field::Text => add(weight, taken(size_of::<bytes::Bytes>()) + length as u64),
                    Field::Slice => {}
                    Field::Packed(each) => add(weight, each.saturating_mul(length as u64)),
                    Field::Rare => add(weight, RARE.saturating_mul(1 + length as u64)),
                }
            }
            // A group: unknown here and skipped by the decoder; what stands inside is counted as if it were not.
            3 | 4 => {}
            _ => return None,
        }
    }
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Node;
    use crate::onnx::{AttributeProto, GraphProto, ModelProto};
    use prost::Message as _;

    fn file(graph: GraphProto) -> Vec<u8> {
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    #[test]
    fn nodes_of_subgraphs_count() {
        let node = Node::new("Relu", &["x"], &["y"]).proto;
        let inner = GraphProto { node: vec![node.clone(); 3], ..GraphProto::default() };
        let branch = AttributeProto { g: Some(inner.clone()), graphs: vec![inner], ..AttributeProto::default() };
        let chooses = onnx::NodeProto { attribute: vec![branch], ..node.clone() };
        assert_eq!(weigh(&file(GraphProto { node: vec![node, chooses], ..GraphProto::default() })).nodes, 8);
    }

    #[test]
    fn two_bytes_that_become_a_node_weigh_what_a_node_does() {
        let graph = GraphProto { node: vec![onnx::NodeProto::default(); 1000], ..GraphProto::default() };
        let bytes = file(graph);
        assert!(bytes.len() < 2100);
        let weight = weigh(&bytes);
        assert_eq!(weight.nodes, 1000);
        assert!(weight.bytes >= (1000 * size_of::<onnx::NodeProto>()) as u64);
    }

    #[test]
    fn weights_that_stay_in_the_file_weigh_nothing() {
        let tensor = crate::Tensor::f32("w", &[1 << 16], &vec![1.0; 1 << 16]).proto;
        let bytes = file(GraphProto { initializer: vec![tensor], ..GraphProto::default() });
        assert!(bytes.len() > 1 << 18 && weigh(&bytes).bytes < 10_000);
    }

    #[test]
    fn a_damaged_end_does_not_hide_what_comes_before() {
        let mut bytes = file(GraphProto { node: vec![onnx::NodeProto::default(); 10], ..GraphProto::default() });
        bytes.extend([0x3a, 0xff, 0xff]);
        assert_eq!(weigh(&bytes).nodes, 10);
    }
}
