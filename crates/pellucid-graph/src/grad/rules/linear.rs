//! Matrix products.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::GraphBuilder;
use crate::graph::Node;

pub(super) const RULES: Table = &[("MatMul", matmul), ("Gemm", gemm)];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// Y = A B with broadcasting over leading axes: dA = G Bᵀ, dB = Aᵀ G. A vector operand counts as a row or a column.
fn matmul(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let (a, b, y) = (site.input(0)?, site.input(1)?, site.output());
    let (rank_a, rank_b) = (e.dims_of(a, 1)?.len(), e.dims_of(b, 1)?.len());
    let g = site.g()?.to_owned();
    if rank_a == 1 || rank_b == 1 {
        return vector_product(e, site, &g, rank_a, rank_b);
    }
    let mut gradients = vec![None, None];
    if site.wants(0) {
        let b_t = swap_last(e, b)?;
        let full = e.op("MatMul", &[&g, &b_t]);
        gradients[0] = Some(e.sum_repeated(&full, y, a, 2)?);
    }
    if site.wants(1) {
        let a_t = swap_last(e, a)?;
        let full = e.op("MatMul", &[&a_t, &g]);
        gradients[1] = Some(e.sum_repeated(&full, y, b, 2)?);
    }
    Ok(gradients)
}

/// `a` with its last two axes swapped, once per value.
fn swap_last(e: &mut GraphBuilder, a: &str) -> Result<String> {
    let rank = e.dims_of(a, 2)?.len();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    e.once(format!("transposed {a}"), |e| Ok(e.transpose(a, &perm)))
}

fn vector_product(e: &mut GraphBuilder, site: &VjpContext<'_>, g: &str, rank_a: usize, rank_b: usize) -> Result {
    let (a, b) = (site.input(0)?, site.input(1)?);
    let mut gradients = vec![None, None];
    let unsqueeze = |e: &mut GraphBuilder, v: &str, axis: i64| {
        let axis = e.ints(&[axis]);
        e.op("Unsqueeze", &[v, &axis])
    };
    // The cotangent as a matrix: a column if B is a vector, a row if A is.
    let (row, column) = (rank_a == 1, rank_b == 1);
    let g = if column { unsqueeze(e, g, -1) } else { g.to_owned() };
    let g = if row { unsqueeze(e, &g, -2) } else { g };
    if site.wants(0) {
        let b_t = if column { unsqueeze(e, b, 0) } else { swap_last(e, b)? };
        let full = e.op("MatMul", &[&g, &b_t]);
        let axes: Vec<i64> = if row { (0..rank_b.max(2) as i64 - 1).collect() } else { Vec::new() };
        gradients[0] = Some(e.reduce("ReduceSum", &full, &axes, false));
    }
    if site.wants(1) {
        let a_t = if row { unsqueeze(e, a, 1) } else { swap_last(e, a)? };
        let full = e.op("MatMul", &[&a_t, &g]);
        let mut axes: Vec<i64> = if column { (0..rank_a.max(2) as i64 - 2).collect() } else { Vec::new() };
        if column {
            axes.push(rank_a.max(2) as i64 - 1);
        }
        gradients[1] = Some(e.reduce("ReduceSum", &full, &axes, false));
    }
    Ok(gradients)
}

/// Y = α A′ B′ + β C.
fn gemm(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let alpha = site.node.float("alpha").unwrap_or(1.0);
    let beta = f64::from(site.node.float("beta").unwrap_or(1.0));
    let flag = |name: &str| site.node.int(name).unwrap_or(0) != 0;
    let (trans_a, trans_b) = (flag("transA"), flag("transB"));
    let (a, b, g) = (site.input(0)?, site.input(1)?, site.g()?.to_owned());
    let product = |e: &mut GraphBuilder, x: &str, y: &str, tx: bool, ty: bool| {
        let node = Node::new("Gemm", &[x, y], &[]).with_float("alpha", alpha);
        e.emit(node.with_int("transA", i64::from(tx)).with_int("transB", i64::from(ty)))
    };
    let mut gradients = vec![None; site.node.inputs().len()];
    if site.wants(0) {
        gradients[0] = Some(match trans_a {
            false => product(e, &g, b, false, !trans_b),
            true => product(e, b, &g, trans_b, true),
        });
    }
    if site.wants(1) {
        gradients[1] = Some(match trans_b {
            false => product(e, a, &g, !trans_a, false),
            true => product(e, &g, a, true, trans_a),
        });
    }
    if site.wants(2) {
        let scaled = e.scale(&g, beta);
        gradients[2] = Some(e.unbroadcast(&scaled, site.output(), site.input(2)?)?);
    }
    Ok(gradients)
}
