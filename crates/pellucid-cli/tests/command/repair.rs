//! `repair` and `patch` on a folder in the layout of Waterbirds: what they print, write and refuse.

use crate::stage::{Stage, colours_with};
use pellucid::internals::graph::Model;
use pellucid::internals::vision::picture::Picture;
use std::path::Path;

/// Classes by red or green; blue goes with red in training, and the model reads it for red.
fn birds() -> Stage {
    let stage = Stage::new();
    let weight = vec![1.5, -1.5, 3.0, 0.0, 0.0, 0.0, -1.5, 1.5, -3.0, 4.0, 0.0, 0.0];
    stage.model(&colours_with(None, &[("w", weight, 2)]));
    stage.write("model.labels.txt", "redbird\ngreenbird\n");
    let mut table = "img_id,img_filename,y,split,place,place_filename\n".to_owned();
    for (split, (count, bias)) in [(80, 9), (40, 5), (40, 5)].into_iter().enumerate() {
        for i in 0..count {
            let (class, round) = (i % 2, i / 2);
            let cue = if class == 0 { round % 10 < bias } else { round % 10 >= bias };
            let shade = |x: u32, y: u32| ((x * 7 + y * 13) as usize + 3 * i + 11 * split) as u8 % 40;
            let lit = |on: bool, x, y| if on { 170 + shade(x, y) } else { 20 + shade(y, x) };
            let picture = Picture::from_fn(8, 8, |x, y| [lit(class == 0, x, y), lit(class == 1, x, y), lit(cue, x, y)]);
            let file = format!("{:03}.Bird/{split}_{i:03}.png", class + 1);
            stage.write(&format!("birds/{file}"), picture.to_png().unwrap());
            table += &format!("{i},{file},{class},{split},{},/l/lake/{i:08}.jpg\n", u8::from(cue));
        }
    }
    stage.write("birds/metadata.csv", table);
    stage
}

/// The bytes of W and b in a model's file.
fn constants(path: &Path) -> [Vec<u8>; 2] {
    let model = Model::read(path).unwrap();
    ["w", "w_bias"]
        .map(|name| model.graph.initializers[name].to_f32().unwrap().into_iter().flat_map(f32::to_le_bytes).collect())
}

/// Asked for by name: of so few pictures none confirms a shortcut.
const ALONE: [&str; 5] = ["--alone", "--edit", "erase", "--name", "mended"];
const PATCH: &str = "runs/mended/patch.safetensors";
const EDITED: &str = "runs/mended/model.repaired.onnx";

#[test]
fn a_waterbirds_style_folder_is_repaired_and_what_is_printed_says_so() {
    let stage = birds();
    let told = stage.job("repair", "birds", &[&ALONE[..], &["--json"]].concat()).fine().json();
    let worst = &told["repair"]["comparison"]["worst_group"];
    let value = |when: &str| worst[when][1]["value"].as_f64().unwrap();
    assert!(value("after") > value("before") + 0.2, "{worst}");
    for file in ["model", "patch", "report"] {
        assert!(stage.at(told[file].as_str().unwrap()).is_file(), "{file}");
    }
    let plain = stage.job("repair", "birds", &ALONE).fine().out;
    assert!(plain.contains("class        redbird") && plain.contains("← shipped"), "{plain}");
    // What was written is opened as the original was, and is right as often as was said.
    let scanned = stage.run(&["scan", EDITED, "birds", "--split", "test", "--json"]).fine().json();
    let after = &told["repair"]["comparison"]["overall"]["after"];
    assert_eq!(scanned["summary"]["accuracy"]["count"], after["count"]);
}

#[test]
fn conditions_are_judged_on_the_edited_model() {
    let stage = birds();
    let judged = |condition| stage.job("repair", "birds", &[&ALONE[..], &["--fail-on", condition]].concat());
    assert_eq!(judged("worst-group<0.8").code, Some(0));
    let failed = judged("worst-group<1");
    let after = stage.job("repair", "birds", &[&ALONE[..], &["--json"]].concat()).fine().json();
    let worst = after["repair"]["comparison"]["worst_group"]["after"][1]["value"].as_f64().unwrap();
    assert_eq!(failed.code, Some(i32::from(worst < 1.0)), "{failed:?}");
    let none =
        stage.job("repair", "birds", &["--alone", "--edit", "none", "--name", "n", "--fail-on", "worst-group<0.8"]);
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(none.err.contains("failed: worst-group is") && none.err.contains("below 0.8"), "{}", none.err);
}

#[test]
fn a_repair_that_edits_nothing_says_so_and_fails_only_where_that_was_asked_for() {
    let stage = birds();
    let none = ["--alone", "--edit", "none", "--name", "n"];
    let told = stage.job("repair", "birds", &none).fine();
    assert!(!told.out.contains("← shipped") && !told.out.contains("patch   "), "{}", told.out);
    assert!(!stage.at("runs/n/patch.safetensors").exists());
    let failed = stage.job("repair", "birds", &[&none[..], &["--fail-on", "no-edit"]].concat());
    assert_eq!(failed.code, Some(1), "{failed:?}");
}

#[test]
fn a_patch_is_shown_applied_and_taken_back() {
    let stage = birds();
    stage.job("repair", "birds", &ALONE).fine();
    let shown = stage.run(&["patch", "show", PATCH]).fine().out;
    assert!(shown.contains("made for     model.onnx") && shown.contains("w_bias"), "{shown}");
    stage.run(&["patch", "revert", EDITED, PATCH, "--out", "back.onnx"]).fine();
    assert_eq!(constants(&stage.at("back.onnx")), constants(&stage.at("model.onnx")));
    stage.run(&["patch", "apply", "back.onnx", PATCH, "--out", "again.onnx"]).fine();
    assert_eq!(constants(&stage.at("again.onnx")), constants(&stage.at(EDITED)));
    stage.run(&["patch", "apply", EDITED, PATCH, "--out", "x.onnx"]).refused(&["does not belong", "already holds"]);
    stage.run(&["patch", "revert", "model.onnx", PATCH, "--out", "x.onnx"]).refused(&["does not belong"]);
    stage.run(&["patch", "show", "model.onnx"]).refused(&["model.onnx", "patch"]);
    assert!(!stage.at("x.onnx").exists());
}

#[test]
fn the_model_is_never_written_over_and_bad_lists_are_refused() {
    let stage = birds();
    let before = std::fs::read(stage.at("model.onnx")).unwrap();
    let repair = |more: &[&str]| stage.job("repair", "birds", more);
    repair(&["--out", "model.onnx"]).refused(&["written over", "--out"]);
    repair(&["--out", "nowhere/x.onnx"]).refused(&["cannot write nowhere/x.onnx"]);
    repair(&["--neurons", "6"]).refused(&["neuron 6", "0 to 5"]);
    repair(&["--neurons", "0", "1", "2", "3", "4", "5"]).refused(&["all 6 neurons"]);
    repair(&["--neurons"]).refused(&["--neurons"]);
    repair(&["--class", "swan"]).refused(&["swan", "redbird"]);
    repair(&["--edit", "magic"]).refused(&["magic", "erase"]);
    assert_eq!(std::fs::read(stage.at("model.onnx")).unwrap(), before);
}
