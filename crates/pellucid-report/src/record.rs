//! The one block of a page that may differ between equal runs: what `run.json` holds.

use crate::format::{bytes, coordinate, seconds};
use crate::markup::Html;
use pellucid_classifier::results::RunRecord;

/// Bytes that the block counts for, however long it is up to that: what else a page has room for must not depend on it.
const ROOM: usize = 4096;

/// Writes the block, `<section id="run-json">`; it holds no other section.
pub(crate) fn block(h: &mut Html, record: &RunRecord) {
    h.within("section", &[("id", "run-json"), ("aria-label", "This run")], |h| {
        if !record.command.is_empty() {
            h.element("pre", &[("class", "command"), ("tabindex", "0")], &record.command);
        }
        if !record.next.is_empty() {
            h.element("p", &[], "To go on from here:");
            h.element("pre", &[("class", "command"), ("tabindex", "0")], &record.next);
        }
        let machine = &record.machine;
        let memory = machine.memory.and_then(|size| usize::try_from(size).ok());
        let memory = memory.map_or_else(String::new, |size| format!(", {}", bytes(size)));
        let entries = [
            ("Date", record.date.clone()),
            ("Threads", record.threads.to_string()),
            ("Machine", format!("{}, {} processors{memory}", machine.system, machine.processors)),
        ];
        h.within("dl", &[("class", "run")], |h| {
            for (term, value) in entries {
                h.within("div", &[], |h| {
                    h.element("dt", &[], term);
                    h.within("dd", &[], |h| h.name(&value));
                });
            }
        });
        timings(h, &record.timings);
    });
}

/// The length of a page's `html` that holds the block of `record`, the block counted as [`ROOM`] bytes.
pub(crate) fn length(html: &str, record: &RunRecord) -> usize {
    let mut alone = Html::new();
    block(&mut alone, record);
    let alone = alone.into_string().len();
    html.len().saturating_sub(alone) + alone.max(ROOM)
}

fn timings(h: &mut Html, timings: &[(String, f64)]) {
    let total: f64 = timings.iter().map(|(_, time)| *time).filter(|time| time.is_finite()).sum();
    if timings.is_empty() {
        return;
    }
    h.element("h3", &[], &format!("Time: {}", seconds(total)));
    h.within("ol", &[("class", "timings")], |h| {
        for (stage, time) in timings {
            h.within("li", &[], |h| {
                h.within("span", &[], |h| h.name(stage));
                h.within("svg", &[("class", "bar plain"), ("aria-hidden", "true")], |h| {
                    let width = coordinate(time / total);
                    h.void("rect", &[("class", "fill"), ("y", "6"), ("height", "8"), ("rx", "2"), ("width", &width)]);
                });
                h.element("span", &[("class", "num")], &seconds(*time));
            });
        }
    });
}
