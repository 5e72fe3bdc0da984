//! `pellucid demo`: the main job on the zoo's benchmark with a known false correlation.

use super::debug::{self, ExamineArgs};
use crate::args::{Global, OpenArgs, RunArgs};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use pellucid::Classifier;
use std::path::PathBuf;
use std::process::ExitCode;

/// Suspect neurons that the demo pictures: a minute or two on two cores.
const PICTURES: usize = 3;

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

pub fn run(global: &Global, demo: &DemoArgs) -> Result<ExitCode> {
    let model = demo.zoo.join("models/efficientnet_lite0/emoji_watermark.onnx");
    let data = demo.zoo.join("data/emoji-watermark");
    for needed in [&model, &data.join("metadata.csv")] {
        if !needed.exists() {
            bail!(
                "{} is missing; run `make demo` in a checkout, which composes the pictures first, or name the zoo's folder with --zoo",
                needed.display()
            );
        }
    }
    let classifier = Classifier::open(&model, &OpenArgs::default().options(global))?;
    let mut settings = demo.run.settings();
    settings.scan.split.get_or_insert_with(|| "test".to_owned());
    settings.pictures = PICTURES;
    demo.examine.apply(&mut settings);
    let run = demo.run.options(!demo.examine.no_pictures)?;
    debug::examine(global, &classifier, &data, &settings, &run, &demo.examine.fail_on)
}
