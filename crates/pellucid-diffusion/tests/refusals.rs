//! Folders and descriptions that say what cannot be: each is refused in a line that names the file and the entry, before
//! memory is taken for it.

#![allow(clippy::unwrap_used)]

use pellucid_diffusion::{Pipeline, PipelineOptions, Timesteps, Trajectory, TrajectorySettings};
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_guard::{Budget, Limit};
use pellucid_runtime::progress::Silent;
use std::path::Path;
use tempfile::TempDir;

fn options() -> PipelineOptions {
    let library = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.runtime"));
    PipelineOptions { library, ..PipelineOptions::default() }
}

/// A denoiser of `taken` channels (of any number and size where `None`) that predicts the first `given` of them as they
/// are, or a corner of them.
fn denoiser(taken: Option<i64>, given: i64, corner: bool) -> Model {
    let axes = if corner { vec![1, 2] } else { vec![1] };
    let ends = if corner { vec![given, 2] } else { vec![given] };
    let nodes = vec![
        Node::new("Slice", &["sample", "starts", "ends", "axes"], &["part"]),
        // The timestep counts for next to nothing, but it is read.
        Node::new("Cast", &["timestep"], &["time"]).with_int("to", 1),
        Node::new("Mul", &["time", "little"], &["shift"]),
        Node::new("Add", &["part", "shift"], &["out_sample"]),
    ];
    let constants = vec![
        Tensor::f32("little", &[1], &[1e-6]),
        Tensor::i64("starts", &[axes.len()], &vec![0; axes.len()]),
        Tensor::i64("ends", &[ends.len()], &ends),
        Tensor::i64("axes", &[axes.len()], &axes),
    ];
    let side = taken.map(|_| 4i64);
    let sample = Value::tensor("sample", ElementType::F32, &[None, taken, side, side]);
    let timestep = Value::tensor("timestep", ElementType::I64, &[Some(1)]);
    let graph = Graph::new(vec![sample, timestep], nodes, constants, &["out_sample"]).unwrap();
    Model::new("model.onnx", graph, 17)
}

/// A pipeline of pixels whose files are `files`, beside the denoiser and a scheduler.
fn folder(model: &Model, files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("model_index.json", "{}");
    write("scheduler/scheduler_config.json", "{}");
    write("unet/config.json", "{}");
    files.iter().for_each(|(name, text)| write(name, text));
    model.write(folder.path().join("unet/model.onnx")).unwrap();
    folder
}

