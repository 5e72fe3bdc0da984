//! Saliency maps with a verdict on them.
//!
//! - [`SaliencyMap`]: what every explainer gives, of classifiers and of diffusion models alike;
//! - [`colour`] and [`render`]: the one colour map and the one renderer, for files, pages and widgets;
//! - [`stats`]: rank correlation, intervals, the bootstrap, multiplicity, seeded streams of random numbers;
//! - [`evaluate`]: deletion and insertion, with the direction of "good" in the types, and standings against controls.
//!
//! It knows no network: explainers make maps, this crate says what they are worth and shows them.

pub mod colour;
pub mod evaluate;
mod map;
pub mod render;
pub mod stats;

pub use map::{Figure, Grid, Role, SaliencyMap};
pub use render::Alignment;
