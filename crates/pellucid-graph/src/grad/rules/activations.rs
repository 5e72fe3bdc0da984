//! Operators of one operand that act on each element, and their derivatives.

use super::{Gradients, Reason, Table, VjpContext, flat};
use crate::grad::emit::GraphBuilder;
use crate::tensor::ElementType;

pub(super) const RULES: Table = &[
    ("Abs", abs),
    ("Acos", acos),
    ("Acosh", acosh),
    ("Asin", asin),
    ("Asinh", asinh),
    ("Atan", atan),
    ("Atanh", atanh),
    ("Cast", cast),
    ("CastLike", cast),
    ("Ceil", flat),
    ("Celu", celu),
    ("Clip", clip),
    ("Cos", cos),
    ("Cosh", cosh),
    ("Dropout", pass),
    ("Elu", elu),
    ("Erf", erf),
    ("Exp", exp),
    ("Floor", flat),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
    ("Identity", pass),
    ("LeakyRelu", leaky_relu),
    ("Log", log),
    ("Mish", mish),
    ("Neg", negate),
    ("Reciprocal", reciprocal),
    ("Relu", relu),
    ("Round", flat),
    ("Selu", selu),
    ("Shrink", shrink),
    ("Sigmoid", sigmoid),
    ("Sign", flat),
    ("Sin", sin),
    ("Sinh", sinh),
    ("Softplus", softplus),
    ("Softsign", softsign),
    ("Sqrt", sqrt),
    ("Swish", swish),
    ("Tan", tan),
    ("Tanh", tanh),
    ("ThresholdedRelu", thresholded_relu),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// The rule of y = f(x) whose derivative `derivative` computes: g · f′.
fn times(
    e: &mut GraphBuilder,
    site: &VjpContext<'_>,
    derivative: impl FnOnce(&mut GraphBuilder, &str, &str) -> String,
) -> Result {
    site.only_first(1)?;
    let (g, x, y) = (site.g()?, site.input(0)?, site.output());
    let d = derivative(e, x, y);
    Ok(vec![Some(e.mul(g, &d))])
}

fn pass(_: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    Ok(vec![Some(site.g()?.to_owned())])
}

fn cast(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let from = e.element_of(site.input(0)?).unwrap_or(ElementType::F32);
    let to = e.element_of(site.output()).unwrap_or(ElementType::F32);
    let g = site.g()?;
    Ok(vec![Some(if from == to { g.to_owned() } else { e.cast(g, from) })])
}

fn negate(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    Ok(vec![Some(e.neg(site.g()?))])
}

fn relu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, _, y| e.positive(y))
}

fn leaky_relu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let slope = f64::from(site.node.float("alpha").unwrap_or(0.01));
    times(e, site, |e, x, _| {
        let on = e.positive(x);
        let on = e.scale(&on, 1.0 - slope);
        e.shift(&on, slope)
    })
}

fn thresholded_relu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let threshold = f64::from(site.node.float("alpha").unwrap_or(1.0));
    times(e, site, |e, x, _| e.steep(x, 1.0, -threshold))
}

/// x moved towards 0 outside ±λ, and 0 inside.
fn shrink(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let bound = f64::from(site.node.float("lambd").unwrap_or(0.5));
    times(e, site, |e, x, _| {
        let (above, below) = (e.steep(x, 1.0, -bound), e.steep(x, -1.0, -bound));
        e.add(&above, &below)
    })
}

/// Both bounds are optional inputs; at them the derivative is 0.
fn clip(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let y = site.output().to_owned();
    let mut g = site.g()?.to_owned();
    for (input, sign) in [(1, 1.0), (2, -1.0)] {
        let Some(bound) = site.node.input(input) else { continue };
        let inside = match e.constant_floats(bound).ok().and_then(|v| v.first().copied()) {
            Some(b) if !b.is_finite() || b.abs() >= f32::MAX => continue,
            Some(b) => e.steep(&y, sign, -sign * f64::from(b)),
            None => {
                let room = if sign > 0.0 { e.sub(&y, bound) } else { e.sub(bound, &y) };
                e.positive(&room)
            }
        };
        g = e.mul(&g, &inside);
    }
    Ok(vec![Some(g)])
}

