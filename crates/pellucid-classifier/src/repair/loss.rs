//! The losses that decision layers are edited with, and their gradients with respect to W and b ([methods A5]).
//!
//! [methods A5]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a5

use crate::layer::DecisionLayer;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Added to the probability without the suspects, as published, so that the ratio stays finite.
const TINY: f64 = 1e-9;

/// Rows that one thread takes at a time: half a batch of training.
const ROWS: usize = 64;
/// Parts that the samples of a whole fit are summed in, whatever the threads, so that the sums are the same.
const PARTS: usize = 16;

/// How the ratios of a batch become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RatioNorm {
    /// ‖r − o‖₂ over the batch, of the class: `reference`. Grows with the batch.
    Norm,
    /// ‖r − o‖₂ / √B · √128: the same at a batch of 128, whatever the batch. The default.
    RootMeanSquare,
    /// |mean over batch and classes of r, less o|: `reference-waterbirds`.
    Mean,
}

/// The penalty on how much a class's probability depends on the suspects.
#[derive(Debug, Clone, PartialEq)]
pub struct RatioPenalty {
    /// S: components of the feature vector.
    pub suspects: Vec<usize>,
    /// c: the class whose probability is regularised.
    pub class: usize,
    /// λ₃.
    pub strength: f64,
    /// o: what the ratio is drawn to.
    pub target: f64,
    /// How ratios become one number.
    pub norm: RatioNorm,
}

/// A loss of a decision layer on a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// A factor for each class in the cross-entropy; the weighted mean is taken, as PyTorch does. Empty: all 1.
    pub class_weights: Vec<f64>,
    /// γ of the focal loss, mean over the batch of w_y (1 − p_y)^γ · −log p_y; 0 is the cross-entropy.
    pub focal: f64,
    /// The published penalty.
    pub ratio: Option<RatioPenalty>,
}

impl Loss {
    /// Plain cross-entropy.
    pub fn cross_entropy() -> Self {
        Self { class_weights: Vec::new(), focal: 0.0, ratio: None }
    }
}

/// A loss and its gradient.
#[derive(Debug, Clone)]
pub struct Slope {
    /// The loss.
    pub value: f64,
    /// ∂/∂W, C × d.
    pub weight: Array2<f32>,
    /// ∂/∂b, C.
    pub bias: Array1<f32>,
}

/// log softmax of every row, in float64.
fn log_probabilities(logits: &Array2<f32>) -> Array2<f64> {
    // A batch is done before a thread is awake.
    if logits.nrows() <= 2 * ROWS {
        return log_softmax(logits);
    }
    let mut out = Array2::zeros(logits.raw_dim());
    let blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS).zip(logits.axis_chunks_iter(Axis(0), ROWS)).collect();
    blocks.into_par_iter().for_each(|(mut out, logits)| out.assign(&log_softmax(&logits)));
    out
}

/// [`log_probabilities`] on this thread.
fn log_softmax<S: ndarray::Data<Elem = f32>>(logits: &ndarray::ArrayBase<S, ndarray::Ix2>) -> Array2<f64> {
    let mut out = logits.mapv(f64::from);
    for mut row in out.axis_iter_mut(Axis(0)) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lost = row.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
        row.mapv_inplace(|z| z - largest - lost);
    }
    out
}

/// W f + b of every row, over blocks of rows in parallel.
fn logits_of(layer: &DecisionLayer, features: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut out = Array2::zeros((features.nrows(), layer.classes()));
    let blocks: Vec<_> =
        out.axis_chunks_iter_mut(Axis(0), ROWS).zip(features.axis_chunks_iter(Axis(0), ROWS)).collect();
    blocks.into_par_iter().for_each(|(mut out, rows)| out.assign(&layer.logits(&rows)));
    out
}

