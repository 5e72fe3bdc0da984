//! The verdict: what was found, in sentences that a manager can read.

use pellucid_classifier::diagnose::sink;
use pellucid_classifier::results::{Direction, Finding, Mistakes, Neuron, Proportion, Summary};

/// One sentence an entry: overall accuracy, the worst class and group, what the mistakes have in common.
pub(crate) fn write(summary: &Summary, findings: &[Finding]) -> Vec<String> {
    let mut verdict = vec![overall(summary)];
    verdict.extend(worst_class(summary));
    verdict.extend(worst_group(summary));
    verdict.extend(most_land_on(summary));
    verdict.extend(findings.iter().filter_map(|f| evidence(f, summary)));
    verdict
}

fn percent(p: &Proportion) -> String {
    format!("{:.1} % ({:.1}–{:.1} %)", 100.0 * p.value, 100.0 * p.low, 100.0 * p.high)
}

fn overall(summary: &Summary) -> String {
    let wrong = summary.accuracy.total - summary.accuracy.count;
    let mistakes = match wrong {
        0 => "it makes no mistake".to_owned(),
        1 => "it makes 1 mistake".to_owned(),
        n => format!("it makes {n} mistakes"),
    };
    format!("The model is right on {} of {} pictures; {mistakes}.", percent(&summary.accuracy), summary.samples)
}

fn worst_class(summary: &Summary) -> Option<String> {
    let id = summary.worst_class?;
    let slice = summary.by_class.iter().find(|s| s.id == id)?;
    (summary.by_class.len() > 1 && slice.accuracy.count < slice.accuracy.total).then(|| {
        format!(
            "Its worst class is “{}”: right on {} of {} pictures.",
            slice.name,
            percent(&slice.accuracy),
            slice.accuracy.total
        )
    })
}

fn worst_group(summary: &Summary) -> Option<String> {
    let id = summary.worst_group?;
    let slice = summary.by_group.iter().find(|s| s.id == id)?;
    let gap = 100.0 * (summary.accuracy.value - slice.accuracy.value);
    let note = if gap >= 10.0 && slice.accuracy.high < summary.accuracy.low {
        format!(", {gap:.0} points below the whole: the model leans on something that this group lacks or carries")
    } else {
        String::new()
    };
    (summary.by_group.len() > 1)
        .then(|| format!("Its worst group is “{}”: right on {}{note}.", slice.name, percent(&slice.accuracy)))
}

fn most_land_on(summary: &Summary) -> Option<String> {
    let (class, landed) = sink(summary)?;
    let mistakes = summary.accuracy.total - summary.accuracy.count;
    Some(format!(
        "{landed} of the {mistakes} mistakes land on “{}”: look first at what makes the model say so.",
        name(summary, class)
    ))
}

fn name(summary: &Summary, class: usize) -> String {
    summary.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

/// What a set of mistakes has in common: the neurons of the largest shares of the evidence gap, else the one of most votes.
fn evidence(finding: &Finding, summary: &Summary) -> Option<String> {
    if finding.count == 0 {
        return None;
    }
    let pictures = |n: usize| if n == 1 { "the 1 picture".to_owned() } else { format!("the {n} pictures") };
    let set = match &finding.mistakes {
        Mistakes::PredictedAs { class } => {
            format!("{} wrongly called “{}”", pictures(finding.count), name(summary, *class))
        }
        Mistakes::TrueClass { class } => {
            format!("{} of “{}” that it misses", pictures(finding.count), name(summary, *class))
        }
        Mistakes::Group { group } => {
            format!(
                "the {} mistakes of group “{}”",
                finding.count,
                summary.groups.get(*group).cloned().unwrap_or_default()
            )
        }
        Mistakes::All => format!("the {} mistakes together", finding.count),
    };
    let Some(first) = finding.gap.first() else {
        let neuron = finding.insufficient.first().or(finding.excessive.first())?;
        let index = neuron.index;
        return Some(format!("In {set}, most counterfactuals lean on neuron {index} ({:.0} %).", neuron.votes.value));
    };
    let same: Vec<&Neuron> = finding.gap.iter().filter(|n| n.direction == first.direction).take(3).collect();
    let list = same.iter().map(|n| n.index.to_string()).collect::<Vec<_>>().join(", ");
    let neurons = if same.len() == 1 { "neuron" } else { "neurons" };
    let what = match first.direction {
        Direction::Excessive => "evidence that should not count",
        Direction::Insufficient => "evidence that is missing",
    };
    let logits: f64 = same.iter().map(|n| n.gap.value).sum();
    Some(format!(
        "In {set}, the largest part of what goes wrong is {what}: {neurons} {list} ({logits:+.1} logits a picture)."
    ))
}
