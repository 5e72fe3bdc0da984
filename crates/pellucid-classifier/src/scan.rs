//! One pass over a labelled data set ([methods A1]): logits and features of every picture, kept on disk.
//!
//! The cache is a folder of Parquet shards for one (model, preprocessing, taps); a row is found by the content hash of
//! its picture. So a killed scan goes on where it stopped, a renamed picture costs nothing, a changed picture is
//! computed afresh, and a changed model or preprocessing shares nothing. Shards are written whole or not at all, and
//! memory holds one shard however many pictures there are.
//!
//! A shard's name carries the hash of its content. One that is not what was written, or has another schema than this scan,
//! is said, taken away and computed again; whenever a shard is read, what is used is parsed from the bytes that were hashed.
//!
//! [methods A1]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a1

use crate::network::{self, Forward, Network, NetworkError, Taps};
use crate::progress::Progress;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array as _, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bytes::Bytes;
use ndarray::Array2;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use pellucid_guard::Budget;
use pellucid_guard::seal::{self, Found};
use pellucid_vision::dataset::Dataset;
use pellucid_vision::loader::{self, Failure};
use pellucid_vision::preprocess::Preprocessing;
use pellucid_vision::training_view::TrainingView;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pictures per shard: what a kill can lose, and what memory holds.
const SHARD: usize = 256;

/// Ending of a shard's file.
const ENDING: &str = "parquet";

/// Rows gathered at a time when a scan is read back in the data set's order.
const GATHERED: usize = 1024;

/// Bytes of an exported scan that are written at a time.
const ROW_GROUP: usize = 8 << 20;

/// Why a scan stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The model failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The disk failed or is full.
    #[error(
        "cannot write the scan to {path}: {reason}; what was finished before is kept, and the same command goes on from there"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A shard cannot be read.
    #[error("cannot read the scan's {path}: {reason}; delete that file, and the same command computes it again")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// No picture could be read, or gave finite values.
    #[error("{data}: none of the {total} pictures could be used; the first: {first}")]
    NothingUsable {
        /// The data set.
        data: String,
        /// How many there are.
        total: usize,
        /// The first failure.
        first: String,
    },
    /// The user interrupted.
    #[error("interrupted after {done} of {total} pictures; the same command goes on from there")]
    Interrupted {
        /// Pictures finished.
        done: usize,
        /// Pictures in all.
        total: usize,
    },
}

/// What is scanned, and how.
#[derive(Debug, Clone, Copy)]
pub struct ScanSource<'a> {
    /// The classifier's network.
    pub network: &'a dyn Network,
    /// The pictures.
    pub data: &'a Arc<Dataset>,
    /// How pictures become tensors.
    pub preprocessing: &'a Preprocessing,
    /// Bounds on pictures.
    pub limits: &'a Budget,
    /// A view of each picture as training shows it, instead of the whole.
    pub view: Option<TrainingView>,
    /// Only these samples of the data set; all where `None`.
    pub only: Option<&'a [usize]>,
}

/// A picture that a scan went on without.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanWarning {
    /// It could not be read.
    Unreadable(Failure),
    /// The network gave NaN or infinity.
    NotFinite {
        /// The picture's name.
        file: String,
        /// How pictures become inputs, in words.
        preprocessing: String,
    },
}

impl std::fmt::Display for ScanWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(failure) => f.write_str(&failure.reason),
            Self::NotFinite { file, preprocessing } => {
                write!(
                    f,
                    "{file}: the model gives a value that is not finite; check the preprocessing ({preprocessing})"
                )
            }
        }
    }
}

/// What a scan did: where the rows are, and what could not be read.
#[derive(Debug, Clone)]
pub struct ScanReport {
    /// The cache folder; `None` for a scan that memory holds.
    pub folder: Option<PathBuf>,
    /// Content hash of each usable picture's file, with its index in the data set, ascending.
    pub rows: Vec<(usize, String)>,
    /// Pictures taken from the cache.
    pub reused: usize,
    /// Pictures computed now.
    pub computed: usize,
    /// Pictures that could not be used.
    pub warnings: Vec<ScanWarning>,
    /// Shards of the cache that were not what was written, one a line with their file; their rows were computed again.
    pub remade: Vec<String>,
    /// Hash over all files, labels and groups.
    pub data_hash: String,
    widths: Widths,
    shards: Vec<Kept>,
    /// Where each of `rows` lies.
    places: Vec<Place>,
}

/// Where a shard is.
#[derive(Debug, Clone)]
enum Kept {
    File(PathBuf),
    Memory(RecordBatch),
}

