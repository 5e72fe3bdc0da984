//! The page that explains a diffusion model's steps: one file, a slider over steps, linked panels, curves below.
//!
//! Maps travel as bytes on their own grids and are coloured by the page's script, so that word, layer and step can be
//! chosen without the network. Without JavaScript the page still shows the strip of pictures, the curves and the facts.

mod faithfulness;
mod lines;

pub use faithfulness::{
    FaithfulnessPage, FaithfulnessPanel, FaithfulnessRow, GameLine, GamesPanel, Spread, Verdict, render_faithfulness,
};

use crate::ReportError;
use crate::document::source_hash;
use crate::markup::{Html, json_for_script};
use crate::page::explain;
use crate::record;
use base64::Engine;
use lines::{Chart, Line};
use pellucid_classifier::results::RunRecord;
use serde::Serialize;

const STYLE: &str = concat!(include_str!("../../../../web/report.css"), include_str!("../../../../web/diffusion.css"));
const SCRIPT: &str = include_str!("../../../../web/diffusion.js");

/// Everything the page shows.
#[derive(Debug, Clone, Default)]
pub struct DiffusionPage {
    /// The pipeline's name.
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// The picture, PNG.
    pub picture: Vec<u8>,
    /// Steps, from noise to picture.
    pub steps: Vec<StepPanel>,
    /// Words of the prompt; empty where there are no word maps.
    pub words: Vec<String>,
    /// Layers that the word maps come from.
    pub layers: Vec<String>,
    /// Blocks that DF-CAM's maps come from.
    pub blocks: Vec<String>,
    /// What DF-RISE compares, in words.
    pub rise: String,
    /// What DF-CAM differentiates, in words.
    pub cam: String,
    /// Curves over steps.
    pub curves: Vec<Curve>,
    /// Deletion and insertion, where they were played.
    pub faithfulness: Option<FaithfulnessPanel>,
    /// For each kind of map the few words on how far to trust it.
    pub trust: Trust,
    /// The step at which each place is settled, on the latent's grid.
    pub settled: Map,
    /// Facts of the run: term and value.
    pub facts: Vec<(String, String)>,
    /// How the run went.
    pub record: RunRecord,
    /// What is left out and why, and what the user should know.
    pub notes: Vec<String>,
    /// Version that made the page.
    pub version: String,
}

/// What deletion and insertion say of the maps in the panels, in a few words; empty where they were not played.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Trust {
    /// Of DF-RISE.
    pub rise: String,
    /// Of DF-CAM over all blocks.
    pub cam: String,
    /// Of each word's attention, or of all words together where each was not measured.
    pub words: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub struct StepPanel {
    /// Timestep.
    pub t: usize,
    /// `coarse`, `content` or `clean-up`.
    pub stage: String,
    /// Mean recovery, 0…1.
    pub level: f64,
    /// x̂0 decoded, PNG.
    pub clean: Vec<u8>,
    /// The noisy latent decoded, PNG.
    pub noisy: Vec<u8>,
    /// DF-RISE and its figures.
    pub rise: Option<RisePanel>,
    /// DF-CAM over all blocks.
    pub cam: Map,
    /// DF-CAM per block; empty grids for constant maps.
    pub blocks: Vec<Map>,
    /// Recovery.
    pub recovery: Map,
    /// Mean over layers, per word.
    pub words: Vec<Map>,
    /// Per layer and word.
    pub layers: Vec<Vec<Map>>,
}

/// DF-RISE at a step.
#[derive(Debug, Clone, Default)]
pub struct RisePanel {
    /// The map.
    pub map: Map,
    /// Split-half Spearman correlation.
    pub reliability: f64,
    /// Spearman correlation with the identity control.
    pub identity: f64,
    /// Masks used.
    pub masks: usize,
}

/// A small map scaled to 0…255, row by row; empty where there is nothing to show.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Map {
    /// Columns.
    pub w: usize,
    /// Rows.
    pub h: usize,
    /// base64 of one byte per place.
    pub d: String,
}

impl Map {
    /// Scales `values` (row by row, `width` per row) between its least and greatest; nothing for a constant map.
    pub fn scaled(values: &[f32], width: usize) -> Self {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self::between(values, width, low, high)
    }

    /// Scales `values` from `low`…`high`; nothing where that is no range.
    pub fn between(values: &[f32], width: usize, low: f32, high: f32) -> Self {
        if width == 0 || !high.is_finite() || !low.is_finite() || high <= low {
            return Self::default();
        }
        let bytes: Vec<u8> =
            values.iter().map(|v| ((v - low) / (high - low) * 255.0).round().clamp(0.0, 255.0) as u8).collect();
        Self { w: width, h: values.len() / width, d: base64::engine::general_purpose::STANDARD.encode(bytes) }
    }
}

