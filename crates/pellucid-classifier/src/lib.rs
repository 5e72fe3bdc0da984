//! Debugs an image classifier by its neurons (NeuroInspect, arXiv 2310.07184).
//!
//! A method is a function from features, a decision layer and settings to a plain struct in [`results`].
pub mod results;
