//! From counterfactual changes to neurons: who is named by how many mistakes ([methods A2]).
//!
//! [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2

use crate::counterfactual::Counterfactuals;
use crate::results::Interval;
use crate::statistics::quantile;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;

/// How votes are counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VoteSettings {
    /// Neurons that a sample names per direction.
    pub k: usize,
    /// A neuron is kept if strictly more than this percentage of samples name it.
    pub threshold: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for VoteSettings {
    fn default() -> Self {
        Self { k: 5, threshold: 3.0, resamples: 1000, seed: 0 }
    }
}

/// A neuron's votes.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// The neuron.
    pub neuron: usize,
    /// Percentage of samples that name it, with its bootstrap interval.
    pub percent: Interval,
    /// Share of resamples in which it is kept, in `[0, 1]`.
    pub stability: f64,
}

impl Vote {
    /// A neuron that no sample names.
    pub fn none(neuron: usize) -> Self {
        Self { neuron, percent: Interval::point(0.0), stability: 0.0 }
    }
}

/// What the samples name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    /// Samples that count: reached, with a non-zero change.
    pub voters: usize,
    /// Neurons whose evidence was missing, by falling votes; ties by index.
    pub insufficient: Vec<Vote>,
    /// Neurons whose evidence should not have counted, by falling votes; ties by index.
    pub excessive: Vec<Vote>,
}

/// The neurons each voter names: (insufficient, excessive).
type Ballot = (Vec<usize>, Vec<usize>);
type Counts = BTreeMap<usize, usize>;

/// Tallies the votes of the samples that were reached; a neuron in both lists is dropped from both.
pub fn tally(found: &Counterfactuals, settings: &VoteSettings) -> Tally {
    let (mut tally, both) = tally_with_overlap(found, settings);
    tally.insufficient.retain(|v| !both.contains(&v.neuron));
    tally.excessive.retain(|v| !both.contains(&v.neuron));
    tally
}

/// As [`tally`], before neurons that stand in both lists are dropped; these come second, ascending.
pub fn tally_with_overlap(found: &Counterfactuals, settings: &VoteSettings) -> (Tally, Vec<usize>) {
    let ballots = ballots(found, settings.k);
    let everyone: Vec<usize> = (0..ballots.len()).collect();
    let (up, down) = count(&ballots, &everyone);
    let kept = |counts: &Counts| -> Vec<usize> {
        counts.iter().filter(|(_, c)| keeps(**c, ballots.len(), settings)).map(|(j, _)| *j).collect()
    };
    let (kept_up, kept_down) = (kept(&up), kept(&down));
    let resampled = resample(&ballots, settings);
    let votes = |neurons: &[usize], counts: &Counts, side: usize| -> Vec<Vote> {
        let mut votes: Vec<Vote> =
            neurons.iter().map(|&j| vote(j, counts[&j], ballots.len(), &resampled[side])).collect();
        votes.sort_by(|a, b| b.percent.value.total_cmp(&a.percent.value).then(a.neuron.cmp(&b.neuron)));
        votes
    };
    let both = kept_up.iter().filter(|j| kept_down.contains(j)).copied().collect();
    (
        Tally { voters: ballots.len(), insufficient: votes(&kept_up, &up, 0), excessive: votes(&kept_down, &down, 1) },
        both,
    )
}

/// Strictly above the threshold, in whole numbers where the threshold allows it.
fn keeps(count: usize, voters: usize, settings: &VoteSettings) -> bool {
    100.0 * count as f64 > settings.threshold * voters as f64
}

fn ballots(found: &Counterfactuals, k: usize) -> Vec<Ballot> {
    let named = |w: &[f32], sign: f32| -> Vec<usize> {
        let mut order: Vec<usize> = (0..w.len()).filter(|&j| sign * w[j] > 0.0).collect();
        order.sort_by(|&a, &b| (sign * w[b]).total_cmp(&(sign * w[a])).then(a.cmp(&b)));
        order.truncate(k);
        order
    };
    let voter = |i: &usize| found.reached[*i] && found.changed[*i] > 0;
    let rows = (0..found.reached.len()).filter(voter).map(|i| found.changes.row(i).to_vec());
    rows.map(|w| (named(&w, 1.0), named(&w, -1.0))).collect()
}

fn count(ballots: &[Ballot], voters: &[usize]) -> (Counts, Counts) {
    let (mut up, mut down) = (Counts::new(), Counts::new());
    for &v in voters {
        ballots[v].0.iter().for_each(|j| *up.entry(*j).or_default() += 1);
        ballots[v].1.iter().for_each(|j| *down.entry(*j).or_default() += 1);
    }
    (up, down)
}

