//! The network of an ONNX file. Its sessions are compiled when they are first needed and held, one of a kind, so that asking
//! again costs a pass and no compilation; a lock keeps each to one caller at a time, as one pass uses every core.

use super::{Forward, Gradient, Network, NetworkError, Offer, Score, Taps};
use crate::layer::DecisionLayer;
use ndarray::{Array2, ArrayD, Axis, IxDyn};
use pellucid_graph::grad::Objective;
use pellucid_graph::{ElementType, Model, Tensor};
use pellucid_runtime::{
    Array, GradientOptions, GradientSession, Runtime, SessionOptions, TapSession, TappedModel, VerifiedMap,
};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The score's coefficients, as inputs of the differentiated graph.
const CLASSES: &str = "pellucid.score.classes";
const NEURONS: &str = "pellucid.score.neurons";

/// A batch of 16 is as fast as larger ones on CPUs and keeps memory low.
const LARGEST_BATCH: usize = 16;

/// An ONNX classifier with its sessions.
#[derive(Debug)]
pub struct OnnxNetwork {
    runtime: Runtime,
    tapped: TappedModel,
    layer: DecisionLayer,
    fingerprint: String,
    session: SessionOptions,
    /// Bytes that activations may take.
    memory: u64,
    vectors: Held<TapSession>,
    with_map: Held<TapSession>,
    gradient: Held<GradientSession>,
    randomized: Mutex<Option<(u64, Arc<OnnxNetwork>)>>,
}

/// Something that is made when it is first needed.
#[derive(Debug)]
struct Held<T>(Mutex<Option<T>>);

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Held<T> {
    /// Uses it, made before if need be.
    fn with<R, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
        act: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut held = locked(&self.0);
        let mut one = match held.take() {
            Some(one) => one,
            None => make()?,
        };
        // Back in its place whatever came of it: an error of one input says nothing about the session.
        let done = act(&mut one);
        *held = Some(one);
        done
    }
}

/// A caller that panicked took its session with it, and left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OnnxNetwork {
    /// The network of a model with verified taps. `fingerprint` is a hash of its files, `memory` bounds its activations.
    pub fn new(
        runtime: Runtime,
        tapped: TappedModel,
        fingerprint: String,
        session: SessionOptions,
        memory: u64,
    ) -> Self {
        let layer = DecisionLayer { weight: tapped.weight.clone(), bias: tapped.bias.clone() };
        let (vectors, with_map, gradient) = (Held::default(), Held::default(), Held::default());
        let randomized = Mutex::new(None);
        Self { runtime, tapped, layer, fingerprint, session, memory, vectors, with_map, gradient, randomized }
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The model with its taps.
    pub fn tapped(&self) -> &TappedModel {
        &self.tapped
    }

    /// Device and threads.
    pub fn session(&self) -> &SessionOptions {
        &self.session
    }

    /// Bytes that activations may take.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Shape of a tapped value without the batch.
    fn shape_of(&self, value: &str, width: usize) -> Vec<usize> {
        let observed = self.tapped.observed.get(value).and_then(|o| o.shape.get(1..)).map(<[usize]>::to_vec);
        observed.filter(|shape| shape.iter().product::<usize>() == width).unwrap_or_else(|| vec![width])
    }

    /// The gradient of any score by input and feature map.
    fn differentiated(&self) -> Result<GradientSession, NetworkError> {
        let taps = &self.tapped.taps;
        let coefficients = |name: &str, value: &str, width: usize| {
            Objective::value(value).dot(Objective::input(name, &self.shape_of(value, width)))
        };
        let objective = coefficients(CLASSES, &taps.logits, self.tapped.classes())
            + coefficients(NEURONS, &taps.features, self.tapped.features());
        let mut model = self.runtime.make_batch_dynamic(&self.tapped.model)?;
        model.graph.outputs.clear();
        model.graph.add_output(&taps.logits);
        let mut wrt = vec![self.tapped.input.as_str()];
        if let Some(map) = &self.tapped.map {
            model.graph.add_output(&map.value);
            wrt.push(&map.value);
        }
        if !model.graph.outputs.iter().any(|v| v.name() == taps.features) {
            model.graph.add_output(&taps.features);
        }
        model.graph.prune();
        let shapes = BTreeMap::from([(self.tapped.input.clone(), self.tapped.input_shape.clone())]);
        let options = GradientOptions { session: self.session.clone(), shapes, ..GradientOptions::default() };
        Ok(self.runtime.gradient(&model, &objective, &wrt, &options)?)
    }
}

