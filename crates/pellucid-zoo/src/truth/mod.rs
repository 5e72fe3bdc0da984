//! A bench of known truth: classifiers that lean on a cue that was planted, or on none, and what the methods say of them.
//!
//! [`pictures`] draws emoji on painted backgrounds, each with and without every [`Cue`]; [`features`] runs the two
//! backbones on them once and keeps what comes out. Everything behind that works from features and takes a second a run:
//! [`plant`] decides which pictures carry the cue, a decision layer is fitted to the training split, and [`run`] asks the
//! methods and holds what they say against the truth. Lines of [`run::Line`] are gathered by [`table`].

pub mod features;
pub mod mislabelled;
pub mod pictures;
pub mod plant;
pub mod run;
pub mod table;

pub use features::{Backbone, Pool};
pub use pictures::{Cue, Kind, Shown};

use anyhow::{Context, Result};
use plant::{Condition, Planted};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// The conditions that are run on pictures of a kind.
pub fn conditions(kind: Kind) -> Vec<Condition> {
    let of = |planted, skewed, tail| Condition { planted, skewed, tail };
    let mut all = vec![of(Planted::Nothing, false, false)];
    match kind {
        Kind::Plain => {}
        Kind::Forty => all.extend([
            of(Planted::One(Cue::Patch), false, false),
            of(Planted::One(Cue::Patch), true, false),
            of(Planted::Nothing, false, true),
        ]),
        Kind::Eight => {
            for skewed in [false, true] {
                all.extend(Cue::ALL.map(|cue| of(Planted::One(cue), skewed, false)));
            }
            all.push(of(Planted::Two(Cue::Patch, Cue::Stripes), false, false));
            all.extend([Cue::Patch, Cue::Tint].map(|cue| of(Planted::Independent(cue), false, false)));
            all.push(of(Planted::One(Cue::Patch), false, true));
            all.push(of(Planted::Nothing, false, true));
        }
    }
    all
}

/// The first seed that is reported: on those below, settings were chosen.
pub const FIRST_REPORTED: u64 = 100;

/// Runs what `results` (one JSON line a run) does not hold yet for the seeds whose features are kept, and appends to it.
pub fn sweep(
    zoo: &Path,
    kept: &Path,
    results: &Path,
    kinds: &[Kind],
    seeds: std::ops::Range<u64>,
    asking: &run::Asking,
) -> Result<()> {
    let done: BTreeSet<String> = lines(results)?.iter().map(key).collect();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(results)?;
    for seed in seeds {
        for &kind in kinds.iter().filter(|kind| features::is_kept(kept, **kind, seed)) {
            for backbone in Backbone::ALL {
                let mut pool = None;
                for condition in conditions(kind) {
                    if done.contains(&named(backbone, kind, seed, &condition)) {
                        continue;
                    }
                    if pool.is_none() {
                        pool = Some(Pool::read(zoo, kept, backbone, kind, seed)?);
                    }
                    let Some(pool) = &pool else { continue };
                    let planting = plant::plant(pool, condition, seed);
                    let line = run::run(backbone, kind, seed, condition, &planting, asking);
                    writeln!(file, "{}", serde_json::to_string(&line)?)?;
                }
            }
        }
    }
    Ok(())
}

/// Shares of wrong labels that are planted.
const RATES: [f64; 3] = [0.02, 0.05, 0.10];

/// Plants wrong labels in the pictures of every seed whose features are kept, and writes a file a run into `folder`.
pub fn mislabel(zoo: &Path, kept: &Path, folder: &Path, seeds: std::ops::Range<u64>) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for seed in seeds {
        for kind in [Kind::Eight, Kind::Forty, Kind::Plain].into_iter().filter(|k| features::is_kept(kept, *k, seed)) {
            for backbone in Backbone::ALL {
                let pool = Pool::read(zoo, kept, backbone, kind, seed)?;
                for confusion in mislabelled::Confusion::ALL {
                    for rate in RATES {
                        let share = (100.0 * rate).round();
                        let of = [backbone.name(), kind.name(), confusion.name()].join("-");
                        let file = folder.join(format!("{of}-{share:02}-{seed}.npz"));
                        if !file.exists() {
                            mislabelled::write(&pool, confusion, rate, seed, &file)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn key(line: &run::Line) -> String {
    named(line.backbone, line.kind, line.seed, &line.condition)
}

fn named(backbone: Backbone, kind: Kind, seed: u64, condition: &Condition) -> String {
    format!("{} {} {seed} {}", backbone.name(), kind.name(), condition.name())
}

/// The runs in a file of results; none where there is no file.
pub fn lines(results: &Path) -> Result<Vec<run::Line>> {
    if !results.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(results)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| results.display().to_string())).collect()
}
