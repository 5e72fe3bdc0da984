//! ONNX files: reading, the taps, and the rewrites, with shapes that the runtime gave when the seed was recorded.

use crate::{budget, says_something, scratch};
use pellucid::internals::graph::onnx::tensor_shape_proto::{Dimension, dimension};
use pellucid::internals::graph::onnx::type_proto::{self, Value as Kind};
use pellucid::internals::graph::onnx::{GraphProto, ModelProto, TensorShapeProto, TypeProto, ValueInfoProto};
use pellucid::internals::graph::{
    ElementType, Model, Observations, Observed, TapNames, attention, blocks, grad, optimize, taps, widen_to_float32,
};
use prost::Message;

/// A model: it is written as it was read; the taps, the places of a diffusion model and every rewrite end; and a gradient
/// that is made is a model that can be read.
///
/// Where a rewrite wants the shapes that the runtime observed, they are taken from the graph's `value_info`, where
/// [`record_shapes`] put them.
pub fn onnx(data: &[u8]) {
    scratch::with_file("x.onnx", data, |path| {
        let model = match Model::read_within(path, &budget()) {
            Ok(model) => model,
            Err(error) => return says_something(&error),
        };
        if model.graph.nodes.len() > 400 {
            return;
        }
        let bytes = model.to_bytes();
        let again = read_back(&bytes);
        assert!(again.to_bytes() == bytes, "writing what was read back gives other bytes");
        let observed = recorded(data);
        looked_at(&model, &observed);
        rewritten(&model, &observed);
        differentiated(&model, &observed);
    });
}

fn read_back(bytes: &[u8]) -> Model {
    let mut read = None;
    scratch::with_file("again.onnx", bytes, |path| read = Some(Model::read(path)));
    match read {
        Some(Ok(model)) => model,
        Some(Err(error)) => panic!("what was written cannot be read: {error}"),
        None => panic!("the scratch folder cannot be written"),
    }
}

/// Everything that only looks.
fn looked_at(model: &Model, observed: &Observations) {
    let graph = &model.graph;
    assert_eq!(graph.operator_counts().values().sum::<usize>(), graph.nodes.len());
    let _ = (graph.parameters(), model.data_files(), model.producer(), model.domains(), model.metadata());
    let _ = model.to_referencing_bytes();
    let first = graph.inputs.first().map(|v| v.name()).unwrap_or_default();
    let last = graph.inputs.last().map(|v| v.name()).unwrap_or_default();
    if let Ok(found) = taps::find(&mut graph.clone(), observed, &TapNames::default()) {
        assert!(graph.has(&found.logits), "the logits '{}' are no value of the graph", found.logits);
    }
    let _ = blocks::find_blocks(graph, observed, first);
    let _ = attention::find_cross_attention(graph, observed, first, &[last], (8, 8));
    let _ = grad::baked_batch(model);
    let _ = grad::with_dynamic_batch(model);
}

/// The rewrites for speed and precision.
fn rewritten(model: &Model, observed: &Observations) {
    let mut optimized = model.clone();
    let _ = optimize::split_linear_layers(&mut optimized, observed);
    let _ = optimize::fuse_attention(&mut optimized, observed);
    optimize::fix_reshapes(&mut optimized, observed);
    optimize::drop_zero_terms(&mut optimized, observed);
    let mut wide = model.clone();
    let _ = widen_to_float32(&mut wide);
}

/// The gradient of the sum of the first output with respect to every float input.
fn differentiated(model: &Model, observed: &Observations) {
    let Ok(prepared) = grad::prepare(model, &[]) else { return };
    let graph = &prepared.graph;
    let _ = grad::shape_computations(graph, observed);
    let Some(output) = graph.outputs.first().map(|v| v.name().to_owned()) else { return };
    let _ = grad::reach(graph, observed, &[&output]);
    let inputs: Vec<&str> = graph.inputs.iter().map(|v| v.name()).collect();
    let _ = grad::foreign_operator(graph, &[&output], &inputs);
    for input in inputs.iter().take(3) {
        match grad::differentiate(&prepared, observed, &grad::Objective::value(&output).sum(), &[input]) {
            Ok(gradient) => {
                let read = read_back(&gradient.model.to_bytes());
                let wanted = gradient.gradient_of(input).unwrap_or_else(|| panic!("no gradient of '{input}'"));
                assert!(read.graph.outputs.iter().any(|v| v.name() == wanted), "'{wanted}' is no output");
            }
            Err(error) => says_something(&error),
        }
    }
}

