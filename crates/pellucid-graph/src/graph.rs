//! The in-memory graph that rewrites work on: nodes in order, values by name.

use crate::onnx::{self, AttributeProto, GraphProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use crate::sound;
use crate::tensor::{ElementType, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is wrong with a graph's structure.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// A node reads a value that nothing produces.
    #[error("node {node}: its input '{input}' is produced by no earlier node, initializer or graph input")]
    MissingInput {
        /// The node, as [`Node::describe`] writes it.
        node: String,
        /// The value it misses.
        input: String,
    },
    /// The nodes depend on each other in a circle.
    #[error("the graph is cyclic: node {0} depends on its own output")]
    Cyclic(String),
    /// Two nodes produce one value.
    #[error("value '{value}' is produced twice, by {first} and by {second}")]
    ProducedTwice {
        /// The value.
        value: String,
        /// One producer.
        first: String,
        /// The other.
        second: String,
    },
    /// No value has this name.
    #[error("the graph has no value '{name}'{}", nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    NoSuchValue {
        /// What was asked for.
        name: String,
        /// The value whose name is closest.
        nearest: Option<String>,
    },
}

/// A graph input or output: a name, with the type and shape that the file declares (either may be missing).
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub(crate) proto: ValueInfoProto,
}

impl Value {
    /// An output whose type the runtime infers.
    pub fn untyped(name: &str) -> Self {
        Self { proto: ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() } }
    }

    /// A tensor value; `None` dimensions are free.
    pub fn tensor(name: &str, element: ElementType, shape: &[Option<i64>]) -> Self {
        use onnx::tensor_shape_proto::{Dimension, dimension};
        let dim = shape.iter().enumerate().map(|(i, d)| Dimension {
            denotation: None,
            value: Some(
                d.map_or_else(|| dimension::Value::DimParam(format!("{name}_{i}")), dimension::Value::DimValue),
            ),
        });
        let shape = onnx::TensorShapeProto { dim: dim.collect() };
        let tensor = type_proto::Tensor { elem_type: Some(element.to_onnx()), shape: Some(shape) };
        let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
        Self {
            proto: ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() },
        }
    }

    /// Name.
    pub fn name(&self) -> &str {
        self.proto.name()
    }

    fn tensor_type(&self) -> Option<&type_proto::Tensor> {
        match self.proto.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(t) => Some(t),
            _ => None,
        }
    }

    /// Declared element type, if it is a tensor and says so.
    pub fn element(&self) -> Option<ElementType> {
        self.tensor_type()?.elem_type.map(ElementType::from_onnx)
    }

    /// Declared shape: `None` for a dimension that is free or named.
    pub fn shape(&self) -> Option<Vec<Option<i64>>> {
        use onnx::tensor_shape_proto::dimension::Value::DimValue;
        let dims = &self.tensor_type()?.shape.as_ref()?.dim;
        let fixed = |v: &onnx::tensor_shape_proto::Dimension| match v.value {
            Some(DimValue(n)) if n > 0 => Some(n),
            _ => None,
        };
        Some(dims.iter().map(fixed).collect())
    }

    /// Names of the dimensions, as the file gives them: a number, a parameter's name, or `?`.
    pub fn dimension_names(&self) -> Option<Vec<String>> {
        use onnx::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
        let dims = &self.tensor_type()?.shape.as_ref()?.dim;
        let name = |v: &onnx::tensor_shape_proto::Dimension| match &v.value {
            Some(DimValue(n)) => n.to_string(),
            Some(DimParam(p)) if !p.is_empty() => p.clone(),
            _ => "?".to_owned(),
        };
        Some(dims.iter().map(name).collect())
    }
}

/// One operator application.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub(crate) proto: NodeProto,
}

impl Node {
    /// A node of the default domain without attributes. An empty input name leaves an optional input out.
    pub fn new(op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        Self {
            proto: NodeProto {
                op_type: Some(op.to_owned()),
                input: inputs.iter().map(|&s| s.to_owned()).collect(),
                output: outputs.iter().map(|&s| s.to_owned()).collect(),
                name: outputs.first().map(|&s| s.to_owned()),
                ..NodeProto::default()
            },
        }
    }

