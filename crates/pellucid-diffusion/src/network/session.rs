//! A compiled ONNX file as a function of latents, timestep and conditions: names, types and shapes of its inputs are read
//! from the file, and large batches are cut to what memory takes.

use super::Conditions;
use crate::error::DiffusionError;
use ndarray::{Array1, Array4, ArrayD, Axis, Ix4, IxDyn, RemoveAxis, Slice, concatenate};
use pellucid_graph::{ElementType, Model, Node, Value};
use pellucid_guard::printable;
use pellucid_runtime::{Array, Runtime, RuntimeError, Session, SessionOptions};
use std::path::PathBuf;

/// The inputs of a U-Net by their part.
#[derive(Debug, Clone)]
pub(crate) struct DenoiserInputs {
    /// The latent's input.
    pub sample: String,
    /// The timestep's input, its type and whether it has one number per sample (else one, or a scalar).
    pub timestep: String,
    element: ElementType,
    rank: usize,
    per_sample: bool,
    /// Every other input.
    pub others: Vec<String>,
}

/// Half-precision inputs and outputs become float32 through a Cast each, so that callers know one type.
pub(crate) fn with_float_interface(model: &mut Model) {
    let float = i64::from(ElementType::F32.to_onnx());
    let is_half = |v: &Value| matches!(v.element(), Some(ElementType::F16 | ElementType::BF16));
    for at in 0..model.graph.inputs.len() {
        let input = model.graph.inputs[at].clone();
        if !is_half(&input) {
            continue;
        }
        let (name, narrow) = (input.name().to_owned(), model.graph.fresh(&format!("{}.half", input.name())));
        let to = input.element().map_or(float, |e| i64::from(e.to_onnx()));
        model.graph.nodes.iter_mut().for_each(|n| n.rename_input(&name, &narrow));
        model.graph.nodes.insert(0, Node::new("Cast", &[&name], &[&narrow]).with_int("to", to));
        model.graph.inputs[at] = Value::tensor(&name, ElementType::F32, &input.shape().unwrap_or_default());
    }
    for at in 0..model.graph.outputs.len() {
        let output = model.graph.outputs[at].clone();
        if is_half(&output) {
            let wide = model.graph.fresh(&format!("{}.float", output.name()));
            model.graph.nodes.push(Node::new("Cast", &[output.name()], &[&wide]).with_int("to", float));
            model.graph.outputs[at] = Value::untyped(&wide);
        }
    }
}

impl DenoiserInputs {
    /// Reads the parts from the names that exporters give: `sample`, `timestep`, and the rest.
    pub fn find(model: &Model) -> Result<Self, DiffusionError> {
        let inputs = &model.graph.inputs;
        let named = |names: &[&str]| inputs.iter().find(|v| names.contains(&v.name()));
        let refused = |reason: String| DiffusionError::Shape { model: model.path().to_path_buf(), reason };
        let all = || inputs.iter().map(Value::name).collect::<Vec<_>>().join(", ");
        let sample = named(&["sample", "x", "latent", "latents"])
            .or_else(|| inputs.iter().find(|v| v.shape().is_some_and(|s| s.len() == 4)))
            .ok_or_else(|| refused(format!("no input is the latent; expected 'sample', found {}", all())))?;
        let timestep = named(&["timestep", "timesteps", "t", "time"])
            .ok_or_else(|| refused(format!("no input is the timestep; expected 'timestep', found {}", all())))?;
        let shape = timestep.shape().unwrap_or_default();
        let parts = [sample.name(), timestep.name()];
        Ok(Self {
            sample: sample.name().to_owned(),
            timestep: timestep.name().to_owned(),
            element: timestep.element().unwrap_or(ElementType::I64),
            rank: shape.len(),
            per_sample: shape.first().is_some_and(Option::is_none),
            others: inputs.iter().map(|v| v.name().to_owned()).filter(|n| !parts.contains(&n.as_str())).collect(),
        })
    }

