//! SmoothGrad (Smilkov et al. 2017): the mean size of the gradient on noisy copies.

use super::{Asking, AttributionError, Method};
use crate::network::Offer;
use ndarray::ArrayD;
use pellucid_saliency::{Grid, SaliencyMap};
use pellucid_vision::canvas::normal;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How much each pixel moves the score.
#[derive(Debug)]
pub(super) struct SmoothGrad;

impl Method for SmoothGrad {
    fn id(&self) -> &'static str {
        "smooth-grad"
    }

    fn title(&self) -> &'static str {
        "SmoothGrad"
    }

    fn about(&self) -> &'static str {
        "The mean gradient on noisy copies"
    }

    fn needs(&self) -> &'static [Offer] {
        &[Offer::Gradient]
    }

    fn map(&self, asking: &Asking<'_>) -> Result<SaliencyMap, AttributionError> {
        let (settings, input) = (asking.settings, asking.input);
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let least = input.iter().copied().fold(f32::INFINITY, f32::min);
        let most = input.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let deviation = settings.noise * (most - least);
        let copies: Vec<ArrayD<f32>> =
            (0..settings.copies).map(|_| input.mapv(|v| v + deviation * normal(&mut random))).collect();
        let mut mean = ArrayD::<f32>::zeros(input.raw_dim());
        for gradient in asking.gradients(&copies)? {
            mean.scaled_add(1.0 / settings.copies as f32, &gradient.mapv(f32::abs));
        }
        Ok(SaliencyMap::new(self.id(), self.title(), asking.over_colours(&mean), Grid::Input))
    }
}
