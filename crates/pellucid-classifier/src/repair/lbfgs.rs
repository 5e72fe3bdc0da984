//! The exact fit of a convex loss over all samples, where training in batches would stop on the way.

use super::loss::{Loss, Slope};
use crate::layer::DecisionLayer;
use ndarray::{Array1, ArrayView2};
use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that the curvature is read off.
const MEMORY: usize = 10;
/// The gradient's norm at which a fit is done.
const DONE: f64 = 1e-5;
/// Armijo's share of the decrease that the gradient promises.
const ENOUGH: f64 = 1e-4;
/// Halvings of a step; where none of them goes down, the sum's rounding is reached.
const HALVINGS: usize = 20;

/// A step and the change of the gradient along it.
struct Pair {
    step: Array1<f64>,
    change: Array1<f64>,
    product: f64,
}

/// Minimises `loss` (convex: no penalty, no focal factor) plus `pull` · ‖W − W₀‖² from `start`, W₀ among it, by L-BFGS with
/// backtracking, until the gradient's norm is 1e-5, or after `steps`.
pub fn lbfgs(
    start: &DecisionLayer,
    loss: &Loss,
    features: ArrayView2<'_, f32>,
    labels: &[usize],
    importance: &[f64],
    pull: f64,
    steps: usize,
) -> DecisionLayer {
    let (classes, width) = start.weight.dim();
    let origin = flat(start);
    let evaluate = |x: &Array1<f64>| -> (f64, Array1<f64>) {
        let Slope { value, weight, bias } = loss.slope(&layer(x, classes, width), features, labels, importance);
        let mut gradient: Array1<f64> = weight.iter().chain(&bias).map(|&g| f64::from(g)).collect();
        let mut moved = 0.0;
        for i in 0..classes * width {
            let by = x[i] - origin[i];
            moved += by * by;
            gradient[i] += 2.0 * pull * by;
        }
        (value + pull * moved, gradient)
    };
    let mut at = origin.clone();
    let (mut value, mut gradient) = evaluate(&at);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    for _ in 0..steps {
        let norm = gradient.dot(&gradient).sqrt();
        if norm < DONE || !norm.is_finite() {
            break;
        }
        let mut direction = -curved(&gradient, &pairs);
        let mut promise = gradient.dot(&direction);
        if promise >= 0.0 {
            // The remembered curvature has nothing to say here.
            pairs.clear();
            direction = -&gradient;
            promise = -norm * norm;
        }
        // Without any curvature the first step is one of length 1 at most.
        let mut length = if pairs.is_empty() { 1f64.min(1.0 / norm) } else { 1.0 };
        let found = (0..HALVINGS).find_map(|_| {
            let next = &at + &(&direction * length);
            let (below, slope) = evaluate(&next);
            let down = below <= value + ENOUGH * length * promise;
            length *= 0.5;
            down.then_some((next, below, slope))
        });
        let Some((next, below, slope)) = found else { break };
        let (step, change) = (&next - &at, &slope - &gradient);
        let product = step.dot(&change);
        if product > 1e-10 * step.dot(&step).sqrt() * change.dot(&change).sqrt() {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, product });
        }
        (at, value, gradient) = (next, below, slope);
    }
    layer(&at, classes, width)
}

/// The gradient times the inverse of the remembered curvature: the two loops of L-BFGS.
fn curved(gradient: &Array1<f64>, pairs: &VecDeque<Pair>) -> Array1<f64> {
    let mut direction = gradient.clone();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.step.dot(&direction) / pair.product;
        direction.scaled_add(-share, &pair.change);
        shares.push(share);
    }
    if let Some(last) = pairs.back() {
        direction *= last.product / last.change.dot(&last.change);
    }
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let back = pair.change.dot(&direction) / pair.product;
        direction.scaled_add(share - back, &pair.step);
    }
    direction
}

fn flat(layer: &DecisionLayer) -> Array1<f64> {
    layer.weight.iter().chain(&layer.bias).map(|&v| f64::from(v)).collect()
}

fn layer(x: &Array1<f64>, classes: usize, width: usize) -> DecisionLayer {
    let value = |i: usize| x[i] as f32;
    DecisionLayer {
        weight: ndarray::Array2::from_shape_fn((classes, width), |(c, j)| value(c * width + j)),
        bias: Array1::from_shape_fn(classes, |c| value(classes * width + c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use rand::{Rng, SeedableRng};

    #[test]
    fn the_stationary_point_is_found() {
        let start = DecisionLayer { weight: Array2::zeros((2, 2)), bias: Array1::zeros(2) };
        let features = array![[1.0, 0.2], [0.3, 1.0], [0.8, 0.9], [0.1, 0.4]];
        let loss = Loss::cross_entropy();
        let found = lbfgs(&start, &loss, features.view(), &[0, 1, 1, 0], &[], 0.01, 2000);
        let mut slope = loss.slope(&found, features.view(), &[0, 1, 1, 0], &[]);
        slope.weight.scaled_add(0.02, &found.weight);
        assert!(slope.weight.iter().chain(&slope.bias).all(|g| g.abs() < 2e-5), "{slope:?}");
    }

    #[test]
    fn features_of_unequal_size_need_few_steps() {
        // Badly scaled on purpose: plain gradient descent needs thousands of steps.
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let features = Array2::from_shape_fn((300, 20), |(i, j)| {
            (rng.random::<f32>() + f32::from(u8::from(i % 3 == j % 3))) * 10f32.powi(j as i32 % 4 - 2)
        });
        let labels: Vec<usize> = (0..300).map(|i| i % 3).collect();
        let start = DecisionLayer { weight: Array2::zeros((3, 20)), bias: Array1::zeros(3) };
        let loss = Loss::cross_entropy();
        let of = |steps| lbfgs(&start, &loss, features.view(), &labels, &[], 1e-3, steps);
        let value = |layer: &DecisionLayer| {
            let moved: f64 = layer.weight.iter().map(|&w| f64::from(w).powi(2)).sum();
            loss.slope(layer, features.view(), &labels, &[]).value + 1e-3 * moved
        };
        let (hundred, many) = (value(&of(100)), value(&of(2000)));
        assert!(hundred - many < 1e-4 && many < value(&start), "{hundred} {many}");
    }
}
