//! From results to the report's page.

use super::explain::{Computed, Explained, Explanation};
use super::faithful::{ALL_WORDS, IDENTITY, MapFaithfulness, RANDOM, Study, word_name};
use crate::{Error, VERSION};
use ndarray::Array2;
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::cam::Score;
use pellucid_diffusion::recovery::Stage;
use pellucid_diffusion::rise::MaskKind;
use pellucid_diffusion::{Pipeline, Timesteps, picture};
use pellucid_report::{
    Curve, DiffusionPage, FaithfulnessPage, FaithfulnessPanel, FaithfulnessRow, GameLine, GamesPanel, Map, RisePanel,
    Spread, StepPanel, Trust, Verdict,
};
use pellucid_saliency::evaluate::{Game, Lead, Standing};
use pellucid_saliency::stats::Interval;

/// Longest side of a picture in the page.
const SIDE: u32 = 256;

pub(super) fn page(
    pipeline: &mut Pipeline,
    all: &Computed,
    explanation: &Explanation,
    record: &RunRecord,
) -> Result<DiffusionPage, Error> {
    let mut steps = Vec::with_capacity(all.trajectory.steps.len());
    for at in 0..all.trajectory.steps.len() {
        steps.push(step(pipeline, all, at)?);
    }
    Ok(DiffusionPage {
        model: explanation.model.clone(),
        prompt: explanation.prompt.clone(),
        picture: picture(all.trajectory.picture.view()).thumbnail(SIDE).to_png()?,
        steps,
        words: explanation.words.clone(),
        layers: explanation.layers.iter().map(|l| l.name.clone()).collect(),
        blocks: explanation.blocks.clone(),
        rise: explanation
            .rise
            .as_ref()
            .map(|r| format!("What the step depends on ({})", r.reading))
            .unwrap_or_default(),
        cam: explanation.cam.as_ref().map(|c| cam_meaning(c).to_owned()).unwrap_or_default(),
        curves: curves(all, explanation),
        faithfulness: faithfulness(explanation),
        trust: trust(explanation),
        settled: map(&all.recovery.settled),
        facts: facts(pipeline, explanation),
        record: record.clone(),
        notes: explanation.notes.iter().chain(&explanation.warnings).cloned().collect(),
        version: VERSION.to_owned(),
    })
}

fn cam_meaning(score: &Score) -> &'static str {
    match score {
        Score::Cond => "Which activations carry what the prompt changes",
        Score::Sum => "Which activations raise the output's sum",
        Score::Region(_) => "Which activations raise the output in a region",
    }
}

fn step(pipeline: &mut Pipeline, all: &Computed, at: usize) -> Result<StepPanel, Error> {
    let step = &all.trajectory.steps[at];
    let noisy = pipeline.decode(&step.latent)?;
    let noisy = noisy.index_axis(ndarray::Axis(0), 0);
    let cam = all.cam.get(at);
    let size = all.recovery.settled.dim();
    let words = all.words.as_ref();
    let count = words.map_or(0, |w| w.words.len());
    Ok(StepPanel {
        t: step.t,
        stage: match all.recovery.stages[at] {
            Stage::Coarse => "coarse",
            Stage::Content => "content",
            Stage::Cleanup => "clean-up",
        }
        .to_owned(),
        level: all.recovery.levels[at],
        clean: picture(step.decoded.view()).thumbnail(SIDE).to_png()?,
        noisy: picture(noisy).thumbnail(SIDE).to_png()?,
        rise: all.rise.get(at).map(|r| RisePanel {
            map: map(&r.map),
            reliability: r.reliability,
            identity: r.identity_correlation,
            masks: r.masks,
        }),
        cam: cam.and_then(|c| c.overall.as_ref()).map(map).unwrap_or_default(),
        blocks: cam
            .map(|c| c.blocks.iter().map(|b| b.as_ref().map(map).unwrap_or_default()).collect())
            .unwrap_or_default(),
        recovery: Map::between(&flat(&all.recovery.maps[at]), size.1, 0.0, 1.0),
        words: words.map(|w| (0..count).map(|k| map(&w.mean(at, k, size))).collect()).unwrap_or_default(),
        layers: words.map(|w| w.maps[at].iter().map(|l| l.iter().map(map).collect()).collect()).unwrap_or_default(),
    })
}

fn flat(map: &Array2<f32>) -> Vec<f32> {
    map.iter().copied().collect()
}

fn map(values: &Array2<f32>) -> Map {
    Map::scaled(&flat(values), values.ncols())
}

