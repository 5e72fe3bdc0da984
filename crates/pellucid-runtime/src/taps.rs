//! Verifies a classifier's taps by running them, and runs the model for logits, features and feature maps.

use crate::array::Array;
use crate::batching::Batching;
use crate::device::Device;
use crate::library::Runtime;
use crate::observe::{ObserveError, observe, within_budget};
use crate::session::{RuntimeError, Session, SessionOptions};
use crate::tail::{self, Engine, TailError};
use ndarray::{Array1, Array2, Array3, Array4, ArrayD, Axis, IxDyn, Slice};
pub use pellucid_graph::Layout;
use pellucid_graph::observed::Observations;
use pellucid_graph::{
    AffineTail, DecisionLayer, ElementType, FeatureMap, Graph, HeadKind, Model, Node, TailSource, TapError, TapNames,
    Taps, Tensor, Value, WidenError, taps, to_evaluation, widen_to_float32,
};
use pellucid_guard::Setting;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How far |W f + b − logits| may be from 0, as a share of the logits' spread over pictures, and |pool(A) − f| as a share of the
/// features ([methods A]).
///
/// [methods A]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a
pub const TOLERANCE: f32 = 1e-3;

/// A map with fewer rows or columns points at regions only.
const COARSE: usize = 5;

const LOGITS: &str = "pellucid.out.logits";
const FEATURES: &str = "pellucid.out.features";
const FEATURE_MAP: &str = "pellucid.out.feature_map";
const WEIGHT: &str = "pellucid.out.weight";
const BIAS: &str = "pellucid.out.bias";

/// Why a classifier cannot be studied.
#[derive(Debug, thiserror::Error)]
pub enum TapsError {
    /// No taps in the graph.
    #[error("{model}: {source}")]
    Structure {
        /// The model's path.
        model: PathBuf,
        /// What is missing.
        source: TapError,
    },
    /// Shapes could not be observed.
    #[error("{model}: {source}")]
    Observe {
        /// The model's path.
        model: PathBuf,
        /// What went wrong.
        source: ObserveError,
    },
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Its half-precision weights cannot be read.
    #[error("{model}: {source}")]
    Widen {
        /// The model's path.
        model: PathBuf,
        /// Why.
        source: WidenError,
    },
    /// The model does not take one picture.
    #[error("{model}: expected one input of rank 4 (a batch of pictures), found {found}")]
    Input {
        /// The model's path.
        model: PathBuf,
        /// Its inputs.
        found: String,
    },
    /// The pictures do not have the size that the model takes.
    #[error(
        "{model}: its input '{input}' takes {expected}, but the preprocessing gives {given}; correct it with {size}, \
         {channels} or {layout}", size = Setting::Size, channels = Setting::Channels, layout = Setting::Layout)]
    Size {
        /// The model's path.
        model: PathBuf,
        /// The input.
        input: String,
        /// Its dimensions without the batch, `?` for free ones.
        expected: String,
        /// The pictures' shape.
        given: String,
    },
    /// The head does not read one feature vector a picture.
    #[error(
        "{model}: the head {head} maps {found} features to {classes} values, but its weight has {expected}: it does not \
         read one feature vector a picture; name the right values with {set_features} and {logits}", set_features = Setting::Features, logits = Setting::Logits)]
    Shape {
        /// The model's path.
        model: PathBuf,
        /// The head.
        head: String,
        /// Features a picture.
        found: usize,
        /// Logits a picture.
        classes: usize,
        /// Shape of W.
        expected: String,
    },
    /// The head is not what its structure says.
    #[error(
        "{model}: the head {head} is not linear in '{features}': |W f + b − logits| is {error:.3e} on sample {sample}, \
         expected at most {allowed:.1e} ({TOLERANCE:.0e} of the logits' spread over pictures); name the right values with \
         {set_features} and {logits}", set_features = Setting::Features, logits = Setting::Logits)]
    NotLinear {
        /// The model's path.
        model: PathBuf,
        /// The head.
        head: String,
        /// The features.
        features: String,
        /// Largest difference.
        error: f32,
        /// What it may be.
        allowed: f32,
        /// Row of the sample.
        sample: usize,
    },
    /// Values that are not finite.
    #[error("{model}: '{value}' is not finite on sample {sample}; check the preprocessing and the weights")]
    NotFinite {
        /// The model's path.
        model: PathBuf,
        /// The value.
        value: String,
        /// Row of the sample.
        sample: usize,
    },
}

/// How a feature map becomes the features, as measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// f_j is the mean of channel j.
    Mean,
    /// f_j is the maximum of channel j.
    Max,
    /// f is this token of the sequence.
    Token(usize),
    /// Other layers stand between: channels are not neurons.
    Indirect,
}

/// A verified feature map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedMap {
    /// The value in the model.
    pub value: String,
    /// Shape at batch 1.
    pub shape: Vec<usize>,
    /// Where channels stand.
    pub layout: Layout,
    /// Rows and columns of places.
    pub grid: [usize; 2],
    /// Of a token sequence, the first token that is a place.
    pub first: usize,
    /// How it becomes the features.
    pub pooling: Pooling,
}

