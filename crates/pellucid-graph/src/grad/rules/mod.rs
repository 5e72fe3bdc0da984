//! The vector-Jacobian product of every operator: one rule per operator, one file per family, all listed here.
//!
//! A rule gets the node, the cotangents of its outputs and which inputs want theirs, and emits the nodes that compute
//! the inputs' cotangents. To add one: write it in its family's file, list it there, and add a case to the table of
//! reference gradients.

use super::emit::{GraphBuilder, LARGEST};
use super::error::Reason;
use crate::graph::Node;

pub(crate) use quantisation::straight_through;

mod activations;
mod arithmetic;
mod convolution;
mod einsum;
mod indexing;
mod linear;
mod movement;
mod normalisation;
mod pooling;
mod quantisation;
mod reductions;
mod resampling;

/// The cotangents of a node's inputs, in order; `None` where there is no gradient.
pub(crate) type Gradients = Vec<Option<String>>;

/// A vector-Jacobian product.
pub(crate) type Rule = fn(&mut GraphBuilder, &VjpContext<'_>) -> Result<Gradients, Reason>;

/// A family's operators of one domain, with their rules.
pub(crate) type Table = &'static [(&'static str, Rule)];

/// Every rule of the standard domain.
const STANDARD: &[Table] = &[
    activations::RULES,
    arithmetic::RULES,
    convolution::RULES,
    einsum::RULES,
    indexing::RULES,
    linear::RULES,
    movement::RULES,
    normalisation::RULES,
    pooling::RULES,
    quantisation::RULES,
    reductions::RULES,
    resampling::RULES,
];

/// One application of an operator, seen from behind.
pub(crate) struct VjpContext<'a> {
    /// The node.
    pub node: &'a Node,
    /// The cotangents of its outputs; `None` where the objective does not depend on one.
    pub cotangents: &'a [Option<String>],
    /// Whether each input wants a cotangent.
    pub wanted: &'a [bool],
}

impl VjpContext<'_> {
    /// The cotangent of the first output.
    pub fn g(&self) -> Result<&str, Reason> {
        let first = self.cotangents.first().and_then(Option::as_deref);
        first.ok_or_else(|| Reason("only its first output can be differentiated".to_owned()))
    }

    /// Input `index`, which must be there.
    pub fn input(&self, index: usize) -> Result<&str, Reason> {
        self.node.input(index).ok_or_else(|| Reason(format!("it has no input {index}")))
    }

    /// The first output.
    pub fn output(&self) -> &str {
        self.node.output()
    }

    /// Whether input `index` wants its cotangent.
    pub fn wants(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(false)
    }

    /// The attribute `name`, a number for each of `count` axes: 1 where it is left out.
    pub fn steps(&self, name: &str, count: usize) -> Result<Vec<usize>, Reason> {
        let listed = match self.node.ints(name) {
            None | Some([]) => return Ok(vec![1; count]),
            Some(listed) => listed,
        };
        let positive = |&n: &i64| usize::try_from(n).ok().filter(|n| *n > 0);
        let steps: Option<Vec<usize>> = listed.iter().map(positive).collect();
        steps
            .filter(|steps| steps.len() == count)
            .ok_or_else(|| Reason(format!("its {name} are {} numbers, expected {count} above 0", listed.len())))
    }

    /// The attribute `name`, a number above 0.
    pub fn count(&self, name: &str, default: Option<i64>) -> Result<i64, Reason> {
        match self.node.int(name).or(default) {
            Some(n) if n > 0 => Ok(n),
            Some(n) => Err(Reason(format!("its {name} is {n}, expected a number above 0"))),
            None => Err(Reason(format!("it has no {name}"))),
        }
    }

    /// Refuses if any input from `index` on wants a cotangent.
    pub fn only_first(&self, count: usize) -> Result<(), Reason> {
        match (count..self.wanted.len()).find(|&i| self.wanted[i]) {
            Some(i) => Err(Reason(format!(
                "its input {i} ('{}') depends on that value, and only input 0 is differentiated",
                self.node.inputs()[i]
            ))),
            None => Ok(()),
        }
    }
}

/// What the table says about a node.
pub(crate) enum Found {
    Rule(Rule),
    Refusal(String),
}

/// The rule of `node`, or why there is none.
pub(crate) fn find(node: &Node) -> Found {
    if node.has_subgraphs() {
        return Found::Refusal(
            "control flow (If, Loop, Scan) is not differentiated; export the model without it".to_owned(),
        );
    }
    if !node.domain().is_empty() {
        return Found::Refusal(format!("the operator domain '{}' is not known", node.domain()));
    }
    if let Some(reason) = out_of_range(node) {
        return Found::Refusal(reason);
    }
    let rule = STANDARD.iter().flat_map(|t| t.iter()).find(|(op, _)| *op == node.op());
    rule.map_or_else(
        || Found::Refusal(format!("the operator {} has no gradient rule", node.op())),
        |(_, rule)| Found::Rule(*rule),
    )
}

/// What is said of an attribute that holds a number beyond those that rules calculate with.
fn out_of_range(node: &Node) -> Option<String> {
    let beyond = |number: &&i64| number.unsigned_abs() > LARGEST as u64;
    node.proto.attribute.iter().find_map(|a| {
        let number = a.i.iter().chain(&a.ints).find(beyond)?;
        Some(format!("its attribute {} holds {number}, and numbers up to {LARGEST} are supported", a.name()))
    })
}

/// Names of the operators that have a rule, sorted.
pub fn operators() -> Vec<&'static str> {
    let mut names: Vec<_> = STANDARD.iter().flat_map(|t| t.iter()).map(|(op, _)| *op).collect();
    names.sort_unstable();
    names
}

/// The rule of operators whose derivative is zero wherever it exists.
pub(crate) fn flat(_: &mut GraphBuilder, site: &VjpContext<'_>) -> Result<Gradients, Reason> {
    Ok(vec![None; site.node.inputs().len()])
}
