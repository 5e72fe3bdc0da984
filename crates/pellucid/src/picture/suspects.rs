//! The pictures of a diagnosis: its first suspect neurons, each from a real picture that leaves it silent, and from noise.

use super::Files;
use super::draw::{Drawn, draw, keep, pictured};
use super::response::Responses;
use crate::{Classifier, Error, Progress, Warning};
use ndarray::{Array1, Array2, Axis};
use pellucid_classifier::feature_visualization::results::PicturedNeuron;
use pellucid_classifier::feature_visualization::{
    Illusion, IllusionError, Network, ObjectiveKind, Studied, Target, VisualizationSettings, mask, optimise,
};
use pellucid_classifier::network::{self, Taps};
use pellucid_classifier::repair::sensitivity;
use pellucid_classifier::results::Finding;
use pellucid_classifier::scan::FeatureTable;
use pellucid_vision::augment::Augmentation;
use pellucid_vision::dataset::Dataset;
use pellucid_vision::picture::Picture;
use std::sync::Arc;

/// Steps of a picture: enough to see what drives a neuron, within a minute or two for three neurons on two cores.
const STEPS: usize = 100;
/// What lies around a picture that is turned and moved: gray, as a black frame would be evidence of its own.
const FRAME: f32 = 0.5;

/// The data that a diagnosis or a repair is made from.
pub(crate) struct Diagnosed<'a> {
    pub data: &'a Arc<Dataset>,
    pub table: &'a FeatureTable,
}

/// Pictures of suspect neurons.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    pub neurons: Vec<PicturedNeuron>,
    /// Their files.
    pub files: Files,
    /// Why there are none.
    pub warning: Option<Warning>,
}

/// Pictures of the neurons `suspects`, with the sensitivity score for the class of each.
///
/// A neuron is pictured twice: from the real picture of its class that excites it least, changed until it responds, which
/// shows the evidence that was missing; and from noise, which is what the score is read off. Not every model has gradients:
/// what it is made for stands without pictures, so that anything but an interruption is a warning.
pub(crate) fn picture_suspects(
    classifier: &Classifier,
    diagnosed: &Diagnosed<'_>,
    suspects: &[Target],
    seed: u64,
    progress: &dyn Progress,
) -> Result<Suspects, Error> {
    match picture_all(classifier, diagnosed, suspects, seed, progress) {
        Err(error) if !matches!(error, Error::Illusion(IllusionError::Interrupted { .. })) => {
            let warning = Some(Warning::NoPictures { reason: error.to_string() });
            Ok(Suspects { warning, ..Suspects::default() })
        }
        made => made,
    }
}

