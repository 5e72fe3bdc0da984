//! DF-CAM ([methods B2]): which activations of the U-Net carry a step, all blocks from one forward and backward pass.
//!
//! [methods B2]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b2

use crate::denoiser::{Denoiser, DenoiserInputs};
use crate::error::DiffusionError;
use crate::pipeline::Pipeline;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Array3, Array4, Axis, Ix4, Zip};
use pellucid_graph::Model;
use pellucid_graph::blocks::{Block, BlockKind, Part, find_blocks};
use pellucid_graph::grad::{GradientError, Objective, Recompute};
use pellucid_runtime::{Array, GradientOptions, GradientsError, RuntimeError, SessionOptions};
use pellucid_saliency::render::{self, Alignment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is differentiated. All are one dot product of the U-Net's output with a vector that is given at run time, so one
/// compiled graph serves them all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The sum of all elements, both halves of guidance: as published. Its sign is arbitrary.
    Sum,
    /// ⟨ε_c − ε_u, stopgrad(ε_c − ε_u)⟩: what the condition changes.
    #[default]
    Cond,
    /// The sum over a mask of the latent's size.
    Region(Array2<f32>),
}

/// The maps of one step. All lie in 0…1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CamMaps {
    /// Number of the step, from 0.
    pub step: usize,
    /// Its timestep.
    pub t: usize,
    /// Each block's map at the latent's size; `None` for a constant one, which counts nowhere.
    pub blocks: Vec<Option<Array2<f32>>>,
    /// Mean of each level's maps, by name.
    pub levels: BTreeMap<String, Array2<f32>>,
    /// Scaled mean over the published set (every block but the middle attention); `None` if all are constant.
    pub overall: Option<Array2<f32>>,
}

/// A compiled DF-CAM.
#[derive(Debug)]
pub struct Cam {
    /// The blocks, in order of computation.
    pub blocks: Vec<Block>,
    session: Denoiser,
    /// Names of outputs: activation and gradient of each block.
    outputs: Vec<(usize, usize)>,
    size: (usize, usize),
}

/// The input that holds the vector the output is multiplied by.
const VECTOR: &str = "pellucid.vector";

impl Cam {
    /// Finds the blocks of `pipeline`'s U-Net and compiles one graph that gives every block's activation and gradient.
    pub fn new(pipeline: &mut Pipeline) -> Result<Self, DiffusionError> {
        let inputs = DenoiserInputs::find(&pipeline.unet)?;
        let (model, observed) = pipeline.prepared()?;
        let blocks = find_blocks(&model.graph, observed, &inputs.sample);
        let activations = observed.values().map(|o| (o.len() * o.element.size().unwrap_or(4)) as u64).sum();
        let model = model.clone();
        pipeline.make_room();
        Self::of(pipeline, model, blocks, activations)
    }

    /// The same for chosen `blocks` of a prepared `model`.
    /// `activations`: bytes of all its values for one sample.
    pub(crate) fn of(
        pipeline: &Pipeline,
        mut model: Model,
        blocks: Vec<Block>,
        activations: u64,
    ) -> Result<Self, DiffusionError> {
        if blocks.is_empty() {
            let reason = "no residual block, down- or upsampler was found by structure in unet/model.onnx, so there is nothing \
                          to draw a class activation map from";
            return Err(DiffusionError::Unsupported { folder: pipeline.folder.clone(), reason: reason.to_owned() });
        }
        let [channels, height, width] = pipeline.latent;
        let output = model.graph.outputs.first().map(|v| v.name().to_owned()).unwrap_or_default();
        model.graph.outputs.truncate(1);
        blocks.iter().for_each(|b| model.graph.add_output(&b.value));
        let objective = Objective::value(&output).dot(Objective::input(VECTOR, &[channels, height, width]));
        let wrt: Vec<&str> = blocks.iter().map(|b| b.value.as_str()).collect();
        // A network whose activations exceed the bound computes them again on the way back, one half of guidance at a time.
        let memory = pipeline.options.budget.memory;
        let large = 2 * activations > memory;
        let mut options = GradientOptions {
            session: SessionOptions { arena: !large, ..pipeline.options.session.clone() },
            shapes: pipeline.input_shapes(),
            recompute: if large { Recompute::Within(memory) } else { Recompute::Nothing },
            ..GradientOptions::default()
        };
        let mut differentiated = pipeline.runtime.differentiate(&model, &objective, &wrt, &options);
        if let Err(GradientsError::Gradient { source: GradientError::Memory { .. }, .. }) = &differentiated {
            options.recompute = Recompute::Least;
            differentiated = pipeline.runtime.differentiate(&model, &objective, &wrt, &options);
        }
        let gradient = differentiated?.gradient;
        let session = Denoiser::new(&pipeline.runtime, &gradient.model, &options.session, if large { 1 } else { 2 })?;
        let names = session.output_names();
        let place = |name: &str| names.iter().position(|n| n == name);
        let both = |b: &Block| Some((place(&b.value)?, place(gradient.gradient_of(&b.value)?)?));
        let outputs: Vec<(usize, usize)> = blocks.iter().filter_map(both).collect();
        Ok(Self { blocks, session, outputs, size: (height, width) })
    }

