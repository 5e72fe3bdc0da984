//! Measures on the emoji-scene model how well each map finds the prompted object, and how faithful it is, over many
//! prompts and against controls: the gate of [methods B8]. Keeps one JSON line per prompt, goes on where it was interrupted,
//! and writes the tables of docs/faithfulness.md to stdout from all the lines there are.
//!
//! ```sh
//! cargo run --release -p pellucid-diffusion --example evaluate -- zoo/models/emoji_diffusion 50 runs/evaluation.jsonl
//! ```
//!
//! Where the object is comes from colour segmentation of the generated picture: what differs from the border's median
//! colour. Prompts whose object cannot be told from the background that way are skipped and counted.
//!
//! [methods B8]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b8

use ndarray::{Array2, ArrayView3};
use pellucid_diffusion::auc::{Control, faithfulness};
use pellucid_diffusion::explain::cam::{Cam, Score};
use pellucid_diffusion::explain::cross_attention::{WordMaps, word_maps};
use pellucid_diffusion::explain::rise::{MaskKind, Mode, Reading, RiseSettings, Target, rise_readings};
use pellucid_diffusion::lime::lime;
use pellucid_diffusion::similarity::Similarity;
use pellucid_diffusion::trajectory::{Trajectory, TrajectorySettings};
use pellucid_diffusion::{Pipeline, PipelineOptions};
use pellucid_runtime::progress::Silent;
use pellucid_saliency::evaluate::{DistanceGames, Lead, Standing, Unit};
use pellucid_saliency::stats::{Interval, roc_area};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

const OBJECTS: [&str; 12] =
    ["apple", "cat", "car", "tree", "star", "heart", "fish", "house", "rocket", "mushroom", "frog", "panda"];
const BACKGROUNDS: [&str; 6] = ["blue", "gray", "white", "yellow", "red", "green"];
/// Of 20 steps, from 0.
const STEPS: [usize; 5] = [1, 5, 9, 13, 17];
const MASKS: usize = 200;
/// LIME takes 1000 passes a map, so only one prompt of so many has it.
const LIME_EVERY: usize = 10;
const LIME_SAMPLES: usize = 1000;

const RANDOM: &str = Control::Random.name();
const PIXEL_IDENTITY: &str = "identity control, single places";
const GRID_IDENTITY: &str = "identity control, 5 × 5 cells";

/// By map, then by step: area under ROC, deletion, insertion.
type Figures = BTreeMap<String, Vec<[f64; 3]>>;
/// Maps by name.
type Named = Vec<(String, Array2<f32>)>;

/// A line of the log.
#[derive(Serialize, Deserialize)]
struct Line {
    prompt: String,
    /// `None` where the object cannot be told from the background.
    figures: Option<Figures>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count, log] = arguments.as_slice() else {
        return Err("usage: evaluate PIPELINE PROMPTS FILE.jsonl".into());
    };
    let count: usize = count.parse()?;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<Line> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    if lines.len() < count {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut pipeline = Pipeline::open(folder, &PipelineOptions::default())?;
        let mut cam = Cam::new(&mut pipeline)?;
        for index in lines.len()..count {
            let (object, background) = (OBJECTS[index % 12], BACKGROUNDS[(index / 12 + index) % 6]);
            let prompt = format!("a {object} on {background}");
            let figures = prompt_figures(&mut pipeline, &mut cam, &prompt, index)?;
            let line = Line { prompt, figures };
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
            eprintln!("{} of {count}: {}", index + 1, line.prompt);
            lines.push(line);
        }
    }
    let skipped = lines.iter().filter(|l| l.figures.is_none()).count();
    println!(
        "{} prompts, {skipped} more skipped (object not told from the background by colour)\n",
        lines.len() - skipped
    );
    println!("{}", tables(&lines.into_iter().filter_map(|l| l.figures).collect::<Vec<_>>()));
    Ok(())
}

