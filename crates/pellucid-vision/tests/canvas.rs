//! Optimised pictures: the golden picture of the published code, and adjoints against the maps they belong to.

#![allow(clippy::unwrap_used)]

use pellucid_vision::augment::{Augmentation, Draw};
use pellucid_vision::canvas::{Canvas, Parameterisation, add_total_variation, normal};
use pellucid_vision::fourier::Spectrum;
use pellucid_vision::picture::Picture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

fn golden(name: &str) -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../zoo/golden/neuroinspect.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap().data();
    data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn noise(seed: u64, length: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..length).map(|_| normal(&mut random)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_picture_is_that_of_the_published_code() {
    let canvas = Canvas::new(Parameterisation::Fourier, 64);
    assert!(largest_difference(&canvas.picture(&golden("spectrum64")), &golden("image64")) < 1e-5);
    let scale = golden("fft_scale64");
    let relative = Spectrum::new(64).scale().iter().zip(&scale).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f32::max);
    assert!(relative < 1e-5, "{relative}");
}

#[test]
fn the_spectrums_adjoint_is_its_adjoint() {
    for side in [2, 6, 32, 70] {
        let spectrum = Spectrum::new(side);
        let (x, y) = (noise(1, side * side), noise(2, side * side));
        let (there, back) = (dot(&spectrum.picture(&x), &y), dot(&x, &spectrum.adjoint(&y)));
        assert!((there - back).abs() < 1e-4 * there.abs().max(1.0), "side {side}: {there} and {back}");
    }
}

#[test]
fn an_augmentations_adjoint_is_its_adjoint() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for (side, resize) in [(8, [0.6, 1.2]), (32, [0.6, 0.6]), (33, [1.2, 1.2]), (64, [0.6, 1.2])] {
        // No colour shift, no fill: those are not linear.
        let linear = Augmentation { noise: 0.0, resize, ..Augmentation::default() };
        let draw = linear.draw(&mut random, side, 1.0);
        let (x, y) = (noise(4, 3 * side * side), noise(5, 3 * side * side));
        let (there, back) = (dot(&draw.apply(&x), &y), dot(&x, &draw.adjoint(&y)));
        assert!((there - back).abs() < 1e-4 * there.abs().max(1.0), "{draw:?}: {there} and {back}");
    }
}

#[test]
fn a_parameterisations_gradient_is_the_slope_of_its_picture() {
    for parameterisation in [Parameterisation::Fourier, Parameterisation::Phase, Parameterisation::Pixel] {
        let canvas = Canvas::new(parameterisation, 16);
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let parameters: Vec<f32> = canvas.spark(&mut random).iter().map(|v| v * 50.0).collect();
        let (direction, wish) = (noise(7, parameters.len()), noise(8, canvas.len()));
        let moved = |by: f32| {
            let moved: Vec<f32> = parameters.iter().zip(&direction).map(|(p, d)| p + by * d).collect();
            dot(&canvas.picture(&moved), &wish)
        };
        let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
        let gradient = canvas.gradient(&parameters, &canvas.picture(&parameters), &wish);
        let found = dot(&gradient, &direction);
        assert!((slope - found).abs() < 0.01 * slope.abs().max(0.1), "{parameterisation:?}: {slope} and {found}");
    }
}

#[test]
fn a_starting_picture_comes_back() {
    // Smooth, so that nothing lies at the Nyquist frequency.
    let picture = Picture::from_fn(32, 32, |x, y| {
        let wave = |by: u32| (128.0 + 90.0 * (std::f32::consts::TAU * by as f32 / 32.0).sin()) as u8;
        [wave(x), wave(y), wave(x + y)]
    });
    for parameterisation in [Parameterisation::Fourier, Parameterisation::Pixel] {
        let canvas = Canvas::new(parameterisation, 32);
        let again = canvas.to_picture(&canvas.picture(&canvas.parameters_of(&picture)));
        let off = again.data().iter().zip(picture.data()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(2), "{parameterisation:?}: {off:?}");
    }
}

#[test]
fn a_picture_with_fixed_magnitudes_has_the_contrast_of_a_photograph() {
    let canvas = Canvas::new(Parameterisation::Phase, 64);
    let picture = canvas.picture(&canvas.spark(&mut ChaCha8Rng::seed_from_u64(9)));
    let mean = picture.iter().sum::<f32>() / picture.len() as f32;
    let deviation = (picture.iter().map(|p| (p - mean).powi(2)).sum::<f32>() / picture.len() as f32).sqrt();
    assert!((0.3..0.7).contains(&mean) && (0.08..0.3).contains(&deviation), "{mean} ± {deviation}");
}

#[test]
fn no_augmentation_changes_nothing_and_the_fill_surrounds_a_small_picture() {
    let x: Vec<f32> = noise(10, 3 * 32 * 32);
    assert_eq!(Draw::none(32).apply(&x), x);
    let small = Augmentation { rotate: 0.0, translate: 0.0, resize: [0.5, 0.5], noise: 0.0, fill: 0.25 };
    let out = small.draw(&mut ChaCha8Rng::seed_from_u64(11), 32, 1.0).apply(&vec![1.0; 3 * 32 * 32]);
    assert_eq!((out[0], out[16 * 32 + 16]), (0.25, 1.0));
    assert_eq!(out.iter().filter(|v| **v == 1.0).count(), 3 * 16 * 16);
}

#[test]
fn a_translation_moves_what_is_shown() {
    let mut x = vec![0.0; 3 * 16 * 16];
    x[5 * 16 + 5] = 1.0;
    let apart = Augmentation { rotate: 0.0, translate: 0.25, resize: [1.0, 1.0], noise: 0.0, fill: 0.0 };
    let out = apart.draw(&mut ChaCha8Rng::seed_from_u64(12), 16, 1.0).apply(&x);
    assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-5, "light is neither lost nor made");
    assert!(out[5 * 16 + 5] < 0.9);
}

#[test]
fn total_variation_pulls_neighbours_together() {
    let mut gradient = vec![0.0; 3 * 4];
    add_total_variation(&[0.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0], 2, 4.0, &mut gradient);
    assert_eq!(gradient[..4], [-1.0, 2.0, 0.0, -1.0]);
    assert!(gradient[4..].iter().all(|g| *g == 0.0));
}