    /// The maps of step `at`.
    pub fn maps(&mut self, trajectory: &Trajectory, at: usize, score: &Score) -> Result<CamMaps, DiffusionError> {
        let step = &trajectory.steps[at];
        let outputs = self.run(trajectory, at, score)?;
        let guidance = trajectory.guidance();
        let guided = |place: usize| -> Option<Array3<f32>> {
            let both = outputs[place].as_f32()?.view().into_dimensionality::<Ix4>().ok()?;
            if both.is_empty() {
                return None;
            }
            Some(match both.len_of(Axis(0)) {
                2 => Zip::from(both.index_axis(Axis(0), 0))
                    .and(both.index_axis(Axis(0), 1))
                    .map_collect(|u, c| u + guidance * (c - u)),
                _ => both.index_axis(Axis(0), 0).to_owned(),
            })
        };
        let map =
            |&(activation, gradient): &(usize, usize)| block_map(&guided(activation)?, &guided(gradient)?, self.size);
        let blocks: Vec<Option<Array2<f32>>> = self.outputs.iter().map(map).collect();
        let (levels, overall) = self.summed(&blocks);
        Ok(CamMaps { step: at, t: step.t, blocks, levels, overall })
    }

    fn run(&mut self, trajectory: &Trajectory, at: usize, score: &Score) -> Result<Vec<Array>, RuntimeError> {
        let step = &trajectory.steps[at];
        let prompt = &trajectory.prompt;
        let ones = || Array4::<f32>::ones(step.latent.dim());
        let pair =
            |u: Array4<f32>, c: Array4<f32>| crate::denoiser::stacked(Axis(0), &[u, c]).unwrap_or_else(|_| ones());
        let change = step.unconditional.as_ref().map(|u| &step.conditional - u);
        let vector = match (score, &prompt.unconditional, change) {
            (Score::Cond, Some(_), Some(change)) => pair(-change.clone(), change),
            (Score::Cond, ..) => step.conditional.clone(),
            (Score::Region(mask), both, _) => {
                let one = ones() * mask;
                if both.is_some() { pair(one.clone(), one) } else { one }
            }
            (Score::Sum, both, _) => {
                if both.is_some() {
                    pair(ones(), ones())
                } else {
                    ones()
                }
            }
        };
        let Some(free) = &prompt.unconditional else {
            let vector = vec![(VECTOR.to_owned(), vector.into_dyn())];
            return self.session.outputs_with(&step.latent, step.t, &[(&prompt.conditional, 1)], vector);
        };
        if self.session.batch > 1 {
            let both = pair(step.latent.clone(), step.latent.clone());
            let vector = vec![(VECTOR.to_owned(), vector.into_dyn())];
            return self.session.outputs_with(&both, step.t, &[(free, 1), (&prompt.conditional, 1)], vector);
        }
        let mut half = |n: usize, conditions| {
            let own = vector.index_axis(Axis(0), n).insert_axis(Axis(0)).to_owned();
            let vector = vec![(VECTOR.to_owned(), own.into_dyn())];
            self.session.outputs_with(&step.latent, step.t, &[(conditions, 1)], vector)
        };
        let (u, c) = (half(0, free)?, half(1, &prompt.conditional)?);
        let under = |(u, c): (Array, Array)| match (u.as_f32(), c.as_f32()) {
            (Some(a), Some(b)) if a.ndim() == 4 => {
                ndarray::concatenate(Axis(0), &[a.view(), b.view()]).map_or(u, Array::F32)
            }
            _ => u,
        };
        Ok(u.into_iter().zip(c).map(under).collect())
    }

