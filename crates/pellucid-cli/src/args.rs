//! Every flag, defined once: help, man page and completions are made from this, and each group becomes validated
//! settings in one place.

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use pellucid::attribution::AttributionSettings;
use pellucid::engine::{Checkpointing, Device, SessionOptions, TapNames};
use pellucid::preprocess::{ChannelOrder, Filter, Layout, PreprocessingOverrides, ResizeRule};
use pellucid::settings::{
    Edit, ObjectiveKind, Parameterisation, RepairSettings, ReportOptions, Route, Selection, Variant,
    VisualizationSettings,
};
use pellucid::{
    Budget, ByteSize, DebugSettings, GradientSettings, Limit, MistakeNames, OpenOptions, PictureSettings, Question,
    RepairOptions, RunOptions, ScanSettings,
};
use std::ffi::OsString;
use std::path::PathBuf;

/// See what a vision model does, why it fails, and repair it.
///
/// Works on any ONNX model; ONNX Runtime does the computing. Exit codes: 0 fine, 1 findings asked for by --fail-on,
/// 2 error.
#[derive(Debug, Parser)]
#[command(name = "pellucid", version, propagate_version = true, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

#[derive(Debug, ClapArgs)]
pub struct Global {
    /// Print the result as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, no hints
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// The ONNX Runtime library, or a folder that holds it
    #[arg(long, global = true, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// auto, cpu, cuda[:N], tensorrt[:N], coreml or directml[:N]
    #[arg(long, global = true, default_value = "auto")]
    pub device: Device,
    /// Threads; 0 takes every core
    #[arg(long, global = true, default_value_t = 0)]
    pub threads: usize,
    /// Bound on the memory of activations, for example 512MB or 4GiB [default: 1GiB, or half of the machine's if that is less]
    #[arg(long, global = true, value_name = "SIZE", env = "PELLUCID_MEMORY")]
    pub memory: Option<ByteSize>,
    /// Bound on what one file may take in memory: decoded pixels, an unpacked member [default: as --memory]
    #[arg(long, global = true, value_name = "SIZE", env = "PELLUCID_MAX_FILE_MEMORY", hide_env_values = true)]
    pub max_file_memory: Option<ByteSize>,
    /// Bound on the pixels of one picture [default: 178956970]
    #[arg(long, global = true, value_name = "PIXELS", env = "PELLUCID_MAX_PIXELS", hide_env_values = true)]
    pub max_pixels: Option<u64>,
    /// Work in this process instead of in a child of it: the end of the engine is then the end of the command, without a
    /// word (Unix only; elsewhere it is always so)
    #[arg(long, global = true, env = "PELLUCID_NO_SUPERVISOR", hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new())]
    pub no_supervisor: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a model holds: inputs, outputs, taps, preprocessing, operators
    Inspect(InspectArgs),
    /// Run a model over a data set: accuracy by class and group, features to Parquet
    Scan(ScanArgs),
    /// Find the neurons behind a model's mistakes and write a report
    Debug(DebugArgs),
    /// Mitigate a false correlation: edit the decision layer, measure the effect, write the edited model
    Repair(RepairArgs),
    /// Apply, take back or show the patch of a repair
    Patch {
        #[command(subcommand)]
        command: PatchCommand,
    },
    /// Explain the answer on one picture
    Why(WhyArgs),
    /// Visualize features: make pictures of what neurons respond to, for a class
    #[command(alias = "picture")]
    Visualize(VisualizeArgs),
    /// Show which parts of one picture speak for a class or a neuron
    Attribute(AttributeArgs),
    /// Run the main job on the benchmark with a known false correlation
    Demo(DemoArgs),
    /// Differentiate any value of a model with respect to its inputs or other values
    Gradient(GradientArgs),
    /// Compare a model's values with arrays saved elsewhere; exit code 1 if any lies too far off
    Compare(CompareArgs),
    /// Explain a text-to-image diffusion model step by step
    Diffusion(crate::commands::diffusion::DiffusionArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
}

#[cfg(unix)]
impl Command {
    /// The command's words, the model that it works on as the user wrote it, and whether what it finishes on the way is kept
    /// and used by the same command again.
    pub fn what_runs(&self) -> (&'static str, String, bool) {
        let of = |words, model: &std::path::Path, is_kept| (words, shown(model), is_kept);
        match self {
            Self::Inspect(a) => of("inspect", &a.model, false),
            Self::Scan(a) => of("scan", &a.model, true),
            Self::Debug(a) => of("debug", &a.model, true),
            Self::Repair(a) => of("repair", &a.model, true),
            Self::Patch { command: PatchCommand::Apply { model, .. } } => of("patch apply", model, false),
            Self::Patch { command: PatchCommand::Revert { model, .. } } => of("patch revert", model, false),
            Self::Patch { command: PatchCommand::Show { patch } } => of("patch show", patch, false),
            Self::Why(a) => of("why", &a.model, false),
            Self::Visualize(a) => of("visualize", &a.model, a.data.is_some()),
            Self::Attribute(a) => of("attribute", &a.model, false),
            Self::Demo(a) => of("demo", &a.zoo, true),
            Self::Gradient(a) => of("gradient", &a.model, false),
            Self::Compare(a) => of("compare", &a.model, false),
            Self::Diffusion(a) => {
                let (words, pipeline) = a.command.what_runs();
                of(words, pipeline, true)
            }
            Self::Completions { .. } => ("completions", String::new(), false),
            Self::Man => ("man", String::new(), false),
        }
    }
}

/// A path as the user wrote it, fit for a terminal.
#[cfg(unix)]
fn shown(path: &std::path::Path) -> String {
    pellucid::printable::name(&path.to_string_lossy()).into_owned()
}

#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// The ONNX model
    pub model: PathBuf,
    /// List the values that gradients of the outputs reach, and what stands in their way
    #[arg(long)]
    pub gradients: bool,
    /// Shape of an input whose dimensions are free: NAME=1,3,224,224 (may be given again)
    #[arg(long, value_name = "NAME=SHAPE", value_parser = input_shape)]
    pub input_shape: Vec<(String, Vec<usize>)>,
    #[command(flatten)]
    pub open: OpenArgs,
}

