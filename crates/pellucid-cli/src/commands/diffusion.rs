//! `pellucid diffusion sample|explain|… PIPELINE "prompt"`.

use crate::args::{self, Global};
use crate::output;
use crate::progress::Bars;
use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use pellucid::diffusion::{
    Amount, ExplainRun, ExplainSettings, ExplainerRow, FaithfulnessSettings, Pipeline, PipelineOptions, RunPlace,
    Timesteps, TrajectorySettings, WrittenExplanation,
};
use pellucid::diffusion_methods::explain::cam::Score;
use pellucid::diffusion_methods::explain::rise::{MaskKind, Mode, Reading, RiseSettings, Target};
use pellucid::diffusion_methods::similarity::Similarity;
use pellucid::diffusion_methods::{PictureStart, Spacing};
use pellucid::saliency::evaluate::{GameStanding, Standing};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `pellucid diffusion`.
#[derive(Debug, ClapArgs)]
pub struct DiffusionArgs {
    #[command(subcommand)]
    pub command: DiffusionCommand,
}

#[derive(Debug, Subcommand)]
pub enum DiffusionCommand {
    /// Sample prompts and write the pictures
    Sample(SampleArgs),
    /// Explain prompts step by step; writes a report
    Explain(ExplainArgs),
    /// As explain --explainers attention
    #[command(hide = true)]
    Attention(ExplainArgs),
    /// As explain --explainers rise
    #[command(hide = true)]
    Rise(ExplainArgs),
    /// As explain --explainers cam
    #[command(hide = true)]
    Cam(ExplainArgs),
    /// Whether the maps are faithful: deletion and insertion, against controls
    Auc(ExplainArgs),
}

#[cfg(unix)]
impl DiffusionCommand {
    /// The command's words, and the pipeline that it works on.
    pub fn what_runs(&self) -> (&'static str, &std::path::Path) {
        match self {
            Self::Sample(a) => ("diffusion sample", &a.what.pipeline),
            Self::Explain(a) => ("diffusion explain", &a.what.pipeline),
            Self::Attention(a) => ("diffusion attention", &a.what.pipeline),
            Self::Rise(a) => ("diffusion rise", &a.what.pipeline),
            Self::Cam(a) => ("diffusion cam", &a.what.pipeline),
            Self::Auc(a) => ("diffusion auc", &a.what.pipeline),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub what: PromptArgs,
    #[command(flatten)]
    pub way: TrajectoryArgs,
    /// Which explainers run, separated by commas; all of them by default, and always those that the trajectory is enough for
    #[arg(long, value_delimiter = ',', value_parser = explainer_names(&pellucid::diffusion::explainers()), value_name = "NAME,…")]
    pub explainers: Vec<String>,
    #[command(flatten)]
    pub rise: RiseArgs,
    /// What DF-CAM differentiates
    #[arg(long, default_value = "cond", help_heading = "DF-CAM")]
    pub cam_score: CamScore,
    /// Play deletion and insertion at this many steps (auc: 5)
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "5", help_heading = "Faithfulness")]
    pub faithfulness: Option<usize>,
    /// Fit LIME at those steps and play it too: 1000 passes a step more
    #[arg(long, help_heading = "Faithfulness")]
    pub lime: bool,
    /// Where run directories are made
    #[arg(long, default_value = "runs", value_name = "FOLDER", help_heading = "Run")]
    pub runs: PathBuf,
    /// Name of the run (one prompt only); made from pipeline, prompt and seed by default
    #[arg(long, help_heading = "Run")]
    pub name: Option<String>,
    /// Replace a run of that name with other inputs
    #[arg(long, help_heading = "Run")]
    pub force: bool,
}

