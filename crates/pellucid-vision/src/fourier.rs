//! Pictures from spectra ([methods A4]): a real picture as the inverse Fourier transform of complex coefficients whose
//! size falls with their frequency as in photographs, with the colours of photographs decorrelated.
//!
//! Every map here is linear and comes with its exact adjoint, so that gradients of a picture become gradients of its
//! spectrum. [`crate::canvas`] puts them together with the sigmoid.
//!
//! [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4

use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// Colour channels of a picture.
pub const CHANNELS: usize = 3;

/// Fall of the coefficients with frequency: amplitude ∝ 1 / |frequency|^(2 · this).
const DECAY: f64 = 0.75;

/// Mixes three uncorrelated channels into red, green and blue, as they go together in photographs (rows: colours).
const MIX: [[f64; 3]; 3] = [[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]];

/// The transform between the spectra and the pictures of one side.
///
/// A spectrum of one channel is H × H numbers, row-major: H rows of H/2 complex pairs, the non-negative horizontal
/// frequencies below Nyquist. The Nyquist column is zero, and the imaginary part of what stands at horizontal frequency
/// 0 after the vertical transform is ignored.
#[derive(Clone)]
pub struct Spectrum {
    side: usize,
    /// H × H/2 factors on the pairs.
    scale: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

impl std::fmt::Debug for Spectrum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spectrum").field("side", &self.side).finish_non_exhaustive()
    }
}

impl Spectrum {
    /// The transform for pictures of `side` × `side` pixels; an odd side is raised to the next even one.
    pub fn new(side: usize) -> Spectrum {
        let side = side.max(2).next_multiple_of(2);
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(side), planner.plan_fft_inverse(side));
        Spectrum { side, scale: frequency_scale(side), forward, inverse }
    }

    /// H: the side of the pictures, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The factors on the complex pairs, H × H/2.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// One channel of a picture (H × H) from its spectrum, each pair multiplied by [`Spectrum::scale`] first.
    pub fn picture(&self, spectrum: &[f32]) -> Vec<f32> {
        let scaled = self.pairs(spectrum).map(|(pair, scale)| pair * scale).collect();
        self.synthesise(scaled)
    }

    /// The adjoint of [`Spectrum::picture`]: what a gradient of the channel says about the spectrum.
    pub fn adjoint(&self, gradient: &[f32]) -> Vec<f32> {
        let pairs = self.analyse(gradient, 2.0);
        pairs.iter().zip(&self.scale).flat_map(|(pair, scale)| [pair.re * scale, pair.im * scale]).collect()
    }

    /// A spectrum whose picture is `channel`, what lies at the Nyquist frequency apart.
    pub fn spectrum_of(&self, channel: &[f32]) -> Vec<f32> {
        let pairs = self.analyse(channel, 1.0);
        pairs.iter().zip(&self.scale).flat_map(|(pair, scale)| [pair.re / scale, pair.im / scale]).collect()
    }

    fn pairs<'a>(&'a self, spectrum: &'a [f32]) -> impl Iterator<Item = (Complex<f32>, f32)> + 'a {
        spectrum.chunks_exact(2).zip(&self.scale).map(|(pair, &scale)| (Complex::new(pair[0], pair[1]), scale))
    }

    /// Inverse real transform with 'ortho' norm of coefficients (H × H/2).
    pub fn synthesise(&self, mut coefficients: Vec<Complex<f32>>) -> Vec<f32> {
        let (n, half) = (self.side, self.side / 2);
        along_columns(&mut coefficients, n, half, &self.inverse);
        let mut row = vec![Complex::default(); n];
        let mut out = Vec::with_capacity(n * n);
        let norm = 1.0 / n as f32;
        for given in coefficients.chunks_exact(half) {
            row[0] = Complex::new(given[0].re, 0.0);
            row[half] = Complex::default();
            for k in 1..half {
                row[k] = given[k];
                row[n - k] = given[k].conj();
            }
            self.inverse.process(&mut row);
            out.extend(row.iter().map(|v| v.re * norm));
        }
        out
    }

    /// Forward transform with 'ortho' norm, coefficients (H × H/2) at positive frequencies times `doubled`: 1 gives the
    /// coefficients of `channel`, 2 the adjoint of [`Spectrum::synthesise`], where each of them stands for two.
    pub fn analyse(&self, channel: &[f32], doubled: f32) -> Vec<Complex<f32>> {
        let (n, half) = (self.side, self.side / 2);
        let norm = 1.0 / n as f32;
        let mut row = vec![Complex::default(); n];
        let mut coefficients = Vec::with_capacity(n * half);
        for values in channel.chunks_exact(n) {
            row.iter_mut().zip(values).for_each(|(to, &from)| *to = Complex::new(from * norm, 0.0));
            self.forward.process(&mut row);
            coefficients.push(Complex::new(row[0].re, 0.0));
            coefficients.extend(row[1..half].iter().map(|v| v * doubled));
        }
        along_columns(&mut coefficients, n, half, &self.forward);
        coefficients
    }
}