/// Numbers in a row of logits and in one of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Widths {
    logits: usize,
    features: usize,
}

/// The features of a scan, in memory.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    /// Index of each row in the data set.
    pub index: Vec<usize>,
    /// True class of each row.
    pub labels: Vec<usize>,
    /// Group of each row, where the data set has groups.
    pub groups: Vec<Option<usize>>,
    /// Logits, rows × C.
    pub logits: Array2<f32>,
    /// Features, rows × d.
    pub features: Array2<f32>,
}

impl FeatureTable {
    /// The `rows`, in their order; a row may be asked for more than once.
    pub fn select(&self, rows: &[usize]) -> FeatureTable {
        let axis = ndarray::Axis(0);
        FeatureTable {
            index: rows.iter().map(|&r| self.index[r]).collect(),
            labels: rows.iter().map(|&r| self.labels[r]).collect(),
            groups: rows.iter().map(|&r| self.groups[r]).collect(),
            logits: self.logits.select(axis, rows),
            features: self.features.select(axis, rows),
        }
    }

    /// Puts the rows of `other`, of the same width, below its own.
    ///
    /// # Panics
    /// If the widths differ: that is a mistake of the calling code.
    pub fn append(&mut self, other: FeatureTable) {
        self.index.extend(other.index);
        self.labels.extend(other.labels);
        self.groups.extend(other.groups);
        self.logits = ndarray::concatenate![ndarray::Axis(0), self.logits, other.logits];
        self.features = ndarray::concatenate![ndarray::Axis(0), self.features, other.features];
    }
}

/// The folder below `cache` that holds the shards of this source.
pub fn cache_folder(cache: &Path, source: &ScanSource<'_>) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.network.fingerprint().as_bytes()).update(b"\0");
    // The words that say where a preprocessing came from do not change what it computes.
    let computed = Preprocessing { source: String::new(), ..source.preprocessing.clone() };
    hasher.update(serde_json::to_string(&computed).unwrap_or_default().as_bytes());
    if let Some(view) = source.view {
        hasher.update(b"\0").update(serde_json::to_string(&view).unwrap_or_default().as_bytes());
    }
    // Folders of before shards were sealed are another cache.
    hasher.update(b"\0sealed");
    cache.join(&hasher.finalize().to_hex()[..24])
}

/// Scans what the folder below `cache` does not hold yet; without a cache everything, and memory holds the rows.
///
/// # Errors
/// [`ScanError`].
pub fn scan(source: &ScanSource<'_>, cache: Option<&Path>, progress: &dyn Progress) -> Result<ScanReport, ScanError> {
    let folder = cache.map(|cache| cache_folder(cache, source));
    let (rows, mut warnings) = hash_pictures(source.data, source.only, source.limits);
    let layer = source.network.layer();
    let widths = Widths { logits: layer.classes(), features: layer.features() };
    let (mut shards, mut known, remade) = match &folder {
        Some(folder) => found(folder, widths, progress)?,
        None => (Vec::new(), BTreeMap::new(), Vec::new()),
    };
    let mut seen = BTreeSet::new();
    let missing: Vec<(usize, String)> =
        rows.iter().filter(|(_, h)| !known.contains_key(h) && seen.insert(h.clone())).cloned().collect();
    let reused = rows.len() - missing.len();
    let mut written = |kept: Kept, hashes: Vec<String>| {
        let shard = shards.len();
        shards.push(kept);
        known.extend(hashes.into_iter().enumerate().map(|(row, hash)| (hash, Place { shard, row })));
    };
    let failed = compute(source, folder.as_deref(), &missing, progress, &mut written)?;
    let bad: BTreeSet<&String> = failed.iter().map(|(h, _)| h).collect();
    let rows: Vec<_> = rows.iter().filter(|(_, h)| !bad.contains(h)).cloned().collect();
    warnings.extend(failed.iter().map(|(_, w)| w.clone()));
    if rows.is_empty() {
        let data = source.data.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let first = warnings.first().map_or_else(|| "the data set is empty".to_owned(), ToString::to_string);
        return Err(ScanError::NothingUsable { data, total: source.data.samples.len(), first });
    }
    let data_hash = data_hash(source.data, &rows);
    let path = || folder.clone().unwrap_or_else(|| source.data.root.clone());
    let lost = || ScanError::Read { path: path(), reason: "it lacks a row that was computed".to_owned() };
    let places = rows.iter().map(|(_, hash)| known.get(hash).copied().ok_or_else(lost)).collect::<Result<_, _>>()?;
    let computed = missing.len() - failed.len();
    Ok(ScanReport { folder, rows, reused, computed, warnings, remade, data_hash, widths, shards, places })
}

