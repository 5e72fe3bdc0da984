//! One scan: its entropy-coded blocks, in the order in which they are interleaved.

use super::Problem;
use super::entropy::{Bits, HuffmanTable};
use super::inverse::ZIGZAG;
use super::markers::{Frame, ScanHeader, Tables};

/// Decodes the scan whose data start at `at`; returns where the next marker starts.
pub(super) fn decode(
    frame: &mut Frame,
    tables: &Tables,
    header: &ScanHeader,
    bytes: &[u8],
    at: usize,
) -> Result<usize, Problem> {
    for (index, ..) in &header.parts {
        frame.components[*index].latch(tables)?;
    }
    let mut scan = Scan { header, tables, bits: Bits::new(bytes, at), predictions: [0; 4], run: 0, block: [0; 64] };
    if let [(index, ..)] = header.parts[..] {
        let component = &frame.components[index];
        let (across, down) = (component.width.div_ceil(8), component.height.div_ceil(8));
        for block in 0..across * down {
            scan.restart_if_due(block)?;
            scan.block(frame, 0, block % across, block / across)?;
        }
    } else {
        let across = (frame.width as usize).div_ceil(8 * frame.h_max);
        let down = (frame.height as usize).div_ceil(8 * frame.v_max);
        for unit in 0..across * down {
            scan.restart_if_due(unit)?;
            scan.unit(frame, unit % across, unit / across)?;
        }
    }
    Ok(scan.bits.next_marker())
}

struct Scan<'a> {
    header: &'a ScanHeader,
    tables: &'a Tables,
    bits: Bits<'a>,
    /// The last DC value of each part.
    predictions: [i32; 4],
    /// Blocks that are still to be skipped (progressive).
    run: u32,
    block: [i16; 64],
}

fn damaged() -> Problem {
    Problem::Damaged("its compressed data make no sense".into())
}

fn table(slots: &[Option<HuffmanTable>; 4], index: usize) -> Result<&HuffmanTable, Problem> {
    slots[index].as_ref().ok_or_else(|| Problem::Damaged("a Huffman table is missing".into()))
}

