//! Where weights lie on disk, checked before the runtime sees the model.
//!
//! ONNX Runtime refuses external data outside the model's own (resolved) folder. The same rule is applied here first,
//! so that the error names the tensor, the place and the way out. A Hugging Face cache, where model and data are both
//! symlinks into one folder of blobs, satisfies it.

use crate::onnx::{StringStringEntryProto, TensorProto, tensor_proto::DataLocation};
use crate::sound::declared_bytes;
use std::path::{Component, Path, PathBuf};

/// What is wrong with a tensor's external data.
#[derive(Debug, thiserror::Error)]
pub enum ExternalDataError {
    /// The location is absolute or climbs out of the folder.
    #[error(
        "tensor '{tensor}': its external data '{location}' points outside the model's folder; expected a relative path \
         below {folder}; move the data file beside the model and save the model with that location"
    )]
    Outside {
        /// Name of the tensor.
        tensor: String,
        /// Location as the model has it.
        location: String,
        /// The model's folder.
        folder: PathBuf,
    },
    /// A symlink leads out of the folder.
    #[error(
        "tensor '{tensor}': its external data '{location}' is a link to {target}, outside the model's resolved folder \
         {folder}; put the data file itself there, or link model and data into one folder"
    )]
    LinkOutside {
        /// Name of the tensor.
        tensor: String,
        /// Location as the model has it.
        location: String,
        /// Where the link leads.
        target: PathBuf,
        /// The model's resolved folder.
        folder: PathBuf,
    },
    /// The file is missing.
    #[error("tensor '{tensor}': its external data file {path} cannot be opened ({source}); copy it beside the model")]
    Missing {
        /// Name of the tensor.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is too short.
    #[error(
        "tensor '{tensor}': its external data needs bytes {offset}..{end} of {path}, which has {size}; the file is \
         incomplete, fetch it again{}", if *is_lfs { " (it is a Git LFS pointer: run `git lfs pull`)" } else { "" }
    )]
    Short {
        /// Name of the tensor.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
        /// Size of the file.
        size: u64,
        /// Whether the file is a Git LFS pointer.
        is_lfs: bool,
    },
    /// The values that the shape asks for are not there.
    #[error(
        "tensor '{tensor}': its shape {shape:?} takes {expected} bytes, and its external data has {found}; the model is \
         damaged, or its data file is of another model"
    )]
    Length {
        /// Name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
        /// Bytes that the shape asks for.
        expected: u64,
        /// Bytes that it refers to.
        found: u64,
    },
    /// Offset or length is not a number.
    #[error("tensor '{tensor}': external data has {key} '{value}', expected a non-negative number")]
    Number {
        /// Name of the tensor.
        tensor: String,
        /// `offset` or `length`.
        key: &'static str,
        /// What it says.
        value: String,
    },
}

/// A tensor's place in a file below the model's resolved folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Path relative to the resolved folder, with forward slashes.
    pub location: String,
    pub offset: u64,
    pub length: u64,
}

/// Finds and checks the data of `tensor`, whose model was opened as `<opened>/…` and resolves to `<resolved>/…`.
pub(crate) fn locate(tensor: &TensorProto, opened: &Path, resolved: &Path) -> Result<Place, ExternalDataError> {
    let name = || tensor.name().to_owned();
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key() == key).map(|e| e.value());
    let number = |key: &'static str| match entry(key) {
        None | Some("") => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| ExternalDataError::Number {
            tensor: name(),
            key,
            value: text.to_owned(),
        }),
    };
    let location = entry("location").unwrap_or_default().to_owned();
    let relative = Path::new(&location);
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || location.contains('\\') || !relative.components().all(plain) {
        return Err(ExternalDataError::Outside { tensor: name(), location, folder: opened.to_owned() });
    }
    let path = opened.join(relative);
    let missing = |source| ExternalDataError::Missing { tensor: name(), path: path.clone(), source };
    let target = path.canonicalize().map_err(missing)?;
    let Ok(inside) = target.strip_prefix(resolved) else {
        return Err(ExternalDataError::LinkOutside { tensor: name(), location, target, folder: resolved.to_owned() });
    };
    let size = std::fs::metadata(&target).map_err(missing)?.len();
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(size.saturating_sub(offset));
    let end = offset.saturating_add(length);
    if end > size {
        let is_lfs = size < 1024 && std::fs::read(&target).is_ok_and(|b| b.starts_with(b"version https://git-lfs"));
        return Err(ExternalDataError::Short { tensor: name(), path: target, offset, end, size, is_lfs });
    }
    if let Some(expected) = declared_bytes(tensor).filter(|expected| length < *expected) {
        let shape = tensor.dims.clone();
        return Err(ExternalDataError::Length { tensor: name(), shape, expected, found: length });
    }
    let parts: Vec<_> = inside.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    Ok(Place { location: parts.join("/"), offset, length })
}

/// Makes `tensor` refer to `place` instead of carrying its bytes.
pub(crate) fn refer(tensor: &mut TensorProto, place: &Place) {
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", place.location.clone()),
        entry("offset", place.offset.to_string()),
        entry("length", place.length.to_string()),
    ];
}

/// Makes `tensor` carry `bytes` instead of referring to them.
pub(crate) fn embed(tensor: &mut TensorProto, bytes: bytes::Bytes) {
    tensor.raw_data = Some(bytes);
    tensor.data_location = None;
    tensor.external_data.clear();
}
