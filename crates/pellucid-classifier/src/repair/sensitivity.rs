//! Does a neuron see the class, or something else? The sensitivity score of [methods A5], from the neuron's picture.
//!
//! [methods A5]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a5

use crate::scan::FeatureTable;
use ndarray::{Array1, Array2, ArrayView1};

/// Classes that a picture is compared with.
const NEAREST: usize = 20;

/// Mean features of each class of `table`; rows of 0 for classes without samples.
pub fn class_means(table: &FeatureTable, classes: usize) -> Array2<f64> {
    let mut means = Array2::zeros((classes, table.features.ncols()));
    let mut counts = vec![0usize; classes];
    for (row, &class) in table.features.rows().into_iter().zip(&table.labels) {
        counts[class] += 1;
        means.row_mut(class).zip_mut_with(&row, |sum, &v| *sum += f64::from(v));
    }
    for (mut mean, count) in means.rows_mut().into_iter().zip(counts) {
        mean /= count.max(1) as f64;
    }
    means
}

/// r(n, class) over the mean of r(n, c) of the at most 20 other classes that the unmasked picture is most like, where
/// r(n, c) = cos(features of the masked picture, mean of c) / cos(features of the picture, mean of c). Low: the neuron fires on
/// something that is not the class. `None` with fewer than 3 classes, or where a cosine is not positive.
pub fn score(
    whole: ArrayView1<'_, f32>,
    masked: ArrayView1<'_, f32>,
    means: &Array2<f64>,
    class: usize,
) -> Option<f64> {
    if means.nrows() < 3 {
        return None;
    }
    let (whole, masked) = (whole.mapv(f64::from), masked.mapv(f64::from));
    let present = |c: &usize| means.row(*c).iter().any(|v| *v != 0.0);
    let likeness = |c: usize| cosine(&whole, means.row(c));
    let ratio = |c: usize| {
        let (before, after) = (likeness(c)?, cosine(&masked, means.row(c))?);
        (before > 0.0).then(|| after / before)
    };
    let mut others: Vec<(usize, f64)> =
        (0..means.nrows()).filter(|&c| c != class).filter(present).filter_map(|c| Some((c, likeness(c)?))).collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let ratios: Vec<f64> = others.into_iter().take(NEAREST).filter_map(|(c, _)| ratio(c)).collect();
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let score = ratio(class)? / mean;
    score.is_finite().then_some(score)
}

fn cosine(a: &Array1<f64>, b: ArrayView1<'_, f64>) -> Option<f64> {
    let norms = (a.dot(a) * b.dot(&b)).sqrt();
    (norms > 0.0).then(|| a.dot(&b) / norms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_neuron_that_sees_the_class_scores_above_one_that_sees_a_cue() {
        let means = array![[1.0, 0.1, 0.5], [0.1, 1.0, 0.5], [0.5, 0.5, 1.0], [0.0, 0.0, 0.0]];
        let whole = array![1.0, 0.8, 0.9];
        let of = |masked| score(whole.view(), Array1::from_vec(masked).view(), &means, 0).unwrap();
        assert!(of(vec![1.0, 0.0, 0.1]) > 1.2);
        assert!(of(vec![0.0, 0.0, 1.0]) < 0.9);
        // Nothing masked: nothing changes.
        assert!((of(vec![1.0, 0.8, 0.9]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_score_is_that_of_the_formula() {
        let means = array![[3.0, 4.0], [4.0, 3.0], [1.0, 0.0]];
        let (whole, masked) = (array![1.0, 1.0], array![0.0, 2.0]);
        // Cosines, whole: 7/(5√2), 7/(5√2), 1/√2; masked: 4/5, 3/5, 0.
        let s = 2f64.sqrt();
        let (r0, r1, r2) = (0.8 / (7.0 / (5.0 * s)), 0.6 / (7.0 / (5.0 * s)), 0.0);
        let found = score(whole.view(), masked.view(), &means, 0).unwrap();
        assert!((found - r0 / ((r1 + r2) / 2.0)).abs() < 1e-6, "{found}");
    }

    #[test]
    fn two_classes_and_silent_pictures_have_no_score() {
        let means = array![[1.0, 0.0], [0.0, 1.0]];
        assert_eq!(score(array![1.0, 1.0].view(), array![1.0, 0.0].view(), &means, 0), None);
        let means = array![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]];
        assert_eq!(score(array![0.0, 0.0].view(), array![1.0, 0.0].view(), &means, 0), None);
    }
}
