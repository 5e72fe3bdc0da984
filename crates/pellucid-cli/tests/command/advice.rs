//! Flags are spelled in the command only, and what an error says to do leads to a result.

use crate::stage::Stage;
use std::path::Path;

/// The lines of a source file that are no comments, without its tests.
fn code(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|l| !l.trim_start().starts_with("//")).collect()
}

fn sources(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => sources(&entry, into),
            false if entry.extension().is_some_and(|e| e == "rs") => into.push(entry),
            false => {}
        }
    }
}

/// Commands of others that a message gives whole.
const OTHERS: [&str; 2] = ["pip install", "guide_ridge.py"];

#[test]
fn no_library_spells_a_flag() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crates).unwrap().map(|e| e.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.join("src").is_dir() && !["pellucid-cli", "pellucid-zoo", "pellucid-fuzz"].contains(&name.as_str()) {
            sources(&entry.join("src"), &mut files);
        }
    }
    assert!(files.len() > 100, "{}", files.len());
    let is_flag = |word: &str| word.starts_with("--") && word[2..].starts_with(|c: char| c.is_ascii_lowercase());
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        for line in code(&source) {
            let spells = line.split(|c: char| c.is_whitespace() || "(`'\"".contains(c)).any(is_flag);
            let is_anothers = OTHERS.iter().any(|other| line.contains(other));
            assert!(!spells || is_anothers, "{}: {line}", file.display());
        }
    }
}

#[test]
fn the_first_error_on_a_model_without_a_config_leads_to_a_result_when_it_is_obeyed_to_the_letter() {
    let stage = Stage::with_mistakes();
    std::fs::remove_file(stage.at("model.preprocess.json")).unwrap();
    let first = stage.run(&["scan", "model.onnx", "data"]).refused(&[
        "no preprocessing is known",
        "--resize RULE",
        "--mean R,G,B",
    ]);
    let (_, example) = first.err.trim_end().trim_end_matches(')').rsplit_once("usually ").unwrap();
    let arguments: Vec<&str> = ["scan", "model.onnx", "data"].into_iter().chain(example.split(' ')).collect();
    stage.run(&arguments).fine();
}
