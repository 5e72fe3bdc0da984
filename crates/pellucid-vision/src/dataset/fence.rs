//! What lies at a path, and whether a link leads out of the data set's folder on the way there.

use super::DatasetWarning;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A regular file.
    File,
    Folder,
    /// Nothing, or a link to nothing.
    Missing,
    /// A link leads out of the data set's folder.
    Outside,
    /// A pipe, a socket or a device: opening one may wait for ever.
    Special,
}

/// The folder that a data set may not leave.
pub(super) struct Fence {
    root: PathBuf,
    /// Folders asked about, and whether they are inside.
    folders: HashMap<PathBuf, bool>,
}

impl Fence {
    /// The folder `root`, itself reached through whatever links there are.
    pub fn around(root: &Path) -> io::Result<Fence> {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        Ok(Fence { root: root.canonicalize()?, folders: HashMap::new() })
    }

    /// What lies at `path`, a path below the root.
    pub fn place(&mut self, path: &Path) -> Place {
        let Ok(found) = path.symlink_metadata() else { return Place::Missing };
        let found = match found.is_symlink() {
            false if self.holds_folder_of(path) => found,
            false => return Place::Outside,
            true => match path.canonicalize() {
                Ok(real) if !real.starts_with(&self.root) => return Place::Outside,
                Ok(real) => match real.metadata() {
                    Ok(found) => found,
                    Err(_) => return Place::Missing,
                },
                Err(_) => return Place::Missing,
            },
        };
        match found.file_type() {
            kind if kind.is_file() => Place::File,
            kind if kind.is_dir() => Place::Folder,
            _ => Place::Special,
        }
    }

    fn holds_folder_of(&mut self, path: &Path) -> bool {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Some(inside) = self.folders.get(folder) {
            return *inside;
        }
        let inside = folder.canonicalize().is_ok_and(|real| real.starts_with(&self.root));
        self.folders.insert(folder.to_path_buf(), inside);
        inside
    }
}

/// What is said about the links that lead out.
pub(super) fn leading_out(outside: &mut [String]) -> Option<DatasetWarning> {
    outside.sort();
    let first = outside.first()?.clone();
    Some(DatasetWarning::LeadOut { count: outside.len(), first })
}
