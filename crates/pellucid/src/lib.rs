//! See what a vision model does, why it fails, and repair it.
//!
//! ```no_run
//! use pellucid::{Classifier, DebugSettings, OpenOptions, RunOptions, Silent};
//!
//! let classifier = Classifier::open("model.onnx", &OpenOptions::default())?;
//! let found = pellucid::debug(&classifier, "pictures/", &DebugSettings::default(), &Silent)?;
//! found.diagnosis.verdict.iter().for_each(|sentence| println!("{sentence}"));
//! let run = found.write_run(&RunOptions::default())?;
//! # Ok::<(), pellucid::Error>(())
//! ```
//!
//! This crate is the small stable surface over the others; who uses it needs none of them.
//!
//! - [`Classifier::open`] puts model, preprocessing and class names together; [`Classifier::from_network`] does so with a network
//!   that the program runs itself ([`network`]). It holds its compiled sessions, and may be asked from several threads.
//! - The jobs: [`scan()`], [`debug()`], [`repair()`], [`picture()`] on data sets; [`why()`] and [`attribute()`] on one picture;
//!   [`gradient()`] and [`inspect()`] on any model; [`diffusion`].
//! - Pictures come from files or from memory: [`OnePicture`] and [`Data`] are made of paths, [`data::Picture`]s, and inputs that
//!   are prepared already.
//! - Every result is a plain struct with its maps and pictures in it. Writing a run directory is a step of its own
//!   (`write_run`, [`RunOptions`]); nothing else writes but the cache that [`ScanSettings::cache`] names.
#![warn(clippy::missing_errors_doc)]

mod attribute;
mod classifier;
mod debug;
#[allow(clippy::missing_errors_doc)]
pub mod diffusion;
mod error;
mod gradient;
mod input;
mod inspect;
mod judgement;
mod patch;
mod picture;
mod repair;
mod run;
mod scan;
mod thumbnails;
mod verdict;
mod warning;
mod why;

pub use attribute::{Attributions, Question, attribute, attribution_methods};
pub use classifier::{Classifier, OpenOptions};
pub use debug::{DebugSettings, Debugged, MistakeNames, debug};
pub use error::Error;
pub use gradient::{
    Compared, CompiledGradient, Differentiation, GradientReach, GradientSettings, Gradients, NpzError, Tolerances,
    compare, gradient, gradient_reach, read_arrays, read_arrays_within, write_arrays,
};
pub use input::{Data, OnePicture};
pub use inspect::{InspectedTaps, InspectedValue, Inspection, inspect, inspect_with_shapes};
pub use patch::{Patch, PatchError, PatchSummary, PatchedTensor, patch_model, patch_summary};
pub use pellucid_guard::{Budget, ByteSize, Limit, OverBudget, setting};
pub use pellucid_runtime::Array;
pub use pellucid_runtime::progress::{Progress, Silent};
pub use picture::{PictureSettings, Pictured, picture};
pub use repair::{DividedFeatures, RepairOptions, RepairPaths, Repaired, divide, repair, scan_for_repair};
pub use run::{Claim, Manifest, RunDirectory, RunOptions, RunPaths};
pub use scan::{Scan, ScanSettings, scan};
pub use warning::{FolderOrders, Unguided, Warning};
pub use why::{Evidence, NoMaps, Why, why};

/// Pictures and data sets, from files and from memory.
pub mod data {
    pub use pellucid_classifier::scan::{FeatureTable, ScanWarning};
    pub use pellucid_vision::dataset::{
        Content, Dataset, DatasetError, DatasetOptions, DatasetWarning, FolderOrder, Format, Labelled, Reading, Sample,
        Samples,
    };
    pub use pellucid_vision::loader::Failure;
    pub use pellucid_vision::picture::{Picture, PictureError};
}

/// From pictures to what a model reads.
pub mod preprocess {
    pub use pellucid_vision::preprocess::{
        ChannelOrder, Crop, Layout, Preprocessing, PreprocessingError, PreprocessingOverrides, ResizeRule, ViewBox,
    };
    pub use pellucid_vision::resize::Filter;
}

/// The network behind a classifier: what a program implements to have its own one studied.
pub mod network {
    pub use pellucid_classifier::layer::DecisionLayer;
    pub use pellucid_classifier::network::{Forward, Gradient, Network, NetworkError, Offer, Score, Subject, Taps};
    pub use pellucid_runtime::{Layout as MapLayout, Pooling, VerifiedMap as FeatureMap};
}

