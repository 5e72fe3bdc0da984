//! Which timesteps are taken, and the one step that every explainer takes: stateless DDIM with explicit (t, t′).

use crate::config::{Prediction, SchedulerConfig, Spacing, Thresholding};
use crate::error::DiffusionError;
use ndarray::{Array4, ArrayView4, Zip};
use serde::{Deserialize, Serialize};

/// How timesteps are chosen ([methods B3]).
///
/// [methods B3]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b3
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Timesteps {
    /// The scheduler's own, `steps` of them; `spacing` replaces the config's where given.
    Uniform {
        /// How many.
        steps: usize,
        /// Spacing.
        spacing: Option<Spacing>,
    },
    /// Exponentially denser at the beginning (large t).
    Early {
        /// How many.
        steps: usize,
        /// γ; above 100 the list is nearly uniform.
        gamma: f64,
    },
    /// Exponentially denser at the end (small t).
    Latter {
        /// How many.
        steps: usize,
        /// γ.
        gamma: f64,
    },
    /// 25 timesteps in [start, start + 50], and 6 spread over the rest.
    Window {
        /// Where the window begins.
        start: usize,
    },
    /// Exactly these, descending.
    List {
        /// The timesteps.
        timesteps: Vec<usize>,
    },
}

/// ⌊δ^(j+1+γ)⌋ for j = 0…l−1 with δ = T^(1/(l+γ)).
fn powers(train_steps: usize, steps: usize, gamma: f64) -> Vec<usize> {
    let delta = (train_steps as f64).powf(1.0 / (steps as f64 + gamma));
    // T^((l+γ)/(l+γ)) is T; rounding must not lose that one.
    (0..steps).map(|j| (delta.powf(j as f64 + 1.0 + gamma) + 1e-9) as usize).collect()
}

/// The two exponential lists of the paper, for T = `train_steps`: `(early, latter)`.
pub fn exponential_steps(train_steps: usize, steps: usize, gamma: f64) -> (Vec<usize>, Vec<usize>) {
    let powers = powers(train_steps, steps, gamma);
    let last = train_steps.saturating_sub(1);
    let mut early = vec![last];
    early.extend(powers.iter().map(|p| train_steps - p.min(&train_steps)));
    early.pop();
    let latter = powers.iter().rev().map(|&p| p.min(last)).collect();
    (early, latter)
}

/// Rounds half to even, as NumPy does.
fn round_even(x: f64) -> usize {
    let floor = x.floor();
    let up = match (x - floor).partial_cmp(&0.5) {
        Some(std::cmp::Ordering::Equal) => floor as usize % 2 == 1,
        Some(std::cmp::Ordering::Greater) => true,
        _ => false,
    };
    floor as usize + usize::from(up)
}

impl Timesteps {
    /// The timesteps, strictly descending, for a scheduler. Also warnings that a user should see.
    ///
    /// # Errors
    /// [`DiffusionError::Setting`] where a number is out of range.
    pub fn resolve(&self, config: &SchedulerConfig) -> Result<(Vec<usize>, Vec<String>), DiffusionError> {
        let total = config.betas.len();
        let mut warnings = Vec::new();
        let steps_in_range = |steps: usize| match steps {
            1.. if steps <= total => Ok(()),
            _ => Err(setting("steps", steps, format!("1 to {total}, the steps it was trained with"))),
        };
        let mut list = match self {
            Self::Uniform { steps, spacing } => {
                steps_in_range(*steps)?;
                uniform(total, *steps, spacing.unwrap_or(config.spacing), config.steps_offset)
            }
            Self::Early { steps, gamma } | Self::Latter { steps, gamma } => {
                steps_in_range(*steps)?;
                if !gamma.is_finite() || *gamma < 0.0 {
                    return Err(setting("gamma", gamma, "a number of at least 0".to_owned()));
                }
                if *gamma > 100.0 {
                    warnings.push(format!("gamma {gamma} is above 100: the timesteps are nearly uniform"));
                }
                let (early, latter) = exponential_steps(total, *steps, *gamma);
                if matches!(self, Self::Early { .. }) { early } else { latter }
            }
            Self::Window { start } => window(total, *start)?,
            Self::List { timesteps } => {
                if timesteps.is_empty() || timesteps.iter().any(|&t| t >= total) {
                    return Err(setting(
                        "timesteps",
                        format!("{timesteps:?}"),
                        format!("one or more of 0 to {}", total - 1),
                    ));
                }
                timesteps.clone()
            }
        };
        let asked = list.len();
        list.sort_unstable_by(|a, b| b.cmp(a));
        list.dedup();
        if list.len() < asked {
            warnings.push(format!("{} timesteps fall on one another and are taken once", asked - list.len()));
        }
        Ok((list, warnings))
    }
}

