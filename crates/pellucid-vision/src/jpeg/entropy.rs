//! Bits and Huffman codes.

/// Codes up to this length are decoded by one look at a table.
const QUICK_BITS: u32 = 9;

/// A canonical Huffman code.
pub(super) struct HuffmanTable {
    /// For each possible next [`QUICK_BITS`] bits: length and symbol; length 0 for longer codes.
    quick: Vec<(u8, u8)>,
    /// For each length, one more than the last code of that length, aligned to 16 bits.
    limits: [u32; 17],
    /// For each length, what to add to a code to find its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// The code with `counts[i]` codes of length i + 1; `None` if they do not fit.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<HuffmanTable> {
        let mut table = HuffmanTable {
            quick: vec![(0, 0); 1 << QUICK_BITS],
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut used) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            table.offsets[length as usize] = used as i32 - code as i32;
            for _ in 0..count {
                if length <= QUICK_BITS && code < 1 << length {
                    let shift = QUICK_BITS - length;
                    let first = (code << shift) as usize;
                    table.quick[first..first + (1 << shift)].fill((length as u8, *symbols.get(used)?));
                }
                code += 1;
                used += 1;
            }
            if code > 1 << length {
                return None;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// The entropy-coded bytes of a scan, bit by bit. After a marker or the end of the file there are
/// zeros, as in libjpeg.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    buffer: u64,
    available: u32,
    at_marker: bool,
    /// Zero bits put in after the data ran out.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, available: 0, at_marker: false, padding: 0 }
    }

    /// At least 32 bits in the buffer.
    #[inline]
    fn refill(&mut self) {
        if self.available >= 32 {
            return;
        }
        if let Some(four) = self.bytes.get(self.at..self.at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok())
            && !four.contains(&0xff)
            && !self.at_marker
        {
            self.buffer |= u64::from(u32::from_be_bytes(four)) << (32 - self.available);
            self.available += 32;
            self.at += 4;
            return;
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while self.available <= 56 {
            let byte = match (self.at_marker, self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (true, ..) | (_, None, _) | (_, Some(0xff), None) => {
                    self.at_marker = true;
                    self.padding = self.padding.saturating_add(8);
                    0
                }
                (_, Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                // Fill bytes before a marker.
                (_, Some(0xff), Some(0xff)) => {
                    self.at += 1;
                    continue;
                }
                (_, Some(0xff), Some(_)) => {
                    self.at_marker = true;
                    self.padding = self.padding.saturating_add(8);
                    0
                }
                (_, Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.available);
            self.available += 8;
        }
    }

    #[inline]
    fn take(&mut self, count: u32) -> u32 {
        // In two steps, since a shift by 64 - 0 is not defined.
        let bits = ((self.buffer >> 1) >> (63 - count)) as u32;
        self.buffer <<= count;
        self.available -= count;
        bits
    }

    /// The next `count` bits (at most 16) as a number.
    #[inline]
    pub fn bits(&mut self, count: u32) -> u32 {
        self.refill();
        self.take(count)
    }

    /// The next symbol; `None` where the bits are no code.
    #[inline]
    pub fn symbol(&mut self, table: &HuffmanTable) -> Option<u8> {
        self.refill();
        let (length, symbol) = table.quick[(self.buffer >> (64 - QUICK_BITS)) as usize];
        if length != 0 {
            self.take(u32::from(length));
            return Some(symbol);
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &HuffmanTable) -> Option<u8> {
        let next = (self.buffer >> 48) as u32;
        let length = (1..=16u32).find(|length| next < table.limits[*length as usize])?;
        let code = self.take(length) as i32;
        table.symbols.get(usize::try_from(code + table.offsets[length as usize]).ok()?).copied()
    }

    /// The signed number of `size` bits (0 to 15) that follows: a leading 0 marks a negative one.
    #[inline]
    pub fn signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.bits(size) as i32;
        if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
    }

    /// Whether bits were asked for that are not there.
    #[inline]
    pub fn exhausted(&self) -> bool {
        self.padding > self.available
    }

    /// Drops what is left before the next marker and reads a restart marker if it is one. Returns
    /// whether it was.
    pub fn restart(&mut self) -> bool {
        self.at = self.next_marker();
        let found = matches!(self.bytes.get(self.at + 1), Some(0xd0..=0xd7));
        if found {
            self.at += 2;
            *self = Bits::new(self.bytes, self.at);
        }
        found
    }

    /// The end of the file.
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// Where the next marker starts, or the end of the file.
    pub fn next_marker(&self) -> usize {
        // Bytes that were read ahead cannot have passed a marker.
        let is_marker = |pair: &[u8]| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.windows(2).position(is_marker).map_or(self.bytes.len(), |found| self.at + found)
    }
}
