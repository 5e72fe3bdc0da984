//! The sparse search against the linear programme it stands for: the smallest ‖w‖₁ that flips a sample inside its bounds.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use ndarray::{Array1, Array2, ArrayView1};
use pellucid_classifier::counterfactual::{Counterfactuals, Range, Settings, Variant, search};
use pellucid_classifier::layer::DecisionLayer;

/// Features as a ReLU gives them, a head with weights of both signs, and targets that are mostly not the prediction.
fn problem(n: usize, d: usize, c: usize, seed: u64) -> (Array2<f32>, Vec<usize>, DecisionLayer) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let features = Array2::from_shape_simple_fn((n, d), || (number() * 2.0 - 0.6).max(0.0));
    let weight = Array2::from_shape_simple_fn((c, d), || number() - 0.5);
    let bias = Array1::from_shape_simple_fn(c, &mut number);
    (features, (0..n).map(|i| i % c).collect(), DecisionLayer { weight, bias })
}

/// min ‖w‖₁ with (W_t − W_c)(f + w) + b_t − b_c ≥ margin for every other class c and lo ≤ f + w ≤ hi; `None` where no
/// change does it. The variables are the rises and the falls of every neuron, each at least 0.
fn programme(f: ArrayView1<'_, f32>, target: usize, layer: &DecisionLayer, range: &Range, margin: f64) -> Option<f64> {
    let d = f.len();
    let (mut rows, mut bounds) = (Vec::new(), Vec::new());
    for c in (0..layer.classes()).filter(|&c| c != target) {
        let slope = |j: usize| f64::from(layer.weight[[target, j]]) - f64::from(layer.weight[[c, j]]);
        let now: f64 =
            (0..d).map(|j| slope(j) * f64::from(f[j])).sum::<f64>() + f64::from(layer.bias[target] - layer.bias[c]);
        rows.push((0..2 * d).map(|v| if v < d { -slope(v) } else { slope(v - d) }).collect::<Vec<_>>());
        bounds.push(now - margin);
    }
    for v in 0..2 * d {
        let room = if v < d { range.high[v] - f[v] } else { f[v - d] - range.low[v - d] };
        rows.push((0..2 * d).map(|other| f64::from(u8::from(other == v))).collect());
        bounds.push(f64::from(room.max(0.0)));
    }
    smallest_sum(rows, bounds)
}

/// min Σx with `rows` x ≤ `bounds`, x ≥ 0, by the dual simplex method on a dense tableau: every cost is 1, so the slack
/// basis is dual feasible from the start. `None` where nothing is feasible.
fn smallest_sum(mut rows: Vec<Vec<f64>>, mut bounds: Vec<f64>) -> Option<f64> {
    const TINY: f64 = 1e-9;
    let variables = rows[0].len();
    let mut costs = vec![1.0; variables];
    let mut value = 0.0;
    loop {
        // The most violated row leaves the basis; Bland's rule would also do, slower.
        let row = (0..rows.len()).min_by(|&a, &b| bounds[a].total_cmp(&bounds[b]))?;
        if bounds[row] >= -TINY {
            return Some(value);
        }
        let ratio = |v: usize| costs[v] / -rows[row][v];
        let entering =
            (0..variables).filter(|&v| rows[row][v] < -TINY).min_by(|&a, &b| ratio(a).total_cmp(&ratio(b)))?;
        // The variable takes the slack's place: its column becomes the slack's.
        let pivot = rows[row][entering];
        rows[row][entering] = 1.0;
        rows[row].iter_mut().for_each(|a| *a /= pivot);
        bounds[row] /= pivot;
        let (above, bound) = (rows[row].clone(), bounds[row]);
        for other in (0..rows.len()).filter(|&other| other != row) {
            let factor = std::mem::take(&mut rows[other][entering]);
            rows[other].iter_mut().zip(&above).for_each(|(a, b)| *a -= factor * b);
            bounds[other] -= factor * bound;
        }
        let factor = std::mem::take(&mut costs[entering]);
        costs.iter_mut().zip(&above).for_each(|(a, b)| *a -= factor * b);
        value += factor * bound;
    }
}

