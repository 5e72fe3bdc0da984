//! From the rows of any table to the samples of a data set: labels, groups, splits, and which
//! files are there.

use std::collections::HashSet;
use std::path::Path;

use super::fence::{Fence, Place, leading_out};
use super::labels::{self, BadLabel, is_absent};
use super::{
    DatasetError, DatasetOptions, DatasetWarning, Sample, canonical_split, keep_split, located, over_budget, some_of,
};
use pellucid_guard::{Budget, Limit};

/// One row of a table, as it was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// "line 7" or "row 7", for errors.
    pub place: String,
    /// File name, or the name of a packed picture.
    pub file: String,
    /// Class index or class name.
    pub label: String,
    /// Class name beside an index.
    pub label_name: Option<String>,
    /// Group, where the table has that column.
    pub group: Option<String>,
    /// Split, where the table has that column.
    pub split: Option<String>,
    /// What the picture is of, where the table has that column.
    pub unit: Option<String>,
    /// WILDS: the value of the confounder, and its name.
    pub place_value: Option<String>,
    /// WILDS: the confounder's name.
    pub place_name: Option<String>,
}

/// Counts rows, and what they will have taken when they are samples, as they are read: few bytes of a file may unfold to
/// any number of them.
pub(super) struct Meter<'a> {
    table: &'a Path,
    budget: Budget,
    rows: u64,
    bytes: u64,
}

impl<'a> Meter<'a> {
    pub fn new(table: &'a Path, budget: Budget) -> Meter<'a> {
        Meter { table, budget, rows: 0, bytes: 0 }
    }

    /// Takes `row` into `rows`, if there is room for it.
    pub fn push(&mut self, rows: &mut Vec<Row>, row: Row) -> Result<(), DatasetError> {
        let options = [&row.label_name, &row.group, &row.split, &row.unit, &row.place_value, &row.place_name];
        let text = row.place.len() + row.file.len() + row.label.len();
        let text = text + options.into_iter().flatten().map(String::len).sum::<usize>();
        // The sample repeats the row's text; indices, addresses and the ends of allocations come on top.
        let bytes = size_of::<Row>() * 5 / 4 + size_of::<Sample>() + 64 + 2 * text;
        self.rows += 1;
        self.bytes += bytes as u64;
        let counted = self.budget.admit(Limit::Rows, Some(self.rows));
        let admitted = counted.and_then(|_| self.budget.admit(Limit::FileMemory, Some(self.bytes)));
        admitted.map_err(|source| over_budget(self.table, source))?;
        if rows.len() == rows.capacity() {
            // By a quarter rather than to twice the room, which would not be in the count.
            rows.reserve_exact(rows.len() / 4 + 256);
        }
        rows.push(row);
        Ok(())
    }
}

/// The group of a picture with these attributes together: what is unknown in part is unknown.
pub(super) fn together<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.map(str::trim).collect();
    if parts.iter().any(|part| is_absent(part)) { String::new() } else { parts.join(" · ") }
}

/// The columns that are understood, by what they are for.
pub(super) const FILE: &[&str] = &[
    "file_name",
    "filename",
    "img_filename",
    "path",
    "image",
    "file",
    "image_id",
    "image_path",
    "file_path",
    "img_path",
    "image_name",
];
/// Label columns.
pub(super) const LABEL: &[&str] = &["label", "y", "class", "target", "labels"];
/// Class names beside a numeric label.
pub(super) const LABEL_NAME: &[&str] = &["y_name", "label_name", "class_name"];
/// Group columns.
pub(super) const GROUP: &[&str] = &["group"];
/// Split columns.
pub(super) const SPLIT: &[&str] = &["split", "partition"];
/// Columns of what a picture is of: a patient, a video, a sprite.
pub(super) const UNIT: &[&str] = &["unit"];

/// Samples, class names and group names of a table.
pub(super) struct Resolved {
    pub samples: Vec<Sample>,
    /// Which of the given rows each sample is.
    pub rows: Vec<usize>,
    pub classes: Vec<String>,
    pub groups: Vec<String>,
    pub warnings: Vec<DatasetWarning>,
}

