//! The network behind a classifier: a door that methods go through without knowing who runs it (`docs/methods.md#b10`).
//!
//! [`Network`] is what a method may ask: a forward pass with taps, a gradient, the same network without what it learnt. What
//! is [`Offer`]ed is asked, never assumed: a live module that gives logits and features only can be scanned and debugged; one
//! that also has gradients can be attributed. [`OnnxNetwork`] is the one that ONNX Runtime runs.

mod onnx;

pub use onnx::OnnxNetwork;
pub(crate) use onnx::row;

use crate::layer::DecisionLayer;
use ndarray::{Array1, Array2, ArrayD};
use pellucid_graph::ModelError;
pub use pellucid_runtime::VerifiedMap as FeatureMap;
use pellucid_runtime::{GradientsError, RuntimeError, VerifiedMap};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why a network gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// It was asked for what it does not offer.
    #[error("{network} offers no {what}, which this needs")]
    NotOffered {
        /// The network's name.
        network: String,
        /// What was asked for.
        what: Offer,
    },
    /// It gave something of another shape than was agreed.
    #[error("{network} gave {what} of shape {found:?}, expected {expected:?}")]
    Shape {
        /// The network's name.
        network: String,
        /// "logits", "features", "a gradient".
        what: &'static str,
        /// The shape.
        found: Vec<usize>,
        /// The shape that was agreed.
        expected: Vec<usize>,
    },
    /// A network that somebody else runs failed.
    #[error("{network}: {reason}")]
    Live {
        /// The network's name.
        network: String,
        /// What it says.
        reason: String,
    },
    /// ONNX Runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The gradient.
    #[error(transparent)]
    Gradients(#[from] GradientsError),
    /// The model file.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What a network may offer beyond logits and features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Offer {
    /// The feature map before the pooling.
    FeatureMap,
    /// Gradients of logits and features by the input (and by the feature map, where that is offered).
    Gradient,
    /// The same network with shuffled weights.
    Randomized,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FeatureMap => "feature map",
            Self::Gradient => "gradient",
            Self::Randomized => "shuffled weights",
        })
    }
}

/// What a forward pass is to give besides logits and features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taps {
    /// Nothing.
    Vectors,
    /// The feature map.
    WithMap,
}

/// One forward pass over N inputs.
#[derive(Debug, Clone, Default)]
pub struct Forward {
    /// Logits, N × C.
    pub logits: Array2<f32>,
    /// Features, N × d.
    pub features: Array2<f32>,
    /// The feature map, N first, laid out as [`Network::feature_map`] says; only where it was asked for.
    pub map: Option<ArrayD<f32>>,
}

/// What is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A class logit.
    Class(usize),
    /// A class logit, negated: the other answer of a head of one logit.
    Against(usize),
    /// A component of the features.
    Neuron(usize),
}

/// A score of one sample, linear in its logits and features: Σ cᵢ zᵢ + Σ nⱼ fⱼ. It is an input of the network's gradient,
/// so that one compiled gradient serves every class and neuron.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// c, one a logit.
    pub classes: Array1<f32>,
    /// n, one a feature.
    pub neurons: Array1<f32>,
}

impl Score {
    /// The logit or the feature that `subject` names, of a network with so many `classes` and `features`.
    pub fn of(subject: Subject, classes: usize, features: usize) -> Self {
        let mut score = Self { classes: Array1::zeros(classes), neurons: Array1::zeros(features) };
        match subject {
            Subject::Class(c) => score.classes.iter_mut().skip(c).take(1).for_each(|v| *v = 1.0),
            Subject::Against(c) => score.classes.iter_mut().skip(c).take(1).for_each(|v| *v = -1.0),
            Subject::Neuron(j) => score.neurons.iter_mut().skip(j).take(1).for_each(|v| *v = 1.0),
        }
        score
    }

    /// The score of each row of a forward pass.
    pub fn read(&self, forward: &Forward) -> Vec<f32> {
        let dot = |row: ndarray::ArrayView1<'_, f32>, by: &Array1<f32>| {
            // A value that is not asked for must not make the sum NaN.
            row.iter().zip(by).filter(|(_, w)| **w != 0.0).map(|(v, w)| v * w).sum::<f32>()
        };
        let rows = forward.logits.rows().into_iter().zip(forward.features.rows());
        rows.map(|(z, f)| dot(z, &self.classes) + dot(f, &self.neurons)).collect()
    }
}

/// A score and its gradients, over N inputs.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// The score of each input.
    pub scores: Vec<f32>,
    /// By the input, in its shape.
    pub input: ArrayD<f32>,
    /// The feature map and the gradient by it; only of a network that offers the map.
    pub map: Option<[ArrayD<f32>; 2]>,
}

