//! What tells a good map from a pretty one: deletion and insertion against a random order (Petsiuk et al. 2018), the same map
//! of a network whose weights were shuffled (Adebayo et al. 2018), and whether there is anything to see.

use super::{Asking, AttributionError};
use ndarray::{Array2, ArrayD};
use pellucid_saliency::evaluate::{ConfidenceGames, ranked};
use pellucid_saliency::stats::spearman;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Points of the deletion and insertion curves.
const POINTS: usize = 17;
/// A map that goes on like this on a shuffled network does not show what the network learnt.
const SAME: f64 = 0.5;
/// A map with so large a share of its pixels at its largest value shows no place.
const SATURATED: f64 = 0.5;

/// Both games of `map` against a random order drawn from `seed`.
pub(super) fn games(asking: &Asking<'_>, map: &Array2<f32>, seed: u64) -> Result<ConfidenceGames, AttributionError> {
    let mut order = ranked(map);
    let areas = curves(asking, &order)?;
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    Ok(ConfidenceGames::of(areas, curves(asking, &order)?))
}

/// Areas under the deletion and the insertion curve for pixels in `order`, scores as shares of the picture's over the gray
/// one's.
fn curves(asking: &Asking<'_>, order: &[usize]) -> Result<[f64; 2], AttributionError> {
    let rows = |from: &ArrayD<f32>, to: &ArrayD<f32>| -> Vec<ArrayD<f32>> {
        let count = |k: usize| order.len() * k / (POINTS - 1);
        (0..POINTS).map(|k| replaced(asking, from, to, &order[..count(k)])).collect()
    };
    let deleted = asking.scores(&rows(asking.input, asking.gray))?;
    let inserted = asking.scores(&rows(asking.gray, asking.input))?;
    let (whole, none) = (f64::from(inserted[POINTS - 1]), f64::from(inserted[0]));
    let share = |score: f32| if whole == none { 0.0 } else { (f64::from(score) - none) / (whole - none) };
    let area = |curve: &[f32]| {
        let pairs = curve.windows(2).map(|w| (share(w[0]) + share(w[1])) / 2.0);
        pairs.sum::<f64>() / (POINTS - 1) as f64
    };
    Ok([area(&deleted), area(&inserted)])
}

/// `from` with the pixels `places` taken from `to`.
fn replaced(asking: &Asking<'_>, from: &ArrayD<f32>, to: &ArrayD<f32>, places: &[usize]) -> ArrayD<f32> {
    let mut mixed = from.clone();
    let (height, width) = asking.size();
    let colours = mixed.len_of(asking.channel_axis());
    for channel in 0..colours {
        let source = to.index_axis(asking.channel_axis(), channel);
        let mut target = mixed.index_axis_mut(asking.channel_axis(), channel);
        for &at in places {
            let place = [0, at / width, at % width];
            debug_assert!(at / width < height);
            target[&place[..]] = source[&place[..]];
        }
    }
    mixed
}

/// Spearman's rank correlation of two maps.
pub(super) fn rank_correlation(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let flat = |map: &Array2<f32>| map.iter().copied().collect::<Vec<_>>();
    spearman(&flat(a), &flat(b))
}

/// Why a map is not worth drawing; `same` is its rank correlation with the shuffled network's, where that is known.
pub(super) fn flag(map: &Array2<f32>, same: Option<f64>) -> Option<String> {
    let most = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = map.iter().copied().fold(f32::INFINITY, f32::min);
    if map.iter().any(|v| !v.is_finite()) {
        return Some("not finite: the gradient holds NaN or infinity".to_owned());
    }
    if most == 0.0 && least == 0.0 {
        return Some("blank: nothing in the picture speaks for it".to_owned());
    }
    if most - least <= 1e-6 * most.abs().max(least.abs()) {
        return Some("constant: no place speaks for it more than another".to_owned());
    }
    let high = map.iter().filter(|v| **v >= least + 0.99 * (most - least)).count() as f64 / map.len() as f64;
    if high > SATURATED {
        return Some(format!("saturated: {:.0} % of it stands at its largest value", 100.0 * high));
    }
    same.filter(|same| *same > SAME).map(|same| {
        format!("much the same with shuffled weights (rank correlation {same:.2}): it shows the picture, not the model")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn maps_that_show_nothing_are_flagged() {
        let flagged = |map: Array2<f32>| flag(&map, Some(0.0)).unwrap_or_default();
        assert!(flagged(Array2::zeros((2, 2))).starts_with("blank"));
        assert!(flagged(Array2::from_elem((2, 2), 0.3)).starts_with("constant"));
        assert!(flagged(array![[1.0, 1.0], [1.0, 0.0]]).starts_with("saturated"));
        assert!(flagged(array![[f32::NAN, 1.0], [1.0, 0.0]]).starts_with("not finite"));
        let good = array![[1.0, 0.2], [0.1, 0.0]];
        assert_eq!((flag(&good, Some(0.1)), flag(&good, None)), (None, None));
        assert!(flag(&good, Some(0.9)).is_some());
    }
}
