//! Entries of a config by name and type. One that is there with another type, or out of range, is an error that says what
//! was expected; only one that is absent (or null, as exporters write it) has its default.

use crate::error::DiffusionError;
use pellucid_guard::bounded::{self, Unread};
use pellucid_guard::{Budget, Limit, printable};
use serde_json::{Map, Value};
use std::path::Path;

/// A config's JSON object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries<'a>(&'a Map<String, Value>);

impl<'a> Entries<'a> {
    /// The entries of `json`, which must be an object.
    pub(crate) fn of(json: &'a Value) -> Result<Self, String> {
        let object = json.as_object().ok_or_else(|| format!("is {}; expected an object of entries", shown(json)));
        object.map(Self)
    }

    /// The entry `key`, if it is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// `key` as `read` understands it.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("{key} is {}; expected {expected}", shown(value)))
    }

    /// A number for which `allowed` holds, `default` where there is none.
    pub(crate) fn number(
        &self,
        key: &str,
        default: f64,
        expected: &str,
        allowed: impl FnOnce(f64) -> bool,
    ) -> Result<f64, String> {
        Ok(self.read(key, expected, |v| v.as_f64().filter(|n| n.is_finite() && allowed(*n)))?.unwrap_or(default))
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn count(&self, key: &str, (least, most): (usize, usize)) -> Result<Option<usize>, String> {
        let allowed = |v: &Value| whole(v).filter(|n| (least..=most).contains(n));
        self.read(key, &format!("a whole number from {least} to {most}"), allowed)
    }

    /// Whether `key` is set.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// One of `known` texts.
    pub(crate) fn choice(&self, key: &str, known: &[&str]) -> Result<Option<&'a str>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) if known.contains(&text) => Ok(Some(text)),
            _ => Err(format!("{key} {} is unknown; expected {}", shown(value), alternatives(known))),
        }
    }
}

/// A whole number, also where it is written as 1000.0.
pub(crate) fn whole(value: &Value) -> Option<usize> {
    let written = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
    })?;
    usize::try_from(written).ok()
}

fn alternatives(known: &[&str]) -> String {
    match known {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => known.join(", "),
    }
}

/// A value as a message shows it: on one line, the beginning of a long one.
pub(crate) fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    let short: String = text.chars().take(MOST).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", printable::name(&short))
}

/// Reads a JSON file within the bound on texts.
pub(crate) fn read_json(file: &Path, budget: &Budget) -> Result<Value, DiffusionError> {
    let failed = |reason: String| DiffusionError::Config { file: file.to_path_buf(), reason };
    let bytes = bounded::read(file, budget, Limit::TextBytes).map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| failed(format!("is not JSON: {e}")))
}

/// The same for a file that need not be there: an empty object then.
pub(crate) fn read_json_if_there(file: &Path, budget: &Budget) -> Result<Value, DiffusionError> {
    match bounded::read(file, budget, Limit::TextBytes) {
        Err(Unread::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Object(Map::new())),
        _ => read_json(file, budget),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_of_another_type_or_range_is_named_with_what_was_expected() {
        let json = json!({"a": "x", "b": 1.5, "c": -1, "d": 1, "e": null, "f": 12.0, "g": "z".repeat(100)});
        let entries = Entries::of(&json).unwrap();
        assert_eq!(entries.count("a", (1, 9)).unwrap_err(), "a is 'x'; expected a whole number from 1 to 9");
        assert!(entries.count("b", (1, 9)).is_err() && entries.count("c", (0, 9)).is_err());
        assert_eq!((entries.count("e", (1, 9)), entries.count("f", (1, 12))), (Ok(None), Ok(Some(12))));
        assert_eq!(entries.flag("d").unwrap_err(), "d is 1; expected true or false");
        assert_eq!(
            entries.number("c", 3.0, "a positive number", |n| n > 0.0).unwrap_err(),
            "c is -1; expected a positive number"
        );
        assert_eq!(entries.number("h", 3.0, "a positive number", |n| n > 0.0), Ok(3.0));
        assert_eq!(entries.choice("a", &["y", "z"]).unwrap_err(), "a 'x' is unknown; expected y or z");
        assert!(entries.choice("g", &["y"]).unwrap_err().len() < 110);
        assert_eq!(Entries::of(&json!([1])).unwrap_err(), "is [1]; expected an object of entries");
    }
}
