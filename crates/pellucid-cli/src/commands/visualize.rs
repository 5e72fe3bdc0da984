//! `pellucid visualize MODEL --neuron 3 17 --class NAME`.

use crate::args::{Global, OpenArgs, RunArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use pellucid::results::PicturedNeuron;
use pellucid::settings::{ObjectiveKind, Parameterisation, VisualizationSettings};
use pellucid::{Classifier, Data, PictureSettings, Pictured, RunPaths};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct VisualizeArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// Neurons: components of the features (several may be named)
    #[arg(long, num_args = 1.., value_name = "J", required_unless_present_any = ["channel", "pair"], conflicts_with = "channel")]
    pub neuron: Vec<usize>,
    /// A layer whose channels are pictured instead of neurons
    #[arg(long, value_name = "VALUE", requires = "channel")]
    pub layer: Option<String>,
    /// Channels of that layer
    #[arg(long, num_args = 1.., value_name = "J", requires = "layer")]
    pub channel: Vec<usize>,
    /// Picture the neurons for this class (may be given again)
    #[arg(long, value_name = "NAME")]
    pub class: Vec<String>,
    /// A neuron and the class it is pictured for, as J:NAME (may be given again)
    #[arg(long, value_name = "J:NAME", value_parser = pair)]
    pub pair: Vec<(usize, String)>,
    /// Picture each neuron also for so many classes that it speaks for most
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub served: usize,
    /// The folder of an image-text guide: a CLIP in ONNX, or one of zoo/guides
    #[arg(long, value_name = "FOLDER", help_heading = "Guide")]
    pub guide: Option<PathBuf>,
    /// Sentences that class names are put into, one a line with {} for the name
    #[arg(long, value_name = "FILE", help_heading = "Guide")]
    pub templates: Option<PathBuf>,
    /// Words to label the pictures with, one a line; the class names by default
    #[arg(long, value_name = "FILE", help_heading = "Guide")]
    pub vocabulary: Option<PathBuf>,
    /// A data set to compare with: its top-activating crops, its largest activations
    #[arg(long, value_name = "DATA", help_heading = "Run")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub ascent: AscentArgs,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

impl VisualizeArgs {
    /// Validated settings.
    pub fn settings(&self) -> PictureSettings {
        let neurons = if self.layer.is_some() { &self.channel } else { &self.neuron };
        PictureSettings::default()
            .with_scan(self.run.scan())
            .with_neurons(neurons.clone())
            .with_layer(self.layer.clone())
            .with_classes(self.class.clone())
            .with_pairs(self.pair.clone())
            .with_served(self.served)
            .with_guide(self.guide.clone())
            .with_templates(self.templates.clone())
            .with_vocabulary(self.vocabulary.clone())
            .with_start(self.ascent.start.clone().map(Into::into))
            .with_visualization(self.ascent.settings(self.run.seed))
    }
}

/// How pictures are optimised.
#[derive(Debug, ClapArgs)]
pub struct AscentArgs {
    /// What is increased; guided needs --guide
    #[arg(long, default_value = "guided", help_heading = "Picture")]
    pub objective: ObjectiveName,
    /// Steps at most
    #[arg(long, default_value_t = 450, help_heading = "Picture")]
    pub steps: usize,
    /// Side of the pictures in pixels; the model's input size by default
    #[arg(long, value_name = "PIXELS", help_heading = "Picture")]
    pub side: Option<usize>,
    /// Pictures per neuron and class, with different seeds
    #[arg(long, default_value_t = 2, help_heading = "Picture")]
    pub seeds: usize,
    /// What the parameters of a picture are
    #[arg(long, default_value = "fourier", help_heading = "Picture")]
    pub parameters: ParametersName,
    /// Do not rotate, shift, resize and tint the picture between steps
    #[arg(long, help_heading = "Picture")]
    pub no_augment: bool,
    /// Weight of the class logit beside the activation
    #[arg(long, default_value_t = 0.5, value_name = "WEIGHT", help_heading = "Picture")]
    pub class_weight: f32,
    /// First learning rate
    #[arg(long, default_value_t = 0.009, value_name = "RATE", help_heading = "Picture")]
    pub learning_rate: f32,
    /// Start at this picture instead of noise
    #[arg(long, value_name = "PICTURE", help_heading = "Picture")]
    pub start: Option<PathBuf>,
    /// Pictures optimised at once, at most; fewer where --memory asks for it
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Picture")]
    pub batch: usize,
}

impl AscentArgs {
    fn settings(&self, seed: u64) -> VisualizationSettings {
        let objective = match self.objective {
            ObjectiveName::Guided => ObjectiveKind::Guided,
            ObjectiveName::Reference => ObjectiveKind::Reference,
            ObjectiveName::Unguided => ObjectiveKind::Unguided,
            ObjectiveName::Channel => ObjectiveKind::Channel,
        };
        let parameterisation = match self.parameters {
            ParametersName::Fourier => Parameterisation::Fourier,
            ParametersName::Phase => Parameterisation::Phase,
            ParametersName::Pixel => Parameterisation::Pixel,
        };
        let mut settings = VisualizationSettings::default()
            .with_objective(objective)
            .with_steps(self.steps)
            .with_side(self.side)
            .with_seeds(self.seeds)
            .with_seed(seed)
            .with_parameterisation(parameterisation)
            .with_class_weight(self.class_weight)
            .with_learning_rate(self.learning_rate)
            .with_largest_batch(self.batch);
        if self.no_augment {
            settings.augmentation = None;
        }
        settings
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ObjectiveName {
    /// Activation and class logit, times the guide's likeness to the class
    Guided,
    /// The same as published
    Reference,
    /// Activation and class logit
    Unguided,
    /// The plain channel
    Channel,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ParametersName {
    /// Fourier coefficients, larger for low frequencies
    Fourier,
    /// Phases of Fourier coefficients; magnitudes as in photographs
    Phase,
    /// Pixels, smoothed by total variation
    Pixel,
}

fn pair(text: &str) -> Result<(usize, String)> {
    let (neuron, class) = text.split_once(':').context("expected J:NAME, for example 17:balloon")?;
    Ok((neuron.trim().parse().context("expected a neuron's number before the colon")?, class.trim().to_owned()))
}

pub fn run(global: &Global, picture: &VisualizeArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&picture.model, &picture.open.options(global))?;
    let run = picture.run.options(true)?;
    let data = picture.data.as_ref().map(Data::from);
    let made = pellucid::picture(&classifier, data, &picture.settings(), &Bars::new(global))?;
    let written = made.write_run(&run)?;
    output::warnings(&made.warnings);
    if global.json {
        output::json(&made.results)?;
    } else {
        output::lines(&describe(&made, &written))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(made: &Pictured, written: &RunPaths) -> Vec<String> {
    let mut lines: Vec<String> = made.results.neurons.iter().flat_map(neuron).collect();
    lines.push(format!("pictures     {}", written.directory.display()));
    lines.extend(written.report.iter().map(|report| format!("report       {}", report.display())));
    lines
}

fn neuron(neuron: &PicturedNeuron) -> Vec<String> {
    let mut lines = vec![neuron.title()];
    for picture in &neuron.pictures {
        let mut line = format!("  seed {}: activation {:.3}", picture.seed, picture.activation);
        if let Some(fraction) = picture.of_max {
            line += &format!(" ({:.0} % of the data set's largest)", 100.0 * fraction);
        }
        if let Some(logit) = picture.logit {
            line += &format!(", class logit {logit:.2}");
        }
        if let Some(similarity) = picture.similarity {
            line += &format!(", guide {similarity:.3}");
        }
        if let Some(label) = &picture.label {
            line += &format!(", most like '{}'", label.word);
        }
        lines.push(line);
        lines.extend(picture.flags.iter().map(|flag| format!("    {flag}")));
    }
    lines
}
