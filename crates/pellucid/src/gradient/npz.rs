//! NumPy files: `.npy` holds one array, `.npz` is a ZIP archive of several by name. Format: NEP 1, versions 1 to 3.

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use pellucid_runtime::Array;
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const MAGIC: &[u8] = b"\x93NUMPY";

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
    /// The file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the arrays of `path`, by name; the array of an `.npy` has the empty name. float64 and float16 become float32,
/// and the smaller integers int64.
pub fn read_arrays(path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>, NpzError> {
    let path = path.as_ref();
    let failed = |reason: String| NpzError::Read { path: path.to_path_buf(), reason };
    let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    if bytes.starts_with(MAGIC) {
        return Ok(BTreeMap::from([(String::new(), parse(&bytes).map_err(failed)?)]));
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| failed(e.to_string()))?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let (name, array) = member(&mut archive, index).map_err(failed)?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

fn member(archive: &mut ZipArchive<Cursor<Vec<u8>>>, index: usize) -> Result<(String, Array), String> {
    let mut file = archive.by_index(index).map_err(|e| e.to_string())?;
    let name = file.name().strip_suffix(".npy").unwrap_or(file.name()).to_owned();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| format!("array '{name}': {e}"))?;
    let array = parse(&bytes).map_err(|e| format!("array '{name}': {e}"))?;
    Ok((name, array))
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
    let quoted = |rest: &'_ str| -> Option<(usize, usize)> {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        Some((1, 1 + rest[1..].find(quote)?))
    };
    let descr = after("'descr'")?;
    let (from, to) = quoted(descr).ok_or("it holds records, not numbers")?;
    let shape = after("'shape'")?;
    let inner =
        shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s).ok_or("its shape is damaged")?;
    let dims = inner.split(',').map(str::trim).filter(|d| !d.is_empty());
    Ok(Header {
        kind: &descr[from..to],
        fortran: after("'fortran_order'")?.starts_with("True"),
        shape: dims.map(str::parse).collect::<Result<_, _>>().map_err(|_| "its shape is damaged")?,
    })
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    let short = || "it ends early".to_owned();
    let version = *bytes.get(6).filter(|_| bytes.starts_with(MAGIC)).ok_or("it does not start as an array does")?;
    let (start, length) = if version == 1 {
        let field = bytes.get(8..10).ok_or_else(short)?;
        (10, usize::from(u16::from_le_bytes([field[0], field[1]])))
    } else {
        let field = bytes.get(8..12).ok_or_else(short)?;
        (12, u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize)
    };
    let text = bytes.get(start..start + length).ok_or_else(short)?;
    let header = header(std::str::from_utf8(text).map_err(|e| e.to_string())?)?;
    let data = &bytes[start + length..];
    let (order, code) = header.kind.split_at(1);
    if order == ">" && code.get(1..) != Some("1") {
        return Err(format!("its numbers are big-endian ({}); save them with astype('<{code}')", header.kind));
    }
    let h = &header;
    Ok(match code {
        "f4" => Array::F32(shaped(h, data, f32::from_le_bytes)?),
        "f8" => Array::F32(shaped(h, data, |b| f64::from_le_bytes(b) as f32)?),
        "i8" => Array::I64(shaped(h, data, i64::from_le_bytes)?),
        "i4" => Array::I32(shaped(h, data, i32::from_le_bytes)?),
        "i2" => Array::I64(shaped(h, data, |b| i64::from(i16::from_le_bytes(b)))?),
        "i1" => Array::I64(shaped(h, data, |b: [u8; 1]| i64::from(b[0] as i8))?),
        "u1" => Array::U8(shaped(h, data, |b: [u8; 1]| b[0])?),
        "b1" => Array::Bool(shaped(h, data, |b: [u8; 1]| b[0] != 0)?),
        _ => return Err(format!("its type {} is not supported; save it as float32 or int64", header.kind)),
    })
}

fn shaped<const N: usize, T>(
    header: &Header<'_>,
    data: &[u8],
    read: impl Fn([u8; N]) -> T,
) -> Result<ArrayD<T>, String> {
    let count = header.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("its shape is too large")?;
    let chunks = data.as_chunks::<N>().0;
    if chunks.len() != count {
        return Err(format!("its shape {:?} needs {count} numbers, and it holds {}", header.shape, chunks.len()));
    }
    let values = chunks.iter().map(|&b| read(b)).collect();
    let shape = IxDyn(&header.shape).set_f(header.fortran);
    ArrayD::from_shape_vec(shape, values).map_err(|e| e.to_string())
}

/// Writes `arrays` as an `.npz`, whole or not at all: a temporary file beside it is renamed over it.
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
    for (name, array) in arrays {
        zip.start_file(format!("{name}.npy"), options).map_err(|e| e.to_string())?;
        zip.write_all(&encode(array)).map_err(|e| e.to_string())?;
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
    [MAGIC, &[1, 0], &length, text.as_bytes(), &data].concat()
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

    #[test]
    fn column_major_arrays_are_read_in_their_order() {
        let mut bytes = encode(&Array::I64(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1, 2, 3, 4]).unwrap()));
        let at = bytes.windows(5).position(|w| w == b"False").unwrap();
        bytes[at..at + 5].copy_from_slice(b"True ");
        let read = parse(&bytes).unwrap();
        assert_eq!(read.as_i64().unwrap().iter().copied().collect::<Vec<_>>(), [1, 3, 2, 4]);
    }

    #[test]
    fn damaged_files_are_errors_that_say_what_is_wrong() {
        let good = encode(&Array::F32(ArrayD::zeros(IxDyn(&[3]))));
        assert!(parse(&good[..good.len() - 4]).unwrap_err().contains("needs 3 numbers"));
        assert!(parse(&good[..20]).unwrap_err().contains("ends early"));
        assert!(parse(b"PK\x03\x04").is_err());
        let text = String::from_utf8_lossy(&good).replace("<f4", "<c8");
        assert!(parse(b"\x93NUMPY\x01\x00\x05\x00abcde").unwrap_err().contains("descr"));
        assert!(text.contains("<c8"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        std::fs::write(&path, b"not a zip").unwrap();
        assert!(read_arrays(&path).unwrap_err().to_string().contains("x.npz"));
    }
}
