//! NumPy files: `.npy` holds one array, `.npz` is a ZIP archive of several by name. Format: NEP 1, versions 1 to 3.
//!
//! A file may come from anyone: headers are bounded, what an array takes is checked before it is read, and the ZIP reader
//! runs behind a boundary.

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use pellucid_guard::budget::product;
use pellucid_guard::{Budget, Limit, OverBudget};
use pellucid_runtime::Array;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Bytes of the longest header that is read. NumPy writes 128, more where an array has fields.
const LONGEST_HEADER: usize = 1 << 16;

/// Dimensions that an array may have, as in NumPy.
const RANK: usize = 64;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Why a NumPy file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {reason}; expected a NumPy .npy or .npz file of float, int or bool arrays")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its arrays take more than a file may.
    #[error("{path}: array '{array}' is too large: {source}")]
    OverBudget {
        /// The file.
        path: PathBuf,
        /// The array that is too much.
        array: String,
        /// What is needed, with the arrays before it, and what is allowed.
        source: OverBudget,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the arrays of `path` within the default [`Budget`]: [`read_arrays_within`].
///
/// # Errors
/// [`NpzError`].
pub fn read_arrays(path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>, NpzError> {
    read_arrays_within(path, &Budget::default())
}

/// Reads the arrays of `path`, by name; the array of an `.npy` has the empty name. float64 becomes float32, and the
/// smaller integers int64. All arrays together take at most `budget.file_memory` bytes.
///
/// # Errors
/// [`NpzError`]; no more is read of an array than its header says, and nothing of one that is too large.
pub fn read_arrays_within(path: impl AsRef<Path>, budget: &Budget) -> Result<BTreeMap<String, Array>, NpzError> {
    let path = path.as_ref();
    let failed = |reason: String| NpzError::Read { path: path.to_path_buf(), reason };
    let unread = |name: &str, wrong: Wrong| match wrong {
        Wrong::TooLarge(source) => NpzError::OverBudget { path: path.to_path_buf(), array: name.to_owned(), source },
        Wrong::Damaged(reason) if name.is_empty() => failed(reason),
        Wrong::Damaged(reason) => failed(format!("array '{name}': {reason}")),
    };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.is_file() {
        return Err(failed("it is not a regular file".to_owned()));
    }
    let mut file = BufReader::new(File::open(path).map_err(|e| failed(e.to_string()))?);
    let mut room = Room { budget, taken: 0 };
    if file.fill_buf().map_err(|e| failed(e.to_string()))?.starts_with(MAGIC) {
        return Ok(BTreeMap::from([(String::new(), parse(file, &mut room).map_err(|wrong| unread("", wrong))?)]));
    }
    let mut archive = unzipping(|| ZipArchive::new(file)).and_then(flat).map_err(|e| failed(e.to_string()))?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let member = unzipping(|| archive.by_index(index)).and_then(flat).map_err(|e| failed(e.to_string()))?;
        let name = member.name().map_err(|e| failed(e.to_string()))?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let array = parse(Unzipped(member), &mut room).map_err(|wrong| unread(&name, wrong))?;
        if arrays.insert(name.clone(), array).is_some() {
            return Err(failed(format!("it holds '{name}' twice")));
        }
    }
    Ok(arrays)
}

/// Calls the ZIP reader, which is another's and may panic.
fn unzipping<T>(call: impl FnOnce() -> T) -> io::Result<T> {
    pellucid_guard::parse("ZIP", call).map_err(io::Error::other)
}

fn flat<T>(result: ZipResult<T>) -> io::Result<T> {
    result.map_err(io::Error::other)
}

/// A member of an archive.
struct Unzipped<R>(R);

impl<R: Read> Read for Unzipped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        unzipping(|| self.0.read(buffer))?
    }
}

/// What the arrays of a file may take.
struct Room<'a> {
    budget: &'a Budget,
    taken: u64,
}

impl Room<'_> {
    /// Takes the bytes of an array of `shape` with elements of `size` bytes.
    fn take(&mut self, shape: &[usize], size: usize) -> Result<(), OverBudget> {
        let bytes = product(shape.iter().map(|&d| d as u64).chain([size as u64]));
        let total = bytes.and_then(|bytes| self.taken.checked_add(bytes));
        self.taken = self.budget.admit(Limit::FileMemory, total)?;
        Ok(())
    }
}

