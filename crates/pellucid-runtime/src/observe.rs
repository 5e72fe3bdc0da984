//! Asks the runtime for the shape and type of every value (see [`pellucid_graph::observed`]).

use crate::array::Array;
use crate::library::Runtime;
use crate::session::{RuntimeError, SessionOptions};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::observed::{Observations, Observed, ask_for_shapes};
use pellucid_graph::{ElementType, Model};
use std::collections::BTreeMap;

/// Why shapes could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The runtime refused or failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A dimension other than the batch is free, and nothing says how large to make it.
    #[error("input '{input}' has free dimensions {dims}; say its size, for example --input-shape {input}={example}")]
    FreeDimensions {
        /// Name of the input.
        input: String,
        /// Its dimensions as declared.
        dims: String,
        /// A shape that could be given.
        example: String,
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
    let two = run(2).unwrap_or_default();
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
    let values: Vec<String> = asking.graph.values().map(str::to_owned).collect();
    values.iter().for_each(|v| asking.graph.add_output(v));
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
                    *first *= batch;
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
        let Some(array) = zeros(element, &shape) else {
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

fn free_dimensions(value: &pellucid_graph::Value) -> ObserveError {
    let names = value.dimension_names().unwrap_or_default();
    let guess = |(i, n): (usize, &String)| n.parse::<i64>().unwrap_or(if i == 0 { 1 } else { 224 }).to_string();
    let example: Vec<String> = names.iter().enumerate().map(guess).collect();
    ObserveError::FreeDimensions { input: value.name().to_owned(), dims: names.join("×"), example: example.join(",") }
}

fn zeros(element: ElementType, shape: &[usize]) -> Option<Array> {
    let shape = IxDyn(shape);
    Some(match element {
        ElementType::F32 => Array::F32(ArrayD::zeros(shape)),
        ElementType::I64 => Array::I64(ArrayD::zeros(shape)),
        ElementType::I32 => Array::I32(ArrayD::zeros(shape)),
        ElementType::Bool => Array::Bool(ArrayD::from_elem(shape, false)),
        ElementType::U8 => Array::U8(ArrayD::zeros(shape)),
        _ => return None,
    })
}
