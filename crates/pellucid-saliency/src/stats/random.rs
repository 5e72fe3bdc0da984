//! The one place where random numbers come from a seed: the same on every machine, whatever the threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random numbers of `seed`.
pub fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The random numbers of one part (a step, a bootstrap) of a job: independent of how many were drawn for other parts, and
/// of [`seeded`].
pub fn stream(seed: u64, part: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(part + 1);
    random
}
