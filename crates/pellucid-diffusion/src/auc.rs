//! Whether a map is faithful (METHODS B8): delete or insert the places it ranks highest, and watch the step's result move.
//!
//! Places are taken in the map's order, one row's worth at a time. Deletion sets them to 0 and starts from the latent;
//! insertion restores them and starts from the blurred latent. Both curves are distances to the untouched result, so a
//! faithful map has a high deletion area and a low insertion area. The controls of [`Control`] say what is high and low.

use crate::error::DiffusionError;
use crate::noise::stream;
use crate::pipeline::Pipeline;
use crate::similarity::gaussian_kernel;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Array4, ArrayView3, Axis};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// A curve and its areas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Mean squared distance of the decoded result after each move, from none to all.
    pub distances: Vec<f64>,
    /// Area under the curve scaled to 0…1 by its own least and greatest value: as published. One spike rescales it.
    pub area: f64,
    /// Area under the curve scaled by its two ends, which every map shares.
    pub fixed_area: f64,
}

/// Deletion and insertion of one map at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Faithfulness {
    /// High is good.
    pub deletion: Curve,
    /// Low is good.
    pub insertion: Curve,
}

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
            Self::Centre => Array2::from_shape_fn((height, width), |(y, x)| {
                let (dy, dx) = (y as f32 - (height as f32 - 1.0) / 2.0, x as f32 - (width as f32 - 1.0) / 2.0);
                -(dy * dy + dx * dx)
            }),
            Self::Random => {
                let mut ranks: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
                ranks.shuffle(&mut stream(seed, at as u64));
                Array2::from_shape_fn((height, width), |(y, x)| ranks[y * width + x])
            }
        }
    }
}

/// Plays both games with `map` at step `at`.
pub fn faithfulness(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    at: usize,
    map: &Array2<f32>,
) -> Result<Faithfulness, DiffusionError> {
    let latent = &trajectory.steps[at].latent;
    let moves = moves(map);
    let zero = Array4::zeros(latent.dim());
    let blurred = blur(latent);
    let whole = pipeline.decode(trajectory.after(at))?;
    let mut curve = |latents: &Array4<f32>| distances(pipeline, trajectory, at, latents, &whole).map(Curve::of);
    Ok(Faithfulness {
        deletion: curve(&replaced(latent, &zero, &moves))?,
        insertion: curve(&replaced(&blurred, latent, &moves))?,
    })
}

/// For each place the move that takes it, from 1: the map's order (ties by place), one row's worth a move.
fn moves(map: &Array2<f32>) -> Array2<usize> {
    let (height, width) = map.dim();
    let flat: Vec<f32> = map.iter().copied().collect();
    let mut order: Vec<usize> = (0..flat.len()).collect();
    order.sort_by(|&a, &b| flat[b].total_cmp(&flat[a]));
    let mut moves = Array2::zeros((height, width));
    order.iter().enumerate().for_each(|(rank, &place)| moves[[place / width, place % width]] = rank / width + 1);
    moves
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

impl Faithfulness {
    /// Whether both curves have a value for the start and one for each of so many moves.
    pub fn has_moves(&self, moves: usize) -> bool {
        [&self.deletion, &self.insertion].iter().all(|curve| curve.distances.len() == moves + 1)
    }
}

impl Curve {
    fn of(distances: Vec<f64>) -> Self {
        let (low, high) = distances.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let (first, last) = (distances[0], distances[distances.len() - 1]);
        let area = trapezoid(&distances, low, high);
        let fixed_area = trapezoid(&distances, first.min(last), first.max(last));
        Self { distances, area, fixed_area }
    }
}

/// Area over the unit interval of the values scaled from `low`…`high` to 0…1; 0 for a flat curve.
fn trapezoid(values: &[f64], low: f64, high: f64) -> f64 {
    if high <= low || values.len() < 2 {
        return 0.0;
    }
    let sum: f64 = values.windows(2).map(|w| (w[0] + w[1]) / 2.0 - low).sum();
    sum / (high - low) / (values.len() - 1) as f64
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
    fn areas_are_those_of_the_scaled_curve() {
        let curve = Curve::of(vec![0.0, 1.0, 4.0, 2.0]);
        assert!((curve.area - (0.125 + 0.625 + 0.75) / 3.0).abs() < 1e-12);
        assert!((curve.fixed_area - (0.25 + 1.25 + 1.5) / 3.0).abs() < 1e-12);
        assert_eq!(Curve::of(vec![1.0, 1.0]).area, 0.0);
    }

    #[test]
    fn each_move_takes_one_rows_worth_in_the_maps_order() {
        let map = ndarray::array![[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]];
        assert_eq!(moves(&map), ndarray::array![[2, 1, 2], [1, 2, 1]]);
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