    fn with(
        mut self,
        name: &str,
        kind: onnx::attribute_proto::AttributeType,
        fill: impl FnOnce(&mut AttributeProto),
    ) -> Self {
        let mut a =
            AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..AttributeProto::default() };
        fill(&mut a);
        self.proto.attribute.retain(|b| b.name() != name);
        self.proto.attribute.push(a);
        self
    }

    /// Sets an integer attribute.
    pub fn with_int(self, name: &str, value: i64) -> Self {
        self.with(name, onnx::attribute_proto::AttributeType::Int, |a| a.i = Some(value))
    }

    /// Sets a list of integers.
    pub fn with_ints(self, name: &str, values: &[i64]) -> Self {
        self.with(name, onnx::attribute_proto::AttributeType::Ints, |a| a.ints = values.to_vec())
    }

    /// Sets a float attribute.
    pub fn with_float(self, name: &str, value: f32) -> Self {
        self.with(name, onnx::attribute_proto::AttributeType::Float, |a| a.f = Some(value))
    }

    /// Sets a string attribute.
    pub fn with_string(self, name: &str, value: &str) -> Self {
        let value = value.to_owned().into_bytes().into();
        self.with(name, onnx::attribute_proto::AttributeType::String, |a| a.s = Some(value))
    }

    /// The same node in another operator domain.
    pub fn in_domain(mut self, domain: &str) -> Self {
        self.proto.domain = Some(domain.to_owned());
        self
    }

    /// Operator, for example `Conv`.
    pub fn op(&self) -> &str {
        self.proto.op_type()
    }

    /// Domain; empty for standard ONNX (`ai.onnx` is folded into it).
    pub fn domain(&self) -> &str {
        match self.proto.domain() {
            "ai.onnx" => "",
            domain => domain,
        }
    }

    /// Whether it is the standard operator `op`.
    pub fn is(&self, op: &str) -> bool {
        self.op() == op && self.domain().is_empty()
    }

    /// Name; may be empty.
    pub fn name(&self) -> &str {
        self.proto.name()
    }

    /// Inputs; an empty name is an optional input left out.
    pub fn inputs(&self) -> &[String] {
        &self.proto.input
    }

    /// Input `index`, if it is present.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.proto.input.get(index).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// Reads `new` wherever it read `old`.
    pub fn rename_input(&mut self, old: &str, new: &str) {
        self.proto.input.iter_mut().filter(|i| *i == old).for_each(|i| new.clone_into(i));
    }

    /// Outputs; an empty name is an optional output left out.
    pub fn outputs(&self) -> &[String] {
        &self.proto.output
    }

    /// First output.
    pub fn output(&self) -> &str {
        self.proto.output.first().map_or("", String::as_str)
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name() == name)
    }

    /// Integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|a| a.i())
    }

    /// List of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// Float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|a| a.f())
    }

    /// String attribute, if it is UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_ref()?).ok()
    }

    /// Tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.attribute(name)?.t.clone().map(Tensor::from_proto)
    }

    /// The tensor that a `Constant` node holds; `None` for another node, strings and sparse tensors.
    pub fn constant(&self) -> Option<Tensor> {
        if !self.is("Constant") {
            return None;
        }
        let name = self.output();
        let attribute = self.proto.attribute.first()?;
        match attribute.name() {
            "value" => {
                let mut proto = attribute.t.clone()?;
                proto.name = Some(name.to_owned());
                Some(Tensor::from_proto(proto))
            }
            "value_int" => Some(Tensor::i64(name, &[], &[attribute.i()])),
            "value_ints" => Some(Tensor::i64(name, &[attribute.ints.len()], &attribute.ints)),
            "value_float" => Some(Tensor::f32(name, &[], &[attribute.f()])),
            "value_floats" => Some(Tensor::f32(name, &[attribute.floats.len()], &attribute.floats)),
            _ => None,
        }
    }

    /// Whether it carries sub-graphs (If, Loop, Scan).
    pub fn has_subgraphs(&self) -> bool {
        self.proto.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty())
    }

    /// `'name' (Op)`, or the first output where the node has no name.
    pub fn describe(&self) -> String {
        let name = if self.name().is_empty() { self.output() } else { self.name() };
        let domain = self.domain();
        if domain.is_empty() {
            format!("'{name}' ({})", self.op())
        } else {
            format!("'{name}' ({domain}.{})", self.op())
        }
    }

    /// Every value it reads, those that its sub-graphs read from outside included.
    pub fn reads(&self) -> Vec<&str> {
        let mut reads: Vec<&str> = self.proto.input.iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
        for a in &self.proto.attribute {
            for g in a.g.iter().chain(&a.graphs) {
                captured(g, &mut reads);
            }
        }
        reads
    }
}

