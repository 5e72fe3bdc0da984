//! What the runtime says about a graph's values: concrete shapes, element types, and which dimensions are the batch.
//!
//! Shape inference by rules breaks on the first op it does not know; asking the runtime never does. This file holds the
//! answer and the rewrite that asks; `pellucid-runtime` runs it.

use crate::graph::{Graph, Node, Value};
use crate::tensor::ElementType;
use std::collections::BTreeMap;

/// One value, as a run at batch 1 (and at batch 2, where the model takes it) showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Element type.
    pub element: ElementType,
    /// Shape at batch 1.
    pub shape: Vec<usize>,
    /// Shape at batch 2; `None` for a model whose batch size is baked in.
    pub shape_at_two: Option<Vec<usize>>,
}

impl Observed {
    /// Number of elements at batch 1 (saturating).
    pub fn len(&self) -> usize {
        elements(&self.shape)
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The dimensions that grow with the batch.
    pub fn batch_axes(&self) -> Vec<usize> {
        let Some(two) = &self.shape_at_two else { return Vec::new() };
        if two.len() != self.shape.len() {
            return Vec::new();
        }
        (0..self.shape.len()).filter(|&i| two[i] == self.shape[i].saturating_mul(2)).collect()
    }
}

/// Elements of an array of `shape` (saturating).
pub(crate) fn elements(shape: &[usize]) -> usize {
    let count = pellucid_guard::budget::product(shape.iter().map(|&d| d as u64));
    count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

/// Every value that was observed, by name.
pub type Observations = BTreeMap<String, Observed>;

/// The outputs that [`ask_for_shapes`] added.
#[derive(Debug, Clone, Default)]
pub struct ShapeQuestions {
    /// Pairs of a value and the int64 output that holds its shape.
    pub shapes: Vec<(String, String)>,
}

/// Makes every tensor value's shape an output (a `Shape` node each), in place of the present outputs.
pub fn ask_for_shapes(graph: &mut Graph) -> ShapeQuestions {
    let values: Vec<String> =
        graph.inputs.iter().map(|v| v.name().to_owned()).chain(graph.values().map(str::to_owned)).collect();
    let mut questions = ShapeQuestions::default();
    graph.outputs.clear();
    let mut nodes = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let name = format!("pellucid.shape.{i}");
        nodes.push(Node::new("Shape", &[&value], &[&name]));
        graph.outputs.push(Value::tensor(&name, ElementType::I64, &[None]));
        questions.shapes.push((value, name));
    }
    // The runtime takes up nodes that nothing reads from the last to the first. So each shape is asked for as soon as its
    // value is there, and values are freed as in an ordinary run.
    graph.nodes.extend(nodes.into_iter().rev());
    questions
}
