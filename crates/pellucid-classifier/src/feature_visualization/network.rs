//! The classifier and the guide's image encoder behind one input, with the objective's gradient: one run a step.

use super::settings::{IllusionError, ObjectiveKind, VisualizationSettings};
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};
use pellucid_graph::grad::{self, GradientError, Index, Objective, Unary};
use pellucid_graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid_runtime::{
    Array, GradientOptions, GradientSession, Layout as Channels, Runtime, TappedModel, VerifiedMap,
};
use pellucid_vision::preprocess::{ChannelOrder, Layout, Preprocessing};
use std::collections::BTreeMap;

/// The joint model's input: pictures N × 3 × H × H, red, green, blue, between 0 and 1.
const PICTURE: &str = "picture";
/// Prefixes of the two models' names.
const STUDIED: &str = "studied.";
const GUIDE: &str = "guide.";
/// What the plain channel objective adds of the class logit, as published.
const CHANNEL_WEIGHT: f32 = 0.1;

/// The classifier under study.
#[derive(Debug, Clone, Copy)]
pub struct Studied<'a> {
    /// The classifier.
    pub model: &'a TappedModel,
    /// How pictures become its input.
    pub preprocessing: &'a Preprocessing,
    /// Classes; 2 for a head of one logit.
    pub classes: usize,
    /// The layer whose channels are pictured; the features where `None`.
    pub layer: Option<&'a str>,
}

/// The part of a guide that a step needs.
#[derive(Debug, Clone)]
pub struct Guidance {
    /// The image encoder.
    pub encoder: Model,
    /// Its picture input.
    pub input: String,
    /// The value that holds the embedding, N × E.
    pub embedding: String,
    /// E.
    pub width: usize,
    /// How pictures become its input.
    pub preprocessing: Preprocessing,
    /// s₀: the mean similarity over pictures and classes.
    pub mean_similarity: f32,
    /// 1/κ: the similarities' standard deviation.
    pub spread: f32,
}

/// A compiled objective.
#[derive(Debug)]
pub struct Network {
    session: GradientSession,
    layer: Layer,
    logits: String,
    embedding: Option<(String, usize)>,
    /// Logits of the model: 1 for a head that is a threshold.
    outputs: usize,
    classes: usize,
    class_weight: f32,
    side: usize,
    largest_batch: usize,
    kind: ObjectiveKind,
}

/// The value whose channels are pictured.
#[derive(Debug, Clone)]
struct Layer {
    /// As the user knows it.
    name: String,
    /// In the joint model.
    value: String,
    /// The channels' axis.
    axis: usize,
    channels: usize,
    is_features: bool,
    /// Where the channels respond, in the classifier's own names; `None` where layers stand between.
    map: Option<VerifiedMap>,
    /// What the map's Relu or Clip reads, in the classifier's own names. A channel at rest has no gradient; its input
    /// has one.
    before: Option<(String, usize)>,
}

/// What the networks say of a batch of pictures.
#[derive(Debug, Clone)]
pub struct Response {
    /// a: the channel's mean, per picture.
    pub activation: Vec<f32>,
    /// z: the class logit; NaN without a class.
    pub logit: Vec<f32>,
    /// s: the cosine of picture and class by the guide; NaN without one.
    pub similarity: Vec<f32>,
    /// The objective's gradient, N × 3 × H × H.
    pub gradient: ArrayD<f32>,
    /// All logits, N × C.
    pub logits: Array2<f32>,
    /// The map behind the layer's channels.
    map: Option<ArrayD<f32>>,
}

/// A batch's targets as the network reads them.
#[derive(Debug, Clone)]
pub(crate) struct Aims {
    pub channels: Vec<usize>,
    pub classes: Vec<Option<usize>>,
    /// Text embeddings of the classes, N × E; empty without a guide.
    pub texts: Array2<f32>,
}

