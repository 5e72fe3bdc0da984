//! Turns a [`Diagnosis`] into one self-contained HTML file.
//!
//! Flow: `redact` makes the copy of the diagnosis that may leave the house → `thumbnails` collects the
//! pictures, without metadata → `panels` write the page, one file a panel → `document` adds the style, the script,
//! the data and a content-security policy that allows exactly those → [`write_atomically`] puts it on disk.
//!
//! [`render_diffusion`] makes the other page, of a diffusion model's steps.
//!
//! The page needs no network, works from `file://`, and reads without JavaScript; the script (TypeScript in the
//! repository's `web/`, built into this crate's `web/`) adds sorting, filters, the heat-map controls and the selection of
//! neurons. Nothing a user named (classes, groups, files) reaches the page except through `markup::Html::text` and its
//! attributes, which escape.

mod charts;
mod diffusion;
mod disk;
mod document;
mod error;
mod format;
mod heat;
mod markup;
mod metadata;
mod order;
mod page;
mod panels;
mod pictures;
mod record;
mod redact;
mod repair;
mod thumbnails;

pub use diffusion::{
    ArrivalRow, ArrivalsPanel, Caption, Choice, Curve, DiffusionPage, EffectCard, EffectsPanel, ExplainerPanel,
    FaithfulnessPage, FaithfulnessPanel, FaithfulnessRow, GameLine, GamesPanel, Map, Spread, StepMaps, StepPanel,
    Verdict, render_diffusion, render_faithfulness,
};
pub use disk::write_atomically;
pub use error::ReportError;
pub use pictures::render_pictures;
pub use repair::{Changed, ShownInRepair, render_repair};
pub use thumbnails::{NoThumbnails, ThumbnailSource};

use page::Page;
use pellucid_classifier::results::Diagnosis;
use thumbnails::ThumbnailCache;

/// How a report is made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ReportOptions {
    /// Whether the report holds pictures. Without them it also holds no file names, no heat maps, and no warnings that
    /// could name a file: the variant for a report that leaves the house.
    pub pictures: bool,
    /// The largest report, in bytes. Where it would be exceeded, pictures are first shown smaller, then left out, in
    /// the order of [`ReportOptions::SHRINKING`]. The block that shows `run.json` counts for at least 4096 bytes: what else there is
    /// room for must not depend on the length of a command or a time.
    pub max_bytes: usize,
    /// Longest side of a thumbnail, in pixels, before any shrinking.
    pub thumbnail_side: u32,
}

impl Default for ReportOptions {
    fn default() -> Self {
        ReportOptions { pictures: true, max_bytes: 20_000_000, thumbnail_side: 208 }
    }
}

pellucid_guard::builders!(ReportOptions {
    with_pictures: pictures: bool,
    with_max_bytes: max_bytes: usize,
    with_thumbnail_side: thumbnail_side: u32,
});

/// How many pictures a report shows, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Longest side in pixels; [`ReportOptions::thumbnail_side`] caps it.
    pub side: u32,
    /// Mistakes shown with a picture, per finding.
    pub mistakes: usize,
    /// Top-activating pictures shown, per neuron.
    pub top: usize,
}

impl ReportOptions {
    /// What is tried, in this order, until the report fits `max_bytes`: everything; smaller pictures; fewer mistakes;
    /// fewer top-activating pictures; no pictures. The data (JSON) always stay whole.
    pub const SHRINKING: [Allowance; 8] = [
        Allowance { side: u32::MAX, mistakes: usize::MAX, top: usize::MAX },
        Allowance { side: 144, mistakes: usize::MAX, top: usize::MAX },
        Allowance { side: 112, mistakes: usize::MAX, top: usize::MAX },
        Allowance { side: 112, mistakes: 48, top: usize::MAX },
        Allowance { side: 112, mistakes: 24, top: 6 },
        Allowance { side: 96, mistakes: 12, top: 4 },
        Allowance { side: 96, mistakes: 6, top: 2 },
        Allowance { side: 0, mistakes: 0, top: 0 },
    ];
}

/// Renders `diagnosis` as one HTML page.
///
/// Equal inputs give equal bytes. `thumbnails` is asked once for each picture, from several threads; a picture that it
/// does not give, or that is neither JPEG nor PNG, is replaced by an empty tile and counted on the page.
///
/// # Errors
/// [`ReportError::TooLarge`] where the text and data alone exceed `max_bytes`; [`ReportError::Data`] where the diagnosis
/// cannot be written as JSON.
pub fn render(
    diagnosis: &Diagnosis,
    options: &ReportOptions,
    thumbnails: &dyn ThumbnailSource,
) -> Result<String, ReportError> {
    let public = redact::publishable(diagnosis, options);
    let data = serde_json::to_string(&public).map_err(ReportError::Data)?;
    // The source knows the pictures by their real names, which the public copy may lack.
    let negatives =
        if options.pictures { thumbnails::collect(diagnosis, options, thumbnails) } else { Default::default() };
    let (all, none) = (thumbnails::made(&public, thumbnails), std::collections::BTreeMap::new());
    let (mut cache, mut smallest) = (ThumbnailCache::default(), 0);
    for allowance in ReportOptions::SHRINKING {
        let thumbnails = cache.thumbnails(&negatives, &public, options, allowance);
        // The last allowance leaves every picture out.
        let made = if allowance.side > 0 { &all } else { &none };
        let page = Page { diagnosis: &public, options, thumbnails: &thumbnails, made };
        let html = document::assemble(&page, &data);
        smallest = record::length(&html, &public.run.record);
        if smallest <= options.max_bytes {
            return Ok(html);
        }
        if thumbnails.is_empty() {
            break;
        }
    }
    Err(ReportError::TooLarge { bytes: smallest, max_bytes: options.max_bytes })
}
