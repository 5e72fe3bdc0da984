//! A network in an ONNX file: compiled for its outputs alone, and again, differentiated or with its attention laid open, where
//! more is asked of it.

use super::session::{Denoiser, DenoiserInputs, stacked};
use super::{Attention, Cannot, Capabilities, Capability, Conditions, Differentiated, Engine, Gradients, LayerInfo};
use super::{Network, Tap, Tapped};
use crate::error::DiffusionError;
use crate::pipeline::{PipelineOptions, is_on_cpu};
use ndarray::{Array2, Array4, Axis, Ix3, Ix4};
use pellucid_graph::attention::{AttentionLayers, CrossAttention, find_cross_attention};
use pellucid_graph::blocks::{Block, BlockKind, Part, find_blocks};
use pellucid_graph::grad::{self, Checkpointing, GradientError, Objective};
use pellucid_graph::observed::Observations;
use pellucid_graph::{Model, optimize::drop_zero_terms};
use pellucid_runtime::{Array, Batching, GradientOptions, GradientsError, Runtime, SessionOptions, observe};
use std::collections::BTreeMap;

/// Rows in one run of the U-Net, at most. On a CPU more only leave the caches: the emoji-scene model gives 526 rows a second
/// at 16 and 475 at 64.
const CPU_BATCH: usize = 16;
const ACCELERATOR_BATCH: usize = 64;

/// The input that holds the vector the output is multiplied by.
const VECTOR: &str = "pellucid.vector";

/// A network in an ONNX file.
#[derive(Debug)]
pub struct OnnxNetwork {
    runtime: Runtime,
    options: PipelineOptions,
    /// As the file has it, with a float32 interface.
    model: Model,
    /// Channels, height, width.
    latent: [usize; 3],
    /// Tokens of its text; `None` without.
    context: Option<usize>,
    /// Compiled for its prediction.
    denoiser: Option<Denoiser>,
    /// In the form that taps and gradients are written for, with every value's shape.
    prepared: Option<(Model, Observations)>,
}

impl OnnxNetwork {
    /// `model` has inputs `sample` and `timestep`, as exporters name them; `context` is how many tokens its text has.
    pub(crate) fn new(
        runtime: Runtime,
        options: PipelineOptions,
        model: Model,
        latent: [usize; 3],
        context: Option<usize>,
    ) -> Self {
        Self { runtime, options, model, latent, context, denoiser: None, prepared: None }
    }

    fn prepared(&mut self) -> Result<&(Model, Observations), DiffusionError> {
        let made = match self.prepared.take() {
            Some(made) => made,
            None => {
                let mut model = grad::prepare(&self.model, &[])?;
                let observed = observe(&self.runtime, &model, &self.input_shapes())?;
                drop_zero_terms(&mut model, &observed);
                (model, observed)
            }
        };
        Ok(self.prepared.insert(made))
    }

