//! Gaussian noise from a seed.

use pellucid_saliency::stats::random::seeded;
use rand::Rng;

/// Standard normal numbers (Box–Muller over ChaCha8), the same for a seed on every machine.
pub fn gaussian(seed: u64, count: usize) -> Vec<f32> {
    let mut random = seeded(seed);
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        // 1 − u lies in (0, 1], so that the logarithm is finite.
        let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
        numbers.push((radius * angle.cos()) as f32);
        numbers.push((radius * angle.sin()) as f32);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_normal_and_the_same_for_a_seed() {
        let (a, b) = (gaussian(7, 20_001), gaussian(7, 20_001));
        assert_eq!(a, b);
        assert_ne!(a[..8], gaussian(8, 8)[..]);
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        let variance = a.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / a.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
