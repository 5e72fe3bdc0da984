//! Wrong labels, planted: what the label-error finder makes of them, beside what another finder needs to be asked the same.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::{Array1, ArrayD};
use pellucid::Array;
use pellucid::internals::classifier_methods::data_problems::label_errors;
use pellucid::internals::classifier_methods::shortcut::folds::{Refit, folds, out_of_fold, probabilities};
use pellucid::internals::saliency::stats::random::stream;
use rand::Rng;
use rand::seq::SliceRandom;

use super::Pool;

/// How a picture comes by another class's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confusion {
    /// Any other class.
    Any,
    /// The next class, as people confuse a class with one other.
    Next,
}

impl Confusion {
    /// Both.
    pub const ALL: [Confusion; 2] = [Confusion::Any, Confusion::Next];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Confusion::Any => "any",
            Confusion::Next => "next",
        }
    }
}

/// Gives `rate` of the pictures of `pool` another label, fits the decision layer out of fold by families, and writes to `file`:
/// `probabilities` (rows × classes), `labels` as given, `wrong` (rows with a planted error) and `ranked` (every row, the most
/// doubted label first).
pub fn write(pool: &Pool, confusion: Confusion, rate: f64, seed: u64, file: &Path) -> Result<()> {
    let classes = pool.classes.len();
    let mut labels: Vec<usize> = pool.shown.iter().map(|s| s.class).collect();
    let units: Vec<usize> = pool.shown.iter().map(|s| s.unit).collect();
    let mut random = stream(seed, 0x1abe1);
    let mut rows: Vec<usize> = (0..labels.len()).collect();
    rows.shuffle(&mut random);
    let mut wrong = rows[..(rate * rows.len() as f64).round() as usize].to_vec();
    wrong.sort_unstable();
    for &row in &wrong {
        let by = if confusion == Confusion::Any { random.random_range(1..classes) } else { 1 };
        labels[row] = (labels[row] + by) % classes;
    }
    let parts = folds(&labels, &units, 5, seed);
    let (logits, _) = out_of_fold(&pool.clean, &labels, &parts, classes, Refit::default());
    // What both finders are given are the same numbers, to the bit.
    let kept = probabilities(&logits, 1.0).mapv(|p| p as f32);
    let ranked = label_errors::ranked(&kept.mapv(f64::from), &labels);
    let numbers = |values: &[usize]| -> Array {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        Array::I64(Array1::from_vec(values).into_dyn())
    };
    let arrays = BTreeMap::from([
        ("probabilities".to_owned(), Array::F32(ArrayD::from(kept.into_dyn()))),
        ("labels".to_owned(), numbers(&labels)),
        ("wrong".to_owned(), numbers(&wrong)),
        ("ranked".to_owned(), numbers(&ranked)),
    ]);
    pellucid::write_arrays(file, &arrays).with_context(|| file.display().to_string())
}
