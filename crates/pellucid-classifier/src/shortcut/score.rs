//! The score test ([methods A7]): given the recalibrated confidence, does a cue say anything about the label?
//!
//! With r = 1[y = c] − p_c, w = p_c (1 − p_c) and x whether the cue is present, intercept and class logit are projected out of
//! x under the weights w (not the class's log odds as well: where a model leans on a cue, these *are* the cue), and
//!
//! ```text
//! U = Σ x̃ r,   summed within units,   z = U / √Σ_units u²
//! ```
//!
//! A cue that counts for c more than it should leaves r negative where it is present: z is far below 0. The null flips the
//! sign of whole units, and the least z over all candidates of each flip is what one candidate's z is held against
//! (Westfall and Young 1993).
//!
//! [methods A7]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a7

use ndarray::{Array1, Array2, ArrayView1};
use pellucid_saliency::stats::random::stream;
use rand::RngCore;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// One candidate's score before the null is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The sum of each unit, in the order of [`dense`].
    pub units: Array1<f64>,
    /// U / √Σ u²; 0 where the cue says nothing at all (never or always present).
    pub z: f64,
    /// U / Σ w x̃²-like information Σ x̃²: by how much the label's probability is off where the cue is present.
    pub effect: f64,
    /// What one unit of z is in terms of `effect`.
    pub error: f64,
}

/// Units renumbered 0, 1, … in their order, and how many there are.
pub fn dense(units: &[usize]) -> (Vec<usize>, usize) {
    let mut number: BTreeMap<usize, usize> = units.iter().map(|&u| (u, 0)).collect();
    number.values_mut().enumerate().for_each(|(i, n)| *n = i);
    (units.iter().map(|u| number[u]).collect(), number.len())
}

/// The score of a cue `present` (any numbers, a row each) for a class with probabilities `p` and logits `z`, where the label
/// is the class on the rows `is_class`. `units` as [`dense`] gives them.
pub fn score(
    present: &[f64],
    is_class: &[bool],
    p: ArrayView1<'_, f64>,
    logits: ArrayView1<'_, f64>,
    units: (&[usize], usize),
) -> Score {
    let weights: Vec<f64> = p.iter().map(|p| p * (1.0 - p)).collect();
    let logits: Vec<f64> = logits.to_vec();
    let left = projected(present, &weights, &[&logits]);
    let mut sums = Array1::<f64>::zeros(units.1);
    for (i, &unit) in units.0.iter().enumerate() {
        sums[unit] += left[i] * (f64::from(u8::from(is_class[i])) - p[i]);
    }
    let (total, spread) = (sums.sum(), sums.dot(&sums).sqrt());
    let size: f64 = left.iter().map(|x| x * x).sum();
    if spread <= 1e-12 || size <= 1e-9 * left.len() as f64 {
        return Score { units: Array1::zeros(units.1), z: 0.0, effect: 0.0, error: f64::INFINITY };
    }
    Score { z: total / spread, effect: total / size, error: spread / size, units: sums }
}

/// x less what an intercept and the `columns` tell of it, under the weights: Gram–Schmidt.
fn projected(x: &[f64], weights: &[f64], columns: &[&Vec<f64>]) -> Vec<f64> {
    let product = |a: &[f64], b: &[f64]| (0..a.len()).map(|i| weights[i] * a[i] * b[i]).sum::<f64>();
    let less = |of: &[f64], basis: &[Vec<f64>]| -> Vec<f64> {
        let mut left = of.to_vec();
        for direction in basis {
            let along = product(&left, direction);
            left.iter_mut().zip(direction).for_each(|(l, d)| *l -= along * d);
        }
        left
    };
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let ones = vec![1.0; x.len()];
    for column in std::iter::once(&ones).chain(columns.iter().copied()) {
        let left = less(column, &basis);
        let (length, whole) = (product(&left, &left).sqrt(), product(column, column).sqrt());
        // A column that the others tell all of adds nothing.
        if length > 1e-6 * whole && length > 0.0 {
            basis.push(left.into_iter().map(|l| l / length).collect());
        }
    }
    less(x, &basis)
}

/// Flips that one block of signs covers.
const BLOCK: usize = 256;

/// The least z over all `scores` for each of `flips` random signs of the units, ascending.
pub fn least_under_flips(scores: &[Score], flips: usize, seed: u64) -> Vec<f64> {
    let Some(units) = scores.first().map(|score| score.units.len()) else { return Vec::new() };
    let mut sums = Array2::<f32>::zeros((units, scores.len()));
    for (mut column, score) in sums.columns_mut().into_iter().zip(scores) {
        let spread = score.units.dot(&score.units).sqrt().max(f64::MIN_POSITIVE);
        column.assign(&score.units.mapv(|u| (u / spread) as f32));
    }
    let block = |first: usize| -> Vec<f64> {
        let mut random = stream(seed, first as u64);
        let rows = BLOCK.min(flips - first);
        let signs =
            Array2::from_shape_simple_fn((rows, units), || if random.next_u32() & 1 == 0 { 1f32 } else { -1.0 });
        let z = signs.dot(&sums);
        z.rows().into_iter().map(|row| f64::from(row.iter().copied().fold(f32::INFINITY, f32::min))).collect()
    };
    let firsts: Vec<usize> = (0..flips).step_by(BLOCK).collect();
    let mut least: Vec<f64> = firsts.into_par_iter().flat_map_iter(block).collect();
    least.sort_by(f64::total_cmp);
    least
}

/// The family-wise p-value of `z` against the ascending least z of the flips; the data as they are count as one flip.
pub fn p_value(z: f64, least: &[f64]) -> f64 {
    let as_low = least.partition_point(|&flip| flip <= z);
    (as_low + 1) as f64 / (least.len() + 1) as f64
}

