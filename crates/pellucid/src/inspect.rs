//! What a model file holds: inputs, outputs, taps, preprocessing, operators; computed without a data set.

use crate::{Error, OpenOptions, classifier};
use pellucid_graph::Model;
use pellucid_runtime::{Runtime, describe_head, verify_taps};
use pellucid_vision::names;
use pellucid_vision::preprocess::Preprocessing;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A graph input or output.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedValue {
    /// Name.
    pub name: String,
    /// Element type, as declared.
    pub element: String,
    /// Dimensions, as declared: numbers, names, or `?`.
    pub dimensions: Vec<String>,
}

/// The taps, in words and numbers.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedTaps {
    /// The decision layer's node.
    pub head: String,
    /// What kind of layer it is.
    pub kind: &'static str,
    /// What follows the logits.
    pub activation: String,
    /// Value and number of logits.
    pub logits: (String, usize),
    /// Value and number of features.
    pub features: (String, usize),
    /// Value, shape and pooling of the feature map.
    pub feature_map: Option<(String, Vec<usize>, String)>,
    /// Rows and columns of its places.
    pub grid: Option<[usize; 2]>,
    /// Why there is no feature map, or what to keep in mind when looking at its maps.
    pub map_note: Option<String>,
    /// Why there is no decision layer.
    pub no_head: Option<String>,
    /// Whether a file in half precision runs in float32 here.
    pub widened: bool,
    /// Largest |W f + b − logits| seen.
    pub linear_error: f32,
}

/// What [`inspect`] found.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// File name.
    pub file: String,
    /// Bytes of the file and of the data files beside it.
    pub bytes: (u64, u64),
    /// What wrote it.
    pub producer: String,
    /// Operator sets by domain; the standard one is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Number of parameters.
    pub parameters: usize,
    /// Inputs.
    pub inputs: Vec<InspectedValue>,
    /// Outputs.
    pub outputs: Vec<InspectedValue>,
    /// Operators with their counts.
    pub operators: BTreeMap<String, usize>,
    /// The preprocessing found, in words; `None` where flags must give it.
    pub preprocessing: Option<String>,
    /// Number of class names found beside the model.
    pub class_names: Option<usize>,
    /// The taps.
    pub taps: Option<InspectedTaps>,
    /// Why there are no taps.
    pub taps_error: Option<String>,
    /// The file's notes.
    pub metadata: BTreeMap<String, String>,
}

/// Reads the model at `path` and says what it holds. A model that is no classifier is not an error: the reason stands in
/// [`Inspection::taps_error`].
///
/// # Errors
/// Where the file cannot be read, or ONNX Runtime is not there.
pub fn inspect(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Inspection, Error> {
    inspect_with_shapes(path, &BTreeMap::new(), options)
}

/// As [`inspect`], for a model with inputs whose dimensions other than the batch are free: `shapes` gives them in full.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with_shapes(
    path: impl AsRef<Path>,
    shapes: &BTreeMap<String, Vec<usize>>,
    options: &OpenOptions,
) -> Result<Inspection, Error> {
    let path = path.as_ref();
    let model = classifier::read(path, &options.budget)?;
    let runtime = Runtime::load(options.library.as_deref())?;
    let found = match &options.preprocessing {
        Some(file) => Some(Preprocessing::open(file)?),
        None => Preprocessing::find_beside(path)?,
    };
    let preprocessing =
        if found.is_none() && options.overrides.is_empty() { None } else { options.overrides.apply(found).ok() };
    let given =
        model.graph.inputs.first().and_then(|v| shapes.get(v.name())).and_then(|s| s.get(1..)).map(<[usize]>::to_vec);
    let prepared = || preprocessing.as_ref().map(|p| p.shape().to_vec());
    let shape = given.or_else(prepared).or_else(|| of_size(&model, options.overrides.size?));
    let tapped = verify_taps(&runtime, &model, &options.taps, shape.as_deref(), None, &options.session);
    let (taps, taps_error) = match tapped {
        Ok(t) => (Some(taps(&t)), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let notes = model.metadata();
    let size = |p: &Path| std::fs::metadata(p).map(|m| m.len()).unwrap_or(0);
    let beside = model.data_files().iter().map(|f| size(&model.folder().join(f))).sum();
    let domain = |(d, v): (String, i64)| (if d.is_empty() { "ai.onnx".to_owned() } else { d }, v);
    Ok(Inspection {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes: (model.file_bytes().len() as u64, beside),
        producer: model.producer(),
        opsets: model.domains().into_iter().map(domain).collect(),
        parameters: model.graph.parameters(),
        inputs: model.graph.inputs.iter().map(value).collect(),
        outputs: model.graph.outputs.iter().map(value).collect(),
        operators: model.graph.operator_counts(),
        preprocessing: preprocessing.map(|p| p.describe()),
        class_names: names::beside(path).or_else(|| names::from_notes(|key| notes.get(key).cloned())).map(|n| n.len()),
        taps,
        taps_error,
        metadata: notes,
    })
}

/// The shape of one input of this width and height; three colours where the model leaves their number open.
fn of_size(model: &Model, (width, height): (u32, u32)) -> Option<Vec<usize>> {
    let declared = model.graph.inputs.first()?.shape().filter(|s| s.len() == 4)?;
    let (width, height) = (width as usize, height as usize);
    let colours = |at: usize| declared[at].and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= 4);
    Some(match (colours(1), colours(3)) {
        (None, Some(last)) => vec![height, width, last],
        (first, _) => vec![first.unwrap_or(3), height, width],
    })
}

fn taps(t: &pellucid_runtime::TappedModel) -> InspectedTaps {
    InspectedTaps {
        head: t.taps.layer.node.clone(),
        kind: describe_head(t.taps.layer.kind),
        activation: format!("{:?}", t.taps.head).to_lowercase(),
        logits: (t.taps.logits.clone(), t.classes()),
        features: (t.taps.features.clone(), t.features()),
        feature_map: t
            .map
            .as_ref()
            .map(|m| (m.value.clone(), m.shape.clone(), format!("{:?}", m.pooling).to_lowercase())),
        grid: t.map.as_ref().map(|m| m.grid),
        map_note: t.no_map.clone().or_else(|| t.map.as_ref()?.coarse()),
        no_head: t.no_head.clone(),
        widened: t.widened,
        linear_error: t.linear_error,
    }
}

fn value(v: &pellucid_graph::Value) -> InspectedValue {
    InspectedValue {
        name: v.name().to_owned(),
        element: v.element().map_or_else(|| "unknown".to_owned(), |e| format!("{e:?}").to_lowercase()),
        dimensions: v.dimension_names().unwrap_or_default(),
    }
}
