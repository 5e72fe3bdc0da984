//! Pictures in and out. Whatever a file holds (gray, alpha, 16 bits, CMYK, palette, animation)
//! becomes 8-bit RGB, upright, by the rules that Pillow's `convert('RGB')` follows, since that is
//! what the models were trained behind.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader};

use crate::jpeg;
use crate::resize::{Filter, resize};
use pellucid_guard::Budget;

/// Why a picture could not be read or written. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file is not there.
    #[error("{name}: no such file; check the path or remove the entry from the data set")]
    Missing {
        /// The file asked for.
        name: String,
    },
    /// The file is there and cannot be read.
    #[error("{name}: cannot be read: {source}")]
    Io {
        /// The file asked for.
        name: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A folder, a pipe or a device in place of a file.
    #[error("{name}: expected a picture file, found {found}")]
    NotAFile {
        /// The path asked for.
        name: String,
        /// What is there.
        found: &'static str,
    },
    /// The file has no bytes.
    #[error("{name}: the file is empty (0 bytes); fetch it again")]
    Empty {
        /// The file asked for.
        name: String,
    },
    /// A Git-LFS or git-annex stand-in where the picture should be.
    #[error("{name}: this is a Git-LFS pointer, not the picture; run `git lfs pull`")]
    LfsPointer {
        /// The file asked for.
        name: String,
    },
    /// The file is larger than [`Budget::picture_bytes`].
    #[error(
        "{name}: the file has {found} bytes, more than the limit of {limit}; raise the limit or shrink the picture"
    )]
    TooManyBytes {
        /// The file asked for.
        name: String,
        /// Bytes found (at least).
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The header claims more pixels than [`Budget::pixels`].
    #[error(
        "{name}: the header claims {width} x {height} pixels, more than the limit of {limit} pixels; raise the limit or shrink the picture"
    )]
    TooManyPixels {
        /// The file asked for.
        name: String,
        /// Claimed width.
        width: u32,
        /// Claimed height.
        height: u32,
        /// Pixels allowed.
        limit: u64,
    },
    /// The content is of no format that can be read here.
    #[error("{name}: not a picture in a known format ({found}); expected JPEG, PNG, WebP, GIF, BMP or TIFF")]
    UnknownFormat {
        /// The file asked for.
        name: String,
        /// What the first bytes look like.
        found: String,
    },
    /// The format is known, this variant of it is not.
    #[error("{name}: {detail}; convert it to 8-bit RGB PNG or JPEG")]
    Unsupported {
        /// The file asked for.
        name: String,
        /// What is not supported.
        detail: String,
    },
    /// The file ends before the picture does.
    #[error("{name}: the {format} file is truncated ({detail}); fetch it again")]
    Truncated {
        /// The file asked for.
        name: String,
        /// Format by content.
        format: &'static str,
        /// What was missing.
        detail: String,
    },
    /// The content is damaged.
    #[error("{name}: the {format} file is damaged: {detail}")]
    Damaged {
        /// The file asked for.
        name: String,
        /// Format by content.
        format: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// Width × height × 3 is not the number of bytes given.
    #[error("a picture of {width} x {height} pixels needs {expected} bytes of RGB, {found} were given")]
    WrongLength {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes needed.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A picture could not be encoded.
    #[error("a {width} x {height} picture cannot be written as {format}: {detail}")]
    Encode {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Format asked for.
        format: &'static str,
        /// What the encoder said.
        detail: String,
    },
}

/// An upright 8-bit RGB picture: rows from the top, pixels from the left, three bytes a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

impl Picture {
    /// A picture from RGB bytes, row by row; `data` has `width * height * 3` bytes and neither
    /// side is 0.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Picture, PictureError> {
        let expected = (u64::from(width) * u64::from(height)).saturating_mul(3);
        if expected != data.len() as u64 || expected == 0 {
            return Err(PictureError::WrongLength { width, height, expected, found: data.len() as u64 });
        }
        Ok(Picture { width, height, data })
    }

    /// A picture whose sides and bytes the caller has made to agree.
    pub(crate) fn from_parts(width: u32, height: u32, data: Vec<u8>) -> Picture {
        debug_assert_eq!(data.len() as u64, u64::from(width) * u64::from(height) * 3);
        Picture { width, height, data }
    }

    /// A picture whose pixel at (x, y), from the top left, is `colour(x, y)`. A side of 0 is
    /// taken as 1.
    pub fn from_fn(width: u32, height: u32, mut colour: impl FnMut(u32, u32) -> [u8; 3]) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        let mut data = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height {
            for x in 0..width {
                data.extend_from_slice(&colour(x, y));
            }
        }
        Picture { width, height, data }
    }

    /// Reads the file at `path` within `limits`.
    ///
    /// The first frame of an animation is taken; a rotation noted in EXIF is applied; alpha is
    /// dropped, not composited, as Pillow's `convert('RGB')` does; 16-bit samples keep their
    /// high byte; a colour profile is ignored.
    pub fn open(path: impl AsRef<Path>, limits: &Budget) -> Result<Picture, PictureError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let bytes = read_bounded(path, &name, limits)?;
        Picture::decode(&bytes, &name, limits)
    }

    /// As [`Picture::open`], from the bytes of a file; `name` is used in errors.
    pub fn decode(bytes: &[u8], name: &str, limits: &Budget) -> Result<Picture, PictureError> {
        check_bytes(bytes, name, limits)?;
        let format = format_of(bytes, name)?;
        // The decoders are fuzzed upstream, but one picture must never end a scan.
        catch_unwind(AssertUnwindSafe(|| decode_as(bytes, name, limits, format))).unwrap_or_else(|_| {
            Err(PictureError::Damaged {
                name: name.to_string(),
                format: format_name(format),
                detail: "the decoder gave up on its content".to_string(),
            })
        })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The RGB bytes, row by row from the top.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The RGB bytes, to change in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The RGB bytes, given up.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The colour at (x, y) from the top left; a place outside gives the nearest pixel.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let (x, y) = (x.min(self.width - 1) as usize, y.min(self.height - 1) as usize);
        let at = (y * self.width as usize + x) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// The same picture with its longer side at most `max_side` pixels (never enlarged).
    pub fn thumbnail(&self, max_side: u32) -> Picture {
        let longest = self.width.max(self.height);
        if longest <= max_side.max(1) {
            return self.clone();
        }
        let scale = f64::from(max_side.max(1)) / f64::from(longest);
        let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
        resize(self, side(self.width), side(self.height), Filter::Bicubic)
    }

    /// The picture as a JPEG file without metadata; `quality` from 1 to 100. Sides above 65 535
    /// do not fit that format.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, PictureError> {
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, quality.clamp(1, 100))
            .write_image(&self.data, self.width, self.height, image::ExtendedColorType::Rgb8)
            .map_err(|error| self.encode_error("JPEG", error))?;
        Ok(file)
    }

    /// The picture as a PNG file without metadata.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let mut file = Vec::new();
        PngEncoder::new(&mut file)
            .write_image(&self.data, self.width, self.height, image::ExtendedColorType::Rgb8)
            .map_err(|error| self.encode_error("PNG", error))?;
        Ok(file)
    }

    fn encode_error(&self, format: &'static str, error: image::ImageError) -> PictureError {
        PictureError::Encode { width: self.width, height: self.height, format, detail: error.to_string() }
    }
}

