//! Names for files, made of text.

/// A file name made from text: letters, digits and dashes only, at most 60 of them.
pub fn file_name(text: &str) -> String {
    let safe = text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' });
    let joined = safe.collect::<String>().split('-').filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-");
    let short: String = joined.chars().take(60).collect();
    if short.is_empty() { "empty-prompt".to_owned() } else { short }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn file_names_are_safe_and_never_empty() {
        assert_eq!(file_name("a cat on blue"), "a-cat-on-blue");
        assert_eq!(file_name("../../etc/passwd: \"x\""), "etc-passwd-x");
        assert_eq!(file_name("  "), "empty-prompt");
        assert_eq!(file_name(&"é".repeat(200)).chars().count(), 60);
    }
}
