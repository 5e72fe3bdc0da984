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
        "{}: {}; expected one name a line, a JSON or Python list of names, or a JSON or Python object from index to name",
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
/// `["a", "b"]`, a JSON object `{"0": "a"}`, `{"0": ["n01440764", "a"]}` (Keras' `imagenet_class_index.json`) or `{"a": 0}`, the
/// same as Python writes it (`{0: 'a'}`), or a model's `config.json`.
pub fn from_file(path: impl AsRef<Path>) -> Result<Vec<String>, NamesError> {
    let path = path.as_ref();
    let text = text::read(path).map_err(|source| NamesError::Io { path: path.into(), source })?;
    let text = text.trim_start_matches('\u{feff}');
    let malformed = |detail: String| NamesError::Malformed { path: path.into(), detail };
    if text.trim_start().starts_with(['{', '[']) {
        let json = literal(text).map_err(|error| malformed(error.to_string()))?;
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

/// Class names that a model's own notes hold: under `names` (Ultralytics), `id2label`, `classes`, `class_names` or `labels`, as JSON,
/// as Python writes it, or one a line or between commas. `entry` gives the note of a name.
pub fn from_notes(entry: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    ["names", "id2label", "class_names", "classes", "labels"].iter().find_map(|key| {
        let text = entry(key)?;
        let text = text.trim();
        if text.starts_with(['{', '[', '(']) {
            return from_json(&literal(text).ok()?);
        }
        let between = if text.contains('\n') { '\n' } else { ',' };
        let names: Vec<String> = text.split(between).map(|name| name.trim().to_owned()).collect();
        (names.len() > 1 && names.iter().all(|name| !name.is_empty())).then_some(names)
    })
}

/// What `name` is also called: a synset line `n01440764 tench, Tinca tinca` is `n01440764`, `tench, Tinca tinca`, `tench` and
/// `Tinca tinca`; `tench, Tinca tinca` is its parts.
pub fn aliases(name: &str) -> Vec<&str> {
    let is_synset = |word: &str| {
        word.len() == 9 && word.starts_with('n') && word.bytes().skip(1).all(|digit| digit.is_ascii_digit())
    };
    let mut called = Vec::new();
    let mut rest = name.trim();
    if let Some((first, after)) = rest.split_once([' ', '\t']).filter(|(first, _)| is_synset(first)) {
        called.push(first);
        rest = after.trim();
        called.push(rest);
    }
    if rest.contains(',') {
        called.extend(rest.split(',').map(str::trim).filter(|part| !part.is_empty()));
    }
    called
}

/// A value as JSON or as Python writes it; the error is JSON's.
fn literal(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| python(text).ok_or(error))
}

/// A Python literal of dictionaries, lists, tuples, strings and numbers as JSON.
fn python(text: &str) -> Option<Value> {
    let mut json = String::with_capacity(text.len() + 16);
    let mut rest = text.trim().chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                let mut word = String::new();
                loop {
                    match rest.next()? {
                        end if end == c => break,
                        '\\' => match rest.next()? {
                            'n' => word.push('\n'),
                            't' => word.push('\t'),
                            other => word.push(other),
                        },
                        other => word.push(other),
                    }
                }
                json.push_str(&Value::String(word).to_string());
            }
            '(' => json.push('['),
            ')' => json.push(']'),
            // A comma before the end.
            ']' | '}' => {
                let kept = json.trim_end().trim_end_matches(',').len();
                json.truncate(kept);
                json.push(c);
            }
            digit if digit.is_ascii_digit() => {
                let mut number = String::from(digit);
                while let Some(more) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '.') {
                    number.push(more);
                }
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
                // Keys of JSON are text.
                let is_key = rest.peek() == Some(&':');
                json.push_str(&if is_key { format!("\"{number}\"") } else { number });
            }
            other => json.push(other),
        }
    }
    let json = json.replace(",]", "]");
    serde_json::from_str(&json).ok()
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
    let name = |value: &Value| match value {
        // A synset and its word.
        Value::Array(parts) => Some(parts.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join(" ")),
        value => value.as_str().map(str::to_owned),
    };
    (0..object.len()).map(|index| name(object.get(&index.to_string())?)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        std::fs::write(&path, text).unwrap();
        from_file(&path).ok()
    }

    #[test]
    fn a_python_dictionary_is_read_like_json() {
        let names = named("{0: 'a cat, \\'tom\\'',\n 1: \"dog's\",\n 2: 'x: 3',\n}").unwrap();
        assert_eq!(names, ["a cat, 'tom'", "dog's", "x: 3"]);
        assert_eq!(named("['a', 'b',]").unwrap(), ["a", "b"]);
        assert_eq!(named("{'a': 1, 'b': 0}").unwrap(), ["b", "a"]);
        assert_eq!(named("{0: 'a', 2: 'b'}"), None);
    }

    #[test]
    fn keras_class_index_has_a_synset_and_a_word_for_each_class() {
        let names = named(r#"{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}"#).unwrap();
        assert_eq!(names, ["n01440764 tench", "n01443537 goldfish"]);
    }

    #[test]
    fn a_synset_line_is_called_by_its_number_and_by_each_of_its_words() {
        let called = aliases("n01440764 tench, Tinca tinca");
        assert_eq!(called, ["n01440764", "tench, Tinca tinca", "tench", "Tinca tinca"]);
        assert_eq!(aliases("nothing at all"), [""; 0]);
    }

    #[test]
    fn a_models_notes_may_hold_names() {
        let note = |text: &'static str| from_notes(move |key| (key == "names").then(|| text.to_owned()));
        assert_eq!(note("{0: 'circle', 1: 'cross'}").unwrap(), ["circle", "cross"]);
        assert_eq!(note("circle,cross").unwrap(), ["circle", "cross"]);
        assert_eq!(note("a note"), None);
    }
}
