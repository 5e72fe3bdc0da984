//! The level of denoising by spatial frequency (`docs/methods.md#b4`): how far x̂0 has come towards the final picture in each
//! octave, from large structures to fine ones, beside a Wiener denoiser that knows of the picture its spectrum and nothing
//! else.
//!
//! One number for all frequencies saturates at the second step. And an order from coarse to fine follows already from the
//! spectra of pictures, which fall with frequency while noise does not; so the order alone says nothing about a network.
//! What it adds is the distance from the control.

use super::places::{clipped, root_mean};
use super::{
    Amount, Arrival, Arrivals, Axis, Curve, Explainer, Findings, StepFigure, StepFindings, Subject, Track, settled,
};
use crate::error::DiffusionError;
use crate::network::Capability;
use crate::noise::gaussian;
use crate::spectrum::{self, inverse, rings, transform, upper_ends};
use crate::trajectory::Trajectory;
use ndarray::{Array1, Array2, Array3, Array4, ArrayView3, Axis as Dimension};
use pellucid_saliency::stats::{Rising, rising};
use pellucid_saliency::{Grid, SaliencyMap};
use rustfft::num_complex::Complex;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A band is done from the step on from which its level stays at least this high.
const DONE: f64 = 0.8;
/// x̂0 and the final picture agree in a ring where their correlation is at least this high.
const COHERENT: f64 = 0.9;
/// A band with less than this share of the final picture's power has no level.
const POWERLESS: f64 = 1e-8;
/// Steps by which two bands' mean arrivals must differ to be told apart.
const RESOLUTION: f64 = 0.1;
/// The level at which an order from coarse to fine is claimed.
const CLAIMED: f64 = 0.05;

/// A band of radial frequency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Structures of the band by their period, for people: `8–16 px`.
    pub name: String,
    /// Radial frequency in cycles per pixel: above the first, up to the second.
    pub cycles: [f64; 2],
    /// Share of the final picture's power, the mean left out.
    pub share: f64,
    /// L at every step: at most 1; below 0 where x̂0 is further from the picture than its mean alone.
    pub levels: Vec<f64>,
    /// The step (from 0) from which on L stays at least 0.8; `None` where it never does.
    pub done: Option<usize>,
    /// Σ (1 − L) over the steps, L within 0…1: the mean step at which the band's power arrives.
    pub arrival: f64,
}

/// How far a trajectory, or the control, has come by frequency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// Bands, coarse to fine; those without frequencies or without power in the final picture are left out.
    pub bands: Vec<Band>,
    /// At every step, cycles over the picture's shorter side up to which every ring agrees with the final picture.
    pub coherence: Vec<usize>,
    /// Whether the bands' arrivals rise from coarse to fine; `None` for fewer than three bands.
    pub order: Option<Rising>,
}

impl Levels {
    /// Whether the picture's bands arrive from coarse to fine with certainty.
    pub fn is_coarse_to_fine(&self) -> bool {
        self.order.is_some_and(|order| order.p <= CLAIMED)
    }
}

/// A trajectory's levels and the control's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ByFrequency {
    /// The network's.
    #[serde(flatten)]
    pub network: Levels,
    /// Those of the Wiener denoiser with the final latent's spectrum.
    pub wiener: Levels,
}

/// The final picture, to which others are compared.
#[derive(Debug)]
pub struct Target {
    picture: Array3<f32>,
    spectrum: Vec<Array2<Complex<f64>>>,
    bands: Array2<Option<usize>>,
    rings: Array2<usize>,
    /// Power by band and by ring.
    power: [f64; spectrum::BANDS],
    ring_power: Vec<f64>,
}

/// Power of one picture's difference to the target in every band, and the correlation of every ring.
struct Compared {
    missing: [f64; spectrum::BANDS],
    /// `None` where neither has power.
    coherence: Vec<Option<f64>>,
}

