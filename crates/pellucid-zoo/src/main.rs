//! `pellucid-zoo`: composes the pictures of the emoji-watermark benchmark.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use pellucid_zoo::dataset::{self, Selection};
use pellucid_zoo::{Composer, Split, ranking};

/// Composes the pictures of the emoji-watermark benchmark from committed sprites and a recipe.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the pictures, metadata.csv and labels.txt to a folder; what is there and right stays.
    Compose {
        /// Where the pictures go.
        dir: PathBuf,
        /// The benchmark's committed folder.
        #[arg(long, default_value = "zoo/emoji_watermark", value_name = "FOLDER")]
        from: PathBuf,
        /// Write only these parts of the data.
        #[arg(long, value_delimiter = ',', default_values = ["train", "validation", "test"])]
        split: Vec<Part>,
        /// Also write each picture with the watermark put on or taken off, to DIR/counterpart.
        #[arg(long)]
        counterpart: bool,
        /// Write nothing; exit with 1 if a picture is missing or has other pixels.
        #[arg(long)]
        check: bool,
    },
    /// Measure which lists of a diagnosis find the neurons that carry the watermark; print the table as Markdown.
    RankNeurons {
        /// The classifier.
        #[arg(long, default_value = "zoo/models/efficientnet_lite0/emoji_watermark.onnx", value_name = "FILE")]
        model: PathBuf,
        /// Pictures written by `compose --counterpart`.
        #[arg(long, default_value = "zoo/data/emoji-watermark", value_name = "FOLDER")]
        data: PathBuf,
        /// Class whose training pictures carry the watermark.
        #[arg(long, default_value = "Food & Drink", value_name = "NAME")]
        class: String,
        /// Where the scans are cached.
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        runs: PathBuf,
        /// Write the table between the markers of this Markdown file instead of printing it.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Compose everything and commit to it: write the hashes to pixels.csv.
    Seal {
        /// The benchmark's committed folder.
        #[arg(long, default_value = "zoo/emoji_watermark", value_name = "FOLDER")]
        from: PathBuf,
    },
}

/// A part of the data.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Train,
    Validation,
    Test,
}

impl From<Part> for Split {
    fn from(part: Part) -> Split {
        match part {
            Part::Train => Split::Train,
            Part::Validation => Split::Validation,
            Part::Test => Split::Test,
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pellucid-zoo: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Seal { from } => {
            let path = dataset::seal(&read(&from)?)?;
            println!("{}", path.display());
        }
        Command::RankNeurons { model, data, class, runs, into } => {
            let table = ranking::measure(&model, &data, &class, &runs)?.to_markdown();
            match into {
                Some(path) => ranking::write_between_markers(&path, &table)?,
                None => print!("{table}"),
            }
        }
        Command::Compose { dir, from, split, counterpart, check } => {
            let composer = read(&from)?;
            let selection = Selection { splits: split.into_iter().map(Split::from).collect(), counterpart };
            if check {
                return report_faults(&dataset::check(&composer, &dir, &selection)?);
            }
            let outcome = dataset::write(&composer, &dir, &selection, &|done| {
                if std::io::stderr().is_terminal() && done.is_multiple_of(100) {
                    eprint!("\r{done} pictures");
                }
            })?;
            println!("{}: {} pictures written, {} already right", dir.display(), outcome.written, outcome.kept);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(from: &Path) -> anyhow::Result<Composer> {
    Composer::read(from).with_context(|| format!("the benchmark in {} (see --from)", from.display()))
}

fn report_faults(faults: &[dataset::Fault]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for fault in faults {
        // A reader that has seen enough closes the pipe; that is no error.
        if writeln!(out, "{}: {}", fault.path.display(), fault.problem).is_err() {
            break;
        }
    }
    Ok(ExitCode::from(u8::from(!faults.is_empty())))
}
