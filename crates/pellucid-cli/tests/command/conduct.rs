//! How the command conducts itself: exit codes, JSON, progress, pipes, run directories, and equal results for equal input.

use crate::stage::{BLUE, RED, Ran, Stage, repository};
use serde_json::Value as Json;
use std::process::{Command, Stdio};

/// A stage with a folder that `demo` takes for the zoo.
fn with_zoo() -> Stage {
    let stage = Stage::with_mistakes();
    for ending in ["onnx", "preprocess.json", "labels.txt"] {
        let content = std::fs::read(stage.at(&format!("model.{ending}"))).unwrap();
        stage.write(&format!("zoo/models/efficientnet_lite0/emoji_watermark.{ending}"), content);
    }
    let mut table = "img_filename,y,split,place\n".to_owned();
    for (i, colour) in [RED, BLUE, RED, BLUE].into_iter().enumerate() {
        stage.picture(&format!("zoo/data/emoji-watermark/{i}.png"), colour, i);
        table += &format!("{i}.png,{},{},{}\n", if i == 1 { 0 } else { i % 2 * 2 }, if i == 3 { 0 } else { 2 }, i % 2);
    }
    stage.write("zoo/data/emoji-watermark/metadata.csv", table);
    stage
}

/// What is printed of a diagnosis without what differs from run to run.
fn essence(mut diagnosis: Json) -> Json {
    for key in ["directory", "report", "record"] {
        diagnosis.as_object_mut().unwrap().remove(key);
    }
    diagnosis
}

#[test]
fn every_command_prints_json_on_stdout_and_nothing_else() {
    let stage = with_zoo();
    let picture = "data/red/0.png";
    let x = pellucid::internals::runtime::Array::F32(ndarray::ArrayD::from_elem(vec![1, 3, 8, 8], 0.25));
    pellucid::write_arrays(stage.at("x.npz"), &[("x".to_owned(), x.clone())].into()).unwrap();
    stage.run(&["gradient", "model.onnx", "--input", "x.npz", "--out", "g.npz"]).fine();
    let logits = pellucid::read_arrays(stage.at("g.npz")).unwrap().remove("logits_w").unwrap();
    pellucid::write_arrays(stage.at("ours.npz"), &[("x".to_owned(), x), ("logits_w".to_owned(), logits)].into())
        .unwrap();
    stage.many();
    let patch = "runs/mended/patch.safetensors";
    let pipeline = repository("zoo/models/tiny_diffusion");
    let pipeline = pipeline.to_str().unwrap();
    let commands = [
        &["inspect", "model.onnx"][..],
        &["scan", "model.onnx", "data"],
        &["debug", "model.onnx", "data"],
        &["repair", "model.onnx", "many", "--name", "mended", "--edit", "refit"],
        &["patch", "show", patch],
        &["patch", "apply", "model.onnx", patch, "--out", "again.onnx"],
        &["diffusion", "sample", pipeline, "a cat", "--steps", "2"],
        &["why", "model.onnx", picture],
        &["why", "model.onnx", picture, "--out", "maps"],
        &["demo"],
        &["visualize", "model.onnx", "--neuron", "0", "--steps", "2"],
        &["attribute", "model.onnx", picture],
        &["gradient", "model.onnx", "--input", "x.npz", "--out", "g.npz"],
        &["compare", "model.onnx", "ours.npz"],
        &["completions", "bash"],
        &["man"],
    ];
    let listed = stage.run(&["--help"]).fine().out;
    let listed = listed.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names = listed.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    for name in names.filter_map(|l| l.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(commands.iter().any(|c| c[0] == name), "'{name}' is tried here");
    }
    for arguments in commands {
        let ran = stage.run(&[arguments, &["--json"]].concat()).fine();
        assert!(ran.json().is_object() || ran.json().is_array(), "{arguments:?}");
        let plain = stage.run(arguments).fine();
        assert!(!plain.out.is_empty() && plain.out.ends_with('\n'), "{arguments:?}: {:?}", plain.out);
        assert!(serde_json::from_str::<Json>(&plain.out).is_err(), "{arguments:?} prints text without --json");
    }
}

#[test]
fn json_says_where_the_report_is() {
    let stage = Stage::with_mistakes();
    let ran = stage.job("debug", "data", &["--json"]).fine();
    let report = stage.at(ran.json()["report"].as_str().unwrap());
    assert!(std::fs::read_to_string(report).unwrap().starts_with("<!"));
    assert!(stage.job("debug", "data", &[]).fine().out.contains("report.html"));
}

