//! `pellucid attribute MODEL PICTURE`.

use crate::args::{Args, AttributeArgs};
use crate::output;
use anyhow::{Context, Result};
use pellucid::classifier_methods::attribution::{Attribution, Method};
use pellucid::saliency::evaluate::{ConfidenceGames, Game};
use pellucid::{Attributions, Classifier};
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &Args, attribute: &AttributeArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&attribute.model, &attribute.open.options(&args.global))?;
    let (question, methods, settings) = attribute.settings();
    let found = pellucid::attribute(&classifier, &attribute.picture, &question, &methods, &settings)?;
    if let Some(folder) = &attribute.out {
        write(folder, &found)?;
    }
    if args.global.json {
        output::json(&found)?;
    } else {
        output::lines(&describe(&found, attribute.out.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn name(method: Method) -> &'static str {
    match method {
        Method::GradCam => "grad-cam",
        Method::IntegratedGradients => "integrated-gradients",
        Method::SmoothGrad => "smooth-grad",
    }
}

fn write(folder: &Path, found: &Attributions) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write("seen", &found.seen)?;
    for (map, drawn) in found.maps.iter().zip(&found.drawn) {
        if let Some(drawn) = drawn {
            write(name(map.method), drawn)?;
        }
    }
    Ok(())
}

fn describe(found: &Attributions, folder: Option<&Path>) -> Vec<String> {
    let mut lines = vec![format!("what speaks for {}", found.title)];
    let head = |game| format!("confidence at {game} ({}; random order)", ConfidenceGames::MEASURE.better(game));
    let [deletion, insertion] = Game::ALL.map(head);
    lines.push(format!("{:22} {deletion}  {insertion}  same with shuffled weights", ""));
    let scores = |a: &Attribution| {
        let both = |game| {
            let (map, random) = a.games.areas(game);
            format!("{map:.3} ({random:.3})")
        };
        format!(
            "{:22} {:>w$}  {:>v$}  {:.3}",
            name(a.method),
            both(Game::Deletion),
            both(Game::Insertion),
            a.shuffled,
            w = deletion.chars().count(),
            v = insertion.chars().count(),
        )
    };
    for map in &found.maps {
        lines.push(scores(map));
        lines.extend(map.completeness.map(|c| format!("  its sum is {c:.3} of the score's rise from gray")));
        lines.extend(map.flag.as_ref().map(|flag| format!("  not drawn: {flag}")));
    }
    match folder {
        Some(folder) => lines.push(format!("maps: {}", folder.display())),
        None => lines.push("maps: add --out FOLDER".to_owned()),
    }
    lines
}