/// The most elements a recorded shape may claim: larger ones are no shapes that a runtime observed.
const MOST: usize = 1 << 22;

/// The shapes in the `value_info`, the inputs and the outputs of the model in `data`.
fn recorded(data: &[u8]) -> Observations {
    let Some(graph) = ModelProto::decode(data).ok().and_then(|m| m.graph) else { return Observations::new() };
    let declared = graph.value_info.iter().filter_map(observation);
    let tensors = graph.initializer.iter().filter_map(|t| {
        let shape = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
        let observed = Observed {
            element: ElementType::from_onnx(t.data_type.unwrap_or_default()),
            shape_at_two: Some(shape.clone()),
            shape,
        };
        Some((t.name.clone()?, observed))
    });
    declared.chain(tensors).filter(|(_, o)| small(&o.shape) && o.shape_at_two.as_deref().is_none_or(small)).collect()
}

fn small(shape: &[usize]) -> bool {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).is_some_and(|n| n <= MOST)
}

fn observation(value: &ValueInfoProto) -> Option<(String, Observed)> {
    let Some(Kind::TensorType(tensor)) = value.r#type.as_ref()?.value.as_ref() else { return None };
    let (mut shape, mut two, mut has_two) = (Vec::new(), Vec::new(), true);
    for dimension in &tensor.shape.as_ref()?.dim {
        match dimension.value.as_ref()? {
            dimension::Value::DimValue(n) => {
                has_two = false;
                shape.push(usize::try_from(*n).ok()?);
            }
            dimension::Value::DimParam(both) => {
                let (one, other) = both.split_once('|')?;
                shape.push(one.parse().ok()?);
                two.push(other.parse().ok()?);
            }
        }
    }
    let element = ElementType::from_onnx(tensor.elem_type.unwrap_or_default());
    Some((value.name.clone()?, Observed { element, shape, shape_at_two: has_two.then_some(two) }))
}

/// `model` with what the runtime observed in its `value_info`: a dimension as `1|2`, at batch 1 and at batch 2, or as a
/// number where the batch is fixed.
pub fn record_shapes(model: &Model, observed: &Observations) -> Vec<u8> {
    let Ok(mut proto) = ModelProto::decode(model.to_bytes().as_slice()) else { return model.to_bytes() };
    let graph = proto.graph.get_or_insert_with(GraphProto::default);
    graph.value_info = observed.iter().map(|(name, observed)| written(name, observed)).collect();
    proto.encode_to_vec()
}

