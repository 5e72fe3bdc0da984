//! Integrated Gradients (Sundararajan et al. 2017): the gradient along the way from gray to the picture, times the way.

use super::{Asking, AttributionError, Method};
use crate::network::Offer;
use ndarray::ArrayD;
use pellucid_saliency::{Figure, Grid, SaliencyMap};

/// Each pixel's part in the score's rise from gray.
#[derive(Debug)]
pub(super) struct IntegratedGradients;

impl Method for IntegratedGradients {
    fn id(&self) -> &'static str {
        "integrated-gradients"
    }

    fn title(&self) -> &'static str {
        "Integrated Gradients"
    }

    fn about(&self) -> &'static str {
        "Gradients along the way from gray to the picture"
    }

    fn needs(&self) -> &'static [Offer] {
        &[Offer::Gradient]
    }

    fn map(&self, asking: &Asking<'_>) -> Result<SaliencyMap, AttributionError> {
        let steps = asking.settings.steps;
        let way = asking.input - asking.gray;
        // The middle of each part: more exact than its ends.
        let at = |k: usize| asking.gray + &(&way * ((k as f32 + 0.5) / steps as f32));
        let points: Vec<ArrayD<f32>> = (0..steps).map(at).collect();
        let mut mean = ArrayD::<f32>::zeros(asking.input.raw_dim());
        for gradient in asking.gradients(&points)? {
            mean.scaled_add(1.0 / steps as f32, &gradient);
        }
        let values = asking.over_colours(&(mean * &way));
        let ends = asking.scores(&[asking.gray.clone(), asking.input.clone()])?;
        let rise = f64::from(ends[1]) - f64::from(ends[0]);
        let total: f64 = values.iter().map(|v| f64::from(*v)).sum();
        let map = SaliencyMap::new(self.id(), self.title(), values, Grid::Input);
        Ok(match rise {
            0.0 => map,
            _ => map.with_figure(Figure::new(
                "completeness",
                "its sum as a share of the score's rise from gray",
                total / rise,
            )),
        })
    }
}
