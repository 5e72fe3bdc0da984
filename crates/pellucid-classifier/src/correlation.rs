//! Two plain rankings that the counterfactual lists are measured against: correlation with the error, and chance.

use ndarray::Array2;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Neurons by falling Pearson correlation of their activation with the error indicator; constant neurons last.
/// `features` is N × d, `mistaken` one entry a sample.
pub fn with_error(features: &Array2<f32>, mistaken: &[bool]) -> Vec<(usize, f64)> {
    let errors: Vec<f64> = mistaken.iter().map(|&m| f64::from(u8::from(m))).collect();
    let mut ranked: Vec<(usize, f64)> = (0..features.ncols())
        .map(|j| (j, pearson(&features.column(j).iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), &errors)))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked
}

/// Pearson correlation; −∞ where one side is constant, so that it ranks last.
pub(crate) fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { f64::NEG_INFINITY }
}

/// All d neurons in a random order.
pub fn random_order(d: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..d).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

/// The share of the first `k` of `ranked` that are in `relevant`; fewer than k count as misses.
pub fn precision_at(ranked: &[usize], relevant: &[usize], k: usize) -> f64 {
    ranked.iter().take(k).filter(|j| relevant.contains(j)).count() as f64 / k as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_neuron_that_fires_on_mistakes_ranks_first_and_a_constant_one_last() {
        let features = array![[0.0, 1.0, 5.0], [0.1, 1.0, 0.0], [3.0, 1.0, 5.0], [2.9, 1.0, 0.0]];
        let ranked = with_error(&features, &[false, false, true, true]);
        assert_eq!(ranked.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2, 1]);
    }

    #[test]
    fn precision_counts_missing_entries_as_misses() {
        assert_eq!(precision_at(&[4, 9], &[4], 5), 0.2);
    }
}
