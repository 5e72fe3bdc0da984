//! Objectives: what to differentiate, as data. An expression over the model's values gives one number per sample.
//!
//! ```
//! use pellucid_graph::grad::{Index, Objective};
//! // a + 0.5 z: the mean of a channel, and a class logit, both chosen per sample when the model runs.
//! let channel = Objective::value("map").select(1, Index::input("channel")).mean();
//! let logit = Objective::value("logits").select(1, Index::input("class"));
//! let objective = channel + logit * 0.5;
//! ```
//!
//! The first dimension of a value is the batch. [`Objective::sum`], [`Objective::mean`], [`Objective::dot`] and their
//! relatives work per sample; arithmetic broadcasts as ONNX does, and a number per sample goes with a whole tensor per
//! sample.

use super::emit::{Dim, GraphBuilder};
use super::error::{GradientError, Reason};
use crate::graph::{Node, Value};
use crate::tensor::ElementType;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ops;

/// Which element of an axis is selected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Index {
    /// The same for every sample; negative counts from the end. Checked when the gradient is built.
    At(i64),
    /// One int64 per sample, in the input of this name, given when the model runs (the runtime refuses one that is
    /// out of range).
    Input(String),
}

impl Index {
    /// An index per sample, given when the model runs.
    pub fn input(name: &str) -> Self {
        Self::Input(name.to_owned())
    }
}

impl From<i64> for Index {
    fn from(index: i64) -> Self {
        Self::At(index)
    }
}

/// An expression over a model's values. Build it with the methods and with `+ − * /`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// A value of the model.
    Value(String),
    /// A float input added to the model: a mask, a vector to project on, a weight.
    Input {
        /// Name.
        name: String,
        /// Shape; without the batch where there is one per sample.
        shape: Vec<usize>,
        /// Whether there is one per sample (a batch dimension comes first).
        per_sample: bool,
    },
    /// A number.
    Number(f64),
    /// One element of an axis, which is removed.
    Select(Box<Objective>, usize, Index),
    /// One of several equal parts along an axis: the two halves of classifier-free guidance, for example.
    Part {
        /// Of what.
        of: Box<Objective>,
        /// Axis, counted from the front; 0 is the batch.
        axis: usize,
        /// Which part.
        index: usize,
        /// How many parts.
        parts: usize,
    },
    /// An operator of one operand, by its ONNX name: Neg, Exp, Log, Sqrt, Abs, Relu, Softplus, Sigmoid, Tanh.
    Unary(Unary, Box<Objective>),
    /// An operator of two operands.
    Binary(Binary, Box<Objective>, Box<Objective>),
    /// Sum or mean over every axis but the batch.
    PerSample(Reduction, Box<Objective>),
    /// Sum or mean over chosen axes, which are removed.
    Over(Reduction, Box<Objective>, Vec<usize>),
    /// Softmax along an axis.
    Softmax(Box<Objective>, usize),
    /// Logarithm of the softmax along an axis.
    LogSoftmax(Box<Objective>, usize),
    /// `then` where `test` > 0, else `otherwise`; no gradient flows through the test.
    Where {
        /// What decides.
        test: Box<Objective>,
        /// Where it is positive.
        then: Box<Objective>,
        /// Elsewhere.
        otherwise: Box<Objective>,
    },
    /// The operand as a constant: no gradient flows through it.
    Detached(Box<Objective>),
}

/// An operator of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Exp,
    Log,
    Sqrt,
    Abs,
    Relu,
    Softplus,
    Sigmoid,
    Tanh,
}

/// An operator of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// How several numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reduction {
    Sum,
    Mean,
}

/// An input that an objective adds to its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectiveInput {
    /// Name.
    pub name: String,
    /// int64 for an index, float for the rest.
    pub element: ElementType,
    /// Shape without the batch.
    pub shape: Vec<usize>,
    /// Whether a batch dimension comes first.
    pub per_sample: bool,
}

impl ObjectiveInput {
    /// The input's declaration.
    pub(crate) fn declare(&self) -> Value {
        let batch = self.per_sample.then_some(None);
        let dims: Vec<Option<i64>> = batch.into_iter().chain(self.shape.iter().map(|&d| Some(d as i64))).collect();
        Value::tensor(&self.name, self.element, &dims)
    }
}

