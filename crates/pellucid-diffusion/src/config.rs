//! What a pipeline's configs say. Every number comes from here; defaults are those that diffusers gives the class named.

use crate::error::DiffusionError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// What the denoiser's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε.
    Epsilon,
    /// v = √ᾱ ε − √(1−ᾱ) x0.
    VPrediction,
    /// The clean latent x0.
    Sample,
}

impl std::fmt::Display for Prediction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Epsilon => "epsilon",
            Self::VPrediction => "v_prediction",
            Self::Sample => "sample",
        })
    }
}

/// How uniform timesteps are spread over the training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Multiples of T // n, plus the offset.
    Leading,
    /// From T − 1 down in equal parts of T / n.
    Trailing,
    /// n numbers from 0 to T − 1.
    Linspace,
}

/// Dynamic thresholding of x̂0 (Imagen): clamp to the given quantile of |x̂0|, at most `max`, and divide by it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholding {
    /// The quantile.
    pub ratio: f64,
    /// The largest bound.
    pub max: f64,
}

/// `scheduler/scheduler_config.json`, as numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerConfig {
    /// Class that wrote it.
    pub class: String,
    /// Variances β_t of the T training steps.
    pub betas: Vec<f64>,
    /// What the denoiser gives.
    pub prediction: Prediction,
    /// Spacing of the scheduler's own timesteps.
    pub spacing: Spacing,
    /// Added to leading timesteps.
    pub steps_offset: usize,
    /// Whether ᾱ after the last step is 1 (else ᾱ_0).
    pub set_alpha_to_one: bool,
    /// Bound that x̂0 is clipped to.
    pub clip: Option<f64>,
    /// Dynamic thresholding of x̂0.
    pub thresholding: Option<Thresholding>,
    /// Whether the betas are rescaled so that ᾱ_T = 0.
    pub rescale_zero_snr: bool,
}

/// Schedulers whose training process is the discrete one with ᾱ_t. The sampler itself does not matter here, since every
/// explainer takes DDIM steps.
const KNOWN: [&str; 12] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
];

impl SchedulerConfig {
    /// Reads the config at `file`.
    pub fn read(file: &Path) -> Result<Self, DiffusionError> {
        Self::from_json(&read_json(file)?).map_err(|reason| DiffusionError::Config { file: file.to_path_buf(), reason })
    }

    /// Reads the config's JSON. The error says which entry is wrong and what was expected.
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let class = json.get("_class_name").and_then(Value::as_str).unwrap_or("DDIMScheduler").to_owned();
        if !KNOWN.contains(&class.as_str()) {
            return Err(format!("the scheduler {class} is unknown; expected one of {}", KNOWN.join(", ")));
        }
        let own = matches!(class.as_str(), "DDIMScheduler" | "DDPMScheduler");
        let flag = |key: &str, default: bool| json.get(key).and_then(Value::as_bool).unwrap_or(default);
        let number = |key: &str, default: f64| json.get(key).and_then(Value::as_f64).unwrap_or(default);
        let rescale_zero_snr = flag("rescale_betas_zero_snr", false);
        let mut betas = betas(json)?;
        if rescale_zero_snr {
            betas = zero_terminal_snr(&betas);
        }
        let thresholding = flag("thresholding", false).then(|| Thresholding {
            ratio: number("dynamic_thresholding_ratio", 0.995),
            max: number("sample_max_value", 1.0),
        });
        Ok(Self {
            prediction: prediction(json)?,
            spacing: spacing(json, own)?,
            steps_offset: number("steps_offset", 0.0) as usize,
            set_alpha_to_one: flag("set_alpha_to_one", own),
            clip: (thresholding.is_none() && flag("clip_sample", own)).then(|| number("clip_sample_range", 1.0)),
            thresholding,
            rescale_zero_snr,
            betas,
            class,
        })
    }
}

fn prediction(json: &Value) -> Result<Prediction, String> {
    match json.get("prediction_type").and_then(Value::as_str).unwrap_or("epsilon") {
        "epsilon" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::VPrediction),
        "sample" => Ok(Prediction::Sample),
        other => Err(format!("prediction_type '{other}' is unknown; expected epsilon, v_prediction or sample")),
    }
}

fn spacing(json: &Value, own: bool) -> Result<Spacing, String> {
    let default = if own { "leading" } else { "linspace" };
    match json.get("timestep_spacing").and_then(Value::as_str).unwrap_or(default) {
        "leading" => Ok(Spacing::Leading),
        "trailing" => Ok(Spacing::Trailing),
        "linspace" => Ok(Spacing::Linspace),
        other => Err(format!("timestep_spacing '{other}' is unknown; expected leading, trailing or linspace")),
    }
}

