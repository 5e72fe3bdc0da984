//! From the words or numbers of a label column to indices and names.

use super::DatasetWarning;
use std::collections::{BTreeSet, HashMap};

/// The most classes or groups that numbers may claim; a larger index is a mistake in the table.
const MOST_CLASSES: usize = 1_000_000;

/// A label that makes no sense: at which row, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLabel {
    /// Position among the labels given, where one label is to blame.
    pub row: Option<usize>,
    /// What is wrong and what to do.
    pub detail: String,
}

impl BadLabel {
    fn at(row: usize, detail: String) -> BadLabel {
        BadLabel { row: Some(row), detail }
    }
}

/// Indices of `labels` and the names of all classes.
///
/// Words are looked up in `names` where given, else sorted; numbers are indices, unless `names`
/// holds every one of them as a word.
pub(super) fn resolve(labels: &[&str], names: Option<&[String]>) -> Result<(Vec<usize>, Vec<String>), BadLabel> {
    for (row, label) in labels.iter().enumerate() {
        if is_absent(label) {
            let found = if label.trim().is_empty() { "empty".to_string() } else { format!("`{}`", label.trim()) };
            return Err(BadLabel::at(row, format!("the label is {found}; give a class index or a class name")));
        }
    }
    match names {
        Some(names) => with_names(labels, names),
        None if labels.iter().all(|label| number(label).is_some()) => {
            let indices = indices(labels, None)?;
            let count = indices.iter().max().map_or(0, |most| most + 1);
            Ok((indices, (0..count).map(|index| format!("class {index}")).collect()))
        }
        None => Ok(sorted(labels)),
    }
}

/// Whether a cell holds nothing: empty, or the word that pandas writes for it.
pub(super) fn is_absent(cell: &str) -> bool {
    let cell = cell.trim();
    cell.is_empty() || cell.eq_ignore_ascii_case("nan")
}

fn with_names(labels: &[&str], names: &[String]) -> Result<(Vec<usize>, Vec<String>), BadLabel> {
    let exact: HashMap<&str, usize> = names.iter().enumerate().rev().map(|(i, name)| (name.as_str(), i)).collect();
    if let Some(found) = labels.iter().map(|label| exact.get(label.trim()).copied()).collect::<Option<Vec<_>>>() {
        return Ok((found, names.to_vec()));
    }
    if labels.iter().all(|label| number(label).is_some()) {
        return Ok((indices(labels, Some(names.len()))?, names.to_vec()));
    }
    let loose: HashMap<String, usize> = names.iter().enumerate().rev().map(|(i, name)| (loosely(name), i)).collect();
    let lookup = |(row, label): (usize, &&str)| {
        let found = exact.get(label.trim()).or_else(|| loose.get(&loosely(label))).copied();
        let label = label.trim();
        found.ok_or_else(|| {
            let given = super::some_of(names);
            BadLabel::at(row, format!("`{label}` is none of the {} class names ({given})", names.len()))
        })
    };
    Ok((labels.iter().enumerate().map(lookup).collect::<Result<_, _>>()?, names.to_vec()))
}

