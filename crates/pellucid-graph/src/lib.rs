//! Reads, rewrites and writes ONNX graphs, and finds the places in them worth looking at.
//!
//! This crate never runs a model; `pellucid-runtime` does.
pub mod onnx;
