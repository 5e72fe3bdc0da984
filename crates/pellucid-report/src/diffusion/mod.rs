//! The page that explains a diffusion model's steps: one file, a slider over steps, linked panels, curves below.
//!
//! Maps travel as bytes on their own grids and are coloured by the page's script, so that word, layer and step can be
//! chosen without the network. Without JavaScript the page shows one step's maps, the strip of pictures, the curves and the
//! facts.

mod arrivals;
mod data;
mod effects;
mod faithfulness;
mod lines;
mod tiles;

pub use arrivals::{ArrivalRow, ArrivalsPanel};
pub use effects::{EffectCard, EffectsPanel};
pub use faithfulness::{
    FaithfulnessPage, FaithfulnessPanel, FaithfulnessRow, GameLine, GamesPanel, Spread, Verdict, render_faithfulness,
};

use crate::ReportError;
use crate::document::source_hash;
use crate::markup::{Html, json_for_script};
use crate::page::explain;
use crate::panels::picture::ramp;
use crate::record;
use base64::Engine;
use data::Data;
use lines::{Chart, Line};
use ndarray::{Array2, ArrayView2};
use pellucid_classifier::results::RunRecord;
use pellucid_saliency::render;
use serde::Serialize;

// Built from `web/` (`make web`); the style holds the report's too.
const STYLE: &str = include_str!("../../web/diffusion.css");
const SCRIPT: &str = include_str!("../../web/diffusion.js");

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
    /// Panels of the explainers, in the order in which they stand.
    pub explainers: Vec<ExplainerPanel>,
    /// What comes step by step, each beside its control.
    pub arrivals: Vec<ArrivalsPanel>,
    /// When several things act, and where.
    pub effects: Vec<EffectsPanel>,
    /// Curves over steps.
    pub curves: Vec<Curve>,
    /// Deletion and insertion, where they were played.
    pub faithfulness: Option<FaithfulnessPanel>,
    /// Facts of the run: term and value.
    pub facts: Vec<(String, String)>,
    /// What to keep in mind when reading the maps, a paragraph each.
    pub cautions: Vec<String>,
    /// How the run went.
    pub record: RunRecord,
    /// What is left out and why, and what the user should know.
    pub notes: Vec<String>,
    /// Version that made the page.
    pub version: String,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub struct StepPanel {
    /// Timestep.
    pub t: usize,
    /// `coarse`, `content` or `clean-up`.
    pub stage: String,
    /// How far the step is, in words; empty where nobody knows.
    pub status: String,
    /// x̂0 decoded, PNG.
    pub clean: Vec<u8>,
    /// The noisy latent decoded, PNG.
    pub noisy: Vec<u8>,
}

/// What an explainer shows.
#[derive(Debug, Clone, Default)]
pub struct ExplainerPanel {
    /// A stable key.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What the maps show, in a sentence; where there are none because the explainer failed, why.
    pub meaning: String,
    /// Choices that the maps depend on; the first varies fastest in lists of maps and captions.
    pub choices: Vec<Choice>,
    /// What is said under the picture whatever the step, one for each combination of the choices.
    pub captions: Vec<Caption>,
    /// Its maps, step by step.
    pub steps: Vec<StepMaps>,
}

/// A list to choose from.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Choice {
    /// A stable key. Panels whose choices have the same key and options share one choice.
    pub id: String,
    /// What stands before the list.
    pub label: String,
    /// What can be chosen.
    pub options: Vec<String>,
    /// Place of the option that is chosen first.
    pub value: usize,
    /// Whether all options are shown side by side too.
    #[serde(skip)]
    pub is_side_by_side: bool,
}

/// What is said under the picture whatever the step.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Caption {
    /// What the map is.
    pub reading: String,
    /// How far to trust it, in a few words.
    pub trust: String,
}

/// An explainer's maps of one step.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StepMaps {
    /// What is said of this step; empty where the caption says it.
    pub reading: String,
    /// One for each combination of the choices; empty grids where there is nothing to show.
    pub maps: Vec<Map>,
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
        Self::of(values, width, |map| render::levels(map))
    }

    /// Scales `values` from `low`…`high`; nothing where that is no range.
    pub fn between(values: &[f32], width: usize, low: f32, high: f32) -> Self {
        Self::of(values, width, |map| render::levels_between(map, low, high))
    }

    fn of(values: &[f32], width: usize, levels: impl Fn(ArrayView2<'_, f32>) -> Option<Array2<u8>>) -> Self {
        let height = values.len().checked_div(width).unwrap_or(0);
        let grid = ArrayView2::from_shape((height, width), values).ok();
        let Some(levels) = grid.and_then(levels) else { return Self::default() };
        let bytes: Vec<u8> = levels.into_iter().collect();
        Self { w: width, h: height, d: base64::engine::general_purpose::STANDARD.encode(bytes) }
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

fn picture_address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png))
}

