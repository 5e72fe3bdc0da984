//! `pellucid visualize`: pictures that do what they should, the same bytes for the same seed, and clear words for the rest.

use crate::stage::{Ran, Stage, repository, without_places};
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Value};
use pellucid::internals::vision::picture::Picture;
use std::path::Path;

const RED: &str = "0";
const DEAD: &str = "5";

/// A quick picture job of the colour classifier with further arguments.
fn picture(stage: &Stage, neuron: &str, more: &[&str]) -> Ran {
    let quick = ["visualize", "model.onnx", "--neuron", neuron, "--steps", "40", "--name", "p", "--force"];
    stage.run(&[&quick[..], more].concat())
}

fn guide() -> String {
    repository("zoo/guides/tiny_clip").display().to_string()
}

#[test]
fn a_neuron_that_looks_for_red_is_pictured_red() {
    let stage = Stage::with_mistakes();
    let ran = picture(&stage, RED, &["--class", "red", "--data", "data", "--learning-rate", "0.05", "--json"]).fine();
    assert!(ran.err.contains("there is no guide"), "{}", ran.err);
    let results = ran.json();
    let neuron = &results["neurons"][0];
    assert_eq!((neuron["pictures"].as_array().unwrap().len(), neuron["class_name"].as_str()), (2, Some("red")));
    let picture = image(&stage.at("runs/p/neuron-0-class-0-seed-0.png"));
    let mean = |c: usize| picture.iter().skip(c).step_by(3).map(|v| u64::from(*v)).sum::<u64>();
    assert!(
        mean(0) > mean(1) + mean(1) / 20 && mean(0) > mean(2) + mean(2) / 20,
        "{} {} {}",
        mean(0),
        mean(1),
        mean(2)
    );
    let data = &neuron["data"];
    assert!(data["max"].as_f64().unwrap() > 0.7 && data["top"][0]["class_name"] == "red", "{data}");
    assert!(stage.at("runs/p").join(data["top"][0]["crop"].as_str().unwrap()).is_file());
    let page = stage.result("report.html");
    assert!(page.contains("Neuron 0") && page.contains("data:image/png"), "the page shows the pictures");
}

