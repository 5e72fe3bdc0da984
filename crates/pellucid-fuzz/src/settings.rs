//! Small files that say how something is to be computed: preprocessing, class names, schedules of noise.

use crate::{budget, chosen, says_something, scratch};
use ndarray::Array4;
use pellucid::internals::diffusion_methods::{NoiseSchedule, SchedulerConfig, Timesteps, parsers};
use pellucid::internals::vision::names;
use pellucid::internals::vision::picture::Picture;
use pellucid::internals::vision::preprocess::Preprocessing;

/// Preprocessing in each of its formats, and class names. A first byte chooses between the project's own format, timm's,
/// Hugging Face's, the file as one beside a model, and class names. What is read gives finite numbers of the size it says.
pub fn preprocess(data: &[u8]) {
    let Some((kind, data)) = chosen(data) else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = match kind % 5 {
        0 => Preprocessing::from_json(text, "x.json"),
        1 => Preprocessing::from_timm_json(text, "x.json"),
        2 => Preprocessing::from_hf_json(text, "x.json"),
        3 => return scratch::with_file("config.json", data, beside),
        _ => return scratch::with_file("classes.txt", data, class_names),
    };
    match read {
        Ok(found) => runs(&found, kind),
        Err(error) => says_something(&error),
    }
}

fn beside(path: &std::path::Path) {
    match Preprocessing::find_beside(path.with_file_name("model.onnx")) {
        Ok(found) => found.iter().for_each(|found| runs(found, 0)),
        Err(error) => says_something(&error),
    }
    let listed = names::beside(path.with_file_name("model.onnx"));
    assert!(listed.is_none_or(|names| !names.is_empty()));
}

fn class_names(path: &std::path::Path) {
    match names::from_file(path) {
        Ok(names) => assert!(!names.is_empty()),
        Err(error) => says_something(&error),
    }
}

fn runs(preprocessing: &Preprocessing, kind: u8) {
    assert!(!preprocessing.describe().is_empty());
    if preprocessing.len() > 3 * 256 * 256 {
        return;
    }
    let picture = Picture::from_fn(1 + u32::from(kind >> 2), 17, |x, y| [x as u8, y as u8, 3]);
    let values = preprocessing.run(&picture);
    assert_eq!(values.shape(), preprocessing.shape());
    assert!(values.iter().all(|v| v.is_finite()), "a number that is not finite: {}", preprocessing.describe());
}

/// `scheduler_config.json`, and a denoiser's TOML file where bit 7 of the first byte is set. The timesteps of what is read
/// descend within the schedule, its ᾱ stays within [0, 1], and each step from finite numbers gives finite numbers.
pub fn scheduler(data: &[u8]) {
    let Some((kind, data)) = chosen(data) else { return };
    let config = if kind & 128 != 0 {
        let mut read = None;
        scratch::with_file("denoiser.toml", data, |path| read = Some(parsers::denoiser(path, &budget())));
        match read {
            Some(Ok(config)) => config,
            Some(Err(error)) => return says_something(&error),
            None => return,
        }
    } else {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else { return };
        match SchedulerConfig::from_json(&json) {
            Ok(config) => config,
            Err(error) => return says_something(&error),
        }
    };
    let steps = usize::from(kind >> 3 & 15) + 1;
    let wanted = match kind % 5 {
        0 => Timesteps::Uniform { steps, spacing: None },
        1 => Timesteps::Early { steps, gamma: 60.0 },
        2 => Timesteps::Latter { steps, gamma: 0.0 },
        3 => Timesteps::Window { start: steps },
        _ => Timesteps::List { timesteps: vec![1, 0] },
    };
    match wanted.resolve(&config) {
        Ok((timesteps, _)) => walks(&config, &timesteps),
        Err(error) => says_something(&error),
    }
}

fn walks(config: &SchedulerConfig, timesteps: &[usize]) {
    assert!(!timesteps.is_empty() && timesteps[0] < config.betas.len());
    assert!(timesteps.is_sorted_by(|a, b| a > b), "{timesteps:?}");
    let schedule = NoiseSchedule::new(config);
    assert!(schedule.alphas.iter().all(|a| (0.0..=1.0).contains(a)), "ᾱ outside [0, 1]");
    let x = Array4::<f32>::from_elem((1, 2, 3, 3), 0.5);
    for (at, &t) in timesteps.iter().enumerate().take(4) {
        let epsilon = schedule.epsilon(&x.view(), &x.view(), t);
        let clean = schedule.clean(&x.view(), &epsilon.view(), t);
        let next = schedule.step(&clean.view(), &epsilon.view(), timesteps.get(at + 1).copied());
        assert!(next.iter().all(|v| v.is_finite()), "the step from {t} of {config:?}");
        assert!(!schedule.snr(t).is_nan());
    }
}
