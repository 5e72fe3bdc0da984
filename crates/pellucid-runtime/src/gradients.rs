//! Gradients of a model by running it: shapes are asked for, the graph is differentiated, and one session gives the
//! values and the gradients together.

mod make_batch_dynamic;
mod weight_layout_cache;

use crate::array::Array;
use crate::library::Runtime;
use crate::observe::{ObserveError, observe};
use crate::session::{RuntimeError, Session, SessionOptions};
use pellucid_graph::grad::{self, Checkpointing, GradientError, GradientModel, Objective, ObjectiveInput};
use pellucid_graph::observed::{Observations, Observed};
use pellucid_graph::{ElementType, Model, Node, Tensor};
use pellucid_guard::budget::product;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Why a gradient was not compiled or not computed.
#[derive(Debug, thiserror::Error)]
pub enum GradientsError {
    /// The graph cannot be differentiated.
    #[error("{model}: {source}")]
    Gradient {
        /// The model's path.
        model: PathBuf,
        /// What is wrong.
        source: GradientError,
    },
    /// A fixed batch could not be freed.
    #[error(
        "{model}: its batch size is fixed at {batch} and could not be freed: {reason}; export it again with a dynamic \
         batch dimension, or run it at batch {batch}"
    )]
    Batch {
        /// The model's path.
        model: PathBuf,
        /// The batch size.
        batch: i64,
        /// Why.
        reason: String,
    },
    /// Shapes could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The runtime refused or failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A gradient holds NaN or infinity.
    #[error(
        "{model}: the gradient with respect to '{wrt}' holds {count} values that are NaN or infinite; the first bad \
         gradient, going back from the objective, is that of '{value}', which node {node} computes{}",
        if *forward { "; the value itself is not finite either" } else { "" }
    )]
    NotFinite {
        /// The model's path.
        model: PathBuf,
        /// The gradient asked for.
        wrt: String,
        /// How many of its elements.
        count: usize,
        /// The value whose gradient is the first that is not finite.
        value: String,
        /// The node that computes the value.
        node: String,
        /// Whether the value is not finite either: the fault lies in the forward pass.
        forward: bool,
    },
}

/// How a gradient is compiled.
#[derive(Debug, Clone, Default)]
pub struct GradientOptions {
    /// Device, threads and profile.
    pub session: SessionOptions,
    /// Full shapes (batch 1) of inputs whose dimensions other than the batch are free.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Whether the model's own outputs are left out of the result.
    pub gradients_only: bool,
    /// What is computed again on the way back to save memory.
    pub checkpointing: Checkpointing,
    /// A folder for weights in the order that the way back reads them in. Where a model's weights lie in files beside it,
    /// they are made once and kept there by their content; without a folder, whenever the gradient is compiled.
    pub cache: Option<PathBuf>,
}

/// A differentiated model before it is compiled: for writing to a file, or for running elsewhere.
#[derive(Debug, Clone)]
pub struct Differentiated {
    /// The model with its gradients.
    pub gradient: GradientModel,
    /// Shapes and types of the prepared model's values.
    pub observed: Observations,
}

/// A compiled gradient.
#[derive(Debug)]
pub struct GradientSession {
    session: Session,
    gradient: GradientModel,
    runtime: Runtime,
    options: SessionOptions,
    warnings: Vec<String>,
}

/// What one run gives.
#[derive(Debug, Clone)]
pub struct GradientRun {
    /// The model's outputs, by name (none if they were left out).
    pub outputs: BTreeMap<String, Array>,
    /// The objective, one number per sample as a rule.
    pub objective: Array,
    /// The gradient with respect to each value asked for, by the value's name, in the value's shape.
    pub gradients: BTreeMap<String, Array>,
}

impl Runtime {
    /// Differentiates `objective` with respect to the values named in `wrt`. Fails where [`grad::differentiate`] does,
    /// or where shapes cannot be observed.
    pub fn differentiate(
        &self,
        model: &Model,
        objective: &Objective,
        wrt: &[&str],
        options: &GradientOptions,
    ) -> Result<Differentiated, GradientsError> {
        let failed = |source| GradientsError::Gradient { model: model.path().to_path_buf(), source };
        let keep: Vec<&str> = objective.values().into_iter().chain(wrt.iter().copied()).collect();
        let mut prepared = grad::prepare(model, &keep).map_err(failed)?;
        // The runtime refuses operators it does not know without saying what for; whether they matter is known here.
        let observed = observe(self, &prepared, &options.shapes).map_err(|e| {
            match grad::foreign_operator(&prepared.graph, &objective.values(), wrt) {
                Some(refusal) => failed(refusal),
                None => e.into(),
            }
        })?;
        let known = self.known_constants(&prepared, &observed, &options.shapes)?;
        grad::fold_known(&mut prepared.graph, known);
        let mut gradient =
            grad::differentiate_within(&prepared, &observed, objective, wrt, options.checkpointing).map_err(failed)?;
        if options.gradients_only {
            let own: Vec<String> = model.graph.outputs.iter().map(|v| v.name().to_owned()).collect();
            gradient.model.graph.outputs.retain(|v| !own.iter().any(|o| o == v.name()));
        }
        gradient.model.graph.prune();
        Ok(Differentiated { gradient, observed })
    }

