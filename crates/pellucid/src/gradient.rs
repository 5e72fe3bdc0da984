//! Gradients of any ONNX model from files: arrays in, arrays out, and comparisons with arrays saved elsewhere.

mod npz;

pub use npz::{NpzError, read_arrays, read_arrays_within, write_arrays};

use crate::{Error, OpenOptions, Warning, classifier};
use pellucid_graph::grad::{self, Checkpointing, Index, Objective};
use pellucid_graph::{Model, widen_to_float32};
use pellucid_guard::Setting;
use pellucid_runtime::{
    Array, Differentiated, GradientOptions, GradientSession, GradientsError, Runtime, SessionOptions, observe,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The input that holds one index per sample, where an objective asks for that.
const INDEX: &str = "pellucid.index";

/// What to differentiate.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GradientSettings {
    /// `VALUE[:index…]`: a value, and an index into each axis after the batch (`logits:281`, `map:12:3:3`); the rest is
    /// summed. `logits:281,7` gives one index per sample. An empty text takes the model's first output.
    pub of: String,
    /// Values to differentiate with respect to; every float input if empty.
    pub wrt: Vec<String>,
    /// What is computed again on the way back to save memory. [`Checkpointing::Within`] bounds all samples together here.
    pub checkpointing: Checkpointing,
    /// See [`GradientOptions::cache`].
    pub cache: Option<PathBuf>,
}

pellucid_guard::builders!(GradientSettings {
    with_of: of => String,
    with_wrt: wrt => Vec<String>,
    with_checkpointing: checkpointing => Checkpointing,
    with_cache: cache => Option<PathBuf>,
});

/// Values and gradients of one run.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// The model's outputs, by name.
    pub outputs: BTreeMap<String, Array>,
    /// The objective, one number per sample.
    pub objective: Array,
    /// The gradient of the objective's sum with respect to each value.
    pub gradients: BTreeMap<String, Array>,
    /// What was differentiated, in words.
    pub of: String,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

impl Gradients {
    /// Everything under one name each: outputs under their own, `objective`, and `gradient.<value>`.
    pub fn arrays(&self) -> BTreeMap<String, Array> {
        let mut all = self.outputs.clone();
        all.insert("objective".to_owned(), self.objective.clone());
        all.extend(self.gradients.iter().map(|(n, a)| (format!("gradient.{n}"), a.clone())));
        all
    }
}

/// A differentiated model with its inputs: to be run, to be written, or both.
#[derive(Debug)]
pub struct Differentiation {
    runtime: Runtime,
    session: SessionOptions,
    inputs: BTreeMap<String, Array>,
    differentiated: Differentiated,
    /// The model's inputs.
    names: Vec<String>,
    of: String,
    cache: Option<PathBuf>,
    warnings: Vec<Warning>,
}

impl Differentiation {
    /// Differentiates the model at `path` for `inputs` (by name; one array may go without where the model has one input,
    /// under the empty name).
    ///
    /// # Errors
    /// If a name is unknown, an index is out of range, or a node between has no rule, which is then named; and if recomputing
    /// cannot keep the memory bound.
    pub fn new(
        path: impl AsRef<Path>,
        inputs: &BTreeMap<String, Array>,
        settings: &GradientSettings,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let (model, widened) = in_float32(path.as_ref(), options)?;
        let runtime = Runtime::load(options.library.as_deref())?;
        let names: Vec<String> = model.graph.inputs.iter().map(|v| v.name().to_owned()).collect();
        let mut inputs = named(&names, inputs)?;
        let model = fitted(&runtime, model, &inputs)?;
        let fixed = grad::baked_batch(&model).is_some();
        let (objective, indices) = objective(&model, &settings.of)?;
        let wrt = wanted(&model, &settings.wrt);
        let wrt: Vec<&str> = wrt.iter().map(String::as_str).collect();
        let compile = GradientOptions {
            shapes: single_shapes(&inputs, fixed),
            checkpointing: per_sample(settings.checkpointing, &inputs),
            ..GradientOptions::default()
        };
        let differentiated = runtime.differentiate(&model, &objective, &wrt, &compile)?;
        if let Some(indices) = indices {
            let array = ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(&[indices.len()]), indices);
            inputs.extend(array.ok().map(|a| (INDEX.to_owned(), Array::I64(a))));
        }
        let of = if settings.of.is_empty() { objective.values().join(", ") } else { settings.of.clone() };
        let arena = options.session.arena && settings.checkpointing == Checkpointing::Nothing;
        let session = SessionOptions { arena, ..options.session.clone() };
        let straight = differentiated.gradient.straight_through;
        let straight = (straight > 0).then_some(Warning::StraightThrough { nodes: straight });
        let warnings = widened.then_some(Warning::RunInFloat32).into_iter().chain(straight).collect();
        Ok(Self { runtime, session, inputs, differentiated, names, of, cache: settings.cache.clone(), warnings })
    }

    /// Writes the differentiated model to `out`: plain ONNX that returns the model's outputs, the objective and the
    /// gradients (named as [`Gradients::arrays`] names them). Weights that lie in other files stay there, so such a model
    /// must be written into their folder.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, out: impl AsRef<Path>) -> Result<(), Error> {
        Ok(self.differentiated.gradient.model.write(out)?)
    }

    /// Runs it on its inputs. A gradient that holds NaN is an error that names where it began.
    ///
    /// # Errors
    /// Where ONNX Runtime refuses the graph or fails, and where a gradient is not finite.
    pub fn run(self) -> Result<Gradients, Error> {
        let inputs = self.inputs.clone();
        self.compile()?.run(&inputs)
    }

    /// Compiles it, to be run again and again.
    ///
    /// # Errors
    /// Where ONNX Runtime refuses the graph.
    pub fn compile(self) -> Result<CompiledGradient, Error> {
        let session = self.runtime.compile(self.differentiated, &self.session, self.cache.as_deref())?;
        let own = self.inputs.into_iter().filter(|(name, _)| name == INDEX).collect();
        let names = self.names;
        Ok(CompiledGradient { session: Mutex::new(session), of: self.of, own, names, warnings: self.warnings })
    }
}

