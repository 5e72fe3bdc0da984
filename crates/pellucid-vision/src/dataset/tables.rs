//! CSV (also WILDS') and JSON-lines tables of pictures that lie beside them.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::rows::{self, FILE, GROUP, LABEL, LABEL_NAME, Meter, Row, SPLIT, UNIT};
use super::{Dataset, DatasetError, DatasetOptions, Format, Origin, Reading};
use pellucid_guard::Setting;

/// Bytes of the longest row: what describes one picture.
const LONGEST_ROW: u64 = 1 << 20;

/// Opens the table; see [`Dataset::open`].
pub(super) fn open(table: &Path, format: Format, options: &DatasetOptions) -> Result<Dataset, DatasetError> {
    let io = |source| DatasetError::Io { path: table.into(), source };
    let found = std::fs::metadata(table).map_err(io)?;
    if !found.is_file() {
        return Err(io(std::io::Error::other("it is not a regular file")));
    }
    let mut file = BufReader::with_capacity(1 << 16, File::open(table).map_err(io)?);
    if file.fill_buf().map_err(io)?.starts_with(b"\xef\xbb\xbf") {
        file.consume(3);
    }
    let meter = Meter::new(table, options.budget);
    let (rows, format) = match format {
        Format::JsonLines => (json_rows(table, file, &options.reading, meter)?, Format::JsonLines),
        asked => csv_rows(table, file, asked == Format::Wilds, options, meter)?,
    };
    let beside = || table.parent().unwrap_or(Path::new("")).to_path_buf();
    let root = options.reading.root.clone().unwrap_or_else(beside);
    let resolved = rows::resolve(table, &rows, None, options)?;
    let mut warnings = resolved.warnings;
    let samples = rows::check_files(table, &root, resolved.samples, (&rows, &resolved.rows), &mut warnings)?;
    let (classes, groups) = (resolved.classes, resolved.groups);
    Ok(Dataset { root, format, samples, classes, groups, warnings, other_order: None, origin: Origin::Files })
}

/// Where in a record each value is.
struct Columns {
    file: usize,
    label: Label,
    label_name: Option<usize>,
    groups: Vec<usize>,
    split: Option<usize>,
    unit: Option<usize>,
    place: Option<usize>,
    place_name: Option<usize>,
    wilds: bool,
    /// Whether splits are 0, 1 and 2.
    numbers_splits: bool,
}

/// Where a record's label is.
enum Label {
    /// In one column.
    Column(usize),
    /// A column a class, 1 in that of the picture's.
    OneHot(Vec<(usize, String)>),
}

