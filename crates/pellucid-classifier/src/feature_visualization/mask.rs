//! Where on its finished picture a neuron responds: [methods A4]'s heat mask.
//!
//! [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4

use ndarray::{Array2, ArrayView2};
use pellucid_saliency::render::{Alignment, upsample};
use pellucid_vision::picture::Picture;

/// Standard deviations above the mean from which a place is shown in full.
const THRESHOLD: f32 = 0.5;

/// Brightness of the rest.
const DIMMED: f32 = 0.5;

/// The same for the sensitivity score (`docs/methods.md#a5`), which takes the rest away.
const REGION: f32 = 0.25;

/// A map whose deviation is below this share of its mean tells places apart by rounding alone.
const ROUNDING: f64 = 1e-5;
/// A channel whose map deviates by less than this share of its mean responds everywhere.
const EVEN: f64 = 0.02;

/// Whether a channel responds, and everywhere alike.
pub fn is_saturated(map: ArrayView2<'_, f32>) -> bool {
    let (mean, deviation) = moments(map);
    mean > 0.0 && deviation < EVEN * mean
}

fn moments(map: ArrayView2<'_, f32>) -> (f64, f64) {
    let count = map.len() as f64;
    let mean = map.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = map.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance.sqrt())
}

/// The heat mask of `map` (h × w) at `width` × `height`: 1 where the map, enlarged and standardised over the picture, lies
/// above 0.5, else 0.5. `None` for a map that is constant or not finite, which has no mask.
pub fn heat_mask(map: ArrayView2<'_, f32>, width: usize, height: usize) -> Option<Array2<f32>> {
    mask(map, width, height, THRESHOLD, DIMMED)
}

/// The heat region of `map`, as [`heat_mask`]: 1 above 0.25, else 0.
pub fn heat_region(map: ArrayView2<'_, f32>, width: usize, height: usize) -> Option<Array2<f32>> {
    mask(map, width, height, REGION, 0.0)
}

fn mask(map: ArrayView2<'_, f32>, width: usize, height: usize, threshold: f32, outside: f32) -> Option<Array2<f32>> {
    let enlarged = upsample(map, width, height, Alignment::Corners);
    let (mean, deviation) = moments(enlarged.view());
    if !deviation.is_finite() || deviation <= ROUNDING * mean.abs().max(f64::MIN_POSITIVE) {
        return None;
    }
    let standard = |v: f32| ((f64::from(v) - mean) / deviation) as f32;
    Some(enlarged.mapv(|v| if standard(v) > threshold { 1.0 } else { outside }))
}

/// `picture` multiplied with `mask`, which has its size.
pub fn dimmed(picture: &Picture, mask: &Array2<f32>) -> Picture {
    let mut shown = picture.clone();
    for (pixel, share) in shown.data_mut().chunks_exact_mut(3).zip(mask) {
        pixel.iter_mut().for_each(|level| *level = (f32::from(*level) * share).round() as u8);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_place_that_responds_is_kept_and_the_rest_is_dimmed() {
        let mask = heat_mask(array![[0.0, 0.0], [0.0, 4.0]].view(), 8, 8).unwrap();
        assert_eq!((mask[[7, 7]], mask[[0, 0]]), (1.0, 0.5));
        let region = heat_region(array![[0.0, 0.0], [0.0, 4.0]].view(), 8, 8).unwrap();
        assert!(
            region[[7, 7]] == 1.0
                && region[[0, 0]] == 0.0
                && region.sum() >= mask.iter().filter(|v| **v == 1.0).count() as f32
        );
        let gray = Picture::from_fn(8, 8, |_, _| [100; 3]);
        assert_eq!((dimmed(&gray, &mask).pixel(7, 7), dimmed(&gray, &mask).pixel(0, 0)), ([100; 3], [50; 3]));
    }

    #[test]
    fn rounding_in_a_constant_map_is_no_place_that_responds() {
        // As a ReLU6 leaves it: 6 everywhere, up to the last bit.
        let map = Array2::from_shape_fn((7, 7), |(y, x)| if (x + y) % 3 == 0 { 6.0 } else { 5.999_999_5 });
        assert!(heat_mask(map.view(), 224, 224).is_none() && is_saturated(map.view()));
        assert!(heat_mask(Array2::from_elem((7, 7), 6.0f32).view(), 224, 224).is_none());
        assert!(!is_saturated(Array2::zeros((7, 7)).view()), "a silent channel is not saturated");
    }

    #[test]
    fn a_constant_map_has_no_mask() {
        assert!(heat_mask(array![[0.3, 0.3], [0.3, 0.3]].view(), 8, 8).is_none());
        assert!(heat_mask(array![[f32::NAN, 0.3], [0.3, 0.3]].view(), 8, 8).is_none());
    }
}
