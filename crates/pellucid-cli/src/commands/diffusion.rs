//! `pellucid diffusion sample|explain|… PIPELINE "prompt"`.

use crate::args::{Args, Global};
use crate::output;
use crate::progress::Bars;
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use pellucid::diffusion_methods::{Pipeline, PipelineOptions, Spacing, Timesteps, TrajectorySettings};
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
}

/// Which pipeline, which prompts.
#[derive(Debug, ClapArgs)]
pub struct PromptArgs {
    /// The pipeline's folder (diffusers layout, exported to ONNX)
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
            PipelineOptions { library: global.onnxruntime.clone(), session: global.session(), memory: global.memory };
        Ok(Pipeline::open(&self.pipeline, &options)?)
    }
}

impl TrajectoryArgs {
    fn settings(&self) -> TrajectorySettings {
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
        TrajectorySettings { timesteps, guidance: self.guidance, seed: self.seed }
    }
}

pub fn run(args: &Args, diffusion: &DiffusionArgs) -> Result<ExitCode> {
    match &diffusion.command {
        DiffusionCommand::Sample(sample) => run_sample(args, sample),
    }
}

fn run_sample(args: &Args, sample: &SampleArgs) -> Result<ExitCode> {
    let texts = sample.what.texts()?;
    let mut pipeline = sample.what.open(&args.global)?;
    let bars = Bars::new(args.global.quiet);
    let settings = sample.way.settings();
    let mut done = Vec::new();
    for text in &texts {
        done.push(pellucid::diffusion::sample(&mut pipeline, text, &settings, &sample.out, &bars)?);
    }
    done.iter().for_each(|d| output::warnings(&d.warnings));
    if args.global.json {
        output::json(&done)?;
    } else {
        output::lines(&done.iter().map(|d| format!("{:40}  {}", d.prompt, d.picture.display())).collect::<Vec<_>>())?;
    }
    Ok(ExitCode::SUCCESS)
}