/// Per side: each neuron's percentages over the resamples, and in how many it was kept.
struct Resampled {
    percents: BTreeMap<usize, Vec<f64>>,
    kept: BTreeMap<usize, usize>,
    resamples: usize,
}

fn resample(ballots: &[Ballot], settings: &VoteSettings) -> [Resampled; 2] {
    let empty = || Resampled { percents: BTreeMap::new(), kept: BTreeMap::new(), resamples: settings.resamples };
    let mut sides = [empty(), empty()];
    if ballots.is_empty() {
        return sides;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    for _ in 0..settings.resamples {
        let voters: Vec<usize> = (0..ballots.len()).map(|_| rng.random_range(0..ballots.len())).collect();
        let (up, down) = count(ballots, &voters);
        let is_kept = |counts: &Counts, j: usize| counts.get(&j).is_some_and(|&c| keeps(c, ballots.len(), settings));
        for (side, own, other) in [(0, &up, &down), (1, &down, &up)] {
            for (&j, &c) in own {
                sides[side].percents.entry(j).or_default().push(100.0 * c as f64 / ballots.len() as f64);
                if is_kept(own, j) && !is_kept(other, j) {
                    *sides[side].kept.entry(j).or_default() += 1;
                }
            }
        }
    }
    sides
}

fn vote(neuron: usize, count: usize, voters: usize, resampled: &Resampled) -> Vote {
    let mut percents = resampled.percents.get(&neuron).cloned().unwrap_or_default();
    // A resample in which nobody names the neuron counts as 0 %.
    percents.resize(resampled.resamples, 0.0);
    percents.sort_by(f64::total_cmp);
    let value = 100.0 * count as f64 / voters as f64;
    let stability = resampled.kept.get(&neuron).copied().unwrap_or(0) as f64 / resampled.resamples.max(1) as f64;
    Vote {
        neuron,
        percent: Interval { value, low: quantile(&percents, 0.025), high: quantile(&percents, 0.975) },
        stability,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn found(changes: Array2<f32>, reached: &[bool]) -> Counterfactuals {
        let changed = changes.rows().into_iter().map(|r| r.iter().filter(|v| **v != 0.0).count()).collect();
        let n = reached.len();
        Counterfactuals {
            changes,
            reached: reached.to_vec(),
            steps: vec![1; n],
            margin: vec![0.0; n],
            l1: vec![0.0; n],
            changed,
        }
    }

    #[test]
    fn samples_that_were_not_reached_or_did_not_move_do_not_vote() {
        let f = found(array![[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], &[true, false, true]);
        let t = tally(&f, &VoteSettings::default());
        assert_eq!(t.voters, 1);
        assert_eq!(t.insufficient[0].percent.value, 100.0);
    }

    #[test]
    fn a_neuron_in_both_lists_is_dropped_from_both() {
        let f = found(array![[1.0, 0.5], [-1.0, 0.5]], &[true, true]);
        let t = tally(&f, &VoteSettings::default());
        assert_eq!(t.insufficient.iter().map(|v| v.neuron).collect::<Vec<_>>(), [1]);
        assert!(t.excessive.is_empty());
        assert_eq!(tally_with_overlap(&f, &VoteSettings::default()).1, [0]);
    }

    #[test]
    fn only_the_k_largest_changes_vote() {
        let f = found(array![[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]], &[true]);
        let t = tally(&f, &VoteSettings::default());
        assert_eq!(t.insufficient.len(), 5);
        assert!(t.insufficient.iter().all(|v| v.neuron != 5));
    }

    #[test]
    fn the_threshold_is_strict() {
        let mut changes = Array2::zeros((100, 2));
        changes.column_mut(0).fill(1.0);
        (0..3).for_each(|i| changes[[i, 1]] = 0.5);
        let t = tally(&found(changes, &[true; 100]), &VoteSettings::default());
        assert_eq!(t.insufficient.iter().map(|v| v.neuron).collect::<Vec<_>>(), [0], "3 % is not above 3 %");
    }

    #[test]
    fn a_unanimous_neuron_is_stable_and_its_interval_is_a_point() {
        let t = tally(&found(Array2::from_elem((10, 1), 1.0), &[true; 10]), &VoteSettings::default());
        let v = &t.insufficient[0];
        assert_eq!((v.stability, v.percent.low, v.percent.high), (1.0, 100.0, 100.0));
    }

    #[test]
    fn no_voters_give_an_empty_tally() {
        let t = tally(&found(Array2::zeros((0, 4)), &[]), &VoteSettings::default());
        assert_eq!((t.voters, t.insufficient.len(), t.excessive.len()), (0, 0, 0));
    }
}
