//! The one boundary behind which parsers of others run that may panic on a damaged file.
//!
//! Only third-party code belongs behind it: a panic of our own is a defect that tests and fuzz targets must see.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Boundaries that this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// A parser panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {parser} parser cannot cope with it ({message})")]
pub struct Panicked {
    /// Whose parser: `Parquet`, `tokenizer`.
    pub parser: &'static str,
    /// The panic's first line.
    pub message: String,
}

/// Runs `work`, a parser of another's; a panic in it comes back as an error, and nothing is printed.
///
/// What `work` had half done is dropped with it, so it should own what it builds. Threads that `work` starts itself are
/// outside the boundary. The first call puts a panic hook in front of the one there is; panics elsewhere go on to that.
///
/// # Errors
/// [`Panicked`], with the panic's own words.
pub fn parse<T>(parser: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.with(Cell::get) == 0 {
                usual(info);
            }
        }));
    });
    let _inside = Inside::enter();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked { parser, message: first_line(payload.as_ref()) })
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.with(|d| d.set(d.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|d| d.set(d.get() - 1));
    }
}

fn first_line(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let line = text.and_then(|t| t.lines().next()).unwrap_or("it gave no reason");
    crate::printable::name(line).chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_first_line() {
        let failed = parse("test", || -> u8 { panic!("index {} out of range\nmore", 7) }).unwrap_err();
        assert_eq!(failed, Panicked { parser: "test", message: "index 7 out of range".to_owned() });
        assert_eq!(parse("test", || 3), Ok(3));
        assert_eq!(DEPTH.with(Cell::get), 0);
    }

    #[test]
    fn boundaries_nest() {
        let outer = parse("outer", || parse("inner", || panic!("x")).map(|()| 1));
        assert!(matches!(outer, Ok(Err(Panicked { parser: "inner", .. }))));
    }
}