fn picture_all(
    classifier: &Classifier,
    diagnosed: &Diagnosed<'_>,
    suspects: &[Target],
    seed: u64,
    progress: &dyn Progress,
) -> Result<Suspects, Error> {
    let Diagnosed { data, table } = *diagnosed;
    if suspects.is_empty() {
        return Ok(Suspects::default());
    }
    let onnx = classifier.onnx("pictures of neurons")?;
    let scores = Scores::new(classifier, table);
    let visualization = VisualizationSettings::default()
        .with_objective(ObjectiveKind::Channel)
        .with_steps(STEPS)
        .with_augmentation(Augmentation { fill: FRAME, ..Augmentation::default() })
        .with_seeds(1)
        .with_seed(seed)
        .with_session(onnx.session().clone())
        .with_memory(onnx.memory());
    let studied = Studied {
        model: onnx.tapped(),
        preprocessing: classifier.preprocessing(),
        classes: classifier.layer().classes(),
        layer: None,
    };
    let mut network = Network::compile(onnx.runtime(), &studied, None, &visualization)?;
    let texts = vec![Vec::new(); suspects.len()];
    // The neuron alone: a class logit of many units would draw the class instead.
    let alone: Vec<Target> = suspects.iter().map(|s| Target { channel: s.channel, class: None }).collect();
    let from_noise = optimise(&mut network, &alone, &texts, None, &visualization, progress)?;
    let responses = Responses::known(classifier, data, table, suspects.iter().map(|s| s.channel))?;
    let (mut neurons, mut files) = (Vec::new(), Files::new());
    for ((target, alone), noise) in suspects.iter().zip(&alone).zip(&from_noise) {
        let shown = responses.of(target.channel, super::CROPS, &mut files)?;
        let mut pictures = Vec::new();
        if let Some(index) = silent(table, target) {
            let real = data.view(index, classifier.preprocessing(), classifier.budget())?;
            let one = std::slice::from_ref(alone);
            let made = optimise(&mut network, one, &[Vec::new()], Some(&real), &visualization, progress)?;
            let file = keep(&mut files, format!("neuron-{}-start.png", target.channel), &real)?;
            for one in &made {
                let drawn = Drawn { one, suffix: "-from-picture", data: Some(&shown) };
                let mut picture = draw(classifier, drawn, None, &[], &mut files)?;
                picture.start = Some(file.clone());
                pictures.push(picture);
            }
        }
        let drawn = Drawn { one: noise, suffix: "", data: Some(&shown) };
        let mut picture = draw(classifier, drawn, None, &[], &mut files)?;
        picture.sensitivity = scores.of(noise, target)?;
        pictures.push(picture);
        neurons.push(pictured(classifier, target, pictures, Some(shown), true));
    }
    Ok(Suspects { neurons, files, warning: None })
}

/// Sensitivity scores: the features of a whole picture against those of the neuron's heat region alone.
struct Scores<'a> {
    classifier: &'a Classifier,
    means: Array2<f64>,
}

impl<'a> Scores<'a> {
    fn new(classifier: &'a Classifier, table: &FeatureTable) -> Self {
        Self { classifier, means: sensitivity::class_means(table, classifier.layer().classes()) }
    }

    fn of(&self, one: &Illusion, target: &Target) -> Result<Option<f64>, Error> {
        let side = one.picture.width() as usize;
        let region = one.map.as_ref().and_then(|map| mask::heat_region(map.view(), side, side));
        let (Some(class), Some(region)) = (target.class, region) else { return Ok(None) };
        let (whole, masked) = (self.features(&one.picture)?, self.features(&mask::dimmed(&one.picture, &region))?);
        Ok(sensitivity::score(whole.view(), masked.view(), &self.means, class))
    }

    fn features(&self, picture: &Picture) -> Result<Array1<f32>, Error> {
        let input = self.classifier.preprocessing().run(picture).insert_axis(Axis(0));
        let given = network::forward(self.classifier.network(), &input.into_dyn(), Taps::Vectors)?;
        Ok(given.features.row(0).to_owned())
    }
}

/// The first neurons of the evidence gaps with their findings' classes, each neuron once, the findings in turn.
pub(crate) fn standing_out(findings: &[Finding], count: usize) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    let longest = findings.iter().map(|f| f.gap.len()).max().unwrap_or(0);
    for rank in 0..longest {
        for finding in findings {
            let Some(neuron) = finding.gap.get(rank) else { continue };
            if found.len() < count && !found.iter().any(|target| target.channel == neuron.index) {
                found.push(Target { channel: neuron.index, class: finding.class });
            }
        }
    }
    found
}

/// The picture of the target's class (of any, without one) that excites its neuron least.
fn silent(table: &FeatureTable, target: &Target) -> Option<usize> {
    let of_class = |row: &usize| target.class.is_none_or(|class| table.labels[*row] == class);
    let rows = (0..table.index.len()).filter(of_class);
    let activation = |row: usize| table.features[[row, target.channel]];
    rows.min_by(|&a, &b| activation(a).total_cmp(&activation(b)).then(a.cmp(&b))).map(|row| table.index[row])
}