/// The shards of the cache that can be used, where each row lies, and what is said of the others.
type Usable = (Vec<Kept>, BTreeMap<String, Place>, Vec<String>);

fn found(folder: &Path, widths: Widths, progress: &dyn Progress) -> Result<Usable, ScanError> {
    let unwritable = |e: std::io::Error| ScanError::Write { path: folder.to_owned(), reason: e.to_string() };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    let Index { shards, known, unusable } = index_shards(folder, widths)?;
    let mut remade = Vec::new();
    for (path, reason) in unusable {
        // One that cannot be taken away is left out again the next time.
        let _ = std::fs::remove_file(&path);
        let words =
            format!("{}: a shard of the cache cannot be used ({reason}); its rows are computed again", path.display());
        progress.warn(&words);
        remade.push(words);
    }
    Ok((shards.into_iter().map(Kept::File).collect(), known, remade))
}

/// Hash over the readable files of `data`, their labels and groups; [`ScanReport::data_hash`] without a scan.
pub fn content_hash(data: &Dataset, limits: &Budget) -> String {
    data_hash(data, &hash_pictures(data, None, limits).0)
}

fn hash_pictures(data: &Dataset, only: Option<&[usize]>, limits: &Budget) -> (Vec<(usize, String)>, Vec<ScanWarning>) {
    let wanted: Vec<usize> = only.map_or_else(|| (0..data.len()).collect(), <[usize]>::to_vec);
    let hashes: Vec<_> = wanted.par_iter().map(|&i| data.content_hash(i, limits)).collect();
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    for (i, hash) in wanted.into_iter().zip(hashes) {
        match hash {
            Ok(hash) => rows.push((i, hash)),
            Err(error) => warnings.push(ScanWarning::Unreadable(Failure {
                index: i,
                file: data.samples.get(i).map_or_else(String::new, |s| s.file.clone()),
                reason: error.to_string(),
            })),
        }
    }
    (rows, warnings)
}

