//! Operators that move, repeat or drop elements without changing them.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{Dim, GraphBuilder, axis_of};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("Concat", concat),
    ("Expand", expand),
    ("Flatten", reshape),
    ("Reshape", reshape),
    ("Split", split),
    ("Squeeze", reshape),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Trilu", triangle),
    ("Unsqueeze", reshape),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

fn reshape(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    Ok(vec![Some(e.reshape_like(site.g()?, site.input(0)?)?)])
}

fn transpose(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let rank = e.rank(site.input(0)?)?;
    let perm: Vec<usize> = match site.node.ints("perm") {
        Some(perm) => perm.iter().map(|&p| axis_of(p, rank)).collect::<Result<_>>()?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank || !(0..rank).all(|axis| perm.contains(&axis)) {
        return Err(format!("its perm is no order of {rank} axes").into());
    }
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    Ok(vec![Some(e.transpose(site.g()?, &back))])
}

fn expand(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    Ok(vec![Some(e.unbroadcast(site.g()?, site.output(), site.input(0)?)?)])
}

/// Each input gets its part of the cotangent.
fn concat(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let rank = e.rank(site.output())?;
    let axis = axis_of(site.node.int("axis").unwrap_or(0), rank)?;
    let g = site.g()?.to_owned();
    let extents: Vec<Dim> = site.node.inputs().iter().map(|i| Ok(e.dims_of(i, rank)?[axis])).collect::<Result<_>>()?;
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
fn split(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
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

/// Each repetition's cotangent is added: the repeated axes are split into repetitions and elements, and the former summed.
fn tile(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let repeats = e.constant_ints(site.input(1)?).map_err(|_| Reason("its repeats are not constant".to_owned()))?;
    let x = site.input(0)?.to_owned();
    let rank = e.rank(&x)?;
    if repeats.len() != rank {
        return Err(format!("it has {} repeats for {rank} axes", repeats.len()).into());
    }
    let (mut parts, mut axes) = (Vec::new(), Vec::new());
    for (axis, &count) in repeats.iter().enumerate() {
        if count != 1 {
            axes.push(parts.len() as i64);
            parts.push(e.ints(&[count]));
        }
        parts.push(e.extent(&x, axis)?);
    }
    let shape = e.joined(&parts);
    let split = e.op("Reshape", &[site.g()?, &shape]);
    Ok(vec![Some(e.reduce("ReduceSum", &split, &axes, false))])
}

/// The same triangle of the cotangent.
fn triangle(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let k = site.node.input(1).unwrap_or_default().to_owned();
    let node = Node::new("Trilu", &[site.g()?, &k], &[]);
    Ok(vec![Some(e.emit(node.with_int("upper", site.node.int("upper").unwrap_or(1))))])
}
