//! The ONNX protobuf messages, generated from the `onnx-ml.proto` of onnx 1.23.2 (Apache-2.0) with prost.
//!
//! `bytes` fields are [`bytes::Bytes`], so weights that are read from a mapped file are never copied.
#![allow(missing_docs, clippy::all, rustdoc::all)]
include!("onnx_generated.rs");