impl Loss {
    /// The loss of `layer` on `features` (B × d) with true classes `labels`, each sample counting `importance` times (1
    /// where empty), and its gradient.
    pub fn slope(
        &self,
        layer: &DecisionLayer,
        features: ArrayView2<'_, f32>,
        labels: &[usize],
        importance: &[f64],
    ) -> Slope {
        if self.ratio.is_none() && features.nrows() > PARTS * ROWS {
            return self.slope_of_many(layer, features, labels, importance);
        }
        let blocks: Vec<_> = features.axis_chunks_iter(Axis(0), ROWS).collect();
        self.slope_of_blocks(layer, &blocks, &logits_of(layer, features), labels, importance)
    }

    /// [`Loss::slope`] of the `rows` of `features`: each thread gathers its part of them, and has it at hand on the way back.
    pub fn slope_of_rows(
        &self,
        layer: &DecisionLayer,
        features: &Array2<f32>,
        rows: &[usize],
        labels: &[usize],
        importance: &[f64],
    ) -> Slope {
        let gather = |rows: &[usize]| {
            let mut own = Array2::zeros((rows.len(), features.ncols()));
            own.rows_mut().into_iter().zip(rows).for_each(|(mut to, &row)| to.assign(&features.row(row)));
            let logits = layer.logits(&own);
            (own, logits)
        };
        let (blocks, logits): (Vec<Array2<f32>>, Vec<Array2<f32>>) = rows.par_chunks(ROWS).map(gather).unzip();
        let mut all = Array2::zeros((rows.len(), layer.classes()));
        all.axis_chunks_iter_mut(Axis(0), ROWS).zip(&logits).for_each(|(mut to, logits)| to.assign(logits));
        let blocks: Vec<_> = blocks.iter().map(|block| block.view()).collect();
        self.slope_of_blocks(layer, &blocks, &all, labels, importance)
    }

