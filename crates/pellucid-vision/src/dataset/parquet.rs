//! Parquet files with the pictures inside, as Hugging Face data sets are kept: a column of bytes,
//! or of a struct with `bytes` and `path`, beside a label column.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::rows::{self, GROUP, LABEL, LABEL_NAME, Row, SPLIT};
use super::{Dataset, DatasetError, DatasetOptions, Format, canonical_split, some_of};
use crate::picture::PictureError;
use pellucid_guard::Budget;

/// Rows decoded at a time: few, since each holds a whole picture.
const CHUNK_ROWS: usize = 16;
/// Decoded chunks kept, so that nearly sequential readers do not decode twice.
const CHUNKS_KEPT: usize = 2;

/// The Parquet files in `folder`, sorted; none where the folder is not there.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let io = |source| DatasetError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One Parquet file whose schema has been understood.
struct PackedFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    image: usize,
    /// First row of each row group, and the number of all rows at the end.
    group_starts: Vec<usize>,
}

/// A row of the data set: file and row in it.
#[derive(Debug, Clone, Copy)]
struct Address {
    file: usize,
    row: usize,
}

/// Reads pictures out of Parquet files with bounded memory.
pub(super) struct PackedPictures {
    files: Vec<PackedFile>,
    addresses: Vec<Address>,
    recent: Mutex<Recent>,
}

impl std::fmt::Debug for PackedPictures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedPictures({} files, {} pictures)", self.files.len(), self.addresses.len())
    }
}

/// The reader where it stands and the chunks decoded last.
#[derive(Default)]
struct Recent {
    reader: Option<Position>,
    chunks: VecDeque<Chunk>,
}

struct Position {
    file: usize,
    next_row: usize,
    end_row: usize,
    reader: ParquetRecordBatchReader,
}

struct Chunk {
    file: usize,
    first_row: usize,
    images: ArrayRef,
}

/// Opens `files` as one data set; see [`Dataset::open`].
pub(super) fn open(root: &Path, files: &[PathBuf], options: &DatasetOptions) -> Result<Dataset, DatasetError> {
    let (mut packed, mut rows, mut addresses, mut declared) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (index, path) in files.iter().enumerate() {
        let file = guarded(path, || PackedFile::open(path))?;
        let found = guarded(path, || file.rows())?;
        addresses.extend((0..found.len()).map(|row| Address { file: index, row }));
        rows.extend(found);
        declared = declared.or_else(|| class_names(file.metadata.schema(), &file.label_column()));
        packed.push(file);
    }
    let table = match files {
        [only] => only.as_path(),
        _ => root,
    };
    let resolved = rows::resolve(table, &rows, declared, options)?;
    let addresses = resolved.rows.iter().map(|row| addresses[*row]).collect();
    Ok(Dataset {
        root: root.into(),
        format: Format::Parquet,
        samples: resolved.samples,
        classes: resolved.classes,
        groups: resolved.groups,
        warnings: resolved.warnings,
        packed: Some(PackedPictures { files: packed, addresses, recent: Mutex::default() }),
    })
}

/// Runs `read`; a panic inside the Parquet reader, which a hostile file may cause, is an error.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, DatasetError>) -> Result<T, DatasetError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(parquet_error(path, "its content is damaged")))
}

fn parquet_error(path: &Path, detail: impl ToString) -> DatasetError {
    DatasetError::Parquet { path: path.into(), detail: detail.to_string() }
}