fn curves(all: &Computed, explanation: &Explanation) -> Vec<Curve> {
    let steps = &explanation.steps;
    let level = Curve {
        title: "Level of denoising".to_owned(),
        meaning: "How much of the first step's error is gone, averaged over places.".to_owned(),
        lines: vec![("recovery".to_owned(), steps.iter().map(|s| s.level).collect())],
        range: Some((0.0, 1.0)),
    };
    let mut curves = vec![level];
    if !all.rise.is_empty() {
        curves.push(Curve {
            title: "DF-RISE: can the map be trusted?".to_owned(),
            meaning: "Agreement of two halves of the masks (high is good), and with a map made without the network (near 1, the \
                      map says nothing about it)."
                .to_owned(),
            lines: vec![
                ("reliability".to_owned(), all.rise.iter().map(|r| r.reliability).collect()),
                ("identity control".to_owned(), all.rise.iter().map(|r| r.identity_correlation).collect()),
            ],
            range: Some((-1.0, 1.0)),
        });
    }
    if let Some(words) = &all.words {
        let share = |k: usize| {
            let at = |step: usize| f64::from(words.mean(step, k, all.recovery.settled.dim()).mean().unwrap_or(0.0));
            (0..steps.len()).map(at).collect()
        };
        curves.push(Curve {
            title: "Attention per word".to_owned(),
            meaning: "Share of all attention that each word gets; the rest goes to the tokens that frame the prompt."
                .to_owned(),
            lines: words.words.iter().enumerate().map(|(k, w)| (w.clone(), share(k))).collect(),
            range: None,
        });
    }
    curves
}

fn spread(interval: Interval) -> Spread {
    Spread { value: interval.value, low: interval.low, high: interval.high }
}

