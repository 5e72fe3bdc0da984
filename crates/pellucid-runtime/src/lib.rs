//! Finds and drives ONNX Runtime: library, devices, sessions, batches, memory bounds. Knows no method.
//!
//! The flow: [`Runtime::load`] finds the library once per process, [`Runtime::session`] compiles a
//! [`pellucid_graph::Model`] (weights stay in their files), [`Session::run`] takes and gives [`Array`]s,
//! [`observe()`] asks the runtime for every shape and type, and [`Batching`] fits batches to a memory budget.

mod array;
mod batching;
mod device;
mod gradients;
mod library;
mod memory_bound;
mod observe;
mod optimize;
pub mod progress;
mod session;
mod tail;
mod taps;
mod trust;

pub use array::Array;
pub use batching::{Batching, DEFAULT_MEMORY};
pub use device::{Device, ParseDeviceError};
pub use gradients::{Differentiated, GradientOptions, GradientRun, GradientSession, GradientsError};
pub use library::{FoundLibrary, LibraryError, Runtime, find_library};
pub use memory_bound::Heap;
pub use observe::{ObserveError, observe};
pub use session::{RuntimeError, Session, SessionOptions};
pub use taps::{
    Layout, Pooling, TOLERANCE, TapSession, TappedModel, TapsError, VerifiedMap, describe_head, verify_taps,
};
pub use trust::Doubt;
