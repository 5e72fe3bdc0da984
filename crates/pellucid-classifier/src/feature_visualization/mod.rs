//! CLIP-Illusion ([methods A4]): a picture of what makes a neuron respond, for a class, by gradient ascent on the picture.
//!
//! The flow: [`Network::compile`] joins the classifier and, with a guide, its image encoder behind one input and
//! differentiates the objective, so that a step is one run; [`optimise`] ascends a batch of pictures, each with its own
//! random numbers; [`mask`] says where on the finished picture the neuron responds. The results are plain
//! [`Illusion`]s; nothing here writes files.
//!
//! [methods A4]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a4

mod adam;
pub mod mask;
mod network;
mod optimise;
pub mod results;
mod settings;

pub(crate) use network::cosine;
pub use network::{Guidance, Network, Response, Studied};
pub use optimise::{Illusion, optimise};
pub use settings::{IllusionError, ObjectiveKind, Target, VisualizationSettings};