impl PackedFile {
    fn open(path: &Path) -> Result<PackedFile, DatasetError> {
        let file = File::open(path).map_err(|source| DatasetError::Io { path: path.into(), source })?;
        let metadata =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| parquet_error(path, e))?;
        let image = image_column(path, metadata.schema())?;
        let mut group_starts = vec![0];
        for group in metadata.metadata().row_groups() {
            let rows = usize::try_from(group.num_rows()).map_err(|_| parquet_error(path, "a negative row count"))?;
            group_starts.push(group_starts.last().copied().unwrap_or(0) + rows);
        }
        Ok(PackedFile { path: path.into(), metadata, image, group_starts })
    }

    fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    fn column(&self, names: &[&str]) -> Option<usize> {
        let fields = self.schema().fields();
        names.iter().find_map(|name| fields.iter().position(|field| field.name() == name))
    }

    fn label_column(&self) -> String {
        self.column(LABEL).map_or(String::new(), |column| self.schema().field(column).name().clone())
    }

    /// Reads everything but the pictures.
    fn rows(&self) -> Result<Vec<Row>, DatasetError> {
        let fields = self.schema().fields();
        let label = self.column(LABEL).ok_or_else(|| DatasetError::MissingColumn {
            path: self.path.clone(),
            wanted: "label",
            found: some_of(&fields.iter().map(|field| field.name()).collect::<Vec<_>>()),
            expected: LABEL.join(", "),
        })?;
        let columns = [Some(label), self.column(LABEL_NAME), self.column(GROUP), self.column(SPLIT)];
        let mut wanted: Vec<usize> = columns.iter().flatten().copied().collect();
        wanted.sort_unstable();
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let split = split_of_name(&file);
        let mut rows = Vec::new();
        for batch in self.reader(&wanted, None, 8192)? {
            let batch = batch.map_err(|error| parquet_error(&self.path, error))?;
            let cells = columns.map(|column| column.and_then(|at| wanted.iter().position(|w| *w == at)));
            for at in 0..batch.num_rows() {
                let place = format!("row {}", rows.len());
                let name = format!("{file}#{}", rows.len());
                rows.push(self.row(&batch, at, cells, place, name, &split)?);
            }
        }
        Ok(rows)
    }

    fn row(
        &self,
        batch: &RecordBatch,
        at: usize,
        cells: [Option<usize>; 4],
        place: String,
        file: String,
        split: &Option<String>,
    ) -> Result<Row, DatasetError> {
        let cell = |column: Option<usize>| match column {
            None => Ok(None),
            Some(column) => cell_text(batch.column(column), at).map(Some).ok_or_else(|| DatasetError::Row {
                path: self.path.clone(),
                place: place.clone(),
                detail: format!(
                    "column `{}` is of type {}, expected numbers or text",
                    batch.schema().field(column).name(),
                    batch.column(column).data_type()
                ),
            }),
        };
        let [label, label_name, group, own_split] = cells;
        Ok(Row {
            label: cell(label)?.unwrap_or_default(),
            label_name: cell(label_name)?,
            group: cell(group)?,
            split: cell(own_split)?.or_else(|| split.clone()),
            file,
            place,
            ..Row::default()
        })
    }

    /// A reader of the top-level columns `columns`: of all rows, or of a row group from an offset.
    fn reader(
        &self,
        columns: &[usize],
        from: Option<(usize, usize)>,
        rows: usize,
    ) -> Result<ParquetRecordBatchReader, DatasetError> {
        let file = File::open(&self.path).map_err(|source| DatasetError::Io { path: self.path.clone(), source })?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns.iter().copied());
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_batch_size(rows);
        if let Some((group, offset)) = from {
            builder = builder.with_row_groups(vec![group]).with_offset(offset);
        }
        builder.build().map_err(|error| parquet_error(&self.path, error))
    }
}

/// The text of one cell: numbers as written, nothing for null; `None` for other types.
fn cell_text(column: &ArrayRef, at: usize) -> Option<String> {
    use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
    use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};
    macro_rules! number {
        ($kind:ty) => {
            column.as_primitive_opt::<$kind>()?.value(at).to_string()
        };
    }
    if column.is_null(at) {
        return Some(String::new());
    }
    Some(match column.data_type() {
        DataType::Boolean => u8::from(column.as_boolean_opt()?.value(at)).to_string(),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Utf8 => column.as_string_opt::<i32>()?.value(at).to_string(),
        DataType::LargeUtf8 => column.as_string_opt::<i64>()?.value(at).to_string(),
        DataType::Utf8View => column.as_string_view_opt()?.value(at).to_string(),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary_opt()?;
            let key = dictionary.normalized_keys().get(at).copied()?;
            return cell_text(dictionary.values(), key);
        }
        _ => return None,
    })
}

/// Hugging Face names its files `train-00000-of-00004.parquet`.
fn split_of_name(file: &str) -> Option<String> {
    let word = file.split(['-', '.']).next().map(canonical_split)?;
    ["train", "val", "test"].contains(&word.as_str()).then_some(word)
}

