//! `pellucid attribute MODEL PICTURE`.

use crate::args::{Args, AttributeArgs};
use crate::output;
use anyhow::{Context, Result};
use pellucid::attribution::Attribution;
use pellucid::data::Picture;
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
    }
    Ok(())
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
    }
    match folder {
        Some(folder) => lines.push(format!("maps: {}", folder.display())),
        None => lines.push("maps: add --out FOLDER".to_owned()),
    }
    lines
}
