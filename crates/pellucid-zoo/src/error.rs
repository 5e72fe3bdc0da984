//! What can go wrong between the committed files and the pictures.

use std::path::PathBuf;

/// Why pictures could not be composed or written. Every message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}; restore it from version control")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file or folder cannot be written.
    #[error("{path}: cannot be written: {source}; check the disk's free space and the permissions")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A table does not hold what it should.
    #[error("{path}, line {line}: {detail}; restore it from version control or run zoo/build again")]
    Table {
        /// The table.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// What was expected and what was found.
        detail: String,
    },
    /// A sheet of sprites cannot be decoded or is too small for what it should hold.
    #[error("{path}: {detail}; restore it from version control")]
    Sheet {
        /// The sheet.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The composed pixels are not those that were committed.
    #[error(
        "{picture}: the composed pixels have hash {found}, expected {expected}; the sprites, the recipe or the painting \
         code changed: restore them, or seal the new pictures with `pellucid-zoo seal`"
    )]
    Hash {
        /// Name of the picture in metadata.csv.
        picture: String,
        /// Hash in pixels.csv.
        expected: String,
        /// Hash of what was composed.
        found: String,
    },
    /// A picture cannot be encoded.
    #[error("{path}: cannot be encoded as PNG: {detail}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        detail: String,
    },
}
