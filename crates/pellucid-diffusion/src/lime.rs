//! LIME on a step, as a control for the other maps: a weighted ridge regression of how alike the masked step's picture is
//! on which cells were kept. Dear, since each sample is a pass; meant for a subset of prompts.
//!
//! As Ribeiro et al. 2016 for pictures: cells kept with probability ½, weights exp(−D²/0.25²) with D the cosine distance of
//! the kept cells to all cells, ridge penalty 1, the coefficients are the map.

use crate::auc::distances;
use crate::error::DiffusionError;
use crate::pipeline::Pipeline;
use crate::trajectory::Trajectory;
use ndarray::{Array1, Array2, Array4, Axis};
use pellucid_saliency::stats::random::stream;
use rand::Rng;

/// Latents in one call of the pipeline.
const ROUND: usize = 64;

/// The map of step `at` from `samples` masked passes; `cells` per side. H × W, the coefficient of each place's cell.
pub fn lime(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    at: usize,
    cells: usize,
    samples: usize,
    seed: u64,
) -> Result<Array2<f32>, DiffusionError> {
    let step = &trajectory.steps[at];
    let (_, channels, height, width) = step.latent.dim();
    let cells = cells.clamp(1, height.min(width));
    let cell = |y: usize, x: usize| y * cells / height * cells + x * cells / width;
    let whole = pipeline.decode(trajectory.after(at))?;
    let mut random = stream(seed, at as u64);
    let kept = Array2::from_shape_simple_fn((samples, cells * cells), || f64::from(u8::from(random.random::<bool>())));
    let mut alike = Array1::zeros(samples);
    for from in (0..samples).step_by(ROUND) {
        let count = ROUND.min(samples - from);
        let masked = Array4::from_shape_fn((count, channels, height, width), |(n, c, y, x)| {
            step.latent[[0, c, y, x]] * kept[[from + n, cell(y, x)]] as f32
        });
        let far = distances(pipeline, trajectory, at, &masked, &whole)?;
        far.into_iter().enumerate().for_each(|(n, distance)| alike[from + n] = -distance);
    }
    let coefficients = ridge(&kept, &alike, 1.0);
    Ok(Array2::from_shape_fn((height, width), |(y, x)| coefficients[cell(y, x)] as f32))
}

/// Coefficients of the weighted ridge regression with a free intercept.
fn ridge(kept: &Array2<f64>, alike: &Array1<f64>, penalty: f64) -> Array1<f64> {
    let cells = kept.ncols() as f64;
    let weight = kept.map_axis(Axis(1), |row| {
        let distance = 1.0 - (row.sum() / cells).sqrt();
        (-(distance / 0.25).powi(2)).exp()
    });
    let total = weight.sum();
    let mean = weight.dot(kept) / total;
    let centred = kept - &mean;
    let answer = alike - weight.dot(alike) / total;
    let weighted = &centred * &weight.insert_axis(Axis(1));
    let mut matrix = centred.t().dot(&weighted);
    matrix.diag_mut().mapv_inplace(|d| d + penalty);
    solve(&matrix, &weighted.t().dot(&answer))
}

/// A x = b for a symmetric positive definite A, by conjugate gradients.
fn solve(a: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    let mut x = Array1::zeros(b.len());
    let (mut residual, mut direction) = (b.clone(), b.clone());
    let mut square = residual.dot(&residual);
    let enough = square * 1e-20;
    for _ in 0..4 * b.len() {
        if square <= enough {
            break;
        }
        let image = a.dot(&direction);
        let length = square / direction.dot(&image);
        x.scaled_add(length, &direction);
        residual.scaled_add(-length, &image);
        let next = residual.dot(&residual);
        direction = &residual + &(direction * (next / square));
        square = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_answer_gives_its_own_coefficients_whatever_the_intercept() {
        let mut random = stream(1, 0);
        let kept = Array2::from_shape_simple_fn((400, 9), || f64::from(u8::from(random.random::<bool>())));
        let truth = Array1::from_iter((0..9).map(|i| f64::from(i) - 4.0));
        let found = ridge(&kept, &(kept.dot(&truth) + 7.0), 1e-9);
        assert!((&found - &truth).iter().all(|d| d.abs() < 1e-6), "{found}");
    }

    #[test]
    fn the_penalty_shrinks() {
        let kept = Array2::from_shape_fn((8, 2), |(n, c)| ((n >> c) & 1) as f64);
        let alike = kept.column(0).to_owned();
        let (loose, tight) = (ridge(&kept, &alike, 1e-9), ridge(&kept, &alike, 10.0));
        assert!((loose[0] - 1.0).abs() < 1e-6 && tight[0] > 0.0 && tight[0] < 0.5);
    }
}