/// α(exp(x/β) − 1) below 0 and x above, times γ.
fn exponential(e: &mut GraphBuilder, site: &VjpContext<'_>, alpha: f64, beta: f64, gamma: f64) -> Result {
    times(e, site, |e, x, _| {
        let zero = e.scalar(0.0);
        let below = e.op("Min", &[x, &zero]);
        let scaled = e.scale(&below, 1.0 / beta);
        let grown = e.op("Exp", &[&scaled]);
        let left = e.scale(&grown, gamma * alpha / beta);
        let right = e.scalar(gamma);
        let test = e.op("Greater", &[x, &zero]);
        e.op("Where", &[&test, &right, &left])
    })
}

fn elu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    exponential(e, site, f64::from(site.node.float("alpha").unwrap_or(1.0)), 1.0, 1.0)
}

fn celu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let alpha = f64::from(site.node.float("alpha").unwrap_or(1.0));
    exponential(e, site, alpha, alpha, 1.0)
}

fn selu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let alpha = f64::from(site.node.float("alpha").unwrap_or(1.673_263_2));
    let gamma = f64::from(site.node.float("gamma").unwrap_or(1.050_701));
    exponential(e, site, alpha, 1.0, gamma)
}

fn sigmoid(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, _, y| sigmoid_slope(e, y))
}

/// s(1 − s) from s.
fn sigmoid_slope(e: &mut GraphBuilder, s: &str) -> String {
    let square = e.mul(s, s);
    e.sub(s, &square)
}

/// x·σ(αx): σ + αx·σ(1 − σ).
fn swish(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let alpha = f64::from(site.node.float("alpha").unwrap_or(1.0));
    times(e, site, |e, x, y| {
        let scaled = e.scale(x, alpha);
        let s = e.op("Sigmoid", &[&scaled]);
        let rest = e.mul(y, &s);
        let rest = e.sub(y, &rest);
        let rest = e.scale(&rest, alpha);
        e.add(&s, &rest)
    })
}

fn hard_sigmoid(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let alpha = f64::from(site.node.float("alpha").unwrap_or(0.2));
    times(e, site, |e, _, y| {
        let (above, below) = (e.positive(y), e.steep(y, -1.0, 1.0));
        let inside = e.mul(&above, &below);
        e.scale(&inside, alpha)
    })
}

/// x·clamp(x/6 + 1/2, 0, 1): the clamp, plus x/6 inside.
fn hard_swish(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| {
        let node = crate::Node::new("HardSigmoid", &[x], &[]);
        let h = e.emit(node.with_float("alpha", 1.0 / 6.0).with_float("beta", 0.5));
        let (above, below) = (e.steep(x, 1.0, 3.0), e.steep(x, -1.0, 3.0));
        let inside = e.mul(&above, &below);
        let slope = e.scale(x, 1.0 / 6.0);
        let slope = e.mul(&slope, &inside);
        e.add(&h, &slope)
    })
}

/// Exact: Φ(x) + x φ(x). Approximate (tanh): as the operator's definition, differentiated.
fn gelu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let tanh = site.node.string("approximate") == Some("tanh");
    times(e, site, |e, x, _| if tanh { gelu_tanh_slope(e, x) } else { gelu_slope(e, x) })
}

pub(super) fn gelu_slope(e: &mut GraphBuilder, x: &str) -> String {
    let scaled = e.scale(x, std::f64::consts::FRAC_1_SQRT_2);
    let erf = e.op("Erf", &[&scaled]);
    let phi = e.scale(&erf, 0.5);
    let phi = e.shift(&phi, 0.5);
    let square = e.mul(&scaled, &scaled);
    let square = e.neg(&square);
    let density = e.op("Exp", &[&square]);
    let density = e.mul(&density, &scaled);
    let density = e.scale(&density, 1.0 / std::f64::consts::PI.sqrt());
    e.add(&phi, &density)
}

