//! The fewest neurons that flip a sample: an ℓ₁ + ℓ₂ penalised search by FISTA ([methods A2], `sparse`).
//!
//! minimise CE(W(f+w)+b, c) + λ(‖w‖₁ + 0.1 ‖w‖₂) with lo − f ≤ w ≤ hi − f; the largest λ whose minimiser gives argmax = c,
//! by bisection with warm starts; then neurons are dropped greedily while it still flips.
//!
//! The cross-entropy trades classes against each other: inside a tight box its minimiser may leave one class above c even
//! where a flip exists. Such a sample is searched again with sharper logits, whose cross-entropy approaches the margin.
//!
//! [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2

use crate::counterfactual::{Outcome, Range};
use crate::layer::{DecisionLayer, argmax};
use ndarray::{Array1, Array2, ArrayView1, Axis};

/// Weight of ‖w‖₂ beside ‖w‖₁.
const GROUP: f32 = 0.1;
/// FISTA iterations per working set.
const ITERATIONS: usize = 300;
/// Working sets tried per λ.
const ROUNDS: usize = 30;
/// Neurons that join the working set at a time.
const JOINING: usize = 8;
/// Bisection steps: λ is found to about 1 %.
const BISECTIONS: usize = 12;
/// The smallest λ tried, relative to the largest gradient at 0.
const SMALLEST: f32 = 1e-5;
/// Factors on the logits, tried in turn until the sample flips.
const SHARPNESS: [f32; 4] = [1.0, 4.0, 16.0, 64.0];

/// The box that w may move in; it contains 0.
struct Bounds {
    low: Array1<f32>,
    high: Array1<f32>,
}

impl Bounds {
    fn select(&self, neurons: &[usize]) -> Self {
        Self { low: self.low.select(Axis(0), neurons), high: self.high.select(Axis(0), neurons) }
    }

    /// Whether neuron j may move against a gradient of this sign.
    fn allows(&self, j: usize, gradient: f32) -> bool {
        if gradient > 0.0 { self.low[j] < 0.0 } else { self.high[j] > 0.0 }
    }
}

pub(crate) fn search(features: ArrayView1<'_, f32>, target: usize, layer: &DecisionLayer, range: &Range) -> Outcome {
    let bounds = Bounds {
        low: (&range.low - &features).mapv(|v| v.min(0.0)),
        high: (&range.high - &features).mapv(|v| v.max(0.0)),
    };
    let at_zero = layer.weight.dot(&features) + &layer.bias;
    let mut problem = Problem { at_zero, target, layer, bounds, sharpness: 1.0 };
    let zero = Array1::zeros(features.len());
    if problem.flips(&zero) {
        return Outcome { change: zero, steps: 0, reached: true };
    }
    let (mut first, mut steps) = (None, 0);
    for sharpness in SHARPNESS {
        problem.sharpness = sharpness;
        let (change, taken, reached) = problem.bisect();
        steps += taken;
        if reached {
            return Outcome { change, steps, reached };
        }
        first.get_or_insert(change);
    }
    Outcome { change: first.unwrap_or(zero), steps, reached: false }
}

struct Problem<'a> {
    /// Logits of the unchanged sample.
    at_zero: Array1<f32>,
    target: usize,
    layer: &'a DecisionLayer,
    bounds: Bounds,
    /// Factor on the logits within the cross-entropy.
    sharpness: f32,
}

