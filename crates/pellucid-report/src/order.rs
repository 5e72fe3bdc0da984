//! The orders in which a reader meets things, where the page and the choice of pictures must agree.

use pellucid_classifier::results::{Finding, Neuron, Sample};

/// The mistakes as they are first shown: the most confident first, which mixes classes and brings wrong labels up.
pub(crate) fn by_confidence(finding: &Finding) -> Vec<&Sample> {
    let mut order: Vec<&Sample> = finding.samples.iter().collect();
    order.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.index.cmp(&b.index)));
    order
}

/// The neuron whose card is open first: the one with the largest share of the gap; without a gap the one with the most
/// votes, insufficient before excessive where they tie.
pub(crate) fn foremost(finding: &Finding) -> Option<&Neuron> {
    if let Some(first) = finding.gap.first() {
        return Some(first);
    }
    let (missing, misleading) = (finding.insufficient.first(), finding.excessive.first());
    match (missing, misleading) {
        (Some(a), Some(b)) if b.votes.value > a.votes.value => Some(b),
        (a, b) => a.or(b),
    }
}
