//! Views of a picture as training shows them: a part of it, at times mirrored.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::picture::Picture;

/// Least share of a picture's area in a view: mild, since what a model goes by should stay in the picture.
const LEAST_AREA: f64 = 0.5;
/// A view's sides stand in a ratio between this and its inverse.
const RATIO: f64 = 0.75;

/// One of a picture's random views: torchvision's `RandomResizedCrop(scale=(0.5, 1))` and a horizontal flip with
/// probability ½. It depends on the picture's content and on `number` alone, so equal pictures have equal views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingView {
    /// Which view.
    pub number: u64,
}

impl TrainingView {
    /// The part of `picture` that this view shows, at its own resolution.
    pub fn of(self, picture: &Picture) -> Picture {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.number.to_le_bytes()).update(picture.data());
        let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        let (width, height) = (picture.width(), picture.height());
        let area = f64::from(width) * f64::from(height) * rng.random_range(LEAST_AREA..=1.0);
        let ratio = rng.random_range(RATIO.ln()..=-RATIO.ln()).exp();
        let side = |length: f64, most: u32| (length.round() as u32).clamp(1, most);
        let (w, h) = (side((area * ratio).sqrt(), width), side((area / ratio).sqrt(), height));
        let (left, top) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
        let mirrored: bool = rng.random();
        Picture::from_fn(w, h, |x, y| picture.pixel(left + if mirrored { w - 1 - x } else { x }, top + y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(width: u32, height: u32) -> Picture {
        Picture::from_fn(width, height, |x, y| [x as u8, y as u8, 7])
    }

    #[test]
    fn equal_pictures_have_equal_views_and_views_differ() {
        let picture = numbered(40, 30);
        let view = |number| TrainingView { number }.of(&picture);
        assert_eq!(view(1), TrainingView { number: 1 }.of(&numbered(40, 30)));
        assert_ne!(view(1), view(2));
        let mirrored = |p: &Picture| p.pixel(0, 0)[0] > p.pixel(p.width() - 1, 0)[0];
        let some: Vec<bool> = (0..20).map(|k| mirrored(&view(k))).collect();
        assert!(some.contains(&true) && some.contains(&false));
    }

    proptest! {
        #[test]
        fn a_view_is_a_large_enough_part_of_the_picture(width in 1u32..60, height in 1u32..60, number: u64) {
            let view = TrainingView { number }.of(&numbered(width, height));
            prop_assert!(view.width() <= width && view.height() <= height);
            let share = f64::from(view.width() * view.height()) / f64::from(width * height);
            // A side that would not fit is cut, as by torchvision's fallback; small pictures round.
            prop_assert!(width.min(height) < 20 || share > 0.35 && width != height || share > 0.4, "{share}");
            // Neighbours stay neighbours.
            let step = i32::from(view.pixel(1.min(view.width() - 1), 0)[0]) - i32::from(view.pixel(0, 0)[0]);
            prop_assert!(step.abs() == i32::from(view.width() > 1));
        }
    }
}
