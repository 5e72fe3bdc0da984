//! Whether a map is faithful: take away (or bring back) the places it ranks highest and watch what the network says, beside
//! controls that know nothing.
//!
//! Two measures with opposite directions are in use, and they are never mixed up because [`Measure`] carries the direction:
//! a *confidence* falls as what matters goes (RISE, Petsiuk et al. 2018), a *distance* to the untouched result grows
//! ([methods B8]).
//!
//! [methods B8]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b8

pub mod controls;
mod curve;
mod measure;
mod standing;

pub use curve::{ConfidenceGames, Curve, DistanceGames, moves, ranked};
pub use measure::{Better, Game, Measure};
pub use standing::{Areas, GameStanding, Lead, Standing, Unit};