impl Objective {
    /// A value of the model.
    pub fn value(name: &str) -> Self {
        Self::Value(name.to_owned())
    }

    /// A float input that is the same for every sample: a mask, a text embedding.
    pub fn shared_input(name: &str, shape: &[usize]) -> Self {
        Self::Input { name: name.to_owned(), shape: shape.to_vec(), per_sample: false }
    }

    /// A float input with one `shape` per sample.
    pub fn input(name: &str, shape: &[usize]) -> Self {
        Self::Input { name: name.to_owned(), shape: shape.to_vec(), per_sample: true }
    }

    /// A number.
    pub fn number(value: f64) -> Self {
        Self::Number(value)
    }

    /// Element `index` of `axis` (counted from the front; 0 is the batch), which is removed.
    pub fn select(self, axis: usize, index: impl Into<Index>) -> Self {
        Self::Select(Box::new(self), axis, index.into())
    }

    /// Part `index` of `parts` equal ones along `axis`.
    pub fn part(self, axis: usize, index: usize, parts: usize) -> Self {
        Self::Part { of: Box::new(self), axis, index, parts }
    }

    /// Sum per sample.
    pub fn sum(self) -> Self {
        Self::PerSample(Reduction::Sum, Box::new(self))
    }

    /// Mean per sample.
    pub fn mean(self) -> Self {
        Self::PerSample(Reduction::Mean, Box::new(self))
    }

    /// Sum over `axes`, which are removed.
    pub fn sum_over(self, axes: &[usize]) -> Self {
        Self::Over(Reduction::Sum, Box::new(self), axes.to_vec())
    }

    /// Mean over `axes`, which are removed; axis 0 couples the samples.
    pub fn mean_over(self, axes: &[usize]) -> Self {
        Self::Over(Reduction::Mean, Box::new(self), axes.to_vec())
    }

    /// Dot product per sample.
    pub fn dot(self, other: Self) -> Self {
        (self * other).sum()
    }

    /// Euclidean norm per sample.
    pub fn norm(self) -> Self {
        self.clone().dot(self).unary(Unary::Sqrt)
    }

    /// Cosine per sample.
    pub fn cosine(self, other: Self) -> Self {
        self.clone().dot(other.clone()) / (self.norm() * other.norm())
    }

    /// Softmax along `axis`.
    pub fn softmax(self, axis: usize) -> Self {
        Self::Softmax(Box::new(self), axis)
    }

    /// Logarithm of the softmax along `axis`.
    pub fn log_softmax(self, axis: usize) -> Self {
        Self::LogSoftmax(Box::new(self), axis)
    }

    /// An operator of one operand.
    pub fn unary(self, operator: Unary) -> Self {
        Self::Unary(operator, Box::new(self))
    }

    /// An operator of two operands.
    pub fn binary(self, operator: Binary, other: Self) -> Self {
        Self::Binary(operator, Box::new(self), Box::new(other))
    }

    /// `then` where this is positive, else `otherwise`; no gradient flows through the test.
    pub fn where_positive(self, then: Self, otherwise: Self) -> Self {
        Self::Where { test: Box::new(self), then: Box::new(then), otherwise: Box::new(otherwise) }
    }

    /// This as a constant.
    pub fn detach(self) -> Self {
        Self::Detached(Box::new(self))
    }
}

impl ops::Neg for Objective {
    type Output = Self;
    fn neg(self) -> Self {
        self.unary(Unary::Neg)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $binary:ident) => {
        impl ops::$trait for Objective {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.binary(Binary::$binary, other)
            }
        }
        impl ops::$trait<f64> for Objective {
            type Output = Self;
            fn $method(self, other: f64) -> Self {
                self.binary(Binary::$binary, Self::Number(other))
            }
        }
    };
}
operator!(Add, add, Add);
operator!(Sub, sub, Sub);
operator!(Mul, mul, Mul);
operator!(Div, div, Div);

impl Objective {
    /// Names of the model's values that it reads, sorted.
    pub fn values(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect_values(&mut names);
        names.sort_unstable();
        names.dedup();
        names
    }