/// Transforms each of the `columns` columns of `rows` complex numbers.
fn along_columns(values: &mut [Complex<f32>], rows: usize, columns: usize, transform: &Arc<dyn Fft<f32>>) {
    let mut column = vec![Complex::default(); rows];
    for x in 0..columns {
        (0..rows).for_each(|y| column[y] = values[y * columns + x]);
        transform.process(&mut column);
        (0..rows).for_each(|y| values[y * columns + x] = column[y]);
    }
}

/// 1 / max(|f|^(2·0.75), 1/(H·√½)), frequencies in cycles per √½ pixels.
fn frequency_scale(side: usize) -> Vec<f32> {
    let spacing = 0.5f64.sqrt();
    let extent = side as f64 * spacing;
    let frequency = |k: usize| if k < side / 2 { k as f64 } else { k as f64 - side as f64 } / extent;
    let least = 1.0 / extent;
    let factor = |y: usize, x: usize| {
        let squared = frequency(y).powi(2) + (x as f64 / extent).powi(2);
        (1.0 / squared.powf(DECAY).max(least)) as f32
    };
    (0..side).flat_map(|y| (0..side / 2).map(move |x| factor(y, x))).collect()
}

/// The colour matrix, divided by its largest column norm.
fn mix() -> [[f64; 3]; 3] {
    let norm = |j: usize| MIX.iter().map(|row| row[j] * row[j]).sum::<f64>().sqrt();
    let largest = (0..3).map(norm).fold(0.0, f64::max);
    MIX.map(|row| row.map(|v| v / largest))
}

/// Red, green and blue from three uncorrelated channels, in place; `values` are 3 planes of equal size.
pub fn colours(values: &mut [f32]) {
    multiply(values, mix());
}

/// The adjoint of [`colours`].
pub fn colours_adjoint(values: &mut [f32]) {
    let m = mix();
    multiply(values, std::array::from_fn(|i| std::array::from_fn(|j| m[j][i])));
}

/// The inverse of [`colours`].
pub fn uncorrelated(values: &mut [f32]) {
    let m = mix();
    let minor = |i: usize, j: usize| {
        let (r, c) = ([(i + 1) % 3, (i + 2) % 3], [(j + 1) % 3, (j + 2) % 3]);
        m[r[0]][c[0]] * m[r[1]][c[1]] - m[r[0]][c[1]] * m[r[1]][c[0]]
    };
    let determinant: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    multiply(values, std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i) / determinant)));
}

fn multiply(values: &mut [f32], matrix: [[f64; 3]; 3]) {
    let matrix = matrix.map(|row| row.map(|v| v as f32));
    let plane = values.len() / CHANNELS;
    for at in 0..plane {
        let old = [values[at], values[plane + at], values[2 * plane + at]];
        for (channel, row) in matrix.iter().enumerate() {
            values[channel * plane + at] = row[0] * old[0] + row[1] * old[1] + row[2] * old[2];
        }
    }
}