pub(super) fn gelu_tanh_slope(e: &mut GraphBuilder, x: &str) -> String {
    let c = (2.0 / std::f64::consts::PI).sqrt();
    let square = e.mul(x, x);
    let inner = e.scale(&square, 0.044_715 * c);
    let inner = e.shift(&inner, c);
    let inner = e.mul(&inner, x);
    let t = e.op("Tanh", &[&inner]);
    let slope = e.scale(&square, 3.0 * 0.044_715 * c);
    let slope = e.shift(&slope, c);
    let slope = e.mul(&slope, x);
    let one = e.scalar(1.0);
    let sech = e.mul(&t, &t);
    let sech = e.sub(&one, &sech);
    let sum = e.mul(&slope, &sech);
    let sum = e.add(&sum, &t);
    let sum = e.shift(&sum, 1.0);
    e.scale(&sum, 0.5)
}

/// x·tanh(softplus(x)): t + x·σ(x)(1 − t²).
fn mish(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| {
        let soft = e.op("Softplus", &[x]);
        let t = e.op("Tanh", &[&soft]);
        let s = e.op("Sigmoid", &[x]);
        let square = e.mul(&t, &t);
        let one = e.scalar(1.0);
        let rest = e.sub(&one, &square);
        let rest = e.mul(&rest, &s);
        let rest = e.mul(&rest, x);
        e.add(&t, &rest)
    })
}

fn tanh(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, _, y| {
        let square = e.mul(y, y);
        let one = e.scalar(1.0);
        e.sub(&one, &square)
    })
}

fn softplus(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| e.op("Sigmoid", &[x]))
}

fn softsign(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| {
        let size = e.op("Abs", &[x]);
        let below = e.shift(&size, 1.0);
        let below = e.mul(&below, &below);
        e.op("Reciprocal", &[&below])
    })
}

fn erf(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| {
        let square = e.mul(x, x);
        let square = e.neg(&square);
        let bell = e.op("Exp", &[&square]);
        e.scale(&bell, 2.0 / std::f64::consts::PI.sqrt())
    })
}

fn exp(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |_, _, y| y.to_owned())
}

fn log(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    Ok(vec![Some(e.div(site.g()?, site.input(0)?))])
}

fn sqrt(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let half = e.scale(site.g()?, 0.5);
    Ok(vec![Some(e.div(&half, site.output()))])
}

fn reciprocal(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, _, y| {
        let square = e.mul(y, y);
        e.neg(&square)
    })
}

fn abs(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| e.op("Sign", &[x]))
}

fn sin(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| e.op("Cos", &[x]))
}

fn cos(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| {
        let s = e.op("Sin", &[x]);
        e.neg(&s)
    })
}

fn tan(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, _, y| {
        let square = e.mul(y, y);
        e.shift(&square, 1.0)
    })
}

fn sinh(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| e.op("Cosh", &[x]))
}

fn cosh(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| e.op("Sinh", &[x]))
}

/// factor / sqrt(a·x² + b).
fn inverse_root(e: &mut GraphBuilder, x: &str, factor: f64, a: f64, b: f64) -> String {
    let square = e.mul(x, x);
    let square = e.scale(&square, a);
    let inside = e.shift(&square, b);
    let root = e.op("Sqrt", &[&inside]);
    let factor = e.scalar(factor);
    e.div(&factor, &root)
}

/// 1 / (a·x² + b).
fn inverse_square(e: &mut GraphBuilder, x: &str, a: f64, b: f64) -> String {
    let square = e.mul(x, x);
    let square = e.scale(&square, a);
    let inside = e.shift(&square, b);
    e.op("Reciprocal", &[&inside])
}

fn asin(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| inverse_root(e, x, 1.0, -1.0, 1.0))
}

fn acos(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| inverse_root(e, x, -1.0, -1.0, 1.0))
}

fn asinh(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| inverse_root(e, x, 1.0, 1.0, 1.0))
}

fn acosh(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| inverse_root(e, x, 1.0, 1.0, -1.0))
}

fn atan(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| inverse_square(e, x, 1.0, 1.0))
}

fn atanh(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    times(e, site, |e, x, _| inverse_square(e, x, -1.0, 1.0))
}
