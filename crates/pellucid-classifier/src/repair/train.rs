//! Trains a decision layer on cached features: Adam, schedules, and the choice of the best epoch on validation.

use super::loss::{Loss, Slope};
use crate::layer::DecisionLayer;
use crate::scan::predictions;
use ndarray::{Array1, Array2, Zip};
use pellucid_guard::Setting;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Why training stopped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the loss of '{edit}' is {value} at epoch {epoch}: the learning rate {rate} is too large for these features, or a feature \
     is not finite; lower {learning_rate}", learning_rate = Setting::LearningRate)]
pub struct Diverged {
    /// Which edit.
    pub edit: String,
    /// The loss.
    pub value: f64,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate.
    pub rate: f64,
}

/// How the learning rate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same at every step.
    Constant,
    /// From 0 up to the rate within each epoch, and again in the next, as published.
    RampEachEpoch,
    /// Up over the first 5 % of the run, down by a cosine over the last 25 %: the default.
    OneRamp,
}

impl Schedule {
    /// The factor at `step` of `steps` in the run, `per_epoch` steps an epoch.
    fn factor(self, step: usize, steps: usize, per_epoch: usize) -> f64 {
        match self {
            Schedule::Constant => 1.0,
            Schedule::RampEachEpoch => (step % per_epoch.max(1)) as f64 / per_epoch.max(1) as f64,
            Schedule::OneRamp => {
                let at = (step + 1) as f64 / steps.max(1) as f64;
                let up = (at / 0.05).min(1.0);
                let down = ((at - 0.75) / 0.25).clamp(0.0, 1.0);
                up * 0.5 * (1.0 + (std::f64::consts::PI * down).cos())
            }
        }
    }
}

/// What says that one epoch is better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Accuracy over the validation split.
    Overall,
    /// Accuracy of the worst class of the validation split.
    WorstClass,
    /// Accuracy of the worst slice: class × whether the suspects are active (see [`super::suspects`]). The default.
    WorstSlice,
}

/// How a layer is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better one before it stops.
    pub patience: usize,
    /// Samples a step.
    pub batch: usize,
    /// Adam's learning rate.
    pub rate: f64,
    /// L2 penalty, added to the gradient as PyTorch's Adam does.
    pub weight_decay: f64,
    /// Schedule.
    pub schedule: Schedule,
    /// Whether the layer as it was competes for the best epoch.
    pub keeps_original: bool,
    /// Order of the samples.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            epochs: 20,
            patience: 5,
            batch: 128,
            rate: 1e-3,
            weight_decay: 0.0,
            schedule: Schedule::OneRamp,
            keeps_original: true,
            seed: 0,
        }
    }
}

/// Samples that a layer is trained or judged on.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Features, N × d.
    pub features: Array2<f32>,
    /// True classes.
    pub labels: Vec<usize>,
    /// Slice of each sample, by which [`Selection::WorstSlice`] judges.
    pub slices: Vec<usize>,
    /// How often each counts in the loss; empty for once each.
    pub importance: Vec<f64>,
}

impl Samples {
    /// The predictions of `layer`.
    pub fn predictions(&self, layer: &DecisionLayer) -> Vec<usize> {
        predictions(&layer.logits(&self.features))
    }

    /// The figure by which `selection` judges `layer`, and overall accuracy, which breaks ties.
    pub fn score(&self, layer: &DecisionLayer, selection: Selection) -> (f64, f64) {
        let right: Vec<bool> = self.predictions(layer).iter().zip(&self.labels).map(|(p, y)| p == y).collect();
        let overall = right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64;
        let judged = match selection {
            Selection::Overall => overall,
            Selection::WorstClass => worst(&right, &self.labels),
            Selection::WorstSlice => worst(&right, &self.slices),
        };
        (judged, overall)
    }
}

/// The lowest accuracy among parts of at least [`SMALLEST_PART`] samples; of all samples where no part is so large.
fn worst(right: &[bool], parts: &[usize]) -> f64 {
    let mut tally: std::collections::BTreeMap<usize, (usize, usize)> = std::collections::BTreeMap::new();
    for (&right, &part) in right.iter().zip(parts) {
        let cell = tally.entry(part).or_default();
        *cell = (cell.0 + usize::from(right), cell.1 + 1);
    }
    let lowest =
        tally.values().filter(|t| t.1 >= SMALLEST_PART).map(|t| t.0 as f64 / t.1 as f64).fold(f64::NAN, f64::min);
    let overall = right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64;
    if lowest.is_nan() { overall } else { lowest }
}

/// Fewer samples than this say nothing about a part.
pub const SMALLEST_PART: usize = 5;

/// Adam, as PyTorch computes it.
pub struct Adam {
    weight: [Array2<f32>; 2],
    bias: [Array1<f32>; 2],
    step: i32,
}

impl Adam {
    const BETAS: (f64, f64) = (0.9, 0.999);
    const EPSILON: f64 = 1e-8;

    /// Fresh moments for `layer`.
    pub fn new(layer: &DecisionLayer) -> Self {
        let (w, b) = (layer.weight.raw_dim(), layer.bias.raw_dim());
        Self { weight: [Array2::zeros(w), Array2::zeros(w)], bias: [Array1::zeros(b), Array1::zeros(b)], step: 0 }
    }