#[test]
fn steps_are_said_where_that_is_asked_for_and_beside_the_result() {
    let stage = Stage::with_mistakes();
    let ran = |more: &[&str]| stage.job("debug", "data", more).fine();
    let silent = ran(&["--json"]);
    assert!(!silent.err.contains("a graph is compiled"), "{}", silent.err);
    let said = ran(&["--json", "-v", "--force"]);
    for step in ["ONNX Runtime is loaded", "a graph is compiled", "the data set is scanned", "examine mistakes"] {
        assert!(said.err.contains(step), "{step}: {}", said.err);
    }
    assert_eq!(said.json()["verdict"], silent.json()["verdict"], "the result is what it was");
    stage.job("debug", "data", &["-v", "--quiet"]).refused(&["--verbose", "--quiet"]);
}

#[test]
fn conditions_that_hold_exit_with_one_and_errors_with_two() {
    let stage = Stage::with_mistakes();
    let code = |more: &[&str]| stage.job("debug", "data", more);
    assert_eq!(code(&[]).code, Some(0));
    // Right on 16 of 18; the worst class, red, on 4 of 6.
    assert_eq!(code(&["--fail-on", "accuracy<0.88"]).code, Some(0));
    assert_eq!(code(&["--fail-on", "worst-class<0.6", "--fail-on", "accuracy<0.5"]).code, Some(0));
    let failed = code(&["--fail-on", "accuracy<0.5", "--fail-on", "worst-class<0.7"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("failed: worst-class is 0.6667, below 0.7"), "{}", failed.err);
    assert!(failed.out.contains("report.html"), "the report is written all the same");
    // A figure that does not exist cannot pass.
    let none = code(&["--fail-on", "worst-group<0.5"]);
    assert_eq!(none.code, Some(2));
    assert!(none.err.contains("worst-group<0.5") && none.err.contains("no groups"), "{}", none.err);
    for nonsense in ["accuracy", "accuracy<2", "accuracy>0.5", "speed<1", "accuracy<NaN"] {
        code(&["--fail-on", nonsense]).refused(&["--fail-on"]);
    }
}

#[test]
fn arguments_that_make_no_sense_exit_with_two() {
    let stage = Stage::with_mistakes();
    stage.run(&["fly"]).refused(&["unrecognized subcommand", "fly"]);
    stage.run(&["debug"]).refused(&["MODEL", "DATA"]);
    stage.job("debug", "data", &["--variant", "none"]).refused(&["bounded", "reference", "sparse"]);
    stage.job("debug", "data", &["--memory", "much"]).refused(&["--memory"]);
    stage.job("debug", "data", &["--size", "0"]).refused(&["--size"]);
    stage.job("debug", "data", &["--std", "0"]).refused(&["std"]);
    stage.job("debug", "data", &["--device", "toaster"]).refused(&["toaster"]);
    stage.job("debug", "data", &["--name", "../elsewhere"]).refused(&["--name", "plain folder name"]);
    stage.job("debug", "data", &["--runs", "model.onnx"]).refused(&["model.onnx"]);
    let versions = stage.run(&["--version"]).fine().out;
    assert!(versions.starts_with("pellucid 0.") && versions.contains("\nONNX Runtime 1."), "{versions}");
    let help = stage.run(&["--help"]).fine().out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("Exit codes: 0 fine, 1 findings asked for by --fail-on, 2 error"), "{help}");
}

#[test]
fn a_device_that_is_not_there_is_refused_with_what_to_do() {
    let stage = Stage::with_mistakes();
    let device = if cfg!(target_os = "macos") { "directml" } else { "coreml" };
    stage.job("debug", "data", &["--device", device]).refused(&[device, "--device cpu"]);
}

