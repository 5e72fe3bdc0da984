//! Are the class names in another order than the model's outputs?
//!
//! The permutation π that maximises Σ confusion[i, π(i)] is found on one half of the pictures and judged on the other, where
//! nothing was chosen: it must gain 20 points there, and its gains must outweigh its losses beyond chance.

use crate::repair::compare::mcnemar;
use serde::{Deserialize, Serialize};

/// Points of accuracy that another order must gain.
pub const LEAST_GAIN: f64 = 20.0;
/// The level of the exact test on the half that did not choose.
pub const LEVEL: f64 = 1e-3;

/// Another order of the classes that fits the pictures better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelOrder {
    /// For each class of the data set, the output that answers for it.
    pub output_of: Vec<usize>,
    /// Accuracy as it is, and in this order, over all pictures.
    pub accuracy: [f64; 2],
    /// Exact McNemar test on the half of the pictures that did not choose the order.
    pub p_value: f64,
}

impl LabelOrder {
    /// The class list in the order of the outputs, which mends it: `names` are those of the data set by class.
    pub fn corrected(&self, names: &[String]) -> Vec<String> {
        let mut list = vec![String::new(); self.output_of.len()];
        for (class, &output) in self.output_of.iter().enumerate() {
            list[output] = names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
        }
        list
    }
}

/// The order that fits, where it fits better beyond doubt.
pub fn label_order(labels: &[usize], predicted: &[usize], classes: usize) -> Option<LabelOrder> {
    // Every other picture of each class chooses.
    let mut seen = vec![0usize; classes];
    let chooses: Vec<bool> = labels
        .iter()
        .map(|&y| {
            seen[y] += 1;
            seen[y] % 2 == 1
        })
        .collect();
    let mut confusion = vec![vec![0i64; classes]; classes];
    for ((&y, &p), _) in labels.iter().zip(predicted).zip(&chooses).filter(|(_, chooses)| **chooses) {
        confusion[y][p] += 1;
    }
    // Of equals, the order as it is: a picture more on the diagonal does not move a class without evidence.
    let cost = |y: usize, p: usize| -(confusion[y][p] * 2 + i64::from(y == p));
    let output_of = assignment(classes, &cost);
    let right = |rows: &dyn Fn(usize) -> bool, order: &dyn Fn(usize) -> usize| {
        (0..labels.len()).filter(|&r| rows(r) && predicted[r] == order(labels[r])).count()
    };
    let judged = |r: usize| !chooses[r];
    let gains = (0..labels.len())
        .filter(|&r| judged(r) && predicted[r] == output_of[labels[r]] && predicted[r] != labels[r])
        .count();
    let losses = (0..labels.len())
        .filter(|&r| judged(r) && predicted[r] != output_of[labels[r]] && predicted[r] == labels[r])
        .count();
    let total = labels.len().max(1) as f64;
    let accuracy = [right(&|_| true, &|y| y) as f64 / total, right(&|_| true, &|y| output_of[y]) as f64 / total];
    let judging = (0..labels.len()).filter(|&r| judged(r)).count().max(1) as f64;
    let p_value = mcnemar(gains, losses);
    let gain = 100.0 * (gains as f64 - losses as f64) / judging;
    (gains > losses && gain >= LEAST_GAIN && p_value < LEVEL).then_some(LabelOrder { output_of, accuracy, p_value })
}

