//! Augmentation of an optimised picture ([methods A4]): rotate, translate, resize, crop, and a shift of colour, drawn
//! afresh for every picture and step.
//!
//! All but the colour shift and the fill is linear in the picture, and each draw applies as one bilinear gather with its
//! exact adjoint, a scatter.
//!
//! [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4

use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::canvas::normal;
use crate::fourier::CHANNELS;

/// How far an augmentation goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Rotation, at most so many degrees either way.
    pub rotate: f32,
    /// Translation, at most this share of the side either way.
    pub translate: f32,
    /// Least and largest factor of the resize, drawn for each axis.
    pub resize: [f32; 2],
    /// Standard deviation of the colour shift at the first step; it falls to 0 at the last.
    pub noise: f32,
    /// What lies around the picture (0 is black).
    pub fill: f32,
}

impl Default for Augmentation {
    /// The published ranges.
    fn default() -> Self {
        Augmentation { rotate: 15.0, translate: 0.15, resize: [0.6, 1.2], noise: 0.2, fill: 0.0 }
    }
}

impl Augmentation {
    /// One draw for a picture of `side` pixels, with `remaining` (0…1) of the steps still to come.
    pub fn draw(&self, random: &mut impl Rng, side: usize, remaining: f32) -> Draw {
        let mut between = |low: f32, high: f32| if low < high { random.random_range(low..high) } else { low };
        let angle = between(-self.rotate, self.rotate).to_radians();
        let reach = self.translate * side as f32;
        let shift = [between(-reach, reach), between(-reach, reach)];
        let resized = [(); 2].map(|()| ((side as f32 * between(self.resize[0], self.resize[1])) as usize).max(1));
        let noise = [(); CHANNELS].map(|()| normal(random) * self.noise * remaining);
        Draw { side, angle, shift, resized, noise, fill: self.fill }
    }
}

/// One augmentation of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    side: usize,
    /// Radians.
    angle: f32,
    /// Pixels along x and y.
    shift: [f32; 2],
    /// Width and height after the resize.
    resized: [usize; 2],
    /// Added to each colour.
    noise: [f32; CHANNELS],
    fill: f32,
}

/// Where one pixel of the result comes from: the upper left of four neighbours, and the way towards the others.
#[derive(Clone, Copy)]
struct Source {
    x: i32,
    y: i32,
    right: f32,
    down: f32,
}

/// The source of a pixel that lies outside.
const OUTSIDE: Source = Source { x: i32::MIN, y: 0, right: 0.0, down: 0.0 };

impl Draw {
    /// The draw that changes nothing.
    pub fn none(side: usize) -> Draw {
        Draw { side, angle: 0.0, shift: [0.0; 2], resized: [side; 2], noise: [0.0; CHANNELS], fill: 0.0 }
    }

    /// `picture` (3 × H × H) augmented.
    pub fn apply(&self, picture: &[f32]) -> Vec<f32> {
        let sources = self.sources();
        let mut out = vec![0.0; picture.len()];
        let plane = self.side * self.side;
        let channels = out.par_chunks_exact_mut(plane).zip(picture.par_chunks_exact(plane)).zip(self.noise);
        channels.for_each(|((out, channel), noise)| {
            for (to, source) in out.iter_mut().zip(&sources) {
                let (mut sum, mut share) = (0.0, 0.0);
                self.taps(*source, |at, weight| {
                    sum += weight * channel[at];
                    share += weight;
                });
                *to = sum + (1.0 - share) * self.fill + noise;
            }
        });
        out
    }

    /// The adjoint of the linear part of [`Draw::apply`]: what `gradient` of the result says about the picture.
    pub fn adjoint(&self, gradient: &[f32]) -> Vec<f32> {
        let sources = self.sources();
        let mut out = vec![0.0; gradient.len()];
        let plane = self.side * self.side;
        out.par_chunks_exact_mut(plane).zip(gradient.par_chunks_exact(plane)).for_each(|(out, channel)| {
            for (value, source) in channel.iter().zip(&sources) {
                self.taps(*source, |at, weight| out[at] += weight * value);
            }
        });
        out
    }

    /// The neighbours inside the picture, with their weights.
    fn taps(&self, source: Source, mut each: impl FnMut(usize, f32)) {
        if source.x == i32::MIN {
            return;
        }
        let side = self.side as i32;
        for (y, vertical) in [(source.y, 1.0 - source.down), (source.y + 1, source.down)] {
            for (x, horizontal) in [(source.x, 1.0 - source.right), (source.x + 1, source.right)] {
                if (0..side).contains(&x) && (0..side).contains(&y) {
                    each((y * side + x) as usize, vertical * horizontal);
                }
            }
        }
    }

    /// Where every pixel of the result comes from: back through the crop, the resize and the rotation in one go.
    fn sources(&self) -> Vec<Source> {
        let side = self.side;
        let along = |axis: usize| -> Vec<Option<f32>> { (0..side).map(|at| self.before_resize(axis, at)).collect() };
        let (columns, rows) = (along(0), along(1));
        let (sine, cosine) = self.angle.sin_cos();
        let centre = (side as f32 - 1.0) / 2.0;
        let place = |row: &Option<f32>, column: &Option<f32>| {
            let (Some(y), Some(x)) = (row, column) else { return OUTSIDE };
            let (x, y) = (x - centre - self.shift[0], y - centre - self.shift[1]);
            let (x, y) = (cosine * x + sine * y + centre, cosine * y - sine * x + centre);
            let (left, top) = (x.floor(), y.floor());
            Source { x: left as i32, y: top as i32, right: x - left, down: y - top }
        };
        rows.par_iter().flat_map_iter(|row| columns.iter().map(move |column| place(row, column))).collect()
    }

    /// Pixel `at` of the crop, before the resize along `axis`; `None` where the crop reaches beyond the resized picture.
    fn before_resize(&self, axis: usize, at: usize) -> Option<f32> {
        let (side, resized) = (self.side as i64, self.resized[axis] as i64);
        let place = at as i64 + (resized - side).div_euclid(2);
        let source = (place as f32 + 0.5) * side as f32 / resized as f32 - 0.5;
        (0..resized).contains(&place).then(|| source.clamp(0.0, side as f32 - 1.0))
    }
}
