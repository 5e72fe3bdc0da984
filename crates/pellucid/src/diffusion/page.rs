//! From results to the report's page.

use super::faithful::RANDOM;
use super::files;
use super::results::{Answer, Explained, Explanation, MapFaithfulness, WrittenExplanation};
use crate::{Error, VERSION};
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::explain::{
    Agreement, Arrival, Arrivals, Axis, Effect, Effects, Findings, Outcome, StepFindings, Track, by_words, capitalised,
    settled, signed, steps_in_words,
};
use pellucid_diffusion::{Pipeline, Stage, Timesteps, picture};
use pellucid_report::{
    ArrivalRow, ArrivalsPanel, Caption, Choice, Curve, DiffusionPage, EffectCard, EffectsPanel, ExplainerPanel,
    FaithfulnessPage, FaithfulnessPanel, FaithfulnessRow, GameLine, GamesPanel, Map, Spread, StepMaps, StepPanel,
    Verdict,
};
use pellucid_saliency::evaluate::{Game, Lead, Standing};
use pellucid_saliency::stats::Interval;
use pellucid_saliency::{SaliencyMap, render};

/// Longest side of a picture in the page.
const SIDE: u32 = 256;

pub(super) fn page(pipeline: &mut Pipeline, all: &Explained, record: &RunRecord) -> Result<DiffusionPage, Error> {
    let explanation = &all.explanation;
    let steps = (0..all.trajectory.steps.len()).map(|at| step(pipeline, all, at)).collect::<Result<Vec<_>, _>>()?;
    let cautions = all.found().map(|(_, found)| found.caution.clone()).filter(|caution| !caution.is_empty());
    Ok(DiffusionPage {
        model: explanation.model.clone(),
        prompt: explanation.prompt.clone(),
        picture: picture(all.trajectory.picture.view()).thumbnail(SIDE).to_png()?,
        steps,
        explainers: all.answers.iter().filter_map(|answer| panel(answer, all)).collect(),
        arrivals: arrivals(all),
        effects: effects(all)?,
        curves: curves(all),
        faithfulness: faithfulness(all),
        facts: facts(pipeline, explanation),
        cautions: cautions.collect(),
        record: record.clone(),
        notes: explanation.notes.iter().chain(&explanation.warnings).cloned().collect(),
        version: VERSION.to_owned(),
    })
}

fn step(pipeline: &mut Pipeline, all: &Explained, at: usize) -> Result<StepPanel, Error> {
    let step = &all.trajectory.steps[at];
    let noisy = pipeline.decode(&step.latent)?;
    let noisy = noisy.index_axis(ndarray::Axis(0), 0);
    let status = all.found().filter_map(|(_, found)| found.steps.get(at)).map(|step| step.status.as_str());
    Ok(StepPanel {
        t: step.t,
        stage: match all.explanation.steps[at].stage {
            Stage::Coarse => "coarse",
            Stage::Content => "content",
            Stage::Cleanup => "clean-up",
        }
        .to_owned(),
        status: status.filter(|status| !status.is_empty()).collect::<Vec<_>>().join(", "),
        clean: picture(step.decoded.view()).thumbnail(SIDE).to_png()?,
        noisy: picture(noisy).thumbnail(SIDE).to_png()?,
    })
}

/// The panel of an explainer; `None` where there is nothing to show.
fn panel(answer: &Answer, all: &Explained) -> Option<ExplainerPanel> {
    let (id, title) = (answer.id.clone(), answer.title.clone());
    let found = match &answer.outcome {
        Outcome::Found(found) => found,
        Outcome::Absent(_) => return None,
        Outcome::Failed(error) => {
            let nothing = StepMaps { maps: vec![Map::default()], ..StepMaps::default() };
            let steps = vec![nothing; all.trajectory.steps.len()];
            let meaning = format!("No {}: {error}", answer.maps);
            return Some(ExplainerPanel { id, title, meaning, steps, ..ExplainerPanel::default() });
        }
    };
    let shown = || found.tracks.iter().filter(|track| track.is_shown);
    let maps = |step: &StepFindings| StepMaps {
        reading: step.reading.clone(),
        maps: found.tracks.iter().zip(&step.maps).filter(|(track, _)| track.is_shown).map(map).collect(),
    };
    Some(ExplainerPanel {
        id,
        title,
        meaning: found.meaning.clone(),
        choices: found.axes.iter().map(choice).collect(),
        captions: shown()
            .map(|track| Caption { reading: track.caption.clone(), trust: trust(track, &all.explanation.standings) })
            .collect(),
        steps: found.steps.iter().map(maps).collect(),
    })
}

