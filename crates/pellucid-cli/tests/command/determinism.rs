//! Equal inputs give equal bytes: every command that writes a run, with other numbers of threads, in another folder, at another
//! time. What may differ is `run.json`, its block in a page and its line in the manifest, and nothing else.

use crate::stage::{Stage, repository};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// Every file below the run folder `path` by its name, without `run.json` and its two traces.
pub fn results(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        for path_of in std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.path()) {
            if path_of.is_dir() {
                open.push(path_of);
                continue;
            }
            let name = path_of.strip_prefix(path).unwrap().to_string_lossy().replace('\\', "/");
            let bytes = std::fs::read(&path_of).unwrap();
            match name.as_str() {
                "run.json" => continue,
                "manifest.json" => files.insert(name, without_line(&bytes)),
                page if page.ends_with(".html") => files.insert(name, without_block(&bytes)),
                _ => files.insert(name, bytes),
            };
        }
    }
    files
}

fn without_line(manifest: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(manifest.to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("\"run.json\":")).collect();
    assert_eq!(lines.len() + 1, text.lines().count(), "one line names run.json");
    lines.join("\n").into_bytes()
}

fn without_block(page: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(page.to_vec()).unwrap();
    let (before, rest) = text.split_once("<section id=\"run-json\"").expect("a page shows its run");
    let (_, after) = rest.split_once("</section>").unwrap();
    assert!(!after.contains("id=\"run-json\""), "in one block");
    (before.to_owned() + after).into_bytes()
}

/// Expects the same files with the same bytes.
pub fn assert_equal(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>, what: &str) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(one), names(other), "{what}");
    for (name, bytes) in one {
        assert!(*bytes == other[name], "{what}: {name} differs\n{}", first_difference(bytes, &other[name]));
    }
}

fn first_difference(one: &[u8], other: &[u8]) -> String {
    let at = one.iter().zip(other).position(|(a, b)| a != b).unwrap_or(one.len().min(other.len()));
    let near =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())]).into_owned();
    format!("at byte {at}: {:?} and {:?}", near(one), near(other))
}

/// Runs `command` on two stages made alike, in folders of other names and with another number of threads, and compares.
fn compare(make: impl Fn() -> Stage, command: &[&str]) {
    let (one, two) = (make(), make());
    let run = |stage: &Stage, runs: &str, threads: &str| {
        stage.run(&[command, &["--name", "r", "--runs", runs, "--threads", threads, "--quiet"]].concat()).fine();
        let folder = stage.at(runs).join("r");
        check_hashes(&folder);
        results(&folder)
    };
    let first = run(&one, "runs", "1");
    assert_equal(&first, &run(&two, "elsewhere/runs", "2"), &format!("{command:?}, 2 threads in another folder"));
    assert_equal(&first, &run(&one, "runs", "3"), &format!("{command:?}, again with 3 threads, from the cache"));
}

/// The manifest names every file, with its hash; a page's stands in `run.json`.
fn check_hashes(folder: &Path) {
    let json = |name: &str| serde_json::from_slice::<Json>(&std::fs::read(folder.join(name)).unwrap()).unwrap();
    let hash = |name: &str| blake3::hash(&std::fs::read(folder.join(name)).unwrap()).to_hex().to_string();
    let (manifest, record) = (json("manifest.json"), json("run.json"));
    let listed = manifest["files"].as_object().unwrap();
    let mut there: Vec<String> = results(folder).into_keys().filter(|name| name != "manifest.json").collect();
    there.push("run.json".to_owned());
    there.sort();
    assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), there, "{}", folder.display());
    for (name, found) in listed {
        let found = if found == "run.json" { &record["pages"][name] } else { found };
        assert_eq!(found.as_str(), Some(hash(name).as_str()), "{name}");
    }
    assert!(record["command"].as_str().unwrap().starts_with("pellucid ") && record["threads"].as_u64() > Some(0));
    assert!(record["date"].as_str().unwrap().ends_with('Z') && record["machine"]["processors"].as_u64() > Some(0));
}

fn with_pictures_to_repair() -> Stage {
    let stage = Stage::with_mistakes();
    stage.many();
    stage
}

#[test]
fn a_scan_is_equal_to_the_byte() {
    compare(Stage::with_mistakes, &["scan", "model.onnx", "data"]);
}

