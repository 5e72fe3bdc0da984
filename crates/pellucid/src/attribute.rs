//! One picture explained for a class or a neuron, with maps that say how far they can be trusted.

use crate::input::{OnePicture, Taken};
use crate::why::OPACITY;
use crate::{Classifier, Error, Warning};
use ndarray::{Array2, ArrayD};
use pellucid_classifier::attribution::{
    self, Attribution, AttributionError, AttributionSettings, METHODS, Method, Subject,
};
use pellucid_classifier::network::{self, Offer, Taps};
use pellucid_classifier::statistics::quantile;
use pellucid_runtime::Array;
use pellucid_saliency::SaliencyMap;
use pellucid_saliency::render;
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::Layout;
use pellucid_vision::preprocess::ViewBox;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is explained, as the user names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// The class that the model answers.
    #[default]
    Answer,
    /// A class by name or number.
    Class(String),
    /// What speaks against a class: the maps of its negated score.
    Against(String),
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
    /// What the user should know.
    pub warnings: Vec<Warning>,
    /// Where what the model saw lies in the picture; `None` for an input that was prepared already.
    pub view: Option<ViewBox>,
    /// What the model saw.
    #[serde(skip)]
    pub seen: Picture,
    /// The whole picture; `None` for an input that was prepared already.
    #[serde(skip)]
    pub picture: Option<Picture>,
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

    /// A map on the grid of the whole picture, one value a pixel; 0 where the model saw nothing.
    pub fn on_picture(&self, map: &SaliencyMap) -> Option<Array2<f32>> {
        Some(on_picture(&map.values, self.view.as_ref()?))
    }

    /// A map over the whole picture, drawn as [`Attributions::drawn`] does.
    pub fn drawn_on_picture(&self, map: &SaliencyMap) -> Option<Picture> {
        if map.flag.is_some() {
            return None;
        }
        let values = on_picture(&shown(&map.values), self.view.as_ref()?);
        render::render(self.picture.as_ref()?, values.view(), map.alignment, OPACITY)
    }

    /// Every map as numbers, by its id: one value a pixel of the model's input.
    pub fn arrays(&self) -> BTreeMap<String, Array> {
        let array = |found: &Attribution| (found.map.id.clone(), Array::F32(found.map.values.clone().into_dyn()));
        self.maps.iter().map(array).collect()
    }
}

/// A map of the model's view on the grid of the picture, between its samples linearly; 0 outside the view.
pub(crate) fn on_picture(values: &Array2<f32>, view: &ViewBox) -> Array2<f32> {
    let (rows, columns) = values.dim();
    let [width, height] = view.picture.map(|side| side as usize);
    if rows == 0 || columns == 0 {
        return Array2::zeros((height, width));
    }
    let scale = [columns as f64 / f64::from(view.view[0]), rows as f64 / f64::from(view.view[1])];
    Array2::from_shape_fn((height, width), |(y, x)| {
        let (u, v) = view.to_view(x as f64 + 0.5, y as f64 + 0.5);
        let inside = (0.0..=f64::from(view.view[0])).contains(&u) && (0.0..=f64::from(view.view[1])).contains(&v);
        if !inside {
            return 0.0;
        }
        let (across, down) = ((u * scale[0] - 0.5).max(0.0), (v * scale[1] - 0.5).max(0.0));
        let (left, top) = ((across as usize).min(columns - 1), (down as usize).min(rows - 1));
        let (right, bottom) = ((left + 1).min(columns - 1), (top + 1).min(rows - 1));
        let (fx, fy) = ((across - left as f64) as f32, (down - top as f64) as f32);
        let upper = values[[top, left]] * (1.0 - fx) + values[[top, right]] * fx;
        let lower = values[[bottom, left]] * (1.0 - fx) + values[[bottom, right]] * fx;
        upper * (1.0 - fy) + lower * fy
    })
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
    let mut warnings = classifier.gradient_warnings();
    let methods = match methods {
        [] => offered(classifier, &mut warnings),
        named_ones => named(named_ones)?,
    };
    let Taken { seen, input, whole } = picture.into().take(classifier)?;
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
    let (picture, view) = whole.unzip();
    Ok(Attributions { subject, title, maps, warnings, view, seen, picture })
}

/// The attribution methods there are, in the order that they are shown in.
pub fn attribution_methods() -> &'static [&'static dyn Method] {
    METHODS
}

/// Every method whose needs the network offers; of the others, why not.
fn offered(classifier: &Classifier, warnings: &mut Vec<Warning>) -> Vec<&'static dyn Method> {
    let network = classifier.network();
    let missing = |method| attribution::missing(method, network);
    let (offered, left): (Vec<_>, Vec<_>) = METHODS.iter().copied().partition(|method| missing(*method).is_none());
    if offered.is_empty() {
        // The error then says what is missing.
        return METHODS.to_vec();
    }
    for method in left {
        let Some(what) = missing(method) else { continue };
        let why = network.no_feature_map().filter(|_| what == Offer::FeatureMap);
        let reason =
            why.map_or_else(|| format!("the network offers no {what}"), |why| format!("there is no {what}: {why}"));
        warnings.push(Warning::LeftOut { method: method.id(), reason });
    }
    offered
}

fn named(ids: &[&str]) -> Result<Vec<&'static dyn Method>, AttributionError> {
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
        Question::Class(name) | Question::Against(name) => classifier.class_index(name)?,
        Question::Answer => {
            let given = network::forward(classifier.network(), input, Taps::Vectors)?;
            // Of one logit, what is above 0 is the second class.
            pellucid_classifier::scan::predicted(&given.logits.row(0).to_vec())
        }
    };
    // A head of one logit has one score for both classes: what speaks for the one speaks against the other.
    let against = matches!(question, Question::Against(_));
    let subject = match (classifier.network().layer().classes(), class) {
        (1, class) if (class == 0) != against => Subject::Against(0),
        (1, _) => Subject::Class(0),
        (_, class) if against => Subject::Against(class),
        (_, class) => Subject::Class(class),
    };
    let name = classifier.class_name(class);
    Ok((subject, if against { format!("anything but {name}") } else { name }))
}
