//! The zoo's emoji-scene pipeline: what opens, what is refused and how, and what the explainers promise on a real model.

#![allow(clippy::unwrap_used)]

use pellucid_diffusion::explain::cam::{Cam, Score};
use pellucid_diffusion::explain::cross_attention::word_maps;
use pellucid_diffusion::explain::rise::{RiseSettings, rise};
use pellucid_diffusion::trajectory::{Trajectory, TrajectorySettings};
use pellucid_diffusion::{PictureStart, Pipeline, PipelineOptions, Prompt, Timesteps, picture};
use pellucid_runtime::SessionOptions;
use pellucid_runtime::progress::Silent;
use pellucid_saliency::stats::roc_area;
use std::path::{Path, PathBuf};

fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models/emoji_diffusion")
}

fn options(threads: usize) -> PipelineOptions {
    PipelineOptions { session: SessionOptions { threads, ..SessionOptions::default() }, ..PipelineOptions::default() }
}

fn emoji() -> Pipeline {
    Pipeline::open(zoo(), &options(0)).unwrap()
}

fn settings(steps: usize, guidance: f32) -> TrajectorySettings {
    TrajectorySettings {
        timesteps: Timesteps::Uniform { steps, spacing: None },
        guidance,
        seed: 1,
        ..TrajectorySettings::default()
    }
}

fn sampled(pipeline: &mut Pipeline, text: &str, settings: &TrajectorySettings) -> (Prompt, Trajectory) {
    let prompt = pipeline.prompt(text).unwrap();
    let trajectory = Trajectory::compute(pipeline, &prompt, settings, None, &Silent).unwrap();
    (prompt, trajectory)
}

/// A copy of the pipeline whose files are links, without `left_out`.
fn copy(left_out: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut open = vec![PathBuf::new()];
    while let Some(part) = open.pop() {
        for entry in std::fs::read_dir(zoo().join(&part)).unwrap() {
            let name = part.join(entry.unwrap().file_name());
            if name == Path::new(left_out) {
                continue;
            }
            let (from, to) = (zoo().join(&name), folder.path().join(&name));
            if from.is_dir() {
                std::fs::create_dir_all(&to).unwrap();
                open.push(name);
            } else {
                std::fs::copy(&from, &to).unwrap();
            }
        }
    }
    folder
}

fn refusal(folder: &Path) -> String {
    Pipeline::open(folder, &options(0)).unwrap_err().to_string()
}

#[test]
fn a_missing_component_is_named_with_the_file_that_was_looked_for() {
    for (left_out, named) in [
        ("model_index.json", "model_index.json"),
        ("unet", "unet/model.onnx"),
        ("scheduler", "scheduler/scheduler_config.json"),
        ("text_encoder", "text_encoder/model.onnx"),
        ("vae_decoder", "vae_decoder/model.onnx"),
        ("tokenizer/tokenizer.json", "tokenizer/tokenizer.json"),
    ] {
        let message = refusal(copy(left_out).path());
        assert!(message.contains(named), "{left_out}: {message}");
    }
}