/// Renders the page. Equal inputs give equal bytes.
///
/// # Errors
/// [`ReportError::Data`] where the numbers cannot be written as JSON.
pub fn render_diffusion(page: &DiffusionPage) -> Result<String, ReportError> {
    let data = Data::of(page);
    let json = serde_json::to_string(&data).map_err(ReportError::Data)?;
    let mut body = Html::new();
    masthead(&mut body, "A diffusion model, step by step", &page.model, true);
    body.within("main", &[("class", "diffusion")], |h| {
        summary(h, page);
        workbench(h, page, &data);
        page.effects.iter().for_each(|panel| effects::panel(h, panel));
        page.arrivals.iter().for_each(|panel| arrivals::panel(h, panel, &marks(page)));
        curves(h, page);
        if let Some(panel) = &page.faithfulness {
            faithfulness::panel(h, panel);
        }
        let reading: Vec<&str> = std::iter::once(READING).chain(page.cautions.iter().map(String::as_str)).collect();
        run_facts(h, &page.facts, &page.record, &reading);
    });
    Ok(document(&format!("{} – {}, step by step", page.prompt, page.model), body, &page.version, Some(&json)))
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

fn masthead(h: &mut Html, kind: &str, model: &str, has_script: bool) {
    h.within("header", &[("class", "masthead")], |h| {
        h.within("p", &[("class", "brand")], |h| {
            h.element("span", &[("class", "wordmark")], "pellucid");
            h.element("span", &[("class", "kind")], kind);
        });
        h.within("p", &[("class", "subject")], |h| h.within("b", &[], |h| h.name(model)));
        if has_script {
            h.within("p", &[("class", "tools js-only")], |h| {
                h.element("button", &[("type", "button"), ("data-theme-next", "")], "Theme: system");
            });
        }
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

/// The filmstrip, the tiles, and the places that the script's islands take over.
fn workbench(h: &mut Html, page: &DiffusionPage, data: &Data) {
    let island = |h: &mut Html, class: &str, name: &str| {
        h.within("div", &[("class", class), ("data-island", name)], |_| {});
    };
    h.within("section", &[("class", "panel workbench"), ("id", "bench")], |h| {
        h.element("h2", &[], "Step by step");
        h.element(
            "p",
            &[("class", "explain js-only")],
            "Move the slider, or use the arrow keys. All panels show the same step.",
        );
        island(h, "timeline js-only", "scrubber");
        filmstrip(h, page);
        island(h, "controls js-only", "choices");
        if let Some(step) = data.steps.get(data.start) {
            h.element("p", &[("class", "aside no-js")], &format!("The panels below show {}.", step.r#where));
        }
        tiles::tiles(h, page, data);
        h.within("p", &[("class", "heat-key key")], |h| {
            ramp(h);
            h.text("Maps: from the least value of each to its greatest. Grey: the map is the same everywhere.");
        });
        if data.grid.is_some() {
            h.element("h3", &[("class", "js-only")], "Every word at this step");
            island(h, "words js-only", "grid");
        }
    });
}

/// Every step's x̂0, small: the page without JavaScript, and a way to jump with it.
fn filmstrip(h: &mut Html, page: &DiffusionPage) {
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

/// What stands under a chart over the steps, by place in 0…1: first, middle and last timestep.
fn marks(page: &DiffusionPage) -> Vec<(f64, String)> {
    let last = page.steps.len().saturating_sub(1);
    let mark = |at: usize| Some((at as f64 / last.max(1) as f64, format!("t = {}", page.steps.get(at)?.t)));
    let mut marks: Vec<(f64, String)> = [0, page.steps.len() / 2, last].into_iter().filter_map(mark).collect();
    marks.dedup();
    marks
}

fn curves(h: &mut Html, page: &DiffusionPage) {
    let marks = marks(page);
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
const READING: &str =
    "Every panel reads one cached trajectory, and every step is the stateless DDIM step with explicit timesteps.";

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
        let step = StepPanel { t: 500, stage: "content".to_owned(), ..StepPanel::default() };
        let word = Choice { id: "word".to_owned(), options: vec!["cat".to_owned()], ..Choice::default() };
        let words = ExplainerPanel {
            id: "attention".to_owned(),
            choices: vec![word],
            steps: vec![StepMaps { maps: vec![map], ..StepMaps::default() }; 2],
            ..ExplainerPanel::default()
        };
        DiffusionPage {
            prompt: "</script><b>a cat".to_owned(),
            explainers: vec![words],
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
        // Names of XML's namespaces, which the script knows, are no addresses.
        let html = html.replace("http://www.w3.org/", "");
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
    fn a_page_without_words_says_so_and_has_no_panel_for_them() {
        let html = render_diffusion(&DiffusionPage {
            explainers: Vec::new(),
            notes: vec!["no cross-attention".to_owned()],
            ..page()
        })
        .unwrap();
        assert!(html.contains("no cross-attention") && !html.contains("data-tile=\"attention\""));
    }
}