impl Network for OnnxNetwork {
    fn name(&self) -> String {
        self.tapped.model.path().display().to_string()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn layer(&self) -> &DecisionLayer {
        &self.layer
    }

    fn input_shape(&self) -> Vec<usize> {
        self.tapped.input_shape.get(1..).unwrap_or_default().to_vec()
    }

    fn batch(&self) -> usize {
        pellucid_runtime::Batching::fit(&self.tapped.observed, self.tapped.baked_batch, self.memory, LARGEST_BATCH).size
    }

    fn feature_map(&self) -> Option<&VerifiedMap> {
        self.tapped.map.as_ref()
    }

    fn no_decision_layer(&self) -> Option<&str> {
        self.tapped.no_head.as_deref()
    }

    fn no_feature_map(&self) -> Option<&str> {
        self.tapped.no_map.as_deref()
    }

    fn offers(&self, what: Offer) -> bool {
        match what {
            Offer::FeatureMap => self.tapped.map.is_some(),
            Offer::Gradient | Offer::Randomized => true,
        }
    }

    fn forward(&self, inputs: &ArrayD<f32>, taps: Taps) -> Result<Forward, NetworkError> {
        let (runtime, tapped, memory) = (&self.runtime, &self.tapped, self.memory);
        let run = |session: &mut TapSession| session.run(inputs);
        let outputs = match taps {
            Taps::Vectors => {
                self.vectors.with(|| tapped.session(runtime, &self.session, memory, LARGEST_BATCH, false), run)?
            }
            Taps::WithMap => {
                self.with_map.with(|| tapped.session(runtime, &self.session, memory, LARGEST_BATCH, true), run)?
            }
        };
        let mut outputs = outputs.into_iter();
        let mut rows =
            || -> Array2<f32> { outputs.next().and_then(|a| a.into_dimensionality().ok()).unwrap_or_default() };
        let (logits, features) = (rows(), rows());
        Ok(Forward { logits, features, map: outputs.next() })
    }

    fn gradient(&self, inputs: &ArrayD<f32>, score: &Score) -> Result<Gradient, NetworkError> {
        let n = inputs.shape().first().copied().unwrap_or(0);
        let repeated = |values: &ndarray::Array1<f32>, value: &str| {
            let shape: Vec<usize> = std::iter::once(n).chain(self.shape_of(value, values.len())).collect();
            let all = (0..n).flat_map(|_| values.iter().copied()).collect();
            Array::F32(ArrayD::from_shape_vec(IxDyn(&shape), all).unwrap_or_default())
        };
        let taps = &self.tapped.taps;
        let (classes, neurons) = (repeated(&score.classes, &taps.logits), repeated(&score.neurons, &taps.features));
        let input = self.tapped.input.as_str();
        self.gradient.with(
            || self.differentiated(),
            |session| {
                let pictures = Array::F32(inputs.clone());
                let mut run = session.run(&[(input, &pictures), (CLASSES, &classes), (NEURONS, &neurons)])?;
                let floats = |from: Option<Array>| from.and_then(Array::into_f32);
                let map = self.tapped.map.as_ref().and_then(|map| {
                    let values = floats(run.outputs.remove(&map.value))?;
                    Some([values, floats(run.gradients.remove(&map.value))?])
                });
                let by_input = floats(run.gradients.remove(input)).unwrap_or_default();
                let scores = floats(Some(run.objective)).map(|s| s.iter().copied().collect()).unwrap_or_default();
                Ok(Gradient { scores, input: by_input, map })
            },
        )
    }

    fn randomized(&self, seed: u64) -> Result<Arc<dyn Network>, NetworkError> {
        let mut held = locked(&self.randomized);
        if let Some((_, network)) = held.as_ref().filter(|(of, _)| *of == seed) {
            return Ok(network.clone());
        }
        let mut tapped = self.tapped.clone();
        shuffle(&mut tapped.model, seed)?;
        let fingerprint = format!("{}-shuffled-{seed}", self.fingerprint);
        let network = Arc::new(Self::new(self.runtime.clone(), tapped, fingerprint, self.session.clone(), self.memory));
        *held = Some((seed, network.clone()));
        Ok(network)
    }

    fn as_onnx(&self) -> Option<&OnnxNetwork> {
        Some(self)
    }
}

/// Puts the numbers of every weight in random order, so that the network keeps its sizes and loses what it learnt.
fn shuffle(model: &mut Model, seed: u64) -> Result<(), NetworkError> {
    model.embed_weights()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, tensor) in &mut model.graph.initializers {
        let shape: Vec<usize> = tensor.dims().iter().map(|&d| d as usize).collect();
        if shape.len() < 2 {
            continue;
        }
        // Quantised weights, a byte each.
        if matches!(tensor.element(), ElementType::I8 | ElementType::U8)
            && let Some(bytes) = tensor.raw_bytes()
        {
            let mut bytes = bytes.to_vec();
            bytes.shuffle(&mut random);
            *tensor = Tensor::raw(name, tensor.element(), &shape, bytes.into());
            continue;
        }
        if !tensor.element().is_float() {
            continue;
        }
        if let Ok(mut values) = tensor.to_f32() {
            values.shuffle(&mut random);
            *tensor = Tensor::f32(name, &shape, &values);
        }
    }
    Ok(())
}

/// The rows of `batch` as single inputs.
pub(crate) fn row(batch: &ArrayD<f32>, at: usize) -> ArrayD<f32> {
    batch.slice_axis(Axis(0), ndarray::Slice::from(at..at + 1)).to_owned()
}