/// Turns `rows` into samples. `declared` are class names that the file itself gives.
pub(super) fn resolve(
    table: &Path,
    rows: &[Row],
    declared: Option<Vec<String>>,
    options: &DatasetOptions,
) -> Result<Resolved, DatasetError> {
    if rows.is_empty() {
        let detail = "the table has a header and no rows".to_string();
        return Err(DatasetError::NoPictures { path: table.into(), detail });
    }
    let bad = |bad: BadLabel| match bad.row {
        Some(row) => DatasetError::Row { path: table.into(), place: rows[row].place.clone(), detail: bad.detail },
        None => DatasetError::Labels { path: table.into(), detail: bad.detail },
    };
    let named = match names_beside_numbers(rows) {
        Ok(named) => named,
        Err(error) => return Err(bad(error)),
    };
    let own = declared.or(named);
    let words: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let mut warnings = Vec::new();
    // Numbers that the data set itself names mean those names, whatever their place among the model's.
    let renamed = match (&options.class_names, &own) {
        (Some(names), Some(own)) if words.iter().all(|w| labels::is_number(w)) => {
            labels::by_declared_name(&words, own, names, &mut warnings)
                .map_err(bad)?
                .map(|found| (found, names.clone()))
        }
        _ => None,
    };
    let names = options.class_names.clone().or(own);
    let (found, classes) = match renamed {
        Some(renamed) => renamed,
        None => labels::resolve(&words, names.as_deref()).map_err(bad)?,
    };
    if labels::are_signs(&words) {
        warnings.push(DatasetWarning::Signs);
    }
    let (groups, group_names) = match rows.iter().any(|row| row.place_value.is_some()) {
        true => by_place(rows, &found, &classes).map_err(bad)?,
        false => {
            let cells: Vec<Option<&str>> = rows.iter().map(|row| row.group.as_deref()).collect();
            let (groups, names) = labels::resolve_groups(&cells).map_err(bad)?;
            crossed(groups, names, &found, &classes, options, &mut warnings)
        }
    };
    let all: Vec<(usize, Sample)> = (0..rows.len())
        .map(|row| {
            let split = rows[row].split.as_deref().filter(|split| !is_absent(split)).map(canonical_split);
            let unit = rows[row].unit.as_deref().map(str::trim).filter(|unit| !is_absent(unit)).map(str::to_owned);
            let (file, label, group) = (rows[row].file.clone(), found[row], groups[row]);
            (row, Sample { file, label, group, split, unit })
        })
        .collect();
    let kept = keep_split(all, |(_, sample)| sample.split.as_deref(), options, table, &mut warnings)?;
    let ungrouped = kept.iter().filter(|(_, sample)| sample.group.is_none()).count();
    if ungrouped > 0 && !group_names.is_empty() {
        warnings.push(DatasetWarning::NoGroup { count: ungrouped, all: kept.len() });
    }
    let (rows, samples) = kept.into_iter().unzip();
    Ok(Resolved { samples, rows, classes, groups: group_names, warnings })
}

/// Groups divided by class, where that is asked for; where groups span classes, what was done is said.
fn crossed(
    groups: Vec<Option<usize>>,
    names: Vec<String>,
    labels: &[usize],
    classes: &[String],
    options: &DatasetOptions,
    warnings: &mut Vec<DatasetWarning>,
) -> (Vec<Option<usize>>, Vec<String>) {
    let mut first: Vec<Option<usize>> = vec![None; names.len()];
    let mut spans = vec![false; names.len()];
    for (group, label) in groups.iter().zip(labels) {
        let Some(group) = *group else { continue };
        spans[group] |= first[group].is_some_and(|other| other != *label);
        first[group] = first[group].or(Some(*label));
    }
    let count = spans.iter().filter(|spans| **spans).count();
    // Columns that are named for it are attributes.
    let is_crossed = options.reading.crossed.unwrap_or(!options.reading.group_columns.is_empty());
    if count > 0 && (options.reading.crossed.is_none() || is_crossed) {
        warnings.push(DatasetWarning::GroupsSpanClasses { count, all: names.len(), crossed: is_crossed });
    }
    if !is_crossed || count == 0 {
        return (groups, names);
    }
    let all = names.len();
    let divided = groups.iter().zip(labels).map(|(group, label)| group.map(|group| label * all + group)).collect();
    let both = classes.iter().flat_map(|class| names.iter().map(move |name| format!("{class} · {name}")));
    (divided, both.collect())
}

