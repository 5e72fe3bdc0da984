//! One picture explained for a class or a neuron, with maps that say how far they can be trusted.

use crate::error::some;
use crate::{Classifier, Error};
use ndarray::{Array2, Axis};
use pellucid_classifier::attribution::{self, Attribution, AttributionSettings, Method, Subject};
use pellucid_classifier::statistics::quantile;
use pellucid_saliency::render::{self, Alignment};
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::Layout;
use serde::Serialize;
use std::path::Path;

/// What is explained, as the user names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
pub struct Attributions {
    /// What is explained.
    pub subject: Subject,
    /// The same in words.
    pub title: String,
    /// One map a method, with its scores.
    pub maps: Vec<Attribution>,
    /// Each map over what the model saw, PNG; absent where it is flagged.
    #[serde(skip)]
    pub drawn: Vec<Option<Vec<u8>>>,
    /// What the model saw, PNG.
    #[serde(skip)]
    pub seen: Vec<u8>,
}

/// Explains the picture at `path` with each of `methods`.
pub fn attribute(
    classifier: &Classifier,
    path: impl AsRef<Path>,
    question: &Question,
    methods: &[Method],
    settings: &AttributionSettings,
) -> Result<Attributions, Error> {
    let options = &classifier.options;
    let picture = Picture::open(path, &options.budget)?;
    let seen = classifier.preprocessing.view(&picture);
    let gray = Picture::from_fn(seen.width(), seen.height(), |_, _| [127; 3]);
    let input = classifier.preprocessing.run(&picture).insert_axis(Axis(0)).into_dyn();
    let baseline = classifier.preprocessing.run(&gray).insert_axis(Axis(0)).into_dyn();
    let (subject, title) = subject(classifier, question, &input)?;
    let maps = attribution::attribute(
        &classifier.runtime,
        &classifier.tapped,
        &input,
        &baseline,
        classifier.preprocessing.layout == Layout::Nchw,
        subject,
        methods,
        settings,
        &options.session,
    )?;
    let draw = |map: &Attribution| match map.flag {
        None => render::render(&seen, shown(&map.map).view(), Alignment::Centres, 0.55).and_then(|p| p.to_png().ok()),
        Some(_) => None,
    };
    Ok(Attributions { subject, title, drawn: maps.iter().map(draw).collect(), maps, seen: seen.to_png()? })
}

/// What is drawn of a map: what speaks for the subject, up to its 99th percentile, since single pixels of a gradient stand
/// far above the rest.
fn shown(map: &Array2<f32>) -> Array2<f32> {
    let mut values: Vec<f64> = map.iter().map(|v| f64::from(v.max(0.0))).collect();
    values.sort_by(f64::total_cmp);
    let high = quantile(&values, 0.99) as f32;
    if high > 0.0 { map.mapv(|v| v.clamp(0.0, high)) } else { map.clone() }
}

fn subject(
    classifier: &Classifier,
    question: &Question,
    input: &ndarray::ArrayD<f32>,
) -> Result<(Subject, String), Error> {
    let names = classifier.class_names.clone().unwrap_or_default();
    let count = classifier.tapped.classes();
    let called = |class: usize| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    let class = match question {
        Question::Neuron(j) => return Ok((Subject::Neuron(*j), format!("neuron {j}"))),
        Question::Class(name) => {
            let by_number = || name.parse::<usize>().ok().filter(|c| *c < count);
            let short = |known: &String| known.split(',').next().unwrap_or_default().trim() == name;
            let found =
                names.iter().position(|n| n == name).or_else(|| names.iter().position(short)).or_else(by_number);
            found.ok_or_else(|| Error::Unknown { kind: "class", name: name.clone(), known: some(&names) })?
        }
        Question::Answer => {
            let options = &classifier.options;
            let mut session =
                classifier.tapped.scan_session(&classifier.runtime, &options.session, options.budget.memory, 1)?;
            let logits = session.run(input)?.into_iter().next().unwrap_or_default();
            pellucid_classifier::scan::predicted(&logits.iter().copied().collect::<Vec<_>>())
        }
    };
    // A head of one logit has one score for both classes.
    let index = if count == 1 { 0 } else { class };
    Ok((Subject::Class(index), called(class)))
}
