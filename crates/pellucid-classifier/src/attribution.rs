//! Which parts of one picture speak for a class or a neuron: Grad-CAM (Selvaraju et al. 2017), Integrated Gradients
//! (Sundararajan et al. 2017) and SmoothGrad (Smilkov et al. 2017), each with what tells a good map from a pretty one:
//! deletion and insertion against a random order (Petsiuk et al. 2018), and the same map of a network whose weights were
//! shuffled (Adebayo et al. 2018). A map that shows nothing is flagged instead of drawn.

use ndarray::{Array2, ArrayD, ArrayViewD, Axis, Slice};
use pellucid_graph::grad::Objective;
use pellucid_graph::{Model, ModelError, Tensor};
use pellucid_guard::Setting;
use pellucid_runtime::{
    Array, GradientOptions, GradientSession, GradientsError, Layout, Runtime, SessionOptions, TappedModel,
};
use pellucid_saliency::evaluate::{ConfidenceGames, ranked};
use pellucid_saliency::render::{Alignment, upsample};
use pellucid_saliency::stats::spearman;
use pellucid_vision::canvas::normal;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Points of the deletion and insertion curves.
const POINTS: usize = 17;
/// A map that goes on like this on a shuffled network does not show what the network learnt.
const SAME: f64 = 0.5;
/// A map with so large a share of its pixels at its largest value shows no place.
const SATURATED: f64 = 0.5;
/// Pictures of one run.
const BATCH: usize = 8;

/// How a map is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The last feature map's channels, weighted with their mean gradients; what is positive.
    GradCam,
    /// The gradient along the way from gray to the picture, times the way.
    IntegratedGradients,
    /// The mean size of the gradient on noisy copies.
    SmoothGrad,
}

/// What is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A class logit.
    Class(usize),
    /// A component of the features.
    Neuron(usize),
}

/// How maps are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributionSettings {
    /// Points on the way from gray (Integrated Gradients).
    pub steps: usize,
    /// Noisy copies (SmoothGrad).
    pub copies: usize,
    /// Standard deviation of their noise, as a share of the picture's range (SmoothGrad).
    pub noise: f32,
    /// Seed of noise, random order and shuffled weights.
    pub seed: u64,
}

impl Default for AttributionSettings {
    fn default() -> Self {
        Self { steps: 32, copies: 16, noise: 0.15, seed: 0 }
    }
}

/// One map, and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// How it was made.
    pub method: Method,
    /// One value a pixel of the model's input; what is larger speaks more for the subject.
    #[serde(skip)]
    pub map: Array2<f32>,
    /// Why it is not worth drawing, if it is not.
    pub flag: Option<String>,
    /// The subject's score as the strongest pixels turn gray, or appear on gray, first; a share of the whole picture's.
    #[serde(flatten)]
    pub games: ConfidenceGames,
    /// Spearman correlation with the map of the network with shuffled weights; near 0 is good.
    pub shuffled: f64,
    /// Integrated Gradients only: the map's sum over the score's rise from gray to the picture; near 1 is good.
    pub completeness: Option<f64>,
}

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// A class or neuron that does not exist.
    #[error("there is no {what} {index}; there are {count}")]
    Subject {
        /// "class" or "neuron".
        what: &'static str,
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Grad-CAM needs a map.
    #[error("{0} has no feature map, which Grad-CAM needs; use {set_method} integrated-gradients or smooth-grad", set_method = Setting::Method)]
    NoMap(String),
    /// The settings make no sense.
    #[error("{0} must be 1 or more")]
    Nothing(Setting),
    /// A model file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The gradient.
    #[error(transparent)]
    Gradients(#[from] GradientsError),
}

/// A compiled score with its gradients.
struct Scorer<'a> {
    session: GradientSession,
    tapped: &'a TappedModel,
}

/// Explains `subject` on `input` (one sample, preprocessed) with each of `methods`; `gray` is the input of a gray
/// picture, and `channels_first` says where its channels are.
#[allow(clippy::too_many_arguments)] // The model, the picture, the question and the settings: all are needed.
pub fn attribute(
    runtime: &Runtime,
    tapped: &TappedModel,
    input: &ArrayD<f32>,
    gray: &ArrayD<f32>,
    channels_first: bool,
    subject: Subject,
    methods: &[Method],
    settings: &AttributionSettings,
    options: &SessionOptions,
) -> Result<Vec<Attribution>, AttributionError> {
    check(tapped, subject, methods, settings)?;
    let wants_map = methods.contains(&Method::GradCam);
    let mut scorer = Scorer::new(runtime, tapped, &tapped.model, subject, wants_map, options)?;
    let mut random = tapped.model.clone();
    shuffle(&mut random, settings.seed)?;
    let mut shuffled = Scorer::new(runtime, tapped, &random, subject, wants_map, options)?;
    let picture = Sample { input, gray, channels_first };
    let mut done = Vec::new();
    for &method in methods {
        let (map, completeness) = picture.map(&mut scorer, method, settings)?;
        let (other, _) = picture.map(&mut shuffled, method, settings)?;
        let same = rank_correlation(&map, &other);
        let mut order = ranked(&map);
        let areas = picture.curves(&mut scorer, &order)?;
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(settings.seed));
        let games = ConfidenceGames::of(areas, picture.curves(&mut scorer, &order)?);
        done.push(Attribution { method, flag: flag(&map, same), map, games, shuffled: same, completeness });
    }
    Ok(done)
}