fn data_hash(data: &Dataset, rows: &[(usize, String)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (i, hash) in rows {
        let sample = &data.samples[*i];
        let row = (&sample.file, hash, sample.label, sample.group);
        hasher.update(serde_json::to_string(&row).unwrap_or_default().as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// Computes `missing`, shard by shard; `written` hears of each shard and the pictures in it. Gives the hashes of pictures
/// that cannot be used, with the reason.
fn compute(
    source: &ScanSource<'_>,
    folder: Option<&Path>,
    missing: &[(usize, String)],
    progress: &dyn Progress,
    written: &mut dyn FnMut(Kept, Vec<String>),
) -> Result<Vec<(String, ScanWarning)>, ScanError> {
    let mut failed = Vec::new();
    if missing.is_empty() {
        return Ok(failed);
    }
    progress.start("scan", missing.len() as u64);
    let mut done = 0;
    for chunk in missing.chunks(SHARD) {
        let hash_of: BTreeMap<usize, &String> = chunk.iter().map(|(i, h)| (*i, h)).collect();
        let indices: Vec<usize> = chunk.iter().map(|(i, _)| *i).collect();
        let mut shard = Shard::default();
        for batch in loader::batches(
            source.data.clone(),
            source.preprocessing.clone(),
            indices,
            source.network.batch(),
            *source.limits,
            source.view,
        ) {
            if progress.interrupted() {
                shard.keep(folder)?;
                return Err(ScanError::Interrupted { done: done + shard.hashes.len(), total: missing.len() });
            }
            for failure in &batch.failures {
                failed.push((hash_of[&failure.index].clone(), ScanWarning::Unreadable(failure.clone())));
            }
            if !batch.indices.is_empty() {
                let given = network::forward(source.network, &batch.inputs.into_dyn(), Taps::Vectors)?;
                failed.extend(shard.push(source, &batch.indices, &hash_of, &given));
            }
            progress.advance((batch.indices.len() + batch.failures.len()) as u64);
        }
        done += chunk.len();
        if let Some(kept) = shard.keep(folder)? {
            written(kept, shard.hashes);
        }
    }
    progress.finish();
    Ok(failed)
}

/// Rows that are not on disk yet.
#[derive(Default)]
struct Shard {
    hashes: Vec<String>,
    logits: Vec<f32>,
    features: Vec<f32>,
}

impl Shard {
    /// Adds the rows of a batch; gives the hashes of those that are not finite, with the reason.
    fn push(
        &mut self,
        source: &ScanSource<'_>,
        indices: &[usize],
        hash_of: &BTreeMap<usize, &String>,
        given: &Forward,
    ) -> Vec<(String, ScanWarning)> {
        let mut failed = Vec::new();
        for (row, &index) in indices.iter().enumerate() {
            let (z, f) = (given.logits.row(row), given.features.row(row));
            if z.iter().chain(&f).any(|v| !v.is_finite()) {
                let file = source.data.samples[index].file.clone();
                let preprocessing = source.preprocessing.describe();
                failed.push((hash_of[&index].clone(), ScanWarning::NotFinite { file, preprocessing }));
                continue;
            }
            self.hashes.push(hash_of[&index].clone());
            self.logits.extend(z.iter());
            self.features.extend(f.iter());
        }
        failed
    }

    /// Keeps the shard, if it has rows: in `folder`, whole or not at all, so that a kill leaves no half shard behind.
    fn keep(&self, folder: Option<&Path>) -> Result<Option<Kept>, ScanError> {
        if self.hashes.is_empty() {
            return Ok(None);
        }
        let Some(folder) = folder else {
            let failed = |e: ArrowError| ScanError::Write { path: "memory".into(), reason: e.to_string() };
            return self.record().map(|record| Some(Kept::Memory(record))).map_err(failed);
        };
        let stem = blake3::hash(self.hashes.join("\n").as_bytes()).to_hex()[..24].to_owned();
        let failed = |reason: String| ScanError::Write { path: folder.join(format!("{stem}.parquet")), reason };
        let bytes = self.record().map_err(|e| e.to_string()).and_then(|record| parquet_of(&record)).map_err(failed)?;
        let path = seal::write(folder, &stem, ENDING, &bytes).map_err(|e| failed(e.to_string()))?;
        Ok(Some(Kept::File(path)))
    }

    fn record(&self) -> Result<RecordBatch, ArrowError> {
        let rows = self.hashes.len();
        let hash: ArrayRef = Arc::new(StringArray::from(self.hashes.clone()));
        RecordBatch::try_from_iter([
            ("hash", hash),
            ("logits", vectors(&self.logits, rows)?),
            ("features", vectors(&self.features, rows)?),
        ])
    }
}

/// Where a row lies in the cache.
#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    row: usize,
}

/// Reads the `wanted` rows of a shard; `each` gets every place of theirs, with logits and features.
fn read_rows(
    kept: &Kept,
    widths: Widths,
    wanted: &BTreeMap<usize, Vec<usize>>,
    mut each: impl FnMut(usize, &[f32], &[f32]),
) -> Result<(), ScanError> {
    let path = match kept {
        Kept::File(path) => path.as_path(),
        Kept::Memory(_) => Path::new("memory"),
    };
    let failed = |reason: String| ScanError::Read { path: path.to_owned(), reason };
    let changed = || failed("it was changed or removed after it was checked".to_owned());
    let record = match kept {
        Kept::Memory(record) => record.clone(),
        Kept::File(path) => match checked(path, widths).map_err(|e| failed(e.to_string()))? {
            Found::Whole(sealed) => parsed(sealed.bytes, widths).map_err(failed)?,
            Found::Absent | Found::Damaged(_) => return Err(changed()),
        },
    };
    let (logits, features) = (record.column(1).as_fixed_size_list(), record.column(2).as_fixed_size_list());
    for (&row, places) in wanted {
        if row >= record.num_rows() {
            return Err(changed());
        }
        let (z, f) = (logits.value(row), features.value(row));
        let (z, f) = (z.as_primitive::<Float32Type>(), f.as_primitive::<Float32Type>());
        places.iter().for_each(|&at| each(at, z.values(), f.values()));
    }
    Ok(())
}

/// The shard at `path`, or the one of the same rows that another process has put in its place meanwhile.
fn checked(path: &Path, widths: Widths) -> std::io::Result<Found> {
    let found = seal::check_within(path, widths.most_bytes())?;
    let stem = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.split('.').next());
    match (found, path.parent(), stem) {
        (Found::Absent, Some(folder), Some(stem)) => seal::read_within(folder, stem, ENDING, widths.most_bytes()),
        (found, ..) => Ok(found),
    }
}

impl Widths {
    /// What the columns of a shard are called and hold.
    fn columns(self) -> Option<[(&'static str, DataType); 3]> {
        let vector = |width: usize| {
            let item = Arc::new(Field::new_list_field(DataType::Float32, false));
            Some(DataType::FixedSizeList(item, i32::try_from(width).ok()?))
        };
        Some([("hash", DataType::Utf8), ("logits", vector(self.logits)?), ("features", vector(self.features)?)])
    }

    /// More bytes than a shard can have: twice its numbers, and room for hashes and the format's own.
    fn most_bytes(self) -> u64 {
        let row = (self.logits as u64).saturating_add(self.features as u64).saturating_mul(8);
        row.saturating_mul(SHARD as u64).saturating_add(1 << 20)
    }
}

/// The rows of a shard from its bytes, if they are what this scan writes; else what is wrong.
fn parsed(bytes: Vec<u8>, widths: Widths) -> Result<RecordBatch, String> {
    let record = pellucid_guard::parse("Parquet", || record_of(bytes, widths)).map_err(|e| e.to_string())??;
    let vectors = [record.column(1), record.column(2)].map(|c| c.as_fixed_size_list().values().clone());
    let finite = |v: &ArrayRef| v.as_primitive::<Float32Type>().values().iter().all(|v| v.is_finite());
    if vectors.iter().chain(record.columns()).any(|column| column.null_count() > 0) {
        return Err("it has values that are absent".to_owned());
    }
    if !vectors.iter().all(finite) {
        return Err("it has numbers that are not finite".to_owned());
    }
    Ok(record)
}

/// The number of rows of the shard in `bytes`, whose rows hold as many `logits` and `features`: for the fuzz targets.
///
/// # Errors
/// What is wrong with it.
#[doc(hidden)]
pub fn parse_shard(bytes: Vec<u8>, logits: usize, features: usize) -> Result<usize, String> {
    let record = parsed(bytes, Widths { logits, features })?;
    let both = [record.column(1), record.column(2)].map(|c| c.as_fixed_size_list());
    for row in 0..record.num_rows() {
        let [z, f] = both.map(|list| list.value(row).len());
        if (z, f) != (logits, features) {
            return Err(format!("row {row} has {z} logits and {f} features"));
        }
    }
    Ok(record.num_rows())
}

fn record_of(bytes: Vec<u8>, widths: Widths) -> Result<RecordBatch, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).map_err(|e| e.to_string())?;
    let rows = builder.metadata().file_metadata().num_rows();
    if !(1..=SHARD as i64).contains(&rows) {
        return Err(format!("it has {rows} rows, expected 1 to {SHARD}"));
    }
    let chunks = || builder.metadata().row_groups().iter().flat_map(|group| group.columns());
    // As shards are written; what is compressed could unfold to any size.
    if chunks().any(|chunk| chunk.compression() != Compression::UNCOMPRESSED) {
        return Err("it is compressed".to_owned());
    }
    let found: Vec<(&str, &DataType)> =
        builder.schema().fields().iter().map(|f| (f.name().as_str(), f.data_type())).collect();
    let columns = widths.columns().ok_or("the model's vectors are too long")?;
    if !found.iter().copied().eq(columns.iter().map(|(name, kind)| (*name, kind))) {
        let names: Vec<String> = found.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        let shown: String = names.join(", ").chars().take(160).collect();
        let Widths { logits, features } = widths;
        return Err(format!(
            "its columns are {}, expected hash, logits of {logits} and features of {features}",
            pellucid_guard::printable::name(&shown)
        ));
    }
    let mut reader = builder.with_batch_size(SHARD).build().map_err(|e: ParquetError| e.to_string())?;
    // Shards have one row group, which comes at once.
    let record = reader.next().transpose().map_err(|e: ArrowError| e.to_string())?;
    record.filter(|r| r.num_rows() as i64 == rows).ok_or_else(|| format!("it lacks some of its {rows} rows"))
}

/// Row vectors of equal length as an Arrow column.
fn vectors(values: &[f32], rows: usize) -> Result<ArrayRef, ArrowError> {
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    let width =
        i32::try_from(values.len() / rows.max(1)).map_err(|e| ArrowError::InvalidArgumentError(e.to_string()))?;
    Ok(Arc::new(FixedSizeListArray::try_new(item, width, Arc::new(Float32Array::from(values.to_vec())), None)?))
}

fn parquet_of(record: &RecordBatch) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, record.schema(), None).map_err(|e| e.to_string())?;
    writer.write(record).map_err(|e| e.to_string())?;
    writer.close().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// What a cache folder holds.
