//! The mistakes of a finding: pictures with what they are and what they were called, or a table where there are none.

use super::picture::{absent, picture};
use crate::format::{count, counted, whole_percent};
use crate::markup::Html;
use crate::order::by_confidence;
use crate::page::Page;
use pellucid_classifier::results::{Finding, Sample};
use std::collections::BTreeMap;

/// Tiles and rows shown at first, where the script can show more.
const TILES: &str = "18";
const ROWS: &str = "12";

/// Writes the mistakes under the anchor `id`.
pub(crate) fn write(h: &mut Html, page: &Page, finding: &Finding, id: &str) {
    let list = format!("{id}-mistakes");
    h.within("h3", &[], |h| {
        h.text("The mistakes ");
        let shown = match finding.samples.len() < finding.count {
            true => format!("{} of {}", count(finding.samples.len()), count(finding.count)),
            false => count(finding.count),
        };
        h.element("span", &[("class", "tally")], &shown);
    });
    controls(h, page, finding, &list);
    let has_pictures = finding.samples.iter().any(|sample| page.thumbnails.get(sample.index).is_some());
    if has_pictures {
        let attributes = [("class", "tiles"), ("id", list.as_str()), ("data-list", TILES), ("data-noun", "mistakes")];
        h.within("ul", &attributes, |h| by_confidence(finding).into_iter().for_each(|sample| tile(h, page, sample)));
    } else {
        table(h, page, finding, &list);
    }
}

fn controls(h: &mut Html, page: &Page, finding: &Finding, list: &str) {
    if finding.samples.len() < 6 {
        return;
    }
    h.within("p", &[("class", "controls js-only"), ("data-for", list)], |h| {
        h.within("label", &[], |h| {
            h.text("Sort by ");
            h.within("select", &[("data-sort", "")], |h| {
                h.element("option", &[("value", "sure")], "confidence, highest first");
                h.element("option", &[("value", "unsure")], "confidence, lowest first");
                h.element("option", &[("value", "order")], "order of the data");
            });
        });
        choice(h, page, finding, "truth", "True class ", |sample| sample.truth);
        choice(h, page, finding, "predicted", "Called ", |sample| sample.predicted);
    });
}

/// A filter by class, where there is more than one to choose from.
fn choice(
    h: &mut Html,
    page: &Page,
    finding: &Finding,
    key: &'static str,
    text: &str,
    class: impl Fn(&Sample) -> usize,
) {
    let mut counts = BTreeMap::new();
    finding.samples.iter().for_each(|sample| *counts.entry(class(sample)).or_insert(0) += 1);
    if counts.len() < 2 {
        return;
    }
    let mut order: Vec<(usize, usize)> = counts.into_iter().collect();
    order.sort_by_key(|&(class, count)| (std::cmp::Reverse(count), class));
    h.within("label", &[], |h| {
        h.text(text);
        h.within("select", &[("data-filter", key)], |h| {
            h.element("option", &[("value", "")], &format!("any ({})", finding.samples.len()));
            for (class, count) in order {
                h.element("option", &[("value", &class.to_string())], &format!("{} ({count})", page.class(class)));
            }
        });
    });
}

/// One picture with what it is and what it was called.
pub(super) fn tile(h: &mut Html, page: &Page, sample: &Sample) {
    item(h, "li", "tile", sample, |h| {
        let words = page.describe(sample);
        match page.thumbnails.get(sample.index) {
            Some(print) => picture(h, sample.index, print, None, &words),
            None => absent(h, &words),
        }
        h.within("dl", &[], |h| {
            fact(h, "is", &page.class(sample.truth));
            fact(h, "called", &page.class(sample.predicted));
        });
        h.within("p", &[("class", "file"), ("title", &sample.file)], |h| {
            h.element("span", &[("class", "sure")], &format!("{} sure", whole_percent(100.0 * sample.confidence)));
            h.name(sample.file.rsplit(['/', '\\']).next().unwrap_or_default());
        });
        if unreached(sample) {
            h.element("p", &[("class", "tag")], "no counterfactual found");
        }
    });
}

fn fact(h: &mut Html, term: &'static str, name: &str) {
    h.within("div", &[("class", term), ("title", name)], |h| {
        h.element("dt", &[], term);
        h.within("dd", &[], |h| h.name(name));
    });
}

fn table(h: &mut Html, page: &Page, finding: &Finding, list: &str) {
    h.within("table", &[("class", "mistakes")], |h| {
        h.within("thead", &[], |h| {
            h.within("tr", &[], |h| {
                for (class, text) in [("num", "Row"), ("who", "Is"), ("who", "Called"), ("num", "Confidence")] {
                    h.element("th", &[("scope", "col"), ("class", class)], text);
                }
            });
        });
        h.within("tbody", &[("id", list), ("data-list", ROWS), ("data-noun", "mistakes")], |h| {
            for sample in by_confidence(finding) {
                item(h, "tr", "", sample, |h| {
                    h.element("td", &[("class", "num")], &sample.index.to_string());
                    h.within("td", &[("class", "who")], |h| {
                        h.name(&page.class(sample.truth));
                        if !sample.file.is_empty() {
                            h.within("span", &[("class", "file")], |h| h.name(&sample.file));
                        }
                    });
                    h.within("td", &[("class", "who wrong")], |h| h.name(&page.class(sample.predicted)));
                    h.element("td", &[("class", "num")], &whole_percent(100.0 * sample.confidence));
                });
            }
        });
    });
}

/// A tile or row with what the script sorts and filters by.
fn item(h: &mut Html, tag: &'static str, class: &'static str, sample: &Sample, inside: impl FnOnce(&mut Html)) {
    let attributes = [
        ("class", class),
        ("data-order", &sample.index.to_string()),
        ("data-sure", &format!("{:.6}", -sample.confidence)),
        ("data-unsure", &format!("{:.6}", sample.confidence)),
        ("data-truth", &sample.truth.to_string()),
        ("data-predicted", &sample.predicted.to_string()),
    ];
    h.within(tag, &attributes, inside);
}

fn unreached(sample: &Sample) -> bool {
    sample.counterfactual.as_ref().is_some_and(|outcome| !outcome.reached)
}

/// Says how many of a finding's mistakes no counterfactual could turn.
pub(crate) fn unreached_note(finding: &Finding) -> Option<String> {
    (finding.unreached > 0).then(|| {
        format!(
            "For {} no change of the neurons within bounds made the model right; {} not counted in the votes below.",
            counted(finding.unreached, "mistake", "mistakes"),
            if finding.unreached == 1 { "it is" } else { "they are" }
        )
    })
}
