//! Do the lists of a diagnosis find the neurons that carry the mark?
//!
//! Which neurons carry it is known by experiment: the same test pictures are run with and without the mark, and a
//! neuron's *effect* is the mean difference of its activation, in units of its standard deviation over the test
//! pictures. The lists of [methods A2] are compared with that ranking, and so are two rivals: correlation of the
//! activation with the error, and chance.
//!
//! [methods A2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a2

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ndarray::{Array2, Axis};
use pellucid::internals::classifier_methods::counterfactual::{self, Range, Settings, Variant};
use pellucid::internals::classifier_methods::diagnose;
use pellucid::internals::classifier_methods::gap::{self, GapSettings};
use pellucid::internals::classifier_methods::results::{Direction, Mistakes};
use pellucid::internals::classifier_methods::scan::FeatureTable;
use pellucid::internals::classifier_methods::votes::{self, VoteSettings};
use pellucid::internals::classifier_methods::{correlation, layer::DecisionLayer};
use pellucid::{Classifier, OpenOptions, ScanSettings, Silent};

use crate::benchmark::Benchmark;
use crate::dataset::COUNTERPART;

/// How many neurons of the largest effect count as carriers of the mark.
pub const CARRIERS: [usize; 3] = [10, 20, 50];

/// Lines of a Markdown file between which [`write_between_markers`] writes.
pub const MARKERS: [&str; 2] = ["<!-- begin: pellucid-zoo rank-neurons -->", "<!-- end: pellucid-zoo rank-neurons -->"];

/// One ranking and how well it finds the carriers.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which mistakes, in words.
    pub mistakes: String,
    /// `insufficient` or `excessive`.
    pub list: &'static str,
    /// `bounded`, `reference`, `sparse`, `evidence gap` or `correlation`.
    pub ranking: String,
    /// The ten first neurons.
    pub first: Vec<usize>,
    /// Precision of the first 5 and of the first 10, for each of [`CARRIERS`].
    pub precision: [[f64; 2]; 3],
}

/// The whole measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// On which benchmark.
    pub benchmark: Benchmark,
    /// Number of neurons.
    pub neurons: usize,
    /// Number of pictures, each run with and without the mark.
    pub pictures: usize,
    /// Neurons by falling absolute effect, with the effect.
    pub effects: Vec<(usize, f64)>,
    /// One row a list and ranking.
    pub rows: Vec<Row>,
}

/// Measures on the test split in `data`, written by `compose --counterpart`.
pub fn measure(benchmark: Benchmark, model: &Path, data: &Path, runs: &Path) -> Result<Ranking> {
    let class = benchmark.marked_class();
    let classifier = Classifier::open(model, &OpenOptions::default())?;
    let settings = ScanSettings::default().with_cache(runs.join(".cache")).with_split("test".to_owned());
    let counterpart = data.join(COUNTERPART);
    if !counterpart.is_dir() {
        bail!(
            "{} is missing; run `pellucid-zoo compose {} {} --counterpart` first",
            counterpart.display(),
            benchmark.name(),
            data.display()
        );
    }
    let shown = pellucid::scan(&classifier, data.join("metadata.csv"), &settings, &Silent)?;
    let swapped = pellucid::scan(&classifier, counterpart.join("metadata.csv"), &settings, &Silent)?;
    let (table, other) = (shown.features()?, swapped.features()?);
    if table.labels != other.labels {
        bail!("{} and its counterpart hold different pictures; compose them again", data.display());
    }
    let place = shown.data.groups.len() / shown.data.classes.len().max(1);
    let marked: Vec<bool> =
        table.groups.iter().map(|group| group.is_some_and(|g| place > 0 && g % place == 1)).collect();
    let class_index = shown.data.classes.iter().position(|name| name == class);
    let class_index = class_index.with_context(|| format!("no class {class:?}; there are {:?}", shown.data.classes))?;

    let effects = effects(&table.features, &other.features, &marked);
    let mut rows = Vec::new();
    // Correlation is taken over the pictures that could have been such a mistake: those of the class, or all others.
    let of_class: Vec<bool> = table.labels.iter().map(|&label| label == class_index).collect();
    for (words, mistakes, side) in [
        (format!("true = {class}"), Mistakes::TrueClass { class: class_index }, true),
        (format!("predicted = {class}"), Mistakes::PredictedAs { class: class_index }, false),
    ] {
        let population: Vec<usize> = (0..of_class.len()).filter(|&i| of_class[i] == side).collect();
        rows.extend(rank(&table, classifier.layer(), &mistakes, &words, &population, &effects)?);
    }
    Ok(Ranking { benchmark, neurons: effects.len(), pictures: marked.len(), effects, rows })
}

/// Each neuron's mean difference, with the mark minus without it, in standard deviations of its activation;
/// by falling absolute value.
pub fn effects(shown: &Array2<f32>, swapped: &Array2<f32>, marked: &[bool]) -> Vec<(usize, f64)> {
    let pairs = shown.nrows() as f64;
    let spread = shown.mapv(f64::from).std_axis(Axis(0), 0.0);
    let mut effects: Vec<(usize, f64)> = (0..shown.ncols())
        .map(|j| {
            let difference = |i: usize| f64::from(shown[[i, j]] - swapped[[i, j]]) * if marked[i] { 1.0 } else { -1.0 };
            let mean = (0..marked.len()).map(difference).sum::<f64>() / pairs;
            (j, if spread[j] > 0.0 { mean / spread[j] } else { 0.0 })
        })
        .collect();
    effects.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    effects
}

