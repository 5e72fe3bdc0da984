//! The neurons of a finding at a glance: votes with intervals, and stability. Each line leads to its card.

use crate::charts::{Bar, bar, dots};
use crate::format::{percent, percent_range, share, signed};
use crate::markup::Html;
use crate::order::foremost;
use pellucid_classifier::results::{Direction, Finding, Interval, Neuron};

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
        h.within("ol", &[], |h| {
            for neuron in neurons {
                let votes = neuron.votes;
                let interval = percent_range(votes.low, votes.high);
                let measure = Measure {
                    value: votes,
                    full: 100.0,
                    figure: percent(votes.value),
                    words: format!("votes {}, 95 % interval {interval}", percent(votes.value)),
                };
                line(h, neuron, first == Some(neuron), id, &measure, |h| {
                    dots(h, neuron.stability, &format!("stability {}", share(neuron.stability)));
                });
            }
        });
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
                let [value, low, high] = [gap.value, gap.low, gap.high].map(signed);
                let words = format!("{value} logits a mistake, 95 % interval {low} to {high}");
                let measure = Measure { value: gap, full: longest, figure: value, words };
                let side = if neuron.direction == Direction::Excessive { "▲" } else { "▼" };
                line(h, neuron, first == Some(neuron), id, &measure, |h| {
                    h.element("span", &[("class", "side")], side);
                });
            }
        });
    });
}

/// What a line's bar shows.
struct Measure {
    value: Interval,
    /// The value that fills the bar.
    full: f64,
    figure: String,
    /// The same for those who do not see the bar.
    words: String,
}

/// A neuron, its bar and figure, and what `last` adds; a link to its card.
fn line(h: &mut Html, neuron: &Neuron, first: bool, id: &str, measure: &Measure, last: impl FnOnce(&mut Html)) {
    let tone = tone(neuron.direction);
    h.within("li", &[("class", tone)], |h| {
        let target = format!("#{}", anchor(id, neuron));
        let attributes = [("href", target.as_str()), ("data-first", "")];
        h.within("a", if first { &attributes } else { &attributes[..1] }, |h| {
            h.element("span", &[("class", "index")], &format!("#{}", neuron.index));
            let Interval { value, low, high } = measure.value;
            let interval = Some((low / measure.full, high / measure.full));
            let value = value / measure.full;
            bar(h, &Bar { value, interval, reference: None, tone, words: &measure.words });
            h.element("span", &[("class", "num"), ("aria-hidden", "true")], &measure.figure);
            last(h);
        });
    });
}
