//! Measures on the emoji-scene model how well each map finds the prompted object, and how faithful it is, over many
//! prompts and against controls. Writes one JSON line per prompt, and the table of docs/diffusion.md to stdout.
//!
//! ```sh
//! cargo run --release -p pellucid-diffusion --example evaluate -- zoo/models/emoji_diffusion 50 runs/evaluation.jsonl
//! ```
//!
//! Where the object is comes from colour segmentation of the generated picture: what differs from the border's median
//! colour. Prompts whose object cannot be told from the background that way are skipped and counted.

use ndarray::{Array2, ArrayView3};
use pellucid_diffusion::auc::{Control, faithfulness};
use pellucid_diffusion::cam::{Cam, Score};
use pellucid_diffusion::ranking::{Interval, roc_area};
use pellucid_diffusion::rise::{MaskKind, Mode, Reading, RiseSettings, Target, rise_readings};
use pellucid_diffusion::similarity::Similarity;
use pellucid_diffusion::trajectory::{Trajectory, TrajectorySettings};
use pellucid_diffusion::words::word_maps;
use pellucid_diffusion::{Pipeline, PipelineOptions};
use pellucid_runtime::progress::Silent;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

const OBJECTS: [&str; 12] =
    ["apple", "cat", "car", "tree", "star", "heart", "fish", "house", "rocket", "mushroom", "frog", "panda"];
const BACKGROUNDS: [&str; 6] = ["blue", "gray", "white", "yellow", "red", "green"];
/// Of 20 steps.
const STEPS: [usize; 3] = [3, 9, 15];
const MASKS: usize = 100;

/// By map, then by step: area under ROC, deletion, insertion.
type Figures = BTreeMap<String, Vec<[f64; 3]>>;
/// Maps by name.
type Named = Vec<(String, Array2<f32>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("usage: evaluate PIPELINE [PROMPTS] [FILE.jsonl]")?;
    let count: usize = arguments.get(1).map_or(Ok(50), |n| n.parse())?;
    let mut log = arguments.get(2).map(std::fs::File::create).transpose()?;
    let mut pipeline = Pipeline::open(folder, &PipelineOptions::default())?;
    let mut cam = Cam::new(&mut pipeline)?;
    let (mut all, mut skipped) = (Vec::new(), 0);
    for index in 0..count {
        let (object, background) = (OBJECTS[index % 12], BACKGROUNDS[(index / 12 + index) % 6]);
        let prompt = format!("a {object} on {background}");
        match prompt_figures(&mut pipeline, &mut cam, &prompt, index as u64)? {
            Some(figures) => {
                if let Some(log) = &mut log {
                    writeln!(log, "{}", serde_json::json!({ "prompt": prompt, "figures": figures }))?;
                }
                all.push(figures);
            }
            None => skipped += 1,
        }
        eprintln!("{} of {count}: {prompt}", index + 1);
    }
    println!("{}", table(&all, skipped));
    Ok(())
}

fn prompt_figures(
    pipeline: &mut Pipeline,
    cam: &mut Cam,
    text: &str,
    seed: u64,
) -> Result<Option<Figures>, Box<dyn Error>> {
    let prompt = pipeline.prompt(text)?;
    let settings = TrajectorySettings { guidance: 3.0, seed, ..TrajectorySettings::default() };
    let trajectory = Trajectory::compute(pipeline, &prompt, &settings, None, &Silent)?;
    let Some(inside) = object(trajectory.picture.view(), (pipeline.latent[1], pipeline.latent[2])) else {
        return Ok(None);
    };
    let words = word_maps(pipeline, &trajectory, &Silent)?.map_err(|n| n.reason)?;
    let mut figures = Figures::new();
    for at in STEPS {
        for (name, map) in maps(pipeline, cam, &trajectory, &words, at)? {
            let flat: Vec<f32> = map.iter().copied().collect();
            let roc = roc_area(&flat, &inside).ok_or("the object's mask is empty")?;
            let games = faithfulness(pipeline, &trajectory, at, &map)?;
            figures.entry(name).or_default().push([roc, games.deletion.fixed_area, games.insertion.fixed_area]);
        }
    }
    Ok(Some(figures))
}