    /// Full shapes (batch 1) of the inputs.
    fn input_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        let [c, h, w] = self.latent;
        let context = self.context.unwrap_or(1);
        for input in &self.model.graph.inputs {
            let declared = input.shape().unwrap_or_default();
            let free = |d: &Option<i64>, default: usize| d.and_then(|d| usize::try_from(d).ok()).unwrap_or(default);
            let shape = match declared.as_slice() {
                [_, _, _, _] => vec![1, c, h, w],
                [_, tokens, width] => vec![1, free(tokens, context), free(width, 1)],
                [_, width] => vec![1, free(width, 6)],
                [one] => vec![free(one, 1)],
                _ => Vec::new(),
            };
            shapes.insert(input.name().to_owned(), shape);
        }
        if let (Some(context), Ok(inputs)) = (self.context, DenoiserInputs::find(&self.model)) {
            for name in inputs.others {
                if let Some([_, tokens, _]) = shapes.get_mut(&name).map(Vec::as_mut_slice) {
                    *tokens = context;
                }
            }
        }
        shapes
    }

    /// Compiled for its prediction, with batches that fit the memory bound.
    fn denoiser(&mut self) -> Result<&mut Denoiser, DiffusionError> {
        let compiled = match self.denoiser.take() {
            Some(compiled) => compiled,
            None => self.compiled()?,
        };
        Ok(self.denoiser.insert(compiled))
    }

    fn compiled(&mut self) -> Result<Denoiser, DiffusionError> {
        let memory = self.options.budget.memory;
        let baked = grad::baked_batch(&self.model).and_then(|b| usize::try_from(b).ok());
        let most = if is_on_cpu(&self.options) { CPU_BATCH } else { ACCELERATOR_BATCH };
        let observed = &self.prepared()?.1;
        let batch = Batching::fit(observed, None, memory, most).size;
        // The operator for attention is the CPU's; accelerators have their own ways, which are not measured here.
        let fuse = is_on_cpu(&self.options);
        let shapes = self.input_shapes();
        let model = if baked.is_some() {
            let widened = grad::prepare(&self.runtime.make_batch_dynamic(&self.model)?, &[])?;
            let observed = observe(&self.runtime, &widened, &shapes)?;
            self.runtime.optimize(&widened, &observed, &shapes, fuse)?
        } else {
            let runtime = self.runtime.clone();
            let (model, observed) = self.prepared()?;
            runtime.optimize(model, observed, &shapes, fuse)?
        };
        Denoiser::new(&self.runtime, &model, &self.options.session, batch)
    }

    /// Lets what was compiled for predictions go where the weights alone exceed the bound on memory, so that two copies of
    /// them never stand side by side; it is compiled again when it is next needed.
    fn make_room(&mut self) {
        let bytes = |t: &pellucid_graph::Tensor| (t.len() * t.element().size().unwrap_or(4)) as u64;
        if self.model.graph.initializers.values().map(bytes).sum::<u64>() > self.options.budget.memory {
            self.denoiser = None;
        }
    }

    fn blocks(&mut self) -> Result<Vec<Block>, DiffusionError> {
        let inputs = DenoiserInputs::find(&self.model)?;
        let (model, observed) = self.prepared()?;
        Ok(find_blocks(&model.graph, observed, &inputs.sample))
    }

    fn attention_layers(&mut self) -> Result<AttentionLayers, DiffusionError> {
        let [_, height, width] = self.latent;
        let inputs = DenoiserInputs::find(&self.model)?;
        let text: Vec<&str> =
            inputs.others.iter().map(String::as_str).filter(|n| n.contains("hidden_states")).collect();
        let (model, observed) = self.prepared()?;
        Ok(find_cross_attention(&model.graph, observed, &inputs.sample, &text, (height, width)))
    }
}

/// Why nothing can be tapped.
fn no_blocks(capability: Capability) -> Cannot {
    Cannot::new(
        capability,
        "no residual block, down- or upsampler was found by structure in unet/model.onnx, so there is nothing to draw a \
         class activation map from",
    )
}

/// Why attention cannot be shown.
fn no_attention(found: &AttentionLayers) -> Cannot {
    let reason = match (found.fused.first(), found.joint.first()) {
        (Some(node), _) => format!(
            "attention is fused into {node}, which hides its weights; export the U-Net again without attention fusion"
        ),
        (_, Some(node)) => {
            format!("{node} attends to image and text together (joint attention), which is not supported yet")
        }
        _ => "the U-Net has no cross-attention: no softmax has keys from the text alone".to_owned(),
    };
    Cannot::new(Capability::Attention, reason)
}

fn tap(block: &Block) -> Tap {
    Tap {
        id: block.value.clone(),
        name: block.name(),
        level: block.level_name(),
        is_published: !(block.part == Part::Mid && block.kind == BlockKind::Attention),
        shape: block.shape,
    }
}

impl Network for OnnxNetwork {
    fn name(&self) -> String {
        self.model.path().display().to_string()
    }

    fn engine(&self) -> Engine {
        Engine { name: "ONNX Runtime".to_owned(), version: self.runtime.version() }
    }

    fn capabilities(&mut self) -> Result<Capabilities, DiffusionError> {
        let mut can = Capabilities::all();
        if self.blocks()?.is_empty() {
            can = [Capability::Taps, Capability::Gradient].into_iter().fold(can, |can, c| can.without(no_blocks(c)));
        }
        let found = self.attention_layers()?;
        Ok(if found.cross.is_empty() { can.without(no_attention(&found)) } else { can })
    }

    fn predict(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
    ) -> Result<Vec<Array4<f32>>, DiffusionError> {
        let denoiser = self.denoiser()?;
        match conditions {
            // Both halves of guidance share their runs.
            [first, second] => denoiser.predict_both(x, t, first, second).map(|(a, b)| vec![a, b]),
            each => each.iter().map(|conditions| denoiser.predict(x, t, conditions)).collect(),
        }
    }

    fn taps(&mut self) -> Result<Vec<Tap>, DiffusionError> {
        let blocks = self.blocks()?;
        if blocks.is_empty() { Err(no_blocks(Capability::Taps).into()) } else { Ok(blocks.iter().map(tap).collect()) }
    }

