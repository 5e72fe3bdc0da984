//! Cache files that carry a blake3 hash of their content.
//!
//! The hash stands in the name, `<stem>.<24 hex digits>.<ending>`, so that the file itself stays what its ending says and
//! any tool opens it. A file is written beside its final name and renamed: it is there whole or not at all.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Hex digits of the hash in a name: 96 bits.
const DIGITS: usize = 24;

/// A sealed file that was read whole and is what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where it lies.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What lies under a name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Absent,
    /// What was written.
    Whole(Sealed),
    /// Something that is not what was written: it must not be used.
    Damaged(PathBuf),
}

/// Writes `bytes` as `stem` with `ending` in `folder`, whole or not at all; gives its path. A file with the same content is
/// left as it is; one of the same stem with other content goes.
///
/// # Errors
/// What the system says; nothing half-written stays.
pub fn write(folder: &Path, stem: &str, ending: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(format!("{stem}.{}.{ending}", digest(bytes)));
    let stale: Vec<PathBuf> = named(folder, stem, ending)?.into_iter().filter(|p| *p != path).collect();
    if !matches!(check(&path), Ok(Found::Whole(_))) {
        write_whole(&path, bytes)?;
    }
    // Another writer may have taken it away already, and what stays is found out when it is read.
    stale.iter().for_each(|p| drop(std::fs::remove_file(p)));
    Ok(path)
}

/// Writes `bytes` to `path`, whole or not at all: beside it first, then renamed.
///
/// # Errors
/// What the system says; nothing half-written stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{count}.part", std::process::id()));
    let part = path.with_file_name(name);
    let filled = std::fs::File::create(&part).and_then(|mut file| file.write_all(bytes));
    filled.and_then(|()| std::fs::rename(&part, path)).inspect_err(|_| {
        // The write has failed already, and its error is the one to report.
        let _ = std::fs::remove_file(&part);
    })
}

/// Reads the sealed file `stem` with `ending` in `folder`. Where several lie there, one that is whole is preferred.
///
/// # Errors
/// What the system says of a folder or file that cannot be read.
pub fn read(folder: &Path, stem: &str, ending: &str) -> io::Result<Found> {
    read_within(folder, stem, ending, u64::MAX)
}

/// As [`read`]; a file of more than `most` bytes is not what was written.
///
/// # Errors
/// As [`read`].
pub fn read_within(folder: &Path, stem: &str, ending: &str, most: u64) -> io::Result<Found> {
    let mut found = Found::Absent;
    for path in named(folder, stem, ending)? {
        match check_within(&path, most)? {
            Found::Whole(sealed) => return Ok(Found::Whole(sealed)),
            other => found = other,
        }
    }
    Ok(found)
}

/// Reads the sealed file at `path`, as [`list`] gives it.
///
/// # Errors
/// What the system says.
pub fn check(path: &Path) -> io::Result<Found> {
    check_within(path, u64::MAX)
}

/// As [`check`]; a file of more than `most` bytes is not what was written, and no more of it is held.
///
/// # Errors
/// As [`check`].
pub fn check_within(path: &Path, most: u64) -> io::Result<Found> {
    match std::fs::metadata(path) {
        Ok(data) if !data.is_file() || data.len() > most => return Ok(Found::Damaged(path.to_owned())),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(e) => return Err(e),
    }
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(e) => return Err(e),
    }
    let carried = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.rsplit_once('.')).map(|(_, d)| d);
    let path = path.to_owned();
    Ok(if carried == Some(&digest(&bytes)) { Found::Whole(Sealed { path, bytes }) } else { Found::Damaged(path) })
}

/// The files with `ending` in `folder`, sealed or not, sorted; none where there is no folder.
///
/// # Errors
/// What the system says.
pub fn list(folder: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == ending));
    paths.sort();
    Ok(paths)
}

fn named(folder: &Path, stem: &str, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = list(folder, ending)?;
    paths.retain(|p| {
        let name = p.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.')).is_some_and(|d| d.len() == DIGITS)
    });
    Ok(paths)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(found: Found) -> Vec<u8> {
        match found {
            Found::Whole(sealed) => sealed.bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), "step-0001", "bin").unwrap(), Found::Absent));
        write(folder.path(), "step-0001", "bin", b"first").unwrap();
        write(folder.path(), "step-00010", "bin", b"other").unwrap();
        assert_eq!(whole(read(folder.path(), "step-0001", "bin").unwrap()), b"first");
        write(folder.path(), "step-0001", "bin", b"second").unwrap();
        assert_eq!(whole(read(folder.path(), "step-0001", "bin").unwrap()), b"second");
        assert_eq!(list(folder.path(), "bin").unwrap().len(), 2);
        assert_eq!(list(folder.path(), "part").unwrap().len(), 0);
    }

    #[test]
    fn every_flipped_bit_is_found_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "s", "bin", b"content").unwrap();
        for bit in 0..7 * 8 {
            let mut bytes = b"content".to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert!(matches!(read(folder.path(), "s", "bin").unwrap(), Found::Damaged(p) if p == path), "bit {bit}");
        }
        write(folder.path(), "s", "bin", b"content").unwrap();
        assert_eq!(whole(read(folder.path(), "s", "bin").unwrap()), b"content");
    }

    #[test]
    fn a_file_above_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "s", "bin", b"content").unwrap();
        assert_eq!(whole(check_within(&path, 7).unwrap()), b"content");
        assert!(matches!(read_within(folder.path(), "s", "bin", 6).unwrap(), Found::Damaged(p) if p == path));
    }

    #[test]
    fn a_file_without_a_seal_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain.bin");
        std::fs::write(&path, b"x").unwrap();
        assert!(matches!(check(&path).unwrap(), Found::Damaged(_)));
    }
}