    /// The slope of samples that lie in `blocks` of [`ROWS`] rows, and whose logits are known.
    fn slope_of_blocks(
        &self,
        layer: &DecisionLayer,
        blocks: &[ArrayView2<'_, f32>],
        logits: &Array2<f32>,
        labels: &[usize],
        importance: &[f64],
    ) -> Slope {
        let log_p = log_probabilities(logits);
        let total = self.counted(labels, importance);
        let (mut value, mut by_logits) = self.classification(&log_p, labels, importance, total);
        let mut silenced = None;
        if let Some(penalty) = &self.ratio {
            let theirs = columns(blocks, &penalty.suspects);
            let (cost, with, without) = penalty.slope(layer, &theirs, logits, &log_p);
            value += cost;
            by_logits += &with;
            silenced = Some((penalty, theirs, without));
        }
        let mut total = by_logits.clone();
        if let Some((_, _, without)) = &silenced {
            total += without;
        }
        let total = total.mapv(|g| g as f32);
        let mut weight = transposed_product(&total, blocks);
        if let Some((penalty, theirs, without)) = &silenced {
            // Features with the suspects at 0 give their columns no gradient.
            let without = without.mapv(|g| g as f32);
            for (k, &j) in penalty.suspects.iter().enumerate() {
                let none = without.t().dot(&theirs.column(k));
                weight.column_mut(j).scaled_add(-1.0, &none);
            }
        }
        Slope { value, weight, bias: total.sum_axis(Axis(0)) }
    }

    /// [`Loss::slope`] without a ratio: each block of rows is read once for both passes.
    fn slope_of_many(
        &self,
        layer: &DecisionLayer,
        features: ArrayView2<'_, f32>,
        labels: &[usize],
        importance: &[f64],
    ) -> Slope {
        let total = self.counted(labels, importance);
        let each = features.nrows().div_ceil(PARTS).max(1);
        let zero =
            || Slope { value: 0.0, weight: Array2::zeros(layer.weight.dim()), bias: Array1::zeros(layer.classes()) };
        let of = |start: usize| -> Slope {
            let mut sum = zero();
            let end = (start + each).min(features.nrows());
            for from in (start..end).step_by(2 * ROWS) {
                let to = (from + 2 * ROWS).min(end);
                let rows = features.slice(ndarray::s![from..to, ..]);
                let log_p = log_softmax(&layer.logits(&rows));
                let some = importance.get(from..to).unwrap_or_default();
                let (value, by_logits) = self.classification(&log_p, &labels[from..to], some, total);
                let by_logits = by_logits.mapv(|g| g as f32);
                sum.value += value;
                ndarray::linalg::general_mat_mul(1.0, &by_logits.t(), &rows, 1.0, &mut sum.weight);
                sum.bias += &by_logits.sum_axis(Axis(0));
            }
            sum
        };
        let starts: Vec<usize> = (0..features.nrows()).step_by(each).collect();
        let parts: Vec<Slope> = starts.into_par_iter().map(of).collect();
        parts.into_iter().fold(zero(), |mut sum, part| {
            sum.value += part.value;
            sum.weight += &part.weight;
            sum.bias += &part.bias;
            sum
        })
    }

    /// What the samples count for together.
    fn counted(&self, labels: &[usize], importance: &[f64]) -> f64 {
        let of = |(i, &label): (usize, &usize)| {
            let weight = if self.focal > 0.0 { 1.0 } else { self.class_weights.get(label).copied().unwrap_or(1.0) };
            weight * importance.get(i).copied().unwrap_or(1.0)
        };
        labels.iter().enumerate().map(of).sum()
    }

    /// The cross-entropy or focal part: its value and gradient with respect to the logits.
    fn classification(
        &self,
        log_p: &Array2<f64>,
        labels: &[usize],
        importance: &[f64],
        total: f64,
    ) -> (f64, Array2<f64>) {
        let weight = |i: usize| {
            self.class_weights.get(labels[i]).copied().unwrap_or(1.0) * importance.get(i).copied().unwrap_or(1.0)
        };
        let mut slope = Array2::zeros(log_p.raw_dim());
        let mut value = 0.0;
        for (i, &label) in labels.iter().enumerate() {
            let (row, share) = (log_p.row(i), weight(i) / total);
            let (log, p) = (row[label], row[label].exp());
            let (cost, by_log) = if self.focal > 0.0 {
                let left = (1.0 - p).max(0.0);
                let lowered = left.powf(self.focal);
                let bend = if left > 0.0 { self.focal * left.powf(self.focal - 1.0) * p * log } else { 0.0 };
                (-lowered * log, bend - lowered)
            } else {
                (-log, -1.0)
            };
            value += share * cost;
            for (k, (g, &l)) in slope.row_mut(i).iter_mut().zip(&row).enumerate() {
                *g = share * by_log * (f64::from(u8::from(k == label)) - l.exp());
            }
        }
        (value, slope)
    }
}

impl RatioPenalty {
    /// r = p_c(f) / (p_c(f without the suspects) + 1e-9) of every row of `features`.
    pub fn ratios(&self, layer: &DecisionLayer, features: ArrayView2<'_, f32>) -> Vec<f64> {
        let logits = logits_of(layer, features);
        let theirs = features.select(Axis(1), &self.suspects);
        let (with, without) = (log_probabilities(&logits), self.without(layer, &theirs, &logits));
        (0..features.nrows())
            .map(|i| (with[[i, self.class]] - (without[[i, self.class]].exp() + TINY).ln()).exp())
            .collect()
    }

    /// log p of the features with the suspects, whose columns are `theirs`, at 0.
    fn without(&self, layer: &DecisionLayer, theirs: &Array2<f32>, logits: &Array2<f32>) -> Array2<f64> {
        let columns = layer.weight.select(Axis(1), &self.suspects);
        log_probabilities(&(logits - &theirs.dot(&columns.t())))
    }