struct Index {
    /// Shards that are what was written.
    shards: Vec<PathBuf>,
    /// Where each picture's row lies, by its hash; one that stands in two shards is taken from the first.
    known: BTreeMap<String, Place>,
    /// Shards that must not be used, and why.
    unusable: Vec<(PathBuf, String)>,
}

/// Looks at every finished shard, one at a time. Unfinished shards of a killed scan are not looked at.
fn index_shards(folder: &Path, widths: Widths) -> Result<Index, ScanError> {
    let failed = |path: &Path, e: std::io::Error| ScanError::Read { path: path.to_owned(), reason: e.to_string() };
    let mut index = Index { shards: Vec::new(), known: BTreeMap::new(), unusable: Vec::new() };
    for path in seal::list(folder, ENDING).map_err(|e| failed(folder, e))? {
        let read = match seal::check_within(&path, widths.most_bytes()).map_err(|e| failed(&path, e))? {
            Found::Absent => continue,
            Found::Damaged(_) => Err("it is damaged".to_owned()),
            Found::Whole(sealed) => parsed(sealed.bytes, widths),
        };
        match read {
            Ok(record) => {
                let shard = index.shards.len();
                for (row, hash) in record.column(0).as_string::<i32>().iter().flatten().enumerate() {
                    index.known.entry(hash.to_owned()).or_insert(Place { shard, row });
                }
                index.shards.push(path);
            }
            Err(reason) => index.unusable.push((path, reason)),
        }
    }
    Ok(index)
}

