//! Cached files: shards of a scan, steps of a trajectory. The seal in front of them is left out, so that their parsers see
//! every byte.

use crate::chosen;
use pellucid::internals::classifier_methods::scan::parse_shard;
use pellucid::internals::diffusion_methods::parsers;

/// A shard of three logits and two features where the first byte is even, else a step, guided where its next bit is set.
/// What is taken has the shapes and the finite numbers that were asked for.
pub fn cache(data: &[u8]) {
    let Some((kind, data)) = chosen(data) else { return };
    if kind & 1 == 0 {
        match parse_shard(data.to_vec(), 3, 2) {
            Ok(rows) => assert!(rows > 0),
            Err(reason) => assert!(!reason.contains("row "), "a shard was taken whose {reason}"),
        }
        return;
    }
    let guided = kind & 2 == 0;
    if let Ok(step) = parsers::step(data, guided) {
        for latent in [Some(&step.latent), step.unconditional.as_ref(), Some(&step.conditional), Some(&step.clean)] {
            assert!(latent.is_none_or(|latent| latent.shape() == [1, 4, 2, 2]));
        }
        assert_eq!(step.unconditional.is_some(), guided);
        assert!(step.epsilon(7.5).iter().chain(&step.decoded).all(|v| v.is_finite()));
    }
}