fn check(
    tapped: &TappedModel,
    subject: Subject,
    methods: &[Method],
    settings: &AttributionSettings,
) -> Result<(), AttributionError> {
    let (what, index, count) = match subject {
        Subject::Class(c) => ("class", c, tapped.classes()),
        Subject::Neuron(j) => ("neuron", j, tapped.features()),
    };
    if index >= count {
        return Err(AttributionError::Subject { what, index, count });
    }
    if methods.contains(&Method::GradCam) && tapped.map.is_none() {
        return Err(AttributionError::NoMap(tapped.model.path().display().to_string()));
    }
    match (settings.steps, settings.copies) {
        (0, _) => Err(AttributionError::Nothing(Setting::Points)),
        (_, 0) => Err(AttributionError::Nothing(Setting::Copies)),
        _ => Ok(()),
    }
}

impl<'a> Scorer<'a> {
    fn new(
        runtime: &Runtime,
        tapped: &'a TappedModel,
        model: &Model,
        subject: Subject,
        map: bool,
        options: &SessionOptions,
    ) -> Result<Scorer<'a>, AttributionError> {
        let (value, index) = match subject {
            Subject::Class(c) => (&tapped.taps.logits, c),
            Subject::Neuron(j) => (&tapped.taps.features, j),
        };
        let objective = Objective::value(value).select(1, index as i64).mean();
        let mut model = runtime.widen(model)?;
        model.graph.outputs.clear();
        model.graph.add_output(value);
        let mut wrt = vec![tapped.input.as_str()];
        if let Some(map) = tapped.map.as_ref().filter(|_| map) {
            model.graph.add_output(&map.value);
            wrt.push(&map.value);
        }
        model.graph.prune();
        let shapes = BTreeMap::from([(tapped.input.clone(), tapped.input_shape.clone())]);
        let options = GradientOptions { session: options.clone(), shapes, ..GradientOptions::default() };
        Ok(Scorer { session: runtime.gradient(&model, &objective, &wrt, &options)?, tapped })
    }

    /// Scores and gradients by the input of each row.
    fn run(&mut self, rows: &[ArrayD<f32>]) -> Result<Vec<(f32, ArrayD<f32>)>, AttributionError> {
        let mut out = Vec::with_capacity(rows.len());
        for rows in rows.chunks(BATCH) {
            let views: Vec<ArrayViewD<'_, f32>> = rows.iter().map(|row| row.view()).collect();
            let batch = ndarray::concatenate(Axis(0), &views).unwrap_or_default();
            let mut run = self.session.run(&[(&self.tapped.input, &Array::F32(batch))])?;
            let scores = run.objective.into_f32().unwrap_or_default();
            let gradient = run.gradients.remove(&self.tapped.input).and_then(Array::into_f32).unwrap_or_default();
            let row = |i: usize| gradient.slice_axis(Axis(0), Slice::from(i..i + 1)).to_owned();
            out.extend(scores.iter().enumerate().map(|(i, s)| (*s, row(i))));
        }
        Ok(out)
    }

    /// The feature map and the score's gradient by it.
    fn map(&mut self, input: &ArrayD<f32>) -> Result<Option<[ArrayD<f32>; 2]>, AttributionError> {
        let Some(map) = &self.tapped.map else { return Ok(None) };
        let mut run = self.session.run(&[(&self.tapped.input, &Array::F32(input.clone()))])?;
        let values = run.outputs.remove(&map.value).and_then(Array::into_f32);
        let gradient = run.gradients.remove(&map.value).and_then(Array::into_f32);
        Ok(values.zip(gradient).map(|(a, g)| [a, g]))
    }
}

/// One picture as the model reads it.
struct Sample<'a> {
    input: &'a ArrayD<f32>,
    gray: &'a ArrayD<f32>,
    channels_first: bool,
}

