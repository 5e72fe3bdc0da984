//! `pellucid diffusion` over several prompts: what deletion and insertion say of each map, of one prompt and of all.

use crate::stage::{Stage, repository};
use serde_json::Value as Json;

const CONTROLS: [&str; 4] = ["identity control", "random order", "centre first", "magnitude of x̂0"];

fn auc(stage: &Stage, more: &[&str]) -> crate::stage::Ran {
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let quick = ["diffusion", "auc", &pipeline, "--steps", "4", "--masks", "20", "--faithfulness", "2"];
    stage.run(&[&quick[..], more].concat())
}

fn maps(standings: &Json) -> Vec<&str> {
    standings.as_array().unwrap().iter().map(|s| s["map"].as_str().unwrap()).collect()
}

#[test]
fn a_prompt_has_every_map_and_control_at_every_measured_step() {
    let stage = Stage::new();
    let result = auc(&stage, &["a cat", "--json"]).fine().json();
    assert!(result["study"].is_null(), "one prompt is no study");
    let explained = &result["explained"][0];
    let expected = ["DF-RISE", "DF-CAM", "attention to all words", "attention to “a”", "attention to “cat”"];
    assert_eq!(maps(&explained["standings"]), [&expected[..], &CONTROLS].concat());
    let played = explained["faithfulness"].as_array().unwrap();
    let steps: Vec<u64> = played.iter().map(|p| p["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [vec![1; 9], vec![3; 9]].concat());
    // A standing is the mean of the areas of the curves themselves.
    let area = |map: &str| {
        let of: Vec<f64> = played
            .iter()
            .filter(|p| p["map"] == map)
            .map(|p| p["deletion_distance"]["fixed_area"].as_f64().unwrap())
            .collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    for standing in explained["standings"].as_array().unwrap() {
        let (map, value) = (standing["map"].as_str().unwrap(), standing["games"][0]["area"]["value"].as_f64().unwrap());
        assert!((value - area(map)).abs() < 1e-9, "{map}: {value} against {}", area(map));
        let leads = standing["leads"].as_array().unwrap().len();
        assert_eq!(leads, if CONTROLS.contains(&map) { 0 } else { 2 * CONTROLS.len() }, "{map}");
    }
    let page = std::fs::read_to_string(explained["report"].as_str().map(|r| stage.at(r)).unwrap()).unwrap();
    for part in ["How far to trust each map", "data-measured=\"1\"", "data-measured=\"3\"", "“cat”"] {
        assert!(page.contains(part), "{part} is not in the page");
    }
}

#[test]
fn many_prompts_give_one_verdict_with_intervals_over_prompts() {
    let stage = Stage::new();
    stage.write("prompts.txt", "a cat\na dog on blue\n\na cat\n");
    let ran = auc(&stage, &["--prompts", "prompts.txt", "--force"]).fine();
    assert!(ran.out.contains("over 3 prompts"), "{}", ran.out);
    let study: Json = serde_json::from_str(&stage.result("faithfulness.json")).unwrap();
    let common = ["DF-RISE", "DF-CAM", "attention to all words", "attention to “a”"];
    assert_eq!(
        maps(&study["standings"]),
        [&common[..], &CONTROLS].concat(),
        "words that not all prompts have are left out"
    );
    for standing in study["standings"].as_array().unwrap() {
        assert_eq!(standing["units"], 3);
        let [low, value, high] = ["low", "value", "high"].map(|k| standing["games"][1]["area"][k].as_f64().unwrap());
        assert!(low <= value && value <= high, "{standing}");
    }
    // Again: every step comes from the cache, to the same figures.
    let again = auc(&stage, &["--prompts", "prompts.txt", "--json"]).fine().json();
    assert!(again["study"]["standings"] == study["standings"], "figures from the cache differ from those computed");
    let page = std::fs::read_to_string(stage.at(again["study"]["report"].as_str().unwrap())).unwrap();
    assert!(page.contains("a dog on blue") && page.contains("/report.html\""));
    assert!(!page.contains("<script"), "the page on many prompts needs none");
}

#[test]
fn explainers_are_chosen_by_name_and_the_old_commands_are_still_there() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let pipeline = pipeline.as_str();
    let quick = ["a cat", "--steps", "2", "--masks", "10", "--json", "--force", "--name", "r"];
    let ids = |words: &[&str], more: &[&str]| {
        let ran = stage.run(&[words, &[pipeline], &quick[..], more].concat()).fine().json();
        let explainers = ran["explained"][0]["explainers"].as_array().unwrap().clone();
        explainers.iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let explain = ["diffusion", "explain"];
    assert_eq!(ids(&explain, &[]), ["rise", "cam", "attention", "causal", "recovery", "bands"]);
    assert_eq!(ids(&explain, &["--explainers", "attention,cam"]), ["cam", "attention", "recovery", "bands"]);
    for one in ["rise", "cam", "attention"] {
        assert_eq!(ids(&["diffusion", one], &[]), [one, "recovery", "bands"]);
    }
    let unknown = [&explain[..], &[pipeline, "a cat", "--explainers", "rise,lrp"]].concat();
    stage.run(&unknown).refused(&["lrp", "rise", "cam", "attention"]);
}

#[test]
fn a_sampler_is_chosen_by_name_old_flag_or_new() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let sample = ["diffusion", "sample", &pipeline, "a cat", "--steps", "2"];
    let picture = |flag: &str, out: &str| {
        stage.run(&[&sample[..], &[flag, "dpm++", "--out", out]].concat()).fine();
        std::fs::read(stage.at(out).join("a-cat-seed0.png")).unwrap()
    };
    assert!(picture("--sampler", "new") == picture("--solver", "old"));
    stage.write("cat.png", "no picture");
    stage
        .run(&[&sample[..], &["--sampler", "dpm++", "--picture", "cat.png"]].concat())
        .refused(&["--picture", "dpm++"]);
}

#[test]
fn lime_is_played_where_it_is_asked_for() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let quick = ["diffusion", "explain", &pipeline, "a cat", "--steps", "1", "--masks", "10", "--lime", "--json"];
    let explained = stage.run(&quick).fine().json()["explained"][0].clone();
    assert!(maps(&explained["standings"]).contains(&"LIME, 8 × 8 cells"), "{}", explained["standings"]);
    let page = std::fs::read_to_string(stage.at(explained["report"].as_str().unwrap())).unwrap();
    assert!(page.contains("One step alone has no interval"));
}

#[test]
fn a_model_without_text_is_explained_without_words_and_the_page_says_why() {
    let stage = Stage::new();
    let model = repository("zoo/models/tiny_ddpm").display().to_string();
    let quick = ["diffusion", "explain", &model, "1", "--steps", "2", "--masks", "10", "--json"];
    let explained = stage.run(&quick).fine().json()["explained"][0].clone();
    assert!(explained["words"].is_null());
    let outcomes = explained["explainers"].as_array().unwrap().iter();
    let outcomes: Vec<_> =
        outcomes.map(|e| (e["id"].as_str().unwrap(), e["outcome"]["kind"].as_str().unwrap())).collect();
    let expected = [("rise", "found"), ("cam", "found"), ("attention", "absent"), ("causal", "absent")];
    assert_eq!(outcomes, [&expected[..], &[("recovery", "found"), ("bands", "found")]].concat());
    let page = std::fs::read_to_string(stage.at(explained["report"].as_str().unwrap())).unwrap();
    assert!(page.contains("No word maps: the prompt has no words") && !page.contains("data-tile=\"attention\""));
}

#[cfg(unix)]
mod ends_that_nobody_planned {
    use super::*;
    use crate::interruption::{left_behind, limited, signal};
    use std::path::PathBuf;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    /// Finished DF-RISE maps below `runs`.
    fn maps_kept(stage: &Stage) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(stage.at("runs/.cache/diffusion")).into_iter().flatten().flatten();
        let files = folders.flat_map(|f| std::fs::read_dir(f.path()).into_iter().flatten().flatten()).map(|e| e.path());
        let mut kept: Vec<PathBuf> =
            files.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("rise-")).collect();
        kept.retain(|p| p.extension().is_some_and(|e| e == "json"));
        kept.sort();
        kept
    }

    #[test]
    fn a_killed_explanation_goes_on_where_it_stopped_to_the_same_result() {
        let stage = Stage::new();
        let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
        let arguments =
            ["diffusion", "explain", &pipeline, "a cat", "--steps", "6", "--masks", "300", "--reliability", "1"];
        let mut command = stage.command(&[&arguments[..], &["--name", "e", "--no-supervisor"]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while maps_kept(&stage).is_empty() {
            let alive = child.try_wait().unwrap().is_none();
            assert!(alive && start.elapsed() < Duration::from_secs(120), "no map was kept");
            std::thread::sleep(Duration::from_millis(2));
        }
        signal(&child, "-KILL");
        child.wait().unwrap();
        let kept: Vec<_> =
            maps_kept(&stage).into_iter().map(|p| (p.metadata().unwrap().modified().unwrap(), p)).collect();
        assert!(kept.len() < 6, "nothing was left to do");
        assert!(!stage.at("runs/e/manifest.json").exists(), "it does not look finished");

        stage.run(&[&arguments[..], &["--name", "e"]].concat()).fine();
        for (modified, path) in kept {
            assert_eq!(path.metadata().unwrap().modified().unwrap(), modified, "finished maps are not made again");
        }
        stage.run(&[&arguments[..], &["--name", "e", "--runs", "whole"]].concat()).fine();
        for file in ["explanation.json", "maps.npz"] {
            let [again, whole] =
                ["runs", "whole"].map(|runs| std::fs::read(stage.at(runs).join("e").join(file)).unwrap());
            assert!(again == whole, "{file} is byte for byte the uninterrupted one");
        }
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file_and_the_run_does_not_look_done() {
        let stage = Stage::new();
        let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
        let arguments = ["diffusion", "explain", &pipeline, "a cat", "--steps", "2", "--masks", "10"];
        // Nothing can be kept, then everything but the arrays.
        for (kilobytes, named) in [(0, ".cache/diffusion"), (64, "maps.npz")] {
            limited(&stage, kilobytes, &arguments).refused(&[named, "File too large"]);
            let left = left_behind(&stage);
            assert!(!left.contains(&"manifest.json".to_owned()), "{left:?}");
        }
        stage.run(&arguments).fine();
        assert!(left_behind(&stage).contains(&"manifest.json".to_owned()));
    }
}

#[test]
fn how_far_each_size_has_come_is_in_result_arrays_page_and_terminal() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/emoji_diffusion").display().to_string();
    let prompt =
        ["diffusion", "explain", &pipeline, "a panda on white", "--guidance", "3", "--explainers", "attention"];
    let quick = [&prompt[..], &["--steps", "8", "--name", "one"]].concat();
    let ran = stage.run(&quick).fine();
    let result: Json =
        serde_json::from_str(&std::fs::read_to_string(stage.at("runs/one/explanation.json")).unwrap()).unwrap();
    let bands = result["explainers"].as_array().unwrap().iter().find(|e| e["id"] == "bands").unwrap();
    let conclusion = bands["conclusions"][0].as_str().unwrap();
    assert!(conclusion.contains("exact p = ") && ran.out.contains(conclusion), "{}", ran.out);
    let levels = |of: &Json| -> Vec<f64> {
        let bands = of["bands"].as_array().unwrap();
        bands.iter().flat_map(|band| band["levels"].as_array().unwrap()).map(|level| level.as_f64().unwrap()).collect()
    };
    let arrays = pellucid::read_arrays(stage.at("runs/one/maps.npz")).unwrap();
    for (name, of) in [("band_levels", &bands["results"]), ("band_levels_wiener", &bands["results"]["wiener"])] {
        let array = arrays[name].as_f32().unwrap();
        assert_eq!(array.shape(), [8, 5], "{name}");
        let by_band: Vec<f64> = array.t().iter().map(|&level| f64::from(level)).collect();
        assert!(by_band.iter().zip(levels(of)).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)), "{name}");
    }
    // The last step's x̂0 is the picture, to the last bit.
    assert!(levels(&bands["results"]).chunks(8).all(|band| band[7] > 0.999_999), "{bands}");
    let page = std::fs::read_to_string(stage.at("runs/one/report.html")).unwrap();
    for part in
        ["Coarse to fine?", "32 px and more: step", "data-tile=\"bands\"", "Wiener denoiser with the same spectrum"]
    {
        assert!(page.contains(part), "{part} is not in the page");
    }
}