    /// The penalty and its gradients with respect to the logits with and without the suspects.
    fn slope(
        &self,
        layer: &DecisionLayer,
        theirs: &Array2<f32>,
        logits: &Array2<f32>,
        log_p: &Array2<f64>,
    ) -> (f64, Array2<f64>, Array2<f64>) {
        let log_q = self.without(layer, theirs, logits);
        let classes: Vec<usize> = match self.norm {
            RatioNorm::Mean => (0..log_p.ncols()).collect(),
            RatioNorm::Norm | RatioNorm::RootMeanSquare => vec![self.class],
        };
        let ratio = |i: usize, c: usize| (log_p[[i, c]] - (log_q[[i, c]].exp() + TINY).ln()).exp();
        let rows = log_p.nrows();
        let off: Vec<Vec<f64>> =
            (0..rows).map(|i| classes.iter().map(|&c| ratio(i, c) - self.target).collect()).collect();
        let flat = || off.iter().flatten();
        let count = (rows * classes.len()).max(1) as f64;
        let norm = flat().map(|o| o * o).sum::<f64>().sqrt();
        let mean = flat().sum::<f64>() / count;
        let scale = match self.norm {
            RatioNorm::RootMeanSquare => self.strength * (128.0 / count).sqrt(),
            RatioNorm::Norm | RatioNorm::Mean => self.strength,
        };
        let cost = scale * if self.norm == RatioNorm::Mean { mean.abs() } else { norm };
        let by_ratio = |off: f64| match self.norm {
            RatioNorm::Mean if mean != 0.0 => scale * mean.signum() / count,
            RatioNorm::Norm | RatioNorm::RootMeanSquare if norm > 0.0 => scale * off / norm,
            _ => 0.0,
        };
        let (mut with, mut without) = (Array2::zeros(log_p.raw_dim()), Array2::zeros(log_p.raw_dim()));
        for i in 0..rows {
            for (&c, &o) in classes.iter().zip(&off[i]) {
                let (g, q) = (by_ratio(o) * (o + self.target), log_q[[i, c]].exp());
                let g_q = -g * q / (q + TINY);
                for k in 0..log_p.ncols() {
                    let hit = f64::from(u8::from(k == c));
                    with[[i, k]] += g * (hit - log_p[[i, k]].exp());
                    without[[i, k]] += g_q * (hit - log_q[[i, k]].exp());
                }
            }
        }
        (cost, with, without)
    }
}

/// The columns `wanted` of rows that lie in blocks.
fn columns(blocks: &[ArrayView2<'_, f32>], wanted: &[usize]) -> Array2<f32> {
    let rows = blocks.iter().map(|block| block.nrows()).sum();
    let mut out = Array2::zeros((rows, wanted.len()));
    let all = blocks.iter().flat_map(|block| block.rows());
    for (mut to, from) in out.rows_mut().into_iter().zip(all) {
        to.iter_mut().zip(wanted).for_each(|(to, &j)| *to = from[j]);
    }
    out
}

/// Gᵀ F of rows that lie in blocks of [`ROWS`]: each block on one thread, summed in their order, whatever the threads.
fn transposed_product(gradient: &Array2<f32>, blocks: &[ArrayView2<'_, f32>]) -> Array2<f32> {
    let width = blocks.first().map_or(0, |block| block.ncols());
    let pairs: Vec<_> = gradient.axis_chunks_iter(Axis(0), ROWS).zip(blocks).collect();
    let parts: Vec<Array2<f32>> = pairs.into_par_iter().map(|(gradient, rows)| gradient.t().dot(rows)).collect();
    parts.into_iter().reduce(|sum, part| sum + part).unwrap_or_else(|| Array2::zeros((gradient.ncols(), width)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn problem() -> (DecisionLayer, Array2<f32>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut draw = |scale: f32| scale * (rng.random::<f32>() - 0.3);
        let weight = Array2::from_shape_fn((4, 6), |_| draw(2.0));
        let bias = Array1::from_shape_fn(4, |_| draw(0.5));
        let features = Array2::from_shape_fn((9, 6), |_| draw(1.5).max(0.0));
        (DecisionLayer { weight, bias }, features, (0..9).map(|i| i % 4).collect())
    }

    /// The slope of `loss` along a random direction against central differences.
    fn check(loss: &Loss, importance: &[f64]) {
        let (layer, features, labels) = problem();
        let slope = loss.slope(&layer, features.view(), &labels, importance);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for _ in 0..5 {
            let direction = Array2::from_shape_fn((4, 6), |_| rng.random::<f32>() - 0.5);
            let bias = Array1::from_shape_fn(4, |_| rng.random::<f32>() - 0.5);
            let moved = |step: f32| {
                let weight = &layer.weight + &(&direction * step);
                let layer = DecisionLayer { weight, bias: &layer.bias + &(&bias * step) };
                loss.slope(&layer, features.view(), &labels, importance).value
            };
            let found = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            let told = f64::from((&slope.weight * &direction).sum() + (&slope.bias * &bias).sum());
            assert!((found - told).abs() <= 2e-3 * (1.0 + told.abs()), "{loss:?}: {found} by differences, {told} told");
        }
    }

    fn penalty(norm: RatioNorm) -> Loss {
        let ratio = RatioPenalty { suspects: vec![1, 4], class: 2, strength: 0.3, target: 1.1, norm };
        Loss { ratio: Some(ratio), ..Loss::cross_entropy() }
    }

    #[test]
    fn slopes_agree_with_finite_differences() {
        check(&Loss::cross_entropy(), &[]);
        check(&Loss::cross_entropy(), &[1.0, 3.0, 0.5, 2.0, 1.0, 1.0, 0.1, 4.0, 1.0]);
        check(&Loss { class_weights: vec![1.0, 0.9, 0.5, 2.0], ..Loss::cross_entropy() }, &[]);
        check(&Loss { class_weights: vec![1.0, 0.9, 0.5, 2.0], focal: 2.0, ratio: None }, &[]);
        check(&penalty(RatioNorm::Norm), &[]);
        check(&penalty(RatioNorm::RootMeanSquare), &[]);
        check(&penalty(RatioNorm::Mean), &[]);
    }

    /// In one piece, by rows of a larger table, and in parts where there are many.
    #[test]
    fn the_slope_does_not_depend_on_how_rows_are_read() {
        let (layer, few, labels_of_few) = problem();
        let rows: Vec<usize> = (0..PARTS * ROWS + 70).map(|i| (i * 7) % few.nrows()).collect();
        let many = few.select(Axis(0), &rows);
        let labels: Vec<usize> = rows.iter().map(|&r| labels_of_few[r]).collect();
        let importance: Vec<f64> = (0..rows.len()).map(|i| 0.5 + (i % 3) as f64).collect();
        for loss in [Loss::cross_entropy(), penalty(RatioNorm::Norm)] {
            let blocks: Vec<_> = many.axis_chunks_iter(Axis(0), ROWS).collect();
            let whole = loss.slope_of_blocks(&layer, &blocks, &layer.logits(&many), &labels, &importance);
            for other in [
                loss.slope(&layer, many.view(), &labels, &importance),
                loss.slope_of_rows(&layer, &few, &rows, &labels, &importance),
            ] {
                assert!((other.value - whole.value).abs() < 1e-9 * whole.value.abs().max(1.0), "{}", other.value);
                assert!((&other.weight - &whole.weight).iter().all(|d| d.abs() < 1e-5));
                assert!((&other.bias - &whole.bias).iter().all(|d| d.abs() < 1e-5));
            }
        }
    }

    #[test]
    fn the_root_mean_square_does_not_depend_on_the_batch() {
        let (layer, features, labels) = problem();
        let loss = penalty(RatioNorm::RootMeanSquare);
        let twice = ndarray::concatenate![Axis(0), features, features];
        let labels_twice = [labels.clone(), labels.clone()].concat();
        let (one, two) = (
            loss.slope(&layer, features.view(), &labels, &[]).value,
            loss.slope(&layer, twice.view(), &labels_twice, &[]).value,
        );
        assert!((one - two).abs() < 1e-9, "{one} {two}");
    }

    #[test]
    fn a_class_of_no_probability_leaves_the_ratio_and_its_slope_finite() {
        let (mut layer, features, labels) = problem();
        layer.bias[2] = -1e4;
        let slope = penalty(RatioNorm::Norm).slope(&layer, features.view(), &labels, &[]);
        assert!(slope.weight.iter().chain(&slope.bias).all(|g| g.is_finite()));
    }
}