    fn tapped(&mut self, taps: &[Tap]) -> Result<Box<dyn Tapped>, DiffusionError> {
        let mut model = self.prepared()?.0.clone();
        model.graph.outputs.clear();
        taps.iter().for_each(|tap| model.graph.add_output(&tap.id));
        model.graph.prune();
        self.make_room();
        Ok(Box::new(OnnxTapped(Denoiser::new(&self.runtime, &model, &self.options.session, 1)?)))
    }

    fn gradients(&mut self, taps: &[Tap]) -> Result<Box<dyn Gradients>, DiffusionError> {
        if taps.is_empty() {
            return Err(no_blocks(Capability::Gradient).into());
        }
        let (model, observed) = self.prepared()?;
        let activations: u64 = observed.values().map(|o| (o.len() * o.element.size().unwrap_or(4)) as u64).sum();
        let mut model = model.clone();
        self.make_room();
        let [channels, height, width] = self.latent;
        let output = model.graph.outputs.first().map(|v| v.name().to_owned()).unwrap_or_default();
        model.graph.outputs.truncate(1);
        taps.iter().for_each(|tap| model.graph.add_output(&tap.id));
        let objective = Objective::value(&output).dot(Objective::input(VECTOR, &[channels, height, width]));
        let wrt: Vec<&str> = taps.iter().map(|tap| tap.id.as_str()).collect();
        // A network whose activations exceed the bound computes them again on the way back, one half of guidance at a time.
        let memory = self.options.budget.memory;
        let large = 2 * activations > memory;
        let mut options = GradientOptions {
            session: SessionOptions { arena: !large, ..self.options.session.clone() },
            shapes: self.input_shapes(),
            checkpointing: if large { Checkpointing::Within(memory) } else { Checkpointing::Nothing },
            ..GradientOptions::default()
        };
        let mut differentiated = self.runtime.differentiate(&model, &objective, &wrt, &options);
        if let Err(GradientsError::Gradient { source: GradientError::Memory { .. }, .. }) = &differentiated {
            options.checkpointing = Checkpointing::Least;
            differentiated = self.runtime.differentiate(&model, &objective, &wrt, &options);
        }
        let gradient = differentiated?.gradient;
        let session = Denoiser::new(&self.runtime, &gradient.model, &options.session, if large { 1 } else { 2 })?;
        let names = session.output_names();
        let place = |name: &str| names.iter().position(|n| n == name);
        let both = |tap: &Tap| Some((place(&tap.id)?, place(gradient.gradient_of(&tap.id)?)?));
        Ok(Box::new(OnnxGradients { places: taps.iter().filter_map(both).collect(), session }))
    }

    fn attention(&mut self) -> Result<Box<dyn Attention>, DiffusionError> {
        let found = self.attention_layers()?;
        if found.cross.is_empty() {
            return Err(no_attention(&found).into());
        }
        let mut model = self.prepared()?.0.clone();
        model.graph.outputs.clear();
        found.cross.iter().for_each(|layer| {
            layer.add_head_mean(&mut model.graph);
        });
        model.graph.prune();
        self.make_room();
        let session = Denoiser::new(&self.runtime, &model, &self.options.session, 1)?;
        let info = |(i, c): (usize, &CrossAttention)| LayerInfo {
            name: format!("cross-attention {}, {}×{}", i + 1, c.grid.0, c.grid.1),
            node: c.node.clone(),
            grid: c.grid,
            heads: c.heads,
        };
        let layers = found.cross.iter().enumerate().map(info).collect();
        Ok(Box::new(OnnxAttention { layers, session, file: self.model.path().to_path_buf() }))
    }
}

#[derive(Debug)]
struct OnnxTapped(Denoiser);

impl Tapped for OnnxTapped {
    fn at(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &Conditions,
    ) -> Result<Vec<Option<Array4<f32>>>, DiffusionError> {
        let outputs = self.0.outputs(x, t, &[(conditions, 1)])?;
        Ok(outputs.into_iter().map(|o| o.into_f32()?.into_dimensionality::<Ix4>().ok()).collect())
    }
}

#[derive(Debug)]
struct OnnxGradients {
    session: Denoiser,
    /// Places of activation and gradient among the outputs, by tap.
    places: Vec<(usize, usize)>,
}

