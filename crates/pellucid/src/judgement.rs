//! What a diagnosis may say of a scanned data set: data problems first, then what stands out, then whether there is a
//! shortcut. The methods are pure functions of the classifier crate; here they get the pictures' names and splits.

mod preprocessing;

use crate::repair::units;
use crate::run::RunDirectory;
use crate::scan::Scan;
use crate::{Classifier, Error, divide};
use pellucid_classifier::data_problems::duplicates::{Duplicate, Pictures, duplicates, look_alike};
use pellucid_classifier::data_problems::label_errors::label_errors;
use pellucid_classifier::data_problems::label_order::label_order;
use pellucid_classifier::data_problems::preprocessing::{promised_range, units_disagree};
use pellucid_classifier::repair::{Conduct, RepairSettings, Splits, conduct};
use pellucid_classifier::scan::FeatureTable;
use pellucid_classifier::shortcut::folds::{Refit, folds, out_of_fold, probabilities};
use pellucid_classifier::verdict::judgement::{Judgement, Problem, ProblemKind};
use pellucid_guard::Setting;
use pellucid_vision::dataset::Dataset;
use rayon::prelude::*;

/// The list of pictures that a data problem concerns.
const SUSPECTS: &str = "suspects.csv";
/// The class names in the order of the outputs.
const CORRECTED: &str = "classes.txt";
/// Pictures of a class on average below which labels are not doubted: a class's threshold is a mean.
const PICTURES_A_CLASS: usize = 10;
/// Pairs of near duplicates that are looked at.
const LOOKED_AT: usize = 1000;
/// Above so many pictures labels are not doubted by themselves: refitting takes too long.
const MOST: usize = 20_000;

/// Everything but what the findings cover.
pub(crate) fn judge(scan: &Scan, table: &FeatureTable, predicted: &[usize], seed: u64) -> Judgement {
    let (classifier, classes) = (&scan.classifier, scan.classes());
    let mut judgement = Judgement::of(&table.labels, predicted, &table.groups, classes.len());
    judgement.problems.extend(of_the_model(classifier));
    let order = of_the_order(table, predicted, classes);
    let in_other_units = judgement.problems.iter().any(|problem| problem.kind == ProblemKind::Preprocessing);
    if order.is_none() && !in_other_units {
        judgement.problems.extend(preprocessing::of_the_preprocessing(scan, table, predicted));
    }
    // Labels that are all wrong cannot be doubted one by one, and features of pictures that are prepared wrongly tell nothing.
    if order.is_none() && judgement.problems.is_empty() {
        judgement.problems.extend(of_the_labels(&scan.data, table, predicted, classes, seed));
        judgement.shortcut = of_a_shortcut(classifier, &scan.data, table, classes, seed);
    }
    if let Some((problem, corrected)) = order {
        judgement.problems.push(problem);
        judgement.corrected_classes = Some(corrected);
    }
    judgement.problems.extend(of_duplicates(scan, table));
    judgement
}

fn of_the_model(classifier: &Classifier) -> Vec<Problem> {
    let mut found = Vec::new();
    let nodes = classifier.network().as_onnx().map_or(0, |onnx| onnx.tapped().trained_nodes);
    if nodes > 0 {
        let sentence = format!(
            "The model was exported in training mode: {nodes} nodes normalise by the batch or drop at random. They were run as in \
             use here, but the file answers otherwise wherever else it runs: export it again after model.eval()."
        );
        found.push(Problem { kind: ProblemKind::TrainingMode, sentence, samples: Vec::new(), certain: true });
    }
    let p = classifier.preprocessing();
    if units_disagree(p.scale, p.mean, p.std) {
        let [low, high] = promised_range(p.scale, p.mean, p.std);
        let other = Setting::Scale.with(if p.scale < 0.1 { "1" } else { "1/255" });
        let sentence = format!(
            "Mean and deviation are in another unit than the pictures' values: the model receives numbers from {low:.2} to \
             {high:.2} only. Try {other}, or give both in the unit of the values."
        );
        found.push(Problem { kind: ProblemKind::Preprocessing, sentence, samples: Vec::new(), certain: true });
    }
    found
}