impl Network {
    /// Joins, differentiates and compiles. Fails where a layer is no feature map, where an operator has no gradient, or
    /// where the objective needs a guide and there is none.
    pub fn compile(
        runtime: &Runtime,
        studied: &Studied,
        guidance: Option<&Guidance>,
        settings: &VisualizationSettings,
    ) -> Result<Network, IllusionError> {
        settings.checked()?;
        let kind = settings.objective;
        let guidance = match (kind, guidance) {
            (ObjectiveKind::Guided, None) => return Err(IllusionError::NoGuide("guided")),
            (ObjectiveKind::Reference, None) => return Err(IllusionError::NoGuide("reference")),
            (_, guidance) => guidance,
        };
        let input = (studied.preprocessing.width as usize).max(studied.preprocessing.height as usize);
        let side = settings.side.unwrap_or(input).next_multiple_of(2);
        let layer = layer(studied)?;
        let joint = join(runtime, studied, guidance, &layer, side)?;
        let logits = format!("{STUDIED}{}", studied.model.taps.logits);
        let objective = objective(kind, &layer, &logits, guidance, settings);
        let shapes = BTreeMap::from([(PICTURE.to_owned(), vec![1, 3, side, side])]);
        let options = GradientOptions { session: settings.session.clone(), shapes, ..GradientOptions::default() };
        let differentiated = runtime.differentiate(&joint, &objective, &[PICTURE], &options)?;
        let bytes: usize = differentiated.observed.values().map(|o| o.len() * o.element.size().unwrap_or(8)).sum();
        let session = runtime.gradient(&joint, &objective, &[PICTURE], &options)?;
        // The forward pass's activations stay until the way back has read them, and gradients come on top.
        let fits = settings.memory / (2 * bytes.max(1)) as u64;
        Ok(Network {
            session,
            layer,
            logits,
            embedding: guidance.map(|g| (format!("{GUIDE}{}", g.embedding), g.width)),
            outputs: studied.model.classes(),
            classes: studied.classes,
            class_weight: if kind == ObjectiveKind::Channel { CHANNEL_WEIGHT } else { settings.class_weight },
            side,
            largest_batch: usize::try_from(fits).unwrap_or(usize::MAX).clamp(1, settings.largest_batch.max(1)),
            kind,
        })
    }

    /// H.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Pictures of one run, as memory allows.
    pub fn largest_batch(&self) -> usize {
        self.largest_batch
    }

    /// Channels of the pictured layer.
    pub fn channels(&self) -> usize {
        self.layer.channels
    }

    /// Size of the guide's embeddings, if there is a guide.
    pub fn embedding_width(&self) -> Option<usize> {
        self.embedding.as_ref().map(|e| e.1)
    }

    /// Refuses a channel or a class that does not exist.
    pub(crate) fn check(&self, channel: usize, class: Option<usize>) -> Result<(), IllusionError> {
        if channel >= self.layer.channels {
            let what = if self.layer.is_features { "neuron" } else { "channel" };
            let layer = self.layer.name.clone();
            return Err(IllusionError::Channel { what, channel, layer, channels: self.layer.channels });
        }
        match class {
            Some(class) if class >= self.classes => Err(IllusionError::Class { class, classes: self.classes }),
            _ => Ok(()),
        }
    }

    /// Runs both networks on `pictures` (N × 3 × H × H), and the gradient.
    pub(crate) fn run(&mut self, pictures: ArrayD<f32>, aims: &Aims) -> Result<Response, IllusionError> {
        let n = aims.channels.len();
        let index = |values: Vec<i64>| Array::I64(Array1::from_vec(values).into_dyn());
        let mut fed: Vec<(&str, Array)> = vec![
            (PICTURE, Array::F32(pictures)),
            ("channel", index(aims.channels.iter().map(|&c| c as i64).collect())),
        ];
        let (classes, weights): (Vec<i64>, Vec<f32>) = aims.classes.iter().map(|c| self.class_input(*c)).unzip();
        fed.push(("class", index(classes)));
        fed.push(("class_weight", Array::F32(Array1::from_vec(weights).into_dyn())));
        if self.guided() {
            fed.push(("text", Array::F32(aims.texts.clone().into_dyn())));
        }
        let fed: Vec<(&str, &Array)> = fed.iter().map(|(name, array)| (*name, array)).collect();
        let mut run = self.session.run(&fed)?;
        let mut take = |name: &str| run.outputs.remove(name).and_then(Array::into_f32).unwrap_or_default();
        let logits = rows(take(&self.logits), n);
        let embeddings = self.embedding.as_ref().map(|(name, _)| rows(take(name), n));
        let layer = take(&self.layer.value);
        let map = self.layer.map.as_ref().map(|map| match format!("{STUDIED}{}", map.value) {
            value if value == self.layer.value => layer.clone(),
            value => take(&value),
        });
        let similarity = |i: usize| match &embeddings {
            Some(e) if aims.texts.ncols() == e.ncols() => cosine(e.row(i).as_slice(), aims.texts.row(i).as_slice()),
            _ => f32::NAN,
        };
        Ok(Response {
            activation: aims.channels.iter().enumerate().map(|(i, &c)| self.layer.mean(&layer, i, c)).collect(),
            logit: aims.classes.iter().enumerate().map(|(i, c)| self.logit(&logits, i, *c)).collect(),
            similarity: (0..n).map(similarity).collect(),
            gradient: run.gradients.remove(PICTURE).and_then(Array::into_f32).unwrap_or_default(),
            logits,
            map,
        })
    }

