//! Finished pictures as files and in words.

use super::Files;
use crate::{Classifier, Error};
use pellucid_classifier::feature_visualization::results::{DataResponse, NeuronPicture, PicturedNeuron};
use pellucid_classifier::feature_visualization::{Illusion, Target, mask};
use pellucid_classifier::guide::Guide;
use pellucid_vision::picture::Picture;

/// Puts `picture` among `files`; gives its name.
pub(super) fn keep(files: &mut Files, name: String, picture: &Picture) -> Result<String, Error> {
    files.insert(name.clone(), picture.to_png()?);
    Ok(name)
}

/// A target with its pictures; `is_neuron` tells it from a channel of another layer.
pub(super) fn pictured(
    classifier: &Classifier,
    target: &Target,
    pictures: Vec<NeuronPicture>,
    data: Option<DataResponse>,
    is_neuron: bool,
) -> PicturedNeuron {
    PicturedNeuron {
        neuron: target.channel,
        class: target.class,
        class_name: target.class.map(|c| classifier.class_name(c)),
        weight: target.class.filter(|_| is_neuron).map(|c| classifier.layer().weight[[c, target.channel]]),
        pictures,
        data,
    }
}

/// A picture that is drawn.
pub(super) struct Drawn<'a> {
    /// It.
    pub one: &'a Illusion,
    /// What its files' names end in.
    pub suffix: &'a str,
    /// What a data set says of its neuron.
    pub data: Option<&'a DataResponse>,
}

/// Puts one picture into `files` and says what it shows.
pub(super) fn draw(
    classifier: &Classifier,
    Drawn { one, suffix, data }: Drawn<'_>,
    guide: Option<&mut Guide>,
    vocabulary: &[(String, Vec<f32>)],
    files: &mut Files,
) -> Result<NeuronPicture, Error> {
    let class = one.target.class.map_or(String::new(), |c| format!("-class-{c}"));
    let stem = format!("neuron-{}{class}-seed-{}{suffix}", one.target.channel, one.seed);
    let side = one.picture.width() as usize;
    let file = keep(files, format!("{stem}.png"), &one.picture)?;
    let mask = one.map.as_ref().and_then(|map| mask::heat_mask(map.view(), side, side));
    let masked = match &mask {
        Some(mask) => Some(keep(files, format!("{stem}-masked.png"), &mask::dimmed(&one.picture, mask))?),
        None => None,
    };
    let fraction = |of: f32| (of > 0.0).then(|| one.activation / of);
    let label = match guide {
        Some(guide) => guide.label(&one.picture, vocabulary)?,
        None => None,
    };
    let finite = |v: f32| v.is_finite().then_some(v);
    Ok(NeuronPicture {
        seed: one.seed,
        file,
        masked,
        masked_contrast: mask.as_ref().map(|_| one.map_contrast),
        start: None,
        steps: one.steps,
        activation: one.activation,
        of_max: data.and_then(|d| fraction(d.max)),
        of_p99: data.and_then(|d| fraction(d.p99)),
        logit: finite(one.logit),
        similarity: finite(one.similarity),
        label,
        sensitivity: None,
        answer: one.top_classes.iter().map(|&(c, z)| (classifier.class_name(c), z)).collect(),
        flags: flags(one, mask.is_none(), data),
    })
}

/// What is wrong with a picture, in words.
fn flags(one: &Illusion, unmasked: bool, data: Option<&DataResponse>) -> Vec<String> {
    let mut flags = Vec::new();
    if let Some(step) = one.diverged {
        flags.push(format!("diverged at step {step} (NaN or infinity); the picture is that of the step before"));
    }
    if one.dead {
        flags.push("dead: it never responded, on the way or at the end".to_owned());
    }
    if data.is_some_and(|d| d.dead) {
        flags.push("no picture of the data set activates it".to_owned());
    }
    if unmasked && one.map.is_some() {
        flags.push("its map is constant on this picture".to_owned());
    }
    if one.plateau {
        flags.push(format!("stopped at step {}, as nothing was gained any more", one.steps));
    }
    flags
}