fn of_the_order(table: &FeatureTable, predicted: &[usize], classes: &[String]) -> Option<(Problem, Vec<String>)> {
    let order = label_order(&table.labels, predicted, classes.len())?;
    let corrected = order.corrected(classes);
    let sentence = format!(
        "The class names are in another order than the model's outputs: as they are {:.1} % are right, in the order {} it \
         would be {:.1} %. Nothing else is said before that is mended: give the names in that order with {}; {CORRECTED} has them.",
        100.0 * order.accuracy[0],
        shortened(&corrected),
        100.0 * order.accuracy[1],
        Setting::Classes
    );
    Some((Problem { kind: ProblemKind::LabelOrder, sentence, samples: Vec::new(), certain: true }, corrected))
}

/// The first names of a list.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let rest = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{rest}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

fn of_the_labels(
    data: &Dataset,
    table: &FeatureTable,
    predicted: &[usize],
    classes: &[String],
    seed: u64,
) -> Option<Problem> {
    let present: std::collections::BTreeSet<usize> = table.labels.iter().copied().collect();
    if table.labels.len() < PICTURES_A_CLASS * present.len() || table.labels.len() > MOST || present.len() < 2 {
        return None;
    }
    let by_fold = folds(&table.labels, &units(data, table), 5, seed);
    let (logits, _) = out_of_fold(&table.features, &table.labels, &by_fold, classes.len(), Refit::default());
    let found = label_errors(&probabilities(&logits, 1.0), &table.labels);
    // Only what the refitted head and the model itself both say otherwise: the head alone doubts every hard picture.
    let samples: Vec<usize> =
        found.iter().filter(|e| predicted[e.row] == e.likely && e.margin < -0.5).map(|e| table.index[e.row]).collect();
    let mistakes = predicted.iter().zip(&table.labels).filter(|(p, y)| p != y).count();
    // Of a model that is often wrong by itself, confident mistakes are its own as likely as the labels'.
    let certain = 2 * samples.len() >= mistakes;
    let sentence = match (samples.len(), certain) {
        (0, _) => return None,
        (1, true) => format!("1 picture probably has a wrong label: look at {SUSPECTS}."),
        (n, true) => format!("{n} pictures probably have a wrong label: look at {SUSPECTS}, the surest first."),
        (n, false) => format!(
            "{} worth a second look at the label, in {SUSPECTS}: the model and a layer fitted without them agree on another \
             class. A model that is often wrong may be wrong there too.",
            if n == 1 { "1 picture is".to_owned() } else { format!("{n} pictures are") }
        ),
    };
    Some(Problem { kind: ProblemKind::LabelErrors, sentence, samples, certain })
}

