//! Finds the places of a classifier worth looking at, by structure and data dependence, not by names.
//!
//! From an output back: activations that turn logits into probabilities are stepped over, then a linear layer with
//! constant weights is the decision layer, and what feeds it are the features; where other affine operators follow, `affine`
//! finds what they read. Heat maps are drawn from the last value behind the features that has the input's places and through
//! which all that the features know of the picture goes (`places` traces them). What is found here is a claim;
//! `pellucid-runtime` verifies it by running.

mod affine;
mod places;

pub use affine::{AffineTail, TailSource};
pub use places::Layout;

use crate::graph::{Graph, GraphError, Node};
use crate::observed::{Observations, elements};
use pellucid_guard::Setting;
use places::Places;
use std::collections::{BTreeSet, HashMap};

/// Values that the user names because the structure is ambiguous (`--features`, `--logits`, `--feature-map`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TapNames {
    /// The input of the decision layer.
    pub features: Option<String>,
    /// The output of the decision layer.
    pub logits: Option<String>,
    /// The last feature map before pooling.
    pub feature_map: Option<String>,
}

/// Why no taps were found.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A named value does not exist.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// No output leads back to a linear layer.
    #[error(
        "no linear head found: {0}. Expected a last Gemm, MatMul (+ Add) or 1×1 Conv with constant weights; if there is \
         one, name its output with {logits} and its input with {set_features}", logits = Setting::Logits, set_features = Setting::Features)]
    NoLinearHead(String),
    /// Several outputs lead back to different linear layers.
    #[error("the model has several heads: {}; name one with {logits}", .0.join(", "), logits = Setting::Logits)]
    Ambiguous(Vec<String>),
    /// Something non-linear stands between a 1×1-Conv head and its pooling.
    #[error("the head {head} is pooled after {between}: the logits are not linear in any pooled feature")]
    NonLinearPooling {
        /// The Conv.
        head: String,
        /// The node in between.
        between: String,
    },
    /// The output has an answer for every place.
    #[error(
        "the output '{output}' is a map of shape {}: one answer a place (segmentation, detection), not one row of logits a \
         picture; name a value with one row a picture, if there is one, with {logits}", sizes(shape), logits = Setting::Logits)]
    Dense {
        /// The output.
        output: String,
        /// Its shape at batch 1.
        shape: Vec<usize>,
    },
    /// The head runs in integers.
    #[error(
        "the head {0} runs in integers; its features and weights are not floats. Export the model in QDQ format \
         (QuantizeLinear / DequantizeLinear around a float head) or unquantised"
    )]
    IntegerHead(String),
}

fn sizes(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// What kind of layer decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// Gemm, or MatMul with or without Add.
    Linear,
    /// A 1×1 Conv on pooled (1×1) features.
    PointwiseConv,
    /// A 1×1 Conv whose output is pooled afterwards: the features are the pooled input, added to the graph.
    PooledConv,
    /// Several affine operators, folded into one layer that was measured; W and b were added to the graph.
    Folded,
    /// None: the logits are no affine function of any features. They stand for the features, and W is the identity.
    Absent,
}

/// What follows the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Head {
    /// Nothing: the model gives logits.
    #[default]
    Logits,
    /// Softmax or LogSoftmax: one class a picture.
    Softmax,
    /// Sigmoid: one-logit or multi-label.
    Sigmoid,
}

/// The decision layer z = W f + b.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionLayer {
    /// The node, as errors name it.
    pub node: String,
    /// Kind.
    pub kind: HeadKind,
    /// The value that holds W.
    pub weight: String,
    /// Whether W is stored d × C rather than C × d.
    pub transposed: bool,
    /// Factor on W (Gemm's alpha).
    pub alpha: f32,
    /// The value that holds b, if there is one.
    pub bias: Option<String>,
    /// Factor on b (Gemm's beta).
    pub beta: f32,
}

