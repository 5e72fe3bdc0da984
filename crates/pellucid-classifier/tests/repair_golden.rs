//! The published repair: its loss, gradient and fifty steps of Adam are the numbers made with the published code.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Golden, layer};
use ndarray::{Array1, Array2};
use pellucid_classifier::repair::loss::{Loss, RatioNorm, RatioPenalty};
use pellucid_classifier::repair::train::Adam;

/// λ₃ = 0.01, o = 1, class 478, as the golden numbers say of themselves.
fn published(golden: &Golden) -> Loss {
    let suspects = golden.indices("repair_neurons");
    let penalty = RatioPenalty { suspects, class: 478, strength: 0.01, target: 1.0, norm: RatioNorm::Norm };
    Loss { ratio: Some(penalty), ..Loss::cross_entropy() }
}

/// The largest difference of two lists, in units of the largest expected entry.
fn off<'a>(found: impl IntoIterator<Item = &'a f32>, expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    found.into_iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn the_published_loss_and_its_gradient_are_the_golden_ones() {
    let golden = Golden::open();
    let (features, labels) = (golden.matrix("features"), golden.indices("labels"));
    let slope = published(&golden).slope(&layer(), features.view(), &labels, &[]);
    let loss = f64::from(golden.f32("repair_loss0").1[0]);
    assert!((slope.value - loss).abs() < 1e-5, "{} here, {loss} published", slope.value);
    let rows: Array2<f32> = golden.matrix("repair_grad_W_rows");
    for (place, class) in [478, 0, 1].into_iter().enumerate() {
        let off = off(slope.weight.row(class), &rows.row(place).to_vec());
        assert!(off < 1e-4, "row {class} of the gradient is off by {off:.1e} of its largest entry");
    }
    let off = off(&slope.bias, &golden.f32("repair_grad_b").1);
    assert!(off < 1e-4, "the gradient of b is off by {off:.1e}");
}

#[test]
fn fifty_steps_of_adam_take_the_published_way() {
    let golden = Golden::open();
    let (features, labels) = (golden.matrix("features"), golden.indices("labels"));
    let (loss, mut layer) = (published(&golden), layer());
    let mut adam = Adam::new(&layer);
    for (step, expected) in golden.f32("repair_trace").1.into_iter().enumerate() {
        let slope = loss.slope(&layer, features.view(), &labels, &[]);
        let off = (slope.value - f64::from(expected)).abs();
        assert!(off < 1e-3 * f64::from(expected).max(0.01), "step {step}: {} here, {expected} published", slope.value);
        adam.step(&mut layer, &slope, 1e-3);
    }
    // Adam divides by the gradient's size, so entries whose gradient is rounding alone may go either way: the rest, by
    // mean difference against a way of up to 0.05.
    let row: Array1<f32> = golden.f32("repair_W478_after50").1.into();
    let apart = (&layer.weight.row(478) - &row).mapv(f32::abs);
    assert!(apart.mean().unwrap() < 2e-5, "W[478] is {:.1e} off on average", apart.mean().unwrap());
    let bias: Array1<f32> = golden.f32("repair_b_after50").1.into();
    assert!((&layer.bias - &bias).mapv(f32::abs).mean().unwrap() < 2e-5);
}