impl Target {
    /// The picture (channels × h × w, in [−1, 1]; what lies outside is clipped).
    pub fn new(picture: ArrayView3<'_, f32>) -> Self {
        let picture = clipped(picture);
        let size = (picture.dim().1, picture.dim().2);
        let spectrum: Vec<_> = picture.outer_iter().map(transform).collect();
        let mut target = Self {
            picture,
            spectrum,
            bands: spectrum::bands(size),
            rings: rings(size),
            power: [0.0; spectrum::BANDS],
            ring_power: Vec::new(),
        };
        target.power = target.by_band(&target.spectrum);
        target.ring_power = target.by_ring(|channel, place| target.spectrum[channel][place].norm_sqr());
        target
    }

    fn by_band(&self, spectrum: &[Array2<Complex<f64>>]) -> [f64; spectrum::BANDS] {
        let mut power = [0.0; spectrum::BANDS];
        for (value, band) in spectrum.iter().flat_map(|plane| plane.iter().zip(&self.bands)) {
            if let Some(band) = band {
                power[*band] += value.norm_sqr();
            }
        }
        power
    }

    /// The sum of `of` over channels and entries of every ring up to the Nyquist frequency.
    fn by_ring(&self, of: impl Fn(usize, (usize, usize)) -> f64) -> Vec<f64> {
        let (height, width) = self.rings.dim();
        let mut sums = vec![0.0; height.min(width) / 2 + 1];
        for (place, &ring) in self.rings.indexed_iter() {
            if let Some(sum) = sums.get_mut(ring) {
                *sum += (0..self.spectrum.len()).map(|channel| of(channel, place)).sum::<f64>();
            }
        }
        sums
    }

    fn compare(&self, decoded: ArrayView3<'_, f32>) -> Compared {
        let spectrum: Vec<_> = clipped(decoded).outer_iter().map(transform).collect();
        let difference: Vec<_> = spectrum.iter().zip(&self.spectrum).map(|(a, b)| a - b).collect();
        let own = self.by_ring(|channel, place| spectrum[channel][place].norm_sqr());
        let shared =
            self.by_ring(|channel, place| (spectrum[channel][place] * self.spectrum[channel][place].conj()).re);
        let least = POWERLESS * self.ring_power.iter().skip(1).sum::<f64>();
        let coherence = |ring: usize| match (own[ring] > least, self.ring_power[ring] > least) {
            (false, false) => None,
            (true, true) => Some(shared[ring] / (own[ring] * self.ring_power[ring]).sqrt()),
            _ => Some(0.0),
        };
        Compared { missing: self.by_band(&difference), coherence: (0..own.len()).map(coherence).collect() }
    }

    /// The amplitude that is missing in `decoded`, root mean square over channels and over the pixels of every place of a
    /// grid of `size`: in all bands together, then in each.
    pub fn missing(&self, decoded: ArrayView3<'_, f32>, size: (usize, usize)) -> Vec<Array2<f32>> {
        let difference: Vec<_> = (&clipped(decoded) - &self.picture).outer_iter().map(transform).collect();
        let within = |keep: &dyn Fn(usize) -> bool| {
            let mut sum = Array2::<f32>::zeros(self.bands.dim());
            for plane in &difference {
                let mut kept = plane.clone();
                kept.zip_mut_with(&self.bands, |v, band| {
                    if !band.is_some_and(keep) {
                        *v = Complex::default();
                    }
                });
                sum.zip_mut_with(&inverse(kept), |sum, v| *sum += v * v / difference.len() as f32);
            }
            root_mean(&sum, size)
        };
        std::iter::once(within(&|_| true)).chain((0..spectrum::BANDS).map(|b| within(&|band| band == b))).collect()
    }

    /// Which bands have power, of those that there are.
    fn has_power(&self) -> [bool; spectrum::BANDS] {
        let all: f64 = self.power.iter().sum();
        self.power.map(|power| all > 0.0 && power > POWERLESS * all)
    }

