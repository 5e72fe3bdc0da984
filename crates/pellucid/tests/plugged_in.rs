//! An explainer is one file and one row: with those it is in the JSON, the arrays, the pictures, the table of faithfulness and the
//! page; and where one fails, the others go on.

#![allow(clippy::unwrap_used)]

#[path = "plugged_in/brightness.rs"]
mod brightness;

use brightness::Brightness;
use pellucid::Silent;
use pellucid::diffusion::{
    ExplainSettings, Explained, ExplainerRow, FaithfulnessSettings, Pipeline, PipelineOptions, RunPlace, Timesteps,
    TrajectorySettings, choose_explainers, explain, explainers, write_explanation,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn pipeline() -> Pipeline {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let options = PipelineOptions { library: Some(root.join(".runtime")), ..PipelineOptions::default() };
    Pipeline::open(root.join("zoo/models/tiny_diffusion"), &options).unwrap()
}

/// Three steps explained by the explainers called `names`, of the list with one more row.
fn explained(
    pipeline: &mut Pipeline,
    names: &[&str],
    settings: &[(&str, Value)],
) -> Result<Explained, pellucid::Error> {
    let mut rows = explainers();
    rows.push(ExplainerRow::of::<Brightness>());
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let settings: BTreeMap<String, Value> = settings.iter().map(|(id, s)| ((*id).to_owned(), s.clone())).collect();
    let trajectory = TrajectorySettings {
        timesteps: Timesteps::Uniform { steps: 3, spacing: None },
        guidance: 3.0,
        ..TrajectorySettings::default()
    };
    let settings = ExplainSettings::default()
        .with_trajectory(trajectory)
        .with_these_explainers(choose_explainers(&rows, Some(&names), &settings).unwrap())
        .with_faithfulness(Some(FaithfulnessSettings::at(2)));
    explain(pipeline, "a cat", &settings, &Silent)
}

/// The page's text and the explanation's JSON.
fn written(pipeline: &mut Pipeline, explained: &Explained, runs: &Path) -> (String, Value) {
    let done = write_explanation(pipeline, explained, &RunPlace::in_folder(runs), "pellucid").unwrap();
    let text = |name: &str| std::fs::read_to_string(done.directory.join(name)).unwrap();
    (text("report.html"), serde_json::from_str(&text("explanation.json")).unwrap())
}

#[test]
fn a_new_explainer_is_in_every_result_by_its_file_and_its_row_alone() {
    let (runs, mut pipeline) = (tempfile::tempdir().unwrap(), pipeline());
    let explained = explained(&mut pipeline, &["brightness"], &[]).unwrap();
    let map = explained.map("brightness", 1).unwrap();
    assert_eq!(explained.findings("brightness").unwrap().steps.len(), 3);

    let (page, json) = written(&mut pipeline, &explained, runs.path());
    let ids: Vec<&Value> = json["explainers"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    assert_eq!(ids, ["recovery", "bands", "brightness"]);
    assert_eq!(json["brightness"], json!({ "fails": false }), "its settings");
    assert!(json["steps"][1]["brightness"].as_f64().unwrap() > 0.0, "its figure");
    let maps: Vec<&str> = json["standings"].as_array().unwrap().iter().filter_map(|s| s["map"].as_str()).collect();
    assert_eq!(maps[0], "brightness", "its standing");
    for expected in ["data-tile=\"brightness\"", "How bright each place", "on average", "of x̂0"] {
        assert!(page.contains(expected), "{expected} is not in the page");
    }
    assert!(!page.contains("data-tile=\"rise\""), "what was not asked for is not there");

    let folder =
        std::fs::read_dir(runs.path()).unwrap().flatten().find(|e| e.path().join("maps.npz").exists()).unwrap();
    let arrays = pellucid::read_arrays(folder.path().join("maps.npz")).unwrap();
    let array = arrays["brightness"].as_f32().unwrap();
    assert_eq!(array.index_axis(ndarray::Axis(0), 1), map.values.view().into_dyn());
    assert!(folder.path().join("pictures/step-002-brightness.png").exists());
}

#[test]
fn where_one_explainer_fails_its_panel_says_why_and_the_others_go_on() {
    let (runs, mut pipeline) = (tempfile::tempdir().unwrap(), pipeline());
    let failing = [("brightness", json!({ "fails": true }))];
    let explained = explained(&mut pipeline, &["attention", "brightness"], &failing).unwrap();
    assert!(explained.findings("brightness").is_none() && explained.findings("attention").is_some());
    let (page, json) = written(&mut pipeline, &explained, runs.path());
    let outcome = |id: &str| {
        let all = json["explainers"].as_array().unwrap();
        all.iter().find(|e| e["id"] == id).unwrap()["outcome"].clone()
    };
    assert_eq!(outcome("attention"), json!({ "kind": "found" }));
    let why = "unet.onnx: it is too dark";
    assert_eq!(outcome("brightness"), json!({ "kind": "failed", "reason": why }));
    assert!(json["notes"][0].as_str().unwrap().contains(why));
    assert!(page.contains(&format!("No brightness maps: {why}")) && page.contains("data-tile=\"brightness\""));
}

#[test]
fn where_every_explainer_fails_so_does_the_job() {
    let failing = [("brightness", json!({ "fails": true }))];
    let error = explained(&mut pipeline(), &["brightness"], &failing).unwrap_err();
    assert_eq!(error.to_string(), "unet.onnx: it is too dark");
}