fn prompt_figures(
    pipeline: &mut Pipeline,
    cam: &mut Cam,
    text: &str,
    index: usize,
) -> Result<Option<Figures>, Box<dyn Error>> {
    let prompt = pipeline.prompt(text)?;
    let settings = TrajectorySettings { guidance: 3.0, seed: index as u64, ..TrajectorySettings::default() };
    let trajectory = Trajectory::compute(pipeline, &prompt, &settings, None, &Silent)?;
    let Some(inside) = object(trajectory.picture.view(), (pipeline.latent[1], pipeline.latent[2])) else {
        return Ok(None);
    };
    let words = word_maps(pipeline, &trajectory, &Silent)?;
    let mut figures = Figures::new();
    for at in STEPS {
        let mut maps = maps(pipeline, cam, &trajectory, &words, at)?;
        if index.is_multiple_of(LIME_EVERY) {
            maps.push(("LIME, 8 × 8 cells".to_owned(), lime(pipeline, &trajectory, at, 8, LIME_SAMPLES, 0)?));
        }
        for (name, map) in maps {
            let flat: Vec<f32> = map.iter().copied().collect();
            let roc = roc_area(&flat, &inside).ok_or("the object's mask is empty")?;
            let [deletion, insertion] = faithfulness(pipeline, &trajectory, at, &map)?.areas();
            figures.entry(name).or_default().push([roc, deletion, insertion]);
        }
    }
    Ok(Some(figures))
}

fn maps(
    pipeline: &mut Pipeline,
    cam: &mut Cam,
    trajectory: &Trajectory,
    words: &WordMaps,
    at: usize,
) -> Result<Named, Box<dyn Error>> {
    let size = (pipeline.latent[1], pipeline.latent[2]);
    // "a OBJECT on BACKGROUND": the object is the second word.
    let mut maps = vec![
        ("attention, the object's word".to_owned(), words.mean(at, 1, size)),
        ("attention, all words".to_owned(), words.all_words(at, size)),
    ];
    for (name, score) in [("DF-CAM, what the prompt changes", Score::Cond), ("DF-CAM, sum of the output", Score::Sum)] {
        let overall = cam.maps(trajectory, at, &score)?.overall.unwrap_or_else(|| Array2::zeros(size));
        maps.push((name.to_owned(), overall));
    }
    let contrast = Reading { target: Target::X0, similarity: Similarity::Structure, mode: Mode::Contrast };
    let local = [Target::Prev, Target::Eps, Target::X0].map(Reading::structure);
    for (masks, readings, identity) in [
        (MaskKind::Pixel, &local[..], PIXEL_IDENTITY),
        (MaskKind::Grid { cells: 5 }, &[contrast, Reading::influence()], GRID_IDENTITY),
    ] {
        let settings = RiseSettings { masks, count: MASKS, reliability: None, ..RiseSettings::default() };
        let found = rise_readings(pipeline, trajectory, at, &settings, readings, &Silent)?;
        let kind = if masks == MaskKind::Pixel { "single places" } else { "5 × 5 cells" };
        for (reading, map) in readings.iter().zip(found) {
            maps.push((format!("DF-RISE {reading}, {kind}"), map.map));
            // The control does not depend on the target, only on masks, mode and similarity.
            if reading.target == Target::X0 && reading.similarity == Similarity::Structure {
                maps.push((identity.to_owned(), map.identity));
            }
        }
    }
    maps.extend(Control::ALL.map(|control| (control.name().to_owned(), control.map(trajectory, at, 1))));
    Ok(maps)
}

/// Which places of the latent's grid hold the object, or `None` where that cannot be told.
fn object(picture: ArrayView3<'_, f32>, (rows, columns): (usize, usize)) -> Option<Vec<bool>> {
    let (_, height, width) = picture.dim();
    let median = |c: usize| {
        let border = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let border = border.filter(|&(y, x)| y < 2 || x < 2 || y + 2 >= height || x + 2 >= width);
        let mut values: Vec<f32> = border.map(|(y, x)| picture[[c, y, x]]).collect();
        values.sort_unstable_by(f32::total_cmp);
        values[values.len() / 2]
    };
    let ground = [median(0), median(1), median(2)];
    let differs =
        |y: usize, x: usize| (0..3).map(|c| (picture[[c, y, x]] - ground[c]).powi(2)).sum::<f32>().sqrt() > 0.35;
    let (ch, cw) = (height / rows, width / columns);
    let share = |row: usize, column: usize| {
        let cells = (0..ch).flat_map(|dy| (0..cw).map(move |dx| (row * ch + dy, column * cw + dx)));
        cells.filter(|&(y, x)| differs(y, x)).count() * 2 >= ch * cw
    };
    let inside: Vec<bool> = (0..rows * columns).map(|i| share(i / columns, i % columns)).collect();
    let part = inside.iter().filter(|i| **i).count() as f64 / inside.len() as f64;
    (0.04..0.7).contains(&part).then_some(inside)
}