#[test]
fn the_oracle_solves_programmes_that_are_known_by_hand() {
    // x + y ≥ 2, x ≤ 1.5: the sum is 2. With x + 3 y ≥ 3 alone it is 1, all in y.
    assert_eq!(smallest_sum(vec![vec![-1.0, -1.0], vec![1.0, 0.0]], vec![-2.0, 1.5]), Some(2.0));
    assert_eq!(smallest_sum(vec![vec![-1.0, -3.0], vec![1.0, 0.0], vec![0.0, 1.0]], vec![-3.0, 9.0, 9.0]), Some(1.0));
    // Half of it must come from x, since y ≤ 0.5.
    assert_eq!(smallest_sum(vec![vec![-1.0, -3.0], vec![1.0, 0.0], vec![0.0, 1.0]], vec![-3.0, 9.0, 0.5]), Some(2.0));
    assert_eq!(smallest_sum(vec![vec![-1.0], vec![1.0]], vec![-2.0, 1.0]), None);
    assert_eq!(smallest_sum(vec![vec![1.0]], vec![1.0]), Some(0.0));
}

fn sparse(features: &Array2<f32>, targets: &[usize], layer: &DecisionLayer, range: &Range) -> Counterfactuals {
    let settings = Settings { variant: Variant::Sparse, ..Settings::default() };
    search(features, targets, layer, range, &settings).unwrap()
}

#[test]
fn what_can_flip_is_flipped_and_what_cannot_is_said_to_be_unreached() {
    let (mut feasible, mut infeasible) = (0, 0);
    for seed in 1..=20 {
        let (features, targets, layer) = problem(24, 5, 5, seed);
        let range = Range::observed(&features);
        let found = sparse(&features, &targets, &layer, &range);
        for (i, &target) in targets.iter().enumerate() {
            if programme(features.row(i), target, &layer, &range, 1e-3).is_some() {
                assert!(found.reached[i], "seed {seed}, sample {i} can be flipped");
                feasible += 1;
            } else if programme(features.row(i), target, &layer, &range, -1e-5).is_none() {
                assert!(!found.reached[i], "seed {seed}, sample {i} cannot be flipped");
                infeasible += 1;
            }
        }
    }
    assert!(feasible > 100 && infeasible > 20, "both happen: {feasible} and {infeasible}");
}

#[test]
fn the_change_is_no_smaller_than_the_optimum_and_close_to_it() {
    let mut ratios = Vec::new();
    for (d, c) in [(8, 3), (24, 6), (60, 10)] {
        for seed in 1..=4 {
            let (features, targets, layer) = problem(24, d, c, seed);
            let range = Range::observed(&features);
            let found = sparse(&features, &targets, &layer, &range);
            for (i, &target) in targets.iter().enumerate().filter(|(i, _)| found.reached[*i] && found.steps[*i] > 0) {
                let optimum = programme(features.row(i), target, &layer, &range, 0.0).unwrap();
                let ours = f64::from(found.l1[i]);
                assert!(
                    ours >= optimum - 1e-4,
                    "d {d}, seed {seed}, sample {i}: {ours} is below the optimum {optimum}"
                );
                ratios.push(ours / optimum.max(1e-3));
            }
        }
    }
    ratios.sort_by(f64::total_cmp);
    let at = |q: f64| ratios[(q * (ratios.len() - 1) as f64) as usize];
    println!(
        "{} samples; ‖w‖₁ over the optimum: median {:.3}, 90 % {:.3}, worst {:.3}",
        ratios.len(),
        at(0.5),
        at(0.9),
        at(1.0)
    );
    assert!(at(0.5) < 1.1 && at(0.9) < 1.5, "median {:.3}, 90 % {:.3}, worst {:.3}", at(0.5), at(0.9), at(1.0));
}

#[test]
fn no_neuron_of_a_sparse_change_can_be_left_out() {
    for seed in 1..=10 {
        let (features, targets, layer) = problem(24, 30, 6, seed);
        let range = Range::observed(&features);
        let found = sparse(&features, &targets, &layer, &range);
        for (i, &target) in targets.iter().enumerate().filter(|(i, _)| found.reached[*i]) {
            for j in (0..30).filter(|&j| found.changes[[i, j]] != 0.0) {
                let mut moved = &features.row(i) + &found.changes.row(i);
                moved[j] = features[[i, j]];
                let z = layer.weight.dot(&moved) + &layer.bias;
                let right = (0..z.len()).all(|c| c == target || z[c] < z[target]);
                assert!(!right, "seed {seed}, sample {i} flips without neuron {j}");
            }
        }
    }
}