    /// Where `channel` responds on picture `row` of `response`: h × w; `None` where the layer has no places.
    pub fn map(&self, response: &Response, row: usize, channel: usize) -> Option<Array2<f32>> {
        let maps = self.layer.map.as_ref()?.neuron(response.map.as_ref()?, channel)?;
        (row < maps.len_of(Axis(0))).then(|| maps.index_axis(Axis(0), row).to_owned())
    }

    fn guided(&self) -> bool {
        matches!(self.kind, ObjectiveKind::Guided | ObjectiveKind::Reference)
    }

    /// Index of the logit and its weight. The one logit of a threshold speaks for class 1 and against class 0.
    fn class_input(&self, class: Option<usize>) -> (i64, f32) {
        match class {
            None => (0, 0.0),
            Some(0) if self.outputs == 1 => (0, -self.class_weight),
            Some(_) if self.outputs == 1 => (0, self.class_weight),
            Some(class) => (class as i64, self.class_weight),
        }
    }

    fn logit(&self, logits: &Array2<f32>, row: usize, class: Option<usize>) -> f32 {
        let (Some(class), index) = (class, self.class_input(class).0 as usize) else { return f32::NAN };
        let z = logits.get([row, index]).copied().unwrap_or(f32::NAN);
        if self.outputs == 1 && class == 0 { -z } else { z }
    }
}

impl Layer {
    /// The mean of `channel` on sample `row`.
    fn mean(&self, values: &ArrayD<f32>, row: usize, channel: usize) -> f32 {
        if values.ndim() <= self.axis || row >= values.len_of(Axis(0)) || channel >= values.len_of(Axis(self.axis)) {
            return f32::NAN;
        }
        let one = values.index_axis(Axis(self.axis), channel);
        let one = one.index_axis(Axis(0), row);
        one.iter().map(|v| f64::from(*v)).sum::<f64>() as f32 / one.len().max(1) as f32
    }
}

fn rows(values: ArrayD<f32>, n: usize) -> Array2<f32> {
    let width = values.len() / n.max(1);
    let flat: Vec<f32> = values.iter().copied().collect();
    Array2::from_shape_vec((n, width), flat).unwrap_or_default()
}

/// The cosine of two vectors; 0 where one has no length.
pub(crate) fn cosine(a: Option<&[f32]>, b: Option<&[f32]>) -> f32 {
    let (Some(a), Some(b)) = (a, b) else { return f32::NAN };
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { (dot(a, b) / norms) as f32 } else { 0.0 }
}

/// Finds the pictured layer and its channels.
fn layer(studied: &Studied) -> Result<Layer, IllusionError> {
    let taps = &studied.model.taps;
    let Some(name) = studied.layer else {
        let (name, value) = (taps.features.clone(), format!("{STUDIED}{}", taps.features));
        let observed = studied.model.observed.get(&name).map(|o| o.shape.clone()).unwrap_or_default();
        // Pooling may leave its singleton axes: channels stand where there are d of them.
        let d = studied.model.features();
        let axis = observed.iter().skip(1).position(|&n| n == d).map_or(1, |at| at + 1);
        let map = studied.model.map.clone().filter(VerifiedMap::is_direct);
        let before = map.as_ref().and_then(|m| before_activation(studied, &m.value, m.layout));
        return Ok(Layer { name, value, axis, channels: d, is_features: true, map, before });
    };
    studied.model.model.graph.check(name)?;
    let shape = studied.model.observed.get(name).map(|o| o.shape.clone()).unwrap_or_default();
    let (axis, layout) = match (shape.len(), studied.preprocessing.layout) {
        (4, Layout::Nchw) => (1, Channels::ChannelsFirst),
        (4, Layout::Nhwc) => (3, Channels::ChannelsLast),
        (3, _) => (2, Channels::Tokens),
        _ => return Err(IllusionError::NotAMap { layer: name.to_owned(), shape }),
    };
    let map = studied.model.layer_map(name, layout);
    let before = before_activation(studied, name, layout);
    let (name, value, channels) = (name.to_owned(), format!("{STUDIED}{name}"), shape[axis]);
    Ok(Layer { name, value, axis, channels, is_features: false, map, before })
}

