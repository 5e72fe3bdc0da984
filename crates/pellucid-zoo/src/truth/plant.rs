//! A cue planted in the features of a seed: which pictures of each split carry it.

use ndarray::{Array2, Axis};
use pellucid::internals::saliency::stats::random::stream;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Cue, Pool};
use crate::recipe::Split;

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planted {
    /// Nothing.
    Nothing,
    /// A cue on half of all pictures, whatever their class.
    Independent(Cue),
    /// A cue of one class.
    One(Cue),
    /// A cue of one class and another of a second.
    Two(Cue, Cue),
}

/// What a run is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Condition {
    /// What is planted.
    pub planted: Planted,
    /// Whether validation carries the cue as training does; else on half of all pictures.
    pub skewed: bool,
    /// Whether the classes thin out: the last has a fifth of the first's training pictures.
    pub tail: bool,
}

impl Condition {
    /// Its name in the table.
    pub fn name(&self) -> String {
        let planted = match self.planted {
            Planted::Nothing => "nothing".to_owned(),
            Planted::Independent(cue) => format!("{}, independent of the class", cue.name()),
            Planted::One(cue) => cue.name().to_owned(),
            Planted::Two(a, b) => format!("{} and {}", a.name(), b.name()),
        };
        let skewed = if self.skewed { ", validation skewed" } else { "" };
        let tail = if self.tail { ", long tail" } else { "" };
        format!("{planted}{skewed}{tail}")
    }

    /// The cues of classes, in the order of [`Planting::classes`].
    pub fn cues(&self) -> Vec<Cue> {
        match self.planted {
            Planted::Nothing | Planted::Independent(_) => Vec::new(),
            Planted::One(cue) => vec![cue],
            Planted::Two(a, b) => vec![a, b],
        }
    }
}

/// Rows of one split as the methods see them.
#[derive(Debug, Clone)]
pub struct Part {
    /// Features, rows × d.
    pub features: Array2<f32>,
    /// Classes.
    pub labels: Vec<usize>,
    /// Units.
    pub units: Vec<usize>,
    /// Known groups: class and which cue (0 none, 1 the first, 2 the second).
    pub groups: Vec<usize>,
}

/// A planted run.
#[derive(Debug, Clone)]
pub struct Planting {
    /// Number of classes.
    pub classes_in_all: usize,
    /// The classes that the cues were planted in.
    pub classes: Vec<usize>,
    /// Training rows.
    pub train: Part,
    /// Validation rows.
    pub validation: Part,
    /// Test pictures, each without a cue and with every cue of the run.
    pub test: Part,
    /// For each cue, test rows without it and the same pictures with it.
    pub pairs: Vec<(Vec<usize>, Vec<usize>)>,
}

/// Share of training pictures with the cue: of its class, of the others.
const RATES: [f64; 2] = [0.95, 0.05];

/// Plants `condition` in `pool` by the draws of `seed`.
pub fn plant(pool: &Pool, condition: Condition, seed: u64) -> Planting {
    let count = pool.classes.len();
    let mut random = stream(seed, 0x9147);
    let first = random.random_range(0..count);
    let second = (first + 1 + random.random_range(0..count - 1)) % count;
    let classes: Vec<usize> = [first, second].into_iter().take(condition.cues().len()).collect();
    let mut draw = |class: usize, balanced: bool| -> Option<usize> {
        // Both numbers are always drawn, so that conditions differ in nothing else.
        let (at, which): (f64, f64) = (random.random(), random.random());
        match (condition.planted, classes.len()) {
            (Planted::Independent(_), _) => (at < 0.5).then_some(0),
            (_, 0) => None,
            (_, cues) if balanced => (at < 0.5).then(|| ((which * cues as f64) as usize).min(cues - 1)),
            (_, cues) => {
                if let Some(own) = classes.iter().position(|&c| c == class) {
                    return (at < RATES[0]).then_some(own);
                }
                (at < RATES[1] * cues as f64).then(|| ((which * cues as f64) as usize).min(cues - 1))
            }
        }
    };
    let cues = match condition.planted {
        Planted::Independent(cue) => vec![cue],
        _ => condition.cues(),
    };
    let thinned = |class: usize, nth: usize, of: usize| {
        let share = 0.2f64.powf(class as f64 / (count - 1).max(1) as f64);
        !condition.tail || (nth as f64) < share * of as f64
    };
    let mut part = |split: Split, balanced: bool| -> Part {
        let mut rows: Vec<(usize, Option<usize>)> = Vec::new();
        let mut seen = vec![0usize; count];
        let of = |class: usize| pool.shown.iter().filter(|s| s.class == class && s.split == split).count();
        let sizes: Vec<usize> = (0..count).map(of).collect();
        for (i, shown) in pool.shown.iter().enumerate().filter(|(_, s)| s.split == split) {
            let cue = draw(shown.class, balanced);
            seen[shown.class] += 1;
            if thinned(shown.class, seen[shown.class] - 1, sizes[shown.class]) {
                rows.push((i, cue));
            }
        }
        gathered(pool, &rows, &cues)
    };
    let train = part(Split::Train, false);
    let validation = part(Split::Validation, !condition.skewed);
    let mut rows: Vec<(usize, Option<usize>)> = Vec::new();
    let tested: Vec<usize> = (0..pool.shown.len()).filter(|&i| pool.shown[i].split == Split::Test).collect();
    for cue in std::iter::once(None).chain((0..cues.len()).map(Some)) {
        rows.extend(tested.iter().map(|&i| (i, cue)));
    }
    let pairs = (0..cues.len())
        .map(|k| ((0..tested.len()).collect(), ((k + 1) * tested.len()..(k + 2) * tested.len()).collect()))
        .collect();
    Planting { classes_in_all: count, classes, train, validation, test: gathered(pool, &rows, &cues), pairs }
}

fn gathered(pool: &Pool, rows: &[(usize, Option<usize>)], cues: &[Cue]) -> Part {
    let row = |&(i, cue): &(usize, Option<usize>)| match cue {
        None => pool.clean.row(i),
        Some(k) => pool.with[&cues[k]].row(i),
    };
    let views: Vec<_> = rows.iter().map(row).collect();
    let features = ndarray::stack(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, pool.clean.ncols())));
    let labels: Vec<usize> = rows.iter().map(|(i, _)| pool.shown[*i].class).collect();
    let group = |(i, cue): &(usize, Option<usize>)| 3 * pool.shown[*i].class + cue.map_or(0, |k| k + 1);
    Part {
        features,
        units: rows.iter().map(|(i, _)| pool.shown[*i].unit).collect(),
        groups: rows.iter().map(group).collect(),
        labels,
    }
}