/// A compiled gradient. Threads may share it; it runs for one at a time.
#[derive(Debug)]
pub struct CompiledGradient {
    session: Mutex<GradientSession>,
    of: String,
    /// What the objective reads besides the model's inputs.
    own: BTreeMap<String, Array>,
    /// The model's inputs.
    names: Vec<String>,
    /// What the user should know of the model.
    warnings: Vec<Warning>,
}

impl CompiledGradient {
    /// Values and gradients at `inputs`, of any batch size where the objective has no index per sample.
    ///
    /// # Errors
    /// Where a name is unknown or missing, ONNX Runtime fails, or a gradient is not finite.
    pub fn run(&self, inputs: &BTreeMap<String, Array>) -> Result<Gradients, Error> {
        let inputs = named(&self.names, inputs)?;
        let given = inputs.iter().filter(|(name, _)| *name != INDEX).chain(&self.own);
        let fed: Vec<(&str, &Array)> = given.map(|(n, a)| (n.as_str(), a)).collect();
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let run = session.run_checked(&fed)?;
        let cache = session.warnings().iter().map(|detail| Warning::Cache { detail: detail.clone() });
        let warnings = self.warnings.iter().cloned().chain(cache).collect();
        let of = self.of.clone();
        Ok(Gradients { outputs: run.outputs, objective: run.objective, gradients: run.gradients, of, warnings })
    }
}

/// Differentiates and runs in one go: see [`Differentiation`].
///
/// # Errors
/// As [`Differentiation::new`] and [`Differentiation::run`].
pub fn gradient(
    path: impl AsRef<Path>,
    inputs: &BTreeMap<String, Array>,
    settings: &GradientSettings,
    options: &OpenOptions,
) -> Result<Gradients, Error> {
    Differentiation::new(path, inputs, settings, options)?.run()
}

/// The bound on memory is for all samples together, that of the compiled graph for one.
fn per_sample(checkpointing: Checkpointing, inputs: &BTreeMap<String, Array>) -> Checkpointing {
    let batch = inputs.values().filter_map(|a| a.shape().first().copied()).max().unwrap_or(1).max(1);
    match checkpointing {
        Checkpointing::Within(bytes) => Checkpointing::Within(bytes / batch as u64),
        other => other,
    }
}

/// The model at `path`, in float32 if it is in half precision, and whether it was.
fn in_float32(path: &Path, options: &OpenOptions) -> Result<(Model, bool), Error> {
    let mut model = classifier::read(path, &options.budget)?;
    let widened = widen_to_float32(&mut model)
        .map_err(|source| pellucid_runtime::TapsError::Widen { model: path.to_path_buf(), source })?;
    Ok((model, widened))
}

/// The model, its batch freed if it is fixed. Where it cannot be freed and the inputs have the size that it is fixed at, it is
/// left as it is.
fn fitted(runtime: &Runtime, model: Model, inputs: &BTreeMap<String, Array>) -> Result<Model, Error> {
    let baked = grad::baked_batch(&model).and_then(|b| usize::try_from(b).ok());
    let given = inputs.values().find_map(|a| a.shape().first().copied());
    match (baked, given) {
        (Some(1), Some(1)) | (None, _) | (_, None) => Ok(model),
        (Some(baked), Some(given)) => match runtime.make_batch_dynamic(&model) {
            Err(GradientsError::Batch { .. }) if baked == given => Ok(model),
            freed => Ok(freed?),
        },
    }
}

