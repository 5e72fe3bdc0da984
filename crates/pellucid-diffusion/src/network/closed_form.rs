//! A denoiser that is written out: the best one for pictures whose places are normal around a sum of the words' patterns.
//! Every answer, its gradient and its attention are known in closed form, so it stands in for a network in tests.

use super::{Attention, Cannot, Capabilities, Capability, Conditions, Differentiated, Engine, Gradients, LayerInfo};
use super::{Network, Tap, Tapped};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use ndarray::{Array2, Array3, Array4, ArrayView3, Axis, Ix3};
use pellucid_runtime::Array;

/// Data of variance `variance` around the mean m(p) = Σₖ pattern_k(p), noised as x = √ᾱ x0 + √(1−ᾱ) n. Its prediction is x̂0
/// (`Prediction::Sample`):
///
/// E[x0 | x] = m + k (x − √ᾱ m) with k = √ᾱ v / (ᾱ v + 1 − ᾱ)
///
/// Its condition is [`ClosedForm::WORDS`], words × H × W. Its one tap is x − √ᾱ m, where the gradient of ⟨prediction, u⟩ is
/// k u. A place attends to a word by the share that the word's pattern has in its mean.
#[derive(Debug, Clone)]
pub struct ClosedForm {
    schedule: NoiseSchedule,
    latent: [usize; 3],
    variance: f64,
    capabilities: Capabilities,
}

impl ClosedForm {
    /// The name of its condition.
    pub const WORDS: &str = "words";

    /// For latents of this shape (channels, height, width) and data of this variance around their mean.
    pub fn new(schedule: NoiseSchedule, latent: [usize; 3], variance: f64) -> Self {
        Self { schedule, latent, variance, capabilities: Capabilities::all() }
    }

    /// The same as a network that cannot do `which`.
    #[must_use]
    pub fn without(mut self, which: Capability) -> Self {
        let reason = format!("the network was told to have no {which}");
        self.capabilities = self.capabilities.without(Cannot::new(which, reason));
        self
    }

    /// Its condition for the words' patterns, each H × W.
    pub fn condition(patterns: &Array3<f32>) -> Conditions {
        vec![(Self::WORDS.to_owned(), Array::F32(patterns.clone().into_dyn()))]
    }

    fn tap(&self) -> Tap {
        let name = "departure from the mean".to_owned();
        Tap { id: "departure".to_owned(), name, level: "all".to_owned(), is_published: true, shape: self.latent }
    }

    /// √ᾱ and k.
    fn factors(&self, t: usize) -> (f32, f32) {
        let alpha = self.schedule.alpha(Some(t));
        let gain = alpha.sqrt() * self.variance / (alpha * self.variance + 1.0 - alpha);
        (alpha.sqrt() as f32, gain as f32)
    }

    fn patterns<'a>(&self, conditions: &'a Conditions) -> Result<ArrayView3<'a, f32>, DiffusionError> {
        let [_, height, width] = self.latent;
        let found = conditions.iter().find(|(name, _)| name == Self::WORDS).and_then(|(_, array)| array.as_f32());
        let found = found.and_then(|array| array.view().into_dimensionality::<Ix3>().ok());
        found.filter(|p| (p.dim().1, p.dim().2) == (height, width)).ok_or_else(|| DiffusionError::Shape {
            model: self.name().into(),
            reason: format!("its condition '{}' is not words × {height} × {width}", Self::WORDS),
        })
    }

    /// m, and x − √ᾱ m for every row of `x`.
    fn departure(
        &self,
        x: &Array4<f32>,
        t: usize,
        conditions: &Conditions,
    ) -> Result<(Array2<f32>, Array4<f32>), DiffusionError> {
        let mean = self.patterns(conditions)?.sum_axis(Axis(0));
        let (signal, _) = self.factors(t);
        let departure = x - &(&mean * signal);
        Ok((mean, departure))
    }
}

impl Network for ClosedForm {
    fn name(&self) -> String {
        "closed form".to_owned()
    }

    fn engine(&self) -> Engine {
        Engine { name: "Closed form".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn capabilities(&mut self) -> Result<Capabilities, DiffusionError> {
        Ok(self.capabilities.clone())
    }

    fn predict(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
    ) -> Result<Vec<Array4<f32>>, DiffusionError> {
        self.capabilities.can(Capability::Passes)?;
        let (_, gain) = self.factors(t);
        let one = |c: &&Conditions| self.departure(x, t, c).map(|(mean, departure)| departure * gain + &mean);
        conditions.iter().map(one).collect()
    }

    fn taps(&mut self) -> Result<Vec<Tap>, DiffusionError> {
        self.capabilities.can(Capability::Taps)?;
        Ok(vec![self.tap()])
    }

    fn tapped(&mut self, taps: &[Tap]) -> Result<Box<dyn Tapped>, DiffusionError> {
        self.capabilities.can(Capability::Taps)?;
        Ok(Box::new(Open { network: self.clone(), taps: taps.len(), layers: Vec::new() }))
    }

    fn gradients(&mut self, taps: &[Tap]) -> Result<Box<dyn Gradients>, DiffusionError> {
        self.capabilities.can(Capability::Gradient)?;
        Ok(Box::new(Open { network: self.clone(), taps: taps.len(), layers: Vec::new() }))
    }

    fn attention(&mut self) -> Result<Box<dyn Attention>, DiffusionError> {
        self.capabilities.can(Capability::Attention)?;
        let [_, height, width] = self.latent;
        let name = format!("cross-attention 1, {height}×{width}");
        let layer = LayerInfo { name, node: "patterns".to_owned(), grid: (height, width), heads: 1 };
        Ok(Box::new(Open { network: self.clone(), taps: 0, layers: vec![layer] }))
    }
}

/// Any of its doors.
#[derive(Debug)]
struct Open {
    network: ClosedForm,
    taps: usize,
    layers: Vec<LayerInfo>,
}

impl Tapped for Open {
    fn at(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &Conditions,
    ) -> Result<Vec<Option<Array4<f32>>>, DiffusionError> {
        let (_, departure) = self.network.departure(x, t, conditions)?;
        Ok(vec![Some(departure); self.taps])
    }
}

impl Gradients for Open {
    fn at(
        &mut self,
        x: &Array4<f32>,
        t: usize,
        conditions: &[&Conditions],
        vector: &Array4<f32>,
    ) -> Result<Vec<Option<Differentiated>>, DiffusionError> {
        let (_, gain) = self.network.factors(t);
        let departures: Result<Vec<Array4<f32>>, _> =
            conditions.iter().map(|c| self.network.departure(x, t, c).map(|(_, departure)| departure)).collect();
        let activation = super::stacked(Axis(0), &departures?).unwrap_or_default();
        let one = Differentiated { activation, gradient: vector * gain };
        Ok(vec![Some(one); self.taps])
    }
}

impl Attention for Open {
    fn layers(&self) -> &[LayerInfo] {
        &self.layers
    }

    fn at(&mut self, _x: &Array4<f32>, _t: usize, conditions: &Conditions) -> Result<Vec<Array2<f32>>, DiffusionError> {
        let patterns = self.network.patterns(conditions)?;
        let (words, height, width) = patterns.dim();
        let mean = patterns.sum_axis(Axis(0));
        let share = |(place, word): (usize, usize)| {
            let (y, x) = (place / width, place % width);
            patterns[[word, y, x]] / mean[[y, x]].max(f32::MIN_POSITIVE)
        };
        Ok(vec![Array2::from_shape_fn((height * width, words), share)])
    }
}
