//! DF-RISE ([methods B1]): what a step depends on, found by masking its latent at random.
//!
//! A place matters if the step's result stays alike when the place is kept. Each map comes with its split-half reliability
//! over masks and with its correlation to the *identity control*, the same map with the network left out: a step copies
//! most of its input, so a reliable map proves nothing about the network unless it differs from that control.
//!
//! [methods B1]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b1

use super::{Amount, Curve, Explainer, Findings, StepFigure, StepFindings, Subject, Track};
use crate::error::DiffusionError;
use crate::network::Capability;
use crate::pipeline::Pipeline;
use crate::similarity::{Reference, Similarity};
use crate::trajectory::{Step, Trajectory};
use ndarray::{Array2, Array4, ArrayView3, Axis};
use pellucid_runtime::progress::Progress;
use pellucid_saliency::render::{self, Alignment};
use pellucid_saliency::stats::random::stream;
use pellucid_saliency::stats::spearman;
use pellucid_saliency::{Figure, Grid, SaliencyMap};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What is compared between the step and the masked step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The next latent Φ(x).
    Prev,
    /// The noise ε̂(x).
    Eps,
    /// The clean latent x̂0(x).
    X0,
    /// As the published code: the next latent against ε̂ of the masked one, with twice the covariance and no division by
    /// ΣM.
    Reference,
}

/// How similarities become a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Σ M ⊙ s / Σ M with s the similarity at each place.
    Local,
    /// The same with s the mean over places: classical RISE.
    Global,
    /// E[s | M = 1] − E[s | M = 0].
    Contrast,
}

/// How masks look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum MaskKind {
    /// Each place kept with probability ½.
    Pixel,
    /// RISE's: `cells` × `cells` random cells, enlarged bilinearly with a random shift.
    Grid {
        /// Cells per side.
        cells: usize,
    },
}

/// What is read from each masked pass. Several readings share the passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What is compared.
    pub target: Target,
    /// How it is compared.
    pub similarity: Similarity,
    /// How similarities become a map.
    pub mode: Mode,
}

impl Reading {
    /// The published measure on `target`: local structure.
    pub fn structure(target: Target) -> Self {
        Self { target, similarity: Similarity::Structure, mode: Mode::Local }
    }

    /// How much more the rest of x̂0 changes while a place is masked than while it is kept. A network that only copies
    /// changes nothing elsewhere, so the identity control has no share in it.
    pub fn influence() -> Self {
        Self { target: Target::X0, similarity: Similarity::Elsewhere, mode: Mode::Contrast }
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::influence() {
            return f.write_str("influence");
        }
        let word = |v: &dyn std::fmt::Debug| format!("{v:?}").to_lowercase();
        write!(f, "{} {} {}", word(&self.target), word(&self.mode), word(&self.similarity))
    }
}

/// How DF-RISE runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RiseSettings {
    /// What is read from each masked pass.
    pub reading: Reading,
    /// How masks look.
    pub masks: MaskKind,
    /// Most masks.
    pub count: usize,
    /// Whether masks come in pairs M, 1 − M, which leaves hardly a place undefined.
    pub antithetic: bool,
    /// Seed of the masks; each step draws its own.
    pub seed: u64,
    /// Split-half reliability at which no more masks are drawn.
    pub reliability: Option<f64>,
}

impl Default for RiseSettings {
    fn default() -> Self {
        Self {
            reading: Reading::structure(Target::X0),
            masks: MaskKind::Pixel,
            count: 500,
            antithetic: true,
            seed: 0,
            reliability: Some(0.9),
        }
    }
}

