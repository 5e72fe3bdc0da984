//! How far each place has come ([methods B4]): recovery of x̂0 towards the final latent, the level of denoising, and stages by
//! signal-to-noise ratio.
//!
//! [methods B4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b4

use crate::schedule::NoiseSchedule;
use crate::similarity::gaussian_kernel;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

/// What a step's signal-to-noise ratio leaves to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Below 0.01: layout.
    Coarse,
    /// 0.01 to 1: content.
    Content,
    /// Above 1: clean-up.
    Cleanup,
}

impl Stage {
    /// The stage of a timestep.
    pub fn at(schedule: &NoiseSchedule, t: usize) -> Self {
        match schedule.snr(t) {
            r if r < 0.01 => Self::Coarse,
            r if r <= 1.0 => Self::Content,
            _ => Self::Cleanup,
        }
    }
}

/// Recovery over a trajectory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// R_i per step, H × W, in 0…1.
    pub maps: Vec<Array2<f32>>,
    /// L_i, the mean of R_i.
    pub levels: Vec<f64>,
    /// τ: the first step (from 0) after which R stays at least 0.8; the number of steps where it never does.
    pub settled: Array2<f32>,
    /// Stage of each step.
    pub stages: Vec<Stage>,
}

/// R must stay at least this high.
const SETTLED: f32 = 0.8;

/// Recovery of every step of `trajectory`.
pub fn recovery(schedule: &NoiseSchedule, trajectory: &Trajectory) -> Recovery {
    let last = trajectory.last.index_axis(Axis(0), 0);
    let error = |at: usize| {
        let difference = &trajectory.steps[at].clean.index_axis(Axis(0), 0) - &last;
        difference.mapv(|v| v * v).sum_axis(Axis(0))
    };
    let first = error(0);
    // Places that never differ count as recovered from the start.
    let floor = 1e-6 + 1e-4 * first.mean().unwrap_or(0.0);
    let maps: Vec<Array2<f32>> = (0..trajectory.steps.len())
        .map(|at| {
            let ratio = error(at) / (&first + floor);
            smooth(&ratio.mapv(|r| (1.0 - r).clamp(0.0, 1.0)))
        })
        .collect();
    let levels = maps.iter().map(|m| f64::from(m.mean().unwrap_or(0.0))).collect();
    let settled = Array2::from_shape_fn(first.dim(), |place| {
        maps.iter().rposition(|m| m[place] < SETTLED).map_or(0, |last| last + 1) as f32
    });
    let stages = trajectory.steps.iter().map(|s| Stage::at(schedule, s.t)).collect();
    Recovery { maps, levels, settled, stages }
}

/// Gaussian with σ = 1; places outside do not count.
fn smooth(map: &Array2<f32>) -> Array2<f32> {
    let kernel = gaussian_kernel(7, 1.0);
    let (height, width) = map.dim();
    let along = |from: &Array2<f32>, vertical: bool| {
        Array2::from_shape_fn((height, width), |(y, x)| {
            let (mut sum, mut weight) = (0.0, 0.0);
            for (i, k) in kernel.iter().enumerate() {
                let (v, u) = if vertical { (y + i, x + 3) } else { (y + 3, x + i) };
                if (3..height + 3).contains(&v) && (3..width + 3).contains(&u) {
                    sum += k * from[[v - 3, u - 3]];
                    weight += k;
                }
            }
            sum / weight
        })
    };
    along(&along(map, true), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_constants_and_means() {
        let map = Array2::from_elem((5, 6), 0.7f32);
        assert!(smooth(&map).iter().all(|v| (v - 0.7).abs() < 1e-6));
    }
}
