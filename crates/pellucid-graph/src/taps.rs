//! Finds the places of a classifier worth looking at, by structure and data dependence, not by names.
//!
//! From an output back: activations that turn logits into probabilities are stepped over, then a linear layer with
//! constant weights is the decision layer, what feeds it are the features, and the nearest feature map (4-D) or token
//! sequence (3-D) behind them is what heat maps are drawn from. What is found here is a claim; `pellucid-runtime`
//! verifies it by running (|W f + b − logits| ≤ 1e-3) and measures how the feature map is pooled.

use crate::graph::{Graph, GraphError, Node};
use crate::observed::{Observations, elements};
use crate::tensor::ElementType;
use pellucid_guard::Setting;
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
    #[error(
        "the head {head} is pooled after {between}: the logits are not linear in any pooled feature; remove that \
         activation from the export, or name an earlier layer with {logits}", logits = Setting::Logits)]
    NonLinearPooling {
        /// The Conv.
        head: String,
        /// The node in between.
        between: String,
    },
    /// The head runs in integers.
    #[error(
        "the head {0} runs in integers; its features and weights are not floats. Export the model in QDQ format \
         (QuantizeLinear / DequantizeLinear around a float head) or unquantised"
    )]
    IntegerHead(String),
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
    /// The nearest feature map or token sequence behind the features; none for a model without one.
    pub feature_map: Option<FeatureMap>,
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
    let found = Finder::new(graph, observed).head(names)?;
    let (mut taps, pool) = found;
    if let Some(input) = pool {
        taps.features = add_pooled_features(graph, &input);
    }
    if let Some(features) = &names.features {
        taps.features.clone_from(features);
    }
    let finder = Finder::new(graph, observed);
    taps.feature_map = match (&names.feature_map, pool_input(&taps, graph)) {
        (Some(name), _) => finder.as_feature_map(name),
        (None, Some(input)) => finder.as_feature_map(&input),
        (None, None) => finder.feature_map_behind(&taps.features),
    };
    Ok(taps)
}

/// The value that was pooled into the added features.
fn pool_input(taps: &Taps, graph: &Graph) -> Option<String> {
    let pool = (taps.layer.kind == HeadKind::PooledConv).then(|| graph.producer(&taps.features))??;
    pool.input(0).map(str::to_owned)
}

fn add_pooled_features(graph: &mut Graph, input: &str) -> String {
    let name = graph.fresh("pellucid.features");
    graph.nodes.push(Node::new("GlobalAveragePool", &[input], &[&name]));
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
    fn head(&self, names: &TapNames) -> Result<(Taps, Option<String>), TapError> {
        let starts: Vec<&str> = match &names.logits {
            Some(name) => vec![name],
            None => self.graph.outputs.iter().map(|o| o.name()).collect(),
        };
        if starts.len() > OUTPUTS {
            return Err(TapError::Ambiguous(vec![format!("one for each of its {} outputs", starts.len())]));
        }
        let mut heads: Vec<(Taps, Option<String>)> = Vec::new();
        let mut refused: Vec<TapError> = Vec::new();
        for start in starts {
            match self.head_behind(start) {
                Ok(found) if heads.iter().any(|(h, _)| h.logits == found.0.logits) => {}
                Ok(found) => heads.push(found),
                Err(error) => refused.push(error),
            }
        }
        if let Some(features) = &names.features {
            let named: Vec<_> = heads.iter().filter(|(h, _)| &h.features == features).cloned().collect();
            if !named.is_empty() {
                heads = named;
            }
        }
        match heads.len() {
            1 => Ok(heads.swap_remove(0)),
            0 => Err(most_telling(refused)),
            _ => Err(TapError::Ambiguous(
                heads.into_iter().map(|(h, _)| format!("'{}' of {}", h.logits, h.layer.node)).collect(),
            )),
        }
    }

    fn head_behind(&self, output: &str) -> Result<(Taps, Option<String>), TapError> {
        let (value, head) = self.step_over_activations(output);
        let node = self
            .producer(value)
            .ok_or_else(|| TapError::NoLinearHead(format!("output '{output}' is not computed by a node")))?;
        if let Some((features, layer)) = self.linear_layer(node)? {
            let taps = Taps { logits: value.to_owned(), features, layer, feature_map: None, head };
            return Ok((taps, None));
        }
        if let Some((input, layer)) = self.conv_behind_pooling(node)? {
            let taps = Taps { logits: value.to_owned(), features: String::new(), layer, feature_map: None, head };
            return Ok((taps, Some(input)));
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
    fn conv_behind_pooling(&self, pool: &'a Node) -> Result<Option<(String, DecisionLayer)>, TapError> {
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
                return Ok((!self.is_data(weight)).then(|| (input.to_owned(), layer)));
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

    /// The nearest 4-D value with places, or 3-D token sequence, behind `value`, along data.
    fn feature_map_behind(&self, value: &str) -> Option<FeatureMap> {
        let inputs: BTreeSet<&str> = self.graph.inputs.iter().map(|v| v.name()).collect();
        let mut seen = BTreeSet::new();
        let mut open = std::collections::VecDeque::from([value.to_owned()]);
        while let Some(value) = open.pop_front() {
            if !seen.insert(value.clone()) {
                continue;
            }
            if !inputs.contains(value.as_str())
                && let Some(map) = self.as_feature_map(&value)
            {
                return Some(map);
            }
            if let Some(node) = self.producer(&value) {
                open.extend(node.inputs().iter().filter(|i| self.is_data(i)).cloned());
            }
        }
        None
    }

    /// `value` as a feature map, if it has places: N×C×H×W (or N×H×W×C) with H·W > 1, or N×T×D with T > 1.
    fn as_feature_map(&self, value: &str) -> Option<FeatureMap> {
        let observed = self.observed.get(value)?;
        let shape = &observed.shape;
        let float =
            matches!(observed.element, ElementType::F32 | ElementType::F16 | ElementType::BF16 | ElementType::F64);
        let places = match shape.len() {
            4 => elements(&shape[2..]) > 1,
            3 => shape[1] > 1,
            _ => false,
        };
        (float && places && shape[0] == 1).then(|| FeatureMap { value: value.to_owned(), shape: shape.clone() })
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