fn is_control(name: &str) -> bool {
    ["identity", "random", "centre", "magnitude", "LIME"].iter().any(|c| name.starts_with(c))
}

/// The control that a map must beat beside the random order.
fn identity_of(name: &str) -> &'static str {
    if name.contains("5 × 5") { GRID_IDENTITY } else { PIXEL_IDENTITY }
}

/// One value per prompt: the mean over steps of a column.
fn column(all: &[Figures], name: &str, which: usize) -> Vec<Option<f64>> {
    let mean = |rows: &Vec<[f64; 3]>| rows.iter().map(|r| r[which]).sum::<f64>() / rows.len() as f64;
    all.iter().map(|figures| figures.get(name).map(mean)).collect()
}

fn shown(i: Interval) -> String {
    format!("{:.3} ({:.3} to {:.3})", i.value, i.low, i.high)
}

/// Areas of both games by map, averaged over the steps of each prompt.
fn units(all: &[Figures]) -> Vec<Unit> {
    let mean = |rows: &Vec<[f64; 3]>, which: usize| rows.iter().map(|r| r[which]).sum::<f64>() / rows.len() as f64;
    let areas = |figures: &Figures| figures.iter().map(|(name, r)| (name.clone(), [mean(r, 1), mean(r, 2)])).collect();
    all.iter().map(areas).collect()
}

fn tables(all: &[Figures]) -> String {
    let names: std::collections::BTreeSet<&String> = all.iter().flat_map(|f| f.keys()).collect();
    let steps = STEPS.map(|s| (s + 1).to_string()).join(" / ");
    let mut lines = vec![
        format!(
            "| map | prompts | finds the object, all steps (ROC area) | at step {steps} of 20 | deletion (high is good) | insertion (low is good) |"
        ),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let (controls, maps): (Vec<&&String>, Vec<&&String>) = names.iter().partition(|n| is_control(n));
    for name in maps.iter().chain(&controls) {
        let over = |which| Interval::of(&column(all, name, which).into_iter().flatten().collect::<Vec<_>>());
        let at =
            |step: usize| Interval::of(&all.iter().filter_map(|f| Some(f.get(**name)?[step][0])).collect::<Vec<_>>());
        let each: Vec<String> = (0..STEPS.len()).map(|s| format!("{:.2}", at(s).value)).collect();
        let count = column(all, name, 0).into_iter().flatten().count();
        lines.push(format!(
            "| {name} | {count} | {} | {} | {} | {} |",
            shown(over(0)),
            each.join(" / "),
            shown(over(1)),
            shown(over(2))
        ));
    }
    lines.extend([
        String::new(),
        "| map | wins deletion against random order by | against identity by | wins insertion against random order by | against identity by | passes |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ]);
    let units = units(all);
    for name in maps {
        let Some(standing) = Standing::of(DistanceGames::MEASURE, &units, name, &[RANDOM, identity_of(name)], &[])
        else {
            continue;
        };
        let cell = |l: &Lead| format!("{:+.3} ({:+.3} to {:+.3})", l.lead.value, l.lead.low, l.lead.high);
        let cells: Vec<String> = standing.leads.iter().map(cell).collect();
        let passes = if standing.passes() == Some(true) { "yes" } else { "no" };
        lines.push(format!("| {name} | {} | {passes} |", cells.join(" | ")));
    }
    lines.join("\n")
}
