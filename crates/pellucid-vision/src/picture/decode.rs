//! From the bytes of a file to an upright picture, within a [`Budget`].
//!
//! What a decoder holds at its peak is known from the header, and is admitted before it is taken: the pixels, the working
//! copies of that decoder, and the second copy that a quarter turn needs. Decoders of others run behind
//! [`pellucid_guard::parse`]; the JPEG decoder of this crate does not, since a panic of it is a defect to be seen.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use pellucid_guard::budget::product;
use pellucid_guard::{Budget, Limit, OverBudget, parse, printable};

use super::{Picture, PictureError, png};
use crate::jpeg;

/// The longest side that JPEG has room for, and no photograph exceeds; what a resize computes for
/// each side stays small.
const LONGEST_SIDE: u32 = 65_535;

/// A file whose format is known.
pub(super) struct Encoded<'a> {
    pub bytes: &'a [u8],
    /// For errors.
    pub name: &'a str,
    pub format: ImageFormat,
    pub budget: &'a Budget,
}

/// A picture as it is stored: RGB bytes that may lie on their side.
pub(super) struct Stored {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
    pub orientation: Orientation,
}

/// The picture as it is meant to be looked at.
pub(super) fn upright(file: &Encoded<'_>) -> Result<Picture, PictureError> {
    let stored = match file.format {
        ImageFormat::Jpeg => match own_jpeg(file)? {
            Some(stored) => stored,
            None => {
                check_foreign_jpeg(file)?;
                general(file)?
            }
        },
        ImageFormat::Png => png::decode(file)?,
        ImageFormat::Tiff => {
            check_tiff(file)?;
            general(file)?
        }
        _ => general(file)?,
    };
    if stored.orientation == Orientation::NoTransforms {
        return Picture::new(stored.width, stored.height, stored.rgb);
    }
    let pixels = RgbImage::from_raw(stored.width, stored.height, stored.rgb)
        .ok_or_else(|| file.damaged("its data do not fill the picture"))?;
    let mut pixels = DynamicImage::ImageRgb8(pixels);
    pixels.apply_orientation(stored.orientation);
    Picture::new(pixels.width(), pixels.height(), pixels.into_rgb8().into_raw())
}

impl Encoded<'_> {
    /// Runs a decoder of others; its panic is this file's error.
    pub fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T, PictureError> {
        parse(format_name(self.format), work).map_err(|panicked| self.damaged(panicked.to_string()))
    }

    /// Refuses sizes that no picture has or the budget does not allow.
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), PictureError> {
        if width == 0 || height == 0 {
            return Err(self.damaged(format!("its header claims {width} x {height} pixels")));
        }
        let limit = self.budget.pixels;
        if u64::from(width) * u64::from(height) > limit {
            return Err(PictureError::TooManyPixels { name: self.name.to_string(), width, height, limit });
        }
        if width.max(height) > LONGEST_SIDE {
            let detail = format!("its header claims {width} x {height} pixels, a side above {LONGEST_SIDE}");
            return Err(PictureError::Unsupported { name: self.name.to_string(), detail });
        }
        Ok(())
    }

    /// Admits the `working` bytes that decoding holds at its peak (pixels of the result among them), and what turning the
    /// result takes.
    pub fn admit(
        &self,
        (width, height): (u32, u32),
        working: Option<u64>,
        orientation: Orientation,
    ) -> Result<(), PictureError> {
        let copies = if is_quarter_turn(orientation) { 2 } else { 1 };
        let rgb = product([u64::from(width), u64::from(height), 3, copies]);
        let needed = working.zip(rgb).map(|(working, rgb)| working.max(rgb));
        let admitted = self.budget.admit(Limit::FileMemory, needed);
        admitted.map(drop).map_err(|source| self.over(width, height, source))
    }

    pub fn over(&self, width: u32, height: u32, source: OverBudget) -> PictureError {
        PictureError::OverBudget { name: self.name.to_string(), width, height, source }
    }

    pub fn truncated(&self, detail: impl Into<String>) -> PictureError {
        PictureError::Truncated {
            name: self.name.to_string(),
            format: format_name(self.format),
            detail: printable::name(&detail.into()).into_owned(),
        }
    }

    pub fn damaged(&self, detail: impl Into<String>) -> PictureError {
        PictureError::Damaged {
            name: self.name.to_string(),
            format: format_name(self.format),
            detail: printable::name(&detail.into()).into_owned(),
        }
    }

    /// Truncated or damaged, by the words of a decoder that does not tell them apart.
    pub fn broken(&self, detail: String) -> PictureError {
        let signs = ["unexpected end", "unexpected eof", "failed to fill whole buffer", "truncated", "exhausted"];
        let words = detail.to_lowercase();
        if signs.iter().any(|sign| words.contains(sign)) { self.truncated(detail) } else { self.damaged(detail) }
    }

    fn unsupported(&self, detail: impl Into<String>) -> PictureError {
        let detail = printable::name(&detail.into()).into_owned();
        PictureError::Unsupported { name: self.name.to_string(), detail }
    }

    fn decoder_error(&self, error: ImageError) -> PictureError {
        let detail = error.to_string();
        match error {
            // The TIFF decoder gives samples that it cannot place as a number of bits.
            ImageError::Unsupported(_) if detail.contains("Unknown(32)") => {
                self.unsupported("its samples have 32 bits, probably 32-bit floats")
            }
            ImageError::Unsupported(_) => self.unsupported(detail),
            ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => self.truncated(detail),
            ImageError::Limits(_) => self.damaged("it takes more memory to decode than its header says"),
            _ => self.broken(detail),
        }
    }
}

fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "picture",
    }
}

fn is_quarter_turn(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// The picture by this library's own decoder; `None` for kinds of JPEG that it does not cover.
fn own_jpeg(file: &Encoded<'_>) -> Result<Option<Stored>, PictureError> {
    let (mut width, mut height) = (0, 0);
    let decoded = jpeg::open(file.bytes).map_err(Err).and_then(|opened| {
        (width, height) = opened.size();
        file.check_size(width, height).map_err(Ok)?;
        let exif = opened.exif().map(<[u8]>::to_vec);
        let orientation = exif.and_then(|exif| file.guarded(|| Orientation::from_exif_chunk(&exif)).ok().flatten());
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        file.admit((width, height), opened.memory(), orientation).map_err(Ok)?;
        let rgb = opened.decode(file.budget).map_err(Err)?;
        Ok(Stored { width, height, rgb, orientation })
    });
    match decoded {
        Ok(stored) => Ok(Some(stored)),
        Err(Ok(refused)) => Err(refused),
        Err(Err(jpeg::Problem::NotCovered)) => Ok(None),
        Err(Err(jpeg::Problem::Truncated(detail))) => Err(file.truncated(detail)),
        Err(Err(jpeg::Problem::Damaged(detail))) => Err(file.damaged(detail)),
        Err(Err(jpeg::Problem::OverBudget(source))) => Err(file.over(width, height, source)),
    }
}

/// A kind of JPEG that the general decoder reads: it fills what is missing with gray, and bounds no work.
fn check_foreign_jpeg(file: &Encoded<'_>) -> Result<(), PictureError> {
    let (has_end, scans) = jpeg::end_and_scans(file.bytes);
    if !has_end {
        return Err(file.truncated("it has no end-of-image marker"));
    }
    // As many as a picture without tricks has; every kind that may sensibly have more is read by the own decoder.
    const SCANS: u64 = 16;
    if scans > SCANS {
        return Err(file.unsupported(format!("an unusual kind of JPEG with {scans} scans, more than {SCANS}")));
    }
    Ok(())
}

/// Refuses TIFF files whose parts unfold to more than the picture that they make up.
fn check_tiff(file: &Encoded<'_>) -> Result<(), PictureError> {
    use tiff::decoder::{ChunkType, Decoder};
    use tiff::tags::Tag;
    /// The new JPEG compression, and the old one.
    const JPEG: [u16; 2] = [7, 6];
    let layout = file.guarded(|| {
        let mut decoder = Decoder::new(Cursor::new(file.bytes))?;
        let (width, height) = decoder.dimensions()?;
        let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression)?;
        let tile = (decoder.get_chunk_type() == ChunkType::Tile).then(|| decoder.chunk_dimensions());
        Ok::<_, tiff::TiffError>((width, height, compression, tile))
    })?;
    // What is wrong with a file that cannot be read, the decoder says below.
    let Ok((width, height, compression, tile)) = layout else { return Ok(()) };
    file.check_size(width, height)?;
    if compression.is_some_and(|kind| JPEG.contains(&kind)) {
        // Each part would be a JPEG file with a size and an effort of its own, decoded whole.
        return Err(file.unsupported("its pixels are compressed as JPEG inside the TIFF"));
    }
    let Some((across, down)) = tile else { return Ok(()) };
    let covered = |side: u32, tile: u32| u64::from(side.div_ceil(tile.max(1))) * u64::from(tile);
    let unfolded = product([covered(width, across), covered(height, down)]);
    let admitted = file.budget.admit(Limit::Pixels, unfolded);
    admitted.map(drop).map_err(|source| file.over(width, height, source))
}

/// The picture by the decoders of `image`.
fn general(file: &Encoded<'_>) -> Result<Stored, PictureError> {
    let fail = |error: ImageError| file.decoder_error(error);
    let opened = file.guarded(|| ImageReader::with_format(Cursor::new(file.bytes), file.format).into_decoder())?;
    let mut decoder = opened.map_err(fail)?;
    let (width, height) = decoder.dimensions();
    file.check_size(width, height)?;
    let colour = decoder.color_type();
    // Metadata that cannot be read are no reason to refuse the pixels.
    let orientation = file.guarded(|| decoder.orientation())?.unwrap_or(Orientation::NoTransforms);
    let stored_bytes = decoder.total_bytes();
    let pixels = u64::from(width) * u64::from(height);
    let working = working_bytes(file, colour, pixels, stored_bytes)?;
    file.admit((width, height), working, orientation)?;
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(file.budget.file_memory);
    decoder.set_limits(bounds).map_err(fail)?;
    let mut samples = vec![0; usize::try_from(stored_bytes).map_err(|_| file.damaged("its size makes no sense"))?];
    file.guarded(|| decoder.read_image(&mut samples))?.map_err(fail)?;
    let rgb = rgb_of(samples, colour).ok_or_else(|| file.unsupported(format!("its samples are {colour:?}")))?;
    Ok(Stored { width, height, rgb, orientation })
}

