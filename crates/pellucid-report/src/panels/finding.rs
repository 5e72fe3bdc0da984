//! Why: one section for each examined set of mistakes, with the pictures and the neurons that stand out in them.

use super::{Panel, mistakes, neuron_card, neuron_list, section};
use crate::format::{count, counted, share};
use crate::markup::Html;
use crate::page::{Page, empty};
use pellucid_classifier::results::{Finding, Mistakes};

/// Writes one panel for each finding, or one that says why there is none.
pub(crate) fn panels(page: &Page) -> Vec<Panel> {
    let findings = &page.diagnosis.findings;
    if findings.is_empty() {
        return vec![nothing_examined(page)];
    }
    findings.iter().enumerate().map(|(place, finding)| panel(page, place + 1, finding)).collect()
}

fn nothing_examined(page: &Page) -> Panel {
    let title = "Why it fails".to_owned();
    let body = section("finding-1", &title, |h| match page.mistakes() {
        0 => empty(h, "The model made no mistake on this data set, so there is no mistake to explain."),
        _ => empty(h, "No set of mistakes was examined in this run."),
    });
    Panel { id: "finding-1".to_owned(), title, rank: "part", body }
}

fn panel(page: &Page, number: usize, finding: &Finding) -> Panel {
    let id = format!("finding-{number}");
    let heading = format!("{id}-title");
    let mut body = Html::new();
    body.within("section", &[("id", &id), ("class", "panel finding"), ("aria-labelledby", &heading)], |h| {
        h.element("p", &[("class", "eyebrow")], &format!("Why it fails · {number}"));
        h.within("h2", &[("id", &heading)], |h| h.name(&finding.title));
        if finding.count == 0 {
            return empty(h, "There are no such mistakes in this data set: nothing to explain here.");
        }
        h.within("p", &[("class", "lead")], |h| lead(h, page, finding));
        mistakes::write(h, page, finding, &id);
        neurons(h, page, finding, &id);
    });
    Panel { id, title: finding.title.clone(), rank: "subpart", body }
}

/// How many mistakes, and where they went or came from.
fn lead(h: &mut Html, page: &Page, finding: &Finding) {
    h.text(&format!("{}. ", counted(finding.count, "mistake", "mistakes")));
    let confusions = page.diagnosis.summary.confusions.iter();
    let (verb, mut parts): (&str, Vec<(usize, usize)>) = match finding.mistakes {
        Mistakes::TrueClass { class } => {
            ("Called", confusions.filter(|c| c.truth == class).map(|c| (c.predicted, c.count)).collect())
        }
        Mistakes::PredictedAs { class } => {
            ("They are", confusions.filter(|c| c.predicted == class).map(|c| (c.truth, c.count)).collect())
        }
        Mistakes::Group { group } => return group_lead(h, page, group),
        Mistakes::All => return,
    };
    parts.sort_by_key(|&(class, count)| (std::cmp::Reverse(count), class));
    if parts.is_empty() {
        return;
    }
    h.text(&format!("{verb} "));
    for (place, (class, amount)) in parts.iter().take(4).enumerate() {
        h.text(if place > 0 { ", " } else { "" });
        h.within("b", &[], |h| h.name(&page.class(*class)));
        h.text(&format!(" ({})", count(*amount)));
    }
    let rest: usize = parts.iter().skip(4).map(|(_, amount)| amount).sum();
    if rest > 0 {
        let classes = counted(parts.len() - 4, "other class", "other classes");
        h.text(&format!(" and {classes} ({})", count(rest)));
    }
    h.text(".");
}

/// How the model does on the whole group.
fn group_lead(h: &mut Html, page: &Page, group: usize) {
    let Some(slice) = page.diagnosis.summary.by_group.iter().find(|slice| slice.id == group) else { return };
    let (right, all) = (share(slice.accuracy.value), share(page.overall().value));
    let pictures = counted(slice.accuracy.total, "picture", "pictures");
    h.text(&format!("The model is right on {right} of the group's {pictures}, and on {all} of all pictures."));
}

fn neurons(h: &mut Html, page: &Page, finding: &Finding, id: &str) {
    h.element("h3", &[], "The neurons behind them");
    h.element(
        "p",
        &[("class", "explain")],
        "A neuron is one component of what the last layer reads; it responds to some visual pattern. Two questions are \
         asked of the mistakes: which neurons stand elsewhere than usual, and at what cost; and which small change of \
         neurons would have made the model right.",
    );
    if let Some(note) = mistakes::unreached_note(finding) {
        h.element("p", &[("class", "aside")], &note);
    }
    if finding.neurons().next().is_none() {
        return empty(
            h,
            match finding.unreached >= finding.count {
                true => "No counterfactual was reached, so no neuron can be named.",
                false => "No neuron is listed by enough of these mistakes to name one: they have no cause in common.",
            },
        );
    }
    h.within("div", &[("class", "explorer"), ("data-explorer", "")], |h| {
        neuron_list::write(h, finding, id);
        h.within("div", &[("class", "cards")], |h| neuron_card::write_all(h, page, finding, id));
    });
}