/// The bytes of the file at `path`, at most `limits.picture_bytes`; `name` is used in errors.
pub fn read_bounded(path: &Path, name: &str, limits: &Budget) -> Result<Vec<u8>, PictureError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => PictureError::Missing { name: name.to_string() },
        _ => PictureError::Io { name: name.to_string(), source },
    };
    let found = std::fs::metadata(path).map_err(io)?;
    if !found.is_file() {
        let found = if found.is_dir() { "a folder" } else { "something that is not a regular file" };
        return Err(PictureError::NotAFile { name: name.to_string(), found });
    }
    let too_many = |found| PictureError::TooManyBytes { name: name.to_string(), found, limit: limits.picture_bytes };
    if found.len() > limits.picture_bytes {
        return Err(too_many(found.len()));
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    let read = File::open(path).map_err(io)?.take(limits.picture_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(io)?;
    if bytes.len() as u64 > limits.picture_bytes {
        return Err(too_many(bytes.len() as u64));
    }
    Ok(bytes)
}

fn check_bytes(bytes: &[u8], name: &str, limits: &Budget) -> Result<(), PictureError> {
    let name = || name.to_string();
    if bytes.is_empty() {
        return Err(PictureError::Empty { name: name() });
    }
    if bytes.len() as u64 > limits.picture_bytes {
        return Err(PictureError::TooManyBytes {
            name: name(),
            found: bytes.len() as u64,
            limit: limits.picture_bytes,
        });
    }
    if bytes.starts_with(b"version https://git-lfs") || bytes.starts_with(b"/annex/objects/") {
        return Err(PictureError::LfsPointer { name: name() });
    }
    Ok(())
}

/// The format by content; the file's extension plays no part.
fn format_of(bytes: &[u8], name: &str) -> Result<ImageFormat, PictureError> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    match image::guess_format(bytes) {
        Ok(format @ (Jpeg | Png | WebP | Gif | Bmp | Tiff)) => Ok(format),
        Ok(other) => Err(unknown(name, format!("it looks like {other:?}"))),
        Err(_) => Err(unknown(name, first_bytes(bytes))),
    }
}