    /// One step down `slope`.
    pub fn step(&mut self, layer: &mut DecisionLayer, slope: &Slope, rate: f64) {
        self.step += 1;
        let (first, second) = (1.0 - Self::BETAS.0.powi(self.step), 1.0 - Self::BETAS.1.powi(self.step));
        let (length, root) = ((rate / first) as f32, second.sqrt() as f32);
        let (beta, gamma, epsilon) = (Self::BETAS.0 as f32, Self::BETAS.1 as f32, Self::EPSILON as f32);
        let update = |p: &mut f32, m: &mut f32, v: &mut f32, g: &f32| {
            *m = beta * *m + (1.0 - beta) * g;
            *v = gamma * *v + (1.0 - gamma) * g * g;
            *p -= length * *m / (v.sqrt() / root + epsilon);
        };
        let [m, v] = &mut self.weight;
        Zip::from(&mut layer.weight).and(m).and(v).and(&slope.weight).for_each(update);
        let [m, v] = &mut self.bias;
        Zip::from(&mut layer.bias).and(m).and(v).and(&slope.bias).for_each(update);
    }
}

/// A trained layer and how it was chosen.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The layer of the best epoch.
    pub layer: DecisionLayer,
    /// Which epoch that is; 0 is the layer as it was.
    pub epoch: usize,
    /// Its figure and overall accuracy on validation.
    pub score: (f64, f64),
    /// The loss over each epoch.
    pub losses: Vec<f64>,
}

/// Trains `layer` on `train` and keeps the epoch that is best on `validation`; of equals the earliest.
pub fn train(
    edit: &str,
    layer: &DecisionLayer,
    loss: &Loss,
    train: &Samples,
    validation: &Samples,
    selection: Selection,
    how: &Training,
) -> Result<Trained, Diverged> {
    let mut rng = ChaCha8Rng::seed_from_u64(how.seed);
    let mut order: Vec<usize> = (0..train.labels.len()).collect();
    let per_epoch = order.len().div_ceil(how.batch.max(1));
    let mut current = layer.clone();
    let mut adam = Adam::new(layer);
    let start = if how.keeps_original { validation.score(layer, selection) } else { (f64::NEG_INFINITY, 0.0) };
    let mut best = Trained { layer: layer.clone(), epoch: 0, score: start, losses: Vec::new() };
    for epoch in 1..=how.epochs {
        order.shuffle(&mut rng);
        let mut sum = 0.0;
        for (at, rows) in order.chunks(how.batch.max(1)).enumerate() {
            let slope = batch_slope(loss, &current, train, rows, how.weight_decay);
            sum += slope.value;
            let step = (epoch - 1) * per_epoch + at;
            adam.step(&mut current, &slope, how.rate * how.schedule.factor(step, how.epochs * per_epoch, per_epoch));
        }
        let mean = sum / per_epoch.max(1) as f64;
        if !mean.is_finite() {
            return Err(Diverged { edit: edit.to_owned(), value: mean, epoch, rate: how.rate });
        }
        best.losses.push(mean);
        let score = validation.score(&current, selection);
        if score > best.score {
            best = Trained { layer: current.clone(), epoch, score, losses: best.losses };
        } else if epoch >= best.epoch + how.patience {
            break;
        }
    }
    Ok(best)
}

fn batch_slope(loss: &Loss, layer: &DecisionLayer, samples: &Samples, rows: &[usize], decay: f64) -> Slope {
    let labels: Vec<usize> = rows.iter().map(|&r| samples.labels[r]).collect();
    let importance: Vec<f64> = match samples.importance.is_empty() {
        true => Vec::new(),
        false => rows.iter().map(|&r| samples.importance[r]).collect(),
    };
    let mut slope = loss.slope_of_rows(layer, &samples.features, rows, &labels, &importance);
    if decay > 0.0 {
        slope.weight.scaled_add(decay as f32, &layer.weight);
        slope.bias.scaled_add(decay as f32, &layer.bias);
    }
    slope
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_published_schedule_rises_within_each_epoch_and_ours_once() {
        let published: Vec<f64> = (0..8).map(|s| Schedule::RampEachEpoch.factor(s, 8, 4)).collect();
        assert_eq!(published, [0.0, 0.25, 0.5, 0.75, 0.0, 0.25, 0.5, 0.75]);
        let ours: Vec<f64> = (0..100).map(|s| Schedule::OneRamp.factor(s, 100, 10)).collect();
        assert!((ours[0] - 0.2).abs() < 1e-12 && ours[10] == 1.0 && ours[70] == 1.0 && ours[99] < 1e-12);
    }

    #[test]
    fn a_part_too_small_to_judge_does_not_decide() {
        let right = [true, true, true, true, false, false];
        assert_eq!(worst(&right, &[0, 0, 0, 0, 0, 1]), 0.8);
    }

    #[test]
    fn a_rate_beyond_reason_is_an_error_that_names_the_edit() {
        let layer = DecisionLayer { weight: Array2::zeros((2, 1)), bias: Array1::zeros(2) };
        let samples = Samples {
            features: array![[f32::NAN], [1.0]],
            labels: vec![0, 1],
            slices: vec![0, 0],
            importance: Vec::new(),
        };
        let how = Training::default();
        let error = train("published", &layer, &Loss::cross_entropy(), &samples, &samples, Selection::Overall, &how);
        assert!(error.unwrap_err().to_string().contains("'published'"));
    }
}
