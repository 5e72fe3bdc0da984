//! Runs the end of a network alone: what an affine tail does to its features is measured on basis vectors, and whether the
//! places of a feature map reach the features by changing them.

use crate::array::Array;
use crate::library::Runtime;
use crate::session::{RuntimeError, Session, SessionOptions};
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn, Slice};
use pellucid_graph::{AffineTail, ElementType, FeatureMap, Graph, Layout, Model, Node, TailSource, Tensor, Value};

const OUT: &str = "pellucid.out.tail";
/// Rows of one run.
const ROWS: usize = 64;
/// How far a measured layer may lie from what the tail gives, as a share of the logits' spread over random features.
const TOLERANCE: f32 = 1e-3;

/// Why a tail was not folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    NotAffine(String),
}

/// What runs the end of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine<'a> {
    pub runtime: &'a Runtime,
    pub options: &'a SessionOptions,
    /// The model's input with its shape at batch 1.
    pub picture: (&'a str, &'a [usize]),
    /// The batch that is baked in.
    pub baked: Option<usize>,
}

/// The part of a model between some of its values and another.
struct End {
    session: Session,
    /// Names and shapes at batch 1 of what is fed.
    fed: Vec<(String, Vec<usize>)>,
    /// The picture, where the end asks for its shape.
    picture: Option<(String, Vec<usize>)>,
    /// The batch that is baked in.
    baked: Option<usize>,
}

impl End {
    fn new(engine: Engine<'_>, model: &Model, from: &[(String, Vec<usize>)], to: &str) -> Result<Self, RuntimeError> {
        let Engine { runtime, options, picture, baked } = engine;
        let mut end = model.clone();
        let graph = &mut end.graph;
        graph.forget_hints();
        graph.outputs.clear();
        from.iter().for_each(|(value, _)| drop(graph.detach(value)));
        graph.nodes.push(Node::new("Flatten", &[to], &[OUT]).with_int("axis", 1));
        graph.add_output(OUT);
        for (value, shape) in from {
            let batch = baked.and_then(|b| i64::try_from(b).ok());
            let dims: Vec<Option<i64>> =
                std::iter::once(batch).chain(shape.iter().skip(1).map(|&d| i64::try_from(d).ok())).collect();
            graph.inputs.push(Value::tensor(value, ElementType::F32, &dims));
        }
        graph.prune();
        let is_read = graph.nodes.iter().any(|n| n.reads().contains(&picture.0));
        graph.inputs.retain(|v| v.name() != picture.0 || is_read);
        let session = runtime.session(&end, options)?;
        let picture = is_read.then(|| (picture.0.to_owned(), picture.1.to_vec()));
        Ok(Self { session, fed: from.to_vec(), picture, baked })
    }

    /// The rows for values with N rows each.
    fn run(&mut self, values: &[ArrayD<f32>]) -> Result<Array2<f32>, RuntimeError> {
        let n = values.first().map_or(0, |v| v.len_of(Axis(0)));
        let chunk = self.baked.unwrap_or(if self.picture.is_some() { 16 } else { ROWS });
        let mut parts: Vec<Array2<f32>> = Vec::new();
        let mut start = 0;
        while start < n {
            let end = (start + chunk).min(n);
            let size = if self.baked.is_some() { chunk } else { end - start };
            // A baked batch is filled up with its last row.
            let rows: Vec<usize> = (0..size).map(|i| (start + i).min(end - 1)).collect();
            let mut arrays: Vec<(String, Array)> = self
                .fed
                .iter()
                .zip(values)
                .map(|((name, _), v)| (name.clone(), Array::F32(v.select(Axis(0), &rows))))
                .collect();
            if let Some((name, shape)) = &self.picture {
                let shape: Vec<usize> = std::iter::once(size).chain(shape.iter().skip(1).copied()).collect();
                arrays.push((name.clone(), Array::F32(ArrayD::zeros(IxDyn(&shape)))));
            }
            let fed: Vec<(&str, &Array)> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
            let out = self.session.run(&fed)?.into_iter().next().and_then(Array::into_f32).unwrap_or_default();
            let out: Array2<f32> = out.into_dimensionality().unwrap_or_default();
            parts.push(out.slice_axis(Axis(0), Slice::from(0..(end - start).min(out.nrows()))).to_owned());
            start = end;
        }
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        Ok(ndarray::concatenate(Axis(0), &views).unwrap_or_default())
    }
}

/// Numbers in [−1, 1) without a pattern.
pub(crate) struct Numbers(u64);

