//! From the words or numbers of a label column to indices and names.

use super::{DatasetWarning, FolderOrder};
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

/// Which class a word means.
struct Lookup<'a> {
    names: &'a [String],
    /// By the name itself, then by the name whatever its case and what stands between words, then by what else it is called.
    exact: HashMap<&'a str, Meant>,
    loose: HashMap<String, Meant>,
    also: HashMap<String, Meant>,
}

/// One class, or two of those that a word may mean.
#[derive(Clone, Copy)]
enum Meant {
    One(usize),
    Several(usize, usize),
}

impl Meant {
    fn add<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Meant>, key: K, class: usize) {
        let entry = map.entry(key).or_insert(Meant::One(class));
        if let Meant::One(first) = *entry
            && first != class
        {
            *entry = Meant::Several(first, class);
        }
    }
}

impl<'a> Lookup<'a> {
    fn new(names: &'a [String]) -> Self {
        let (mut exact, mut loose, mut also) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (class, name) in names.iter().enumerate() {
            Meant::add(&mut exact, name.as_str(), class);
            Meant::add(&mut loose, loosely(name), class);
            crate::names::aliases(name).into_iter().for_each(|alias| Meant::add(&mut also, loosely(alias), class));
        }
        Self { names, exact, loose, also }
    }

    /// The class of `word`; an error where two may be meant.
    fn find(&self, word: &str) -> Result<Option<usize>, String> {
        let word = word.trim();
        let spaced = loosely(word);
        let found = self.exact.get(word).or_else(|| self.loose.get(&spaced)).or_else(|| self.also.get(&spaced));
        match found.copied() {
            None => Ok(None),
            Some(Meant::One(class)) => Ok(Some(class)),
            Some(Meant::Several(a, b)) => Err(format!(
                "two classes are called `{word}` ({a}: {}, {b}: {}), so it does not say which is meant; tell them apart in the class \
                 names, or label by number",
                self.names[a], self.names[b]
            )),
        }
    }
}

/// Labels that index `declared` class names, by those names in `names`. Where none of them is there and there are as many, they
/// stay what they are.
pub(super) fn by_declared_name(
    labels: &[&str],
    declared: &[String],
    names: &[String],
    warnings: &mut Vec<DatasetWarning>,
) -> Result<Option<Vec<usize>>, BadLabel> {
    let lookup = Lookup::new(names);
    let found: Vec<Option<usize>> = declared
        .iter()
        .map(|name| lookup.find(name))
        .collect::<Result<_, _>>()
        .map_err(|detail| BadLabel { row: None, detail })?;
    if found.iter().all(Option::is_none) && declared.len() == names.len() {
        let (own, class) = (declared[0].clone(), names[0].clone());
        warnings.push(DatasetWarning::NamesDiffer { count: names.len(), own, class });
        return Ok(None);
    }
    let numbers = indices(labels, Some(declared.len()))?;
    let class = |(row, number): (usize, usize)| {
        found[number].ok_or_else(|| {
            let given = super::some_of(names);
            let detail = format!(
                "the label {number} is `{}` by the data set's own names, which is none of the {} class names ({given})",
                declared[number],
                names.len()
            );
            BadLabel::at(row, detail)
        })
    };
    numbers.into_iter().enumerate().map(class).collect::<Result<_, _>>().map(Some)
}

fn with_names(labels: &[&str], names: &[String]) -> Result<(Vec<usize>, Vec<String>), BadLabel> {
    let lookup = Lookup::new(names);
    let all_named = labels.iter().all(|label| lookup.exact.contains_key(label.trim()));
    if !all_named && labels.iter().all(|label| number(label).is_some()) {
        return Ok((indices(labels, Some(names.len()))?, names.to_vec()));
    }
    let class = |(row, label): (usize, &&str)| {
        let label = label.trim();
        lookup.find(label).map_err(|detail| BadLabel::at(row, detail))?.ok_or_else(|| {
            let given = super::some_of(names);
            BadLabel::at(row, format!("`{label}` is none of the {} class names ({given})", names.len()))
        })
    };
    Ok((labels.iter().enumerate().map(class).collect::<Result<_, _>>()?, names.to_vec()))
}

/// Case and the characters between words make no difference.
pub(super) fn loosely(name: &str) -> String {
    let spaced = name.trim().to_lowercase().replace(['_', '-'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a label is a whole number.
pub(super) fn is_number(label: &str) -> bool {
    number(label).is_some()
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
    if are_signs(labels) {
        return Ok(labels.iter().map(|label| usize::from(number(label) == Some(1))).collect());
    }
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

/// Whether labels are −1 and 1, as attributes of CelebA: no and yes.
pub(super) fn are_signs(labels: &[&str]) -> bool {
    labels.iter().any(|label| number(label) == Some(-1)) && labels.iter().all(|l| matches!(number(l), Some(-1 | 1)))
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
    order: Option<FolderOrder>,
    warnings: &mut Vec<DatasetWarning>,
) -> Result<(Vec<usize>, Vec<String>), String> {
    let Some(names) = names else {
        return Ok(match number_order(folders).filter(|_| order == Some(FolderOrder::Number)) {
            Some(ranks) => {
                let mut classes = folders.to_vec();
                ranks.iter().zip(folders).for_each(|(&rank, folder)| classes[rank].clone_from(folder));
                (ranks, classes)
            }
            None => ((0..folders.len()).collect(), folders.to_vec()),
        });
    };
    let lookup = Lookup::new(names);
    let found: Vec<Option<usize>> = folders.iter().map(|folder| lookup.find(folder)).collect::<Result<_, _>>()?;
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
    by_position(folders, names, order, warnings)
}

/// The rank of each folder by its number; `None` where they are not all numbers.
fn number_order(folders: &[String]) -> Option<Vec<usize>> {
    let numbers: Vec<u64> = folders.iter().map(|folder| folder.parse().ok()).collect::<Option<_>>()?;
    let mut sorted: Vec<usize> = (0..folders.len()).collect();
    sorted.sort_by_key(|&at| numbers[at]);
    let mut ranks = vec![0; folders.len()];
    sorted.into_iter().enumerate().for_each(|(rank, at)| ranks[at] = rank);
    Some(ranks)
}

/// For folders named by number whose two orders differ, as text and as numbers, the class that each class of the one is in the
/// other: `given` are the classes of the folders (sorted as text), of `classes` in all.
pub(super) fn in_other_order(folders: &[String], given: &[usize], classes: usize) -> Option<(FolderOrder, Vec<usize>)> {
    let ranks = number_order(folders).filter(|_| folders.len() == classes)?;
    let sorted: Vec<usize> = (0..folders.len()).collect();
    if ranks == sorted {
        return None;
    }
    let (other, to) = match given {
        given if given == sorted => (FolderOrder::Number, &ranks),
        given if given == ranks => (FolderOrder::Sorted, &sorted),
        _ => return None,
    };
    let mut map = sorted.clone();
    given.iter().zip(to).for_each(|(&from, &to)| map[from] = to);
    Some((other, map))
}

fn by_position(
    folders: &[String],
    names: &[String],
    order: Option<FolderOrder>,
    warnings: &mut Vec<DatasetWarning>,
) -> Result<(Vec<usize>, Vec<String>), String> {
    let numbers: Option<Vec<usize>> = folders.iter().map(|folder| folder.parse().ok()).collect();
    let by_number = order != Some(FolderOrder::Sorted) || folders.len() != names.len();
    if let Some(numbers) = numbers.filter(|numbers| by_number && numbers.iter().all(|number| *number < names.len())) {
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