/// The values that a sub-graph captures from outside.
fn captured<'a>(graph: &'a GraphProto, reads: &mut Vec<&'a str>) {
    let mut own: BTreeSet<&str> = graph.input.iter().map(|v| v.name()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name()));
    own.extend(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)));
    let mut inner = Vec::new();
    for n in &graph.node {
        inner.extend(n.input.iter().map(String::as_str).filter(|s| !s.is_empty()));
        for a in &n.attribute {
            for g in a.g.iter().chain(&a.graphs) {
                captured(g, &mut inner);
            }
        }
    }
    inner.extend(graph.output.iter().map(|v| v.name()));
    reads.extend(inner.into_iter().filter(|s| !own.contains(s)));
}

/// A graph: inputs, outputs, nodes in executable order, and constant tensors by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Inputs that are fed (initializers that are also listed as inputs, as old files do, are left out).
    pub inputs: Vec<Value>,
    /// Outputs.
    pub outputs: Vec<Value>,
    /// Nodes; each reads only what stands before it.
    pub nodes: Vec<Node>,
    /// Constant tensors, by name.
    pub initializers: BTreeMap<String, Tensor>,
    /// What is carried along unread: name, docs, declared types of inner values, sparse tensors, annotations.
    pub(crate) rest: GraphProto,
}

impl Graph {
    /// A graph from its parts; the nodes may come in any order.
    pub fn new(
        inputs: Vec<Value>,
        nodes: Vec<Node>,
        constants: Vec<Tensor>,
        outputs: &[&str],
    ) -> Result<Self, GraphError> {
        let initializers = constants.into_iter().map(|t| (t.name().to_owned(), t)).collect();
        let outputs = outputs.iter().map(|o| Value::untyped(o)).collect();
        let rest = GraphProto { name: Some("pellucid".to_owned()), ..GraphProto::default() };
        let mut graph = Self { inputs, outputs, nodes, initializers, rest };
        graph.sort()?;
        Ok(graph)
    }

