//! What a Parquet file declares, read before the Parquet library reads it: that library takes what a header says at its word.
//!
//! Headers are in Thrift's compact protocol. Only the few fields that decide about memory are looked at here: how deep the
//! schema is nested, and how large each page unfolds to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use pellucid_guard::{Budget, Limit, OverBudget};

/// Why a file is refused.
#[derive(Debug)]
pub(super) enum Refused {
    /// It makes no sense.
    Damaged(String),
    /// It unfolds to too much.
    OverBudget(OverBudget),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Refused {
        Refused::Damaged(error.to_string())
    }
}

impl From<OverBudget> for Refused {
    fn from(over: OverBudget) -> Refused {
        Refused::OverBudget(over)
    }
}

fn damaged<T>(detail: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Damaged(detail.into()))
}

/// Levels of the schema: the Parquet library goes down it by recursion.
const DEEPEST: usize = 32;
/// What the parsed footer takes for each of its bytes, at most: a column chunk of some 20 bytes becomes a struct of 600.
const FOOTER_UNFOLDS: u64 = 32;

/// Refuses a footer that would unfold to more than the budget, and a schema that is nested too deeply.
pub(super) fn check_footer(file: &mut File, budget: &Budget) -> Result<(), Refused> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < 12 {
        return damaged(format!("it has {length} bytes, too few for a footer; fetch it again"));
    }
    file.seek(SeekFrom::End(-8))?;
    let mut tail = [0; 8];
    file.read_exact(&mut tail)?;
    let (size, magic) = tail.split_at(4);
    if magic != b"PAR1" {
        return damaged("it does not end with the mark of a Parquet file; fetch it again");
    }
    let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    if size > length - 8 {
        return damaged("its footer is longer than the file");
    }
    budget.admit(Limit::FileMemory, Some(size * FOOTER_UNFOLDS))?;
    file.seek(SeekFrom::Start(length - 8 - size))?;
    let mut footer = Vec::with_capacity(size as usize);
    file.take(size).read_to_end(&mut footer)?;
    match depth(&mut Compact { bytes: &footer, at: 0 }) {
        depth if depth > DEEPEST => damaged(format!("its schema is nested more than {DEEPEST} levels deep")),
        _ => Ok(()),
    }
}

/// Levels of the schema in a footer: its elements stand in depth-first order, each with the number of its children. In a
/// footer that makes no sense, which the Parquet library will say, those up to that place.
fn depth(footer: &mut Compact<'_>) -> usize {
    let mut deepest = 0;
    let _ = footer.fields(|footer, field, kind| {
        if (field, kind) != (2, Compact::LIST) {
            return footer.skip(kind, 0);
        }
        let (element, count) = footer.list()?;
        if element != Compact::STRUCT {
            return None;
        }
        // For each level, the children that are still to come.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..count {
            let mut children = 0;
            footer.fields(|footer, field, kind| match (field, kind) {
                (5, Compact::I32) => {
                    children = footer.integer()?;
                    Some(())
                }
                _ => footer.skip(kind, 0),
            })?;
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                open.push(children);
                // Refused whatever comes: the walk ends.
                deepest = deepest.max(open.len());
                if deepest > DEEPEST {
                    return None;
                }
            }
        }
        Some(())
    });
    deepest
}

/// What the pages of a column chunk unfold to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    /// Bytes of the largest dictionary page.
    pub dictionary: u64,
    /// Bytes of the largest page of data.
    pub data: u64,
    /// Stored bytes of the largest page.
    pub stored: u64,
}

impl Pages {
    pub fn max(self, other: Pages) -> Pages {
        Pages {
            dictionary: self.dictionary.max(other.dictionary),
            data: self.data.max(other.data),
            stored: self.stored.max(other.stored),
        }
    }

    /// Bytes of the largest value that there can be: it is somewhere in a page.
    pub fn value(self) -> u64 {
        self.dictionary.max(self.data).max(1)
    }

    /// Rows that may be decoded at a time, at most `most`.
    ///
    /// # Errors
    /// [`OverBudget`] if not even one may: a page is held stored, unfolded and decoded, a row decoded and given.
    pub fn rows(self, budget: &Budget, most: usize) -> Result<usize, OverBudget> {
        let fixed = [self.dictionary, self.dictionary, self.data, self.data, self.stored, self.value()];
        let fixed = fixed.into_iter().fold(0u64, u64::saturating_add);
        budget.admit(Limit::FileMemory, fixed.checked_add(self.value()))?;
        let rows = (budget.file_memory - fixed) / self.value() / 2;
        Ok(usize::try_from(rows).unwrap_or(most).clamp(1, most))
    }
}

