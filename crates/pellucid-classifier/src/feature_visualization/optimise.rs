//! The ascent: pictures in batches, each with its own seed, parameters and optimiser.

use super::adam::{Adam, rate};
use super::mask;
use super::network::{Aims, Network, Response, batch};
use super::settings::{IllusionError, ObjectiveKind, Target, VisualizationSettings};
use crate::progress::Progress;
use ndarray::{Array2, Axis};
use pellucid_vision::augment::{Augmentation, Draw};
use pellucid_vision::canvas::{Canvas, Parameterisation, add_total_variation};
use pellucid_vision::picture::Picture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Steps between two points of a picture's trace.
const TRACE: usize = 10;
/// A gain of the smoothed evidence below this share of it is no progress.
const PROGRESS: f32 = 0.002;
/// How much of the smoothed evidence is new at each step.
const SMOOTHING: f32 = 0.05;
/// Contrasts at which a saturated channel's map is taken instead.
const FADED: [f32; 9] = [0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.09, 0.06, 0.04];
/// An activation below this share of the largest one seen is rest.
const REST: f32 = 1e-6;

/// A finished picture, and what the networks say of it (in 8 bits, without augmentation).
#[derive(Debug, Clone)]
pub struct Illusion {
    /// What is pictured.
    pub target: Target,
    /// Its seed.
    pub seed: u64,
    /// The picture.
    pub picture: Picture,
    /// Steps taken.
    pub steps: usize,
    /// Whether the ascent stopped before the last step, as nothing was gained any more.
    pub plateau: bool,
    /// The step at which the gradient was not finite any more, if there was one; the picture is that of the step before.
    pub diverged: Option<usize>,
    /// a: the mean of the channel.
    pub activation: f32,
    /// z: the class logit; NaN without a class.
    pub logit: f32,
    /// s: cosine of picture and class name by the guide; NaN without a guide.
    pub similarity: f32,
    /// Whether the channel never responded, on the way or at the end.
    pub dead: bool,
    /// The augmented picture's activation every ten steps.
    pub trace: Vec<f32>,
    /// Where the channel responds on the picture, h × w; `None` where it has no places.
    pub map: Option<Array2<f32>>,
    /// The contrast that `map` was taken at. Below 1 where the channel is saturated everywhere on the picture itself (as after
    /// a ReLU6): what responds first, when the picture is faded in from gray, tells the places apart.
    pub map_contrast: f32,
    /// The classes with the largest logits, largest first, with their logits.
    pub top_classes: Vec<(usize, f32)>,
}

/// One picture on its way.
struct Ascent {
    target: Target,
    seed: u64,
    random: ChaCha8Rng,
    parameters: Vec<f32>,
    adam: Adam,
    picture: Vec<f32>,
    draw: Option<Draw>,
    smoothed: Option<f32>,
    best: f32,
    best_step: usize,
    largest: f32,
    diverged: Option<usize>,
    trace: Vec<f32>,
}

/// Optimises a picture for each of `targets` and each seed. `texts` holds the class's embedding of each target (empty
/// vectors without a guide), `start` a picture to begin at. The results are sorted by target, then by seed, and do not
/// depend on how they were batched where the runtime's results do not.
pub fn optimise(
    network: &mut Network,
    targets: &[Target],
    texts: &[Vec<f32>],
    start: Option<&Picture>,
    settings: &VisualizationSettings,
    progress: &dyn Progress,
) -> Result<Vec<Illusion>, IllusionError> {
    settings.checked()?;
    for target in targets {
        network.check(target.channel, target.class)?;
    }
    if let (Some(width), Some(text)) = (network.embedding_width(), texts.iter().find(|t| !t.is_empty()))
        && text.len() != width
    {
        return Err(IllusionError::Embeddings { picture: width, text: text.len() });
    }
    let canvas = Canvas::new(settings.parameterisation, network.side());
    let mut wanted: Vec<(usize, u64)> = Vec::new();
    for at in 0..targets.len() {
        wanted.extend((0..settings.seeds as u64).map(|k| (at, settings.seed + k)));
    }
    progress.start("optimise pictures", (wanted.len() * settings.steps) as u64);
    let mut finished = Vec::with_capacity(wanted.len());
    let even = wanted.len().div_ceil(wanted.len().div_ceil(network.largest_batch()).max(1)).max(1);
    for chunk in wanted.chunks(even) {
        let ascents = chunk.iter().map(|&(at, seed)| Ascent::new(&canvas, &targets[at], seed, start)).collect();
        let texts: Vec<&[f32]> = chunk.iter().map(|&(at, _)| texts.get(at).map_or(&[][..], Vec::as_slice)).collect();
        match ascend(network, &canvas, ascents, &texts, settings, progress)? {
            Some(pictures) => finished.extend(pictures),
            None => {
                progress.finish();
                return Err(IllusionError::Interrupted { done: finished.len(), total: wanted.len() });
            }
        }
    }
    progress.finish();
    match finished.iter().map(|picture| picture.diverged).collect::<Option<Vec<usize>>>() {
        Some(steps) if !steps.is_empty() => {
            Err(IllusionError::Diverged { step: steps.into_iter().min().unwrap_or_default() })
        }
        _ => Ok(finished),
    }
}

