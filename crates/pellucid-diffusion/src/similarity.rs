//! Local similarities of two latents ([methods B1]): one number for each place, averaged over channels.
//!
//! [methods B1]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b1

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, Zip};
use serde::{Deserialize, Serialize};

/// Width of the Gaussian window, and its standard deviation.
const WINDOW: usize = 15;
const SIGMA: f64 = 1.5;
const C1: f32 = 1e-4;
const C2: f32 = 9e-4;
const C3: f32 = C2 / 2.0;

/// How alike two latents are at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// (σ_ab + C3) / (σ_a σ_b + C3), the structure term of SSIM.
    Structure,
    /// (2 μ_a μ_b + C1) / (μ_a² + μ_b² + C1).
    Luminance,
    /// (2 σ_a σ_b + C2) / (σ_a² + σ_b² + C2).
    Contrast,
    /// Cosine over the channels at each place.
    Cosine,
    /// Minus the mean squared change at every *other* place: what a place does to the rest. A network that only copies
    /// changes nothing elsewhere, so this one cannot be earned by the identity.
    Elsewhere,
}

/// `map` blurred by the Gaussian window, zeros outside. One tap after the other over whole rows, which the compiler turns into
/// vector instructions.
fn blur(map: ArrayView2<'_, f32>, kernel: &[f32]) -> Array2<f32> {
    let (height, width) = map.dim();
    let reach = kernel.len() / 2;
    let mut across = Array2::<f32>::zeros((height, width));
    let mut padded = vec![0.0; width + kernel.len() - 1];
    for (row, mut blurred) in map.outer_iter().zip(across.outer_iter_mut()) {
        padded[reach..reach + width].iter_mut().zip(row).for_each(|(p, v)| *p = *v);
        for (i, k) in kernel.iter().enumerate() {
            Zip::from(&mut blurred).and(&padded[i..i + width]).for_each(|b, v| *b += k * v);
        }
    }
    let mut down = Array2::<f32>::zeros((height, width));
    for (y, mut blurred) in down.outer_iter_mut().enumerate() {
        for (i, k) in kernel.iter().enumerate() {
            // Rows above and below the map are zeros.
            if let Some(from) = (y + i).checked_sub(reach).filter(|from| *from < height) {
                Zip::from(&mut blurred).and(across.row(from)).for_each(|b, v| *b += k * v);
            }
        }
    }
    down
}

