//! DF-CAM (`docs/methods.md#b2`): which activations of the U-Net carry a step, all blocks from one forward and backward pass.

use super::{Axis, Explainer, Findings, StepFindings, Subject, Track};
use crate::error::DiffusionError;
use crate::network::{Capability, Gradients, Tap, stacked};
use crate::pipeline::Pipeline;
use crate::trajectory::Trajectory;
use ndarray::{Array2, Array3, Array4, Axis as Dimension, Zip};
use pellucid_saliency::render::{self, Alignment};
use pellucid_saliency::{Grid, SaliencyMap};
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

/// DF-CAM, ready to be asked for steps.
#[derive(Debug)]
pub struct Cam {
    /// The blocks, in order of computation.
    pub blocks: Vec<Tap>,
    passes: Box<dyn Gradients>,
    size: (usize, usize),
}

impl Cam {
    /// Finds the blocks of `pipeline`'s network and opens what gives every block's activation and gradient at once.
    ///
    /// # Errors
    /// [`DiffusionError::Cannot`] where the network has no blocks or no gradient, what compiling says otherwise.
    pub fn new(pipeline: &mut Pipeline) -> Result<Self, DiffusionError> {
        let blocks = pipeline.network.taps()?;
        Self::of(pipeline, blocks)
    }

    /// The same for chosen `blocks`.
    ///
    /// # Errors
    /// As [`Cam::new`].
    pub fn of(pipeline: &mut Pipeline, blocks: Vec<Tap>) -> Result<Self, DiffusionError> {
        let [_, height, width] = pipeline.latent;
        Ok(Self { passes: pipeline.network.gradients(&blocks)?, blocks, size: (height, width) })
    }

    /// The maps of step `at`.
    ///
    /// # Errors
    /// What running says.
    pub fn maps(&mut self, trajectory: &Trajectory, at: usize, score: &Score) -> Result<CamMaps, DiffusionError> {
        let step = &trajectory.steps[at];
        let prompt = &trajectory.prompt;
        let conditions: Vec<_> = prompt.unconditional.iter().chain([&prompt.conditional]).collect();
        let vector = vector(trajectory, at, score);
        let differentiated = self.passes.at(&step.latent, step.t, &conditions, &vector)?;
        let guidance = trajectory.guidance();
        let guided = |both: &Array4<f32>| -> Array3<f32> {
            let row = |n: usize| both.index_axis(Dimension(0), n);
            match both.len_of(Dimension(0)) {
                2 => Zip::from(row(0)).and(row(1)).map_collect(|u, c| u + guidance * (c - u)),
                _ => row(0).to_owned(),
            }
        };
        let blocks: Vec<Option<Array2<f32>>> = differentiated
            .iter()
            .map(|d| d.as_ref().and_then(|d| block_map(&guided(&d.activation), &guided(&d.gradient), self.size)))
            .collect();
        let (levels, overall) = self.summed(&blocks);
        Ok(CamMaps { step: at, t: step.t, blocks, levels, overall })
    }

    /// Mean maps per level, and the scaled mean over the published set.
    fn summed(&self, maps: &[Option<Array2<f32>>]) -> (BTreeMap<String, Array2<f32>>, Option<Array2<f32>>) {
        let mut groups: BTreeMap<String, Vec<&Array2<f32>>> = BTreeMap::new();
        let mut published = Vec::new();
        for (block, map) in self.blocks.iter().zip(maps) {
            let Some(map) = map else { continue };
            groups.entry(block.level.clone()).or_default().push(map);
            if block.is_published {
                published.push(map);
            }
        }
        let overall = mean(&published, self.size).and_then(|m| render::min_max(m.view()));
        (groups.into_iter().filter_map(|(n, g)| Some((n, mean(&g, self.size)?))).collect(), overall)
    }
}

