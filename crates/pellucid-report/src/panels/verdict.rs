//! The verdict: the answer in plain words, and the four numbers behind it.

use super::Panel;
use crate::format::{count, counted, share, share_range};
use crate::markup::Html;
use crate::page::Page;
use pellucid_classifier::results::Slice;

/// Writes the panel.
pub(crate) fn panel(page: &Page) -> Panel {
    let mut body = Html::new();
    body.within("section", &[("id", "verdict"), ("class", "verdict"), ("aria-labelledby", "verdict-title")], |h| {
        h.element("p", &[("class", "eyebrow")], "Verdict");
        sentences(h, page);
        h.within("dl", &[("class", "figures")], |h| figures(h, page));
        h.within("p", &[("class", "jumps")], |h| jumps(h, page));
    });
    Panel { id: "verdict".to_owned(), title: "Verdict".to_owned(), rank: "part", body }
}

fn sentences(h: &mut Html, page: &Page) {
    let fallback = [match page.overall().total {
        0 => "There were no pictures to judge the model on.".to_owned(),
        total => format!("The model is right on {} of {} pictures.", share(page.overall().value), count(total)),
    }];
    let verdict: &[String] = if page.diagnosis.verdict.is_empty() { &fallback } else { &page.diagnosis.verdict };
    if let [first, rest @ ..] = verdict {
        h.within("h1", &[("id", "verdict-title")], |h| h.name(first));
        if !rest.is_empty() {
            h.within("div", &[("class", "sentences")], |h| {
                rest.iter().for_each(|sentence| h.within("p", &[], |h| h.name(sentence)));
            });
        }
    }
}

fn figures(h: &mut Html, page: &Page) {
    let summary = &page.diagnosis.summary;
    let overall = summary.accuracy;
    figure(h, "Accuracy", &share(overall.value), "", |h| {
        h.text(&format!("95 % interval {}", share_range(overall.low, overall.high)));
        h.void("br", &[]);
        h.text(&format!("{} of {} pictures", count(overall.count), count(overall.total)));
    });
    figure(h, "Mistakes", &count(page.mistakes()), "", |h| match summary.confusions.first() {
        Some(first) => {
            h.text("most often: ");
            h.name(&page.class(first.truth));
            h.text(" called ");
            h.name(&page.class(first.predicted));
            h.text(&format!(" ({})", count(first.count)));
        }
        None => h.text("nothing was confused"),
    });
    if page.mistakes() == 0 {
        return;
    }
    let weakest = |slices: &[Slice], worst: Option<usize>| slices.iter().find(|slice| Some(slice.id) == worst).cloned();
    if let Some(slice) = weakest(&summary.by_class, page.diagnosis.judgement.classes.first().map(|part| part.id))
        .filter(|_| summary.by_class.len() > 1)
    {
        weakest_figure(h, page, "Weakest class", &slice, &page.class(slice.id));
    }
    if let Some(slice) = weakest(&summary.by_group, page.diagnosis.judgement.groups.first().map(|part| part.id))
        .filter(|_| summary.by_group.len() > 1)
    {
        weakest_figure(h, page, "Weakest group", &slice, &page.group(slice.id));
    }
}

fn weakest_figure(h: &mut Html, page: &Page, term: &str, slice: &Slice, name: &str) {
    let gap = 100.0 * (page.overall().value - slice.accuracy.value);
    // An interval that reaches the overall accuracy may be chance, and chance is not painted red.
    let tone = if page.falls_short(slice.accuracy) { "bad" } else { "" };
    figure(h, term, &share(slice.accuracy.value), tone, |h| {
        h.within("span", &[("class", "who")], |h| h.name(name));
        let pictures = counted(slice.accuracy.total, "picture", "pictures");
        match gap >= 0.05 {
            true => h.text(&format!("{gap:.1} points below the whole, on {pictures}")),
            false => h.text(&format!("as good as the whole, on {pictures}")),
        }
    });
}

fn figure(h: &mut Html, term: &str, value: &str, tone: &str, note: impl FnOnce(&mut Html)) {
    h.within("div", &[("class", "figure")], |h| {
        h.element("dt", &[], term);
        h.element("dd", &[("class", &format!("value {tone}"))], value);
        h.within("dd", &[("class", "note")], note);
    });
}

fn jumps(h: &mut Html, page: &Page) {
    if page.diagnosis.findings.iter().any(|finding| finding.count > 0) {
        h.element("a", &[("href", "#finding-1")], "See the evidence");
        h.text(" ");
    }
    h.element("a", &[("href", "#next")], "What to do next");
    let warnings = page.diagnosis.run.warnings.len();
    if warnings > 0 {
        h.text(" ");
        h.element("a", &[("href", "#warnings"), ("class", "warned")], &counted(warnings, "warning", "warnings"));
    }
}
