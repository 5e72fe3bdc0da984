//! What the libraries say of their steps, on stderr, where it is asked for: `-v`, `-vv`, or the variable `RUST_LOG`.

use crate::output;
use std::io;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Installs the log. `verbose` counts the flags; the variable, where it is set, has the last word.
pub fn install(verbose: u8) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))];
    let filter = match asked {
        None if verbose == 0 => return,
        None => EnvFilter::new(format!("warn,pellucid={level}")),
        Some(text) => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            output::note(&format!("warning: {} '{text}' is not understood ({error})", EnvFilter::DEFAULT_ENV));
            EnvFilter::new(format!("warn,pellucid={level}"))
        }),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Lines);
    // It is installed once, at the start.
    let _ = log.with_timer(tracing_subscriber::fmt::time::uptime()).try_init();
}

/// Whether steps are said.
pub fn is_on() -> bool {
    LevelFilter::current() >= LevelFilter::INFO
}

/// One event a line, fit for a terminal whatever names it holds.
struct Lines;

/// An event as it is put together.
struct Line(Vec<u8>);

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Vec::new())
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        output::note(String::from_utf8_lossy(&self.0).trim_end());
    }
}
