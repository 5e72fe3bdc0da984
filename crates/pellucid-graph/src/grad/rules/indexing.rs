//! Operators that pick elements by position: slices, gathers, scatters, the largest.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{Dim, GraphBuilder, LARGEST, axis_of};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("Slice", slice),
    ("TopK", top_k),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// One axis of a Slice, counted from the front, with a positive step.
struct Cut {
    axis: usize,
    start: i64,
    step: i64,
    reversed: bool,
}

fn operands(e: &GraphBuilder, site: &VjpContext<'_>, index: usize, what: &str) -> Result<Option<Vec<i64>>> {
    let Some(value) = site.node.input(index) else { return Ok(None) };
    let values = e.constant_ints(value).map_err(|_| Reason(format!("its {what} depend on the input or the batch")))?;
    Ok(Some(values))
}

fn cuts(e: &GraphBuilder, site: &VjpContext<'_>) -> Result<Vec<Cut>> {
    let x = site.input(0)?;
    let dims = e.dims(x)?;
    let out = e.dims_of(site.output(), dims.len())?;
    let starts = operands(e, site, 1, "starts")?.ok_or("it has no starts")?;
    let axes = operands(e, site, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = operands(e, site, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(format!("it has {} starts, {} axes and {} steps", starts.len(), axes.len(), steps.len()).into());
    }
    let mut cuts: Vec<Cut> = Vec::new();
    for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
        let axis = axis_of(axis, dims.len())?;
        if cuts.iter().any(|cut| cut.axis == axis) {
            return Err(format!("it cuts axis {axis} twice").into());
        }
        if dims[axis] == out[axis] && step == 1 {
            continue;
        }
        match (dims[axis], out[axis]) {
            (Dim::Fixed(n), Dim::Fixed(count)) => {
                let (n, count) = (n as i64, count as i64);
                // A step that leaves the axis takes one element, however long it is.
                let step = step.clamp(-n.max(1), n.max(1));
                let from = if start < 0 { start.saturating_add(n) } else { start };
                let from = if step > 0 { from.clamp(0, n) } else { from.clamp(0, (n - 1).max(0)) };
                let reversed = step < 0;
                let first = if reversed { from + (count - 1) * step } else { from };
                cuts.push(Cut { axis, start: first, step: step.abs(), reversed });
            }
            _ if step == 1 && (0..=LARGEST as i64).contains(&start) => {
                cuts.push(Cut { axis, start, step, reversed: false })
            }
            _ => return Err(format!("it cuts axis {axis}, which depends on the batch, from the end").into()),
        }
    }
    Ok(cuts)
}

/// Zeros around the cotangent, and between its elements where the step is larger than 1.
fn slice(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let cuts = cuts(e, site)?;
    let x = site.input(0)?;
    if e.dims(site.output())?.contains(&Dim::Fixed(0)) {
        return Ok(vec![Some(e.zeros_like(x)?)]);
    }
    let mut dims = e.dims(site.output())?;
    let mut g = site.g()?.to_owned();
    let rank = dims.len();
    let (mut before, mut after) = (vec![Some(0i64); rank], vec![Some(0i64); rank]);
    for cut in &cuts {
        if cut.reversed {
            let (start, end) = (e.ints(&[-1]), e.ints(&[i64::MIN]));
            let (axis, step) = (e.ints(&[cut.axis as i64]), e.ints(&[-1]));
            g = e.op("Slice", &[&g, &start, &end, &axis, &step]);
        }
        before[cut.axis] = Some(cut.start);
        let (Dim::Fixed(n), Dim::Fixed(count)) = (e.dims(x)?[cut.axis], dims[cut.axis]) else {
            after[cut.axis] = None;
            continue;
        };
        let (n, mut count) = (n as i64, count as i64);
        if cut.step > 1 {
            g = spaced(e, &g, &mut dims, cut.axis, cut.step)?;
            count *= cut.step;
        }
        after[cut.axis] = Some(n - cut.start - count);
    }
    Ok(vec![Some(padded(e, &g, &before, &after, x, site.output())?)])
}

