//! A folder for each class, as torchvision's `ImageFolder`, optionally below `train`, `val` and
//! `test`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::fence::{Fence, Place, leading_out};
use super::{
    Dataset, DatasetError, DatasetOptions, DatasetWarning, Format, Origin, Sample, canonical_split, keep_split, labels,
    over_budget,
};
use pellucid_guard::{Budget, Limit};

/// Folders below a class folder that are gone into. Deeper trees are no data sets, and paths have an end.
const DEEPEST: usize = 64;

/// A picture in a class folder.
struct Found {
    file: String,
    folder: String,
    split: Option<String>,
}

/// Opens `root`; see [`Dataset::open`].
pub(super) fn open(root: &Path, options: &DatasetOptions) -> Result<Dataset, DatasetError> {
    let mut warnings = Vec::new();
    let fence = Fence::around(root).map_err(|source| DatasetError::Io { path: root.into(), source })?;
    let mut walk = Walk::new(fence, options.budget);
    let top = walk.folders_in(root, "")?;
    if top.is_empty() {
        let outside = leading_out(&mut walk.outside);
        let detail = outside.map_or_else(|| "it has no sub-folders".to_string(), |warning| warning.to_string());
        return Err(DatasetError::Unrecognised { path: root.into(), detail });
    }
    let splits = walk.has_splits(root, &top)?;
    if splits {
        for split in &top {
            let path = root.join(split);
            for class in walk.folders_in(&path, split)? {
                walk.class_folder(
                    &path.join(&class),
                    &format!("{split}/{class}"),
                    &class,
                    Some(canonical_split(split)),
                )?;
            }
        }
    } else {
        for class in &top {
            walk.class_folder(&root.join(class), class, class, None)?;
        }
    }
    walk.report(&mut warnings);
    // Before the split is chosen, so that every split numbers its classes alike.
    let folders: Vec<String> = std::mem::take(&mut walk.classes).into_iter().collect();
    let order = options.reading.folder_order;
    let named = labels::resolve_folders(&folders, options.class_names.as_deref(), order, &mut warnings);
    let (indices, classes) = named.map_err(|detail| DatasetError::Labels { path: root.into(), detail })?;
    let other_order = match order {
        None => labels::in_other_order(&folders, &indices, classes.len()),
        Some(_) => None,
    };
    if walk.found.is_empty() {
        let mut detail =
            format!("{} folders, none with a file named .jpg, .png, .webp, .gif, .bmp or .tif", folders.len());
        if let Some(outside) = leading_out(&mut walk.outside) {
            detail = format!("{detail}; {outside}");
        }
        return Err(DatasetError::NoPictures { path: root.into(), detail });
    }
    let kept = keep_split(walk.found, |found| found.split.as_deref(), options, root, &mut warnings)?;
    let label = |folder: &String| folders.binary_search(folder).map_or(0, |at| indices[at]);
    let samples = kept.into_iter().map(|found| Sample {
        label: label(&found.folder),
        file: found.file,
        group: None,
        split: found.split,
        unit: None,
    });
    Ok(Dataset {
        root: root.into(),
        format: Format::Folders,
        samples: samples.collect(),
        classes,
        groups: Vec::new(),
        warnings,
        other_order,
        origin: Origin::Files,
    })
}

/// What the walk through class folders has found.
struct Walk {
    fence: Fence,
    budget: Budget,
    found: Vec<Found>,
    classes: BTreeSet<String>,
    ignored: Vec<String>,
    /// Links that lead out of the data set.
    outside: Vec<String>,
    /// Pipes, sockets, devices and links to nothing.
    unreadable: Vec<String>,
    /// Folders below [`DEEPEST`].
    too_deep: usize,
    unnameable: usize,
}

impl Walk {
    fn new(fence: Fence, budget: Budget) -> Walk {
        Walk {
            fence,
            budget,
            found: Vec::new(),
            classes: BTreeSet::new(),
            ignored: Vec::new(),
            outside: Vec::new(),
            unreadable: Vec::new(),
            too_deep: 0,
            unnameable: 0,
        }
    }

