//! The neurons of a finding at a glance: votes with intervals, and stability. Each line leads to its card.

use crate::charts::{Bar, bar, dots};
use crate::format::{percent, percent_range, share, signed};
use crate::markup::Html;
use crate::order::foremost;
use pellucid_classifier::results::{Direction, Finding, Neuron};

/// What a direction is called, and what it means, in a line each.
pub(crate) fn direction_words(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Insufficient => (
            "Insufficient",
            "Evidence that was missing. To be called right, these pictures needed more of what the neuron responds to.",
        ),
        Direction::Excessive => (
            "Excessive",
            "Evidence that should not have counted. To be called right, these pictures needed less of what the neuron \
             responds to.",
        ),
    }
}

/// The class of the style sheet for a direction.
pub(crate) fn tone(direction: Direction) -> &'static str {
    match direction {
        Direction::Insufficient => "insufficient",
        Direction::Excessive => "excessive",
    }
}

/// The anchor of a neuron's card in finding `id`.
pub(crate) fn anchor(id: &str, neuron: &Neuron) -> String {
    format!("{id}-{}-{}", tone(neuron.direction), neuron.index)
}

/// Writes the lists: the evidence gap, then the votes of the counterfactuals.
pub(crate) fn write(h: &mut Html, finding: &Finding, id: &str) {
    h.within("nav", &[("class", "neurons"), ("aria-label", "Neurons of this finding")], |h| {
        if !finding.gap.is_empty() {
            gap_list(h, finding, id);
            h.element(
                "p",
                &[("class", "key turn")],
                "Counterfactual votes: the smallest change that would have made each picture right leans on",
            );
        }
        for (direction, neurons) in
            [(Direction::Insufficient, &finding.insufficient), (Direction::Excessive, &finding.excessive)]
        {
            list(h, direction, neurons, foremost(finding), id);
        }
        h.element(
            "p",
            &[("class", "key")],
            "Bar: votes, the share of the mistakes that list the neuron among their strongest changes, with its 95 % \
             interval. Dots: how surely it comes back when the mistakes are drawn again.",
        );
        h.element("button", &[("type", "button"), ("class", "js-only"), ("data-all", "")], "Show all cards");
    });
}

fn list(h: &mut Html, direction: Direction, neurons: &[Neuron], first: Option<&Neuron>, id: &str) {
    let (name, meaning) = direction_words(direction);
    h.within("div", &[("class", tone(direction))], |h| {
        h.element("h4", &[], name);
        h.element("p", &[("class", "explain")], meaning);
        if neurons.is_empty() {
            h.element("p", &[("class", "empty")], "None: no neuron is listed by enough mistakes.");
            return;
        }
        h.within("ol", &[], |h| neurons.iter().for_each(|neuron| line(h, neuron, first == Some(neuron), id)));
    });
}

/// Neurons of both directions by what they cost.
fn gap_list(h: &mut Html, finding: &Finding, id: &str) {
    let first = foremost(finding);
    let longest = finding.gap.iter().map(|neuron| neuron.gap.high).fold(f64::MIN_POSITIVE, f64::max);
    h.within("div", &[("class", "gap")], |h| {
        h.element("h4", &[], "Evidence gap");
        h.element(
            "p",
            &[("class", "explain")],
            "Neurons that stand elsewhere than on right pictures, by what that adds to the wrong answer, in logits a \
             mistake. ▲ higher: it misleads. ▼ lower: it is missing.",
        );
        h.within("ol", &[], |h| {
            for neuron in &finding.gap {
                let gap = neuron.gap;
                let side = if neuron.direction == Direction::Excessive { "▲" } else { "▼" };
                let words = format!(
                    "{} logits a mistake, 95 % interval {} to {}",
                    signed(gap.value),
                    signed(gap.low),
                    signed(gap.high)
                );
                h.within("li", &[("class", tone(neuron.direction))], |h| {
                    let target = format!("#{}", anchor(id, neuron));
                    let attributes = [("href", target.as_str()), ("data-first", "")];
                    h.within("a", if first == Some(neuron) { &attributes } else { &attributes[..1] }, |h| {
                        h.element("span", &[("class", "index")], &format!("#{}", neuron.index));
                        let interval = Some((gap.low / longest, gap.high / longest));
                        let value = gap.value / longest;
                        bar(h, &Bar { value, interval, reference: None, tone: tone(neuron.direction), words: &words });
                        h.element("span", &[("class", "num"), ("aria-hidden", "true")], &signed(gap.value));
                        h.element("span", &[("class", "side")], side);
                    });
                });
            }
        });
    });
}

fn line(h: &mut Html, neuron: &Neuron, first: bool, id: &str) {
    let votes = neuron.votes;
    let words = format!("votes {}, 95 % interval {}", percent(votes.value), percent_range(votes.low, votes.high));
    h.within("li", &[], |h| {
        let target = format!("#{}", anchor(id, neuron));
        let attributes = [("href", target.as_str()), ("data-first", "")];
        h.within("a", if first { &attributes } else { &attributes[..1] }, |h| {
            h.element("span", &[("class", "index")], &format!("#{}", neuron.index));
            bar(
                h,
                &Bar {
                    value: votes.value / 100.0,
                    interval: Some((votes.low / 100.0, votes.high / 100.0)),
                    reference: None,
                    tone: tone(neuron.direction),
                    words: &words,
                },
            );
            h.element("span", &[("class", "num"), ("aria-hidden", "true")], &percent(votes.value));
            dots(h, neuron.stability, &format!("stability {}", share(neuron.stability)));
        });
    });
}
