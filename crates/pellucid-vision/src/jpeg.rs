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

/// What is known of a file from its header.
pub(crate) struct Header {
    /// Width in pixels as stored, before any rotation.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// The EXIF block, without its `Exif\0\0` prefix.
    pub exif: Option<Vec<u8>>,
}

/// Size and EXIF block of the file.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, Problem> {
    let mut reader = markers::Reader::new(bytes);
    reader.until_frame()?;
    let frame = reader.frame.as_ref().ok_or(Problem::Truncated("it has no frame"))?;
    Ok(Header { width: frame.width, height: frame.height, exif: reader.exif.take() })
}

/// RGB bytes of the picture as stored, row by row.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut reader = markers::Reader::new(bytes);
    reader.until_frame()?;
    let mut frame = reader.frame.take().ok_or(Problem::Truncated("it has no frame"))?;
    frame.check_plausible(bytes.len())?;
    frame.allocate();
    while let Some(header) = reader.until_scan(&frame)? {
        let at = scan::decode(&mut frame, &reader.tables, &header, bytes, reader.at)?;
        reader.at = at;
    }
    if frame.components.iter().any(|component| !component.seen) {
        return Err(Problem::Truncated("a colour component has no data"));
    }
    frame.finish_progressive();
    Ok(assemble::rgb(&frame, reader.colours(&frame)?))
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
