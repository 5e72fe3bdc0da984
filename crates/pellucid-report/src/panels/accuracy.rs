//! Where the model fails: accuracy of each class and each group, with Wilson intervals.

use super::{Panel, section};
use crate::charts::{Bar, bar};
use crate::format::{count, counted, share, share_range};
use crate::markup::Html;
use crate::page::{Page, empty, explain};
use pellucid_classifier::results::Slice;
use std::borrow::Cow;

/// Fewer pictures than this make an interval too wide to conclude from.
const FEW: usize = 20;
/// Rows shown at first, where the script can show more.
const ROWS: &str = "15";

/// Writes the panel.
pub(crate) fn panel(page: &Page) -> Panel {
    let summary = &page.diagnosis.summary;
    let body = section("accuracy", "Where it fails", |h| {
        explain(h, &reading(page));
        h.element("h3", &[], "By class");
        match summary.by_class.is_empty() {
            true => empty(h, "No class has a picture, so there is nothing to measure."),
            false => table(h, page, "class", &summary.by_class, |index| page.class(index)),
        }
        h.element("h3", &[], "By group");
        match summary.by_group.is_empty() {
            true => empty(
                h,
                "The data set names no groups. With a group for each picture (a place, a camera, a background) this \
                 shows whether the model fails under some conditions only.",
            ),
            false => table(h, page, "group", &summary.by_group, |index| page.group(index)),
        }
    });
    Panel { id: "accuracy".to_owned(), title: "Where it fails".to_owned(), rank: "part", body }
}

fn reading(page: &Page) -> String {
    format!(
        "Bar: share of the pictures that the model calls right. Whisker: 95 % interval (Wilson), wide where there are \
         few pictures. Upright line: the whole data set, {}. Red: below the whole by more than chance explains.",
        share(page.overall().value)
    )
}

fn table<'a>(h: &mut Html, page: &Page, kind: &str, slices: &[Slice], name: impl Fn(usize) -> Cow<'a, str>) {
    let id = format!("by-{kind}");
    controls(h, &id, kind, slices.len());
    let mut order: Vec<&Slice> = slices.iter().collect();
    order.sort_by(|a, b| a.accuracy.value.total_cmp(&b.accuracy.value).then(a.id.cmp(&b.id)));
    h.within("table", &[("class", "slices")], |h| {
        h.element("caption", &[("class", "unseen")], &format!("Accuracy of each {kind}, lowest first"));
        h.within("thead", &[], |h| {
            h.within("tr", &[], |h| {
                let column = |h: &mut Html, class: &'static str, text: &str| {
                    h.element("th", &[("scope", "col"), ("class", class)], text);
                };
                column(h, "who", if kind == "class" { "Class" } else { "Group" });
                column(h, "plot", "0 – 100 %");
                column(h, "num", "Accuracy");
                column(h, "num range", "95 % interval");
                column(h, "num size", "Right / all");
            });
        });
        let noun = if kind == "class" { "classes" } else { "groups" };
        let list = [("id", id.as_str()), ("data-list", ROWS), ("data-noun", noun)];
        h.within("tbody", &list, |h| order.iter().for_each(|slice| row(h, page, slice, &name(slice.id))));
    });
}

fn controls(h: &mut Html, list: &str, kind: &str, rows: usize) {
    if rows < 6 {
        return;
    }
    h.within("p", &[("class", "controls js-only"), ("data-for", list)], |h| {
        h.within("label", &[], |h| {
            h.text("Sort by ");
            h.within("select", &[("data-sort", "")], |h| {
                for (key, text) in
                    [("accuracy", "accuracy, lowest first"), ("size", "pictures, most first"), ("name", "name")]
                {
                    h.element("option", &[("value", key)], text);
                }
            });
        });
        if rows > 12 {
            h.within("label", &[], |h| {
                h.text("Find ");
                h.void(
                    "input",
                    &[("type", "search"), ("data-find", ""), ("placeholder", &format!("name of a {kind}"))],
                );
            });
        }
    });
}

fn row(h: &mut Html, page: &Page, slice: &Slice, name: &str) {
    let accuracy = slice.accuracy;
    let below = page.falls_short(accuracy);
    let attributes = [
        ("class", if below { "below" } else { "level" }),
        ("data-name", name),
        ("data-accuracy", &sorting(accuracy.value)),
        ("data-size", &format!("-{}", accuracy.total)),
    ];
    let range = share_range(accuracy.low, accuracy.high);
    let words = format!("{}, 95 % interval {range}", share(accuracy.value));
    h.within("tr", &attributes, |h| {
        h.within("th", &[("scope", "row"), ("class", "who")], |h| {
            h.name(name);
            if accuracy.total < FEW {
                let few = format!("only {}", counted(accuracy.total, "picture", "pictures"));
                h.element("span", &[("class", "tag")], &few);
            }
        });
        h.within("td", &[("class", "plot")], |h| {
            let interval = Some((accuracy.low, accuracy.high));
            let tone = if below { "low" } else { "plain" };
            let reference = Some(page.overall().value);
            bar(h, &Bar { value: accuracy.value, interval, reference, tone, words: &words });
        });
        h.element("td", &[("class", "num strong")], &share(accuracy.value));
        h.element("td", &[("class", "num range")], &range);
        h.element("td", &[("class", "num size")], &format!("{} / {}", count(accuracy.count), count(accuracy.total)));
    });
}

/// What the script sorts by; a share of nothing comes last.
fn sorting(value: f64) -> String {
    format!("{:.6}", if value.is_finite() { value } else { 2.0 })
}