#[test]
fn an_argument_that_is_not_text_is_no_panic() {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let stage = Stage::with_mistakes();
        let mut command = stage.command(&["debug", "model.onnx"]);
        Ran::of(command.arg(std::ffi::OsStr::from_bytes(b"caf\xe9")).output().unwrap()).refused(&["caf"]);
        let mut command = stage.command(&["debug", "model.onnx", "data", "--runs"]);
        Ran::of(command.arg(std::ffi::OsStr::from_bytes(b"r\xe9sultats")).output().unwrap()).fine();
    }
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let stage = Stage::with_mistakes();
    let quiet = stage.job("scan", "data", &["--runs", "one"]).fine();
    assert_eq!(quiet.err, "", "stderr is a pipe, and there is nothing to warn of");
    // The terminal is one that Python makes.
    let on_terminal = |runs: &str, more: &[&str]| {
        let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
        let inner = stage.command(&[&["scan", "model.onnx", "data", "--runs", runs], more].concat());
        let mut outer = Command::new("python3");
        outer
            .args(["-c", spawn, "sh", "-c", "stty cols 100 rows 40; exec \"$0\" \"$@\""])
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(stage.path());
        outer.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?)))).env("TERM", "xterm").stdin(Stdio::null());
        Ran::of(outer.output().unwrap()).fine().out
    };
    assert!(on_terminal("two", &[]).contains("/18"), "the number of pictures stands in the bar");
    assert!(!on_terminal("three", &["--quiet"]).contains("/18"));
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_output_is_one() {
    let stage = Stage::with_mistakes();
    stage.write("data/red/0.png", "broken, so that there is a warning");
    for arguments in [&["man"][..], &["inspect", "model.onnx", "--json"], &["debug", "model.onnx", "data"]] {
        let mut child = stage.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        for arguments in [&["man"][..], &["completions", "zsh"], &["inspect", "model.onnx"]] {
            let output = stage.command(arguments).stdout(full.try_clone().unwrap()).output().unwrap();
            Ran::of(output).refused(&["cannot write to standard output", "No space left"]);
        }
    }
}

#[test]
fn equal_input_gives_equal_findings_whatever_the_number_of_threads_or_the_memory() {
    let stage = Stage::with_mistakes();
    let findings = |runs: &str, more: &[&str]| {
        let asked = ["--json", "--runs", runs, "--all-mistakes", "--class", "red"];
        essence(stage.job("debug", "data", &[&asked, more].concat()).fine().json())
    };
    let one = findings("one", &["--threads", "1"]);
    assert_eq!(findings("two", &["--threads", "2"]), one);
    assert_eq!(findings("five", &["--threads", "5", "--memory", "4K"]), one, "batches of one");
    assert_eq!(findings("one", &["--threads", "1"]), one, "the same command again");
    assert_ne!(findings("seed", &["--seed", "7"])["run"]["seed"], one["run"]["seed"]);
}

#[test]
fn a_named_run_is_replaced_only_by_the_same_input_or_by_force() {
    let stage = Stage::with_mistakes();
    let named = |more: &[&str]| stage.job("debug", "data", &[&["--name", "mine"], more].concat());
    named(&[]).fine();
    named(&[]).fine();
    let manifest = std::fs::read(stage.at("runs/mine/manifest.json")).unwrap();
    named(&["--seed", "1"]).refused(&["runs/mine", "another seed", "--force"]);
    named(&["--variant", "sparse"]).refused(&["other settings"]);
    stage.job("scan", "data", &["--name", "mine"]).refused(&["another job"]);
    assert_eq!(std::fs::read(stage.at("runs/mine/manifest.json")).unwrap(), manifest, "a refusal touches nothing");
    named(&["--seed", "1", "--force"]).fine();
}

#[test]
fn a_changed_picture_changes_the_report_and_the_others_come_from_the_cache() {
    let stage = Stage::with_mistakes();
    let counts = || {
        let ran = stage.job("scan", "data", &["--json"]).fine().json();
        (ran["computed"].as_u64().unwrap(), ran["reused"].as_u64().unwrap())
    };
    let page = || {
        let ran = stage.job("debug", "data", &["--json"]).fine().json();
        (std::fs::read_to_string(stage.at(ran["report"].as_str().unwrap())).unwrap(), essence(ran))
    };
    assert_eq!(counts(), (18, 0));
    assert_eq!(counts(), (0, 18));
    let (before, found) = page();
    assert!(before.contains("66.7"), "red is right on 4 of 6");
    let original = std::fs::read(stage.at("data/red/4.png")).unwrap();
    stage.picture("data/red/4.png", RED, 4);
    let (after, changed) = page();
    assert!(after.contains("83.3") && after != before, "red is right on 5 of 6");
    assert_ne!(changed["run"]["data_hash"], found["run"]["data_hash"]);
    assert_eq!(counts(), (0, 18), "debug has computed the changed picture");
    stage.picture("data/red/5.png", RED, 5);
    assert_eq!(counts(), (1, 17));
    std::fs::rename(stage.at("data/red/0.png"), stage.at("data/red/renamed.png")).unwrap();
    assert_eq!(counts(), (0, 18), "a new name is no new picture");
    std::fs::rename(stage.at("data/red/renamed.png"), stage.at("data/red/0.png")).unwrap();
    stage.write("data/red/4.png", original);
    stage.picture("data/red/5.png", BLUE, 5 + 6);
    assert_eq!(page().1, found, "as it was, so the findings are");
}

