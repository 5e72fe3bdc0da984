//! Frees a batch size that an export baked in, and accepts the result only if running it proves that samples stay apart.

use super::GradientsError;
use crate::array::Array;
use crate::library::Runtime;
use crate::observe::within_budget;
use crate::session::SessionOptions;
use ndarray::{ArrayD, Axis, IxDyn, Slice, concatenate};
use pellucid_graph::{ElementType, Model, grad};

/// How far an output of the batch may lie from that of a single run, relative to the largest number.
const TOLERANCE: f32 = 1e-5;

impl Runtime {
    /// `model` with a free batch dimension. One whose batch is free already is given back as it is. A fixed one is
    /// rewritten, and refused unless a batch of two different samples equals two single runs of the original.
    pub fn make_batch_dynamic(&self, model: &Model) -> Result<Model, GradientsError> {
        let Some(batch) = grad::baked_batch(model) else { return Ok(model.clone()) };
        let refused = |reason: String| GradientsError::Batch { model: model.path().to_path_buf(), batch, reason };
        let failed = |source| GradientsError::Gradient { model: model.path().to_path_buf(), source };
        let prepared = grad::prepare(model, &[]).map_err(failed)?;
        let wide = grad::with_dynamic_batch(&prepared);
        let (one, two) = (samples(model, 1).map_err(refused)?, samples(model, 2).map_err(refused)?);
        let mut single = self.session(model, &SessionOptions::default())?;
        let mut several = self.session(&wide, &SessionOptions::default()).map_err(|e| refused(e.to_string()))?;
        let (first, second) = (single.run(&fed(&one))?, single.run(&fed(&two))?);
        let both: Vec<(String, Array)> =
            one.iter().zip(&two).map(|((n, a), (_, b))| (n.clone(), joined(a, b))).collect();
        let found = several.run(&fed(&both)).map_err(|e| refused(e.to_string()))?;
        for (i, name) in single.outputs().iter().enumerate() {
            let expected = joined(&first[i], &second[i]);
            if let Some(reason) = difference(&found[i], &expected) {
                return Err(refused(format!("output '{name}' of a batch {reason}")));
            }
        }
        Ok(wide)
    }
}

fn fed(inputs: &[(String, Array)]) -> Vec<(&str, &Array)> {
    inputs.iter().map(|(n, a)| (n.as_str(), a)).collect()
}

/// Inputs at the baked batch that differ from one seed to the next.
fn samples(model: &Model, seed: u32) -> Result<Vec<(String, Array)>, String> {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let mut number = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut inputs = Vec::new();
    for value in &model.graph.inputs {
        let shape: Option<Vec<usize>> =
            value.shape().unwrap_or_default().iter().map(|d| usize::try_from((*d)?).ok()).collect();
        let name = value.name().to_owned();
        let Some(shape) = shape else { return Err(format!("input '{name}' has other free dimensions")) };
        let element = value.element().unwrap_or(ElementType::F32);
        within_budget(model, &name, &shape, element).map_err(|e| e.to_string())?;
        let array = match value.element() {
            Some(ElementType::F32) => Array::F32(ArrayD::from_shape_simple_fn(IxDyn(&shape), &mut number)),
            Some(ElementType::I64) => Array::I64(ArrayD::from_elem(IxDyn(&shape), i64::from(seed))),
            Some(ElementType::I32) => Array::I32(ArrayD::from_elem(IxDyn(&shape), seed as i32)),
            Some(ElementType::Bool) => Array::Bool(ArrayD::from_elem(IxDyn(&shape), true)),
            other => return Err(format!("input '{name}' has type {other:?}, which cannot be made up")),
        };
        inputs.push((name, array));
    }
    Ok(inputs)
}

/// Two arrays one behind the other along the batch; scalars have no batch and stay.
fn joined(a: &Array, b: &Array) -> Array {
    fn stack<T: Clone>(a: &ArrayD<T>, b: &ArrayD<T>) -> ArrayD<T> {
        if a.ndim() == 0 {
            return a.clone();
        }
        concatenate(Axis(0), &[a.view(), b.view()]).unwrap_or_else(|_| a.clone())
    }
    match (a, b) {
        (Array::F32(a), Array::F32(b)) => Array::F32(stack(a, b)),
        (Array::I64(a), Array::I64(b)) => Array::I64(stack(a, b)),
        (Array::I32(a), Array::I32(b)) => Array::I32(stack(a, b)),
        (Array::Bool(a), Array::Bool(b)) => Array::Bool(stack(a, b)),
        (Array::U8(a), Array::U8(b)) => Array::U8(stack(a, b)),
        (a, _) => a.clone(),
    }
}

fn difference(found: &Array, expected: &Array) -> Option<String> {
    if found.shape() != expected.shape() {
        return Some(format!("has shape {:?}, expected {:?}", found.shape(), expected.shape()));
    }
    let (Array::F32(f), Array::F32(e)) = (found, expected) else {
        return (found != expected).then(|| "differs from that of single runs".to_owned());
    };
    let scale = e.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    if f.ndim() == 0 {
        return (f != e).then(|| "differs from that of single runs".to_owned());
    }
    let rows = f.len_of(Axis(0));
    let worst = (0..rows)
        .map(|row| {
            let of = |a: &ArrayD<f32>| a.slice_axis(Axis(0), Slice::from(row..row + 1)).to_owned();
            (of(f) - of(e)).iter().fold(0.0, |m: f32, v| if v.is_nan() { f32::NAN } else { m.max(v.abs()) }) / scale
        })
        .enumerate()
        .find(|(_, off)| off.is_nan() || *off > TOLERANCE);
    worst.map(|(row, off)| format!("differs in row {row} from that of a single run by {off:.1e} of its largest number"))
}