fn rank(
    table: &FeatureTable,
    layer: &DecisionLayer,
    mistakes: &Mistakes,
    words: &str,
    population: &[usize],
    effects: &[(usize, f64)],
) -> Result<Vec<Row>> {
    let predictions = diagnose::predictions(table);
    let chosen = diagnose::rows_of(mistakes, table, &predictions);
    let features = table.features.select(Axis(0), &chosen);
    let targets: Vec<usize> = chosen.iter().map(|&row| table.labels[row]).collect();
    let range = Range::observed(&table.features);
    let words = format!("{words} ({})", chosen.len());
    let mut rows = Vec::new();
    for variant in [Variant::Bounded, Variant::Reference, Variant::Sparse] {
        let search = Settings { variant, ..Settings::default() };
        let found = counterfactual::search(&features, &targets, layer, &range, &search)?;
        let tally = votes::tally(&found, &VoteSettings::default());
        let list = |votes: &[votes::Vote]| votes.iter().map(|vote| vote.neuron).collect::<Vec<_>>();
        rows.push(row(&words, "insufficient", variant.to_string(), list(&tally.insufficient), effects));
        rows.push(row(&words, "excessive", variant.to_string(), list(&tally.excessive), effects));
    }
    let everything = GapSettings { neurons: layer.features(), resamples: 0, seed: 0 };
    let shares = gap::evidence_gap(table, &predictions, &chosen, layer, &everything);
    for (list, direction) in [("insufficient", Direction::Insufficient), ("excessive", Direction::Excessive)] {
        let ranked = shares.iter().filter(|share| share.direction == direction).map(|share| share.neuron);
        rows.push(row(&words, list, "evidence gap".into(), ranked.collect(), effects));
    }
    let wrong: Vec<bool> = population.iter().map(|row| chosen.contains(row)).collect();
    let falling = correlation::with_error(&table.features.select(Axis(0), population), &wrong);
    let varied = || falling.iter().filter(|(_, r)| r.is_finite()).map(|(j, _)| *j);
    let name = || "correlation".to_string();
    rows.push(row(&words, "insufficient", name(), varied().rev().collect(), effects));
    rows.push(row(&words, "excessive", name(), varied().collect(), effects));
    rows.sort_by_key(|row| row.list != "insufficient");
    Ok(rows)
}

fn row(mistakes: &str, list: &'static str, ranking: String, ranked: Vec<usize>, effects: &[(usize, f64)]) -> Row {
    let precision = CARRIERS.map(|count| {
        let carriers: Vec<usize> = effects.iter().take(count).map(|(j, _)| *j).collect();
        [5, 10].map(|k| correlation::precision_at(&ranked, &carriers, k))
    });
    Row { mistakes: mistakes.into(), list, ranking, first: ranked.into_iter().take(10).collect(), precision }
}

impl Ranking {
    /// The measurement as Markdown: the carriers, then one line a ranking.
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "{} test pictures, each with and without the {}; {} neurons. The carriers, with their effect in \
             standard deviations:\n\n",
            self.pictures,
            self.benchmark.mark(),
            self.neurons
        );
        let carriers = self.effects.iter().take(20).map(|(j, effect)| format!("{j} ({effect:+.2})"));
        let _ = writeln!(text, "{}.\n", carriers.collect::<Vec<_>>().join(", "));
        text.push_str("| mistakes (pictures) | list | ranking | top 10 carriers: @5 | @10 | **top 20**: @5 | @10 | top 50: @5 | @10 | first five |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let cells: Vec<String> = row.precision.iter().flatten().map(|p| format!("{p:.1}")).collect();
            let first: Vec<String> = row.first.iter().take(5).map(usize::to_string).collect();
            let cells = cells.join(" | ");
            let _ =
                writeln!(text, "| {} | {} | {} | {cells} | {} |", row.mistakes, row.list, row.ranking, first.join(" "));
        }
        let chance =
            CARRIERS.map(|c| format!("{:.3} | {:.3}", c as f64 / self.neurons as f64, c as f64 / self.neurons as f64));
        let _ = writeln!(text, "| any | any | random neurons (expected) | {} | |", chance.join(" | "));
        text
    }
}

/// Replaces what stands between the lines `markers` in the file at `path`.
pub fn write_between_markers(path: &Path, markers: [&str; 2], table: &str) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let [begin, end] = markers;
    let missing = || format!("{}: expected the lines {begin} and {end}, in this order", path.display());
    let (head, rest) = text.split_once(begin).with_context(missing)?;
    let (_, tail) = rest.split_once(end).with_context(missing)?;
    std::fs::write(path, format!("{head}{begin}\n{table}{end}{tail}")).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_effect_is_with_minus_without_whichever_the_data_set_shows() {
        // Neuron 0 rises by 2 with the mark, neuron 1 does not care, neuron 2 falls by 1.
        let shown = array![[3.0, 0.0, 4.0], [1.0, 4.0, 5.0]];
        let swapped = array![[1.0, 0.0, 5.0], [3.0, 4.0, 4.0]];
        let effects = effects(&shown, &swapped, &[true, false]);
        assert_eq!(effects, [(0, 2.0), (2, -2.0), (1, 0.0)]);
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        std::fs::write(&path, format!("before\n{}\nold\n{}\nafter\n", MARKERS[0], MARKERS[1])).unwrap();
        write_between_markers(&path, MARKERS, "new\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("before\n{}\nnew\n{}\nafter\n", MARKERS[0], MARKERS[1]));
        assert!(write_between_markers(&folder.path().join("gone.md"), MARKERS, "x").is_err());
    }
}