/// Case and the characters between words make no difference.
pub(super) fn loosely(name: &str) -> String {
    let spaced = name.trim().to_lowercase().replace(['_', '-'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A whole number, also written as `3.0`, as pandas does for a column that once had gaps.
fn number(label: &str) -> Option<i64> {
    let label = label.trim();
    label.parse::<i64>().ok().or_else(|| {
        let float = label.parse::<f64>().ok()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    })
}

fn indices(labels: &[&str], count: Option<usize>) -> Result<Vec<usize>, BadLabel> {
    let most = count.unwrap_or(MOST_CLASSES);
    let index = |(row, label): (usize, &&str)| {
        let value = number(label).unwrap_or(-1);
        match usize::try_from(value) {
            Ok(index) if index < most => Ok(index),
            Ok(_) if count.is_some() => {
                let detail =
                    format!("the label {value} has no class name: {most} are given, 0 to {}", most.saturating_sub(1));
                Err(BadLabel::at(row, detail))
            }
            Ok(_) => Err(BadLabel::at(row, format!("the label {value} is too large for a class index"))),
            Err(_) => Err(BadLabel::at(row, format!("the label {value} is negative; class indices start at 0"))),
        }
    };
    labels.iter().enumerate().map(index).collect()
}

fn sorted(labels: &[&str]) -> (Vec<usize>, Vec<String>) {
    let names: Vec<&str> = labels.iter().map(|label| label.trim()).collect::<BTreeSet<_>>().into_iter().collect();
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
    let indices = labels.iter().map(|label| places[label.trim()]).collect();
    (indices, names.into_iter().map(String::from).collect())
}

/// Group indices and names; an empty cell is no group. Numbers are indices, words are sorted.
pub(super) fn resolve_groups(cells: &[Option<&str>]) -> Result<(Vec<Option<usize>>, Vec<String>), BadLabel> {
    let rows: Vec<usize> = (0..cells.len()).filter(|row| cells[*row].is_some_and(|cell| !is_absent(cell))).collect();
    let words: Vec<&str> = rows.iter().filter_map(|row| cells[*row]).collect();
    let (found, names) = if words.iter().all(|word| number(word).is_some()) {
        let found = indices(&words, None).map_err(|bad| BadLabel {
            row: bad.row.map(|at| rows[at]),
            detail: bad.detail.replace("the label", "the group").replace("class", "group"),
        })?;
        let count = found.iter().max().map_or(0, |most| most + 1);
        (found, (0..count).map(|index| format!("group {index}")).collect())
    } else {
        sorted(&words)
    };
    let mut groups = vec![None; cells.len()];
    for (row, group) in rows.into_iter().zip(found) {
        groups[row] = Some(group);
    }
    Ok((groups, names))
}

/// Class index of each folder (sorted by name) and the names of all classes.
///
/// Without `names` the folders are the classes, in the order that torchvision's `ImageFolder`
/// gives them. With `names`, folders are looked up there; if none of them is found and there are
/// as many folders as names, the sorted order is taken and the caller is told.
pub(super) fn resolve_folders(
    folders: &[String],
    names: Option<&[String]>,
    warnings: &mut Vec<DatasetWarning>,
) -> Result<(Vec<usize>, Vec<String>), String> {
    let Some(names) = names else { return Ok(((0..folders.len()).collect(), folders.to_vec())) };
    let loose: HashMap<String, usize> = names.iter().enumerate().rev().map(|(i, name)| (loosely(name), i)).collect();
    let place = |folder: &String| {
        let exact = names.iter().position(|name| name == folder);
        exact.or_else(|| loose.get(&loosely(folder)).copied())
    };
    let found: Vec<Option<usize>> = folders.iter().map(place).collect();
    let unknown: Vec<&String> = folders.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(name, _)| name).collect();
    if unknown.is_empty() {
        return Ok((found.into_iter().flatten().collect(), names.to_vec()));
    }
    if unknown.len() < folders.len() {
        return Err(format!(
            "these folders are none of the {} class names: {}; rename them or move them out",
            names.len(),
            super::some_of(&unknown)
        ));
    }
    by_position(folders, names, warnings)
}

fn by_position(
    folders: &[String],
    names: &[String],
    warnings: &mut Vec<DatasetWarning>,
) -> Result<(Vec<usize>, Vec<String>), String> {
    let numbers: Option<Vec<usize>> = folders.iter().map(|folder| folder.parse().ok()).collect();
    if let Some(numbers) = numbers.filter(|numbers| numbers.iter().all(|number| *number < names.len())) {
        warnings.push(DatasetWarning::FoldersAreNumbers);
        return Ok((numbers, names.to_vec()));
    }
    if folders.len() == names.len() {
        let (folder, class) = (folders[0].clone(), names[0].clone());
        warnings.push(DatasetWarning::FoldersInOrder { count: folders.len(), folder, class });
        return Ok(((0..folders.len()).collect(), names.to_vec()));
    }
    Err(format!(
        "none of the {} folders ({}) is one of the {} class names ({}); rename the folders, or give a file of class names",
        folders.len(),
        super::some_of(folders),
        names.len(),
        super::some_of(names)
    ))
}
