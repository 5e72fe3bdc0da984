//! Pictures with a label that is probably wrong: confident learning (Northcutt, Jiang and Chuang 2021).
//!
//! On *out-of-sample* probabilities (a head that was trained on a picture has memorised its label), class j's threshold is the
//! mean probability of j over the pictures labelled j. A picture labelled i counts for the pair (i, j) where j is, of the
//! classes whose threshold it passes, the likeliest. The pictures off the diagonal are suspects, and all are ranked by
//! their normalised margin `p[label] − max p[other]`.

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

/// A picture whose label is doubted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelError {
    /// Its row.
    pub row: usize,
    /// The label that it has.
    pub label: usize,
    /// The label that it probably should have.
    pub likely: usize,
    /// `p[label] − p[likely]`, −1 to 1: the lower, the surer.
    pub margin: f64,
}

/// The suspects, the surest first (ties by row). `p` are out-of-fold probabilities, rows × C.
pub fn label_errors(p: &Array2<f64>, labels: &[usize]) -> Vec<LabelError> {
    let thresholds = thresholds(p, labels);
    let of = |(row, &label): (usize, &usize)| {
        let p = p.row(row);
        let confident = (0..p.len()).filter(|&j| p[j] >= thresholds[j]);
        let likely = confident
            .fold(None, |best: Option<usize>, j| if best.is_some_and(|b| p[b] >= p[j]) { best } else { Some(j) })?;
        (likely != label).then(|| LabelError { row, label, likely, margin: margin(p, label) })
    };
    let mut found: Vec<LabelError> = labels.iter().enumerate().filter_map(of).collect();
    found.sort_by(|a, b| a.margin.total_cmp(&b.margin).then(a.row.cmp(&b.row)));
    found
}

/// Every row by how much its label is doubted: the suspects, then the others by margin.
pub fn ranked(p: &Array2<f64>, labels: &[usize]) -> Vec<usize> {
    let suspects: Vec<usize> = label_errors(p, labels).into_iter().map(|e| e.row).collect();
    let mut others: Vec<usize> = (0..labels.len()).collect();
    suspects.iter().for_each(|&row| others[row] = usize::MAX);
    others.retain(|&row| row != usize::MAX);
    others.sort_by(|&a, &b| margin(p.row(a), labels[a]).total_cmp(&margin(p.row(b), labels[b])).then(a.cmp(&b)));
    suspects.into_iter().chain(others).collect()
}

fn thresholds(p: &Array2<f64>, labels: &[usize]) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; p.ncols()], vec![0usize; p.ncols()]);
    for (row, &label) in labels.iter().enumerate() {
        sums[label] += p[[row, label]];
        counts[label] += 1;
    }
    // A class that no picture is labelled as cannot be what a picture should have been labelled as.
    sums.iter().zip(counts).map(|(sum, n)| if n == 0 { f64::INFINITY } else { sum / n as f64 }).collect()
}

fn margin(p: ArrayView1<'_, f64>, label: usize) -> f64 {
    let other = p.iter().enumerate().filter(|(j, _)| *j != label).map(|(_, &p)| p).fold(0.0, f64::max);
    p[label] - other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shortcut::folds::{Refit, folds, out_of_fold, probabilities};
    use pellucid_saliency::stats::random::stream;
    use rand::Rng;

    /// Four classes of 120 pictures, `planted` of them with another class's label.
    fn planted(count: usize, seed: u64) -> (Array2<f64>, Vec<usize>, Vec<usize>) {
        let mut random = stream(seed, 0);
        let truth: Vec<usize> = (0..480).map(|i| i % 4).collect();
        let features = Array2::from_shape_fn((480, 16), |(i, j)| {
            random.random::<f32>() * 1.5 + if j % 4 == truth[i] { 0.8 } else { 0.0 }
        });
        let wrong: Vec<usize> = (0..count).map(|k| k * 480 / count).collect();
        let mut labels = truth;
        wrong.iter().for_each(|&i| labels[i] = (labels[i] + random.random_range(1..4)) % 4);
        let units: Vec<usize> = (0..480).collect();
        let (logits, _) = out_of_fold(&features, &labels, &folds(&labels, &units, 5, 0), 4, Refit::default());
        (probabilities(&logits, 1.0), labels, wrong)
    }

    #[test]
    fn planted_label_errors_come_first() {
        let (p, labels, wrong) = planted(24, 1);
        let first: Vec<usize> = ranked(&p, &labels).into_iter().take(48).collect();
        let found = wrong.iter().filter(|row| first.contains(row)).count();
        assert!(found >= 22, "{found} of 24 in the first 48");
    }

    #[test]
    fn without_a_planted_error_few_labels_are_doubted() {
        let (p, labels, _) = planted(1, 2);
        assert!(label_errors(&p, &labels).len() < 48, "{}", label_errors(&p, &labels).len());
    }

    #[test]
    fn every_row_is_ranked_once() {
        let (p, labels, _) = planted(10, 3);
        let mut rows = ranked(&p, &labels);
        rows.sort_unstable();
        assert_eq!(rows, (0..480).collect::<Vec<_>>());
    }
}
