//! The network behind a pipeline, as a handful of doors (`docs/methods.md#b10`): passes, taps, gradients, attention. What a network can
//! do is asked, not assumed; behind a door that it has not lies a typed [`Cannot`] with the reason.
//!
//! [`OnnxNetwork`] runs a file on ONNX Runtime, [`ClosedForm`] is a denoiser written out in Rust, whose answers are known.
//! A network that lives elsewhere (a module that is called back, a recorded run) is another implementation.

mod closed_form;
mod onnx;
mod session;

pub use closed_form::ClosedForm;
pub use onnx::OnnxNetwork;
pub(crate) use session::{DenoiserInputs, stacked, with_float_interface};

use crate::error::DiffusionError;
use ndarray::{Array2, Array4};
use pellucid_runtime::Array;
use serde::{Deserialize, Serialize};

/// What a network is told besides latent and timestep, each with a batch of one: input name → array.
pub type Conditions = Vec<(String, Array)>;

/// Something that a network may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Predictions for latents that are not the trajectory's own.
    Passes,
    /// Activations inside it.
    Taps,
    /// Gradients at its taps.
    Gradient,
    /// Where its places look in the text.
    Attention,
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passes => "passes",
            Self::Taps => "taps",
            Self::Gradient => "gradient",
            Self::Attention => "attention",
        })
    }
}

/// What a network cannot do, and why, in a sentence without its full stop that says what to do where something can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}")]
pub struct Cannot {
    /// What was asked for.
    pub capability: Capability,
    /// Why it is not there.
    pub reason: String,
}

impl Cannot {
    /// `capability` is not there, for a `reason`.
    pub fn new(capability: Capability, reason: impl Into<String>) -> Self {
        Self { capability, reason: reason.into() }
    }
}

/// What a network can do: everything but what is listed with its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(Vec<Cannot>);

impl Capabilities {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// The same without what `cannot` names.
    #[must_use]
    pub fn without(mut self, cannot: Cannot) -> Self {
        self.0.push(cannot);
        self
    }

    /// Whether `which` is there.
    ///
    /// # Errors
    /// Why not.
    pub fn can(&self, which: Capability) -> Result<(), Cannot> {
        self.0.iter().find(|cannot| cannot.capability == which).map_or(Ok(()), |cannot| Err(cannot.clone()))
    }
}

/// What runs a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `ONNX Runtime`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A place inside a network whose activations can be read: one feature map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// What the network knows it by.
    pub id: String,
    /// For people: `up 1 attention 0`.
    pub name: String,
    /// The level it belongs to: `up 1`.
    pub level: String,
    /// Whether the published DF-CAM counts it in its mean.
    pub is_published: bool,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

/// A cross-attention layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// For people: `cross-attention 3, 8×8`.
    pub name: String,
    /// The softmax in the graph.
    pub node: String,
    /// Height and width of its grid.
    pub grid: (usize, usize),
    /// Heads that its weights are the mean of.
    pub heads: usize,
}

/// A denoiser: latents, timestep and conditions in, a prediction out, and whatever else it can be asked for.
///
/// Latents are N × Ch × H × W, timesteps those of training. The doors open by compiling or calling something, so they give
/// an object that holds what was opened; dropping it frees that.
pub trait Network: std::fmt::Debug + Send {
    /// Its file, or what else it is known by in messages.
    fn name(&self) -> String;

    /// What runs it.
    fn engine(&self) -> Engine;

    /// What it can do.
    ///
    /// # Errors
    /// Where finding that out fails.
    fn capabilities(&mut self) -> Result<Capabilities, DiffusionError>;

    /// The raw prediction for every row of `x` at timestep `t`, once under each of `conditions`; each in the shape of `x`.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`] for a network without passes, what running says otherwise.
    fn predict(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
    ) -> Result<Vec<Array4<f32>>, DiffusionError>;

    /// The places that can be tapped, in order of computation.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`] where there are none.
    fn taps(&mut self) -> Result<Vec<Tap>, DiffusionError> {
        Err(Cannot::new(Capability::Taps, format!("{} lets nobody look inside", self.name())).into())
    }

    /// Passes that give the activations of `taps`.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`], or what compiling says.
    fn tapped(&mut self, _taps: &[Tap]) -> Result<Box<dyn Tapped>, DiffusionError> {
        Err(Cannot::new(Capability::Taps, format!("{} lets nobody look inside", self.name())).into())
    }

    /// Passes that give activations of `taps` and gradients there.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`], or what differentiating and compiling say.
    fn gradients(&mut self, _taps: &[Tap]) -> Result<Box<dyn Gradients>, DiffusionError> {
        Err(Cannot::new(Capability::Gradient, format!("{} has no gradient", self.name())).into())
    }

    /// Passes that give the weights of cross-attention.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`], or what compiling says.
    fn attention(&mut self) -> Result<Box<dyn Attention>, DiffusionError> {
        Err(Cannot::new(Capability::Attention, format!("{} shows no attention", self.name())).into())
    }
}

/// An open door to activations.
pub trait Tapped: std::fmt::Debug + Send {
    /// The activations of every tap at `x` (one latent) and `t`: 1 × channels × height × width each.
    ///
    /// # Errors
    /// What running says.
    fn at(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &Conditions,
    ) -> Result<Vec<Option<Array4<f32>>>, DiffusionError>;
}

/// Activation and gradient of one tap, a row for each of the conditions: conditions × channels × height × width.
#[derive(Debug, Clone, PartialEq)]
pub struct Differentiated {
    /// The activation.
    pub activation: Array4<f32>,
    /// The gradient of the score.
    pub gradient: Array4<f32>,
}

/// An open door to gradients.
pub trait Gradients: std::fmt::Debug + Send {
    /// Activations of every tap at `x` (one latent) and `t`, under each of `conditions`, and there the gradient of
    /// ⟨prediction, `vector`⟩: `vector` has a row for each of the conditions. `None` for a tap that gives no feature map.
    ///
    /// # Errors
    /// What running says.
    fn at(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
        vector: &Array4<f32>,
    ) -> Result<Vec<Option<Differentiated>>, DiffusionError>;
}

/// An open door to cross-attention.
pub trait Attention: std::fmt::Debug + Send {
    /// Its layers, in order of computation.
    fn layers(&self) -> &[LayerInfo];

    /// The weights of every layer at `x` (one latent) and `t`, the mean over heads: queries (row by row of the layer's grid) ×
    /// tokens.
    ///
    /// # Errors
    /// What running says.
    fn at(&mut self, x: &Array4<f32>, t: usize, conditions: &Conditions) -> Result<Vec<Array2<f32>>, DiffusionError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_can_be_done_and_what_is_says_why() {
        let recorded = Capabilities::all().without(Cannot::new(Capability::Passes, "a recorded run cannot go on"));
        assert_eq!(recorded.can(Capability::Attention), Ok(()));
        assert_eq!(recorded.can(Capability::Passes).unwrap_err().to_string(), "a recorded run cannot go on");
    }
}
