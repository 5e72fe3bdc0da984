//! Operators that move, repeat or drop elements without changing them.

use super::{Gradients, Reason, Site, Table};
use crate::grad::emit::{Dim, Emitter, axis_of};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("Concat", concat),
    ("Expand", expand),
    ("Flatten", reshape),
    ("GatherND", gather_nd),
    ("Reshape", reshape),
    ("Split", split),
    ("Squeeze", reshape),
    ("Transpose", transpose),
    ("Unsqueeze", reshape),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

fn reshape(e: &mut Emitter, site: &Site<'_>) -> Result {
    Ok(vec![Some(e.reshape_like(site.g()?, site.input(0)?)?)])
}

fn transpose(e: &mut Emitter, site: &Site<'_>) -> Result {
    let rank = e.rank(site.input(0)?)?;
    let perm: Vec<usize> = match site.node.ints("perm") {
        Some(perm) => perm.iter().map(|&p| axis_of(p, rank)).collect::<Result<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    Ok(vec![Some(e.transpose(site.g()?, &back))])
}

fn expand(e: &mut Emitter, site: &Site<'_>) -> Result {
    Ok(vec![Some(e.unbroadcast(site.g()?, site.output(), site.input(0)?)?)])
}

/// Each input gets its part of the cotangent.
fn concat(e: &mut Emitter, site: &Site<'_>) -> Result {
    let rank = e.rank(site.output())?;
    let axis = axis_of(site.node.int("axis").unwrap_or(0), rank)?;
    let g = site.g()?.to_owned();
    let extents: Vec<Dim> = site.node.inputs().iter().map(|i| Ok(e.dims(i)?[axis])).collect::<Result<_>>()?;
    let fixed: Option<Vec<usize>> =
        extents.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect();
    let Some(fixed) = fixed else {
        let sizes: Vec<String> = site.node.inputs().iter().map(|i| e.extent(i, axis)).collect::<Result<_>>()?;
        let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
        let sizes = e.emit(Node::new("Concat", &sizes, &[]).with_int("axis", 0));
        let node = Node::new("Split", &[&g, &sizes], &[]).with_int("axis", axis as i64);
        return Ok(e.emit_many(node, site.node.inputs().len()).into_iter().map(Some).collect());
    };
    let mut start = 0;
    let mut gradients = Vec::new();
    for (i, n) in fixed.into_iter().enumerate() {
        gradients.push(site.wants(i).then(|| e.slice(&g, axis, start as i64, (start + n) as i64)));
        start += n;
    }
    Ok(gradients)
}

/// The parts' cotangents in a row, zeros for a part that the objective does not depend on.
fn split(e: &mut Emitter, site: &Site<'_>) -> Result {
    let rank = e.rank(site.input(0)?)?;
    let axis = axis_of(site.node.int("axis").unwrap_or(0), rank)?;
    let mut parts = Vec::new();
    for (output, g) in site.node.outputs().iter().zip(site.cotangents) {
        parts.push(match g {
            Some(g) => g.clone(),
            None => e.zeros_like(output)?,
        });
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(vec![Some(e.emit(Node::new("Concat", &parts, &[]).with_int("axis", axis as i64)))])
}

/// One index per sample (`batch_dims` 1, indices N × 1): the cotangent goes to the element that was taken.
fn gather_nd(e: &mut Emitter, site: &Site<'_>) -> Result {
    site.only_first(1)?;
    let (x, index) = (site.input(0)?, site.input(1)?);
    let rows = e.dims(index)?;
    if site.node.int("batch_dims").unwrap_or(0) != 1 || rows.len() != 2 || rows[1] != Dim::Fixed(1) {
        return Err("only one index per sample is supported".into());
    }
    let rank = e.rank(x)?;
    let row = e.reshape(index, &[-1]);
    let depth = e.extent(x, 1)?;
    let values = e.floats(&[2], &[0.0, 1.0]);
    let chosen = e.emit(Node::new("OneHot", &[&row, &depth, &values], &[]).with_int("axis", 1));
    let axes: Vec<i64> = (2..rank as i64).collect();
    let chosen = if axes.is_empty() {
        chosen
    } else {
        let axes = e.ints(&axes);
        e.op("Unsqueeze", &[&chosen, &axes])
    };
    let one = e.ints(&[1]);
    let g = e.op("Unsqueeze", &[site.g()?, &one]);
    Ok(vec![Some(e.mul(&g, &chosen))])
}