/// The input of the Relu or Clip that gives `map`, and its channels' axis.
fn before_activation(studied: &Studied, map: &str, layout: Channels) -> Option<(String, usize)> {
    let node = studied.model.model.graph.producer(map).filter(|node| node.is("Relu") || node.is("Clip"))?;
    let axis = match layout {
        Channels::ChannelsFirst => 1,
        Channels::ChannelsLast => 3,
        Channels::Tokens => 2,
    };
    Some((node.input(0)?.to_owned(), axis))
}

/// The front, the classifier and the encoder as one model that gives logits, layer and embedding.
fn join(
    runtime: &Runtime,
    studied: &Studied,
    guidance: Option<&Guidance>,
    layer: &Layer,
    side: usize,
) -> Result<Model, IllusionError> {
    let model = &studied.model.model;
    let failed = |source| IllusionError::Graph { model: model.path().to_path_buf(), source };
    let mut front = Front::new(side);
    front.add(STUDIED, studied.preprocessing);
    if let Some(guidance) = guidance {
        front.add(GUIDE, &guidance.preprocessing);
    }
    let mut classifier = runtime.make_batch_dynamic(model)?;
    classifier.graph.outputs.clear();
    let mut kept = vec![studied.model.taps.logits.as_str(), layer.name.as_str()];
    kept.extend(layer.map.iter().map(|m| m.value.as_str()));
    kept.extend(layer.before.iter().map(|(value, _)| value.as_str()));
    kept.iter().for_each(|value| classifier.graph.add_output(value));
    classifier.graph.prune();
    if let Some((before, _)) = &layer.before {
        classifier.graph.outputs.retain(|output| output.name() != before);
    }
    let classifier = grad::prepare(&classifier, &kept).map_err(failed)?;
    // In the classifier's folder, so that its weights may lie beside it.
    let mut joint = Model::new(model.folder().join("picture"), front.build()?, 18).within(model.budget());
    joint.graph.outputs.clear();
    let wired = [(input_of(STUDIED), studied.model.input.clone())];
    joint = attach(&joint, &classifier, STUDIED, &wired).map_err(failed)?;
    if let Some(guidance) = guidance {
        let path = guidance.encoder.path().to_path_buf();
        let failed = |source| IllusionError::Graph { model: path.clone(), source };
        let mut encoder = runtime.make_batch_dynamic(&guidance.encoder)?;
        encoder.graph.outputs.clear();
        encoder.graph.add_output(&guidance.embedding);
        encoder.graph.prune();
        encoder.graph.inputs.retain(|v| v.name() == guidance.input);
        if encoder.folder() != joint.folder() {
            encoder.embed_weights()?;
        }
        let encoder = grad::prepare(&encoder, &[&guidance.embedding]).map_err(failed)?;
        joint = attach(&joint, &encoder, GUIDE, &[(input_of(GUIDE), guidance.input.clone())]).map_err(failed)?;
    }
    Ok(joint)
}

fn attach(first: &Model, second: &Model, prefix: &str, wired: &[(String, String)]) -> Result<Model, GradientError> {
    let wired: Vec<(&str, &str)> = wired.iter().map(|(value, input)| (value.as_str(), input.as_str())).collect();
    grad::join(first, second, prefix, &wired)
}

/// The front's value that a network reads.
fn input_of(prefix: &str) -> String {
    format!("front.{prefix}input")
}

/// Turns pictures into each network's input: colours in its order, normalised, at its size, axes as it wants them. All of
/// it is linear.
struct Front {
    side: usize,
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
    outputs: Vec<String>,
}

impl Front {
    fn new(side: usize) -> Front {
        Front { side, nodes: Vec::new(), constants: Vec::new(), outputs: Vec::new() }
    }

