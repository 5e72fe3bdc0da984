//! How far to trust each map: deletion and insertion played at some steps of an explained prompt, with the controls, and what
//! they say over the steps of one prompt or over many prompts.

use super::results::{Answer, MapFaithfulness};
use super::settings::FaithfulnessSettings;
use crate::Error;
use ndarray::Array2;
use pellucid_diffusion::auc::{Control, faithfulness};
use pellucid_diffusion::explain::{Measured, Store};
use pellucid_diffusion::lime::lime;
use pellucid_diffusion::{DiffusionError, Pipeline, Trajectory};
use pellucid_runtime::progress::Progress;
use pellucid_saliency::evaluate::{DistanceGames, Standing, Unit};
use pellucid_saliency::{Role, SaliencyMap};
use std::collections::{BTreeMap, BTreeSet};

/// The order at random: every map must beat it.
pub(super) const RANDOM: &str = Control::Random.name();
/// Cells per side and samples of LIME, as `docs/methods.md#b8` has them.
const LIME: (usize, usize) = (8, 1000);

/// A map to be played.
struct Entry {
    map: String,
    is_control: bool,
    /// `None` for LIME, which is fitted when its turn comes.
    values: Option<Array2<f32>>,
}

/// Deletion and insertion of every map and control. A step that is in `store` is read from there.
pub(super) fn games(
    pipeline: &mut Pipeline,
    trajectory: &Trajectory,
    answers: &[Answer],
    settings: FaithfulnessSettings,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Vec<MapFaithfulness>, Error> {
    let steps = trajectory.steps.len();
    let count = settings.steps.min(steps);
    let chosen = (0..count).map(|chosen| (chosen * 2 + 1) * steps / (2 * count));
    let wanted: Vec<(usize, Vec<Entry>)> =
        chosen.map(|at| (at, entries(trajectory, answers, at, settings.lime))).collect();
    // Two games a map, each with one pass a row of the latent and one for the start.
    let play = 2 * (pipeline.latent[1] as u64 + 1);
    let passes = |e: &Entry| play + if e.values.is_none() { LIME.1 as u64 } else { 0 };
    progress.start("faithfulness, passes", wanted.iter().flat_map(|(_, entries)| entries).map(passes).sum());
    let mut results = Vec::new();
    for (at, entries) in wanted {
        let names: Vec<String> = entries.iter().map(|e| e.map.clone()).collect();
        let (count, mut left) = (entries.len(), entries.iter().map(passes).sum::<u64>());
        let t = trajectory.steps[at].t;
        let moves = pipeline.latent[1];
        let play = || {
            let mut played = Vec::with_capacity(count);
            for entry in entries {
                if progress.interrupted() {
                    return Err(DiffusionError::Interrupted);
                }
                progress.note(&format!("{} at t = {t}", entry.map));
                let work = passes(&entry);
                let values = match entry.values {
                    Some(values) => values,
                    None => lime(pipeline, trajectory, at, LIME.0, LIME.1, trajectory.settings.seed)?,
                };
                let games = faithfulness(pipeline, trajectory, at, &values)?;
                played.push(MapFaithfulness { step: at, t, map: entry.map, is_control: entry.is_control, games });
                progress.advance(work);
                left -= work;
            }
            Ok(played)
        };
        let fits = |known: &Vec<MapFaithfulness>| {
            known.iter().map(|k| &k.map).eq(&names)
                && known.iter().all(|k| (k.step, k.t) == (at, t) && k.games.has_moves(moves))
        };
        results.extend(store.load_or_compute(&format!("games-{at:04}"), progress, fits, play)?);
        // A step that was kept counts as done.
        progress.advance(left);
    }
    progress.finish();
    Ok(results)
}

/// What is played at step `at`: maps first, controls last.
fn entries(trajectory: &Trajectory, answers: &[Answer], at: usize, with_lime: bool) -> Vec<Entry> {
    let is_control = |map: &SaliencyMap| map.role == Role::Control;
    let mut measured = measured_at(answers, at);
    // Maps whose curves are drawn stand before the others.
    measured.sort_by_key(|(how, map)| (is_control(map), !how.is_drawn));
    let entry = |(how, map): (&Measured, &SaliencyMap)| Entry {
        map: how.name.clone(),
        is_control: is_control(map),
        values: Some(map.values.clone()),
    };
    let mut entries: Vec<Entry> = measured.into_iter().map(entry).collect();
    let control = |map: String, values| Entry { map, is_control: true, values };
    let seed = trajectory.settings.seed;
    entries.extend(Control::ALL.map(|c| control(c.name().to_owned(), Some(c.map(trajectory, at, seed)))));
    if with_lime {
        entries.push(control(format!("LIME, {0} × {0} cells", LIME.0), None));
    }
    entries
}

/// The maps of step `at` that take part, and how.
fn measured_at(answers: &[Answer], at: usize) -> Vec<(&Measured, &SaliencyMap)> {
    let found = answers.iter().filter_map(|answer| answer.outcome.findings());
    let of_step = found.filter_map(|found| Some((found, found.steps.get(at)?)));
    of_step
        .flat_map(|(found, step)| found.tracks.iter().zip(&step.maps))
        .filter_map(|(track, map)| Some((track.measured.as_ref()?, map.as_ref()?)))
        .collect()
}

/// Controls that every map has to beat.
fn gate(answers: &[Answer]) -> Vec<&str> {
    let found = answers.iter().filter_map(|answer| answer.outcome.findings());
    let measured = found.flat_map(|found| &found.tracks).filter_map(|track| track.measured.as_ref());
    std::iter::once(RANDOM).chain(measured.filter(|how| how.is_gate).map(|how| how.name.as_str())).collect()
}

/// What the games of one prompt say, over its steps.
pub(super) fn over_steps(played: &[MapFaithfulness], answers: &[Answer]) -> Vec<Standing> {
    one_prompt(played, &gate(answers))
}

fn one_prompt(played: &[MapFaithfulness], gate: &[&str]) -> Vec<Standing> {
    let mut units: BTreeMap<usize, Unit> = BTreeMap::new();
    for p in played {
        units.entry(p.step).or_default().insert(p.map.clone(), p.games.areas());
    }
    standings(&units.into_values().collect::<Vec<_>>(), &[played], gate)
}

/// What the games of many prompts say, with the controls that maps have to beat: one unit a prompt, averaged over its steps.
/// Maps that not every prompt has (those of its own words) are left out.
pub(super) fn over_prompts(prompts: &[&[MapFaithfulness]], gate: &[&str]) -> Vec<Standing> {
    let unit = |played: &&[MapFaithfulness]| {
        let mut sums: BTreeMap<String, (f64, [f64; 2])> = BTreeMap::new();
        for p in *played {
            let (count, sum) = sums.entry(p.map.clone()).or_default();
            *count += 1.0;
            sum.iter_mut().zip(p.games.areas()).for_each(|(s, area)| *s += area);
        }
        sums.into_iter().map(|(map, (count, sum))| (map, sum.map(|s| s / count))).collect::<Unit>()
    };
    let units: Vec<Unit> = prompts.iter().map(unit).collect();
    let mut all = standings(&units, prompts, gate);
    all.retain(|s| s.units == prompts.len());
    all
}

/// In the order in which the maps were played.
fn standings(units: &[Unit], played: &[&[MapFaithfulness]], gate: &[&str]) -> Vec<Standing> {
    let mut seen = BTreeSet::new();
    let each: Vec<&MapFaithfulness> =
        played.iter().flat_map(|p| p.iter()).filter(|p| seen.insert(p.map.as_str())).collect();
    let controls = each.iter().filter(|p| p.is_control).map(|p| p.map.as_str());
    let priors: Vec<&str> = controls.filter(|c| !gate.contains(c)).collect();
    let standing = |p: &&MapFaithfulness| match p.is_control {
        true => Standing::of(DistanceGames::MEASURE, units, &p.map, &[], &[]),
        false => Standing::of(DistanceGames::MEASURE, units, &p.map, gate, &priors),
    };
    each.iter().filter_map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid_saliency::evaluate::{Curve, Game};

    fn played(step: usize, map: &str, is_control: bool, areas: [f64; 2]) -> MapFaithfulness {
        let [deletion_distance, insertion_distance] =
            areas.map(|area| Curve { distances: vec![0.0, 1.0], area, fixed_area: area });
        MapFaithfulness {
            step,
            t: 10 * step,
            map: map.to_owned(),
            is_control,
            games: DistanceGames { deletion_distance, insertion_distance },
        }
    }

    #[test]
    fn one_prompt_is_judged_over_its_steps_and_many_over_prompts() {
        let prompt = |d: f64| {
            vec![
                played(1, "DF-RISE", false, [0.6 + d, 0.3]),
                played(1, RANDOM, true, [0.5, 0.4]),
                played(3, "DF-RISE", false, [0.8 + d, 0.1]),
                played(3, RANDOM, true, [0.5, 0.4]),
            ]
        };
        let one = one_prompt(&prompt(0.0), &[RANDOM]);
        assert_eq!(one.iter().map(|s| (s.map.as_str(), s.units)).collect::<Vec<_>>(), [("DF-RISE", 2), (RANDOM, 2)]);
        assert!((one[0].area(Game::Deletion).value - 0.7).abs() < 1e-12 && one[0].passes() == Some(true));

        let mut with_word = prompt(0.1);
        with_word.push(played(1, "attention to “cat”", false, [0.5, 0.5]));
        let (a, c) = (prompt(0.0), prompt(-0.1));
        let many = over_prompts(&[&a, &with_word, &c], &[RANDOM]);
        assert_eq!(many.len(), 2, "a map of one prompt alone says nothing of all of them");
        assert_eq!(many[0].units, 3);
        assert!(
            (many[0].area(Game::Deletion).low - 0.6).abs() < 1e-9,
            "the least of three prompts: {}",
            many[0].area(Game::Deletion).low
        );
    }
}
