//! Rewrites operators of opsets 9 to 17 as opset 18 has them: what was an attribute became an input, and a few
//! operators changed their name or their meaning.

use crate::grad::error::GradientError;
use crate::graph::Node;
use crate::onnx::{AttributeProto, NodeProto};
use crate::tensor::Tensor;

/// What stands outside the node: the constants to add to.
pub(super) struct Standing<'a> {
    pub constants: &'a mut Vec<Tensor>,
    pub prefix: &'a str,
}

impl Standing<'_> {
    fn add(&mut self, make: impl FnOnce(&str) -> Tensor) -> String {
        let name = format!("{}/constant{}", self.prefix, self.constants.len());
        self.constants.push(make(&name));
        name
    }

    fn ints(&mut self, values: &[i64]) -> String {
        self.add(|n| Tensor::i64(n, &[values.len()], values))
    }

    fn float(&mut self, value: f32) -> String {
        self.add(|n| Tensor::f32(n, &[], &[value]))
    }
}

/// Operators whose `axes` became an input, with the opset that did it.
const AXES: [(&str, i64); 12] = [
    ("Squeeze", 13),
    ("Unsqueeze", 13),
    ("ReduceSum", 13),
    ("ReduceMean", 18),
    ("ReduceMax", 18),
    ("ReduceMin", 18),
    ("ReduceProd", 18),
    ("ReduceL1", 18),
    ("ReduceL2", 18),
    ("ReduceLogSum", 18),
    ("ReduceLogSumExp", 18),
    ("ReduceSumSquare", 18),
];

/// `node`, written for opset `version`, as one or more nodes of the present opset.
pub(super) fn raise(
    node: NodeProto,
    version: i64,
    standing: &mut Standing<'_>,
) -> Result<Vec<NodeProto>, GradientError> {
    if !matches!(node.domain(), "" | "ai.onnx") || version >= super::OPSET {
        return Ok(vec![node]);
    }
    let mut node = Node { proto: node };
    let op = node.op().to_owned();
    match op.as_str() {
        _ if AXES.iter().any(|(name, since)| *name == op && version < *since) => {
            attribute_to_input(&mut node, "axes", 1, standing);
        }
        "Softmax" | "LogSoftmax" | "Hardmax" if version < 13 => return Ok(flattened_softmax(node, standing)),
        "Split" => split(&mut node, version, standing),
        "Dropout" if version < 12 => node.proto.attribute.clear(),
        "Clip" if version < 11 => clip(&mut node, standing),
        "Pad" if version < 11 => pad(&mut node, standing),
        "Slice" if version < 10 => slice(&mut node, standing)?,
        "TopK" if version < 10 => {
            let k = node.int("k").unwrap_or(1);
            drop_attribute(&mut node, "k");
            let k = standing.ints(&[k]);
            set_input(&mut node, 1, k);
        }
        "Upsample" => resize(&mut node),
        "Resize" if version < 11 => resize(&mut node),
        "Scatter" => node.proto.op_type = Some("ScatterElements".to_owned()),
        "BatchNormalization" if version < 14 => batch_normalization(&mut node)?,
        _ => {}
    }
    Ok(vec![node.proto])
}

fn drop_attribute(node: &mut Node, name: &str) {
    node.proto.attribute.retain(|a| a.name() != name);
}

fn set_input(node: &mut Node, index: usize, value: String) {
    if node.proto.input.len() <= index {
        node.proto.input.resize(index + 1, String::new());
    }
    node.proto.input[index] = value;
}

fn attribute_to_input(node: &mut Node, name: &str, index: usize, standing: &mut Standing<'_>) {
    let Some(values) = node.ints(name).map(<[i64]>::to_vec) else { return };
    drop_attribute(node, name);
    let value = standing.ints(&values);
    set_input(node, index, value);
}

/// Before opset 13 these work on the input flattened to two dimensions at `axis` (1 if not given).
fn flattened_softmax(node: Node, standing: &mut Standing<'_>) -> Vec<NodeProto> {
    let axis = node.int("axis").unwrap_or(1);
    let (x, y) = (node.inputs().first().cloned().unwrap_or_default(), node.output().to_owned());
    if axis == -1 {
        return vec![node.with_int("axis", -1).proto];
    }
    let name = |part: &str| format!("{}/{part}/{y}", standing.prefix);
    let (shape, flat, soft) = (name("shape"), name("flat"), name("soft"));
    vec![
        Node::new("Shape", &[&x], &[&shape]).proto,
        Node::new("Flatten", &[&x], &[&flat]).with_int("axis", axis).proto,
        Node::new(node.op(), &[&flat], &[&soft]).with_int("axis", 1).proto,
        Node::new("Reshape", &[&soft, &shape], &[&y]).proto,
    ]
}

fn split(node: &mut Node, version: i64, standing: &mut Standing<'_>) {
    if version < 13 {
        attribute_to_input(node, "split", 1, standing);
    }
    if node.input(1).is_none() {
        let parts = node.outputs().len() as i64;
        *node = node.clone().with_int("num_outputs", parts);
    }
}

fn clip(node: &mut Node, standing: &mut Standing<'_>) {
    for (index, name) in [(1, "min"), (2, "max")] {
        if let Some(bound) = node.float(name) {
            drop_attribute(node, name);
            let bound = standing.float(bound);
            set_input(node, index, bound);
        }
    }
}

fn pad(node: &mut Node, standing: &mut Standing<'_>) {
    attribute_to_input(node, "pads", 1, standing);
    if let Some(value) = node.float("value") {
        drop_attribute(node, "value");
        let value = standing.float(value);
        set_input(node, 2, value);
    }
}

fn slice(node: &mut Node, standing: &mut Standing<'_>) -> Result<(), GradientError> {
    if node.ints("starts").is_none() || node.ints("ends").is_none() {
        let reason = "an old Slice needs the attributes starts and ends".to_owned();
        return Err(GradientError::OldForm { node: node.describe(), reason });
    }
    for (index, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        attribute_to_input(node, name, index, standing);
    }
    Ok(())
}

/// Upsample and the Resize of opset 10: coordinates are those called asymmetric since, nearest rounds down.
fn resize(node: &mut Node) {
    let scales = node.input(1).unwrap_or_default().to_owned();
    let x = node.input(0).unwrap_or_default().to_owned();
    let mode = node.string("mode").unwrap_or("nearest").to_owned();
    let resized = Node::new("Resize", &[&x, "", &scales], &[node.output()]).with_string("mode", &mode);
    let mut resized =
        resized.with_string("coordinate_transformation_mode", "asymmetric").with_string("nearest_mode", "floor");
    resized.proto.name.clone_from(&node.proto.name);
    *node = resized;
}

/// Outputs 1 to 4 were statistics of training; in inference they are copies that nothing reads.
fn batch_normalization(node: &mut Node) -> Result<(), GradientError> {
    node.proto.output.truncate(1);
    node.proto.attribute.retain(|a: &AttributeProto| matches!(a.name(), "epsilon" | "momentum"));
    Ok(())
}