    fn add(&mut self, prefix: &str, to: &Preprocessing) {
        let name = |part: &str| format!("front.{prefix}{part}");
        let (weight, bias) = normalisation(to);
        self.constants.push(Tensor::f32(&name("weight"), &[bias.len(), 3, 1, 1], &weight));
        self.constants.push(Tensor::f32(&name("bias"), &[bias.len()], &bias));
        let mut value = name("normalised");
        self.nodes.push(Node::new("Conv", &[PICTURE, &name("weight"), &name("bias")], &[&value]));
        let (width, height) = (to.width as usize, to.height as usize);
        if (width, height) != (self.side, self.side) {
            let factor = |to: usize| to as f32 / self.side as f32;
            let factors = [1.0, 1.0, factor(height), factor(width)];
            self.constants.push(Tensor::f32(&name("factors"), &[4], &factors));
            let resized = name("resized");
            let node = Node::new("Resize", &[&value, "", &name("factors")], &[&resized]);
            // Without antialiasing a smaller input would see a sample of the pixels only.
            self.nodes.push(node.with_string("mode", "linear").with_int("antialias", 1));
            value = resized;
        }
        let out = input_of(prefix);
        self.nodes.push(match to.layout {
            Layout::Nchw => Node::new("Identity", &[&value], &[&out]),
            Layout::Nhwc => Node::new("Transpose", &[&value], &[&out]).with_ints("perm", &[0, 2, 3, 1]),
        });
        self.outputs.push(out);
    }

    fn build(self) -> Result<Graph, pellucid_graph::GraphError> {
        let side = Some(self.side as i64);
        let picture = Value::tensor(PICTURE, ElementType::F32, &[None, Some(3), side, side]);
        let outputs: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        Graph::new(vec![picture], self.nodes, self.constants, &outputs)
    }
}

/// The 1×1 convolution (channels × 3, and a bias) from red, green, blue in 0…1 to a network's normalised channels.
fn normalisation(to: &Preprocessing) -> (Vec<f32>, Vec<f32>) {
    // ITU-R 601 for gray, as pictures from files are converted.
    let sources: Vec<[f64; 3]> = match to.channels {
        ChannelOrder::Rgb => vec![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        ChannelOrder::Bgr => vec![[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        ChannelOrder::Gray => vec![[0.299, 0.587, 0.114]],
    };
    let weight = sources.iter().enumerate().flat_map(|(k, row)| row.map(|v| (v * 255.0 * to.scale / to.std[k]) as f32));
    let bias = (0..sources.len()).map(|k| (-to.mean[k] / to.std[k]) as f32);
    (weight.collect(), bias.collect())
}

/// a, and at rest, where a has no gradient, the mean of what its activation function reads.
fn activation(layer: &Layer) -> Objective {
    let mean = |value: &str, axis: usize| Objective::value(value).select(axis, Index::input("channel")).mean();
    let activation = mean(&layer.value, layer.axis);
    match &layer.before {
        None => activation,
        Some((before, axis)) => {
            activation.clone().where_positive(activation, mean(&format!("{STUDIED}{before}"), *axis))
        }
    }
}

/// The objective that is ascended.
fn objective(
    kind: ObjectiveKind,
    layer: &Layer,
    logits: &str,
    guidance: Option<&Guidance>,
    settings: &VisualizationSettings,
) -> Objective {
    let activation = activation(layer);
    let logit = Objective::value(logits).select(1, Index::input("class")).mean();
    let evidence = activation + logit * Objective::input("class_weight", &[]);
    let (Some(guidance), ObjectiveKind::Guided | ObjectiveKind::Reference) = (guidance, kind) else { return evidence };
    let embedding = Objective::value(&format!("{GUIDE}{}", guidance.embedding));
    let text = Objective::input("text", &[guidance.width]);
    let floor = f64::from(settings.floor);
    if kind == ObjectiveKind::Reference {
        let similarity = embedding.clone().dot(text) / embedding.norm();
        return (similarity.mean_over(&[0]) + floor) * evidence.mean_over(&[0]);
    }
    let similarity = embedding.cosine(text);
    let sharpness = 1.0 / f64::from(guidance.spread.max(1e-6));
    let above = (similarity.clone() + -f64::from(guidance.mean_similarity)) * sharpness;
    let factor = above.unary(Unary::Softplus) * (1.0 / sharpness) + floor;
    let away = evidence.clone() + similarity * f64::from(settings.pull);
    evidence.clone().where_positive(factor * evidence, away)
}

/// `pictures` of equal length as one batch, N × 3 × H × H.
pub(crate) fn batch(pictures: &[Vec<f32>], side: usize) -> ArrayD<f32> {
    let shape = IxDyn(&[pictures.len(), 3, side, side]);
    ArrayD::from_shape_vec(shape, pictures.concat()).unwrap_or_default()
}