/// The map of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RiseMap {
    /// Number of the step, from 0.
    pub step: usize,
    /// Its timestep.
    pub t: usize,
    /// H × W, not scaled.
    pub map: Array2<f32>,
    /// The same map with the network left out.
    pub identity: Array2<f32>,
    /// Masks used.
    pub masks: usize,
    /// Spearman's correlation of the maps of two halves of the masks.
    pub reliability: f64,
    /// Spearman's correlation with the identity control. Near 1, the map says nothing about the network.
    pub identity_correlation: f64,
    /// Places that no mask kept; they have the map's mean.
    pub undefined: usize,
}

/// Masks drawn between two looks at the reliability.
const ROUND: usize = 50;

/// Sums over masks, in two halves.
struct Sums {
    mode: Mode,
    reference: bool,
    halves: [Half; 2],
}

#[derive(Clone)]
struct Half {
    count: f32,
    kept: Array2<f32>,
    score: Array2<f32>,
    kept_score: Array2<f32>,
}

impl Sums {
    fn new(mode: Mode, reference: bool, (height, width): (usize, usize)) -> Self {
        let zero = Array2::zeros((height, width));
        let half = Half { count: 0.0, kept: zero.clone(), score: zero.clone(), kept_score: zero };
        Self { mode, reference, halves: [half.clone(), half] }
    }

    fn add(&mut self, half: usize, mask: &Array2<f32>, mut score: Array2<f32>) {
        if self.mode == Mode::Global {
            let mean = score.mean().unwrap_or(0.0);
            score.fill(mean);
        }
        let sums = &mut self.halves[half % 2];
        sums.count += 1.0;
        sums.kept += mask;
        sums.kept_score += &(mask * &score);
        sums.score += &score;
    }

    fn map(&self, halves: &[usize]) -> (Array2<f32>, usize) {
        let total = |f: &dyn Fn(&Half) -> &Array2<f32>| {
            halves.iter().skip(1).fold(f(&self.halves[halves[0]]).clone(), |sum, &h| sum + f(&self.halves[h]))
        };
        let count: f32 = halves.iter().map(|&h| self.halves[h].count).sum();
        let (kept, score, kept_score) = (total(&|h| &h.kept), total(&|h| &h.score), total(&|h| &h.kept_score));
        if self.reference {
            return (kept_score, 0);
        }
        let mut map = &kept_score / &kept;
        if self.mode == Mode::Contrast {
            map = map - (&score - &kept_score) / kept.mapv(|k| count - k);
        }
        fill_undefined(map)
    }
}

/// Places without a value take the mean of the others; they are counted.
fn fill_undefined(mut map: Array2<f32>) -> (Array2<f32>, usize) {
    let defined: Vec<f32> = map.iter().copied().filter(|v| v.is_finite()).collect();
    let mean = defined.iter().sum::<f32>() / defined.len().max(1) as f32;
    let undefined = map.len() - defined.len();
    map.mapv_inplace(|v| if v.is_finite() { v } else { mean });
    (map, undefined)
}

/// The masks of one step: mask n of a seed is the same whatever the batch.
struct Masks {
    random: rand_chacha::ChaCha8Rng,
    kind: MaskKind,
    antithetic: bool,
    size: (usize, usize),
    pending: Option<Array2<f32>>,
}

impl Masks {
    fn draw(&mut self) -> Array2<f32> {
        if let Some(opposite) = self.pending.take() {
            return opposite;
        }
        let mask = match self.kind {
            MaskKind::Pixel => {
                Array2::from_shape_simple_fn(self.size, || f32::from(u8::from(self.random.random::<bool>())))
            }
            MaskKind::Grid { cells } => self.grid(cells.max(1)),
        };
        self.pending = self.antithetic.then(|| mask.mapv(|m| 1.0 - m));
        mask
    }

    fn grid(&mut self, cells: usize) -> Array2<f32> {
        let (height, width) = self.size;
        let (ch, cw) = (height.div_ceil(cells), width.div_ceil(cells));
        let small =
            Array2::from_shape_simple_fn((cells + 1, cells + 1), || f32::from(u8::from(self.random.random::<bool>())));
        let large = render::upsample(small.view(), (cells + 1) * cw, (cells + 1) * ch, Alignment::Centres);
        let (dy, dx) = (self.random.random_range(0..ch), self.random.random_range(0..cw));
        Array2::from_shape_fn((height, width), |(y, x)| large[[y + dy, x + dx]])
    }
}