fn setting(name: &'static str, found: impl std::fmt::Display, expected: String) -> DiffusionError {
    DiffusionError::Setting { name, found: found.to_string(), expected }
}

fn uniform(total: usize, steps: usize, spacing: Spacing, offset: usize) -> Vec<usize> {
    let last = total - 1;
    match spacing {
        Spacing::Leading => (0..steps).rev().map(|i| (i * (total / steps) + offset).min(last)).collect(),
        Spacing::Linspace if steps == 1 => vec![0],
        Spacing::Linspace => {
            (0..steps).rev().map(|i| round_even(last as f64 * i as f64 / (steps - 1) as f64)).collect()
        }
        Spacing::Trailing => {
            let ratio = total as f64 / steps as f64;
            (0..steps).map(|i| round_even(total as f64 - i as f64 * ratio).max(1) - 1).collect()
        }
    }
}

/// 25 points in [start, start + 50], and 6 of linspace(1, T − 1) around them.
fn window(total: usize, start: usize) -> Result<Vec<usize>, DiffusionError> {
    if start.saturating_add(50) >= total {
        let most = total.saturating_sub(51);
        return Err(setting("window", start, format!("a start of 0 to {most}, since the window is 50 timesteps long")));
    }
    let spread =
        |from: f64, to: f64, n: usize| (0..n).map(move |i| (from + (to - from) * i as f64 / (n - 1) as f64) as usize);
    Ok(spread(start as f64, start as f64 + 50.0, 25).chain(spread(1.0, (total - 1) as f64, 6)).collect())
}

/// The noise process of a pipeline: ᾱ_t, and the steps between its timesteps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseSchedule {
    /// ᾱ_t for t = 0…T−1.
    pub alphas: Vec<f64>,
    /// ᾱ after the last step.
    pub last_alpha: f64,
    /// What the denoiser gives.
    pub prediction: Prediction,
    /// Bound that x̂0 is clipped to.
    pub clip: Option<f64>,
    /// Dynamic thresholding of x̂0.
    pub thresholding: Option<Thresholding>,
}

impl NoiseSchedule {
    /// From the scheduler's config.
    pub fn new(config: &SchedulerConfig) -> Self {
        let mut product = 1.0;
        let alphas: Vec<f64> = config
            .betas
            .iter()
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        let last_alpha = if config.set_alpha_to_one { 1.0 } else { alphas.first().copied().unwrap_or(1.0) };
        Self { alphas, last_alpha, prediction: config.prediction, clip: config.clip, thresholding: config.thresholding }
    }

    /// ᾱ_t; that after the last step for `None`.
    pub fn alpha(&self, t: Option<usize>) -> f64 {
        t.map_or(self.last_alpha, |t| self.alphas.get(t).or(self.alphas.last()).copied().unwrap_or(self.last_alpha))
    }

    /// Signal-to-noise ratio ᾱ/(1−ᾱ) at `t`.
    pub fn snr(&self, t: usize) -> f64 {
        let alpha = self.alpha(Some(t));
        alpha / (1.0 - alpha)
    }

    /// The denoiser's raw output at `x` (any shape) as ε.
    pub fn epsilon(&self, output: &ArrayView4<f32>, x: &ArrayView4<f32>, t: usize) -> Array4<f32> {
        let alpha = self.alpha(Some(t));
        let (signal, noise) = (alpha.sqrt() as f32, (1.0 - alpha).sqrt() as f32);
        match self.prediction {
            Prediction::Epsilon => output.to_owned(),
            Prediction::VPrediction => Zip::from(output).and(x).map_collect(|&v, &x| signal * v + noise * x),
            Prediction::Sample => Zip::from(output).and(x).map_collect(|&x0, &x| (x - signal * x0) / noise.max(1e-12)),
        }
    }

