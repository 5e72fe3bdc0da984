//! What people really feed it: wrong files, wrong labels, degenerate data sets. Each gets its own clear error or
//! warning, and a result wherever there is one to give.

use crate::stage::{BLUE, COLOURS, GREEN, RED, Ran, Stage, colours, colours_with, headless};
use pellucid::internals::graph::{ElementType, Node, Tensor, Value};
use serde_json::Value as Json;

/// The warnings of a finished `debug`.
fn warnings(ran: &Ran) -> String {
    ran.err.lines().filter(|line| line.starts_with("warning: ")).collect::<Vec<_>>().join("\n")
}

/// `[right, total]` of a summary.
fn accuracy(summary: &Json) -> [u64; 2] {
    ["count", "total"].map(|key| summary["accuracy"][key].as_u64().unwrap())
}

#[test]
fn a_model_without_a_linear_head_is_not_debugged_and_the_reason_is_said() {
    let stage = Stage::with_mistakes();
    stage.model(&headless());
    stage.write("model.labels.txt", "red\ngreen\nblue\nand\nthree\nmore\n");
    stage.job("debug", "data", &[]).refused(&["model.onnx", "no linear head found"]);
    let inspected = stage.run(&["inspect", "model.onnx", "--json"]).fine().json();
    assert!(inspected["taps"]["no_head"].as_str().unwrap().contains("no linear head found"), "{inspected}");
}

#[test]
fn two_heads_are_refused_until_one_is_named() {
    let stage = Stage::with_mistakes();
    let head = |scale: f32| (0..18).map(|i| if i % 7 == 0 { scale } else { 0.0 }).collect::<Vec<_>>();
    stage.model(&colours_with(None, &[("a", head(1.0), 3), ("b", head(2.0), 3)]));
    stage.job("scan", "data", &[]).refused(&["logits_a", "logits_b", "--logits"]);
    stage.job("scan", "data", &["--logits", "logits_b"]).fine();
}

#[test]
fn a_head_of_another_size_than_the_labels_is_refused_with_both_sizes() {
    let stage = Stage::with_mistakes();
    std::fs::remove_file(stage.at("model.labels.txt")).unwrap();
    stage.model(&colours_with(None, &[("w", vec![0.5; 5 * 6], 5)]));
    stage.job("debug", "data", &[]).refused(&["5 logits", "3 classes", "blue, green, red", "--classes"]);
}

#[test]
fn class_names_of_another_number_than_the_head_are_refused_with_their_file() {
    let stage = Stage::with_mistakes();
    stage.write("names.txt", "red\ngreen\nblue\nyellow\n");
    stage.job("debug", "data", &["--classes", "names.txt"]).refused(&["names.txt", "4 class names", "3 logits"]);
    stage.write("model.labels.txt", "red\ngreen\n");
    stage.job("debug", "data", &[]).refused(&["found beside the model", "2 class names", "3 logits"]);
    stage.write("names.txt", "red\ngreen\nblue\n");
    stage.job("debug", "data", &["--classes", "names.txt"]).fine();
}

#[test]
fn a_folder_that_is_no_class_of_the_model_is_refused_by_name() {
    let stage = Stage::with_mistakes();
    stage.picture("data/violet/0.png", RED, 0);
    stage.job("debug", "data", &[]).refused(&["violet", "data"]);
}

#[test]
fn an_empty_class_is_a_warning_and_has_no_accuracy() {
    let stage = Stage::with_mistakes();
    std::fs::remove_dir_all(stage.at("data/green")).unwrap();
    std::fs::create_dir(stage.at("data/green")).unwrap();
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert!(warnings(&ran).contains("1 of 3 classes have no pictures: green"), "{}", ran.err);
    let classes: Vec<u64> =
        ran.json()["summary"]["by_class"].as_array().unwrap().iter().map(|c| c["id"].as_u64().unwrap()).collect();
    assert_eq!(classes, [0, 2]);
}