/// One reading's references and sums.
struct Read {
    target: Target,
    step: Reference,
    input: Reference,
    sums: [Sums; 2],
}

impl Read {
    fn new(reading: Reading, step: ArrayView3<'_, f32>, input: ArrayView3<'_, f32>) -> Self {
        let is_reference = reading.target == Target::Reference;
        let factor = if is_reference { 2.0 } else { 1.0 };
        let (_, height, width) = input.dim();
        let sums = || Sums::new(reading.mode, is_reference, (height, width));
        Self {
            target: reading.target,
            step: Reference::new(step, reading.similarity, factor),
            input: Reference::new(input, reading.similarity, factor),
            sums: [sums(), sums()],
        }
    }

    fn reliability(&self) -> f64 {
        correlation(&self.sums[0].map(&[0]).0, &self.sums[0].map(&[1]).0)
    }

    fn finish(&self, step: usize, t: usize, masks: usize) -> RiseMap {
        let (map, undefined) = self.sums[0].map(&[0, 1]);
        let (identity, _) = self.sums[1].map(&[0, 1]);
        let identity_correlation = correlation(&map, &identity);
        RiseMap { step, t, map, identity, masks, reliability: self.reliability(), identity_correlation, undefined }
    }
}

/// The map of step `at` of `trajectory`.
///
/// # Errors
/// [`DiffusionError::Setting`] where there are fewer than two masks, what the runtime says otherwise.
pub fn rise(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    at: usize,
    settings: &RiseSettings,
    progress: &dyn Progress,
) -> Result<RiseMap, DiffusionError> {
    let mut maps = rise_readings(pipeline, trajectory, at, settings, &[settings.reading], progress)?;
    Ok(maps.swap_remove(0))
}

/// The maps of several readings from the same masked passes; `settings.reading` is not looked at. Masks are drawn until
/// every reading is reliable.
pub fn rise_readings(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    at: usize,
    settings: &RiseSettings,
    readings: &[Reading],
    progress: &dyn Progress,
) -> Result<Vec<RiseMap>, DiffusionError> {
    if settings.count < 2 {
        let expected = "at least 2, since reliability compares two halves".to_owned();
        return Err(DiffusionError::Setting { name: "masks", found: settings.count.to_string(), expected });
    }
    let step = &trajectory.steps[at];
    let (_, _, height, width) = step.latent.dim();
    let latent = row(&step.latent, 0);
    let mut reads: Vec<Read> =
        readings.iter().map(|r| Read::new(*r, row(&result(pipeline, trajectory, step, r.target), 0), latent)).collect();
    let mut masks = Masks {
        random: stream(settings.seed, at as u64),
        kind: settings.masks,
        antithetic: settings.antithetic,
        size: (height, width),
        pending: None,
    };
    let mut used = 0;
    while used < settings.count {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let drawn: Vec<Array2<f32>> = (0..ROUND.min(settings.count - used)).map(|_| masks.draw()).collect();
        let masked = masked(&latent, &drawn);
        let epsilon = pipeline.epsilon(&masked, step.t, &trajectory.prompt, trajectory.guidance())?;
        for read in &mut reads {
            let results = masked_result(pipeline, step, &masked, &epsilon, read.target);
            add_scores(read, used, &drawn, &masked, &results, settings.antithetic);
        }
        used += drawn.len();
        progress.advance(drawn.len() as u64);
        let enough = |wanted: f64| reads.iter().all(|r| r.reliability() >= wanted);
        if used >= 2 * ROUND && settings.reliability.is_some_and(enough) {
            break;
        }
    }
    Ok(reads.iter().map(|r| r.finish(at, step.t, used)).collect())
}