/// A candidate for the feature map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureMap {
    /// The value.
    pub value: String,
    /// Its shape at batch 1.
    pub shape: Vec<usize>,
    /// Where its channels stand.
    pub layout: Layout,
    /// Rows and columns of places.
    pub grid: [usize; 2],
    /// Of a token sequence, the first token that is a place: those before are class and register tokens.
    pub first: usize,
}

/// The taps of a classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// The output of the decision layer, N × C or N × C × 1 × 1.
    pub logits: String,
    /// Its input, N × d or N × d × 1 × 1.
    pub features: String,
    /// The decision layer.
    pub layer: DecisionLayer,
    /// Feature maps and token sequences behind the features, the last first: what the features know of the picture goes through
    /// each. None for a model without one. Which is the last whose places reach the features, running says.
    pub feature_maps: Vec<FeatureMap>,
    /// Why there is no feature map.
    pub no_map: Option<String>,
    /// What follows the logits.
    pub head: Head,
}

/// The most outputs among which a head is looked for.
const OUTPUTS: usize = 256;

/// Operators that pass values on, up to shape, type or scale of quantisation.
const TRANSPARENT: &[&str] = &[
    "Identity",
    "Cast",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Dropout",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// Finds the taps of `graph`, whose values are `observed`. For a head that is pooled afterwards (SqueezeNet), the pooled
/// features are added to the graph.
pub fn find(graph: &mut Graph, observed: &Observations, names: &TapNames) -> Result<Taps, TapError> {
    for name in [&names.features, &names.logits, &names.feature_map].into_iter().flatten() {
        graph.check(name)?;
    }
    let (mut taps, pool) = Finder::new(graph, observed).head(names)?;
    let maps_behind = match pool {
        Some(pool) => {
            taps.features = add_pooled_features(graph, &pool);
            pool.input
        }
        None => names.features.clone().unwrap_or_else(|| taps.features.clone()),
    };
    if let Some(features) = &names.features {
        taps.features.clone_from(features);
    }
    find_maps(graph, observed, names, &mut taps, &maps_behind);
    Ok(taps)
}

/// Fills in the feature maps behind `behind`: the features, or what they are made of.
pub fn find_maps(graph: &Graph, observed: &Observations, names: &TapNames, taps: &mut Taps, behind: &str) {
    let finder = Finder::new(graph, observed);
    (taps.feature_maps, taps.no_map) = match &names.feature_map {
        Some(name) => match finder.named_map(name) {
            Some(map) => (vec![map], None),
            None => (Vec::new(), Some(finder.no_places(name))),
        },
        None => finder.maps_behind(behind),
    };
}

/// The affine tails of the outputs (or of the named logits), the first that is one.
///
/// # Errors
/// Why none is: where it stops being affine.
pub fn affine_tail(graph: &Graph, observed: &Observations, names: &TapNames) -> Result<AffineTail, String> {
    let finder = Finder::new(graph, observed);
    let mut reason = "the model has no outputs".to_owned();
    for start in finder.starts(names).into_iter().take(OUTPUTS) {
        match finder.affine_tail(start) {
            Ok(tail) => return Ok(tail),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

/// The logits that a model without a linear head is asked for, and what follows them: its first output (or the named value)
/// with one row a picture.
pub fn bare_logits(graph: &Graph, observed: &Observations, names: &TapNames) -> Option<(String, Head)> {
    let finder = Finder::new(graph, observed);
    let row = |value: &str| finder.row_length(value).is_some_and(|n| n > 0);
    let found =
        finder.starts(names).into_iter().map(|start| finder.step_over_activations(start)).find(|(v, _)| row(v))?;
    Some((found.0.to_owned(), found.1))
}

/// `value` as a feature map, its places traced from the input.
pub fn map_of(graph: &Graph, observed: &Observations, value: &str) -> Option<FeatureMap> {
    Finder::new(graph, observed).named_map(value)
}

/// Whether a model that ends in `logits` gives them (or probabilities of them) as an output.
pub fn is_output(graph: &Graph, observed: &Observations, logits: &str) -> bool {
    let finder = Finder::new(graph, observed);
    graph.outputs.iter().any(|o| {
        let (value, _) = finder.step_over_activations(o.name());
        o.name() == logits || value == finder.step_over_activations(logits).0
    })
}

/// A pooling behind a 1×1 Conv, to be put in front of it.
struct PoolOf {
    /// The Conv's input.
    input: String,
    /// The pooling, where it reads the Conv itself.
    pool: Option<Node>,
}

/// The same pooling of the Conv's input: both work channel by channel or place by place, so they can change places.
fn add_pooled_features(graph: &mut Graph, pool: &PoolOf) -> String {
    let name = graph.fresh("pellucid.features");
    let node = match &pool.pool {
        Some(node) => {
            let mut node = node.clone();
            node.proto.input[0].clone_from(&pool.input);
            node.proto.output = vec![name.clone()];
            node.proto.name = Some(name.clone());
            node
        }
        None => Node::new("GlobalAveragePool", &[&pool.input], &[&name]),
    };
    graph.nodes.push(node);
    name
}

struct Finder<'a> {
    graph: &'a Graph,
    observed: &'a Observations,
    producers: HashMap<&'a str, usize>,
    /// Values that depend on an input.
    data: BTreeSet<&'a str>,
}

impl<'a> Finder<'a> {
    fn new(graph: &'a Graph, observed: &'a Observations) -> Self {
        let mut data: BTreeSet<&str> = graph.inputs.iter().map(|v| v.name()).collect();
        for node in &graph.nodes {
            // Shapes carry no picture: what is computed only from them is as good as constant.
            if !matches!(node.op(), "Shape" | "Size") && node.reads().iter().any(|r| data.contains(r)) {
                data.extend(node.outputs().iter().map(String::as_str));
            }
        }
        Self { graph, observed, producers: graph.producers(), data }
    }

    fn producer(&self, value: &str) -> Option<&'a Node> {
        self.producers.get(value).map(|&i| &self.graph.nodes[i])
    }

    fn is_data(&self, value: &str) -> bool {
        self.data.contains(value)
    }

    /// The head, and for a pooled Conv the value whose pooling are the features.
    fn head(&self, names: &TapNames) -> Result<(Taps, Option<PoolOf>), TapError> {
        let starts = self.starts(names);
        if starts.len() > OUTPUTS {
            return Err(TapError::Ambiguous(vec![format!("one for each of its {} outputs", starts.len())]));
        }
        let mut heads: Vec<(Taps, Option<PoolOf>)> = Vec::new();
        let mut refused: Vec<TapError> = Vec::new();
        for start in starts {
            match self.head_behind(start) {
                Ok(found) if heads.iter().any(|(h, _)| h.logits == found.0.logits) => {}
                Ok(found) => heads.push(found),
                Err(error) => refused.push(error),
            }
        }
        if let Some(features) = &names.features
            && heads.iter().any(|(h, _)| &h.features == features)
        {
            heads.retain(|(h, _)| &h.features == features);
        }
        match heads.len() {
            1 => Ok(heads.swap_remove(0)),
            0 => Err(most_telling(refused)),
            _ => Err(TapError::Ambiguous(
                heads.into_iter().map(|(h, _)| format!("'{}' of {}", h.logits, h.layer.node)).collect(),
            )),
        }
    }

    /// The values that a head is looked for behind.
    fn starts(&self, names: &TapNames) -> Vec<&'a str> {
        let named = names.logits.as_ref().map(|name| {
            // Names are looked up, so that they live as long as the graph.
            let inputs = self.graph.inputs.iter().map(|v| v.name());
            inputs.chain(self.graph.values()).filter(|v| *v == name.as_str()).take(1).collect()
        });
        named.unwrap_or_else(|| self.graph.outputs.iter().map(|o| o.name()).collect())
    }

    /// The length of the row that `value` holds for a picture; `None` for a map, a sequence, or what nobody observed.
    fn row_length(&self, value: &str) -> Option<usize> {
        let observed = self.observed.get(value).filter(|o| o.element.is_float())?;
        let long: Vec<usize> = observed.shape.iter().copied().filter(|&n| n != 1).collect();
        let row = observed.shape.len() >= 2 && observed.shape[0] == 1 && long.len() <= 1;
        row.then(|| long.first().copied().unwrap_or(1))
    }

    fn head_behind(&self, output: &'a str) -> Result<(Taps, Option<PoolOf>), TapError> {
        let (value, head) = self.step_over_activations(output);
        let node = self
            .producer(value)
            .ok_or_else(|| TapError::NoLinearHead(format!("output '{output}' is not computed by a node")))?;
        if let Some(observed) = self
            .observed
            .get(value)
            .filter(|o| o.element.is_float() && o.shape.len() > 2 && elements(&o.shape[1..]) > 1)
            && self.row_length(value).is_none()
        {
            return Err(TapError::Dense { output: output.to_owned(), shape: observed.shape.clone() });
        }
        let taps = |features: String, layer: DecisionLayer| Taps {
            logits: value.to_owned(),
            features,
            layer,
            feature_maps: Vec::new(),
            no_map: None,
            head,
        };
        if let Some((features, layer)) = self.linear_layer(node)? {
            return Ok((taps(features, layer), None));
        }
        if let Some((pool, layer)) = self.conv_behind_pooling(node)? {
            return Ok((taps(String::new(), layer), Some(pool)));
        }
        Err(TapError::NoLinearHead(format!("output '{output}' comes from {}", node.describe())))
    }

    fn step_over_activations(&self, output: &'a str) -> (&'a str, Head) {
        let mut head = Head::Logits;
        let mut value = output;
        while let Some(node) = self.producer(value).filter(|n| n.domain().is_empty()) {
            match node.op() {
                "Softmax" | "LogSoftmax" if head == Head::Logits => head = Head::Softmax,
                "Sigmoid" if head == Head::Logits => head = Head::Sigmoid,
                op if TRANSPARENT.contains(&op) => {}
                _ => break,
            }
            match node.input(0) {
                Some(input) if self.is_data(input) => value = input,
                _ => break,
            }
        }
        (value, head)
    }

    /// The features and the layer, if `node` ends a linear layer with constant weights.
    fn linear_layer(&self, node: &'a Node) -> Result<Option<(String, DecisionLayer)>, TapError> {
        if is_integer_layer(node) {
            return Err(TapError::IntegerHead(node.describe()));
        }
        if !node.domain().is_empty() {
            return Ok(None);
        }
        let constant = |v: Option<&'a str>| v.filter(|v| !self.is_data(v)).map(str::to_owned);
        let data = |v: Option<&'a str>| v.filter(|v| self.is_data(v)).map(str::to_owned);
        let layer = |weight, transposed, bias| DecisionLayer {
            node: node.describe(),
            kind: HeadKind::Linear,
            weight,
            transposed,
            alpha: node.float("alpha").unwrap_or(1.0),
            bias,
            beta: node.float("beta").unwrap_or(1.0),
        };
        Ok(match node.op() {
            "Gemm" if node.int("transA").unwrap_or(0) == 0 => {
                let bias = node.input(2);
                if bias.is_some_and(|b| self.is_data(b)) {
                    return Ok(None);
                }
                let transposed = node.int("transB").unwrap_or(0) == 0;
                data(node.input(0))
                    .zip(constant(node.input(1)))
                    .map(|(f, w)| (f, layer(w, transposed, bias.map(str::to_owned))))
            }
            "MatMul" => data(node.input(0)).zip(constant(node.input(1))).map(|(f, w)| (f, layer(w, true, None))),
            "Add" => self.matmul_and_add(node)?.map(|(f, w, b)| (f, layer(w, true, Some(b)))),
            "Conv" if self.is_pointwise(node) && self.spatial(node.output()) == Some(1) => {
                let bias = node.input(2).map(str::to_owned);
                let conv = |w| DecisionLayer { kind: HeadKind::PointwiseConv, ..layer(w, false, bias) };
                data(node.input(0)).zip(constant(node.input(1))).map(|(f, w)| (f, conv(w)))
            }
            _ => None,
        })
    }

    /// Features, weight and bias of `MatMul + Add`, the bias on either side.
    fn matmul_and_add(&self, add: &'a Node) -> Result<Option<(String, String, String)>, TapError> {
        let (Some(a), Some(b)) = (add.input(0), add.input(1)) else { return Ok(None) };
        let (product, bias) = if self.is_data(a) { (a, b) } else { (b, a) };
        if self.is_data(bias) {
            return Ok(None);
        }
        let Some(node) = self.producer(self.behind_transparent(product)) else { return Ok(None) };
        if is_integer_layer(node) {
            return Err(TapError::IntegerHead(node.describe()));
        }
        let (Some(f), Some(w)) = (node.input(0), node.input(1)) else { return Ok(None) };
        let fits = node.is("MatMul") && self.is_data(f) && !self.is_data(w);
        Ok(fits.then(|| (f.to_owned(), w.to_owned(), bias.to_owned())))
    }

    /// A pooled 1×1 Conv: its input and the layer.
    fn conv_behind_pooling(&self, pool: &'a Node) -> Result<Option<(PoolOf, DecisionLayer)>, TapError> {
        let averages = matches!(pool.op(), "GlobalAveragePool" | "ReduceMean" | "AveragePool");
        if !averages || self.spatial(pool.output()).unwrap_or(1) != 1 {
            return Ok(None);
        }
        let Some(mut value) = pool.input(0) else { return Ok(None) };
        let mut between: Option<String> = None;
        while let Some(node) = self.producer(value) {
            if node.is("Conv") && self.is_pointwise(node) {
                if let Some(between) = between {
                    return Err(TapError::NonLinearPooling { head: node.describe(), between });
                }
                let (Some(input), Some(weight)) = (node.input(0), node.input(1)) else { return Ok(None) };
                let layer = DecisionLayer {
                    node: node.describe(),
                    kind: HeadKind::PooledConv,
                    weight: weight.to_owned(),
                    transposed: false,
                    alpha: 1.0,
                    bias: node.input(2).map(str::to_owned),
                    beta: 1.0,
                };
                let direct = pool.input(0) == Some(node.output());
                let pool = PoolOf { input: input.to_owned(), pool: direct.then(|| pool.clone()) };
                return Ok((!self.is_data(weight)).then_some((pool, layer)));
            }
            let activation = matches!(node.op(), "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSwish" | "Elu");
            if !activation && !TRANSPARENT.contains(&node.op()) {
                return Ok(None);
            }
            if activation {
                between = Some(node.describe());
            }
            match node.input(0) {
                Some(input) => value = input,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn behind_transparent(&self, mut value: &'a str) -> &'a str {
        while let Some(node) = self.producer(value).filter(|n| n.domain().is_empty() && TRANSPARENT.contains(&n.op())) {
            match node.input(0) {
                Some(input) => value = input,
                None => break,
            }
        }
        value
    }

    /// Whether a Conv is 1×1 with stride 1 in one group.
    fn is_pointwise(&self, conv: &Node) -> bool {
        let ones = |name: &str| conv.ints(name).is_none_or(|v| v.iter().all(|&x| x == 1));
        let weight = conv.input(1).unwrap_or_default();
        let kernel = match self.graph.initializers.get(weight) {
            Some(w) => w.dims().iter().skip(2).all(|&k| k == 1),
            None => conv.ints("kernel_shape").is_some_and(|k| k.iter().all(|&x| x == 1)),
        };
        kernel
            && ones("strides")
            && conv.int("group").unwrap_or(1) == 1
            && conv.ints("pads").is_none_or(|p| p.iter().all(|&x| x == 0))
    }

    /// The number of places in a value's trailing dimensions: H·W of N×C×H×W, 1 for N×C.
    fn spatial(&self, value: &str) -> Option<usize> {
        self.observed.get(value).map(|o| elements(o.shape.get(2..).unwrap_or_default()))
    }

    /// The values with places that everything the features know of the picture goes through, the last first, or why there is
    /// none. Going back from the features, the values that are still to be explained cut the graph; where only one is left,
    /// all goes through it.
    fn maps_behind(&self, features: &str) -> (Vec<FeatureMap>, Option<String>) {
        let places = Places::trace(self.graph, self.observed, &self.data);
        let mut open: BTreeSet<(usize, &str)> = BTreeSet::new();
        let position = |value: &str| self.producers.get(value).map_or(0, |at| at + 1);
        let mut maps = Vec::new();
        let mut lost: Option<&Node> = None;
        let names: HashMap<&str, &str> = self.data.iter().map(|v| (*v, *v)).collect();
        open.extend(names.get(features).map(|v| (position(v), *v)));
        while let Some((at, value)) = open.pop_last() {
            if open.is_empty() && at > 0 {
                maps.extend(places.map(value));
                lost = lost.or_else(|| places.lost_at(value));
            }
            if let Some(node) = at.checked_sub(1).map(|at| &self.graph.nodes[at]) {
                // One node may give several of the open values.
                open.retain(|(other, _)| *other != at);
                open.extend(node.reads().iter().filter_map(|r| names.get(r)).map(|v| (position(v), *v)));
            }
        }
        let why = match (maps.is_empty(), lost) {
            (false, _) => None,
            (true, Some(node)) => {
                Some(format!("which of its values are places cannot be traced beyond {}", node.describe()))
            }
            (true, None) => {
                Some("no value between input and features has more than one place that all goes through".to_owned())
            }
        };
        (maps, why)
    }

    /// A value that the user names: as traced, or a map of four axes taken at its word.
    fn named_map(&self, value: &str) -> Option<FeatureMap> {
        let traced = Places::trace(self.graph, self.observed, &self.data).map(value);
        traced.or_else(|| {
            let observed = self.observed.get(value).filter(|o| o.element.is_float())?;
            let &[1, _, h, w] = observed.shape.as_slice() else { return None };
            let (value, shape, layout) = (value.to_owned(), observed.shape.clone(), Layout::ChannelsFirst);
            (h * w > 1).then_some(FeatureMap { value, shape, layout, grid: [h, w], first: 0 })
        })
    }

    fn no_places(&self, value: &str) -> String {
        match Places::trace(self.graph, self.observed, &self.data).lost_at(value) {
            Some(node) => format!("which entries of '{value}' are places cannot be traced beyond {}", node.describe()),
            None => format!("'{value}' has no places on axes of their own"),
        }
    }
}

fn is_integer_layer(node: &Node) -> bool {
    matches!(
        node.op(),
        "QLinearMatMul"
            | "MatMulInteger"
            | "QLinearConv"
            | "ConvInteger"
            | "QGemm"
            | "QLinearAdd"
            | "MatMulIntegerToFloat"
    )
}

/// Of several refusals, the one that says most: a near miss before "nothing found".
fn most_telling(refused: Vec<TapError>) -> TapError {
    let mut refused = refused;
    let near = refused.iter().position(|e| !matches!(e, TapError::NoLinearHead(_)));
    match near {
        Some(i) => refused.swap_remove(i),
        None if refused.is_empty() => TapError::NoLinearHead("the model has no outputs".to_owned()),
        None => refused.swap_remove(0),
    }
}