#[test]
fn words_that_the_vocabulary_lacks_are_named_in_terminal_result_and_page() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/emoji_diffusion").display().to_string();
    let ran = stage.run(&["diffusion", "sample", &pipeline, "a zebra on Yellow", "--steps", "2"]).fine();
    for part in ["'zebra'", "'Yellow' (nearest: 'yellow')", "It has 23 words: a, and, apple,"] {
        assert!(ran.err.contains(part), "{part} is not in {}", ran.err);
    }
    let explain = ["diffusion", "explain", &pipeline, "a zebra on Yellow", "--steps", "2", "--explainers", "attention"];
    let ran = stage.run(&[&explain[..], &["--name", "one"]].concat()).fine();
    assert!(ran.err.contains("'zebra'"), "{}", ran.err);
    let read = |name: &str| std::fs::read_to_string(stage.at(&format!("runs/one/{name}"))).unwrap();
    let result: Json = serde_json::from_str(&read("explanation.json")).unwrap();
    assert!(result["warnings"][0].as_str().unwrap().contains("'zebra'"), "{}", result["warnings"]);
    assert_eq!(result["words"][1], "zebra (unknown)");
    assert!(read("report.html").contains("zebra (unknown)") && read("report.html").contains("vocabulary lacks"));
    // The negative control: what it knows is not warned of.
    let ran = stage.run(&["diffusion", "sample", &pipeline, "a frog on yellow", "--steps", "2"]).fine();
    assert!(!ran.err.contains("vocabulary"), "{}", ran.err);
}