/// DF-RISE at every step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RiseExplainer(pub RiseSettings);

/// What the map is called where faithfulness is measured, and the map without the network.
const NAME: &str = "DF-RISE";
const IDENTITY: &str = "identity control";

impl Explainer for RiseExplainer {
    fn id(&self) -> &'static str {
        "rise"
    }

    fn title(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "what a step depends on, by masking its latent at random"
    }

    fn maps(&self) -> &'static str {
        "DF-RISE maps"
    }

    fn needs(&self) -> &'static [Capability] {
        &[Capability::Passes]
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    /// A step that is in the store is read from there.
    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        let Self(settings) = self;
        let Subject { pipeline, trajectory, store, progress, .. } = subject;
        progress.start("DF-RISE, masked passes", (trajectory.steps.len() * settings.count) as u64);
        let mut maps = Vec::with_capacity(trajectory.steps.len());
        for at in 0..trajectory.steps.len() {
            let (size, t) = ((pipeline.latent[1], pipeline.latent[2]), trajectory.steps[at].t);
            let fits = |m: &RiseMap| (m.step, m.t, m.map.dim(), m.identity.dim()) == (at, t, size, size);
            let compute = || rise(pipeline, trajectory, at, settings, *progress);
            let map: RiseMap = store.load_or_compute(&format!("rise-{at:04}"), *progress, fits, compute)?;
            // Masks that reliability made unnecessary count as done.
            progress.advance((settings.count - map.masks.min(settings.count)) as u64);
            maps.push(map);
        }
        progress.finish();
        Ok(findings(settings, maps))
    }
}

fn findings(settings: &RiseSettings, maps: Vec<RiseMap>) -> Findings {
    let curve = Curve {
        title: "DF-RISE: can the map be trusted?".to_owned(),
        meaning:
            "Agreement of two halves of the masks (high is good), and with a map made without the network (near 1, the \
                  map says nothing about it)."
                .to_owned(),
        lines: vec![
            ("reliability".to_owned(), maps.iter().map(|r| r.reliability).collect()),
            (IDENTITY.to_owned(), maps.iter().map(|r| r.identity_correlation).collect()),
        ],
        range: Some((-1.0, 1.0)),
    };
    let masks = match settings.masks {
        MaskKind::Pixel => "per place".to_owned(),
        MaskKind::Grid { cells } => format!("{cells} × {cells} cells"),
    };
    let fact = format!("{}, masks {masks}, at most {}", settings.reading, settings.count);
    Findings {
        meaning: format!("What the step depends on ({})", settings.reading),
        caution: "DF-RISE masks the latent at random and asks what the step still agrees on. Reliability compares two halves \
                  of the masks. The identity figure compares the map with one made without the network: near 1, the map says \
                  nothing about the network."
            .to_owned(),
        tracks: vec![
            Track::shown("").array("rise").picture("rise").measured(NAME).compared(NAME, None),
            Track::hidden().array("rise_identity").gate(IDENTITY),
        ],
        steps: maps.into_iter().map(of_step).collect(),
        curves: vec![curve],
        facts: vec![(NAME.to_owned(), fact)],
        ..Findings::default()
    }
}

fn of_step(map: RiseMap) -> StepFindings {
    let (reliability, identity) = (map.reliability, map.identity_correlation);
    let figure = |id, title, amount| StepFigure { id, title, amount };
    let titles = ["agreement of two halves of the masks", "correlation with the map made without the network"];
    StepFindings {
        figures: vec![
            figure("reliability", "reliability", Amount::Number(reliability)),
            figure("identity_correlation", IDENTITY, Amount::Number(identity)),
            figure("masks", "masks", Amount::Count(map.masks as u64)),
        ],
        reading: format!("reliability {reliability:.2}, identity {identity:.2}, {} masks", map.masks),
        maps: vec![
            Some(
                SaliencyMap::new("rise", NAME, map.map, Grid::Latent)
                    .with_figure(Figure::new("reliability", titles[0], reliability))
                    .with_figure(Figure::new("identity_correlation", titles[1], identity)),
            ),
            Some(SaliencyMap::new("rise_identity", IDENTITY, map.identity, Grid::Latent).control()),
        ],
        status: String::new(),
    }
}

