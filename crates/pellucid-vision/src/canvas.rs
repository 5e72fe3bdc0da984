//! What an optimised picture is made of: parameters, the picture they give, and the way back for gradients.
//!
//! Every parameterisation ends in a sigmoid, so that pixels stay between 0 and 1 and its derivative p (1 − p) can be
//! read off the picture.

use rand::Rng;
use rayon::prelude::*;
use rustfft::num_complex::Complex;
use serde::{Deserialize, Serialize};

use crate::fourier::{self, CHANNELS, Spectrum};
use crate::picture::Picture;

/// What the parameters of a picture are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameterisation {
    /// Scaled Fourier coefficients with decorrelated colours ([methods A4]).
    ///
    /// [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4
    #[default]
    Fourier,
    /// The phases of Fourier coefficients whose magnitudes stay those of a photograph: they fall as 1/frequency.
    Phase,
    /// The pixels, before the sigmoid.
    Pixel,
}

/// Pictures of one side and one parameterisation.
#[derive(Debug, Clone)]
pub struct Canvas {
    parameterisation: Parameterisation,
    spectrum: Spectrum,
}

/// Standard deviation of the first spectrum.
const SPARK: f32 = 0.001;

/// Standard deviation, before the sigmoid, of a picture with fixed magnitudes.
const CONTRAST: f32 = 0.9;

/// Pixels of a starting picture are kept this far from 0 and 1, where the sigmoid has no inverse.
const MARGIN: f32 = 0.02;

impl Canvas {
    /// Pictures of `side` × `side` pixels; an odd side is raised to the next even one.
    pub fn new(parameterisation: Parameterisation, side: usize) -> Canvas {
        Canvas { parameterisation, spectrum: Spectrum::new(side) }
    }

    /// H.
    pub fn side(&self) -> usize {
        self.spectrum.side()
    }