    /// Reads the message, sorts the nodes if the file has them out of order, and checks that every value has one producer.
    pub fn from_proto(mut proto: GraphProto) -> Result<Self, GraphError> {
        let initializers: BTreeMap<String, Tensor> = std::mem::take(&mut proto.initializer)
            .into_iter()
            .map(|t| (t.name().to_owned(), Tensor::from_proto(t)))
            .collect();
        let sparse: BTreeSet<String> =
            proto.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|v| v.name().to_owned()).collect();
        let is_constant = |v: &ValueInfoProto| initializers.contains_key(v.name()) || sparse.contains(v.name());
        let inputs = std::mem::take(&mut proto.input)
            .into_iter()
            .filter(|v| !is_constant(v))
            .map(|proto| Value { proto })
            .collect();
        let outputs = std::mem::take(&mut proto.output).into_iter().map(|proto| Value { proto }).collect();
        let nodes = std::mem::take(&mut proto.node).into_iter().map(|proto| Node { proto }).collect();
        let mut graph = Self { inputs, outputs, nodes, initializers, rest: proto };
        graph.sort()?;
        Ok(graph)
    }

    /// The message again.
    pub fn to_proto(&self) -> GraphProto {
        let mut proto = self.rest.clone();
        proto.input = self.inputs.iter().map(|v| v.proto.clone()).collect();
        proto.output = self.outputs.iter().map(|v| v.proto.clone()).collect();
        proto.node = self.nodes.iter().map(|n| n.proto.clone()).collect();
        proto.initializer = self.initializers.values().map(|t| t.proto.clone()).collect();
        proto
    }

    /// Puts the nodes into an order in which each reads only what stands before it; keeps the present order where it can.
    pub fn sort(&mut self) -> Result<(), GraphError> {
        let producers = self.producers_checked()?;
        let mut known: BTreeSet<&str> = self.inputs.iter().map(Value::name).collect();
        known.extend(self.initializers.keys().map(String::as_str));
        known.extend(self.rest.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|v| v.name()));
        let mut state = vec![0u8; self.nodes.len()]; // 0 new, 1 open, 2 placed
        let mut order = Vec::with_capacity(self.nodes.len());
        for root in 0..self.nodes.len() {
            let mut stack = vec![root];
            while let Some(&at) = stack.last() {
                if state[at] == 2 {
                    stack.pop();
                    continue;
                }
                let opened = std::mem::replace(&mut state[at], 1) == 1;
                let mut waits = false;
                for read in self.nodes[at].reads() {
                    match producers.get(read) {
                        Some(&before) if state[before] == 0 => {
                            stack.push(before);
                            waits = true;
                        }
                        Some(&before) if state[before] == 1 && !opened => {
                            return Err(GraphError::Cyclic(self.nodes[before].describe()));
                        }
                        Some(_) => {}
                        None if known.contains(read) => {}
                        None => {
                            return Err(GraphError::MissingInput {
                                node: self.nodes[at].describe(),
                                input: read.to_owned(),
                            });
                        }
                    }
                }
                if !waits {
                    state[at] = 2;
                    order.push(at);
                    stack.pop();
                }
            }
        }
        if order.iter().enumerate().any(|(i, &n)| i != n) {
            let mut old: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
            self.nodes = order.into_iter().filter_map(|i| old[i].take()).collect();
        }
        Ok(())
    }

    fn producers_checked(&self) -> Result<HashMap<String, usize>, GraphError> {
        let mut producers: HashMap<String, usize> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for output in node.outputs().iter().filter(|o| !o.is_empty()) {
                if let Some(first) = producers.insert(output.clone(), i) {
                    let (first, second) = (self.nodes[first].describe(), node.describe());
                    return Err(GraphError::ProducedTwice { value: output.clone(), first, second });
                }
            }
        }
        Ok(producers)
    }

    /// The node index that produces each value.
    pub fn producers(&self) -> HashMap<&str, usize> {
        let each = self.nodes.iter().enumerate().flat_map(|(i, n)| n.outputs().iter().map(move |o| (o.as_str(), i)));
        each.filter(|(o, _)| !o.is_empty()).collect()
    }

    /// The node indices that read each value, ascending; sub-graphs' captures count.
    pub fn consumers(&self) -> HashMap<&str, Vec<usize>> {
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for read in node.reads() {
                let list = consumers.entry(read).or_default();
                if list.last() != Some(&i) {
                    list.push(i);
                }
            }
        }
        consumers
    }

    /// The node that produces `value`.
    pub fn producer(&self, value: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.outputs().iter().any(|o| o == value))
    }

    /// The tensor that `value` always holds; copies are looked through.
    pub fn constant(&self, value: &str) -> Option<Tensor> {
        if let Some(found) = self.initializers.get(value) {
            return Some(found.clone());
        }
        let node = self.producer(value)?;
        if node.is("Identity") { self.constant(node.input(0)?) } else { node.constant() }
    }

    /// Whether `value` is an input, an initializer or some node's output.
    pub fn has(&self, value: &str) -> bool {
        self.inputs.iter().any(|v| v.name() == value)
            || self.initializers.contains_key(value)
            || self.producer(value).is_some()
    }

    /// Every value that a node produces, in order.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().flat_map(|n| n.outputs().iter().map(String::as_str)).filter(|s| !s.is_empty())
    }

    /// Errors, with the closest name, unless the value exists.
    pub fn check(&self, value: &str) -> Result<(), GraphError> {
        if self.has(value) {
            return Ok(());
        }
        // Comparing takes time in proportion to the product of the lengths.
        let names =
            self.values().chain(self.inputs.iter().map(Value::name)).filter(|n| n.len().max(value.len()) <= 256);
        let nearest = names.map(|n| (edit_distance(n, value), n)).min().filter(|(d, n)| *d <= n.len() / 2);
        Err(GraphError::NoSuchValue { name: value.to_owned(), nearest: nearest.map(|(_, n)| n.to_owned()) })
    }

    /// A name that no value has yet, made from `stem`.
    pub fn fresh(&self, stem: &str) -> String {
        let taken = self.has(stem) || self.outputs.iter().any(|v| v.name() == stem);
        if taken { self.names().fresh(stem) } else { stem.to_owned() }
    }

    /// Every name that a value has, to make many fresh ones.
    pub(crate) fn names(&self) -> Names {
        let ends = self.inputs.iter().chain(&self.outputs).map(Value::name);
        Names(
            ends.chain(self.initializers.keys().map(String::as_str)).chain(self.values()).map(str::to_owned).collect(),
        )
    }

    /// `stem`, or with a number behind it, such that no name begins with it.
    pub(crate) fn unused_prefix(&self, stem: &str) -> String {
        let Names(names) = self.names();
        let taken = |p: &String| names.range(p.clone()..).next().is_some_and(|name| name.starts_with(p));
        let numbered = (1u64..).map(|i| format!("{stem}{i}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|p| !taken(p)).unwrap_or_default()
    }

    /// Takes `value` away from the node that computes it, so that it can be fed or computed otherwise; the node's own result gets
    /// the name that is returned.
    pub fn detach(&mut self, value: &str) -> String {
        let other = self.fresh(&format!("{value}.computed"));
        for output in self.nodes.iter_mut().flat_map(|n| &mut n.proto.output).filter(|o| *o == value) {
            output.clone_from(&other);
        }
        other
    }

    /// Drops what the file says of the types and shapes of values in between: hints, which a rewrite may make wrong.
    pub fn forget_hints(&mut self) {
        self.rest.value_info.clear();
    }

    /// Declares `value` an output (untyped: the runtime infers it), unless it is one.
    pub fn add_output(&mut self, value: &str) {
        if !self.outputs.iter().any(|v| v.name() == value) {
            self.outputs.push(Value::untyped(value));
        }
    }

    /// Drops the nodes and constants that no output needs. Inputs stay.
    pub fn prune(&mut self) {
        let producers = self.producers();
        let mut needed = vec![false; self.nodes.len()];
        let mut read: BTreeSet<String> = self.outputs.iter().map(|v| v.name().to_owned()).collect();
        let mut open: Vec<usize> = self.outputs.iter().filter_map(|v| producers.get(v.name()).copied()).collect();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut needed[at], true) {
                continue;
            }
            for r in self.nodes[at].reads() {
                read.insert(r.to_owned());
                open.extend(producers.get(r).copied());
            }
        }
        let mut keep = needed.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(false));
        self.initializers.retain(|name, _| read.contains(name));
        let live: BTreeSet<&str> = self.nodes.iter().flat_map(|n| n.outputs().iter().map(String::as_str)).collect();
        self.rest.value_info.retain(|v| live.contains(v.name()));
    }

    /// How often each operator occurs, by name; other domains are written `domain.Op`.
    pub fn operator_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for n in &self.nodes {
            let name = if n.domain().is_empty() { n.op().to_owned() } else { format!("{}.{}", n.domain(), n.op()) };
            *counts.entry(name).or_insert(0) += 1;
        }
        counts
    }

    /// Number of values in all initializers (saturating).
    pub fn parameters(&self) -> usize {
        self.initializers.values().map(Tensor::len).fold(0, usize::saturating_add)
    }

    /// Bytes of all initializers by their shapes, wherever they lie (saturating; those without a fixed size left out).
    pub fn weight_bytes(&self) -> u64 {
        self.initializers.values().filter_map(|t| sound::declared_bytes(&t.proto)).fold(0, u64::saturating_add)
    }
}

