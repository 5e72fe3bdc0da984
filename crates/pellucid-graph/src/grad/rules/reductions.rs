//! Sums, means, norms and extremes over axes.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{Dim, GraphBuilder, axis_of, elements};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("ReduceSum", sum),
    ("ReduceMean", mean),
    ("ReduceMax", extreme),
    ("ReduceMin", extreme),
    ("ReduceL1", l1),
    ("ReduceL2", l2),
    ("ReduceSumSquare", sum_square),
    ("ReduceLogSum", log_sum),
    ("ReduceLogSumExp", log_sum_exp),
    ("ReduceProd", product),
    ("CumSum", cumulative_sum),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// The axes a reduction sums over, ascending.
fn axes(e: &GraphBuilder, site: &VjpContext<'_>) -> Result<Vec<usize>> {
    let rank = e.rank(site.input(0)?)?;
    let listed = match site.node.input(1) {
        Some(axes) => e.constant_ints(axes).map_err(|_| Reason("its axes are not constant".to_owned()))?,
        None => Vec::new(),
    };
    let all = listed.is_empty() && site.node.int("noop_with_empty_axes").unwrap_or(0) == 0;
    let mut axes: Vec<usize> =
        if all { (0..rank).collect() } else { listed.iter().map(|&a| axis_of(a, rank)).collect::<Result<_>>()? };
    axes.sort_unstable();
    match axes.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("its axes name axis {} twice", pair[0]).into()),
        None => Ok(axes),
    }
}

/// `v`, which has the reduced shape, with the reduced axes as ones: ready to broadcast against the input.
fn kept(e: &mut GraphBuilder, site: &VjpContext<'_>, v: &str, axes: &[usize]) -> Result<String> {
    if site.node.int("keepdims").unwrap_or(1) != 0 || axes.is_empty() {
        return Ok(v.to_owned());
    }
    let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
    let axes = e.ints(&axes);
    Ok(e.op("Unsqueeze", &[v, &axes]))
}

/// Repeats `v` (reduced, axes kept) over the input's shape. A product with ones broadcasts without asking for a shape.
fn spread(e: &mut GraphBuilder, site: &VjpContext<'_>, v: &str, axes: &[usize], factor: f64) -> Result<String> {
    let x = site.input(0)?;
    let dims = e.dims(x)?;
    let mut shape = vec![1usize; dims.len()];
    for &axis in axes {
        let Dim::Fixed(n) = dims[axis] else {
            let scaled = e.scale(v, factor);
            let target = e.shape(x)?;
            return Ok(e.op("Expand", &[&scaled, &target]));
        };
        shape[axis] = n;
    }
    let filled = e.uniform(&shape, factor)?;
    let spread = e.mul(v, &filled);
    Ok(if axes == [2, 3] { e.blocked(&spread, x) } else { spread })
}

fn sum(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    Ok(vec![Some(spread(e, site, &g, &axes, 1.0)?)])
}

fn mean(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let x = site.input(0)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let dims = e.dims(x)?;
    let fixed: Option<Vec<usize>> =
        axes.iter().map(|&a| if let Dim::Fixed(n) = dims[a] { Some(n) } else { None }).collect();
    if let Some(extents) = fixed {
        let count = elements(&extents)?;
        return Ok(vec![Some(spread(e, site, &g, &axes, 1.0 / count.max(1) as f64)?)]);
    }
    let mut g = g;
    for &axis in &axes {
        let extent = e.extent(x, axis)?;
        let element = e.element();
        let extent = e.cast(&extent, element);
        g = e.div(&g, &extent);
    }
    Ok(vec![Some(spread(e, site, &g, &axes, 1.0)?)])
}

fn l1(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let sign = e.op("Sign", &[site.input(0)?]);
    Ok(vec![Some(e.mul(&g, &sign))])
}

/// x / ‖x‖; 0 where the norm is 0.
fn l2(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let norm = kept(e, site, site.output(), &axes)?;
    let zero = e.scalar(0.0);
    let one = e.scalar(1.0);
    let none = e.op("Equal", &[&norm, &zero]);
    let safe = e.op("Where", &[&none, &one, &norm]);
    let scaled = e.div(&g, &safe);
    Ok(vec![Some(e.mul(&scaled, site.input(0)?))])
}

