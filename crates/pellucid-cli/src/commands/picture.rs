//! `pellucid picture MODEL --neuron 3 17 --class NAME`.

use crate::args::{Args, PictureArgs};
use crate::output;
use crate::progress::Bars;
use anyhow::Result;
use pellucid::classifier_methods::illusion::results::PicturedNeuron;
use pellucid::{Classifier, PictureOutcome};
use std::process::ExitCode;

pub fn run(args: &Args, picture: &PictureArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&picture.model, &picture.open.options(&args.global))?;
    let outcome = pellucid::picture(&classifier, &picture.settings()?, &Bars::new(args.global.quiet))?;
    output::warnings(&outcome.results.warnings);
    if args.global.json {
        output::json(&outcome.results)?;
    } else {
        output::lines(&describe(&outcome))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(outcome: &PictureOutcome) -> Vec<String> {
    let mut lines: Vec<String> = outcome.results.neurons.iter().flat_map(neuron).collect();
    lines.push(format!("pictures     {}", outcome.directory.display()));
    lines.push(format!("report       {}", outcome.report.display()));
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