impl Gradients for OnnxGradients {
    fn at(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
        vector: &Array4<f32>,
    ) -> Result<Vec<Option<Differentiated>>, DiffusionError> {
        let fed = |vector: Array4<f32>| vec![(VECTOR.to_owned(), vector.into_dyn())];
        let outputs = if conditions.len() <= self.session.batch {
            let rows = stacked(Axis(0), &vec![x.clone(); conditions.len()]).unwrap_or_else(|_| x.clone());
            let parts: Vec<(&Conditions, usize)> = conditions.iter().map(|c| (*c, 1)).collect();
            self.session.outputs_with(&rows, t, &parts, fed(vector.clone()))?
        } else {
            let mut each = Vec::with_capacity(conditions.len());
            for (n, conditions) in conditions.iter().enumerate() {
                let own = vector.index_axis(Axis(0), n).insert_axis(Axis(0)).to_owned();
                each.push(self.session.outputs_with(x, t, &[(conditions, 1)], fed(own))?);
            }
            under_each_other(each)
        };
        let map = |place: usize| -> Option<Array4<f32>> {
            let map = outputs.get(place)?.as_f32()?.view().into_dimensionality::<Ix4>().ok()?;
            (!map.is_empty()).then(|| map.to_owned())
        };
        let one = |&(activation, gradient): &(usize, usize)| {
            Some(Differentiated { activation: map(activation)?, gradient: map(gradient)? })
        };
        Ok(self.places.iter().map(one).collect())
    }
}

/// The outputs of several runs as those of one with their rows under each other; of what is no feature map the first run's.
fn under_each_other(runs: Vec<Vec<Array>>) -> Vec<Array> {
    let mut runs = runs.into_iter();
    let first = runs.next().unwrap_or_default();
    runs.fold(first, |all, more| {
        let under = |(a, b): (Array, Array)| match (a.as_f32(), b.as_f32()) {
            (Some(upper), Some(lower)) if upper.ndim() == 4 => {
                ndarray::concatenate(Axis(0), &[upper.view(), lower.view()]).map_or(a, Array::F32)
            }
            _ => a,
        };
        all.into_iter().zip(more).map(under).collect()
    })
}

#[derive(Debug)]
struct OnnxAttention {
    session: Denoiser,
    layers: Vec<LayerInfo>,
    file: std::path::PathBuf,
}

impl Attention for OnnxAttention {
    fn layers(&self) -> &[LayerInfo] {
        &self.layers
    }

    fn at(&mut self, x: &Array4<f32>, t: usize, conditions: &Conditions) -> Result<Vec<Array2<f32>>, DiffusionError> {
        let outputs = self.session.outputs(x, t, &[(conditions, 1)])?;
        let weights = |(layer, weights): (&LayerInfo, Array)| {
            let weights = weights.into_f32().and_then(|w| w.into_dimensionality::<Ix3>().ok());
            let weights = weights.filter(|w| w.len_of(Axis(0)) > 0);
            weights.map(|w| w.index_axis(Axis(0), 0).to_owned()).ok_or_else(|| DiffusionError::Shape {
                model: self.file.clone(),
                reason: format!("{} gives no batch × queries × tokens weights", layer.node),
            })
        };
        self.layers.iter().zip(outputs).map(weights).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::of_the_zoo;

    #[test]
    fn what_a_tap_gives_alone_is_what_it_gives_beside_a_gradient() {
        let mut pipeline = of_the_zoo("tiny_diffusion");
        let conditions = pipeline.prompt("a cat").unwrap().conditional;
        let network = &mut pipeline.network;
        assert_eq!(network.capabilities().unwrap(), Capabilities::all());
        let taps: Vec<Tap> = network.taps().unwrap().into_iter().step_by(9).collect();
        let [channels, height, width] = pipeline.latent;
        let x = Array4::from_shape_fn((1, channels, height, width), |i| ((i.1 + 2 * i.2 + 3 * i.3) as f32).sin());
        let alone = network.tapped(&taps).unwrap().at(&x, 500, &conditions).unwrap();
        let beside = network.gradients(&taps).unwrap().at(&x, 500, &[&conditions], &x).unwrap();
        for ((tap, alone), beside) in taps.iter().zip(alone).zip(beside) {
            let (alone, beside) = (alone.unwrap(), beside.unwrap().activation);
            assert_eq!(alone.shape()[1..], tap.shape, "{}", tap.name);
            assert!((&alone - &beside).iter().all(|d| d.abs() < 1e-4), "{}", tap.name);
        }
    }

    #[test]
    fn a_network_of_pixels_without_text_says_that_it_has_no_attention() {
        let mut pipeline = of_the_zoo("tiny_ddpm");
        let cannot = pipeline.network.capabilities().unwrap().can(Capability::Attention).unwrap_err();
        assert!(cannot.reason.contains("no cross-attention"), "{cannot}");
        let refused = pipeline.network.attention().unwrap_err();
        assert!(matches!(refused, DiffusionError::Cannot(c) if c == cannot));
    }
}
