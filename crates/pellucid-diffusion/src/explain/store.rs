//! Results that are kept as they are made, so that an interrupted run goes on from them. Each file carries the hash of its
//! content; one that is not what was written is said and made again.

use crate::error::DiffusionError;
use pellucid_guard::seal::{self, Found};
use pellucid_runtime::progress::Progress;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// A folder of finished results, or none.
#[derive(Debug, Clone, Default)]
pub struct Store(Option<(PathBuf, u64)>);

impl Store {
    /// Keeps nothing.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Results in `folder`, which is made when the first is kept; a file there may have `most` bytes.
    pub fn at(folder: impl Into<PathBuf>, most: u64) -> Self {
        Self(Some((folder.into(), most)))
    }

    /// What is kept as `stem` (the file's name, without hash and ending), if that is what was written and `fits`; else what
    /// `compute` gives, kept before it is given.
    ///
    /// # Errors
    /// Those of `compute`; [`DiffusionError::Cache`] where its result cannot be written.
    pub fn load_or_compute<T: Serialize + DeserializeOwned>(
        &self,
        stem: &str,
        progress: &dyn Progress,
        fits: impl FnOnce(&T) -> bool,
        compute: impl FnOnce() -> Result<T, DiffusionError>,
    ) -> Result<T, DiffusionError> {
        let Some((folder, most)) = &self.0 else { return compute() };
        let (path, read) = match seal::read_within(folder, stem, "json", *most) {
            Ok(Found::Absent) => (PathBuf::new(), Ok(None)),
            Ok(Found::Whole(sealed)) => (sealed.path, parsed(&sealed.bytes, fits).map(Some)),
            Ok(Found::Damaged(path)) => (path, Err("it is damaged".to_owned())),
            Err(e) => (folder.join(stem), Err(e.to_string())),
        };
        match read {
            Ok(Some(known)) => return Ok(known),
            Ok(None) => {}
            Err(reason) => {
                let path = path.display();
                progress.warn(&format!("{path}: a kept result cannot be used ({reason}); it is computed again"));
            }
        }
        let made = compute()?;
        let failed = |e: &dyn std::fmt::Display| unwritable(folder.join(format!("{stem}.json")), e);
        std::fs::create_dir_all(folder).map_err(|e| unwritable(folder.clone(), &e))?;
        let text = serde_json::to_vec(&made).map_err(|e| failed(&e))?;
        seal::write(folder, stem, "json", &text).map_err(|e| failed(&e))?;
        Ok(made)
    }
}

fn unwritable(path: PathBuf, reason: &dyn std::fmt::Display) -> DiffusionError {
    DiffusionError::Cache { path, action: "write", reason: reason.to_string() }
}

fn parsed<T: DeserializeOwned>(bytes: &[u8], fits: impl FnOnce(&T) -> bool) -> Result<T, String> {
    let known: T = serde_json::from_slice(bytes).map_err(|e| format!("it is no such result: {e}"))?;
    if fits(&known) { Ok(known) } else { Err("it is the result of something else".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn start(&self, _stage: &str, _total: u64) {}
        fn advance(&self, _steps: u64) {}
        fn warn(&self, words: &str) {
            self.0.lock().unwrap().push(words.to_owned());
        }
        fn finish(&self) {}
    }

    #[test]
    fn a_kept_result_is_used_only_if_it_is_what_was_written_and_fits() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path(), 100);
        let heard = Heard::default();
        let get = |value: Vec<f64>, length: usize| {
            store.load_or_compute("map-0001", &heard, |known: &Vec<f64>| known.len() == length, || Ok(value)).unwrap()
        };
        assert_eq!(get(vec![0.1, 1.0], 2), [0.1, 1.0]);
        assert_eq!(get(vec![7.0, 7.0], 2), [0.1, 1.0], "the kept one is used");
        assert_eq!(get(vec![3.0], 1), [3.0], "one that does not fit is not");
        let path = seal::list(folder.path(), "json").unwrap().remove(0);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(get(vec![3.0], 1), [3.0], "bit {bit}");
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        // Sealed, and no such result.
        seal::write(folder.path(), "map-0001", "json", b"{}").unwrap();
        assert_eq!(get(vec![3.0], 1), [3.0]);
        let said = heard.0.into_inner().unwrap();
        assert_eq!(said.len(), 1 + whole.len() * 8 + 1);
        assert!(said.iter().all(|s| s.contains("map-0001.") && s.ends_with("it is computed again")), "{said:?}");
    }
}
