//! `pellucid why MODEL PICTURE`.

use crate::args::{Global, OpenArgs};
use crate::output;
use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use pellucid::data::Picture;
use pellucid::{Classifier, Evidence, Why};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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

pub fn run(global: &Global, why: &WhyArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&why.model, &why.open.options(global))?;
    let answer = pellucid::why(&classifier, &why.picture, why.neurons)?;
    if let Some(folder) = &why.out {
        write_pictures(folder, &answer)?;
    }
    output::warnings(&answer.warnings);
    if global.json {
        output::json(&answer)?;
    } else {
        output::lines(&describe(&answer, why.out.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pictures(folder: &Path, why: &Why) -> Result<()> {
    let write = |name: String, picture: &Picture| {
        let path = folder.join(name);
        std::fs::write(&path, picture.to_png()?).with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    write("seen.png".to_owned(), &why.seen)?;
    for (side, list) in [("for", &why.supporting), ("against", &why.opposing)] {
        for (rank, evidence) in list.iter().enumerate() {
            if let Some(drawn) = evidence.drawn(&why.seen) {
                write(format!("{side}-{}-neuron-{}.png", rank + 1, evidence.neuron), &drawn)?;
            }
        }
    }
    output::maps(folder, &why.arrays(), why.view.as_ref())
}

fn describe(why: &Why, folder: Option<&Path>) -> Vec<String> {
    let mut lines: Vec<String> =
        why.classes.iter().map(|(_, name, p)| format!("{:5.1} %  {name}", 100.0 * p)).collect();
    lines.push(format!("margin over the runner-up: {:.3} logits", why.margin));
    let evidence = |e: &Evidence| {
        format!("  neuron {:<5} {:+.3} logits  (activation {:.3})", e.neuron, e.contribution, e.activation)
    };
    lines.push("for the answer:".to_owned());
    lines.extend(why.supporting.iter().map(evidence));
    lines.push("against it:".to_owned());
    lines.extend(why.opposing.iter().map(evidence));
    lines.extend(why.maps.clone());
    if let Some(note) = &why.note {
        lines.push(note.to_string());
        return lines;
    }
    match folder {
        Some(folder) => lines.push(format!("heat maps: {}", folder.display())),
        None => lines.push("heat maps: add --out FOLDER".to_owned()),
    }
    lines
}
