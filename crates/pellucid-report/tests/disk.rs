//! Writing a report: all of it or nothing.

#![allow(clippy::unwrap_used)]

use pellucid_report::{ReportError, write_atomically};
use std::fs;

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("lists");
    entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_report_replaces_the_old_one_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.html");
    write_atomically(&path, "old").expect("writes");
    write_atomically(&path, "new").expect("writes");
    assert_eq!(fs::read_to_string(&path).expect("reads"), "new");
    assert_eq!(names(folder.path()), ["report.html"]);
}

#[test]
fn a_failure_names_the_file_and_leaves_no_part_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing").join("report.html");
    let error = write_atomically(&missing, "new").expect_err("no such folder");
    assert!(matches!(&error, ReportError::Write { path, .. } if *path == missing));
    assert!(error.to_string().contains("report.html"), "{error}");

    // A folder where the file should be: the rename fails after the write went well.
    let taken = folder.path().join("taken.html");
    fs::create_dir(&taken).expect("a folder");
    fs::write(taken.join("inside"), "kept").expect("writes");
    write_atomically(&taken, "new").expect_err("a folder is in the way");
    assert_eq!(fs::read_to_string(taken.join("inside")).expect("reads"), "kept");
    assert_eq!(names(folder.path()), ["taken.html"]);
}
