//! The examples run, on the zoo's models.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use pellucid::data::Picture;
use std::path::{Path, PathBuf};
use std::process::Command;

fn zoo(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models").join(model)
}

/// Cargo builds the examples beside the tests.
fn example(name: &str, arguments: &[&Path]) -> String {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    let ran = Command::new(program).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(ran.status.success(), "{out}{err}");
    out
}

#[test]
fn a_picture_from_memory_is_explained() {
    let out = example("explain_picture", &[&zoo("squeezenet1_1/squeezenet1_1.onnx"), Path::new("goldfish")]);
    assert_eq!(out.lines().count(), pellucid::attribution_methods().len(), "{out}");
    assert!(out.lines().all(|line| line.contains("(227, 227)")), "{out}");
}

#[test]
fn a_folder_is_debugged() {
    let stage = tempfile::tempdir().unwrap();
    for (class, level) in [("Objects", 40), ("Symbols", 160)] {
        std::fs::create_dir_all(stage.path().join("pictures").join(class)).unwrap();
        for i in 0..3u8 {
            let picture = Picture::from_fn(60, 60, |x, y| [level + i, (4 * x) as u8, (4 * y) as u8]);
            std::fs::write(stage.path().join(format!("pictures/{class}/{i}.png")), picture.to_png().unwrap()).unwrap();
        }
    }
    let runs = stage.path().join("runs");
    let model = zoo("efficientnet_lite0/emoji_watermark.onnx");
    let out = example("debug_folder", &[&model, &stage.path().join("pictures"), &runs]);
    assert!(out.contains("The model is right on") && out.contains(&runs.display().to_string()), "{out}");
    assert!(Path::new(out.lines().last().unwrap()).join("report.html").is_file());
}

#[test]
fn a_gradient_is_taken() {
    let out = example("gradient", &[&zoo("efficientnet_lite0/efficientnet_lite0.onnx"), Path::new("")]);
    assert!(out.contains("[1, 3, 224, 224]"), "{out}");
}