/// A column's name without case and what stands between words.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl Columns {
    fn of(table: &Path, header: &[String], wilds: bool, options: &DatasetOptions) -> Result<Columns, DatasetError> {
        let place = |names: &[&str]| {
            let exact = names.iter().find_map(|name| header.iter().position(|h| h == name));
            exact.or_else(|| names.iter().find_map(|name| header.iter().position(|h| plain(h) == plain(name))))
        };
        let missing = |names: &[&str], wanted: &'static str, setting: Setting| DatasetError::MissingColumn {
            path: table.into(),
            wanted,
            found: super::some_of(header),
            expected: format!("{}, or say which it is with {setting:#}", names.join(", ")),
        };
        let needed = |names: &[&str], wanted, setting| place(names).ok_or_else(|| missing(names, wanted, setting));
        let named = |name: &str, setting: Setting| {
            let found = header.iter().position(|h| h == name).or_else(|| place(&[name]));
            found.ok_or_else(|| DatasetError::NoSuchColumn {
                path: table.into(),
                setting,
                name: name.to_owned(),
                found: super::some_of(header),
            })
        };
        let reading = &options.reading;
        let wilds = wilds || (place(&["img_filename"]).is_some() && place(&["y"]).is_some());
        let file = match (&reading.file_column, wilds) {
            (Some(name), _) => named(name, Setting::FileColumn)?,
            (None, true) => needed(&["img_filename"], "file name", Setting::FileColumn)?,
            (None, false) => needed(FILE, "file name", Setting::FileColumn)?,
        };
        let (label_name, split, unit) = (place(LABEL_NAME), place(SPLIT), place(UNIT));
        let groups = match reading.group_columns.as_slice() {
            [] => place(GROUP).into_iter().collect(),
            names => names.iter().map(|name| named(name, Setting::GroupColumns)).collect::<Result<Vec<_>, _>>()?,
        };
        let label = match (&reading.label_column, wilds) {
            (Some(name), _) => Label::Column(named(name, Setting::LabelColumn)?),
            (None, true) => Label::Column(needed(&["y"], "label", Setting::LabelColumn)?),
            (None, false) => match place(LABEL) {
                Some(column) => Label::Column(column),
                None => {
                    let taken = [Some(file), label_name, split, unit];
                    let free = |at: &usize| !taken.contains(&Some(*at)) && !groups.contains(at);
                    let is_class = |at: &usize| {
                        let called =
                            |name: &String| super::labels::loosely(name) == super::labels::loosely(&header[*at]);
                        options.class_names.as_ref().is_none_or(|names| names.iter().any(called))
                    };
                    let classes: Vec<(usize, String)> =
                        (0..header.len()).filter(free).filter(is_class).map(|at| (at, header[at].clone())).collect();
                    if classes.len() < 2 {
                        return Err(missing(LABEL, "label", Setting::LabelColumn));
                    }
                    Label::OneHot(classes)
                }
            },
        };
        Ok(Columns {
            file,
            label,
            label_name,
            groups,
            split,
            unit,
            place: place(&["place"]).filter(|_| wilds),
            place_name: place(&["place_name"]).filter(|_| wilds),
            wilds,
            numbers_splits: wilds || split.is_some_and(|at| plain(&header[at]) == "partition"),
        })
    }

    fn row(&self, line: u64, cells: &csv::StringRecord) -> Result<Row, String> {
        let cell = |at: Option<usize>| at.and_then(|at| cells.get(at)).map(String::from);
        let split = cell(self.split).map(|split| if self.numbers_splits { wilds_split(&split) } else { split });
        let label = match &self.label {
            Label::Column(at) => cells.get(*at).unwrap_or_default().to_string(),
            Label::OneHot(classes) => one_hot(classes, cells)?,
        };
        let group = match self.groups.as_slice() {
            [] => None,
            [only] => cell(Some(*only)),
            several => Some(rows::together(several.iter().map(|at| cells.get(*at).unwrap_or_default()))),
        };
        Ok(Row {
            place: format!("line {line}"),
            file: cells.get(self.file).unwrap_or_default().to_string(),
            label,
            label_name: cell(self.label_name),
            group,
            split,
            unit: cell(self.unit),
            place_value: cell(self.place),
            place_name: cell(self.place_name),
        })
    }
}

/// The class whose column holds 1.
fn one_hot(classes: &[(usize, String)], cells: &csv::StringRecord) -> Result<String, String> {
    let value = |at: usize| cells.get(at).and_then(|cell| cell.trim().parse::<f64>().ok());
    let chosen: Vec<&String> = classes.iter().filter(|(at, _)| value(*at) == Some(1.0)).map(|(_, name)| name).collect();
    let others = classes.iter().all(|(at, _)| matches!(value(*at), Some(v) if v == 0.0 || v == 1.0));
    match chosen.as_slice() {
        [only] if others => Ok((*only).clone()),
        _ => {
            let names: Vec<&String> = classes.iter().map(|(_, name)| name).collect();
            Err(format!(
                "the table has no label column, so its class is looked for among {}: expected 1 in one of them and 0 in the others; \
                 say which column holds labels with {:#}",
                super::some_of(&names),
                Setting::LabelColumn
            ))
        }
    }
}

/// WILDS numbers its splits.
fn wilds_split(split: &str) -> String {
    match split.trim() {
        "0" | "0.0" => "train".to_string(),
        "1" | "1.0" => "val".to_string(),
        "2" | "2.0" => "test".to_string(),
        other => other.to_string(),
    }
}

/// Reads on until a row has taken [`LONGEST_ROW`] bytes; who takes the rows sets `left` back.
struct RowByRow<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for RowByRow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.get() == 0 {
            return Err(std::io::Error::other(TOO_LONG));
        }
        let read = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

const TOO_LONG: &str =
    "the row has more than 1 MiB, probably a quote that is never closed; expected a file name and a label";