impl Problem<'_> {
    /// The change at the largest λ that flips the sample, without the neurons it can do without; the steps taken; and
    /// whether it flips. Where none flips, the change at the smallest λ.
    fn bisect(&self) -> (Array1<f32>, usize, bool) {
        let zero = Array1::zeros(self.layer.features());
        let steepest = self.gradient(&zero).iter().fold(0.0f32, |m, g| m.max(g.abs()));
        let (mut above, mut below) = (steepest, steepest * SMALLEST);
        let mut steps = 0;
        let mut minimise = |lambda: f32, start: &Array1<f32>| {
            let (w, taken) = self.minimise(lambda, start);
            steps += taken;
            w
        };
        // From large λ to small: few neurons first, so that working sets stay small.
        let mut warm = zero;
        let mut best = None;
        let mut lambda = above;
        while best.is_none() && lambda > below {
            lambda = (lambda * 0.3).max(below);
            let w = minimise(lambda, &warm);
            if self.flips(&w) {
                below = lambda;
                best = Some(w.clone());
            } else {
                above = lambda;
            }
            warm = w;
        }
        let Some(mut best) = best else { return (warm, steps, false) };
        for _ in 0..BISECTIONS {
            let lambda = (above * below).sqrt();
            let w = minimise(lambda, &warm);
            if self.flips(&w) {
                (below, best) = (lambda, w.clone());
            } else {
                above = lambda;
            }
            warm = w;
        }
        (self.drop_greedily(best), steps, true)
    }

    /// Gradient of the cross-entropy by the logits.
    fn residual(&self, logits: Array1<f32>) -> Array1<f32> {
        residual(logits * self.sharpness, self.target) * self.sharpness
    }

    /// Logits after the change; only the columns of W that it touches are read.
    fn logits(&self, w: &Array1<f32>) -> Array1<f32> {
        let mut z = self.at_zero.clone();
        for (j, &v) in w.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            z.scaled_add(v, &self.layer.weight.column(j));
        }
        z
    }

    fn flips(&self, w: &Array1<f32>) -> bool {
        argmax(&self.logits(w).to_vec()) == self.target
    }

    /// Gradient of the cross-entropy by w.
    fn gradient(&self, w: &Array1<f32>) -> Array1<f32> {
        self.layer.weight.t().dot(&self.residual(self.logits(w)))
    }

    /// The minimiser at λ and the steps taken: FISTA on a working set of neurons, which grows by those whose gradient
    /// exceeds λ, until none does.
    fn minimise(&self, lambda: f32, start: &Array1<f32>) -> (Array1<f32>, usize) {
        let mut w = start.clone();
        let mut working: Vec<usize> = (0..w.len()).filter(|&j| w[j] != 0.0).collect();
        let mut steps = 0;
        for _ in 0..ROUNDS {
            let gradient = self.gradient(&w);
            let mut joining: Vec<usize> = (0..w.len())
                .filter(|&j| {
                    w[j] == 0.0
                        && !working.contains(&j)
                        && gradient[j].abs() > lambda * 1.001
                        && self.bounds.allows(j, gradient[j])
                })
                .collect();
            joining.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()).then(a.cmp(&b)));
            joining.truncate(JOINING);
            if joining.is_empty() && steps > 0 {
                break;
            }
            working.extend(joining);
            if working.is_empty() {
                break;
            }
            steps += self.solve_on(&working, lambda, &mut w);
        }
        (w, steps)
    }

    /// FISTA with restart over the neurons of `working`; the others stay 0.
    fn solve_on(&self, working: &[usize], lambda: f32, w: &mut Array1<f32>) -> usize {
        let columns = self.layer.weight.select(Axis(1), working);
        let bounds = self.bounds.select(working);
        let step = 1.0 / (self.sharpness * self.sharpness * lipschitz(&columns));
        let mut x: Array1<f32> = w.select(Axis(0), working);
        let (mut y, mut momentum, mut taken) = (x.clone(), 1.0f32, ITERATIONS);
        for iteration in 1..=ITERATIONS {
            let gradient = columns.t().dot(&self.residual(columns.dot(&y) + &self.at_zero));
            let next = prox(&(&y - &(gradient * step)), step * lambda, step * lambda * GROUP, &bounds);
            let moved = &next - &x;
            // Restart when the momentum points uphill: plain FISTA oscillates near the minimum.
            let uphill = (&y - &next).dot(&moved) > 0.0;
            let following = if uphill { 1.0 } else { (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0 };
            y = if uphill { next.clone() } else { &next + &(&moved * ((momentum - 1.0) / following)) };
            momentum = following;
            let size = next.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
            x = next;
            if moved.iter().all(|v| v.abs() <= 1e-5 * size) {
                taken = iteration;
                break;
            }
        }
        working.iter().zip(&x).for_each(|(&j, &v)| w[j] = v);
        taken
    }

    /// Sets neurons to 0, the smallest change first, while the sample stays flipped.
    fn drop_greedily(&self, mut w: Array1<f32>) -> Array1<f32> {
        let mut order: Vec<usize> = (0..w.len()).filter(|&j| w[j] != 0.0).collect();
        order.sort_by(|&a, &b| w[a].abs().total_cmp(&w[b].abs()).then(a.cmp(&b)));
        for j in order {
            let before = std::mem::replace(&mut w[j], 0.0);
            if !self.flips(&w) {
                w[j] = before;
            }
        }
        w
    }
}

/// softmax(z) − one-hot(target).
fn residual(mut z: Array1<f32>, target: usize) -> Array1<f32> {
    let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    z.mapv_inplace(|v| (v - largest).exp());
    z /= z.sum();
    z[target] -= 1.0;
    z
}