fn choice(axis: &Axis) -> Choice {
    Choice {
        id: axis.id.clone(),
        label: axis.label.clone(),
        options: axis.options.clone(),
        value: axis.start,
        is_side_by_side: axis.is_side_by_side,
    }
}

fn map((track, map): (&Track, &Option<SaliencyMap>)) -> Map {
    let Some(map) = map else { return Map::default() };
    let values: Vec<f32> = map.values.iter().copied().collect();
    match track.range {
        Some((low, high)) => Map::between(&values, map.values.ncols(), low, high),
        None => Map::scaled(&values, map.values.ncols()),
    }
}

/// How far to trust a map, in the few words that fit under its picture; empty where nothing was measured.
fn trust(track: &Track, standings: &[Standing]) -> String {
    let of = |map: &str| standings.iter().find(|s| s.map == map).and_then(verdict).map(|v| v.text);
    let own = track.measured.as_ref().and_then(|how| of(&how.name));
    let judged = || track.judge.as_ref().and_then(|judge| Some(format!("{}{}", judge.before, of(&judge.name)?)));
    own.or_else(judged).unwrap_or_default()
}

/// What asks nothing of the network first: it says where in the process a step is.
fn curves(all: &Explained) -> Vec<Curve> {
    let mut answers: Vec<_> = all.settings.explainers.iter().zip(&all.answers).collect();
    answers.sort_by_key(|(explainer, _)| !explainer.needs().is_empty());
    let curves =
        answers.into_iter().filter_map(|(_, answer)| answer.outcome.findings()).flat_map(|found| &found.curves);
    let curve = |c: &pellucid_diffusion::explain::Curve| Curve {
        title: c.title.clone(),
        meaning: c.meaning.clone(),
        lines: c.lines.clone(),
        range: c.range,
    };
    curves.map(curve).collect()
}

/// What comes step by step, with what is concluded from it.
fn arrivals(all: &Explained) -> Vec<ArrivalsPanel> {
    let row = |arrivals: &Arrivals, row: &Arrival| ArrivalRow {
        name: row.name.clone(),
        levels: row.levels.clone(),
        arrived: settled(&row.levels, arrivals.threshold),
        control: row.control.clone(),
        control_arrived: settled(&row.control, arrivals.threshold),
    };
    let panel = |found: &Findings, arrivals: &Arrivals| ArrivalsPanel {
        title: arrivals.title.clone(),
        conclusions: found.conclusions.clone(),
        meaning: arrivals.meaning.clone(),
        control: arrivals.control.clone(),
        threshold: arrivals.threshold,
        rows: arrivals.rows.iter().map(|one| row(arrivals, one)).collect(),
    };
    all.found().flat_map(|(_, found)| found.arrivals.iter().map(move |arrivals| panel(found, arrivals))).collect()
}

/// When things act and where, with where they act drawn into the finished picture.
fn effects(all: &Explained) -> Result<Vec<EffectsPanel>, Error> {
    let found = all.found().filter_map(|(_, found)| Some((found, found.effects.as_ref()?)));
    found.map(|(found, effects)| effects_panel(all, found, effects)).collect()
}

