//! What many explained prompts say of the maps.

use super::faithful::over_prompts;
use super::job::{Clock, manifest};
use super::page;
use super::results::{Explanation, MapFaithfulness, WrittenExplanation};
use crate::run::RunDirectory;
use crate::{Error, VERSION};
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::Pipeline;
use pellucid_saliency::evaluate::Standing;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What many explained prompts say of the maps.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    /// The run directory, with `faithfulness.json` and `report.html`.
    pub directory: PathBuf,
    /// The report.
    pub report: PathBuf,
    /// The prompts.
    pub prompts: Vec<String>,
    /// What the figures are taken over, in words.
    pub over: String,
    /// Every map and control that all prompts have.
    pub standings: Vec<Standing>,
}

/// Puts together what deletion and insertion said of `explained`, with intervals over prompts, and writes it beside their run
/// directories in `runs`. `None` where there are fewer than two prompts, or where the games were not played.
pub fn study(
    pipeline: &Pipeline,
    explained: &[WrittenExplanation],
    runs: &Path,
    force: bool,
) -> Result<Option<Study>, Error> {
    let played: Vec<&[MapFaithfulness]> = explained.iter().map(|e| e.explanation.faithfulness.as_slice()).collect();
    if played.len() < 2 || played.iter().any(|p| p.is_empty()) {
        return Ok(None);
    }
    let gate = gate(explained);
    let gate: Vec<&str> = gate.iter().map(String::as_str).collect();
    let mut clock = Clock::default();
    let standings = clock.time("faithfulness over prompts", || over_prompts(&played, &gate));
    let prompts: Vec<String> = explained.iter().map(|e| e.explanation.prompt.clone()).collect();
    let first = &explained[0].explanation;
    let all = serde_json::json!({
        "trajectory": first.trajectory, "explainers": first.details, "played": played[0].len(), "version": VERSION,
    });
    let data = serde_json::json!(prompts).to_string();
    let manifest = manifest(pipeline, "diffusion faithfulness", &data, &all, first.trajectory.seed);
    let record = RunRecord { timings: clock.timings, ..explained[0].record.clone() };
    let name = format!("{}-faithfulness-{}", pipeline.name(), &manifest.data_hash[..12]);
    let directory = RunDirectory::open(runs, &name, &manifest, force)?;
    let report = directory.file("report.html");
    let over = over(explained.iter().map(|e| &e.explanation));
    let study = Study { directory: directory.path().to_path_buf(), report, prompts, over, standings };
    // Without the folder, which says nothing of the maps.
    let kept = serde_json::json!({ "prompts": study.prompts, "over": study.over, "standings": study.standings });
    directory.write_json("faithfulness.json", &kept)?;
    let page = page::study(pipeline, explained, &study.standings, &record);
    directory.write("report.html", &pellucid_report::render_faithfulness(&page))?;
    directory.finish(&manifest, &["faithfulness.json", "report.html"].map(str::to_owned), &record)?;
    Ok(Some(study))
}

/// What the figures are taken over: prompts, and seeds where there are several.
pub(super) fn over<'a>(explained: impl Iterator<Item = &'a Explanation>) -> String {
    let (mut prompts, mut seeds, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for one in explained {
        prompts.insert(&one.prompt);
        seeds.insert(one.trajectory.seed);
        count += 1;
    }
    match seeds.len() {
        1 => format!("{count} prompts"),
        several if prompts.len() == 1 => format!("{several} seeds of one prompt"),
        several => format!("{} prompts × {several} seeds", prompts.len()),
    }
}

/// Controls that a map of any of the prompts had to beat.
fn gate(explained: &[WrittenExplanation]) -> BTreeSet<String> {
    let standings = explained.iter().flat_map(|e| &e.explanation.standings);
    standings.flat_map(Standing::gate).map(|lead| lead.control.clone()).collect()
}
