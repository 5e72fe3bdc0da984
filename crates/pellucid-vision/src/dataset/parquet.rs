//! Parquet files with the pictures inside, as Hugging Face data sets are kept: a column of bytes,
//! or of a struct with `bytes` and `path`, beside a label column.

mod bounds;

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

use self::bounds::{Pages, Refused};
use super::fence::{Fence, Place};
use super::rows::{self, GROUP, LABEL, LABEL_NAME, Meter, Row, SPLIT, UNIT};
use super::{Dataset, DatasetError, DatasetOptions, Format, Origin, Reading, canonical_split, over_budget, some_of};
use crate::picture::PictureError;
use pellucid_guard::{Budget, Limit, Setting, parse};

/// Rows decoded at a time: few, since each holds a whole picture. Fewer where pages are large.
const CHUNK_ROWS: usize = 16;
/// Rows of labels decoded at a time, at most.
const LABEL_ROWS: usize = 8192;
/// Decoded chunks kept, so that nearly sequential readers do not decode twice.
const CHUNKS_KEPT: usize = 2;

/// The Parquet files in `folder`, sorted; none where the folder is not there.
pub(super) fn files_in(folder: &Path, fence: &mut Fence) -> Result<Vec<PathBuf>, DatasetError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let io = |source| DatasetError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
            && fence.place(&path) == Place::File
        {
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
    /// The leaf with the pictures' bytes.
    image: usize,
    /// Rows of pictures decoded at a time.
    chunk_rows: usize,
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
    let table = match files {
        [only] => only.as_path(),
        _ => root,
    };
    let mut meter = Meter::new(table, options.budget);
    for (index, path) in files.iter().enumerate() {
        let file = PackedFile::open(path, &options.budget)?;
        let found = file.rows(options, &mut meter)?;
        addresses.extend((0..found.len()).map(|row| Address { file: index, row }));
        rows.extend(found);
        declared = declared.or_else(|| class_names(file.metadata.schema(), &file.label_column(&options.reading)));
        packed.push(file);
    }
    let resolved = rows::resolve(table, &rows, declared, options)?;
    let addresses = resolved.rows.iter().map(|row| addresses[*row]).collect();
    Ok(Dataset {
        root: root.into(),
        format: Format::Parquet,
        samples: resolved.samples,
        classes: resolved.classes,
        groups: resolved.groups,
        warnings: resolved.warnings,
        other_order: None,
        origin: Origin::Packed(PackedPictures { files: packed, addresses, recent: Mutex::default() }),
    })
}

/// Runs the Parquet library; a panic inside it, which a hostile file may cause, is an error.
fn guarded<T, E: ToString>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, DatasetError> {
    let read = parse("Parquet", read).map_err(|panicked| parquet_error(path, panicked))?;
    read.map_err(|error| parquet_error(path, error))
}

fn parquet_error(path: &Path, detail: impl ToString) -> DatasetError {
    DatasetError::Parquet { path: path.into(), detail: detail.to_string() }
}

fn refused(path: &Path, refused: Refused) -> DatasetError {
    match refused {
        Refused::Damaged(detail) => parquet_error(path, detail),
        Refused::OverBudget(source) => over_budget(path, source),
    }
}

/// Where the columns stand in a batch: label, its name, split and unit; and what makes groups.
struct Cells {
    columns: [Option<usize>; 4],
    groups: Vec<usize>,
}

