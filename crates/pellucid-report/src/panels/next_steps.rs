//! What to do next: from the evidence to things a person can do, with links to where each is decided.

use super::neuron_list::{anchor, tone};
use super::{Panel, section};
use crate::format::{count, counted, number};
use crate::markup::Html;
use crate::page::{Page, explain};
use pellucid_classifier::results::{Finding, Mistakes, Neuron};
use pellucid_guard::{Job, Setting};

/// Mistakes made with at least this confidence are the first place to look for wrong labels.
const SURE: f64 = 0.95;
/// Neurons linked for a finding: twice as many of the gap, or as many of each direction.
const LINKS: usize = 2;
/// Fewer pictures than this make a class's accuracy a guess.
const FEW: usize = 20;

/// Writes the panel.
pub(crate) fn panel(page: &Page) -> Panel {
    let body = section("next", "What to do next", |h| {
        let findings: Vec<(usize, &Finding)> =
            page.diagnosis.findings.iter().enumerate().filter(|(_, finding)| named(finding).next().is_some()).collect();
        if page.mistakes() == 0 {
            explain(h, "Nothing is wrong on this data set. Measure on harder or newer pictures before trusting that.");
            return;
        }
        h.within("ol", &[("class", "steps")], |h| {
            if !findings.is_empty() {
                step(h, "Look at what the neurons respond to", |h| look(h, &findings));
                step(h, "If it is something that comes along, break the tie", |h| break_tie(h, page, &findings));
            }
            check_labels(h, page);
            few_pictures(h, page);
            examine_more(h, page);
        });
    });
    Panel { id: "next".to_owned(), title: "What to do next".to_owned(), rank: "part", body }
}

fn named(finding: &Finding) -> impl Iterator<Item = &Neuron> {
    let gap = finding.gap.iter().take(2 * LINKS);
    // Reports of runs without a gap fall back on the votes.
    let votes = if finding.gap.is_empty() { LINKS } else { 0 };
    gap.chain(finding.insufficient.iter().take(votes)).chain(finding.excessive.iter().take(votes))
}

fn step(h: &mut Html, title: &str, inside: impl FnOnce(&mut Html)) {
    h.within("li", &[], |h| {
        h.element("h3", &[], title);
        h.within("p", &[], inside);
    });
}

fn look(h: &mut Html, findings: &[(usize, &Finding)]) {
    h.text(
        "For each neuron ask: do the outlines lie on the thing itself, or on something that comes along with it (a \
         background, a watermark, a colour)? Start with ",
    );
    let mut seen = std::collections::BTreeSet::new();
    let mut first = true;
    for (place, finding) in findings {
        for neuron in named(finding).filter(|neuron| seen.insert((neuron.index, neuron.direction))) {
            h.text(if first { "" } else { ", " });
            first = false;
            let target = format!("#{}", anchor(&format!("finding-{}", place + 1), neuron));
            h.within("a", &[("href", &target), ("class", tone(neuron.direction))], |h| {
                h.text(&format!("neuron\u{A0}{}", neuron.index));
            });
        }
    }
    h.text(".");
}

fn break_tie(h: &mut Html, page: &Page, findings: &[(usize, &Finding)]) {
    h.text("Collect or make pictures where the two come apart");
    let mut classes: Vec<usize> = findings.iter().filter_map(|(_, finding)| finding.class).collect();
    classes.sort_unstable();
    classes.dedup();
    for (place, class) in classes.iter().enumerate() {
        h.text(if place == 0 { ": " } else { " or " });
        h.within("b", &[], |h| h.name(&page.class(*class)));
    }
    if !classes.is_empty() {
        h.text(" without it, and other classes with it");
    }
    h.text(", and measure both as groups. Where the accuracy of the groups differs, the model leans on it.");
}

fn check_labels(h: &mut Html, page: &Page) {
    let mut sure: Vec<usize> = Vec::new();
    for finding in &page.diagnosis.findings {
        let confident = finding.samples.iter().filter(|sample| sample.confidence >= SURE);
        sure.extend(confident.map(|sample| sample.index));
    }
    sure.sort_unstable();
    sure.dedup();
    if sure.is_empty() {
        return;
    }
    step(h, "Check labels first where the model is sure", |h| {
        h.text(&format!(
            "{} of the mistakes shown {} made with at least {} % confidence. Wrong labels look like this: sort the \
             mistakes by confidence and look at those.",
            count(sure.len()),
            if sure.len() == 1 { "was" } else { "were" },
            number(100.0 * SURE).trim_end_matches("0").trim_end_matches('.'),
        ));
    });
}

fn few_pictures(h: &mut Html, page: &Page) {
    let few = page.diagnosis.summary.by_class.iter().filter(|slice| slice.accuracy.total < FEW).count();
    if few == 0 {
        return;
    }
    step(h, "Add pictures before judging small classes", |h| {
        h.text(&format!(
            "{} fewer than {FEW} pictures; the intervals of their accuracy are too wide to rank them.",
            counted(few, "class has", "classes have")
        ));
    });
}

/// The command for the weakest class that this report does not examine.
fn examine_more(h: &mut Html, page: &Page) {
    let examined = |class: usize| {
        let findings = page.diagnosis.findings.iter();
        let mut sets = findings.map(|finding| &finding.mistakes);
        sets.any(|set| matches!(set, Mistakes::All) || *set == Mistakes::TrueClass { class })
    };
    let mut slices: Vec<_> = page.diagnosis.summary.by_class.iter().collect();
    slices.sort_by(|a, b| a.accuracy.value.total_cmp(&b.accuracy.value).then(a.id.cmp(&b.id)));
    let fails = |count: usize, total: usize| count < total;
    let next =
        slices.into_iter().find(|slice| fails(slice.accuracy.count, slice.accuracy.total) && !examined(slice.id));
    let Some(next) = next else { return };
    let run = &page.diagnosis.run;
    step(h, "Examine the next weakest class", |h| {
        h.within("b", &[], |h| h.name(&page.class(next.id)));
        h.text(" comes next. The scan is reused, so this takes seconds: ");
        let [model, data, class] = [run.model.as_str(), run.data.as_str(), &page.class(next.id)].map(quoted);
        h.element("code", &[], &format!("{} {model} {data} {}", Job::Debug, Setting::Class.with(&class)));
    });
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