fn written(name: &str, observed: &Observed) -> ValueInfoProto {
    let dimension = |at: usize| match &observed.shape_at_two {
        Some(two) => dimension::Value::DimParam(format!("{}|{}", observed.shape[at], two.get(at).unwrap_or(&0))),
        None => dimension::Value::DimValue(observed.shape[at] as i64),
    };
    let dim =
        (0..observed.shape.len()).map(|at| Dimension { value: Some(dimension(at)), ..Dimension::default() }).collect();
    let tensor =
        type_proto::Tensor { elem_type: Some(observed.element.to_onnx()), shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(Kind::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// Numbers at which arithmetic on shapes, axes and counts goes wrong.
const NUMBERS: [i64; 16] =
    [0, 1, -1, 2, 3, -2, 7, 16, 255, 1 << 31, i64::MAX, i64::MIN, -(1 << 31), 1 << 40, 64, 100_000];

/// A mutation that keeps the model a model: operators, edges, attributes and tensors change. Gives the new file's length in
/// `data`, or `None` where the input is no model or the result has no room.
pub fn mutate_onnx(data: &mut [u8], size: usize, most: usize, seed: u32) -> Option<usize> {
    let mut model = ModelProto::decode(&data[..size]).ok()?;
    let mut random = Random(u64::from(seed) << 7 | 0x9E37_79B9_0000_0001);
    let graph = model.graph.as_mut()?;
    for _ in 0..=random.below(4) {
        change(graph, &mut random)?;
    }
    let bytes = model.encode_to_vec();
    if bytes.len() > most || bytes.len() > data.len() {
        return None;
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    Some(bytes.len())
}

fn change(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let names: Vec<String> = graph.node.iter().flat_map(|n| n.output.iter().chain(&n.input).cloned()).collect();
    let at = random.at(&graph.node)?;
    match random.below(14) {
        0 => graph.node[at].op_type = random.of(grad::operators().as_slice()).map(|op| op.to_string()),
        1 => {
            let input = random.at(&graph.node[at].input)?;
            graph.node[at].input[input] = random.of(&names)?.clone();
        }
        2 => drop(graph.node[at].input.pop()),
        3 => graph.node[at].input.push(random.of(&names)?.clone()),
        4 => {
            let which = random.at(&graph.node[at].attribute)?;
            let attribute = &mut graph.node[at].attribute[which];
            if let Some(place) = random.at(&attribute.ints) {
                attribute.ints[place] = random.number();
            } else if attribute.i.is_some() {
                attribute.i = Some(random.number());
            } else if attribute.f.is_some() {
                attribute.f = random.of(&[0.0, f32::NAN, f32::INFINITY, -1.0, 1e30]).copied();
            } else if attribute.s.is_some() {
                attribute.s = Some(Vec::new().into());
            }
        }
        5 => {
            let which = random.at(&graph.node[at].attribute)?;
            graph.node[at].attribute.remove(which);
        }
        6 => {
            let which = random.at(&graph.node[at].attribute)?;
            longer_or_shorter(&mut graph.node[at].attribute[which].ints, random);
        }
        7 => {
            let which = random.at(&graph.initializer)?;
            let place = random.at(&graph.initializer[which].dims)?;
            graph.initializer[which].dims[place] = random.number();
        }
        8 => {
            let which = random.at(&graph.initializer)?;
            longer_or_shorter(&mut graph.initializer[which].dims, random);
        }
        9 => {
            let which = random.at(&graph.initializer)?;
            graph.initializer[which].data_type = Some(random.below(25) as i32);
        }
        10 => {
            let which = random.at(&graph.initializer)?;
            let tensor = &mut graph.initializer[which];
            let mut raw = tensor.raw_data.as_ref()?.to_vec();
            let words = raw.len() / 8;
            if words > 0 && words <= 8 {
                let word = random.below(words);
                raw[word * 8..word * 8 + 8].copy_from_slice(&random.number().to_le_bytes());
            } else {
                raw.truncate(raw.len() / 2);
            }
            tensor.raw_data = Some(raw.into());
        }
        11 => {
            let from = random.at(&graph.node)?;
            let attributes = graph.node[from].attribute.clone();
            graph.node[at].attribute.extend(attributes);
        }
        12 => {
            let output = random.at(&graph.output)?;
            graph.output[output].name = random.of(&names).cloned();
        }
        _ => drop(graph.node.remove(at)),
    }
    Some(())
}

fn longer_or_shorter(numbers: &mut Vec<i64>, random: &mut Random) {
    if random.below(2) == 0 {
        numbers.pop();
    } else {
        numbers.push(random.number());
    }
}

/// Xorshift: a mutation is a function of the fuzzer's seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    fn at<T>(&mut self, list: &[T]) -> Option<usize> {
        (!list.is_empty()).then(|| self.below(list.len()))
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.at(list)?;
        list.get(at)
    }

    fn number(&mut self) -> i64 {
        NUMBERS[self.below(NUMBERS.len())]
    }
}