    /// Whether all of the top folders are splits, at least one of which holds class folders.
    fn has_splits(&mut self, root: &Path, top: &[String]) -> Result<bool, DatasetError> {
        if !top.iter().all(|name| ["train", "val", "test"].contains(&canonical_split(name).as_str())) {
            return Ok(false);
        }
        let outside = self.outside.len();
        for name in top {
            let holds_folders = !self.folders_in(&root.join(name), name)?.is_empty();
            // They are met again when the folder is walked through.
            self.outside.truncate(outside);
            if holds_folders {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names of the folders in `path`, sorted, without hidden ones; `below` is what `path` is called in the data set.
    fn folders_in(&mut self, path: &Path, below: &str) -> Result<Vec<String>, DatasetError> {
        let io = |source| DatasetError::Io { path: path.into(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            match self.fence.place(&entry.path()) {
                Place::Folder => names.push(name),
                Place::Outside => self.outside.push(if below.is_empty() { name } else { format!("{below}/{name}") }),
                Place::File | Place::Missing | Place::Special => {}
            }
        }
        names.sort();
        Ok(names)
    }

    fn class_folder(
        &mut self,
        path: &Path,
        below: &str,
        class: &str,
        split: Option<String>,
    ) -> Result<(), DatasetError> {
        self.classes.insert(class.to_string());
        let mut seen = BTreeSet::new();
        let mut waiting = vec![(path.to_path_buf(), below.to_string(), 0)];
        let start = self.found.len();
        while let Some((folder, prefix, depth)) = waiting.pop() {
            // A link that leads back up would otherwise be followed for ever.
            let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            if depth > DEEPEST {
                self.too_deep += 1;
            } else if seen.insert(real) {
                for folder in self.folder(&folder, &prefix, class, &split)? {
                    waiting.push((folder.0, folder.1, depth + 1));
                }
            }
        }
        self.found[start..].sort_by(|a, b| a.file.cmp(&b.file));
        Ok(())
    }

    /// Takes the pictures of one folder; gives the folders in it.
    fn folder(
        &mut self,
        folder: &Path,
        prefix: &str,
        class: &str,
        split: &Option<String>,
    ) -> Result<Vec<(PathBuf, String)>, DatasetError> {
        let io = |source| DatasetError::Io { path: folder.into(), source };
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().into_string() else {
                self.unnameable += 1;
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let file = format!("{prefix}/{name}");
            match self.fence.place(&entry.path()) {
                Place::Folder => folders.push((entry.path(), file)),
                Place::Outside => self.outside.push(file),
                Place::File if is_picture_name(&name) => {
                    self.found.push(Found { file, folder: class.to_string(), split: split.clone() });
                    let count = Some(self.found.len() as u64);
                    self.budget.admit(Limit::Rows, count).map_err(|source| over_budget(folder, source))?;
                }
                Place::File => self.ignored.push(file),
                Place::Missing | Place::Special => self.unreadable.push(file),
            }
        }
        Ok(folders)
    }

    fn report(&mut self, warnings: &mut Vec<DatasetWarning>) {
        self.ignored.sort();
        if !self.ignored.is_empty() {
            let (count, names) = (self.ignored.len(), super::some_of(&self.ignored));
            warnings.push(DatasetWarning::Ignored { count, names });
        }
        warnings.extend(leading_out(&mut self.outside));
        self.unreadable.sort();
        if !self.unreadable.is_empty() {
            let (count, names) = (self.unreadable.len(), super::some_of(&self.unreadable));
            warnings.push(DatasetWarning::Special { count, names });
        }
        if self.too_deep > 0 {
            warnings.push(DatasetWarning::TooDeep { count: self.too_deep, deepest: DEEPEST });
        }
        if self.unnameable > 0 {
            warnings.push(DatasetWarning::Unnameable { count: self.unnameable });
        }
    }
}

fn is_picture_name(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| {
        ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"].contains(&ending.as_str())
    })
}
