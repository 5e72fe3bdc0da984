//! AdamW (Loshchilov & Hutter 2019) with a cosine schedule.

/// Decay of the mean of gradients.
const FIRST: f32 = 0.5;
/// Decay of the mean of their squares.
const SECOND: f32 = 0.99;
const EPSILON: f32 = 1e-8;
/// Share of the first learning rate at the last step.
const LAST: f32 = 0.12;

/// The optimiser of one picture's parameters.
#[derive(Debug, Clone)]
pub(crate) struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    step: i32,
}

impl Adam {
    pub(crate) fn new(parameters: usize) -> Adam {
        Adam { mean: vec![0.0; parameters], square: vec![0.0; parameters], step: 0 }
    }

    /// One step *up* the gradient.
    pub(crate) fn ascend(&mut self, parameters: &mut [f32], gradient: &[f32], rate: f32, decay: f32) {
        self.step += 1;
        let (first, second) = (1.0 - FIRST.powi(self.step), (1.0 - SECOND.powi(self.step)).sqrt());
        for (at, parameter) in parameters.iter_mut().enumerate() {
            // Adam's step does not change with the scale of the loss, but its squares must not underflow.
            let g = -gradient[at];
            self.mean[at] = FIRST * self.mean[at] + (1.0 - FIRST) * g;
            self.square[at] = SECOND * self.square[at] + (1.0 - SECOND) * g * g;
            *parameter *= 1.0 - rate * decay;
            *parameter -= rate / first * self.mean[at] / (self.square[at].sqrt() / second + EPSILON);
        }
    }
}

/// The learning rate of step `step` of `steps`: from `first` to [`LAST`] of it along half a cosine.
pub(crate) fn rate(first: f32, step: usize, steps: usize) -> f32 {
    let along = std::f32::consts::PI * step as f32 / steps.max(1) as f32;
    first * (LAST + (1.0 - LAST) * 0.5 * (1.0 + along.cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_size_of_the_rate_and_goes_up() {
        let mut parameters = [0.0, 1.0];
        Adam::new(2).ascend(&mut parameters, &[3.0, -0.5], 0.1, 0.0);
        assert!((parameters[0] - 0.1).abs() < 1e-5 && (parameters[1] - 0.9).abs() < 1e-5, "{parameters:?}");
    }

    #[test]
    fn the_rate_falls_from_the_first_to_its_share() {
        assert_eq!(rate(2.0, 0, 100), 2.0);
        assert!((rate(2.0, 100, 100) - 0.24).abs() < 1e-6);
    }

    #[test]
    fn weight_decay_shrinks_what_has_no_gradient() {
        let mut parameters = [1.0];
        Adam::new(1).ascend(&mut parameters, &[0.0], 0.1, 0.5);
        assert_eq!(parameters, [0.95]);
    }
}
