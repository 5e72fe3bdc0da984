//! What can go wrong when a graph is differentiated, and what a rule says when it cannot.

use crate::graph::GraphError;
use crate::tensor::{ElementType, TensorError};

/// Why a model was not differentiated.
#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    /// A named value does not exist, or the graph is broken.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The model was not prepared.
    #[error("the model is not prepared for differentiation ({0}); call grad::prepare first, and observe its result")]
    Unprepared(String),
    /// A node on a needed path has no rule, or its rule refuses this form.
    #[error("node {node} cannot be differentiated: {reason}; it lies between '{wrt}' and the objective")]
    Unsupported {
        /// The node, as [`crate::Node::describe`] writes it.
        node: String,
        /// Why.
        reason: String,
        /// The values that the gradient was asked for, as a list.
        wrt: String,
    },
    /// The objective does not depend on a value, or only through integers.
    #[error("the objective does not depend on '{wrt}': {reason}")]
    Disconnected {
        /// What to differentiate with respect to.
        wrt: String,
        /// Why.
        reason: String,
    },
    /// A value that must be a float is not.
    #[error(
        "'{value}' holds {element:?}; {what} needs a float value (take the float value before it was cast or ranked)"
    )]
    NotFloat {
        /// The value.
        value: String,
        /// Its type.
        element: ElementType,
        /// What needs it.
        what: &'static str,
    },
    /// A weight was named as something to differentiate with respect to.
    #[error("'{0}' is a constant of the model; gradients exist for inputs and for values that nodes compute")]
    Constant(String),
    /// An expression of the objective does not fit its operands.
    #[error("objective: {0}")]
    Objective(String),
    /// The observations lack a value.
    #[error(
        "the shape of '{0}' was not observed; observe the prepared model itself (grad::prepare), then differentiate it"
    )]
    Unobserved(String),
    /// No number of recomputed segments keeps a memory bound.
    #[error(
        "recomputing cannot keep the forward pass within {bound} bytes per sample: the least is about {least}, in \
         {segments} segments; allow that much"
    )]
    Memory {
        /// Bytes per sample asked for.
        bound: u64,
        /// Bytes per sample that the best plan needs.
        least: u64,
        /// Its number of segments.
        segments: usize,
    },
    /// A model-local function calls itself.
    #[error("the model-local function {0} calls itself")]
    RecursiveFunction(String),
    /// Two models cannot be put into one graph.
    #[error("{} cannot be joined to the first model: {reason}", second.display())]
    Join {
        /// The second model's path.
        second: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// An old operator's form could not be brought to the present one.
    #[error("node {node}: {reason}")]
    OldForm {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
}

/// Why a rule does not apply; the caller adds the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason(pub String);

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<TensorError> for Reason {
    fn from(error: TensorError) -> Self {
        Self(error.to_string())
    }
}
