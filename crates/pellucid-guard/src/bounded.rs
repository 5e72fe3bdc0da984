//! Files read whole, where they are no larger than a [`Budget`] allows.

use crate::budget::{Budget, Limit, OverBudget};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Why a file was not read. The message does not name it: whoever asked does.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The system refuses.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A folder, a device or a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// It is too large.
    #[error("is too large: {0}")]
    TooLarge(#[from] OverBudget),
}

/// The bytes of the file at `path`, if there are no more of them than the bound that `limit` names.
///
/// # Errors
/// [`Unread`]; no more than the bound is ever held.
pub fn read(path: &Path, budget: &Budget, limit: Limit) -> Result<Vec<u8>, Unread> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unread::NotAFile);
    }
    let file = File::open(path)?;
    let length = budget.admit(limit, Some(file.metadata()?.len()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // A file may grow while it is read.
    file.take(budget.of(limit).saturating_add(1)).read_to_end(&mut bytes)?;
    budget.admit(limit, Some(bytes.len() as u64))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_within_the_bound_is_read_and_a_larger_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.json");
        std::fs::write(&file, b"12345").unwrap();
        let budget = |bytes| Budget::default().with(Limit::TextBytes, bytes);
        assert_eq!(read(&file, &budget(5), Limit::TextBytes).unwrap(), b"12345");
        let refused = read(&file, &budget(4), Limit::TextBytes).unwrap_err().to_string();
        assert_eq!(refused, "is too large: 5 bytes needed, 4 bytes allowed");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let refused = read(folder.path(), &Budget::default(), Limit::TextBytes).unwrap_err();
        assert!(matches!(refused, Unread::NotAFile));
        let absent = read(&folder.path().join("absent"), &Budget::default(), Limit::TextBytes).unwrap_err();
        assert!(matches!(absent, Unread::Io(e) if e.kind() == std::io::ErrorKind::NotFound));
    }
}
