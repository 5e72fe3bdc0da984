//! How far to trust each map: deletion and insertion played at some steps of an explained prompt, with the controls, and what
//! they say over the steps of one prompt or over many prompts.

use super::explain::{Clock, Computed, Explained, manifest};
use super::kept::{Place, kept};
use super::page;
use crate::run::RunDirectory;
use crate::{Error, VERSION};
use ndarray::Array2;
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::auc::{Control, faithfulness};
use pellucid_diffusion::lime::lime;
use pellucid_diffusion::{DiffusionError, Pipeline};
use pellucid_runtime::progress::Progress;
use pellucid_saliency::evaluate::{DistanceGames, Standing, Unit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The order at random: every map must beat it.
pub(super) const RANDOM: &str = Control::Random.name();
/// DF-RISE's own masks without the network: every map must beat it where DF-RISE ran.
pub(super) const IDENTITY: &str = "identity control";
/// Attention to all words together.
pub(super) const ALL_WORDS: &str = "attention to all words";
/// A prompt with at most so many words has each of them measured, and not only all of them together.
const MOST_WORDS: usize = 8;
/// Cells per side and samples of LIME, as `docs/methods.md#b8` has them.
const LIME: (usize, usize) = (8, 1000);

/// Where deletion and insertion are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaithfulnessSettings {
    /// Number of steps, spread evenly.
    pub steps: usize,
    /// Whether LIME is fitted (1000 passes a step) and played too.
    pub lime: bool,
}

/// How faithful a map is at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapFaithfulness {
    /// Number of the step, from 0.
    pub step: usize,
    /// Timestep.
    pub t: usize,
    /// The map, or the control.
    pub map: String,
    /// Whether it is there to be compared with.
    pub is_control: bool,
    /// Both games.
    #[serde(flatten)]
    pub games: DistanceGames,
}

/// A map to be played.
struct Entry {
    map: String,
    is_control: bool,
    /// `None` for LIME, which is fitted when its turn comes.
    values: Option<Array2<f32>>,
}

