//! Puts a report on disk so that a reader sees the old file or the new one, never half of one.

use crate::ReportError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `html` to `path` through a temporary file in the same folder, which is synced and then renamed.
///
/// An existing file is replaced; after a failure it is still what it was, and the temporary file is gone.
///
/// # Errors
/// [`ReportError::Write`] with the path and what the system said.
pub fn write_atomically(path: &Path, html: &str) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write { path: path.to_owned(), source };
    let temporary = beside(path).map_err(failed)?;
    let written = fill(&temporary, html.as_bytes()).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        // The write's own error is the one to report; a leftover that cannot be removed changes nothing.
        let _ = std::fs::remove_file(&temporary);
        failed(source)
    })
}

/// A hidden name in the same folder (a rename across file systems is not atomic), different for each process.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.part", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
