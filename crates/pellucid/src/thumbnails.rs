//! The pictures of a report: what the model saw, small, re-encoded so that no metadata travels.

use crate::scan::Scan;
use pellucid_classifier::results::Sample;
use pellucid_report::ThumbnailSource;
use std::collections::BTreeMap;

/// JPEG quality of thumbnails: fine at 200 pixels, a few kilobytes each.
const QUALITY: u8 = 82;

/// Reads pictures from the data set, cropped to what the model saw, so that heat maps lie where they belong.
pub(crate) struct SeenByTheModel<'a> {
    scan: &'a Scan,
    /// Pictures made for neurons, by name.
    made: &'a BTreeMap<String, Vec<u8>>,
}

impl<'a> SeenByTheModel<'a> {
    pub fn of(scan: &'a Scan, made: &'a BTreeMap<String, Vec<u8>>) -> Self {
        Self { scan, made }
    }
}

impl ThumbnailSource for SeenByTheModel<'_> {
    fn thumbnail(&self, sample: &Sample, max_side: u32) -> Option<Vec<u8>> {
        let classifier = &self.scan.classifier;
        let seen = self.scan.data.view(sample.index, classifier.preprocessing(), classifier.budget()).ok()?;
        seen.thumbnail(max_side).to_jpeg(QUALITY).ok()
    }

    fn made(&self, file: &str) -> Option<Vec<u8>> {
        self.made.get(file).cloned()
    }
}