/// Adds a round of masks to a reading's sums, in the masks' order.
fn add_scores(
    read: &mut Read,
    used: usize,
    drawn: &[Array2<f32>],
    masked: &Array4<f32>,
    results: &Array4<f32>,
    antithetic: bool,
) {
    let (step, input) = (&read.step, &read.input);
    let scores: Vec<[Array2<f32>; 2]> = (0..drawn.len())
        .into_par_iter()
        .map(|n| [step.compare(row(results, n)), input.compare(row(masked, n))])
        .collect();
    for (n, [score, plain]) in scores.into_iter().enumerate() {
        // A mask and its opposite stay in one half.
        let half = if antithetic { (used + n) / 2 } else { used + n };
        read.sums[0].add(half, &drawn[n], score);
        read.sums[1].add(half, &drawn[n], plain);
    }
}

fn correlation(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let flat = |m: &Array2<f32>| m.iter().copied().collect::<Vec<f32>>();
    spearman(&flat(a), &flat(b))
}

fn row(batch: &Array4<f32>, n: usize) -> ArrayView3<'_, f32> {
    batch.index_axis(Axis(0), n)
}

fn masked(latent: &ArrayView3<'_, f32>, masks: &[Array2<f32>]) -> Array4<f32> {
    let (c, h, w) = latent.dim();
    Array4::from_shape_fn((masks.len(), c, h, w), |(n, c, y, x)| latent[[c, y, x]] * masks[n][[y, x]])
}

/// What the step gave, for the target.
fn result(pipeline: &Pipeline, trajectory: &Trajectory, step: &Step, target: Target) -> Array4<f32> {
    let epsilon = step.epsilon(trajectory.guidance());
    match target {
        Target::Eps => epsilon,
        Target::X0 => step.clean.clone(),
        Target::Prev | Target::Reference => pipeline.schedule.step(&step.clean.view(), &epsilon.view(), step.next),
    }
}