#[test]
fn an_unknown_scheduler_and_prediction_type_are_refused_with_what_is_known() {
    for (from, to, named) in [
        ("DDIMScheduler", "FlowMatchEulerDiscreteScheduler", "expected one of DDIMScheduler"),
        ("v_prediction", "flow", "expected epsilon, v_prediction or sample"),
    ] {
        let folder = copy("");
        let file = folder.path().join("scheduler/scheduler_config.json");
        let text = std::fs::read_to_string(&file).unwrap().replace(from, to);
        std::fs::write(&file, text).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains(named) && message.contains("scheduler_config.json"), "{message}");
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused_when_its_tokens_are_out_of_range() {
    let folder = copy("");
    let file = folder.path().join("text_encoder/config.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"vocab_size\": 27", "\"vocab_size\": 10");
    std::fs::write(&file, text).unwrap();
    let mut pipeline = Pipeline::open(folder.path(), &options(0)).unwrap();
    let message = pipeline.prompt("a panda on white").unwrap_err().to_string();
    assert!(message.contains("the text encoder knows 10"), "{message}");
}

#[test]
fn prompts_may_be_empty_and_longer_than_the_context() {
    let mut pipeline = emoji();
    let empty = pipeline.prompt("").unwrap();
    assert!(empty.tokens.unwrap().words.is_empty());
    let long = pipeline.prompt("a cat and a car and a tree and a star and a heart on blue").unwrap();
    assert!(long.warnings[0].contains("cut off") && long.warnings[0].contains("blue"), "{:?}", long.warnings);
    assert_eq!(long.tokens.unwrap().ids.len(), 12);
}

#[test]
fn a_word_that_occurs_twice_is_told_apart() {
    let prompt = emoji().prompt("a heart and a star on white").unwrap();
    let words: Vec<String> = prompt.tokens.unwrap().words.into_iter().map(|w| w.text).collect();
    assert_eq!(words, ["a", "heart", "and", "a (2)", "star", "on", "white"]);
}

#[test]
fn one_step_and_guidance_of_1_and_0_are_what_they_say() {
    let mut pipeline = emoji();
    assert_eq!(sampled(&mut pipeline, "a cat on blue", &settings(1, 3.0)).1.steps.len(), 1);
    let (_, alone) = sampled(&mut pipeline, "a cat on blue", &settings(2, 1.0));
    assert_eq!(alone.steps[0].epsilon(1.0), alone.steps[0].conditional);
    let (_, cat) = sampled(&mut pipeline, "a cat on blue", &settings(2, 0.0));
    let (_, apple) = sampled(&mut pipeline, "a apple on red", &settings(2, 0.0));
    let difference = (&cat.last - &apple.last).iter().fold(0.0f32, |m, d| m.max(d.abs()));
    assert!(difference < 1e-4, "without guidance the prompt does not matter: {difference}");
}

#[test]
fn nan_latents_name_the_step() {
    let mut pipeline = emoji();
    pipeline.schedule.alphas.iter_mut().for_each(|a| *a = f64::NAN);
    let prompt = pipeline.prompt("a cat on blue").unwrap();
    let message =
        Trajectory::compute(&mut pipeline, &prompt, &settings(4, 3.0), None, &Silent).unwrap_err().to_string();
    assert!(message.contains("step 0 (t = 750)") && message.contains("a cat on blue"), "{message}");
}

#[test]
fn the_word_of_the_object_and_the_class_activation_map_find_it() {
    let mut pipeline = emoji();
    let (_, trajectory) = sampled(&mut pipeline, "a cat on blue", &settings(10, 3.0));
    let words = word_maps(&mut pipeline, &trajectory, &Silent).unwrap();
    assert_eq!(words.words, ["a", "cat", "on", "blue"]);
    assert_eq!(words.layers.len(), 7);
    // The cat is yellow on blue: its places have more red than blue.
    let picture = &trajectory.picture;
    let inside: Vec<bool> = (0..256)
        .map(|i| {
            let (y, x) = (i / 16 * 4 + 2, i % 16 * 4 + 2);
            picture[[0, y, x]] > picture[[2, y, x]]
        })
        .collect();
    let flat = |m: ndarray::Array2<f32>| m.iter().copied().collect::<Vec<f32>>();
    let attention = roc_area(&flat(words.mean(4, 1, (16, 16))), &inside).unwrap();
    let mut cam = Cam::new(&mut pipeline).unwrap();
    let overall = cam.maps(&trajectory, 4, &Score::Cond).unwrap().overall.unwrap();
    let activation = roc_area(&flat(overall), &inside).unwrap();
    assert!(attention > 0.8 && activation > 0.8, "attention {attention}, DF-CAM {activation}");
}

#[test]
fn the_blocks_are_those_of_the_architecture() {
    let mut pipeline = emoji();
    let names: Vec<String> = Cam::new(&mut pipeline).unwrap().blocks.into_iter().map(|b| b.name).collect();
    assert_eq!(names.len(), 17);
    for expected in [
        "down 0 downsampler",
        "down 1 attention 0",
        "mid resnet 1",
        "mid attention 0",
        "up 0 upsampler",
        "up 1 attention 1",
    ] {
        assert!(names.iter().any(|n| n == expected), "{expected} is not among {names:?}");
    }
}

#[test]
fn masks_give_the_same_map_for_a_seed_whatever_the_batch_and_the_identity_is_reported() {
    let mut pipeline = emoji();
    let (_, trajectory) = sampled(&mut pipeline, "a cat on blue", &settings(4, 3.0));
    let rising = RiseSettings { count: 20, reliability: None, ..RiseSettings::default() };
    let first = rise(&mut pipeline, &trajectory, 1, &rising, &Silent).unwrap();
    // Memory for one latent at a time.
    let tight = PipelineOptions { budget: pellucid_guard::Budget::for_memory(1 << 20), ..options(0) };
    let mut one_by_one = Pipeline::open(zoo(), &tight).unwrap();
    let second = rise(&mut one_by_one, &trajectory, 1, &rising, &Silent).unwrap();
    let difference = (&first.map - &second.map).iter().fold(0.0f32, |m, d| m.max(d.abs()));
    assert!(difference < 1e-4, "{difference}");
    assert!(first.identity_correlation.abs() <= 1.0 && first.masks == 20 && first.undefined == 0);
}

fn distance(a: &ndarray::Array3<f32>, b: &ndarray::Array3<f32>) -> f32 {
    (a - b).mapv(f32::abs).mean().unwrap()
}

#[test]
fn inverting_a_picture_ends_at_it_again_and_strength_says_how_much_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cat.png");
    let mut pipeline = emoji();
    let (prompt, original) = sampled(&mut pipeline, "a cat on blue", &settings(20, 1.0));
    std::fs::write(&file, picture(original.picture.view()).to_png().unwrap()).unwrap();
    let mut from = |strength: Option<f64>| {
        let start = Some(PictureStart::new(&file, strength).unwrap());
        // Another seed than the original's: the picture is what leads back to it.
        let settings = TrajectorySettings { start, seed: 9, ..settings(20, 1.0) };
        Trajectory::compute(&mut pipeline, &prompt, &settings, None, &Silent).unwrap()
    };
    let inverted = from(None);
    assert_eq!(inverted.steps.len(), 20);
    let (near, half, all) = (from(Some(0.1)), from(Some(0.5)), from(Some(1.0)));
    assert_eq!((near.steps.len(), half.steps.len(), all.steps.len()), (2, 10, 20));
    let off = [&inverted, &near, &half, &all].map(|t| distance(&t.picture, &original.picture));
    assert!(off[0] < 0.1, "{off:?}");
    assert!(off[1] < 0.1 && off[1] < off[2] && off[2] < off[3], "{off:?}");
}

