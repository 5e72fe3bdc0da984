//! What every panel reads: the public diagnosis, the pictures, and the names of things.

use crate::markup::Html;
use crate::thumbnails::Album;
use crate::{ReportOptions, format};
use pellucid_classifier::results::{Diagnosis, Proportion, Sample};
use std::borrow::Cow;

/// The inputs of a page.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a> {
    /// The public copy of the diagnosis.
    pub(crate) diagnosis: &'a Diagnosis,
    /// How the report is made.
    pub(crate) options: &'a ReportOptions,
    /// The pictures in the page.
    pub(crate) thumbnails: &'a Album,
    /// The files that the run made for neurons, by name.
    pub(crate) made: &'a std::collections::BTreeMap<String, Vec<u8>>,
}

impl<'a> Page<'a> {
    /// A class's name; one without a name gets its number.
    pub(crate) fn class(&self, index: usize) -> Cow<'a, str> {
        named(&self.diagnosis.summary.classes, "class", index)
    }

    /// A group's name; one without a name gets its number.
    pub(crate) fn group(&self, index: usize) -> Cow<'a, str> {
        named(&self.diagnosis.summary.groups, "group", index)
    }

    /// Accuracy of a class over its pictures, if it has any.
    pub(crate) fn class_accuracy(&self, index: usize) -> Option<Proportion> {
        self.diagnosis.summary.by_class.iter().find(|slice| slice.id == index).map(|slice| slice.accuracy)
    }

    /// Accuracy over all samples.
    pub(crate) fn overall(&self) -> Proportion {
        self.diagnosis.summary.accuracy
    }

    /// Whether an accuracy is below that of the whole data set by more than chance explains: its whole interval is.
    pub(crate) fn falls_short(&self, accuracy: Proportion) -> bool {
        accuracy.high + 1e-9 < self.overall().value
    }

    /// Number of mistakes in the whole data set.
    pub(crate) fn mistakes(&self) -> usize {
        self.overall().total.saturating_sub(self.overall().count)
    }

    /// What a picture is, for those who cannot see it.
    pub(crate) fn describe(&self, sample: &Sample) -> String {
        let truth = self.class(sample.truth);
        let verdict = match sample.truth == sample.predicted {
            true => "called that".to_owned(),
            false => format!("called {}", self.class(sample.predicted)),
        };
        let confidence = format::whole_percent(100.0 * sample.confidence);
        format!("Picture of {truth}, {verdict} with {confidence} confidence")
    }
}

fn named<'a>(names: &'a [String], kind: &str, index: usize) -> Cow<'a, str> {
    match names.get(index) {
        Some(name) if !name.trim().is_empty() => Cow::Borrowed(name),
        _ => Cow::Owned(format!("{kind} {index}")),
    }
}

/// A line of explanation under a heading.
pub(crate) fn explain(h: &mut Html, text: &str) {
    h.element("p", &[("class", "explain")], text);
}

/// A line that says why a place is empty, and what to do about it.
pub(crate) fn empty(h: &mut Html, text: &str) {
    h.element("p", &[("class", "empty")], text);
}
