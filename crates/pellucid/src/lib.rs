//! See what a vision model does, why it fails, and repair it.
pub use pellucid_classifier as classifier;
pub use pellucid_graph as graph;
pub use pellucid_report as report;
pub use pellucid_runtime as runtime;
pub use pellucid_vision as vision;
