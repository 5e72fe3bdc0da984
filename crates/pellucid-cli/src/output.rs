//! Printing: text for people, JSON for programs, both on stdout.

use anyhow::Result;
use pellucid::classifier_methods::results::{Proportion, Slice, Summary};
use std::io::Write;

/// Prints `value` as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints lines; a closed pipe comes back as an error that `main` takes for success.
pub fn lines(lines: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Whether `error` says that the reader of stdout went away.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        cause.downcast_ref::<std::io::Error>().is_some_and(closed) || json == Some(std::io::ErrorKind::BrokenPipe)
    })
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
