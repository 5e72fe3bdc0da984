//! Every way a job can fail, each handled once: here it is only gathered.

use pellucid_guard::Setting;
use std::path::PathBuf;

/// Why a job failed. The messages say what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// ONNX Runtime is not there.
    #[error(transparent)]
    Library(#[from] pellucid_runtime::LibraryError),
    /// The model file.
    #[error(transparent)]
    Model(#[from] pellucid_graph::ModelError),
    /// The model's structure.
    #[error(transparent)]
    Taps(#[from] pellucid_runtime::TapsError),
    /// The model's shapes.
    #[error(transparent)]
    Observe(#[from] pellucid_runtime::ObserveError),
    /// The model's run.
    #[error(transparent)]
    Runtime(#[from] pellucid_runtime::RuntimeError),
    /// The gradient.
    #[error(transparent)]
    Gradients(#[from] pellucid_runtime::GradientsError),
    /// A NumPy file.
    #[error(transparent)]
    Npz(#[from] crate::gradient::NpzError),
    /// The preprocessing.
    #[error(transparent)]
    Preprocessing(#[from] pellucid_vision::preprocess::PreprocessingError),
    /// The class names.
    #[error(transparent)]
    Names(#[from] pellucid_vision::names::NamesError),
    /// The data set.
    #[error(transparent)]
    Dataset(#[from] pellucid_vision::dataset::DatasetError),
    /// One picture.
    #[error(transparent)]
    Picture(#[from] pellucid_vision::picture::PictureError),
    /// The scan.
    #[error(transparent)]
    Scan(#[from] pellucid_classifier::scan::ScanError),
    /// The counterfactual search.
    #[error(transparent)]
    Counterfactual(#[from] pellucid_classifier::counterfactual::CounterfactualError),
    /// The network that was asked.
    #[error(transparent)]
    Network(#[from] pellucid_classifier::network::NetworkError),
    /// A job edits or joins graphs, and the network is no ONNX model.
    #[error("{job} need an ONNX model, and {network} is none; export it")]
    NeedsOnnx {
        /// The network.
        network: String,
        /// What is asked for.
        job: &'static str,
    },
    /// A map of one picture.
    #[error(transparent)]
    Attribution(#[from] pellucid_classifier::attribution::AttributionError),
    /// A guide.
    #[error(transparent)]
    Guide(#[from] pellucid_classifier::guide::GuideError),
    /// A picture of a neuron.
    #[error(transparent)]
    Illusion(#[from] pellucid_classifier::feature_visualization::IllusionError),
    /// The repair.
    #[error(transparent)]
    Repair(#[from] pellucid_classifier::repair::RepairError),
    /// The patch of a decision layer.
    #[error(transparent)]
    Patch(#[from] crate::patch::PatchError),
    /// The data set has too few pictures to be split.
    #[error(
        "{data} has no {split} split, and its {pictures} pictures are too few to make one; a repair needs pictures to train on, \
         to choose by and to measure with"
    )]
    TooFewToSplit {
        /// The data set.
        data: PathBuf,
        /// Which split is missing.
        split: &'static str,
        /// Pictures there are.
        pictures: usize,
    },
    /// The diffusion pipeline.
    #[error(transparent)]
    Diffusion(#[from] pellucid_diffusion::DiffusionError),
    /// The report.
    #[error(transparent)]
    Report(#[from] pellucid_report::ReportError),
    /// The model is a folder.
    #[error("the model {0} is a folder; expected an .onnx file (the order is MODEL DATA)")]
    ModelIsFolder(PathBuf),
    /// Model and class names disagree.
    #[error(
        "{model} has {logits} logits, but there are {names} class names ({from}); give one name for each logit, in their \
         order, with {set_classes} FILE", set_classes = Setting::Classes)]
    ClassNames {
        /// The model.
        model: PathBuf,
        /// Its logits.
        logits: usize,
        /// Where the names come from.
        from: String,
        /// How many there are.
        names: usize,
    },
    /// Model and data set disagree about the classes.
    #[error(
        "{model} has {logits} logits, but {data} has {classes} classes ({names}); labels are indices into the logits. \
         Give the model's own class names with {set_classes} FILE (one a line, in the order of the logits), so that labels \
         are matched by name", set_classes = Setting::Classes)]
    Classes {
        /// The model.
        model: PathBuf,
        /// Its logits.
        logits: usize,
        /// The data set.
        data: PathBuf,
        /// Its classes.
        classes: usize,
        /// Some of their names.
        names: String,
    },
    /// A name on the command line is not in the data set.
    #[error("there is no {kind} '{name}'; there are: {known}")]
    Unknown {
        /// "class" or "group".
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A job needs a decision layer.
    #[error(
        "{model} has no decision layer, which {job} needs: {reason}. Maps of a picture for a class, gradients and a scan work without one"
    )]
    NoDecisionLayer {
        /// The model.
        model: PathBuf,
        /// What is asked for.
        job: &'static str,
        /// Why there is none.
        reason: String,
    },
    /// The model takes whole numbers, and pictures become fractions.
    #[error(
        "{model}: its input '{input}' takes whole numbers ({element}), and the preprocessing gives fractions between {low:.2} and \
         {high:.2}, which would be cut off: such a model scales and normalises by itself; give {} {} {}",
        Setting::Scale.with("1"), Setting::Mean.with("0"), Setting::Std.with("1")
    )]
    WholeNumbers {
        /// The model.
        model: PathBuf,
        /// Its input.
        input: String,
        /// The input's type.
        element: String,
        /// The smallest number that a pixel becomes.
        low: f64,
        /// The largest.
        high: f64,
    },
    /// Several classes have that name.
    #[error("several classes are called '{name}': {classes}; give the number of the one that is meant")]
    AmbiguousClass {
        /// The name.
        name: String,
        /// Their numbers and names.
        classes: String,
    },
    /// The model decides in a way that is not supported.
    #[error("{model}: {reason}")]
    Head {
        /// The model.
        model: PathBuf,
        /// Why.
        reason: String,
    },
    /// The run directory belongs to another run.
    #[error("{path} holds a run with other inputs ({difference}); choose another {set_name}, or {force} to replace it", set_name = Setting::Name, force = Setting::Force)]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The run directory has a writer.
    #[error("{path} is being written by another process; wait until it is done, or give this run another {set_name}", set_name = Setting::Name)]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A file that the job needs cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The output is the input.
    #[error("the edited model would be written over {path}, which it is made from; give another {out}", out = Setting::Out)]
    OverModel {
        /// The model.
        path: PathBuf,
    },
    /// A file of the run cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// At most ten names, for an error message.
pub(crate) fn some(names: &[String]) -> String {
    let shown = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 10 { format!("{shown}, … ({} in all)", names.len()) } else { shown }
}
