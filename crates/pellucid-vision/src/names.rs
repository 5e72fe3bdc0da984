//! Class names: from a text or JSON file, or from the configuration beside a model.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::text::{self, said, shown};

/// Why class names could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamesError {
    /// The file cannot be read.
    #[error("{}: class names cannot be read: {source}", shown(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is read and makes no sense.
    #[error(
        "{}: {}; expected one name a line, a JSON list of names, or a JSON object from index to name",
        shown(.path),
        said(.detail)
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// Class names in order of their index, from a file with one name a line, a JSON list
/// `["a", "b"]`, a JSON object `{"0": "a"}` or `{"a": 0}`, or a model's `config.json`.
pub fn from_file(path: impl AsRef<Path>) -> Result<Vec<String>, NamesError> {
    let path = path.as_ref();
    let text = text::read(path).map_err(|source| NamesError::Io { path: path.into(), source })?;
    let text = text.trim_start_matches('\u{feff}');
    let malformed = |detail: String| NamesError::Malformed { path: path.into(), detail };
    if text.trim_start().starts_with(['{', '[']) {
        let json: Value = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        return from_json(&json).ok_or_else(|| malformed("the JSON holds no complete list of class names".into()));
    }
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    let used = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    match names[..used].iter().position(String::is_empty) {
        _ if used == 0 => Err(malformed("the file holds no names".into())),
        Some(line) => Err(malformed(format!("line {} is blank, which would shift every later class", line + 1))),
        None => Ok(names[..used].to_vec()),
    }
}

/// The class names beside a model file, or `None` where there are none. Looked for in this order: `<stem>.labels.txt`,
/// `classes.txt`, `<stem>.json`, `config.json`.
pub fn beside(model: impl AsRef<Path>) -> Option<Vec<String>> {
    let model = model.as_ref();
    let folder = model.parent()?;
    let listed = [model.with_extension("labels.txt"), folder.join("classes.txt")];
    if let Some(names) = listed.iter().filter(|path| path.is_file()).find_map(|path| from_file(path).ok()) {
        return Some(names);
    }
    [model.with_extension("json"), folder.join("config.json")].iter().find_map(|path| {
        let json: Value = serde_json::from_str(&text::read(path).ok()?).ok()?;
        from_json(&json)
    })
}

/// Class names from parsed JSON of any of the forms that [`from_file`] lists.
pub fn from_json(json: &Value) -> Option<Vec<String>> {
    match json {
        Value::Array(items) if !items.is_empty() => items.iter().map(|item| Some(item.as_str()?.to_string())).collect(),
        Value::Object(object) => {
            if let Some(names) = object.get("id2label").and_then(from_index_object) {
                return (!placeholders(&names)).then_some(names);
            }
            let listed =
                [object.get("label_names"), json.pointer("/pretrained_cfg/label_names"), object.get("classes")];
            if let Some(names) = listed.into_iter().flatten().find_map(|value| value.as_array().and(from_json(value))) {
                return Some(names);
            }
            from_index_object(json).or_else(|| from_name_object(json))
        }
        _ => None,
    }
}

/// `{"0": "a", "1": "b"}`, complete from 0.
fn from_index_object(json: &Value) -> Option<Vec<String>> {
    let object = json.as_object().filter(|object| !object.is_empty())?;
    (0..object.len()).map(|index| Some(object.get(&index.to_string())?.as_str()?.to_string())).collect()
}

/// `{"a": 0, "b": 1}`, each index once.
fn from_name_object(json: &Value) -> Option<Vec<String>> {
    let object = json.as_object().filter(|object| !object.is_empty())?;
    let mut names = vec![None; object.len()];
    for (name, index) in object {
        let place = names.get_mut(usize::try_from(index.as_u64()?).ok()?)?;
        *place = Some(name.clone());
    }
    names.into_iter().collect()
}

fn placeholders(names: &[String]) -> bool {
    names.iter().enumerate().all(|(index, name)| *name == format!("LABEL_{index}"))
}
