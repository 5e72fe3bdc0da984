//! The bodies of the fuzz targets: one function per kind of file that comes from a stranger.
//!
//! Each takes any bytes and returns. A panic in it is a defect: of the parser, or of a promise that the function checks
//! behind it (the size that a picture's header says, what is written is read back, labels within their classes …).
//! [`TARGETS`] lists them. The libFuzzer binaries in `fuzz/` call them under a fuzzer, and this crate's test replays
//! `fuzz/corpus/` on every run of the tests. Nothing here starts ONNX Runtime.

mod arrays;
mod cache;
mod dataset;
mod graphs;
mod pictures;
mod scratch;
mod settings;
mod texts;

pub use arrays::{npz, patch};
pub use cache::cache;
pub use dataset::dataset;
pub use graphs::{mutate_onnx, onnx, record_shapes};
pub use pictures::{jpeg, picture};
pub use settings::{preprocess, scheduler};
pub use texts::tokenizer;

use pellucid::Budget;

/// What a fuzz target is.
pub type Target = fn(&[u8]);

/// Every target with its name, which is that of its corpus and of its binary.
pub const TARGETS: [(&str, Target); 10] = [
    ("jpeg", jpeg),
    ("picture", picture),
    ("npz", npz),
    ("onnx", onnx),
    ("dataset", dataset),
    ("preprocess", preprocess),
    ("scheduler", scheduler),
    ("patch", patch),
    ("tokenizer", tokenizer),
    ("cache", cache),
];

/// Bounds that keep a target small and fast: what exceeds them must be refused, and libFuzzer's own bound on memory shows
/// what is not.
pub fn budget() -> Budget {
    let mut budget = Budget::for_memory(64 << 20);
    budget.pixels = 1 << 19;
    budget.picture_bytes = 1 << 20;
    budget.text_bytes = 1 << 20;
    budget.nodes = 2000;
    budget.rows = 10_000;
    budget.tokens = 50_000;
    budget
}

/// The first byte, by which a target chooses a form, and the rest.
fn chosen(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

/// Checks that a message is one line that a terminal may be given as it is, but for the names that it quotes.
fn says_something(error: &impl std::fmt::Display) {
    let message = error.to_string();
    assert!(!message.trim().is_empty(), "an error without words");
}