impl ScanReport {
    /// The same pictures under other labels or groups: `data` lists the same files in the same order.
    #[must_use]
    pub fn under_other_labels(self, data: &Dataset) -> Self {
        Self { data_hash: data_hash(data, &self.rows), ..self }
    }

    /// Visits the rows in the data set's order, whatever order the cache has them in: the index of each in the data set,
    /// its logits and its features. Memory holds [`GATHERED`] rows and one shard.
    fn visit(&self, mut each: impl FnMut(usize, &[f32], &[f32])) -> Result<(), ScanError> {
        for (chunk, places) in self.rows.chunks(GATHERED).zip(self.places.chunks(GATHERED)) {
            let mut gathered: Vec<(Vec<f32>, Vec<f32>)> = vec![Default::default(); chunk.len()];
            let mut by_shard: BTreeMap<usize, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
            for (at, place) in places.iter().enumerate() {
                by_shard.entry(place.shard).or_default().entry(place.row).or_default().push(at);
            }
            for (shard, wanted) in by_shard {
                read_rows(&self.shards[shard], self.widths, &wanted, |at, z, f| {
                    gathered[at] = (z.to_vec(), f.to_vec())
                })?;
            }
            chunk.iter().zip(&gathered).for_each(|((i, _), (z, f))| each(*i, z, f));
        }
        Ok(())
    }

    /// The class that each row is predicted as, in the data set's order. Features are not kept, so memory stays small.
    pub fn predictions(&self) -> Result<Vec<usize>, ScanError> {
        let mut predictions = Vec::with_capacity(self.rows.len());
        self.visit(|_, z, _| predictions.push(predicted(z)))?;
        Ok(predictions)
    }

    /// Loads every row, in the data set's order. A one-logit head gives two columns, 0 and z, as
    /// [`crate::head::decision_layer`] makes of it.
    pub fn load(&self, data: &Dataset, classes: usize, d: usize) -> Result<FeatureTable, ScanError> {
        let index: Vec<usize> = self.rows.iter().map(|(i, _)| *i).collect();
        let row_of: BTreeMap<usize, usize> = index.iter().enumerate().map(|(row, &i)| (i, row)).collect();
        let mut logits = Array2::zeros((index.len(), classes.max(2)));
        let first = usize::from(classes == 1);
        let mut features = Array2::zeros((index.len(), d));
        self.visit(|i, z, f| {
            let row = row_of[&i];
            logits.row_mut(row).iter_mut().skip(first).zip(z).for_each(|(a, &b)| *a = b);
            features.row_mut(row).iter_mut().zip(f).for_each(|(a, &b)| *a = b);
        })?;
        let labels = index.iter().map(|&i| data.samples[i].label).collect();
        let groups = index.iter().map(|&i| data.samples[i].group).collect();
        Ok(FeatureTable { index, labels, groups, logits, features })
    }