/// Inputs by the model's names; a lone nameless array goes to a lone input.
fn named(names: &[String], inputs: &BTreeMap<String, Array>) -> Result<BTreeMap<String, Array>, Error> {
    let Some(nameless) = inputs.get("") else { return Ok(inputs.clone()) };
    match names {
        [only] if inputs.len() == 1 => Ok(BTreeMap::from([(only.clone(), nameless.clone())])),
        _ => Err(Error::Unknown {
            kind: "input",
            name: "an array without a name (write NAME=FILE.npy)".to_owned(),
            known: names.join(", "),
        }),
    }
}

/// The shapes of one sample, for models whose dimensions other than the batch are free; of the whole batch, where it is `fixed`.
fn single_shapes(inputs: &BTreeMap<String, Array>, fixed: bool) -> BTreeMap<String, Vec<usize>> {
    let single = |a: &Array| {
        let mut shape = a.shape().to_vec();
        if let Some(first) = shape.first_mut().filter(|_| !fixed) {
            *first = 1;
        }
        shape
    };
    inputs.iter().map(|(n, a)| (n.clone(), single(a))).collect()
}

fn wanted(model: &Model, wrt: &[String]) -> Vec<String> {
    if !wrt.is_empty() {
        return wrt.to_vec();
    }
    let floats = model.graph.inputs.iter().filter(|v| v.element().is_some_and(|e| e.is_float()));
    floats.map(|v| v.name().to_owned()).collect()
}

/// Reads `VALUE[:index…]`. Names may hold colons: the longest text that is a value's name wins.
fn objective(model: &Model, text: &str) -> Result<(Objective, Option<Vec<i64>>), Error> {
    let first = || model.graph.outputs.first().map(|v| v.name().to_owned()).unwrap_or_default();
    if text.is_empty() {
        return Ok((Objective::value(&first()).sum(), None));
    }
    let mut name = text;
    let mut indices: Vec<&str> = Vec::new();
    while !model.graph.has(name) {
        let Some((head, index)) = name.rsplit_once(':') else { break };
        indices.insert(0, index);
        name = head;
    }
    let failed = |source| GradientsError::Gradient { model: model.path().to_path_buf(), source };
    model.graph.check(name).map_err(|e| failed(e.into()))?;
    let bad = |index: &str| Error::Unknown {
        kind: "index",
        name: index.to_owned(),
        known: format!("whole numbers, as in {0} {name}:3, or one per sample, as in {0} {name}:3,5", Setting::Of),
    };
    let mut objective = Objective::value(name);
    let mut per_sample = None;
    for index in indices {
        let numbers: Vec<i64> =
            index.split(',').map(|i| i.trim().parse()).collect::<Result<_, _>>().map_err(|_| bad(index))?;
        objective = match numbers.as_slice() {
            [one] => objective.select(1, *one),
            _ if per_sample.is_none() => {
                per_sample = Some(numbers);
                objective.select(1, Index::input(INDEX))
            }
            _ => return Err(bad(index)),
        };
    }
    Ok((objective.sum(), per_sample))
}

/// What gradients of a model's outputs can reach.
#[derive(Debug, Clone, Serialize)]
pub struct GradientReach {
    /// The outputs that were walked back from.
    pub from: Vec<String>,
    /// Reached values with their shapes at batch 1, in the order of computation.
    pub values: Vec<(String, Vec<usize>)>,
    /// Nodes without a rule on the way, with the reason.
    pub refused: Vec<(String, String)>,
}

/// Says which values the gradient of the model's outputs can reach. `shapes` gives the full shape of inputs whose
/// dimensions other than the batch are free.
///
/// # Errors
/// Where the file cannot be read, ONNX Runtime is not there or refuses it, or its shapes cannot be observed.
pub fn gradient_reach(
    path: impl AsRef<Path>,
    shapes: &BTreeMap<String, Vec<usize>>,
    options: &OpenOptions,
) -> Result<GradientReach, Error> {
    let (model, _) = in_float32(path.as_ref(), options)?;
    let runtime = Runtime::load(options.library.as_deref())?;
    let failed = |source| GradientsError::Gradient { model: model.path().to_path_buf(), source };
    let prepared = grad::prepare(&model, &[]).map_err(failed)?;
    let observed = observe(&runtime, &prepared, shapes)?;
    let from: Vec<String> = prepared.graph.outputs.iter().map(|v| v.name().to_owned()).collect();
    let names: Vec<&str> = from.iter().map(String::as_str).collect();
    let reach = grad::reach(&prepared.graph, &observed, &names);
    let shaped = |v: String| {
        let shape = observed.get(&v).map(|o| o.shape.clone()).unwrap_or_default();
        (v, shape)
    };
    // What preparation added has no meaning to the user.
    let own = |v: &String| model.graph.has(v);
    let values = reach.values.into_iter().filter(own).map(shaped).collect();
    Ok(GradientReach { from, values, refused: reach.refused })
}

