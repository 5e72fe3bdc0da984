//! From results to the report's page.

use super::explain::{Computed, Explanation};
use crate::{Error, VERSION};
use ndarray::Array2;
use pellucid_diffusion::cam::Score;
use pellucid_diffusion::recovery::Stage;
use pellucid_diffusion::rise::MaskKind;
use pellucid_diffusion::{Pipeline, Timesteps, picture};
use pellucid_report::{Curve, DiffusionPage, Map, RisePanel, StepPanel};

/// Longest side of a picture in the page.
const SIDE: u32 = 256;

pub(super) fn page(
    pipeline: &mut Pipeline,
    all: &Computed,
    explanation: &Explanation,
    timings: &[(String, f64)],
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
        settled: map(&all.recovery.settled),
        facts: facts(pipeline, explanation, timings),
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

fn facts(pipeline: &Pipeline, explanation: &Explanation, timings: &[(String, f64)]) -> Vec<(String, String)> {
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
    let time = |(stage, seconds): &(String, f64)| format!("{stage} {seconds:.1} s");
    facts.push(("Time".to_owned(), timings.iter().map(time).collect::<Vec<_>>().join(", ")));
    facts
}
