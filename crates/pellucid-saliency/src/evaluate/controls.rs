//! Maps that need no network: what every explanation is compared with.

use crate::stats::random::stream;
use ndarray::Array2;
use rand::seq::SliceRandom;

/// Every place at a rank of its own, at random: `height` × `width`, the same for a seed and part.
pub fn random_order((height, width): (usize, usize), seed: u64, part: u64) -> Array2<f32> {
    let mut ranks: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
    ranks.shuffle(&mut stream(seed, part));
    Array2::from_shape_fn((height, width), |(y, x)| ranks[y * width + x])
}

/// The centre first: minus the squared distance to it.
pub fn centre_prior((height, width): (usize, usize)) -> Array2<f32> {
    Array2::from_shape_fn((height, width), |(y, x)| {
        let (dy, dx) = (y as f32 - (height as f32 - 1.0) / 2.0, x as f32 - (width as f32 - 1.0) / 2.0);
        -(dy * dy + dx * dx)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_order_ranks_each_place_once() {
        let map = random_order((3, 5), 4, 2);
        let mut values: Vec<f32> = map.iter().copied().collect();
        assert_ne!(map, random_order((3, 5), 4, 3));
        values.sort_by(f32::total_cmp);
        assert_eq!(values, (0..15).map(|i| i as f32).collect::<Vec<_>>());
    }

    #[test]
    fn the_centre_is_first() {
        let map = centre_prior((3, 3));
        assert!(map.iter().all(|v| *v <= map[[1, 1]]));
    }
}