/// What the prediction is multiplied by for `score`: a row for each half of guidance.
fn vector(trajectory: &Trajectory, at: usize, score: &Score) -> Array4<f32> {
    let step = &trajectory.steps[at];
    let is_guided = trajectory.prompt.unconditional.is_some();
    let ones = || Array4::<f32>::ones(step.latent.dim());
    let pair = |u: Array4<f32>, c: Array4<f32>| stacked(Dimension(0), &[u, c]).unwrap_or_else(|_| ones());
    let for_halves = |one: Array4<f32>| if is_guided { pair(one.clone(), one) } else { one };
    let change = step.unconditional.as_ref().map(|u| &step.conditional - u);
    match (score, change) {
        (Score::Cond, Some(change)) if is_guided => pair(-change.clone(), change),
        (Score::Cond, _) => step.conditional.clone(),
        (Score::Region(mask), _) => for_halves(ones() * mask),
        (Score::Sum, _) => for_halves(ones()),
    }
}

/// DF-CAM at every step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CamExplainer(pub Score);

const NAME: &str = "DF-CAM";

impl Explainer for CamExplainer {
    fn id(&self) -> &'static str {
        "cam"
    }

    fn title(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "which activations carry a step, block by block, from gradients"
    }

    fn maps(&self) -> &'static str {
        "DF-CAM maps"
    }

    fn needs(&self) -> &'static [Capability] {
        &[Capability::Taps, Capability::Gradient]
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        let Subject { pipeline, trajectory, progress, .. } = subject;
        let mut cam = Cam::new(pipeline)?;
        progress.start(NAME, trajectory.steps.len() as u64);
        let mut maps = Vec::with_capacity(trajectory.steps.len());
        for at in 0..trajectory.steps.len() {
            if progress.interrupted() {
                return Err(DiffusionError::Interrupted);
            }
            maps.push(cam.maps(trajectory, at, &self.0)?);
            progress.advance(1);
        }
        progress.finish();
        Ok(self.findings(&cam.blocks, maps))
    }
}

impl CamExplainer {
    fn findings(&self, blocks: &[Tap], maps: Vec<CamMaps>) -> Findings {
        let names: Vec<String> = blocks.iter().map(|b| b.name.clone()).collect();
        let whole = Track::shown("").array("cam").picture("cam").measured(NAME).compared(NAME, None);
        let each = names.iter().map(Track::shown);
        let map = |id: String, title: &str, values: Option<Array2<f32>>| {
            values.map(|values| SaliencyMap::new(id, title, values, Grid::Latent))
        };
        let of_step = |maps: CamMaps| {
            let overall = map("cam".to_owned(), NAME, maps.overall);
            let each = maps.blocks.into_iter().enumerate();
            let each = each.map(|(k, values)| map(format!("cam-block-{}", k + 1), &names[k], values));
            StepFindings { maps: std::iter::once(overall).chain(each).collect(), ..StepFindings::default() }
        };
        let axis = Axis {
            id: "block".to_owned(),
            label: "DF-CAM block".to_owned(),
            options: std::iter::once("all blocks".to_owned()).chain(names.iter().cloned()).collect(),
            listed: Some(("blocks".to_owned(), names.clone().into())),
            ..Axis::default()
        };
        Findings {
            meaning: match self.0 {
                Score::Cond => "Which activations carry what the prompt changes",
                Score::Sum => "Which activations raise the output's sum",
                Score::Region(_) => "Which activations raise the output in a region",
            }
            .to_owned(),
            axes: vec![axis],
            tracks: std::iter::once(whole).chain(each).collect(),
            steps: maps.into_iter().map(of_step).collect(),
            facts: vec![("DF-CAM blocks".to_owned(), blocks.len().to_string())],
            ..Findings::default()
        }
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
        let mut compared = 0;
        for (block, map) in together.blocks.iter().zip(&maps).step_by(5) {
            let mut alone = Cam::of(&mut pipeline, vec![block.clone()]).unwrap();
            let own = alone.maps(&trajectory, 1, &Score::Cond).unwrap().blocks.remove(0);
            match (map, own) {
                (Some(map), Some(own)) => {
                    assert!((map - &own).iter().all(|d| d.abs() < 1e-5), "{}", block.name);
                    compared += 1;
                }
                (map, own) => assert_eq!(map.is_some(), own.is_some(), "{}", block.name),
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