/// What the step would have given for masked latents.
fn masked_result(
    pipeline: &Pipeline,
    step: &Step,
    masked: &Array4<f32>,
    epsilon: &Array4<f32>,
    target: Target,
) -> Array4<f32> {
    if matches!(target, Target::Eps | Target::Reference) {
        return epsilon.clone();
    }
    let clean = pipeline.schedule.clean(&masked.view(), &epsilon.view(), step.t);
    match target {
        Target::X0 => clean,
        _ => pipeline.schedule.step(&clean.view(), &epsilon.view(), step.next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(kind: MaskKind, antithetic: bool) -> Masks {
        Masks { random: stream(3, 0), kind, antithetic, size: (8, 10), pending: None }
    }

    #[test]
    fn antithetic_masks_keep_every_place_once() {
        let mut masks = masks(MaskKind::Pixel, true);
        let (a, b) = (masks.draw(), masks.draw());
        assert!((&a + &b).iter().all(|v| *v == 1.0));
        assert_ne!(a, masks.draw());
    }

    #[test]
    fn grid_masks_are_smooth_and_between_0_and_1() {
        let mut masks = masks(MaskKind::Grid { cells: 3 }, false);
        let mask = masks.draw();
        assert!(mask.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(mask.iter().any(|v| *v > 0.0 && *v < 1.0));
    }

    /// A double loop over masks and places, straight from `docs/methods.md#b1`.
    #[test]
    fn the_sums_equal_a_double_loop() {
        let mut masks = masks(MaskKind::Pixel, false);
        let drawn: Vec<Array2<f32>> = (0..9).map(|_| masks.draw()).collect();
        let score = |n: usize| Array2::from_shape_vec((8, 10), crate::gaussian(n as u64, 80)).unwrap();
        for mode in [Mode::Local, Mode::Global, Mode::Contrast] {
            let mut sums = Sums::new(mode, false, (8, 10));
            drawn.iter().enumerate().for_each(|(n, m)| sums.add(n, m, score(n)));
            let (map, _) = sums.map(&[0, 1]);
            for (place, found) in map.indexed_iter() {
                let s = |n: usize| if mode == Mode::Global { score(n).mean().unwrap() } else { score(n)[place] };
                let mean = |kept: f32| {
                    let with: Vec<f32> = (0..9).filter(|&n| drawn[n][place] == kept).map(s).collect();
                    with.iter().sum::<f32>() / with.len() as f32
                };
                let expected = mean(1.0) - if mode == Mode::Contrast { mean(0.0) } else { 0.0 };
                assert!(expected.is_nan() || (found - expected).abs() < 1e-5, "{mode:?} {place:?}");
            }
        }
    }

    /// The published map straight from `docs/methods.md#b1`: a pass for each mask alone, ε under guidance and x̂0 written
    /// out, a double loop.
    #[test]
    fn a_map_equals_passes_one_by_one_and_a_double_loop() {
        let mut pipeline = crate::pipeline::of_the_zoo("emoji_diffusion");
        let prompt = pipeline.prompt("a cat on blue").unwrap();
        let way = crate::TrajectorySettings { guidance: 3.0, ..Default::default() };
        let trajectory =
            Trajectory::compute(&mut pipeline, &prompt, &way, None, &pellucid_runtime::progress::Silent).unwrap();
        let how = RiseSettings {
            reading: Reading::structure(Target::X0),
            masks: MaskKind::Pixel,
            count: 12,
            antithetic: false,
            reliability: None,
            ..RiseSettings::default()
        };
        let found = rise(&mut pipeline, &trajectory, 6, &how, &pellucid_runtime::progress::Silent).unwrap();

        let step = &trajectory.steps[6];
        let alpha = pipeline.schedule.alpha(Some(step.t));
        let (signal, noise) = (alpha.sqrt() as f32, (1.0 - alpha).sqrt() as f32);
        let mut masks =
            Masks { random: stream(how.seed, 6), kind: how.masks, antithetic: false, size: (16, 16), pending: None };
        let reference = Reference::new(row(&step.clean, 0), how.reading.similarity, 1.0);
        let scored: Vec<(Array2<f32>, Array2<f32>)> = (0..how.count)
            .map(|_| {
                let mask = masks.draw();
                let x = Array4::from_shape_fn(step.latent.dim(), |i| step.latent[i] * mask[[i.2, i.3]]);
                let (u, c) = pipeline.both_epsilons(&x, step.t, &prompt).unwrap();
                let u = u.unwrap();
                let clean = (&x - (&u + (&c - &u) * 3.0) * noise) / signal;
                (mask, reference.compare(row(&clean, 0)))
            })
            .collect();
        for (place, found) in found.map.indexed_iter() {
            let (mut sum, mut kept) = (0.0, 0.0);
            for (mask, score) in &scored {
                sum += f64::from(mask[place] * score[place]);
                kept += f64::from(mask[place]);
            }
            // Places that no mask kept have the mean.
            assert!(kept == 0.0 || (f64::from(*found) - sum / kept).abs() < 1e-5, "{place:?}: {found} {}", sum / kept);
        }
    }

    #[test]
    fn places_without_a_mask_take_the_mean_and_are_counted() {
        let map = ndarray::array![[1.0, f32::NAN], [3.0, 2.0]];
        assert_eq!(fill_undefined(map), (ndarray::array![[1.0, 2.0], [3.0, 2.0]], 1));
    }
}