    /// Mean maps per level, and the scaled mean over the published set.
    fn summed(&self, maps: &[Option<Array2<f32>>]) -> (BTreeMap<String, Array2<f32>>, Option<Array2<f32>>) {
        let mut groups: BTreeMap<String, Vec<&Array2<f32>>> = BTreeMap::new();
        let mut published = Vec::new();
        for (block, map) in self.blocks.iter().zip(maps) {
            let Some(map) = map else { continue };
            groups.entry(block.level_name()).or_default().push(map);
            if !(block.part == Part::Mid && block.kind == BlockKind::Attention) {
                published.push(map);
            }
        }
        let overall = mean(&published, self.size).and_then(|m| render::min_max(m.view()));
        (groups.into_iter().filter_map(|(n, g)| Some((n, mean(&g, self.size)?))).collect(), overall)
    }
}

fn mean(maps: &[&Array2<f32>], size: (usize, usize)) -> Option<Array2<f32>> {
    let sum = maps.iter().fold(Array2::zeros(size), |sum: Array2<f32>, m| sum + *m);
    (!maps.is_empty()).then(|| sum / maps.len() as f32)
}

/// minmax(upsample(ReLU(Σ_k α_k A_k))) with α_k the mean of the gradient of channel k; `None` where that is constant.
fn block_map(activation: &Array3<f32>, gradient: &Array3<f32>, (height, width): (usize, usize)) -> Option<Array2<f32>> {
    let (_, h, w) = activation.dim();
    let mut sum = Array2::<f32>::zeros((h, w));
    for (a, g) in activation.outer_iter().zip(gradient.outer_iter()) {
        let weight = g.mean().unwrap_or(0.0);
        sum.zip_mut_with(&a, |s, a| *s += weight * a);
    }
    sum.mapv_inplace(|v| v.max(0.0));
    let large = render::upsample(sum.view(), width, height, Alignment::Centres);
    render::min_max(large.view())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timesteps, TrajectorySettings};
    use ndarray::array;
    use pellucid_runtime::progress::Silent;

    #[test]
    fn every_block_has_the_map_that_it_has_when_it_is_asked_alone() {
        let mut pipeline = crate::pipeline::of_the_zoo("tiny_diffusion");
        let prompt = pipeline.prompt("a cat").unwrap();
        let settings = TrajectorySettings {
            timesteps: Timesteps::Uniform { steps: 3, spacing: None },
            guidance: 3.0,
            ..TrajectorySettings::default()
        };
        let trajectory = Trajectory::compute(&mut pipeline, &prompt, &settings, None, &Silent).unwrap();
        let mut together = Cam::new(&mut pipeline).unwrap();
        let maps = together.maps(&trajectory, 1, &Score::Cond).unwrap().blocks;
        let (model, _) = pipeline.prepared().unwrap();
        let model = model.clone();
        let mut compared = 0;
        for (block, map) in together.blocks.iter().zip(&maps).step_by(5) {
            let mut alone = Cam::of(&pipeline, model.clone(), vec![block.clone()], 0).unwrap();
            let own = alone.maps(&trajectory, 1, &Score::Cond).unwrap().blocks.remove(0);
            match (map, own) {
                (Some(map), Some(own)) => {
                    assert!((map - &own).iter().all(|d| d.abs() < 1e-5), "{}", block.name());
                    compared += 1;
                }
                (map, own) => assert_eq!(map.is_some(), own.is_some(), "{}", block.name()),
            }
        }
        assert!(compared > 3, "{compared} of {} blocks have a map", maps.len());
    }

    #[test]
    fn a_block_map_weights_channels_by_their_mean_gradient() {
        let activation = array![[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 0.0]]];
        let gradient = array![[[1.0, 1.0], [1.0, 1.0]], [[-2.0, 0.0], [0.0, -2.0]]];
        // ReLU(1·A₀ − 1·A₁) = [[0, 2], [3, 4]]
        let map = block_map(&activation, &gradient, (2, 2)).unwrap();
        assert_eq!(map, array![[0.0, 0.5], [0.75, 1.0]]);
        assert_eq!(block_map(&activation, &(gradient * 0.0), (2, 2)), None);
    }
}
