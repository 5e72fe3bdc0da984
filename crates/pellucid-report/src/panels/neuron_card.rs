//! One neuron: what it responds to, where it stands for the mistakes, and how far it can be trusted.

use super::neuron_list::{anchor, direction_words, tone};
use super::picture::{absent, picture, ramp};
use super::pictures;
use crate::charts::{Scale, axis, strip};
use crate::format::{NONE, count, number, percent, percent_range, share, signed};
use crate::heat;
use crate::markup::Html;
use crate::page::Page;
use pellucid_classifier::results::{Activation, Direction, Finding, Neuron, TopSample};

/// Below this a neuron is marked as one that may not come back.
const STEADY: f64 = 0.5;

/// Writes the cards of a finding, with the heat-map controls above them.
pub(crate) fn write_all(h: &mut Html, page: &Page, finding: &Finding, id: &str) {
    // A neuron that stands in two lists has one card.
    let mut seen = std::collections::BTreeSet::new();
    let neurons: Vec<&Neuron> =
        finding.neurons().filter(|neuron| seen.insert((neuron.index, neuron.direction))).collect();
    let shows_heat = neurons.iter().flat_map(|neuron| &neuron.top).any(|top| has_heat(page, top));
    if shows_heat {
        heat_controls(h, page);
    } else if page.options.pictures && neurons.iter().any(|neuron| !neuron.top.is_empty()) {
        h.element(
            "p",
            &[("class", "aside")],
            "This model has no feature map to read, so the pictures are shown without heat maps.",
        );
    }
    neurons.into_iter().for_each(|neuron| card(h, page, finding, neuron, id));
}

fn has_heat(page: &Page, top: &TopSample) -> bool {
    !top.heat.is_empty() && page.thumbnails.get(top.sample.index).is_some()
}

fn heat_controls(h: &mut Html, page: &Page) {
    h.within("div", &[("class", "heat-controls")], |h| {
        h.within("p", &[("class", "heat-key")], |h| {
            ramp(h);
            h.text("Heat: where in the picture the neuron responds. Outline: half of its highest response there.");
            if !page.diagnosis.run.heat_maps.is_empty() {
                h.text(&format!(" Made from {}.", page.diagnosis.run.heat_maps.trim_end_matches('.')));
            }
        });
        h.within("p", &[("class", "controls js-only")], |h| {
            h.within("span", &[("class", "choices"), ("role", "group"), ("aria-label", "Overlay")], |h| {
                for (mode, text) in [("heat", "Heat"), ("outline", "Outline"), ("off", "Picture")] {
                    let pressed = if mode == "heat" { "true" } else { "false" };
                    h.element("button", &[("type", "button"), ("data-heat", mode), ("aria-pressed", pressed)], text);
                }
            });
            h.within("label", &[], |h| {
                h.text("Strength ");
                let attributes =
                    [("type", "range"), ("min", "10"), ("max", "100"), ("value", "85"), ("data-strength", "")];
                h.void("input", &attributes);
            });
        });
    });
}

fn card(h: &mut Html, page: &Page, finding: &Finding, neuron: &Neuron, id: &str) {
    let anchor = anchor(id, neuron);
    let heading = format!("{anchor}-title");
    let class = format!("card {}", tone(neuron.direction));
    let attributes = [("id", anchor.as_str()), ("class", &class), ("aria-labelledby", &heading), ("tabindex", "-1")];
    h.within("article", &attributes, |h| {
        h.within("header", &[], |h| {
            h.element("h4", &[("id", &heading)], &format!("Neuron {}", neuron.index));
            let (name, _) = direction_words(neuron.direction);
            h.element("span", &[("class", "direction")], name);
            if neuron.votes.value > 0.0 && neuron.stability < STEADY {
                h.element("span", &[("class", "tag")], "may not come back");
            }
        });
        h.within("p", &[("class", "reading")], |h| reading(h, page, finding, neuron));
        made_pictures(h, page, finding, neuron);
        top_pictures(h, page, neuron);
        standing(h, page, finding, neuron);
        h.within("dl", &[("class", "facts")], |h| facts(h, neuron));
    });
}

/// The comparison of medians, in words.
fn reading(h: &mut Html, page: &Page, finding: &Finding, neuron: &Neuron) {
    let (mistaken, right) = (neuron.on_mistakes.quantiles[2], neuron.on_correct.quantiles[2]);
    if neuron.on_correct.samples == 0 || !mistaken.is_finite() || !right.is_finite() {
        h.text("There are no right pictures to compare these mistakes with.");
        return;
    }
    let medians = format!(" (median {} against {}): ", number(mistaken), number(right));
    let (first, last) = match (neuron.direction, mistaken.total_cmp(&right)) {
        (Direction::Insufficient, std::cmp::Ordering::Less) => {
            ("It responds less to the mistakes than to", "the mistakes lack what it looks for.")
        }
        (Direction::Insufficient, _) => {
            ("It responds to the mistakes no less than to", "its lack alone does not explain them.")
        }
        (Direction::Excessive, std::cmp::Ordering::Greater) => {
            ("It responds more to the mistakes than to", "what it looks for misleads the model.")
        }
        (Direction::Excessive, _) => {
            ("It responds to the mistakes no more than to", "its presence alone does not explain them.")
        }
    };
    h.text(first);
    h.text(" right pictures");
    if let Some(class) = finding.class {
        h.text(" of ");
        h.within("b", &[], |h| h.name(&page.class(class)));
    }
    h.text(&medians);
    h.text(last);
    if neuron.direction == Direction::Excessive && neuron.silent_share >= 0.5 {
        h.text(&format!(
            " Doubtful: it is silent on {} of the mistakes, where it cannot be too strong.",
            share(neuron.silent_share)
        ));
    }
}