/// `g` with `step − 1` zeros behind each element of `axis`.
fn spaced(e: &mut GraphBuilder, g: &str, dims: &mut [Dim], axis: usize, step: i64) -> Result<String> {
    let inner = e.ints(&[axis as i64 + 1]);
    let lifted = e.op("Unsqueeze", &[g, &inner]);
    let mut amounts = vec![0i64; 2 * (dims.len() + 1)];
    amounts[dims.len() + 1 + axis + 1] = step - 1;
    let amounts = e.ints(&amounts);
    let filled = e.op("Pad", &[&lifted, &amounts]);
    if let Dim::Fixed(n) = dims[axis] {
        dims[axis] = Dim::Fixed(n * step as usize);
    }
    let shape = crate::grad::emit::target(dims).ok_or("two of its dimensions depend on the batch")?;
    Ok(e.reshape(&filled, &shape))
}

/// `g` padded with zeros; an amount that is unknown here (`None`, after the axis) follows from the extents of `x` and `y`.
fn padded(
    e: &mut GraphBuilder,
    g: &str,
    before: &[Option<i64>],
    after: &[Option<i64>],
    x: &str,
    y: &str,
) -> Result<String> {
    let known: Option<Vec<i64>> = before.iter().chain(after).copied().collect();
    if let Some(amounts) = known {
        if amounts.iter().all(|&a| a == 0) {
            return Ok(g.to_owned());
        }
        let amounts = e.ints(&amounts);
        return Ok(e.op("Pad", &[g, &amounts]));
    }
    let mut parts: Vec<String> = before.iter().map(|a| e.ints(&[a.unwrap_or(0)])).collect();
    for (axis, amount) in after.iter().enumerate() {
        let part = match amount {
            Some(n) => e.ints(&[*n]),
            None => {
                let (full, own) = (e.extent(x, axis)?, e.extent(y, axis)?);
                let start = e.ints(&[before[axis].unwrap_or(0)]);
                let rest = e.sub(&full, &own);
                e.sub(&rest, &start)
            }
        };
        parts.push(part);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let amounts = e.emit(Node::new("Concat", &parts, &[]).with_int("axis", 0));
    Ok(e.op("Pad", &[g, &amounts]))
}

/// Indices that follow each other, counted from the front: where they start.
fn run_of(indices: &[i64], extent: usize) -> Option<i64> {
    let n = extent as i64;
    let counted: Vec<i64> = indices.iter().map(|&i| if i < 0 { i + n } else { i }).collect();
    let first = *counted.first().filter(|first| (0..n).contains(*first))?;
    counted.iter().enumerate().all(|(k, &i)| i == first + k as i64).then_some(first)
}

fn gather(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, index) = (site.input(0)?, site.input(1)?);
    let dims = e.dims(x)?;
    let axis = axis_of(site.node.int("axis").unwrap_or(0), dims.len())?;
    let index_rank = e.rank(index)?;
    // The gathered axes as one, in the place of the axis.
    let g = if index_rank == 1 {
        site.g()?.to_owned()
    } else if index_rank == 0 {
        let at = e.ints(&[axis as i64]);
        e.op("Unsqueeze", &[site.g()?, &at])
    } else {
        merged(e, site, axis, index_rank)?
    };
    if let (Ok(values), Dim::Fixed(extent)) = (e.constant_ints(index), dims[axis])
        && let Some(start) = run_of(&values, extent)
    {
        let (mut before, mut after) = (vec![Some(0i64); dims.len()], vec![Some(0i64); dims.len()]);
        before[axis] = Some(start);
        after[axis] = Some(extent as i64 - start - values.len() as i64);
        return Ok(vec![Some(padded(e, &g, &before, &after, x, site.output())?)]);
    }
    // Rows of the axis, added where they came from.
    let mut perm: Vec<usize> = (0..dims.len()).collect();
    perm.remove(axis);
    perm.insert(0, axis);
    let rows = e.transpose(&g, &perm);
    let column = e.reshape(index, &[-1, 1]);
    let parts: Vec<String> = perm.iter().map(|&a| e.extent(x, a)).collect::<Result<_>>()?;
    let shape = e.joined(&parts);
    let zeros = e.filled(&shape, 0.0);
    let node = Node::new("ScatterND", &[&zeros, &column, &rows], &[]).with_string("reduction", "add");
    let sums = e.emit(node);
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    Ok(vec![Some(e.transpose(&sums, &back))])
}

