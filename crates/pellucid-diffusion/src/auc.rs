//! Whether a map is faithful ([methods B8]): delete or insert the places it ranks highest, and watch the step's result move.
//!
//! Places are taken in the map's order, one row's worth at a time. Deletion sets them to 0 and starts from the latent;
//! insertion restores them and starts from the blurred latent. Both curves are distances to the untouched result, so a
//! faithful map has a high deletion area and a low insertion area. The controls of [`Control`] say what is high and low.
//!
//! [methods B8]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b8

use crate::error::DiffusionError;
use crate::pipeline::Pipeline;
use crate::similarity::gaussian_kernel;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Array4, ArrayView3, Axis};
use pellucid_saliency::evaluate::{Curve, DistanceGames, controls, moves};
use serde::{Deserialize, Serialize};

/// Orders that need no explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// At random.
    Random,
    /// The centre first.
    Centre,
    /// Where |x̂0| is large.
    Magnitude,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Random, Self::Centre, Self::Magnitude];

    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random order",
            Self::Centre => "centre first",
            Self::Magnitude => "magnitude of x̂0",
        }
    }

    /// The control's map at step `at`.
    pub fn map(self, trajectory: &Trajectory, at: usize, seed: u64) -> Array2<f32> {
        let clean = trajectory.steps[at].clean.index_axis(Axis(0), 0);
        let (_, height, width) = clean.dim();
        match self {
            Self::Magnitude => clean.mapv(|v| v * v).sum_axis(Axis(0)),
            Self::Centre => controls::centre_prior((height, width)),
            Self::Random => controls::random_order((height, width), seed, at as u64),
        }
    }
}

/// Plays both games with `map` at step `at`.
pub fn faithfulness(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    at: usize,
    map: &Array2<f32>,
) -> Result<DistanceGames, DiffusionError> {
    let latent = &trajectory.steps[at].latent;
    let moves = moves(map);
    let zero = Array4::zeros(latent.dim());
    let blurred = blur(latent);
    let whole = pipeline.decode(trajectory.after(at))?;
    let mut curve = |latents: &Array4<f32>| distances(pipeline, trajectory, at, latents, &whole).map(Curve::of);
    Ok(DistanceGames {
        deletion_distance: curve(&replaced(latent, &zero, &moves))?,
        insertion_distance: curve(&replaced(&blurred, latent, &moves))?,
    })
}

/// `from` with the places of the first j moves taken from `to`, for j = 0…H.
fn replaced(from: &Array4<f32>, to: &Array4<f32>, moves: &Array2<usize>) -> Array4<f32> {
    let (_, channels, height, width) = from.dim();
    Array4::from_shape_fn((height + 1, channels, height, width), |(j, c, y, x)| {
        let source = if moves[[y, x]] <= j { to } else { from };
        source[[0, c, y, x]]
    })
}

/// For each row of `latents` in the place of the latent of step `at`: the mean squared distance of what the step makes of it,
/// decoded, from `whole`.
pub(crate) fn distances(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    at: usize,
    latents: &Array4<f32>,
    whole: &Array4<f32>,
) -> Result<Vec<f64>, DiffusionError> {
    let step = &trajectory.steps[at];
    let epsilon = pipeline.epsilon(latents, step.t, &trajectory.prompt, trajectory.guidance())?;
    let clean = pipeline.schedule.clean(&latents.view(), &epsilon.view(), step.t);
    let pictures = pipeline.decode(&pipeline.schedule.step(&clean.view(), &epsilon.view(), step.next))?;
    let distance = |picture: ArrayView3<'_, f32>| {
        let difference = &picture - &whole.index_axis(Axis(0), 0);
        f64::from(difference.mapv(|v| v * v).mean().unwrap_or(0.0))
    };
    Ok(pictures.outer_iter().map(distance).collect())
}

/// Gaussian blur, 11 wide, σ = 5, edges mirrored.
fn blur(latent: &Array4<f32>) -> Array4<f32> {
    let kernel = gaussian_kernel(11, 5.0);
    let (n, c, height, width) = latent.dim();
    let mirror = |at: isize, length: usize| {
        let last = length as isize - 1;
        let folded = if at < 0 {
            -at
        } else if at > last {
            2 * last - at
        } else {
            at
        };
        folded.clamp(0, last) as usize
    };
    let across = Array4::from_shape_fn((n, c, height, width), |(n, c, y, x)| {
        let at = |i: usize| latent[[n, c, y, mirror(x as isize + i as isize - 5, width)]];
        kernel.iter().enumerate().map(|(i, k)| k * at(i)).sum::<f32>()
    });
    Array4::from_shape_fn((n, c, height, width), |(n, c, y, x)| {
        let at = |i: usize| across[[n, c, mirror(y as isize + i as isize - 5, height), x]];
        kernel.iter().enumerate().map(|(i, k)| k * at(i)).sum::<f32>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_move_takes_one_rows_worth_in_the_maps_order() {
        let map = ndarray::array![[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]];
        let (from, to) = (Array4::zeros((1, 1, 2, 3)), Array4::ones((1, 1, 2, 3)));
        let all = replaced(&from, &to, &moves(&map));
        let counts: Vec<f32> = all.outer_iter().map(|s| s.sum()).collect();
        assert_eq!(counts, [0.0, 3.0, 6.0]);
    }

    #[test]
    fn blurring_keeps_constants() {
        assert!(blur(&Array4::from_elem((1, 2, 6, 7), 0.3)).iter().all(|v| (v - 0.3).abs() < 1e-6));
    }
}
