//! What the sources and the documentation refer to is there: sections of `docs/methods.md`, files, headings.

use crate::stage::repository;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Folders that hold what was built or fetched, or data.
const NOT_SOURCES: [&str; 7] = ["target", "node_modules", "runs", "book", "corpus", "artifacts", "found"];

/// Every text of the sources, by its path from the repository's root.
fn sources() -> BTreeMap<PathBuf, String> {
    let (root, mut found) = (repository(""), BTreeMap::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                let is_data = path.strip_prefix(&root).unwrap() == Path::new("zoo/data");
                if !is_data && !NOT_SOURCES.contains(&name.as_str()) && (!name.starts_with('.') || name == ".ci") {
                    folders.push(path);
                }
            } else if ["rs", "py", "ts", "tsx", "md", "toml"].contains(&ending.as_str()) || name == "Makefile" {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&root).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// The lines of a Markdown text outside of fenced blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let is_fence = line.trim_start().starts_with("```");
        if !fenced && !is_fence {
            lines.push((number, line));
        }
        fenced ^= is_fence;
    }
    lines
}

/// What can be linked to in a Markdown text: explicit ids, and headings as GitHub and mdBook name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let explicit = text.split("<a id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    let named = prose(text).into_iter().filter_map(|(_, line)| {
        let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
        let kept = title.trim().to_lowercase();
        Some(kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-"))
    });
    explicit.chain(named).collect()
}

/// The targets of a line's inline links: `[…](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// `path` without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// The sections of `docs/methods.md` that `line` names.
fn sections(line: &str) -> impl Iterator<Item = &str> {
    line.split("methods.md#").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn every_section_of_the_methods_that_a_source_names_is_there() {
    let sources = sources();
    let sections_there = anchors(&sources[Path::new("docs/methods.md")]);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    // The name that the page had while it lay elsewhere, spelled so that this line is not one of its mentions.
    let formerly = concat!("METH", "ODS ");
    for (path, text) in &sources {
        for (number, line) in (1..).zip(text.lines()) {
            for section in sections(line).filter(|_| !path.ends_with("references.rs")) {
                seen += 1;
                if !sections_there.contains(section) {
                    wrong.push(format!("{}:{number}: docs/methods.md has no '#{section}'", path.display()));
                }
            }
            if line.contains(formerly) {
                wrong.push(format!("{}:{number}: refer to docs/methods.md#…, not to '{formerly}'", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "the sources cite the methods, but only {seen} references were found");
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let sources = sources();
    let root = repository("");
    let mut wrong = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "md")) {
        for (number, line) in prose(text) {
            for target in targets(line).filter(|t| !t.contains("://") && !t.starts_with("mailto:") && !t.contains(' '))
            {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let at = if file.is_empty() { path.clone() } else { plain(&path.parent().unwrap().join(file)) };
                let is_there = root.join(&at).exists();
                let named = sources.get(&at).map(|text| anchors(text));
                let has_anchor = anchor.is_empty() || named.is_none_or(|named| named.contains(anchor));
                if !is_there || !has_anchor {
                    wrong.push(format!("{}:{number}: '{target}' leads nowhere", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_heading_is_linked_to_by_its_words() {
    let text = "# One, two\n```sh\n# three\n```\n<a id=\"x1\"></a>\n\n## `four-five` & 6\n";
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["four-five--6", "one-two", "x1"]);
    assert_eq!(sections("see docs/methods.md#b8, and methods.md#a2)").collect::<Vec<_>>(), ["b8", "a2"]);
}