    /// x̂0 from `x` and ε at `t`, clipped or thresholded as configured; the first axis is the batch.
    pub fn clean(&self, x: &ArrayView4<f32>, epsilon: &ArrayView4<f32>, t: usize) -> Array4<f32> {
        let alpha = self.alpha(Some(t));
        let (signal, noise) = (alpha.sqrt().max(1e-8) as f32, (1.0 - alpha).sqrt() as f32);
        let mut clean = Zip::from(x).and(epsilon).map_collect(|&x, &e| (x - noise * e) / signal);
        if let Some(bound) = self.clip {
            let bound = bound.abs() as f32;
            clean.mapv_inplace(|v| v.clamp(-bound, bound));
        }
        if let Some(threshold) = self.thresholding {
            clean.outer_iter_mut().for_each(|mut sample| {
                let bound = dynamic_bound(sample.iter().map(|v| v.abs()).collect(), threshold);
                sample.mapv_inplace(|v| v.clamp(-bound, bound) / bound);
            });
        }
        clean
    }

    /// The DDIM step (η = 0) from `t` to `next` (`None` after the last): x_{t′} = √ᾱ_{t′} x̂0 + √(1−ᾱ_{t′}) ε.
    pub fn step(&self, clean: &ArrayView4<f32>, epsilon: &ArrayView4<f32>, next: Option<usize>) -> Array4<f32> {
        let alpha = self.alpha(next);
        let (signal, noise) = (alpha.sqrt() as f32, (1.0 - alpha).max(0.0).sqrt() as f32);
        Zip::from(clean).and(epsilon).map_collect(|&x0, &e| signal * x0 + noise * e)
    }
}

/// What a step's signal-to-noise ratio leaves to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Below 0.01: layout.
    Coarse,
    /// 0.01 to 1: content.
    Content,
    /// Above 1: clean-up.
    Cleanup,
}

impl Stage {
    /// The stage of a timestep.
    pub fn at(schedule: &NoiseSchedule, t: usize) -> Self {
        match schedule.snr(t) {
            r if r < 0.01 => Self::Coarse,
            r if r <= 1.0 => Self::Content,
            _ => Self::Cleanup,
        }
    }
}