fn of_duplicates(scan: &Scan, table: &FeatureTable) -> Option<Problem> {
    let hashes: Vec<String> = scan.report.rows.iter().map(|(_, hash)| hash.clone()).collect();
    let mut names: Vec<&str> = table.index.iter().map(|&i| split(&scan.data, i)).collect();
    let of = names.clone();
    names.sort_unstable();
    names.dedup();
    let splits: Vec<usize> = of.iter().map(|name| names.binary_search(name).unwrap_or(0)).collect();
    let pictures = Pictures { hashes: &hashes, features: &table.features, labels: &table.labels, splits: &splits };
    let mut found = duplicates(pictures);
    keep_what_looks_alike(scan, table, &mut found);
    if found.is_empty() {
        return None;
    }
    found.sort_by_key(|pair| (!pair.exact, pair.rows));
    let count = |is: &dyn Fn(&Duplicate) -> bool| found.iter().filter(|pair| is(pair)).count();
    let said = |n: usize, one: &str, more: &str, place: &str| match n {
        0 => None,
        1 => Some(format!("1 {one} in two {place}")),
        n => Some(format!("{n} {more} in two {place}")),
    };
    let (same, alike) =
        (("picture lies", "pictures lie"), ("pair of pictures looks the same", "pairs of pictures look the same"));
    let parts = [
        said(count(&|pair| pair.exact && pair.across_classes), same.0, same.1, "classes"),
        said(count(&|pair| pair.exact && pair.across_splits), same.0, same.1, "splits"),
        said(count(&|pair| !pair.exact && pair.across_classes), alike.0, alike.1, "classes"),
        said(count(&|pair| !pair.exact && pair.across_splits), alike.0, alike.1, "splits"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let sentence = format!("{}: see {SUSPECTS}.", parts.join("; "));
    let samples = found.iter().flat_map(|pair| pair.rows.map(|row| table.index[row])).collect();
    Some(Problem { kind: ProblemKind::Duplicates, sentence, samples, certain: true })
}

/// Drops pairs that only the features take for one picture. Where nothing can be looked at, the features have the last word; of
/// very many pairs the features can tell nothing apart, and those beyond [`LOOKED_AT`] go.
fn keep_what_looks_alike(scan: &Scan, table: &FeatureTable, found: &mut Vec<Duplicate>) {
    let seen = |row: usize| scan.data.view(table.index[row], scan.classifier.preprocessing(), scan.classifier.budget());
    let same = |pair: &Duplicate| match (seen(pair.rows[0]), seen(pair.rows[1])) {
        (Ok(a), Ok(b)) => look_alike(&a, &b),
        _ => true,
    };
    let (mut exact, mut near): (Vec<Duplicate>, Vec<Duplicate>) = found.drain(..).partition(|pair| pair.exact);
    near.truncate(LOOKED_AT);
    let kept: Vec<bool> = near.par_iter().map(same).collect();
    exact.extend(near.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(pair, _)| pair));
    *found = exact;
}

fn split(data: &Dataset, index: usize) -> &str {
    data.samples[index].split.as_deref().unwrap_or_default()
}

/// The same question that a repair asks, of the same rows, so that both say the same. Only where the data set has training
/// and validation pictures: a test split alone says nothing about what was learnt.
fn of_a_shortcut(
    classifier: &Classifier,
    data: &Dataset,
    table: &FeatureTable,
    classes: &[String],
    seed: u64,
) -> Option<Conduct> {
    let has = |name: &str| table.index.iter().any(|&index| split(data, index) == name);
    if !has("train") || !has("val") || !has("test") {
        return None;
    }
    let divided = divide(data, table, seed).ok()?;
    let units = divided.parts.each_ref().map(|part| units(data, part));
    let units = units.each_ref().map(Vec::as_slice);
    let [train, validation, test] = &divided.parts;
    let splits = Splits { train, views: 0, validation, test, units: Some(units) };
    Some(conduct(classifier.layer(), splits, classes, &RepairSettings::default().with_seed(seed)))
}

/// Writes the class names in the order of the outputs, where they were given in another. Gives the file's name.
pub(crate) fn write_classes(directory: &RunDirectory, judgement: &Judgement) -> Result<Option<String>, Error> {
    let Some(names) = &judgement.corrected_classes else { return Ok(None) };
    directory.write(CORRECTED, &(names.join("\n") + "\n"))?;
    Ok(Some(CORRECTED.to_owned()))
}

/// Writes the list of pictures that a data problem concerns, if one does: problem, file, class. Gives the file's name.
pub(crate) fn write_suspects(
    directory: &RunDirectory,
    data: &Dataset,
    judgement: &Judgement,
) -> Result<Option<String>, Error> {
    if !judgement.problems.iter().any(|problem| !problem.samples.is_empty()) {
        return Ok(None);
    }
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut list = String::from("problem,file,class\n");
    for problem in &judgement.problems {
        let kind = match problem.kind {
            ProblemKind::LabelErrors => "label",
            ProblemKind::Duplicates => "duplicate",
            _ => continue,
        };
        for &index in &problem.samples {
            let sample = &data.samples[index];
            let class = data.classes.get(sample.label).map_or("", String::as_str);
            list.push_str(&format!("{kind},{},{}\n", quoted(&sample.file), quoted(class)));
        }
    }
    directory.write(SUSPECTS, &list)?;
    Ok(Some(SUSPECTS.to_owned()))
}