/// A classifier with verified taps.
#[derive(Debug, Clone)]
pub struct TappedModel {
    /// The model, its graph extended by tap outputs where needed.
    pub model: Model,
    /// Where the taps are.
    pub taps: Taps,
    /// W, C × d.
    pub weight: Array2<f32>,
    /// b, C.
    pub bias: Array1<f32>,
    /// The feature map, if there is one.
    pub map: Option<VerifiedMap>,
    /// Why there is no feature map.
    pub no_map: Option<String>,
    /// Why there is no decision layer; the logits then stand for the features, and W is the identity.
    pub no_head: Option<String>,
    /// Whether the logits are not what the model gives but a value that was named on its way: results speak of that value.
    pub apart: bool,
    /// Whether the file is in half precision and runs in float32 here.
    pub widened: bool,
    /// Nodes that the export left in training mode and that run as in use here.
    pub trained_nodes: usize,
    /// Name of the picture input.
    pub input: String,
    /// Its shape at batch 1 (N × C × H × W or N × H × W × C).
    pub input_shape: Vec<usize>,
    /// The batch size that is baked into the export, if one is.
    pub baked_batch: Option<usize>,
    /// Largest |W f + b − logits| seen when verifying.
    pub linear_error: f32,
    /// Every value's shape.
    pub observed: Observations,
}

/// Finds the taps of `model`, verifies them by running, and reads W and b.
///
/// `input_shape` (without the batch) is needed only where the model leaves it free. `samples` are preprocessed pictures
/// to verify on; without them a fixed noise pattern serves.
pub fn verify_taps(
    runtime: &Runtime,
    model: &Model,
    names: &TapNames,
    input_shape: Option<&[usize]>,
    samples: Option<&ArrayD<f32>>,
    options: &SessionOptions,
) -> Result<TappedModel, TapsError> {
    let path = || model.path().to_path_buf();
    let mut model = model.clone();
    let widened = widen_to_float32(&mut model).map_err(|source| TapsError::Widen { model: path(), source })?;
    let trained_nodes = to_evaluation(&mut model.graph);
    let input = picture_input(&model)?;
    accept_float32(&mut model.graph, &input);
    check_size(&model, &input, input_shape)?;
    let declared_batch = declared(&model.graph, &input).first().copied().flatten().map(|b| b as usize);
    let shapes: BTreeMap<String, Vec<usize>> = input_shape
        .map(|s| (input.clone(), std::iter::once(declared_batch.unwrap_or(1)).chain(s.iter().copied()).collect()))
        .into_iter()
        .collect();
    let mut observed = observe(runtime, &model, &shapes).map_err(|source| match source {
        ObserveError::Runtime(error) => TapsError::Runtime(error),
        source => TapsError::Observe { model: path(), source },
    })?;
    // Some exports declare a free batch and yet take only the one that they were traced with.
    let takes_two = observed.get(&input).is_some_and(|o| o.shape_at_two.is_some());
    let baked_batch = declared_batch.or((!takes_two).then_some(1));
    as_at_batch_one(&mut observed, baked_batch.unwrap_or(1));
    let input_shape = observed.get(&input).map(|o| o.shape.clone()).unwrap_or_default();
    let samples = Array::F32(match samples {
        Some(samples) => samples.clone(),
        None => {
            let batch = baked_batch.unwrap_or(2);
            let shape: Vec<usize> = std::iter::once(batch).chain(input_shape.iter().skip(1).copied()).collect();
            within_budget(&model, &input, &shape, ElementType::F32)
                .map_err(|source| TapsError::Observe { model: path(), source })?;
            noise(&shape)
        }
    });
    let verifying = Verifying {
        runtime,
        names,
        observed: &observed,
        input: &input,
        input_shape: &input_shape,
        baked_batch,
        samples: &samples,
        options,
    };
    let Head { model, taps, weight, bias, linear_error, map, no_head } = verifying.head(&model)?;
    let apart = names.logits.as_ref().is_some_and(|l| !taps::is_output(&model.graph, &observed, l));
    let no_map = map
        .is_none()
        .then(|| taps.no_map.clone().unwrap_or_else(|| "no place of a feature map reaches the features".to_owned()));
    Ok(TappedModel {
        model,
        taps,
        weight,
        bias,
        map,
        no_map,
        no_head,
        apart,
        widened,
        trained_nodes,
        input,
        input_shape,
        baked_batch,
        linear_error,
        observed,
    })
}

/// A decision layer that running agrees with.
struct Head {
    model: Model,
    taps: Taps,
    weight: Array2<f32>,
    bias: Array1<f32>,
    linear_error: f32,
    map: Option<VerifiedMap>,
    no_head: Option<String>,
}

/// The most logits of a model without a linear head.
const BARE_LOGITS: usize = 4096;
/// Feature maps that are run at once to see which reach the features, and how often.
const MAPS: (usize, usize) = (4, 12);