    /// Differentiates and compiles. See [`Runtime::differentiate`].
    pub fn gradient(
        &self,
        model: &Model,
        objective: &Objective,
        wrt: &[&str],
        options: &GradientOptions,
    ) -> Result<GradientSession, GradientsError> {
        // Who pays for memory with time wants it back as soon as a value is freed.
        let arena = options.session.arena && options.checkpointing == Checkpointing::Nothing;
        let session = SessionOptions { arena, ..options.session.clone() };
        self.compile(self.differentiate(model, objective, wrt, options)?, &session, options.cache.as_deref())
    }

    /// Compiles what [`Runtime::differentiate`] gave; `cache` is [`GradientOptions::cache`].
    pub fn compile(
        &self,
        differentiated: Differentiated,
        options: &SessionOptions,
        cache: Option<&Path>,
    ) -> Result<GradientSession, GradientsError> {
        let gradient = differentiated.gradient;
        tracing::debug!(nodes = gradient.model.graph.nodes.len(), "the gradient's graph is made");
        let (session, warnings) = match cache {
            Some(cache) => {
                let settled = weight_layout_cache::settle(self, &gradient.model, cache)?;
                (self.session_with(&settled.model, options, settled.given)?, settled.warnings)
            }
            None => (self.session(&gradient.model, options)?, Vec::new()),
        };
        Ok(GradientSession { session, gradient, runtime: self.clone(), options: options.clone(), warnings })
    }

    /// The values that depend on shapes only and are the same at every batch, as constants.
    pub(crate) fn known_constants(
        &self,
        model: &Model,
        observed: &Observations,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Result<Vec<Tensor>, GradientsError> {
        let names = grad::shape_computations(&model.graph, observed);
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let options = SessionOptions { threads: 1, optimise: false, ..SessionOptions::default() };
        let run = |batch: usize| -> Result<Option<Vec<Array>>, GradientsError> {
            let Some(inputs) = crate::observe::sample_inputs(model, shapes, batch)? else { return Ok(None) };
            let asking = shapes_alone(model, observed, &names, batch);
            let read = |name: &str| asking.graph.inputs.iter().any(|v| v.name() == name);
            let fed: Vec<(&str, &Array)> =
                inputs.iter().filter(|(n, _)| read(n)).map(|(n, a)| (n.as_str(), a)).collect();
            Ok(Some(self.session(&asking, &options)?.run(&fed)?))
        };
        let one = run(1)?.unwrap_or_default();
        // A model with a baked batch fails at two: then every value is what it is at one.
        let two = run(2).ok().flatten();
        let mut known = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let same = two.as_ref().is_none_or(|t| t.get(i) == one.get(i));
            let (Some(array), Some(seen)) = (one.get(i).filter(|_| same), observed.get(name)) else { continue };
            known.extend(constant(name, array, seen.element));
        }
        Ok(known)
    }
}

/// The part of `model` that computes `names`, with every shape that was observed at `batch` samples in the place of the value it is
/// asked of: as a rule nothing is left of the network itself.
fn shapes_alone(model: &Model, observed: &Observations, names: &[String], batch: usize) -> Model {
    let at_batch = |o: &Observed| match batch {
        1 => Some(o.shape.clone()),
        _ => o.shape_at_two.clone(),
    };
    let answered = |node: &Node| {
        let shape = node.input(0).and_then(|v| observed.get(v)).and_then(at_batch)?;
        let numbers: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
        let rank = numbers.len() as i64;
        let counted = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
        match node.op() {
            _ if !node.domain().is_empty() => None,
            "Shape" => {
                let (from, to) = (counted(node.int("start").unwrap_or(0)), counted(node.int("end").unwrap_or(rank)));
                let part = numbers.get(from..to).unwrap_or_default();
                Some(Tensor::i64(node.output(), &[part.len()], part))
            }
            "Size" => {
                let size = product(shape.iter().map(|&d| d as u64)).and_then(|n| i64::try_from(n).ok())?;
                Some(Tensor::i64(node.output(), &[], &[size]))
            }
            _ => None,
        }
    };
    let mut asking = model.clone();
    let graph = &mut asking.graph;
    grad::fold_known(graph, model.graph.nodes.iter().filter_map(answered).collect());
    graph.outputs.clear();
    names.iter().for_each(|n| graph.add_output(n));
    graph.prune();
    let read: BTreeSet<String> = graph.nodes.iter().flat_map(|n| n.reads()).map(str::to_owned).collect();
    graph.inputs.retain(|v| read.contains(v.name()));
    asking
}

