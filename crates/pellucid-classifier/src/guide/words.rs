//! Class names as sentences: a bank of templates, domain words for classes, and vocabularies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Templates that are used where nobody gives others.
const BUILT_IN: [&str; 5] = [
    "{}",
    "a photo of a {}",
    "a close-up picture of a {}",
    "a {} seen from some way off",
    "a bright, sharp picture that shows a {}",
];

/// Why a file of words was refused.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A vocabulary without words.
    #[error("{0}: the vocabulary is empty; write one word or phrase a line")]
    EmptyVocabulary(PathBuf),
    /// A bank without templates.
    #[error("{0}: it holds no template; write sentences with {{}} where the class name goes, one a line")]
    NoTemplate(PathBuf),
    /// A line that is neither.
    #[error("{path}: line {line}, '{text}', is neither a template (with {{}}) nor `class name = words`")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
}

/// Sentences for class names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptBank {
    templates: Vec<String>,
    /// Words that go before a class: "food" makes "food, apple pie".
    domains: BTreeMap<String, String>,
}

impl Default for PromptBank {
    fn default() -> Self {
        PromptBank { templates: BUILT_IN.map(str::to_owned).to_vec(), domains: BTreeMap::new() }
    }
}

impl PromptBank {
    /// Reads a bank: a template with `{}` a line, `class name = words` for domain words, `#` for remarks.
    pub fn read(path: &Path) -> Result<PromptBank, WordsError> {
        let text = read(path)?;
        let mut bank = PromptBank { templates: Vec::new(), domains: BTreeMap::new() };
        for (number, line) in text.lines().map(str::trim).enumerate() {
            match line.split_once('=') {
                _ if line.is_empty() || line.starts_with('#') => {}
                _ if line.contains("{}") => bank.templates.push(line.to_owned()),
                Some((class, words)) => {
                    bank.domains.insert(class.trim().to_owned(), words.trim().to_owned());
                }
                None => return Err(WordsError::Line { path: path.into(), line: number + 1, text: line.to_owned() }),
            }
        }
        if bank.templates.is_empty() { Err(WordsError::NoTemplate(path.into())) } else { Ok(bank) }
    }

    /// `class` with its domain words.
    pub fn name(&self, class: &str) -> String {
        match self.domains.get(class) {
            Some(words) => format!("{words}, {class}"),
            None => class.to_owned(),
        }
    }

    /// The sentences of `class`.
    pub fn sentences(&self, class: &str) -> Vec<String> {
        let name = self.name(class);
        self.templates.iter().map(|template| template.replace("{}", &name)).collect()
    }

    /// Whether both banks have the same templates.
    pub fn has_templates_of(&self, other: &PromptBank) -> bool {
        self.templates == other.templates
    }
}

/// The words of a vocabulary file, one a line.
pub fn vocabulary(path: &Path) -> Result<Vec<String>, WordsError> {
    let mut words: Vec<String> = Vec::new();
    for line in read(path)?.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if !words.iter().any(|known| known == line) {
            words.push(line.to_owned());
        }
    }
    if words.is_empty() { Err(WordsError::EmptyVocabulary(path.into())) } else { Ok(words) }
}

fn read(path: &Path) -> Result<String, WordsError> {
    let text = std::fs::read_to_string(path).map_err(|source| WordsError::Io { path: path.into(), source })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_bank_puts_names_and_domain_words_into_sentences() {
        let bank = PromptBank::read(file("# ours\na photo of {}\n\napple pie = food\n").path()).unwrap();
        assert_eq!(bank.sentences("apple pie"), ["a photo of food, apple pie"]);
        assert_eq!(bank.sentences("tench"), ["a photo of tench"]);
    }

    #[test]
    fn empty_files_and_stray_lines_are_refused_by_name() {
        assert!(vocabulary(file("\n# nothing\n").path()).unwrap_err().to_string().contains("vocabulary is empty"));
        assert!(PromptBank::read(file("a = b").path()).unwrap_err().to_string().contains("no template"));
        let stray = PromptBank::read(file("a photo of {}\nnonsense").path()).unwrap_err().to_string();
        assert!(stray.contains("line 2, 'nonsense'"), "{stray}");
    }
}