fn unknown(name: &str, found: String) -> PictureError {
    PictureError::UnknownFormat { name: name.to_string(), found }
}

fn first_bytes(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(64)];
    let trimmed = head.trim_ascii_start();
    if bytes.get(4..8) == Some(b"ftyp") {
        "it looks like HEIC, AVIF or a video".to_string()
    } else if trimmed.starts_with(b"<") {
        "it looks like HTML, XML or SVG".to_string()
    } else if bytes.starts_with(b"%PDF") {
        "it looks like PDF".to_string()
    } else if head.iter().all(|byte| *byte == 0) {
        "its first bytes are all zero".to_string()
    } else {
        let hex: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("it starts with {}", hex.join(" "))
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

/// The longest side that JPEG has room for, and no photograph exceeds; what a resize computes for
/// each side stays small.
const LONGEST_SIDE: u32 = 65_535;

fn decode_as(bytes: &[u8], name: &str, limits: &Budget, format: ImageFormat) -> Result<Picture, PictureError> {
    if format == ImageFormat::Jpeg {
        match decode_jpeg(bytes, name, limits)? {
            Some(picture) => return Ok(picture),
            None if !jpeg::has_end(bytes) => return Err(truncated(name, format, "it has no end-of-image marker")),
            None => {}
        }
    }
    let fail = |error: image::ImageError| decoder_error(name, format, error);
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    check_size(name, format, width, height, limits)?;
    // Metadata that cannot be read is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut bounds = image::Limits::no_limits();
    // Eight bytes a pixel: 16-bit RGBA, the widest layout that is accepted below.
    bounds.max_alloc = Some(limits.pixels.saturating_mul(8).saturating_add(1 << 20));
    decoder.set_limits(bounds).map_err(fail)?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        let detail = "its samples are 32-bit floats, whose range is not defined".to_string();
        return Err(PictureError::Unsupported { name: name.to_string(), detail });
    }
    upright(DynamicImage::from_decoder(decoder).map_err(fail)?, orientation, name)
}

/// The picture by this library's own decoder; `None` for kinds of JPEG that it does not cover.
fn decode_jpeg(bytes: &[u8], name: &str, limits: &Budget) -> Result<Option<Picture>, PictureError> {
    let format = ImageFormat::Jpeg;
    let fail = |problem: jpeg::Problem| match problem {
        jpeg::Problem::NotCovered => Ok(None),
        jpeg::Problem::Truncated(detail) => Err(truncated(name, format, detail)),
        jpeg::Problem::Damaged(detail) => Err(damaged(name, format, detail)),
    };
    let opened = match jpeg::open(bytes) {
        Ok(opened) => opened,
        Err(problem) => return fail(problem),
    };
    let (width, height) = opened.size();
    check_size(name, format, width, height, limits)?;
    let orientation = opened.exif().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let pixels = match opened.decode() {
        Ok(pixels) => pixels,
        Err(problem) => return fail(problem),
    };
    let decoded = image::RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| damaged(name, format, "its data do not fill the picture"))?;
    Ok(Some(upright(decoded.into(), orientation, name)?))
}