fn betas(json: &Value) -> Result<Vec<f64>, String> {
    if let Some(trained) = json.get("trained_betas").and_then(Value::as_array) {
        return trained
            .iter()
            .map(|b| b.as_f64().ok_or_else(|| "trained_betas holds something else than numbers".to_owned()))
            .collect();
    }
    let steps = json.get("num_train_timesteps").and_then(Value::as_u64).unwrap_or(1000) as usize;
    if !(2..=100_000).contains(&steps) {
        return Err(format!("num_train_timesteps is {steps}; expected 2 to 100000"));
    }
    let number = |key: &str, default: f64| json.get(key).and_then(Value::as_f64).unwrap_or(default);
    let (start, end) = (number("beta_start", 0.0001), number("beta_end", 0.02));
    let line = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / (steps - 1) as f64;
    let schedule = json.get("beta_schedule").and_then(Value::as_str).unwrap_or("linear");
    let at = |i: usize| match schedule {
        "linear" => Some(line(start, end, i)),
        "scaled_linear" => Some(line(start.sqrt(), end.sqrt(), i).powi(2)),
        "squaredcos_cap_v2" => {
            let bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            Some((1.0 - bar((i + 1) as f64 / steps as f64) / bar(i as f64 / steps as f64)).min(0.999))
        }
        "sigmoid" => Some((end - start) / (1.0 + (-line(-6.0, 6.0, i)).exp()) + start),
        _ => None,
    };
    let all: Option<Vec<f64>> = (0..steps).map(at).collect();
    all.ok_or_else(|| {
        format!("beta_schedule '{schedule}' is unknown; expected linear, scaled_linear, squaredcos_cap_v2 or sigmoid")
    })
}

/// Betas whose ᾱ_T is 0 (Lin et al. 2023, algorithm 1).
fn zero_terminal_snr(betas: &[f64]) -> Vec<f64> {
    let mut root = Vec::with_capacity(betas.len());
    let mut product = 1.0;
    for beta in betas {
        product *= 1.0 - beta;
        root.push(f64::sqrt(product));
    }
    let (first, last) = (root[0], root[root.len() - 1]);
    let scaled: Vec<f64> = root.iter().map(|r| ((r - last) * first / (first - last)).powi(2)).collect();
    (0..scaled.len()).map(|i| 1.0 - if i == 0 { scaled[0] } else { scaled[i] / scaled[i - 1] }).collect()
}

/// Reads a JSON file.
pub(crate) fn read_json(file: &Path) -> Result<Value, DiffusionError> {
    let failed = |reason: String| DiffusionError::Config { file: file.to_path_buf(), reason };
    let bytes = std::fs::read(file).map_err(|e| failed(format!("cannot be read: {e}")))?;
    serde_json::from_slice(&bytes).map_err(|e| failed(format!("is not JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_classes_and_entries_are_named_with_what_is_known() {
        let error = |json: Value| SchedulerConfig::from_json(&json).unwrap_err();
        assert!(
            error(json!({"_class_name": "FlowMatchEulerDiscreteScheduler"})).contains("expected one of DDIMScheduler")
        );
        assert!(error(json!({"prediction_type": "flow"})).contains("epsilon, v_prediction or sample"));
        assert!(error(json!({"beta_schedule": "cosine"})).contains("scaled_linear"));
        assert!(error(json!({"timestep_spacing": "karras"})).contains("trailing"));
        assert!(error(json!({"num_train_timesteps": 0})).contains("expected 2"));
    }

    #[test]
    fn defaults_are_those_of_the_class_that_wrote_the_config() {
        let ddim = SchedulerConfig::from_json(&json!({"_class_name": "DDIMScheduler"})).unwrap();
        assert_eq!((ddim.clip, ddim.set_alpha_to_one), (Some(1.0), true));
        let pndm = SchedulerConfig::from_json(&json!({"_class_name": "PNDMScheduler", "steps_offset": 1})).unwrap();
        assert_eq!((pndm.clip, pndm.set_alpha_to_one, pndm.steps_offset), (None, false, 1));
    }

    #[test]
    fn rescaled_betas_end_without_signal_and_keep_the_start() {
        let plain = betas(&json!({})).unwrap();
        let rescaled = zero_terminal_snr(&plain);
        let last: f64 = rescaled.iter().map(|b| 1.0 - b).product();
        assert!(last.abs() < 1e-12 && (rescaled[0] - plain[0]).abs() < 1e-12);
    }
}