/// The permutation of least total cost: the Hungarian method with potentials, O(n³).
fn assignment(n: usize, cost: &dyn Fn(usize, usize) -> i64) -> Vec<usize> {
    const FAR: i64 = i64::MAX / 4;
    // Row 0 and column 0 stand for "none".
    let (mut of_row, mut of_column) = (vec![0i64; n + 1], vec![0i64; n + 1]);
    let mut row_of = vec![0usize; n + 1];
    for row in 1..=n {
        row_of[0] = row;
        let (mut least, mut before, mut done) = (vec![FAR; n + 1], vec![0usize; n + 1], vec![false; n + 1]);
        let mut column = 0;
        while row_of[column] != 0 {
            done[column] = true;
            let (own, mut delta, mut next) = (row_of[column], FAR, 0);
            for to in 1..=n {
                if done[to] {
                    continue;
                }
                let reduced = cost(own - 1, to - 1) - of_row[own] - of_column[to];
                if reduced < least[to] {
                    (least[to], before[to]) = (reduced, column);
                }
                if least[to] < delta {
                    (delta, next) = (least[to], to);
                }
            }
            for to in 0..=n {
                if done[to] {
                    of_row[row_of[to]] += delta;
                    of_column[to] -= delta;
                } else {
                    least[to] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[before[column]];
            column = before[column];
        }
    }
    let mut output_of = vec![0; n];
    (1..=n).for_each(|column| output_of[row_of[column] - 1] = column - 1);
    output_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;
    use rand::seq::SliceRandom;

    #[test]
    fn the_assignment_is_the_best_of_all_permutations() {
        let mut random = stream(1, 0);
        for n in 1..6 {
            let cost: Vec<Vec<i64>> = (0..n).map(|_| (0..n).map(|_| random.random_range(-9..9)).collect()).collect();
            let found = assignment(n, &|i, j| cost[i][j]);
            let total = |of: &[usize]| of.iter().enumerate().map(|(i, &j)| cost[i][j]).sum::<i64>();
            let mut best = i64::MAX;
            permutations(&mut (0..n).collect::<Vec<_>>(), 0, &mut |of| best = best.min(total(of)));
            assert_eq!(total(&found), best);
        }
    }

    fn permutations(of: &mut Vec<usize>, from: usize, see: &mut dyn FnMut(&[usize])) {
        if from == of.len() {
            return see(of);
        }
        for other in from..of.len() {
            of.swap(from, other);
            permutations(of, from + 1, see);
            of.swap(from, other);
        }
    }

    /// Predictions that are right with `rate` and then pass through a permutation.
    fn called(labels: &[usize], classes: usize, rate: f64, order: &[usize], seed: u64) -> Vec<usize> {
        let mut random = stream(seed, 2);
        let of = |&y: &usize| if random.random_bool(rate) { order[y] } else { random.random_range(0..classes) };
        labels.iter().map(of).collect()
    }

    #[test]
    fn permuted_class_names_are_put_right() {
        let labels: Vec<usize> = (0..300).map(|i| i % 10).collect();
        let mut order: Vec<usize> = (0..10).collect();
        order.shuffle(&mut stream(4, 0));
        let found = label_order(&labels, &called(&labels, 10, 0.8, &order, 0), 10).unwrap();
        assert_eq!(found.output_of, order);
        assert!(found.accuracy[1] > 0.75 && found.accuracy[0] < 0.4);
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        assert_eq!(found.corrected(&names)[order[3]], "3");
    }

    #[test]
    fn a_bad_model_and_a_model_with_a_strong_confusion_are_not_called_permuted() {
        let labels: Vec<usize> = (0..200).map(|i| i % 10).collect();
        let same: Vec<usize> = (0..10).collect();
        for rate in [0.0, 0.1, 0.3, 0.9] {
            let alarms = (0..50).filter(|&s| label_order(&labels, &called(&labels, 10, rate, &same, s), 10).is_some());
            assert_eq!(alarms.count(), 0, "right with {rate}");
        }
        // Two classes that are always taken for each other: an order, but of ten classes it is no 20 points.
        let swapped: Vec<usize> = labels.iter().map(|&y| if y == 0 { 1 } else { y }).collect();
        assert_eq!(label_order(&labels, &swapped, 10), None);
    }

    #[test]
    fn one_picture_a_class_is_too_little_to_say_so() {
        let labels: Vec<usize> = (0..1000).collect();
        let shifted: Vec<usize> = labels.iter().map(|y| (y + 1) % 1000).collect();
        assert_eq!(label_order(&labels[..20], &shifted[..20], 1000), None);
    }
}
