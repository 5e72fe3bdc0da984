//! See what a vision model does, why it fails, and repair it.
//!
//! ```no_run
//! use pellucid::{Classifier, DebugSettings, OpenOptions, Silent};
//!
//! let classifier = Classifier::open("model.onnx", &OpenOptions::default())?;
//! let outcome = pellucid::debug(&classifier, "pictures/", &DebugSettings::default(), &Silent)?;
//! println!("{}", outcome.report.display());
//! # Ok::<(), pellucid::Error>(())
//! ```
//!
//! This crate is the small stable surface over the others: [`Classifier::open`] puts model, preprocessing and class
//! names together, [`debug()`], [`repair()`], [`scan()`], [`why()`] and [`inspect()`] are the jobs, and every result is a plain struct
//! that serialises. The crates below it are re-exported for those who build their own jobs.

mod attribute;
mod classifier;
mod debug;
pub mod diffusion;
mod error;
mod gradient;
mod inspect;
mod judgement;
mod patch;
mod picture;
mod repair;
mod run;
mod thumbnails;
mod verdict;
mod why;

pub use attribute::{Attributions, Question, attribute};
pub use classifier::{Classifier, OpenOptions};
pub use debug::{
    DebugOutcome, DebugSettings, Features, MistakeNames, ScanOutcome, add_training_views, debug, features, scan,
};
pub use error::Error;
pub use gradient::{
    Compared, Differentiation, GradientReach, GradientSettings, Gradients, NpzError, Tolerances, compare, gradient,
    gradient_reach, read_arrays, read_arrays_within, write_arrays,
};
pub use inspect::{InspectedValue, Inspection, inspect};
pub use patch::{Patch, PatchError, PatchSummary, PatchedTensor, patch_model, patch_summary};
pub use pellucid_classifier::progress::{Progress, Silent};
pub use pellucid_guard::{Budget, ByteSize, Limit, OverBudget};
pub use picture::{PictureOutcome, PictureSettings, picture};
pub use repair::{DividedFeatures, RepairOptions, RepairOutcome, divide, repair};
pub use run::{Manifest, RunDirectory};
pub use why::{Evidence, Why, why};

pub use pellucid_classifier as classifier_methods;
pub use pellucid_diffusion as diffusion_methods;
pub use pellucid_graph as graph;
pub use pellucid_guard as guard;
pub use pellucid_report as report;
pub use pellucid_runtime as runtime;
pub use pellucid_saliency as saliency;
pub use pellucid_vision as vision;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