impl Ascent {
    fn new(canvas: &Canvas, target: &Target, seed: u64, start: Option<&Picture>) -> Ascent {
        // A picture's random numbers depend on what it shows, not on its place in a batch.
        let class = target.class.map_or(u64::MAX, |c| c as u64);
        let mut key = [0u8; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([seed, target.channel as u64, class, 0]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        let mut random = ChaCha8Rng::from_seed(key);
        let spark = canvas.spark(&mut random);
        let parameters = start.map_or(spark, |picture| canvas.parameters_of(picture));
        Ascent {
            target: target.clone(),
            seed,
            random,
            adam: Adam::new(canvas.parameters()),
            picture: canvas.picture(&parameters),
            parameters,
            draw: None,
            smoothed: None,
            best: f32::NEG_INFINITY,
            best_step: 0,
            largest: 0.0,
            diverged: None,
            trace: Vec::new(),
        }
    }

    /// The picture as the networks get to see it.
    fn shown(&mut self, canvas: &Canvas, augmentation: Option<&Augmentation>, remaining: f32) -> Vec<f32> {
        self.picture = canvas.picture(&self.parameters);
        self.draw = augmentation.map(|a| a.draw(&mut self.random, canvas.side(), remaining));
        self.draw.as_ref().map_or_else(|| self.picture.clone(), |draw| draw.apply(&self.picture))
    }

    /// One step along the gradient of what was shown.
    fn step(&mut self, canvas: &Canvas, gradient: &[f32], step: usize, settings: &VisualizationSettings) {
        if self.diverged.is_some() {
            return;
        }
        if gradient.iter().any(|g| !g.is_finite()) {
            self.diverged = Some(step);
            return;
        }
        let mut gradient = self.draw.as_ref().map_or_else(|| gradient.to_vec(), |draw| draw.adjoint(gradient));
        if settings.parameterisation == Parameterisation::Pixel && settings.total_variation > 0.0 {
            add_total_variation(&self.picture, canvas.side(), -settings.total_variation, &mut gradient);
        }
        let gradient = canvas.gradient(&self.parameters, &self.picture, &gradient);
        let rate = rate(settings.learning_rate, step, settings.steps);
        self.adam.ascend(&mut self.parameters, &gradient, rate, settings.weight_decay);
    }

    /// Takes note of how the picture fares.
    fn observe(&mut self, step: usize, activation: f32, evidence: f32) {
        self.largest = self.largest.max(activation.abs());
        if step.is_multiple_of(TRACE) {
            self.trace.push(activation);
        }
        let smoothed = self.smoothed.map_or(evidence, |old| old + SMOOTHING * (evidence - old));
        self.smoothed = Some(smoothed);
        if smoothed > self.best + PROGRESS * self.best.abs().max(1e-3) || !self.best.is_finite() {
            (self.best, self.best_step) = (smoothed, step);
        }
    }
}

/// Optimises one batch; `None` if the user interrupted.
fn ascend(
    network: &mut Network,
    canvas: &Canvas,
    mut ascents: Vec<Ascent>,
    texts: &[&[f32]],
    settings: &VisualizationSettings,
    progress: &dyn Progress,
) -> Result<Option<Vec<Illusion>>, IllusionError> {
    let aims = aims(&ascents, texts);
    let (mut taken, mut plateau) = (settings.steps, false);
    for step in 0..settings.steps {
        if progress.interrupted() {
            return Ok(None);
        }
        let remaining = 1.0 - step as f32 / settings.steps as f32;
        let augmentation = settings.augmentation.as_ref();
        let shown: Vec<Vec<f32>> = ascents.par_iter_mut().map(|a| a.shown(canvas, augmentation, remaining)).collect();
        let response = network.run(batch(&shown, canvas.side()), &aims)?;
        let rows: Vec<Vec<f32>> = response.gradient.axis_iter(Axis(0)).map(|g| g.iter().copied().collect()).collect();
        ascents.par_iter_mut().zip(&rows).for_each(|(ascent, row)| ascent.step(canvas, row, step, settings));
        for (i, ascent) in ascents.iter_mut().enumerate() {
            let logit = if response.logit[i].is_nan() { 0.0 } else { response.logit[i] };
            ascent.observe(step, response.activation[i], response.activation[i] + settings.class_weight * logit);
        }
        progress.advance(ascents.len() as u64);
        if step.is_multiple_of(TRACE) {
            let reached: Vec<String> = response.activation.iter().take(6).map(|a| format!("{a:.2}")).collect();
            progress.note(&format!("activation {}", reached.join(" ")));
        }
        let stuck = |a: &Ascent| a.diverged.is_some() || step - a.best_step >= settings.patience;
        let patient = settings.patience > 0 && settings.objective != ObjectiveKind::Reference;
        if ascents.iter().all(|a| a.diverged.is_some()) || (patient && ascents.iter().all(stuck)) {
            (taken, plateau) = (step + 1, true);
            progress.advance(((settings.steps - taken) * ascents.len()) as u64);
            break;
        }
    }
    finish(network, canvas, ascents, &aims, taken, plateau).map(Some)
}

fn aims(ascents: &[Ascent], texts: &[&[f32]]) -> Aims {
    let width = texts.iter().map(|t| t.len()).max().unwrap_or(0);
    let mut rows = Array2::zeros((ascents.len(), width));
    for (mut row, text) in rows.rows_mut().into_iter().zip(texts) {
        row.iter_mut().zip(*text).for_each(|(to, from)| *to = *from);
    }
    Aims {
        channels: ascents.iter().map(|a| a.target.channel).collect(),
        classes: ascents.iter().map(|a| a.target.class).collect(),
        texts: rows,
    }
}

/// Looks at the finished pictures as anybody would who opens the files: in 8 bits.
fn finish(
    network: &mut Network,
    canvas: &Canvas,
    ascents: Vec<Ascent>,
    aims: &Aims,
    steps: usize,
    plateau: bool,
) -> Result<Vec<Illusion>, IllusionError> {
    let pictures: Vec<Picture> = ascents.iter().map(|a| canvas.to_picture(&canvas.picture(&a.parameters))).collect();
    let seen: Vec<Vec<f32>> = pictures.iter().map(planes).collect();
    let response = network.run(batch(&seen, canvas.side()), aims)?;
    let maps = maps(network, &ascents, &seen, &response, aims, canvas.side())?;
    let mut finished = Vec::with_capacity(ascents.len());
    for ((i, (ascent, picture)), (map, map_contrast)) in ascents.into_iter().zip(pictures).enumerate().zip(maps) {
        let activation = response.activation[i];
        let largest = ascent.largest.max(activation.abs());
        finished.push(Illusion {
            map,
            map_contrast,
            top_classes: top(response.logits.row(i).as_slice().unwrap_or_default(), 5),
            target: ascent.target,
            seed: ascent.seed,
            picture,
            steps: ascent.diverged.unwrap_or(steps),
            plateau: plateau && ascent.diverged.is_none(),
            diverged: ascent.diverged,
            activation,
            logit: response.logit[i],
            similarity: response.similarity[i],
            dead: largest <= REST,
            trace: ascent.trace,
        });
    }
    Ok(finished)
}

/// A channel's map, where it has places, and the contrast it was taken at.
type MapAtContrast = (Option<Array2<f32>>, f32);

/// Where each channel responds, and at which contrast of its picture: the full one unless it is saturated there.
fn maps(
    network: &mut Network,
    ascents: &[Ascent],
    seen: &[Vec<f32>],
    response: &Response,
    aims: &Aims,
    side: usize,
) -> Result<Vec<MapAtContrast>, IllusionError> {
    let of = |network: &Network, response: &Response, i: usize| network.map(response, i, ascents[i].target.channel);
    let mut maps: Vec<_> = (0..ascents.len()).map(|i| (of(network, response, i), 1.0)).collect();
    let even = |map: &Option<Array2<f32>>| map.as_ref().is_some_and(|map| mask::is_saturated(map.view()));
    for contrast in FADED {
        if !maps.iter().any(|(map, _)| even(map)) {
            break;
        }
        let fade = |picture: &Vec<f32>| picture.iter().map(|v| 0.5 + contrast * (v - 0.5)).collect();
        let faded: Vec<Vec<f32>> = seen.iter().map(fade).collect();
        let response = network.run(batch(&faded, side), aims)?;
        for (i, entry) in maps.iter_mut().enumerate().filter(|(_, (map, _))| even(map)) {
            let map = of(network, &response, i);
            if !even(&map) {
                *entry = (map, contrast);
            }
        }
    }
    Ok(maps)
}

/// A picture's pixels as 3 × H × H between 0 and 1.
pub(crate) fn planes(picture: &Picture) -> Vec<f32> {
    let channel = |c: usize| picture.data().iter().skip(c).step_by(3).map(|&level| f32::from(level) / 255.0);
    (0..3).flat_map(channel).collect()
}

fn top(logits: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.truncate(count);
    order
}
