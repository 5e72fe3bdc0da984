//! Labelled pictures: which files there are, which class, group and split each belongs to.
//!
//! [`Dataset::open`] recognises four ways in which people keep them:
//!
//! | on disk | recognised by |
//! |---|---|
//! | a folder per class, also below `train`/`val`/`test` | sub-folders with pictures |
//! | WILDS: `metadata.csv` with `img_filename,y[,split][,place]` | those two columns |
//! | CSV or JSON lines with `file_name,label[,group][,split]` | `metadata.csv`, `metadata.jsonl`, or the file given |
//! | Parquet with an image column (bytes, or a struct with `bytes` and `path`) | `*.parquet`, also in `data/` |
//!
//! File names in a table are relative to the table's folder; a name that would leave it is refused.
//! Names are data: nothing here interprets them further.

mod fence;
mod folders;
mod labels;
mod memory;
mod parquet;
mod rows;
mod tables;
mod warning;

pub use memory::{Content, Labelled, Samples};
pub use warning::DatasetWarning;

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::fence::{Fence, Place};
use crate::picture::{Picture, PictureError, read_bounded};
use crate::preprocess::Preprocessing;
use crate::text::{said, shown};
use pellucid_guard::{Budget, OverBudget, Setting};

/// Why a data set could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The path is not there or cannot be read.
    #[error("{}: the data set cannot be read: {source}", shown(.path))]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Nothing that looks like a data set.
    #[error(
        "{}: {}; expected a folder for each class, metadata.csv, metadata.jsonl or a Parquet file",
        shown(.path),
        said(.detail)
    )]
    Unrecognised {
        /// File or folder.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A table without a column that is needed.
    #[error("{}: no column for the {wanted}; found {}; name it {expected}", shown(.path), said(.found))]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// What the column is for.
        wanted: &'static str,
        /// The columns there are.
        found: String,
        /// Accepted names.
        expected: String,
    },
    /// A column that was named and is not there.
    #[error("{}: there is no column `{}` ({setting}); found {}", shown(.path), said(.name), said(.found))]
    NoSuchColumn {
        /// The table.
        path: PathBuf,
        /// What named it.
        setting: Setting,
        /// The name.
        name: String,
        /// The columns there are.
        found: String,
    },
    /// A line or row that makes no sense.
    #[error("{}, {place}: {}", shown(.path), said(.detail))]
    Row {
        /// The table.
        path: PathBuf,
        /// "line 3" or "row 3".
        place: String,
        /// What is wrong, what was expected, what to do.
        detail: String,
    },
    /// Labels that do not fit the class names.
    #[error("{}: {}", shown(.path), said(.detail))]
    Labels {
        /// Table or folder.
        path: PathBuf,
        /// What does not fit and what to do.
        detail: String,
    },
    /// The split asked for is not there.
    #[error("{}: no split `{}`; the data set has {}", shown(.path), said(.wanted), said(.found))]
    NoSuchSplit {
        /// Table or folder.
        path: PathBuf,
        /// Split asked for.
        wanted: String,
        /// Splits there are.
        found: String,
    },
    /// None of the files that a table names is there.
    #[error(
        "{}: none of its {count} pictures is there, for example {}; file names are relative to the table's folder",
        shown(.path),
        said(.example)
    )]
    AllMissing {
        /// The table.
        path: PathBuf,
        /// How many were looked for.
        count: usize,
        /// One of them.
        example: String,
    },
    /// A table that names addresses and no files.
    #[error(
        "{path}: all of its {count} pictures are addresses, for example {example}, which are never opened; fetch the files \
         and name them relative to the table's folder"
    )]
    OnlyAddresses {
        /// The table.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// One of them.
        example: String,
    },
    /// No pictures at all.
    #[error("{}: the data set holds no pictures ({})", shown(.path), said(.detail))]
    NoPictures {
        /// Table or folder.
        path: PathBuf,
        /// What was looked at.
        detail: String,
    },
    /// A Parquet file that cannot be read.
    #[error("{}: the Parquet file cannot be read: {}", shown(.path), said(.detail))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        detail: String,
    },
    /// The table or file takes more than [`Budget`] allows.
    #[error("{}: the data set takes too much: {source}", shown(.path))]
    OverBudget {
        /// File or folder.
        path: PathBuf,
        /// The bound, and what is needed.
        source: OverBudget,
    },
    /// A sample that does not exist.
    #[error("sample {index} was asked for, the data set has {count}")]
    NoSuchSample {
        /// Sample asked for.
        index: usize,
        /// Samples there are.
        count: usize,
    },
    /// A sample from memory cannot be had.
    #[error("{}: {}", said(.name), said(.reason))]
    Sample {
        /// Its name.
        name: String,
        /// Why, in words.
        reason: String,
    },
    /// A prepared input does not have the model's shape.
    #[error("{}: a prepared input of shape {found:?} was given, expected {expected:?}", said(.name))]
    PreparedShape {
        /// Its name.
        name: String,
        /// The shape given.
        found: Vec<usize>,
        /// The model's.
        expected: [usize; 3],
    },
    /// A job needs a picture, and the sample is a prepared input.
    #[error("{}: this needs pictures, and the sample is an input that was prepared already", said(.name))]
    OnlyPrepared {
        /// Its name.
        name: String,
    },
    /// The picture of a sample cannot be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

