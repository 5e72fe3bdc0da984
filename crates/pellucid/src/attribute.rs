//! One picture explained for a class or a neuron, with maps that say how far they can be trusted.

use crate::input::{OnePicture, Taken};
use crate::why::OPACITY;
use crate::{Classifier, Error};
use ndarray::{Array2, ArrayD};
use pellucid_classifier::attribution::{
    self, Attribution, AttributionError, AttributionSettings, METHODS, Method, Subject,
};
use pellucid_classifier::network::{self, Taps};
use pellucid_classifier::statistics::quantile;
use pellucid_saliency::SaliencyMap;
use pellucid_saliency::render;
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::Layout;
use serde::Serialize;

/// What is explained, as the user names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// The class that the model answers.
    #[default]
    Answer,
    /// A class by name or number.
    Class(String),
    /// A neuron.
    Neuron(usize),
}

/// The maps of one picture.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Attributions {
    /// What is explained.
    pub subject: Subject,
    /// The same in words.
    pub title: String,
    /// One map a method, with its scores.
    pub maps: Vec<Attribution>,
    /// What the model saw.
    #[serde(skip)]
    pub seen: Picture,
}

impl Attributions {
    /// A map over what the model saw: what speaks for the subject, up to its 99th percentile, since single pixels of a gradient
    /// stand far above the rest. `None` for one that is flagged.
    pub fn drawn(&self, map: &SaliencyMap) -> Option<Picture> {
        if map.flag.is_some() {
            return None;
        }
        render::render(&self.seen, shown(&map.values).view(), map.alignment, OPACITY)
    }
}

/// Explains one picture with each of `methods`, by their ids ([`attribution_methods`]); all of them where none is named.
///
/// # Errors
/// Where the picture cannot be read, a class, neuron or method does not exist, a method needs what the network does not offer,
/// or the network fails.
pub fn attribute(
    classifier: &Classifier,
    picture: impl Into<OnePicture>,
    question: &Question,
    methods: &[&str],
    settings: &AttributionSettings,
) -> Result<Attributions, Error> {
    let methods = named(methods)?;
    let Taken { seen, input } = picture.into().take(classifier)?;
    let preprocessing = classifier.preprocessing();
    let (subject, title) = subject(classifier, question, &input)?;
    let channels_first = preprocessing.layout == Layout::Nchw;
    let maps = attribution::attribute(
        classifier.network(),
        [&input, classifier.gray()],
        channels_first,
        subject,
        &methods,
        settings,
    )?;
    Ok(Attributions { subject, title, maps, seen })
}

/// The attribution methods there are, in the order that they are shown in.
pub fn attribution_methods() -> &'static [&'static dyn Method] {
    METHODS
}

fn named(ids: &[&str]) -> Result<Vec<&'static dyn Method>, AttributionError> {
    if ids.is_empty() {
        return Ok(METHODS.to_vec());
    }
    let unknown = |id: &str| AttributionError::Method {
        name: id.to_owned(),
        known: METHODS.iter().map(|m| m.id()).collect::<Vec<_>>().join(", "),
    };
    ids.iter().map(|id| attribution::method(id).ok_or_else(|| unknown(id))).collect()
}

fn shown(map: &Array2<f32>) -> Array2<f32> {
    let mut values: Vec<f64> = map.iter().map(|v| f64::from(v.max(0.0))).collect();
    values.sort_by(f64::total_cmp);
    let high = quantile(&values, 0.99) as f32;
    if high > 0.0 { map.mapv(|v| v.clamp(0.0, high)) } else { map.clone() }
}

fn subject(classifier: &Classifier, question: &Question, input: &ArrayD<f32>) -> Result<(Subject, String), Error> {
    let class = match question {
        Question::Neuron(j) => return Ok((Subject::Neuron(*j), format!("neuron {j}"))),
        Question::Class(name) => classifier.class_index(name)?,
        Question::Answer => {
            let given = network::forward(classifier.network(), input, Taps::Vectors)?;
            pellucid_classifier::scan::predicted(&given.logits.row(0).to_vec())
        }
    };
    // A head of one logit has one score for both classes.
    let index = if classifier.network().layer().classes() == 1 { 0 } else { class };
    Ok((Subject::Class(index), classifier.class_name(class)))
}