    /// The levels of `steps`, from noise to picture.
    pub fn levels<'a>(&self, steps: impl IntoIterator<Item = ArrayView3<'a, f32>>) -> Levels {
        self.levels_of(&steps.into_iter().map(|decoded| self.compare(decoded)).collect::<Vec<_>>())
    }

    fn levels_of(&self, compared: &[Compared]) -> Levels {
        let all: f64 = self.power.iter().sum();
        let ends = upper_ends();
        let band = |band: usize| {
            let levels: Vec<f64> = compared.iter().map(|c| 1.0 - c.missing[band] / self.power[band]).collect();
            let from = if band == 0 { 0.0 } else { ends[band - 1] };
            Band {
                name: period(band),
                cycles: [from, if band + 1 == spectrum::BANDS { 0.5f64.sqrt() } else { ends[band] }],
                share: self.power[band] / all,
                done: settled(&levels, DONE),
                arrival: levels.iter().map(|l| 1.0 - l.clamp(0.0, 1.0)).sum(),
                levels,
            }
        };
        let has_power = self.has_power();
        let bands: Vec<Band> = (0..spectrum::BANDS).filter(|b| has_power[*b]).map(band).collect();
        let order = rising(&bands.iter().map(|band| band.arrival).collect::<Vec<_>>(), RESOLUTION);
        Levels { bands, coherence: compared.iter().map(coherent_up_to).collect(), order }
    }
}

/// A band's structures by their period in pixels.
fn period(band: usize) -> String {
    let longest = |band: usize| 1.0 / upper_ends()[band];
    match band {
        0 => format!("{} px and more", longest(0)),
        _ if band + 1 == spectrum::BANDS => format!("under {} px", longest(band - 1)),
        _ => format!("{}–{} px", longest(band), longest(band - 1)),
    }
}

/// The last ring before the first that does not agree.
fn coherent_up_to(compared: &Compared) -> usize {
    let fails = |c: &Option<f64>| c.is_some_and(|c| c < COHERENT);
    compared.coherence.iter().skip(1).position(fails).unwrap_or(compared.coherence.len().saturating_sub(1))
}

/// What a denoiser says that knows of the latent `last` (1 × Ch × H × W) its mean and, channel by channel, its power at every
/// radial frequency, when it is given √ᾱ `last` + √(1−ᾱ) `noise`: H x with H = √ᾱ S / (ᾱ S + (1−ᾱ) H W).
pub fn wiener(last: &Array4<f32>, noise: &Array4<f32>, alpha: f64) -> Array4<f32> {
    let (_, _, height, width) = last.dim();
    let rings = rings((height, width));
    let most = rings.iter().max().copied().unwrap_or(0);
    let mut said = last.clone();
    for (channel, mut plane) in said.index_axis_mut(Dimension(0), 0).outer_iter_mut().enumerate() {
        let clean = transform(plane.view());
        let noise = transform(noise.index_axis(Dimension(0), 0).index_axis(Dimension(0), channel));
        let (mut power, mut count) = (vec![0.0; most + 1], vec![0.0; most + 1]);
        for (value, &ring) in clean.iter().zip(&rings) {
            power[ring] += value.norm_sqr();
            count[ring] += 1.0;
        }
        let mut filtered = clean.clone();
        for ((place, value), &ring) in filtered.indexed_iter_mut().zip(&rings) {
            if place == (0, 0) {
                continue;
            }
            let signal = power[ring] / count[ring];
            let noisy = clean[place] * alpha.sqrt() + noise[place] * (1.0 - alpha).sqrt();
            let both = alpha * signal + (1.0 - alpha) * (height * width) as f64;
            *value = if both > 0.0 { noisy * (alpha.sqrt() * signal / both) } else { Complex::default() };
        }
        plane.assign(&inverse(filtered));
    }
    said
}

/// The level of denoising by frequency, which the trajectory alone says; the control costs a decoding a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandsExplainer {}

const NAME: &str = "Detail by size";

