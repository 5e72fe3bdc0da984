//! Names and texts from files, fit for a terminal: what would move the cursor, change colours, reorder or break the line is
//! shown as its code point instead.

use std::borrow::Cow;

/// `text` on one line: control characters (newlines and tabs too) and marks that reorder text become `\u{1b}` and the like.
pub fn name(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`name`], for text of ours that has lines: newlines stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

/// JSON with what would act on a terminal written as `\u001b` and the like: the same values, in other spelling.
///
/// Outside strings JSON has none of these characters but the newlines of its layout, which stay.
pub fn json(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c != '\n' && acts(c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if bad(c) => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let bad = |c: char| !keep(c) && acts(c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn acts(c: char) -> bool {
    c.is_control() || reorders(c)
}

/// Bidirectional controls, line and paragraph separators, and characters without width that hide in names. (The joiners
/// U+200C and U+200D stay: Persian and emoji are written with them.)
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_instead() {
        assert_eq!(name("\x1b[31mred"), "\\u{1b}[31mred");
        assert_eq!(name("a\nb\tc\r"), "a\\u{a}b\\u{9}c\\u{d}");
        assert_eq!(name("x\u{202e}gnp.exe\u{9b}"), "x\\u{202e}gnp.exe\\u{9b}");
        assert_eq!(lines("one\ntwo\x07"), "one\ntwo\\u{7}");
    }

    #[test]
    fn json_keeps_its_values_and_its_layout() {
        let value = serde_json::json!({ "a\u{202e}b": ["\x1b[31m", "\u{7f}\u{9b}\u{2066}", "猫\n"] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let printed = json(&text);
        assert!(printed.chars().all(|c| c == '\n' || !acts(c)), "{printed:?}");
        assert!(printed.contains("a\\u202eb") && printed.contains("\\u007f\\u009b\\u2066") && printed.contains('猫'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
        assert!(matches!(json("{\n  \"cat\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn ordinary_names_of_any_script_stay_as_they_are() {
        for text in ["cat", "Ångström", "猫", "قطة", "🐸", "👩\u{200d}🔬", "a b"] {
            assert!(matches!(name(text), Cow::Borrowed(t) if t == text));
        }
    }
}
