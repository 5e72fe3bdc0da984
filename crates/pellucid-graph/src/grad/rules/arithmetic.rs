//! Operators of two or more operands that act on each element, with broadcasting.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::GraphBuilder;

pub(super) const RULES: Table = &[
    ("Add", add),
    ("Sub", sub),
    ("Mul", mul),
    ("Div", div),
    ("Pow", pow),
    ("PRelu", prelu),
    ("Max", max),
    ("Min", min),
    ("Sum", add),
    ("Mean", mean),
    ("Where", choose),
    ("Mod", modulo),
];

type Result = std::result::Result<Gradients, Reason>;

/// Input `i`'s cotangent, given before broadcasting is undone; nothing is built for an input that does not want it.
fn each(
    e: &mut GraphBuilder,
    site: &VjpContext<'_>,
    mut full: impl FnMut(&mut GraphBuilder, usize) -> std::result::Result<String, Reason>,
) -> Result {
    let mut gradients = Vec::new();
    for i in 0..site.node.inputs().len() {
        gradients.push(if site.wants(i) {
            let g = full(e, i)?;
            Some(e.unbroadcast(&g, site.output(), site.input(i)?)?)
        } else {
            None
        });
    }
    Ok(gradients)
}

fn add(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    each(e, site, |_, _| Ok(site.g()?.to_owned()))
}

fn mean(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let count = site.node.inputs().len() as f64;
    let g = e.scale(site.g()?, 1.0 / count);
    each(e, site, |_, _| Ok(g.clone()))
}

/// Refuses a node that has not two inputs.
fn two(site: &VjpContext<'_>) -> std::result::Result<(), Reason> {
    match site.node.inputs().len() {
        2 => Ok(()),
        count => Err(Reason(format!("it has {count} inputs, expected 2"))),
    }
}

fn sub(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    two(site)?;
    each(e, site, |e, i| Ok(if i == 0 { site.g()?.to_owned() } else { e.neg(site.g()?) }))
}

fn mul(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    two(site)?;
    each(e, site, |e, i| Ok(e.mul(site.g()?, site.input(1 - i)?)))
}

fn div(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    two(site)?;
    let divisor = site.input(1)?;
    each(e, site, |e, i| {
        let over = e.div(site.g()?, divisor);
        if i == 0 {
            return Ok(over);
        }
        let product = e.mul(&over, site.output());
        Ok(e.neg(&product))
    })
}

/// d/da aᵇ = b aᵇ⁻¹ (and 0 where b = 0), d/db = aᵇ ln a (and 0 where a = 0).
fn pow(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let (a, b) = (site.input(0)?, site.input(1)?);
    let constant = e.constant_floats(b).ok().filter(|v| v.len() == 1).map(|v| f64::from(v[0]));
    let constant = constant.or_else(|| e.constant_ints(b).ok().filter(|v| v.len() == 1).map(|v| v[0] as f64));
    each(e, site, |e, i| {
        let g = site.g()?;
        if i == 1 {
            return power_of_exponent(e, g, a, site.output());
        }
        let slope = match constant {
            Some(0.0) => e.scale(a, 0.0),
            Some(1.0) => return Ok(g.to_owned()),
            Some(2.0) => e.scale(a, 2.0),
            Some(0.5) => {
                let half = e.scalar(0.5);
                e.div(&half, site.output())
            }
            Some(n) => {
                let exponent = e.scalar(n - 1.0);
                let power = e.op("Pow", &[a, &exponent]);
                e.scale(&power, n)
            }
            None => {
                let exponent = e.shift(b, -1.0);
                let power = e.op("Pow", &[a, &exponent]);
                e.mul(&power, b)
            }
        };
        Ok(e.mul(g, &slope))
    })
}

fn power_of_exponent(e: &mut GraphBuilder, g: &str, a: &str, y: &str) -> std::result::Result<String, Reason> {
    let zero = e.scalar(0.0);
    let one = e.scalar(1.0);
    let positive = e.op("Greater", &[a, &zero]);
    let safe = e.op("Where", &[&positive, a, &one]);
    let log = e.op("Log", &[&safe]);
    let slope = e.mul(y, &log);
    Ok(e.mul(g, &slope))
}

/// x where x > 0, else slope · x.
fn prelu(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let (x, slope) = (site.input(0)?, site.input(1)?);
    let zero = e.scalar(0.0);
    each(e, site, |e, i| {
        let g = site.g()?;
        if i == 1 {
            let below = e.op("Min", &[x, &zero]);
            return Ok(e.mul(g, &below));
        }
        let positive = e.op("Greater", &[x, &zero]);
        let steep = e.mul(g, slope);
        Ok(e.op("Where", &[&positive, g, &steep]))
    })
}

fn max(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    extreme(e, site)
}

fn min(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    extreme(e, site)
}

/// The cotangent goes to the first input that equals the result.
fn extreme(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let zero = e.scalar(0.0);
    let mut left = site.g()?.to_owned();
    let last = site.node.inputs().len().checked_sub(1).ok_or("it has no inputs")?;
    let mut parts = Vec::new();
    for i in 0..=last {
        if i == last {
            parts.push(left.clone());
            break;
        }
        let wins = e.op("Equal", &[site.input(i)?, site.output()]);
        parts.push(e.op("Where", &[&wins, &left, &zero]));
        left = e.op("Where", &[&wins, &zero, &left]);
    }
    each(e, site, |_, i| Ok(parts[i].clone()))
}

fn choose(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let test = site.input(0)?;
    let zero = e.scalar(0.0);
    each(e, site, |e, i| {
        let g = site.g()?;
        match i {
            1 => Ok(e.op("Where", &[test, g, &zero])),
            2 => Ok(e.op("Where", &[test, &zero, g])),
            _ => Err("its condition is not a number".into()),
        }
    })
}

/// a mod b = a − b·q with q whole.
fn modulo(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    each(e, site, |e, i| {
        let g = site.g()?;
        if i == 0 {
            return Ok(g.to_owned());
        }
        let (a, b) = (site.input(0)?, site.input(1)?);
        let whole = e.sub(a, site.output());
        let count = e.div(&whole, b);
        let product = e.mul(g, &count);
        Ok(e.neg(&product))
    })
}