/// Names that are taken.
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// A name that is not taken yet, made from `stem`; it is from now on.
    pub fn fresh(&mut self, stem: &str) -> String {
        let numbered = (1u64..).map(|i| format!("{stem}_{i}"));
        let free = std::iter::once(stem.to_owned()).chain(numbered).find(|name| !self.0.contains(name));
        let name = free.unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

/// Levenshtein distance, for "did you mean".
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != cb)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: Vec<Node>) -> Result<Graph, GraphError> {
        let proto = GraphProto {
            input: vec![Value::tensor("x", ElementType::F32, &[None]).proto],
            output: vec![Value::untyped("y").proto],
            node: nodes.into_iter().map(|n| n.proto).collect(),
            ..GraphProto::default()
        };
        Graph::from_proto(proto)
    }

    #[test]
    fn nodes_out_of_order_are_sorted() {
        let g = graph(vec![Node::new("Relu", &["a"], &["y"]), Node::new("Neg", &["x"], &["a"])]).unwrap();
        assert_eq!(g.nodes.iter().map(Node::op).collect::<Vec<_>>(), ["Neg", "Relu"]);
    }

    #[test]
    fn a_cycle_is_named() {
        let e = graph(vec![Node::new("Add", &["x", "b"], &["a"]), Node::new("Neg", &["a"], &["b"])]).unwrap_err();
        assert!(matches!(e, GraphError::Cyclic(_)), "{e}");
    }

    #[test]
    fn a_missing_input_is_named_with_its_node() {
        let e = graph(vec![Node::new("Relu", &["nowhere"], &["y"])]).unwrap_err().to_string();
        assert!(e.contains("'y' (Relu)") && e.contains("'nowhere'"), "{e}");
    }

    #[test]
    fn two_producers_of_one_value_are_an_error() {
        let e = graph(vec![Node::new("Relu", &["x"], &["y"]), Node::new("Neg", &["x"], &["y"])]).unwrap_err();
        assert!(matches!(e, GraphError::ProducedTwice { .. }), "{e}");
    }

    #[test]
    fn pruning_drops_what_no_output_needs() {
        let mut g = graph(vec![Node::new("Relu", &["x"], &["y"]), Node::new("Neg", &["x"], &["z"])]).unwrap();
        g.prune();
        assert_eq!(g.values().collect::<Vec<_>>(), ["y"]);
    }

    #[test]
    fn a_misspelt_value_gets_a_suggestion() {
        let g = graph(vec![Node::new("Relu", &["x"], &["features"]), Node::new("Neg", &["features"], &["y"])]).unwrap();
        let e = g.check("feature").unwrap_err().to_string();
        assert!(e.contains("did you mean 'features'"), "{e}");
    }
}
