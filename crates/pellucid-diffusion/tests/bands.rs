//! The level of denoising by frequency equals what NumPy makes of its formulas (`zoo/build/bands.py`).

#![allow(clippy::unwrap_used)]

use ndarray::{Array3, Array4};
use pellucid_diffusion::explain::bands::{Target, wiener};
use serde_json::Value;
use std::f64::consts::TAU;
use std::path::Path;

const STEPS: usize = 4;

/// Numbers in [−0.5, 0.5), exact in any language.
fn grain(i: u64, seed: u64) -> f64 {
    ((7919 * i * i + 104_729 * i + 31 * seed) % 1009) as f64 / 1009.0 - 0.5
}

/// x̂0 of a step; the final picture for `STEPS`.
fn picture(step: usize) -> Array3<f32> {
    let waves = [(1.0, 0.0, 0.55), (2.0, 1.0, 0.35), (3.0, 2.0, 0.3), (6.0, -4.0, 0.25), (17.0, 2.0, 0.2)];
    let gain = |j: usize| if step < STEPS { ((step + 1) as f64 / (j + 1) as f64).min(1.0) } else { 1.0 };
    let noise = 0.08 * (STEPS - step) as f64;
    Array3::from_shape_fn((3, 32, 40), |(c, y, x)| {
        let wave = |(j, (u, v, height)): (usize, &(f64, f64, f64))| {
            gain(j) * height * (TAU * (u * x as f64 / 40.0 + v * y as f64 / 32.0) + 0.7 * c as f64).sin()
        };
        let grain = grain(((c * 32 + y) * 40 + x) as u64, step as u64);
        (waves.iter().enumerate().map(wave).sum::<f64>() + noise * grain) as f32
    })
}

fn golden() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bands.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let off = found.iter().zip(expected).fold(0.0f64, |most, (f, e)| most.max((f - e).abs()));
    assert!(off < 1e-5, "{what}: off by {off}");
}

#[test]
fn levels_shares_and_order_are_those_of_numpy() {
    let golden = golden();
    let steps: Vec<Array3<f32>> = (0..STEPS).map(picture).collect();
    let found = Target::new(picture(STEPS).view()).levels(steps.iter().map(|step| step.view()));
    assert_eq!(found.bands.len(), 5);
    for (band, expected) in found.bands.iter().zip(golden["levels"].as_array().unwrap()) {
        assert_near(&band.levels, &numbers(expected), &band.name);
    }
    let of = |f: fn(&pellucid_diffusion::explain::bands::Band) -> f64| found.bands.iter().map(f).collect::<Vec<_>>();
    assert_near(&of(|b| b.share), &numbers(&golden["share"]), "shares");
    assert_near(&of(|b| b.arrival), &numbers(&golden["arrival"]), "arrivals");
    let order = found.order.unwrap();
    assert_near(&[order.tau, order.p], &[golden["tau"].as_f64().unwrap(), golden["p"].as_f64().unwrap()], "order");
    let coherence: Vec<f64> = found.coherence.iter().map(|&r| r as f64).collect();
    assert_near(&coherence, &numbers(&golden["coherence"]), "coherence");
}

#[test]
fn the_wiener_denoiser_is_that_of_numpy() {
    let latent = |seed: u64, scale: f64, shift: f64| {
        Array4::from_shape_fn((1, 2, 6, 8), |(_, c, y, x)| {
            (grain(((c * 6 + y) * 8 + x) as u64, seed) as f32 * scale as f32) + shift as f32
        })
    };
    let said = wiener(&latent(5, 1.0, 0.25), &latent(6, 3.0, 0.0), 0.3);
    let said: Vec<f64> = said.iter().map(|&v| f64::from(v)).collect();
    assert_near(&said, &numbers(&golden()["wiener"]), "what it says");
}