/// Normalised Gaussian weights.
pub(crate) fn gaussian_kernel(window: usize, sigma: f64) -> Vec<f32> {
    let centre = (window / 2) as f64;
    let raw: Vec<f64> = (0..window).map(|i| (-(i as f64 - centre).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|v| (v / sum) as f32).collect()
}

/// Means and standard deviations of one latent under the window, kept for many comparisons.
#[derive(Debug)]
pub struct Reference {
    latent: Array3<f32>,
    kernel: Vec<f32>,
    means: Array3<f32>,
    deviations: Array3<f32>,
    similarity: Similarity,
    /// Factor on σ_ab; 2 in the published code.
    covariance_factor: f32,
}

fn windowed(latent: ArrayView3<'_, f32>, kernel: &[f32]) -> Array3<f32> {
    let mut blurred = Array3::zeros(latent.dim());
    Zip::from(blurred.outer_iter_mut())
        .and(latent.outer_iter())
        .for_each(|mut to, from| to.assign(&blur(from, kernel)));
    blurred
}

fn deviations(latent: ArrayView3<'_, f32>, means: &Array3<f32>, kernel: &[f32]) -> Array3<f32> {
    let squares = windowed(latent.mapv(|v| v * v).view(), kernel);
    Zip::from(&squares).and(means).map_collect(|s, m| (s - m * m).max(0.0).sqrt())
}

impl Reference {
    /// Prepares `latent` (Ch × H × W) to be compared.
    pub fn new(latent: ArrayView3<'_, f32>, similarity: Similarity, covariance_factor: f32) -> Self {
        let kernel = gaussian_kernel(WINDOW, SIGMA);
        let means = windowed(latent, &kernel);
        let deviations = deviations(latent, &means, &kernel);
        Self { latent: latent.to_owned(), kernel, means, deviations, similarity, covariance_factor }
    }

    /// The similarity of `other` to the reference at each place, H × W.
    pub fn compare(&self, other: ArrayView3<'_, f32>) -> Array2<f32> {
        match self.similarity {
            Similarity::Cosine => self.cosine(other),
            Similarity::Elsewhere => self.elsewhere(other),
            _ => self.windowed_term(other),
        }
    }

    fn windowed_term(&self, other: ArrayView3<'_, f32>) -> Array2<f32> {
        let means = windowed(other, &self.kernel);
        if self.similarity == Similarity::Luminance {
            let term = Zip::from(&self.means).and(&means).map_collect(|a, b| (2.0 * a * b + C1) / (a * a + b * b + C1));
            return channel_mean(&term);
        }
        let sigma = deviations(other, &means, &self.kernel);
        if self.similarity == Similarity::Contrast {
            let term =
                Zip::from(&self.deviations).and(&sigma).map_collect(|a, b| (2.0 * a * b + C2) / (a * a + b * b + C2));
            return channel_mean(&term);
        }
        let products = windowed((&self.latent * &other).view(), &self.kernel);
        let factor = self.covariance_factor;
        let mut term = Array3::zeros(products.dim());
        Zip::from(&mut term)
            .and(&products)
            .and(&self.means)
            .and(&means)
            .for_each(|t, p, a, b| *t = factor * (p - a * b) + C3);
        Zip::from(&mut term).and(&self.deviations).and(&sigma).for_each(|t, a, b| *t /= a * b + C3);
        channel_mean(&term)
    }

    fn cosine(&self, other: ArrayView3<'_, f32>) -> Array2<f32> {
        let dot = (&self.latent * &other).sum_axis(Axis(0));
        let norm = |a: ArrayView3<'_, f32>| a.mapv(|v| v * v).sum_axis(Axis(0)).mapv(f32::sqrt);
        dot / (norm(self.latent.view()) * norm(other) + 1e-8)
    }

    fn elsewhere(&self, other: ArrayView3<'_, f32>) -> Array2<f32> {
        let change = channel_mean(&(&self.latent - &other).mapv(|v| v * v));
        let (sum, others) = (change.sum(), (change.len().max(2) - 1) as f32);
        change.mapv(|own| -(sum - own) / others)
    }
}

fn channel_mean(map: &Array3<f32>) -> Array2<f32> {
    map.mean_axis(Axis(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latent(seed: u64) -> Array3<f32> {
        Array3::from_shape_vec((2, 9, 11), crate::gaussian(seed, 198)).unwrap()
    }

    fn compare(similarity: Similarity, a: &Array3<f32>, b: &Array3<f32>) -> Array2<f32> {
        Reference::new(a.view(), similarity, 1.0).compare(b.view())
    }

    /// The formula at one place, straight from `docs/methods.md#b1`.
    fn naive_structure(a: &Array3<f32>, b: &Array3<f32>, y: usize, x: usize) -> f64 {
        let weight = |d: i64| (-(d * d) as f64 / (2.0 * SIGMA * SIGMA)).exp();
        let total: f64 = (-7..=7).map(weight).sum();
        let mean = |f: &dyn Fn(usize, usize) -> f64| {
            let mut sum = 0.0;
            for dy in -7i64..=7 {
                for dx in -7i64..=7 {
                    let (v, u) = (y as i64 + dy, x as i64 + dx);
                    if (0..9).contains(&v) && (0..11).contains(&u) {
                        sum += weight(dy) * weight(dx) / (total * total) * f(v as usize, u as usize);
                    }
                }
            }
            sum
        };
        let term = |c: usize| {
            let (pa, pb) = (|v, u| f64::from(a[[c, v, u]]), |v, u| f64::from(b[[c, v, u]]));
            let (ma, mb) = (mean(&pa), mean(&pb));
            let (va, vb) = (mean(&|v, u| pa(v, u).powi(2)) - ma * ma, mean(&|v, u| pb(v, u).powi(2)) - mb * mb);
            let covariance = mean(&|v, u| pa(v, u) * pb(v, u)) - ma * mb;
            (covariance + 4.5e-4) / (va.max(0.0).sqrt() * vb.max(0.0).sqrt() + 4.5e-4)
        };
        (term(0) + term(1)) / 2.0
    }

    #[test]
    fn everything_is_like_itself() {
        let a = latent(1);
        for similarity in [Similarity::Structure, Similarity::Luminance, Similarity::Contrast, Similarity::Cosine] {
            assert!(compare(similarity, &a, &a).iter().all(|s| (s - 1.0).abs() < 1e-4), "{similarity:?}");
        }
    }

    #[test]
    fn structure_equals_its_formula() {
        let (a, b) = (latent(1), latent(2));
        let map = compare(Similarity::Structure, &a, &b);
        for (y, x) in [(0, 0), (4, 5), (8, 10), (2, 9)] {
            assert!((f64::from(map[[y, x]]) - naive_structure(&a, &b, y, x)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_change_counts_elsewhere_but_not_at_its_own_place() {
        let a = latent(1);
        let mut b = a.clone();
        b[[0, 3, 4]] += 2.0;
        let map = compare(Similarity::Elsewhere, &a, &b);
        assert_eq!(map[[3, 4]], 0.0);
        assert!(map.indexed_iter().filter(|(i, _)| *i != (3, 4)).all(|(_, v)| *v < -0.01));
    }
}
