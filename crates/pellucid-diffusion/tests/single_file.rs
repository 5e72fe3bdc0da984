//! A denoiser alone, described by a TOML file: σ and timesteps, what it is told, and what is refused.

#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array4, Ix4};
use pellucid_diffusion::explain::cam::{Cam, Score};
use pellucid_diffusion::explain::rise::{RiseSettings, rise};
use pellucid_diffusion::{Pipeline, PipelineOptions, Timesteps, Trajectory, TrajectorySettings, picture};
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::progress::Silent;
use pellucid_runtime::{Array, Runtime, SessionOptions};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn zoo(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models").join(model)
}

fn settings(steps: usize) -> TrajectorySettings {
    TrajectorySettings {
        timesteps: Timesteps::Uniform { steps, spacing: None },
        guidance: 1.0,
        seed: 3,
        ..TrajectorySettings::default()
    }
}

fn sampled(pipeline: &mut Pipeline, prompt: &str, steps: usize) -> Trajectory {
    let prompt = pipeline.prompt(prompt).unwrap();
    Trajectory::compute(pipeline, &prompt, &settings(steps), None, &Silent).unwrap()
}

/// D(x, σ) = m + (x − m) s² / (σ² + s²), the best denoiser of data with mean m, which it is told, and deviation s = 0.5.
fn ideal(folder: &TempDir) {
    let nodes = vec![
        Node::new("Mul", &["sigma", "sigma"], &["squared"]),
        Node::new("Add", &["squared", "variance"], &["both"]),
        Node::new("Div", &["variance", "both"], &["share"]),
        Node::new("Reshape", &["share", "four"], &["k"]),
        Node::new("Reshape", &["mean", "four"], &["m"]),
        Node::new("Sub", &["noisy", "m"], &["away"]),
        Node::new("Mul", &["away", "k"], &["kept"]),
        Node::new("Add", &["kept", "m"], &["denoised"]),
    ];
    let constants = vec![Tensor::f32("variance", &[1], &[0.25]), Tensor::i64("four", &[4], &[-1, 1, 1, 1])];
    let open = |name: &str| Value::tensor(name, ElementType::F32, &[None]);
    let noisy = Value::tensor("noisy", ElementType::F32, &[None, Some(1), Some(6), Some(5)]);
    let graph = Graph::new(vec![noisy, open("sigma"), open("mean")], nodes, constants, &["denoised"]).unwrap();
    let path = folder.path().join("ideal.onnx");
    Model::new(&path, graph, 17).write(&path).unwrap();
}

const IDEAL: &str = r#"
model = "ideal.onnx"
prediction = "x0"
[inputs]
sample = "noisy"
time = "sigma"
condition = "mean"
[sigma]
min = 0.01
max = 50.0
"#;

/// The levels that `steps` trailing timesteps of 1000 visit, from the largest, by the formula of Karras et al.
fn levels(low: f64, high: f64, steps: usize) -> Vec<f64> {
    let level = |t: f64| (low.powf(1.0 / 7.0) + t / 999.0 * (high.powf(1.0 / 7.0) - low.powf(1.0 / 7.0))).powf(7.0);
    (0..steps).map(|i| level((1000.0 - i as f64 * 1000.0 / steps as f64).round() - 1.0)).collect()
}

#[test]
fn a_model_told_the_noise_level_follows_its_own_process() {
    let folder = TempDir::new().unwrap();
    ideal(&folder);
    std::fs::write(folder.path().join("denoiser.toml"), IDEAL).unwrap();
    let mut pipeline = Pipeline::open(folder.path(), &PipelineOptions::default()).unwrap();
    assert_eq!(pipeline.latent, [1, 6, 5]);
    let done = sampled(&mut pipeline, "0.3", 10);
    // Euler's steps of dx/dσ = (x − D) / σ, in float64, from the same noise brought to the largest level.
    let levels = levels(0.01, 50.0, 10);
    let mut x = done.steps[0].latent.mapv(f64::from) * (1.0 + levels[0] * levels[0]).sqrt();
    for (i, &level) in levels.iter().enumerate() {
        let clean = x.mapv(|v| 0.3 + (v - 0.3) * 0.25 / (level * level + 0.25));
        let close = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-4;
        assert!(done.steps[i].clean.iter().zip(&clean).all(close), "step {i}");
        let next = levels.get(i + 1).copied().unwrap_or(0.0);
        x = &clean + (x - &clean) * (next / level);
    }
    assert!(done.last.iter().zip(&x).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4));
}

