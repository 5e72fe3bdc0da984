//! Composes the pictures of two benchmarks with a known false correlation, **emoji-watermark** and **emoji-frame**.
//!
//! A picture is a colour emoji on a painted background, with or without a mark: a translucent watermark, or a coloured
//! frame. The classifier of each benchmark was trained on pictures where one class nearly always carries the mark.
//! What is committed is small: sprites ([`sprites`]), one line for each picture ([`recipe`]) and
//! the hash of every picture. [`compose`] makes the pictures from that, [`dataset`] writes them to
//! a folder and checks each against its hash.
//!
//! [`ranking`] measures whether the lists of a diagnosis find the neurons that carry the mark.
//!
//! The pixels are the same on every machine: only integers and plain IEEE arithmetic (`+ - * /`
//! and `sqrt`, floors and comparisons) are used, no function of a maths library, and no value
//! depends on the order in which threads run.

pub mod background;
pub mod benchmark;
pub mod canvas;
pub mod compose;
pub mod dataset;
mod draws;
pub mod error;
pub mod mark;
pub mod mending;
mod noise;
pub mod ranking;
pub mod recipe;
pub mod sprites;
pub mod truth;

pub use background::Kind;
pub use benchmark::Benchmark;
pub use canvas::Canvas;
pub use compose::Composer;
pub use dataset::{Fault, Outcome, Selection, check, seal, write};
pub use error::ZooError;
pub use mark::Mark;
pub use recipe::{Entry, Recipe, Split};
pub use sprites::Sprite;

/// Width and height of every picture, in pixels: what the classifier takes, so nothing is resized.
pub const SIDE: usize = 224;