/// Class names from a name column beside numeric labels, complete from 0, each number with one name.
fn names_beside_numbers(rows: &[Row]) -> Result<Option<Vec<String>>, BadLabel> {
    let mut names: Vec<Option<&str>> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let (Some(name), Ok(index)) = (row.label_name.as_deref(), row.label.trim().parse::<usize>()) else { continue };
        if is_absent(name) || index > 1_000_000 {
            continue;
        }
        if names.len() <= index {
            names.resize(index + 1, None);
        }
        match names[index] {
            Some(known) if known != name.trim() => {
                let detail = format!("class {index} is called `{}` here and `{known}` above", name.trim());
                return Err(BadLabel { row: Some(at), detail });
            }
            _ => names[index] = Some(name.trim()),
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let filled = names.into_iter().enumerate().map(|(index, name)| name.map_or(format!("class {index}"), String::from));
    Ok(Some(filled.collect()))
}

/// WILDS: group = label × places + place, named "class · place".
fn by_place(rows: &[Row], found: &[usize], classes: &[String]) -> Result<(Vec<Option<usize>>, Vec<String>), BadLabel> {
    let cells: Vec<Option<&str>> = rows.iter().map(|row| row.place_value.as_deref()).collect();
    let (places, mut place_names) = labels::resolve_groups(&cells)?;
    for name in &mut place_names {
        *name = name.replace("group ", "place ");
    }
    for (row, place) in rows.iter().zip(&places) {
        if let (Some(place), Some(name)) = (place, row.place_name.as_deref().filter(|name| !is_absent(name))) {
            place_names[*place] = name.trim().to_string();
        }
    }
    let count = place_names.len();
    let groups = found.iter().zip(&places).map(|(label, place)| place.map(|place| label * count + place)).collect();
    let names = classes.iter().flat_map(|class| place_names.iter().map(move |place| format!("{class} · {place}")));
    Ok((groups, names.collect()))
}

/// Whether a file name is an address (`https://…`, `s3://…`): a scheme and `://`.
fn is_address(name: &str) -> bool {
    let Some((scheme, _)) = name.trim_start().split_once("://") else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Refuses names that leave the folder, drops files that are not there and names them, and tells
/// of files listed twice.
pub(super) fn check_files(
    table: &Path,
    root: &Path,
    samples: Vec<Sample>,
    rows: (&[Row], &[usize]),
    warnings: &mut Vec<DatasetWarning>,
) -> Result<Vec<Sample>, DatasetError> {
    let count = samples.len();
    let mut fence = Fence::around(root).map_err(|source| DatasetError::Io { path: root.into(), source })?;
    let (mut present, mut missing, mut twice) = (Vec::with_capacity(count), Vec::new(), Vec::new());
    let mut addresses: Vec<String> = Vec::new();
    let mut outside = Vec::new();
    let mut seen = HashSet::new();
    for (mut sample, row) in samples.into_iter().zip(rows.1) {
        if is_address(&sample.file) {
            addresses.push(sample.file);
            continue;
        }
        let path = located(root, &sample.file).map_err(|reason| DatasetError::Row {
            path: table.into(),
            place: rows.0[*row].place.clone(),
            detail: format!("{reason} (found `{}`)", sample.file),
        })?;
        sample.file = path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        match fence.place(&root.join(&path)) {
            Place::Missing => {
                missing.push(sample.file);
                continue;
            }
            Place::Outside => {
                outside.push(sample.file);
                continue;
            }
            // That a folder or a pipe is no picture is said when it is read.
            Place::File | Place::Folder | Place::Special => {}
        }
        if !seen.insert(sample.file.clone()) {
            twice.push(sample.file.clone());
        }
        present.push(sample);
    }
    if let (true, Some(example)) = (present.is_empty() && missing.is_empty(), addresses.first()) {
        return Err(DatasetError::OnlyAddresses { path: table.into(), count, example: example.clone() });
    }
    if !addresses.is_empty() {
        let (names, left_out) = (some_of(&addresses), addresses.len());
        warnings.push(DatasetWarning::Addresses { count: left_out, all: count, names });
    }
    let outside = leading_out(&mut outside);
    if let (true, Some(detail)) = (present.is_empty(), &outside) {
        return Err(DatasetError::NoPictures { path: table.into(), detail: detail.to_string() });
    }
    warnings.extend(outside);
    if present.is_empty() {
        let example = root.join(missing.first().map_or("", String::as_str)).display().to_string();
        return Err(DatasetError::AllMissing { path: table.into(), count, example });
    }
    if !missing.is_empty() {
        warnings.push(DatasetWarning::Missing { count: missing.len(), all: count, names: some_of(&missing) });
    }
    if !twice.is_empty() {
        warnings.push(DatasetWarning::Twice { count: twice.len(), names: some_of(&twice) });
    }
    Ok(present)
}
