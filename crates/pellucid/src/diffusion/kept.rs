//! Results that are kept as they are made, so that an interrupted run goes on from them.

use crate::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// What `file` holds, if that can be read and `is_whole`; else what `make` gives, written there first.
pub(super) fn kept<T: Serialize + DeserializeOwned>(
    file: PathBuf,
    is_whole: impl FnOnce(&T) -> bool,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<T>(&bytes).ok());
    if let Some(known) = known.filter(is_whole) {
        return Ok(known);
    }
    let made = make()?;
    let text = serde_json::to_string(&made).map_err(|e| Error::Write { path: file.clone(), source: e.into() })?;
    pellucid_report::write_atomically(&file, &text)?;
    Ok(made)
}
