//! Normalisations and softmax.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{GraphBuilder, axis_of};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", group),
    ("InstanceNormalization", instance),
    ("LRN", local_response),
    ("LayerNormalization", layer),
    ("LogSoftmax", log_softmax),
    ("LpNormalization", unit_norm),
    ("MeanVarianceNormalization", mean_variance),
    ("RMSNormalization", root_mean_square),
    ("Softmax", softmax),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// In inference a constant factor per channel: again a BatchNormalization, without mean and bias, which keeps the
/// runtime's blocked layout.
fn batch(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    if site.node.int("training_mode").unwrap_or(0) != 0 {
        return Err("it is in training mode, where samples mix; export the model with .eval()".into());
    }
    let (scale, variance) = (site.input(1)?, site.input(4)?);
    let channels = e.fixed(scale, 0)?;
    let zeros = e.uniform(&[channels], 0.0)?;
    let node = Node::new("BatchNormalization", &[site.g()?, scale, &zeros, &zeros, variance], &[]);
    Ok(vec![Some(e.emit(node.with_float("epsilon", site.node.float("epsilon").unwrap_or(1e-5))))])
}

/// With x̂ = (x − μ)·r over `axes` and h the cotangent of x̂: r·(h − mean(h) − x̂·mean(h·x̂)).
fn centred(e: &mut GraphBuilder, h: &str, x_hat: &str, r: &str, axes: &[i64]) -> String {
    let mean = e.reduce("ReduceMean", h, axes, true);
    let along = e.mul(h, x_hat);
    let along = e.reduce("ReduceMean", &along, axes, true);
    let along = e.mul(x_hat, &along);
    let h = e.sub(h, &mean);
    let h = e.sub(&h, &along);
    e.mul(&h, r)
}

/// x̂ and r = 1/√(var + ε) over `axes`.
fn standardised(e: &mut GraphBuilder, x: &str, axes: &[i64], epsilon: f64) -> (String, String) {
    let mean = e.reduce("ReduceMean", x, axes, true);
    let centred = e.sub(x, &mean);
    let square = e.mul(&centred, &centred);
    let variance = e.reduce("ReduceMean", &square, axes, true);
    let variance = e.shift(&variance, epsilon);
    let root = e.op("Sqrt", &[&variance]);
    let r = e.op("Reciprocal", &[&root]);
    (e.mul(&centred, &r), r)
}

fn layer(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, g) = (site.input(0)?, site.g()?.to_owned());
    let rank = e.rank(x)?;
    let axis = axis_of(site.node.int("axis").unwrap_or(-1), rank)?;
    let axes: Vec<i64> = (axis..rank).map(|a| a as i64).collect();
    let epsilon = f64::from(site.node.float("epsilon").unwrap_or(1e-5));
    let (x_hat, r) = standardised(e, x, &axes, epsilon);
    let h = e.mul(&g, site.input(1)?);
    Ok(vec![Some(centred(e, &h, &x_hat, &r, &axes))])
}

fn instance(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, scale, g) = (site.input(0)?, site.input(1)?, site.g()?.to_owned());
    let rank = e.dims_of(x, 3)?.len();
    let axes: Vec<i64> = (2..rank as i64).collect();
    let epsilon = f64::from(site.node.float("epsilon").unwrap_or(1e-5));
    let (x_hat, r) = standardised(e, x, &axes, epsilon);
    let mut column = vec![1i64; rank - 1];
    column[0] = -1;
    let scale = e.reshape(scale, &column);
    let h = e.mul(&g, &scale);
    Ok(vec![Some(centred(e, &h, &x_hat, &r, &axes))])
}

/// y ⊙ (g − Σ g ⊙ y).
fn softmax(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axis = site.node.int("axis").unwrap_or(-1);
    let (g, y) = (site.g()?, site.output());
    let product = e.mul(g, y);
    let sum = e.reduce("ReduceSum", &product, &[axis], true);
    let shifted = e.mul(y, &sum);
    Ok(vec![Some(e.sub(&product, &shifted))])
}

/// g − exp(y) Σ g.
fn log_softmax(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axis = site.node.int("axis").unwrap_or(-1);
    let (g, y) = (site.g()?, site.output());
    let sum = e.reduce("ReduceSum", g, &[axis], true);
    let share = e.op("Exp", &[y]);
    let share = e.mul(&share, &sum);
    Ok(vec![Some(e.sub(g, &share))])
}