fn over_budget(path: &Path, source: OverBudget) -> DatasetError {
    DatasetError::OverBudget { path: path.into(), source }
}

/// One labelled picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Path below the root with `/` between parts, or the name of a Parquet row.
    pub file: String,
    /// Index into [`Dataset::classes`].
    pub label: usize,
    /// Index into [`Dataset::groups`], where groups are known.
    pub group: Option<usize>,
    /// `train`, `val`, `test` or the table's own word, where splits are known.
    pub split: Option<String>,
    /// What it shares with samples that are not independent of it (a patient, a place), where a column `unit` or the caller
    /// says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// How a data set is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder for each class.
    Folders,
    /// CSV with a header.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// WILDS' `metadata.csv`.
    Wilds,
    /// Parquet with the pictures inside.
    Parquet,
    /// In memory ([`Samples`]).
    Memory,
}

/// The order in which class folders named by number are classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderOrder {
    /// As text: 0, 1, 10, 11, 2, …, as torchvision's `ImageFolder`.
    Sorted,
    /// As numbers.
    Number,
}

/// How a table and folders are read, where their own names do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// The column of file names.
    pub file_column: Option<String>,
    /// The column of labels.
    pub label_column: Option<String>,
    /// The columns that make groups, together.
    pub group_columns: Vec<String>,
    /// Whether groups are divided by class.
    pub crossed: Option<bool>,
    /// The folder that file names are relative to, and that absolute ones must lie in; the table's own where `None`.
    pub root: Option<PathBuf>,
    /// The order of class folders named by number.
    pub folder_order: Option<FolderOrder>,
}

/// What a user says about a data set.
#[derive(Debug, Clone, Default)]
pub struct DatasetOptions {
    /// Only this split (`valid`, `validation` and `dev` are `val`; `testing` is `test`).
    pub split: Option<String>,
    /// Class names in the order of the model's outputs. Labels given as words are looked up here.
    pub class_names: Option<Vec<String>>,
    /// How the data set is kept, where it should not be guessed.
    pub format: Option<Format>,
    /// How its table and its folders are read.
    pub reading: Reading,
    /// Bounds on what its files may take in memory.
    pub budget: Budget,
}

/// Labelled pictures, in a fixed order.
#[derive(Debug)]
pub struct Dataset {
    /// The folder that file names are relative to.
    pub root: PathBuf,
    /// How it is kept.
    pub format: Format,
    /// The samples: in the order of the table, or sorted by path.
    pub samples: Vec<Sample>,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// Group names; empty where groups are not known.
    pub groups: Vec<String>,
    /// What a user should know: missing files, empty classes, ignored files.
    pub warnings: Vec<DatasetWarning>,
    /// Of class folders named by number, and where nobody said which order counts: the other order, and which class each class
    /// would be in it.
    pub other_order: Option<(FolderOrder, Vec<usize>)>,
    origin: Origin,
}

/// Where the pictures are.
#[derive(Debug)]
enum Origin {
    /// Files below the root.
    Files,
    Packed(parquet::PackedPictures),
    Memory(memory::Remembered),
}

