//! Appends nodes to a graph and answers questions about its values: what objectives and rules are written with.

use super::error::Reason;
use crate::graph::{Graph, Node};
use crate::observed::{Observations, Observed};
use crate::tensor::{ElementType, Tensor};
use pellucid_guard::budget::{Budget, Limit, product};
use std::collections::HashMap;

/// The largest dimension, and the largest number in an attribute, that rules calculate with: the product of two of them,
/// and sums of such products, fit 64 bits.
pub(crate) const LARGEST: usize = 1 << 30;
/// The characters of a node's name that stand in the names of what belongs to it.
const SCOPE: usize = 100;
/// The most elements that a value has.
const ELEMENTS: usize = 1 << 40;

/// A dimension of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dim {
    /// The same at every batch size.
    Fixed(usize),
    /// So many per sample.
    Batch(usize),
    /// Depends on the batch in some other way.
    Free,
}

/// A graph that is being extended. Every name it makes starts with one prefix that no value of the model has.
#[derive(Debug)]
pub(crate) struct GraphBuilder {
    /// The graph.
    pub graph: Graph,
    /// Shapes and types of the model's values, and of the values made here that say theirs.
    pub observed: Observations,
    prefix: String,
    scope: String,
    made: usize,
    element: ElementType,
    budget: Budget,
    /// Bytes of the large constants that were made here.
    taken: u64,
    constants: HashMap<String, String>,
    producers: HashMap<String, usize>,
    cache: HashMap<String, String>,
}

impl GraphBuilder {
    /// An emitter for `graph`, whose values were `observed`. Its large constants stay within what `budget` gives to values.
    pub fn new(graph: Graph, observed: Observations, budget: &Budget) -> Self {
        let prefix = graph.unused_prefix("grad");
        let producers = graph.producers().into_iter().map(|(v, i)| (v.to_owned(), i)).collect();
        Self {
            graph,
            observed,
            prefix,
            scope: String::new(),
            made: 0,
            element: ElementType::F32,
            budget: *budget,
            taken: 0,
            constants: HashMap::new(),
            producers,
            cache: HashMap::new(),
        }
    }

    /// What is emitted from here on belongs to `node` and computes in `element`.
    pub fn enter(&mut self, node: &str, element: ElementType) {
        // The name is part of many; a long one would be copied into all of them.
        self.scope = node.chars().take(SCOPE).collect();
        self.element = element;
    }

    /// Computes in `element` from here on, within the same node.
    pub fn enter_element(&mut self, element: ElementType) {
        self.element = element;
    }

    /// The element type of what is being computed.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// A new name: the prefix, a number, what it is, and the node it belongs to.
    pub fn fresh(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{}/{}/{what}/{}", self.prefix, self.made, self.scope)
    }

    /// Appends `node`, which has no outputs yet, and names its one output.
    pub fn emit(&mut self, node: Node) -> String {
        self.emit_many(node, 1).remove(0)
    }

    /// Appends `node`, which has no outputs yet, and names its `count` outputs.
    pub fn emit_many(&mut self, mut node: Node, count: usize) -> Vec<String> {
        let op = node.op().to_owned();
        let names: Vec<String> = (0..count).map(|_| self.fresh(&op)).collect();
        node.proto.name = names.first().cloned();
        node.proto.output.clone_from(&names);
        self.graph.nodes.push(node);
        names
    }

    /// Appends a node that has its outputs.
    pub fn push(&mut self, node: Node) {
        let at = self.graph.nodes.len();
        self.producers.extend(node.outputs().iter().filter(|o| !o.is_empty()).map(|o| (o.clone(), at)));
        self.graph.nodes.push(node);
    }

    /// `name` holds the same as `value`: a further output asked of it comes from the node that computes `value`.
    pub fn stands_for(&mut self, name: &str, value: &str) {
        self.producers.extend(self.producers.get(value).map(|&at| (name.to_owned(), at)));
    }

