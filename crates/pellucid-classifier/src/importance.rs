//! How much a class needs each neuron: the retaining ratio ([methods A3]).
//!
//! [methods A3]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a3

use crate::layer::DecisionLayer;
use ndarray::{Array2, Axis};

/// ρ_j(c) = p_c / p_c^{−j} at the mean of `features` (N × d), for every neuron j: above 1, class `class` needs it.
///
/// Zeroing neuron j changes the logits by −W_{:,j} f̄_j, so all d ratios cost O(d C). Float64 inside.
pub fn retaining_ratio(features: &Array2<f32>, layer: &DecisionLayer, class: usize) -> Vec<f64> {
    ratio_at(&mean_features(features), layer, class)
}

/// The mean of each column of `features`, in float64.
pub fn mean_features(features: &Array2<f32>) -> Vec<f64> {
    let rows = features.nrows().max(1) as f64;
    features.axis_iter(Axis(1)).map(|c| c.iter().map(|&v| f64::from(v)).sum::<f64>() / rows).collect()
}

/// ρ_j(c) of one neuron at one feature vector.
pub fn ratio_of(features: &[f64], layer: &DecisionLayer, class: usize, j: usize) -> f64 {
    let logits = logits_at(features, layer);
    let without = logits.iter().zip(layer.weight.column(j)).map(|(z, &w)| z - f64::from(w) * features[j]);
    (log_probability(logits.iter().copied(), class) - log_probability(without, class)).exp()
}

/// The ratios at one feature vector.
pub fn ratio_at(features: &[f64], layer: &DecisionLayer, class: usize) -> Vec<f64> {
    let logits = logits_at(features, layer);
    let whole = log_probability(logits.iter().copied(), class);
    let without = |j: usize| {
        let logits = logits.iter().zip(layer.weight.column(j)).map(|(z, &w)| z - f64::from(w) * features[j]);
        (whole - log_probability(logits, class)).exp()
    };
    (0..features.len()).map(without).collect()
}

fn logits_at(features: &[f64], layer: &DecisionLayer) -> Vec<f64> {
    let dot = |w: ndarray::ArrayView1<'_, f32>| w.iter().zip(features).map(|(&w, f)| f64::from(w) * f).sum::<f64>();
    layer.weight.rows().into_iter().zip(&layer.bias).map(|(w, &b)| f64::from(b) + dot(w)).collect()
}

fn log_probability(logits: impl Iterator<Item = f64> + Clone, class: usize) -> f64 {
    let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.clone().map(|z| (z - largest).exp()).sum();
    logits.clone().nth(class).unwrap_or(f64::NAN) - largest - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_closed_form_equals_zeroing_one_neuron_at_a_time() {
        let layer = DecisionLayer { weight: array![[1.0, -2.0, 0.5], [0.3, 0.8, -1.0]], bias: array![0.1, -0.2] };
        let f = [0.7, 0.2, 1.5];
        let probability = |f: [f64; 3]| {
            let z: Vec<f64> = (0..2)
                .map(|c| f64::from(layer.bias[c]) + (0..3).map(|j| f64::from(layer.weight[[c, j]]) * f[j]).sum::<f64>())
                .collect();
            z[1].exp() / (z[0].exp() + z[1].exp())
        };
        let ratios = ratio_at(&f, &layer, 1);
        for j in 0..3 {
            let mut without = f;
            without[j] = 0.0;
            assert!((ratios[j] - probability(f) / probability(without)).abs() < 1e-12, "neuron {j}");
        }
    }
}
