//! The pictures of a report: asked for once each, stripped of metadata, made smaller or left out to fit.

use crate::metadata::{BarePicture, bare};
use crate::order::by_confidence;
use crate::{Allowance, ReportOptions};
use base64::Engine;
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, imageops::FilterType};
use pellucid_classifier::results::{Diagnosis, Sample};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Where a report gets its pictures from.
pub trait ThumbnailSource: Sync {
    /// `sample`'s picture as JPEG or PNG bytes, its longest side at most `max_side` pixels, without metadata; `None`
    /// where it cannot be read.
    ///
    /// It should show what the model sees (turned as EXIF says, resized and cropped, not normalised), because heat maps
    /// are laid over the whole of it. Called from several threads.
    fn thumbnail(&self, sample: &Sample, max_side: u32) -> Option<Vec<u8>>;

    /// The bytes of a PNG that the run made for a neuron; `None` where it cannot be read.
    fn made(&self, _file: &str) -> Option<Vec<u8>> {
        None
    }
}

/// A source that has no pictures.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoThumbnails;

impl ThumbnailSource for NoThumbnails {
    fn thumbnail(&self, _: &Sample, _: u32) -> Option<Vec<u8>> {
        None
    }
}

/// The files that the run made for neurons, by name.
pub(crate) fn made(diagnosis: &Diagnosis, source: &dyn ThumbnailSource) -> BTreeMap<String, Vec<u8>> {
    let files = diagnosis.pictures.iter().flat_map(|neuron| neuron.files());
    files.filter_map(|file| source.made(&file).map(|bytes| (file, bytes))).collect()
}

/// Pictures at full size by the sample's row; `None` where there is none to be had.
pub(crate) type Thumbnails = BTreeMap<usize, Option<BarePicture>>;

/// Asks for every picture that the full report would show.
pub(crate) fn collect(diagnosis: &Diagnosis, options: &ReportOptions, source: &dyn ThumbnailSource) -> Thumbnails {
    let wanted = wanted(diagnosis, ReportOptions::SHRINKING[0]);
    let wanted: Vec<(usize, &Sample)> = wanted.into_iter().collect();
    let fetch = |&(index, sample): &(usize, &Sample)| {
        let bytes = source.thumbnail(sample, options.thumbnail_side)?;
        let picture = bare(&bytes)?;
        Some((index, within(picture, options.thumbnail_side)?))
    };
    let fetched: Vec<_> = wanted.par_iter().map(|wish| fetch(wish).ok_or(wish.0)).collect();
    fetched.into_iter().map(|result| result.map_or_else(|index| (index, None), |(i, p)| (i, Some(p)))).collect()
}

/// The samples that have a place on the page under `allowance`.
fn wanted(diagnosis: &Diagnosis, allowance: Allowance) -> BTreeMap<usize, &Sample> {
    let mut wanted = BTreeMap::new();
    let of_slices = diagnosis.judgement.slices.iter().flat_map(|slice| slice.examples.iter().take(allowance.top));
    wanted.extend(of_slices.map(|sample| (sample.index, sample)));
    let of_a_cue = diagnosis.judgement.cue.iter().flat_map(|cue| [&cue.with, &cue.without, &cue.others]);
    let of_a_cue = of_a_cue.flat_map(|samples| samples.iter().take(allowance.top));
    wanted.extend(of_a_cue.map(|sample| (sample.index, sample)));
    for finding in &diagnosis.findings {
        let first = by_confidence(finding).into_iter().take(allowance.mistakes);
        wanted.extend(first.map(|sample| (sample.index, sample)));
        for neuron in finding.neurons() {
            wanted.extend(neuron.top.iter().take(allowance.top).map(|top| (top.sample.index, &top.sample)));
        }
    }
    wanted
}

/// A picture that is in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Print {
    /// Its `data:` address.
    pub(crate) address: String,
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
}

