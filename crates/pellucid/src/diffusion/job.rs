//! What every job on a pipeline says of itself.

use crate::VERSION;
use crate::run::Manifest;
use pellucid_diffusion::Pipeline;
use std::time::Instant;

/// Seconds each stage takes.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) timings: Vec<(String, f64)>,
}

impl Clock {
    pub(super) fn time<T>(&mut self, stage: &str, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = act();
        self.timings.push((stage.to_owned(), start.elapsed().as_secs_f64()));
        result
    }
}

/// blake3 of `value`, hexadecimal. Keys of JSON objects are sorted here, so equal values have equal hashes.
pub(super) fn hash(value: &serde_json::Value) -> String {
    blake3::hash(value.to_string().as_bytes()).to_hex().to_string()
}

/// The manifest of a job on a pipeline, before it ran; `settings` are everything that changes the result.
pub(super) fn manifest(
    pipeline: &Pipeline,
    job: &str,
    data: &str,
    settings: &serde_json::Value,
    seed: u64,
) -> Manifest {
    Manifest {
        pellucid: VERSION.to_owned(),
        onnxruntime: pipeline.network.engine().version,
        job: job.to_owned(),
        model_hash: pipeline.hash.clone(),
        data_hash: blake3::hash(data.as_bytes()).to_hex().to_string(),
        settings_hash: hash(settings),
        seed,
        device: pipeline.options.session.device.to_string(),
        warnings: Vec::new(),
        files: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_does_not_depend_on_the_order_in_which_entries_were_added() {
        let [a, b] = [[("x", 1), ("a", 2)], [("a", 2), ("x", 1)]].map(|entries| {
            let mut map = serde_json::Map::new();
            map.extend(entries.map(|(key, value)| (key.to_owned(), value.into())));
            super::hash(&map.into())
        });
        assert_eq!(a, b);
    }
}
