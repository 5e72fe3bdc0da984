//! Less memory for more time: the forward pass is cut into segments, only what crosses a cut is kept for the way back,
//! and the rest of a segment is computed again when the gradient arrives at its end.
//!
//! A runtime is free to compute a node as soon as its inputs are there, and to merge nodes that compute the same. So what
//! a recomputed segment reads passes through a Reshape whose shape has a zero added that comes from the gradient: the
//! shape is the same, nothing is copied, and nothing can run before its time.

use super::emit::GraphBuilder;
use super::error::{GradientError, Reason};
use crate::graph::{Graph, Node};
use crate::observed::{Observations, Observed};
use crate::tensor::ElementType;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What of the forward pass is computed again on the way back, so that it need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpointing {
    /// Nothing: the fastest, and every activation is kept.
    #[default]
    Nothing,
    /// The forward pass in so many segments of about equal memory (fewer where the graph has too few nodes). The last one
    /// is never computed again.
    Segments(usize),
    /// As many segments as need the least memory.
    Least,
    /// As few segments as keep the forward values that are alive at one time within so many bytes per sample. Gradients
    /// and what the runtime needs beside are not counted.
    Within(u64),
}

/// The largest number of segments that is tried.
const MOST: usize = 64;
/// Values of no more elements per sample are kept in any case.
const SMALL: usize = 1024;

/// The forward pass in segments.
#[derive(Debug)]
pub(super) struct Segments {
    /// The first node of each segment but the first.
    cuts: Vec<usize>,
    /// Large values that are read in a later segment than the one that computes them.
    crossing: HashSet<String>,
    /// What is there on the way back without being computed again: those, small values, and outputs.
    kept: HashSet<String>,
    /// Values that depend on no input: the runtime folds them.
    constant: HashSet<String>,
}

/// What the planning needs to know of the nodes, in order.
struct Costs {
    /// Bytes that each node adds, per sample.
    own: Vec<u64>,
    /// Whether a node writes where one of its inputs lies: a cut before it would keep the two apart.
    in_place: Vec<bool>,
    /// Values worth recomputing: the node that makes each, the last that reads it, and its bytes.
    spans: Vec<(usize, usize, u64)>,
}

impl Costs {
    fn of(nodes: &[Node], heavy: impl Fn(&str) -> Option<u64>) -> Self {
        let mut reads: HashMap<&str, (usize, usize)> = HashMap::new();
        for (i, node) in nodes.iter().enumerate() {
            for read in node.reads() {
                let (last, count) = reads.entry(read).or_default();
                (*last, *count) = (i, *count + 1);
            }
        }
        let view =
            |n: &Node| matches!(n.op(), "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Dropout");
        // Operators whose rule needs no operand: they overwrite one that nobody else reads.
        let overwrites = |n: &Node| {
            let alone = |r: &&str| heavy(r) == heavy(n.output()) && reads.get(r).is_some_and(|(_, count)| *count == 1);
            matches!(n.op(), "Relu" | "Clip" | "Add" | "Sum" | "Sub") && n.reads().iter().any(alone)
        };
        let in_place: Vec<bool> = nodes.iter().map(|n| view(n) || overwrites(n)).collect();
        let mut costs = Self { own: vec![0; nodes.len()], in_place, spans: Vec::new() };
        for (i, node) in nodes.iter().enumerate() {
            for output in node.outputs() {
                let Some(bytes) = heavy(output) else { continue };
                costs.own[i] = costs.own[i].saturating_add(if costs.in_place[i] { 0 } else { bytes });
                costs.spans.extend(reads.get(output.as_str()).map(|&(last, _)| (i, last, bytes)));
            }
        }
        costs
    }

    /// Cuts into `count` segments: near equal shares of the memory, where the least crosses.
    fn cuts(&self, count: usize) -> Vec<usize> {
        let mut crossing = vec![0i128; self.own.len() + 2];
        for &(from, to, bytes) in &self.spans {
            crossing[from + 1] += i128::from(bytes);
            crossing[to + 1] -= i128::from(bytes);
        }
        let running = |total: &mut i128, v: i128| {
            *total += v;
            Some(*total)
        };
        let crossing: Vec<i128> = crossing.into_iter().scan(0, |t, v| running(t, v)).collect();
        let before: Vec<i128> = self.own.iter().scan(0, |t, &v| running(t, i128::from(v))).collect();
        let total = before.last().copied().unwrap_or(0);
        let mut cuts = BTreeSet::new();
        for k in 1..count {
            let target = total * k as i128 / count as i128;
            let room = total / (2 * count as i128);
            let far = |p: usize| (before[p - 1] - target).abs();
            let near = (1..self.own.len()).filter(|&p| !self.in_place[p] && far(p) <= room);
            cuts.extend(near.min_by_key(|&p| (crossing[p], far(p))));
        }
        cuts.into_iter().collect()
    }

