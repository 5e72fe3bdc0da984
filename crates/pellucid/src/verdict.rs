//! The verdict: what was found, in sentences that a manager can read. Neuron numbers, logits and tests are a click deeper.

use pellucid_classifier::results::{Finding, Mistakes, Proportion, Summary};
use pellucid_classifier::shortcut::Answer;
use pellucid_classifier::verdict::judgement::Judgement;
use pellucid_classifier::verdict::{FEWEST_MISTAKES, Part};
use pellucid_guard::Job;

/// One sentence an entry: data problems, what matters most, the whole, what else stands out, what is not explained, and
/// whether there is a shortcut.
pub(crate) fn write(summary: &Summary, judgement: &Judgement, findings: &[Finding]) -> Vec<String> {
    let said = |certain: bool| {
        judgement.problems.iter().filter(move |p| p.certain == certain).map(|problem| problem.sentence.clone())
    };
    let mut verdict: Vec<String> = said(true).collect();
    verdict.extend(what_matters_most(summary, judgement, findings));
    verdict.push(overall(summary));
    verdict.extend(findings.iter().skip(1).filter_map(|finding| also(finding, summary)));
    verdict.extend(judgement.groups.first().map(|part| group(part, summary)));
    verdict.extend(uncovered(judgement));
    verdict.extend(shortcut(judgement));
    verdict.extend(said(false));
    verdict
}

fn percent(p: &Proportion) -> String {
    format!("{:.1} % ({:.1}–{:.1} %)", 100.0 * p.value, 100.0 * p.low, 100.0 * p.high)
}

fn wrong(summary: &Summary) -> usize {
    summary.accuracy.total - summary.accuracy.count
}

fn overall(summary: &Summary) -> String {
    let mistakes = match wrong(summary) {
        0 => "it makes no mistake".to_owned(),
        1 => "it makes 1 mistake".to_owned(),
        n => format!("it makes {n} mistakes"),
    };
    format!("The model is right on {} of {} pictures; {mistakes}.", percent(&summary.accuracy), summary.samples)
}

fn name(summary: &Summary, class: usize) -> String {
    summary.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

/// The finding that costs most, or that no class can be told from the others.
fn what_matters_most(summary: &Summary, judgement: &Judgement, findings: &[Finding]) -> Option<String> {
    let first = findings.first()?;
    if matches!(first.mistakes, Mistakes::All) {
        return match wrong(summary) {
            0 => None,
            n if n < FEWEST_MISTAKES => {
                Some(format!("{}: too few to say what they have in common.", counted(n, "mistake", "mistakes")))
            }
            n => Some(format!(
                "The {n} mistakes are spread as chance would spread them: these pictures cannot tell which class is worst."
            )),
        };
    }
    let what = words(first, summary)?;
    let cue = judgement.shortcut.as_ref().filter(|s| s.answer == Some(Answer::Confirmed)).and_then(|s| s.cue.as_ref());
    let why = match cue.filter(|cue| Some(cue.class.0) == first.class) {
        Some(_) => ", for a cue that your pictures show to be no part of it",
        None => "",
    };
    let mistakes = counted(wrong(summary), "mistake", "mistakes");
    let share = if first.count == wrong(summary) {
        format!("All {mistakes}")
    } else {
        format!("{} of the {mistakes}", first.count)
    };
    Some(format!("{share}: {what}{why}."))
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A set of mistakes in words.
fn words(finding: &Finding, summary: &Summary) -> Option<String> {
    match finding.mistakes {
        Mistakes::PredictedAs { class } => {
            Some(format!("pictures of other classes that are called “{}”", name(summary, class)))
        }
        Mistakes::TrueClass { class } => {
            let most = summary.confusions.iter().find(|c| c.truth == class);
            let most = most.map(|c| format!(", most often “{}”", name(summary, c.predicted))).unwrap_or_default();
            Some(format!("pictures of “{}” that are called something else{most}", name(summary, class)))
        }
        Mistakes::Group { group } => {
            Some(format!("pictures of group “{}”", summary.groups.get(group).cloned().unwrap_or_default()))
        }
        Mistakes::All => None,
    }
}

fn also(finding: &Finding, summary: &Summary) -> Option<String> {
    Some(format!("{} are {}.", counted(finding.count, "mistake", "mistakes"), words(finding, summary)?))
        .filter(|_| finding.count >= FEWEST_MISTAKES)
}

fn group(part: &Part, summary: &Summary) -> String {
    format!(
        "The group that costs most is “{}”: {} of its {} pictures are wrong, {:.0} % of the others.",
        summary.groups.get(part.id).cloned().unwrap_or_default(),
        part.mistakes,
        part.samples,
        100.0 * part.rest
    )
}

fn uncovered(judgement: &Judgement) -> Option<String> {
    let coverage = judgement.coverage.as_ref().filter(|c| c.uncovered > 0 && c.uncovered < c.mistakes)?;
    Some(format!(
        "{} of the {} mistakes ({:.0} %) are in no finding.",
        coverage.uncovered,
        coverage.mistakes,
        100.0 * coverage.uncovered as f64 / coverage.mistakes as f64
    ))
}

fn shortcut(judgement: &Judgement) -> Option<String> {
    let found = judgement.shortcut.as_ref()?;
    let cue = found.cue.as_ref().map_or("a class", |cue| cue.class.1.as_str());
    Some(match found.answer? {
        Answer::Confirmed => {
            format!("A shortcut of “{cue}” is {}: `{}` edits it away.", Answer::Confirmed, Job::Repair)
        }
        Answer::NeedsYourEye => {
            let shares = found.cue.as_ref().and_then(|cue| cue.in_training_alone());
            let shares = shares.map_or_else(String::new, |shares| format!(" {shares}"));
            format!("Is there a shortcut? A cue of “{cue}” {}{shares}", Answer::NeedsYourEye)
        }
        Answer::NoneFound => {
            let power = found.power("one").map_or_else(String::new, |said| format!("; {said}"));
            let limit = found.limit.as_ref().map_or_else(String::new, |limit| format!(" {limit}"));
            format!("Is there a shortcut? {}{power}.{limit}", Answer::NoneFound)
        }
    })
}
