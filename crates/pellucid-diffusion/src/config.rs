//! What a pipeline's configs say. Every number comes from here; defaults are those that diffusers gives the class named.

use crate::entries::{Entries, read_json, shown};
use crate::error::DiffusionError;
use pellucid_guard::{Budget, printable};
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

/// Most training steps, and the most numbers that `trained_betas` may hold.
const MOST_STEPS: usize = 100_000;

impl SchedulerConfig {
    /// Reads the config at `file`, which may have no more bytes than `budget` allows a text.
    ///
    /// # Errors
    /// Names the file and the entry that is of another type, unknown or out of range, and what was expected.
    pub fn read(file: &Path, budget: &Budget) -> Result<Self, DiffusionError> {
        let wrong = |reason| DiffusionError::Config { file: file.to_path_buf(), reason };
        Self::from_json(&read_json(file, budget)?).map_err(wrong)
    }

    /// Reads the config's JSON. The error says which entry is wrong and what was expected.
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let entries = Entries::of(json)?;
        let class = entries.read("_class_name", "the name of a scheduler", Value::as_str)?.unwrap_or("DDIMScheduler");
        if !KNOWN.contains(&class) {
            let named = printable::name(class);
            return Err(format!("the scheduler {named} is unknown; expected one of {}", KNOWN.join(", ")));
        }
        let own = matches!(class, "DDIMScheduler" | "DDPMScheduler");
        let rescale_zero_snr = entries.flag("rescale_betas_zero_snr")?.unwrap_or(false);
        let mut betas = betas(&entries)?;
        if rescale_zero_snr {
            betas = zero_terminal_snr(&betas)?;
        }
        check_betas(&betas)?;
        // Checked whether they are used or not: a number that makes no sense says that the file is not what it seems.
        let ratio = entries
            .number("dynamic_thresholding_ratio", 0.995, "a number above 0 and at most 1", |r| r > 0.0 && r <= 1.0)?;
        let as_f32 = |v: f64| f64::from(v as f32);
        let max =
            entries.number("sample_max_value", 1.0, "a number of at least 1", |m| m >= 1.0 && as_f32(m).is_finite())?;
        let range = entries
            .number("clip_sample_range", 1.0, "a positive number", |r| as_f32(r) > 0.0 && as_f32(r).is_finite())?;
        let thresholding = entries.flag("thresholding")?.unwrap_or(false).then_some(Thresholding { ratio, max });
        let clips = entries.flag("clip_sample")?.unwrap_or(own);
        let spacing_of_class = if own { "leading" } else { "linspace" };
        Ok(Self {
            prediction: match entries.choice("prediction_type", &["epsilon", "v_prediction", "sample"])? {
                Some("v_prediction") => Prediction::VPrediction,
                Some("sample") => Prediction::Sample,
                _ => Prediction::Epsilon,
            },
            spacing: match entries
                .choice("timestep_spacing", &["leading", "trailing", "linspace"])?
                .unwrap_or(spacing_of_class)
            {
                "trailing" => Spacing::Trailing,
                "linspace" => Spacing::Linspace,
                _ => Spacing::Leading,
            },
            steps_offset: entries.count("steps_offset", (0, betas.len() - 1))?.unwrap_or(0),
            set_alpha_to_one: entries.flag("set_alpha_to_one")?.unwrap_or(own),
            clip: (thresholding.is_none() && clips).then_some(range),
            thresholding,
            rescale_zero_snr,
            betas,
            class: class.to_owned(),
        })
    }
}

fn betas(entries: &Entries<'_>) -> Result<Vec<f64>, String> {
    let told = entries.count("num_train_timesteps", (2, MOST_STEPS))?;
    let within = |b: f64| b > 0.0 && b < 1.0;
    let expected = "a number between 0 and 1";
    let start = entries.number("beta_start", 0.0001, expected, within)?;
    let end = entries.number("beta_end", 0.02, expected, within)?;
    let schedules = ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"];
    let schedule = entries.choice("beta_schedule", &schedules)?.unwrap_or("linear");
    let list = format!("a list of 2 to {MOST_STEPS} numbers");
    if let Some(trained) =
        entries.read("trained_betas", &list, |v| v.as_array().filter(|a| (2..=MOST_STEPS).contains(&a.len())))?
    {
        if told.is_some_and(|steps| steps != trained.len()) {
            let (found, steps) = (trained.len(), told.unwrap_or_default());
            return Err(format!("trained_betas has {found} numbers; expected num_train_timesteps = {steps} of them"));
        }
        let number = |(i, b): (usize, &Value)| {
            let wrong = || format!("trained_betas[{i}] is {}; expected {expected}", shown(b));
            b.as_f64().filter(|b| within(*b)).ok_or_else(wrong)
        };
        return trained.iter().enumerate().map(number).collect();
    }
    let steps = told.unwrap_or(1000);
    let line = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / (steps - 1) as f64;
    let at = |i: usize| match schedule {
        "scaled_linear" => line(start.sqrt(), end.sqrt(), i).powi(2),
        "squaredcos_cap_v2" => {
            let bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            (1.0 - bar((i + 1) as f64 / steps as f64) / bar(i as f64 / steps as f64)).min(0.999)
        }
        "sigmoid" => (end - start) / (1.0 + (-line(-6.0, 6.0, i)).exp()) + start,
        _ => line(start, end, i),
    };
    Ok((0..steps).map(at).collect())
}