/// How DF-RISE runs.
#[derive(Debug, ClapArgs)]
pub struct RiseArgs {
    /// Most masks per step
    #[arg(long, default_value_t = 500, help_heading = "DF-RISE")]
    pub masks: usize,
    /// What is compared: influence, x0, eps, prev, or reference as published
    #[arg(long, default_value = "contrast", help_heading = "DF-RISE")]
    pub rise: RiseName,
    /// Cells per side of a mask; 0 masks single places
    #[arg(long, help_heading = "DF-RISE")]
    pub cells: Option<usize>,
    /// Stop drawing masks at this split-half reliability; 1 never stops early
    #[arg(long, default_value_t = 0.9, help_heading = "DF-RISE")]
    pub reliability: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RiseName {
    /// x̂0, local structure, kept against masked (default)
    Contrast,
    /// How much the rest of x̂0 changes
    Influence,
    /// x̂0, local structure
    X0,
    /// ε̂, local structure
    Eps,
    /// The next latent, local structure
    Prev,
    /// As the published code
    Reference,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CamScore {
    /// What the prompt changes (default)
    Cond,
    /// The sum of the output, as published
    Sum,
}

#[derive(Debug, ClapArgs)]
pub struct SampleArgs {
    #[command(flatten)]
    pub what: PromptArgs,
    #[command(flatten)]
    pub way: TrajectoryArgs,
    /// Where to write the pictures
    #[arg(long, default_value = "runs/diffusion", value_name = "FOLDER")]
    pub out: PathBuf,
    /// What solves the reverse process
    #[arg(long, alias = "solver", default_value = "ddim", value_parser = sampler_names(), help_heading = "Sampling")]
    pub sampler: String,
}

/// The explainers of `rows`, as they are chosen and listed.
fn explainer_names(rows: &[ExplainerRow]) -> PossibleValuesParser {
    let made = rows.iter().filter_map(|row| row.explainer(None).ok());
    PossibleValuesParser::new(made.map(|e| PossibleValue::new(e.id()).help(e.summary())).collect::<Vec<_>>())
}

fn sampler_names() -> PossibleValuesParser {
    let samplers = pellucid::diffusion::samplers().iter();
    PossibleValuesParser::new(samplers.map(|s| PossibleValue::new(s.id()).help(s.summary())).collect::<Vec<_>>())
}

/// Which pipeline, which prompts.
#[derive(Debug, ClapArgs)]
pub struct PromptArgs {
    /// The pipeline's folder (diffusers layout, exported to ONNX), or the TOML file of a denoiser alone
    pub pipeline: PathBuf,
    /// The prompt (may be given again); for a class-conditional model the class's number
    #[arg(required_unless_present = "prompts")]
    pub prompt: Vec<String>,
    /// A file with one prompt a line
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
}

/// How the picture is sampled.
#[derive(Debug, ClapArgs)]
pub struct TrajectoryArgs {
    /// Number of steps
    #[arg(long, default_value_t = 20, help_heading = "Sampling")]
    pub steps: usize,
    /// Guidance w: ε_u + w(ε_c − ε_u); 1 is the prompt alone, 0 no prompt
    #[arg(long, default_value_t = 7.5, help_heading = "Sampling")]
    pub guidance: f32,
    /// Seed of the noise
    #[arg(long, default_value_t = 0, help_heading = "Sampling")]
    pub seed: u64,
    /// Several seeds, separated by commas: every prompt with each of them
    #[arg(long, value_delimiter = ',', value_name = "SEED,…", conflicts_with = "seed", help_heading = "Sampling")]
    pub seeds: Vec<u64>,
    /// What guidance leads away from, in the place of the empty prompt
    #[arg(long, value_name = "PROMPT", help_heading = "Sampling")]
    pub negative: Option<String>,
    /// Which timesteps: uniform is the scheduler's own
    #[arg(long, default_value = "uniform", help_heading = "Sampling")]
    pub schedule: ScheduleName,
    /// Spacing of uniform timesteps; the scheduler's by default
    #[arg(long, help_heading = "Sampling")]
    pub spacing: Option<SpacingName>,
    /// γ of the early and latter schedules
    #[arg(long, default_value_t = 60.0, help_heading = "Sampling")]
    pub gamma: f64,
    /// Where the window schedule begins
    #[arg(long, default_value_t = 0, value_name = "T", help_heading = "Sampling")]
    pub window: usize,
    /// Exactly these timesteps, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "T,T,…", help_heading = "Sampling")]
    pub timesteps: Vec<usize>,
    /// Start from this picture instead of noise: brought back to noise by DDIM inversion (best with --guidance 1)
    #[arg(long, value_name = "FILE", help_heading = "Sampling")]
    pub picture: Option<PathBuf>,
    /// With --picture: mix it with noise instead, and run this share of the timesteps (1 leaves nothing of the picture)
    #[arg(long, value_name = "SHARE", requires = "picture", help_heading = "Sampling")]
    pub strength: Option<f64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ScheduleName {
    Uniform,
    Early,
    Latter,
    Window,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SpacingName {
    Leading,
    Trailing,
    Linspace,
}

impl PromptArgs {
    fn texts(&self) -> Result<Vec<String>> {
        let mut texts = self.prompt.clone();
        if let Some(file) = &self.prompts {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            texts.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned));
        }
        if texts.is_empty() {
            bail!("there is no prompt; give one, or a file of them with --prompts");
        }
        Ok(texts)
    }

    fn open(&self, global: &Global) -> Result<Pipeline> {
        let options =
            PipelineOptions { library: global.onnxruntime.clone(), session: global.session(), budget: global.budget() };
        Ok(Pipeline::open(&self.pipeline, &options)?)
    }
}

impl TrajectoryArgs {
    fn settings(&self) -> Result<TrajectorySettings> {
        let (steps, gamma) = (self.steps, self.gamma);
        let timesteps = match self.schedule {
            _ if !self.timesteps.is_empty() => Timesteps::List { timesteps: self.timesteps.clone() },
            ScheduleName::Uniform => Timesteps::Uniform {
                steps,
                spacing: self.spacing.map(|s| match s {
                    SpacingName::Leading => Spacing::Leading,
                    SpacingName::Trailing => Spacing::Trailing,
                    SpacingName::Linspace => Spacing::Linspace,
                }),
            },
            ScheduleName::Early => Timesteps::Early { steps, gamma },
            ScheduleName::Latter => Timesteps::Latter { steps, gamma },
            ScheduleName::Window => Timesteps::Window { start: self.window },
        };
        let start = self.picture.as_ref().map(|picture| PictureStart::new(picture, self.strength)).transpose()?;
        let (guidance, negative) = (self.guidance, self.negative.clone());
        Ok(TrajectorySettings { timesteps, guidance, seed: self.seed, start, negative })
    }

    /// Every seed that was asked for, once.
    fn seeds(&self) -> Vec<u64> {
        let mut seen = std::collections::BTreeSet::new();
        match self.seeds.as_slice() {
            [] => vec![self.seed],
            several => several.iter().copied().filter(|seed| seen.insert(*seed)).collect(),
        }
    }
}

pub fn run(global: &Global, diffusion: &DiffusionArgs) -> Result<ExitCode> {
    match &diffusion.command {
        DiffusionCommand::Sample(sample) => run_sample(global, sample),
        DiffusionCommand::Explain(a) => run_explain(global, a, a.chosen(), None),
        DiffusionCommand::Attention(a) => run_explain(global, a, vec!["attention"], None),
        DiffusionCommand::Rise(a) => run_explain(global, a, vec!["rise"], None),
        DiffusionCommand::Cam(a) => run_explain(global, a, vec!["cam"], None),
        DiffusionCommand::Auc(a) => run_explain(global, a, a.chosen(), Some(5)),
    }
}

impl RiseArgs {
    /// Validated settings.
    fn settings(&self, seed: u64) -> Result<RiseSettings> {
        if !(0.0..=1.0).contains(&self.reliability) {
            bail!("--reliability is {}; expected a number from 0 to 1", self.reliability);
        }
        let contrast = Reading { target: Target::X0, similarity: Similarity::Structure, mode: Mode::Contrast };
        let (reading, cells) = match self.rise {
            RiseName::Contrast => (contrast, 5),
            RiseName::Influence => (Reading::influence(), 5),
            RiseName::X0 => (Reading::structure(Target::X0), 0),
            RiseName::Eps => (Reading::structure(Target::Eps), 0),
            RiseName::Prev => (Reading::structure(Target::Prev), 0),
            RiseName::Reference => (Reading::structure(Target::Reference), 0),
        };
        let masks = match self.cells.unwrap_or(cells) {
            0 => MaskKind::Pixel,
            cells => MaskKind::Grid { cells },
        };
        Ok(RiseSettings {
            reading,
            masks,
            count: self.masks,
            antithetic: self.rise != RiseName::Reference,
            seed,
            reliability: (self.reliability < 1.0).then_some(self.reliability),
        })
    }
}

impl ExplainArgs {
    /// Steps at which the games are played; LIME is a control of theirs, so asking for it asks for them.
    fn measured_steps(&self) -> Option<usize> {
        self.faithfulness.or(self.lime.then_some(5)).filter(|steps| *steps > 0)
    }

    /// The explainers named; all of them where none is.
    fn chosen(&self) -> Vec<&str> {
        let all = pellucid::diffusion::explainers();
        let all = all.iter().filter_map(|row| row.explainer(None).ok()).map(|e| e.id());
        match self.explainers.as_slice() {
            [] => all.collect(),
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// Where results go.
    fn place(&self, prompts: usize) -> Result<RunPlace> {
        if let Some(name) = &self.name
            && (prompts != 1 || name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']))
        {
            bail!("--name '{name}' is not a plain folder name for one prompt and one seed");
        }
        Ok(RunPlace::in_folder(&self.runs).with_name(self.name.clone()).with_force(self.force))
    }

    /// Validated settings of the explainers called `names`; `measured` steps have the games played where no flag says how many.
    fn settings(&self, names: &[&str], measured: Option<usize>, seed: u64) -> Result<ExplainSettings> {
        let score = match self.cam_score {
            CamScore::Cond => Score::Cond,
            CamScore::Sum => Score::Sum,
        };
        let own = BTreeMap::from([
            ("rise".to_owned(), serde_json::to_value(self.rise.settings(seed)?)?),
            ("cam".to_owned(), serde_json::to_value(score)?),
        ]);
        let games = self.measured_steps().or(measured).map(|s| FaithfulnessSettings::at(s).with_lime(self.lime));
        let settings = ExplainSettings::default()
            .with_trajectory(TrajectorySettings { seed, ..self.way.settings()? })
            .with_faithfulness(games);
        Ok(settings.with_explainers(names, &own)?)
    }
}

fn run_explain(global: &Global, explain: &ExplainArgs, names: Vec<&str>, measured: Option<usize>) -> Result<ExitCode> {
    let texts = explain.what.texts()?;
    let seeds = explain.way.seeds();
    let place = explain.place(texts.len() * seeds.len())?;
    let settings = seeds.iter().map(|&seed| Ok(explain.settings(&names, measured, seed)?.with_cache(place.cache())));
    let settings = settings.collect::<Result<Vec<_>>>()?;
    let mut pipeline = explain.what.open(global)?;
    let bars = Bars::new(global);
    let mut done = Vec::new();
    for (text, settings) in texts.iter().flat_map(|text| settings.iter().map(move |settings| (text, settings))) {
        let run = ExplainRun::open(&pipeline, text, settings, &place)?;
        let explained = pellucid::diffusion::explain(&mut pipeline, text, settings, &bars)?;
        let written = run.write(&mut pipeline, &explained, &args::own_command_line())?;
        output::warnings(&written.explanation.warnings);
        if !global.json {
            output::lines(&describe(&written))?;
        }
        done.push(written);
    }
    let study = pellucid::diffusion::study(&pipeline, &done, &place.runs, place.force)?;
    if global.json {
        output::json(&serde_json::json!({ "explained": done, "study": study }))?;
    } else if let Some(study) = study {
        let mut lines = vec![format!("over {}", study.over)];
        lines.extend(study.standings.iter().map(standing));
        lines.push(format!("report       {}", study.report.display()));
        output::lines(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A map's areas with their intervals, and whether it beats its controls.
fn standing(s: &Standing) -> String {
    let areas = s.games.map(|g| {
        let GameStanding { game, better, area } = g;
        format!("distance at {game} {:.3} ({:.3} to {:.3}; {better})", area.value, area.low, area.high)
    });
    let verdict = match s.passes() {
        Some(true) => format!("  beats {}", s.controls().join(" and ")),
        Some(false) => "  does not beat them for certain".to_owned(),
        None => String::new(),
    };
    format!("  {:26} {}{verdict}", s.map, areas.join("  "))
}

fn describe(written: &WrittenExplanation) -> Vec<String> {
    let e = &written.explanation;
    let mut lines = vec![format!("prompt       {}", e.prompt)];
    lines.extend(e.notes.iter().map(|n| format!("note         {n}")));
    let mean = |figure: &str| {
        let number = |amount: &Amount| if let Amount::Number(v) = amount { Some(*v) } else { None };
        let values: Vec<f64> = e.steps.iter().filter_map(|s| s.figures.get(figure).and_then(number)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    for explainer in &e.explainers {
        let figures = explainer.figures.iter().filter_map(|(id, title)| Some(format!("{title} {:.2}", mean(id)?)));
        let figures = figures.collect::<Vec<_>>().join(", ");
        if !figures.is_empty() {
            lines.push(format!("{:12} {figures} (means over steps)", explainer.title));
        }
        lines.extend(explainer.conclusions.iter().map(|said| format!("{:12} {said}", explainer.title)));
    }
    if let Some(steps) = e.standings.iter().map(|s| s.units).max() {
        lines.push(format!("faithfulness over {steps} steps"));
        lines.extend(e.standings.iter().map(standing));
    }
    let seconds: f64 = written.timings.iter().map(|t| t.1).sum();
    lines.push(format!("time         {seconds:.0} s"));
    lines.push(format!("report       {}", written.report.display()));
    lines
}

fn run_sample(global: &Global, sample: &SampleArgs) -> Result<ExitCode> {
    let texts = sample.what.texts()?;
    let mut pipeline = sample.what.open(global)?;
    let bars = Bars::new(global);
    let settings = sample.way.settings()?;
    let sampler = pellucid::diffusion::sampler(&sample.sampler)?;
    if settings.start.is_some() && !sampler.can_start_from_picture() {
        bail!("--picture does not go with --sampler {}", sampler.id());
    }
    let mut done = Vec::new();
    let seeds = sample.way.seeds();
    for (text, seed) in texts.iter().flat_map(|text| seeds.iter().map(move |seed| (text, *seed))) {
        let settings = TrajectorySettings { seed, ..settings.clone() };
        done.push(pellucid::diffusion::sample(&mut pipeline, text, &settings, sampler, &sample.out, &bars)?);
    }
    done.iter().for_each(|d| output::warnings(&d.warnings));
    if global.json {
        output::json(&done)?;
    } else {
        output::lines(&done.iter().map(|d| format!("{:40}  {}", d.prompt, d.picture.display())).collect::<Vec<_>>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The explainer that only tests compile.
#[cfg(test)]
#[path = "../../../pellucid/tests/plugged_in/brightness.rs"]
mod brightness;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::builder::TypedValueParser;

    #[test]
    fn the_list_of_explainers_says_of_each_what_it_shows() {
        let mut rows = pellucid::diffusion::explainers();
        rows.push(ExplainerRow::of::<brightness::Brightness>());
        let names = explainer_names(&rows);
        let listed: Vec<PossibleValue> = names.possible_values().unwrap().collect();
        assert_eq!(listed.len(), rows.len());
        assert_eq!(listed.last().map(PossibleValue::get_name), Some("brightness"), "one row is enough");
        assert!(listed.iter().all(|name| name.get_help().is_some_and(|help| !help.to_string().is_empty())));
    }
}