    /// The timestep's array for `batch` samples.
    pub fn time(&self, t: usize, batch: usize) -> Array {
        let shape: Vec<usize> = match (self.rank, self.per_sample) {
            (0, _) => Vec::new(),
            (_, true) => vec![batch],
            (_, false) => vec![1],
        };
        match self.element {
            ElementType::I64 => Array::I64(ArrayD::from_elem(IxDyn(&shape), t as i64)),
            ElementType::I32 => Array::I32(ArrayD::from_elem(IxDyn(&shape), t as i32)),
            _ => Array::F32(ArrayD::from_elem(IxDyn(&shape), t as f32)),
        }
    }
}

/// The compiled U-Net.
#[derive(Debug)]
pub(super) struct Denoiser {
    session: Session,
    model: PathBuf,
    /// Its inputs.
    pub inputs: DenoiserInputs,
    /// Most samples in one run.
    pub batch: usize,
}

/// Arrays side by side along `axis`.
pub(crate) fn stacked<D: RemoveAxis>(
    axis: Axis,
    parts: &[ndarray::Array<f32, D>],
) -> Result<ndarray::Array<f32, D>, ndarray::ShapeError> {
    concatenate(axis, &parts.iter().map(|p| p.view()).collect::<Vec<_>>())
}

/// Rows of one array under each other: `counts[i]` copies of part `i`.
fn tiled(parts: &[(&Array, usize)]) -> Option<Array> {
    let rows = |a: &ArrayD<f32>, n: usize| -> Vec<ArrayD<f32>> { std::iter::repeat_n(a.clone(), n).collect() };
    match parts.first()?.0 {
        Array::F32(_) => {
            let all: Vec<ArrayD<f32>> =
                parts.iter().filter_map(|(a, n)| Some(rows(a.as_f32()?, *n))).flatten().collect();
            stacked(Axis(0), &all).ok().map(Array::F32)
        }
        Array::I64(_) => {
            let all: Vec<i64> = parts
                .iter()
                .flat_map(|(a, n)| {
                    a.as_i64().into_iter().flat_map(move |a| a.iter().copied().cycle().take(a.len() * n))
                })
                .collect();
            Some(Array::I64(Array1::from(all).into_dyn()))
        }
        _ => None,
    }
}

impl Denoiser {
    /// Compiles `model` for batches of at most `batch` samples.
    pub fn new(
        runtime: &Runtime,
        model: &Model,
        options: &SessionOptions,
        batch: usize,
    ) -> Result<Self, DiffusionError> {
        let inputs = DenoiserInputs::find(model)?;
        Ok(Self {
            session: runtime.session(model, options)?,
            model: model.path().to_path_buf(),
            inputs,
            batch: batch.max(1),
        })
    }

    /// Everything the model gives for the rows of `x` (N × Ch × H × W) at `t`. `parts` says how many rows, from the first,
    /// have which conditions; their counts sum to N. N may not exceed what one run takes.
    pub fn outputs(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        parts: &[(&Conditions, usize)],
    ) -> Result<Vec<Array>, RuntimeError> {
        self.outputs_with(x, t, parts, Vec::new())
    }

    /// The same for a graph with further float inputs.
    pub fn outputs_with(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        parts: &[(&Conditions, usize)],
        extra: Vec<(String, ArrayD<f32>)>,
    ) -> Result<Vec<Array>, RuntimeError> {
        let extra: Vec<(String, Array)> = extra.into_iter().map(|(n, a)| (n, Array::F32(a))).collect();
        let rows = x.len_of(Axis(0));
        let (latent, time) = (Array::F32(x.clone().into_dyn()), self.inputs.time(t, rows));
        let mut conditions: Vec<(&str, Array)> = Vec::new();
        for (at, (name, _)) in parts.first().map(|p| p.0.as_slice()).unwrap_or_default().iter().enumerate() {
            let columns: Vec<(&Array, usize)> = parts.iter().filter_map(|(c, n)| Some((&c.get(at)?.1, *n))).collect();
            conditions.extend(tiled(&columns).map(|a| (name.as_str(), a)));
        }
        let mut fed: Vec<(&str, &Array)> = vec![(&self.inputs.sample, &latent), (&self.inputs.timestep, &time)];
        fed.extend(conditions.iter().map(|(n, a)| (*n, a)).chain(extra.iter().map(|(n, a)| (n.as_str(), a))));
        self.session.run(&fed)
    }

