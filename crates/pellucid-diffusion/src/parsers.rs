//! The readers of files from strangers that no public function reaches without a whole pipeline, for the fuzz targets.

pub use crate::tokens::TextTokenizer;

use crate::config::SchedulerConfig;
use crate::error::DiffusionError;
use crate::pipeline::single_file::Description;
use crate::trajectory::Step;
use pellucid_guard::Budget;
use std::path::Path;

/// The schedule that the denoiser's TOML file at `file` describes.
///
/// # Errors
/// [`DiffusionError::Config`] says which entry is wrong.
pub fn denoiser(file: &Path, budget: &Budget) -> Result<SchedulerConfig, DiffusionError> {
    Description::read(file, budget)?.scheduler(file)
}

/// The step in the bytes of a cached file: of a latent of 4 × 2 × 2, `guided` or not.
///
/// # Errors
/// What is wrong with it.
pub fn step(bytes: &[u8], guided: bool) -> Result<Step, String> {
    crate::trajectory::parsed(bytes, [4, 2, 2], guided, (0, None))
}