    /// Bytes per sample that are alive at one time: what crosses a cut, and the largest segment.
    fn estimate(&self, cuts: &[usize]) -> u64 {
        let crosses = |from: usize, to: usize| cuts.iter().any(|&c| from < c && c <= to);
        let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
        let kept = sum(&mut self.spans.iter().filter(|(from, to, _)| crosses(*from, *to)).map(|(.., b)| *b));
        let ends = cuts.iter().copied().chain([self.own.len()]);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let largest = starts.zip(ends).map(|(a, b)| sum(&mut self.own[a..b].iter().copied())).max().unwrap_or(0);
        kept.saturating_add(largest)
    }

    fn choose(&self, checkpointing: Checkpointing) -> Result<Vec<usize>, GradientError> {
        let plans = || (1..=MOST).map(|n| self.cuts(n));
        let least = || plans().min_by_key(|cuts| (self.estimate(cuts), cuts.len())).unwrap_or_default();
        match checkpointing {
            Checkpointing::Nothing => Ok(Vec::new()),
            Checkpointing::Segments(count) => Ok(self.cuts(count.clamp(1, self.own.len().max(1)))),
            Checkpointing::Least => Ok(least()),
            Checkpointing::Within(bound) => plans().find(|cuts| self.estimate(cuts) <= bound).ok_or_else(|| {
                let cuts = least();
                GradientError::Memory { bound, least: self.estimate(&cuts), segments: cuts.len() + 1 }
            }),
        }
    }
}

/// Values that some input of the graph enters.
fn varying(graph: &Graph) -> HashSet<&str> {
    let mut varying: HashSet<&str> = graph.inputs.iter().map(|v| v.name()).collect();
    for node in &graph.nodes {
        if node.reads().iter().any(|r| varying.contains(r)) {
            varying.extend(node.outputs().iter().map(String::as_str));
        }
    }
    varying
}

impl Segments {
    /// Cuts `graph` (before anything was appended to it).
    pub fn plan(graph: &Graph, observed: &Observations, checkpointing: Checkpointing) -> Result<Self, GradientError> {
        let varying = varying(graph);
        let outputs: HashSet<&str> = graph.outputs.iter().map(|v| v.name()).collect();
        let heavy = |value: &str| -> Option<u64> {
            let seen = observed.get(value).filter(|o| o.len() > SMALL && varying.contains(value))?;
            (!outputs.contains(value)).then(|| bytes(seen))
        };
        let costs = Costs::of(&graph.nodes, heavy);
        let cuts = costs.choose(checkpointing)?;
        let producers = graph.producers();
        let mut crossing = HashSet::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            let crosses = |v: &&str| producers.get(v).is_some_and(|&from| cuts.iter().any(|&c| from < c && c <= i));
            let heavy_reads = node.reads().into_iter().filter(|v| heavy(v).is_some());
            crossing.extend(heavy_reads.filter(crosses).map(str::to_owned));
        }
        let light = graph.values().filter(|v| heavy(v).is_none()).map(str::to_owned);
        let kept = light.chain(crossing.iter().cloned()).collect();
        let constant = graph.values().filter(|v| !varying.contains(v)).map(str::to_owned).collect();
        Ok(Self { cuts, crossing, kept, constant })
    }

    /// The segment that node `at` lies in.
    pub fn of(&self, at: usize) -> usize {
        self.cuts.partition_point(|&c| c <= at)
    }

    /// Computes segment `index` of `forward` again, as soon as `arriving` (values of its end, and their gradients) are
    /// there: the names under which rules read its values. Nothing for the last one, whose values are all still there.
    pub fn reopen(
        &self,
        e: &mut GraphBuilder,
        forward: &[Node],
        index: usize,
        arriving: &[(String, String)],
    ) -> Result<HashMap<String, String>, Reason> {
        let Some(&end) = self.cuts.get(index) else { return Ok(HashMap::new()) };
        let start = if index == 0 { 0 } else { self.cuts[index - 1] };
        if arriving.is_empty() {
            return Ok(HashMap::new());
        }
        let nodes = &forward[start..end];
        let mut gate = Gate::new(e, nodes, arriving);
        for value in nodes.iter().flat_map(|n| n.inputs().iter().chain(n.outputs())) {
            if self.crossing.contains(value) {
                gate.pass(e, value)?;
            }
        }
        for node in nodes {
            if !node.outputs().iter().all(|o| o.is_empty() || self.kept.contains(o)) && !node.has_subgraphs() {
                self.repeat(e, node, &mut gate)?;
            }
        }
        Ok(gate.names)
    }

    /// Appends `node` again, reading repeated values and, through the gate, kept ones.
    fn repeat(&self, e: &mut GraphBuilder, node: &Node, gate: &mut Gate) -> Result<(), Reason> {
        let element = e.element_of(node.output()).unwrap_or(ElementType::F32);
        e.enter(node.output(), element);
        // One input that waits is enough. What nobody observed is no tensor; it stays as it is.
        let waits = node.inputs().iter().any(|i| gate.names.contains_key(i));
        let mut again = node.clone();
        for input in &mut again.proto.input {
            let free = e.initializer(input).is_some() || self.constant.contains(input) || e.dims(input).is_err();
            if !(waits || free) {
                gate.pass(e, input)?;
            }
            if let Some(name) = gate.names.get(input) {
                input.clone_from(name);
            }
        }
        for output in again.proto.output.iter_mut().filter(|o| !o.is_empty()) {
            let name = e.fresh("again");
            if let Some(seen) = e.observed.get(output).cloned() {
                e.observed.insert(name.clone(), seen);
            }
            if !self.kept.contains(output) {
                gate.names.insert(output.clone(), name.clone());
            }
            *output = name;
        }
        again.proto.name = again.proto.output.first().cloned();
        e.push(again);
        Ok(())
    }
}

