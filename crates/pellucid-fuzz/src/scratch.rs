//! A folder of each thread's own for parsers that take paths.

use std::cell::OnceCell;
use std::path::Path;
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<Option<TempDir>> = const { OnceCell::new() };
}

/// Writes each of `files` and calls `read` with their folder; they are gone afterwards.
pub(crate) fn with_files(files: &[(&str, &[u8])], read: impl FnOnce(&Path)) {
    FOLDER.with(|cell| {
        // Without a folder to write to there is nothing to test.
        let Some(folder) = cell.get_or_init(|| tempfile::tempdir().ok()) else { return };
        for (name, bytes) in files {
            if std::fs::write(folder.path().join(name), bytes).is_err() {
                return;
            }
        }
        read(folder.path());
        // A file that stays is overwritten by the next input.
        files.iter().for_each(|(name, _)| drop(std::fs::remove_file(folder.path().join(name))));
    });
}

/// As [`with_files`] with one file; `read` gets its path.
pub(crate) fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    with_files(&[(name, bytes)], |folder| read(&folder.join(name)));
}