    /// Writes the scan as one Parquet file: file, label, group, prediction, logits, features; a shard at a time.
    pub fn export(&self, data: &Dataset, path: &Path) -> Result<(), ScanError> {
        let failed = |reason: String| ScanError::Write { path: path.to_owned(), reason };
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let mut writer: Option<ArrowWriter<std::fs::File>> = None;
        let mut pending = Export::default();
        let mut broken: Option<String> = None;
        self.visit(|i, z, f| {
            pending.push(data, i, z, f);
            if pending.files.len() == SHARD && broken.is_none() {
                broken = pending.flush(&part, &mut writer).err();
            }
        })?;
        let finished = broken.map_or(Ok(()), Err).and_then(|()| pending.flush(&part, &mut writer));
        let closed =
            finished.and_then(|()| writer.map_or(Ok(()), |w| w.close().map(|_| ()).map_err(|e| e.to_string())));
        closed.and_then(|()| std::fs::rename(&part, path).map_err(|e| e.to_string())).map_err(|reason| {
            // Best effort, as above.
            let _ = std::fs::remove_file(&part);
            failed(reason)
        })
    }
}

/// Rows of the exported table that are not written yet.
#[derive(Default)]
struct Export {
    files: Vec<String>,
    labels: Vec<u32>,
    groups: Vec<Option<u32>>,
    predictions: Vec<u32>,
    logits: Vec<f32>,
    features: Vec<f32>,
}

impl Export {
    fn push(&mut self, data: &Dataset, i: usize, z: &[f32], f: &[f32]) {
        let sample = &data.samples[i];
        self.files.push(sample.file.clone());
        self.labels.push(sample.label as u32);
        self.groups.push(sample.group.map(|g| g as u32));
        self.predictions.push(predicted(z) as u32);
        self.logits.extend(z);
        self.features.extend(f);
    }

    fn flush(&mut self, path: &Path, writer: &mut Option<ArrowWriter<std::fs::File>>) -> Result<(), String> {
        if self.files.is_empty() {
            return Ok(());
        }
        let rows = self.files.len();
        let taken = std::mem::take(self);
        let columns: [(&str, ArrayRef, bool); 6] = [
            ("file", Arc::new(StringArray::from(taken.files)), false),
            ("label", Arc::new(arrow_array::UInt32Array::from(taken.labels)), false),
            ("group", Arc::new(arrow_array::UInt32Array::from(taken.groups)), true),
            ("prediction", Arc::new(arrow_array::UInt32Array::from(taken.predictions)), false),
            ("logits", vectors(&taken.logits, rows).map_err(|e| e.to_string())?, false),
            ("features", vectors(&taken.features, rows).map_err(|e| e.to_string())?, false),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(n, a, null)| Field::new(*n, a.data_type().clone(), *null)).collect();
        let schema = Arc::new(Schema::new(fields));
        let arrays = columns.into_iter().map(|(_, a, _)| a).collect();
        let record = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| e.to_string())?;
        if writer.is_none() {
            let file = std::fs::File::create(path).map_err(|e| e.to_string())?;
            *writer = Some(ArrowWriter::try_new(file, schema, None).map_err(|e| e.to_string())?);
        }
        let Some(writer) = writer else { return Ok(()) };
        writer.write(&record).map_err(|e| e.to_string())?;
        // The writer keeps a row group in memory until it ends, which by itself is after a million rows.
        if writer.in_progress_size() >= ROW_GROUP { writer.flush().map_err(|e| e.to_string()) } else { Ok(()) }
    }
}

/// The class that each row of logits predicts, as [`predicted`] says.
pub fn predictions(logits: &Array2<f32>) -> Vec<usize> {
    logits.rows().into_iter().map(|z| predicted(&z.to_vec())).collect()
}