    /// Appends an operator without attributes.
    pub fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.emit(Node::new(op, inputs, &[]))
    }

    /// `make` once per `key`; later calls give the same value.
    pub fn once(
        &mut self,
        key: String,
        make: impl FnOnce(&mut Self) -> Result<String, Reason>,
    ) -> Result<String, Reason> {
        if let Some(name) = self.cache.get(&key) {
            return Ok(name.clone());
        }
        let name = make(self)?;
        self.cache.insert(key, name.clone());
        Ok(name)
    }

    /// Output `slot` of the model's own (or repeated) node that produces `value`, named if the node did not give it yet.
    pub fn extra_output(&mut self, value: &str, slot: usize) -> Result<String, Reason> {
        let at = *self.producers.get(value).ok_or("the node that computes it is gone")?;
        let name = self.fresh("output");
        let outputs = &mut self.graph.nodes[at].proto.output;
        outputs.resize(outputs.len().max(slot + 1), String::new());
        if outputs[slot].is_empty() {
            outputs[slot] = name;
        }
        Ok(outputs[slot].clone())
    }

    // Constants.

    fn constant(&mut self, key: String, make: impl FnOnce(&str) -> Tensor) -> String {
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = format!("{}/const/{}", self.prefix, self.constants.len());
        self.graph.initializers.insert(name.clone(), make(&name));
        self.constants.insert(key, name.clone());
        name
    }

    /// An int64 vector.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(format!("i{values:?}"), |n| Tensor::i64(n, &[values.len()], values))
    }

    /// An int64 tensor of any shape.
    pub fn int_tensor(&mut self, shape: &[usize], values: &[i64]) -> String {
        self.constant(format!("i{shape:?}{values:?}"), |n| Tensor::i64(n, shape, values))
    }

    /// A scalar of the present element type.
    pub fn scalar(&mut self, value: f64) -> String {
        self.floats(&[], &[value])
    }

    /// A tensor of the present element type.
    pub fn floats(&mut self, shape: &[usize], values: &[f64]) -> String {
        let element = self.element;
        let key = if values.len() <= 16 {
            format!("{element:?}{shape:?}{values:?}")
        } else {
            format!("{element:?}#{}", self.constants.len())
        };
        self.constant(key, |n| float_tensor(n, element, shape, values))
    }

    /// Float32 scale factors, as `Resize` takes them.
    pub fn scales(&mut self, values: &[f32]) -> String {
        self.constant(format!("scales{values:?}"), |n| Tensor::f32(n, &[values.len()], values))
    }

    /// A tensor of the present element type that holds `value` everywhere.
    pub fn uniform(&mut self, shape: &[usize], value: f64) -> Result<String, Reason> {
        let key = format!("uniform{:?}{shape:?}{value:?}", self.element);
        if let Some(name) = self.constants.get(&key) {
            return Ok(name.clone());
        }
        let count = self.admit(shape)?;
        let one = float_tensor("", self.element, &[], &[value]);
        let bytes = one.raw_bytes().map(|b| b.repeat(count)).unwrap_or_default();
        Ok(self.constant(key, |n| Tensor::raw(n, one.element(), shape, bytes.into())))
    }

    /// The number of elements of `shape`, if a constant of it, to be made here or by the runtime when it compiles the model,
    /// fits into what the model may take, with all that were admitted before.
    pub fn admit(&mut self, shape: &[usize]) -> Result<usize, Reason> {
        // 8: the elements are float64 while they are made.
        let bytes = product(shape.iter().map(|&d| d as u64).chain([8]));
        let all = self.budget.admit(Limit::Memory, bytes.and_then(|b| b.checked_add(self.taken)));
        self.taken = all.map_err(|over| Reason(format!("its gradient needs a constant of shape {shape:?}: {over}")))?;
        elements(shape)
    }

    /// The constant tensor behind `value`, if it is an initializer.
    pub fn initializer(&self, value: &str) -> Option<&Tensor> {
        self.graph.initializers.get(value)
    }

    /// The integers that `value` holds, where it is a constant.
    pub fn constant_ints(&self, value: &str) -> Result<Vec<i64>, Reason> {
        let tensor = self.initializer(value).ok_or_else(|| Reason(format!("'{value}' is not a constant")))?;
        Ok(tensor.to_i64()?)
    }

    /// The floats that `value` holds, where it is a constant.
    pub fn constant_floats(&self, value: &str) -> Result<Vec<f32>, Reason> {
        let tensor = self.initializer(value).ok_or_else(|| Reason(format!("'{value}' is not a constant")))?;
        Ok(tensor.to_f32()?)
    }

    // Shapes.

    /// The element type of `value`.
    pub fn element_of(&self, value: &str) -> Option<ElementType> {
        self.observed.get(value).map(|o| o.element).or_else(|| self.initializer(value).map(Tensor::element))
    }

    /// The dimensions of a value of the model, none above [`LARGEST`] per sample.
    pub fn dims(&self, value: &str) -> Result<Vec<Dim>, Reason> {
        let bounded = |d: usize, bound: usize| match d <= bound {
            true => Ok(d),
            false => Err(Reason(format!("'{value}' has a dimension of {d}, and at most {LARGEST} is supported"))),
        };
        if let Some(tensor) = self.initializer(value) {
            let fixed = |&d: &i64| bounded(usize::try_from(d).unwrap_or(0), LARGEST).map(Dim::Fixed);
            return tensor.dims().iter().map(fixed).collect();
        }
        let seen =
            self.observed.get(value).ok_or_else(|| Reason(format!("the shape of '{value}' was not observed")))?;
        let Some(two) = &seen.shape_at_two else {
            return seen.shape.iter().map(|&d| bounded(d, LARGEST).map(Dim::Fixed)).collect();
        };
        if two.len() != seen.shape.len() {
            return Err(Reason(format!(
                "'{value}' has {} dimensions at batch 1 and {} at batch 2",
                seen.rank(),
                two.len()
            )));
        }
        let dim = |(&one, &two): (&usize, &usize)| match (bounded(one, LARGEST)?, bounded(two, 2 * LARGEST)?) {
            (a, b) if a == b => Ok(Dim::Fixed(a)),
            (a, b) if b == 2 * a => Ok(Dim::Batch(a)),
            _ => Ok(Dim::Free),
        };
        seen.shape.iter().zip(two).map(dim).collect()
    }

    /// Number of dimensions of `value`.
    pub fn rank(&self, value: &str) -> Result<usize, Reason> {
        Ok(self.dims(value)?.len())
    }

    /// The dimensions of `value`, of which there must be at least `least`.
    pub fn dims_of(&self, value: &str, least: usize) -> Result<Vec<Dim>, Reason> {
        let dims = self.dims(value)?;
        match dims.len() >= least {
            true => Ok(dims),
            false => Err(Reason(format!("'{value}' has {} dimensions, expected at least {least}", dims.len()))),
        }
    }

    /// Dimension `axis` of `value`, which must not depend on the batch.
    pub fn fixed(&self, value: &str, axis: usize) -> Result<usize, Reason> {
        match self.dims(value)?.get(axis) {
            Some(Dim::Fixed(n)) => Ok(*n),
            Some(_) => Err(Reason(format!("dimension {axis} of '{value}' depends on the batch size"))),
            None => Err(Reason(format!("'{value}' has no dimension {axis}"))),
        }
    }

    /// The last dimensions of `value`, from `axis` on; none may depend on the batch.
    pub fn fixed_from(&self, value: &str, axis: usize) -> Result<Vec<usize>, Reason> {
        (axis..self.rank(value)?).map(|a| self.fixed(value, a)).collect()
    }

    /// The extents of `value`, a batch of channels, along its `rank` spatial axes; none may depend on the batch.
    pub fn spatial(&self, value: &str, rank: usize) -> Result<Vec<usize>, Reason> {
        let extents = self.fixed_from(value, 2)?;
        match extents.len() == rank {
            true => Ok(extents),
            false => Err(Reason(format!("'{value}' has {} spatial axes, and its window has {rank}", extents.len()))),
        }
    }

    /// The shape of `value` as an int64 tensor that `Reshape` takes: −1 stands for the batch where it can.
    pub fn reshape_target(&mut self, value: &str) -> Result<String, Reason> {
        let dims = self.dims(value)?;
        match target(&dims) {
            Some(shape) => Ok(self.ints(&shape)),
            None => self.shape(value),
        }
    }

    /// The shape of `value` as an int64 tensor without −1.
    pub fn shape(&mut self, value: &str) -> Result<String, Reason> {
        let dims = self.dims(value)?;
        let fixed: Option<Vec<i64>> =
            dims.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n as i64) } else { None }).collect();
        match fixed {
            Some(shape) => Ok(self.ints(&shape)),
            None => self.once(format!("shape {value}"), |e| Ok(e.op("Shape", &[value]))),
        }
    }

    /// Dimension `axis` of `value` as an int64 tensor of one element.
    pub fn extent(&mut self, value: &str, axis: usize) -> Result<String, Reason> {
        if let Some(Dim::Fixed(n)) = self.dims(value)?.get(axis).copied() {
            return Ok(self.ints(&[n as i64]));
        }
        let (from, to) = (axis as i64, axis as i64 + 1);
        self.once(format!("extent {axis} {value}"), |e| {
            Ok(e.emit(Node::new("Shape", &[value], &[]).with_int("start", from).with_int("end", to)))
        })
    }

    /// Int64 tensors of one element each as one vector; a constant where all of them are.
    pub fn joined(&mut self, parts: &[String]) -> String {
        let known: Option<Vec<i64>> = parts.iter().map(|p| self.constant_ints(p).ok()?.first().copied()).collect();
        match known {
            Some(values) => self.ints(&values),
            None => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.emit(Node::new("Concat", &parts, &[]).with_int("axis", 0))
            }
        }
    }

    /// Says what a value made here looks like, so that rules can ask.
    pub fn declare(&mut self, value: &str, element: ElementType, dims: &[Dim]) {
        let at = |batch: usize| {
            let size = |d: &Dim| match d {
                Dim::Fixed(n) => *n,
                Dim::Batch(n) => n * batch,
                Dim::Free => 2 * batch - 1,
            };
            dims.iter().map(size).collect::<Vec<_>>()
        };
        let batched = dims.iter().any(|d| !matches!(d, Dim::Fixed(_)));
        let observed = Observed { element, shape: at(1), shape_at_two: batched.then(|| at(2)).or_else(|| Some(at(1))) };
        self.observed.insert(value.to_owned(), observed);
    }

    // Arithmetic.

    /// a + b.
    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b])
    }

    /// a − b.
    pub fn sub(&mut self, a: &str, b: &str) -> String {
        self.op("Sub", &[a, b])
    }

    /// a · b.
    pub fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b])
    }

    /// a / b.
    pub fn div(&mut self, a: &str, b: &str) -> String {
        self.op("Div", &[a, b])
    }

    /// −a.
    pub fn neg(&mut self, a: &str) -> String {
        self.op("Neg", &[a])
    }

    /// c · a; nothing for c = 1.
    pub fn scale(&mut self, a: &str, factor: f64) -> String {
        if factor == 1.0 {
            return a.to_owned();
        }
        if factor == -1.0 {
            return self.neg(a);
        }
        let c = self.scalar(factor);
        self.mul(a, &c)
    }

    /// a + c.
    pub fn shift(&mut self, a: &str, by: f64) -> String {
        let c = self.scalar(by);
        self.add(a, &c)
    }

    /// Sum over `axes`; nothing where there are none.
    pub fn reduce(&mut self, op: &str, a: &str, axes: &[i64], keep: bool) -> String {
        if axes.is_empty() {
            return a.to_owned();
        }
        let axes = self.ints(axes);
        self.emit(Node::new(op, &[a, &axes], &[]).with_int("keepdims", i64::from(keep)))
    }

    /// `a` in the shape of `like`.
    pub fn reshape_like(&mut self, a: &str, like: &str) -> Result<String, Reason> {
        let target = self.reshape_target(like)?;
        Ok(self.op("Reshape", &[a, &target]))
    }

    /// `a` in a shape given outright.
    pub fn reshape(&mut self, a: &str, shape: &[i64]) -> String {
        let target = self.ints(shape);
        self.op("Reshape", &[a, &target])
    }

    /// `a` with its axes permuted; nothing for the identity.
    pub fn transpose(&mut self, a: &str, perm: &[usize]) -> String {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return a.to_owned();
        }
        let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        self.emit(Node::new("Transpose", &[a], &[]).with_ints("perm", &perm))
    }

    /// Zeros in the shape of `like`.
    pub fn zeros_like(&mut self, like: &str) -> Result<String, Reason> {
        let shape = self.shape(like)?;
        Ok(self.filled(&shape, 0.0))
    }

    /// A tensor of `shape` (an int64 value) that holds `value` everywhere, of the present element type.
    pub fn filled(&mut self, shape: &str, value: f64) -> String {
        use crate::onnx::{AttributeProto, attribute_proto::AttributeType};
        let mut node = Node::new("ConstantOfShape", &[shape], &[]);
        node.proto.attribute.push(AttributeProto {
            name: Some("value".to_owned()),
            r#type: Some(AttributeType::Tensor as i32),
            t: Some(float_tensor("value", self.element, &[1], &[value]).proto),
            ..AttributeProto::default()
        });
        self.emit(node)
    }

    /// A part of `a`: `[start, end)` along `axis`.
    pub fn slice(&mut self, a: &str, axis: usize, start: i64, end: i64) -> String {
        let (s, e, x) = (self.ints(&[start]), self.ints(&[end]), self.ints(&[axis as i64]));
        self.op("Slice", &[a, &s, &e, &x])
    }

    /// `v`, of the shape of `like`, in the runtime's blocked layout: what follows it element by element can then stay
    /// there. Only a convolution or a pooling enters that layout, so this is a pooling of single elements, for float32
    /// feature maps whose channels fill blocks.
    pub fn blocked(&mut self, v: &str, like: &str) -> String {
        let fills = |d: &[Dim]| matches!(d, [_, Dim::Fixed(c), Dim::Fixed(_), Dim::Fixed(_)] if c % 16 == 0);
        if self.element != ElementType::F32 || !self.dims(like).is_ok_and(|d| fills(&d)) {
            return v.to_owned();
        }
        self.like(v, like);
        self.emit(Node::new("MaxPool", &[v], &[]).with_ints("kernel_shape", &[1, 1]))
    }

    /// Says that `v` has the shape and type of `like`.
    pub fn like(&mut self, v: &str, like: &str) {
        if let (Ok(dims), Some(element)) = (self.dims(like), self.element_of(like)) {
            self.declare(v, element, &dims);
        }
    }

    /// 1 where `v > 0`, else 0, as floats. In float32 by a steep HardSigmoid, which costs one pass and keeps the
    /// runtime's blocked layout (exact but for 0 < v < 2⁻¹⁰⁰).
    pub fn positive(&mut self, v: &str) -> String {
        self.steep(v, 1.0, 0.0)
    }

    /// 1 where `sign·v + bound > 0`, else 0. `sign` is ±1.
    pub fn steep(&mut self, v: &str, sign: f64, bound: f64) -> String {
        const STEEP: f64 = (1u128 << 100) as f64; // A power of two: products with it are exact.
        if self.element == ElementType::F32 && bound.abs() < 1e7 {
            let node = Node::new("HardSigmoid", &[v], &[]);
            let (alpha, beta) = ((sign * STEEP) as f32, (bound * STEEP) as f32);
            return self.emit(node.with_float("alpha", alpha).with_float("beta", beta));
        }
        let edge = self.scalar(-bound * sign);
        let test = if sign > 0.0 { self.op("Greater", &[v, &edge]) } else { self.op("Less", &[v, &edge]) };
        self.cast(&test, self.element)
    }

    /// `a` as `element`.
    pub fn cast(&mut self, a: &str, element: ElementType) -> String {
        self.emit(Node::new("Cast", &[a], &[]).with_int("to", i64::from(element.to_onnx())))
    }

    /// The cotangent `g` of a broadcast result in the shape of its operand `of`: summed over what was repeated.
    pub fn unbroadcast(&mut self, g: &str, result: &str, of: &str) -> Result<String, Reason> {
        self.sum_repeated(g, result, of, 0)
    }

    /// As [`GraphBuilder::unbroadcast`], but for the last `apart` axes, which were not broadcast.
    pub fn sum_repeated(&mut self, g: &str, result: &str, of: &str, apart: usize) -> Result<String, Reason> {
        let (full, own) = (self.dims(result)?, self.dims(of)?);
        let extra = full.len().checked_sub(own.len()).ok_or_else(|| {
            Reason(format!(
                "'{of}' has {} dimensions, and '{result}', which it is broadcast to, {}",
                own.len(),
                full.len()
            ))
        })?;
        let leading: Vec<i64> = (0..extra as i64).collect();
        let repeated = |i: usize| own[i] == Dim::Fixed(1) && full[i + extra] != Dim::Fixed(1);
        let inner = (0..own.len().saturating_sub(apart)).filter(|&i| repeated(i)).map(|i| i as i64);
        let inner: Vec<i64> = inner.collect();
        let g = self.reduce("ReduceSum", g, &leading, false);
        Ok(self.reduce("ReduceSum", &g, &inner, true))
    }
}

