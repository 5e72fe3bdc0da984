//! The main job on a prompt: trajectory once, then words, DF-RISE, DF-CAM and recovery at every step, as files and a report.

use super::faithful::{FaithfulnessSettings, MapFaithfulness, games, over_steps};
use super::kept::{Place, kept};
use super::{file_name, files, page};
use crate::run::{self, Manifest, RunDirectory};
use crate::{Error, VERSION};
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::Pipeline;
use pellucid_diffusion::cam::{Cam, CamMaps, Score};
use pellucid_diffusion::recovery::{Recovery, Stage, recovery};
use pellucid_diffusion::rise::{RiseMap, RiseSettings, rise};
use pellucid_diffusion::trajectory::{Trajectory, TrajectorySettings};
use pellucid_diffusion::words::{LayerInfo, WordMaps, word_maps};
use pellucid_runtime::progress::Progress;
use pellucid_saliency::evaluate::Standing;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is explained, and where results go.
#[derive(Debug, Clone)]
pub struct ExplainSettings {
    /// The trajectory.
    pub trajectory: TrajectorySettings,
    /// DF-RISE, unless it is left out.
    pub rise: Option<RiseSettings>,
    /// DF-CAM's score, unless it is left out.
    pub cam: Option<Score>,
    /// Whether words are explained.
    pub words: bool,
    /// Deletion and insertion, unless they are left out.
    pub faithfulness: Option<FaithfulnessSettings>,
    /// Where run directories are made.
    pub runs: PathBuf,
    /// Name of the run; made from pipeline, prompt and seed where `None`.
    pub name: Option<String>,
    /// Whether a run of that name with other inputs is replaced.
    pub force: bool,
    /// The command line, for `run.json`; absolute paths in it are shortened.
    pub command: String,
}

impl Default for ExplainSettings {
    fn default() -> Self {
        Self {
            trajectory: TrajectorySettings::default(),
            rise: Some(RiseSettings::default()),
            cam: Some(Score::Cond),
            words: true,
            faithfulness: None,
            runs: PathBuf::from("runs"),
            name: None,
            force: false,
            command: "pellucid diffusion explain".to_owned(),
        }
    }
}

/// Figures of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Timestep.
    pub t: usize,
    /// By signal-to-noise ratio.
    pub stage: Stage,
    /// Mean recovery, 0…1.
    pub level: f64,
    /// DF-RISE: split-half Spearman correlation.
    pub reliability: Option<f64>,
    /// DF-RISE: Spearman correlation with the map made without the network.
    pub identity_correlation: Option<f64>,
    /// DF-RISE: masks used.
    pub masks: Option<usize>,
}

/// What `explanation.json` holds; the maps themselves are in `maps.npz`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The pipeline's name.
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// How it was sampled.
    pub trajectory: TrajectorySettings,
    /// Whether guidance took part: only a model with an unconditional half has it.
    pub is_guided: bool,
    /// How DF-RISE ran.
    pub rise: Option<RiseSettings>,
    /// What DF-CAM differentiated.
    pub cam: Option<Score>,
    /// Steps, from noise to picture.
    pub steps: Vec<StepFigures>,
    /// Words of the prompt.
    pub words: Vec<String>,
    /// Attention layers, in order of computation.
    pub layers: Vec<LayerInfo>,
    /// DF-CAM's blocks, in order of computation.
    pub blocks: Vec<String>,
    /// Deletion and insertion, where asked for.
    pub faithfulness: Vec<MapFaithfulness>,
    /// What they say of each map, over the steps where they were played.
    pub standings: Vec<Standing>,
    /// What is left out and why.
    pub notes: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What an explained prompt gives.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The run directory.
    pub directory: PathBuf,
    /// The report.
    pub report: PathBuf,
    /// The figures.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Seconds each stage took, the writing of files included.
    pub timings: Vec<(String, f64)>,
    /// What `run.json` holds.
    #[serde(skip)]
    pub record: RunRecord,
}