/// Every β must take some signal and none may be lost to rounding; only the last may take all that is left.
pub(crate) fn check_betas(betas: &[f64]) -> Result<(), String> {
    let last = betas.len().saturating_sub(1);
    let fine = |(t, b): (usize, &f64)| 1.0 - b < 1.0 && (*b < 1.0 || (*b == 1.0 && t == last));
    match betas.iter().enumerate().find(|step| !fine(*step)) {
        Some((t, beta)) => {
            Err(format!("its β is {beta} at timestep {t}; expected numbers between 0 and 1 that differ from both"))
        }
        None if betas.len() < 2 => Err(format!("it has {} training steps; expected at least 2", betas.len())),
        None => Ok(()),
    }
}

/// Betas whose ᾱ_T is 0 (Lin et al. 2023, algorithm 1).
fn zero_terminal_snr(betas: &[f64]) -> Result<Vec<f64>, String> {
    let mut root = Vec::with_capacity(betas.len());
    let mut product = 1.0;
    for beta in betas {
        product *= 1.0 - beta;
        root.push(f64::sqrt(product));
    }
    let (Some(&first), Some(&last)) = (root.first(), root.last()) else { return Ok(Vec::new()) };
    // Where the signal is lost before the end, or never grows less, there is nothing to scale.
    let rising = root.windows(2).all(|pair| pair[1] < pair[0]) && last > 0.0;
    if !rising {
        return Err(
            "rescale_betas_zero_snr is true, but its betas are too large or too small to be rescaled".to_owned()
        );
    }
    let scaled: Vec<f64> = root.iter().map(|r| ((r - last) * first / (first - last)).powi(2)).collect();
    Ok((0..scaled.len()).map(|i| 1.0 - if i == 0 { scaled[0] } else { scaled[i] / scaled[i - 1] }).collect())
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
        assert!(error(json!({"num_train_timesteps": 0})).contains("from 2 to 100000"));
    }

    #[test]
    fn every_entry_out_of_range_or_of_another_type_is_refused_by_its_name() {
        for (entry, value) in [
            ("trained_betas", json!([])),
            ("trained_betas", json!([0.1])),
            ("trained_betas", json!([1, 1, 1])),
            ("trained_betas", json!([0.1, "0.2"])),
            ("trained_betas", json!([0.1, 0.0])),
            ("trained_betas", json!(vec![0.1; MOST_STEPS + 1])),
            ("trained_betas", json!("0.1")),
            ("num_train_timesteps", json!(1_000_000_000_000u64)),
            ("num_train_timesteps", json!(1000.5)),
            ("num_train_timesteps", json!("1000")),
            ("beta_start", json!(0)),
            ("beta_start", json!(-0.1)),
            ("beta_end", json!(1)),
            ("beta_end", json!(1e300)),
            ("beta_end", json!(true)),
            ("beta_schedule", json!(7)),
            ("prediction_type", json!(["epsilon"])),
            ("timestep_spacing", json!(false)),
            ("steps_offset", json!(-5)),
            ("steps_offset", json!(1e300)),
            ("steps_offset", json!(1000)),
            ("steps_offset", json!(0.5)),
            ("clip_sample", json!("yes")),
            ("clip_sample_range", json!(-1)),
            ("clip_sample_range", json!(0)),
            ("clip_sample_range", json!(1e300)),
            ("thresholding", json!(1)),
            ("dynamic_thresholding_ratio", json!(5)),
            ("dynamic_thresholding_ratio", json!(-5)),
            ("dynamic_thresholding_ratio", json!(0)),
            ("sample_max_value", json!(-1)),
            ("sample_max_value", json!(1e300)),
            ("set_alpha_to_one", json!(1)),
            ("rescale_betas_zero_snr", json!("true")),
            ("_class_name", json!(3)),
        ] {
            let error = SchedulerConfig::from_json(&json!({entry: value})).unwrap_err();
            assert!(error.starts_with(entry) && error.contains("expected") && error.len() < 160, "{error}");
        }
        let error = |json: Value| SchedulerConfig::from_json(&json).unwrap_err();
        assert!(
            error(json!({"trained_betas": [0.1, 0.2], "num_train_timesteps": 3})).contains("num_train_timesteps = 3")
        );
        assert!(error(json!([])).contains("expected an object"));
    }

    #[test]
    fn betas_that_rounding_loses_are_refused() {
        let error = |json: Value| SchedulerConfig::from_json(&json).unwrap_err();
        assert!(error(json!({"beta_start": 1e-300})).contains("timestep 0"));
        for beta in [0.9, 1e-16] {
            let lost = json!({"rescale_betas_zero_snr": true, "trained_betas": vec![beta; 1000]});
            assert!(error(lost).contains("rescale_betas_zero_snr"));
        }
    }

    #[test]
    fn numbers_written_as_floats_and_entries_of_null_are_read() {
        let json = json!({"num_train_timesteps": 500.0, "trained_betas": null, "steps_offset": 1.0, "clip_sample_range": null});
        let config = SchedulerConfig::from_json(&json).unwrap();
        assert_eq!((config.betas.len(), config.steps_offset, config.clip), (500, 1, Some(1.0)));
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
        let plain = SchedulerConfig::from_json(&json!({})).unwrap().betas;
        let rescaled = SchedulerConfig::from_json(&json!({"rescale_betas_zero_snr": true})).unwrap().betas;
        let last: f64 = rescaled.iter().map(|b| 1.0 - b).product();
        assert!(last.abs() < 1e-12 && (rescaled[0] - plain[0]).abs() < 1e-12);
    }
}
