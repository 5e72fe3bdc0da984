//! The page of `pellucid picture`: pictures of neurons, one card a neuron and class.

use crate::document;
use crate::markup::Html;
use crate::panels::pictures;
use crate::record;
use pellucid_classifier::feature_visualization::ObjectiveKind;
use pellucid_classifier::feature_visualization::results::PictureResults;
use pellucid_guard::Setting;

/// Renders `results` as one HTML page; `files` gives the bytes of the run's PNG files. Equal inputs give equal bytes.
pub fn render_pictures(results: &PictureResults, files: &dyn Fn(&str) -> Option<Vec<u8>>) -> String {
    let title = format!("Neurons of {}", results.model);
    let mut body = Html::new();
    body.within("header", &[("class", "masthead")], |h| {
        h.within("p", &[("class", "brand")], |h| {
            h.element("span", &[("class", "wordmark")], "pellucid");
            h.element("span", &[("class", "kind")], "Pictures of neurons");
        });
        h.within("p", &[("class", "subject")], |h| h.within("b", &[], |h| h.name(&results.model)));
    });
    body.within("main", &[("class", "plain")], |h| {
        h.within("section", &[("class", "panel")], |h| {
            h.element("h2", &[], &title);
            h.element("p", &[], &how(results));
            results.warnings.iter().for_each(|warning| h.element("p", &[("class", "aside")], warning));
        });
        h.within("div", &[("class", "cards")], |h| {
            results.neurons.iter().for_each(|neuron| pictures::neuron(h, neuron, files));
        });
    });
    body.within("footer", &[("class", "colophon")], |h| {
        record::block(h, &results.record);
        h.text(&format!("Made by pellucid {}.", results.pellucid));
    });
    document::plain(&title, &body)
}

/// How the pictures were made, in a few sentences.
fn how(results: &PictureResults) -> String {
    let settings = &results.settings;
    let objective = match settings.objective {
        ObjectiveKind::Guided => "the neuron's mean activation and the class logit, times the guide's likeness",
        ObjectiveKind::Reference => "the published product of likeness and activation, over the batch",
        ObjectiveKind::Unguided => "the neuron's mean activation and the class logit, without a guide",
        ObjectiveKind::Channel => "the plain channel, with a tenth of the class logit",
    };
    let mut text = format!(
        "Each picture was raised from noise (or a given picture) over up to {} steps so as to increase {objective}. It \
         shows what drives the neuron up, which need not look like any real picture.",
        settings.steps
    );
    if let Some(guide) = &results.guide {
        text += &format!(" Guide: {}.", guide.name);
        if !guide.measured.is_empty() {
            text += &format!(" Measured: {}.", guide.measured);
        }
    }
    match &results.data {
        Some(data) => text += &format!(" Activations are compared with those on {data}."),
        None => text += &format!(" No data set was given to compare with ({}).", Setting::Data),
    }
    text
}