/// Everything that was computed, for files and page.
pub(super) struct Computed {
    pub trajectory: Trajectory,
    pub recovery: Recovery,
    pub words: Option<WordMaps>,
    pub cam: Vec<CamMaps>,
    pub rise: Vec<RiseMap>,
}

/// Explains `prompt` step by step and writes `explanation.json`, `maps.npz`, pictures, `report.html` and `manifest.json`
/// into a run directory. What an interrupted run finished is used again.
pub fn explain(
    pipeline: &mut Pipeline,
    prompt: &str,
    settings: &ExplainSettings,
    progress: &dyn Progress,
) -> Result<Explained, Error> {
    let prompt = pipeline.prompt(prompt)?;
    let all = serde_json::json!({
        "prompt": prompt.text, "model": pipeline.hash, "trajectory": settings.trajectory, "rise": settings.rise,
        "cam": settings.cam, "words": settings.words, "faithfulness": settings.faithfulness, "version": VERSION,
    });
    let mut manifest = manifest(pipeline, "diffusion explain", &prompt.text, &all, settings.trajectory.seed);
    let name = settings
        .name
        .clone()
        .unwrap_or_else(|| format!("{}-{}-seed{}", pipeline.name(), file_name(&prompt.text), settings.trajectory.seed));
    let directory = RunDirectory::open(&settings.runs, &name, &manifest, settings.force)?;
    let mut clock = Clock::default();
    let mut notes = Vec::new();
    let cache = settings.runs.join(".cache/diffusion");
    let trajectory = clock
        .time("trajectory", || Trajectory::compute(pipeline, &prompt, &settings.trajectory, Some(&cache), progress))?;
    let recovery = recovery(&pipeline.schedule, &trajectory);
    let mut words = None;
    if settings.words {
        match clock.time("attention", || word_maps(pipeline, &trajectory, progress))? {
            Ok(maps) => words = Some(maps),
            Err(none) => notes.push(format!("No word maps: {}.", none.reason)),
        }
    }
    let (blocks, cam) = match &settings.cam {
        Some(score) => clock.time("DF-CAM", || cam_maps(pipeline, &trajectory, score, progress))?,
        None => (Vec::new(), Vec::new()),
    };
    let finished = cache.join(&manifest.settings_hash[..24]);
    std::fs::create_dir_all(&finished).map_err(|source| Error::Write { path: finished.clone(), source })?;
    let rise = match &settings.rise {
        Some(rise) => clock.time("DF-RISE", || rise_maps(pipeline, &trajectory, rise, &finished, progress))?,
        None => Vec::new(),
    };
    let computed = Computed { trajectory, recovery, words, cam, rise };
    let faithfulness = match settings.faithfulness {
        Some(wanted) => clock.time("faithfulness", || games(pipeline, &computed, wanted, &finished, progress))?,
        None => Vec::new(),
    };
    let explanation = gather(pipeline, settings, &computed, blocks, faithfulness, notes);
    let record = run::record(&settings.command, pipeline.options.session.thread_count(), clock.timings.clone());
    let files = clock.time("files", || write(pipeline, &directory, &computed, &explanation, &record))?;
    manifest.warnings = explanation.warnings.clone();
    directory.finish(&manifest, &files, &record)?;
    let report = directory.file("report.html");
    Ok(Explained { directory: directory.path().to_path_buf(), report, explanation, timings: clock.timings, record })
}

/// Seconds each stage takes.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) timings: Vec<(String, f64)>,
}

impl Clock {
    pub(super) fn time<T>(&mut self, stage: &str, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = act();
        self.timings.push((stage.to_owned(), start.elapsed().as_secs_f64()));
        result
    }
}

/// The manifest of a job on a pipeline, before it ran; `settings` are everything that changes the result.
pub(super) fn manifest(
    pipeline: &Pipeline,
    job: &str,
    data: &str,
    settings: &serde_json::Value,
    seed: u64,
) -> Manifest {
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    Manifest {
        pellucid: VERSION.to_owned(),
        onnxruntime: pipeline.runtime.version(),
        job: job.to_owned(),
        model_hash: pipeline.hash.clone(),
        data_hash: hash(data),
        settings_hash: hash(&settings.to_string()),
        seed,
        device: pipeline.options.session.device.to_string(),
        warnings: Vec::new(),
        files: Default::default(),
    }
}