/// The quantile of |x̂0| (linear interpolation), between 1 and the largest bound.
fn dynamic_bound(mut magnitudes: Vec<f32>, threshold: Thresholding) -> f32 {
    magnitudes.sort_unstable_by(f32::total_cmp);
    let place = threshold.ratio * (magnitudes.len().max(1) - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let at = |i: usize| magnitudes.get(i).copied().unwrap_or(1.0);
    let quantile = at(low) + (at(high) - at(low)) * (place - low as f64) as f32;
    quantile.clamp(1.0, (threshold.max as f32).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(extra: serde_json::Value) -> SchedulerConfig {
        SchedulerConfig::from_json(&extra).unwrap()
    }

    fn list(steps: &Timesteps, config: &SchedulerConfig) -> Vec<usize> {
        steps.resolve(config).unwrap().0
    }

    #[test]
    fn the_exponential_lists_are_the_published_ones() {
        let (early, latter) = exponential_steps(1000, 30, 60.0);
        let golden_early = [
            999, 893, 884, 875, 865, 854, 842, 829, 816, 801, 785, 768, 749, 729, 708, 684, 659, 632, 602, 571, 536,
            499, 459, 416, 370, 319, 265, 206, 143, 74,
        ];
        let golden_latter = [
            999, 926, 857, 794, 735, 681, 630, 584, 541, 501, 464, 429, 398, 368, 341, 316, 292, 271, 251, 232, 215,
            199, 184, 171, 158, 146, 135, 125, 116, 107,
        ];
        assert_eq!(early, golden_early);
        assert_eq!(latter, golden_latter);
    }

    #[test]
    fn uniform_lists_are_those_of_diffusers() {
        let ddim = config(json!({}));
        let of = |steps, spacing| list(&Timesteps::Uniform { steps, spacing: Some(spacing) }, &ddim);
        assert_eq!(of(4, Spacing::Leading), [750, 500, 250, 0]);
        assert_eq!(of(4, Spacing::Trailing), [999, 749, 499, 249]);
        assert_eq!(of(5, Spacing::Linspace), [999, 749, 500, 250, 0]);
        assert_eq!(of(7, Spacing::Trailing), [999, 856, 713, 570, 428, 285, 142]);
        let offset = config(json!({"_class_name": "PNDMScheduler", "timestep_spacing": "leading", "steps_offset": 1}));
        assert_eq!(list(&Timesteps::Uniform { steps: 2, spacing: None }, &offset), [501, 1]);
        assert_eq!(of(1, Spacing::Leading), [0]);
        assert_eq!(of(1000, Spacing::Leading).len(), 1000);
    }

    #[test]
    fn settings_out_of_range_say_what_is_allowed() {
        let ddim = config(json!({}));
        let error = |t: Timesteps| t.resolve(&ddim).unwrap_err().to_string();
        assert!(error(Timesteps::Uniform { steps: 0, spacing: None }).contains("1 to 1000"));
        assert!(error(Timesteps::Uniform { steps: 1001, spacing: None }).contains("1 to 1000"));
        assert!(error(Timesteps::Window { start: 950 }).contains("0 to 949"));
        assert!(error(Timesteps::Window { start: usize::MAX }).contains("0 to 949"));
        assert!(error(Timesteps::List { timesteps: vec![1000] }).contains("0 to 999"));
        assert!(error(Timesteps::Early { steps: 30, gamma: -1.0 }).contains("at least 0"));
    }

    #[test]
    fn a_large_gamma_warns() {
        let (_, warnings) = Timesteps::Early { steps: 30, gamma: 101.0 }.resolve(&config(json!({}))).unwrap();
        assert!(warnings[0].contains("above 100"), "{warnings:?}");
    }

    #[test]
    fn a_window_has_its_points_inside_and_a_few_around() {
        let points = list(&Timesteps::Window { start: 400 }, &config(json!({})));
        assert!(points.iter().filter(|t| (400..=450).contains(*t)).count() >= 25);
        assert_eq!((points[0], points[points.len() - 1]), (999, 1));
    }

    #[test]
    fn all_predictions_of_one_noise_give_one_step() {
        use ndarray::Array4;
        let x0 = Array4::from_shape_fn((1, 2, 3, 3), |i| (i.1 + 2 * i.2) as f32 * 0.1 - i.3 as f32 * 0.2);
        let noise = Array4::from_shape_fn((1, 2, 3, 3), |i| ((i.1 * 7 + i.2 * 3 + i.3) as f32).sin());
        let t = 600;
        let mut schedule = NoiseSchedule::new(&config(json!({"clip_sample": false})));
        let (a, s) = (schedule.alpha(Some(t)).sqrt() as f32, (1.0 - schedule.alpha(Some(t))).sqrt() as f32);
        let x = &x0 * a + &noise * s;
        for (kind, output) in [
            (Prediction::Epsilon, noise.clone()),
            (Prediction::VPrediction, &noise * a - &x0 * s),
            (Prediction::Sample, x0.clone()),
        ] {
            schedule.prediction = kind;
            let e = schedule.epsilon(&output.view(), &x.view(), t);
            let clean = schedule.clean(&x.view(), &e.view(), t);
            assert!((&clean - &x0).iter().all(|d| d.abs() < 1e-5), "{kind}");
            let last = schedule.step(&clean.view(), &e.view(), None);
            assert!((&last - &x0).iter().all(|d| d.abs() < 1e-5), "{kind}: the last step ends at x0");
        }
    }

    #[test]
    fn clipping_and_thresholding_bound_the_clean_latent() {
        use ndarray::Array4;
        let x = Array4::from_shape_fn((1, 1, 10, 10), |i| (i.2 * 10 + i.3) as f32 * 0.1 - 5.0);
        let zero = Array4::zeros((1, 1, 10, 10));
        let bound = |json| {
            let schedule = NoiseSchedule::new(&config(json));
            schedule.clean(&x.view(), &zero.view(), 0).iter().fold(0.0f32, |m, v| m.max(v.abs()))
        };
        assert_eq!(bound(json!({"clip_sample": true})), 1.0);
        assert_eq!(bound(json!({"thresholding": true, "sample_max_value": 100.0, "clip_sample": false})), 1.0);
        assert!(bound(json!({"clip_sample": false})) > 4.9);
    }
}