/// The cotangent of a Gather with a table of indices, its index axes flattened into one.
fn merged(e: &mut GraphBuilder, site: &VjpContext<'_>, axis: usize, index_rank: usize) -> Result<String> {
    let y = site.output().to_owned();
    let rank = e.rank(&y)?;
    let mut parts = Vec::new();
    for at in (0..axis).chain(axis + index_rank..rank) {
        if at == axis + index_rank {
            parts.push(e.ints(&[-1]));
        }
        parts.push(e.extent(&y, at)?);
    }
    if axis + index_rank == rank {
        parts.push(e.ints(&[-1]));
    }
    let shape = e.joined(&parts);
    Ok(e.op("Reshape", &[site.g()?, &shape]))
}

fn gather_elements(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, index) = (site.input(0)?, site.input(1)?);
    let axis = site.node.int("axis").unwrap_or(0);
    let zeros = e.zeros_like(x)?;
    let node = Node::new("ScatterElements", &[&zeros, index, site.g()?], &[]).with_int("axis", axis);
    Ok(vec![Some(e.emit(node.with_string("reduction", "add")))])
}

/// The cotangent goes to the elements that were taken; one index per sample (as objectives select) by a product.
fn gather_nd(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, index) = (site.input(0)?, site.input(1)?);
    let rows = e.dims(index)?;
    match site.node.int("batch_dims").unwrap_or(0) {
        0 => {
            let zeros = e.zeros_like(x)?;
            let node = Node::new("ScatterND", &[&zeros, index, site.g()?], &[]);
            Ok(vec![Some(e.emit(node.with_string("reduction", "add")))])
        }
        1 if rows.len() == 2 && rows[1] == Dim::Fixed(1) => one_per_sample(e, site, x, index),
        _ => Err("with batch_dims, only one index per sample is supported".into()),
    }
}

fn one_per_sample(e: &mut GraphBuilder, site: &VjpContext<'_>, x: &str, index: &str) -> Result {
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

fn reduction(site: &VjpContext<'_>) -> Result<bool> {
    match site.node.string("reduction").unwrap_or("none") {
        "none" => Ok(false),
        "add" => Ok(true),
        other => Err(format!("the reduction {other} is not supported").into()),
    }
}

fn scatter_elements(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axis = site.node.int("axis").unwrap_or(0);
    scatter(e, site, ["ScatterElements", "GatherElements"], |node| node.with_int("axis", axis))
}

fn scatter_nd(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    scatter(e, site, ["ScatterND", "GatherND"], |node| node)
}

/// What is overwritten takes no part; the updates get what stands in their places.
fn scatter(
    e: &mut GraphBuilder,
    site: &VjpContext<'_>,
    [scatter, gather]: [&str; 2],
    with_attributes: impl Fn(Node) -> Node,
) -> Result {
    let adds = reduction(site)?;
    let (index, updates) = (site.input(1)?, site.input(2)?);
    let g = site.g()?.to_owned();
    let mut gradients = vec![None, None, None];
    if site.wants(0) {
        gradients[0] = Some(if adds {
            g.clone()
        } else {
            let zeros = e.zeros_like(updates)?;
            e.emit(with_attributes(Node::new(scatter, &[&g, index, &zeros], &[])))
        });
    }
    if site.wants(2) {
        gradients[2] = Some(e.emit(with_attributes(Node::new(gather, &[&g, index], &[]))));
    }
    Ok(gradients)
}

fn top_k(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let index = e.extra_output(site.output(), 1)?;
    let zeros = e.zeros_like(site.input(0)?)?;
    let axis = site.node.int("axis").unwrap_or(-1);
    let node = Node::new("ScatterElements", &[&zeros, &index, site.g()?], &[]).with_int("axis", axis);
    Ok(vec![Some(e.emit(node)), None])
}