fn cam_maps(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    score: &Score,
    progress: &dyn Progress,
) -> Result<(Vec<String>, Vec<CamMaps>), Error> {
    let mut cam = Cam::new(pipeline)?;
    progress.start("DF-CAM", trajectory.steps.len() as u64);
    let mut maps = Vec::with_capacity(trajectory.steps.len());
    for at in 0..trajectory.steps.len() {
        if progress.interrupted() {
            return Err(pellucid_diffusion::DiffusionError::Interrupted.into());
        }
        maps.push(cam.maps(trajectory, at, score)?);
        progress.advance(1);
    }
    progress.finish();
    Ok((cam.blocks.iter().map(pellucid_graph::blocks::Block::name).collect(), maps))
}

/// DF-RISE at every step; a step that is in `cache` is read from there.
fn rise_maps(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    settings: &RiseSettings,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<Vec<RiseMap>, Error> {
    progress.start("DF-RISE, masked passes", (trajectory.steps.len() * settings.count) as u64);
    let mut maps = Vec::with_capacity(trajectory.steps.len());
    for at in 0..trajectory.steps.len() {
        let place = Place { folder: cache, stem: format!("rise-{at:04}"), most: pipeline.options.budget.file_memory };
        let (size, t) = ((pipeline.latent[1], pipeline.latent[2]), trajectory.steps[at].t);
        let fits = |m: &RiseMap| (m.step, m.t, m.map.dim(), m.identity.dim()) == (at, t, size, size);
        let map: RiseMap = kept(&place, progress, fits, || Ok(rise(pipeline, trajectory, at, settings, progress)?))?;
        // Masks that reliability made unnecessary count as done.
        progress.advance((settings.count - map.masks.min(settings.count)) as u64);
        maps.push(map);
    }
    progress.finish();
    Ok(maps)
}

fn gather(
    pipeline: &Pipeline,
    settings: &ExplainSettings,
    all: &Computed,
    blocks: Vec<String>,
    faithfulness: Vec<MapFaithfulness>,
    notes: Vec<String>,
) -> Explanation {
    let figures = |(at, step): (usize, &pellucid_diffusion::Step)| StepFigures {
        t: step.t,
        stage: all.recovery.stages[at],
        level: all.recovery.levels[at],
        reliability: all.rise.get(at).map(|r| r.reliability),
        identity_correlation: all.rise.get(at).map(|r| r.identity_correlation),
        masks: all.rise.get(at).map(|r| r.masks),
    };
    let words = all.words.as_ref();
    Explanation {
        model: pipeline.name(),
        prompt: all.trajectory.prompt.text.clone(),
        trajectory: settings.trajectory.clone(),
        is_guided: all.trajectory.prompt.unconditional.is_some(),
        rise: settings.rise.clone(),
        cam: settings.cam.clone(),
        steps: all.trajectory.steps.iter().enumerate().map(figures).collect(),
        words: words.map(|w| w.words.clone()).unwrap_or_default(),
        layers: words.map(|w| w.layers.clone()).unwrap_or_default(),
        blocks,
        standings: over_steps(&faithfulness),
        faithfulness,
        notes,
        warnings: all.trajectory.warnings.clone(),
    }
}

/// Writes every file but `run.json` and the manifest; gives their names.
fn write(
    pipeline: &mut Pipeline,
    directory: &RunDirectory,
    all: &Computed,
    explanation: &Explanation,
    record: &RunRecord,
) -> Result<Vec<String>, Error> {
    directory.write_json("explanation.json", explanation)?;
    crate::write_arrays(directory.file("maps.npz"), &files::arrays(all))?;
    let mut written = files::pictures(directory, all)?;
    let page = page::page(pipeline, all, explanation, record)?;
    directory.write("report.html", &pellucid_report::render_diffusion(&page)?)?;
    written.extend(["explanation.json", "maps.npz", "report.html"].map(str::to_owned));
    Ok(written)
}
