//! Run directories: `runs/<name>/` with results, `run.json`, and a manifest that is written last.
//!
//! Equal inputs give equal bytes in every file but `run.json`, which holds what differs from run to run (the command, the
//! date, times, threads, the machine). Two traces of it are elsewhere: a page shows it in one block
//! (`<section id="run-json">`), and the manifest holds its hash in one line. So that a page's hash does not become another
//! trace, it stands in `run.json` and not in the manifest.

use crate::{Classifier, Error, VERSION};
use pellucid_classifier::results::{Machine, RunRecord};
use pellucid_report::ReportOptions;
use pellucid_vision::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The file of what differs from run to run.
const RECORD: &str = "run.json";

/// How often, and after how long each time, the lock of a directory is asked for: a process that was killed a moment ago may
/// still be going.
const TRIES: (usize, Duration) = (20, Duration::from_millis(50));

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
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Files of the run, relative to the directory and with `/` between folders, each with its blake3; of a page `run.json`, which
    /// holds it.
    pub files: BTreeMap<String, String>,
}

/// A run's directory, which no other process writes into as long as this (or a clone of it) lives.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
    /// Held locked; `None` where the file system knows no locks.
    _lock: Option<Arc<File>>,
}

impl RunDirectory {
    /// Opens `<root>/<name>`. A directory whose manifest says other inputs is refused, unless `force`.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] for other inputs, [`Error::Busy`] where another process is writing into it, [`Error::Write`].
    pub fn open(root: &Path, name: &str, manifest: &Manifest, force: bool) -> Result<Self, Error> {
        let path = root.join(name);
        let lock = lock(root, name, &path)?;
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
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(Error::Write { path: stale, source }),
            _ => {}
        }
        sweep(&path);
        Ok(Self { path, _lock: lock })
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
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.file(name);
        pellucid_report::write_atomically(&path, text)?;
        Ok(path)
    }

    /// Writes a file of bytes, whole or not at all; gives its name.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<String, Error> {
        let path = self.file(name);
        pellucid_guard::seal::write_whole(&path, bytes).map_err(|source| Error::Write { path, source })?;
        Ok(name.to_owned())
    }

    /// Writes files of bytes by their names.
    pub(crate) fn write_files(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
        files.iter().try_for_each(|(name, bytes)| self.write_bytes(name, bytes).map(drop))
    }

    /// Writes `value` as readable JSON.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<PathBuf, Error> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::Write { path, source: e.into() })?;
        self.write(name, &text)
    }

    /// Writes `record` as `run.json`, and then the manifest with the hashes of `files`, which are all there: the run is finished.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where one of `files` is not there (any more), [`Error::Write`].
    pub fn finish(&self, manifest: &Manifest, files: &[String], record: &RunRecord) -> Result<(), Error> {
        let (pages, others): (Vec<&String>, Vec<&String>) = files.iter().partition(|name| name.ends_with(".html"));
        let hashed = |names: Vec<&String>| {
            names.into_iter().map(|name| Ok((name.clone(), hash(&self.file(name))?))).collect::<Result<_, Error>>()
        };
        let record = RunRecord { pages: hashed(pages)?, ..record.clone() };
        self.write_json(RECORD, &record)?;
        let mut files: BTreeMap<String, String> = hashed(others)?;
        files.extend(record.pages.into_keys().map(|page| (page, RECORD.to_owned())));
        files.insert(RECORD.to_owned(), hash(&self.file(RECORD))?);
        self.write_json("manifest.json", &Manifest { files, ..manifest.clone() }).map(|_| ())
    }
}

/// Where a result is written, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunOptions {
    /// Where run directories are made.
    pub root: PathBuf,
    /// Name of the run; made from its inputs where `None`.
    pub name: Option<String>,
    /// Replace a run of that name with other inputs.
    pub force: bool,
    /// The page.
    pub report: ReportOptions,
    /// The command that made it, for `run.json` and the page; absolute paths in it are shortened.
    pub command: String,
    /// The command that goes on from this job, for the same two places; said where there is something to go on with.
    pub next: String,
}