#[test]
fn a_picture_that_cannot_be_started_from_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cat.png");
    assert!(PictureStart::new(&file, None).unwrap_err().to_string().contains("cat.png"));
    std::fs::write(&file, b"no picture").unwrap();
    assert!(PictureStart::new(&file, Some(0.0)).unwrap_err().to_string().contains("above 0"));
    let begin = |pipeline: &mut Pipeline, start| {
        let prompt = pipeline.prompt("a cat on blue").unwrap();
        let settings = TrajectorySettings { start: Some(start), ..settings(2, 1.0) };
        Trajectory::compute(pipeline, &prompt, &settings, None, &Silent).unwrap_err().to_string()
    };
    let refused = begin(&mut emoji(), PictureStart::new(&file, None).unwrap());
    assert!(refused.contains("cat.png") && refused.contains("picture"), "{refused}");
    let plain = pellucid_vision::picture::Picture::from_fn(8, 8, |_, _| [9, 9, 9]);
    std::fs::write(&file, plain.to_png().unwrap()).unwrap();
    let without = copy("vae_encoder");
    let mut pipeline = Pipeline::open(without.path(), &options(0)).unwrap();
    let refused = begin(&mut pipeline, PictureStart::new(&file, None).unwrap());
    assert!(refused.contains("vae_encoder/model.onnx"), "{refused}");
}

#[test]
fn a_small_memory_bound_changes_the_way_and_not_the_class_activation_maps() {
    let mut roomy = emoji();
    let (_, trajectory) = sampled(&mut roomy, "a cat on blue", &settings(2, 3.0));
    let mut tight =
        Pipeline::open(zoo(), &PipelineOptions { budget: pellucid_guard::Budget::for_memory(1 << 20), ..options(0) })
            .unwrap();
    let (mut one, mut other) = (Cam::new(&mut roomy).unwrap(), Cam::new(&mut tight).unwrap());
    for at in 0..2 {
        let maps = [&mut one, &mut other].map(|cam| cam.maps(&trajectory, at, &Score::Cond).unwrap().overall.unwrap());
        let off = (&maps[0] - &maps[1]).iter().fold(0.0f32, |m, d| m.max(d.abs()));
        assert!(off < 1e-3, "step {at}: {off}");
    }
}
