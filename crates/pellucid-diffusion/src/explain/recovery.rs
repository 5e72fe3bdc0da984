//! How far each place has come (`docs/methods.md#b4`): recovery of x̂0 towards the final latent, the level of denoising.

use super::{Amount, Curve, Explainer, Findings, StepFigure, StepFindings, Subject, Track};
use crate::error::DiffusionError;
use crate::network::Capability;
use crate::similarity::gaussian_kernel;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Axis};
use pellucid_saliency::{Grid, SaliencyMap};
use serde::{Deserialize, Serialize};

/// Recovery over a trajectory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// R_i per step, H × W, in 0…1.
    pub maps: Vec<Array2<f32>>,
    /// L_i, the mean of R_i.
    pub levels: Vec<f64>,
    /// τ: the first step (from 0) after which R stays at least 0.8; the number of steps where it never does.
    pub settled: Array2<f32>,
}

/// R must stay at least this high.
const SETTLED: f32 = 0.8;

/// Recovery of every step of `trajectory`.
pub fn recovery(trajectory: &Trajectory) -> Recovery {
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
    Recovery { maps, levels, settled }
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

/// Recovery at every step, which the trajectory alone says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryExplainer {}

impl Explainer for RecoveryExplainer {
    fn id(&self) -> &'static str {
        "recovery"
    }

    fn title(&self) -> &'static str {
        "Recovery"
    }

    fn summary(&self) -> &'static str {
        "how far each place has come"
    }

    fn maps(&self) -> &'static str {
        "recovery maps"
    }

    fn needs(&self) -> &'static [Capability] {
        &[]
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        let Recovery { maps, levels, settled } = recovery(subject.trajectory);
        let curve = Curve {
            title: "Level of denoising".to_owned(),
            meaning: "How much of the first step's error is gone, averaged over places.".to_owned(),
            lines: vec![("recovery".to_owned(), levels.clone())],
            range: Some((0.0, 1.0)),
        };
        let of_step = |(map, level): (Array2<f32>, f64)| {
            let percent = format!("{:.0} %", 100.0 * level);
            StepFindings {
                maps: vec![Some(SaliencyMap::new("recovery", self.title(), map, Grid::Latent))],
                figures: vec![StepFigure { id: "level", title: "level", amount: Amount::Number(level) }],
                reading: format!("{percent} on average"),
                status: format!("denoised {percent}"),
            }
        };
        Ok(Findings {
            meaning: "How far each place has come".to_owned(),
            tracks: vec![Track { range: Some((0.0, 1.0)), ..Track::shown("").array("recovery") }],
            steps: maps.into_iter().zip(levels).map(of_step).collect(),
            whole: vec![SaliencyMap::new("settled", "Step at which each place is settled", settled, Grid::Latent)],
            curves: vec![curve],
            ..Findings::default()
        })
    }
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
