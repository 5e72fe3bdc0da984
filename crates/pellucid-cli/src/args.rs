//! Flags that commands share, and how what is typed becomes settings. Flags of one command stand in its own file.

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use pellucid::data::{FolderOrder, Reading};
use pellucid::engine::{Device, SessionOptions, TapNames};
use pellucid::preprocess::{ChannelOrder, Filter, Layout, PreprocessingOverrides, ResizeRule};
use pellucid::settings::ReportOptions;
use pellucid::{Budget, ByteSize, DebugSettings, Limit, OpenOptions, RunOptions, ScanSettings};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub struct Global {
    /// Print the result as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, no hints
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say what is done, in place of progress: -v the steps, -vv details; RUST_LOG filters finer
    #[arg(long, short, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
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
    /// Mean to subtract, in the units that --scale gives and the order of --channels: three numbers or one
    #[arg(long, value_name = "R,G,B", help_heading = "Preprocessing", value_parser = three, allow_hyphen_values = true)]
    pub mean: Option<[f64; 3]>,
    /// Standard deviation to divide by, in the same units and order: three numbers or one
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
    /// The column of a table that holds file names
    #[arg(long, value_name = "NAME", help_heading = "Data set")]
    pub file_column: Option<String>,
    /// The column of a table that holds labels
    #[arg(long, value_name = "NAME", help_heading = "Data set")]
    pub label_column: Option<String>,
    /// The columns of a table that make groups together
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Data set")]
    pub group_columns: Vec<String>,
    /// Whether groups are divided by class
    #[arg(long, value_name = "HOW", help_heading = "Data set")]
    pub groups: Option<GroupsName>,
    /// The folder that file names of a table are relative to, and absolute ones lie in
    #[arg(long, value_name = "FOLDER", help_heading = "Data set")]
    pub root: Option<PathBuf>,
    /// The order in which class folders named by number are classes
    #[arg(long, value_name = "ORDER", help_heading = "Data set")]
    pub folder_order: Option<OrderName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupsName {
    /// Each group of each class apart
    Crossed,
    /// As the table gives them
    AsGiven,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OrderName {
    /// As text: 0, 1, 10, 11, 2
    Sorted,
    /// As numbers
    Number,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FilterName {
    Nearest,
    Bilinear,
    /// Without antialiasing: tf.image.resize, OpenCV, F.interpolate
    BilinearNoAntialias,
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
                    FilterName::BilinearNoAntialias => Filter::BilinearNoAntialias,
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
        let reading = Reading {
            file_column: self.file_column.clone(),
            label_column: self.label_column.clone(),
            group_columns: self.group_columns.clone(),
            crossed: self.groups.map(|groups| groups == GroupsName::Crossed),
            root: self.root.clone(),
            folder_order: self.folder_order.map(|order| match order {
                OrderName::Sorted => FolderOrder::Sorted,
                OrderName::Number => FolderOrder::Number,
            }),
        };
        let cache = self.runs.join(".cache");
        ScanSettings::default().with_split(self.split.clone()).with_cache(cache).with_reading(reading)
    }

    /// Validated settings without an examination.
    pub fn settings(&self) -> DebugSettings {
        DebugSettings::default().with_scan(self.scan()).with_seed(self.seed)
    }
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
pub fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "'\"<>|&;$*?()".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn size(text: &str) -> Result<(u32, u32)> {
    let (w, h) = text.split_once('x').unwrap_or((text, text));
    let side =
        |t: &str| t.parse::<u32>().ok().filter(|s| *s > 0).context("expected N or WxH, for example 224 or 224x160");
    Ok((side(w)?, side(h)?))
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

pub fn condition(text: &str) -> Result<Condition> {
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
