//! The pictures of a report: what the model saw, small, re-encoded so that no metadata travels.

use pellucid_classifier::results::Sample;
use pellucid_guard::Budget;
use pellucid_report::ThumbnailSource;
use pellucid_vision::dataset::Dataset;
use pellucid_vision::preprocess::Preprocessing;
use std::path::Path;

/// JPEG quality of thumbnails: fine at 200 pixels, a few kilobytes each.
const QUALITY: u8 = 82;

/// Reads pictures from the data set, cropped to what the model saw, so that heat maps lie where they belong.
pub(crate) struct SeenByTheModel<'a> {
    pub data: &'a Dataset,
    pub preprocessing: &'a Preprocessing,
    pub limits: &'a Budget,
    /// Where pictures made for neurons lie.
    pub made: &'a Path,
}

impl ThumbnailSource for SeenByTheModel<'_> {
    fn thumbnail(&self, sample: &Sample, max_side: u32) -> Option<Vec<u8>> {
        let picture = self.data.read(sample.index, self.limits).ok()?;
        self.preprocessing.view(&picture).thumbnail(max_side).to_jpeg(QUALITY).ok()
    }

    fn made(&self, file: &str) -> Option<Vec<u8>> {
        std::fs::read(self.made.join(file)).ok()
    }
}