#[test]
fn a_negative_prompt_takes_the_place_of_the_empty_one_and_is_said() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let sample = ["diffusion", "sample", &pipeline, "a cat", "--steps", "2", "--guidance", "3"];
    let picture = |more: &[&str], out: &str| {
        stage.run(&[&sample[..], &["--out", out], more].concat()).fine();
        std::fs::read(stage.at(out).join("a-cat-seed0.png")).unwrap()
    };
    let (plain, empty, dog) =
        (picture(&[], "plain"), picture(&["--negative", ""], "empty"), picture(&["--negative", "a dog"], "dog"));
    assert!(plain == empty && plain != dog);
    // Led away from itself, a prompt is the prompt alone.
    let alone = ["diffusion", "sample", &pipeline, "a cat", "--steps", "2", "--guidance", "1", "--out", "alone"];
    stage.run(&alone).fine();
    let alone = std::fs::read(stage.at("alone").join("a-cat-seed0.png")).unwrap();
    assert!(picture(&["--negative", "a cat"], "itself") == alone);
    let explain = ["diffusion", "explain", &pipeline, "a cat", "--steps", "2", "--explainers", "attention"];
    stage.run(&[&explain[..], &["--negative", "a dog", "--name", "one"]].concat()).fine();
    let page = std::fs::read_to_string(stage.at("runs/one/report.html")).unwrap();
    assert!(page.contains("Negative prompt") && page.contains("a dog"));
    let pixels = repository("zoo/models/tiny_ddpm").display().to_string();
    stage.run(&["diffusion", "sample", &pixels, "1", "--negative", "a dog"]).refused(&["negative", "takes no text"]);
}