/// What lies below the critical value in 80 % of the draws of a standard normal variable.
const POWER: f64 = 0.841_621_2;

/// The effect of a candidate that would be seen with 80 % power at level `alpha`: its error times (critical value + 0.84).
pub fn detectable(error: f64, least: &[f64], alpha: f64) -> f64 {
    let critical = least.get(((least.len() as f64 * alpha).floor() as usize).saturating_sub(1));
    critical.map_or(f64::INFINITY, |critical| error * (POWER - critical))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Axis;
    use rand::Rng;

    /// Labels by the probabilities of a logit, of which `overcounted` on pictures with the cue is not true.
    fn drawn(rows: usize, overcounted: f64, seed: u64) -> (Vec<f64>, Vec<bool>, Array1<f64>, Array1<f64>) {
        let mut random = stream(seed, 9);
        let cue: Vec<f64> = (0..rows).map(|_| f64::from(u8::from(random.random_bool(0.5)))).collect();
        let logits = Array1::from_shape_fn(rows, |i| random.random::<f64>() * 4.0 - 2.5 + overcounted * cue[i]);
        let p = logits.mapv(|z: f64| 1.0 / (1.0 + (-z).exp()));
        let label = (0..rows)
            .map(|i| {
                let truth = logits[i] - overcounted * cue[i];
                random.random::<f64>() < 1.0 / (1.0 + (-truth).exp())
            })
            .collect();
        (cue, label, p, logits)
    }

    #[test]
    fn a_cue_that_counts_more_than_it_should_is_seen_and_one_that_counts_right_is_not() {
        let units: Vec<usize> = (0..400).collect();
        let of = |overcounted: f64, seed: u64| {
            let (cue, label, p, logits) = drawn(400, overcounted, seed);
            let found = score(&cue, &label, p.view(), logits.view(), (&units, 400));
            let least = least_under_flips(std::slice::from_ref(&found), 2000, seed);
            p_value(found.z, &least)
        };
        assert!((0..20).filter(|&seed| of(1.5, seed) <= 0.01).count() >= 19);
        let false_alarms = (0..200).filter(|&seed| of(0.0, seed) <= 0.05).count();
        assert!(false_alarms <= 20, "{false_alarms} of 200 at 5 %");
    }

    #[test]
    fn neither_a_wrong_intercept_nor_a_wrong_slope_passes_for_a_cue() {
        let units: Vec<usize> = (0..800).collect();
        let alarms = (0..50)
            .filter(|&seed| {
                let (_, label, _, logits) = drawn(800, 0.0, seed);
                // Confidence is wrong everywhere, and the cue goes with the class's own evidence.
                let p = logits.mapv(|z: f64| 1.0 / (1.0 + (-(1.4 * z - 0.4)).exp()));
                let cue: Vec<f64> = logits.iter().map(|z| f64::from(u8::from(*z > -0.5))).collect();
                let found = score(&cue, &label, p.view(), logits.view(), (&units, 800));
                p_value(found.z, &least_under_flips(std::slice::from_ref(&found), 500, seed)) <= 0.01
            })
            .count();
        assert!(alarms <= 3, "{alarms} of 50 at 1 %");
    }

    #[test]
    fn pictures_of_one_unit_are_flipped_together() {
        // Ten copies of forty pictures: as independent pictures they look like proof.
        let alarms = |copies_are_units: bool| {
            (0..60)
                .filter(|&seed| {
                    let (cue, label, p, logits) = drawn(40, 0.0, seed);
                    let rows: Vec<usize> = (0..400).map(|i| i % 40).collect();
                    let pick = |v: &Array1<f64>| v.select(Axis(0), &rows);
                    let cue: Vec<f64> = rows.iter().map(|&r| cue[r]).collect();
                    let label: Vec<bool> = rows.iter().map(|&r| label[r]).collect();
                    let units: Vec<usize> = if copies_are_units { (0..400).collect() } else { rows.clone() };
                    let (units, count) = dense(&units);
                    let found = score(&cue, &label, pick(&p).view(), pick(&logits).view(), (&units, count));
                    p_value(found.z, &least_under_flips(std::slice::from_ref(&found), 500, seed)) <= 0.01
                })
                .count()
        };
        assert!(alarms(true) >= 10 && alarms(false) <= 3, "{} {}", alarms(true), alarms(false));
    }

    #[test]
    fn the_largest_of_many_candidates_is_held_against_the_largest_of_many() {
        let units: Vec<usize> = (0..300).collect();
        let alarms = (0..100)
            .filter(|&seed| {
                let (_, label, p, logits) = drawn(300, 0.0, seed);
                let mut random = stream(seed, 77);
                let scores: Vec<Score> = (0..30)
                    .map(|_| {
                        let cue: Vec<f64> = (0..300).map(|_| f64::from(u8::from(random.random_bool(0.4)))).collect();
                        score(&cue, &label, p.view(), logits.view(), (&units, 300))
                    })
                    .collect();
                let least = least_under_flips(&scores, 1000, seed);
                scores.iter().any(|s| p_value(s.z, &least) <= 0.05)
            })
            .count();
        assert!(alarms <= 11, "{alarms} of 100 at 5 %");
    }

    #[test]
    fn the_effect_that_would_be_seen_is_stated() {
        let least: Vec<f64> = (0..2000).map(|i| -4.0 + i as f64 / 1000.0).collect();
        // The 1 % quantile is −3.981.
        assert!((detectable(0.1, &least, 0.01) - 0.482_262).abs() < 1e-3);
    }
}