    fn collect_values<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Value(name) => names.push(name),
            Self::Input { .. } | Self::Number(_) => {}
            Self::Select(of, ..)
            | Self::Part { of, .. }
            | Self::Unary(_, of)
            | Self::PerSample(_, of)
            | Self::Over(_, of, _)
            | Self::Softmax(of, _)
            | Self::LogSoftmax(of, _)
            | Self::Detached(of) => of.collect_values(names),
            Self::Binary(_, a, b) => [a, b].into_iter().for_each(|o| o.collect_values(names)),
            Self::Where { test, then, otherwise } => {
                [test, then, otherwise].into_iter().for_each(|o| o.collect_values(names));
            }
        }
    }
}

/// An objective as nodes.
pub(crate) struct Built {
    /// The value that holds it.
    pub value: String,
    /// Values through which no gradient flows.
    pub stopped: HashSet<String>,
    /// The inputs it needs.
    pub inputs: Vec<ObjectiveInput>,
}

impl Objective {
    /// Appends the objective's nodes.
    pub(crate) fn build(&self, emitter: &mut GraphBuilder) -> Result<Built, GradientError> {
        emitter.enter("objective", ElementType::F32);
        let mut builder = Builder { emitter, stopped: HashSet::new(), inputs: BTreeMap::new() };
        let term = builder.term(self)?;
        let name = builder.emitter.graph.fresh("objective");
        builder.emitter.graph.nodes.push(Node::new("Identity", &[&term.name], &[&name]));
        builder.emitter.declare(&name, ElementType::F32, &term.dims);
        let Builder { stopped, inputs, .. } = builder;
        Ok(Built { value: name, stopped, inputs: inputs.into_values().collect() })
    }
}

/// A part of the expression that has been built: a float32 value with its shape.
struct Term {
    name: String,
    dims: Vec<Dim>,
}

struct Builder<'a> {
    emitter: &'a mut GraphBuilder,
    stopped: HashSet<String>,
    inputs: BTreeMap<String, ObjectiveInput>,
}

type Result2 = Result<Term, GradientError>;

impl From<Reason> for GradientError {
    fn from(reason: Reason) -> Self {
        Self::Objective(reason.0)
    }
}

fn wrong<T>(text: String) -> Result<T, GradientError> {
    Err(GradientError::Objective(text))
}

