//! Finds where an affine tail begins: whatever stands between the last layers with weights and the logits (a temperature, a
//! mean of heads, a prior, batch normalisation, a permutation, a pooling of per-place scores) is affine in what those layers
//! read. Which affine map it is, running says (`pellucid-runtime`).

use super::{Finder, Head};
use crate::graph::Node;
use crate::observed::elements;
use std::collections::BTreeMap;

/// A value that the tail reads: what goes into a last layer with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailSource {
    /// The value.
    pub value: String,
    /// Its shape at batch 1.
    pub shape: Vec<usize>,
    /// The axis of its channels; the others, but for the batch, are places.
    pub channel_axis: usize,
}

impl TailSource {
    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.shape.get(self.channel_axis).copied().unwrap_or(0)
    }

    /// Number of places, 1 for a vector.
    pub fn places(&self) -> usize {
        elements(self.shape.get(1..).unwrap_or_default()) / self.channels().max(1)
    }
}

/// Logits and what an affine tail in front of them reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffineTail {
    /// The logits, N × C up to axes of length 1.
    pub logits: String,
    /// The node that gives them, as errors name it.
    pub node: String,
    /// What follows the logits.
    pub head: Head,
    /// What the tail reads, in the order of the graph.
    pub sources: Vec<TailSource>,
}

/// Operators that are affine in their first input where the others are constants.
const AFFINE: &[&str] = &[
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Div",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "Identity",
    "Neg",
    "Pad",
    "ReduceMean",
    "ReduceSum",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators that are affine in all their inputs together.
const SUMS: &[&str] = &["Add", "Sub", "Sum", "Mean", "Concat"];

impl<'a> Finder<'a> {
    /// The affine tail in front of `output`, or the node at which it is not affine.
    pub(super) fn affine_tail(&self, output: &'a str) -> Result<AffineTail, String> {
        let (logits, head) = self.step_over_activations(output);
        let node = self.producer(logits).ok_or_else(|| format!("'{logits}' is not computed by a node"))?;
        let mut sources: BTreeMap<(usize, &str), TailSource> = BTreeMap::new();
        let mut open = vec![logits];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(value) = open.pop().filter(|_| seen.len() < 10_000) {
            if !self.is_data(value) || !seen.insert(value) {
                continue;
            }
            let not_affine = || format!("'{value}' is an input of the model");
            let at = *self.producers.get(value).ok_or_else(not_affine)?;
            let node = &self.graph.nodes[at];
            match self.reads_affinely(node)? {
                Affine::Layer(input, channel_axis) => {
                    let shape = self.observed.get(input).map(|o| o.shape.clone()).unwrap_or_default();
                    let axis = if channel_axis < 0 { shape.len().saturating_sub(1) } else { channel_axis as usize };
                    if shape.len() < 2 || shape[0] != 1 || axis == 0 || axis >= shape.len() {
                        return Err(format!("'{input}', which {} reads, has no row a picture", node.describe()));
                    }
                    let made = self.producers.get(input).map_or(0, |i| i + 1);
                    let source = TailSource { value: input.to_owned(), shape, channel_axis: axis };
                    if sources.insert((made, input), source.clone()).is_some_and(|other| other != source) {
                        return Err(format!("'{input}' is read along two axes"));
                    }
                }
                Affine::Of(inputs) => open.extend(inputs),
            }
        }
        let sources: Vec<TailSource> = sources.into_values().collect();
        if sources.is_empty() {
            return Err("no layer with weights stands in front of the logits".to_owned());
        }
        Ok(AffineTail { logits: logits.to_owned(), node: node.describe(), head, sources })
    }

    fn reads_affinely(&self, node: &'a Node) -> Result<Affine<'a>, String> {
        let refuse = || Err(format!("{} is not affine", node.describe()));
        if !node.domain().is_empty() || node.has_subgraphs() {
            return refuse();
        }
        let data: Vec<&'a str> = node.inputs().iter().map(String::as_str).filter(|i| self.is_data(i)).collect();
        let only = |at: usize| data.as_slice() == [node.input(at).unwrap_or_default()];
        match node.op() {
            "Gemm" if node.int("transA").unwrap_or(0) == 0 && only(0) => Ok(Affine::Layer(data[0], -1)),
            "MatMul" if only(0) => Ok(Affine::Layer(data[0], -1)),
            "Conv" if only(0) => Ok(Affine::Layer(data[0], 1)),
            // The letters of the picture's operand that are summed away are its channels.
            "Einsum" if data.len() == 1 => {
                let Some(axis) = summed_axis(node, data[0]) else { return refuse() };
                Ok(Affine::Layer(data[0], axis as i64))
            }
            "Mul" if data.len() == 1 => Ok(Affine::Of(data)),
            "BatchNormalization" if node.int("training_mode").unwrap_or(0) != 0 => refuse(),
            op if AFFINE.contains(&op) && only(0) => Ok(Affine::Of(data)),
            op if SUMS.contains(&op) && !data.is_empty() => Ok(Affine::Of(data)),
            _ => refuse(),
        }
    }
}

enum Affine<'a> {
    /// A layer with weights: what it reads, and the axis of the channels (−1 for the last).
    Layer(&'a str, i64),
    /// Affine in these.
    Of(Vec<&'a str>),
}

/// The axis of `input` whose letter an Einsum sums away, if that is one.
fn summed_axis(node: &Node, input: &str) -> Option<usize> {
    let equation: String = node.string("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = equation.split_once("->")?;
    let at = node.inputs().iter().position(|i| i == input)?;
    let letters: Vec<char> = left.split(',').nth(at)?.chars().collect();
    let mut summed = (0..letters.len()).filter(|&i| !right.contains(letters[i]));
    summed.next().filter(|_| summed.next().is_none() && !equation.contains('.'))
}
