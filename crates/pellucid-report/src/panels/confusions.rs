//! What the model takes for what: a matrix of the classes that are confused most, and a list of the pairs.

use super::{Panel, section};
use crate::charts::{Bar, bar};
use crate::format::{count, counted, share};
use crate::markup::Html;
use crate::page::{Page, empty, explain};
use pellucid_classifier::results::Confusion;
use std::collections::BTreeMap;

/// Classes in the matrix; more do not fit a screen.
const MATRIX: usize = 12;
/// Pairs in the list; the data hold all.
const PAIRS: usize = 60;
/// Pairs shown at first, where the script can show more.
const ROWS: &str = "10";

/// Writes the panel.
pub(crate) fn panel(page: &Page) -> Panel {
    let confusions = &page.diagnosis.summary.confusions;
    let body = section("confusions", "What it confuses", |h| match confusions.is_empty() {
        true => empty(h, "Nothing: every picture got its own class."),
        false => {
            h.element("h3", &[], "Most frequent confusions");
            explain(h, "Bar and percentage: share of the pictures of the true class that went this way.");
            list(h, page, confusions);
            h.element("h3", &[], "Confusion matrix");
            matrix(h, page, confusions);
        }
    });
    Panel { id: "confusions".to_owned(), title: "What it confuses".to_owned(), rank: "part", body }
}

fn list(h: &mut Html, page: &Page, confusions: &[Confusion]) {
    let list = [("class", "pairs"), ("data-list", ROWS), ("data-noun", "pairs")];
    h.within("ol", &list, |h| confusions.iter().take(PAIRS).for_each(|confusion| pair(h, page, confusion)));
    if confusions.len() > PAIRS {
        let rest = counted(confusions.len() - PAIRS, "rarer pair is", "rarer pairs are");
        h.element("p", &[("class", "aside")], &format!("{rest} in the data only."));
    }
}

fn pair(h: &mut Html, page: &Page, confusion: &Confusion) {
    let total = page.class_accuracy(confusion.truth).map_or(0, |accuracy| accuracy.total);
    let part = confusion.count as f64 / total as f64;
    h.within("li", &[], |h| {
        h.within("span", &[("class", "who")], |h| {
            h.within("b", &[], |h| h.name(&page.class(confusion.truth)));
            h.element("span", &[("class", "called")], " called ");
            h.within("b", &[], |h| h.name(&page.class(confusion.predicted)));
        });
        let words = format!("{} of {}", count(confusion.count), counted(total, "picture", "pictures"));
        bar(h, &Bar { value: part, interval: None, reference: None, tone: "low", words: &words });
        h.element("span", &[("class", "num")], &format!("{} ({})", count(confusion.count), share(part)));
    });
}

/// Counts of the matrix: by true class, then by predicted class.
type Counts = BTreeMap<usize, BTreeMap<usize, usize>>;

fn matrix(h: &mut Html, page: &Page, confusions: &[Confusion]) {
    let (shown, all) = shown(page, confusions);
    let mut counts = Counts::new();
    for confusion in confusions {
        counts.entry(confusion.truth).or_default().insert(confusion.predicted, confusion.count);
    }
    for slice in &page.diagnosis.summary.by_class {
        counts.entry(slice.id).or_default().insert(slice.id, slice.accuracy.count);
    }
    let which = match shown.len() == all {
        true => "Rows: what the pictures are. Columns: what the model calls them. ".to_owned(),
        false => format!(
            "The {} of {} classes that are confused most. Rows: what the pictures are. Columns: what the model calls \
             them; “other” gathers the classes left out. ",
            shown.len(),
            all
        ),
    };
    explain(h, &format!("{which}Shade: share of the row. Right answers lie on the diagonal."));
    h.within(
        "div",
        &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", "Confusion matrix")],
        |h| {
            h.within("table", &[("class", "matrix")], |h| {
                matrix_head(h, page, &shown, shown.len() < all);
                h.within("tbody", &[], |h| {
                    for (place, truth) in shown.iter().enumerate() {
                        matrix_row(h, page, place, *truth, &shown, &counts, shown.len() < all);
                    }
                });
            });
        },
    );
}

/// The classes with the most confusions from or to them, in order of their index, and how many could be shown.
fn shown(page: &Page, confusions: &[Confusion]) -> (Vec<usize>, usize) {
    let mut weight: BTreeMap<usize, usize> =
        page.diagnosis.summary.by_class.iter().map(|slice| (slice.id, 0)).collect();
    for confusion in confusions {
        *weight.entry(confusion.truth).or_default() += confusion.count;
        *weight.entry(confusion.predicted).or_default() += confusion.count;
    }
    let mut order: Vec<(usize, usize)> = weight.into_iter().collect();
    let all = order.len();
    order.sort_by_key(|&(class, weight)| (std::cmp::Reverse(weight), class));
    let mut shown: Vec<usize> = order.into_iter().take(MATRIX).map(|(class, _)| class).collect();
    shown.sort_unstable();
    (shown, all)
}

fn matrix_head(h: &mut Html, page: &Page, shown: &[usize], other: bool) {
    h.element(
        "caption",
        &[("class", "unseen")],
        "Confusion matrix: rows are true classes, columns are predicted classes",
    );
    h.within("thead", &[], |h| {
        h.within("tr", &[], |h| {
            h.element("th", &[("scope", "col"), ("class", "who")], "True class");
            for (place, class) in shown.iter().enumerate() {
                let number = format!("{}", place + 1);
                let name = page.class(*class);
                h.within("th", &[("scope", "col"), ("title", &name)], |h| {
                    h.element("span", &[("aria-hidden", "true")], &number);
                    h.within("span", &[("class", "unseen")], |h| h.name(&name));
                });
            }
            if other {
                h.element("th", &[("scope", "col")], "other");
            }
            h.element("th", &[("scope", "col")], "all");
        });
    });
}

fn matrix_row(h: &mut Html, page: &Page, place: usize, truth: usize, shown: &[usize], counts: &Counts, other: bool) {
    let row = counts.get(&truth);
    let total: usize = row.map_or(0, |row| row.values().sum());
    let at = |class: usize| row.and_then(|row| row.get(&class)).copied().unwrap_or(0);
    let name = page.class(truth);
    h.within("tr", &[], |h| {
        h.within("th", &[("scope", "row"), ("class", "who"), ("title", &name)], |h| {
            h.element("span", &[("class", "place"), ("aria-hidden", "true")], &format!("{}", place + 1));
            h.name(&name);
        });
        for &predicted in shown {
            let kind = if predicted == truth { "right" } else { "wrong" };
            let class = format!("{kind} shade-{}", shade(at(predicted), total));
            let title = format!("{name} called {}: {} of {}", page.class(predicted), at(predicted), total);
            let text = if at(predicted) == 0 { "·".to_owned() } else { count(at(predicted)) };
            h.element("td", &[("class", &class), ("title", &title)], &text);
        }
        if other {
            let rest = total - shown.iter().map(|&class| at(class)).sum::<usize>();
            let class = format!("wrong shade-{}", shade(rest, total));
            h.element("td", &[("class", &class)], &if rest == 0 { "·".to_owned() } else { count(rest) });
        }
        h.element("td", &[("class", "all")], &count(total));
    });
}

/// One of nine shades, by the square root of the share, so that small shares are seen.
fn shade(part: usize, total: usize) -> usize {
    if part == 0 { 0 } else { (8.0 * (part as f64 / total as f64).sqrt()).ceil() as usize }
}
