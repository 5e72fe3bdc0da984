//! Progress on stderr, only on a terminal; Ctrl-C asks long work to stop at the next safe place.

use crate::args::Global;
use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use pellucid::Progress;
use pellucid::printable;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// The command line's progress.
pub struct Bars {
    shown: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    /// Progress that is shown unless `global` asks for none, or for words instead, or stderr is no terminal. Installs the Ctrl-C
    /// handler.
    pub fn new(global: &Global) -> Self {
        HANDLER.get_or_init(|| {
            let asked = ctrlc::set_handler(|| {
                if INTERRUPTED.swap(true, Ordering::SeqCst) {
                    // The second Ctrl-C does not wait for a safe place; finished shards are on disk already.
                    std::process::exit(130);
                }
                output::note("stopping after this batch; press Ctrl-C again to stop at once");
            });
            if let Err(error) = asked {
                output::note(&format!("warning: Ctrl-C will stop at once ({error})"));
            }
        });
        let shown = !global.quiet && !crate::log::is_on() && output::has_terminal();
        Self { shown, bar: Mutex::new(None) }
    }

    fn with_bar(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn start(&self, stage: &str, total: u64) {
        tracing::info!(total, "{stage}");
        if !self.shown {
            return;
        }
        let style = ProgressStyle::with_template("{msg:22} {bar:36} {pos}/{len} {per_sec} {eta} left {prefix}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), output::progress_target())
            .with_style(style)
            .with_message(printable::name(stage).into_owned());
        self.with_bar(|b| *b = Some(bar));
    }

    fn advance(&self, steps: u64) {
        self.with_bar(|b| {
            if let Some(bar) = b {
                bar.inc(steps);
            }
        });
    }

    fn note(&self, words: &str) {
        self.with_bar(|b| {
            if let Some(bar) = b {
                bar.set_prefix(printable::name(words).into_owned());
            }
        });
    }

    fn warn(&self, words: &str) {
        let say = || output::note(&format!("warning: {words}"));
        self.with_bar(|b| b.as_ref().map_or_else(say, |bar| bar.suspend(say)));
    }

    fn finish(&self) {
        self.with_bar(|b| {
            if let Some(bar) = b.take() {
                bar.finish_and_clear();
            }
        });
    }

    fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}