impl PackedFile {
    fn open(path: &Path, budget: &Budget) -> Result<PackedFile, DatasetError> {
        let io = |source| DatasetError::Io { path: path.into(), source };
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("it is not a regular file")));
        }
        let mut file = File::open(path).map_err(io)?;
        bounds::check_footer(&mut file, budget).map_err(|r| refused(path, r))?;
        let metadata = guarded(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))?;
        let image = image_leaf(path, &metadata)?;
        let (mut group_starts, mut end) = (vec![0], 0u64);
        for group in metadata.metadata().row_groups() {
            let rows = u64::try_from(group.num_rows()).map_err(|_| parquet_error(path, "a negative row count"))?;
            let sum = end.checked_add(rows);
            end = budget.admit(Limit::Rows, sum).map_err(|source| over_budget(path, source))?;
            group_starts.push(end as usize);
        }
        let mut opened = PackedFile { path: path.into(), metadata, image, chunk_rows: 1, group_starts };
        let pages = opened.pages(&mut file, &[image])?;
        opened.chunk_rows = pages.rows(budget, CHUNK_ROWS).map_err(|source| over_budget(path, source))?;
        Ok(opened)
    }

    /// What the pages of the columns `leaves` unfold to, at most.
    fn pages(&self, file: &mut File, leaves: &[usize]) -> Result<Pages, DatasetError> {
        let mut largest = Pages::default();
        for group in self.metadata.metadata().row_groups() {
            for leaf in leaves {
                let missing = || parquet_error(&self.path, "a row group lacks a column");
                let column = group.columns().get(*leaf).ok_or_else(missing)?;
                let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
                let found = bounds::pages(file, start, column.compressed_size());
                largest = largest.max(found.map_err(|r| refused(&self.path, r))?);
            }
        }
        Ok(largest)
    }

    fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    fn column(&self, names: &[&str]) -> Option<usize> {
        let fields = self.schema().fields();
        names.iter().find_map(|name| fields.iter().position(|field| field.name() == name))
    }

    fn label_column(&self, reading: &Reading) -> String {
        self.named(&reading.label_column, LABEL)
            .map_or(String::new(), |column| self.schema().field(column).name().clone())
    }

    /// The column that the user names, or one of the usual names.
    fn named(&self, column: &Option<String>, usual: &[&str]) -> Option<usize> {
        match column {
            Some(name) => self.column(&[name.as_str()]),
            None => self.column(usual),
        }
    }

    /// The columns there are, for a message.
    fn listed(&self) -> String {
        some_of(&self.schema().fields().iter().map(|field| field.name()).collect::<Vec<_>>())
    }

    /// The columns that make groups.
    fn group_columns(&self, reading: &Reading) -> Result<Vec<usize>, DatasetError> {
        let place = |name: &String| {
            self.column(&[name.as_str()]).ok_or_else(|| DatasetError::NoSuchColumn {
                path: self.path.clone(),
                setting: Setting::GroupColumns,
                name: name.clone(),
                found: self.listed(),
            })
        };
        match reading.group_columns.as_slice() {
            [] => Ok(self.column(GROUP).into_iter().collect()),
            names => names.iter().map(place).collect(),
        }
    }

    /// Reads everything but the pictures.
    fn rows(&self, options: &DatasetOptions, meter: &mut Meter<'_>) -> Result<Vec<Row>, DatasetError> {
        let (budget, reading) = (&options.budget, &options.reading);
        let fields = self.schema().fields();
        let label = self.named(&reading.label_column, LABEL).ok_or_else(|| DatasetError::MissingColumn {
            path: self.path.clone(),
            wanted: "label",
            found: self.listed(),
            expected: format!("{}, or say which it is with {:#}", LABEL.join(", "), Setting::LabelColumn),
        })?;
        let groups = self.group_columns(reading)?;
        let columns = [Some(label), self.column(LABEL_NAME), self.column(SPLIT), self.column(UNIT)];
        let mut wanted: Vec<usize> = columns.iter().flatten().chain(&groups).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        for column in &wanted {
            // Before any of it is decoded: a list in one row may be of any length.
            if !is_scalar(fields[*column].data_type()) {
                return Err(self.not_scalar("row 0".to_string(), &fields[*column]));
            }
        }
        let schema = self.metadata.parquet_schema();
        let leaves: Vec<usize> =
            (0..schema.num_columns()).filter(|leaf| wanted.contains(&schema.get_column_root_idx(*leaf))).collect();
        let io = |source| DatasetError::Io { path: self.path.clone(), source };
        let pages = self.pages(&mut File::open(&self.path).map_err(io)?, &leaves)?;
        let at_a_time = pages.rows(budget, LABEL_ROWS).map_err(|source| over_budget(&self.path, source))?;
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let split = split_of_name(&file);
        let read = |at: usize| wanted.iter().position(|w| *w == at);
        let cells = Cells {
            columns: columns.map(|at| at.and_then(read)),
            groups: groups.into_iter().filter_map(read).collect(),
        };
        let mut rows = Vec::new();
        let mut reader = self.reader(&leaves, None, at_a_time)?;
        while let Some(batch) = guarded(&self.path, || reader.next().transpose())? {
            for at in 0..batch.num_rows() {
                let place = format!("row {}", rows.len());
                let name = format!("{file}#{}", rows.len());
                let row = self.row(&batch, at, &cells, place, name, &split)?;
                meter.push(&mut rows, row)?;
            }
        }
        Ok(rows)
    }

    fn not_scalar(&self, place: String, field: &Field) -> DatasetError {
        let (name, kind) = (field.name(), field.data_type());
        let detail = format!("column `{name}` is of type {kind}, expected numbers or text");
        DatasetError::Row { path: self.path.clone(), place, detail }
    }

    fn row(
        &self,
        batch: &RecordBatch,
        at: usize,
        cells: &Cells,
        place: String,
        file: String,
        split: &Option<String>,
    ) -> Result<Row, DatasetError> {
        let cell = |column: Option<usize>| match column {
            None => Ok(None),
            Some(column) => {
                let text = cell_text(batch.column(column), at).map(Some);
                text.ok_or_else(|| self.not_scalar(place.clone(), batch.schema().field(column)))
            }
        };
        let [label, label_name, own_split, unit] = cells.columns;
        let groups: Vec<Option<String>> = cells.groups.iter().map(|at| cell(Some(*at))).collect::<Result<_, _>>()?;
        let group = match groups.as_slice() {
            [] => None,
            [only] => only.clone(),
            several => Some(rows::together(several.iter().map(|part| part.as_deref().unwrap_or_default()))),
        };
        Ok(Row {
            label: cell(label)?.unwrap_or_default(),
            label_name: cell(label_name)?,
            group,
            split: cell(own_split)?.or_else(|| split.clone()),
            unit: cell(unit)?,
            file,
            place,
            ..Row::default()
        })
    }

    /// A reader of the columns `leaves`: of all rows, or of a row group from an offset.
    fn reader(
        &self,
        leaves: &[usize],
        from: Option<(usize, usize)>,
        rows: usize,
    ) -> Result<ParquetRecordBatchReader, DatasetError> {
        let file = File::open(&self.path).map_err(|source| DatasetError::Io { path: self.path.clone(), source })?;
        guarded(&self.path, || {
            let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves.iter().copied());
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(mask)
                .with_batch_size(rows);
            if let Some((group, offset)) = from {
                builder = builder.with_row_groups(vec![group]).with_offset(offset);
            }
            builder.build()
        })
    }
}