/// An observed value as a constant of its own element type.
fn constant(name: &str, array: &Array, element: ElementType) -> Option<Tensor> {
    let shape = array.shape().to_vec();
    match (array, element) {
        (Array::I64(a), ElementType::I64) => Some(Tensor::i64(name, &shape, &a.iter().copied().collect::<Vec<_>>())),
        (Array::I64(a), ElementType::I32) => {
            let bytes: Vec<u8> = a.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect();
            Some(Tensor::raw(name, element, &shape, bytes.into()))
        }
        (Array::Bool(a), ElementType::Bool) => {
            let bytes: Vec<u8> = a.iter().map(|&v| u8::from(v)).collect();
            Some(Tensor::raw(name, element, &shape, bytes.into()))
        }
        (Array::F32(a), ElementType::F32) => Some(Tensor::f32(name, &shape, &a.iter().copied().collect::<Vec<_>>())),
        _ => None,
    }
}

impl GradientSession {
    /// What went wrong with the cache and was put right, one a line with its file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The differentiated model.
    pub fn model(&self) -> &GradientModel {
        &self.gradient
    }

    /// The inputs that the objective added.
    pub fn objective_inputs(&self) -> &[ObjectiveInput] {
        &self.gradient.inputs
    }

    /// Runs the model and its gradient. `inputs` are the model's and the objective's.
    pub fn run(&mut self, inputs: &[(&str, &Array)]) -> Result<GradientRun, GradientsError> {
        let names = self.session.outputs();
        let mut values: BTreeMap<String, Array> = names.into_iter().zip(self.session.run(inputs)?).collect();
        let mut gradients = BTreeMap::new();
        for (value, output) in &self.gradient.gradients {
            if let Some(array) = values.remove(output) {
                gradients.insert(value.clone(), array);
            }
        }
        let objective = values.remove(&self.gradient.objective);
        let objective = objective.unwrap_or_else(|| Array::F32(ndarray::ArrayD::zeros(ndarray::IxDyn(&[0]))));
        Ok(GradientRun { outputs: values, objective, gradients })
    }

    /// Runs as [`GradientSession::run`] does and refuses a gradient with NaN or infinity, naming where it began (by a
    /// second run that returns every intermediate gradient).
    pub fn run_checked(&mut self, inputs: &[(&str, &Array)]) -> Result<GradientRun, GradientsError> {
        let run = self.run(inputs)?;
        let bad = run.gradients.iter().map(|(v, a)| (v, not_finite(a))).find(|(_, n)| *n > 0);
        match bad {
            None => Ok(run),
            Some((wrt, count)) => Err(self.trace(wrt.clone(), count, inputs)?),
        }
    }

    /// Finds the first gradient, going back, that is not finite.
    fn trace(&self, wrt: String, count: usize, inputs: &[(&str, &Array)]) -> Result<GradientsError, GradientsError> {
        let model = self.gradient.watched();
        let mut session = self.runtime.session(&model, &SessionOptions { optimise: false, ..self.options.clone() })?;
        let names = session.outputs();
        let values: BTreeMap<String, Array> = names.into_iter().zip(session.run(inputs)?).collect();
        let first = self.gradient.cotangents.iter().find(|(_, c)| values.get(c).is_some_and(|a| not_finite(a) > 0));
        let value = first.map_or_else(|| wrt.clone(), |(v, _)| v.clone());
        let producer = model.graph.producer(&value).map(pellucid_graph::Node::describe);
        let node = producer.unwrap_or_else(|| "(none: it is an input)".to_owned());
        let forward = self.is_not_finite(&value, inputs)?;
        Ok(GradientsError::NotFinite { model: model.path().to_path_buf(), wrt, count, value, node, forward })
    }

    fn is_not_finite(&self, value: &str, inputs: &[(&str, &Array)]) -> Result<bool, GradientsError> {
        if let Some((_, array)) = inputs.iter().find(|(n, _)| *n == value) {
            return Ok(not_finite(array) > 0);
        }
        let mut model = self.gradient.model.clone();
        model.graph.outputs.clear();
        model.graph.add_output(value);
        let mut session = self.runtime.session(&model, &SessionOptions { optimise: false, ..self.options.clone() })?;
        Ok(session.run(inputs)?.iter().any(|a| not_finite(a) > 0))
    }
}

fn not_finite(array: &Array) -> usize {
    array.as_f32().map_or(0, |a| a.iter().filter(|v| !v.is_finite()).count())
}
