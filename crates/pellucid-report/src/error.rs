//! What can go wrong when a report is made or written.

use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The page does not fit even without pictures.
    #[error(
        "the report's text and data alone take {bytes} bytes, and at most {max_bytes} are allowed: examine fewer classes \
         or fewer neurons, or allow a larger report"
    )]
    TooLarge {
        /// Size of the report without any picture.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The diagnosis cannot be written as JSON.
    #[error("the diagnosis cannot be written as JSON, which the report embeds: {0}")]
    Data(#[source] serde_json::Error),
    /// The file cannot be written.
    #[error("cannot write the report {}: {source}. Nothing was changed there; check that the folder exists, is writable and has space", path.display())]
    Write {
        /// Where the report was to go.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