/// ½ ‖W‖₂², the Lipschitz constant of the gradient of CE(W·): the softmax's Hessian is at most ½. By power iteration,
/// with 5 % to spare since it approaches from below.
fn lipschitz(weight: &Array2<f32>) -> f32 {
    let mut v = Array1::from_shape_fn(weight.ncols(), |j| 1.0 + (j % 7) as f32 * 0.1);
    let mut value = 0.0;
    for _ in 0..20 {
        let norm = v.dot(&v).sqrt();
        if norm == 0.0 {
            break;
        }
        v /= norm;
        v = weight.t().dot(&weight.dot(&v));
        value = v.dot(&v).sqrt();
    }
    (0.5 * 1.05 * value).max(1e-6)
}

/// argmin ½‖w − u‖² + a‖w‖₁ + b‖w‖₂ over the box, exactly.
///
/// Given s = ‖w‖ the coordinates part: w_j = clamp(soft(u_j, a) · s / (s + b)); s is the root of a monotone equation.
fn prox(u: &Array1<f32>, a: f32, b: f32, bounds: &Bounds) -> Array1<f32> {
    let soft: Array1<f32> = u.mapv(|v| v.signum() * (v.abs() - a).max(0.0));
    // Only moves that the box allows from 0 count: it contains 0.
    let blocked = |j: usize| (soft[j] < 0.0 && bounds.low[j] >= 0.0) || (soft[j] > 0.0 && bounds.high[j] <= 0.0);
    let free = Array1::from_shape_fn(soft.len(), |j| if blocked(j) { 0.0 } else { soft[j] });
    let length = free.dot(&free).sqrt();
    if length <= b {
        return Array1::zeros(u.len());
    }
    let at =
        |s: f32| Array1::from_shape_fn(soft.len(), |j| (free[j] * s / (s + b)).clamp(bounds.low[j], bounds.high[j]));
    if b == 0.0 {
        return at(1.0);
    }
    let (mut low, mut high) = (0.0f32, length);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        let w = at(middle);
        if w.dot(&w).sqrt() > middle { low = middle } else { high = middle }
    }
    at(0.5 * (low + high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn objective(w: &Array1<f32>, u: &Array1<f32>, a: f32, b: f32) -> f64 {
        let d = w - u;
        0.5 * f64::from(d.dot(&d))
            + f64::from(a) * w.iter().map(|v| f64::from(v.abs())).sum::<f64>()
            + f64::from(b) * f64::from(w.dot(w)).sqrt()
    }

    #[test]
    fn the_prox_is_no_worse_than_any_point_near_it() {
        let bounds = Bounds { low: array![-0.3, 0.0, -5.0, -5.0], high: array![5.0, 0.4, 0.0, 5.0] };
        for (u, a, b) in [
            (array![-1.0, 2.0, -0.7, 0.1], 0.2, 0.3),
            (array![0.5, 0.5, 0.5, 0.5], 0.1, 0.05),
            (array![0.3, -0.3, 0.2, -0.1], 0.1, 2.0),
            (array![3.0, 0.2, 1.0, -2.0], 0.0, 0.0),
        ] {
            let w = prox(&u, a, b, &bounds);
            let value = objective(&w, &u, a, b);
            for j in 0..4 {
                for delta in [-0.1f32, -0.01, -0.001, 0.001, 0.01, 0.1] {
                    let mut other = w.clone();
                    other[j] = (other[j] + delta).clamp(bounds.low[j], bounds.high[j]);
                    assert!(objective(&other, &u, a, b) >= value - 1e-6, "u {u}, a {a}, b {b}: {other} beats {w}");
                }
            }
        }
    }

    #[test]
    fn one_decisive_neuron_is_enough() {
        let layer = DecisionLayer { weight: array![[5.0, 0.1, 0.1], [0.0, 0.0, 0.0]], bias: array![-1.0, 0.0] };
        let range = Range { low: array![0.0, 0.0, 0.0], high: array![1.0, 1.0, 1.0] };
        let found = search(array![0.0, 0.2, 0.2].view(), 0, &layer, &range);
        assert!(found.reached);
        assert_eq!(found.change.iter().filter(|v| **v != 0.0).count(), 1);
        assert!(found.change[0] > 0.0 && found.change[0] <= 1.0);
    }

    #[test]
    fn what_the_range_forbids_is_unreached() {
        let layer = DecisionLayer { weight: array![[1.0], [0.0]], bias: array![-10.0, 0.0] };
        let found = search(array![0.0].view(), 0, &layer, &Range { low: array![0.0], high: array![1.0] });
        assert!(!found.reached);
    }
}
