//! Where on its finished picture a neuron responds: METHODS A4's heat mask.

use ndarray::{Array2, ArrayView2};
use pellucid_vision::heat::{Alignment, upsample};
use pellucid_vision::picture::Picture;

/// Standard deviations above the mean from which a place is shown in full.
const THRESHOLD: f32 = 0.5;

/// Brightness of the rest.
const DIMMED: f32 = 0.5;

/// The heat mask of `map` (h × w) at `width` × `height`: 1 where the map, enlarged and standardised over the picture, lies
/// above 0.5, else 0.5. `None` for a map that is constant or not finite, which has no mask.
pub fn heat_mask(map: ArrayView2<'_, f32>, width: usize, height: usize) -> Option<Array2<f32>> {
    let enlarged = upsample(map, width, height, Alignment::Corners);
    let count = enlarged.len() as f64;
    let mean = enlarged.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = enlarged.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let deviation = variance.sqrt();
    if !deviation.is_finite() || deviation <= 1e-12 * mean.abs().max(1e-12) {
        return None;
    }
    let standard = |v: f32| ((f64::from(v) - mean) / deviation) as f32;
    Some(enlarged.mapv(|v| if standard(v) > THRESHOLD { 1.0 } else { DIMMED }))
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
        let gray = Picture::from_fn(8, 8, |_, _| [100; 3]);
        assert_eq!((dimmed(&gray, &mask).pixel(7, 7), dimmed(&gray, &mask).pixel(0, 0)), ([100; 3], [50; 3]));
    }

    #[test]
    fn a_constant_map_has_no_mask() {
        assert!(heat_mask(array![[0.3, 0.3], [0.3, 0.3]].view(), 8, 8).is_none());
        assert!(heat_mask(array![[f32::NAN, 0.3], [0.3, 0.3]].view(), 8, 8).is_none());
    }
}
