//! The segments of a JPEG file: tables, the frame header, scan headers, and the application
//! segments that decide how colours are stored.

use super::Problem;
use super::assemble::Colours;
use super::entropy::HuffmanTable;
use super::inverse::{ZIGZAG, inverse_transform};

/// Tables that stay in force until they are replaced.
#[derive(Default)]
pub(super) struct Tables {
    /// Divisors in zigzag order.
    pub quantisation: [Option<[u16; 64]>; 4],
    pub dc: [Option<HuffmanTable>; 4],
    pub ac: [Option<HuffmanTable>; 4],
    /// MCUs between restart markers; 0 for none.
    pub restart_interval: usize,
}

/// One colour plane.
pub(super) struct Component {
    pub id: u8,
    /// Sampling factors.
    pub h: usize,
    pub v: usize,
    quantisation_index: usize,
    /// Latched when the component's first scan starts.
    pub quantisation: [u16; 64],
    /// Samples that belong to the picture.
    pub width: usize,
    pub height: usize,
    /// Blocks stored, whole MCUs.
    pub blocks_across: usize,
    pub blocks_down: usize,
    /// Samples, `blocks_across * 8` a row.
    pub plane: Vec<u8>,
    /// Coefficients in natural order, for progressive files only.
    pub coefficients: Vec<i16>,
    pub seen: bool,
}

impl Component {
    /// Samples of the plane, and coefficients of all its blocks.
    pub fn samples(&self) -> usize {
        self.blocks_across * self.blocks_down * 64
    }

    /// Samples in a row of the plane.
    pub fn stride(&self) -> usize {
        self.blocks_across * 8
    }

    /// Takes the quantisation table in force when its data begin.
    pub fn latch(&mut self, tables: &Tables) -> Result<(), Problem> {
        if !self.seen {
            let table = tables.quantisation[self.quantisation_index];
            self.quantisation = table.ok_or_else(|| Problem::Damaged("a quantisation table is missing".into()))?;
            self.seen = true;
        }
        Ok(())
    }

    /// Transforms a block and puts it at (across, down), in blocks.
    pub fn put(&mut self, block: &[i16; 64], across: usize, down: usize) {
        let stride = self.stride();
        let start = down * 8 * stride + across * 8;
        inverse_transform(block, &self.quantisation, &mut self.plane[start..], stride);
    }
}

/// What the frame header says.
pub(super) struct Frame {
    pub width: u32,
    pub height: u32,
    pub progressive: bool,
    pub components: Vec<Component>,
    /// Largest sampling factors.
    pub h_max: usize,
    pub v_max: usize,
}

impl Frame {
    /// Every block takes at least one bit, so a small file that claims a large picture is refused
    /// before memory is asked for.
    pub fn check_plausible(&self, bytes: usize) -> Result<(), Problem> {
        let blocks: usize = self.components.iter().map(|c| c.width.div_ceil(8) * c.height.div_ceil(8)).sum();
        if blocks / 8 > bytes {
            let detail = format!("{bytes} bytes cannot hold the {} x {} pixels it claims", self.width, self.height);
            return Err(Problem::Damaged(detail));
        }
        Ok(())
    }

    pub fn allocate(&mut self) {
        for component in &mut self.components {
            match self.progressive {
                true => component.coefficients = vec![0; component.samples()],
                false => component.plane = vec![0; component.samples()],
            }
        }
    }

    /// Transforms the blocks of a progressive file, once all scans are in. The coefficients of a plane go before the next
    /// plane is made.
    pub fn finish_progressive(&mut self) {
        if !self.progressive {
            return;
        }
        for component in &mut self.components {
            let coefficients = std::mem::take(&mut component.coefficients);
            component.plane = vec![0; coefficients.len()];
            let (blocks, _) = coefficients.as_chunks::<64>();
            for (index, block) in blocks.iter().enumerate() {
                component.put(block, index % component.blocks_across, index / component.blocks_across);
            }
        }
    }
}

/// What a scan header says: which components, with which tables, which coefficients.
pub(super) struct ScanHeader {
    /// Index into the frame's components, DC table, AC table.
    pub parts: Vec<(usize, usize, usize)>,
    /// First and last coefficient, in zigzag order.
    pub first: usize,
    pub last: usize,
    /// Bits above the one that this scan brings, and that bit (successive approximation).
    pub high: u32,
    pub low: u32,
}

/// Walks through the segments.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Where the next segment starts.
    pub at: usize,
    pub tables: Tables,
    pub frame: Option<Frame>,
    pub exif: Option<Vec<u8>>,
    jfif: bool,
    adobe: Option<u8>,
}

