//! The lines of a sweep as Markdown: power against strength, false alarms with exact bounds, right class, right neurons, and
//! worst group and overall for every edit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pellucid::internals::classifier_methods::shortcut::Answer;
use pellucid::internals::classifier_methods::verdict::clopper_pearson;
use pellucid::internals::saliency::stats::bootstrap::Interval as Mean;
use pellucid::internals::saliency::stats::multiplicity::holm_adjusted;

use super::FIRST_REPORTED;
use super::plant::Planted;
use super::run::{Figures, Line};

/// Lines of a Markdown file between which the tables are written.
pub const MARKERS: [&str; 2] = ["<!-- begin: pellucid-zoo truth -->", "<!-- end: pellucid-zoo truth -->"];

/// The least strength of a cue that must be seen: the share of other classes' pictures that it moves.
const STRONG: f64 = 0.15;

/// Bounds of strength by which power is told.
const STRENGTHS: [f64; 5] = [0.0, 0.05, 0.15, 0.30, 1.01];

/// The tables of every line whose seed was not used to choose settings.
pub fn markdown(lines: &[Line]) -> String {
    let reported: Vec<&Line> = lines.iter().filter(|line| line.seed >= FIRST_REPORTED).collect();
    let seeds: BTreeSet<u64> = reported.iter().map(|line| line.seed).collect();
    let range = seeds.first().zip(seeds.last()).map_or_else(String::new, |(a, b)| format!(", seeds {a} to {b}"));
    let mut out = format!(
        "{} runs{range}. Settings were chosen on seeds below {FIRST_REPORTED}, none of which is in the tables.\n\n",
        reported.len()
    );
    for part in [false_alarms, power, answers, by_condition, edits, against_rivals] {
        out.push_str(&part(&reported));
    }
    out
}

fn is_shortcut(line: &Line) -> bool {
    !matches!(line.condition.planted, Planted::Nothing | Planted::Independent(_))
}

fn share(count: usize, total: usize) -> String {
    let [low, high] = clopper_pearson(count, total, 0.95);
    format!("{count} of {total} ({:.1} %; {:.1} to {:.1} %)", percent(count, total), 100.0 * low, 100.0 * high)
}

fn percent(count: usize, total: usize) -> f64 {
    100.0 * count as f64 / total.max(1) as f64
}

fn false_alarms(lines: &[&Line]) -> String {
    let mut out = String::from(
        "### Without a shortcut\n\n| | runs | an edit shipped | confirmed | needs your eye |\n|---|---|---|---|---|\n",
    );
    for (name, is) in [
        ("no cue", (|line: &Line| line.condition.planted == Planted::Nothing) as fn(&Line) -> bool),
        ("a cue on half of all pictures", |line| matches!(line.condition.planted, Planted::Independent(_))),
        ("both", |line| !is_shortcut(line)),
    ] {
        let own: Vec<&&Line> = lines.iter().filter(|line| is(line)).collect();
        let count = |is: &dyn Fn(&Line) -> bool| share(own.iter().filter(|line| is(line)).count(), own.len());
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} |",
            own.len(),
            count(&|line| line.shipped),
            count(&|line| line.answer == Answer::Confirmed),
            count(&|line| line.answer == Answer::NeedsYourEye)
        );
    }
    out + "\nIn brackets the exact (Clopper–Pearson) 95 % interval.\n\n"
}

/// Whether the cue that the answer is about is one of the planted.
fn right_class(line: &Line) -> bool {
    line.confirmed.first().is_some_and(|class| line.planted.contains(class))
}

