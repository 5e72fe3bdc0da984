//! One picture twice: in two classes, or in two splits.
//!
//! Exact duplicates have the same content hash; near ones (another compression, a pixel moved) have features of cosine 0.999
//! and more, also after the mean over all pictures is taken away, since features that share a large mean are all alike, and look
//! the same ([`look_alike`]).

use crate::correlation::pearson;
use ndarray::{Array2, Axis};
use pellucid_vision::picture::Picture;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The cosine from which on two pictures are near duplicates.
pub const NEAR: f32 = 0.999;
/// The same for features less their mean.
const NEAR_CENTRED: f32 = 0.99;
/// With fewer features than this, different pictures have the same direction.
const FEWEST_FEATURES: usize = 32;
/// Above this many pictures only the hashes are compared.
pub const MOST: usize = 20_000;

/// Side of the pictures that are compared, in pixels.
const COMPARED: u32 = 32;
/// The largest mean difference of one picture from itself compressed again, of 255.
const LARGEST_DIFFERENCE: f64 = 5.0;
/// The least correlation of their values.
const LEAST_CORRELATION: f64 = 0.985;

/// Two pictures that are one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The two rows, ascending.
    pub rows: [usize; 2],
    /// Whether the files hold the same bytes.
    pub exact: bool,
    /// Whether they are labelled differently.
    pub across_classes: bool,
    /// Whether they lie in different splits.
    pub across_splits: bool,
}

/// What is compared: one entry a row.
#[derive(Debug, Clone, Copy)]
pub struct Pictures<'a> {
    /// Content hash of each.
    pub hashes: &'a [String],
    /// Features, rows × d.
    pub features: &'a Array2<f32>,
    /// Class of each.
    pub labels: &'a [usize],
    /// Split of each, as any number.
    pub splits: &'a [usize],
}

/// Pairs of one picture that differ in class or split, by their rows. Duplicates within one class and split do no harm to a
/// verdict and are not listed.
pub fn duplicates(of: Pictures<'_>) -> Vec<Duplicate> {
    let mut found: BTreeMap<[usize; 2], bool> = BTreeMap::new();
    let mut by_hash: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    of.hashes.iter().enumerate().for_each(|(row, hash)| by_hash.entry(hash).or_default().push(row));
    for rows in by_hash.values() {
        // Of many copies, each is paired with the first.
        found.extend(rows[1..].iter().map(|&row| ([rows[0], row], true)));
    }
    if of.hashes.len() <= MOST && of.features.ncols() >= FEWEST_FEATURES {
        for pair in near(of.features) {
            found.entry(pair).or_insert(false);
        }
    }
    let judged = found.into_iter().map(|(rows, exact)| Duplicate {
        rows,
        exact,
        across_classes: of.labels[rows[0]] != of.labels[rows[1]],
        across_splits: of.splits[rows[0]] != of.splits[rows[1]],
    });
    judged.filter(|pair| pair.across_classes || pair.across_splits).collect()
}

/// Rows scaled to length 1; rows of length 0 stay.
fn directions(features: &Array2<f32>) -> Array2<f32> {
    let mut out = features.clone();
    for mut row in out.axis_iter_mut(Axis(0)) {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row /= length;
        }
    }
    out
}

/// Pairs of rows whose features point the same way.
fn near(features: &Array2<f32>) -> Vec<[usize; 2]> {
    let Some(mean) = features.mean_axis(Axis(0)) else { return Vec::new() };
    let (plain, centred) = (directions(features), directions(&(features - &mean)));
    // ‖u − v‖² = 2 (1 − cos): most pairs are told apart by their first few components.
    let apart = |of: &Array2<f32>, a: usize, b: usize, cosine: f32| {
        let most = 2.0 * (1.0 - cosine);
        let mut sum = 0.0;
        for (x, y) in of.row(a).iter().zip(of.row(b)) {
            sum += (x - y) * (x - y);
            if sum > most {
                return true;
            }
        }
        false
    };
    let empty = |row: usize| centred.row(row).iter().all(|v| *v == 0.0);
    let of_row = |a: usize| -> Vec<[usize; 2]> {
        let twin = |&b: &usize| !apart(&centred, a, b, NEAR_CENTRED) && !apart(&plain, a, b, NEAR);
        (a + 1..features.nrows()).filter(twin).filter(|_| !empty(a)).map(|b| [a, b]).collect()
    };
    (0..features.nrows()).into_par_iter().flat_map_iter(of_row).collect()
}

