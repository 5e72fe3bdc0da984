//! Normalisations and softmax.

use super::{Gradients, Reason, Site, Table};
use crate::grad::emit::{Emitter, axis_of};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("BatchNormalization", batch),
    ("InstanceNormalization", instance),
    ("LayerNormalization", layer),
    ("LogSoftmax", log_softmax),
    ("Softmax", softmax),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// In inference a constant factor per channel: again a BatchNormalization, without mean and bias, which keeps the
/// runtime's blocked layout.
fn batch(e: &mut Emitter, site: &Site<'_>) -> Result {
    site.only_first(1)?;
    if site.node.int("training_mode").unwrap_or(0) != 0 {
        return Err("it is in training mode, where samples mix; export the model with .eval()".into());
    }
    let (scale, variance) = (site.input(1)?, site.input(4)?);
    let channels = e.fixed(scale, 0)?;
    let zeros = e.floats(&[channels], &vec![0.0; channels]);
    let node = Node::new("BatchNormalization", &[site.g()?, scale, &zeros, &zeros, variance], &[]);
    Ok(vec![Some(e.emit(node.with_float("epsilon", site.node.float("epsilon").unwrap_or(1e-5))))])
}

/// With x̂ = (x − μ)·r over `axes` and h the cotangent of x̂: r·(h − mean(h) − x̂·mean(h·x̂)).
fn centred(e: &mut Emitter, h: &str, x_hat: &str, r: &str, axes: &[i64]) -> String {
    let mean = e.reduce("ReduceMean", h, axes, true);
    let along = e.mul(h, x_hat);
    let along = e.reduce("ReduceMean", &along, axes, true);
    let along = e.mul(x_hat, &along);
    let h = e.sub(h, &mean);
    let h = e.sub(&h, &along);
    e.mul(&h, r)
}

/// x̂ and r = 1/√(var + ε) over `axes`.
fn standardised(e: &mut Emitter, x: &str, axes: &[i64], epsilon: f64) -> (String, String) {
    let mean = e.reduce("ReduceMean", x, axes, true);
    let centred = e.sub(x, &mean);
    let square = e.mul(&centred, &centred);
    let variance = e.reduce("ReduceMean", &square, axes, true);
    let variance = e.shift(&variance, epsilon);
    let root = e.op("Sqrt", &[&variance]);
    let r = e.op("Reciprocal", &[&root]);
    (e.mul(&centred, &r), r)
}

fn layer(e: &mut Emitter, site: &Site<'_>) -> Result {
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

fn instance(e: &mut Emitter, site: &Site<'_>) -> Result {
    site.only_first(1)?;
    let (x, scale, g) = (site.input(0)?, site.input(1)?, site.g()?.to_owned());
    let rank = e.rank(x)?;
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
fn softmax(e: &mut Emitter, site: &Site<'_>) -> Result {
    let axis = site.node.int("axis").unwrap_or(-1);
    let (g, y) = (site.g()?, site.output());
    let product = e.mul(g, y);
    let sum = e.reduce("ReduceSum", &product, &[axis], true);
    let shifted = e.mul(y, &sum);
    Ok(vec![Some(e.sub(&product, &shifted))])
}

/// g − exp(y) Σ g.
fn log_softmax(e: &mut Emitter, site: &Site<'_>) -> Result {
    let axis = site.node.int("axis").unwrap_or(-1);
    let (g, y) = (site.g()?, site.output());
    let sum = e.reduce("ReduceSum", g, &[axis], true);
    let share = e.op("Exp", &[y]);
    let share = e.mul(&share, &sum);
    Ok(vec![Some(e.sub(g, &share))])
}
