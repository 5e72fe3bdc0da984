//! A JPEG decoder whose pixels equal libjpeg's, which Pillow, torchvision and OpenCV all use.
//!
//! JPEG leaves the inverse transform and the enlarging of colour to the decoder; decoders differ
//! there by several levels, and networks have been trained behind one of them. Here the integer
//! transform, the triangular ("fancy") upsampling and the colour tables follow libjpeg's
//! definitions, so that a picture means the same to the model as it did in training. It is own
//! code because no decoder in Rust gives those pixels: of `jpeg-decoder` and `zune-jpeg`, 1 to 7 %
//! of the channels of the test pictures are off by more than one level.
//!
//! Covered: 8-bit Huffman, sequential and progressive; gray, YCbCr, RGB, CMYK, YCCK; whole
//! sampling ratios. Anything else is [`Problem::NotCovered`], and the caller takes the general
//! decoder.

mod assemble;
mod entropy;
mod inverse;
mod markers;
mod scan;

/// Why there are no pixels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A kind of JPEG that another decoder has to read.
    NotCovered,
    /// The file ends too early.
    Truncated(&'static str),
    /// The file contradicts itself.
    Damaged(String),
}

/// A file that is read up to its size, before anything is allocated for the pixels.
pub(crate) struct Opened<'a> {
    bytes: &'a [u8],
    reader: markers::Reader<'a>,
    frame: markers::Frame,
}

/// Reads up to the frame header.
pub(crate) fn open(bytes: &[u8]) -> Result<Opened<'_>, Problem> {
    let mut reader = markers::Reader::new(bytes);
    reader.until_frame()?;
    let frame = reader.frame.take().ok_or(Problem::Truncated("it has no frame"))?;
    Ok(Opened { bytes, reader, frame })
}

impl Opened<'_> {
    /// Width and height in pixels as stored, before any rotation.
    pub fn size(&self) -> (u32, u32) {
        (self.frame.width, self.frame.height)
    }

    /// The EXIF block, without its `Exif\0\0` prefix.
    pub fn exif(&self) -> Option<&[u8]> {
        self.reader.exif.as_deref()
    }

    /// RGB bytes of the picture as stored, row by row.
    pub fn decode(mut self) -> Result<Vec<u8>, Problem> {
        self.frame.check_plausible(self.bytes.len())?;
        self.frame.allocate();
        while let Some(header) = self.reader.until_scan(&self.frame)? {
            let tables = &self.reader.tables;
            self.reader.at = scan::decode(&mut self.frame, tables, &header, self.bytes, self.reader.at)?;
        }
        if self.frame.components.iter().any(|component| !component.seen) {
            return Err(Problem::Truncated("a colour component has no data"));
        }
        self.frame.finish_progressive();
        Ok(assemble::rgb(&self.frame, self.reader.colours(&self.frame)?))
    }
}

/// Whether the end-of-image marker comes after the compressed data. The general decoder
/// fills what is missing with gray; Pillow refuses, and so does this library.
pub(crate) fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while at + 1 < bytes.len() {
        if bytes[at] != 0xff {
            at += 1;
            continue;
        }
        match bytes[at + 1] {
            0xd9 => return true,
            // Stuffed zero, fill byte, restart markers, temporary: no length follows.
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            0xff => at += 1,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
    false
}
