//! Value noise: random heights on a grid, blended smoothly between, summed over octaves.

use crate::draws::Draws;

/// Columns and rows of heights; beyond them the field repeats.
const GRID: usize = 64;

/// A field of values in [0, 1].
pub(crate) struct Noise {
    heights: Box<[f32; GRID * GRID]>,
}

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        let mut draws = Draws::new(seed);
        Noise { heights: Box::new(std::array::from_fn(|_| draws.unit())) }
    }

    /// One octave with grid cells of side 1.
    pub(crate) fn at(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (floor(x), floor(y));
        let (column, row) = (left as i32 as usize, top as i32 as usize);
        let (across, down) = (ease(x - left), ease(y - top));
        let (next_column, next_row) = (column.wrapping_add(1), row.wrapping_add(1));
        let upper = blend(self.corner(column, row), self.corner(next_column, row), across);
        let lower = blend(self.corner(column, next_row), self.corner(next_column, next_row), across);
        blend(upper, lower, down)
    }

    /// `octaves` octaves, each with half the size and half the strength of the one before.
    pub(crate) fn octaves(&self, x: f32, y: f32, octaves: u32) -> f32 {
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

    fn corner(&self, column: usize, row: usize) -> f32 {
        self.heights[row % GRID * GRID + column % GRID]
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

/// The next whole number below `value`, which lies within ±2³¹. Written out since `f32::floor` is
/// a call into a maths library on some machines (exact, but slow).
pub(crate) fn floor(value: f32) -> f32 {
    let towards_zero = value as i32 as f32;
    if towards_zero > value { towards_zero - 1.0 } else { towards_zero }
}
