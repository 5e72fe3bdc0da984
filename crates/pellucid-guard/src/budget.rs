//! Bounds on what a file may declare or unfold to. Each is checked before memory is taken, with arithmetic that cannot
//! overflow.

use crate::setting::Setting;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bytes that activations may take where nothing else is said: 1 GiB.
pub const DEFAULT_MEMORY: u64 = 1 << 30;

/// Upper bounds, each inclusive, on everything whose size a file decides.
///
/// `Budget::default()` suits the machine: no bound on bytes is above half of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Budget {
    /// Bytes of the values that a network computes, at any time.
    pub memory: u64,
    /// Bytes that one file may take in memory: its decoded pixels, an unfolded member of an archive, a column's value.
    pub file_memory: u64,
    /// Pixels (width × height) that a picture's header may claim. By default those above which Pillow suspects a bomb.
    pub pixels: u64,
    /// Bytes of one encoded picture.
    pub picture_bytes: u64,
    /// Bytes of one text or configuration file (JSON, TOML, class names).
    pub text_bytes: u64,
    /// Nodes of one graph, those of subgraphs included.
    pub nodes: u64,
    /// Rows of a data set.
    pub rows: u64,
    /// Entries of a tokenizer's vocabulary.
    pub tokens: u64,
    /// Scans of one progressive JPEG. (A baseline JPEG that repeats a scan is refused whatever this says.)
    pub jpeg_scans: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::for_memory(DEFAULT_MEMORY.min(machine_memory().map_or(u64::MAX, |bytes| bytes / 2)))
    }
}

impl Budget {
    /// The default bounds with `memory` bytes for activations and as much for any one file.
    pub fn for_memory(memory: u64) -> Self {
        Self {
            memory,
            file_memory: memory,
            pixels: 178_956_970,
            picture_bytes: 256 << 20,
            text_bytes: 64 << 20,
            nodes: 1_000_000,
            rows: 1 << 32,
            tokens: 4 << 20,
            jpeg_scans: 200,
        }
    }

    /// These bounds with the one that `limit` names set to `bound`.
    #[must_use]
    pub fn with(mut self, limit: Limit, bound: u64) -> Self {
        *match limit {
            Limit::Memory => &mut self.memory,
            Limit::FileMemory => &mut self.file_memory,
            Limit::Pixels => &mut self.pixels,
            Limit::PictureBytes => &mut self.picture_bytes,
            Limit::TextBytes => &mut self.text_bytes,
            Limit::Nodes => &mut self.nodes,
            Limit::Rows => &mut self.rows,
            Limit::Tokens => &mut self.tokens,
            Limit::JpegScans => &mut self.jpeg_scans,
        } = bound;
        self
    }

    /// The bound that `limit` names.
    pub fn of(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Memory => self.memory,
            Limit::FileMemory => self.file_memory,
            Limit::Pixels => self.pixels,
            Limit::PictureBytes => self.picture_bytes,
            Limit::TextBytes => self.text_bytes,
            Limit::Nodes => self.nodes,
            Limit::Rows => self.rows,
            Limit::Tokens => self.tokens,
            Limit::JpegScans => self.jpeg_scans,
        }
    }

    /// `needed` where it is within the bound of `limit`. `None` stands for a number that does not fit 64 bits; see [`product`].
    ///
    /// # Errors
    /// [`OverBudget`], which names the bound and what raises it.
    pub fn admit(&self, limit: Limit, needed: Option<u64>) -> Result<u64, OverBudget> {
        let bound = self.of(limit);
        match needed {
            Some(needed) if needed <= bound => Ok(needed),
            _ => Err(OverBudget { limit, needed, bound }),
        }
    }

    /// The bytes of an array of `shape` whose elements have `element` bytes, if they are within the bound of `limit`.
    ///
    /// # Errors
    /// [`OverBudget`]; also where the product does not fit 64 bits.
    pub fn admit_array(&self, limit: Limit, shape: &[usize], element: usize) -> Result<u64, OverBudget> {
        self.admit(limit, product(shape.iter().map(|&d| d as u64).chain([element as u64])))
    }
}

/// The product of `factors`, or `None` where it does not fit 64 bits. A factor of 0 gives 0 whatever the others are.
pub fn product(factors: impl IntoIterator<Item = u64>) -> Option<u64> {
    let (mut product, mut overflow) = (1u64, false);
    for factor in factors {
        if factor == 0 {
            return Some(0);
        }
        match product.checked_mul(factor) {
            Some(p) => product = p,
            None => overflow = true,
        }
    }
    (!overflow).then_some(product)
}

/// One bound of a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Limit {
    /// [`Budget::memory`].
    Memory,
    /// [`Budget::file_memory`].
    FileMemory,
    /// [`Budget::pixels`].
    Pixels,
    /// [`Budget::picture_bytes`].
    PictureBytes,
    /// [`Budget::text_bytes`].
    TextBytes,
    /// [`Budget::nodes`].
    Nodes,
    /// [`Budget::rows`].
    Rows,
    /// [`Budget::tokens`].
    Tokens,
    /// [`Budget::jpeg_scans`].
    JpegScans,
}

