//! Value noise: random heights on a grid, blended smoothly between, summed over octaves.

use crate::draws::mix;

/// A field of values in [0, 1].
#[derive(Clone, Copy)]
pub(crate) struct Noise {
    seed: u64,
}

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise { seed: mix(seed ^ 0x5EED_0F40_15E0_0001) }
    }

    /// One octave with grid cells of side 1.
    pub(crate) fn at(self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (column, row) = (left as i32, top as i32);
        let (across, down) = (ease(x - left), ease(y - top));
        let upper = blend(self.corner(column, row), self.corner(column + 1, row), across);
        let lower = blend(self.corner(column, row + 1), self.corner(column + 1, row + 1), across);
        blend(upper, lower, down)
    }

    /// `octaves` octaves, each with half the size and half the strength of the one before.
    pub(crate) fn octaves(self, x: f32, y: f32, octaves: u32) -> f32 {
        let (mut sum, mut strength, mut total, mut scale) = (0.0, 1.0, 0.0, 1.0);
        for octave in 0..octaves {
            let shift = octave as f32 * 17.3;
            sum += strength * self.at(x * scale + shift, y * scale - shift);
            total += strength;
            strength *= 0.5;
            scale *= 2.0;
        }
        sum / total
    }

    fn corner(self, column: i32, row: i32) -> f32 {
        let place = (u64::from(column as u32) << 32) | u64::from(row as u32);
        (mix(self.seed ^ mix(place)) >> 40) as f32 * (1.0 / 16_777_216.0)
    }
}

pub(crate) fn blend(from: f32, to: f32, share: f32) -> f32 {
    from + (to - from) * share
}

/// 0…1 to 0…1 with flat ends.
pub(crate) fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// 0 below `from`, 1 above `to`, eased between.
pub(crate) fn step(from: f32, to: f32, value: f32) -> f32 {
    ease(((value - from) / (to - from)).clamp(0.0, 1.0))
}
