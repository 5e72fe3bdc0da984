//! `pellucid-zoo`: composes the pictures of the benchmarks.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use pellucid_zoo::dataset::{self, Selection};
use pellucid_zoo::{Benchmark, Composer, Split, mending, ranking, truth};

/// Composes the pictures of the benchmarks from committed sprites and recipes.
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
        /// Which benchmark.
        benchmark: Name,
        /// Where the pictures go [default: the benchmark's folder below ZOO/data].
        dir: Option<PathBuf>,
        /// The folder with the committed recipes and sprites.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
        /// Write only these parts of the data.
        #[arg(long, value_delimiter = ',', default_values = ["train", "validation", "test"])]
        split: Vec<Part>,
        /// Also write each picture with the mark put on or taken off, to DIR/counterpart.
        #[arg(long)]
        counterpart: bool,
        /// Write nothing; exit with 1 if a picture is missing or has other pixels.
        #[arg(long)]
        check: bool,
    },
    /// Measure which lists of a diagnosis find the neurons that carry the mark; print the table as Markdown.
    RankNeurons {
        /// Which benchmark.
        #[arg(default_value = "emoji-watermark")]
        benchmark: Name,
        /// The folder with the classifiers and the pictures.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
        /// The classifier [default: the benchmark's].
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// Pictures written by `compose --counterpart` [default: the benchmark's folder below ZOO/data].
        #[arg(long, value_name = "FOLDER")]
        data: Option<PathBuf>,
        /// Where the scans are cached.
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        runs: PathBuf,
        /// Write the table between the markers of this Markdown file instead of printing it.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Measure which edit of the decision layer mitigates each benchmark's correlation; print the tables as Markdown.
    Repair {
        /// The folder with the classifiers and the pictures, which `compose` wrote.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
        /// Bootstrap samples of the training and validation pictures.
        #[arg(long, default_value_t = 5)]
        seeds: u64,
        /// Where the scans are cached.
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        runs: PathBuf,
        /// Write the tables between the markers of this Markdown file instead of printing them.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Run the backbones on the pictures of the bench of known truth and keep the features; what is there stays.
    TruthFeatures {
        /// What the classes are: eight, forty or plain.
        kind: Pictures,
        /// First seed and the one after the last.
        #[arg(num_args = 2, value_names = ["FROM", "TO"])]
        seeds: Vec<u64>,
        /// The folder with the classifiers and sprites.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
        /// Where the features are kept [default: ZOO/data/truth].
        #[arg(long, value_name = "FOLDER")]
        kept: Option<PathBuf>,
    },
    /// Run the bench of known truth on the features that are kept; one JSON line a run is appended to RESULTS.
    Truth {
        /// The file of results; what it holds is not run again.
        results: PathBuf,
        /// First seed and the one after the last.
        #[arg(long, num_args = 2, value_names = ["FROM", "TO"], default_values_t = [0, 200])]
        seeds: Vec<u64>,
        /// Kinds of pictures.
        #[arg(long, value_delimiter = ',', default_values = ["eight", "forty", "plain"])]
        kinds: Vec<Pictures>,
        /// The folder with the classifiers and sprites.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
        /// Where the features are kept [default: ZOO/data/truth].
        #[arg(long, value_name = "FOLDER")]
        kept: Option<PathBuf>,
        /// Run nothing; write the tables of what RESULTS holds between the markers of this Markdown file.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Plant wrong labels in the features that are kept, and write what the label-error finder makes of them, with all that
    /// another finder needs to be asked the same: one npz a run.
    Mislabelled {
        /// Where the runs go.
        folder: PathBuf,
        /// First seed and the one after the last.
        #[arg(long, num_args = 2, value_names = ["FROM", "TO"], default_values_t = [0, 200])]
        seeds: Vec<u64>,
        /// The folder with the classifiers and sprites.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
        /// Where the features are kept [default: ZOO/data/truth].
        #[arg(long, value_name = "FOLDER")]
        kept: Option<PathBuf>,
    },
    /// Compose everything and commit to it: write the hashes to pixels.csv.
    Seal {
        /// Which benchmark.
        benchmark: Name,
        /// The folder with the committed recipes and sprites.
        #[arg(long, default_value = "zoo", value_name = "FOLDER")]
        zoo: PathBuf,
    },
}

/// A benchmark.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    EmojiWatermark,
    EmojiFrame,
}

impl From<Name> for Benchmark {
    fn from(name: Name) -> Benchmark {
        match name {
            Name::EmojiWatermark => Benchmark::EmojiWatermark,
            Name::EmojiFrame => Benchmark::EmojiFrame,
        }
    }
}

/// Pictures of the bench of known truth.
#[derive(Clone, Copy, ValueEnum)]
enum Pictures {
    Eight,
    Forty,
    Plain,
}

impl From<Pictures> for truth::Kind {
    fn from(pictures: Pictures) -> truth::Kind {
        match pictures {
            Pictures::Eight => truth::Kind::Eight,
            Pictures::Forty => truth::Kind::Forty,
            Pictures::Plain => truth::Kind::Plain,
        }
    }
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
        Command::Seal { benchmark, zoo } => {
            let path = dataset::seal(&read(&zoo, benchmark.into())?)?;
            println!("{}", path.display());
        }
        Command::TruthFeatures { kind, seeds, zoo, kept } => {
            let kept = kept.unwrap_or_else(|| zoo.join("data/truth"));
            for seed in seeds[0]..seeds[1] {
                if !truth::features::is_kept(&kept, kind.into(), seed) {
                    truth::features::make(&zoo, &kept, kind.into(), seed)?;
                }
                println!("seed {seed}");
            }
        }
        Command::Truth { results, into: Some(page), .. } => {
            let table = truth::table::markdown(&truth::lines(&results)?);
            ranking::write_between_markers(&page, truth::table::MARKERS, &table)?;
        }
        Command::Truth { results, seeds, kinds, zoo, kept, into: None } => {
            let kept = kept.unwrap_or_else(|| zoo.join("data/truth"));
            let kinds: Vec<truth::Kind> = kinds.into_iter().map(truth::Kind::from).collect();
            truth::sweep(&zoo, &kept, &results, &kinds, seeds[0]..seeds[1], &truth::run::Asking::default())?;
        }
        Command::Mislabelled { folder, seeds, zoo, kept } => {
            let kept = kept.unwrap_or_else(|| zoo.join("data/truth"));
            truth::mislabel(&zoo, &kept, &folder, seeds[0]..seeds[1])?;
        }
        Command::Repair { zoo, seeds, runs, into } => {
            let mut tables = Vec::new();
            for benchmark in Benchmark::ALL {
                let (model, data) = (benchmark.model(&zoo), benchmark.pictures(&zoo));
                tables.push(mending::measure(benchmark, &model, &data, &runs, seeds)?.to_markdown());
            }
            let table = tables.join("\n");
            match into {
                Some(path) => ranking::write_between_markers(&path, mending::MARKERS, &table)?,
                None => print!("{table}"),
            }
        }
        Command::RankNeurons { benchmark, zoo, model, data, runs, into } => {
            let benchmark = Benchmark::from(benchmark);
            let model = model.unwrap_or_else(|| benchmark.model(&zoo));
            let data = data.unwrap_or_else(|| benchmark.pictures(&zoo));
            let table = ranking::measure(benchmark, &model, &data, &runs)?.to_markdown();
            match into {
                Some(path) => ranking::write_between_markers(&path, ranking::MARKERS, &table)?,
                None => print!("{table}"),
            }
        }
        Command::Compose { benchmark, dir, zoo, split, counterpart, check } => {
            let benchmark = Benchmark::from(benchmark);
            let dir = dir.unwrap_or_else(|| benchmark.pictures(&zoo));
            let composer = read(&zoo, benchmark)?;
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

fn read(zoo: &Path, benchmark: Benchmark) -> anyhow::Result<Composer> {
    Composer::read(zoo, benchmark).with_context(|| format!("{} in {} (see --zoo)", benchmark.name(), zoo.display()))
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