/// What verifying needs to know.
struct Verifying<'a> {
    runtime: &'a Runtime,
    names: &'a TapNames,
    observed: &'a Observations,
    input: &'a str,
    input_shape: &'a [usize],
    baked_batch: Option<usize>,
    samples: &'a Array,
    options: &'a SessionOptions,
}

impl Verifying<'_> {
    fn engine(&self) -> Engine<'_> {
        let picture = (self.input, self.input_shape);
        Engine { runtime: self.runtime, options: self.options, picture, baked: self.baked_batch }
    }

    /// The head: as its structure says; where that fails, folded from an affine tail; where there is none, absent.
    fn head(&self, model: &Model) -> Result<Head, TapsError> {
        let structure = |source| TapsError::Structure { model: model.path().to_path_buf(), source };
        let mut tapped = model.clone();
        let found = taps::find(&mut tapped.graph, self.observed, self.names).map_err(structure);
        let refused = match found.and_then(|taps| self.verified(tapped, taps, None)) {
            Ok(head) => return Ok(head),
            Err(refused) => refused,
        };
        let may_fold = matches!(
            &refused,
            TapsError::NotLinear { .. }
                | TapsError::Shape { .. }
                | TapsError::Structure { source: TapError::NoLinearHead(_) | TapError::NonLinearPooling { .. }, .. }
        );
        if !may_fold {
            return Err(refused);
        }
        let tail = match &self.names.features {
            None => taps::affine_tail(&model.graph, self.observed, self.names),
            Some(features) => self.named_tail(model, features),
        };
        let why = match tail {
            Ok(tail) => match self.folded(model, &tail) {
                Ok(head) => return Ok(head),
                Err(TailError::Runtime(error @ RuntimeError::Memory { .. })) => return Err(error.into()),
                Err(why) => format!("{} is not affine in what it reads: {why}", tail.node),
            },
            Err(why) => why,
        };
        if self.names.features.is_some() {
            return Err(refused);
        }
        let reason = match &refused {
            TapsError::Structure { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        self.bare(model, format!("{reason} ({why})"))?.ok_or(refused)
    }

    /// What lies between the named features and the logits.
    fn named_tail(&self, model: &Model, features: &str) -> Result<AffineTail, String> {
        let (logits, head) =
            taps::bare_logits(&model.graph, self.observed, self.names).ok_or("it has no row of logits a picture")?;
        let shape = self.observed.get(features).map(|o| o.shape.clone()).unwrap_or_default();
        let channel_axis = (1..shape.len()).max_by_key(|&a| shape[a]).ok_or("it has no row a picture")?;
        let node = model.graph.producer(&logits).map(Node::describe).unwrap_or_default();
        let source = TailSource { value: features.to_owned(), shape, channel_axis };
        match source.places() {
            1 => Ok(AffineTail { logits, node, head, sources: vec![source] }),
            _ => Err(format!("'{features}' is no row a picture")),
        }
    }

    fn folded(&self, model: &Model, tail: &AffineTail) -> Result<Head, TailError> {
        let folded = tail::fold(self.engine(), model, tail)?;
        let mut tapped = model.clone();
        let features = tail::add_features(&mut tapped.graph, tail, &folded);
        let behind = match tail.sources.as_slice() {
            [only] => only.value.clone(),
            _ => features.clone(),
        };
        let layer = added_layer(&mut tapped.graph, &tail.node, HeadKind::Folded, &folded.weight, &folded.bias);
        let not_affine = |e: TapsError| match e {
            TapsError::Runtime(error) => TailError::Runtime(error),
            other => TailError::NotAffine(other.to_string()),
        };
        let taps = self.with_maps(&tapped, &tail.logits, features, layer, tail.head, &behind);
        self.verified(tapped, taps, None).map_err(not_affine)
    }

    /// The logits themselves in the place of features.
    fn bare(&self, model: &Model, reason: String) -> Result<Option<Head>, TapsError> {
        let Some((logits, head)) = taps::bare_logits(&model.graph, self.observed, self.names) else { return Ok(None) };
        let classes = self.observed.get(&logits).map_or(0, |o| o.len());
        if classes == 0 || classes > BARE_LOGITS {
            return Ok(None);
        }
        let mut tapped = model.clone();
        let node = model.graph.producer(&logits).map(Node::describe).unwrap_or_default();
        let (weight, bias) = (Array2::eye(classes), Array1::zeros(classes));
        let layer = added_layer(&mut tapped.graph, &node, HeadKind::Absent, &weight, &bias);
        let taps = self.with_maps(&tapped, &logits, logits.clone(), layer, head, &logits);
        self.verified(tapped, taps, Some(reason)).map(Some)
    }

    fn with_maps(
        &self,
        model: &Model,
        logits: &str,
        features: String,
        layer: DecisionLayer,
        head: pellucid_graph::Head,
        behind: &str,
    ) -> Taps {
        let (logits, feature_maps) = (logits.to_owned(), Vec::new());
        let mut taps = Taps { logits, features, layer, feature_maps, no_map: None, head };
        taps::find_maps(&model.graph, self.observed, self.names, &mut taps, behind);
        taps
    }

    /// The head that `taps` claim, if running agrees.
    fn verified(&self, model: Model, taps: Taps, no_head: Option<String>) -> Result<Head, TapsError> {
        let run = |map: Option<&FeatureMap>| {
            Probe::run(self.runtime, &model, &taps, map, self.input, self.samples, self.options)
        };
        let last = taps.feature_maps.first();
        let mut probe = run(last)?;
        // What the features are the mean or the maximum of reaches them: nothing more needs to be compiled.
        let pooled = last.filter(|map| matches!(probe.pooling(map), Pooling::Mean | Pooling::Max));
        let feature_map = match (pooled, last) {
            (Some(map), _) => Some(map.clone()),
            (None, None) => None,
            (None, Some(_)) => self.reaching(&model, &taps)?,
        };
        if feature_map.as_ref() != last {
            probe = run(feature_map.as_ref())?;
        }
        let (weight, bias) = probe.layer(&taps, model.path())?;
        let rounding = match (self.options.device == Device::Cpu, taps.layer.kind) {
            (_, HeadKind::Absent) => f32::INFINITY,
            (true, _) => 1e-5,
            // Other devices may round products to ten bits.
            (false, _) => 2e-3,
        };
        let linear_error = probe.check_linear(&taps, &weight, &bias, model.path(), rounding)?;
        let map = feature_map.map(|m| VerifiedMap {
            pooling: probe.pooling(&m),
            value: m.value,
            shape: m.shape,
            layout: m.layout,
            grid: m.grid,
            first: m.first,
        });
        Ok(Head { model, taps, weight, bias, linear_error, map, no_head })
    }

    /// The last feature map whose places reach the features: a head that reads a class token alone knows nothing of the others
    /// beside it.
    fn reaching(&self, model: &Model, taps: &Taps) -> Result<Option<FeatureMap>, TapsError> {
        let rows = Array::F32(match (self.samples, self.baked_batch) {
            (Array::F32(samples), None) => samples.slice_axis(Axis(0), Slice::from(0..1)).to_owned(),
            (Array::F32(samples), Some(_)) => samples.clone(),
            _ => return Ok(None),
        });
        for maps in taps.feature_maps.chunks(MAPS.0).take(MAPS.1) {
            let mut asking = model.clone();
            asking.graph.outputs.clear();
            for (i, map) in maps.iter().enumerate() {
                add_float_output(&mut asking.graph, &map.value, &format!("{FEATURE_MAP}.{i}"));
            }
            asking.graph.prune();
            let values = self.runtime.session(&asking, self.options)?.run(&[(self.input, &rows)])?;
            for (map, values) in maps.iter().zip(values) {
                let is_float32 = self.observed.get(&map.value).is_some_and(|o| o.element == ElementType::F32);
                let Some(values) = values.into_f32().filter(|_| is_float32) else { continue };
                if tail::reaches(self.engine(), model, map, &taps.features, &values)? {
                    return Ok(Some(map.clone()));
                }
            }
        }
        Ok(None)
    }
}

/// Puts W and b into the graph as constants.
fn added_layer(
    graph: &mut Graph,
    node: &str,
    kind: HeadKind,
    weight: &Array2<f32>,
    bias: &Array1<f32>,
) -> DecisionLayer {
    let mut constant = |stem: &str, shape: &[usize], values: Vec<f32>| {
        let name = graph.fresh(stem);
        graph.initializers.insert(name.clone(), Tensor::f32(&name, shape, &values));
        name
    };
    let (classes, d) = weight.dim();
    let weight = constant("pellucid.folded.weight", &[classes, d], weight.iter().copied().collect());
    let bias = constant("pellucid.folded.bias", &[classes], bias.to_vec());
    DecisionLayer { node: node.to_owned(), kind, weight, transposed: false, alpha: 1.0, bias: Some(bias), beta: 1.0 }
}

fn picture_input(model: &Model) -> Result<String, TapsError> {
    let inputs = &model.graph.inputs;
    let rank = |v: &Value| v.shape().map_or(4, |s| s.len());
    match inputs.as_slice() {
        [only] if rank(only) == 4 => Ok(only.name().to_owned()),
        _ => {
            let each = |v: &Value| {
                format!("'{}' of {} dimensions", v.name(), v.shape().map_or("unknown".into(), |s| s.len().to_string()))
            };
            let found = if inputs.is_empty() {
                "none".to_owned()
            } else {
                inputs.iter().map(each).collect::<Vec<_>>().join(", ")
            };
            Err(TapsError::Input { model: model.path().to_path_buf(), found })
        }
    }
}

/// Checks that pictures of shape `given` (without the batch) fit the declared dimensions of `input`.
fn check_size(model: &Model, input: &str, given: Option<&[usize]>) -> Result<(), TapsError> {
    let (declared, Some(given)) = (declared(&model.graph, input), given) else { return Ok(()) };
    let expected = declared.get(1..).unwrap_or_default();
    let fits = |(d, g): (&Option<i64>, &usize)| d.is_none_or(|d| usize::try_from(d) == Ok(*g));
    if declared.is_empty() || (expected.len() == given.len() && expected.iter().zip(given).all(fits)) {
        return Ok(());
    }
    Err(TapsError::Size {
        model: model.path().to_path_buf(),
        input: input.to_owned(),
        expected: expected.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect::<Vec<_>>().join("×"),
        given: given.iter().map(usize::to_string).collect::<Vec<_>>().join("×"),
    })
}

/// Shapes seen at a batch that is baked in, as they would be at batch 1.
fn as_at_batch_one(observed: &mut Observations, baked: usize) {
    for first in observed.values_mut().filter_map(|o| o.shape.first_mut()).filter(|first| **first == baked) {
        *first = 1;
    }
}

fn declared(graph: &Graph, input: &str) -> Vec<Option<i64>> {
    graph.inputs.iter().find(|v| v.name() == input).and_then(Value::shape).unwrap_or_default()
}

/// Puts a Cast behind an input that is not float32, so that float32 pictures can be fed.
fn accept_float32(graph: &mut Graph, input: &str) {
    let Some(at) = graph.inputs.iter().position(|v| v.name() == input) else { return };
    let element = graph.inputs[at].element().unwrap_or(ElementType::F32);
    if element == ElementType::F32 {
        return;
    }
    let shape = graph.inputs[at].shape().unwrap_or_else(|| vec![None; 4]);
    // Whole numbers that are cast to floats before anything is computed may come as floats: a gradient then reaches the input.
    if !element.is_float() && is_only_moved_and_cast(graph, input) {
        graph.inputs[at] = Value::tensor(input, ElementType::F32, &shape);
        graph.forget_hints();
        return;
    }
    let inner = graph.fresh(&format!("{input}.cast"));
    let reads: Vec<usize> = graph.consumers().get(input).cloned().unwrap_or_default();
    reads.into_iter().for_each(|i| graph.nodes[i].rename_input(input, &inner));
    graph.inputs[at] = Value::tensor(input, ElementType::F32, &shape);
    graph.nodes.insert(0, Node::new("Cast", &[input], &[&inner]).with_int("to", i64::from(element.to_onnx())));
}

/// Whether all that reads `input` moves its numbers about and then casts them to a float type.
fn is_only_moved_and_cast(graph: &Graph, input: &str) -> bool {
    let consumers = graph.consumers();
    let mut open = vec![input];
    while let Some(value) = open.pop() {
        if graph.outputs.iter().any(|o| o.name() == value) {
            return false;
        }
        for &at in consumers.get(value).into_iter().flatten() {
            let node = &graph.nodes[at];
            match node.op() {
                _ if !node.domain().is_empty() => return false,
                "Cast"
                    if node
                        .int("to")
                        .and_then(|t| i32::try_from(t).ok())
                        .is_some_and(|t| ElementType::from_onnx(t).is_float()) => {}
                "Transpose" | "Reshape" | "Identity" | "Unsqueeze" | "Squeeze" | "Slice" | "Gather"
                    if node.input(0) == Some(value) =>
                {
                    open.extend(node.outputs().iter().map(String::as_str));
                }
                "Shape" => {}
                _ => return false,
            }
        }
    }
    true
}

/// A fixed pattern with the mean and spread of a normalised picture.
fn noise(shape: &[usize]) -> ArrayD<f32> {
    let mut numbers = tail::Numbers::default();
    ArrayD::from_shape_simple_fn(IxDyn(shape), || 2.0 * numbers.next())
}

/// What one verification run gave.
struct Probe {
    logits: Array2<f32>,
    features: Array2<f32>,
    weight: ArrayD<f32>,
    bias: Option<ArrayD<f32>>,
    map: Option<ArrayD<f32>>,
}

impl Probe {
    fn run(
        runtime: &Runtime,
        model: &Model,
        taps: &Taps,
        feature_map: Option<&FeatureMap>,
        input: &str,
        samples: &Array,
        options: &SessionOptions,
    ) -> Result<Self, TapsError> {
        let mut model = model.clone();
        model.graph.outputs.clear();
        add_flat_output(&mut model.graph, &taps.logits, LOGITS);
        add_flat_output(&mut model.graph, &taps.features, FEATURES);
        add_float_output(&mut model.graph, &taps.layer.weight, WEIGHT);
        if let Some(bias) = &taps.layer.bias {
            add_float_output(&mut model.graph, bias, BIAS);
        }
        if let Some(map) = feature_map {
            add_float_output(&mut model.graph, &map.value, FEATURE_MAP);
        }
        model.graph.prune();
        let mut session = runtime.session(&model, options)?;
        let names = session.outputs();
        let outputs = session.run(&[(input, samples)])?;
        let mut by_name: BTreeMap<String, ArrayD<f32>> =
            names.into_iter().zip(outputs).filter_map(|(n, a)| Some((n, a.into_f32()?))).collect();
        let mut take = |name: &str| by_name.remove(name);
        let rows = |a: Option<ArrayD<f32>>| a.and_then(|a| a.into_dimensionality().ok()).unwrap_or_default();
        Ok(Self {
            logits: rows(take(LOGITS)),
            features: rows(take(FEATURES)),
            weight: take(WEIGHT).unwrap_or_default(),
            bias: take(BIAS),
            map: take(FEATURE_MAP),
        })
    }

    /// W as C × d and b as C, factors included.
    fn layer(&self, taps: &Taps, path: &std::path::Path) -> Result<(Array2<f32>, Array1<f32>), TapsError> {
        let (found, classes) = (self.features.ncols(), self.logits.ncols());
        let shape = self.weight.shape().to_vec();
        let wrong = || TapsError::Shape {
            model: path.to_owned(),
            head: taps.layer.node.clone(),
            found,
            classes,
            expected: shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×"),
        };
        let flat = |rows, columns| self.weight.clone().into_shape_with_order((rows, columns)).map_err(|_| wrong());
        let weight = if taps.layer.transposed { flat(found, classes)?.t().to_owned() } else { flat(classes, found)? };
        let bias = match &self.bias {
            // A scalar or 1×C bias is broadcast, as Gemm and Add do.
            Some(b) if b.len() == 1 => Array1::from_elem(classes, b.iter().copied().next().unwrap_or(0.0)),
            Some(b) if b.len() == classes => b.iter().copied().collect(),
            Some(_) => return Err(wrong()),
            None => Array1::zeros(classes),
        };
        Ok((weight * taps.layer.alpha, bias * taps.layer.beta))
    }

    fn check_linear(
        &self,
        taps: &Taps,
        weight: &Array2<f32>,
        bias: &Array1<f32>,
        path: &std::path::Path,
        rounding: f32,
    ) -> Result<f32, TapsError> {
        let predicted = self.features.dot(&weight.t()) + bias;
        let mut worst = 0.0f32;
        // Small logits must not pass for right because they are small: the bound is a share of what the pictures change in
        // them, and of what rounding does to sums of such terms.
        let spread = tail::spread(&self.logits);
        let magnitude = self.features.mapv(f32::abs).dot(&weight.mapv(f32::abs).t()) + &bias.mapv(f32::abs);
        let allowed = TOLERANCE * spread + rounding * magnitude.iter().fold(0.0f32, |m, v| m.max(*v));
        for sample in 0..predicted.nrows() {
            let (row, logits) = (predicted.row(sample), self.logits.row(sample));
            for (value, name) in [(self.features.row(sample), &taps.features), (logits, &taps.logits)] {
                if value.iter().any(|v| !v.is_finite()) {
                    return Err(TapsError::NotFinite { model: path.to_owned(), value: name.clone(), sample });
                }
            }
            let error = row.iter().zip(logits).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            if error > allowed {
                let (head, features) = (taps.layer.node.clone(), taps.features.clone());
                return Err(TapsError::NotLinear { model: path.to_owned(), head, features, error, allowed, sample });
            }
            worst = worst.max(error);
        }
        Ok(worst)
    }

    /// Measures how the feature map becomes the features.
    fn pooling(&self, feature_map: &FeatureMap) -> Pooling {
        let d = self.features.ncols();
        let every = self.map.as_ref().and_then(|map| as_places(map, feature_map.layout));
        let Some(every) = every.filter(|p| p.shape()[1] == d) else { return Pooling::Indirect };
        let size = self.features.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        let agrees = |pooled: Array2<f32>| {
            pooled.dim() == self.features.dim()
                && pooled.iter().zip(&self.features).all(|(a, b)| (a - b).abs() <= TOLERANCE * size)
        };
        // Without the class tokens.
        let end = feature_map.first + feature_map.grid[0] * feature_map.grid[1];
        let places = every.slice_axis(Axis(2), Slice::from(feature_map.first..end.min(every.shape()[2])));
        if places.mean_axis(Axis(2)).is_some_and(&agrees) || every.mean_axis(Axis(2)).is_some_and(&agrees) {
            return Pooling::Mean;
        }
        if agrees(places.map_axis(Axis(2), |v| v.fold(f32::NEG_INFINITY, |m, &x| m.max(x)))) {
            return Pooling::Max;
        }
        let token = (0..every.shape()[2]).find(|&t| agrees(every.index_axis(Axis(2), t).to_owned()));
        token.map_or(Pooling::Indirect, Pooling::Token)
    }
}

/// The map as N × C × places.
fn as_places(map: &ArrayD<f32>, layout: Layout) -> Option<Array3<f32>> {
    let shape = map.shape().to_vec();
    let (order, channels, places): (&[usize], usize, usize) = match (layout, shape.as_slice()) {
        (Layout::ChannelsFirst, [_, c, h, w]) => (&[0, 1, 2, 3], *c, h * w),
        (Layout::ChannelsLast, [_, h, w, c]) => (&[0, 3, 1, 2], *c, h * w),
        (Layout::Tokens, [_, t, c]) => (&[0, 2, 1], *c, *t),
        _ => return None,
    };
    let permuted = map.view().permuted_axes(IxDyn(order)).as_standard_layout().into_owned();
    permuted.into_shape_with_order((shape[0], channels, places)).ok()
}

fn add_float_output(graph: &mut Graph, value: &str, output: &str) {
    graph.nodes.push(Node::new("Cast", &[value], &[output]).with_int("to", i64::from(ElementType::F32.to_onnx())));
    graph.add_output(output);
}

fn add_flat_output(graph: &mut Graph, value: &str, output: &str) {
    let float = graph.fresh(&format!("{output}.float"));
    graph.nodes.push(Node::new("Cast", &[value], &[&float]).with_int("to", i64::from(ElementType::F32.to_onnx())));
    graph.nodes.push(Node::new("Flatten", &[&float], &[output]).with_int("axis", 1));
    graph.add_output(output);
}

/// A session that gives chosen taps for batches of pictures of any length.
#[derive(Debug)]
pub struct TapSession {
    session: Session,
    input: String,
    batching: Batching,
}

impl TappedModel {
    /// Number of features d.
    pub fn features(&self) -> usize {
        self.weight.ncols()
    }

    /// Number of logits C.
    pub fn classes(&self) -> usize {
        self.weight.nrows()
    }

    /// Whether the layer that was read is none of the model's file: folded from several operators, or widened.
    pub fn is_rewritten(&self) -> bool {
        self.widened || self.trained_nodes > 0 || self.taps.layer.kind == HeadKind::Folded
    }

    /// The model with a folded layer in the place of the operators that it was folded from; as it is, where there are none.
    ///
    /// # Errors
    /// Where the graph would have a circle.
    pub fn with_one_layer(&self) -> Result<Model, TapsError> {
        let mut model = self.model.clone();
        let (graph, taps) = (&mut model.graph, &self.taps);
        if taps.layer.kind == HeadKind::Folded {
            graph.detach(&taps.logits);
            let (row, sums) = (graph.fresh("pellucid.row"), graph.fresh("pellucid.sums"));
            let shape = self.observed.get(&taps.logits).map(|o| o.shape.clone()).unwrap_or_default();
            let is_row = shape.len() == 2;
            let out = if is_row { taps.logits.clone() } else { sums };
            let bias = taps.layer.bias.clone().unwrap_or_default();
            graph.nodes.push(Node::new("Flatten", &[&taps.features], &[&row]).with_int("axis", 1));
            graph.nodes.push(Node::new("Gemm", &[&row, &taps.layer.weight, &bias], &[&out]).with_int("transB", 1));
            if !is_row {
                let target = graph.fresh("pellucid.shape");
                let dims: Vec<i64> = std::iter::once(0).chain(shape.iter().skip(1).map(|&d| d as i64)).collect();
                graph.initializers.insert(target.clone(), Tensor::i64(&target, &[dims.len()], &dims));
                graph.nodes.push(Node::new("Reshape", &[&out, &target], &[&taps.logits]));
            }
            graph
                .sort()
                .map_err(|e| TapsError::Structure { model: self.model.path().to_path_buf(), source: e.into() })?;
        }
        model.graph.prune();
        Ok(model)
    }

    /// Any layer as a map: with its places as traced; else, of four axes, as `layout` says. `None` for tokens whose grid is not
    /// known.
    pub fn layer_map(&self, layer: &str, layout: Layout) -> Option<VerifiedMap> {
        let shape = &self.observed.get(layer)?.shape;
        let traced = taps::map_of(&self.model.graph, &self.observed, layer).filter(|m| m.layout == layout);
        match traced {
            Some(m) => Some(VerifiedMap {
                value: m.value,
                shape: m.shape,
                layout: m.layout,
                grid: m.grid,
                first: m.first,
                pooling: Pooling::Mean,
            }),
            None => VerifiedMap::of_shape(layer, shape, layout),
        }
    }

    /// A session for logits, features and, where `with_map` asks for it and the model has one, the feature map, in one pass.
    /// `memory` bounds the activations, in bytes; `largest` the inputs of one run.
    ///
    /// # Errors
    /// [`RuntimeError`] where the runtime refuses the model.
    pub fn session(
        &self,
        runtime: &Runtime,
        options: &SessionOptions,
        memory: u64,
        largest: usize,
        with_map: bool,
    ) -> Result<TapSession, RuntimeError> {
        let mut model = self.model.clone();
        model.graph.outputs.clear();
        add_flat_output(&mut model.graph, &self.taps.logits, LOGITS);
        add_flat_output(&mut model.graph, &self.taps.features, FEATURES);
        if let Some(map) = self.map.as_ref().filter(|_| with_map) {
            add_float_output(&mut model.graph, &map.value, FEATURE_MAP);
        }
        self.compile(runtime, model, options, memory, largest)
    }

    /// A session for the feature map; `None` for a model without one.
    pub fn map_session(
        &self,
        runtime: &Runtime,
        options: &SessionOptions,
        memory: u64,
        largest: usize,
    ) -> Result<Option<TapSession>, RuntimeError> {
        let Some(map) = &self.map else { return Ok(None) };
        let mut model = self.model.clone();
        model.graph.outputs.clear();
        add_float_output(&mut model.graph, &map.value, FEATURE_MAP);
        self.compile(runtime, model, options, memory, largest).map(Some)
    }

    fn compile(
        &self,
        runtime: &Runtime,
        mut model: Model,
        options: &SessionOptions,
        memory: u64,
        largest: usize,
    ) -> Result<TapSession, RuntimeError> {
        model.graph.prune();
        let session = runtime.session(&model, options)?;
        let batching = Batching::fit(&self.observed, self.baked_batch, memory, largest);
        Ok(TapSession { session, input: self.input.clone(), batching })
    }
}

impl TapSession {
    /// How pictures are batched.
    pub fn batching(&self) -> Batching {
        self.batching
    }

    /// Runs `pictures` (N first), in batches as the model takes them; gives each output with N rows.
    pub fn run(&mut self, pictures: &ArrayD<f32>) -> Result<Vec<ArrayD<f32>>, RuntimeError> {
        let n = pictures.len_of(Axis(0));
        let mut parts: Vec<Vec<ArrayD<f32>>> = vec![Vec::new(); self.session.outputs().len()];
        let mut start = 0;
        while start < n {
            let end = start.saturating_add(self.batching.size.max(1)).min(n);
            let mut batch = pictures.slice_axis(Axis(0), Slice::from(start..end)).to_owned();
            if self.batching.fixed && end - start < self.batching.size {
                batch = padded(&batch, self.batching.size);
            }
            let outputs = match self.session.run(&[(&self.input, &Array::F32(batch))]) {
                // The batch was an estimate; half of it gives the same numbers.
                Err(RuntimeError::Memory { .. }) if !self.batching.fixed && end - start > 1 => {
                    self.batching.size = (end - start).div_ceil(2);
                    continue;
                }
                outputs => outputs?,
            };
            for (part, output) in parts.iter_mut().zip(outputs) {
                if let Some(rows) = output.into_f32() {
                    part.push(rows.slice_axis(Axis(0), Slice::from(0..end - start)).to_owned());
                }
            }
            start = end;
        }
        let join = |p: Vec<ArrayD<f32>>| {
            ndarray::concatenate(Axis(0), &p.iter().map(|a| a.view()).collect::<Vec<_>>()).unwrap_or_default()
        };
        Ok(parts.into_iter().map(join).collect())
    }
}

/// `batch` with its last row repeated up to `size` rows.
fn padded(batch: &ArrayD<f32>, size: usize) -> ArrayD<f32> {
    let last = batch.len_of(Axis(0)) - 1;
    let rows: Vec<usize> = (0..size).map(|i| i.min(last)).collect();
    batch.select(Axis(0), &rows)
}

impl VerifiedMap {
    /// A feature map of shape `shape` with its channels where `layout` says. `None` for a token sequence, whose grid only a trace
    /// knows, and for what is no map.
    pub fn of_shape(value: &str, shape: &[usize], layout: Layout) -> Option<Self> {
        let grid = match (layout, shape) {
            (Layout::ChannelsFirst, &[_, _, h, w]) | (Layout::ChannelsLast, &[_, h, w, _]) => [h, w],
            _ => return None,
        };
        let (value, shape) = (value.to_owned(), shape.to_vec());
        Some(Self { value, shape, layout, grid, first: 0, pooling: Pooling::Mean })
    }

    /// Numbers on this map (its output, or a gradient by it) as N × C × rows × columns, class tokens left out.
    pub fn places(&self, map: &ArrayD<f32>) -> Option<Array4<f32>> {
        let every = as_places(map, self.layout)?;
        let [h, w] = self.grid;
        if self.first + h * w > every.shape()[2] {
            return None;
        }
        let places = every.slice_axis(Axis(2), Slice::from(self.first..self.first + h * w));
        let shape = (every.shape()[0], every.shape()[1], h, w);
        places.as_standard_layout().into_owned().into_shape_with_order(shape).ok()
    }

    /// The heat map of neuron `j` on each sample of `map` (the output of a map session), N × h × w, where the neuron is a
    /// channel (else `None`: other layers stand between).
    pub fn neuron(&self, map: &ArrayD<f32>, j: usize) -> Option<Array3<f32>> {
        if self.pooling == Pooling::Indirect {
            return None;
        }
        let places = self.places(map)?;
        (j < places.shape()[1]).then(|| places.index_axis(Axis(1), j).to_owned())
    }

    /// How well a map of this grid can point: `None` where it has places enough.
    pub fn coarse(&self) -> Option<String> {
        let [h, w] = self.grid;
        (h < COARSE || w < COARSE)
            .then(|| format!("coarse: the feature map has {h}×{w} places, so it shows regions and no outlines"))
    }

    /// Whether neurons are channels of this map.
    pub fn is_direct(&self) -> bool {
        self.pooling != Pooling::Indirect
    }
}

/// The kind of head, in words.
pub fn describe_head(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Linear => "linear layer",
        HeadKind::PointwiseConv => "1×1 convolution on pooled features",
        HeadKind::PooledConv => "1×1 convolution before pooling; the pooled input was added as the features",
        HeadKind::Folded => "affine operators, folded into one linear layer by running them",
        HeadKind::Absent => "none: the logits are not linear in any features",
    }
}