/// The first column that holds pictures.
fn image_column(path: &Path, schema: &Schema) -> Result<usize, DatasetError> {
    let holds_pictures = |field: &Field| match field.data_type() {
        DataType::Struct(inner) => inner.iter().any(|part| part.name() == "bytes" && is_binary(part.data_type())),
        kind => is_binary(kind),
    };
    schema.fields().iter().position(|field| holds_pictures(field)).ok_or_else(|| {
        let columns: Vec<String> =
            schema.fields().iter().map(|f| format!("{} ({})", f.name(), f.data_type())).collect();
        DatasetError::MissingColumn {
            path: path.into(),
            wanted: "pictures",
            found: some_of(&columns),
            expected: "anything; it holds bytes, or a struct with `bytes`".to_string(),
        }
    })
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Class names that the Hugging Face library stores in the schema for a `ClassLabel`.
fn class_names(schema: &Schema, label: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(schema.metadata().get("huggingface")?).ok()?;
    let names = json.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|name| Some(name.as_str()?.to_string())).collect()
}

impl PackedPictures {
    /// The encoded picture of sample `index`; `name` is used in errors.
    pub(super) fn bytes(&self, index: usize, name: &str, limits: &Budget) -> Result<Vec<u8>, DatasetError> {
        let address = self.addresses[index];
        let path = &self.files[address.file].path;
        // After a panic elsewhere the cache is still a cache: at worst it is emptied.
        let mut recent = self.recent.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            *inner = Recent::default();
            inner
        });
        let kept = recent.chunks.iter().position(|chunk| chunk.holds(address));
        let at = match kept {
            Some(at) => at,
            None => {
                let chunk = guarded(path, || self.decode(&mut recent, address))?;
                recent.chunks.truncate(CHUNKS_KEPT - 1);
                recent.chunks.push_front(chunk);
                0
            }
        };
        let chunk = &recent.chunks[at];
        let bytes = binary_value(&chunk.images, address.row - chunk.first_row)
            .ok_or_else(|| parquet_error(path, format!("{name} has no picture bytes")))?;
        if bytes.len() as u64 > limits.picture_bytes {
            let (found, limit) = (bytes.len() as u64, limits.picture_bytes);
            return Err(PictureError::TooManyBytes { name: name.to_string(), found, limit }.into());
        }
        Ok(bytes.to_vec())
    }

    /// Decodes the chunk with `address`, going on from where the reader stands if it can.
    fn decode(&self, recent: &mut Recent, address: Address) -> Result<Chunk, DatasetError> {
        let file = &self.files[address.file];
        let group = file.group_starts.partition_point(|start| *start <= address.row) - 1;
        let start = file.group_starts[group];
        let first_row = start + (address.row - start) / CHUNK_ROWS * CHUNK_ROWS;
        let stands = |position: &Position| position.file == address.file && position.next_row == first_row;
        let mut position = match recent.reader.take().filter(stands) {
            Some(position) if first_row < position.end_row => position,
            _ => Position {
                file: address.file,
                next_row: first_row,
                end_row: file.group_starts[group + 1],
                reader: file.reader(&[file.image], Some((group, first_row - start)), CHUNK_ROWS)?,
            },
        };
        let batch =
            position.reader.next().ok_or_else(|| parquet_error(&file.path, "it has fewer rows than it says"))?;
        let batch = batch.map_err(|error| parquet_error(&file.path, error))?;
        position.next_row += batch.num_rows();
        recent.reader = Some(position);
        Ok(Chunk { file: address.file, first_row, images: batch.column(0).clone() })
    }
}

impl Chunk {
    fn holds(&self, address: Address) -> bool {
        address.file == self.file && (self.first_row..self.first_row + self.images.len()).contains(&address.row)
    }
}

/// The bytes at `at`: of a binary column, or of the field `bytes` of a struct column.
fn binary_value(images: &ArrayRef, at: usize) -> Option<&[u8]> {
    if at >= images.len() || images.is_null(at) {
        return None;
    }
    if let Some(parts) = images.as_any().downcast_ref::<StructArray>() {
        return binary_value(parts.column_by_name("bytes")?, at);
    }
    match images.data_type() {
        DataType::Binary => Some(images.as_binary_opt::<i32>()?.value(at)),
        DataType::LargeBinary => Some(images.as_binary_opt::<i64>()?.value(at)),
        DataType::BinaryView => Some(images.as_binary_view_opt()?.value(at)),
        _ => None,
    }
}
