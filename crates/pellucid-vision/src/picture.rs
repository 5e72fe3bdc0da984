//! Pictures in and out. Whatever a file holds (gray, alpha, 16 bits, CMYK, palette, animation)
//! becomes 8-bit RGB, upright, by the rules that Pillow's `convert('RGB')` follows, since that is
//! what the models were trained behind.

use pellucid_guard::Setting;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ImageEncoder, ImageFormat};

use crate::resize::{Filter, resize};
use pellucid_guard::printable;
use pellucid_guard::{Budget, ByteSize, OverBudget};

mod decode;
mod png;

/// Why a picture could not be read or written. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file is not there.
    #[error("{}: no such file; check the path or remove the entry from the data set", printable::name(.name))]
    Missing {
        /// The file asked for.
        name: String,
    },
    /// The file is there and cannot be read.
    #[error("{}: cannot be read: {source}", printable::name(.name))]
    Io {
        /// The file asked for.
        name: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A folder, a pipe or a device in place of a file.
    #[error("{}: expected a picture file, found {found}", printable::name(.name))]
    NotAFile {
        /// The path asked for.
        name: String,
        /// What is there.
        found: &'static str,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty (0 bytes); fetch it again", printable::name(.name))]
    Empty {
        /// The file asked for.
        name: String,
    },
    /// A Git-LFS or git-annex stand-in where the picture should be.
    #[error("{}: this is a Git-LFS pointer, not the picture; run `git lfs pull`", printable::name(.name))]
    LfsPointer {
        /// The file asked for.
        name: String,
    },
    /// The file is larger than [`Budget::picture_bytes`].
    #[error("{}: the file has {}, at most {} are read; shrink the picture", printable::name(.name), ByteSize(*.found), ByteSize(*.limit))]
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
        "{}: the header claims {width} x {height} pixels, {limit} pixels are allowed; raise the bound with {max_pixels} if you trust the file",
        printable::name(.name), max_pixels = Setting::Pixels)]
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
    /// Decoding would take more memory or work than [`Budget`] allows.
    #[error("{}: decoding its {width} x {height} pixels takes too much: {source}", printable::name(.name))]
    OverBudget {
        /// The file asked for.
        name: String,
        /// Claimed width.
        width: u32,
        /// Claimed height.
        height: u32,
        /// The bound, and what is needed.
        source: OverBudget,
    },
    /// The content is of no format that can be read here.
    #[error("{}: not a picture in a known format ({found}); expected JPEG, PNG, WebP, GIF, BMP or TIFF", printable::name(.name))]
    UnknownFormat {
        /// The file asked for.
        name: String,
        /// What the first bytes look like.
        found: String,
    },
    /// The format is known, this variant of it is not.
    #[error("{}: {detail}; convert it to 8-bit RGB PNG or JPEG", printable::name(.name))]
    Unsupported {
        /// The file asked for.
        name: String,
        /// What is not supported.
        detail: String,
    },
    /// The file ends before the picture does.
    #[error("{}: the {format} file is truncated ({detail}); fetch it again", printable::name(.name))]
    Truncated {
        /// The file asked for.
        name: String,
        /// Format by content.
        format: &'static str,
        /// What was missing.
        detail: String,
    },
    /// The content is damaged.
    #[error("{}: the {format} file is damaged: {detail}", printable::name(.name))]
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

    /// A picture from 16-bit RGB levels, row by row; each keeps its high byte, as those of files do.
    ///
    /// # Errors
    /// [`PictureError::WrongLength`] where `data` does not have `width * height * 3` levels, or a side is 0.
    pub fn from_rgb16(width: u32, height: u32, data: &[u16]) -> Result<Picture, PictureError> {
        Picture::new(width, height, data.iter().map(|level| (level >> 8) as u8).collect())
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

    /// Reads the file at `path` within `budget`.
    ///
    /// The first frame of an animation is taken; a rotation noted in EXIF is applied; alpha is
    /// dropped, not composited, as Pillow's `convert('RGB')` does; 16-bit samples keep their
    /// high byte; a colour profile is ignored.
    pub fn open(path: impl AsRef<Path>, budget: &Budget) -> Result<Picture, PictureError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let bytes = read_bounded(path, &name, budget)?;
        Picture::decode(&bytes, &name, budget)
    }

    /// As [`Picture::open`], from the bytes of a file; `name` is used in errors.
    pub fn decode(bytes: &[u8], name: &str, budget: &Budget) -> Result<Picture, PictureError> {
        check_bytes(bytes, name, budget)?;
        let format = format_of(bytes, name)?;
        decode::upright(&decode::Encoded { bytes, name, format, budget })
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

/// The bytes of the file at `path`, at most `budget.picture_bytes`; `name` is used in errors.
pub fn read_bounded(path: &Path, name: &str, budget: &Budget) -> Result<Vec<u8>, PictureError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => PictureError::Missing { name: name.to_string() },
        _ => PictureError::Io { name: name.to_string(), source },
    };
    let found = std::fs::metadata(path).map_err(io)?;
    if !found.is_file() {
        let found = if found.is_dir() { "a folder" } else { "something that is not a regular file" };
        return Err(PictureError::NotAFile { name: name.to_string(), found });
    }
    let too_many = |found| PictureError::TooManyBytes { name: name.to_string(), found, limit: budget.picture_bytes };
    if found.len() > budget.picture_bytes {
        return Err(too_many(found.len()));
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    let read = File::open(path).map_err(io)?.take(budget.picture_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(io)?;
    if bytes.len() as u64 > budget.picture_bytes {
        return Err(too_many(bytes.len() as u64));
    }
    Ok(bytes)
}

fn check_bytes(bytes: &[u8], name: &str, budget: &Budget) -> Result<(), PictureError> {
    let name = || name.to_string();
    if bytes.is_empty() {
        return Err(PictureError::Empty { name: name() });
    }
    if bytes.len() as u64 > budget.picture_bytes {
        return Err(PictureError::TooManyBytes {
            name: name(),
            found: bytes.len() as u64,
            limit: budget.picture_bytes,
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
        // Not what they are: the name may be a link to a file that is nobody else's business.
        "its first bytes are those of no picture".to_string()
    }
}
