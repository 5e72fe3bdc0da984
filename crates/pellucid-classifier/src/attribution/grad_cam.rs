//! Grad-CAM (Selvaraju et al. 2017): the last feature map's channels, weighted with their mean gradients; what is positive.

use super::{Asking, AttributionError, Method};
use crate::network::Offer;
use ndarray::{Array2, Axis};
use pellucid_saliency::render::upsample;
use pellucid_saliency::{Alignment, Grid, SaliencyMap};

/// Where the feature map speaks for the score.
#[derive(Debug)]
pub(super) struct GradCam;

impl Method for GradCam {
    fn id(&self) -> &'static str {
        "grad-cam"
    }

    fn title(&self) -> &'static str {
        "Grad-CAM"
    }

    fn about(&self) -> &'static str {
        "The last feature map, weighted by gradients"
    }

    fn needs(&self) -> &'static [Offer] {
        &[Offer::Gradient, Offer::FeatureMap]
    }

    fn map(&self, asking: &Asking<'_>) -> Result<SaliencyMap, AttributionError> {
        let (height, width) = asking.size();
        let both = asking.gradient(asking.input)?.map;
        let places = asking.network.feature_map();
        let grids = both.zip(places).and_then(|([map, by_map], on)| {
            let one = |values| Some(on.places(values)?.index_axis_move(Axis(0), 0));
            one(&map).zip(one(&by_map))
        });
        let values = match grids {
            None => Array2::zeros((height, width)),
            Some((map, by_map)) => {
                let weights = by_map.mean_axis(Axis(2)).and_then(|g| g.mean_axis(Axis(1))).unwrap_or_default();
                let mut sum = Array2::<f32>::zeros((map.shape()[1], map.shape()[2]));
                for (channel, weight) in map.axis_iter(Axis(0)).zip(&weights) {
                    sum.scaled_add(*weight, &channel);
                }
                sum.mapv_inplace(|v| v.max(0.0));
                upsample(sum.view(), width, height, Alignment::Centres)
            }
        };
        let note = asking.network.feature_map().and_then(pellucid_runtime::VerifiedMap::coarse);
        Ok(SaliencyMap::new(self.id(), self.title(), values, Grid::Input).with_doubts(note))
    }
}
