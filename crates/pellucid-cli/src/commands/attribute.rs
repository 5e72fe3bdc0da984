//! `pellucid attribute MODEL PICTURE`.

use crate::args::{Global, OpenArgs};
use crate::output;
use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use clap::builder::PossibleValue;
use pellucid::attribution::{Attribution, AttributionSettings};
use pellucid::data::Picture;
use pellucid::saliency::evaluate::{ConfidenceGames, Game};
use pellucid::{Attributions, Classifier, Question};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, ClapArgs)]
pub struct AttributeArgs {
    /// The ONNX classifier
    pub model: PathBuf,
    /// The picture
    pub picture: PathBuf,
    /// The class to explain; the model's answer by default
    #[arg(long, value_name = "NAME", conflicts_with = "neuron")]
    pub class: Option<String>,
    /// A class to explain what speaks against it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["class", "neuron"])]
    pub against: Option<String>,
    /// The neuron to explain
    #[arg(long, value_name = "J")]
    pub neuron: Option<usize>,
    /// Methods (several may be named); by default each that the network has what it takes for
    #[arg(long, num_args = 1.., value_parser = methods())]
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

impl AttributeArgs {
    /// Validated settings.
    pub fn settings(&self) -> (Question, Vec<&str>, AttributionSettings) {
        let question = match (&self.class, &self.against, self.neuron) {
            (Some(class), ..) => Question::Class(class.clone()),
            (None, Some(class), _) => Question::Against(class.clone()),
            (None, None, Some(neuron)) => Question::Neuron(neuron),
            (None, None, None) => Question::Answer,
        };
        let settings = AttributionSettings::default().with_steps(self.points).with_copies(self.copies);
        (question, self.method.iter().map(String::as_str).collect(), settings.with_seed(self.seed))
    }
}

/// The methods that the library has, with its words for them.
fn methods() -> clap::builder::PossibleValuesParser {
    let values = pellucid::attribution_methods().iter().map(|m| PossibleValue::new(m.id()).help(m.about()));
    values.collect::<Vec<_>>().into()
}

pub fn run(global: &Global, attribute: &AttributeArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&attribute.model, &attribute.open.options(global))?;
    let (question, methods, settings) = attribute.settings();
    let found = pellucid::attribute(&classifier, &attribute.picture, &question, &methods, &settings)?;
    if let Some(folder) = &attribute.out {
        write(folder, &found)?;
    }
    output::warnings(&found.warnings);
    if global.json {
        output::json(&found)?;
    } else {
        output::lines(&describe(&found, attribute.out.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, found: &Attributions) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = |name: &str, picture: &Picture| {
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, picture.to_png()?).with_context(|| format!("cannot write {}", path.display()))
    };
    write("seen", &found.seen)?;
    for Attribution { map, .. } in &found.maps {
        if let Some(drawn) = found.drawn(map) {
            write(&map.id, &drawn)?;
        }
        if let Some(drawn) = found.drawn_on_picture(map) {
            write(&format!("{}-on-picture", map.id), &drawn)?;
        }
    }
    output::maps(folder, &found.arrays(), found.view.as_ref())
}

fn describe(found: &Attributions, folder: Option<&Path>) -> Vec<String> {
    let mut lines = vec![format!("what speaks for {}", found.title)];
    let head = |game| format!("confidence at {game} ({}; random order)", ConfidenceGames::MEASURE.better(game));
    let heads = Game::ALL.map(head);
    lines.push(format!("{:22} {}", "", heads.join("  ")));
    for Attribution { map, games } in &found.maps {
        let area = |game: Game, head: &String| {
            let areas = games.as_ref().map(|games| games.areas(game));
            let words = areas.map_or_else(|| "–".to_owned(), |(map, random)| format!("{map:.3} ({random:.3})"));
            format!("{words:>w$}", w = head.chars().count())
        };
        let areas: Vec<String> = Game::ALL.into_iter().zip(&heads).map(|(game, head)| area(game, head)).collect();
        lines.push(format!("{:22} {}", map.id, areas.join("  ")));
        lines.extend(map.figures.iter().map(|figure| format!("  {:.3}  {}", figure.value, figure.title)));
        lines.extend(map.flag.as_ref().map(|flag| format!("  not drawn: {flag}")));
        lines.extend(map.doubts.iter().map(|doubt| format!("  doubtful: {doubt}")));
    }
    match folder {
        Some(folder) => lines.push(format!("maps: {}", folder.display())),
        None => lines.push("maps: add --out FOLDER".to_owned()),
    }
    lines
}