fn sum_square(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let g = e.scale(&g, 2.0);
    Ok(vec![Some(e.mul(&g, site.input(0)?))])
}

fn log_sum(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let y = kept(e, site, site.output(), &axes)?;
    let total = e.op("Exp", &[&y]);
    let g = e.div(&g, &total);
    Ok(vec![Some(spread(e, site, &g, &axes, 1.0)?)])
}

fn log_sum_exp(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let y = kept(e, site, site.output(), &axes)?;
    let away = e.sub(site.input(0)?, &y);
    let share = e.op("Exp", &[&away]);
    Ok(vec![Some(e.mul(&g, &share))])
}

/// y / x; refused nowhere, but a zero factor gives NaN, as it does in the textbook formula.
fn product(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let g = kept(e, site, site.g()?, &axes)?;
    let y = kept(e, site, site.output(), &axes)?;
    let product = e.mul(&g, &y);
    Ok(vec![Some(e.div(&product, site.input(0)?))])
}

/// The first extreme element along the reduced axes, taken as one, gets the cotangent.
fn extreme(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = axes(e, site)?;
    let x = site.input(0)?;
    let op = if site.node.op() == "ReduceMax" { "ArgMax" } else { "ArgMin" };
    let g = kept(e, site, site.g()?, &axes)?;
    if let [axis] = axes[..] {
        let best = e.emit(Node::new(op, &[x], &[]).with_int("axis", axis as i64).with_int("keepdims", 0));
        let chosen = one_hot(e, &best, x, axis)?;
        return Ok(vec![Some(e.mul(&g, &chosen))]);
    }
    // Several axes: bring them last, where they can be flattened into one.
    let rank = e.rank(x)?;
    let perm: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).chain(axes.iter().copied()).collect();
    let moved = e.transpose(x, &perm);
    let dims = e.dims(x)?;
    let left = rank - axes.len();
    let inner = elements(&(left..rank).map(|i| e.fixed(x, perm[i])).collect::<Result<Vec<_>>>()?)?;
    let flat_dims: Vec<Dim> = perm[..left].iter().map(|&p| dims[p]).chain([Dim::Fixed(inner)]).collect();
    let moved_dims: Vec<Dim> = perm.iter().map(|&p| dims[p]).collect();
    let many = || Reason("several of its kept dimensions depend on the batch".to_owned());
    let to_flat = crate::grad::emit::target(&flat_dims).ok_or_else(many)?;
    let to_moved = crate::grad::emit::target(&moved_dims).ok_or_else(many)?;
    let flat = e.reshape(&moved, &to_flat);
    let best = e.emit(Node::new(op, &[&flat], &[]).with_int("axis", left as i64).with_int("keepdims", 0));
    let chosen = one_hot_of(e, &best, inner, left);
    let chosen = e.reshape(&chosen, &to_moved);
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    let chosen = e.transpose(&chosen, &back);
    Ok(vec![Some(e.mul(&g, &chosen))])
}

/// 1 at `index` along `axis` of `like`, else 0.
pub(super) fn one_hot(e: &mut GraphBuilder, index: &str, like: &str, axis: usize) -> Result<String> {
    let depth = e.extent(like, axis)?;
    Ok(one_hot_at(e, index, &depth, axis))
}

fn one_hot_of(e: &mut GraphBuilder, index: &str, depth: usize, axis: usize) -> String {
    let depth = e.ints(&[depth as i64]);
    one_hot_at(e, index, &depth, axis)
}

fn one_hot_at(e: &mut GraphBuilder, index: &str, depth: &str, axis: usize) -> String {
    let values = e.floats(&[2], &[0.0, 1.0]);
    e.emit(Node::new("OneHot", &[index, depth, &values], &[]).with_int("axis", axis as i64))
}

/// The same sum from the other end.
fn cumulative_sum(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let reverse = site.node.int("reverse").unwrap_or(0);
    let exclusive = site.node.int("exclusive").unwrap_or(0);
    let node = Node::new("CumSum", &[site.g()?, site.input(1)?], &[]);
    Ok(vec![Some(e.emit(node.with_int("reverse", 1 - reverse).with_int("exclusive", exclusive))), None])
}