/// What the walk stops at.
enum Stop {
    Frame,
    Scan(ScanHeader),
    End,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 2, tables: Tables::default(), frame: None, exif: None, jfif: false, adobe: None }
    }

    /// Reads up to and including the frame header.
    pub fn until_frame(&mut self) -> Result<(), Problem> {
        match self.walk(None)? {
            Stop::Frame => Ok(()),
            Stop::Scan(_) => Err(Problem::Damaged("a scan comes before the frame header".into())),
            Stop::End => Err(Problem::Truncated("it has no frame header")),
        }
    }

    /// Reads up to and including the next scan header; `None` at the end of the picture.
    pub fn until_scan(&mut self, frame: &Frame) -> Result<Option<ScanHeader>, Problem> {
        match self.walk(Some(frame))? {
            Stop::Scan(header) => Ok(Some(header)),
            Stop::Frame => Err(Problem::Damaged("it has two frame headers".into())),
            Stop::End => Ok(None),
        }
    }

    fn walk(&mut self, frame: Option<&Frame>) -> Result<Stop, Problem> {
        loop {
            let marker = self.next_marker()?;
            if matches!(marker, 0xd0..=0xd8 | 0x01) {
                continue;
            }
            if marker == 0xd9 {
                return Ok(Stop::End);
            }
            let content = self.segment()?;
            match marker {
                0xc4 => self.huffman(content)?,
                0xdb => self.quantisation(content)?,
                0xdd if content.len() >= 2 => {
                    self.tables.restart_interval = usize::from(u16::from_be_bytes([content[0], content[1]]));
                }
                0xe0 if content.starts_with(b"JFIF\0") => self.jfif = true,
                0xe1 if content.starts_with(b"Exif\0\0") && self.exif.is_none() => {
                    self.exif = Some(content[6..].to_vec());
                }
                0xee if content.starts_with(b"Adobe") && content.len() >= 12 => self.adobe = Some(content[11]),
                0xc0..=0xc2 => {
                    self.frame = Some(read_frame(content, marker == 0xc2)?);
                    return Ok(Stop::Frame);
                }
                // Lossless, hierarchical and arithmetic-coded files, and a height that comes later.
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | 0xdc | 0xde | 0xdf => return Err(Problem::NotCovered),
                0xda => {
                    let frame = frame.ok_or_else(|| Problem::Damaged("a scan comes before the frame header".into()))?;
                    return Ok(Stop::Scan(read_scan(content, frame)?));
                }
                _ => {}
            }
        }
    }

    /// The next marker's code; bytes that belong to nothing are skipped, as libjpeg does.
    fn next_marker(&mut self) -> Result<u8, Problem> {
        loop {
            match self.bytes.get(self.at..self.at + 2) {
                None => return Err(Problem::Truncated("it has no end-of-image marker")),
                Some([0xff, 0x00]) => self.at += 2,
                Some([0xff, 0xff]) => self.at += 1,
                Some([0xff, code]) => {
                    self.at += 2;
                    return Ok(*code);
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn segment(&mut self) -> Result<&'a [u8], Problem> {
        let bytes = self.bytes;
        let cut = Problem::Truncated("it ends inside a segment");
        let Some(length) = bytes.get(self.at..self.at + 2) else { return Err(cut) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let content = bytes.get(self.at + 2..self.at + length.max(2)).ok_or(cut)?;
        self.at += length.max(2);
        Ok(content)
    }

    fn quantisation(&mut self, mut content: &[u8]) -> Result<(), Problem> {
        while let [kind, rest @ ..] = content {
            let (wide, index) = (kind >> 4 != 0, usize::from(kind & 15));
            let size = if wide { 128 } else { 64 };
            if index > 3 || rest.len() < size {
                return Err(Problem::Damaged("a quantisation table is cut short".into()));
            }
            let table = std::array::from_fn(|at| match wide {
                true => u16::from_be_bytes([rest[at * 2], rest[at * 2 + 1]]),
                false => u16::from(rest[at]),
            });
            self.tables.quantisation[index] = Some(table);
            content = &rest[size..];
        }
        Ok(())
    }

    fn huffman(&mut self, mut content: &[u8]) -> Result<(), Problem> {
        while let [kind, rest @ ..] = content {
            let bad = || Problem::Damaged("a Huffman table makes no sense".into());
            let counts: [u8; 16] = rest.get(..16).and_then(|counts| counts.try_into().ok()).ok_or_else(bad)?;
            let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(16..16 + total).ok_or_else(bad)?;
            let table = HuffmanTable::new(&counts, symbols).ok_or_else(bad)?;
            let index = usize::from(kind & 15);
            let slots = if kind >> 4 == 0 { &mut self.tables.dc } else { &mut self.tables.ac };
            *slots.get_mut(index).ok_or_else(bad)? = Some(table);
            content = &rest[16 + total..];
        }
        Ok(())
    }

    /// How the components are to be read, by libjpeg's rules.
    pub fn colours(&self, frame: &Frame) -> Result<Colours, Problem> {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        match (ids.len(), self.jfif, self.adobe) {
            (1, ..) => Ok(Colours::Gray),
            (3, true, _) => Ok(Colours::YCbCr),
            (3, false, Some(0)) => Ok(Colours::Rgb),
            (3, false, None) if ids == *b"RGB" => Ok(Colours::Rgb),
            (3, ..) => Ok(Colours::YCbCr),
            (4, _, None | Some(0)) => Ok(Colours::Cmyk),
            (4, ..) => Ok(Colours::Ycck),
            _ => Err(Problem::NotCovered),
        }
    }
}

fn read_frame(content: &[u8], progressive: bool) -> Result<Frame, Problem> {
    let [precision, y1, y0, x1, x0, count, parts @ ..] = content else {
        return Err(Problem::Truncated("its frame header is cut short"));
    };
    let (height, width) = (u16::from_be_bytes([*y1, *y0]), u16::from_be_bytes([*x1, *x0]));
    let (parts, _) = parts.as_chunks::<3>();
    if *precision != 8 || height == 0 || width == 0 || !matches!(count, 1 | 3 | 4) {
        return Err(Problem::NotCovered);
    }
    if parts.len() != usize::from(*count) {
        return Err(Problem::Damaged("its frame header lists too few components".into()));
    }
    let sampling = |part: &[u8; 3]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
    if parts
        .iter()
        .any(|part| !(1..=4).contains(&sampling(part).0) || !(1..=4).contains(&sampling(part).1) || part[2] > 3)
    {
        return Err(Problem::Damaged("its frame header has a sampling factor or table out of range".into()));
    }
    let h_max = parts.iter().map(|part| sampling(part).0).max().unwrap_or(1);
    let v_max = parts.iter().map(|part| sampling(part).1).max().unwrap_or(1);
    if parts.iter().any(|part| h_max % sampling(part).0 != 0 || v_max % sampling(part).1 != 0) {
        return Err(Problem::NotCovered);
    }
    let (width, height) = (usize::from(width), usize::from(height));
    let components = parts.iter().map(|part| {
        let (h, v) = sampling(part);
        Component {
            id: part[0],
            h,
            v,
            quantisation_index: usize::from(part[2]),
            quantisation: [1; 64],
            width: (width * h).div_ceil(h_max),
            height: (height * v).div_ceil(v_max),
            blocks_across: width.div_ceil(8 * h_max) * h,
            blocks_down: height.div_ceil(8 * v_max) * v,
            plane: Vec::new(),
            coefficients: Vec::new(),
            seen: false,
        }
    });
    let components = components.collect();
    Ok(Frame { width: width as u32, height: height as u32, progressive, components, h_max, v_max })
}

fn read_scan(content: &[u8], frame: &Frame) -> Result<ScanHeader, Problem> {
    let bad = |what: &str| Problem::Damaged(format!("a scan header {what}"));
    let [count, rest @ ..] = content else { return Err(bad("is empty")) };
    let count = usize::from(*count);
    if count == 0 || count > 4 || rest.len() < count * 2 + 3 {
        return Err(bad("is cut short"));
    }
    let mut parts: Vec<(usize, usize, usize)> = Vec::with_capacity(count);
    for part in rest[..count * 2].chunks_exact(2) {
        let index = frame.components.iter().position(|component| component.id == part[0]);
        let index = index.ok_or_else(|| bad("names an unknown component"))?;
        let (dc, ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        if dc > 3 || ac > 3 || parts.iter().any(|(taken, ..)| *taken == index) {
            return Err(bad("names a component twice or a table that cannot be"));
        }
        parts.push((index, dc, ac));
    }
    let [first, last, bits] = [rest[count * 2], rest[count * 2 + 1], rest[count * 2 + 2]];
    let header = ScanHeader {
        parts,
        first: usize::from(first),
        last: usize::from(last),
        high: u32::from(bits >> 4),
        low: u32::from(bits & 15),
    };
    let blocks: usize = header.parts.iter().map(|(i, ..)| frame.components[*i].h * frame.components[*i].v).sum();
    let range_is_sound = header.first <= header.last && header.last < ZIGZAG.len() && header.low <= 13;
    let dc_or_ac = (header.first == 0) == (header.last == 0) && (header.first == 0 || count == 1);
    if (frame.progressive && !(range_is_sound && dc_or_ac)) || (count > 1 && blocks > 10) {
        return Err(bad("has a range of coefficients or a layout that cannot be"));
    }
    Ok(header)
}