fn power(lines: &[&Line]) -> String {
    let mut out = String::from(
        "### Power against strength\n\nOne cue, validation balanced. Strength: the share of other classes' test pictures that \
         the cue, laid over them, moves to its class.\n\n| strength | runs | confirmed | with the right class |\n|---|---|---|---|\n",
    );
    let one: Vec<&&Line> = lines
        .iter()
        .filter(|line| matches!(line.condition.planted, Planted::One(_)) && !line.condition.skewed)
        .collect();
    for bounds in STRENGTHS.windows(2) {
        let own: Vec<&&&Line> = one.iter().filter(|l| (bounds[0]..bounds[1]).contains(&l.strength[0])).collect();
        let confirmed = own.iter().filter(|line| line.answer == Answer::Confirmed).count();
        let right = own.iter().filter(|line| right_class(line)).count();
        let _ = writeln!(
            out,
            "| {:.0} to {:.0} % | {} | {} | {} |",
            100.0 * bounds[0],
            100.0 * bounds[1].min(1.0),
            own.len(),
            share(confirmed, own.len()),
            share(right, own.len())
        );
    }
    out + "\n"
}

/// What must hold of strong cues, each as a share of runs.
fn answers(lines: &[&Line]) -> String {
    let strong =
        |line: &&&Line| is_shortcut(line) && line.strength.iter().all(|s| *s >= STRONG) && !line.condition.tail;
    let single = |line: &&&Line| matches!(line.condition.planted, Planted::One(_));
    let all: Vec<&&Line> = lines.iter().filter(strong).collect();
    let (one, two): (Vec<&&Line>, Vec<&&Line>) = all.into_iter().partition(single);
    let (skewed, balanced): (Vec<&&Line>, Vec<&&Line>) = one.into_iter().partition(|line| line.condition.skewed);
    let first = |line: &Line| line.ranked.first().is_some_and(|(class, _)| line.planted.contains(class));
    let named = |line: &Line| line.planted.iter().all(|class| line.confirmed.contains(class));
    let count = |of: &[&&Line], is: &dyn Fn(&Line) -> bool| share(of.iter().filter(|line| is(line)).count(), of.len());
    let mut out = String::from(
        "### Cues that move 15 % of other classes' pictures and more\n\n| validation | question | runs for which it holds |\n|---|---|---|\n",
    );
    let rows = [
        ("balanced", "confirmed, of the right class", count(&balanced, &right_class)),
        ("balanced, two cues", "both confirmed", count(&two, &named)),
        ("skewed", "the right class is ranked first", count(&skewed, &first)),
        ("skewed", "answered *needs your eye*", count(&skewed, &|line| line.answer == Answer::NeedsYourEye)),
        ("skewed", "an edit is shipped unasked", count(&skewed, &|line| line.shipped)),
    ];
    rows.iter().for_each(|(validation, question, share)| {
        let _ = writeln!(out, "| {validation} | {question} | {share} |");
    });
    out + "\n"
}

/// Mean of paired differences in points, with its bootstrap interval of 95 %.
fn points(differences: &[f64]) -> String {
    if differences.is_empty() {
        return "–".to_owned();
    }
    let of = Mean::of(differences);
    format!("{:+.1} ({:+.1} to {:+.1})", 100.0 * of.value, 100.0 * of.low, 100.0 * of.high)
}

/// What the winner of the competition gains over its rivals on the test pictures, and what it costs.
fn against_rivals(lines: &[&Line]) -> String {
    let mut out = String::from(
        "### The edit that wins, against its rivals\n\nOne cue that moves 15 % of other classes' pictures and more; differences \
         in points on the test pictures with 95 % intervals over runs. The better refit is the plain or the class-balanced one, \
         whichever has the better worst group on the test pictures; group-balanced is told the true groups of training and \
         validation.\n\n| condition | runs | worst group, over the better refit | overall, over the better refit | worst group, over \
         group-balanced |\n|---|---|---|---|---|\n",
    );
    let mut groups: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        let strong = line.strength.first().is_some_and(|strength| *strength >= STRONG);
        if matches!(line.condition.planted, Planted::One(_)) && strong && line.figures.contains_key("winner") {
            groups.entry(line.condition.name()).or_default().push(line);
        }
    }
    let over = |line: &Line, rival: &str, k: usize| -> Option<f64> {
        let rival = match rival {
            "refit" => better_refit(line)?,
            other => *line.figures.get(other)?,
        };
        Some(line.figures.get("winner")?[k] - rival[k])
    };
    for (condition, own) in &groups {
        let all = |rival: &str, k: usize| -> Vec<f64> { own.iter().filter_map(|line| over(line, rival, k)).collect() };
        let _ = writeln!(
            out,
            "| {condition} | {} | {} | {} | {} |",
            own.len(),
            points(&all("refit", 1)),
            points(&all("refit", 0)),
            points(&all("group-balanced", 1))
        );
    }
    let tested: Vec<f64> = lines.iter().filter(|line| line.shipped).filter_map(|line| line.against_refit).collect();
    let worse = holm_adjusted(&tested).iter().filter(|p| **p < 0.05).count();
    let overall: Vec<f64> = lines.iter().filter(|l| l.shipped).filter_map(|l| over(l, "refit", 0)).collect();
    let _ = writeln!(
        out,
        "\nOver all {} runs in which an edit was shipped unasked, it changes overall accuracy by {} points against the better \
         refit; it is significantly worse in {worse} of them (exact, by families, Holm at 0.05).\n",
        tested.len(),
        points(&overall)
    );
    out
}