/// ONNX Runtime: where it is, and what it runs on.
pub mod engine {
    pub use pellucid_graph::TapNames;
    pub use pellucid_graph::grad::Checkpointing;
    pub use pellucid_runtime::{Device, Doubt, FoundLibrary, Heap, ParseDeviceError, SessionOptions, find_library};
}

/// Objectives of a program's own, differentiated: expressions over a model's values, whose gradients one session gives.
pub mod objective {
    pub use pellucid_graph::grad::{Index, Objective, Unary};
    pub use pellucid_graph::{Model, ModelError};
    pub use pellucid_runtime::{GradientOptions, GradientRun, GradientSession, GradientsError, Runtime};
}

/// Maps of one picture, and how they are made.
pub mod attribution {
    pub use pellucid_classifier::attribution::{
        Asking, Attribution, AttributionError, AttributionSettings, Method, Subject,
    };
}

/// The map that every explainer gives, how it is drawn, and what it is worth.
pub mod saliency {
    pub use pellucid_saliency::{Alignment, Figure, Grid, Role, SaliencyMap};

    /// The one colour map.
    pub mod colour {
        pub use pellucid_saliency::colour::{colour, table};
    }

    /// The one renderer.
    pub mod render {
        pub use pellucid_saliency::render::{levels, min_max, overlay, paint, render, upsample};
    }

    /// Deletion and insertion.
    pub mod evaluate {
        pub use pellucid_saliency::evaluate::{
            Areas, Better, ConfidenceGames, Curve, DistanceGames, Game, GameStanding, Lead, Measure, Standing, Unit,
        };
    }
}

/// What jobs find, as plain structs that serialise.
pub mod results {
    pub use pellucid_classifier::feature_visualization::results::{
        DataResponse, NeuronPicture, PictureResults, PicturedNeuron, TopCrop,
    };
    pub use pellucid_classifier::guide::{GuideCard, Label};
    pub use pellucid_classifier::repair::results::{
        CausalCheck, ClassEdit, Figures, MistakeCluster, NeuronEdit, ProposedGroup, RepairRun, Tried,
    };
    pub use pellucid_classifier::repair::{Repair, RepairWarning};
    pub use pellucid_classifier::results::{
        Activation, Confusion, CounterfactualOutcome, Diagnosis, Direction, Finding, Interval, Machine, Mistakes,
        Neuron, RunCard, RunRecord, Sample, Slice, Summary, TopSample,
    };
    pub use pellucid_saliency::stats::Proportion;
}

/// What jobs are told, beyond their own settings.
pub mod settings {
    pub use pellucid_classifier::counterfactual::Variant;
    pub use pellucid_classifier::diagnose::DiagnoseSettings;
    pub use pellucid_classifier::feature_visualization::{ObjectiveKind, VisualizationSettings};
    pub use pellucid_classifier::repair::suspects::Route;
    pub use pellucid_classifier::repair::train::Selection;
    pub use pellucid_classifier::repair::{Edit, RepairSettings};
    pub use pellucid_classifier::votes::VoteSettings;
    pub use pellucid_report::ReportOptions;
    pub use pellucid_vision::augment::Augmentation;
    pub use pellucid_vision::canvas::Parameterisation;
}

/// The errors that [`Error`] gathers and that are not named elsewhere.
pub mod errors {
    pub use pellucid_classifier::counterfactual::CounterfactualError;
    pub use pellucid_classifier::feature_visualization::IllusionError;
    pub use pellucid_classifier::guide::GuideError;
    pub use pellucid_classifier::repair::RepairError;
    pub use pellucid_classifier::scan::ScanError;
    pub use pellucid_diffusion::DiffusionError;
    pub use pellucid_graph::ModelError;
    pub use pellucid_report::ReportError;
    pub use pellucid_runtime::{GradientsError, LibraryError, ObserveError, RuntimeError, TapsError};
    pub use pellucid_vision::names::NamesError;
}

/// Names from files, fit for a terminal.
pub mod printable {
    pub use pellucid_guard::printable::{json, lines, name};
}

/// The crates below, for this project's own tests, benches and fuzz targets. No part of the interface.
#[doc(hidden)]
pub mod internals {
    pub use pellucid_classifier as classifier_methods;
    pub use pellucid_diffusion as diffusion_methods;
    pub use pellucid_graph as graph;
    pub use pellucid_guard as guard;
    pub use pellucid_report as report;
    pub use pellucid_runtime as runtime;
    pub use pellucid_saliency as saliency;
    pub use pellucid_vision as vision;
}
#[doc(hidden)]
pub use internals::diffusion_methods;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