#[test]
fn asking_for_the_mistakes_of_an_empty_class_finds_none() {
    let stage = Stage::with_mistakes();
    std::fs::remove_dir_all(stage.at("data/green")).unwrap();
    std::fs::create_dir(stage.at("data/green")).unwrap();
    let ran = stage.job("debug", "data", &["--json", "--class", "green", "--predicted-as", "green"]).fine();
    let counts: Vec<u64> =
        ran.json()["findings"].as_array().unwrap().iter().map(|f| f["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [0, 0]);
    assert!(stage.result("report.html").contains("green"));
}

#[test]
fn a_data_set_of_one_class_is_a_warning_and_is_diagnosed() {
    let stage = Stage::with_mistakes();
    for class in ["green", "blue"] {
        std::fs::remove_dir_all(stage.at("data").join(class)).unwrap();
    }
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert!(warnings(&ran).contains("all 6 pictures are of one class, red"), "{}", ran.err);
    assert_eq!(accuracy(&ran.json()["summary"]), [4, 6]);
    assert_eq!(ran.json()["findings"][0]["count"], 2);
}

#[test]
fn no_mistakes_are_said_in_the_verdict_and_need_no_findings() {
    let stage = Stage::with_mistakes();
    for i in [4, 5] {
        std::fs::remove_file(stage.at("data/red").join(format!("{i}.png"))).unwrap();
    }
    let ran = stage.job("debug", "data", &["--json", "--fail-on", "accuracy<1"]).fine();
    assert_eq!(accuracy(&ran.json()["summary"]), [16, 16]);
    assert_eq!(ran.json()["findings"].as_array().unwrap().len(), 0);
    assert!(ran.json()["verdict"][0].as_str().unwrap().contains("no mistake"));
    assert!(stage.result("report.html").contains("no mistake"));
    let asked = stage.job("debug", "data", &["--json", "--all-mistakes", "--class", "red", "--name", "asked"]).fine();
    assert!(asked.json()["findings"].as_array().unwrap().iter().all(|f| f["count"] == 0), "{}", asked.out);
}

#[test]
fn only_mistakes_are_diagnosed_too() {
    let stage = Stage::new();
    for i in 0..4 {
        stage.picture(&format!("data/red/{i}.png"), BLUE, i);
        stage.picture(&format!("data/green/{i}.png"), RED, i);
        stage.picture(&format!("data/blue/{i}.png"), GREEN, i);
    }
    for variant in ["bounded", "reference", "sparse"] {
        let ran =
            stage.job("debug", "data", &["--json", "--variant", variant, "--all-mistakes", "--name", variant]).fine();
        let diagnosis = ran.json();
        assert_eq!(accuracy(&diagnosis["summary"]), [0, 12]);
        let finding = &diagnosis["findings"][0];
        assert_eq!((&finding["count"], &finding["unreached"]), (&Json::from(12), &Json::from(0)), "{variant}");
        assert!(finding["insufficient"][0]["on_correct"]["mean"].is_null(), "no correct picture, no mean: {finding}");
        assert!(!stage.at("runs").join(variant).join("report.html").metadata().unwrap().permissions().readonly());
    }
}

#[test]
fn a_label_that_is_not_a_number_or_name_is_refused_with_its_line() {
    let stage = Stage::with_mistakes();
    for label in ["NaN", "nan", "", "rde"] {
        stage.write("data/list.csv", format!("file_name,label\nred/0.png,red\nblue/0.png,{label}\n"));
        stage.job("debug", "data/list.csv", &[]).refused(&["list.csv", "line 3"]);
    }
    std::fs::remove_file(stage.at("model.labels.txt")).unwrap();
    for label in ["NaN", "nan", "", "-1", "9999999"] {
        stage.write("data/list.csv", format!("file_name,label\nred/0.png,0\nblue/0.png,{label}\n"));
        stage.job("debug", "data/list.csv", &[]).refused(&["list.csv", "line 3"]);
    }
    stage.write("data/list.csv", "file_name,label\nred/0.png,0\nblue/0.png,3\n");
    stage.job("debug", "data/list.csv", &[]).refused(&["3 logits", "4 classes"]);
}

#[test]
fn a_table_with_a_byte_order_mark_crlf_and_quoted_commas_is_read_to_the_report() {
    let stage = Stage::with_mistakes();
    stage.picture("data/one, two.png", BLUE, 9);
    let table = "\u{feff}file_name,label,group\r\nred/0.png,red,\"g, 1\"\r\n\"one, two.png\",red,\"g, 2\"\r\ngreen/0.png,green,\"g, 1\"\r\n";
    stage.write("data/list.csv", table);
    let ran = stage.job("debug", "data/list.csv", &["--json", "--group", "g, 2"]).fine();
    let diagnosis = ran.json();
    assert_eq!(accuracy(&diagnosis["summary"]), [2, 3]);
    assert_eq!(diagnosis["findings"][0]["samples"][0]["file"], "one, two.png");
    assert_eq!(diagnosis["summary"]["groups"], serde_json::json!(["g, 1", "g, 2"]));
    assert!(stage.result("report.html").contains("one, two.png"));
}

#[test]
fn pictures_that_are_missing_are_a_warning_and_all_missing_an_error() {
    let stage = Stage::with_mistakes();
    stage.write("data/list.csv", "file_name,label\nred/0.png,red\ngone.png,blue\nblue/0.png,blue\n");
    let ran = stage.job("debug", "data/list.csv", &["--json"]).fine();
    assert!(warnings(&ran).contains("1 of 3 pictures are missing and left out: gone.png"), "{}", ran.err);
    assert_eq!(accuracy(&ran.json()["summary"]), [2, 2]);
    stage.write("data/list.csv", "file_name,label\nx.png,red\ny.png,blue\n");
    stage.job("debug", "data/list.csv", &[]).refused(&["none of its 2 pictures", "x.png"]);
}

#[test]
fn files_that_are_not_there_are_named() {
    let stage = Stage::with_mistakes();
    stage.run(&["debug", "gone.onnx", "data"]).refused(&["gone.onnx"]);
    stage.job("debug", "gone", &[]).refused(&["gone"]);
    stage.job("debug", "data", &["--classes", "gone.txt"]).refused(&["gone.txt"]);
    stage.job("debug", "data", &["--preprocessing", "gone.json"]).refused(&["gone.json"]);
    stage.run(&["why", "model.onnx", "gone.png"]).refused(&["gone.png"]);
    stage.run(&["inspect", "gone.onnx"]).refused(&["gone.onnx"]);
    stage.run(&["demo", "--zoo", "gone"]).refused(&["gone", "--zoo"]);
}

#[test]
fn model_and_data_in_the_wrong_order_are_refused() {
    let stage = Stage::with_mistakes();
    stage.run(&["debug", "data", "model.onnx"]).refused(&["data", "folder"]);
    stage.run(&["debug", "model.onnx", "model.onnx"]).refused(&["model.onnx"]);
    stage.run(&["debug", "data/red/0.png", "data"]).refused(&["0.png", "picture"]);
}

#[test]
fn pictures_that_are_broken_are_a_warning_and_all_broken_an_error() {
    let stage = Stage::with_mistakes();
    stage.write("data/red/0.png", "");
    let whole = std::fs::read(stage.at("data/green/0.png")).unwrap();
    stage.write("data/green/0.png", &whole[..whole.len() / 2]);
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert!(warnings(&ran).contains("red/0.png") && warnings(&ran).contains("green/0.png"), "{}", ran.err);
    assert_eq!(ran.json()["summary"]["samples"], 16);
    for (class, _) in COLOURS {
        (0..6).for_each(|i| stage.write(&format!("data/{class}/{i}.png"), "not a picture"));
    }
    stage.job("debug", "data", &[]).refused(&["none of the 18 pictures could be used", "0.png"]);
}

#[test]
fn very_many_broken_pictures_do_not_flood_the_terminal_nor_the_report() {
    let stage = Stage::with_mistakes();
    (0..500).for_each(|i| stage.write(&format!("data/red/broken-{i:03}.png"), format!("broken {i}")));
    for job in ["scan", "debug"] {
        let ran = stage.job(job, "data", &["--name", job]).fine();
        let lines = warnings(&ran).lines().count();
        assert!((20..40).contains(&lines), "{lines} lines");
        assert!(ran.err.trim_end().ends_with("more, which the run's manifest.json holds"), "{}", ran.err);
        let manifest = std::fs::read_to_string(stage.at("runs").join(job).join("manifest.json")).unwrap();
        let manifest: Json = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["warnings"].as_array().unwrap().len(), 500);
    }
    assert!(!stage.result("report.html").contains("broken-400.png"));
}

#[test]
fn a_picture_that_claims_to_be_huge_is_a_warning() {
    let stage = Stage::with_mistakes();
    // A PNG whose header says 16 384 × 16 384 pixels, with nothing behind it.
    let mut huge = std::fs::read(stage.at("data/red/0.png")).unwrap();
    huge[16..24].copy_from_slice(&[0, 0, 64, 0, 0, 0, 64, 0]);
    stage.write("data/red/huge.png", huge);
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert!(warnings(&ran).contains("red/huge.png"), "{}", ran.err);
    assert_eq!(ran.json()["summary"]["samples"], 18);
}

#[test]
fn a_picture_on_which_the_model_is_not_finite_is_a_warning_and_all_of_them_an_error() {
    let stage = Stage::with_mistakes();
    let mut model = colours(None);
    // f = p / (mean of all neurons but the constant one): nothing / nothing on a black picture.
    let flatten = model.graph.nodes.iter().position(|n| n.is("Flatten")).unwrap();
    model.graph.nodes[flatten] = Node::new("Flatten", &["p"], &["q"]);
    let total = Node::new("MatMul", &["q", "ones"], &["total"]);
    model.graph.nodes.insert(flatten + 1, total);
    model.graph.nodes.insert(flatten + 2, Node::new("Div", &["q", "total"], &["f"]));
    model.graph.initializers.insert("ones".into(), Tensor::f32("ones", &[6, 1], &[1.0, 1.0, 1.0, 0.0, 1.0, 1.0]));
    stage.model(&model);
    let black = pellucid::internals::vision::picture::Picture::from_fn(9, 9, |_, _| [0; 3]).to_png().unwrap();
    stage.write("data/blue/black.png", &black);
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert!(warnings(&ran).contains("blue/black.png: the model gives a value that is not finite"), "{}", ran.err);
    assert_eq!(ran.json()["summary"]["samples"], 18);
    stage.write("black/blue/black.png", &black);
    stage.job("debug", "black", &[]).refused(&["none of the 1 pictures could be used", "black.png", "preprocessing"]);
}

#[test]
fn names_that_leave_the_data_set_are_refused() {
    let stage = Stage::with_mistakes();
    stage.picture("secret.png", RED, 0);
    let absolute = stage.at("secret.png").display().to_string();
    for name in ["../secret.png", "red/../../secret.png", &absolute] {
        stage.write("data/list.csv", format!("file_name,label\nred/0.png,red\n{name},red\n"));
        stage.job("debug", "data/list.csv", &[]).refused(&["list.csv", "line 3", "relative to the table's folder"]);
    }
}

#[test]
fn markup_in_the_names_of_classes_groups_and_files_stays_text_in_the_report() {
    let stage = Stage::new();
    let (class, group) = ("<script>alert('class')<!--", "</script><img src=x onerror=alert('group')>");
    let file = "<script>alert('file')&quot;\".png";
    stage.write("names.txt", format!("{class}\ngreen\nblue\n"));
    stage.picture(&format!("data/{file}"), BLUE, 1);
    stage.picture("data/fine.png", RED, 2);
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    stage.write(
        "data/list.csv",
        format!("file_name,label,group\n{},{},{}\nfine.png,green,plain\n", quoted(file), quoted(class), quoted(group)),
    );
    let ran = stage.job("debug", "data/list.csv", &["--classes", "names.txt", "--json"]).fine();
    assert_eq!(ran.json()["findings"][0]["samples"][0]["file"], file);
    let page = stage.result("report.html");
    for raw in ["<script>alert", "<img src=x", "</script><img", "onerror=alert('group')>"] {
        assert!(!page.contains(raw), "'{raw}' stands in the page as markup");
    }
    assert!(page.contains("&lt;script&gt;alert"), "the name is shown, as text");
}

#[test]
fn a_constant_neuron_is_never_named() {
    let stage = Stage::with_mistakes();
    // Of fewer than five mistakes no neuron is named.
    (10..14).for_each(|i| stage.picture(&format!("data/red/{i}.png"), BLUE, i));
    for variant in ["bounded", "sparse"] {
        let ran =
            stage.job("debug", "data", &["--json", "--all-mistakes", "--variant", variant, "--name", variant]).fine();
        let finding = &ran.json()["findings"][0];
        let named: Vec<u64> = ["insufficient", "excessive"]
            .iter()
            .flat_map(|side| finding[side].as_array().unwrap().iter().map(|n| n["index"].as_u64().unwrap()))
            .collect();
        // Neuron 3 is constant, 5 dead.
        assert!(!named.is_empty() && named.iter().all(|j| ![3, 5].contains(j)), "{variant}: {named:?}");
    }
}

#[test]
fn a_batch_of_one_baked_into_the_export_gives_the_same_diagnosis() {
    let stage = Stage::with_mistakes();
    let findings = |name: &str| {
        let ran = stage.job("debug", "data", &["--json", "--name", name]).fine();
        (ran.json()["summary"].clone(), ran.json()["findings"].clone())
    };
    let free = findings("free");
    stage.model(&colours(Some(1)));
    assert_eq!(findings("baked"), free);
    stage.model(&colours(Some(4)));
    assert_eq!(findings("four"), free, "18 pictures in batches of exactly 4");
    std::fs::write("/tmp/free.json", serde_json::to_string_pretty(&free).unwrap()).unwrap();
}

#[test]
fn a_free_picture_size_takes_the_preprocessings() {
    let stage = Stage::with_mistakes();
    let mut model = colours(None);
    model.graph.inputs = vec![Value::tensor("x", ElementType::F32, &[None, Some(3), None, None])];
    stage.model(&model);
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert_eq!(accuracy(&ran.json()["summary"]), [16, 18]);
}

#[test]
fn a_one_logit_head_is_a_threshold() {
    let stage = Stage::new();
    // z = blue − red.
    stage.model(&colours_with(None, &[("w", vec![-4.0, 0.0, 4.0, 0.0, 0.0, 0.0], 1)]));
    stage.write("model.labels.txt", "red\nblue\n");
    for i in 0..4 {
        stage.picture(&format!("data/red/{i}.png"), if i == 3 { BLUE } else { RED }, i);
        stage.picture(&format!("data/blue/{i}.png"), BLUE, i);
    }
    let ran = stage.job("debug", "data", &["--json"]).fine();
    assert_eq!(accuracy(&ran.json()["summary"]), [7, 8]);
    let finding = &ran.json()["findings"][0];
    assert_eq!(finding["unreached"], 0);
    let confidence = finding["samples"][0]["confidence"].as_f64().unwrap();
    assert!(confidence > 0.5 && confidence < 1.0, "σ(z) of the predicted class, found {confidence}");
    let why = stage.run(&["why", "model.onnx", "data/red/3.png", "--json"]).fine().json();
    assert_eq!((&why["classes"][0][1], &why["classes"][1][1]), (&"blue".into(), &"red".into()));
}

#[test]
fn a_multi_label_head_is_refused_with_the_reason() {
    let stage = Stage::with_mistakes();
    let mut model = colours(None);
    model.graph.nodes.push(Node::new("Sigmoid", &["logits_w"], &["scores"]));
    model.graph.outputs = vec![Value::untyped("scores")];
    stage.model(&model);
    stage.job("debug", "data", &[]).refused(&["multi-label"]);
}

#[test]
fn a_model_without_known_preprocessing_asks_for_it() {
    let stage = Stage::with_mistakes();
    std::fs::remove_file(stage.at("model.preprocess.json")).unwrap();
    stage.job("debug", "data", &[]).refused(&["no preprocessing is known", "--mean", "--std"]);
    let given =
        ["--size", "8", "--resize", "exact", "--filter", "bilinear", "--mean", "0", "--std", "1", "--scale", "1/255"];
    stage.job("debug", "data", &given).fine();
}

#[test]
fn preprocessing_of_another_size_than_the_input_is_refused_with_both_shapes() {
    let stage = Stage::with_mistakes();
    stage.job("debug", "data", &["--size", "16"]).refused(&["3×8×8", "3×16×16", "--size"]);
}

#[test]
fn a_name_that_is_none_of_the_classes_is_refused_with_those_there_are() {
    let stage = Stage::with_mistakes();
    stage.job("debug", "data", &["--class", "violet"]).refused(&["no class 'violet'", "red, green, blue"]);
    stage.job("debug", "data", &["--group", "g"]).refused(&["group"]);
    stage.job("debug", "data", &["--split", "val"]).refused(&["val"]);
}

#[test]
fn a_missing_onnx_runtime_says_where_was_looked_and_what_to_do() {
    let stage = Stage::with_mistakes();
    let run = |set: &dyn Fn(&mut std::process::Command), binary: &std::path::Path| {
        let mut command = std::process::Command::new(binary);
        command.args(["debug", "model.onnx", "data"]).current_dir(stage.path()).env_clear();
        set(&mut command);
        Ran::of(command.output().unwrap())
    };
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_pellucid"));
    run(&|c| _ = c.env("ORT_DYLIB_PATH", "/nowhere/lib"), binary).refused(&[
        "ORT_DYLIB_PATH",
        "/nowhere/lib",
        "libonnxruntime",
        "pip install",
    ]);
    run(&|c| _ = c.args(["--onnxruntime", "/nowhere/else"]), binary).refused(&[
        "--onnxruntime",
        "/nowhere/else",
        "pip install",
    ]);
    // Away from where one may have been built or installed.
    let copy = stage.at("bin/pellucid");
    std::fs::create_dir(stage.at("bin")).unwrap();
    std::fs::copy(binary, &copy).unwrap();
    run(&|c| _ = c.env("HOME", stage.path()), &copy).refused(&[
        "the executable's folder",
        "the active Python's onnxruntime",
        "the user's data folder",
        "system's library folders",
        &format!("pip install --no-deps --target '{}' onnxruntime", stage.at(".local/share/pellucid").display()),
        "make build",
    ]);
}

#[test]
fn a_library_that_is_not_onnx_runtime_is_refused_by_name() {
    let stage = Stage::with_mistakes();
    stage.write("lib/libonnxruntime.so", "not a library");
    stage.job("debug", "data", &["--onnxruntime", "lib"]).refused(&["libonnxruntime.so", "does not load"]);
}