impl Sample<'_> {
    fn channel_axis(&self) -> Axis {
        Axis(if self.channels_first { 1 } else { 3 })
    }

    /// Height and width.
    fn size(&self) -> (usize, usize) {
        let shape = self.input.shape();
        if self.channels_first { (shape[2], shape[3]) } else { (shape[1], shape[2]) }
    }

    /// Values of the input's shape, summed over the colours.
    fn over_colours(&self, values: &ArrayD<f32>) -> Array2<f32> {
        let summed = values.sum_axis(self.channel_axis());
        summed.index_axis(Axis(0), 0).to_owned().into_dimensionality().unwrap_or_default()
    }

    fn map(
        &self,
        scorer: &mut Scorer<'_>,
        method: Method,
        settings: &AttributionSettings,
    ) -> Result<(Array2<f32>, Option<f64>), AttributionError> {
        match method {
            Method::GradCam => Ok((self.grad_cam(scorer)?, None)),
            Method::IntegratedGradients => self.integrated(scorer, settings.steps),
            Method::SmoothGrad => Ok((self.smooth(scorer, settings)?, None)),
        }
    }

    fn grad_cam(&self, scorer: &mut Scorer<'_>) -> Result<Array2<f32>, AttributionError> {
        let layout = scorer.tapped.map.as_ref().map(|m| m.layout);
        let (height, width) = self.size();
        let (Some([map, gradient]), Some(layout)) = (scorer.map(self.input)?, layout) else {
            return Ok(Array2::zeros((height, width)));
        };
        let Some((map, gradient)) = places(&map, layout).zip(places(&gradient, layout)) else {
            return Ok(Array2::zeros((height, width)));
        };
        let weights = gradient.mean_axis(Axis(2)).and_then(|g| g.mean_axis(Axis(1))).unwrap_or_default();
        let mut sum = Array2::<f32>::zeros((map.shape()[1], map.shape()[2]));
        for (channel, weight) in map.axis_iter(Axis(0)).zip(&weights) {
            sum.scaled_add(*weight, &channel);
        }
        sum.mapv_inplace(|v| v.max(0.0));
        Ok(upsample(sum.view(), width, height, Alignment::Centres))
    }

    fn integrated(
        &self,
        scorer: &mut Scorer<'_>,
        steps: usize,
    ) -> Result<(Array2<f32>, Option<f64>), AttributionError> {
        let way = self.input - self.gray;
        // The middle of each part: more exact than its ends.
        let at = |k: usize| self.gray + &(&way * ((k as f32 + 0.5) / steps as f32));
        let points: Vec<ArrayD<f32>> = (0..steps).map(at).collect();
        let mut mean = ArrayD::<f32>::zeros(self.input.raw_dim());
        for (_, gradient) in scorer.run(&points)? {
            mean.scaled_add(1.0 / steps as f32, &gradient);
        }
        let map = self.over_colours(&(mean * &way));
        let ends = scorer.run(&[self.gray.clone(), self.input.clone()])?;
        let rise = f64::from(ends[1].0) - f64::from(ends[0].0);
        let total: f64 = map.iter().map(|v| f64::from(*v)).sum();
        Ok((map, (rise != 0.0).then(|| total / rise)))
    }

    fn smooth(&self, scorer: &mut Scorer<'_>, settings: &AttributionSettings) -> Result<Array2<f32>, AttributionError> {
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let least = self.input.iter().copied().fold(f32::INFINITY, f32::min);
        let most = self.input.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let deviation = settings.noise * (most - least);
        let copies: Vec<ArrayD<f32>> =
            (0..settings.copies).map(|_| self.input.mapv(|v| v + deviation * normal(&mut random))).collect();
        let mut mean = ArrayD::<f32>::zeros(self.input.raw_dim());
        for (_, gradient) in scorer.run(&copies)? {
            mean.scaled_add(1.0 / settings.copies as f32, &gradient.mapv(f32::abs));
        }
        Ok(self.over_colours(&mean))
    }

    /// Areas under the deletion and the insertion curve for pixels in `order`, scores as shares of the picture's over
    /// the gray one's.
    fn curves(&self, scorer: &mut Scorer<'_>, order: &[usize]) -> Result<[f64; 2], AttributionError> {
        let rows = |from: &ArrayD<f32>, to: &ArrayD<f32>| -> Vec<ArrayD<f32>> {
            let count = |k: usize| order.len() * k / (POINTS - 1);
            (0..POINTS).map(|k| self.replaced(from, to, &order[..count(k)])).collect()
        };
        let deleted = scorer.run(&rows(self.input, self.gray))?;
        let inserted = scorer.run(&rows(self.gray, self.input))?;
        let (whole, none) = (f64::from(inserted[POINTS - 1].0), f64::from(inserted[0].0));
        let share = |score: f32| if whole == none { 0.0 } else { (f64::from(score) - none) / (whole - none) };
        let area = |curve: &[(f32, ArrayD<f32>)]| {
            let pairs = curve.windows(2).map(|w| (share(w[0].0) + share(w[1].0)) / 2.0);
            pairs.sum::<f64>() / (POINTS - 1) as f64
        };
        Ok([area(&deleted), area(&inserted)])
    }

    /// `from` with the pixels `places` taken from `to`.
    fn replaced(&self, from: &ArrayD<f32>, to: &ArrayD<f32>, places: &[usize]) -> ArrayD<f32> {
        let mut mixed = from.clone();
        let (height, width) = self.size();
        let colours = mixed.len_of(self.channel_axis());
        for channel in 0..colours {
            let source = to.index_axis(self.channel_axis(), channel);
            let mut target = mixed.index_axis_mut(self.channel_axis(), channel);
            for &at in places {
                let place = [0, at / width, at % width];
                debug_assert!(at / width < height);
                target[&place[..]] = source[&place[..]];
            }
        }
        mixed
    }
}

