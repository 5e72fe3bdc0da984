//! Quantisation: rounding has derivative 0 almost everywhere, so a gradient goes straight through it (Bengio et al. 2013): as if
//! the values had not been rounded, and 0 where they were clipped. Integers between are taken in the units of the floats that
//! they stand for.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::GraphBuilder;
use crate::graph::{Graph, Node};
use std::collections::HashSet;

pub(super) const RULES: Table = &[("QuantizeLinear", quantize), ("DequantizeLinear", dequantize)];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// Operators that only move integers about.
const MOVING: &[&str] = &["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"];

/// The integers of `graph` that a gradient goes straight through.
pub(crate) fn straight_through(graph: &Graph) -> HashSet<String> {
    let mut straight = HashSet::new();
    for node in &graph.nodes {
        let moves = MOVING.contains(&node.op()) && node.input(0).is_some_and(|i| straight.contains(i));
        if node.domain().is_empty() && (node.op() == "QuantizeLinear" || moves) {
            straight.extend(node.outputs().iter().cloned());
        }
    }
    straight
}

fn quantize(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let g = site.g()?.to_owned();
    let (x, scale) = (site.input(0)?, site.input(1)?);
    let is_scalar = e.initializer(scale).is_some_and(|t| t.len() == 1);
    if !is_scalar {
        return Ok(vec![Some(g)]);
    }
    let mut back = Node::new("DequantizeLinear", &[site.output(), scale], &[]);
    back.proto.input.extend(site.node.input(2).map(str::to_owned));
    let rounded = e.emit(back);
    let apart = e.sub(x, &rounded);
    let apart = e.op("Abs", &[&apart]);
    // What was rounded moved by half a step at most; what moved further was clipped.
    let half = e.scale(scale, 0.5 * (1.0 + 1e-4));
    let within = e.op("LessOrEqual", &[&apart, &half]);
    let element = e.element();
    let within = e.cast(&within, element);
    Ok(vec![Some(e.mul(&g, &within))])
}

fn dequantize(_: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    Ok(vec![Some(site.g()?.to_owned())])
}