#[test]
fn a_diagnosis_with_pictures_of_neurons_is_equal_to_the_byte() {
    compare(Stage::with_mistakes, &["debug", "model.onnx", "data", "--all-mistakes", "--pictures", "1"]);
}

#[test]
fn a_repair_is_equal_to_the_byte() {
    compare(with_pictures_to_repair, &["repair", "model.onnx", "many"]);
}

#[test]
fn pictures_of_neurons_are_equal_to_the_byte() {
    let command = ["visualize", "model.onnx", "--neuron", "0", "--class", "red", "--steps", "20", "--data", "data"];
    compare(Stage::with_mistakes, &command);
}

#[test]
fn pictures_with_a_guide_and_a_start_do_not_depend_on_where_those_lie() {
    let copy = || {
        let stage = Stage::with_mistakes();
        for entry in std::fs::read_dir(repository("zoo/guides/tiny_clip")).unwrap().flatten() {
            if entry.path().is_file() {
                stage.write(&format!("guide/{}", entry.file_name().display()), std::fs::read(entry.path()).unwrap());
            }
        }
        stage
    };
    let (one, two) = (copy(), copy());
    let run = |stage: &Stage| {
        let at = |name: &str| stage.at(name).display().to_string();
        let (guide, start) = (at("guide"), at("data/red/0.png"));
        let picture = ["visualize", "model.onnx", "--neuron", "0", "--class", "red", "--steps", "5", "--name", "r"];
        stage.run(&[&picture[..], &["--guide", &guide, "--start", &start]].concat()).fine();
        results(&stage.at("runs/r"))
    };
    assert_equal(&run(&one), &run(&two), "picture with absolute paths");
}

#[test]
fn an_explanation_is_equal_to_the_byte() {
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    for job in ["explain", "auc"] {
        compare(Stage::new, &["diffusion", job, &pipeline, "a cat", "--steps", "3", "--masks", "40"]);
    }
}

#[test]
fn an_explanation_that_starts_from_a_picture_does_not_depend_on_where_it_lies() {
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let run = || {
        let stage = Stage::with_mistakes();
        let picture = stage.at("data/red/0.png").display().to_string();
        let words =
            ["diffusion", "attention", &pipeline, "a cat", "--steps", "2", "--name", "r", "--picture", &picture];
        let ran = stage.run(&words);
        // Not every pipeline has an encoder.
        (ran.code == Some(0)).then(|| results(&stage.at("runs/r")))
    };
    let (one, two) = (run(), run());
    let one = one.expect("the tiny pipeline encodes pictures");
    assert_equal(&one, &two.unwrap(), "explanation of a picture");
    assert!(!String::from_utf8_lossy(&one["explanation.json"]).contains("data/red"));
}

#[test]
fn a_study_over_prompts_is_equal_to_the_byte() {
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let run = |runs: &str, threads: &str| {
        let stage = Stage::new();
        let prompts = ["a cat", "a dog on blue"];
        let words = ["--steps", "2", "--masks", "10", "--runs", runs, "--threads", threads, "--json"];
        let ran = stage.run(&[&["diffusion", "auc", &pipeline], &prompts[..], &words].concat()).fine().json();
        let folder = stage.at(ran["study"]["directory"].as_str().unwrap());
        check_hashes(&folder);
        results(&folder)
    };
    assert_equal(&run("runs", "1"), &run("other", "2"), "study");
}

#[test]
fn gradients_and_samples_are_equal_to_the_byte() {
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let run = |threads: &str| {
        let stage = Stage::new();
        let x = pellucid::internals::runtime::Array::F32(ndarray::ArrayD::from_shape_fn(vec![4, 3, 8, 8], |i| {
            (i[1] * 7 + i[2] * i[3]) as f32 / 50.0
        }));
        pellucid::write_arrays(stage.at("x.npz"), &[("x".to_owned(), x)].into()).unwrap();
        stage.run(&["gradient", "model.onnx", "--input", "x.npz", "--out", "g.npz", "--threads", threads]).fine();
        let sample = ["diffusion", "sample", &pipeline, "a cat", "--steps", "3", "--out", "s", "--threads", threads];
        stage.run(&sample).fine();
        ["g.npz", "s/a-cat-seed0.png"].map(|file| std::fs::read(stage.at(file)).unwrap())
    };
    assert!(run("1") == run("2"));
}