/// Numbers over steps, drawn as lines in one chart.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// Heading.
    pub title: String,
    /// What it means, in a sentence.
    pub meaning: String,
    /// Lines: name and one number per step.
    pub lines: Vec<(String, Vec<f64>)>,
    /// Least and greatest value of the axis; from the numbers where `None`.
    pub range: Option<(f64, f64)>,
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    prompt: &'a str,
    words: &'a [String],
    layers: &'a [String],
    blocks: &'a [String],
    settled: &'a Map,
    trust: &'a Trust,
    steps: Vec<StepData<'a>>,
}

#[derive(Serialize)]
struct StepData<'a> {
    t: usize,
    stage: &'a str,
    level: f64,
    clean: String,
    noisy: String,
    rise: Option<&'a Map>,
    reliability: Option<f64>,
    identity: Option<f64>,
    masks: Option<usize>,
    cam: &'a Map,
    blocks: &'a [Map],
    recovery: &'a Map,
    words: &'a [Map],
    layers: &'a [Vec<Map>],
}

fn picture_address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png))
}

/// Renders the page. Equal inputs give equal bytes.
///
/// # Errors
/// [`ReportError::Data`] where the numbers cannot be written as JSON.
pub fn render_diffusion(page: &DiffusionPage) -> Result<String, ReportError> {
    let steps = page.steps.iter().map(step_data).collect();
    let data = Data {
        prompt: &page.prompt,
        words: &page.words,
        layers: &page.layers,
        blocks: &page.blocks,
        settled: &page.settled,
        trust: &page.trust,
        steps,
    };
    let data = serde_json::to_string(&data).map_err(ReportError::Data)?;
    let mut body = Html::new();
    masthead(&mut body, "A diffusion model, step by step", &page.model);
    body.within("main", &[("class", "diffusion")], |h| {
        summary(h, page);
        workbench(h, page);
        curves(h, page);
        if let Some(panel) = &page.faithfulness {
            faithfulness::panel(h, panel);
        }
        run_facts(h, &page.facts, &page.record, &READING);
    });
    Ok(document(&format!("{} – {}, step by step", page.prompt, page.model), body, &page.version, Some(&data)))
}

/// A whole document around `body`, with the page's script where it has `data` (JSON) to read.
fn document(title: &str, mut body: Html, version: &str, data: Option<&str>) -> String {
    let mut head = Html::new();
    head.void("meta", &[("charset", "utf-8")]);
    head.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy())]);
    head.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    head.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    head.element("title", &[], title);
    body.within("footer", &[("class", "colophon")], |h| {
        h.text(&format!("Made by pellucid {version}. One file, no network. The pictures are part of it."));
    });
    let script = data.map_or_else(String::new, |data| {
        let data = json_for_script(data);
        format!("<script type=\"application/json\" id=\"steps\">{data}</script>\n<script>{SCRIPT}</script>\n")
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{}<style>{STYLE}</style>\n</head>\n<body>\n{}{script}</body>\n</html>\n",
        head.into_string(),
        body.into_string(),
    )
}

fn policy() -> String {
    format!(
        "default-src 'none'; img-src data:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(STYLE),
        source_hash(SCRIPT)
    )
}

fn step_data(step: &StepPanel) -> StepData<'_> {
    let rise = step.rise.as_ref();
    StepData {
        t: step.t,
        stage: &step.stage,
        level: step.level,
        clean: picture_address(&step.clean),
        noisy: picture_address(&step.noisy),
        rise: rise.map(|r| &r.map),
        reliability: rise.map(|r| r.reliability),
        identity: rise.map(|r| r.identity),
        masks: rise.map(|r| r.masks),
        cam: &step.cam,
        blocks: &step.blocks,
        recovery: &step.recovery,
        words: &step.words,
        layers: &step.layers,
    }
}

fn masthead(h: &mut Html, kind: &str, model: &str) {
    h.within("header", &[("class", "masthead")], |h| {
        h.within("p", &[("class", "brand")], |h| {
            h.element("span", &[("class", "wordmark")], "pellucid");
            h.element("span", &[("class", "kind")], kind);
        });
        h.within("p", &[("class", "subject")], |h| h.within("b", &[], |h| h.name(model)));
    });
}