/// The picture as it is meant to be looked at, in 8-bit RGB.
fn upright(mut decoded: DynamicImage, orientation: Orientation, name: &str) -> Result<Picture, PictureError> {
    decoded.apply_orientation(orientation);
    let (width, height) = (decoded.width(), decoded.height());
    Picture::new(width, height, to_rgb(decoded, name)?)
}

/// Refuses sizes before anything is allocated for them.
fn check_size(name: &str, format: ImageFormat, width: u32, height: u32, limits: &Budget) -> Result<(), PictureError> {
    if width == 0 || height == 0 {
        return Err(damaged(name, format, format!("its header claims {width} x {height} pixels")));
    }
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(PictureError::TooManyPixels { name: name.to_string(), width, height, limit: limits.pixels });
    }
    if width.max(height) > LONGEST_SIDE {
        let detail = format!("its header claims {width} x {height} pixels, a side above {LONGEST_SIDE}");
        return Err(PictureError::Unsupported { name: name.to_string(), detail });
    }
    Ok(())
}

/// 8-bit RGB bytes: gray replicated, alpha dropped, the high byte of 16-bit samples.
fn to_rgb(decoded: DynamicImage, name: &str) -> Result<Vec<u8>, PictureError> {
    let high = |sample: u16| (sample >> 8) as u8;
    Ok(match decoded {
        DynamicImage::ImageRgb8(rgb) => rgb.into_raw(),
        DynamicImage::ImageRgba8(rgba) => rgba.as_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma8(gray) => gray.as_raw().iter().flat_map(|v| [*v; 3]).collect(),
        DynamicImage::ImageLumaA8(gray) => gray.as_raw().chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageLuma16(gray) => gray.as_raw().iter().flat_map(|v| [high(*v); 3]).collect(),
        DynamicImage::ImageLumaA16(gray) => gray.as_raw().chunks_exact(2).flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.as_raw().iter().map(|v| high(*v)).collect(),
        DynamicImage::ImageRgba16(rgba) => {
            rgba.as_raw().chunks_exact(4).flat_map(|p| [high(p[0]), high(p[1]), high(p[2])]).collect()
        }
        other => {
            let detail = format!("its samples are {:?}", other.color());
            return Err(PictureError::Unsupported { name: name.to_string(), detail });
        }
    })
}

fn truncated(name: &str, format: ImageFormat, detail: impl Into<String>) -> PictureError {
    PictureError::Truncated { name: name.to_string(), format: format_name(format), detail: detail.into() }
}

fn damaged(name: &str, format: ImageFormat, detail: impl Into<String>) -> PictureError {
    PictureError::Damaged { name: name.to_string(), format: format_name(format), detail: detail.into() }
}

fn decoder_error(name: &str, format: ImageFormat, error: image::ImageError) -> PictureError {
    let mut detail = error.to_string();
    match error {
        // The TIFF decoder gives samples that it cannot place as a number of bits.
        image::ImageError::Unsupported(_) if detail.contains("Unknown(32)") => {
            detail = "its samples have 32 bits, probably 32-bit floats".to_string();
            PictureError::Unsupported { name: name.to_string(), detail }
        }
        image::ImageError::Unsupported(_) => PictureError::Unsupported { name: name.to_string(), detail },
        image::ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            truncated(name, format, detail)
        }
        _ if ["unexpected end", "unexpected eof", "failed to fill whole buffer", "truncated", "exhausted"]
            .iter()
            .any(|sign| detail.to_lowercase().contains(sign)) =>
        {
            truncated(name, format, detail)
        }
        _ => damaged(name, format, detail),
    }
}
