//! Pictures' pixels brought to the places of a latent.

use ndarray::{Array2, Array3, ArrayView3};

/// A decoded picture within its range.
pub(super) fn clipped(decoded: ArrayView3<'_, f32>) -> Array3<f32> {
    decoded.mapv(|v| v.clamp(-1.0, 1.0))
}

/// The root of the mean of `power` over the pixels that fall on each place of a grid.
pub(super) fn root_mean(power: &Array2<f32>, (height, width): (usize, usize)) -> Array2<f32> {
    let (h, w) = power.dim();
    let (mut sums, mut counts) = (Array2::<f32>::zeros((height, width)), Array2::<f32>::zeros((height, width)));
    for ((y, x), power) in power.indexed_iter() {
        let place = [y * height / h, x * width / w];
        sums[place] += power;
        counts[place] += 1.0;
    }
    (sums / counts.mapv(|count| count.max(1.0))).mapv(f32::sqrt)
}