#[test]
fn a_changed_model_or_preprocessing_shares_nothing() {
    let stage = Stage::with_mistakes();
    let computed = |more: &[&str]| {
        stage.job("scan", "data", &[&["--json"], more].concat()).fine().json()["computed"].as_u64().unwrap()
    };
    assert_eq!(computed(&[]), 18);
    assert_eq!(computed(&["--mean", "0.1"]), 18);
    assert_eq!(computed(&[]), 0);
    let mut model = crate::stage::colours(None);
    model.graph.initializers.insert("kb".into(), pellucid::internals::graph::Tensor::f32("kb", &[6], &[0.1; 6]));
    stage.model(&model);
    assert_eq!(computed(&[]), 18);
}

#[test]
fn a_picture_is_explained_with_its_heat_maps() {
    let stage = Stage::with_mistakes();
    let ran = stage.run(&["why", "model.onnx", "data/red/5.png", "--json", "--out", "maps"]).fine();
    let why = ran.json();
    assert_eq!(why["classes"][0][1], "blue");
    assert_eq!(why["supporting"][0]["neuron"], 2, "blue speaks for blue: {why}");
    assert_eq!(why["opposing"][0]["neuron"], 0, "what red there is speaks against: {why}");
    for file in ["maps/seen.png", "maps/for-1-neuron-2.png", "maps/against-1-neuron-0.png"] {
        assert!(std::fs::read(stage.at(file)).unwrap().starts_with(b"\x89PNG"), "{file}");
    }
}

#[test]
fn a_report_holds_no_absolute_path() {
    let stage = Stage::with_mistakes();
    let whole = std::fs::read(stage.at("data/red/0.png")).unwrap();
    stage.write("data/red/0.png", &whole[..40]);
    stage.write("my names/classes.txt", "red\ngreen\nblue\n");
    let at = |name: &str| stage.at(name).display().to_string();
    let runtime = std::env::var("ORT_DYLIB_PATH").expect("cargo sets it (.cargo/config.toml)");
    let ran = stage
        .run(&[
            "debug",
            &at("model.onnx"),
            &at("data"),
            &format!("--runs={}", at("runs")),
            "--classes",
            &at("my names/classes.txt"),
            "--preprocessing",
            &at("model.preprocess.json"),
            "--onnxruntime",
            &runtime,
            "--json",
        ])
        .fine();
    assert!(ran.err.contains("red/0.png"), "{}", ran.err);
    let folder = stage.path().canonicalize().unwrap().display().to_string();
    let name = folder.rsplit('/').next().unwrap();
    for (file, parts) in [
        ("report.html", &["red/5.png", "classes.txt"][..]),
        ("diagnosis.json", &["red/5.png"]),
        ("run.json", &["classes.txt", "model.onnx"]),
    ] {
        let text = stage.result(file);
        parts.iter().for_each(|part| assert!(text.contains(part), "{file} says {part}"));
        assert!(!text.contains(name), "{file} names the folder {name}");
        assert!(!text.contains(&runtime), "{file} names the library");
        assert!(!text.contains(repository("").to_str().unwrap()), "{file} names the checkout");
    }
}

#[test]
fn a_report_without_pictures_names_none() {
    let stage = Stage::with_mistakes();
    stage.picture("data/red/sentinel.png", BLUE, 11);
    stage.write("data/red/broken-sentinel.png", "broken");
    stage.job("debug", "data", &["--name", "with"]).fine();
    stage.job("debug", "data", &["--no-pictures", "--name", "without"]).fine();
    let page = |name: &str| std::fs::read_to_string(stage.at("runs").join(name).join("report.html")).unwrap();
    assert!(page("with").contains("sentinel") && page("with").contains("data:image"));
    for part in ["sentinel", "data:image", ".png"] {
        assert!(!page("without").contains(part), "'{part}' stands in it");
    }
}