impl Dataset {
    /// Opens the data set at `path` (a folder, a CSV or JSON-lines table, or a Parquet file).
    ///
    /// Files that a table names and that are not there are left out and named in `warnings`; it
    /// is an error if all are missing. Labels that are empty or `NaN` are errors with their line. A link that leads out of
    /// the data set's folder is not followed; a warning says how many there are. Only regular files are ever opened.
    pub fn open(path: impl AsRef<Path>, options: &DatasetOptions) -> Result<Dataset, DatasetError> {
        let path = path.as_ref();
        let found = std::fs::metadata(path).map_err(|source| DatasetError::Io { path: path.into(), source })?;
        let mut dataset = match if found.is_dir() { in_folder(path, options)? } else { as_file(path, options)? } {
            Source::Folders(root) => folders::open(&root, options)?,
            Source::Table(table, format) => tables::open(&table, format, options)?,
            Source::Parquet(root, files) => parquet::open(&root, &files, options)?,
        };
        dataset.warn_of_sparse_classes();
        Ok(dataset)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no samples (an opened data set has at least one).
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The picture of sample `index`.
    ///
    /// # Errors
    /// Where it cannot be read, or is an input that was prepared already.
    pub fn read(&self, index: usize, budget: &Budget) -> Result<Picture, DatasetError> {
        match self.content(index, budget)? {
            Content::Picture(picture) => Ok(picture),
            Content::Prepared(_) => Err(DatasetError::OnlyPrepared { name: self.samples[index].file.clone() }),
        }
    }

    /// Sample `index`, whichever it is.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn content(&self, index: usize, budget: &Budget) -> Result<Content, DatasetError> {
        let name = &self.sample(index)?.file;
        match &self.origin {
            Origin::Memory(memory) => memory.content(index, name),
            Origin::Files | Origin::Packed(_) => {
                Ok(Picture::decode(&self.read_bytes(index, budget)?, name, budget)?.into())
            }
        }
    }

    /// What the model sees of sample `index`, as a picture.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn view(&self, index: usize, preprocessing: &Preprocessing, budget: &Budget) -> Result<Picture, DatasetError> {
        Ok(match self.content(index, budget)? {
            Content::Picture(picture) => preprocessing.view(&picture),
            Content::Prepared(input) => crate::prepared::shown(input.view(), preprocessing),
        })
    }

    /// The encoded file of sample `index`.
    ///
    /// # Errors
    /// Where it cannot be read, or comes from memory.
    pub fn read_bytes(&self, index: usize, budget: &Budget) -> Result<Vec<u8>, DatasetError> {
        let sample = self.sample(index)?;
        match &self.origin {
            Origin::Packed(packed) => packed.with_bytes(index, &sample.file, budget, <[u8]>::to_vec),
            Origin::Files => Ok(read_bounded(&self.root.join(&sample.file), &sample.file, budget)?),
            Origin::Memory(_) => {
                let reason = "it has no file: it comes from memory".to_owned();
                Err(DatasetError::Sample { name: sample.file.clone(), reason })
            }
        }
    }

    fn sample(&self, index: usize) -> Result<&Sample, DatasetError> {
        self.samples.get(index).ok_or(DatasetError::NoSuchSample { index, count: self.samples.len() })
    }

    /// BLAKE3 of the encoded file of sample `index`, or of the numbers of one from memory, as 64 hexadecimal digits: the same
    /// content has the same hash wherever it lies and whatever it is called.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn content_hash(&self, index: usize, budget: &Budget) -> Result<String, DatasetError> {
        let name = &self.sample(index)?.file;
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        match &self.origin {
            Origin::Memory(memory) => Ok(memory::hash(&memory.content(index, name)?)),
            Origin::Packed(packed) => packed.with_bytes(index, name, budget, hash),
            Origin::Files => Ok(hash(&self.read_bytes(index, budget)?)),
        }
    }

    /// Whether pictures come fastest when asked for in order, one at a time.
    pub(crate) fn prefers_order(&self) -> bool {
        matches!(self.origin, Origin::Packed(_))
    }

    fn warn_of_sparse_classes(&mut self) {
        let mut counts = vec![0usize; self.classes.len()];
        for sample in &self.samples {
            counts[sample.label] += 1;
        }
        let empty: Vec<&str> =
            self.classes.iter().zip(&counts).filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str()).collect();
        if !empty.is_empty() {
            let (count, all) = (empty.len(), self.classes.len());
            let names = some_of(&empty);
            self.warnings.push(DatasetWarning::EmptyClasses { count, all, names });
        }
        if let [only] = counts.iter().enumerate().filter(|(_, count)| **count > 0).collect::<Vec<_>>()[..] {
            let name = self.classes[only.0].clone();
            self.warnings.push(DatasetWarning::OneClass { count: *only.1, name });
        }
    }
}

/// The first five of `names`, and how many more.
fn some_of<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(5) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What kind of data set lies at a path.
enum Source {
    Folders(PathBuf),
    Table(PathBuf, Format),
    Parquet(PathBuf, Vec<PathBuf>),
}

