//! Printing: results on stdout, as text for people or JSON for programs; everything else on stderr.

use anyhow::{Context, Result};
use pellucid::classifier_methods::results::{Proportion, Slice, Summary};
use std::io::Write;

/// Prints `value` as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(text.as_bytes())
}

/// Prints `bytes` as they are, to the last one.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Says something beside the result. That nobody listens is no reason to fail.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says `warnings`, one a line; of very many the first, and how many more there are.
pub fn warnings(warnings: &[String]) {
    const SHOWN: usize = 31;
    warnings.iter().take(SHOWN).for_each(|w| note(&format!("warning: {w}")));
    if warnings.len() > SHOWN {
        note(&format!("warning: … and {} more, which the run's manifest.json holds", warnings.len() - SHOWN));
    }
}

/// `error` with its causes, each said once: many messages quote their cause already.
pub fn describe(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}

/// Prints lines; a closed pipe comes back as an error that `main` takes for success.
pub fn lines(lines: &[String]) -> Result<()> {
    print((lines.join("\n") + "\n").as_bytes())
}

/// Whether `error` says that the reader of stdout went away.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(closed))
}

/// `81.2 % (78.0–84.1 %), 650 of 800`.
pub fn proportion(p: &Proportion) -> String {
    format!("{:5.1} % ({:.1}–{:.1} %), {} of {}", 100.0 * p.value, 100.0 * p.low, 100.0 * p.high, p.count, p.total)
}

/// The summary's accuracies as lines.
pub fn summary(summary: &Summary) -> Vec<String> {
    let mut lines = vec![format!("accuracy     {}", proportion(&summary.accuracy))];
    lines.extend(worst("class", &summary.by_class, summary.worst_class));
    lines.extend(worst("group", &summary.by_group, summary.worst_group));
    lines
}

fn worst(kind: &str, slices: &[Slice], id: Option<usize>) -> Option<String> {
    let slice = slices.iter().find(|s| Some(s.id) == id)?;
    Some(format!("worst {kind}  {}  {}", proportion(&slice.accuracy), slice.name))
}