#[derive(Debug, ClapArgs)]
pub struct GradientArgs {
    /// The ONNX model
    pub model: PathBuf,
    /// An input: FILE.npy, NAME=FILE.npy, or FILE.npz with all of them by name (may be given again)
    #[arg(long, value_name = "FILE", required = true)]
    pub input: Vec<String>,
    /// What to differentiate: VALUE[:index…], one index per axis after the batch, the rest is summed (logits:281);
    /// logits:281,7 gives one index per sample. The first output by default
    #[arg(long, value_name = "VALUE", default_value = "")]
    pub of: String,
    /// A value to differentiate with respect to (may be given again); every float input by default
    #[arg(long, value_name = "VALUE")]
    pub wrt: Vec<String>,
    /// Where to write the outputs, the objective and the gradients
    #[arg(long, value_name = "FILE.npz", required_unless_present = "graph")]
    pub out: Option<PathBuf>,
    /// Where to write the differentiated model, which any ONNX runtime runs: beside the model if its weights lie in
    /// other files
    #[arg(long, value_name = "FILE.onnx")]
    pub graph: Option<PathBuf>,
    /// Less memory for more time: compute the forward pass again in so many segments (8), or in as few as keep its values
    /// within a bound (512MB); alone, in as many as need the least memory
    #[arg(long, alias = "recompute", value_name = "SEGMENTS|SIZE", num_args = 0..=1, default_missing_value = "least", value_parser = checkpointing)]
    pub checkpointing: Option<Checkpointing>,
    /// Where to keep mirrored weights, by their content, for a model whose weights lie in other files (runs/.cache)
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// `8`, `512MB`, `2GiB` or `least`.
fn checkpointing(text: &str) -> std::result::Result<Checkpointing, String> {
    if text == "least" {
        return Ok(Checkpointing::Least);
    }
    if let Ok(segments) = text.parse() {
        return Ok(Checkpointing::Segments(segments));
    }
    let size = text.parse().map(|ByteSize(bytes)| Checkpointing::Within(bytes));
    size.map_err(|_| format!("'{text}' is neither a number of segments (8) nor a size (512MB, 2GiB)"))
}

#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// The ONNX model
    pub model: PathBuf,
    /// Arrays by name: inputs are fed, values and gradient.<value> are compared
    pub reference: PathBuf,
    /// What the reference's gradients are of: VALUE[:index…]; the first output by default
    #[arg(long, value_name = "VALUE", default_value = "")]
    pub of: String,
    /// Bound on the relative error: the norm of the difference over the norm of the reference
    #[arg(long, default_value_t = pellucid::Tolerances::default().relative)]
    pub rtol: f64,
    /// A largest difference up to this passes whatever the relative error
    #[arg(long, default_value_t = pellucid::Tolerances::default().absolute)]
    pub atol: f64,
}