/// Pictures that the run made for the neuron, where it made any.
fn made_pictures(h: &mut Html, page: &Page, finding: &Finding, neuron: &Neuron) {
    let own = page.diagnosis.pictures.iter().filter(|p| p.neuron == neuron.index && p.class == finding.class);
    for pictured in own.filter(|_| !page.made.is_empty()) {
        pictures::made(h, pictured, &|file: &str| page.made.get(file).cloned());
    }
}

fn top_pictures(h: &mut Html, page: &Page, neuron: &Neuron) {
    h.element("h5", &[], "What it responds to most");
    if neuron.top.is_empty() {
        h.element("p", &[("class", "empty")], "No picture activates it.");
        return;
    }
    let with_pictures = neuron.top.iter().any(|top| page.thumbnails.get(top.sample.index).is_some());
    let class = if with_pictures { "tiles top" } else { "tops" };
    let limit = if page.options.pictures { page.thumbnails.allowance.top } else { usize::MAX };
    h.within("ul", &[("class", class)], |h| {
        neuron.top.iter().take(limit.max(1)).for_each(|top| top_tile(h, page, top, with_pictures));
    });
}

fn top_tile(h: &mut Html, page: &Page, top: &TopSample, with_picture: bool) {
    let sample = &top.sample;
    h.within("li", &[("class", "tile")], |h| {
        let words = format!("{}; activation {}", page.describe(sample), number(top.activation));
        match page.thumbnails.get(sample.index) {
            Some(print) => {
                picture(h, sample.index, print, heat::draw(&top.heat, top.heat_size).as_ref(), &words);
            }
            None if with_picture => absent(h, &words),
            None => {}
        }
        h.within("p", &[("class", "what")], |h| {
            h.within("b", &[], |h| h.name(&page.class(sample.truth)));
            if sample.truth != sample.predicted {
                h.within("span", &[("class", "wrong")], |h| {
                    h.text("called ");
                    h.name(&page.class(sample.predicted));
                });
            }
            h.element("span", &[("class", "activation")], &number(top.activation));
        });
    });
}

fn standing(h: &mut Html, page: &Page, finding: &Finding, neuron: &Neuron) {
    let right = match finding.class {
        Some(class) => format!("right pictures of {}", page.class(class)),
        None => "right pictures".to_owned(),
    };
    let strips: [(&str, &str, &Activation, &str); 3] = [
        ("the mistakes", "mistakes", &neuron.on_mistakes, tone(neuron.direction)),
        (&right, "right", &neuron.on_correct, "correct"),
        ("all pictures", "all", &neuron.on_all, "everything"),
    ];
    h.element("h5", &[], "Where it stands");
    let Some(scale) = Scale::over(&strips.map(|(_, _, activation, _)| *activation)) else {
        h.element("p", &[("class", "empty")], "No activations to show.");
        return;
    };
    h.within("div", &[("class", "standing")], |h| {
        for (name, short, activation, tone) in strips {
            let [q5, q25, median, q75, q95] = activation.quantiles.map(number);
            let words = format!(
                "Activation on {short}: median {median}, middle half {q25} to {q75}, 5 to 95 % {q5} to {q95}, mean {}",
                number(activation.mean)
            );
            h.within("span", &[("class", "of")], |h| {
                h.name(name);
                h.element("small", &[], &count(activation.samples));
            });
            strip(h, scale, activation, tone, &words);
            h.element("span", &[("class", "num")], &median);
        }
        h.element("span", &[("class", "of")], "");
        axis(h, scale);
        h.element("span", &[("class", "num key")], "median");
    });
    h.element(
        "p",
        &[("class", "key")],
        "Activation. Line: 5 to 95 % of the pictures. Box: the middle half. Upright bar: median. Dot: mean.",
    );
}

fn facts(h: &mut Html, neuron: &Neuron) {
    let (votes, gap) = (neuron.votes, neuron.gap);
    let range = percent_range(votes.low, votes.high);
    let facts = [
        (
            "Gap",
            signed(gap.value),
            format!(
                "logits a mistake towards the wrong answer; 95 % interval {} to {}",
                signed(gap.low),
                signed(gap.high)
            ),
        ),
        ("Votes", percent(votes.value), format!("of the counterfactuals lean on it; 95 % interval {range}")),
        ("Stability", share(neuron.stability), "how often it comes back when the mistakes are drawn again".to_owned()),
        ("Importance ρ", number(neuron.importance), importance_words(neuron.importance).to_owned()),
        ("Weight", signed(neuron.weight), weight_words(neuron.weight).to_owned()),
        ("Silent", share(neuron.silent_share), "of the mistakes leave it at rest".to_owned()),
    ];
    for (term, value, note) in facts {
        h.within("div", &[], |h| {
            h.element("dt", &[], term);
            h.element("dd", &[("class", "value")], if value.is_empty() { NONE } else { &value });
            h.element("dd", &[("class", "note")], &note);
        });
    }
}

/// The retaining ratio, read.
fn importance_words(ratio: f64) -> &'static str {
    match ratio {
        r if r > 1.0005 => "above 1: on average the class is less likely without it",
        r if r < 0.9995 => "below 1: on average the class is more likely without it",
        r if r.is_finite() => "1: on average the class does not depend on it",
        _ => "not defined here",
    }
}

fn weight_words(weight: f64) -> &'static str {
    match weight {
        w if w > 0.0 => "positive: its activation speaks for the class",
        w if w < 0.0 => "negative: its activation speaks against the class",
        _ => "its activation does not touch the class's score",
    }
}
