//! A folder for each class, as torchvision's `ImageFolder`, optionally below `train`, `val` and
//! `test`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Dataset, DatasetError, DatasetOptions, Format, Sample, canonical_split, keep_split, labels};

/// A picture in a class folder.
struct Found {
    file: String,
    folder: String,
    split: Option<String>,
}

/// Opens `root`; see [`Dataset::open`].
pub(super) fn open(root: &Path, options: &DatasetOptions) -> Result<Dataset, DatasetError> {
    let mut warnings = Vec::new();
    let mut walk = Walk::default();
    let top = folders_in(root)?;
    if top.is_empty() {
        let detail = "it has no sub-folders".to_string();
        return Err(DatasetError::Unrecognised { path: root.into(), detail });
    }
    let splits = has_splits(root, &top)?;
    if splits {
        for split in &top {
            let path = root.join(split);
            for class in folders_in(&path)? {
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
    let folders: Vec<String> = walk.classes.into_iter().collect();
    let named = labels::resolve_folders(&folders, options.class_names.as_deref(), &mut warnings);
    let (indices, classes) = named.map_err(|detail| DatasetError::Labels { path: root.into(), detail })?;
    if walk.found.is_empty() {
        let detail = format!("{} folders, none with a file named .jpg, .png, .webp, .gif, .bmp or .tif", folders.len());
        return Err(DatasetError::NoPictures { path: root.into(), detail });
    }
    let kept = keep_split(walk.found, |found| found.split.as_deref(), options, root, &mut warnings)?;
    let label = |folder: &String| folders.binary_search(folder).map_or(0, |at| indices[at]);
    let samples = kept.into_iter().map(|found| Sample {
        label: label(&found.folder),
        file: found.file,
        group: None,
        split: found.split,
    });
    Ok(Dataset {
        root: root.into(),
        format: Format::Folders,
        samples: samples.collect(),
        classes,
        groups: Vec::new(),
        warnings,
        packed: None,
    })
}

/// Whether all of the top folders are splits, at least one of which holds class folders.
fn has_splits(root: &Path, top: &[String]) -> Result<bool, DatasetError> {
    if !top.iter().all(|name| ["train", "val", "test"].contains(&canonical_split(name).as_str())) {
        return Ok(false);
    }
    for name in top {
        if !folders_in(&root.join(name))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names of the folders in `path`, sorted, without hidden ones.
fn folders_in(path: &Path) -> Result<Vec<String>, DatasetError> {
    let io = |source| DatasetError::Io { path: path.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What the walk through class folders has found.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    classes: BTreeSet<String>,
    ignored: Vec<String>,
    unnameable: usize,
}

impl Walk {
    fn class_folder(
        &mut self,
        path: &Path,
        below: &str,
        class: &str,
        split: Option<String>,
    ) -> Result<(), DatasetError> {
        self.classes.insert(class.to_string());
        let mut seen = BTreeSet::new();
        let mut waiting = vec![(path.to_path_buf(), below.to_string())];
        let start = self.found.len();
        while let Some((folder, prefix)) = waiting.pop() {
            // A link that leads back up would otherwise be followed for ever.
            let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            if seen.insert(real) {
                self.folder(&folder, &prefix, class, &split, &mut waiting)?;
            }
        }
        self.found[start..].sort_by(|a, b| a.file.cmp(&b.file));
        Ok(())
    }

    fn folder(
        &mut self,
        folder: &Path,
        prefix: &str,
        class: &str,
        split: &Option<String>,
        waiting: &mut Vec<(PathBuf, String)>,
    ) -> Result<(), DatasetError> {
        let io = |source| DatasetError::Io { path: folder.into(), source };
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
            if entry.path().is_dir() {
                waiting.push((entry.path(), file));
            } else if is_picture_name(&name) {
                self.found.push(Found { file, folder: class.to_string(), split: split.clone() });
            } else {
                self.ignored.push(file);
            }
        }
        Ok(())
    }

    fn report(&mut self, warnings: &mut Vec<String>) {
        self.ignored.sort();
        if !self.ignored.is_empty() {
            let (count, some) = (self.ignored.len(), super::some_of(&self.ignored));
            warnings.push(format!("{count} files without the ending of a picture are ignored: {some}"));
        }
        if self.unnameable > 0 {
            warnings.push(format!("{} files whose names are not UTF-8 are ignored", self.unnameable));
        }
    }
}

fn is_picture_name(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| {
        ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"].contains(&ending.as_str())
    })
}
