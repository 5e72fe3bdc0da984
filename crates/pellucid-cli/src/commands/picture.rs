//! `pellucid visualize MODEL --neuron 3 17 --class NAME`.

use crate::args::{Args, VisualizeArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::Result;
use pellucid::results::PicturedNeuron;
use pellucid::{Classifier, Data, Pictured, RunPaths};
use std::process::ExitCode;

pub fn run(args: &Args, picture: &VisualizeArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&picture.model, &picture.open.options(&args.global))?;
    let run = picture.run.options(true)?;
    let data = picture.data.as_ref().map(Data::from);
    let made = pellucid::picture(&classifier, data, &picture.settings(), &Bars::new(args.global.quiet))?;
    let written = made.write_run(&run)?;
    output::warnings(&made.warnings);
    if args.global.json {
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
