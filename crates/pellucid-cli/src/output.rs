//! Printing: results on stdout, as text for people or JSON for programs; everything else on stderr.
//!
//! Every text passes through [`printable`] on its way out, on a terminal or not: names of files, classes and nodes come from
//! strangers, and none of them may move the cursor, change colours, reorder a line or begin a new one.

use anyhow::{Context, Result};
use pellucid::preprocess::ViewBox;
use pellucid::results::{Proportion, Slice, Summary};
use pellucid::{Array, printable};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

/// Where this process says things beside its result, if not on descriptor 2.
static STDERR: OnceLock<File> = OnceLock::new();

/// Says everything from now on through `file`: descriptor 2 is left to native code.
#[cfg(unix)]
pub fn use_stderr(file: File) {
    // It is set once, at the start.
    let _ = STDERR.set(file);
}

/// Whether somebody sits before what is said beside the result.
pub fn has_terminal() -> bool {
    STDERR.get().map_or_else(|| std::io::stderr().is_terminal(), File::is_terminal)
}

/// Where progress is drawn.
pub fn progress_target() -> indicatif::ProgressDrawTarget {
    #[cfg(unix)]
    if let Some(Ok(pair)) = STDERR.get().map(|file| Ok::<_, std::io::Error>((file.try_clone()?, file.try_clone()?))) {
        return indicatif::ProgressDrawTarget::term(console::Term::read_write_pair(pair.0, pair.1), 20);
    }
    indicatif::ProgressDrawTarget::stderr()
}

/// Prints `value` as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(printable::json(&text).as_bytes())
}

/// Prints `bytes` as they are, to the last one.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Says something beside the result, on one line. That nobody listens is no reason to fail.
pub fn note(text: &str) {
    say(format!("{}\n", printable::name(text)).as_bytes());
}

/// Passes on what native code, or the end by a panic, has to say.
#[cfg(unix)]
pub fn pass(said: &[u8]) {
    say(printable::lines(&String::from_utf8_lossy(said)).as_bytes());
}

/// In one piece, so that another process on the same terminal does not come between.
fn say(bytes: &[u8]) {
    let _ = match STDERR.get() {
        Some(mut file) => file.write_all(bytes),
        None => std::io::stderr().write_all(bytes),
    };
}

/// Says `warnings`, one a line; of very many the first, and how many more there are.
pub fn warnings(warnings: &[impl std::fmt::Display]) {
    const SHOWN: usize = 31;
    warnings.iter().take(SHOWN).for_each(|w| note(&format!("warning: {w}")));
    if warnings.len() > SHOWN {
        note(&format!("warning: … and {} more, which the run's manifest.json holds", warnings.len() - SHOWN));
    }
}

/// Writes maps as numbers into `maps.npz`, and where the model's view lies in the picture into `view.json`.
pub fn maps(folder: &Path, arrays: &BTreeMap<String, Array>, view: Option<&ViewBox>) -> Result<()> {
    pellucid::write_arrays(folder.join("maps.npz"), arrays)?;
    if let Some(view) = view {
        let path = folder.join("view.json");
        let text = serde_json::to_string_pretty(view)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// `error` with its causes, each said once: many messages quote their cause already.
pub fn describe(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}

/// Prints `lines`, each on one line whatever it holds; a closed pipe comes back as an error that `main` takes for success.
pub fn lines(lines: &[String]) -> Result<()> {
    print(lines.iter().map(|line| printable::name(line).into_owned() + "\n").collect::<String>().as_bytes())
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