    /// Values of one picture: 3 H².
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        CHANNELS * self.side() * self.side()
    }

    /// Parameters of one picture: 3 H², or half of it where only phases are free.
    pub fn parameters(&self) -> usize {
        match self.parameterisation {
            Parameterisation::Fourier | Parameterisation::Pixel => self.len(),
            Parameterisation::Phase => self.len() / 2,
        }
    }

    /// The first parameters: near-gray noise, or random phases.
    pub fn spark(&self, random: &mut impl Rng) -> Vec<f32> {
        match self.parameterisation {
            Parameterisation::Fourier => (0..self.parameters()).map(|_| SPARK * normal(random)).collect(),
            Parameterisation::Pixel => (0..self.parameters()).map(|_| 10.0 * SPARK * normal(random)).collect(),
            Parameterisation::Phase => {
                (0..self.parameters()).map(|_| random.random_range(0.0..std::f32::consts::TAU)).collect()
            }
        }
    }

    /// Parameters that give `picture`, brought to the canvas's size; what the parameterisation cannot hold is lost (the
    /// Nyquist frequency, or the magnitudes). Pixels are kept 0.02 away from black and white.
    pub fn parameters_of(&self, picture: &Picture) -> Vec<f32> {
        let side = self.side() as u32;
        let fitted = crate::resize::resize(picture, side, side, crate::resize::Filter::Bicubic);
        let plane = self.side() * self.side();
        let mut values = vec![0.0; self.len()];
        for (at, pixel) in fitted.data().chunks_exact(CHANNELS).enumerate() {
            for (channel, &level) in pixel.iter().enumerate() {
                let p = (f32::from(level) / 255.0).clamp(MARGIN, 1.0 - MARGIN);
                values[channel * plane + at] = (p / (1.0 - p)).ln();
            }
        }
        match self.parameterisation {
            Parameterisation::Pixel => values,
            Parameterisation::Fourier => {
                fourier::uncorrelated(&mut values);
                values.chunks_exact(plane).flat_map(|channel| self.spectrum.spectrum_of(channel)).collect()
            }
            Parameterisation::Phase => {
                fourier::uncorrelated(&mut values);
                let phases = |channel| self.spectrum.analyse(channel, 1.0).into_iter().map(|c| c.arg());
                values.chunks_exact(plane).flat_map(phases).collect()
            }
        }
    }

    /// The picture of `parameters`: 3 × H × H, red, green, blue, each between 0 and 1.
    pub fn picture(&self, parameters: &[f32]) -> Vec<f32> {
        let mut values = match self.parameterisation {
            Parameterisation::Pixel => parameters.to_vec(),
            Parameterisation::Fourier => self.channels(parameters, |spectrum| self.spectrum.picture(spectrum)),
            Parameterisation::Phase => self.channels(parameters, |phases| {
                let magnitudes = self.magnitudes();
                let pairs = phases.iter().zip(magnitudes).map(|(&phase, size)| Complex::from_polar(size, phase));
                self.spectrum.synthesise(pairs.collect())
            }),
        };
        if self.parameterisation != Parameterisation::Pixel {
            fourier::colours(&mut values);
        }
        values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
        values
    }

    /// The gradient of the parameters that `gradient`, one of `picture` (which `parameters` give), makes.
    pub fn gradient(&self, parameters: &[f32], picture: &[f32], gradient: &[f32]) -> Vec<f32> {
        let mut values: Vec<f32> = gradient.iter().zip(picture).map(|(g, p)| g * p * (1.0 - p)).collect();
        if self.parameterisation == Parameterisation::Pixel {
            return values;
        }
        fourier::colours_adjoint(&mut values);
        let plane = self.side() * self.side();
        if self.parameterisation == Parameterisation::Fourier {
            let each = values.par_chunks_exact(plane).map(|channel| self.spectrum.adjoint(channel));
            return each.collect::<Vec<_>>().concat();
        }
        let magnitudes: Vec<f32> = self.magnitudes().collect();
        let channels = values.par_chunks_exact(plane).zip(parameters.par_chunks_exact(plane / 2));
        let each = channels.map(|(channel, phases)| {
            let pairs = self.spectrum.analyse(channel, 2.0);
            let turned = pairs.iter().zip(phases).zip(&magnitudes);
            turned.map(|((g, phase), size)| size * (g.im * phase.cos() - g.re * phase.sin())).collect::<Vec<f32>>()
        });
        each.collect::<Vec<_>>().concat()
    }

    /// Each channel of a spectrum by itself, in parallel.
    fn channels(&self, parameters: &[f32], each: impl Fn(&[f32]) -> Vec<f32> + Sync + Send) -> Vec<f32> {
        parameters.par_chunks_exact(parameters.len() / CHANNELS).map(each).collect::<Vec<_>>().concat()
    }

    /// Magnitudes that fall as 1/frequency and give a channel the standard deviation [`CONTRAST`].
    fn magnitudes(&self) -> impl Iterator<Item = f32> + '_ {
        let side = self.side();
        let falling = move |at: usize| {
            let (y, x) = (at / (side / 2), at % (side / 2));
            let y = y.min(side - y) as f32;
            if at == 0 { 0.0 } else { 1.0 / (y * y + (x * x) as f32).sqrt() }
        };
        let power: f32 = (0..side * side / 2).map(|at| 2.0 * falling(at).powi(2)).sum();
        let factor = CONTRAST * side as f32 / power.sqrt();
        (0..side * side / 2).map(move |at| factor * falling(at))
    }

    /// `picture` (3 × H × H) in 8 bits.
    pub fn to_picture(&self, picture: &[f32]) -> Picture {
        let (side, plane) = (self.side(), self.side() * self.side());
        let level = |v: f32| (v * 255.0).round().clamp(0.0, 255.0) as u8;
        Picture::from_fn(side as u32, side as u32, |x, y| {
            let at = y as usize * side + x as usize;
            [level(picture[at]), level(picture[plane + at]), level(picture[2 * plane + at])]
        })
    }
}

/// Total variation of `picture` (3 × H × H), the mean absolute difference of neighbours, added to nothing: its gradient
/// times `weight`, added to `gradient`.
pub fn add_total_variation(picture: &[f32], side: usize, weight: f32, gradient: &mut [f32]) {
    let step = weight / (side * side) as f32;
    for (channel, gradient) in picture.chunks_exact(side * side).zip(gradient.chunks_exact_mut(side * side)) {
        let mut pair = |a: usize, b: usize| {
            let difference = channel[a] - channel[b];
            // Zero has no sign here: equal neighbours stay as they are.
            let slope = if difference == 0.0 { 0.0 } else { step * difference.signum() };
            gradient[a] += slope;
            gradient[b] -= slope;
        };
        for y in 0..side {
            for x in 0..side {
                let at = y * side + x;
                if x + 1 < side {
                    pair(at, at + 1);
                }
                if y + 1 < side {
                    pair(at, at + side);
                }
            }
        }
    }
}

/// A draw from the standard normal distribution (Box–Muller, in f64).
pub fn normal(random: &mut impl Rng) -> f32 {
    let u: f64 = 1.0 - random.random::<f64>();
    let v: f64 = random.random();
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
