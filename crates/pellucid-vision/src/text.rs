//! Small text files from strangers: configurations and lists of names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pellucid_guard::{Budget, Limit, printable};

/// The text of the regular file at `path`, within [`Budget::text_bytes`] by default.
///
/// # Errors
/// What the system says; text that is too long or not UTF-8, and what is no regular file (a pipe would never end).
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let budget = Budget::default();
    let admit = |bytes: u64| budget.admit(Limit::TextBytes, Some(bytes)).map_err(io::Error::other);
    admit(found.len())?;
    let mut text = String::new();
    File::open(path)?.take(budget.text_bytes + 1).read_to_string(&mut text)?;
    admit(text.len() as u64)?;
    Ok(text)
}

/// Text from a file, fit for one line of a terminal and not longer than anybody reads.
pub(crate) fn said(text: &str) -> String {
    const MOST: usize = 600;
    let line = printable::name(text);
    if line.chars().count() <= MOST {
        return line.into_owned();
    }
    line.chars().take(MOST - 1).chain(['…']).collect()
}

/// A path fit for a terminal.
pub(crate) fn shown(path: &Path) -> String {
    printable::name(&path.to_string_lossy()).into_owned()
}
