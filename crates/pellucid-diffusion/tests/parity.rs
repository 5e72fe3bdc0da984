//! Sampling equals diffusers' own DDIM on a small Stable Diffusion with random weights (`zoo/build/tiny_diffusion.py`), and
//! the structure of Stable Diffusion 1 gives the published set of 43 blocks.

#![allow(clippy::unwrap_used)]

use ndarray::{Array4, ArrayD, Axis, Ix4, IxDyn};
use pellucid_diffusion::explain::cam::{Cam, Score};
use pellucid_diffusion::explain::cross_attention::word_maps;
use pellucid_diffusion::sampler::dpm_solver::solve;
use pellucid_diffusion::{Pipeline, PipelineOptions, Prediction, Prompt, Timesteps, Trajectory, TrajectorySettings};
use pellucid_runtime::progress::Silent;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/models").join(model)
}

fn open(model: &str) -> Pipeline {
    Pipeline::open(folder(model), &PipelineOptions::default()).unwrap()
}

/// The picture after five DDIM steps from `x`. diffusers computes ε anew from a clipped x̂0 only on request, and not here.
fn sampled(pipeline: &mut Pipeline, prompt: &Prompt, guidance: f32, mut x: Array4<f32>) -> Array4<f32> {
    let (timesteps, _) = Timesteps::Uniform { steps: 5, spacing: None }.resolve(&pipeline.scheduler).unwrap();
    for (at, &t) in timesteps.iter().enumerate() {
        let epsilon = pipeline.epsilon(&x, t, prompt, guidance).unwrap();
        let clean = pipeline.schedule.clean(&x.view(), &epsilon.view(), t);
        x = pipeline.schedule.step(&clean.view(), &epsilon.view(), timesteps.get(at + 1).copied());
    }
    pipeline.decode(&x).unwrap()
}

fn array(tensors: &SafeTensors<'_>, name: &str) -> Array4<f32> {
    let view = tensors.tensor(name).unwrap();
    let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap().into_dimensionality::<Ix4>().unwrap()
}

#[test]
fn sampling_equals_ddim_of_diffusers() {
    let bytes = references("tiny_diffusion");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut pipeline = open("tiny_diffusion");
    let prompt = pipeline.prompt("a cat on blue").unwrap();
    for prediction in [Prediction::Epsilon, Prediction::VPrediction] {
        for guidance in [1.0, 3.0] {
            pipeline.schedule.prediction = prediction;
            let picture = sampled(&mut pipeline, &prompt, guidance, array(&tensors, "noise"));
            let expected = array(&tensors, &format!("{prediction}.{guidance}.picture"));
            let off = (&picture - &expected).iter().fold(0.0f32, |m, d| m.max(d.abs()));
            assert!(off < 1e-3, "{prediction}, guidance {guidance}: {off}");
            assert_eq!(picture.len_of(Axis(1)), 3);
        }
    }
}

fn references(model: &str) -> Vec<u8> {
    std::fs::read(folder(model).join("references.safetensors")).unwrap()
}

fn furthest(a: &Array4<f32>, b: &Array4<f32>) -> f32 {
    assert_eq!(a.dim(), b.dim());
    (a - b).iter().fold(0.0f32, |m, d| m.max(d.abs()))
}

#[test]
fn sampling_equals_dpm_solver_of_diffusers() {
    let bytes = references("tiny_diffusion");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut pipeline = open("tiny_diffusion");
    let prompt = pipeline.prompt("a cat on blue").unwrap();
    let view = tensors.tensor("multistep.timesteps").unwrap();
    let timesteps: Vec<usize> =
        view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as usize).collect();
    let x = solve(&mut pipeline, &prompt, 3.0, &timesteps, array(&tensors, "noise"), &Silent).unwrap();
    let off = furthest(&x, &array(&tensors, "multistep.latent"));
    assert!(off < 1e-3, "{off}");
}

#[test]
fn a_class_conditional_model_of_pixels_samples_as_diffusers_does() {
    let mut pipeline = open("tiny_ddpm");
    let bytes = references("tiny_ddpm");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for class in ["1", "3"] {
        let prompt = pipeline.prompt(class).unwrap();
        let picture = sampled(&mut pipeline, &prompt, 1.0, array(&tensors, "noise"));
        let off = furthest(&picture, &array(&tensors, &format!("class.{class}.picture")));
        assert!(off < 1e-3, "class {class}: {off}");
    }
    let refused = pipeline.prompt("a cat").unwrap_err().to_string();
    assert!(refused.contains("number of a class"), "{refused}");
}

#[test]
fn two_text_encoders_sample_as_stable_diffusion_xl() {
    let mut pipeline = open("tiny_sdxl");
    let bytes = references("tiny_sdxl");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let prompt = pipeline.prompt("a cat on blue").unwrap();
    for guidance in [1.0, 5.0] {
        let picture = sampled(&mut pipeline, &prompt, guidance, array(&tensors, "noise"));
        let off = furthest(&picture, &array(&tensors, &format!("{guidance}.picture")));
        assert!(off < 1e-3, "guidance {guidance}: {off}");
    }
    // Word maps and blocks are found on this shape too.
    let settings = TrajectorySettings {
        timesteps: Timesteps::Uniform { steps: 2, spacing: None },
        guidance: 5.0,
        ..TrajectorySettings::default()
    };
    let trajectory = Trajectory::compute(&mut pipeline, &prompt, &settings, None, &Silent).unwrap();
    let maps = word_maps(&mut pipeline, &trajectory, &Silent).unwrap();
    assert_eq!(maps.words.len(), 4);
    assert!(!Cam::new(&mut pipeline).unwrap().maps(&trajectory, 0, &Score::Cond).unwrap().blocks.is_empty());
}

#[test]
fn encoding_equals_the_mean_of_diffusers() {
    let bytes = references("tiny_diffusion");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut pipeline = open("tiny_diffusion");
    let latent = pipeline.encode_picture(&array(&tensors, "encoder.picture")).unwrap();
    let off = furthest(&latent, &array(&tensors, "encoder.latent"));
    assert!(off < 1e-4, "{off}");
    assert_eq!(pipeline.pixels_per_latent().unwrap(), 2);
}

#[test]
fn the_published_set_of_blocks_has_43_modules() {
    let mut pipeline = open("tiny_diffusion");
    let blocks = Cam::new(&mut pipeline).unwrap().blocks;
    let published = blocks.iter().filter(|b| b.is_published).count();
    let names: Vec<String> = blocks.into_iter().map(|b| b.name).collect();
    assert_eq!(published, 43, "{names:?}");
}