/// A feature map of one sample as channels × height × width; tokens as their square grid.
fn places(map: &ArrayD<f32>, layout: Layout) -> Option<ndarray::Array3<f32>> {
    let one = map.index_axis(Axis(0), 0);
    match layout {
        Layout::ChannelsFirst => one.to_owned().into_dimensionality().ok(),
        Layout::ChannelsLast => one.to_owned().permuted_axes(vec![2, 0, 1]).into_dimensionality().ok(),
        Layout::Tokens => {
            let tokens = one.len_of(Axis(0));
            let (skip, side) = [0usize, 1, 2, 5].into_iter().find_map(|skip| {
                let side = tokens.checked_sub(skip)?.isqrt();
                (side * side == tokens - skip).then_some((skip, side))
            })?;
            let grid = one.slice_axis(Axis(0), Slice::from(skip..)).t().as_standard_layout().into_owned();
            let channels = grid.len_of(Axis(0));
            grid.into_shape_with_order((channels, side, side)).ok()
        }
    }
}

/// Spearman's rank correlation of two maps.
fn rank_correlation(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let flat = |map: &Array2<f32>| map.iter().copied().collect::<Vec<_>>();
    spearman(&flat(a), &flat(b))
}

/// Why a map is not worth drawing.
fn flag(map: &Array2<f32>, same: f64) -> Option<String> {
    let most = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = map.iter().copied().fold(f32::INFINITY, f32::min);
    if map.iter().any(|v| !v.is_finite()) {
        return Some("not finite: the gradient holds NaN or infinity".to_owned());
    }
    if most == 0.0 && least == 0.0 {
        return Some("blank: nothing in the picture speaks for it".to_owned());
    }
    if most - least <= 1e-6 * most.abs().max(least.abs()) {
        return Some("constant: no place speaks for it more than another".to_owned());
    }
    let high = map.iter().filter(|v| **v >= least + 0.99 * (most - least)).count() as f64 / map.len() as f64;
    if high > SATURATED {
        return Some(format!("saturated: {:.0} % of it stands at its largest value", 100.0 * high));
    }
    (same > SAME).then(|| {
        format!("much the same with shuffled weights (rank correlation {same:.2}): it shows the picture, not the model")
    })
}

/// Puts the numbers of every weight in random order, so that the network keeps its sizes and loses what it learnt.
fn shuffle(model: &mut Model, seed: u64) -> Result<(), AttributionError> {
    model.embed_weights()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, tensor) in &mut model.graph.initializers {
        let shape: Vec<usize> = tensor.dims().iter().map(|&d| d as usize).collect();
        if shape.len() < 2 || !tensor.element().is_float() {
            continue;
        }
        if let Ok(mut values) = tensor.to_f32() {
            values.shuffle(&mut random);
            *tensor = Tensor::f32(name, &shape, &values);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn maps_that_show_nothing_are_flagged() {
        let flagged = |map: Array2<f32>| flag(&map, 0.0).unwrap_or_default();
        assert!(flagged(Array2::zeros((2, 2))).starts_with("blank"));
        assert!(flagged(Array2::from_elem((2, 2), 0.3)).starts_with("constant"));
        assert!(flagged(array![[1.0, 1.0], [1.0, 0.0]]).starts_with("saturated"));
        assert!(flagged(array![[f32::NAN, 1.0], [1.0, 0.0]]).starts_with("not finite"));
        assert_eq!(flag(&array![[1.0, 0.2], [0.1, 0.0]], 0.1), None);
        assert!(flag(&array![[1.0, 0.2], [0.1, 0.0]], 0.9).is_some());
    }
}
