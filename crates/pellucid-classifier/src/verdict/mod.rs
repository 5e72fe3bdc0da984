//! What a verdict may say ([methods A6]): which classes and groups are worse than chance explains, in which order, and what
//! share of the mistakes they explain.
//!
//! Of 1000 classes with one picture each some are lowest by chance. A part is called worse only if an exact test of its
//! mistakes against the rest passes with multiplicity over all parts counted; parts that pass are ranked by
//! the pictures that they cost beyond that rate. The test is Fisher's: the rate of the rest is itself an estimate, and where the
//! parts are few (two groups, three slices) a binomial test that takes it for known is wrong two times too often; among
//! many classes the two agree.
//!
//! [methods A6]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a6

pub mod binomial;
pub mod judgement;
pub mod slices;

pub use binomial::{clopper_pearson, upper_tail, upper_tail_of_part};

use pellucid_saliency::stats::multiplicity::benjamini_hochberg_adjusted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// False discovery rate of what is called worse.
pub const DISCOVERY_RATE: f64 = 0.05;

/// Below so many mistakes nothing is claimed: no vote, stability or interval, only the pictures.
pub const FEWEST_MISTAKES: usize = 5;

/// A class or group against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Index of the class or group.
    pub id: usize,
    /// Its mistakes.
    pub mistakes: usize,
    /// Its pictures.
    pub samples: usize,
    /// Share of mistakes among the other parts' pictures.
    pub rest: f64,
    /// Mistakes beyond what the rate of the rest gives, in pictures.
    pub excess: f64,
    /// One-sided exact test: the chance of as many mistakes if the part were like the rest.
    pub p_value: f64,
    /// The least false discovery rate, over all parts, at which it is called worse.
    pub adjusted: f64,
}

impl Part {
    /// Whether it may be called worse than the rest: beyond chance, and by [`FEWEST_MISTAKES`] mistakes at least.
    pub fn stands_out(&self) -> bool {
        self.adjusted <= DISCOVERY_RATE && self.mistakes >= FEWEST_MISTAKES
    }
}

/// Every part of `parts` that has samples against the rest, by falling excess of mistakes (ties by index). One entry of
/// `wrong` and `parts` a sample; samples of no part (`None`) take no part.
pub fn parts(wrong: &[bool], parts: &[Option<usize>]) -> Vec<Part> {
    let mut tally: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (&wrong, &part) in wrong.iter().zip(parts) {
        if let Some(part) = part {
            let cell = tally.entry(part).or_default();
            *cell = (cell.0 + usize::from(wrong), cell.1 + 1);
        }
    }
    let (mistakes, samples) = tally.values().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    let mut found: Vec<Part> = tally
        .into_iter()
        .map(|(id, (own, count))| {
            let rest = (mistakes - own) as f64 / (samples - count) as f64;
            // One part alone has no rest to be compared with.
            let p_value = if samples == count { f64::NAN } else { upper_tail_of_part(own, count, mistakes, samples) };
            let excess = own as f64 - count as f64 * rest;
            Part { id, mistakes: own, samples: count, rest, excess, p_value, adjusted: f64::NAN }
        })
        .collect();
    let adjusted = benjamini_hochberg_adjusted(&found.iter().map(|part| part.p_value).collect::<Vec<_>>());
    found.iter_mut().zip(adjusted).for_each(|(part, adjusted)| part.adjusted = adjusted);
    found.sort_by(|a, b| b.excess.total_cmp(&a.excess).then(a.id.cmp(&b.id)));
    found
}

/// Those of [`parts`] that may be called worse, the one that costs most pictures first.
pub fn standing_out(wrong: &[bool], of: &[Option<usize>]) -> Vec<Part> {
    parts(wrong, of).into_iter().filter(Part::stands_out).collect()
}

/// How much of all mistakes a list of findings explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// All mistakes.
    pub mistakes: usize,
    /// Mistakes of each finding.
    pub by_finding: Vec<usize>,
    /// Mistakes that no finding covers.
    pub uncovered: usize,
}

/// The coverage of `mistakes` (rows) by `findings`, each a list of rows; a mistake in two findings counts in both, and once
/// as covered.
pub fn coverage(mistakes: &[usize], findings: &[Vec<usize>]) -> Coverage {
    let all: std::collections::BTreeSet<usize> = mistakes.iter().copied().collect();
    let mut left = all.clone();
    let by_finding = findings
        .iter()
        .map(|rows| {
            let own: std::collections::BTreeSet<usize> = rows.iter().filter(|r| all.contains(r)).copied().collect();
            left.retain(|row| !own.contains(row));
            own.len()
        })
        .collect();
    Coverage { mistakes: all.len(), by_finding, uncovered: left.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;

    fn each(counts: &[(usize, usize)]) -> (Vec<bool>, Vec<Option<usize>>) {
        let (mut wrong, mut of) = (Vec::new(), Vec::new());
        for (part, &(mistakes, samples)) in counts.iter().enumerate() {
            wrong.extend((0..samples).map(|i| i < mistakes));
            of.extend((0..samples).map(|_| Some(part)));
        }
        (wrong, of)
    }

    #[test]
    fn of_a_thousand_classes_with_one_picture_each_none_is_called_worst() {
        let (wrong, of) = each(&(0..1000).map(|i| (usize::from(i % 10 == 0), 1)).collect::<Vec<_>>());
        assert_eq!(standing_out(&wrong, &of), []);
    }

    #[test]
    fn many_mistakes_of_one_kind_come_before_few_of_a_lower_accuracy() {
        // 12 of 15 is the lower accuracy, 51 of 100 costs more pictures.
        let (wrong, of) = each(&[(51, 100), (12, 15), (5, 200), (6, 200)]);
        let found = standing_out(&wrong, &of);
        assert_eq!(found.iter().map(|part| part.id).collect::<Vec<_>>(), [0, 1]);
        assert!(found[0].excess > 40.0 && found[1].excess < 12.0);
    }

    #[test]
    fn four_mistakes_are_no_finding_however_unlikely() {
        let (wrong, of) = each(&[(4, 4), (0, 400)]);
        let found = parts(&wrong, &of);
        assert!(found[0].adjusted < 1e-6 && !found[0].stands_out());
    }

    #[test]
    fn where_classes_do_not_differ_hardly_a_data_set_has_a_finding() {
        let trials = 400;
        let false_alarms = (0..trials)
            .filter(|&trial| {
                let mut random = stream(7, trial);
                let of: Vec<Option<usize>> = (0..600).map(|i| Some(i % 20)).collect();
                let wrong: Vec<bool> = of.iter().map(|_| random.random_bool(0.2)).collect();
                !standing_out(&wrong, &of).is_empty()
            })
            .count();
        assert!(false_alarms <= 32, "{false_alarms} of {trials}: 5 % are due at most, and the exact test is below");
    }

    #[test]
    fn what_no_finding_covers_is_counted() {
        let found = coverage(&[1, 2, 3, 4], &[vec![1, 2], vec![2, 9]]);
        assert_eq!((found.by_finding, found.uncovered), (vec![2, 1], 2));
    }
}
