//! Einsum: the cotangent of one operand is the Einsum of the cotangent and the other operands.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{Dim, GraphBuilder};
use crate::graph::Node;
use std::collections::BTreeMap;

pub(super) const RULES: Table = &[("Einsum", einsum)];

/// The most operands: the gradient of each reads all others.
const OPERANDS: usize = 32;

/// An equation with every axis named by a letter.
struct Equation {
    operands: Vec<Vec<char>>,
    result: Vec<char>,
}

/// Reads the equation, giving the axes behind an ellipsis upper-case letters that it does not use.
fn read(text: &str, ranks: &[usize]) -> Result<Equation, Reason> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = text.split_once("->").map_or((text.as_str(), None), |(l, r)| (l, Some(r)));
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return Err(format!("its equation has {} terms for {} inputs", terms.len(), ranks.len()).into());
    }
    let hidden = |term: &str, rank: usize| if term.contains('.') { (rank + 3).saturating_sub(term.len()) } else { 0 };
    let widest = terms.iter().zip(ranks).map(|(t, &r)| hidden(t, r)).max().unwrap_or(0);
    let spare: Vec<char> = ('A'..='Z').filter(|c| !text.contains(*c)).take(widest).collect();
    if spare.len() < widest {
        return Err("its equation uses too many letters".into());
    }
    let spell = |term: &str, count: usize| -> Vec<char> {
        let behind: String = spare[widest - count..].iter().collect();
        term.replace("...", &behind).chars().collect()
    };
    let operands: Vec<Vec<char>> = terms.iter().zip(ranks).map(|(t, &r)| spell(t, hidden(t, r))).collect();
    let result = right.map_or_else(|| implicit(&operands, &spare), |r| spell(r, widest));
    Ok(Equation { operands, result })
}

/// Without an arrow: the ellipsis, then the letters that occur once, in order.
fn implicit(operands: &[Vec<char>], spare: &[char]) -> Vec<char> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    operands.iter().flatten().for_each(|c| *counts.entry(*c).or_insert(0) += 1);
    let once = counts.iter().filter(|(c, n)| **n == 1 && !spare.contains(*c)).map(|(c, _)| *c);
    spare.iter().copied().chain(once).collect()
}

fn einsum(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result<Gradients, Reason> {
    let inputs = site.node.inputs().to_vec();
    if inputs.len() > OPERANDS {
        return Err(format!("it has {} operands, and at most {OPERANDS} are supported", inputs.len()).into());
    }
    let ranks: Vec<usize> = inputs.iter().map(|i| e.rank(i)).collect::<Result<_, _>>()?;
    let equation = read(site.node.string("equation").ok_or("it has no equation")?, &ranks)?;
    check_extents(e, &inputs, &equation)?;
    let mut gradients = Vec::new();
    for (at, own) in equation.operands.iter().enumerate() {
        if !site.wants(at) {
            gradients.push(None);
            continue;
        }
        let others: Vec<usize> = (0..inputs.len()).filter(|&i| i != at).collect();
        let known = |c: &char| equation.result.contains(c) || others.iter().any(|&i| equation.operands[i].contains(c));
        let kept: Vec<char> = own.iter().copied().filter(|c| known(c)).collect();
        let mut terms = vec![equation.result.iter().collect::<String>()];
        terms.extend(others.iter().map(|&i| equation.operands[i].iter().collect::<String>()));
        let text = format!("{}->{}", terms.join(","), kept.iter().collect::<String>());
        let mut operands = vec![site.g()?];
        operands.extend(others.iter().map(|&i| inputs[i].as_str()));
        let product = e.emit(Node::new("Einsum", &operands, &[]).with_string("equation", &text));
        gradients.push(Some(spread(e, &product, own, &kept, &inputs[at])?));
    }
    Ok(gradients)
}

/// Axes that the operand sums on its own are repeated over their extent.
fn spread(e: &mut GraphBuilder, product: &str, own: &[char], kept: &[char], like: &str) -> Result<String, Reason> {
    if own.len() == kept.len() {
        return Ok(product.to_owned());
    }
    let axes: Vec<i64> = (0..own.len()).filter(|&i| !kept.contains(&own[i])).map(|i| i as i64).collect();
    let axes = e.ints(&axes);
    let lifted = e.op("Unsqueeze", &[product, &axes]);
    let shape = e.shape(like)?;
    Ok(e.op("Expand", &[&lifted, &shape]))
}

/// A letter that names two axes of one operand, or axes of different extents, has no rule.
fn check_extents(e: &GraphBuilder, inputs: &[String], equation: &Equation) -> Result<(), Reason> {
    let mut extents: BTreeMap<char, Dim> = BTreeMap::new();
    for (input, letters) in inputs.iter().zip(&equation.operands) {
        let dims = e.dims(input)?;
        if dims.len() != letters.len() {
            return Err(
                format!("its equation has {} letters for {} axes of '{input}'", letters.len(), dims.len()).into()
            );
        }
        for (i, &letter) in letters.iter().enumerate() {
            if letters[..i].contains(&letter) {
                return Err(format!("its equation takes a diagonal ('{letter}' twice in one term)").into());
            }
            if *extents.entry(letter).or_insert(dims[i]) != dims[i] {
                return Err(format!("it broadcasts '{letter}' over different extents").into());
            }
        }
    }
    Ok(())
}