/// Why one array was not read.
#[derive(Debug)]
enum Wrong {
    Damaged(String),
    TooLarge(OverBudget),
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl From<&str> for Wrong {
    fn from(reason: &str) -> Self {
        Self::Damaged(reason.to_owned())
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::from("it ends early"),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<OverBudget> for Wrong {
    fn from(over: OverBudget) -> Self {
        Self::TooLarge(over)
    }
}

/// The header's three entries.
struct Header<'a> {
    kind: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
fn header(text: &str) -> Result<Header<'_>, String> {
    let after = |key: &str| {
        let rest = text.split_once(key).and_then(|(_, r)| r.split_once(':')).map(|(_, r)| r.trim_start());
        rest.ok_or_else(|| format!("its header has no {key}"))
    };
    let descr = after("'descr'")?;
    let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or("it holds records, not numbers")?;
    let kind = descr.split(quote).nth(1).ok_or("its header ends within a text")?;
    let shape = after("'shape'")?;
    let inner =
        shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s).ok_or("its shape is damaged")?;
    let dims = inner.split(',').map(str::trim).filter(|d| !d.is_empty());
    let shape: Vec<usize> = dims.map(str::parse).collect::<Result<_, _>>().map_err(|_| "its shape is damaged")?;
    if shape.len() > RANK {
        return Err(format!("it has {} dimensions, and NumPy's arrays at most {RANK}", shape.len()));
    }
    Ok(Header { kind, fortran: after("'fortran_order'")?.starts_with("True"), shape })
}

/// Reads one array, of which `room` is taken before memory is.
fn parse(mut from: impl Read, room: &mut Room<'_>) -> Result<Array, Wrong> {
    let mut start = [0; 8];
    from.read_exact(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Err("it does not start as an array does".into());
    }
    let length = if start[6] == 1 {
        let mut field = [0; 2];
        from.read_exact(&mut field)?;
        usize::from(u16::from_le_bytes(field))
    } else {
        let mut field = [0; 4];
        from.read_exact(&mut field)?;
        u32::from_le_bytes(field) as usize
    };
    if length > LONGEST_HEADER {
        return Err(format!("its header claims {length} bytes, and at most {LONGEST_HEADER} are read").into());
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    let h = header(std::str::from_utf8(&text).map_err(|e| e.to_string())?)?;
    let mut parts = h.kind.chars();
    let (order, code) = (parts.next().ok_or("its header names no type")?, parts.as_str());
    if order == '>' && code.get(1..) != Some("1") {
        return Err(format!("its numbers are big-endian ({}); save them with astype('<{code}')", h.kind).into());
    }
    let h = &h;
    Ok(match code {
        "f4" => Array::F32(shaped(h, from, room, f32::from_le_bytes)?),
        "f2" => Array::F32(shaped(h, from, room, |b| half::f16::from_le_bytes(b).to_f32())?),
        "f8" => Array::F32(shaped(h, from, room, |b| f64::from_le_bytes(b) as f32)?),
        "i8" => Array::I64(shaped(h, from, room, i64::from_le_bytes)?),
        "i4" => Array::I32(shaped(h, from, room, i32::from_le_bytes)?),
        "i2" => Array::I64(shaped(h, from, room, |b| i64::from(i16::from_le_bytes(b)))?),
        "i1" => Array::I64(shaped(h, from, room, |b: [u8; 1]| i64::from(b[0] as i8))?),
        "u1" => Array::U8(shaped(h, from, room, |b: [u8; 1]| b[0])?),
        "b1" => Array::Bool(shaped(h, from, room, |b: [u8; 1]| b[0] != 0)?),
        _ => return Err(format!("its type '{}' is not supported; save it as float32 or int64", h.kind).into()),
    })
}

fn shaped<const N: usize, T>(
    header: &Header<'_>,
    mut from: impl Read,
    room: &mut Room<'_>,
    read: impl Fn([u8; N]) -> T,
) -> Result<ArrayD<T>, Wrong> {
    let shape = &header.shape;
    room.take(shape, size_of::<T>().max(N))?;
    let count = product(shape.iter().map(|&d| d as u64)).and_then(|n| usize::try_from(n).ok());
    let count = count.ok_or("its shape is too large")?;
    let holds = |values: usize| format!("its shape {shape:?} needs {count} numbers, and it holds {values}");
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| "there is no memory for it")?;
    let mut buffer = vec![0; CHUNK.min(count.saturating_mul(N))];
    while values.len() < count {
        let wanted = buffer.len().min((count - values.len()) * N);
        let got = fill(&mut from, &mut buffer[..wanted])?;
        values.extend(buffer[..got].as_chunks::<N>().0.iter().map(|&b| read(b)));
        if got < wanted {
            return Err(holds(values.len()).into());
        }
    }
    if fill(&mut from, &mut [0])? > 0 {
        return Err(format!("its shape {shape:?} needs {count} numbers, and it holds more").into());
    }
    ArrayD::from_shape_vec(IxDyn(shape).set_f(header.fortran), values).map_err(|e| e.to_string().into())
}

/// Fills `buffer` as far as there is something to read; gives how far.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Writes `arrays` as an `.npz`, whole or not at all: a temporary file beside it is renamed over it.
///
/// # Errors
/// Where it cannot be written.
pub fn write_arrays(path: impl AsRef<Path>, arrays: &BTreeMap<String, Array>) -> Result<(), NpzError> {
    let path = path.as_ref();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = archive(&part, arrays).and_then(|()| std::fs::rename(&part, path).map_err(|e| e.to_string()));
    written.map_err(|reason| {
        // Best effort: the write has failed already, and that is what the user must hear.
        let _ = std::fs::remove_file(&part);
        NpzError::Write { path: path.to_path_buf(), reason }
    })
}

fn archive(path: &Path, arrays: &BTreeMap<String, Array>) -> Result<(), String> {
    let file = std::fs::File::create(path).map_err(|e| e.to_string())?;
    let mut zip = ZipWriter::new(std::io::BufWriter::new(file));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    let mut fill = || {
        arrays.iter().try_for_each(|(name, array)| {
            zip.start_file(format!("{name}.npy"), options).map_err(|e| e.to_string())?;
            zip.write_all(&encode(array)).map_err(|e| e.to_string())
        })
    };
    if let Err(reason) = fill() {
        // Dropped, it would try to finish the broken archive and print that it cannot.
        std::mem::forget(zip);
        return Err(reason);
    }
    let mut buffer = zip.finish().map_err(|e| e.to_string())?;
    buffer.flush().map_err(|e| e.to_string())
}

fn encode(array: &Array) -> Vec<u8> {
    let (kind, data): (&str, Vec<u8>) = match array {
        Array::F32(a) => ("<f4", a.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Array::I64(a) => ("<i8", a.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Array::I32(a) => ("<i4", a.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Array::Bool(a) => ("|b1", a.iter().map(|&v| u8::from(v)).collect()),
        Array::U8(a) => ("|u1", a.iter().copied().collect()),
    };
    let dims: String = array.shape().iter().map(|d| format!("{d}, ")).collect();
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // Data begins at a multiple of 64.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes();
    [MAGIC.as_slice(), &[1, 0], &length, text.as_bytes(), &data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_every_type_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let shape = IxDyn(&[2, 1, 3]);
        let arrays = BTreeMap::from([
            ("f".to_owned(), Array::F32(ArrayD::from_elem(shape.clone(), 1.5))),
            ("i".to_owned(), Array::I64(ArrayD::from_elem(IxDyn(&[4]), -7))),
            ("/odd name:0".to_owned(), Array::Bool(ArrayD::from_elem(IxDyn(&[]), true))),
            ("u".to_owned(), Array::U8(ArrayD::from_elem(IxDyn(&[0, 3]), 9))),
        ]);
        write_arrays(&path, &arrays).unwrap();
        assert_eq!(read_arrays(&path).unwrap(), arrays);
    }

    fn parsed(bytes: &[u8]) -> Result<Array, String> {
        within(bytes, &Budget::default())
    }

    fn within(bytes: &[u8], budget: &Budget) -> Result<Array, String> {
        parse(bytes, &mut Room { budget, taken: 0 }).map_err(|wrong| match wrong {
            Wrong::Damaged(reason) => reason,
            Wrong::TooLarge(over) => over.to_string(),
        })
    }

    /// A file of version 2 with this header and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u32).to_le_bytes();
        [MAGIC.as_slice(), &[2, 0], &length, header.as_bytes(), data].concat()
    }

    fn typed(kind: &str, shape: &str) -> Vec<u8> {
        file(&format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"), &[0; 16])
    }

    #[test]
    fn column_major_arrays_are_read_in_their_order() {
        let mut bytes = encode(&Array::I64(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1, 2, 3, 4]).unwrap()));
        let at = bytes.windows(5).position(|w| w == b"False").unwrap();
        bytes[at..at + 5].copy_from_slice(b"True ");
        let read = parsed(&bytes).unwrap();
        assert_eq!(read.as_i64().unwrap().iter().copied().collect::<Vec<_>>(), [1, 3, 2, 4]);
    }

    #[test]
    fn damaged_files_are_errors_that_say_what_is_wrong() {
        let good = encode(&Array::F32(ArrayD::zeros(IxDyn(&[3]))));
        assert!(parsed(&good[..good.len() - 4]).unwrap_err().contains("needs 3 numbers, and it holds 2"));
        assert!(parsed(&[&good[..], &[0]].concat()).unwrap_err().contains("holds more"));
        assert!(parsed(&good[..20]).unwrap_err().contains("ends early"));
        assert!(parsed(b"PK\x03\x04").is_err());
        assert!(parsed(b"\x93NUMPY\x01\x00\x05\x00abcde").unwrap_err().contains("descr"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        std::fs::write(&path, b"not a zip").unwrap();
        assert!(read_arrays(&path).unwrap_err().to_string().contains("x.npz"));
        assert!(read_arrays(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_type_that_is_none_is_an_error_that_shows_it() {
        assert!(parsed(&typed("", "(4,)")).unwrap_err().contains("names no type"));
        for kind in ["é4", "4", "<", "<c8", "|O", "\u{1f431}"] {
            let message = parsed(&typed(kind, "(4,)")).unwrap_err();
            assert!(message.contains(kind) && message.contains("float32"), "{message}");
        }
        assert!(parsed(&typed(">f4", "(4,)")).unwrap_err().contains("big-endian"));
        assert!(parsed(&file("{'descr': '<f4", &[])).unwrap_err().contains("header has no"));
        assert!(parsed(&file("{'descr': [('a', '<f4')], ", &[])).unwrap_err().contains("records"));
    }

    #[test]
    fn a_shape_is_refused_before_memory_is_taken() {
        let million = u64::MAX / 2;
        for (shape, said) in [
            (format!("({million}, 4)"), "more than 2^64 needed"),
            ("(1000000000000,)".to_owned(), "`file_memory`"),
            (format!("({million}, {million}, 0)"), "needs 0 numbers, and it holds more"),
            ("(-1,)".to_owned(), "shape is damaged"),
            ("(1.5,)".to_owned(), "shape is damaged"),
            (format!("({})", "1,".repeat(65)), "65 dimensions"),
        ] {
            let message = parsed(&typed("<f4", &shape)).unwrap_err();
            assert!(message.contains(said), "{shape}: {message}");
        }
        let huge = [MAGIC.as_slice(), &[2, 0, 0xff, 0xff, 0xff, 0xff]].concat();
        assert!(parsed(&huge).unwrap_err().contains("4294967295 bytes"));
    }

    #[test]
    fn all_arrays_of_a_file_share_one_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.npz");
        let array = || Array::F32(ArrayD::zeros(IxDyn(&[256])));
        write_arrays(&path, &BTreeMap::from([("a".to_owned(), array()), ("b".to_owned(), array())])).unwrap();
        let budget = |bytes| Budget::default().with(Limit::FileMemory, bytes);
        assert_eq!(read_arrays_within(&path, &budget(2048)).unwrap().len(), 2);
        let message = read_arrays_within(&path, &budget(2047)).unwrap_err().to_string();
        assert!(message.contains("two.npz: array 'b'") && message.contains("2 KiB needed"), "{message}");
    }

    #[test]
    fn a_member_that_unfolds_to_gigabytes_is_read_no_further_than_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.npz");
        // Zeros behind an array of four: deflated to a thousandth.
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        zip.start_file("x.npy", SimpleFileOptions::default()).unwrap();
        zip.write_all(&typed("<f4", "(4,)")).unwrap();
        (0..64).for_each(|_| zip.write_all(&vec![0; CHUNK]).unwrap());
        zip.finish().unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 100_000);
        let message = read_arrays(&path).unwrap_err().to_string();
        assert!(message.contains("'x'") && message.contains("holds more"), "{message}");
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twice.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let array = encode(&Array::U8(ArrayD::zeros(IxDyn(&[1]))));
        for name in ["x", "x.npy"] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(&array).unwrap();
        }
        zip.finish().unwrap();
        let message = read_arrays(&path).unwrap_err().to_string();
        assert!(message.contains("holds 'x' twice"), "{message}");
    }
}