#[test]
fn several_seeds_are_several_runs_and_one_study() {
    let stage = Stage::new();
    let ran = auc(&stage, &["a cat", "--seeds", "4,5,4"]).fine();
    assert!(ran.out.contains("over 2 seeds of one prompt"), "{}", ran.out);
    for seed in [4, 5] {
        assert!(stage.at(&format!("runs/tiny_diffusion-a-cat-seed{seed}/report.html")).exists(), "seed {seed}");
    }
    auc(&stage, &["a cat", "--seeds", "4,5", "--name", "one"]).refused(&["--name", "one seed"]);
}

#[test]
fn the_word_map_that_is_false_is_found_out_and_marked() {
    let stage = Stage::new();
    let pipeline = repository("zoo/models/emoji_diffusion").display().to_string();
    let prompt = "a frog left of a mushroom on yellow";
    let explain = ["diffusion", "explain", &pipeline, prompt, "--guidance", "3", "--seed", "3", "--name", "one"];
    let ran = stage.run(&[&explain[..], &["--explainers", "attention,causal"]].concat()).fine();
    let result: Json =
        serde_json::from_str(&std::fs::read_to_string(stage.at("runs/one/explanation.json")).unwrap()).unwrap();
    let causal = result["explainers"].as_array().unwrap().iter().find(|e| e["id"] == "causal").unwrap();
    let word = |name: &str| {
        let things = causal["results"]["things"].as_array().unwrap();
        things.iter().find(|thing| thing["name"] == name).unwrap().clone()
    };
    let rho = |name: &str| word(name)["agreements"][0]["rho"].as_f64().unwrap();
    // Attention to the background's colour lies on the frog; attention to an object lies on the object.
    assert!(rho("yellow") < -0.3 && rho("mushroom") > 0.5, "{} {}", rho("yellow"), rho("mushroom"));
    assert_eq!(word("yellow")["disagrees"], serde_json::json!(["attention"]));
    assert_eq!(word("mushroom")["disagrees"], serde_json::json!([]));
    assert_eq!(word("yellow")["by"], serde_json::json!(["red", "green", "blue"]));
    assert!(ran.out.contains("Attention does not show where “yellow” acts"), "{}", ran.out);
    let page = std::fs::read_to_string(stage.at("runs/one/report.html")).unwrap();
    for part in
        ["When and where each word acts", "Attention does not show where this word acts.", "data-tile=\"causal\""]
    {
        assert!(page.contains(part), "{part} is not in the page");
    }
    let arrays = pellucid::read_arrays(stage.at("runs/one/maps.npz")).unwrap();
    assert_eq!(arrays["change_8_yellow"].as_f32().unwrap().shape(), [16, 16]);
    // The choice of a word stands once, though two panels share it.
    let data = page.split("id=\"steps\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: Json = serde_json::from_str(&data.replace("\\u003c", "<")).unwrap();
    let words = data["choices"].as_array().unwrap().iter().filter(|choice| choice["id"] == "word").count();
    assert_eq!(words, 1);
}