#[test]
fn a_description_gives_what_the_folder_gives() {
    let folder = TempDir::new().unwrap();
    std::fs::copy(zoo("tiny_ddpm/unet/model.onnx"), folder.path().join("unet.onnx")).unwrap();
    let toml = r#"
        model = "unet.onnx"
        [inputs]
        sample = "sample"
        time = "timestep"
        condition = "class_labels"
        [schedule]
        _class_name = "DDIMScheduler"
        beta_schedule = "linear"
    "#;
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, toml).unwrap();
    let mut plain = Pipeline::open(&file, &PipelineOptions::default()).unwrap();
    assert_eq!(plain.name(), "mine");
    let mut whole = Pipeline::open(zoo("tiny_ddpm"), &PipelineOptions::default()).unwrap();
    let (a, b) = (sampled(&mut plain, "2", 4), sampled(&mut whole, "2", 4));
    assert_eq!(a.picture, b.picture);
    assert_ne!(a.picture, sampled(&mut plain, "1", 4).picture, "the condition does nothing");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let folder = TempDir::new().unwrap();
    ideal(&folder);
    let file = folder.path().join("denoiser.toml");
    let refused = |from: &str, to: &str| {
        assert!(IDEAL.contains(from));
        std::fs::write(&file, IDEAL.replace(from, to)).unwrap();
        let error = Pipeline::open(&file, &PipelineOptions::default()).unwrap_err().to_string();
        assert!(error.contains("denoiser.toml") || error.contains("other.onnx"), "{error}");
        error
    };
    assert!(refused("\"noisy\"", "\"x\"").contains("no input 'x'; it has noisy, sigma, mean"));
    assert!(refused("condition = \"mean\"\n", "").contains("input 'mean'; give it a number under [constants]"));
    assert!(refused("min = 0.01", "min = 60.0").contains("0 < min < max"));
    assert!(refused("min = 0.01", "least = 0.01").contains("least"));
    assert!(refused("\"x0\"", "\"flow\"").contains("flow"));
    assert!(refused("[sigma]", "[schedule]\nbeta_start = 0.1\n[sigma]").contains("both [sigma] and [schedule]"));
    assert!(refused("prediction", "range = [1.0, 0.0]\nprediction").contains("range is [1, 0]"));
    assert!(refused("ideal.onnx", "other.onnx").contains("other.onnx"));
    assert!(refused("min = 0.01\nmax = 50.0", "").contains("min"));

    std::fs::write(&file, IDEAL).unwrap();
    let mut pipeline = Pipeline::open(&file, &PipelineOptions::default()).unwrap();
    let error = pipeline.prompt("steep").unwrap_err().to_string();
    assert!(error.contains("'steep'") && error.contains("'mean'"), "{error}");
}

#[test]
fn black_and_white_are_where_the_description_says() {
    let folder = TempDir::new().unwrap();
    ideal(&folder);
    let file = folder.path().join("denoiser.toml");
    std::fs::write(&file, format!("range = [-2.0, 6.0]\n{IDEAL}")).unwrap();
    let mut pipeline = Pipeline::open(&file, &PipelineOptions::default()).unwrap();
    // On the model's own grid, in turn.
    let values = Array4::from_shape_fn((1, 1, 6, 5), |(_, _, _, x)| [-2.0, 2.0, 6.0][x % 3]);
    let shown = picture(pipeline.decode(&values).unwrap().index_axis(ndarray::Axis(0), 0));
    assert_eq!([0, 1, 2].map(|x| shown.pixel(x, 0)[0]), [0, 128, 255]);
    let gray = Array4::from_elem((1, 3, 6, 5), 0.0);
    assert_eq!(pipeline.encode_picture(&gray).unwrap(), Array4::from_elem((1, 1, 6, 5), 2.0));
}

#[test]
#[ignore = "needs the terrain model: make terrain"]
fn the_terrain_model_is_sampled_as_its_own_process_and_explained() {
    let mut pipeline = Pipeline::open(zoo("terrain"), &PipelineOptions::default()).unwrap();
    let done = sampled(&mut pipeline, "0.7", 5);
    // The file itself, told σ, under Euler's steps of dx/dσ = (x − D) / σ.
    let runtime = Runtime::load(None).unwrap();
    let model = Model::read(zoo("terrain/denoiser.onnx")).unwrap();
    let mut session = runtime.session(&model, &SessionOptions::default()).unwrap();
    let levels = levels(0.002, 80.0, 5);
    let mut x = done.steps[0].latent.mapv(|v| v * (1.0 + levels[0] * levels[0]).sqrt() as f32);
    for (i, &level) in levels.iter().enumerate() {
        let one = |v: f64| Array::F32(Array1::from_vec(vec![v as f32]).into_dyn());
        let fed = [("noisy", &Array::F32(x.clone().into_dyn())), ("sigma", &one(level)), ("difficulty", &one(0.7))];
        let clean = session.run(&fed).unwrap().remove(0).into_f32().unwrap();
        let clean = clean.into_dimensionality::<Ix4>().unwrap();
        let next = levels.get(i + 1).copied().unwrap_or(0.0);
        x = &clean + (&x - &clean) * (next / level) as f32;
    }
    let off = done.last.iter().zip(&x).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(off < 1e-3, "{off}");

    let how = RiseSettings { count: 16, ..RiseSettings::default() };
    let map = rise(&mut pipeline, &done, 1, &how, &Silent).unwrap();
    assert!(map.map.iter().all(|v| v.is_finite()) && map.map.std(0.0) > 0.0);
    let mut cam = Cam::new(&mut pipeline).unwrap();
    let maps = cam.maps(&done, 1, &Score::Cond).unwrap();
    assert!(maps.blocks.len() > 20 && maps.overall.unwrap().std(0.0) > 0.0);
}
