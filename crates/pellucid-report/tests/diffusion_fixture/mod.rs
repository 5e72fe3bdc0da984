//! A made-up explanation of a diffusion model: pictures that come out of noise, maps that move with the steps.

use ndarray::Array2;
use pellucid_classifier::results::RunRecord;
use pellucid_report::{
    ArrivalRow, ArrivalsPanel, Caption, Choice, Curve, DiffusionPage, EffectCard, EffectsPanel, ExplainerPanel,
    FaithfulnessPanel, FaithfulnessRow, GameLine, GamesPanel, Map, Spread, StepMaps, StepPanel, Verdict,
};
use pellucid_vision::picture::Picture;

/// Steps of the page.
pub const STEPS: usize = 12;
/// Side of the pictures, which the page enlarges.
const SIDE: u32 = 32;
/// Sides of the maps: not square, and no divisor of the pictures'.
const GRID: (usize, usize) = (7, 9);

/// Values of DF-RISE's map at a step.
pub fn rise_map(step: usize) -> Array2<f32> {
    Array2::from_shape_fn(GRID, |(y, x)| {
        let (dx, dy) = (x as f32 - 1.0 - 0.5 * step as f32, y as f32 - 3.3);
        (-(dx * dx + dy * dy) / 6.0).exp() + 0.05 * ((x * 7 + y * 13 + step) % 5) as f32
    })
}

/// The clean picture of a step.
pub fn clean(step: usize) -> Picture {
    let grain = |x: u32, y: u32, k: u32| (x * 73 + y * 151 + k * 59 + (x * y) % 97) % 256;
    let part = step as f32 / (STEPS - 1) as f32;
    Picture::from_fn(SIDE, SIDE, |x, y| {
        let inside = (x as f32 - 16.0).hypot(y as f32 - 16.0) < 10.0;
        let target = if inside { [40, 150, 70] } else { [240, 210, 90] };
        [0, 1, 2].map(|k| {
            let noise = grain(x, y, k as u32) as f32;
            (part * target[k] as f32 + (1.0 - part) * noise) as u8
        })
    })
}

fn map(step: usize, shift: usize) -> Map {
    let values: Vec<f32> = rise_map(step + shift).iter().copied().collect();
    Map::scaled(&values, GRID.1)
}

fn spread(value: f64) -> Spread {
    Spread { value, low: value - 0.04, high: value + 0.05 }
}

fn panel(id: &str, title: &str, meaning: &str, steps: impl Fn(usize) -> StepMaps) -> ExplainerPanel {
    let [id, title, meaning] = [id, title, meaning].map(str::to_owned);
    ExplainerPanel { id, title, meaning, steps: (0..STEPS).map(steps).collect(), ..ExplainerPanel::default() }
}

fn caption(reading: &str, trust: &str) -> Caption {
    Caption { reading: reading.to_owned(), trust: trust.to_owned() }
}

fn choice(id: &str, label: &str, options: &[String]) -> Choice {
    Choice { id: id.to_owned(), label: label.to_owned(), options: options.to_vec(), ..Choice::default() }
}

/// One panel of a map, one with a choice, one with two, and one whose maps are said of at every step.
fn explainers(words: &[String]) -> Vec<ExplainerPanel> {
    // At the last step the map is the same everywhere.
    let rise = panel("rise", "DF-RISE", "What the step depends on (latent, mean)", |at| match at + 1 {
        STEPS => StepMaps { maps: vec![Map::default()], ..StepMaps::default() },
        _ => StepMaps { reading: "reliability 0.91, identity 0.34, 300 masks".to_owned(), maps: vec![map(at, 0)] },
    });
    let cam = panel("cam", "DF-CAM", "Which activations carry what the prompt changes", |at| StepMaps {
        maps: vec![map(at, 2), map(at, 3), Map::default()],
        ..StepMaps::default()
    });
    let blocks = ["all blocks", "mid_block", "up_blocks.0"].map(str::to_owned);
    let layers: Vec<String> =
        (0..3).map(|k| format!("/down_blocks.{k}/attentions.0/transformer_blocks.0/attn2")).collect();
    let attention = panel("attention", "Word", "Where the word's attention lies", |at| {
        let of_layer = |l: usize| (0..words.len()).map(move |k| map(at, k + l));
        let mean = (0..words.len()).map(|k| map(at, k));
        StepMaps { maps: mean.chain((0..3).flat_map(of_layer)).collect(), ..StepMaps::default() }
    });
    let mean = words.iter().map(|word| caption(&format!("“{word}”"), "Beats random order"));
    let each = layers.iter().flat_map(|l| words.iter().map(move |w| caption(&format!("“{w}”, {l}"), "")));
    let longest = (0..words.len()).rev().max_by_key(|&k| words[k].chars().count()).unwrap_or(0);
    let word = Choice { value: longest, is_side_by_side: true, ..choice("word", "Word", words) };
    let all_layers: Vec<String> = std::iter::once("mean of all layers".to_owned()).chain(layers.clone()).collect();
    let recovery = panel("recovery", "Recovery", "How far each place has come", |at| StepMaps {
        reading: format!("{:.0} % on average", 100.0 * at as f64 / (STEPS - 1) as f64),
        maps: vec![map(at, 1)],
    });
    vec![
        ExplainerPanel { captions: vec![caption("", "Beats random order")], ..rise },
        ExplainerPanel {
            choices: vec![choice("block", "DF-CAM block", &blocks)],
            captions: vec![
                caption("", "Does not beat random order"),
                caption("mid_block", ""),
                caption("up_blocks.0", ""),
            ],
            ..cam
        },
        ExplainerPanel {
            captions: mean.chain(each).collect(),
            choices: vec![word, choice("layer", "Layer", &all_layers)],
            ..attention
        },
        recovery,
    ]
}

