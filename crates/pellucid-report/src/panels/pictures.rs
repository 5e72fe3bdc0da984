//! Pictures optimised for neurons, beside the data set's own crops.

use crate::format::{number, percent, signed};
use crate::markup::Html;
use base64::Engine;
use pellucid_classifier::feature_visualization::results::{NeuronPicture, PicturedNeuron};

/// Below this margin, in standard deviations of the guide's similarities, a label is marked as weak.
const WEAK: f32 = 1.0;

/// Gives the bytes of a PNG file of the run.
pub(crate) type Files<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// One neuron's pictures, its numbers, and the crops that activate it most.
pub(crate) fn neuron(h: &mut Html, neuron: &PicturedNeuron, files: Files) {
    h.within("article", &[("class", "card pictured")], |h| {
        h.within("header", &[], |h| {
            h.element("h4", &[], &format!("Neuron {}", neuron.neuron));
            if let Some(class) = &neuron.class_name {
                h.within("span", &[("class", "direction")], |h| {
                    h.text("for ");
                    h.name(class);
                });
            }
            if let Some(weight) = neuron.weight {
                h.element("span", &[("class", "tag")], &format!("weight {}", signed(f64::from(weight))));
            }
        });
        made(h, neuron, files);
        crops(h, neuron, files);
    });
}

/// The pictures alone.
pub(crate) fn made(h: &mut Html, neuron: &PicturedNeuron, files: Files) {
    h.element("h5", &[], "What it would like to see (made by optimisation, not photographed)");
    h.within("div", &[("class", "made")], |h| {
        neuron.pictures.iter().for_each(|picture| figure(h, neuron, picture, files));
    });
}

/// The real crops beside them.
fn crops(h: &mut Html, neuron: &PicturedNeuron, files: Files) {
    let Some(data) = neuron.data.as_ref().filter(|data| !data.top.is_empty()) else { return };
    h.element("h5", &[], "The real crops that activate it most");
    h.within("div", &[("class", "made crops")], |h| {
        for top in &data.top {
            h.within("figure", &[], |h| {
                image(h, &top.crop, &format!("Crop of a picture of {}", top.class_name), files);
                h.within("figcaption", &[], |h| {
                    h.within("b", &[], |h| h.name(&top.class_name));
                    h.text(&format!(" {}", number(f64::from(top.activation))));
                });
            });
        }
    });
}

fn figure(h: &mut Html, neuron: &PicturedNeuron, picture: &NeuronPicture, files: Files) {
    let shown = [
        (picture.start.as_ref(), "the real picture it began as"),
        (Some(&picture.file), "picture"),
        (picture.masked.as_ref(), "where it responds"),
    ];
    for (file, what) in shown {
        let Some(file) = file else { continue };
        h.within("figure", &[], |h| {
            image(h, file, &format!("{}, seed {}, {what}", neuron.title(), picture.seed), files);
            h.within("figcaption", &[], |h| match what {
                "picture" => caption(h, picture),
                "where it responds" => h.text(&match picture.masked_contrast.filter(|contrast| *contrast < 1.0) {
                    Some(contrast) => format!(
                        "where it responds first, at {} contrast (at full contrast it responds everywhere); the rest is dimmed",
                        percent(100.0 * f64::from(contrast))
                    ),
                    None => "where it responds; the rest is dimmed".to_owned(),
                }),
                other => h.text(other),
            });
        });
    }
}

fn caption(h: &mut Html, picture: &NeuronPicture) {
    let begin = if picture.start.is_some() { "changed until it responds" } else { "from noise" };
    h.within("b", &[], |h| h.text(&format!("{begin}, seed {}", picture.seed)));
    let mut facts = vec![format!("activation {}", number(f64::from(picture.activation)))];
    facts.extend(picture.of_max.map(|f| format!("{} of the data set's largest", percent(100.0 * f64::from(f)))));
    facts.extend(picture.of_p99.map(|f| format!("{} of its 99th percentile", percent(100.0 * f64::from(f)))));
    facts.extend(picture.logit.map(|z| format!("class logit {}", number(f64::from(z)))));
    facts.extend(picture.similarity.map(|s| format!("guide similarity {}", number(f64::from(s)))));
    facts.extend(picture.sensitivity.map(|s| format!("sensitivity to the class {}", number(s))));
    h.text(&format!(": {}", facts.join(", ")));
    if let Some(label) = &picture.label {
        h.text(". Most like ");
        h.within("b", &[], |h| h.name(&label.word));
        let sure = if label.margin < WEAK { "weak label" } else { "label" };
        h.text(&format!(" ({sure}: {} standard deviations ahead of ", number(f64::from(label.margin))));
        h.name(&label.runner_up);
        h.text(")");
    }
    for flag in &picture.flags {
        h.text(". ");
        h.element("span", &[("class", "tag")], flag);
    }
}

fn image(h: &mut Html, file: &str, words: &str, files: Files) {
    match files(file) {
        Some(bytes) => {
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            h.void("img", &[("src", &format!("data:image/png;base64,{data}")), ("alt", words), ("loading", "lazy")]);
        }
        None => super::picture::absent(h, words),
    }
}