fn summary(h: &mut Html, page: &DiffusionPage) {
    h.within("section", &[("class", "summary")], |h| {
        let alt = format!("The picture sampled for: {}", page.prompt);
        h.void("img", &[("class", "result"), ("src", &picture_address(&page.picture)), ("alt", &alt)]);
        h.within("div", &[], |h| {
            h.element("p", &[("class", "eyebrow")], "Prompt");
            h.within("h1", &[], |h| h.name(if page.prompt.is_empty() { "(empty prompt)" } else { &page.prompt }));
            h.within("dl", &[("class", "brief")], |h| {
                for (term, value) in page.facts.iter().take(4) {
                    h.within("div", &[], |h| {
                        h.element("dt", &[], term);
                        h.within("dd", &[], |h| h.name(value));
                    });
                }
            });
            page.notes.iter().for_each(|note| h.element("p", &[("class", "empty")], note));
        });
    });
}

/// The slider, the panels and the strip.
fn workbench(h: &mut Html, page: &DiffusionPage) {
    h.within("section", &[("class", "panel workbench"), ("id", "bench")], |h| {
        h.element("h2", &[], "Step by step");
        h.element(
            "p",
            &[("class", "explain js-only")],
            "Move the slider, or use the arrow keys. All panels show the same step.",
        );
        h.within("div", &[("class", "timeline js-only")], |h| {
            h.element("button", &[("type", "button"), ("id", "play")], "Play");
            let last = page.steps.len().saturating_sub(1).to_string();
            h.void(
                "input",
                &[
                    ("type", "range"),
                    ("id", "step"),
                    ("min", "0"),
                    ("max", &last),
                    ("value", "0"),
                    ("aria-label", "Step"),
                ],
            );
            h.element("output", &[("id", "where")], "");
        });
        strip(h, page);
        h.within("div", &[("class", "controls js-only")], |h| {
            select(h, "word", "Word", page.words.iter().map(String::as_str), !page.words.is_empty());
            let layers = std::iter::once("mean of all layers").chain(page.layers.iter().map(String::as_str));
            select(h, "layer", "Layer", layers, !page.words.is_empty());
            let blocks = std::iter::once("all blocks").chain(page.blocks.iter().map(String::as_str));
            select(h, "block", "DF-CAM block", blocks, !page.blocks.is_empty());
            h.within("label", &[], |h| {
                h.text("Strength");
                h.void(
                    "input",
                    &[("type", "range"), ("id", "strength"), ("min", "0"), ("max", "100"), ("value", "75")],
                );
            });
        });
        h.within("div", &[("class", "tiles js-only")], |h| {
            tile(h, "clean", "Clean picture x̂0", "What the model believes the picture is");
            tile(h, "noisy", "Noisy latent", "What the step is given, decoded");
            if page.steps.iter().any(|s| s.rise.is_some()) {
                tile(h, "rise", "DF-RISE", &page.rise);
            }
            tile(h, "cam", "DF-CAM", &page.cam);
            if !page.words.is_empty() {
                tile(h, "attention", "Word", "Where the word's attention lies");
            }
            tile(h, "recovery", "Recovery", "How far each place has come");
        });
        if !page.words.is_empty() {
            h.element("h3", &[("class", "js-only")], "Every word at this step");
            h.element("div", &[("class", "words js-only"), ("id", "words")], "");
        }
    });
}

fn select<'a>(h: &mut Html, id: &'static str, label: &str, options: impl Iterator<Item = &'a str>, shown: bool) {
    if !shown {
        return;
    }
    h.within("label", &[], |h| {
        h.text(label);
        h.within("select", &[("id", id)], |h| {
            for (at, option) in options.enumerate() {
                h.element("option", &[("value", &at.to_string())], option);
            }
        });
    });
}

fn tile(h: &mut Html, id: &'static str, title: &str, meaning: &str) {
    h.within("figure", &[("class", "step-tile"), ("data-tile", id)], |h| {
        h.within("canvas", &[("width", "256"), ("height", "256"), ("role", "img"), ("aria-label", title)], |_| {});
        h.within("figcaption", &[], |h| {
            h.element("b", &[], title);
            h.element("span", &[("class", "meaning")], meaning);
            h.element("span", &[("class", "reading")], "");
            h.element("span", &[("class", "trusted")], "");
        });
    });
}