/// The page, with every part that a page can have; the prompt and the words are `name` where it is given.
pub fn page(name: Option<&str>) -> DiffusionPage {
    let png = |picture: Picture| picture.to_png().expect("encodes");
    let words: Vec<String> = match name {
        Some(name) => vec![name.to_owned(), "of".to_owned()],
        None => ["a", "frog", "left", "of", "a", "mushroom"].map(str::to_owned).to_vec(),
    };
    let step = |at: usize| StepPanel {
        t: 981 - at * 80,
        stage: ["coarse", "content", "clean-up"][at * 3 / STEPS].to_owned(),
        status: format!("denoised {:.0} %", 100.0 * at as f64 / (STEPS - 1) as f64),
        clean: png(clean(at)),
        noisy: png(clean(at.saturating_sub(2))),
    };
    let line = |name: &str, is_control| GameLine { name: name.to_owned(), values: vec![0.0, 0.6, 1.0], is_control };
    let game = |at: usize| GamesPanel {
        step: at,
        t: 981 - at * 80,
        deletion: vec![line("DF-RISE", false), line("random order", true)],
        insertion: vec![line("DF-RISE", false)],
    };
    let row = |name: &str, verdict| FaithfulnessRow {
        map: name.to_owned(),
        deletion: spread(0.62),
        insertion: spread(0.31),
        verdict,
    };
    let verdict = Verdict {
        text: "Beats its controls".to_owned(),
        passes: true,
        leads: vec![("random order in deletion".to_owned(), spread(0.1), "3 of 3".to_owned())],
    };
    DiffusionPage {
        model: name.unwrap_or("emoji_diffusion").to_owned(),
        prompt: name.unwrap_or("a frog left of a mushroom").to_owned(),
        picture: png(clean(STEPS - 1)),
        steps: (0..STEPS).map(step).collect(),
        explainers: explainers(&words),
        curves: vec![
            Curve {
                title: "Level of denoising".to_owned(),
                meaning: "How much of the first step's error is gone.".to_owned(),
                lines: vec![("recovery".to_owned(), (0..STEPS).map(|at| at as f64 / 11.0).collect())],
                range: Some((0.0, 1.0)),
            },
            Curve {
                title: "Attention per word".to_owned(),
                meaning: "Share of all attention that each word gets.".to_owned(),
                lines: words.iter().map(|w| (w.clone(), vec![0.1; STEPS])).collect(),
                range: None,
            },
        ],
        arrivals: vec![ArrivalsPanel {
            title: "When structures come".to_owned(),
            conclusions: vec!["Coarse structures come before fine ones.".to_owned()],
            meaning: "A row for each size of structures.".to_owned(),
            control: "The control knows only how noisy the step is.".to_owned(),
            threshold: 0.9,
            rows: ["8 pixels and more", "2 to 4 pixels"]
                .iter()
                .enumerate()
                .map(|(k, name)| ArrivalRow {
                    name: (*name).to_owned(),
                    levels: (0..STEPS).map(|at| (at as f64 / (4.0 + 4.0 * k as f64)).min(1.0)).collect(),
                    arrived: Some(4 + 3 * k),
                    control: (0..STEPS).map(|at| at as f64 / STEPS as f64).collect(),
                    control_arrived: (k == 0).then_some(STEPS - 1),
                })
                .collect(),
        }],
        effects: vec![EffectsPanel {
            title: "When each word acts, and where".to_owned(),
            conclusions: vec!["One map does not show where its word acts.".to_owned()],
            meaning: "Each word is swapped in a window of steps.".to_owned(),
            windows: vec!["steps 1–6".to_owned(), "steps 7–12".to_owned()],
            floor: Some(vec![0.02, 0.01]),
            cards: words
                .iter()
                .map(|word| EffectCard {
                    name: word.clone(),
                    how: "swapped for another".to_owned(),
                    whole: spread(0.3),
                    windows: vec![spread(0.25), spread(0.04)],
                    strongest: Some(0),
                    map: png(clean(0)),
                    agreements: vec![("attention".to_owned(), -0.59, "all layers".to_owned())],
                    marks: vec!["attention does not show where this word acts".to_owned()],
                })
                .collect(),
            fillers: vec!["of".to_owned()],
        }],
        faithfulness: Some(FaithfulnessPanel {
            over: "3 steps of this picture".to_owned(),
            has_intervals: true,
            chance: Some([0.5, 0.45]),
            rows: vec![row(name.unwrap_or("DF-RISE"), Some(verdict)), row("random order", None)],
            steps: vec![game(1), game(6), game(11)],
        }),
        facts: vec![("Guidance".to_owned(), "3".to_owned()), ("Name".to_owned(), name.unwrap_or("none").to_owned())],
        cautions: vec![name.unwrap_or("Read it with care.").to_owned()],
        record: RunRecord {
            command: "pellucid diffusion explain emoji_diffusion".to_owned(),
            date: "2025-03-01T12:00:00Z".to_owned(),
            ..RunRecord::default()
        },
        notes: vec![name.unwrap_or("A note.").to_owned()],
        version: "0.1.0".to_owned(),
    }
}