/// What is to be thought of a map, in the few words that fit under its picture.
fn verdict(standing: &Standing) -> Option<Verdict> {
    let name = |l: &Lead| match l.game {
        Game::Deletion => format!("{} in deletion", l.control),
        Game::Insertion => format!("{} in insertion", l.control),
    };
    // A control that both games name is named once.
    let listed = |keep: &dyn Fn(&Lead) -> bool| {
        let mut names: Vec<String> = Vec::new();
        let kept = || standing.leads.iter().filter(|l| keep(l));
        for lead in kept() {
            let both = kept().filter(|l| l.control == lead.control).count() == Game::ALL.len();
            let name = if both { lead.control.clone() } else { name(lead) };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    };
    let controls = standing.controls().join(" and ");
    let behind = listed(&|l| l.is_gate && l.lead.value <= 0.0);
    let unsure = listed(&|l| l.is_gate && l.lead.value > 0.0 && !l.is_certain());
    let text = match standing.passes() {
        _ if standing.leads.is_empty() => return None,
        Some(true) => match listed(&|l| !l.is_gate && !l.is_certain()).as_str() {
            "" => format!("Beats {controls}, and the priors too"),
            priors => format!("Beats {controls}; not {priors}"),
        },
        None if behind.is_empty() => format!("Ahead of {controls} at the one step measured"),
        Some(false) if behind.is_empty() => format!("Ahead, but not for certain of {unsure}"),
        _ => format!("Does not beat {behind}"),
    };
    let lead = |l: &Lead| (name(l), spread(l.lead), format!("{} of {}", l.ahead, standing.units));
    Some(Verdict { text, passes: standing.passes() == Some(true), leads: standing.gate().map(lead).collect() })
}

/// The areas of the order at random.
fn chance(standings: &[Standing]) -> Option<[f64; 2]> {
    let random = standings.iter().find(|s| s.map == RANDOM)?;
    Some(Game::ALL.map(|game| random.area(game).value))
}

fn rows(standings: &[Standing]) -> Vec<FaithfulnessRow> {
    let row = |s: &Standing| FaithfulnessRow {
        map: s.map.clone(),
        deletion: spread(s.area(Game::Deletion)),
        insertion: spread(s.area(Game::Insertion)),
        verdict: verdict(s),
    };
    standings.iter().map(row).collect()
}

fn faithfulness(explanation: &Explanation) -> Option<FaithfulnessPanel> {
    let played = &explanation.faithfulness;
    let units = explanation.standings.iter().map(|s| s.units).max()?;
    let mut steps: Vec<(usize, usize)> = played.iter().map(|p| (p.step, p.t)).collect();
    steps.dedup();
    Some(FaithfulnessPanel {
        over: if units == 1 { "one step of this picture".to_owned() } else { format!("{units} steps of this picture") },
        has_intervals: units > 1,
        chance: chance(&explanation.standings),
        rows: rows(&explanation.standings),
        steps: steps.into_iter().map(|(step, t)| games_at(played, step, t)).collect(),
    })
}

/// The curves of a step: those of the maps that the panels show, and of the controls that they have to beat.
fn games_at(played: &[MapFaithfulness], step: usize, t: usize) -> GamesPanel {
    let lines = |game: Game| {
        let shown = ["DF-RISE", "DF-CAM", ALL_WORDS, RANDOM, IDENTITY];
        let find = |name: &&str| played.iter().find(|p| p.step == step && p.map == *name);
        let line = |p: &MapFaithfulness| {
            let distances = &p.games.curve(game).distances;
            let ends = distances[0].max(distances[distances.len() - 1]).max(f64::MIN_POSITIVE);
            let values = distances.iter().map(|d| d / ends).collect();
            GameLine { name: p.map.clone(), values, is_control: p.is_control }
        };
        shown.iter().filter_map(find).map(line).collect()
    };
    GamesPanel { step, t, deletion: lines(Game::Deletion), insertion: lines(Game::Insertion) }
}

fn trust(explanation: &Explanation) -> Trust {
    let of = |map: &str| explanation.standings.iter().find(|s| s.map == map).and_then(verdict).map(|v| v.text);
    let together = of(ALL_WORDS).map(|text| format!("All words together: {text}")).unwrap_or_default();
    let word = |word: &String| of(&word_name(word)).unwrap_or_else(|| together.clone());
    Trust {
        rise: of("DF-RISE").unwrap_or_default(),
        cam: of("DF-CAM").unwrap_or_default(),
        words: explanation.words.iter().map(word).collect(),
    }
}

/// The page on many prompts.
pub(super) fn study(
    pipeline: &Pipeline,
    explained: &[Explained],
    study: &Study,
    record: &RunRecord,
) -> FaithfulnessPage {
    let first = &explained[0].explanation;
    let address = |e: &Explained| {
        let folder = e.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (e.explanation.prompt.clone(), format!("../{folder}/report.html"))
    };
    let mut measured: Vec<usize> = first.faithfulness.iter().map(|p| p.step).collect();
    measured.dedup();
    let mut facts = facts(pipeline, first);
    facts.push(("Steps measured of each prompt".to_owned(), measured.len().to_string()));
    FaithfulnessPage {
        model: first.model.clone(),
        panel: FaithfulnessPanel {
            over: format!("{} prompts", explained.len()),
            has_intervals: true,
            chance: chance(&study.standings),
            rows: rows(&study.standings),
            steps: Vec::new(),
        },
        prompts: explained.iter().map(address).collect(),
        facts,
        record: record.clone(),
        version: VERSION.to_owned(),
    }
}

fn facts(pipeline: &Pipeline, explanation: &Explanation) -> Vec<(String, String)> {
    let settings = &explanation.trajectory;
    let schedule = match &settings.timesteps {
        Timesteps::Uniform { spacing, .. } => {
            format!("uniform, {:?}", spacing.unwrap_or(pipeline.scheduler.spacing)).to_lowercase()
        }
        Timesteps::Early { gamma, .. } => format!("early, γ = {gamma}"),
        Timesteps::Latter { gamma, .. } => format!("latter, γ = {gamma}"),
        Timesteps::Window { start } => format!("window at {start}"),
        Timesteps::List { .. } => "a list".to_owned(),
    };
    let mut facts = vec![
        ("Steps".to_owned(), format!("{}, {schedule}", explanation.steps.len())),
        (
            "Guidance".to_owned(),
            if explanation.is_guided {
                settings.guidance.to_string()
            } else {
                "none: the model has no unconditional half".to_owned()
            },
        ),
        ("Seed".to_owned(), settings.seed.to_string()),
        ("Attention layers".to_owned(), explanation.layers.len().to_string()),
        ("Prediction".to_owned(), pipeline.schedule.prediction.to_string()),
        ("Scheduler of the pipeline".to_owned(), pipeline.scheduler.class.clone()),
    ];
    if let Some(rise) = &explanation.rise {
        let masks = match rise.masks {
            MaskKind::Pixel => "per place".to_owned(),
            MaskKind::Grid { cells } => format!("{cells} × {cells} cells"),
        };
        facts.push(("DF-RISE".to_owned(), format!("{}, masks {masks}, at most {}", rise.reading, rise.count)));
    }
    facts.push(("DF-CAM blocks".to_owned(), explanation.blocks.len().to_string()));
    facts.push(("ONNX Runtime".to_owned(), pipeline.runtime.version()));
    facts
}