fn effects_panel(all: &Explained, found: &Findings, effects: &Effects) -> Result<EffectsPanel, Error> {
    let under = files::enlarged(&picture(all.trajectory.picture.view()));
    let card = |(thing, map): (&Effect, &SaliencyMap)| {
        let drawn = render::render(&under, map.values.view(), map.alignment, files::OPACITY);
        let agreement = |a: &Agreement| {
            let others = a.other_words.filter(|_| a.is_own).map(|rho| format!("other words’ {}", signed(rho)));
            (a.reading.clone(), a.rho, others.unwrap_or_default())
        };
        let mark = |name: &String| format!("{} does not show where this word acts.", capitalised(name));
        Ok::<_, Error>(EffectCard {
            name: thing.name.clone(),
            how: by_words(&thing.by),
            whole: spread(thing.whole),
            windows: thing.windows.iter().copied().map(spread).collect(),
            strongest: thing.strongest,
            map: drawn.map(|drawn| drawn.thumbnail(SIDE).to_png()).transpose()?.unwrap_or_default(),
            agreements: thing.agreements.iter().map(agreement).collect(),
            marks: thing.disagrees.iter().map(mark).collect(),
        })
    };
    let things = || effects.things.iter().zip(&found.whole);
    let cards: Result<Vec<EffectCard>, Error> = things().filter(|(thing, _)| !thing.is_floor).map(card).collect();
    Ok(EffectsPanel {
        title: effects.title.clone(),
        conclusions: found.conclusions.clone(),
        meaning: effects.meaning.clone(),
        windows: effects.windows.iter().map(|[from, until]| steps_in_words(*from, *until)).collect(),
        floor: effects.floor.clone(),
        cards: cards?,
        fillers: effects.things.iter().filter(|thing| thing.is_floor).map(|thing| thing.name.clone()).collect(),
    })
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

fn faithfulness(all: &Explained) -> Option<FaithfulnessPanel> {
    let explanation = &all.explanation;
    let played = &explanation.faithfulness;
    let units = explanation.standings.iter().map(|s| s.units).max()?;
    let mut steps: Vec<(usize, usize)> = played.iter().map(|p| (p.step, p.t)).collect();
    steps.dedup();
    Some(FaithfulnessPanel {
        over: if units == 1 { "one step of this picture".to_owned() } else { format!("{units} steps of this picture") },
        has_intervals: units > 1,
        chance: chance(&explanation.standings),
        rows: rows(&explanation.standings),
        steps: steps.into_iter().map(|(step, t)| games_at(played, &drawn(all), step, t)).collect(),
    })
}

/// Whose curves are drawn: maps, the order at random, and the other controls that a map has to beat.
fn drawn(all: &Explained) -> Vec<&str> {
    let tracks = all.found().flat_map(|(_, found)| &found.tracks);
    let measured: Vec<_> = tracks.filter_map(|track| track.measured.as_ref()).filter(|how| how.is_drawn).collect();
    let of = |is_gate: bool| measured.iter().filter(move |how| how.is_gate == is_gate).map(|how| how.name.as_str());
    of(false).chain([RANDOM]).chain(of(true)).collect()
}

fn games_at(played: &[MapFaithfulness], drawn: &[&str], step: usize, t: usize) -> GamesPanel {
    let lines = |game: Game| {
        let find = |name: &&str| played.iter().find(|p| p.step == step && p.map == *name);
        let line = |p: &MapFaithfulness| {
            let distances = &p.games.curve(game).distances;
            let ends = distances[0].max(distances[distances.len() - 1]).max(f64::MIN_POSITIVE);
            let values = distances.iter().map(|d| d / ends).collect();
            GameLine { name: p.map.clone(), values, is_control: p.is_control }
        };
        drawn.iter().filter_map(find).map(line).collect()
    };
    GamesPanel { step, t, deletion: lines(Game::Deletion), insertion: lines(Game::Insertion) }
}

/// The page on many prompts.
pub(super) fn study(
    pipeline: &Pipeline,
    explained: &[WrittenExplanation],
    standings: &[Standing],
    record: &RunRecord,
) -> FaithfulnessPage {
    let first = &explained[0].explanation;
    let address = |e: &WrittenExplanation| {
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
            over: super::study::over(explained.iter().map(|e| &e.explanation)),
            has_intervals: true,
            chance: chance(standings),
            rows: rows(standings),
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
        ("Prediction".to_owned(), pipeline.schedule.prediction.to_string()),
        ("Scheduler of the pipeline".to_owned(), pipeline.scheduler.class.clone()),
    ];
    facts.extend(settings.negative.iter().map(|text| ("Negative prompt".to_owned(), text.clone())));
    facts.extend(explanation.explainers.iter().flat_map(|e| e.facts.iter().cloned()));
    let engine = pipeline.network.engine();
    facts.push((engine.name, engine.version));
    facts
}