/// Every step's x̂0, small: the page without JavaScript, and a way to jump with it.
fn strip(h: &mut Html, page: &DiffusionPage) {
    h.within("ol", &[("class", "film"), ("aria-label", "Clean picture at each step")], |h| {
        for (at, step) in page.steps.iter().enumerate() {
            h.within("li", &[("data-step", &at.to_string())], |h| {
                let alt = format!("x̂0 at step {}, t = {}", at + 1, step.t);
                h.void("img", &[("src", &picture_address(&step.clean)), ("alt", &alt), ("title", &alt)]);
                h.element("span", &[], &step.t.to_string());
            });
        }
    });
}

fn curves(h: &mut Html, page: &DiffusionPage) {
    let last = page.steps.len().saturating_sub(1);
    let mark = |at: usize| Some((at as f64 / last.max(1) as f64, format!("t = {}", page.steps.get(at)?.t)));
    let mut marks: Vec<(f64, String)> = [0, page.steps.len() / 2, last].into_iter().filter_map(mark).collect();
    marks.dedup();
    h.within("section", &[("class", "panel")], |h| {
        h.element("h2", &[], "Over the steps");
        h.within("div", &[("class", "curves")], |h| {
            for curve in page.curves.iter().filter(|c| !c.lines.is_empty()) {
                h.within("figure", &[("class", "curve")], |h| {
                    h.element("h3", &[], &curve.title);
                    h.element("p", &[("class", "aside")], &curve.meaning);
                    let lines: Vec<Line<'_>> =
                        curve.lines.iter().map(|(name, values)| Line { name, values, is_control: false }).collect();
                    let chart = Chart {
                        title: &curve.title,
                        lines: &lines,
                        range: curve.range,
                        marks: &marks,
                        has_cursor: true,
                    };
                    chart.draw(h);
                });
            }
        });
    });
}

/// How to read the page on one prompt.
const READING: [&str; 3] = [
    "Every panel reads one cached trajectory, and every step is the stateless DDIM step with explicit timesteps.",
    "DF-RISE masks the latent at random and asks what the step still agrees on. Reliability compares two halves of the masks. \
     The identity figure compares the map with one made without the network: near 1, the map says nothing about the network.",
    "Attention says where a word is looked up, not what it causes.",
];

fn run_facts(h: &mut Html, facts: &[(String, String)], record: &RunRecord, reading: &[&str]) {
    h.within("section", &[("class", "panel")], |h| {
        h.element("h2", &[], "How this was made");
        h.within("dl", &[("class", "facts")], |h| {
            for (term, value) in facts {
                h.within("div", &[], |h| {
                    h.element("dt", &[], term);
                    h.within("dd", &[], |h| h.name(value));
                });
            }
        });
        record::block(h, record);
        reading.iter().for_each(|text| explain(h, text));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> DiffusionPage {
        let map = Map::scaled(&[0.0, 1.0, 2.0, 3.0], 2);
        let step = StepPanel {
            t: 500,
            stage: "content".to_owned(),
            cam: map.clone(),
            words: vec![map.clone()],
            ..StepPanel::default()
        };
        DiffusionPage {
            prompt: "</script><b>a cat".to_owned(),
            words: vec!["cat".to_owned()],
            steps: vec![step.clone(), step],
            curves: vec![Curve {
                title: "Level".to_owned(),
                lines: vec![("L".to_owned(), vec![0.1, 0.9])],
                ..Curve::default()
            }],
            ..DiffusionPage::default()
        }
    }

    #[test]
    fn a_prompt_cannot_leave_its_place() {
        let html = render_diffusion(&page()).unwrap();
        assert!(!html.contains("</script><b>"));
        assert_eq!(html.matches("<script").count(), 2);
    }

    #[test]
    fn the_page_names_no_address_outside_itself() {
        let html = render_diffusion(&page()).unwrap();
        assert!(!html.contains("http://") && !html.contains("https://"));
        assert!(html.contains("default-src &#39;none&#39;"));
    }

    #[test]
    fn maps_are_bytes_between_their_extremes_and_constants_are_left_out() {
        assert_eq!(Map::scaled(&[0.0, 1.0, 2.0, 3.0], 2).d, "AFWq/w==");
        assert_eq!(Map::scaled(&[1.0; 4], 2).w, 0);
        assert_eq!(Map::scaled(&[f32::NAN, 1.0], 2).w, 0);
    }

    #[test]
    fn a_page_without_words_says_so_and_has_no_word_panels() {
        let html = render_diffusion(&DiffusionPage {
            words: Vec::new(),
            notes: vec!["no cross-attention".to_owned()],
            ..page()
        })
        .unwrap();
        assert!(html.contains("no cross-attention") && !html.contains("data-tile=\"attention\""));
    }
}