/// Whether `a` and `b`, as the model sees them, are one picture but for compression: features alone do not tell, since a small
/// network can take two pictures of a kind for the same.
pub fn look_alike(a: &Picture, b: &Picture) -> bool {
    let [a, b] = [a, b].map(|picture| picture.thumbnail(COMPARED));
    if (a.width(), a.height()) != (b.width(), b.height()) {
        return false;
    }
    let [x, y] = [a.data(), b.data()].map(|data| data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    let count = x.len() as f64;
    let difference = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).sum::<f64>() / count;
    let variance = |of: &[f64]| {
        let mean = of.iter().sum::<f64>() / count;
        of.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count
    };
    // What has no contrast correlates with nothing.
    let is_flat = variance(&x) * variance(&y) <= 1.0;
    difference <= LARGEST_DIFFERENCE && (is_flat || pearson(&x, &y) >= LEAST_CORRELATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_compressed_again_looks_alike_and_another_of_its_kind_does_not() {
        let disc = |x0: f64, shade: u8| {
            Picture::from_fn(96, 96, move |x, y| {
                let near = (f64::from(x) - x0).hypot(f64::from(y) - 48.0) < 24.0;
                [if near { shade } else { 30 }, 60, 90]
            })
        };
        let one = disc(48.0, 220);
        let again = Picture::decode(&one.to_jpeg(60).unwrap(), "again", &Default::default()).unwrap();
        assert!(look_alike(&one, &again));
        assert!(!look_alike(&one, &disc(54.0, 220)), "moved");
        assert!(!look_alike(&one, &disc(48.0, 120)), "another shade");
        let flat = |v: u8| Picture::from_fn(96, 96, move |_, _| [v; 3]);
        assert!(look_alike(&flat(80), &flat(81)) && !look_alike(&flat(80), &flat(120)));
    }
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;

    fn pictures() -> (Vec<String>, Array2<f32>) {
        let mut random = stream(2, 0);
        // A large mean that all share.
        let mut features = Array2::from_shape_fn((60, 40), |_| 20.0 + random.random::<f32>());
        let hashes: Vec<String> = (0..60).map(|i| if i == 7 { "3".to_owned() } else { i.to_string() }).collect();
        let twin = features.row(3).to_owned();
        features.row_mut(7).assign(&twin);
        let near = &features.row(10) + &Array2::from_elem((1, 40), 0.002).row(0);
        features.row_mut(20).assign(&near);
        (hashes, features)
    }

    #[test]
    fn one_picture_in_two_classes_or_two_splits_is_named_and_pictures_that_are_only_alike_are_not() {
        let (hashes, features) = pictures();
        let labels: Vec<usize> = (0..60).map(|i| usize::from(i == 7)).collect();
        let splits: Vec<usize> = (0..60).map(|i| usize::from(i >= 15)).collect();
        let found = duplicates(Pictures { hashes: &hashes, features: &features, labels: &labels, splits: &splits });
        let told: Vec<_> = found.iter().map(|d| (d.rows, d.exact, d.across_classes, d.across_splits)).collect();
        assert_eq!(told, [([3, 7], true, true, false), ([10, 20], false, false, true)]);
    }

    #[test]
    fn copies_within_one_class_and_split_are_not_listed() {
        let (hashes, features) = pictures();
        let same = vec![0; 60];
        assert_eq!(duplicates(Pictures { hashes: &hashes, features: &features, labels: &same, splits: &same }), []);
    }
}
