//! Integrated Gradients (Sundararajan et al. 2017): the gradient along the way from gray to the picture, times the way.

use super::{Asking, AttributionError, Method};
use crate::network::Offer;
use ndarray::ArrayD;
use pellucid_guard::Setting;
use pellucid_saliency::{Figure, Grid, SaliencyMap};

/// A rise below this share of the parts without their signs is none.
const LEAST_RISE: f64 = 0.02;
/// A sum that misses the rise by more than this share of it does not share it out.
const LARGEST_MISS: f64 = 0.1;

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
        let gross: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
        let mut map = SaliencyMap::new(self.id(), self.title(), values, Grid::Input);
        if rise != 0.0 {
            let title = "its sum as a share of the score's rise from gray";
            map = map.with_figure(Figure::new("completeness", title, total / rise));
        }
        map.doubts.extend(doubt(rise, total, gross));
        Ok(map)
    }
}

/// What stands against believing parts that sum to `total` and, without their signs, to `gross`, where the score rises by `rise`.
fn doubt(rise: f64, total: f64, gross: f64) -> Option<String> {
    if gross > 0.0 && rise.abs() < LEAST_RISE * gross {
        return Some(format!(
            "the score hardly differs from a gray picture's ({rise:+.3}), so there is nothing to share out: its parts, {gross:.3} \
             in all, cancel"
        ));
    }
    let missed = (total - rise).abs();
    (missed > LARGEST_MISS * rise.abs()).then(|| {
        format!(
            "its parts sum to {total:.3} where the score rises by {rise:.3}: the way from gray is too bent for so few points, \
             raise {}",
            Setting::Points
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_miss_the_rise_or_share_out_nothing_are_doubted_and_others_are_not() {
        assert_eq!(doubt(4.0, 3.9, 9.0), None);
        assert_eq!(doubt(-4.0, -4.2, 9.0), None);
        assert!(doubt(4.0, 2.0, 9.0).is_some_and(|said| said.contains("sum to 2.000")));
        assert!(doubt(-4.0, 1.0, 9.0).is_some_and(|said| said.contains("sum to 1.000")));
        assert!(doubt(0.02, 0.02, 9.0).is_some_and(|said| said.contains("cancel")));
        assert!(doubt(0.0, 0.0, 9.0).is_some_and(|said| said.contains("cancel")));
    }
}