fn refused(folder: &Path, options: &PipelineOptions) -> String {
    let described = std::fs::read_to_string(folder.join("denoiser.toml")).unwrap_or_default();
    let message = Pipeline::open(folder, options).map(drop).expect_err(&described).to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn sampled(folder: &Path) -> Result<Trajectory, String> {
    let mut pipeline = Pipeline::open(folder, &options()).map_err(|e| e.to_string())?;
    let prompt = pipeline.prompt("").unwrap();
    let timesteps = Timesteps::Uniform { steps: 2, spacing: None };
    let settings = TrajectorySettings { timesteps, guidance: 1.0, ..TrajectorySettings::default() };
    Trajectory::compute(&mut pipeline, &prompt, &settings, None, &Silent).map_err(|e| e.to_string())
}

#[test]
fn a_pipeline_of_the_smallest_kind_works() {
    let folder = folder(&denoiser(Some(3), 3, false), &[]);
    assert_eq!(sampled(folder.path()).unwrap().picture.dim(), (3, 4, 4));
}

#[test]
fn entries_of_configs_that_make_no_sense_are_named_with_their_file() {
    let open = denoiser(None, 3, false);
    let size = "\"in_channels\": 3, \"sample_size\"";
    for (file, text, named) in [
        (
            "scheduler/scheduler_config.json",
            r#"{"trained_betas": [], "rescale_betas_zero_snr": true}"#.to_owned(),
            "trained_betas",
        ),
        ("scheduler/scheduler_config.json", r#"{"trained_betas": []}"#.to_owned(), "trained_betas"),
        (
            "scheduler/scheduler_config.json",
            r#"{"clip_sample": true, "clip_sample_range": -1}"#.to_owned(),
            "clip_sample_range",
        ),
        ("scheduler/scheduler_config.json", "[]".to_owned(), "an object"),
        ("scheduler/scheduler_config.json", "{".to_owned(), "is not JSON"),
        ("model_index.json", "[1]".to_owned(), "an object"),
        ("model_index.json", r#"{"force_zeros_for_empty_prompt": 1}"#.to_owned(), "force_zeros_for_empty_prompt"),
        ("unet/config.json", "{}".to_owned(), "in_channels and sample_size"),
        ("unet/config.json", "nothing".to_owned(), "is not JSON"),
        ("unet/config.json", format!("{{{size}: 0}}"), "sample_size"),
        ("unet/config.json", format!("{{{size}: \"8\"}}"), "sample_size"),
        ("unet/config.json", format!("{{{size}: [4]}}"), "sample_size"),
        ("unet/config.json", format!("{{{size}: 18446744073709551615}}"), "sample_size"),
        ("unet/config.json", format!("{{{size}: 1000000}}"), "`memory`"),
        ("unet/config.json", r#"{"in_channels": -1, "sample_size": 4}"#.to_owned(), "in_channels"),
    ] {
        let folder = folder(&open, &[("unet/config.json", &format!("{{{size}: 4}}")), (file, &text)]);
        let message = refused(folder.path(), &options());
        assert!(message.contains(file) && message.contains(named), "{text}: {message}");
    }
}

#[test]
fn a_config_above_the_bound_on_texts_is_not_read() {
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(5000));
    let folder = folder(&denoiser(Some(3), 3, false), &[("model_index.json", &long)]);
    let budget = Budget::default().with(Limit::TextBytes, 1000);
    let message = refused(folder.path(), &PipelineOptions { budget, ..options() });
    assert!(message.contains("model_index.json") && message.contains("1000 bytes allowed"), "{message}");
}

#[test]
fn a_denoiser_that_takes_more_than_it_gives_is_refused_by_name() {
    let inpainting = folder(&denoiser(Some(9), 4, false), &[]);
    let message = sampled(inpainting.path()).unwrap_err();
    for said in ["unet/model.onnx", "'sample' is 9 × 4 × 4", "4 channels", "inpainting"] {
        assert!(message.contains(said), "{message}");
    }
    let smaller = folder(&denoiser(Some(3), 3, true), &[]);
    let message = sampled(smaller.path()).unwrap_err();
    assert!(message.contains("[1, 3, 2, 4]") && message.contains("3 × 4 × 4"), "{message}");
}

#[test]
fn what_a_denoiser_gives_behind_its_noise_is_left_out() {
    // As one that predicts variances too: the input twice.
    let mut model = denoiser(Some(3), 3, false);
    model.graph.nodes[0] = Node::new("Concat", &["sample", "sample"], &["part"]).with_int("axis", 1);
    let folder = folder(&model, &[]);
    assert_eq!(sampled(folder.path()).unwrap().picture.dim(), (3, 4, 4));
}

fn described(toml: &str) -> String {
    let folder = TempDir::new().unwrap();
    denoiser(None, 99, false).write(folder.path().join("m.onnx")).unwrap();
    let inputs = "[inputs]\nsample = \"sample\"\ntime = \"timestep\"\n";
    let (top, tables) = toml.split_once("---").unwrap_or((toml, ""));
    std::fs::write(folder.path().join("denoiser.toml"), format!("model = \"m.onnx\"\n{top}\n{inputs}{tables}"))
        .unwrap();
    let message = refused(folder.path(), &options());
    assert!(message.contains("denoiser.toml"), "{message}");
    message
}

#[test]
fn a_shape_is_within_the_bound_on_memory_before_any_is_taken() {
    for shape in
        ["[3, 4294967296, 4294967296]", "[3, 9223372036854775807, 2]", "[3, 100000, 100000]", "[3, 20000, 20000]"]
    {
        let message = described(&format!("shape = {shape}"));
        assert!(message.contains(shape) && message.contains("`memory`"), "{message}");
    }
    for shape in ["[3, 0, 4]", "[0, 0, 0]"] {
        let message = described(&format!("shape = {shape}"));
        assert!(message.contains(shape) && message.contains("at least 1"), "{message}");
    }
    for shape in ["[3, -1, 4]", "[3, 4]", "[3, 4, 4, 4]", "\"3\"", "[3, 4.5, 4]", "[3, 1e3, 4]"] {
        assert!(described(&format!("shape = {shape}")).contains("line 2"));
    }
    assert!(described("").contains("add shape = [channels, height, width]"));
}

#[test]
fn a_shape_that_the_model_does_not_take_is_refused() {
    let folder = TempDir::new().unwrap();
    denoiser(Some(3), 3, false).write(folder.path().join("m.onnx")).unwrap();
    let text = "model = \"m.onnx\"\nshape = [1, 4, 4]\n[inputs]\nsample = \"sample\"\ntime = \"timestep\"\n";
    std::fs::write(folder.path().join("denoiser.toml"), text).unwrap();
    let message = refused(folder.path(), &options());
    assert!(message.contains("[1, 4, 4]") && message.contains("expected [3, 4, 4]"), "{message}");
}

#[test]
fn a_description_has_the_ranges_of_a_scheduler_config_and_says_in_which_table() {
    for (entry, named) in [
        ("trained_betas = []", "trained_betas"),
        ("clip_sample_range = -1", "clip_sample_range"),
        ("steps_offset = -5", "steps_offset"),
        ("steps_offset = 1e300", "steps_offset"),
        ("beta_start = nan", "beta_start"),
        ("beta_end = inf", "beta_end"),
        ("trained_betas = [0.1, inf]", "trained_betas"),
        ("beta_end = 2024-01-01", "beta_end"),
        ("dynamic_thresholding_ratio = 5", "dynamic_thresholding_ratio"),
        ("num_train_timesteps = 1000000000", "num_train_timesteps"),
    ] {
        let message = described(&format!("shape = [3, 4, 4]---[schedule]\n{entry}"));
        assert!(message.contains("[schedule]") && message.contains(named) && message.contains("expected"), "{message}");
    }
}

#[test]
fn levels_of_noise_that_cannot_be_told_apart_are_refused() {
    for sigma in [
        "min = 1e-300\nmax = 80.0",
        "min = 0.002\nmax = 1e300",
        "min = 0.002\nmax = inf",
        "min = nan\nmax = 80.0",
        "min = 0.002\nmax = 80.0\nrho = 1e308",
        "min = 1.0\nmax = 1.0000000000000002",
        "min = 0.002\nmax = 80.0\nrho = 1e-300",
    ] {
        let message = described(&format!("shape = [3, 4, 4]---[sigma]\n{sigma}"));
        assert!(message.contains("[sigma] has min") && message.contains("expected"), "{message}");
    }
    assert!(described("shape = [3, 4, 4]\nrange = [-3e38, 3e38]").contains("range is"));
    assert!(described("shape = [3, 4, 4]\nrange = [0.0, nan]").contains("range is"));
    assert!(described("shape = [3, 4, 4]---[constants]\nscale = inf").contains("scale is inf"));
}

#[test]
fn a_latent_of_one_place_is_explained_as_any_other() {
    use pellucid_diffusion::explain::rise::{RiseSettings, rise};
    let folder = TempDir::new().unwrap();
    denoiser(None, 99, false).write(folder.path().join("m.onnx")).unwrap();
    let text = "model = \"m.onnx\"\nshape = [1, 1, 1]\n[inputs]\nsample = \"sample\"\ntime = \"timestep\"\n";
    std::fs::write(folder.path().join("denoiser.toml"), text).unwrap();
    let trajectory = sampled(folder.path()).unwrap();
    let mut pipeline = Pipeline::open(folder.path(), &options()).unwrap();
    let settings = RiseSettings { count: 4, reliability: None, ..RiseSettings::default() };
    assert_eq!(rise(&mut pipeline, &trajectory, 0, &settings, &Silent).unwrap().map.dim(), (1, 1));
    let map = ndarray::array![[1.0]];
    let games = pellucid_diffusion::auc::faithfulness(&mut pipeline, &trajectory, 0, &map).unwrap();
    assert!(games.has_moves(1));
    let recovered = pellucid_diffusion::explain::recovery::recovery(&trajectory);
    assert_eq!(recovered.maps.len(), 2);
}