impl Explainer for BandsExplainer {
    fn id(&self) -> &'static str {
        "bands"
    }

    fn title(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "how far structures of each size have come, coarse to fine"
    }

    fn maps(&self) -> &'static str {
        "maps of missing detail"
    }

    fn needs(&self) -> &'static [Capability] {
        &[]
    }

    fn settings(&self) -> serde_json::Value {
        json!({})
    }

    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        let trajectory = subject.trajectory;
        let target = Target::new(trajectory.picture.view());
        let network = target.levels(trajectory.steps.iter().map(|step| step.decoded.view()));
        let found = ByFrequency { network, wiener: control(subject, &target)? };
        let [_, height, width] = subject.pipeline.latent;
        let missing = trajectory.steps.iter().map(|step| target.missing(step.decoded.view(), (height, width)));
        Ok(findings(&found, missing.collect(), target.has_power()))
    }
}

/// The levels of a Wiener denoiser that is given the final latent with the noise of each step.
fn control(subject: &mut Subject<'_>, target: &Target) -> Result<Levels, DiffusionError> {
    let Subject { pipeline, trajectory, progress, .. } = subject;
    let Trajectory { steps, last, settings, .. } = trajectory;
    // Not the noise that the picture was made from.
    let numbers = gaussian(!settings.seed, last.len());
    let noise = Array4::from_shape_vec(last.dim(), numbers).unwrap_or_else(|_| Array4::zeros(last.dim()));
    let mut compared = Vec::with_capacity(steps.len());
    progress.start("spectral control", steps.len() as u64);
    for step in steps {
        if progress.interrupted() {
            return Err(DiffusionError::Interrupted);
        }
        let said = wiener(last, &noise, pipeline.schedule.alpha(Some(step.t)));
        compared.push(target.compare(pipeline.decode(&said)?.index_axis(Dimension(0), 0)));
        progress.advance(1);
    }
    progress.finish();
    Ok(target.levels_of(&compared))
}

fn findings(found: &ByFrequency, missing: Vec<Vec<Array2<f32>>>, has_power: [bool; spectrum::BANDS]) -> Findings {
    let ByFrequency { network, wiener } = found;
    // All bands together, then those that have a level.
    let shown: Vec<usize> =
        std::iter::once(0).chain((0..spectrum::BANDS).filter(|b| has_power[*b]).map(|b| b + 1)).collect();
    let names: Vec<String> = network.bands.iter().map(|band| band.name.clone()).collect();
    let captions = std::iter::once("all sizes".to_owned()).chain(names.iter().cloned());
    let most = |map: usize| missing.iter().flat_map(|maps| &maps[map]).fold(0.0f32, |most, v| most.max(*v));
    let track = |(at, caption): (&usize, String)| {
        let array = if *at == 0 { "missing".to_owned() } else { format!("missing_{at}") };
        Track { range: Some((0.0, most(*at))), ..Track::shown(caption).array(array) }
    };
    let tracks = shown.iter().zip(captions.clone()).map(track).collect();
    let of_step = |(maps, &radius): (&Vec<Array2<f32>>, &usize)| StepFindings {
        maps: shown
            .iter()
            .map(|&at| Some(SaliencyMap::new(format!("missing-{at}"), NAME, maps[at].clone(), Grid::Latent)))
            .collect(),
        figures: vec![StepFigure {
            id: "coherence_radius",
            title: "coherence radius",
            amount: Amount::Count(radius as u64),
        }],
        reading: match radius {
            0 => "no size agrees yet".to_owned(),
            1 => "agrees up to 1 cycle over the picture".to_owned(),
            _ => format!("agrees up to {radius} cycles over the picture"),
        },
        status: String::new(),
    };
    let rows = network.bands.iter().zip(&wiener.bands).map(|(band, control)| Arrival {
        name: band.name.clone(),
        levels: band.levels.clone(),
        control: control.levels.clone(),
    });
    Findings {
        meaning: "Where x̂0 still differs from the final picture, by the size of what is missing".to_owned(),
        axes: vec![Axis {
            id: "size".to_owned(),
            label: "Size of structures".to_owned(),
            options: captions.collect(),
            ..Axis::default()
        }],
        tracks,
        steps: missing.iter().zip(&network.coherence).map(of_step).collect(),
        arrivals: vec![Arrivals {
            title: "Coarse to fine?".to_owned(),
            meaning:
                "How much of the final picture's power x̂0 has, by the size of structures. The dot is the step from \
                      which on it has 80 %. Behind it, dashed, a Wiener denoiser that knows the picture's spectrum and \
                      nothing else: the order alone follows from the spectrum, the distance is what the network adds."
                    .to_owned(),
            threshold: DONE,
            control: "Wiener denoiser with the same spectrum".to_owned(),
            rows: rows.collect(),
        }],
        curves: vec![Curve {
            title: "Coherence radius".to_owned(),
            meaning:
                "Cycles over the picture's shorter side up to which x̂0 agrees with the final picture (correlation of \
                      every ring at least 0.9)."
                    .to_owned(),
            lines: vec![
                ("network".to_owned(), network.coherence.iter().map(|&r| r as f64).collect()),
                ("Wiener denoiser".to_owned(), wiener.coherence.iter().map(|&r| r as f64).collect()),
            ],
            range: None,
        }],
        conclusions: conclusions(found),
        arrays: vec![
            ("band_levels".to_owned(), level_array(network).into_dyn()),
            ("band_levels_wiener".to_owned(), level_array(wiener).into_dyn()),
            (
                "coherence_radius".to_owned(),
                network.coherence.iter().map(|&r| r as f32).collect::<Array1<_>>().into_dyn(),
            ),
        ],
        results: serde_json::to_value(found).ok(),
        ..Findings::default()
    }
}