impl Default for RunOptions {
    fn default() -> Self {
        let (root, report) = (PathBuf::from("runs"), ReportOptions::default());
        Self { root, name: None, force: false, report, command: "pellucid".to_owned(), next: String::new() }
    }
}

pellucid_guard::builders!(RunOptions {
    with_root: root => PathBuf,
    with_name: name => Option<String>,
    with_force: force: bool,
    with_report: report => ReportOptions,
    with_command: command => String,
    with_next: next => String,
});

/// Where a run was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunPaths {
    /// The directory.
    pub directory: PathBuf,
    /// The page, of jobs that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<PathBuf>,
    /// How the run went: what `run.json` holds.
    #[serde(skip)]
    pub record: RunRecord,
}

/// A run directory that was taken for a job, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Claim {
    pub(crate) directory: RunDirectory,
    pub(crate) manifest: Manifest,
}

impl Claim {
    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// What a run is of: other inputs are another run.
pub(crate) struct Identity<'a> {
    pub job: &'static str,
    pub data_hash: String,
    /// The data set's folder, for the run's name.
    pub data: Option<&'a Path>,
    /// [`settings_hash`].
    pub settings: String,
    pub seed: u64,
    pub warnings: Vec<String>,
}

impl Identity<'_> {
    /// Takes the directory that `run` names, or that is made of this: `<job>-<model>-<data>-<hash>`.
    pub fn claim(self, classifier: &Classifier, run: &RunOptions) -> Result<Claim, Error> {
        let stem = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let data = self.data.map(|root| stem(&root.canonicalize().unwrap_or_else(|_| root.to_owned())));
        let manifest = Manifest {
            pellucid: VERSION.to_owned(),
            onnxruntime: classifier.engine(),
            job: self.job.to_owned(),
            model_hash: classifier.model_hash().to_owned(),
            data_hash: self.data_hash,
            settings_hash: self.settings,
            seed: self.seed,
            device: classifier.device(),
            warnings: self.warnings,
            files: BTreeMap::new(),
        };
        let key = (&manifest.job, &manifest.model_hash, &manifest.data_hash, &manifest.settings_hash, manifest.seed);
        let name = run.name.clone().unwrap_or_else(|| {
            let parts = [Some(manifest.job.clone()), Some(stem(classifier.path())), data, Some(short(&hash_of(&key)))];
            parts.into_iter().flatten().collect::<Vec<_>>().join("-")
        });
        let directory = RunDirectory::open(&run.root, &name, &manifest, run.force)?;
        Ok(Claim { directory, manifest })
    }
}

/// Hash of everything besides model and data that changes the result: what the user set, the taps and the preprocessing, wherever
/// it comes from.
pub(crate) fn settings_hash(settings: &impl Serialize, classifier: &Classifier) -> String {
    let computed = Preprocessing { source: String::new(), ..classifier.preprocessing().clone() };
    hash_of(&(settings, &classifier.options().taps, computed))
}

/// blake3 of a value as JSON.
pub(crate) fn hash_of(value: &impl Serialize) -> String {
    // Settings are plain data, which JSON always holds.
    blake3::hash(&serde_json::to_vec(value).unwrap_or_default()).to_hex().to_string()
}

fn short(hash: &str) -> String {
    hash.chars().take(8).collect()
}

/// How a run of a job on a classifier went.
pub(crate) fn record_for(run: &RunOptions, classifier: &Classifier, timings: Vec<(String, f64)>) -> RunRecord {
    record(&run.command, classifier.options().session.thread_count(), timings)
}

/// What a run says of how it went: `command` without the folders of this machine, `threads` taken, the stages' `timings`.
pub(crate) fn record(command: &str, threads: usize, timings: Vec<(String, f64)>) -> RunRecord {
    RunRecord {
        command: without_folders(command),
        next: String::new(),
        date: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        threads,
        machine: Machine {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: pellucid_guard::budget::machine_memory(),
        },
        timings,
        pages: BTreeMap::new(),
    }
}