#[derive(Debug, ClapArgs)]
pub struct ScanArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// A folder per class, metadata.csv, CSV, JSONL or Parquet
    pub data: PathBuf,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, ClapArgs)]
pub struct DebugArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// A folder per class, metadata.csv, CSV, JSONL or Parquet
    pub data: PathBuf,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub examine: ExamineArgs,
    /// Then repair: edit the decision layer against the class that most mistakes land on (every split takes part)
    #[arg(long, help_heading = "Repair")]
    pub repair: bool,
}

#[derive(Debug, ClapArgs)]
pub struct RepairArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// A folder per class, metadata.csv, CSV, JSONL or Parquet; with train, val and test splits, or they are made
    pub data: PathBuf,
    #[command(flatten)]
    pub how: RepairHow,
    /// Picture so many of the suspects, and score what they see: some seconds each
    #[arg(long, value_name = "COUNT", default_value_t = 0, help_heading = "Report")]
    pub pictures: usize,
    /// Leave pictures out of the report
    #[arg(long, help_heading = "Report")]
    pub no_pictures: bool,
    /// Exit with 1 if the edited model fails: accuracy<0.9, worst-class<0.8 or worst-group<0.8, or no-edit if none was
    /// shipped (may be given again)
    #[arg(long, value_name = "CONDITION", help_heading = "Report", value_parser = condition)]
    pub fail_on: Vec<Condition>,
    #[command(flatten)]
    pub open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a repair is made.
#[derive(Debug, ClapArgs)]
pub struct RepairHow {
    /// The class whose cue is at fault; by default the one that the data point at
    #[arg(long, value_name = "NAME", help_heading = "Repair")]
    pub class: Option<String>,
    /// The neurons at fault
    #[arg(long, value_name = "NEURON", num_args = 1.., conflicts_with = "auto", help_heading = "Repair")]
    pub neurons: Vec<usize>,
    /// Find the neurons in the validation split's mistakes: gap (default) or votes (as published)
    #[arg(long, value_name = "ROUTE", num_args = 0..=1, default_missing_value = "gap", help_heading = "Repair")]
    pub auto: Option<RouteName>,
    /// Neurons that --auto takes at most
    #[arg(long, default_value_t = 5, help_heading = "Repair")]
    pub count: usize,
    /// Write this edit, whatever the data say: erase, slice-balanced, ratio, reference, reference-waterbirds, group-balanced,
    /// dfr, afr, jtt, cluster-balanced, class-balanced, refit, class-weighted, focal or zero; by default the one that wins on
    /// validation, and none unless your data confirm a shortcut
    #[arg(long, value_name = "EDIT", help_heading = "Repair")]
    pub edit: Option<Edit>,
    /// You have looked at the pictures: the cue that is ranked first is no part of the class, edit it away
    #[arg(long, help_heading = "Repair")]
    pub confirm: bool,
    /// Try only the edit that is written, without the others beside it
    #[arg(long, help_heading = "Repair")]
    pub alone: bool,
    /// λ₃ of the published loss; by grid on validation for `ratio`, 0.01 for `reference`
    #[arg(long, value_name = "NUMBER", help_heading = "Repair")]
    pub strength: Option<f64>,
    /// o, what the ratio is drawn to; by grid on validation for `ratio`, 1 for `reference`
    #[arg(long, value_name = "NUMBER", help_heading = "Repair")]
    pub target: Option<f64>,
    /// What chooses epochs and settings on validation
    #[arg(long, default_value = "worst-slice", help_heading = "Repair")]
    pub select: SelectionName,
    /// Adam's learning rate, where the edit does not fix it
    #[arg(long, default_value_t = 1e-3, value_name = "NUMBER", help_heading = "Repair")]
    pub learning_rate: f64,
    /// Epochs at most
    #[arg(long, default_value_t = 20, help_heading = "Repair")]
    pub epochs: usize,
    /// Train on so many random views of each picture beside the whole one, as the published recipe does
    #[arg(long, default_value_t = 0, value_name = "VIEWS", help_heading = "Repair")]
    pub augmented: usize,
    /// Also write the edited model here
    #[arg(long, value_name = "FILE.onnx", help_heading = "Repair")]
    pub out: Option<PathBuf>,
}

