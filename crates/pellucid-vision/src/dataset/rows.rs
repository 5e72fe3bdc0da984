//! From the rows of any table to the samples of a data set: labels, groups, splits, and which
//! files are there.

use std::collections::HashSet;
use std::path::Path;

use super::labels::{self, BadLabel, is_absent};
use super::{DatasetError, DatasetOptions, Sample, canonical_split, contained, keep_split, some_of};

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
    /// WILDS: the value of the confounder, and its name.
    pub place_value: Option<String>,
    /// WILDS: the confounder's name.
    pub place_name: Option<String>,
}

/// The columns that are understood, by what they are for.
pub(super) const FILE: &[&str] = &["file_name", "filename", "img_filename", "path", "image", "file"];
/// Label columns.
pub(super) const LABEL: &[&str] = &["label", "y", "class", "target", "labels"];
/// Class names beside a numeric label.
pub(super) const LABEL_NAME: &[&str] = &["y_name", "label_name", "class_name"];
/// Group columns.
pub(super) const GROUP: &[&str] = &["group"];
/// Split columns.
pub(super) const SPLIT: &[&str] = &["split"];

/// Samples, class names and group names of a table.
pub(super) struct Resolved {
    pub samples: Vec<Sample>,
    /// Which of the given rows each sample is.
    pub rows: Vec<usize>,
    pub classes: Vec<String>,
    pub groups: Vec<String>,
    pub warnings: Vec<String>,
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
    let names = options.class_names.clone().or(declared).or(named);
    let words: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let (found, classes) = labels::resolve(&words, names.as_deref()).map_err(bad)?;
    let (groups, group_names) = match rows.iter().any(|row| row.place_value.is_some()) {
        true => by_place(rows, &found, &classes).map_err(bad)?,
        false => {
            let cells: Vec<Option<&str>> = rows.iter().map(|row| row.group.as_deref()).collect();
            labels::resolve_groups(&cells).map_err(bad)?
        }
    };
    let mut warnings = Vec::new();
    let all: Vec<(usize, Sample)> = (0..rows.len())
        .map(|row| {
            let split = rows[row].split.as_deref().filter(|split| !is_absent(split)).map(canonical_split);
            (row, Sample { file: rows[row].file.clone(), label: found[row], group: groups[row], split })
        })
        .collect();
    let kept = keep_split(all, |(_, sample)| sample.split.as_deref(), options, table, &mut warnings)?;
    let ungrouped = kept.iter().filter(|(_, sample)| sample.group.is_none()).count();
    if ungrouped > 0 && !group_names.is_empty() {
        warnings.push(format!("{ungrouped} of {} pictures have no group", kept.len()));
    }
    let (rows, samples) = kept.into_iter().unzip();
    Ok(Resolved { samples, rows, classes, groups: group_names, warnings })
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

/// Refuses names that leave the folder, drops files that are not there and names them, and tells
/// of files listed twice.
pub(super) fn check_files(
    table: &Path,
    root: &Path,
    samples: Vec<Sample>,
    rows: (&[Row], &[usize]),
    warnings: &mut Vec<String>,
) -> Result<Vec<Sample>, DatasetError> {
    let count = samples.len();
    let (mut present, mut missing, mut twice) = (Vec::with_capacity(count), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for (mut sample, row) in samples.into_iter().zip(rows.1) {
        let path = contained(&sample.file).map_err(|reason| DatasetError::Row {
            path: table.into(),
            place: rows.0[*row].place.clone(),
            detail: format!("{reason} (found `{}`)", sample.file),
        })?;
        sample.file = path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        if !root.join(&path).exists() {
            missing.push(sample.file);
            continue;
        }
        if !seen.insert(sample.file.clone()) {
            twice.push(sample.file.clone());
        }
        present.push(sample);
    }
    if present.is_empty() {
        let example = root.join(missing.first().map_or("", String::as_str)).display().to_string();
        return Err(DatasetError::AllMissing { path: table.into(), count, example });
    }
    if !missing.is_empty() {
        warnings.push(format!("{} of {count} pictures are missing and left out: {}", missing.len(), some_of(&missing)));
    }
    if !twice.is_empty() {
        warnings.push(format!("{} pictures are listed more than once: {}", twice.len(), some_of(&twice)));
    }
    Ok(present)
}
