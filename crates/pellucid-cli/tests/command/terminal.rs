//! What a terminal gets: names of classes, files and nodes come from strangers, and nothing in them acts on it.

use crate::stage::{BLUE, GREEN, RED, Ran, Stage, colours_with};
use serde_json::Value as Json;

/// Class names that change colours, reorder the line and begin a new one.
const CLASSES: [&str; 3] = ["\u{1b}[31mc1", "green\u{202e}neerg", "blue\u{2066}\u{9b}2J"];

/// Fails where `ran` printed anything that a terminal acts on.
fn harmless(ran: &Ran) {
    for text in [&ran.out, &ran.err] {
        let acts = |c: &char| {
            (c.is_control() && *c != '\n')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
        };
        assert_eq!(text.chars().find(acts), None, "{ran:#?}");
    }
}

/// Runs the command with and without `--json`; gives the text and the JSON.
fn both(stage: &Stage, arguments: &[&str]) -> (Ran, Json) {
    let text = stage.run(arguments).fine();
    harmless(&text);
    let json = stage.run(&[arguments, &["--json"]].concat()).fine();
    harmless(&json);
    let value = json.json();
    (text, value)
}

/// A stage whose folders, files, class names and head are named to do harm.
fn stage() -> Stage {
    let stage = Stage::new();
    let identity = (0..18).map(|i| if i / 6 == i % 6 { 4.0 } else { 0.1 }).collect();
    stage.model(&colours_with(None, &[("\u{1b}]0;owned\u{7}w", identity, 3)]));
    stage.write("names.json", serde_json::to_vec(&CLASSES).unwrap());
    for (class, colour) in CLASSES.into_iter().zip([RED, GREEN, BLUE]) {
        for i in 0..6 {
            let wrong = class == CLASSES[0] && i >= 4;
            stage.picture(&format!("data/{class}/\u{1b}[5mx{i}.png"), if wrong { BLUE } else { colour }, i);
        }
    }
    stage.write(&format!("data/{}/\u{1b}[5mbroken\n.png", CLASSES[1]), b"no picture");
    stage
}

#[test]
fn names_of_classes_and_files_do_not_act_on_the_terminal() {
    let stage = stage();
    let classes = ["--classes", "names.json"];
    for job in ["scan", "debug"] {
        let (text, _) = both(&stage, &[&[job, "model.onnx", "data"], &classes[..]].concat());
        assert!(text.err.contains(r"\u{1b}[5mbroken\u{a}.png"), "{text:#?}");
        assert!(text.out.contains(r"\u{1b}[31mc1"), "{text:#?}");
    }
    let picture = format!("data/{}/\u{1b}[5mx0.png", CLASSES[0]);
    let (text, why) = both(&stage, &[&["why", "model.onnx", &picture], &classes[..]].concat());
    assert!(text.out.contains(r"\u{1b}[31mc1"), "{text:#?}");
    assert_eq!(why["classes"][0][1], CLASSES[0], "the value in JSON is the name itself");
}

#[test]
fn names_in_a_model_do_not_act_on_the_terminal() {
    let stage = stage();
    let (text, inspected) = both(&stage, &["inspect", "model.onnx"]);
    assert!(text.out.contains(r"logits_\u{1b}]0;owned\u{7}w"), "{text:#?}");
    assert_eq!(inspected["outputs"][0]["name"], "logits_\u{1b}]0;owned\u{7}w");
}

#[test]
fn labels_of_a_table_do_not_begin_a_line_of_their_own() {
    let stage = Stage::new();
    stage.picture("r.png", RED, 0);
    stage.picture("g.png", GREEN, 1);
    stage.write(
        "data.csv",
        "file_name,label,group\nr.png,red,\"one\naccuracy     100.0 %\"\ng.png,green,\"\x1b[2Jtwo\"\n",
    );
    let (text, _) = both(&stage, &["scan", "model.onnx", "data.csv"]);
    let forged = text.out.lines().any(|line| line.starts_with("accuracy     100.0 % ") && line.ends_with('%'));
    assert!(!forged && text.out.lines().filter(|line| line.starts_with("accuracy")).count() == 1, "{text:#?}");
}

#[test]
fn an_error_is_one_line_whatever_the_file_is_called() {
    let stage = Stage::new();
    let ran = stage.run(&["why", "model.onnx", "\u{1b}[31mnot\nthere\u{202e}.png"]);
    harmless(&ran);
    let ran = ran.refused(&[r"\u{1b}[31mnot\u{a}there\u{202e}.png"]);
    assert_eq!(ran.err.lines().count(), 1, "{ran:#?}");
}