impl Builder<'_> {
    fn term(&mut self, expression: &Objective) -> Result2 {
        match expression {
            Objective::Value(name) => self.value(name),
            Objective::Input { name, shape, per_sample } => self.input(name, ElementType::F32, shape, *per_sample),
            Objective::Number(v) => Ok(Term { name: self.emitter.scalar(*v), dims: Vec::new() }),
            Objective::Select(of, axis, index) => self.select(of, *axis, index),
            Objective::Part { of, axis, index, parts } => self.part(of, *axis, *index, *parts),
            Objective::Unary(op, of) => {
                let of = self.term(of)?;
                self.node(Node::new(&format!("{op:?}"), &[&of.name], &[]), of.dims)
            }
            Objective::Binary(op, a, b) => self.binary(*op, a, b),
            Objective::PerSample(how, of) => {
                let of = self.term(of)?;
                let axes: Vec<usize> = (1..of.dims.len()).collect();
                self.reduce(*how, of, &axes)
            }
            Objective::Over(how, of, axes) => {
                let of = self.term(of)?;
                self.reduce(*how, of, axes)
            }
            Objective::Softmax(of, axis) => self.softmax("Softmax", of, *axis),
            Objective::LogSoftmax(of, axis) => self.softmax("LogSoftmax", of, *axis),
            Objective::Where { test, then, otherwise } => self.choose(test, then, otherwise),
            Objective::Detached(of) => {
                let of = self.term(of)?;
                let term = self.node(Node::new("Identity", &[&of.name], &[]), of.dims)?;
                self.stopped.insert(term.name.clone());
                Ok(term)
            }
        }
    }

    fn node(&mut self, node: Node, dims: Vec<Dim>) -> Result2 {
        let name = self.emitter.emit(node);
        self.emitter.declare(&name, ElementType::F32, &dims);
        Ok(Term { name, dims })
    }

    fn value(&mut self, name: &str) -> Result2 {
        self.emitter.graph.check(name)?;
        let element = self.emitter.element_of(name).ok_or_else(|| GradientError::Unobserved(name.to_owned()))?;
        if !element.is_float() {
            return Err(GradientError::NotFloat { value: name.to_owned(), element, what: "an objective" });
        }
        let dims = self.emitter.dims(name)?;
        if element == ElementType::F32 {
            return Ok(Term { name: name.to_owned(), dims });
        }
        let cast = self.emitter.cast(name, ElementType::F32);
        self.emitter.declare(&cast, ElementType::F32, &dims);
        Ok(Term { name: cast, dims })
    }

    fn input(&mut self, name: &str, element: ElementType, shape: &[usize], per_sample: bool) -> Result2 {
        let asked = ObjectiveInput { name: name.to_owned(), element, shape: shape.to_vec(), per_sample };
        if self.emitter.graph.has(name) {
            return wrong(format!("its input '{name}' has the name of a value of the model; give it another"));
        }
        let batch = per_sample.then_some(Dim::Batch(1));
        let dims: Vec<Dim> = batch.into_iter().chain(shape.iter().map(|&d| Dim::Fixed(d))).collect();
        let known = self.inputs.entry(name.to_owned()).or_insert_with(|| asked.clone());
        if *known != asked {
            return wrong(format!("its input '{name}' is used in two ways, as {known:?} and as {asked:?}"));
        }
        self.emitter.declare(name, element, &dims);
        Ok(Term { name: name.to_owned(), dims })
    }

    fn axis(&self, of: &Term, axis: usize) -> Result<Dim, GradientError> {
        let none = || {
            GradientError::Objective(format!(
                "'{}' has {} dimensions, and axis {axis} is asked for",
                of.name,
                of.dims.len()
            ))
        };
        of.dims.get(axis).copied().ok_or_else(none)
    }

    fn select(&mut self, of: &Objective, axis: usize, index: &Index) -> Result2 {
        let of = self.term(of)?;
        let extent = self.axis(&of, axis)?;
        let mut dims = of.dims.clone();
        dims.remove(axis);
        match index {
            Index::At(at) => {
                if let Dim::Fixed(n) = extent
                    && !(-(n as i64)..n as i64).contains(at)
                {
                    return wrong(format!(
                        "index {at} is outside axis {axis} of '{}', which has {n} elements",
                        of.name
                    ));
                }
                let at = self.emitter.int_tensor(&[], &[*at]);
                self.node(Node::new("Gather", &[&of.name, &at], &[]).with_int("axis", axis as i64), dims)
            }
            Index::Input(name) if axis > 0 => {
                let mut perm: Vec<usize> = (0..of.dims.len()).collect();
                perm.remove(axis);
                perm.insert(1, axis);
                let index = self.input(name, ElementType::I64, &[], true)?;
                let rows = self.emitter.reshape(&index.name, &[-1, 1]);
                self.emitter.declare(&rows, ElementType::I64, &[Dim::Batch(1), Dim::Fixed(1)]);
                let moved = match axis {
                    1 => of.name,
                    _ => {
                        let name = self.emitter.transpose(&of.name, &perm);
                        let dims: Vec<Dim> = perm.iter().map(|&p| of.dims[p]).collect();
                        self.emitter.declare(&name, ElementType::F32, &dims);
                        name
                    }
                };
                self.node(Node::new("GatherND", &[&moved, &rows], &[]).with_int("batch_dims", 1), dims)
            }
            Index::Input(_) => wrong("axis 0 is the batch; an index per sample selects along a later axis".to_owned()),
        }
    }

    fn part(&mut self, of: &Objective, axis: usize, index: usize, parts: usize) -> Result2 {
        let of = self.term(of)?;
        let dim = match self.axis(&of, axis)? {
            Dim::Fixed(n) if parts > 0 && n % parts == 0 => Dim::Fixed(n / parts),
            Dim::Batch(n) if parts > 0 && n % parts == 0 => Dim::Batch(n / parts),
            // A batch that holds `parts` groups of samples at run time.
            Dim::Batch(_) if axis == 0 && parts > 0 => Dim::Free,
            other => {
                return wrong(format!("axis {axis} of '{}' ({other:?}) does not divide into {parts} parts", of.name));
            }
        };
        if index >= parts {
            return wrong(format!("part {index} of {parts} does not exist"));
        }
        let mut dims = of.dims.clone();
        dims[axis] = dim;
        let node =
            Node::new("Split", &[&of.name], &[]).with_int("axis", axis as i64).with_int("num_outputs", parts as i64);
        let mut names = self.emitter.emit_many(node, parts);
        let name = names.swap_remove(index);
        names.iter().chain([&name]).for_each(|n| self.emitter.declare(n, ElementType::F32, &dims));
        Ok(Term { name, dims })
    }

    fn binary(&mut self, op: Binary, a: &Objective, b: &Objective) -> Result2 {
        let (a, b) = (self.term(a)?, self.term(b)?);
        let dims_a = a.dims.clone();
        let a = self.widen(a, &b.dims)?;
        let b = self.widen(b, &dims_a)?;
        let dims = broadcast(&a, &b)?;
        self.node(Node::new(&format!("{op:?}"), &[&a.name, &b.name], &[]), dims)
    }

    /// A number per sample as a tensor of `other`'s rank, so that it goes with the batch and not with the last axis.
    fn widen(&mut self, a: Term, other: &[Dim]) -> Result2 {
        if a.dims.len() != 1 || other.len() < 2 || matches!(a.dims[0], Dim::Fixed(_)) {
            return Ok(a);
        }
        let mut shape = vec![1i64; other.len()];
        shape[0] = -1;
        let mut dims = vec![Dim::Fixed(1); other.len()];
        dims[0] = a.dims[0];
        let shape = self.emitter.ints(&shape);
        self.node(Node::new("Reshape", &[&a.name, &shape], &[]), dims)
    }

    fn reduce(&mut self, how: Reduction, of: Term, axes: &[usize]) -> Result2 {
        for &axis in axes {
            self.axis(&of, axis)?;
        }
        if axes.is_empty() {
            return Ok(of);
        }
        let listed: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let dims = of.dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| *d).collect();
        let axes = self.emitter.ints(&listed);
        let op = format!("Reduce{how:?}");
        self.node(Node::new(&op, &[&of.name, &axes], &[]).with_int("keepdims", 0), dims)
    }

    fn softmax(&mut self, op: &str, of: &Objective, axis: usize) -> Result2 {
        let of = self.term(of)?;
        self.axis(&of, axis)?;
        self.node(Node::new(op, &[&of.name], &[]).with_int("axis", axis as i64), of.dims)
    }

    fn choose(&mut self, test: &Objective, then: &Objective, otherwise: &Objective) -> Result2 {
        let (test, then, otherwise) = (self.term(test)?, self.term(then)?, self.term(otherwise)?);
        let full = broadcast_dims(&broadcast(&test, &then)?, &otherwise.dims).unwrap_or_default();
        let (test, then, otherwise) =
            (self.widen(test, &full)?, self.widen(then, &full)?, self.widen(otherwise, &full)?);
        let zero = self.emitter.scalar(0.0);
        let positive = self.emitter.op("Greater", &[&test.name, &zero]);
        self.emitter.declare(&positive, ElementType::Bool, &test.dims);
        let dims = broadcast(&then, &otherwise)?;
        let dims = broadcast_dims(&dims, &test.dims).unwrap_or(dims);
        self.node(Node::new("Where", &[&positive, &then.name, &otherwise.name], &[]), dims)
    }
}

fn broadcast(a: &Term, b: &Term) -> Result<Vec<Dim>, GradientError> {
    let text = || {
        GradientError::Objective(format!(
            "shapes {:?} of '{}' and {:?} of '{}' do not go together",
            a.dims, a.name, b.dims, b.name
        ))
    };
    broadcast_dims(&a.dims, &b.dims).ok_or_else(text)
}

fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |d: &[Dim], i: usize| (i + d.len()).checked_sub(rank).map_or(Dim::Fixed(1), |j| d[j]);
    let pair = |i: usize| match (at(a, i), at(b, i)) {
        (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => Some(d),
        (Dim::Fixed(m), Dim::Fixed(n)) if m != n => None,
        (d, _) => Some(d),
    };
    (0..rank).map(pair).collect()
}