/// Groups of channels, standardised together. The scale is per channel since opset 21 and per group before.
fn group(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, scale) = (site.input(0)?.to_owned(), site.input(1)?.to_owned());
    let groups = site.count("num_groups", None)?;
    let (channels, factors, rank) = (e.fixed(&x, 1)?, e.fixed(&scale, 0)?, e.rank(&x)?);
    let epsilon = f64::from(site.node.float("epsilon").unwrap_or(1e-5));
    let shape = [0, groups, -1];
    let grouped = e.reshape(&x, &shape);
    let (x_hat, r) = standardised(e, &grouped, &[2], epsilon);
    let h = if factors == channels {
        let mut column = vec![1i64; rank - 1];
        column[0] = -1;
        let scale = e.reshape(&scale, &column);
        let h = e.mul(site.g()?, &scale);
        e.reshape(&h, &shape)
    } else {
        let h = e.reshape(site.g()?, &shape);
        let scale = e.reshape(&scale, &[-1, 1]);
        e.mul(&h, &scale)
    };
    let back = centred(e, &h, &x_hat, &r, &[2]);
    Ok(vec![Some(e.reshape_like(&back, &x)?)])
}

/// With x̂ = x·r, r = 1/√(mean(x²) + ε): r·(h − x̂·mean(h·x̂)).
fn root_mean_square(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, g) = (site.input(0)?.to_owned(), site.g()?.to_owned());
    let rank = e.rank(&x)?;
    let axis = axis_of(site.node.int("axis").unwrap_or(-1), rank)?;
    let axes: Vec<i64> = (axis..rank).map(|a| a as i64).collect();
    let square = e.mul(&x, &x);
    let power = e.reduce("ReduceMean", &square, &axes, true);
    let power = e.shift(&power, f64::from(site.node.float("epsilon").unwrap_or(1e-5)));
    let root = e.op("Sqrt", &[&power]);
    let r = e.op("Reciprocal", &[&root]);
    let x_hat = e.mul(&x, &r);
    let h = e.mul(&g, site.input(1)?);
    let along = e.mul(&h, &x_hat);
    let along = e.reduce("ReduceMean", &along, &axes, true);
    let along = e.mul(&x_hat, &along);
    let rest = e.sub(&h, &along);
    Ok(vec![Some(e.mul(&rest, &r))])
}

/// y = x/‖x‖ₚ: (g − ∂‖x‖/∂x · Σ g·y) / ‖x‖.
fn unit_norm(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let (x, y, g) = (site.input(0)?.to_owned(), site.output().to_owned(), site.g()?.to_owned());
    let axis = site.node.int("axis").unwrap_or(-1);
    let euclidean = site.node.int("p").unwrap_or(2) == 2;
    let norm = e.reduce(if euclidean { "ReduceL2" } else { "ReduceL1" }, &x, &[axis], true);
    let along = e.mul(&g, &y);
    let along = e.reduce("ReduceSum", &along, &[axis], true);
    let slope = if euclidean { y } else { e.op("Sign", &[&x]) };
    let along = e.mul(&slope, &along);
    let rest = e.sub(&g, &along);
    Ok(vec![Some(e.div(&rest, &norm))])
}

fn mean_variance(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let axes = site.node.ints("axes").map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    let x = site.input(0)?.to_owned();
    // The operator adds 1e-9 to the deviation, which is below what float32 tells apart.
    let (x_hat, r) = standardised(e, &x, &axes, 0.0);
    Ok(vec![Some(centred(e, site.g()?, &x_hat, &r, &axes))])
}

/// y = x·P^−β with P = k + α·mean of x² over a window of channels: g·P^−β − 2αβ·x·window(g·x·P^(−β−1)).
fn local_response(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let x = site.input(0)?.to_owned();
    let size = site.count("size", None)?;
    let read = |name: &str, default: f32| f64::from(site.node.float(name).unwrap_or(default));
    let (alpha, beta, bias) = (read("alpha", 1e-4), read("beta", 0.75), read("bias", 1.0));
    let channels = e.fixed(&x, 1)? as i64;
    let (low, high) = ((size - 1) / 2, size / 2);
    let window = |e: &mut GraphBuilder, v: &str, before: i64, after: i64| -> Result<String> {
        let flat = e.reshape(v, &[0, 1, channels, -1]);
        let node = Node::new("AveragePool", &[&flat], &[]).with_ints("kernel_shape", &[size, 1]);
        let mean = e.emit(node.with_ints("pads", &[before, 0, after, 0]).with_int("count_include_pad", 1));
        e.reshape_like(&mean, &x)
    };
    let square = e.mul(&x, &x);
    let mean = window(e, &square, low, high)?;
    let mean = e.scale(&mean, alpha);
    let p = e.shift(&mean, bias);
    let power = e.scalar(-beta);
    let damped = e.op("Pow", &[&p, &power]);
    let direct = e.mul(site.g()?, &damped);
    let along = e.mul(&direct, &x);
    let along = e.div(&along, &p);
    let spread = window(e, &along, high, low)?;
    let spread = e.mul(&spread, &x);
    let spread = e.scale(&spread, 2.0 * alpha * beta);
    Ok(vec![Some(e.sub(&direct, &spread))])
}