fn in_folder(path: &Path, options: &DatasetOptions) -> Result<Source, DatasetError> {
    let wanted = |format: Format| options.format.is_none_or(|asked| asked == format);
    let mut fence = Fence::around(path).map_err(|source| DatasetError::Io { path: path.into(), source })?;
    let csv = path.join("metadata.csv");
    if fence.place(&csv) == Place::File && (wanted(Format::Csv) || wanted(Format::Wilds)) {
        return Ok(Source::Table(csv, options.format.unwrap_or(Format::Csv)));
    }
    let lines = path.join("metadata.jsonl");
    if fence.place(&lines) == Place::File && wanted(Format::JsonLines) {
        return Ok(Source::Table(lines, Format::JsonLines));
    }
    if wanted(Format::Parquet) {
        for folder in [path.to_path_buf(), path.join("data")] {
            let files = parquet::files_in(&folder, &mut fence)?;
            if !files.is_empty() {
                return Ok(Source::Parquet(path.into(), files));
            }
        }
    }
    if wanted(Format::Folders) {
        return Ok(Source::Folders(path.into()));
    }
    let detail = format!("no data set of the format asked for ({:?}) is in this folder", options.format);
    Err(DatasetError::Unrecognised { path: path.into(), detail })
}

fn as_file(path: &Path, options: &DatasetOptions) -> Result<Source, DatasetError> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let guessed = match extension.as_deref() {
        Some("csv" | "tsv") => Some(Format::Csv),
        Some("jsonl" | "ndjson") => Some(Format::JsonLines),
        Some("parquet") => Some(Format::Parquet),
        _ => None,
    };
    match options.format.or(guessed) {
        Some(Format::Parquet) => {
            Ok(Source::Parquet(path.parent().unwrap_or(Path::new("")).into(), vec![path.to_path_buf()]))
        }
        Some(Format::Folders) | None => {
            let detail = "a file whose name ends in none of .csv, .tsv, .jsonl and .parquet".to_string();
            Err(DatasetError::Unrecognised { path: path.into(), detail })
        }
        Some(format) => Ok(Source::Table(path.into(), format)),
    }
}

/// The path of `name` below `root`, or why it is refused. An absolute name may lie in it, and parts may stand between `\`.
fn located(root: &Path, name: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(name);
    if path.is_absolute() && !name.split('/').any(|part| part == "..") {
        let roots = [Some(root.to_path_buf()), root.canonicalize().ok()];
        let inside = roots.iter().flatten().find_map(|root| path.strip_prefix(root).ok());
        if let Some(inside) = inside.and_then(Path::to_str) {
            return contained(inside);
        }
    }
    let found = contained(name)?;
    if name.contains('\\') && root.join(&found).symlink_metadata().is_err() {
        return contained(&name.replace('\\', "/"));
    }
    Ok(found)
}

/// The path of `name` below a root, or why it is refused.
fn contained(name: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(name);
    if name.is_empty() {
        return Err("the file name is empty");
    }
    if name.contains('\0') {
        return Err("the file name holds a zero byte");
    }
    // The rules of both worlds, so that a table means the same on every machine.
    let windows = name.starts_with('\\') || name.get(1..2) == Some(":");
    if path.is_absolute() || windows {
        return Err(
            "the file name is absolute and does not lie in the data set's folder; give it relative to the table's folder, or name \
             the folder that it lies in as the root",
        );
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err("the file name leaves the data set's folder by `..`; give it relative to the table's folder");
    }
    Ok(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

/// `train`, `val` or `test` for the words that mean them; other words stay.
fn canonical_split(word: &str) -> String {
    match word.trim().to_ascii_lowercase().as_str() {
        "train" | "training" => "train".to_string(),
        "val" | "valid" | "validation" | "dev" => "val".to_string(),
        "test" | "testing" => "test".to_string(),
        _ => word.trim().to_string(),
    }
}

/// Keeps the split that is asked for; with several splits and none asked for, says that they are
/// taken together.
fn keep_split<T>(
    rows: Vec<T>,
    split_of: impl Fn(&T) -> Option<&str>,
    options: &DatasetOptions,
    path: &Path,
    warnings: &mut Vec<DatasetWarning>,
) -> Result<Vec<T>, DatasetError> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for row in &rows {
        let split = split_of(row).unwrap_or("(none)");
        match found.iter_mut().find(|(name, _)| name == split) {
            Some((_, count)) => *count += 1,
            None => found.push((split.to_string(), 1)),
        }
    }
    let listed: Vec<String> = found.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let Some(wanted) = &options.split else {
        if found.len() > 1 {
            warnings.push(DatasetWarning::SplitsTaken { splits: some_of(&listed) });
        }
        return Ok(rows);
    };
    let canonical = canonical_split(wanted);
    let kept: Vec<T> = rows.into_iter().filter(|row| split_of(row) == Some(canonical.as_str())).collect();
    if kept.is_empty() {
        let only_none = found.iter().all(|(name, _)| name == "(none)");
        let found = if only_none { "no splits".to_string() } else { some_of(&listed) };
        return Err(DatasetError::NoSuchSplit { path: path.into(), wanted: wanted.clone(), found });
    }
    Ok(kept)
}