fn maps(
    pipeline: &mut Pipeline,
    cam: &mut Cam,
    trajectory: &Trajectory,
    words: &pellucid_diffusion::words::WordMaps,
    at: usize,
) -> Result<Named, Box<dyn Error>> {
    let size = (pipeline.latent[1], pipeline.latent[2]);
    // "a OBJECT on BACKGROUND": the object is the second word.
    let mut maps = vec![("attention to the object's word".to_owned(), words.mean(at, 1, size))];
    for (name, score) in [("DF-CAM, condition", Score::Cond), ("DF-CAM, sum", Score::Sum)] {
        let overall = cam.maps(trajectory, at, &score)?.overall.unwrap_or_else(|| Array2::zeros(size));
        maps.push((name.to_owned(), overall));
    }
    let contrast = Reading { target: Target::X0, similarity: Similarity::Structure, mode: Mode::Contrast };
    let pixel = [Target::Prev, Target::Eps, Target::X0].map(Reading::structure);
    for (masks, readings) in
        [(MaskKind::Pixel, &pixel[..]), (MaskKind::Grid { cells: 5 }, &[contrast, Reading::influence()])]
    {
        let settings = RiseSettings { masks, count: MASKS, reliability: None, ..RiseSettings::default() };
        let found = rise_readings(pipeline, trajectory, at, &settings, readings, &Silent)?;
        let kind = if masks == MaskKind::Pixel { "pixel masks" } else { "grid masks" };
        for (reading, map) in readings.iter().zip(found) {
            maps.push((format!("DF-RISE {reading}, {kind}"), map.map));
            if matches!(reading.target, Target::X0) && reading.similarity == Similarity::Structure {
                maps.push((
                    format!(
                        "~ identity control, {} {kind}",
                        if reading.mode == Mode::Local { "local" } else { "contrast" }
                    ),
                    map.identity,
                ));
            }
        }
    }
    for control in [Control::Random, Control::Centre, Control::Magnitude] {
        maps.push((format!("~ {control:?}").to_lowercase(), control.map(trajectory, at, 1)));
    }
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

fn table(all: &[Figures], skipped: usize) -> String {
    let mut lines = vec![
        format!("{} prompts, {skipped} skipped (object not told from the background by colour)", all.len()),
        String::new(),
        "| map | finds the object, step 4 / 10 / 16 of 20 (ROC area) | deletion (high is good) | insertion (low is good) | against random order: deletion, insertion |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    let Some(first) = all.first() else { return lines.join("\n") };
    for name in first.keys() {
        let of = |f: &Figures, name: &str, step: usize, which: usize| f.get(name).map_or(f64::NAN, |v| v[step][which]);
        let roc: Vec<String> = (0..STEPS.len())
            .map(|s| format!("{:.3}", Interval::of(&all.iter().map(|f| of(f, name, s, 0)).collect::<Vec<_>>()).value))
            .collect();
        let mean = |f: &Figures, name: &str, which: usize| {
            (0..STEPS.len()).map(|s| of(f, name, s, which)).sum::<f64>() / STEPS.len() as f64
        };
        let over = |which: usize| Interval::of(&all.iter().map(|f| mean(f, name, which)).collect::<Vec<_>>());
        let against = |which: usize| {
            Interval::of(&all.iter().map(|f| mean(f, name, which) - mean(f, "~ random", which)).collect::<Vec<_>>())
        };
        let shown = |i: Interval| format!("{:.3} ({:.3}–{:.3})", i.value, i.low, i.high);
        let signed = |i: Interval| format!("{:+.3} ({:+.3}…{:+.3})", i.value, i.low, i.high);
        lines.push(format!(
            "| {} | {} | {} | {} | {}, {} |",
            name.trim_start_matches("~ "),
            roc.join(" / "),
            shown(over(1)),
            shown(over(2)),
            signed(against(1)),
            signed(against(2))
        ));
    }
    lines.join("\n")
}