fn image(path: &Path) -> Vec<u8> {
    Picture::open(path, &Default::default()).unwrap().into_data()
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_one_and_two_threads() {
    let stage = Stage::new();
    let bytes = |threads: &str, batch: &str| {
        picture(&stage, RED, &["--class", "red", "--threads", threads, "--batch", batch]).fine();
        std::fs::read(stage.at("runs/p/neuron-0-class-0-seed-1.png")).unwrap()
    };
    let first = bytes("1", "8");
    assert_eq!(first, bytes("1", "8"), "run twice");
    assert_eq!(first, bytes("2", "8"), "with two threads");
    assert_eq!(first, bytes("2", "1"), "in another batch");
}

#[test]
fn what_does_not_exist_is_refused_by_name() {
    let stage = Stage::new();
    picture(&stage, "6", &[]).refused(&["no neuron 6", "0 to 5"]);
    picture(&stage, RED, &["--class", "yellow"]).refused(&["no class 'yellow'", "red, green, blue"]);
    let layer = |layer: &str, channel: &str| {
        stage.run(&["visualize", "model.onnx", "--layer", layer, "--channel", channel, "--steps", "1"])
    };
    layer("f", "0").refused(&["'f' is no feature map", "N×C×H×W"]);
    layer("nothing", "0").refused(&["no value 'nothing'"]);
    layer("map", "9").refused(&["no channel 9 in 'map'", "0 to 5"]);
    layer("map", "1").fine();
}

#[test]
fn settings_that_make_no_picture_are_refused() {
    let stage = Stage::new();
    stage.run(&["visualize", "model.onnx", "--neuron", RED, "--steps", "0"]).refused(&["--steps"]);
    picture(&stage, RED, &["--side", "7"]).refused(&["side from 16 to 2048"]);
    picture(&stage, RED, &["--objective", "reference"]).refused(&["needs a guide"]);
    picture(&stage, RED, &["--learning-rate", "1e38"]).refused(&["diverged", "--learning-rate"]);
}

#[test]
fn a_neuron_that_never_responds_is_said_to_be_dead() {
    let stage = Stage::with_mistakes();
    let results = picture(&stage, DEAD, &["--data", "data", "--seeds", "1", "--no-augment", "--json"]).fine().json();
    let flags = results["neurons"][0]["pictures"][0]["flags"].to_string();
    assert!(flags.contains("dead") && flags.contains("no picture of the data set activates it"), "{flags}");
}

#[test]
fn a_clip_leads_and_labels_its_pictures() {
    let stage = Stage::new();
    stage.write("words.txt", "zebra\nballoon\n");
    let more = ["--class", "red", "--guide", &guide(), "--vocabulary", "words.txt", "--json"];
    let results = picture(&stage, RED, &more).fine().json();
    let picture = &results["neurons"][0]["pictures"][0];
    assert_eq!(results["settings"]["objective"], "guided");
    assert!(picture["similarity"].as_f64().unwrap().abs() <= 1.0, "{picture}");
    assert!(["zebra", "balloon"].contains(&picture["label"]["word"].as_str().unwrap()), "{picture}");
    let reference = [&more[..], &["--objective", "reference"]].concat();
    self::picture(&stage, RED, &reference).fine();
}

#[test]
fn guides_that_cannot_lead_are_refused() {
    let stage = Stage::new();
    std::fs::create_dir(stage.at("empty")).unwrap();
    picture(&stage, RED, &["--class", "red", "--guide", "empty"]).refused(&["empty is no guide", "vision_model.onnx"]);
    stage.write("nothing.txt", "\n# nothing\n");
    let more = ["--class", "red", "--guide", &guide(), "--vocabulary", "nothing.txt"];
    picture(&stage, RED, &more).refused(&["nothing.txt", "vocabulary is empty"]);
    stage.write("model.labels.txt", format!("red\ngreen\n{}\n", "very ".repeat(40)));
    picture(&stage, RED, &["--class", "red", "--guide", &guide()]).refused(&["tokens", "context holds 40"]);
}

#[test]
fn a_guide_whose_sides_do_not_fit_is_refused_with_both_sizes() {
    let stage = Stage::new();
    for entry in std::fs::read_dir(guide()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        stage.write(&format!("torn/{name}"), std::fs::read(entry.path()).unwrap());
    }
    let nodes = vec![
        Node::new("Cast", &["input_ids"], &["float"]).with_int("to", 1),
        Node::new("ReduceMean", &["float"], &["text_embeds"]).with_ints("axes", &[1]),
    ];
    let ids = Value::tensor("input_ids", ElementType::I64, &[None, None]);
    let graph = Graph::new(vec![ids], nodes, Vec::new(), &["text_embeds"]).unwrap();
    Model::new("text_model.onnx", graph, 17).write(stage.at("torn/text_model.onnx")).unwrap();
    picture(&stage, RED, &["--class", "red", "--guide", "torn"]).refused(&["24 numbers", "text embeddings 1"]);
}

#[test]
fn an_attribution_adds_up_finds_the_place_and_passes_its_checks() {
    let stage = Stage::new();
    // Red on the left, nothing on the right.
    let halves = Picture::from_fn(8, 8, |x, _| if x < 4 { [220, 20, 20] } else { [127; 3] });
    stage.write("halves.png", halves.to_png().unwrap());
    let found =
        stage.run(&["attribute", "model.onnx", "halves.png", "--neuron", RED, "--out", "maps", "--json"]).fine();
    let maps = found.json()["maps"].clone();
    for map in maps.as_array().unwrap() {
        if map["id"] == "integrated-gradients" {
            let figures = map["figures"].as_array().unwrap();
            let completeness = figures.iter().find(|figure| figure["id"] == "completeness").unwrap();
            assert!((completeness["value"].as_f64().unwrap() - 1.0).abs() < 1e-3, "{map}");
            assert!(map["deletion_confidence"].as_f64() < map["deletion_confidence_random"].as_f64(), "{map}");
            assert!(map["insertion_confidence"].as_f64() > map["insertion_confidence_random"].as_f64(), "{map}");
        }
        if map["id"] == "smooth-grad" {
            // The neuron is a mean: every pixel counts the same.
            assert!(map["flag"].as_str().unwrap().starts_with("constant"), "{map}");
        }
    }
    assert!(stage.at("maps/seen.png").is_file() && !stage.at("maps/smooth-grad.png").exists());
}

#[test]
fn methods_that_need_a_map_are_left_out_with_the_reason_where_there_is_none_and_refused_where_named() {
    let stage = Stage::with_mistakes();
    stage.model(&without_places());
    let attribute = |more: &[&str]| stage.run(&[&["attribute", "model.onnx", "data/red/0.png"][..], more].concat());
    let ran = attribute(&["--json"]).fine();
    let made = ran.json()["maps"].as_array().unwrap().iter().map(|map| map["id"].to_string()).collect::<Vec<_>>();
    assert_eq!(made, ["\"integrated-gradients\"", "\"smooth-grad\""]);
    assert!(ran.err.contains("grad-cam") && ran.err.contains("no feature map"), "{}", ran.err);
    attribute(&["--method", "grad-cam"]).refused(&["no feature map, which grad-cam needs"]);
}

#[test]
fn attributions_of_what_does_not_exist_are_refused() {
    let stage = Stage::with_mistakes();
    let attribute = |more: &[&str]| stage.run(&[&["attribute", "model.onnx", "data/red/0.png"][..], more].concat());
    attribute(&["--neuron", "6"]).refused(&["no neuron 6", "there are 6"]);
    attribute(&["--class", "yellow"]).refused(&["no class 'yellow'", "red, green, blue"]);
    attribute(&["--points", "0"]).refused(&["--points must be 1 or more"]);
    stage.run(&["attribute", "model.onnx", "data/red/none.png"]).refused(&["none.png"]);
}
