//! `pellucid diffusion sample|explain|… PIPELINE "prompt"`.

use crate::args::{self, Args, Global};
use crate::output;
use crate::progress::Bars;
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use pellucid::diffusion::{ExplainSettings, Explained, FaithfulnessSettings, Solver, StepFigures};
use pellucid::diffusion_methods::cam::Score;
use pellucid::diffusion_methods::rise::{MaskKind, Mode, Reading, RiseSettings, Target};
use pellucid::diffusion_methods::similarity::Similarity;
use pellucid::diffusion_methods::{PictureStart, Pipeline, PipelineOptions, Spacing, Timesteps, TrajectorySettings};
use pellucid::saliency::evaluate::{GameStanding, Standing};
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
    /// Explain prompts step by step: words, DF-RISE, DF-CAM, recovery; writes a report
    Explain(ExplainArgs),
    /// Only the words' maps
    Attention(ExplainArgs),
    /// Only DF-RISE
    Rise(ExplainArgs),
    /// Only DF-CAM
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
    /// What solves the reverse process: DDIM, or DPM-Solver++ (2M), which needs fewer steps
    #[arg(long, default_value = "ddim", help_heading = "Sampling")]
    pub solver: SolverName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SolverName {
    Ddim,
    #[value(name = "dpm++")]
    DpmSolver,
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
        Ok(TrajectorySettings { timesteps, guidance: self.guidance, seed: self.seed, start })
    }
}

pub fn run(args: &Args, diffusion: &DiffusionArgs) -> Result<ExitCode> {
    match &diffusion.command {
        DiffusionCommand::Sample(sample) => run_sample(args, sample),
        DiffusionCommand::Explain(a) => run_explain(args, a, |_| ()),
        DiffusionCommand::Attention(a) => run_explain(args, a, |s| (s.rise, s.cam) = (None, None)),
        DiffusionCommand::Rise(a) => run_explain(args, a, |s| (s.words, s.cam) = (false, None)),
        DiffusionCommand::Cam(a) => run_explain(args, a, |s| (s.words, s.rise) = (false, None)),
        DiffusionCommand::Auc(a) => run_explain(args, a, |s| s.faithfulness = s.faithfulness.or(Some(a.games(5)))),
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

    fn games(&self, steps: usize) -> FaithfulnessSettings {
        FaithfulnessSettings { steps, lime: self.lime }
    }

    /// Validated settings.
    fn settings(&self, prompts: usize) -> Result<ExplainSettings> {
        if let Some(name) = &self.name
            && (prompts != 1 || name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']))
        {
            bail!("--name '{name}' is not a plain folder name for one prompt");
        }
        Ok(ExplainSettings {
            trajectory: self.way.settings()?,
            rise: Some(self.rise.settings(self.way.seed)?),
            cam: Some(match self.cam_score {
                CamScore::Cond => Score::Cond,
                CamScore::Sum => Score::Sum,
            }),
            words: true,
            faithfulness: self.measured_steps().map(|steps| self.games(steps)),
            runs: self.runs.clone(),
            name: self.name.clone(),
            force: self.force,
            command: args::own_command_line(),
        })
    }
}

fn run_explain(args: &Args, explain: &ExplainArgs, choose: impl Fn(&mut ExplainSettings)) -> Result<ExitCode> {
    let texts = explain.what.texts()?;
    let mut settings = explain.settings(texts.len())?;
    choose(&mut settings);
    let mut pipeline = explain.what.open(&args.global)?;
    let bars = Bars::new(args.global.quiet);
    let mut done = Vec::new();
    for text in &texts {
        let explained = pellucid::diffusion::explain(&mut pipeline, text, &settings, &bars)?;
        output::warnings(&explained.explanation.warnings);
        if !args.global.json {
            output::lines(&describe(&explained))?;
        }
        done.push(explained);
    }
    let study = pellucid::diffusion::study(&pipeline, &done, &settings.runs, settings.force)?;
    if args.global.json {
        output::json(&serde_json::json!({ "explained": done, "study": study }))?;
    } else if let Some(study) = study {
        let mut lines = vec![format!("over {} prompts", study.prompts.len())];
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

fn describe(explained: &Explained) -> Vec<String> {
    let e = &explained.explanation;
    let mut lines = vec![format!("prompt       {}", e.prompt)];
    lines.extend(e.notes.iter().map(|n| format!("note         {n}")));
    let mean = |of: fn(&StepFigures) -> Option<f64>| {
        let values: Vec<f64> = e.steps.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    if let (Some(reliability), Some(identity)) = (mean(|s| s.reliability), mean(|s| s.identity_correlation)) {
        lines.push(format!(
            "DF-RISE      reliability {reliability:.2}, identity control {identity:.2} (means over steps)"
        ));
    }
    if let Some(steps) = e.standings.iter().map(|s| s.units).max() {
        lines.push(format!("faithfulness over {steps} steps"));
        lines.extend(e.standings.iter().map(standing));
    }
    let seconds: f64 = explained.timings.iter().map(|t| t.1).sum();
    lines.push(format!("time         {seconds:.0} s"));
    lines.push(format!("report       {}", explained.report.display()));
    lines
}

fn run_sample(args: &Args, sample: &SampleArgs) -> Result<ExitCode> {
    let texts = sample.what.texts()?;
    let mut pipeline = sample.what.open(&args.global)?;
    let bars = Bars::new(args.global.quiet);
    let settings = sample.way.settings()?;
    let solver = match sample.solver {
        SolverName::Ddim => Solver::Ddim,
        SolverName::DpmSolver if settings.start.is_some() => bail!("--picture goes with --solver ddim"),
        SolverName::DpmSolver => Solver::DpmSolver,
    };
    let mut done = Vec::new();
    for text in &texts {
        done.push(pellucid::diffusion::sample(&mut pipeline, text, &settings, solver, &sample.out, &bars)?);
    }
    done.iter().for_each(|d| output::warnings(&d.warnings));
    if args.global.json {
        output::json(&done)?;
    } else {
        output::lines(&done.iter().map(|d| format!("{:40}  {}", d.prompt, d.picture.display())).collect::<Vec<_>>())?;
    }
    Ok(ExitCode::SUCCESS)
}