    /// The raw prediction for each row of `x` under one condition.
    pub fn predict(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &Conditions,
    ) -> Result<Array4<f32>, DiffusionError> {
        let rows = x.len_of(Axis(0));
        let mut parts = Vec::new();
        for from in (0..rows).step_by(self.batch) {
            let to = (from + self.batch).min(rows);
            let chunk = x.slice_axis(Axis(0), Slice::from(from..to)).to_owned();
            parts.push(self.first_output(&chunk, t, &[(conditions, to - from)])?);
        }
        stacked(Axis(0), &parts).map_err(|e| self.odd(format!("its outputs do not fit together: {e}")))
    }

    /// The raw predictions for each row of `x` under two conditions, in shared runs.
    pub fn predict_both(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        first: &Conditions,
        second: &Conditions,
    ) -> Result<(Array4<f32>, Array4<f32>), DiffusionError> {
        let rows = x.len_of(Axis(0));
        let half = (self.batch / 2).max(1);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for from in (0..rows).step_by(half) {
            let count = (from + half).min(rows) - from;
            let chunk = x.slice_axis(Axis(0), Slice::from(from..from + count));
            let both = concatenate(Axis(0), &[chunk.view(), chunk.view()]).map_err(|e| self.odd(e.to_string()))?;
            let output = self.first_output(&both, t, &[(first, count), (second, count)])?;
            left.push(output.slice_axis(Axis(0), Slice::from(..count)).to_owned());
            right.push(output.slice_axis(Axis(0), Slice::from(count..)).to_owned());
        }
        match (stacked(Axis(0), &left), stacked(Axis(0), &right)) {
            (Ok(left), Ok(right)) => Ok((left, right)),
            _ => Err(self.odd("its outputs do not fit together".to_owned())),
        }
    }

    /// The prediction: the first output, in the latent's shape.
    fn first_output(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        parts: &[(&Conditions, usize)],
    ) -> Result<Array4<f32>, DiffusionError> {
        let output = self.outputs(x, t, parts)?.into_iter().next().and_then(Array::into_f32);
        let shape = output.as_ref().map(|o| o.shape().to_vec()).unwrap_or_default();
        let output = output.and_then(|o| o.into_dimensionality::<Ix4>().ok());
        let (rows, channels, height, width) = x.dim();
        let fits = |o: &Array4<f32>| {
            let (n, c, h, w) = o.dim();
            n == rows && c >= channels && (h, w) == (height, width)
        };
        let taken = || format!("{channels} × {height} × {width}");
        match output {
            // A model that also predicts variances gives them behind the noise.
            Some(output) if fits(&output) => Ok(output.slice_axis(Axis(1), Slice::from(..channels)).to_owned()),
            Some(output) if output.len_of(Axis(1)) < channels => Err(self.odd(format!(
                "its input '{}' is {} and its first output has {} channels; expected as many as go in: a U-Net that is also \
                 told a mask or a picture (inpainting, upscaling, editing) is not supported; use one for text alone",
                printable::name(&self.inputs.sample),
                taken(),
                output.len_of(Axis(1))
            ))),
            _ => Err(self.odd(format!(
                "its first output is {shape:?} for {rows} latents of {}; expected a float latent of that size for each",
                taken()
            ))),
        }
    }

    /// Names of what [`Denoiser::outputs`] gives.
    pub fn output_names(&self) -> Vec<String> {
        self.session.outputs()
    }

    fn odd(&self, reason: String) -> DiffusionError {
        DiffusionError::Shape { model: self.model.clone(), reason }
    }
}