/// What lets kept values into a segment when the gradient is there.
struct Gate {
    /// A zero (int64, one element) that needs the gradient.
    zero: String,
    /// Shapes with that zero added.
    shapes: HashMap<String, String>,
    /// Values that the segment reads in a form without the runtime's blocked layout.
    flat: HashSet<String>,
    /// The names of values behind the gate.
    names: HashMap<String, String>,
}

impl Gate {
    fn new(e: &mut GraphBuilder, nodes: &[Node], arriving: &[(String, String)]) -> Self {
        let keeps_layout = |n: &Node| {
            matches!(n.op(), "Conv" | "Add" | "Sum" | "Mul" | "Relu" | "Clip" | "MaxPool" | "AveragePool" | "Concat")
        };
        let flat = nodes.iter().filter(|n| !keeps_layout(n)).flat_map(|n| n.inputs().to_vec()).collect();
        Self { zero: zero(e, arriving), shapes: HashMap::new(), flat, names: HashMap::new() }
    }

    fn pass(&mut self, e: &mut GraphBuilder, value: &str) -> Result<(), Reason> {
        if self.names.contains_key(value) {
            return Ok(());
        }
        let element = e.element_of(value).unwrap_or(ElementType::F32);
        e.enter(value, element);
        let target = e.reshape_target(value)?;
        let shape = match self.shapes.get(&target) {
            Some(shape) => shape.clone(),
            None => e.add(&target, &self.zero),
        };
        self.shapes.insert(target, shape.clone());
        let mut passed = e.op("Reshape", &[value, &shape]);
        e.like(&passed, value);
        if !self.flat.contains(value) {
            passed = e.blocked(&passed, value);
            e.like(&passed, value);
        }
        e.stands_for(&passed, value);
        self.names.insert(value.to_owned(), passed);
        Ok(())
    }
}

/// 0 as int64, from each of `gradients` (a value, and its gradient): whether one of its elements exceeds infinity, which
/// even NaN does not.
fn zero(e: &mut GraphBuilder, gradients: &[(String, String)]) -> String {
    let mut sum: Option<String> = None;
    for (value, gradient) in gradients {
        e.enter("recompute", e.element_of(value).unwrap_or(ElementType::F32));
        // A feature map stays in the blocked layout for its maximum, and not for its first element.
        let map = e.rank(value).is_ok_and(|r| r == 4) && e.element() == ElementType::F32;
        let few = if map { e.op("GlobalMaxPool", &[gradient]) } else { gradient.clone() };
        let flat = e.reshape(&few, &[-1]);
        let first = e.slice(&flat, 0, 0, 1);
        let infinity = e.scalar(f64::INFINITY);
        let never = e.op("Greater", &[&first, &infinity]);
        let zero = e.cast(&never, ElementType::I64);
        sum = Some(sum.map_or(zero.clone(), |s| e.add(&s, &zero)));
    }
    sum.unwrap_or_else(|| e.ints(&[0]))
}

fn bytes(seen: &Observed) -> u64 {
    (seen.len() as u64).saturating_mul(seen.element.size().unwrap_or(4) as u64)
}
