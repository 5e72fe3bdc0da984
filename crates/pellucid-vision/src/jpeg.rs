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

use pellucid_guard::budget::product;
use pellucid_guard::{Budget, Limit, OverBudget};

/// Why there are no pixels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A kind of JPEG that another decoder has to read.
    NotCovered,
    /// The file ends too early.
    Truncated(&'static str),
    /// The file contradicts itself.
    Damaged(String),
    /// The file has more scans than are allowed, or than are allowed at its size.
    OverBudget(OverBudget),
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

    /// Bytes that decoding holds at its peak: the planes and the RGB bytes made from them; in a progressive file first the
    /// coefficients of all planes, which become samples one plane after the other.
    pub fn memory(&self) -> Option<u64> {
        let planes = self.frame.components.iter().map(|component| component.samples() as u64);
        let (all, largest) = planes.fold((0, 0), |(all, largest): (u64, u64), plane| (all + plane, largest.max(plane)));
        let rgb = product([u64::from(self.frame.width), u64::from(self.frame.height), 3])?;
        let coefficients = if self.frame.progressive { 2 * all + largest } else { 0 };
        Some((all + rgb).max(coefficients))
    }

    /// RGB bytes of the picture as stored, row by row.
    pub fn decode(mut self, budget: &Budget) -> Result<Vec<u8>, Problem> {
        self.frame.check_plausible(self.bytes.len())?;
        self.frame.allocate();
        let mut effort = Effort::new(budget);
        while let Some(header) = self.reader.until_scan(&self.frame)? {
            effort.admit(&self.frame, &header)?;
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

/// What the scans of a file have cost, bounded before the next is decoded: a scan may take no more than a byte, so a small
/// file could ask for any number of passes over a large picture.
struct Effort {
    budget: Budget,
    scans: u64,
    /// Coefficients visited.
    visits: u64,
}

impl Effort {
    /// Coefficients visited for each pixel of the largest picture that is allowed. The scripts that encoders use (ten scans
    /// or so) stay below 12 at full resolution of all colours.
    const VISITS: u64 = 24;
    /// What finding a block costs, in visits.
    const BLOCK: u64 = 8;

    fn new(budget: &Budget) -> Effort {
        Effort { budget: *budget, scans: 0, visits: 0 }
    }

    fn admit(&mut self, frame: &markers::Frame, header: &markers::ScanHeader) -> Result<(), Problem> {
        if !frame.progressive {
            // In a sequential file a component has one scan; a second would be decoded in vain.
            let repeats = header.parts.iter().any(|(index, ..)| frame.components[*index].seen);
            return match repeats {
                true => Err(Problem::Damaged("broken data stream: a second scan of the same component".into())),
                false => Ok(()),
            };
        }
        self.scans += 1;
        self.budget.admit(Limit::JpegScans, Some(self.scans)).map_err(Problem::OverBudget)?;
        let blocks: usize = header.parts.iter().map(|(index, ..)| frame.components[*index].samples() / 64).sum();
        let band = (header.last - header.first + 1) as u64;
        self.visits = self.visits.saturating_add((blocks as u64).saturating_mul(band + Self::BLOCK));
        if self.visits > self.budget.pixels.saturating_mul(Self::VISITS) {
            let (needed, bound) = (Some(self.scans), self.scans - 1);
            return Err(Problem::OverBudget(OverBudget { limit: Limit::JpegScans, needed, bound }));
        }
        Ok(())
    }
}

/// Whether the end-of-image marker comes after the compressed data, and how many scans come before. The general decoder
/// fills what is missing with gray; Pillow refuses, and so does this library.
pub(crate) fn end_and_scans(bytes: &[u8]) -> (bool, u64) {
    let (mut at, mut scans) = (2, 0);
    while at + 1 < bytes.len() {
        if bytes[at] != 0xff {
            at += 1;
            continue;
        }
        match bytes[at + 1] {
            0xd9 => return (true, scans),
            // Stuffed zero, fill byte, restart markers, temporary: no length follows.
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            0xff => at += 1,
            marker => {
                scans += u64::from(marker == 0xda);
                let Some(length) = bytes.get(at + 2..at + 4) else { return (false, scans) };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
    (false, scans)
}
