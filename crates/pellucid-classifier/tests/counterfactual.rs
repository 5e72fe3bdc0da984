//! Counterfactual search against the loop a student would write, and at its edges.

#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2, Axis, array};
use pellucid_classifier::counterfactual::{CounterfactualError, Range, Settings, Variant, search};
use pellucid_classifier::layer::DecisionLayer;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32
        })
        .collect()
}

fn problem(n: usize, d: usize, c: usize) -> (Array2<f32>, Vec<usize>, DecisionLayer) {
    let features = Array2::from_shape_vec((n, d), numbers(n * d, 1)).unwrap();
    let weight = Array2::from_shape_vec((c, d), numbers(c * d, 2)).unwrap().mapv(|v| v - 0.5);
    let layer = DecisionLayer { weight, bias: Array1::from_vec(numbers(c, 3)) };
    (features, (0..n).map(|i| i % c).collect(), layer)
}

/// `docs/methods.md#a2`, one sample at a time, in float64.
fn naive(
    f: &[f32],
    target: usize,
    layer: &DecisionLayer,
    bounds: Option<&Range>,
    max_steps: usize,
) -> (Vec<f64>, usize, bool) {
    let (d, c) = (f.len(), layer.classes());
    let (mut w, mut v) = (vec![0.0f64; d], vec![0.0f64; d]);
    for step in 0..=max_steps {
        let z: Vec<f64> = (0..c)
            .map(|k| {
                f64::from(layer.bias[k])
                    + (0..d).map(|j| f64::from(layer.weight[[k, j]]) * (f64::from(f[j]) + w[j])).sum::<f64>()
            })
            .collect();
        let best = (0..c).fold(0, |b, k| if z[k] > z[b] { k } else { b });
        if best == target || step == max_steps {
            return (w, step, best == target);
        }
        let sum: f64 = z.iter().map(|v| (v - z[best]).exp()).sum();
        let norm = w.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mut next = w.clone();
        for j in 0..d {
            let ce: f64 = (0..c)
                .map(|k| {
                    ((z[k] - z[best]).exp() / sum - f64::from(u8::from(k == target))) * f64::from(layer.weight[[k, j]])
                })
                .sum();
            let l1 = if w[j] == 0.0 { 0.0 } else { w[j].signum() };
            let l2 = if norm == 0.0 { 0.0 } else { w[j] / norm };
            v[j] = 0.9 * v[j] + ce + (0.1 * l1 + 0.01 * l2) / d as f64;
            next[j] -= 0.01 * v[j];
            if let Some(r) = bounds {
                next[j] = next[j].clamp(f64::from(r.low[j] - f[j]), f64::from(r.high[j] - f[j]));
            }
        }
        w = next;
    }
    unreachable!("the loop returns at its last step")
}

#[test]
fn the_batched_search_equals_the_loop_a_student_would_write() {
    let (features, targets, layer) = problem(40, 12, 5);
    let range = Range::observed(&features);
    for (variant, bounds) in [(Variant::Reference, None), (Variant::Bounded, Some(&range))] {
        let settings = Settings { variant, max_steps: 400, ..Settings::default() };
        let found = search(&features, &targets, &layer, &range, &settings).unwrap();
        for i in 0..targets.len() {
            let (w, steps, reached) = naive(&features.row(i).to_vec(), targets[i], &layer, bounds, 400);
            assert_eq!((found.steps[i], found.reached[i]), (steps, reached), "{variant} sample {i}");
            let worst = found.changes.row(i).iter().zip(&w).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs()));
            assert!(worst < 1e-4, "{variant} sample {i}: {worst:.2e}");
        }
    }
}

#[test]
fn a_samples_numbers_do_not_depend_on_its_neighbours_or_on_threads() {
    let (features, targets, layer) = problem(37, 12, 5);
    let range = Range::observed(&features);
    let all = search(&features, &targets, &layer, &range, &Settings::default()).unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| search(&features, &targets, &layer, &range, &Settings::default()).unwrap()), all);
    for i in [0, 17, 36] {
        let alone =
            search(&features.select(Axis(0), &[i]), &targets[i..=i], &layer, &range, &Settings::default()).unwrap();
        assert_eq!(alone.changes.row(0), all.changes.row(i), "sample {i}");
    }
}

#[test]
fn a_sample_that_is_already_right_takes_no_step() {
    let layer = DecisionLayer { weight: array![[1.0], [-1.0]], bias: array![0.0, 0.0] };
    let f = array![[2.0]];
    let found = search(&f, &[0], &layer, &Range::observed(&f), &Settings::default()).unwrap();
    assert_eq!((found.steps[0], found.reached[0], found.changed[0]), (0, true, 0));
}

#[test]
fn a_sample_that_cannot_flip_is_reported_unreached_with_its_margin() {
    // Every neuron is constant, so nothing may move.
    let layer = DecisionLayer { weight: array![[1.0, 0.0], [0.0, 1.0]], bias: array![0.0, 0.0] };
    let f = array![[1.0, 3.0], [1.0, 3.0]];
    let found =
        search(&f, &[0, 0], &layer, &Range::observed(&f), &Settings { max_steps: 50, ..Settings::default() }).unwrap();
    assert_eq!((found.reached[0], found.steps[0], found.changed[0], found.margin[0]), (false, 50, 0, -2.0));
}

#[test]
fn no_mistakes_are_no_error() {
    let (_, _, layer) = problem(1, 12, 5);
    let none = Array2::zeros((0, 12));
    let found = search(&none, &[], &layer, &Range::observed(&none), &Settings::default()).unwrap();
    assert_eq!(found.reached.len(), 0);
}

#[test]
fn a_feature_that_is_not_finite_is_named() {
    let (mut features, targets, layer) = problem(4, 12, 5);
    features[[2, 7]] = f32::NAN;
    let error = search(&features, &targets, &layer, &Range::observed(&features), &Settings::default()).unwrap_err();
    assert_eq!(error, CounterfactualError::NotFinite { sample: 2, neuron: 7 });
}

#[test]
fn a_target_outside_the_layer_is_named() {
    let (features, _, layer) = problem(2, 12, 5);
    let error = search(&features, &[0, 5], &layer, &Range::observed(&features), &Settings::default()).unwrap_err();
    assert!(error.to_string().contains("class 5") && error.to_string().contains("5 classes"), "{error}");
}