/// Walks from page to page of the column chunk at `start` of `length` stored bytes.
pub(super) fn pages(file: &mut File, start: i64, length: i64) -> Result<Pages, Refused> {
    /// A header holds some numbers, and the least and greatest value of its page.
    const LONGEST_HEADER: u64 = 16 << 20;
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
        return damaged("a column starts or ends before the file does");
    };
    let Some(end) = start.checked_add(length) else { return damaged("a column ends after any file does") };
    let (mut at, mut found) = (start, Pages::default());
    let mut header = Vec::new();
    while at < end {
        let mut looked_at = 4096.min(end - at);
        let page = loop {
            header.clear();
            file.seek(SeekFrom::Start(at))?;
            Read::by_ref(file).take(looked_at).read_to_end(&mut header)?;
            let mut walk = Compact { bytes: &header, at: 0 };
            match page_header(&mut walk) {
                Some(page) => break Some((page, walk.at as u64)),
                None if (header.len() as u64) < looked_at || looked_at >= LONGEST_HEADER.min(end - at) => break None,
                None => looked_at = (looked_at * 8).min(LONGEST_HEADER).min(end - at),
            }
        };
        let Some(((kind, unfolded, stored), header_length)) = page else { return damaged("a page has no header") };
        let (Ok(unfolded), Ok(stored)) = (u64::try_from(unfolded), u64::try_from(stored)) else {
            return damaged("a page has a negative size");
        };
        let largest = unfolded.max(stored);
        match kind {
            2 => found.dictionary = found.dictionary.max(largest),
            _ => found.data = found.data.max(largest),
        }
        found.stored = found.stored.max(stored);
        at = at.saturating_add(header_length).saturating_add(stored);
    }
    Ok(found)
}

/// Kind, unfolded size and stored size of a page.
fn page_header(header: &mut Compact<'_>) -> Option<(i64, i64, i64)> {
    let mut sizes = [None; 3];
    header.fields(|header, field, kind| match (field, kind) {
        (1..=3, Compact::I32) => {
            sizes[field as usize - 1] = Some(header.integer()?);
            Some(())
        }
        _ => header.skip(kind, 0),
    })?;
    Some((sizes[0]?, sizes[1]?, sizes[2]?))
}

/// Thrift's compact protocol, as far as finding and skipping fields goes. `None` is the end of the bytes, or nonsense.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    const I32: u8 = 5;
    const LIST: u8 = 9;
    const STRUCT: u8 = 12;

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Calls `take` at the value of each field of a struct, with its number and kind.
    fn fields(&mut self, mut take: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut field = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = match head >> 4 {
                0 => self.integer()?,
                step => field.wrapping_add(i64::from(step)),
            };
            take(self, field, head & 15)?;
        }
    }

    /// Kind and number of a list's elements.
    fn list(&mut self) -> Option<(u8, u64)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.unsigned()? } else { u64::from(head >> 4) };
        Some((head & 15, count))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > 16 {
            return None;
        }
        match kind {
            // True and false are in the field's head.
            1 | 2 => Some(()),
            3 => self.byte().map(drop),
            4..=6 => self.unsigned().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.unsigned()?;
                self.pass(usize::try_from(length).ok()?)
            }
            9 | 10 => {
                let (element, count) = self.list()?;
                for _ in 0..count {
                    // In a list, a truth takes a byte.
                    if matches!(element, 1 | 2) { self.byte().map(drop) } else { self.skip(element, depth + 1) }?;
                }
                Some(())
            }
            12 => self.fields(|walk, _, kind| walk.skip(kind, depth + 1)),
            // Maps (11) are in no header of Parquet.
            _ => None,
        }
    }

    fn pass(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A footer whose schema is a chain of `levels` groups with a column at its end.
    fn chain(levels: usize) -> Vec<u8> {
        // version 1; list of structs, long form.
        let mut footer = vec![0x15, 2, 0x19, 0xfc];
        let mut count = levels as u64 + 1;
        while count >= 128 {
            footer.push(count as u8 | 128);
            count >>= 7;
        }
        footer.push(count as u8);
        for _ in 0..levels {
            // Name "a", one child.
            footer.extend([0x48, 1, b'a', 0x15, 2, 0]);
        }
        footer.extend([0x48, 1, b'b', 0, 0]);
        footer
    }

    fn depth_of(footer: &[u8]) -> usize {
        depth(&mut Compact { bytes: footer, at: 0 })
    }

    #[test]
    fn the_depth_of_a_schema_is_counted_without_recursion() {
        assert_eq!(depth_of(&chain(1)), 1);
        assert_eq!(depth_of(&chain(9)), 9);
        assert!(depth_of(&chain(1_000_000)) > DEEPEST);
    }

    #[test]
    fn rows_at_a_time_shrink_as_values_grow() {
        let budget = Budget::for_memory(1000);
        let pages = |dictionary, data| Pages { dictionary, data, stored: 1 };
        assert_eq!(pages(1, 1).rows(&budget, 16), Ok(16));
        assert_eq!(pages(100, 1).rows(&budget, 16), Ok(3));
        assert_eq!(pages(200, 1).rows(&budget, 16), Ok(1));
        assert!(pages(300, 1).rows(&budget, 16).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_lead_the_walk_astray(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = depth_of(&bytes);
            let mut walk = Compact { bytes: &bytes, at: 0 };
            let _ = page_header(&mut walk);
            prop_assert!(walk.at <= bytes.len());
        }
    }
}
