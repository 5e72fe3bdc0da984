//! Slices that nobody named: mistakes that go together, on pictures that did not say so.

use super::mistakes::tile;
use super::{Panel, section};
use crate::format::{count, counted, whole_percent};
use crate::page::{Page, explain};

/// Writes the panel, where there is a slice.
pub(crate) fn panel(page: &Page) -> Option<Panel> {
    let slices = &page.diagnosis.judgement.slices;
    if slices.is_empty() {
        return None;
    }
    let title = "Mistakes that go together";
    let body = section("slices", title, |h| {
        explain(
            h,
            "Half of the pictures suggested these groups; the numbers come from the other half. Nobody gave them a name: look \
             what their pictures have in common.",
        );
        for (place, slice) in slices.iter().enumerate() {
            h.element("h3", &[], &format!("Group {}, in finding {}", place + 1, slice.finding + 1));
            let pictures = counted(slice.test.samples, "picture is", "pictures are");
            let rate = whole_percent(100.0 * slice.test.rest);
            let wrong = count(slice.test.mistakes);
            h.element("p", &[], &format!("{wrong} of its {pictures} wrong; of the others around it, {rate}."));
            h.within("ul", &[("class", "tiles")], |h| slice.examples.iter().for_each(|sample| tile(h, page, sample)));
        }
    });
    Some(Panel { id: "slices".to_owned(), title: title.to_owned(), rank: "part", body })
}