/// The number of elements of an array of `shape`.
pub(crate) fn elements(shape: &[usize]) -> Result<usize, Reason> {
    let count = crate::observed::elements(shape);
    match count <= ELEMENTS {
        true => Ok(count),
        false => Err(Reason(format!("an array of shape {shape:?} is larger than any memory"))),
    }
}

/// A shape for `Reshape`, if at most one dimension is not fixed.
pub(crate) fn target(dims: &[Dim]) -> Option<Vec<i64>> {
    let open = dims.iter().filter(|d| !matches!(d, Dim::Fixed(_))).count();
    let size = |d: &Dim| if let Dim::Fixed(n) = d { *n as i64 } else { -1 };
    (open <= 1 && !dims.contains(&Dim::Fixed(0))).then(|| dims.iter().map(size).collect())
}

/// An axis counted from the front.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize, Reason> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| Reason(format!("axis {axis} is outside rank {rank}")))
}

/// `values` as a tensor of a float type.
pub(crate) fn float_tensor(name: &str, element: ElementType, shape: &[usize], values: &[f64]) -> Tensor {
    let bytes: Vec<u8> = match element {
        ElementType::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::F16 => values.iter().flat_map(|&v| f32_to_half(v as f32).to_le_bytes()).collect(),
        ElementType::BF16 => values.iter().flat_map(|&v| f32_to_bfloat(v as f32).to_le_bytes()).collect(),
        _ => return Tensor::f32(name, shape, &values.iter().map(|&v| v as f32).collect::<Vec<_>>()),
    };
    Tensor::raw(name, element, shape, bytes.into())
}

/// Round to nearest even.
fn f32_to_bfloat(v: f32) -> u16 {
    let bits = v.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// IEEE 754 binary32 to binary16, round to nearest even; overflow becomes infinity.
fn f32_to_half(v: f32) -> u16 {
    let bits = v.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = f32::from_bits(bits & 0x7fff_ffff);
    if v.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    if magnitude < 6.103_515_6e-5 {
        return sign | (magnitude * 16_777_216.0).round_ties_even() as u16;
    }
    let exponent = (bits >> 23) & 0xff;
    let fraction = bits & 0x7f_ffff;
    let rounded = (fraction + 0xfff + ((fraction >> 13) & 1)) >> 13;
    sign | (((exponent - 112) << 10) + rounded) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_constants_round_to_nearest() {
        let cases = [
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (1e30, 0x7c00),
            (5.960_464_5e-8, 1),
            (0.333_251_95, 0x3555),
            (2049.0, 0x6800),
        ];
        for (value, bits) in cases {
            assert_eq!(f32_to_half(value), bits, "{value}");
        }
        assert_eq!(f32_to_bfloat(1.0), 0x3f80);
    }
}