/// Figures of the plain or the class-balanced refit, whichever has the better worst group.
fn better_refit(line: &Line) -> Option<Figures> {
    let of = |name: &str| line.figures.get(name).copied();
    of("refit").into_iter().chain(of("class-balanced")).max_by(|a, b| a[1].total_cmp(&b[1]))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn by_condition(lines: &[&Line]) -> String {
    let mut out = String::from(
        "### By condition\n\n| condition | runs | strength | confirmed | right class (test) | right class (rank) | answer needs your eye | carriers among the first five |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut groups: BTreeMap<(&str, &str, String), Vec<&Line>> = BTreeMap::new();
    for line in lines {
        groups.entry((line.kind.name(), line.backbone.name(), line.condition.name())).or_default().push(line);
    }
    for ((kind, backbone, condition), own) in groups {
        let count = |is: &dyn Fn(&Line) -> bool| own.iter().filter(|line| is(line)).count();
        let ranked = count(&|line| line.ranked.first().is_some_and(|(class, _)| line.planted.contains(class)));
        let strength = mean(own.iter().flat_map(|line| line.strength.iter().copied()));
        let _ = writeln!(
            out,
            "| {kind}, {backbone}: {condition} | {} | {} | {} | {} | {} | {} | {} |",
            own.len(),
            told(strength),
            count(&|line| line.answer == Answer::Confirmed),
            if own[0].planted.is_empty() { "–".to_owned() } else { count(&right_class).to_string() },
            if own[0].planted.is_empty() { "–".to_owned() } else { ranked.to_string() },
            count(&|line| line.answer == Answer::NeedsYourEye),
            told(mean(own.iter().filter_map(|line| line.neurons)))
        );
    }
    out + "\n"
}

fn told(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{:.0} %", 100.0 * value) }
}

fn edits(lines: &[&Line]) -> String {
    let mut out = String::from(
        "### What edits do\n\nOne cue that moves 15 % of other classes' pictures and more. Mean worst group / overall on the \
         test pictures, in per cent; every edit with the cue that was found, `group-balanced` with the true groups.\n\n",
    );
    let names = ["none", "refit", "class-balanced", "slice-balanced", "erase", "winner", "group-balanced"];
    let _ = writeln!(out, "| condition | runs | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "---|".repeat(names.len()));
    let mut groups: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        let strong = line.strength.first().is_some_and(|strength| *strength >= STRONG);
        if matches!(line.condition.planted, Planted::One(_)) && strong && line.figures.contains_key("erase") {
            groups.entry(line.condition.name()).or_default().push(line);
        }
    }
    for (condition, own) in groups {
        let cells: Vec<String> = names
            .iter()
            .map(|name| {
                let of = |k: usize| 100.0 * mean(own.iter().filter_map(|line| line.figures.get(*name)).map(|f| f[k]));
                format!("{:.1} / {:.1}", of(1), of(0))
            })
            .collect();
        let _ = writeln!(out, "| {condition} | {} | {} |", own.len(), cells.join(" | "));
    }
    out + "\n"
}
