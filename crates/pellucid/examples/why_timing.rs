//! What asking an open classifier again costs, against preparing the picture and one pass: `why_timing ROUNDS MODEL.onnx…`. The kinds of
//! question take turns, so that other work on the machine falls on all of them; printed are medians.

use pellucid::attribution::AttributionSettings;
use pellucid::data::Picture;
use pellucid::network::{Score, Subject, Taps};
use pellucid::{Classifier, OpenOptions, Question};
use std::time::Instant;

/// The most that a question may cost, in passes (and, for a map, the gradient's own time).
const AIM: f64 = 1.3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().ok_or("give ROUNDS MODEL.onnx…")?.parse()?;
    println!("| model | pass, ms | why | class map (Grad-CAM) less its gradient | opened afresh |");
    println!("|---|---|---|---|---|");
    let mut within = true;
    for model in arguments {
        let [pass, why, map, afresh] = measure(&model, rounds)?;
        let name = std::path::Path::new(&model).file_name().unwrap_or_default().to_string_lossy().into_owned();
        within &= why <= AIM && map <= AIM;
        println!("| {name} | {pass:.1} | {why:.2}× | {map:.2}× | {afresh:.1}× |");
    }
    println!(
        "\nEach in passes (the picture prepared, the network run); the aim for the first two was at most {AIM}×: {}.",
        if within { "held" } else { "missed" }
    );
    Ok(())
}

/// Milliseconds of a pass; `why`, and a map less its gradient, in passes; and `why` of a classifier that is opened for it.
fn measure(model: &str, rounds: usize) -> Result<[f64; 4], Box<dyn std::error::Error>> {
    let classifier = Classifier::open(model, &OpenOptions::default())?;
    let preprocessing = classifier.preprocessing();
    let picture = Picture::from_fn(preprocessing.width, preprocessing.height, |x, y| [x as u8, y as u8, (x ^ y) as u8]);
    let input = preprocessing.run(&picture).insert_axis(ndarray::Axis(0)).into_dyn();
    let (network, settings) = (classifier.network(), AttributionSettings::default().with_checked(false));
    let layer = network.layer();
    let score = Score::of(Subject::Class(1), layer.classes(), layer.features());
    let question = Question::Class("1".to_owned());
    let ask = || pellucid::attribute(&classifier, &picture, &question, &["grad-cam"], &settings);
    // Compiled once, before the clock runs.
    (network.forward(&input, Taps::Vectors)?, pellucid::why(&classifier, &picture, 8)?, ask()?);
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let clock = |at: &mut Vec<f64>, start: Instant| at.push(1e3 * start.elapsed().as_secs_f64());
        let start = Instant::now();
        let prepared = preprocessing.run(&picture).insert_axis(ndarray::Axis(0)).into_dyn();
        network.forward(&prepared, Taps::Vectors)?;
        clock(&mut times[0], start);
        let start = Instant::now();
        pellucid::why(&classifier, &picture, 8)?;
        clock(&mut times[1], start);
        let start = Instant::now();
        network.gradient(&input, &score)?;
        clock(&mut times[2], start);
        let start = Instant::now();
        ask()?;
        clock(&mut times[3], start);
    }
    let start = Instant::now();
    pellucid::why(&Classifier::open(model, &OpenOptions::default())?, &picture, 8)?;
    let afresh = 1e3 * start.elapsed().as_secs_f64();
    let [pass, why, gradient, map] = times.map(median);
    Ok([pass, why / pass, (map - gradient) / pass, afresh / pass])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