/// The rows of a CSV table and whether it is WILDS' or a general one.
fn csv_rows(
    table: &Path,
    mut file: impl BufRead,
    wilds: bool,
    options: &DatasetOptions,
    mut meter: Meter<'_>,
) -> Result<(Vec<Row>, Format), DatasetError> {
    let head = file.fill_buf().map_err(|source| DatasetError::Io { path: table.into(), source })?;
    let delimiter = delimiter(head);
    let left = Rc::new(Cell::new(LONGEST_ROW));
    let bounded = RowByRow { inner: file, left: left.clone() };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bounded);
    let bad = |error: csv::Error, line: u64| {
        let line = error.position().map_or(line, csv::Position::line);
        DatasetError::Row { path: table.into(), place: format!("line {line}"), detail: csv_words(&error) }
    };
    let header: Vec<String> =
        reader.headers().map_err(|error| bad(error, 1))?.iter().map(|name| name.trim().to_string()).collect();
    let columns = Columns::of(table, &header, wilds, options)?;
    let (mut rows, mut record, mut line) = (Vec::new(), csv::StringRecord::new(), 2);
    loop {
        left.set(LONGEST_ROW);
        if !reader.read_record(&mut record).map_err(|error| bad(error, line))? {
            break;
        }
        line = record.position().map_or(0, csv::Position::line);
        let unclear = |detail| DatasetError::Row { path: table.into(), place: format!("line {line}"), detail };
        let row = columns.row(line, &record).map_err(unclear)?;
        meter.push(&mut rows, row)?;
        line += 1;
    }
    Ok((rows, if columns.wilds { Format::Wilds } else { Format::Csv }))
}

fn csv_words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, the header has {expected_len}; a name that holds a comma needs quotes")
        }
        csv::ErrorKind::Utf8 { .. } => "the text is not UTF-8; save the table as UTF-8".to_string(),
        _ => error.to_string(),
    }
}

/// Comma, unless the header line only has tabs or semicolons.
fn delimiter(bytes: &[u8]) -> u8 {
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if header.contains(&b',') {
        return b',';
    }
    [b'\t', b';'].into_iter().find(|candidate| header.contains(candidate)).unwrap_or(b',')
}

/// The rows of a JSON-lines table.
fn json_rows(
    table: &Path,
    mut file: impl BufRead,
    reading: &Reading,
    mut meter: Meter<'_>,
) -> Result<Vec<Row>, DatasetError> {
    let (mut rows, mut line) = (Vec::new(), Vec::new());
    for number in 1.. {
        line.clear();
        let read = (&mut file).take(LONGEST_ROW).read_until(b'\n', &mut line);
        if read.map_err(|source| DatasetError::Io { path: table.into(), source })? == 0 {
            break;
        }
        let place = format!("line {number}");
        let bad = |detail: String| DatasetError::Row { path: table.into(), place: place.clone(), detail };
        if line.len() as u64 == LONGEST_ROW {
            return Err(bad(TOO_LONG.to_string()));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_slice(&line).map_err(|error| bad(format!("not valid JSON: {error}")))?;
        let Value::Object(object) = value else { return Err(bad("expected an object {...}".to_string())) };
        let row = json_row(table, place.clone(), &object, reading)?;
        meter.push(&mut rows, row)?;
    }
    Ok(rows)
}

fn json_row(table: &Path, place: String, object: &Map<String, Value>, reading: &Reading) -> Result<Row, DatasetError> {
    let bad = |detail: String| DatasetError::Row { path: table.into(), place: place.clone(), detail };
    let cell = |names: &[&str]| -> Result<Option<String>, DatasetError> {
        let Some((name, value)) = names.iter().find_map(|name| Some((name, object.get(*name)?))) else {
            return Ok(None);
        };
        match value {
            Value::Null => Ok(Some(String::new())),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Bool(truth) => Ok(Some(u8::from(*truth).to_string())),
            _ => Err(bad(format!("`{name}` is a list or an object, expected a string or a number"))),
        }
    };
    let needed = |names: &[&str], wanted: &'static str| {
        cell(names)?.ok_or_else(|| {
            let keys: Vec<&String> = object.keys().collect();
            let found = super::some_of(&keys);
            bad(format!("no {wanted}; found {found}; name it {}", names.join(", ")))
        })
    };
    let named = |column: &Option<String>, usual: &[&str], wanted| match column {
        Some(name) => needed(&[name.as_str()], wanted),
        None => needed(usual, wanted),
    };
    let group = match reading.group_columns.as_slice() {
        [] => cell(GROUP)?,
        columns => {
            let parts: Vec<String> =
                columns.iter().map(|name| needed(&[name.as_str()], "group")).collect::<Result<_, _>>()?;
            Some(rows::together(parts.iter().map(String::as_str)))
        }
    };
    Ok(Row {
        file: named(&reading.file_column, FILE, "file name")?,
        label: named(&reading.label_column, LABEL, "label")?,
        label_name: cell(LABEL_NAME)?,
        group,
        split: cell(SPLIT)?,
        unit: cell(UNIT)?,
        place_value: None,
        place_name: None,
        place,
    })
}
