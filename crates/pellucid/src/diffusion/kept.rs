//! Results that are kept as they are made, so that an interrupted run goes on from them. Each file carries the hash of its
//! content; one that is not what was written is said and made again.

use crate::Error;
use pellucid_guard::seal::{self, Found};
use pellucid_runtime::progress::Progress;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Where a result is kept.
pub(super) struct Place<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The file's name, without hash and ending.
    pub stem: String,
    /// Bytes that the file may have at most.
    pub most: u64,
}

/// What lies at `place`, if that is what was written and `fits`; else what `make` gives, written there first.
pub(super) fn kept<T: Serialize + DeserializeOwned>(
    place: &Place<'_>,
    progress: &dyn Progress,
    fits: impl FnOnce(&T) -> bool,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let Place { folder, stem, most } = place;
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
    let made = make()?;
    let failed = |source| Error::Write { path: folder.join(format!("{stem}.json")), source };
    let text = serde_json::to_vec(&made).map_err(|e| failed(e.into()))?;
    seal::write(folder, stem, "json", &text).map_err(failed)?;
    Ok(made)
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
        let place = Place { folder: folder.path(), stem: "map-0001".to_owned(), most: 100 };
        let heard = Heard::default();
        let get = |value: Vec<f64>, length: usize| {
            kept(&place, &heard, |known: &Vec<f64>| known.len() == length, || Ok(value)).unwrap()
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
