//! Grad-CAM (Selvaraju et al. 2017): the last feature map's channels, weighted with their mean gradients; what is positive.

use super::{Asking, AttributionError, Method};
use crate::network::Offer;
use ndarray::{Array2, Array3, ArrayD, Axis, Slice};
use pellucid_runtime::Layout;
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
        let layout = asking.network.feature_map().map(|m| m.layout);
        let both = asking.gradient(asking.input)?.map;
        let grids =
            both.zip(layout).and_then(|([map, by_map], layout)| places(&map, layout).zip(places(&by_map, layout)));
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
        Ok(SaliencyMap::new(self.id(), self.title(), values, Grid::Input))
    }
}

/// A feature map of one sample as channels × height × width; tokens as their square grid.
fn places(map: &ArrayD<f32>, layout: Layout) -> Option<Array3<f32>> {
    let one = map.index_axis(Axis(0), 0);
    match layout {
        Layout::ChannelsFirst => one.to_owned().into_dimensionality().ok(),
        Layout::ChannelsLast => one.to_owned().permuted_axes(vec![2, 0, 1]).into_dimensionality().ok(),
        Layout::Tokens => {
            let tokens = one.len_of(Axis(0));
            let (skip, side) = [0usize, 1, 2, 5].into_iter().find_map(|skip| {
                let side = tokens.checked_sub(skip)?.isqrt();
                (side * side == tokens - skip).then_some((skip, side))
            })?;
            let grid = one.slice_axis(Axis(0), Slice::from(skip..)).t().as_standard_layout().into_owned();
            let channels = grid.len_of(Axis(0));
            grid.into_shape_with_order((channels, side, side)).ok()
        }
    }
}