/// Deletion and insertion of every map and control. A step that is in `cache` is read from there.
pub(super) fn games(
    pipeline: &mut Pipeline,
    all: &Computed,
    settings: FaithfulnessSettings,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<Vec<MapFaithfulness>, Error> {
    let steps = all.trajectory.steps.len();
    let count = settings.steps.min(steps);
    let chosen = (0..count).map(|chosen| (chosen * 2 + 1) * steps / (2 * count));
    let wanted: Vec<(usize, Vec<Entry>)> = chosen.map(|at| (at, entries(pipeline, all, at, settings.lime))).collect();
    // Two games a map, each with one pass a row of the latent and one for the start.
    let play = 2 * (pipeline.latent[1] as u64 + 1);
    let passes = |e: &Entry| play + if e.values.is_none() { LIME.1 as u64 } else { 0 };
    progress.start("faithfulness, passes", wanted.iter().flat_map(|(_, entries)| entries).map(passes).sum());
    let mut results = Vec::new();
    for (at, entries) in wanted {
        let names: Vec<String> = entries.iter().map(|e| e.map.clone()).collect();
        let (count, mut left) = (entries.len(), entries.iter().map(passes).sum::<u64>());
        let t = all.trajectory.steps[at].t;
        let place = Place { folder: cache, stem: format!("games-{at:04}"), most: pipeline.options.budget.file_memory };
        let moves = pipeline.latent[1];
        let play = || {
            let mut played = Vec::with_capacity(count);
            for entry in entries {
                if progress.interrupted() {
                    return Err(DiffusionError::Interrupted.into());
                }
                progress.note(&format!("{} at t = {t}", entry.map));
                let work = passes(&entry);
                let values = match entry.values {
                    Some(values) => values,
                    None => lime(pipeline, &all.trajectory, at, LIME.0, LIME.1, all.trajectory.settings.seed)?,
                };
                let games = faithfulness(pipeline, &all.trajectory, at, &values)?;
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
        results.extend(kept(&place, progress, fits, play)?);
        // A step that was kept counts as done.
        progress.advance(left);
    }
    progress.finish();
    Ok(results)
}

/// What is played at step `at`: maps first, controls last.
fn entries(pipeline: &Pipeline, all: &Computed, at: usize, with_lime: bool) -> Vec<Entry> {
    let size = (pipeline.latent[1], pipeline.latent[2]);
    let map = |map: &str, values: Array2<f32>| Entry { map: map.to_owned(), is_control: false, values: Some(values) };
    let mut entries = Vec::new();
    let rise = all.rise.get(at);
    entries.extend(rise.map(|r| map("DF-RISE", r.map.clone())));
    entries.extend(all.cam.get(at).and_then(|c| c.overall.clone()).map(|m| map("DF-CAM", m)));
    if let Some(words) = &all.words {
        let count = words.words.len();
        entries.push(map(ALL_WORDS, words.all_words(at, size)));
        if count <= MOST_WORDS {
            entries.extend((0..count).map(|k| map(&word_name(&words.words[k]), words.mean(at, k, size))));
        }
    }
    let controls = entries.len();
    entries.extend(rise.map(|r| map(IDENTITY, r.identity.clone())));
    entries.extend(Control::ALL.map(|c| map(c.name(), c.map(&all.trajectory, at, all.trajectory.settings.seed))));
    if with_lime {
        entries.push(Entry { map: format!("LIME, {0} × {0} cells", LIME.0), is_control: true, values: None });
    }
    entries[controls..].iter_mut().for_each(|e| e.is_control = true);
    entries
}

/// What a word's own map is called; words that come twice are told apart already.
pub(super) fn word_name(word: &str) -> String {
    format!("attention to “{word}”")
}

/// What the games of one prompt say, over its steps.
pub(super) fn over_steps(played: &[MapFaithfulness]) -> Vec<Standing> {
    let mut units: BTreeMap<usize, Unit> = BTreeMap::new();
    for p in played {
        units.entry(p.step).or_default().insert(p.map.clone(), p.games.areas());
    }
    standings(&units.into_values().collect::<Vec<_>>(), &[played])
}

/// What the games of many prompts say: one unit a prompt, averaged over its steps. Maps that not every prompt has (those of
/// its own words) are left out.
fn over_prompts(prompts: &[&[MapFaithfulness]]) -> Vec<Standing> {
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
    let mut all = standings(&units, prompts);
    all.retain(|s| s.units == prompts.len());
    all
}

/// In the order in which the maps were played.
fn standings(units: &[Unit], played: &[&[MapFaithfulness]]) -> Vec<Standing> {
    let mut seen = BTreeSet::new();
    let each: Vec<&MapFaithfulness> =
        played.iter().flat_map(|p| p.iter()).filter(|p| seen.insert(p.map.as_str())).collect();
    let gate = [RANDOM, IDENTITY];
    let controls = each.iter().filter(|p| p.is_control).map(|p| p.map.as_str());
    let priors: Vec<&str> = controls.filter(|c| !gate.contains(c)).collect();
    let standing = |p: &&MapFaithfulness| match p.is_control {
        true => Standing::of(DistanceGames::MEASURE, units, &p.map, &[], &[]),
        false => Standing::of(DistanceGames::MEASURE, units, &p.map, &gate, &priors),
    };
    each.iter().filter_map(standing).collect()
}

/// What many explained prompts say of the maps.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    /// The run directory, with `faithfulness.json` and `report.html`.
    pub directory: PathBuf,
    /// The report.
    pub report: PathBuf,
    /// The prompts.
    pub prompts: Vec<String>,
    /// Every map and control that all prompts have.
    pub standings: Vec<Standing>,
}

/// Puts together what deletion and insertion said of `explained`, with intervals over prompts, and writes it beside their run
/// directories in `runs`. `None` where there are fewer than two prompts, or where the games were not played.
pub fn study(pipeline: &Pipeline, explained: &[Explained], runs: &Path, force: bool) -> Result<Option<Study>, Error> {
    let played: Vec<&[MapFaithfulness]> = explained.iter().map(|e| e.explanation.faithfulness.as_slice()).collect();
    if played.len() < 2 || played.iter().any(|p| p.is_empty()) {
        return Ok(None);
    }
    let mut clock = Clock::default();
    let standings = clock.time("faithfulness over prompts", || over_prompts(&played));
    let prompts: Vec<String> = explained.iter().map(|e| e.explanation.prompt.clone()).collect();
    let first = &explained[0].explanation;
    let all = serde_json::json!({
        "trajectory": first.trajectory, "rise": first.rise, "cam": first.cam, "played": played[0].len(), "version": VERSION,
    });
    let data = serde_json::json!(prompts).to_string();
    let manifest = manifest(pipeline, "diffusion faithfulness", &data, &all, first.trajectory.seed);
    let record = RunRecord { timings: clock.timings, ..explained[0].record.clone() };
    let name = format!("{}-faithfulness-{}", pipeline.name(), &manifest.data_hash[..12]);
    let directory = RunDirectory::open(runs, &name, &manifest, force)?;
    let report = directory.file("report.html");
    let study = Study { directory: directory.path().to_path_buf(), report, prompts, standings };
    // Without the folder, which says nothing of the maps.
    let kept = serde_json::json!({ "prompts": study.prompts, "standings": study.standings });
    directory.write_json("faithfulness.json", &kept)?;
    let page = page::study(pipeline, explained, &study, &record);
    directory.write("report.html", &pellucid_report::render_faithfulness(&page))?;
    directory.finish(&manifest, &["faithfulness.json", "report.html"].map(str::to_owned), &record)?;
    Ok(Some(study))
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
        let one = over_steps(&prompt(0.0));
        assert_eq!(one.iter().map(|s| (s.map.as_str(), s.units)).collect::<Vec<_>>(), [("DF-RISE", 2), (RANDOM, 2)]);
        assert!((one[0].area(Game::Deletion).value - 0.7).abs() < 1e-12 && one[0].passes() == Some(true));

        let mut with_word = prompt(0.1);
        with_word.push(played(1, "attention to “cat”", false, [0.5, 0.5]));
        let (a, c) = (prompt(0.0), prompt(-0.1));
        let many = over_prompts(&[&a, &with_word, &c]);
        assert_eq!(many.len(), 2, "a map of one prompt alone says nothing of all of them");
        assert_eq!(many[0].units, 3);
        assert!(
            (many[0].area(Game::Deletion).low - 0.6).abs() < 1e-9,
            "the least of three prompts: {}",
            many[0].area(Game::Deletion).low
        );
    }
}
