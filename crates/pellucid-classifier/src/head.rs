//! Heads that are not one logit a class.

use crate::layer::DecisionLayer;
use ndarray::{Array1, Array2, s};
use pellucid_graph::Head;

/// Why a head cannot be studied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Independent sigmoids.
    #[error(
        "its {0} logits pass through a sigmoid: it is multi-label, and \"mistake\" and \"predicted class\" have no one meaning \
         there. Study one label at a time: export the model with that one logit"
    )]
    MultiLabel(usize),
    /// No logits.
    #[error("its decision layer has no outputs")]
    Empty,
}

/// The decision layer that methods work on.
///
/// A one-logit head decides by a threshold: z > 0 means class 1. It becomes two classes with logits (0, z), whose softmax
/// is (1 − σ(z), σ(z)), so every method applies as it stands. Several sigmoids are refused.
pub fn decision_layer(weight: &Array2<f32>, bias: &Array1<f32>, head: Head) -> Result<DecisionLayer, HeadError> {
    match (weight.nrows(), head) {
        (0, _) => Err(HeadError::Empty),
        (1, _) => {
            let mut two = Array2::zeros((2, weight.ncols()));
            two.slice_mut(s![1, ..]).assign(&weight.row(0));
            Ok(DecisionLayer { weight: two, bias: Array1::from_vec(vec![0.0, bias[0]]) })
        }
        (n, Head::Sigmoid) => Err(HeadError::MultiLabel(n)),
        _ => Ok(DecisionLayer { weight: weight.clone(), bias: bias.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::softmax;
    use ndarray::array;

    #[test]
    fn one_logit_becomes_two_classes_with_the_sigmoids_probability() {
        let layer = decision_layer(&array![[2.0, -1.0]], &array![0.5], Head::Sigmoid).unwrap();
        let logits = layer.logits(&array![[0.3, 0.1]]);
        let z = 2.0f64 * 0.3 - 0.1 + 0.5;
        assert!((softmax(logits.row(0))[1] - 1.0 / (1.0 + (-z).exp())).abs() < 1e-6);
    }

    #[test]
    fn several_sigmoids_are_refused_with_the_reason() {
        let error = decision_layer(&Array2::zeros((3, 4)), &Array1::zeros(3), Head::Sigmoid).unwrap_err();
        assert!(error.to_string().contains("multi-label"));
    }
}
