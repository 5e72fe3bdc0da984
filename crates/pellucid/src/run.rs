//! Run directories: `runs/<name>/` with results, and a manifest that is written last.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a finished run says of itself. Its presence means that everything else in the directory is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of pellucid.
    pub pellucid: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// What was run: `debug`, `scan`.
    pub job: String,
    /// Hash of the model's files.
    pub model_hash: String,
    /// Hash of the pictures, labels and groups.
    pub data_hash: String,
    /// Hash of every setting that changes the result.
    pub settings_hash: String,
    /// Seed.
    pub seed: u64,
    /// Device.
    pub device: String,
    /// Seconds each stage took.
    pub timings: Vec<(String, f64)>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Files of the run, relative to the directory.
    pub files: Vec<String>,
}

/// A run's directory.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Opens `<root>/<name>`. A directory whose manifest says other inputs is refused, unless `force`.
    pub fn open(root: &Path, name: &str, manifest: &Manifest, force: bool) -> Result<Self, Error> {
        let path = root.join(name);
        let existing = std::fs::read(path.join("manifest.json")).ok();
        if let Some(old) = existing.and_then(|b| serde_json::from_slice::<Manifest>(&b).ok())
            && let Some(difference) = difference(&old, manifest)
            && !force
        {
            return Err(Error::RunDirectory { path, difference: difference.to_owned() });
        }
        std::fs::create_dir_all(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        // Until the new manifest is written the directory must not look finished.
        let stale = path.join("manifest.json");
        match std::fs::remove_file(&stale) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Write { path: stale, source }),
            _ => Ok(Self { path }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.file(name);
        pellucid_report::write_atomically(&path, text)?;
        Ok(path)
    }

    /// Writes a file of bytes; gives its name.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<String, Error> {
        let path = self.file(name);
        std::fs::write(&path, bytes).map_err(|source| Error::Write { path, source })?;
        Ok(name.to_owned())
    }

    /// Writes `value` as readable JSON.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<PathBuf, Error> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::Write { path, source: e.into() })?;
        self.write(name, &text)
    }

    /// Writes the manifest: the run is finished.
    pub fn finish(&self, manifest: &Manifest) -> Result<(), Error> {
        self.write_json("manifest.json", manifest).map(|_| ())
    }
}

fn difference(old: &Manifest, new: &Manifest) -> Option<&'static str> {
    let differs = [
        (old.job != new.job, "another job"),
        (old.model_hash != new.model_hash, "another model"),
        (old.data_hash != new.data_hash, "other data"),
        (old.settings_hash != new.settings_hash, "other settings"),
        (old.seed != new.seed, "another seed"),
    ];
    differs.into_iter().find(|(d, _)| *d).map(|(_, what)| what)
}