/// Whether [`cell_text`] gives the text of a column's cells.
fn is_scalar(kind: &DataType) -> bool {
    use DataType::{Boolean, Dictionary, Float32, Float64, Int8, Int16, Int32, Int64};
    use DataType::{LargeUtf8, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View};
    match kind {
        Dictionary(_, values) => is_scalar(values),
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 => true,
        Utf8 | LargeUtf8 | Utf8View => true,
        _ => false,
    }
}

/// The text of one cell: numbers as written, nothing for null; `None` for other types.
fn cell_text(column: &dyn Array, at: usize) -> Option<String> {
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
            let key: usize = cell_text(dictionary.keys(), at)?.parse().ok()?;
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

/// The leaf that holds the bytes of pictures: the first column of bytes, or the field `bytes` of the first struct with one.
fn image_leaf(path: &Path, metadata: &ArrowReaderMetadata) -> Result<usize, DatasetError> {
    let (fields, schema) = (metadata.schema().fields(), metadata.parquet_schema());
    let part = |field: &Field| match field.data_type() {
        DataType::Struct(inner) => {
            inner.iter().any(|part| part.name() == "bytes" && is_binary(part.data_type())).then_some(2)
        }
        kind => is_binary(kind).then_some(1),
    };
    let column = fields.iter().enumerate().find_map(|(column, field)| Some((column, part(field)?)));
    let leaf = column.and_then(|(column, parts)| {
        let is_it = |leaf: &usize| {
            let names = schema.column(*leaf).path().parts().to_vec();
            let named = parts == 1 || names.last().is_some_and(|name| name == "bytes");
            schema.get_column_root_idx(*leaf) == column && names.len() == parts && named
        };
        (0..schema.num_columns()).find(is_it)
    });
    leaf.ok_or_else(|| {
        let columns: Vec<String> = fields.iter().map(|f| format!("{} ({})", f.name(), f.data_type())).collect();
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
    /// What `of` makes of the encoded picture of sample `index`, where it lies: a value may be large, and a copy of it costs more
    /// than its hash. Others wait meanwhile. `name` is used in errors.
    pub(super) fn with_bytes<T>(
        &self,
        index: usize,
        name: &str,
        budget: &Budget,
        of: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, DatasetError> {
        let address = self.addresses[index];
        let path = &self.files[address.file].path;
        // After a panic elsewhere the cache is still a cache: at worst it is emptied.
        let mut recent = self.recent.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            *inner = Recent::default();
            inner
        });
        // Where values are large, the chunk before goes first.
        let keep = if self.files[address.file].chunk_rows == CHUNK_ROWS { CHUNKS_KEPT } else { 1 };
        let kept = recent.chunks.iter().position(|chunk| chunk.holds(address));
        let at = match kept {
            Some(at) => at,
            None => {
                recent.chunks.truncate(keep - 1);
                let chunk = self.decode(&mut recent, address)?;
                recent.chunks.push_front(chunk);
                0
            }
        };
        let chunk = &recent.chunks[at];
        let value = parse("Parquet", || binary_value(&chunk.images, address.row - chunk.first_row));
        let bytes = value
            .map_err(|panicked| parquet_error(path, panicked))?
            .ok_or_else(|| parquet_error(path, format!("{name} has no picture bytes")))?;
        if bytes.len() as u64 > budget.picture_bytes {
            let (found, limit) = (bytes.len() as u64, budget.picture_bytes);
            return Err(PictureError::TooManyBytes { name: name.to_string(), found, limit }.into());
        }
        Ok(of(bytes))
    }

    /// Decodes the chunk with `address`, going on from where the reader stands if it can.
    fn decode(&self, recent: &mut Recent, address: Address) -> Result<Chunk, DatasetError> {
        let file = &self.files[address.file];
        let group = file.group_starts.partition_point(|start| *start <= address.row) - 1;
        let start = file.group_starts[group];
        let first_row = start + (address.row - start) / file.chunk_rows * file.chunk_rows;
        let stands = |position: &Position| position.file == address.file && position.next_row == first_row;
        let mut position = match recent.reader.take().filter(stands) {
            Some(position) if first_row < position.end_row => position,
            _ => Position {
                file: address.file,
                next_row: first_row,
                end_row: file.group_starts[group + 1],
                reader: file.reader(&[file.image], Some((group, first_row - start)), file.chunk_rows)?,
            },
        };
        let batch = guarded(&file.path, || position.reader.next().transpose())?
            .ok_or_else(|| parquet_error(&file.path, "it has fewer rows than it says"))?;
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
