//! Asks the runtime for the shape and type of every value (see [`pellucid_graph::observed`]).

use crate::array::Array;
use crate::library::Runtime;
use crate::session::{RuntimeError, SessionOptions};
use pellucid_graph::observed::{Observations, Observed, ask_for_shapes};
use pellucid_graph::{ElementType, Model, Value};
use pellucid_guard::Setting;
use pellucid_guard::{Limit, OverBudget};
use std::collections::{BTreeMap, BTreeSet};

/// Why shapes could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The runtime refused or failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A dimension other than the batch is free, and nothing says how large to make it.
    #[error("input '{input}' has free dimensions {dims}; say its size, for example {input_shape} {input}={example}", input_shape = Setting::InputShape)]
    FreeDimensions {
        /// Name of the input.
        input: String,
        /// Its dimensions as declared.
        dims: String,
        /// A shape that could be given.
        example: String,
    },
    /// An input is larger than the model may take.
    #[error("input '{input}' of shape {shape} takes too much memory: {source}")]
    Large {
        /// Name of the input.
        input: String,
        /// Its shape.
        shape: String,
        /// What it needs and what is allowed.
        source: OverBudget,
    },
    /// An input has a type that cannot be made up.
    #[error("input '{input}' has type {element:?}; expected float, integer or bool")]
    InputType {
        /// Name of the input.
        input: String,
        /// Its type.
        element: ElementType,
    },
}

/// Runs `model` on zeros at batch 1 and, where the batch is free, at batch 2, and reports every value's shape and type.
///
/// `shapes` gives the full shape (batch 1) of inputs whose other dimensions are free.
///
/// # Errors
/// [`ObserveError`]; among others where inputs or values would take more than [`Model::budget`] allows.
pub fn observe(
    runtime: &Runtime,
    model: &Model,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Observations, ObserveError> {
    let options = SessionOptions { threads: 1, optimise: false, ..SessionOptions::default() };
    let types = element_types(runtime, model, &options)?;
    let mut asking = model.clone();
    let questions = ask_for_shapes(&mut asking.graph);
    let mut session = runtime.session(&asking, &options)?;
    let mut run = |batch: usize| -> Result<Option<Vec<Vec<usize>>>, ObserveError> {
        let Some(inputs) = sample_inputs(model, shapes, batch)? else { return Ok(None) };
        let fed: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let outputs = session.run(&fed)?;
        let dims = |a: Array| a.as_i64().map(|a| a.iter().map(|&d| d as usize).collect()).unwrap_or_default();
        Ok(Some(outputs.into_iter().map(dims).collect()))
    };
    let one = run(1)?.unwrap_or_default();
    // A model that takes only its exported batch fails here; that is an answer, not an error.
    let two = match run(2) {
        // But for what it cannot know: whether it would, with more memory.
        Err(error @ (ObserveError::Large { .. } | ObserveError::Runtime(RuntimeError::Memory { .. }))) => {
            return Err(error);
        }
        answer => answer.unwrap_or_default(),
    };
    let mut observations = Observations::new();
    for (i, (value, _)) in questions.shapes.into_iter().enumerate() {
        let Some(&element) = types.get(&value) else { continue };
        let Some(shape) = one.get(i).cloned() else { continue };
        let shape_at_two = two.as_ref().and_then(|t| t.get(i).cloned());
        observations.insert(value, Observed { element, shape, shape_at_two });
    }
    Ok(observations)
}

/// The element type of every tensor value, as the runtime infers it.
fn element_types(
    runtime: &Runtime,
    model: &Model,
    options: &SessionOptions,
) -> Result<BTreeMap<String, ElementType>, RuntimeError> {
    let mut asking = model.clone();
    let outputs: BTreeSet<&str> = model.graph.outputs.iter().map(Value::name).collect();
    let others = model.graph.values().filter(|v| !outputs.contains(v)).map(Value::untyped);
    asking.graph.outputs.extend(others);
    let session = runtime.session(&asking, options)?;
    let mut types: BTreeMap<String, ElementType> =
        session.outputs().into_iter().zip(session.output_types()).filter_map(|(n, t)| Some((n, t?))).collect();
    types.extend(model.graph.inputs.iter().filter_map(|v| Some((v.name().to_owned(), v.element()?))));
    Ok(types)
}

/// Zeros for every input at `batch`; `None` when the batch is baked in at another size.
pub(crate) fn sample_inputs(
    model: &Model,
    shapes: &BTreeMap<String, Vec<usize>>,
    batch: usize,
) -> Result<Option<Vec<(String, Array)>>, ObserveError> {
    let mut inputs = Vec::new();
    for value in &model.graph.inputs {
        let declared = value.shape().unwrap_or_default();
        let shape = match shapes.get(value.name()) {
            Some(given) => {
                let mut shape = given.clone();
                if let Some(first) = shape.first_mut().filter(|_| declared.first().copied().flatten().is_none()) {
                    *first = first.saturating_mul(batch);
                }
                shape
            }
            None => match concrete(&declared, batch) {
                Some(shape) => shape,
                None => return Err(free_dimensions(value)),
            },
        };
        if batch > 1 && declared.first().copied().flatten().is_some() && declared.len() > 1 {
            return Ok(None);
        }
        let element = value.element().unwrap_or(ElementType::F32);
        within_budget(model, value.name(), &shape, element)?;
        let Some(array) = Array::zeros(element, &shape) else {
            return Err(ObserveError::InputType { input: value.name().to_owned(), element });
        };
        inputs.push((value.name().to_owned(), array));
    }
    Ok(Some(inputs))
}

/// The declared shape with its first dimension set to the batch; `None` if another dimension is free.
fn concrete(declared: &[Option<i64>], batch: usize) -> Option<Vec<usize>> {
    let dim = |(i, d): (usize, &Option<i64>)| match d {
        Some(n) => usize::try_from(*n).ok(),
        None if i == 0 => Some(batch),
        None => None,
    };
    declared.iter().enumerate().map(dim).collect()
}

/// Refuses an input that alone takes more than the model may.
pub(crate) fn within_budget(
    model: &Model,
    input: &str,
    shape: &[usize],
    element: ElementType,
) -> Result<(), ObserveError> {
    let admitted = model.budget().admit_array(Limit::Memory, shape, element.size().unwrap_or(8));
    let shape = || shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let large = |source| ObserveError::Large { input: input.to_owned(), shape: shape(), source };
    admitted.map(drop).map_err(large)
}

fn free_dimensions(value: &Value) -> ObserveError {
    let names = value.dimension_names().unwrap_or_default();
    let guess = |(i, n): (usize, &String)| n.parse::<i64>().unwrap_or(if i == 0 { 1 } else { 224 }).to_string();
    let example: Vec<String> = names.iter().enumerate().map(guess).collect();
    ObserveError::FreeDimensions { input: value.name().to_owned(), dims: names.join("×"), example: example.join(",") }
}
