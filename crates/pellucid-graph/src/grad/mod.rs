//! Gradients of any ONNX model, as a graph rewrite: reverse-mode differentiation that gives another ONNX graph.
//!
//! The flow: [`prepare`] brings a model to one form (functions inlined, operators at opset 18 or later, constants as
//! initializers), the runtime observes the shapes of *that* model, an [`Objective`] says what to differentiate, and
//! [`differentiate`] appends the vector-Jacobian products in reverse order. The result returns the values and the
//! gradients in one run. Weights are constants, and only the paths between the objective and what is asked for are built.
//!
//! One rule per operator, one file per family, in `rules`; [`operators`] lists them. Conventions at ties: the first
//! maximum wins; Relu, Clip and their relatives have derivative 0 at their bounds.

mod backward;
mod checkpointing;
mod emit;
mod error;
mod join;
mod make_batch_dynamic;
mod objective;
mod prepare;
mod reach;
mod rules;
mod shapes;

pub use backward::{GradientModel, differentiate, differentiate_within, foreign_operator};
pub use checkpointing::Checkpointing;
pub use error::GradientError;
pub use join::join;
pub use make_batch_dynamic::{baked_batch, with_dynamic_batch};
pub use objective::{Index, Objective, ObjectiveInput, Unary};
pub use prepare::{fold_known, prepare, shape_computations};
pub use reach::{Reach, reach};
pub use rules::operators;