/// What the decoder of a format holds at its peak, the `stored` bytes of its result and the conversion to RGB among them.
fn working_bytes(file: &Encoded<'_>, colour: ColorType, pixels: u64, stored: u64) -> Result<Option<u64>, PictureError> {
    let channels = u64::from(colour.channel_count());
    if matches!(colour, ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(file.unsupported("its samples are 32-bit floats, whose range is not defined"));
    }
    // Gray grows when it becomes RGB; all else shrinks in place.
    let converted = if channels < 3 && stored < pixels * 4 { stored + pixels * 3 } else { stored };
    let held = match file.format {
        // The four inks of a CMYK file beside the three colours that they become; else a copy of the samples.
        ImageFormat::Tiff => stored + stored.div_ceil(3) * 4,
        // A frame, the canvas it is put on, and what is given; planes at half the resolution; alpha unfolds as a picture.
        ImageFormat::WebP if is_animated_webp(file)? => pixels * 15,
        ImageFormat::WebP if channels == 4 => pixels * 11,
        ImageFormat::WebP => pixels * 7,
        // Planes or coefficients of a kind that this library's own decoder does not read.
        ImageFormat::Jpeg => stored + pixels * 12,
        // A GIF's frame of another size than its canvas is bounded by what is left of the budget, in the decoder.
        _ => stored,
    };
    Ok(Some(held.max(converted)))
}

fn is_animated_webp(file: &Encoded<'_>) -> Result<bool, PictureError> {
    let opened = file.guarded(|| image::codecs::webp::WebPDecoder::new(Cursor::new(file.bytes)))?;
    Ok(opened.map_err(|error| file.decoder_error(error))?.has_animation())
}

/// 8-bit RGB from samples in the machine's byte order: gray replicated, alpha dropped, the high byte of 16-bit samples.
/// `None` for samples of other kinds.
fn rgb_of(mut samples: Vec<u8>, colour: ColorType) -> Option<Vec<u8>> {
    let high = usize::from(cfg!(target_endian = "little"));
    // Bytes of a pixel, and where in it the three colours are.
    let (size, places) = match colour {
        ColorType::Rgb8 => return Some(samples),
        ColorType::L8 => (1, [0; 3]),
        ColorType::La8 => (2, [0; 3]),
        ColorType::Rgba8 => (4, [0, 1, 2]),
        ColorType::L16 => (2, [high; 3]),
        ColorType::La16 => (4, [high; 3]),
        ColorType::Rgb16 => (6, [high, 2 + high, 4 + high]),
        ColorType::Rgba16 => (8, [high, 2 + high, 4 + high]),
        _ => return None,
    };
    if size < 3 {
        return Some(samples.chunks_exact(size).flat_map(|pixel| places.map(|place| pixel[place])).collect());
    }
    let pixels = samples.len() / size;
    for at in 0..pixels {
        let pixel = places.map(|place| samples[at * size + place]);
        samples[at * 3..at * 3 + 3].copy_from_slice(&pixel);
    }
    samples.truncate(pixels * 3);
    samples.shrink_to_fit();
    Some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_rgb_by_pillows_rules() {
        let wide = |samples: &[u16]| samples.iter().flat_map(|s| s.to_ne_bytes()).collect::<Vec<u8>>();
        for (colour, samples, rgb) in [
            (ColorType::L8, vec![7, 9], vec![7, 7, 7, 9, 9, 9]),
            (ColorType::La8, vec![7, 1, 9, 2], vec![7, 7, 7, 9, 9, 9]),
            (ColorType::Rgb8, vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]),
            (ColorType::Rgba8, vec![1, 2, 3, 99, 4, 5, 6, 99], vec![1, 2, 3, 4, 5, 6]),
            (ColorType::L16, wide(&[0x7ff, 0x9ff]), vec![7, 7, 7, 9, 9, 9]),
            (ColorType::La16, wide(&[0x7ff, 1, 0x9ff, 2]), vec![7, 7, 7, 9, 9, 9]),
            (ColorType::Rgb16, wide(&[0x1ff, 0x2ff, 0x3ff, 0x4ff, 0x5ff, 0x6ff]), vec![1, 2, 3, 4, 5, 6]),
            (ColorType::Rgba16, wide(&[0x1ff, 0x2ff, 0x3ff, 9, 0x4ff, 0x5ff, 0x6ff, 9]), vec![1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(rgb_of(samples, colour), Some(rgb), "{colour:?}");
        }
        assert_eq!(rgb_of(vec![0; 12], ColorType::Rgb32F), None);
    }
}