/// A classifier's network. Its methods take `&self` from several threads; one that can do a thing at a time locks.
///
/// Inputs are float32, N first, as the classifier's preprocessing lays them out.
pub trait Network: fmt::Debug + Send + Sync {
    /// What it is called in messages and results: a file or a class.
    fn name(&self) -> String;

    /// Tells it from every other network, weights included: hexadecimal, the key of caches.
    fn fingerprint(&self) -> String;

    /// The decision layer, z = W f + b, with one row a logit.
    fn layer(&self) -> &DecisionLayer;

    /// Why there is no decision layer, if there is none: the logits then stand for the features, and W is the identity.
    fn no_decision_layer(&self) -> Option<&str> {
        None
    }

    /// Shape of one input, without the batch.
    fn input_shape(&self) -> Vec<usize>;

    /// Inputs that are best run at once.
    fn batch(&self) -> usize {
        16
    }

    /// Where channels stand in the feature map and how it becomes the features; `None` where it is not offered.
    fn feature_map(&self) -> Option<&VerifiedMap> {
        None
    }

    /// Why there is no feature map, where that is known.
    fn no_feature_map(&self) -> Option<&str> {
        None
    }

    /// Whether it can be asked for this.
    fn offers(&self, what: Offer) -> bool;

    /// Logits and features of `inputs`, and the feature map where `taps` wants it.
    ///
    /// # Errors
    /// [`NetworkError::NotOffered`] for a map that there is not, and what the one who runs it says.
    fn forward(&self, inputs: &ArrayD<f32>, taps: Taps) -> Result<Forward, NetworkError>;

    /// `score` of each of `inputs` and its gradients.
    ///
    /// # Errors
    /// [`NetworkError::NotOffered`], and what the one who runs it says.
    fn gradient(&self, inputs: &ArrayD<f32>, score: &Score) -> Result<Gradient, NetworkError> {
        let _ = (inputs, score);
        Err(self.lacks(Offer::Gradient))
    }

    /// The same network with the numbers of every weight in random order, drawn from `seed`.
    ///
    /// # Errors
    /// [`NetworkError::NotOffered`], and what the one who runs it says.
    fn randomized(&self, seed: u64) -> Result<Arc<dyn Network>, NetworkError> {
        let _ = seed;
        Err(self.lacks(Offer::Randomized))
    }

    /// The error of one that does not offer `what`.
    fn lacks(&self, what: Offer) -> NetworkError {
        NetworkError::NotOffered { network: self.name(), what }
    }

    /// The ONNX model behind it, for jobs that edit or join graphs.
    fn as_onnx(&self) -> Option<&OnnxNetwork> {
        None
    }
}

/// A forward pass, its shapes checked: what the methods call.
///
/// # Errors
/// As [`Network::forward`], and [`NetworkError::Shape`].
pub fn forward(network: &dyn Network, inputs: &ArrayD<f32>, taps: Taps) -> Result<Forward, NetworkError> {
    if taps == Taps::WithMap && !network.offers(Offer::FeatureMap) {
        return Err(network.lacks(Offer::FeatureMap));
    }
    let given = network.forward(inputs, taps)?;
    let (n, layer) = (inputs.shape().first().copied().unwrap_or(0), network.layer());
    let check = |what, found: &[usize], expected: [usize; 2]| match found == expected {
        true => Ok(()),
        false => {
            let (found, expected) = (found.to_vec(), expected.to_vec());
            Err(NetworkError::Shape { network: network.name(), what, found, expected })
        }
    };
    check("logits", given.logits.shape(), [n, layer.classes()])?;
    check("features", given.features.shape(), [n, layer.features()])?;
    Ok(given)
}

/// A gradient, its shapes checked: what the methods call.
///
/// # Errors
/// As [`Network::gradient`], and [`NetworkError::Shape`].
pub fn gradient(network: &dyn Network, inputs: &ArrayD<f32>, score: &Score) -> Result<Gradient, NetworkError> {
    if !network.offers(Offer::Gradient) {
        return Err(network.lacks(Offer::Gradient));
    }
    let given = network.gradient(inputs, score)?;
    let n = inputs.shape().first().copied().unwrap_or(0);
    if given.input.shape() != inputs.shape() || given.scores.len() != n {
        let (found, expected) = (given.input.shape().to_vec(), inputs.shape().to_vec());
        return Err(NetworkError::Shape { network: network.name(), what: "a gradient", found, expected });
    }
    Ok(given)
}
