//! The verdict: what was found, in sentences that a manager can read.

use pellucid_classifier::results::{Finding, Mistakes, Neuron, Proportion, Summary};

/// One sentence an entry: overall accuracy, the worst class and group, what the mistakes have in common.
pub(crate) fn write(summary: &Summary, findings: &[Finding]) -> Vec<String> {
    let mut verdict = vec![overall(summary)];
    verdict.extend(worst_class(summary));
    verdict.extend(worst_group(summary));
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

fn evidence(finding: &Finding, summary: &Summary) -> Option<String> {
    if finding.count == 0 {
        return None;
    }
    let class = |c: usize| summary.classes.get(c).cloned().unwrap_or_else(|| format!("class {c}"));
    let (neuron, what): (&Neuron, String) = match &finding.mistakes {
        Mistakes::PredictedAs { class: c } => (
            finding.excessive.first()?,
            format!(
                "In the {} pictures wrongly called “{}”, the evidence that should not have counted",
                finding.count,
                class(*c)
            ),
        ),
        Mistakes::TrueClass { class: c } => (
            finding.insufficient.first()?,
            format!(
                "In the {} pictures of “{}” that it misses, the evidence that was missing",
                finding.count,
                class(*c)
            ),
        ),
        Mistakes::Group { .. } | Mistakes::All => (
            finding.insufficient.first().or(finding.excessive.first())?,
            format!("In {} mistakes, the evidence that was off", finding.count),
        ),
    };
    let reliable = if neuron.stability >= 0.9 { "" } else { " (not stable over resamples: look, do not lean on it)" };
    Some(format!(
        "{what} sits first of all in neuron {}, named by {:.0} % of them{reliable}.",
        neuron.index, neuron.votes.value
    ))
}
