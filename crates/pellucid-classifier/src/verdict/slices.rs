//! Slices that nobody named: clusters of a finding's mistakes that come back on data which did not make them.
//!
//! The rows are cut in halves by unit. The mistakes of the first half make the clusters; every row of the second half
//! around the finding belongs to the nearest cluster's mean, or to none where the mean of the right pictures of its class
//! is nearer; and a cluster is a slice where its rows of the second half are wrong more often than the other rows.

use super::{Part, parts};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

/// A cluster of mistakes that is more than chance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnnamedSlice {
    /// Its test on the half that did not make it.
    pub test: Part,
    /// Rows of the second half that belong to it, mistakes first.
    pub rows: Vec<usize>,
}

/// Slices among the `around` rows (a finding's mistakes and the right pictures that they are compared with).
///
/// `features` and `wrong` have one entry a row of the table, `cluster` gives the cluster of each row of the features it is
/// handed, and `second` says which rows make no cluster.
pub fn unnamed(
    features: &Array2<f32>,
    wrong: &[bool],
    around: &[usize],
    second: impl Fn(usize) -> bool,
    cluster: impl Fn(&Array2<f32>) -> Vec<usize>,
) -> Vec<UnnamedSlice> {
    let first: Vec<usize> = around.iter().copied().filter(|&r| !second(r)).collect();
    let (mistakes, right): (Vec<usize>, Vec<usize>) = first.iter().partition(|&&r| wrong[r]);
    if mistakes.len() < super::FEWEST_MISTAKES || right.is_empty() {
        return Vec::new();
    }
    let of = cluster(&features.select(Axis(0), &mistakes));
    let mut means = vec![mean(features, &right)];
    for part in 0..=of.iter().copied().max().unwrap_or(0) {
        let own: Vec<usize> = mistakes.iter().zip(&of).filter(|(_, p)| **p == part).map(|(r, _)| *r).collect();
        if !own.is_empty() {
            means.push(mean(features, &own));
        }
    }
    let later: Vec<usize> = around.iter().copied().filter(|&r| second(r)).collect();
    let nearest: Vec<Option<usize>> = later.iter().map(|&r| Some(nearest(features.row(r), &means))).collect();
    let mistaken: Vec<bool> = later.iter().map(|&r| wrong[r]).collect();
    let standing = parts(&mistaken, &nearest).into_iter().filter(|part| part.id > 0 && part.stands_out());
    standing
        .map(|test| {
            let mut rows: Vec<usize> =
                later.iter().zip(&nearest).filter(|(_, n)| **n == Some(test.id)).map(|(r, _)| *r).collect();
            rows.sort_by_key(|&r| (!wrong[r], r));
            UnnamedSlice { test, rows }
        })
        .collect()
}

fn mean(features: &Array2<f32>, rows: &[usize]) -> Array1<f32> {
    let mut sum = Array1::<f32>::zeros(features.ncols());
    rows.iter().for_each(|&r| sum += &features.row(r));
    sum / rows.len() as f32
}

fn nearest(row: ArrayView1<'_, f32>, means: &[Array1<f32>]) -> usize {
    let distance = |mean: &Array1<f32>| row.iter().zip(mean).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let distances: Vec<f32> = means.iter().map(distance).collect();
    (0..means.len()).fold(0, |best, i| if distances[i] < distances[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;

    /// Rows 0, 2, 4 … make the clusters; pictures with the cue (every fourth pair) have it in feature 0.
    fn planted(rate_with: f64, rate_without: f64, seed: u64) -> (Array2<f32>, Vec<bool>) {
        let mut random = stream(seed, 0);
        let cue = |row: usize| (row / 2).is_multiple_of(4);
        let wrong = (0..400).map(|r| random.random_bool(if cue(r) { rate_with } else { rate_without })).collect();
        let mut noise = stream(seed, 1);
        let features =
            Array2::from_shape_fn((400, 6), |(r, j)| noise.random::<f32>() + if j == 0 && cue(r) { 4.0 } else { 0.0 });
        (features, wrong)
    }

    fn halves(features: &Array2<f32>) -> Vec<usize> {
        features.column(0).iter().map(|v| usize::from(*v > 2.0)).collect()
    }

    #[test]
    fn a_slice_that_nobody_named_is_found_on_the_other_half() {
        let (features, wrong) = planted(0.7, 0.1, 1);
        let all: Vec<usize> = (0..400).collect();
        let found = unnamed(&features, &wrong, &all, |r| r % 2 == 1, halves);
        assert_eq!(found.len(), 1);
        assert!(found[0].rows.iter().all(|r| r % 2 == 1 && (r / 2) % 4 == 0), "{:?}", found[0].rows);
    }

    #[test]
    fn clusters_of_chance_mistakes_are_no_slices() {
        let found = (0..100)
            .filter(|&seed| {
                let (features, wrong) = planted(0.2, 0.2, seed);
                let all: Vec<usize> = (0..400).collect();
                !unnamed(&features, &wrong, &all, |r| r % 2 == 1, halves).is_empty()
            })
            .count();
        assert!(found <= 10, "{found} of 100");
    }
}