/// The command with every absolute path reduced to its last part.
pub(crate) fn without_folders(command: &str) -> String {
    let short = |word: &str| match Path::new(word) {
        path if path.is_absolute() => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        _ => word.to_owned(),
    };
    command.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// Keeps other processes out of the run directory at `path`, until the file is closed: the system sees to that, whichever way
/// this process ends. It lies among the caches, so that a run holds nothing but results.
fn lock(root: &Path, name: &str, path: &Path) -> Result<Option<Arc<File>>, Error> {
    let folder = root.join(".cache").join("locks");
    let file = folder.join(format!("{}.lock", name.replace(['/', '\\'], "-")));
    let failed = |source| Error::Write { path: file.clone(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // It stays when the run is done: were it removed, two processes could each hold a lock of that name.
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(failed)?;
    for _ in 0..TRIES.0 {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(Arc::new(lock))),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRIES.1),
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
    Err(Error::Busy { path: path.to_owned() })
}

/// Removes what a killed process left half-written in a run directory. Best effort: such a file is in nobody's way.
fn sweep(path: &Path) {
    for folder in [path.to_owned(), path.join("pictures")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && entry.path().extension().is_some_and(|ending| ending == "part") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// blake3 of a file, hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    let read = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    read.map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    Ok(hasher.finalize().to_hex().to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = String::new;
        Manifest {
            pellucid: text(),
            onnxruntime: text(),
            job: text(),
            model_hash: text(),
            data_hash: text(),
            settings_hash: text(),
            seed: 0,
            device: text(),
            warnings: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    #[test]
    fn a_directory_has_one_writer_at_a_time_and_none_is_left_when_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let open = |name: &str| RunDirectory::open(root.path(), name, &manifest(), false);
        let first = open("mine").unwrap();
        let refused = open("mine").unwrap_err();
        assert!(matches!(&refused, Error::Busy { path } if path.ends_with("mine")), "{refused}");
        open("other").unwrap();
        let clone = first.clone();
        drop(first);
        assert!(open("mine").is_err(), "a clone writes into it still");
        drop(clone);
        open("mine").unwrap();
    }

    #[test]
    fn a_finished_run_hashes_its_files_and_only_one_line_of_the_manifest_tells_runs_apart() {
        let root = tempfile::tempdir().unwrap();
        let finish = |name: &str, seconds: f64| {
            let directory = RunDirectory::open(root.path(), name, &manifest(), false).unwrap();
            directory.write_bytes("a.bin", b"content").unwrap();
            directory.write("report.html", &format!("<p>{seconds} s")).unwrap();
            let files = ["a.bin", "report.html"].map(str::to_owned);
            directory.finish(&manifest(), &files, &record("x", 1, vec![("all".to_owned(), seconds)])).unwrap();
            let text = |file: &str| std::fs::read_to_string(directory.file(file)).unwrap();
            let hash = |file: &str| hash(&directory.file(file)).unwrap();
            let written: Manifest = serde_json::from_str(&text("manifest.json")).unwrap();
            assert_eq!(written.files["a.bin"], hash("a.bin"));
            assert_eq!(
                (&written.files["run.json"], written.files["report.html"].as_str()),
                (&hash("run.json"), "run.json")
            );
            let record: RunRecord = serde_json::from_str(&text("run.json")).unwrap();
            assert_eq!(record.pages["report.html"], hash("report.html"));
            text("manifest.json")
        };
        let (one, two) = (finish("one", 1.0), finish("two", 2.0));
        let differ: Vec<_> = one.lines().zip(two.lines()).filter(|(a, b)| a != b).collect();
        assert!(matches!(differ[..], [(a, _)] if a.contains("run.json")), "{differ:?}");
    }

    #[test]
    fn what_a_kill_left_half_written_goes() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("r/pictures");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["a.png.7-0.part", "../.report.html.7.part", "kept.png"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        RunDirectory::open(root.path(), "r", &manifest(), false).unwrap();
        let left = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
        assert_eq!((left(&folder), left(&root.path().join("r"))), (1, 1));
    }
}