impl Scan<'_> {
    fn restart_if_due(&mut self, unit: usize) -> Result<(), Problem> {
        let interval = self.tables.restart_interval;
        if interval == 0 || unit == 0 || !unit.is_multiple_of(interval) {
            return Ok(());
        }
        if !self.bits.restart() {
            return Err(if self.bits.next_marker() == self.bits.end() {
                Problem::Truncated("its data end before a restart marker")
            } else {
                Problem::Damaged("a restart marker is missing".into())
            });
        }
        self.predictions = [0; 4];
        self.run = 0;
        Ok(())
    }

    /// All blocks of one interleaved unit.
    fn unit(&mut self, frame: &mut Frame, across: usize, down: usize) -> Result<(), Problem> {
        for part in 0..self.header.parts.len() {
            let component = &frame.components[self.header.parts[part].0];
            let (h, v) = (component.h, component.v);
            for block in 0..h * v {
                self.block(frame, part, across * h + block % h, down * v + block / h)?;
            }
        }
        Ok(())
    }

    fn block(&mut self, frame: &mut Frame, part: usize, across: usize, down: usize) -> Result<(), Problem> {
        let component = &mut frame.components[self.header.parts[part].0];
        // As libjpeg: when the data of a segment run out, the rest of it is gray.
        let exhausted = self.bits.exhausted();
        if frame.progressive {
            let start = (down * component.blocks_across + across) * 64;
            let Some((block, _)) = component.coefficients[start..].split_first_chunk_mut::<64>() else {
                return Err(damaged());
            };
            return if exhausted { Ok(()) } else { self.progressive(block, part) };
        }
        self.block = [0; 64];
        if !exhausted {
            self.sequential(part)?;
        }
        component.put(&self.block, across, down);
        Ok(())
    }

    fn sequential(&mut self, part: usize) -> Result<(), Problem> {
        let (_, dc, ac) = self.header.parts[part];
        let (dc, ac) = (table(&self.tables.dc, dc)?, table(&self.tables.ac, ac)?);
        self.block[0] = self.next_dc(dc, part)? as i16;
        let mut at = 1;
        while at < 64 {
            let symbol = self.bits.symbol(ac).ok_or_else(damaged)?;
            let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if zeros < 15 {
                    break;
                }
                at += 16;
                continue;
            }
            at += zeros;
            let place = *ZIGZAG.get(at).ok_or_else(damaged)?;
            self.block[place] = self.bits.signed(size) as i16;
            at += 1;
        }
        Ok(())
    }

    fn next_dc(&mut self, dc: &HuffmanTable, part: usize) -> Result<i32, Problem> {
        let size = u32::from(self.bits.symbol(dc).ok_or_else(damaged)?);
        if size > 15 {
            return Err(damaged());
        }
        let value = self.predictions[part].wrapping_add(self.bits.signed(size));
        self.predictions[part] = value;
        Ok(value)
    }

    fn progressive(&mut self, block: &mut [i16; 64], part: usize) -> Result<(), Problem> {
        let (_, dc, ac) = self.header.parts[part];
        let low = self.header.low;
        match (self.header.first == 0, self.header.high == 0) {
            (true, true) => {
                let dc = table(&self.tables.dc, dc)?;
                block[0] = self.next_dc(dc, part)?.wrapping_shl(low) as i16;
                Ok(())
            }
            (true, false) => {
                if self.bits.bits(1) == 1 {
                    block[0] |= 1 << low;
                }
                Ok(())
            }
            (false, true) => self.first_ac(block, table(&self.tables.ac, ac)?),
            (false, false) => self.refine_ac(block, table(&self.tables.ac, ac)?),
        }
    }

    fn first_ac(&mut self, block: &mut [i16; 64], ac: &HuffmanTable) -> Result<(), Problem> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let mut at = self.header.first;
        while at <= self.header.last {
            let symbol = self.bits.symbol(ac).ok_or_else(damaged)?;
            let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if zeros < 15 {
                    self.run = (1 << zeros) - 1 + self.bits.bits(zeros);
                    break;
                }
                at += 16;
                continue;
            }
            at += zeros as usize;
            let place = *ZIGZAG.get(at).ok_or_else(damaged)?;
            block[place] = self.bits.signed(size).wrapping_shl(self.header.low) as i16;
            at += 1;
        }
        Ok(())
    }

    fn refine_ac(&mut self, block: &mut [i16; 64], ac: &HuffmanTable) -> Result<(), Problem> {
        let mut at = self.header.first;
        while self.run == 0 && at <= self.header.last {
            let symbol = self.bits.symbol(ac).ok_or_else(damaged)?;
            let (zeros, size) = (u32::from(symbol >> 4), symbol & 15);
            let new = match size {
                0 if zeros < 15 => {
                    // This block is the first of the run.
                    self.run = (1 << zeros) + self.bits.bits(zeros);
                    break;
                }
                0 => 0,
                1 if self.bits.bits(1) == 1 => 1i16 << self.header.low,
                1 => -1i16 << self.header.low,
                _ => return Err(damaged()),
            };
            at = self.refine_until(block, at, Some(zeros), new);
        }
        if self.run > 0 {
            self.refine_until(block, at, None, 0);
            self.run -= 1;
        }
        Ok(())
    }

    /// Reads the next bit of each coefficient that is known already, passing `zeros` that are not
    /// and putting `new` into the one after; all the rest where `zeros` is `None`.
    fn refine_until(&mut self, block: &mut [i16; 64], from: usize, zeros: Option<u32>, new: i16) -> usize {
        let bit = 1i16 << self.header.low;
        let mut left = zeros;
        for at in from..=self.header.last {
            let coefficient = &mut block[ZIGZAG[at]];
            if *coefficient != 0 {
                if self.bits.bits(1) == 1 && *coefficient & bit == 0 {
                    *coefficient = coefficient.wrapping_add(if *coefficient > 0 { bit } else { -bit });
                }
            } else if left == Some(0) {
                *coefficient = new;
                return at + 1;
            } else {
                left = left.map(|left| left - 1);
            }
        }
        self.header.last + 1
    }
}