/// One compared tensor.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// The value, or `gradient.<value>`.
    pub name: String,
    /// ‖found − reference‖₂ / ‖reference‖₂.
    pub relative: f64,
    /// Largest absolute difference.
    pub largest: f64,
    /// Whether both are within the tolerances.
    pub close: bool,
}

/// How far values may lie apart.
#[derive(Debug, Clone, Copy)]
pub struct Tolerances {
    /// Bound on ‖found − reference‖₂ / ‖reference‖₂.
    pub relative: f64,
    /// A largest difference up to this passes whatever the relative error.
    pub absolute: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { relative: 1e-4, absolute: 1e-6 }
    }
}

/// Compares the model's values, and the gradients of `of`, with `reference`: arrays named as inputs are fed, those named
/// as values are compared, and those named `gradient.<value>` are compared with gradients. A name that the model does not
/// have is an error.
///
/// # Errors
/// Also where the file cannot be read, or ONNX Runtime is not there, refuses it or fails.
pub fn compare(
    path: impl AsRef<Path>,
    reference: &BTreeMap<String, Array>,
    of: &str,
    tolerances: Tolerances,
    options: &OpenOptions,
) -> Result<Vec<Compared>, Error> {
    let path = path.as_ref();
    let (model, _) = in_float32(path, options)?;
    let runtime = Runtime::load(options.library.as_deref())?;
    let is_input = |n: &str| model.graph.inputs.iter().any(|v| v.name() == n);
    let inputs: BTreeMap<String, Array> =
        reference.iter().filter(|(n, _)| is_input(n)).map(|(n, a)| (n.clone(), a.clone())).collect();
    let gradients: Vec<String> =
        reference.keys().filter_map(|n| n.strip_prefix("gradient.")).map(str::to_owned).collect();
    let values: Vec<&String> =
        reference.keys().filter(|n| !is_input(n) && !n.starts_with("gradient.") && *n != "objective").collect();
    let mut tapped = model.clone();
    for value in &values {
        let failed = |source| GradientsError::Gradient { model: path.to_path_buf(), source };
        model.graph.check(value).map_err(|e| failed(e.into()))?;
        tapped.graph.add_output(value);
    }
    let fed: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
    let mut session = runtime.session(&tapped, &options.session)?;
    let mut found: BTreeMap<String, Array> = session.outputs().into_iter().zip(session.run(&fed)?).collect();
    if !gradients.is_empty() {
        let settings = GradientSettings { of: of.to_owned(), wrt: gradients, ..GradientSettings::default() };
        let run = gradient(path, &inputs, &settings, options)?;
        found.extend(run.gradients.into_iter().map(|(n, a)| (format!("gradient.{n}"), a)));
        found.insert("objective".to_owned(), run.objective);
    }
    let pairs = reference.iter().filter_map(|(n, r)| Some((n, r, found.get(n)?)));
    Ok(pairs.filter(|(n, ..)| !is_input(n)).map(|(n, r, f)| compared(n, f, r, tolerances)).collect())
}

fn compared(name: &str, found: &Array, reference: &Array, tolerances: Tolerances) -> Compared {
    let numbers = |a: &Array| -> Vec<f64> {
        match a {
            Array::F32(a) => a.iter().map(|&v| f64::from(v)).collect(),
            Array::I64(a) => a.iter().map(|&v| v as f64).collect(),
            Array::I32(a) => a.iter().map(|&v| f64::from(v)).collect(),
            Array::Bool(a) => a.iter().map(|&v| f64::from(u8::from(v))).collect(),
            Array::U8(a) => a.iter().map(|&v| f64::from(v)).collect(),
        }
    };
    if found.shape() != reference.shape() {
        return Compared { name: name.to_owned(), relative: f64::INFINITY, largest: f64::INFINITY, close: false };
    }
    let (found, reference) = (numbers(found), numbers(reference));
    let differences = || found.iter().zip(&reference).map(|(a, b)| (a - b).abs());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let off = norm(&mut differences());
    let relative = if off == 0.0 { 0.0 } else { off / norm(&mut reference.iter().copied()) };
    // NaN must not pass, which a plain maximum would let it.
    let largest = differences().fold(0.0, |m: f64, d| if d.is_nan() || d > m { d } else { m });
    let close = relative <= tolerances.relative || largest <= tolerances.absolute;
    Compared { name: name.to_owned(), relative, largest, close }
}
