//! Verifies a classifier's taps by running them, and runs the model for logits, features and feature maps.

use crate::array::Array;
use crate::batching::Batching;
use crate::library::Runtime;
use crate::observe::{ObserveError, observe, within_budget};
use crate::session::{RuntimeError, Session, SessionOptions};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, IxDyn, Slice};
use pellucid_graph::observed::Observations;
use pellucid_graph::{ElementType, Graph, HeadKind, Model, Node, TapError, TapNames, Taps, Value, taps};
use pellucid_guard::Setting;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How far |W f + b − logits| and |pool(A) − f| may be from 0 ([methods A]), relative to the larger of 1 and the logits.
///
/// [methods A]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a
pub const TOLERANCE: f32 = 1e-3;

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
         expected at most {TOLERANCE:.0e} of the logits' size; name the right values with {set_features} and {logits}", set_features = Setting::Features, logits = Setting::Logits)]
    NotLinear {
        /// The model's path.
        model: PathBuf,
        /// The head.
        head: String,
        /// The features.
        features: String,
        /// Largest difference.
        error: f32,
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

/// Where channels stand in a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// N × C × H × W.
    ChannelsFirst,
    /// N × H × W × C.
    ChannelsLast,
    /// N × T × C: a token sequence.
    Tokens,
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
    let taps = taps::find(&mut model.graph, &observed, names)
        .map_err(|source| TapsError::Structure { model: path(), source })?;
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
    let probe = Probe::run(runtime, &model, &taps, &input, &samples, options)?;
    let (weight, bias) = probe.layer(&taps, &path())?;
    let linear_error = probe.check_linear(&taps, &weight, &bias, &path())?;
    let map = taps.feature_map.as_ref().map(|m| VerifiedMap {
        value: m.value.clone(),
        shape: m.shape.clone(),
        layout: layout_of(&m.shape, weight.ncols()),
        pooling: probe.pooling(weight.ncols()),
    });
    Ok(TappedModel { model, taps, weight, bias, map, input, input_shape, baked_batch, linear_error, observed })
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
    let inner = graph.fresh(&format!("{input}.cast"));
    let reads: Vec<usize> = graph.consumers().get(input).cloned().unwrap_or_default();
    reads.into_iter().for_each(|i| graph.nodes[i].rename_input(input, &inner));
    let shape = graph.inputs[at].shape().unwrap_or_else(|| vec![None; 4]);
    graph.inputs[at] = Value::tensor(input, ElementType::F32, &shape);
    graph.nodes.insert(0, Node::new("Cast", &[input], &[&inner]).with_int("to", i64::from(element.to_onnx())));
}

/// A fixed pattern with the mean and spread of a normalised picture.
fn noise(shape: &[usize]) -> ArrayD<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0 - 2.0
    })
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
        if let Some(map) = &taps.feature_map {
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
    ) -> Result<f32, TapsError> {
        let predicted = self.features.dot(&weight.t()) + bias;
        let mut worst = 0.0f32;
        for sample in 0..predicted.nrows() {
            let (row, logits) = (predicted.row(sample), self.logits.row(sample));
            for (value, name) in [(self.features.row(sample), &taps.features), (logits, &taps.logits)] {
                if value.iter().any(|v| !v.is_finite()) {
                    return Err(TapsError::NotFinite { model: path.to_owned(), value: name.clone(), sample });
                }
            }
            let size = logits.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            let error = row.iter().zip(logits).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            if error > TOLERANCE * size {
                let (head, features) = (taps.layer.node.clone(), taps.features.clone());
                return Err(TapsError::NotLinear { model: path.to_owned(), head, features, error, sample });
            }
            worst = worst.max(error);
        }
        Ok(worst)
    }

    /// Measures how the feature map becomes the features.
    fn pooling(&self, d: usize) -> Pooling {
        let Some(map) = &self.map else { return Pooling::Indirect };
        let Some(places) = as_places(map, layout_of(map.shape(), d)).filter(|p| p.shape()[1] == d) else {
            return Pooling::Indirect;
        };
        let size = self.features.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        let agrees = |pooled: Array2<f32>| {
            pooled.dim() == self.features.dim()
                && pooled.iter().zip(&self.features).all(|(a, b)| (a - b).abs() <= TOLERANCE * size)
        };
        if places.mean_axis(Axis(2)).is_some_and(&agrees) {
            return Pooling::Mean;
        }
        if agrees(places.map_axis(Axis(2), |v| v.fold(f32::NEG_INFINITY, |m, &x| m.max(x)))) {
            return Pooling::Max;
        }
        let token = (0..places.shape()[2]).find(|&t| agrees(places.index_axis(Axis(2), t).to_owned()));
        token.map_or(Pooling::Indirect, Pooling::Token)
    }
}

/// Where the d channels stand in a map of this shape; channels first where both could be.
fn layout_of(shape: &[usize], d: usize) -> Layout {
    match shape {
        [_, _, _] => Layout::Tokens,
        [_, c, _, last] if *c != d && *last == d => Layout::ChannelsLast,
        _ => Layout::ChannelsFirst,
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
    /// The heat map of neuron `j` on each sample of `map` (the output of a map session): N × h × w, and whether the
    /// neuron is a channel (else `None`: other layers stand between).
    ///
    /// Token sequences give their square grid, the class token left out; a sequence that is no square has none.
    pub fn neuron(&self, map: &ArrayD<f32>, j: usize) -> Option<Array3<f32>> {
        if self.pooling == Pooling::Indirect {
            return None;
        }
        let places = as_places(map, self.layout)?;
        if j >= places.shape()[1] {
            return None;
        }
        let channel = places.index_axis(Axis(1), j);
        let n = channel.nrows();
        let (skip, h, w) = match (self.layout, map.shape()) {
            (Layout::ChannelsFirst, [_, _, h, w]) | (Layout::ChannelsLast, [_, h, w, _]) => (0, *h, *w),
            (Layout::Tokens, [_, t, _]) => {
                let (skip, side) = [0usize, 1, 2, 5].into_iter().find_map(|skip| {
                    let side = t.checked_sub(skip)?.isqrt();
                    (side * side == t - skip).then_some((skip, side))
                })?;
                (skip, side, side)
            }
            _ => return None,
        };
        let grid = channel.slice_axis(Axis(1), Slice::from(skip..)).as_standard_layout().into_owned();
        grid.into_shape_with_order((n, h, w)).ok()
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
    }
}