impl Default for Numbers {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Numbers {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn several(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// One layer in the place of an affine tail.
#[derive(Debug)]
pub(crate) struct Folded {
    /// W, C × d over all sources together.
    pub weight: Array2<f32>,
    /// b, C.
    pub bias: Array1<f32>,
    /// For each source the weight of each of its places; one place needs none.
    pub places: Vec<Option<Vec<f32>>>,
}

/// Where each entry of a source stands: its place and its channel.
fn entries(source: &TailSource) -> Vec<(usize, usize)> {
    let shape = source.shape.get(1..).unwrap_or_default();
    let axis = source.channel_axis - 1;
    let inner: usize = shape.get(axis + 1..).unwrap_or_default().iter().product();
    let channels = source.channels();
    (0..shape.iter().product())
        .map(|i| ((i / (inner * channels)) * inner + i % inner, (i / inner) % channels))
        .collect()
}

/// Measures what `tail` does. Its values must be float32.
pub(crate) fn fold(engine: Engine<'_>, model: &Model, tail: &AffineTail) -> Result<Folded, TailError> {
    let from: Vec<(String, Vec<usize>)> = tail.sources.iter().map(|s| (s.value.clone(), s.shape.clone())).collect();
    let mut end = End::new(engine, model, &from, &tail.logits)?;
    let layouts: Vec<Vec<(usize, usize)>> = tail.sources.iter().map(entries).collect();
    // The logits of `n` rows, whose entry at a place and channel of a source is given.
    let mut ask = |n: usize, value: &dyn Fn(usize, usize, usize, usize) -> f32| -> Result<Array2<f32>, TailError> {
        let mut all: Vec<Array2<f32>> = Vec::new();
        for start in (0..n).step_by(ROWS) {
            let rows = start..(start + ROWS).min(n);
            let arrays: Vec<ArrayD<f32>> = tail
                .sources
                .iter()
                .zip(&layouts)
                .enumerate()
                .map(|(s, (source, layout))| {
                    let shape: Vec<usize> =
                        std::iter::once(rows.len()).chain(source.shape.iter().skip(1).copied()).collect();
                    let numbers = rows
                        .clone()
                        .flat_map(|row| layout.iter().map(move |&(place, channel)| value(row, s, place, channel)));
                    ArrayD::from_shape_vec(IxDyn(&shape), numbers.collect()).unwrap_or_default()
                })
                .collect();
            all.push(end.run(&arrays)?);
        }
        let views: Vec<_> = all.iter().map(|a| a.view()).collect();
        let joined = ndarray::concatenate(Axis(0), &views).unwrap_or_default();
        match joined.nrows() == n && joined.iter().all(|v| v.is_finite()) {
            true => Ok(joined),
            false => Err(TailError::NotAffine("it gives no finite row of logits a picture".to_owned())),
        }
    };
    let bias = ask(1, &|_, _, _, _| 0.0)?.row(0).to_owned();
    let mut random = Numbers::default();
    let (mut columns, mut places) = (Vec::new(), Vec::new());
    for (s, source) in tail.sources.iter().enumerate() {
        let d = source.channels();
        let unit = |row: usize, of: usize, _: usize, channel: usize| if of == s && channel == row { 1.0 } else { 0.0 };
        columns.push(ask(d, &unit)? - &bias);
        let count = source.places();
        if count == 1 {
            places.push(None);
            continue;
        }
        // Every place's share of what all places together say.
        let direction = random.several(d);
        let everywhere = |_: usize, of: usize, _: usize, channel: usize| if of == s { direction[channel] } else { 0.0 };
        let whole = ask(1, &everywhere)?.row(0).to_owned() - &bias;
        let single = |row: usize, of: usize, place: usize, channel: usize| {
            if of == s && place == row { direction[channel] } else { 0.0 }
        };
        let parts = ask(count, &single)? - &bias;
        let size = whole.dot(&whole);
        if size <= 0.0 {
            return Err(TailError::NotAffine(format!("its places cancel each other in '{}'", source.value)));
        }
        let shares: Vec<f32> = parts.rows().into_iter().map(|row| row.dot(&whole) / size).collect();
        let even = 1.0 / count as f32;
        let is_even = shares.iter().all(|w| (w - even).abs() <= 1e-3 * even);
        places.push(Some(if is_even { vec![even; count] } else { shares }));
    }
    let views: Vec<_> = columns.iter().map(|c| c.view()).collect();
    let weight = ndarray::concatenate(Axis(0), &views).unwrap_or_default().t().as_standard_layout().into_owned();
    // On features without a pattern, the layer must say what the tail says.
    let rows = 8;
    let features: Vec<Vec<f32>> =
        tail.sources.iter().map(|s| random.several(rows * s.channels() * s.places())).collect();
    let at = |row: usize, s: usize, place: usize, channel: usize| {
        let source = &tail.sources[s];
        features[s][(row * source.places() + place) * source.channels() + channel]
    };
    let logits = ask(rows, &at)?;
    let mut pooled = Array2::<f32>::zeros((rows, weight.ncols()));
    let mut column = 0;
    for (s, source) in tail.sources.iter().enumerate() {
        for channel in 0..source.channels() {
            for row in 0..rows {
                pooled[[row, column]] = match &places[s] {
                    None => at(row, s, 0, channel),
                    Some(shares) => shares.iter().enumerate().map(|(p, w)| w * at(row, s, p, channel)).sum(),
                };
            }
            column += 1;
        }
    }
    let predicted = pooled.dot(&weight.t()) + &bias;
    let error = predicted.iter().zip(&logits).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    let spread = spread(&logits);
    let size = logits.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    if spread > 0.0 && error <= TOLERANCE * spread + 1e-6 * size {
        return Ok(Folded { weight, bias, places });
    }
    Err(TailError::NotAffine(format!(
        "on random features its logits differ from W f + b by {error:.1e}, where they spread over {spread:.1e}"
    )))
}

/// The largest difference that a logit shows between two rows.
pub(crate) fn spread(logits: &Array2<f32>) -> f32 {
    let range = |column: ndarray::ArrayView1<'_, f32>| {
        let most = column.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        most - column.iter().copied().fold(f32::INFINITY, f32::min)
    };
    logits.columns().into_iter().map(range).fold(0.0, f32::max)
}

/// Adds the features that `folded` reads to the graph, where they are no value of it, and gives their name.
pub(crate) fn add_features(graph: &mut Graph, tail: &AffineTail, folded: &Folded) -> String {
    let mut rows = Vec::new();
    for (source, places) in tail.sources.iter().zip(&folded.places) {
        let Some(shares) = places else {
            rows.push(source.value.clone());
            continue;
        };
        let (d, count) = (source.channels() as i64, shares.len());
        let first = source.channel_axis == 1;
        let shape = graph.fresh("pellucid.places");
        let target = if first { [0, d, count as i64] } else { [0, count as i64, d] };
        graph.initializers.insert(shape.clone(), Tensor::i64(&shape, &[3], &target));
        let weights = graph.fresh("pellucid.shares");
        let dims = if first { [count, 1] } else { [1, count] };
        graph.initializers.insert(weights.clone(), Tensor::f32(&weights, &dims, shares));
        let (grouped, pooled) = (graph.fresh("pellucid.grouped"), graph.fresh("pellucid.features"));
        graph.nodes.push(Node::new("Reshape", &[&source.value, &shape], &[&grouped]));
        let operands: [&str; 2] = if first { [&grouped, &weights] } else { [&weights, &grouped] };
        graph.nodes.push(Node::new("MatMul", &operands, &[&pooled]));
        rows.push(pooled);
    }
    if let [only] = rows.as_slice() {
        return only.clone();
    }
    let flat: Vec<String> = rows
        .iter()
        .map(|row| {
            let flat = graph.fresh("pellucid.row");
            graph.nodes.push(Node::new("Flatten", &[row], &[&flat]).with_int("axis", 1));
            flat
        })
        .collect();
    let features = graph.fresh("pellucid.features");
    let parts: Vec<&str> = flat.iter().map(String::as_str).collect();
    graph.nodes.push(Node::new("Concat", &parts, &[&features]).with_int("axis", 1));
    features
}

/// Whether the places of `map` reach `features`: other numbers there give other features. `values` is the map of a picture.
pub(crate) fn reaches(
    engine: Engine<'_>,
    model: &Model,
    map: &FeatureMap,
    features: &str,
    values: &ArrayD<f32>,
) -> Result<bool, RuntimeError> {
    let from = [(map.value.clone(), map.shape.clone())];
    let mut end = End::new(engine, model, &from, features)?;
    let mut changed = values.clone();
    let size = values.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let mut random = Numbers(7);
    let places = map.grid[0] * map.grid[1];
    for (at, value) in changed.indexed_iter_mut() {
        let is_place = map.layout != Layout::Tokens || (map.first..map.first + places).contains(&at[1]);
        if is_place {
            *value += size * random.next();
        }
    }
    let (before, after) = (end.run(std::slice::from_ref(values))?, end.run(&[changed])?);
    let largest = before.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let moved = before.iter().zip(&after).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    Ok(moved > 1e-6 * largest)
}
