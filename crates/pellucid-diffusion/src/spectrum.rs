//! Pictures and latents by spatial frequency: the Fourier transform of a plane, radial frequency, rings and octave bands.

use ndarray::{Array2, ArrayView2, Axis};
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

/// The unnormalised discrete Fourier transform of a plane.
pub(crate) fn transform(plane: ArrayView2<'_, f32>) -> Array2<Complex<f64>> {
    let mut values = plane.mapv(|v| Complex::new(f64::from(v), 0.0));
    along_both(&mut values, false);
    values
}

/// The real part of the inverse transform.
pub(crate) fn inverse(mut values: Array2<Complex<f64>>) -> Array2<f32> {
    let scale = 1.0 / values.len().max(1) as f64;
    along_both(&mut values, true);
    values.mapv(|v| (v.re * scale) as f32)
}

fn along_both(values: &mut Array2<Complex<f64>>, is_inverse: bool) {
    let mut planner = FftPlanner::new();
    for axis in [Axis(1), Axis(0)] {
        let length = values.len_of(axis);
        if length == 0 {
            return;
        }
        let plan = if is_inverse { planner.plan_fft_inverse(length) } else { planner.plan_fft_forward(length) };
        let mut line = vec![Complex::default(); length];
        for mut lane in values.lanes_mut(axis) {
            line.iter_mut().zip(&lane).for_each(|(to, from)| *to = *from);
            plan.process(&mut line);
            lane.iter_mut().zip(&line).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Radial frequency of every entry of a transform, in cycles per place: from 0 to √½.
pub(crate) fn radius((height, width): (usize, usize)) -> Array2<f64> {
    let along = |at: usize, length: usize| at.min(length - at) as f64 / length as f64;
    Array2::from_shape_fn((height, width), |(y, x)| along(y, height).hypot(along(x, width)))
}

/// The ring of every entry: radial frequency in cycles over the shorter side, rounded.
pub(crate) fn rings(size: (usize, usize)) -> Array2<usize> {
    let side = size.0.min(size.1) as f64;
    radius(size).mapv(|r| (r * side).round() as usize)
}

/// Octave bands below the Nyquist frequency.
pub(crate) const BANDS: usize = 5;

/// Upper ends of the bands in cycles per place, coarse to fine; what lies beyond the last belongs to it.
pub(crate) fn upper_ends() -> [f64; BANDS] {
    std::array::from_fn(|band| 0.5 / f64::from(1u32 << (BANDS - 1 - band)))
}

/// The band of every entry, coarse to fine; `None` for the mean. The coarsest band holds all that is below it, the finest
/// the corners beyond Nyquist.
pub(crate) fn bands(size: (usize, usize)) -> Array2<Option<usize>> {
    let ends = upper_ends();
    // Frequencies are fractions: what should be an end must not miss it by rounding.
    let of = |r: f64| ends.iter().position(|end| r <= end * (1.0 + 1e-12)).unwrap_or(BANDS - 1);
    radius(size).mapv(|r| (r > 0.0).then(|| of(r)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn plane(height: usize, width: usize) -> Array2<f32> {
        let noise = crate::gaussian(3, height * width);
        Array2::from_shape_fn((height, width), |(y, x)| noise[y * width + x])
    }

    /// The definition, as a double loop.
    #[test]
    fn the_transform_is_the_sum_that_defines_it() {
        let plane = plane(5, 6);
        let found = transform(plane.view());
        for ((v, u), found) in found.indexed_iter() {
            let sum: Complex<f64> = plane
                .indexed_iter()
                .map(|((y, x), value)| {
                    let turn = (v * y) as f64 / 5.0 + (u * x) as f64 / 6.0;
                    Complex::from_polar(f64::from(*value), -std::f64::consts::TAU * turn)
                })
                .sum();
            assert!((found - sum).norm() < 1e-9, "{v} {u}");
        }
        let back = inverse(found);
        assert!((&back - &plane).iter().all(|d| d.abs() < 1e-6));
    }

    #[test]
    fn frequencies_are_symmetric_and_end_at_the_corner() {
        let radius = radius((4, 6));
        assert_eq!(radius[[0, 0]], 0.0);
        assert_eq!(radius[[0, 1]], radius[[0, 5]]);
        assert!((radius[[2, 3]] - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(rings((4, 6))[[0, 3]], 2);
    }

    #[test]
    fn octaves_end_at_a_power_of_two_of_places() {
        let bands = bands((64, 64));
        let along: Vec<Option<usize>> = [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 32].iter().map(|&u| bands[[0, u]]).collect();
        let expected = [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), Some(3), Some(3), Some(4), Some(4)];
        assert_eq!(along, expected);
        assert_eq!(bands[[32, 32]], Some(4), "a corner");
    }
}