/// The class a row of logits predicts: the first maximum; one logit is a threshold at 0.
pub fn predicted(logits: &[f32]) -> usize {
    if let [z] = logits {
        return usize::from(*z > 0.0);
    }
    let best =
        logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &z)| if z > best.1 { (i, z) } else { best });
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use arrow_array::builder::{Float32Builder, ListBuilder};
    use parquet::file::properties::WriterProperties;

    const WIDTHS: Widths = Widths { logits: 2, features: 3 };

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn rows(values: &[f32], count: usize) -> ArrayRef {
        vectors(values, count).unwrap()
    }

    /// Lists of any length, as other writers make of them.
    fn lists(width: usize, count: usize) -> ArrayRef {
        let mut lists = ListBuilder::new(Float32Builder::new());
        (0..count).for_each(|_| lists.append_value((0..width).map(|i| Some(i as f32))));
        Arc::new(lists.finish())
    }

    fn shard(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        parquet_of(&RecordBatch::try_from_iter(columns).unwrap()).unwrap()
    }

    fn good() -> Vec<u8> {
        let (z, f) = (rows(&[0.5, 1.0, -1.0, 2.0], 2), rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2));
        shard(vec![("hash", texts(&["a", "b"])), ("logits", z), ("features", f)])
    }

    #[test]
    fn a_shard_is_read_back_as_it_was_written() {
        let record = parsed(good(), WIDTHS).unwrap();
        assert_eq!(record.num_rows(), 2);
        let second = record.column(2).as_fixed_size_list().value(1);
        assert_eq!(second.as_primitive::<Float32Type>().values(), &[4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_shard_of_another_schema_is_refused_with_the_reason() {
        let hash = || texts(&["a", "b"]);
        let (z, f) = (|| rows(&[0.0; 4], 2), || rows(&[0.0; 6], 2));
        let absent: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        for (columns, said) in [
            (vec![("a", hash())], "its columns are a: Utf8"),
            (vec![("logits", z()), ("features", f())], "expected hash"),
            (vec![("hash", Arc::new(Int64Array::from(vec![1, 2])) as _), ("logits", z()), ("features", f())], "Int64"),
            (vec![("hash", hash()), ("logits", lists(2, 2)), ("features", lists(3, 2))], "expected hash, logits of 2"),
            (vec![("hash", hash()), ("logits", z()), ("features", rows(&[0.0; 4], 2))], "features of 3"),
            (vec![("hash", hash()), ("logits", rows(&[0.0; 8], 2)), ("features", f())], "logits of 2"),
            (vec![("hash", hash()), ("logits", rows(&[f32::NAN; 4], 2)), ("features", f())], "not finite"),
            (vec![("hash", hash()), ("logits", z()), ("features", rows(&[f32::INFINITY; 6], 2))], "not finite"),
            (vec![("hash", absent), ("logits", z()), ("features", f())], "absent"),
            (vec![("hash", hash()), ("logits", z()), ("features", f()), ("more", hash())], "more: Utf8"),
            (vec![("hash", texts(&[])), ("logits", rows(&[], 0)), ("features", rows(&[], 0))], "0 rows"),
        ] {
            let error = parsed(shard(columns), WIDTHS).unwrap_err();
            assert!(error.contains(said) && error.lines().count() == 1, "{said}: {error}");
        }
        let many = SHARD + 1;
        let names: Vec<String> = (0..many).map(|i| i.to_string()).collect();
        let long: ArrayRef = Arc::new(StringArray::from(names));
        let columns = vec![
            ("hash", long),
            ("logits", rows(&vec![0.0; many * 2], many)),
            ("features", rows(&vec![0.0; many * 3], many)),
        ];
        assert!(parsed(shard(columns), WIDTHS).unwrap_err().contains("257 rows"));
    }

    #[test]
    fn a_compressed_shard_is_refused_before_it_is_unfolded() {
        let record = parsed(good(), WIDTHS).unwrap();
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, record.schema(), Some(properties)).unwrap();
        writer.write(&record).unwrap();
        writer.close().unwrap();
        assert_eq!(parsed(bytes, WIDTHS).unwrap_err(), "it is compressed");
    }

    #[test]
    fn no_flipped_bit_of_a_shard_brings_its_parser_down() {
        // Without the hash, which finds every one of them first.
        let whole = good();
        for bit in (0..whole.len() * 8).step_by(7) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = parsed(bytes, WIDTHS);
        }
        (0..whole.len()).step_by(13).for_each(|length| drop(parsed(whole[..length].to_vec(), WIDTHS)));
    }

    #[test]
    fn only_shards_that_are_what_was_written_are_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = seal::write(folder.path(), "first", ENDING, &good()).unwrap();
        std::fs::write(folder.path().join("unsealed.parquet"), good()).unwrap();
        std::fs::write(folder.path().join("second.part"), b"PAR1").unwrap();
        let other = shard(vec![("a", texts(&["x"]))]);
        seal::write(folder.path(), "third", ENDING, &other).unwrap();
        let large = vec![0; 3 << 20];
        seal::write(folder.path(), "fourth", ENDING, &large).unwrap();
        let index = index_shards(folder.path(), WIDTHS).unwrap();
        assert_eq!(index.shards, [sealed]);
        assert_eq!(index.known.keys().collect::<Vec<_>>(), ["a", "b"]);
        let unusable: Vec<String> = index
            .unusable
            .iter()
            .map(|(p, _)| p.file_name().unwrap().to_string_lossy().split('.').next().unwrap().to_owned())
            .collect();
        assert_eq!(unusable, ["fourth", "third", "unsealed"]);
    }
}
