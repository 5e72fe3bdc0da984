//! Frees a batch size that an export baked in. What comes out must be verified by running: a batch of two different
//! samples has to equal two single runs (`pellucid-runtime` does that).

use crate::graph::{Graph, Node, Value};
use crate::model::Model;
use crate::tensor::Tensor;

/// The batch size that is baked into `model`: the first dimension that its inputs declare, if all that have dimensions
/// declare the same; `None` where it is free.
pub fn baked_batch(model: &Model) -> Option<i64> {
    let shapes = model.graph.inputs.iter().filter_map(Value::shape).filter(|s| !s.is_empty());
    let mut firsts = shapes.map(|s| s[0]);
    let first = firsts.next()??;
    firsts.all(|f| f == Some(first)).then_some(first)
}

/// `model` (prepared) with its batch dimension free: in the inputs' declarations, in constant targets of Reshape and
/// Expand, and where a constant row per sample (a class token) is joined to the batch.
pub fn with_dynamic_batch(model: &Model) -> Model {
    let mut wide = model.clone();
    let Some(batch) = baked_batch(model) else { return wide };
    for input in &mut wide.graph.inputs {
        let (Some(shape), Some(element)) = (input.shape(), input.element()) else { continue };
        if shape.first() == Some(&Some(batch)) {
            let free: Vec<Option<i64>> = std::iter::once(None).chain(shape[1..].iter().copied()).collect();
            *input = Value::tensor(input.name(), element, &free);
        }
    }
    for output in &mut wide.graph.outputs {
        *output = Value::untyped(output.name());
    }
    wide.graph.rest.value_info.clear();
    free_targets(&mut wide.graph, batch);
    wide
}

fn free_targets(graph: &mut Graph, batch: i64) {
    let Some(input) = graph.inputs.iter().find(|v| v.shape().is_some_and(|s| !s.is_empty())) else { return };
    let prefix = graph.unused_prefix("widened");
    let mut writer = Writer { input: input.name().to_owned(), count: None, nodes: Vec::new(), prefix, made: 0 };
    for mut node in std::mem::take(&mut graph.nodes) {
        match node.op() {
            "Reshape" if node.domain().is_empty() => writer.reshape(graph, &mut node, batch),
            "Expand" if node.domain().is_empty() => writer.expand(graph, &mut node, batch),
            "Concat" if node.domain().is_empty() => writer.concat(graph, &mut node, batch),
            _ => {}
        }
        writer.nodes.push(node);
    }
    graph.nodes = writer.nodes;
}

struct Writer {
    /// An input whose first dimension is the batch.
    input: String,
    /// The value that holds the batch size, once made.
    count: Option<String>,
    nodes: Vec<Node>,
    prefix: String,
    made: usize,
}

impl Writer {
    fn name(&mut self) -> String {
        self.made += 1;
        format!("{}/{}", self.prefix, self.made)
    }

    fn ints(&mut self, graph: &mut Graph, values: &[i64]) -> String {
        let name = self.name();
        graph.initializers.insert(name.clone(), Tensor::i64(&name, &[values.len()], values));
        name
    }

    /// The batch size over the baked one, as a vector of one element.
    fn count(&mut self) -> String {
        if let Some(count) = &self.count {
            return count.clone();
        }
        let name = self.name();
        let node = Node::new("Shape", &[&self.input], &[&name]).with_int("start", 0).with_int("end", 1);
        self.nodes.push(node);
        self.count = Some(name.clone());
        name
    }

    /// A leading batch becomes what is left over (−1), or the input's own (0) where −1 is used already.
    fn reshape(&mut self, graph: &mut Graph, node: &mut Node, batch: i64) {
        let Some(mut target) = constant(graph, node.input(1)) else { return };
        if target.first().is_none_or(|&d| d <= 0 || d % batch != 0) {
            return;
        }
        target[0] = match target.contains(&-1) {
            false => -1,
            true if target[0] == batch && node.int("allowzero").unwrap_or(0) == 0 => 0,
            true => return,
        };
        let target = self.ints(graph, &target);
        node.proto.input[1] = target;
    }

    fn expand(&mut self, graph: &mut Graph, node: &mut Node, batch: i64) {
        let Some(target) = constant(graph, node.input(1)) else { return };
        if target.first() != Some(&batch) {
            return;
        }
        let shape = self.with_count(graph, &target[1..]);
        node.proto.input[1] = shape;
    }

    fn with_count(&mut self, graph: &mut Graph, rest: &[i64]) -> String {
        let (count, rest) = (self.count(), self.ints(graph, rest));
        let name = self.name();
        self.nodes.push(Node::new("Concat", &[&count, &rest], &[&name]).with_int("axis", 0));
        name
    }

    /// A constant with a row per sample, joined along another axis, is repeated.
    fn concat(&mut self, graph: &mut Graph, node: &mut Node, batch: i64) {
        let inputs = node.inputs().to_vec();
        let is_constant = |i: &String| graph.initializers.contains_key(i);
        if node.int("axis") == Some(0) || inputs.iter().all(is_constant) {
            return;
        }
        for (slot, input) in inputs.iter().enumerate() {
            let Some(tensor) = graph.initializers.get(input) else { continue };
            let dims = tensor.dims().to_vec();
            if batch != 1 || dims.len() < 3 || dims[0] != batch {
                continue;
            }
            let shape = self.with_count(graph, &dims[1..]);
            let name = self.name();
            self.nodes.push(Node::new("Expand", &[input, &shape], &[&name]));
            node.proto.input[slot] = name;
        }
    }
}

fn constant(graph: &Graph, value: Option<&str>) -> Option<Vec<i64>> {
    graph.initializers.get(value?)?.to_i64().ok()
}
