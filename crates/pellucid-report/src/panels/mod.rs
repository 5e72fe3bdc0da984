//! The panels of a report, one file each. A panel reads the page and writes its section; to add one (a neuron's
//! optimised picture, a repair before and after), write its file and name it in [`all`] or in the panel that holds it.

mod accuracy;
mod confusions;
mod cue;
mod finding;
mod mistakes;
mod neuron_card;
mod neuron_list;
mod next_steps;
pub(crate) mod picture;
pub(crate) mod pictures;
mod run_card;
mod slices;
mod verdict;

use crate::markup::Html;
use crate::page::Page;

/// One section of the page.
pub(crate) struct Panel {
    /// The section's anchor, made by us.
    pub(crate) id: String,
    /// Its line in the contents; may hold a user's names.
    pub(crate) title: String,
    /// `part` or `subpart` of the contents.
    pub(crate) rank: &'static str,
    /// The section.
    pub(crate) body: Html,
}

/// All panels, in reading order: what is wrong, the evidence, what to do, how it was made.
pub(crate) fn all(page: &Page) -> Vec<Panel> {
    let mut panels = vec![verdict::panel(page), accuracy::panel(page), confusions::panel(page)];
    panels.extend(cue::panel(page));
    panels.extend(finding::panels(page));
    panels.extend(slices::panel(page));
    panels.extend([next_steps::panel(page), run_card::panel(page)]);
    panels
}

/// A section with its heading.
fn section(id: &str, title: &str, inside: impl FnOnce(&mut Html)) -> Html {
    let mut html = Html::new();
    let heading = format!("{id}-title");
    html.within("section", &[("id", id), ("class", "panel"), ("aria-labelledby", &heading)], |h| {
        h.within("h2", &[("id", &heading)], |h| h.name(title));
        inside(h);
    });
    html
}
