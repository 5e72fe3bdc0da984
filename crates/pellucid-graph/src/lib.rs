//! Reads, rewrites and writes ONNX graphs, and finds the places in them worth looking at.
//!
//! The flow: [`Model::read`] opens a file (weights stay where they are), [`Graph`] is the pleasant in-memory form that
//! rewrites work on, [`taps`] names the decision layer, the features and the feature map, [`attention`] and [`blocks`] the
//! places of a diffusion model, [`optimize`] spares time where only a graph's outputs count, and
//! [`Model::to_referencing_bytes`] turns the result into plain ONNX again without copying a weight. This crate never
//! runs a model; `pellucid-runtime` does.

pub mod attention;
pub mod blocks;
mod evaluation;
mod external;
pub mod grad;
mod graph;
mod model;
pub mod observed;
pub mod onnx;
pub mod optimize;
mod precision;
mod sound;
pub mod taps;
mod tensor;
mod weigh;

pub use external::ExternalDataError;
pub use graph::{Graph, GraphError, Node, Value};
pub use model::{Model, ModelError, OPSETS};

pub use evaluation::to_evaluation;
pub use observed::{Observations, Observed};
pub use precision::{WidenError, widen_to_float32};
pub use taps::{AffineTail, DecisionLayer, FeatureMap, Head, HeadKind, Layout, TailSource, TapError, TapNames, Taps};
pub use tensor::{ElementType, Tensor, TensorError};