impl Limit {
    /// What sets this bound, where a user can.
    pub fn setting(self) -> Option<Setting> {
        match self {
            Limit::Memory => Some(Setting::Memory),
            Limit::FileMemory => Some(Setting::FileMemory),
            Limit::Pixels => Some(Setting::Pixels),
            _ => None,
        }
    }

    fn amount(self, count: u64) -> String {
        match self {
            Limit::Memory | Limit::FileMemory | Limit::PictureBytes | Limit::TextBytes => ByteSize(count).to_string(),
            Limit::Pixels => format!("{count} pixels"),
            Limit::Nodes => format!("{count} nodes"),
            Limit::Rows => format!("{count} rows"),
            Limit::Tokens => format!("{count} tokens"),
            Limit::JpegScans => format!("{count} scans"),
        }
    }
}

/// Something is larger than its bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct OverBudget {
    /// Which bound.
    pub limit: Limit,
    /// What is needed; `None` where the number does not fit 64 bits.
    pub needed: Option<u64>,
    /// The bound.
    pub bound: u64,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needed = self.needed.map_or_else(|| "more than 2^64".to_owned(), |n| self.limit.amount(n));
        write!(f, "{needed} needed, {} allowed", self.limit.amount(self.bound))?;
        match self.limit.setting() {
            Some(flag) => write!(f, "; raise the bound with {flag} if you trust the file"),
            None => Ok(()),
        }
    }
}

/// A number of bytes, written and read as people do: `512MB`, `2GiB`, `1536`.
///
/// `KB`, `MB`, `GB`, `TB` are powers of 1000; `KiB` … `TiB`, and a bare `K`, `M`, `G`, `T`, powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// The text is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size; expected a positive number of bytes such as 512MB, 2GiB or 1073741824")]
pub struct NotASize(pub String);

impl FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let wrong = || NotASize(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let scale = scale_of(&unit.trim().to_ascii_uppercase()).ok_or_else(wrong)?;
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(scale),
            // A fraction of a unit: exact enough below 2^53 bytes.
            Err(_) => {
                let bytes = number.parse::<f64>().map_err(|_| wrong())? * scale as f64;
                (bytes < (1u64 << 53) as f64).then_some(bytes as u64)
            }
        };
        bytes.filter(|b| *b > 0).map(ByteSize).ok_or_else(wrong)
    }
}

fn scale_of(unit: &str) -> Option<u64> {
    const PREFIXES: [char; 4] = ['K', 'M', 'G', 'T'];
    if unit.is_empty() || unit == "B" {
        return Some(1);
    }
    let power = PREFIXES.iter().position(|p| unit.starts_with(*p))? as u32 + 1;
    match &unit[1..] {
        "B" => Some(1000u64.pow(power)),
        "" | "IB" => Some(1024u64.pow(power)),
        _ => None,
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, scale)| self.0 >= *scale) {
            Some((unit, scale)) if self.0.is_multiple_of(*scale) => write!(f, "{} {unit}", self.0 / scale),
            Some((unit, scale)) => write!(f, "{:.1} {unit}", self.0 as f64 / *scale as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Bytes of memory that the machine has, where the system says.
pub fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("512MB", 512_000_000),
            ("2GiB", 2 << 30),
            ("512M", 512 << 20),
            ("4g", 4 << 30),
            ("1.5 GiB", 3 << 29),
            ("1073741824", 1 << 30),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "0", "GB", "-1M", "1XB", "1MX", "99999999999G", "1e3", "2..5M", "é"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_need_the_bound_and_the_setting() {
        let budget = Budget::default().with(Limit::FileMemory, 1 << 20);
        let message = budget.admit_array(Limit::FileMemory, &[1024, 1024], 3).unwrap_err().to_string();
        assert_eq!(message, "3 MiB needed, 1 MiB allowed; raise the bound with `file_memory` if you trust the file");
        let message = budget.admit_array(Limit::FileMemory, &[usize::MAX, 2], 4).unwrap_err().to_string();
        assert!(message.starts_with("more than 2^64 needed"), "{message}");
    }

    #[test]
    fn what_is_exactly_at_the_bound_is_admitted() {
        let budget = Budget::for_memory(100);
        assert_eq!(budget.admit(Limit::Memory, Some(100)), Ok(100));
        assert!(budget.admit(Limit::Memory, Some(101)).is_err());
    }

    proptest! {
        #[test]
        fn a_product_is_exact_or_absent(factors in prop::collection::vec(any::<u64>(), 0..6)) {
            let exact = factors.iter().try_fold(1u128, |p, &f| p.checked_mul(u128::from(f)));
            let exact = if factors.contains(&0) { Some(0) } else { exact };
            prop_assert_eq!(product(factors), exact.and_then(|p| u64::try_from(p).ok()));
        }

        #[test]
        fn a_size_that_is_printed_exactly_is_read_back(count in 1u64..1024, unit in 0u32..5) {
            let size = ByteSize(count * 1024u64.pow(unit));
            prop_assert_eq!(size.to_string().trim_end_matches("ytes").parse::<ByteSize>(), Ok(size));
        }
    }
}