/// The pictures in the page, by the sample's row.
#[derive(Debug)]
pub(crate) struct Album {
    prints: BTreeMap<usize, Print>,
    /// Pictures that the source could not give.
    pub(crate) unavailable: usize,
    /// Pictures left out for the size limit.
    pub(crate) left_out: usize,
    /// What the size limit allowed.
    pub(crate) allowance: Allowance,
}

/// Thumbnails as prints of one size, for every allowance of that size.
#[derive(Debug, Default)]
pub(crate) struct ThumbnailCache {
    side: u32,
    prints: BTreeMap<usize, Print>,
}

impl ThumbnailCache {
    /// The pictures that `allowance` lets in, at its size.
    pub(crate) fn thumbnails(
        &mut self,
        negatives: &Thumbnails,
        diagnosis: &Diagnosis,
        options: &ReportOptions,
        allowance: Allowance,
    ) -> Album {
        let side = allowance.side.min(options.thumbnail_side);
        let available: Vec<_> =
            negatives.iter().filter_map(|(index, picture)| Some((*index, picture.as_ref()?))).collect();
        if side != self.side {
            let develop = |(index, picture): &(usize, &BarePicture)| Some((*index, develop(picture, side)?));
            let prints = if side > 0 { available.par_iter().filter_map(develop).collect() } else { BTreeMap::new() };
            *self = ThumbnailCache { side, prints };
        }
        let wanted = wanted(diagnosis, allowance);
        let chosen = self.prints.iter().filter(|(index, _)| wanted.contains_key(index));
        let prints: BTreeMap<usize, Print> = chosen.map(|(index, print)| (*index, print.clone())).collect();
        let left_out = available.len() - prints.len();
        Album { unavailable: negatives.len() - available.len(), left_out, allowance, prints }
    }
}

impl Album {
    /// The picture of the sample in row `index`, if it is in the page.
    pub(crate) fn get(&self, index: usize) -> Option<&Print> {
        self.prints.get(&index)
    }

    /// All pictures, in order of rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Print)> {
        self.prints.iter().map(|(index, print)| (*index, print))
    }

    /// Whether no picture is in the page.
    pub(crate) fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }
}

fn develop(picture: &BarePicture, side: u32) -> Option<Print> {
    let picture = within(picture.clone(), side)?;
    let data = base64::engine::general_purpose::STANDARD.encode(&picture.bytes);
    Some(Print {
        address: format!("data:{};base64,{data}", picture.mime),
        width: picture.width,
        height: picture.height,
    })
}

/// The picture with its longest side at most `side`; resized ones are JPEG on white.
fn within(picture: BarePicture, side: u32) -> Option<BarePicture> {
    if picture.width.max(picture.height) <= side {
        return Some(picture);
    }
    let decoded = image::load_from_memory(&picture.bytes).ok()?.to_rgba8();
    let mut flat = image::RgbImage::new(decoded.width(), decoded.height());
    for (to, from) in flat.pixels_mut().zip(decoded.pixels()) {
        let alpha = u32::from(from[3]);
        to.0 = [0, 1, 2].map(|i| ((u32::from(from[i]) * alpha + 255 * (255 - alpha)) / 255) as u8);
    }
    let small = image::DynamicImage::from(flat).resize(side, side, FilterType::Triangle).to_rgb8();
    let (width, height) = small.dimensions();
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 82);
    encoder.write_image(small.as_raw(), width, height, ExtendedColorType::Rgb8).ok()?;
    Some(BarePicture { bytes, mime: "image/jpeg", width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_shrunk_to_the_side_and_keeps_its_proportions() {
        let mut bytes = Vec::new();
        let pixels = vec![90; 300 * 150 * 3];
        JpegEncoder::new(&mut bytes).write_image(&pixels, 300, 150, ExtendedColorType::Rgb8).expect("encodes");
        let whole = bare(&bytes).expect("a JPEG");
        let small = within(whole.clone(), 100).expect("resizes");
        assert_eq!((small.width, small.height), (100, 50));
        assert_eq!(within(whole.clone(), 300), Some(whole), "nothing is encoded twice without need");
    }
}
