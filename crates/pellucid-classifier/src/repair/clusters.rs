//! Mistakes that go together: clusters in feature space, for a person to name where the data set has no groups.

use ndarray::{Array2, ArrayView1, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Clusters at most.
const MOST: usize = 4;
/// Starts of which the best is kept.
const STARTS: usize = 8;
/// Assignments of a start at most; a few are enough on some hundred rows.
const ROUNDS: usize = 50;
/// Fewer rows than this for each cluster are not clustered.
const LEAST: usize = 8;
/// Rows that the silhouette is taken over.
const JUDGED: usize = 400;

/// The cluster of each row of `features`: means of directions (spherical k-means), with 2 to 4 clusters by the largest mean
/// silhouette. Rows are centred and scaled to length 1 first, as how active a picture makes all neurons says little. A single
/// cluster where there are too few rows, or where rows do not differ. (A crate for this would bring a linear algebra stack.)
pub fn clusters(features: &Array2<f32>, seed: u64) -> Vec<usize> {
    let rows = directions(features);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let most = MOST.min(features.nrows() / LEAST);
    let mut best: Option<(f64, Vec<usize>)> = None;
    for count in 2..=most {
        let parts = parted(&rows, count, &mut rng);
        let score = silhouette(&rows, &parts);
        if best.as_ref().is_none_or(|(s, _)| score > *s) {
            best = Some((score, parts));
        }
    }
    best.map_or_else(|| vec![0; features.nrows()], |(_, parts)| parts)
}

fn directions(features: &Array2<f32>) -> Array2<f32> {
    let mut rows = features.clone();
    if let Some(mean) = features.mean_axis(Axis(0)) {
        rows -= &mean;
    }
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        if norm > 0.0 {
            row /= norm;
        }
    }
    rows
}

/// The best of several starts, each drawn as k-means++ draws.
fn parted(rows: &Array2<f32>, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut best: Option<(f64, Vec<usize>)> = None;
    for _ in 0..STARTS {
        let mut centres = start(rows, count, rng);
        let mut parts = vec![0; rows.nrows()];
        let mut closeness = 0.0;
        for _ in 0..ROUNDS {
            let near: Vec<(usize, f32)> = rows.rows().into_iter().map(|row| nearest(row, &centres)).collect();
            closeness = near.iter().map(|(_, s)| f64::from(*s)).sum();
            let next: Vec<usize> = near.into_iter().map(|(part, _)| part).collect();
            let settled = next == parts;
            parts = next;
            centres = means(rows, &parts, &centres);
            if settled {
                break;
            }
        }
        if best.as_ref().is_none_or(|(s, _)| closeness > *s) {
            best = Some((closeness, parts));
        }
    }
    best.map_or_else(Vec::new, |(_, parts)| parts)
}

fn start(rows: &Array2<f32>, count: usize, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let mut chosen = vec![rng.random_range(0..rows.nrows())];
    while chosen.len() < count {
        let centres = rows.select(Axis(0), &chosen);
        let far = |row: ArrayView1<'_, f32>| f64::from((1.0 - nearest(row, &centres).1).max(0.0));
        let far: Vec<f64> = rows.rows().into_iter().map(far).collect();
        let mut left = rng.random::<f64>() * far.iter().sum::<f64>();
        let next = far.iter().position(|d| {
            left -= d;
            left <= 0.0
        });
        chosen.push(next.unwrap_or(0));
    }
    rows.select(Axis(0), &chosen)
}

fn nearest(row: ArrayView1<'_, f32>, centres: &Array2<f32>) -> (usize, f32) {
    let of = |best: (usize, f32), (k, s): (usize, f32)| if s > best.1 { (k, s) } else { best };
    centres.dot(&row).into_iter().enumerate().fold((0, f32::NEG_INFINITY), of)
}

/// Unit means; a cluster that lost all its rows stays where it was.
fn means(rows: &Array2<f32>, parts: &[usize], before: &Array2<f32>) -> Array2<f32> {
    let mut sums = Array2::<f32>::zeros(before.dim());
    rows.rows().into_iter().zip(parts).for_each(|(row, &part)| sums.row_mut(part).scaled_add(1.0, &row));
    for (mut sum, before) in sums.rows_mut().into_iter().zip(before.rows()) {
        let norm = sum.dot(&sum).sqrt();
        if norm > 0.0 { sum /= norm } else { sum.assign(&before) }
    }
    sums
}

/// Mean of (b − a) / max(a, b): a the mean distance to the rows of one's own cluster, b to those of the nearest other; over every
/// n-th row where there are many.
fn silhouette(rows: &Array2<f32>, parts: &[usize]) -> f64 {
    let every = rows.nrows().div_ceil(JUDGED).max(1);
    let judged: Vec<usize> = (0..rows.nrows()).step_by(every).collect();
    let (some, parts) = (rows.select(Axis(0), &judged), judged.iter().map(|&i| parts[i]).collect::<Vec<_>>());
    let likeness = some.dot(&some.t());
    let count = parts.iter().max().map_or(0, |m| m + 1);
    let mut total = 0.0;
    for i in 0..judged.len() {
        let (mut sums, mut sizes) = (vec![0.0; count], vec![0usize; count]);
        for j in (0..judged.len()).filter(|&j| j != i) {
            sums[parts[j]] += f64::from(1.0 - likeness[[i, j]]);
            sizes[parts[j]] += 1;
        }
        let mean = |k: usize| (sizes[k] > 0).then(|| sums[k] / sizes[k] as f64);
        let other = (0..count).filter(|&k| k != parts[i]).filter_map(mean).fold(f64::INFINITY, f64::min);
        if let Some(own) = mean(parts[i])
            && other.is_finite()
        {
            total += (other - own) / own.max(other).max(f64::MIN_POSITIVE);
        }
    }
    total / judged.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sizes.len()` bunches of rows in directions of their own, with noise.
    fn bunches(sizes: &[usize], width: usize) -> (Array2<f32>, Vec<usize>) {
        let truth: Vec<usize> = sizes.iter().enumerate().flat_map(|(k, &n)| vec![k; n]).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let value = |(i, j): (usize, usize)| rng.random::<f32>() + if j % sizes.len() == truth[i] { 1.5 } else { 0.0 };
        (Array2::from_shape_fn((truth.len(), width), value), truth.clone())
    }

    #[test]
    fn bunches_are_told_apart_and_counted() {
        for sizes in [vec![20, 30], vec![25, 15, 30]] {
            let (features, truth) = bunches(&sizes, 24);
            let found = clusters(&features, 1);
            for (i, j) in (0..truth.len()).flat_map(|i| (0..i).map(move |j| (i, j))) {
                assert_eq!(found[i] == found[j], truth[i] == truth[j], "{sizes:?}: rows {i} and {j}");
            }
        }
    }

    #[test]
    fn few_rows_and_equal_rows_are_one_cluster_or_any_but_never_a_panic() {
        assert_eq!(clusters(&Array2::zeros((5, 3)), 0), [0; 5]);
        assert_eq!(clusters(&Array2::ones((40, 3)), 0).len(), 40);
        assert!(clusters(&Array2::zeros((0, 3)), 0).is_empty());
    }

    #[test]
    fn a_seed_gives_the_same_clusters() {
        let (features, _) = bunches(&[30, 30, 30], 12);
        assert_eq!(clusters(&features, 3), clusters(&features, 3));
    }
}