impl RepairHow {
    /// Validated settings.
    pub fn options(&self) -> Result<RepairOptions> {
        for (name, value) in [("strength", self.strength), ("learning-rate", Some(self.learning_rate))] {
            if value.is_some_and(|v| !v.is_finite() || v < 0.0) {
                bail!("--{name} must be a number of at least 0");
            }
        }
        if self.count == 0 || self.epochs == 0 {
            bail!("--count and --epochs must be at least 1");
        }
        let settings = RepairSettings::default()
            .with_neurons(self.neurons.clone())
            .with_route(self.auto.map_or(Route::Gap, RouteName::route))
            .with_count(self.count)
            .with_edits(if self.alone { Vec::new() } else { Edit::ALL.to_vec() })
            .with_edit(self.edit)
            .with_confirm(self.confirm)
            .with_strength(self.strength)
            .with_target(self.target)
            .with_selection(self.select.selection())
            .with_rate(self.learning_rate)
            .with_epochs(self.epochs);
        Ok(RepairOptions::default().with_class(self.class.clone()).with_settings(settings).with_views(self.augmented))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RouteName {
    /// Neurons that stand in both lists of the evidence gap
    Gap,
    /// The published votes of the counterfactuals
    Votes,
}

impl RouteName {
    fn route(self) -> Route {
        match self {
            RouteName::Gap => Route::Gap,
            RouteName::Votes => Route::Votes,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SelectionName {
    /// Accuracy over all
    Overall,
    /// Accuracy of the worst class
    WorstClass,
    /// Accuracy of the worst class with or without the suspects active
    WorstSlice,
}

impl SelectionName {
    fn selection(self) -> Selection {
        match self {
            SelectionName::Overall => Selection::Overall,
            SelectionName::WorstClass => Selection::WorstClass,
            SelectionName::WorstSlice => Selection::WorstSlice,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum PatchCommand {
    /// Write MODEL with the patch in it
    Apply {
        /// The model that the patch was made for
        model: PathBuf,
        /// patch.safetensors of a repair
        patch: PathBuf,
        /// Where to write the edited model
        #[arg(long, value_name = "FILE.onnx")]
        out: PathBuf,
    },
    /// Write MODEL, which holds the patch, as it was before, to the byte of its weights
    Revert {
        /// The edited model
        model: PathBuf,
        /// patch.safetensors of the repair
        patch: PathBuf,
        /// Where to write the restored model
        #[arg(long, value_name = "FILE.onnx")]
        out: PathBuf,
    },
    /// Say what a patch changes, and in which model
    Show {
        /// patch.safetensors of a repair
        patch: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
pub struct WhyArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// The picture
    pub picture: PathBuf,
    /// Neurons for and against
    #[arg(long, default_value_t = 5)]
    pub neurons: usize,
    /// Where to write the heat maps; nowhere by default
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub open: OpenArgs,
}

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

#[derive(Debug, ClapArgs)]
pub struct AttributeArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// The picture
    pub picture: PathBuf,
    /// The class to explain; the model's answer by default
    #[arg(long, value_name = "NAME", conflicts_with = "neuron")]
    pub class: Option<String>,
    /// The neuron to explain
    #[arg(long, value_name = "J")]
    pub neuron: Option<usize>,
    /// Methods (several may be named)
    #[arg(long, num_args = 1.., value_parser = methods(), default_values = method_ids())]
    pub method: Vec<String>,
    /// Points on the way from gray to the picture, for methods that go it
    #[arg(long, default_value_t = 32)]
    pub points: usize,
    /// Noisy copies, for methods that take some
    #[arg(long, default_value_t = 16)]
    pub copies: usize,
    /// Seed of noise, of the random order and of the shuffled weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where to write the maps; nowhere by default
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub open: OpenArgs,
}

fn method_ids() -> Vec<&'static str> {
    pellucid::attribution_methods().iter().map(|m| m.id()).collect()
}

/// The methods that the library has, with its words for them.
fn methods() -> clap::builder::PossibleValuesParser {
    let values = pellucid::attribution_methods().iter().map(|m| PossibleValue::new(m.id()).help(m.about()));
    values.collect::<Vec<_>>().into()
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

#[derive(Debug, ClapArgs)]
pub struct DemoArgs {
    /// The folder with the zoo's models and data
    #[arg(long, default_value = "zoo")]
    pub zoo: PathBuf,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub examine: ExamineArgs,
}

/// How a classifier is opened.
#[derive(Debug, ClapArgs, Default)]
pub struct OpenArgs {
    /// Class names, one a line in the order of the logits
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub classes: Option<PathBuf>,
    /// The value that feeds the decision layer
    #[arg(long, value_name = "VALUE", help_heading = "Model")]
    pub features: Option<String>,
    /// The value that the decision layer gives
    #[arg(long, value_name = "VALUE", help_heading = "Model")]
    pub logits: Option<String>,
    /// The last feature map before pooling
    #[arg(long, value_name = "VALUE", help_heading = "Model")]
    pub feature_map: Option<String>,
    /// A preprocessing file (timm, Hugging Face or pellucid JSON); looked for beside the model
    #[arg(long, value_name = "FILE", help_heading = "Preprocessing")]
    pub preprocessing: Option<PathBuf>,
    /// Input size: N or WxH
    #[arg(long, value_name = "SIZE", help_heading = "Preprocessing", value_parser = size)]
    pub size: Option<(u32, u32)>,
    /// none, exact, shortest:N or crop:FRACTION
    #[arg(long, value_name = "RULE", help_heading = "Preprocessing", value_parser = resize_rule)]
    pub resize: Option<ResizeRule>,
    /// Filter of the resize
    #[arg(long, help_heading = "Preprocessing")]
    pub filter: Option<FilterName>,
    /// Mean to subtract: R,G,B or one number
    #[arg(long, value_name = "R,G,B", help_heading = "Preprocessing", value_parser = three, allow_hyphen_values = true)]
    pub mean: Option<[f64; 3]>,
    /// Standard deviation to divide by: R,G,B or one number
    #[arg(long, value_name = "R,G,B", help_heading = "Preprocessing", value_parser = three)]
    pub std: Option<[f64; 3]>,
    /// Factor on the 8-bit values, before mean and std: a number, or 1/255
    #[arg(long, value_name = "FACTOR", help_heading = "Preprocessing", value_parser = factor)]
    pub scale: Option<f64>,
    /// Order of the channels
    #[arg(long, help_heading = "Preprocessing")]
    pub channels: Option<ChannelName>,
    /// Order of the axes
    #[arg(long, help_heading = "Preprocessing")]
    pub layout: Option<LayoutName>,
}

/// Where results go.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// Where run directories are made
    #[arg(long, default_value = "runs", value_name = "FOLDER", help_heading = "Run")]
    pub runs: PathBuf,
    /// Name of the run; made from model and data by default
    #[arg(long, help_heading = "Run")]
    pub name: Option<String>,
    /// Replace a run of that name with other inputs
    #[arg(long, help_heading = "Run")]
    pub force: bool,
    /// Look at one split only: train, val or test
    #[arg(long, help_heading = "Run")]
    pub split: Option<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, help_heading = "Run")]
    pub seed: u64,
}

/// Which mistakes are examined, and how.
#[derive(Debug, ClapArgs)]
pub struct ExamineArgs {
    /// Examine the mistakes of this class (may be given again)
    #[arg(long, value_name = "NAME", help_heading = "Mistakes")]
    pub class: Vec<String>,
    /// Examine the mistakes that land on this class (may be given again)
    #[arg(long, value_name = "NAME", help_heading = "Mistakes")]
    pub predicted_as: Vec<String>,
    /// Examine the mistakes of this group (may be given again)
    #[arg(long, value_name = "NAME", help_heading = "Mistakes")]
    pub group: Vec<String>,
    /// Examine all mistakes together
    #[arg(long, help_heading = "Mistakes")]
    pub all_mistakes: bool,
    /// How counterfactuals are searched
    #[arg(long, default_value = "bounded", help_heading = "Mistakes")]
    pub variant: VariantName,
    /// Neurons shown per direction
    #[arg(long, default_value_t = 8, help_heading = "Mistakes")]
    pub neurons: usize,
    /// Make pictures for so many suspect neurons: some seconds each
    #[arg(long, value_name = "N", help_heading = "Report")]
    pub pictures: Option<usize>,
    /// Leave pictures and file names out of the report
    #[arg(long, help_heading = "Report")]
    pub no_pictures: bool,
    /// Exit with 1 if a condition holds: accuracy<0.9, worst-class<0.8 or worst-group<0.8 (may be given again)
    #[arg(long, value_name = "CONDITION", help_heading = "Report", value_parser = condition)]
    pub fail_on: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FilterName {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ChannelName {
    Rgb,
    Bgr,
    Gray,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LayoutName {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum VariantName {
    /// Every neuron stays inside its observed range (default)
    Bounded,
    /// As published: no bounds
    Reference,
    /// The fewest neurons that flip a sample
    Sparse,
}

/// A figure and the bound below which the command exits with 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    pub figure: Figure,
    pub below: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    Accuracy,
    WorstClass,
    WorstGroup,
    NoEdit,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::WorstClass => "worst-class",
            Self::WorstGroup => "worst-group",
            Self::NoEdit => "no-edit",
        })
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.figure {
            Figure::NoEdit => self.figure.fmt(f),
            figure => write!(f, "{figure}<{}", self.below),
        }
    }
}

impl Global {
    /// Device and threads.
    pub fn session(&self) -> SessionOptions {
        SessionOptions { device: self.device, threads: self.threads, ..SessionOptions::default() }
    }
}

impl Global {
    /// The bounds on what files may take.
    pub fn budget(&self) -> Budget {
        let budget = self.memory.map_or_else(Budget::default, |size| Budget::for_memory(size.0));
        let bounds = [(Limit::FileMemory, self.max_file_memory.map(|size| size.0)), (Limit::Pixels, self.max_pixels)];
        bounds.into_iter().fold(budget, |budget, (limit, bound)| bound.map_or(budget, |b| budget.with(limit, b)))
    }
}

impl OpenArgs {
    /// Validated options.
    pub fn options(&self, global: &Global) -> OpenOptions {
        OpenOptions::default()
            .with_library(global.onnxruntime.clone())
            .with_session(global.session())
            .with_budget(global.budget())
            .with_taps(TapNames {
                features: self.features.clone(),
                logits: self.logits.clone(),
                feature_map: self.feature_map.clone(),
            })
            .with_preprocessing(self.preprocessing.clone())
            .with_overrides(PreprocessingOverrides {
                size: self.size,
                resize: self.resize,
                filter: self.filter.map(|f| match f {
                    FilterName::Nearest => Filter::Nearest,
                    FilterName::Bilinear => Filter::Bilinear,
                    FilterName::Bicubic => Filter::Bicubic,
                    FilterName::Lanczos => Filter::Lanczos,
                }),
                crop: None,
                channels: self.channels.map(|c| match c {
                    ChannelName::Rgb => ChannelOrder::Rgb,
                    ChannelName::Bgr => ChannelOrder::Bgr,
                    ChannelName::Gray => ChannelOrder::Gray,
                }),
                layout: self.layout.map(|l| match l {
                    LayoutName::Nchw => Layout::Nchw,
                    LayoutName::Nhwc => Layout::Nhwc,
                }),
                scale: self.scale,
                mean: self.mean,
                std: self.std,
            })
            .with_classes(self.classes.clone())
    }
}

impl GradientArgs {
    /// Validated settings.
    pub fn settings(&self) -> GradientSettings {
        GradientSettings::default()
            .with_of(self.of.clone())
            .with_wrt(self.wrt.clone())
            .with_checkpointing(self.checkpointing.unwrap_or_default())
            .with_cache(self.cache.clone())
    }
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

impl AttributeArgs {
    /// Validated settings.
    pub fn settings(&self) -> (Question, Vec<&str>, AttributionSettings) {
        let question = match (&self.class, self.neuron) {
            (Some(class), _) => Question::Class(class.clone()),
            (None, Some(neuron)) => Question::Neuron(neuron),
            (None, None) => Question::Answer,
        };
        let settings = AttributionSettings::default().with_steps(self.points).with_copies(self.copies);
        (question, self.method.iter().map(String::as_str).collect(), settings.with_seed(self.seed))
    }
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

impl RunArgs {
    /// Where and how results are written.
    pub fn options(&self, pictures: bool) -> Result<RunOptions> {
        if let Some(name) = &self.name
            && (name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']))
        {
            bail!("--name '{name}' is not a plain folder name");
        }
        Ok(RunOptions::default()
            .with_root(self.runs.clone())
            .with_name(self.name.clone())
            .with_force(self.force)
            .with_report(ReportOptions::default().with_pictures(pictures))
            .with_command(own_command_line()))
    }

    /// What is scanned; rows are kept among the runs.
    pub fn scan(&self) -> ScanSettings {
        ScanSettings::default().with_split(self.split.clone()).with_cache(self.runs.join(".cache"))
    }

    /// Validated settings without an examination.
    pub fn settings(&self) -> DebugSettings {
        DebugSettings::default().with_scan(self.scan()).with_seed(self.seed)
    }
}

impl ExamineArgs {
    /// Adds the examination to `settings`.
    pub fn apply(&self, settings: &mut DebugSettings) {
        settings.mistakes = MistakeNames::default()
            .with_class(self.class.clone())
            .with_predicted_as(self.predicted_as.clone())
            .with_group(self.group.clone())
            .with_all(self.all_mistakes);
        settings.diagnose.variant = match self.variant {
            VariantName::Bounded => Variant::Bounded,
            VariantName::Reference => Variant::Reference,
            VariantName::Sparse => Variant::Sparse,
        };
        settings.diagnose.neurons = self.neurons;
        settings.pictures = self.pictures.unwrap_or(settings.pictures);
    }
}

/// The command that repairs what this process was asked to debug: its own line with those arguments that `repair` takes too.
/// The run's name stays with the run that has it.
pub fn repair_line() -> String {
    let line = |words: Vec<String>| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    repair_words(std::env::args_os()).map(line).unwrap_or_default()
}

/// Arguments that both commands have and that mean another thing to each, or hold for one run.
const DEBUGS_OWN: [&str; 6] = ["name", "force", "class", "neurons", "fail_on", "json"];

fn repair_words(arguments: impl IntoIterator<Item = OsString>) -> Option<Vec<String>> {
    let whole = Args::command();
    let matches = whole.clone().try_get_matches_from(arguments).ok()?;
    let given = matches.subcommand_matches("debug")?;
    let taken = whole.find_subcommand("repair")?;
    let mut words = vec!["pellucid".to_owned(), "repair".to_owned()];
    let mut flags = Vec::new();
    for argument in taken.get_arguments().chain(whole.get_arguments().filter(|a| a.is_global_set())) {
        let id = argument.get_id().as_str();
        let said =
            matches!(given.try_contains_id(id), Ok(true)) && given.value_source(id) == Some(ValueSource::CommandLine);
        if !said || DEBUGS_OWN.contains(&id) {
            continue;
        }
        let values = given.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        match argument.get_long() {
            None => words.extend(values),
            Some(long) => {
                flags.push(format!("--{long}"));
                flags.extend(values.filter(|_| argument.get_action().takes_values()));
            }
        }
    }
    words.extend(flags);
    Some(words)
}

/// The command that this process was started with, for `run.json`.
pub fn own_command_line() -> String {
    command_line(std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()))
}

/// The command for `run.json` and the page. Absolute paths are cut to their last part, since a report names no machine.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let shown = |argument: String| {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (format!("{flag}="), value),
            _ => (String::new(), argument.as_str()),
        };
        let path = std::path::Path::new(value);
        let value = match path.file_name() {
            Some(name) if path.is_absolute() => format!("…/{}", name.to_string_lossy()),
            _ => value.to_owned(),
        };
        flag + &quoted(&value)
    };
    std::iter::once("pellucid".to_owned()).chain(arguments.map(shown)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "'\"<>|&;$*?()".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn input_shape(text: &str) -> Result<(String, Vec<usize>)> {
    let (name, shape) = text.rsplit_once('=').context("expected NAME=1,3,224,224")?;
    let shape: Result<Vec<usize>, _> = shape.split(',').map(|d| d.trim().parse()).collect();
    Ok((name.to_owned(), shape.context("expected whole numbers, as in NAME=1,3,224,224")?))
}

fn size(text: &str) -> Result<(u32, u32)> {
    let (w, h) = text.split_once('x').unwrap_or((text, text));
    let side =
        |t: &str| t.parse::<u32>().ok().filter(|s| *s > 0).context("expected N or WxH, for example 224 or 224x160");
    Ok((side(w)?, side(h)?))
}

fn pair(text: &str) -> Result<(usize, String)> {
    let (neuron, class) = text.split_once(':').context("expected J:NAME, for example 17:balloon")?;
    Ok((neuron.trim().parse().context("expected a neuron's number before the colon")?, class.trim().to_owned()))
}

fn resize_rule(text: &str) -> Result<ResizeRule> {
    match text.split_once(':') {
        None if text == "none" => Ok(ResizeRule::None),
        None if text == "exact" => Ok(ResizeRule::Exact),
        Some(("shortest", n)) => Ok(ResizeRule::ShortestSide(n.parse().context("expected shortest:N")?)),
        Some(("crop", f)) => Ok(ResizeRule::CropPct(f.parse().context("expected crop:FRACTION")?)),
        _ => bail!("expected none, exact, shortest:N or crop:FRACTION"),
    }
}

fn three(text: &str) -> Result<[f64; 3]> {
    let numbers: Vec<f64> = text.split(',').map(factor).collect::<Result<_>>()?;
    match numbers.as_slice() {
        [one] => Ok([*one; 3]),
        [r, g, b] => Ok([*r, *g, *b]),
        _ => bail!("expected one number or three, separated by commas"),
    }
}

fn factor(text: &str) -> Result<f64> {
    let number = |t: &str| {
        t.trim().parse::<f64>().ok().filter(|v| v.is_finite()).with_context(|| format!("'{t}' is not a number"))
    };
    match text.split_once('/') {
        Some((a, b)) => Ok(number(a)? / number(b)?),
        None => number(text),
    }
}

fn condition(text: &str) -> Result<Condition> {
    let expected = "expected accuracy<X, worst-class<X or worst-group<X with X between 0 and 1, or no-edit";
    if text.trim() == "no-edit" {
        return Ok(Condition { figure: Figure::NoEdit, below: 0.0 });
    }
    let (name, bound) = text.split_once('<').context(expected)?;
    let figure = match name.trim() {
        "accuracy" => Figure::Accuracy,
        "worst-class" => Figure::WorstClass,
        "worst-group" => Figure::WorstGroup,
        _ => bail!(expected),
    };
    let below = bound.trim().parse::<f64>().ok().filter(|b| (0.0..=1.0).contains(b)).context(expected)?;
    Ok(Condition { figure, below })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_asked_for_with_what_both_commands_take() {
        let line = "pellucid debug a.onnx pictures --size 64 --neurons 3 --name first --threads 2 --mean 0,0,0 --quiet";
        let words = repair_words(line.split(' ').map(OsString::from)).unwrap();
        assert!(Args::try_parse_from(words.clone()).is_ok(), "{words:?}");
        assert_eq!(words[..4], ["pellucid", "repair", "a.onnx", "pictures"]);
        assert!(words.join(" ").contains("--size 64") && words.contains(&"--threads".to_owned()), "{words:?}");
        assert!(!words.contains(&"--name".to_owned()) && !words.contains(&"--neurons".to_owned()), "{words:?}");
        assert_eq!(repair_words(["pellucid", "scan", "a", "b"].map(OsString::from)), None);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_command_line_of_a_report_names_no_folder_of_this_machine() {
        let line = |words: &[&str]| command_line(words.iter().map(|w| w.to_string()));
        assert_eq!(
            line(&["debug", "/home/ada l/net.onnx", "--runs=/srv/x y", "../data", "--class", "a b", "--quiet"]),
            "pellucid debug …/net.onnx --runs='…/x y' ../data --class 'a b' --quiet"
        );
    }

    #[test]
    fn sizes_and_numbers_are_read_as_people_write_them() {
        assert_eq!(size("224").unwrap(), (224, 224));
        assert_eq!(size("320x200").unwrap(), (320, 200));
        assert_eq!(three("1/2").unwrap(), [0.5; 3]);
        assert_eq!(three("0.1,0.2,0.3").unwrap(), [0.1, 0.2, 0.3]);
        assert_eq!(condition("worst-group<0.8").unwrap(), Condition { figure: Figure::WorstGroup, below: 0.8 });
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(size("0").is_err() && size("axb").is_err());
        assert!(three("1,2").is_err() && three("nan").is_err());
        assert!(condition("worst-group>0.8").is_err() && condition("accuracy<2").is_err());
    }
}
