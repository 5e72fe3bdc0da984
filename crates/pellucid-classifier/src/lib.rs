//! Debugs an image classifier by its neurons (NeuroInspect, arXiv 2310.07184).
//!
//! A method is a function from features, a decision layer and settings to a plain struct. The flow: [`scan`] runs the
//! backbone once and keeps features and logits, [`diagnose`] picks the mistakes and puts [`counterfactual`], [`votes`]
//! and [`importance`] together into [`results`], and [`maps`] draws where the neurons look. [`feature_visualization`] makes pictures of
//! what a neuron responds to, led by a [`guide`]. [`repair`] edits the decision layer on the same features.

pub mod attribution;
pub mod correlation;
pub mod counterfactual;
pub mod data_problems;
pub mod diagnose;
pub mod feature_visualization;
pub mod gap;
pub mod guide;
pub mod head;
pub mod importance;
pub mod layer;
pub mod maps;
pub mod network;
pub use pellucid_runtime::progress;
pub mod repair;
pub mod results;
pub mod scan;
pub mod shortcut;
mod sparse;
pub mod statistics;
pub mod verdict;
pub mod votes;