/// Steps × bands.
fn level_array(levels: &Levels) -> Array2<f32> {
    Array2::from_shape_fn((levels.coherence.len(), levels.bands.len()), |(at, band)| {
        levels.bands[band].levels[at] as f32
    })
}

fn conclusions(found: &ByFrequency) -> Vec<String> {
    let ByFrequency { network, wiener } = found;
    let steps = network.coherence.len();
    let Some(order) = network.order else {
        return vec![format!(
            "The picture has power in {} of {} bands: too few to say whether it comes from coarse to fine.",
            network.bands.len(),
            spectrum::BANDS
        )];
    };
    let done = |levels: &Levels| {
        let number = |band: &Band| band.done.map_or("never".to_owned(), |step| (step + 1).to_string());
        levels.bands.iter().map(number).collect::<Vec<_>>().join(", ")
    };
    let sizes: Vec<&str> = network.bands.iter().map(|band| band.name.as_str()).collect();
    let verdict = if network.is_coarse_to_fine() {
        "This picture comes from coarse to fine"
    } else {
        "No order from coarse to fine is shown for this picture"
    };
    let first = format!(
        "{verdict}: structures of {} are done at steps {} of {steps} (Kendall's τ of the arrivals {:.2}, exact p = {:.3}).",
        sizes.join(", "),
        done(network),
        order.tau,
        order.p
    );
    let second = match wiener.order {
        Some(order) if order.p <= CLAIMED => format!(
            "A Wiener denoiser, which knows the spectrum alone, goes from coarse to fine too (steps {}): {}.",
            done(wiener),
            ahead(network, wiener)
        ),
        _ => {
            format!("A Wiener denoiser, which knows the spectrum alone, shows no such order (steps {}).", done(wiener))
        }
    };
    vec![first, second]
}

/// What the network adds to an order that the spectrum gives.
fn ahead(network: &Levels, wiener: &Levels) -> String {
    let leads: Vec<f64> = network.bands.iter().zip(&wiener.bands).map(|(n, w)| w.arrival - n.arrival).collect();
    let (least, most) =
        (leads.iter().copied().fold(f64::MAX, f64::min), leads.iter().copied().fold(f64::MIN, f64::max));
    if least >= RESOLUTION {
        format!("what the network adds is that power arrives {least:.1} to {most:.1} steps earlier")
    } else {
        format!("against it the network is from {:.1} steps later to {most:.1} steps earlier", -least)
    }
}

#[cfg(test)]
mod tests;
