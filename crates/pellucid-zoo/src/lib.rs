//! Composes the pictures of **emoji-watermark**, a benchmark with a known false correlation.
//!
//! A picture is a colour emoji on a painted background, with or without a translucent watermark.
//! What is committed is small: sprites ([`sprites`]), one line for each picture ([`recipe`]) and
//! the hash of every picture. [`compose`] makes the pictures from that, [`dataset`] writes them to
//! a folder and checks each against its hash.
//!
//! [`ranking`] measures, on that benchmark, whether the lists of a diagnosis find the neurons that carry the watermark.
//!
//! The pixels are the same on every machine: only integers and plain IEEE arithmetic (`+ - * /`
//! and `sqrt`, floors and comparisons) are used, no function of a maths library, and no value
//! depends on the order in which threads run.

pub mod background;
pub mod canvas;
pub mod compose;
pub mod dataset;
mod draws;
pub mod error;
mod noise;
pub mod ranking;
pub mod recipe;
pub mod sprites;

pub use background::Kind;
pub use canvas::Canvas;
pub use compose::Composer;
pub use dataset::{Fault, Outcome, Selection, check, seal, write};
pub use error::ZooError;
pub use recipe::{Entry, Recipe, Split};

/// Width and height of every picture, in pixels: what the classifier takes, so nothing is resized.
pub const SIDE: usize = 224;
