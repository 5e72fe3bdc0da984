//! What the page's script reads (`web/src/diffusion/data.ts` has the same shape), and the one list that says which tiles
//! there are: the script and the tiles drawn here ([`super::tiles`]) both follow it, and neither knows an explainer by name.

use super::lines::{AXIS_LEFT, AXIS_RIGHT};
use super::{Caption, Choice, DiffusionPage, ExplainerPanel, Map, StepMaps, picture_address};
use base64::Engine;
use pellucid_saliency::colour;
use serde::Serialize;
use std::collections::BTreeMap;

/// How strongly maps cover the picture at first, in percent: as in the PNG files of the run.
const STRENGTH: u32 = 75;

/// All that the script is given.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    /// The table of colours: 768 bytes in base64.
    colormap: String,
    pub(super) veil: Veil,
    pub(super) sides: Sides,
    /// In percent.
    pub(super) strength: u32,
    axis: [f64; 2],
    /// The step that is shown first; without the script, the only one.
    pub(super) start: usize,
    pub(super) choices: Vec<&'a Choice>,
    pub(super) tiles: Vec<Tile<'a>>,
    pub(super) grid: Option<Grid<'a>>,
    pub(super) steps: Vec<Step<'a>>,
}

/// What is laid over the picture where a map has nothing to show.
#[derive(Serialize)]
pub(super) struct Veil {
    pub(super) colour: [u8; 3],
    pub(super) opacity: f32,
}

/// Longer side that pictures are brought near, in whole multiples.
#[derive(Serialize)]
pub(super) struct Sides {
    tile: u32,
    grid: u32,
}

#[derive(Serialize)]
pub(super) struct Tile<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// Said in the page, which the script leaves as it is.
    #[serde(skip)]
    pub(super) meaning: &'a str,
    /// `clean` or `noisy`: the picture shown, or that the map lies on.
    pub(super) picture: &'static str,
    /// Choices that maps and captions depend on; the last varies fastest.
    by: Vec<&'a str>,
    captions: &'a [Caption],
}

/// The choice whose options are all shown side by side, and the tile that each is shown in.
#[derive(Serialize)]
pub(super) struct Grid<'a> {
    choice: &'a str,
    tile: &'a str,
}

#[derive(Serialize)]
pub(super) struct Step<'a> {
    pub(super) r#where: String,
    clean: String,
    noisy: String,
    /// By tile; a tile without an entry shows its picture alone.
    pub(super) maps: BTreeMap<&'a str, &'a StepMaps>,
}

/// What a tile shows at the step and with the choices that the page opens with.
pub(super) struct Opening<'a> {
    /// `None` where the tile has no maps.
    pub(super) map: Option<Map>,
    pub(super) reading: &'a str,
    pub(super) trust: &'a str,
}

impl<'a> Data<'a> {
    pub(super) fn of(page: &'a DiffusionPage) -> Self {
        let table = colour::table();
        Data {
            colormap: base64::engine::general_purpose::STANDARD.encode(table.as_flattened()),
            veil: Veil { colour: [141, 144, 152], opacity: 0.75 },
            sides: Sides { tile: 256, grid: 128 },
            strength: STRENGTH,
            axis: [AXIS_LEFT, AXIS_RIGHT],
            start: page.steps.len() / 3,
            choices: choices(page),
            tiles: tiles(page),
            grid: page.explainers.iter().find_map(grid),
            steps: (0..page.steps.len()).map(|at| step(page, at)).collect(),
        }
    }

    pub(super) fn opening(&self, tile: &Tile<'_>) -> Opening<'_> {
        let size = |id: &&str| self.choices.iter().find(|choice| choice.id.as_str() == *id);
        let place = tile.by.iter().filter_map(size).fold(0, |place, c| place * c.options.len() + c.value);
        let own = self.steps.get(self.start).and_then(|step| step.maps.get(tile.id));
        let caption = self.tiles.iter().find(|t| t.id == tile.id).and_then(|t| t.captions.get(place));
        let said = own.map_or("", |own| own.reading.as_str());
        Opening {
            map: own.map(|own| own.maps.get(place).cloned().unwrap_or_default()),
            reading: if said.is_empty() { caption.map_or("", |c| c.reading.as_str()) } else { said },
            trust: caption.map_or("", |c| c.trust.as_str()),
        }
    }
}

/// Every choice once, however many panels share it.
fn choices(page: &DiffusionPage) -> Vec<&Choice> {
    let mut choices: Vec<&Choice> = Vec::new();
    for choice in page.explainers.iter().flat_map(|e| &e.choices) {
        if !choices.iter().any(|known| known.id == choice.id && known.options == choice.options) {
            choices.push(choice);
        }
    }
    choices
}

fn grid(panel: &ExplainerPanel) -> Option<Grid<'_>> {
    let choice = panel.choices.iter().find(|choice| choice.is_side_by_side)?;
    Some(Grid { choice: &choice.id, tile: &panel.id })
}

fn tile(panel: &ExplainerPanel) -> Tile<'_> {
    Tile {
        id: &panel.id,
        title: &panel.title,
        meaning: &panel.meaning,
        picture: "clean",
        by: panel.choices.iter().rev().map(|choice| choice.id.as_str()).collect(),
        captions: &panel.captions,
    }
}

/// The tiles, in the order in which they stand.
fn tiles(page: &DiffusionPage) -> Vec<Tile<'_>> {
    let plain =
        |id, title, meaning| Tile { id, title, meaning, picture: id, by: Vec::new(), captions: Default::default() };
    let mut tiles = vec![
        plain("clean", "Clean picture x̂0", "What the model believes the picture is"),
        plain("noisy", "Noisy latent", "What the step is given, decoded"),
    ];
    tiles.extend(page.explainers.iter().map(tile));
    tiles
}

fn step(page: &DiffusionPage, at: usize) -> Step<'_> {
    let step = &page.steps[at];
    let comma = if step.status.is_empty() { "" } else { ", " };
    let count = page.steps.len();
    Step {
        r#where: format!("step {} of {count}, t = {}, {}{comma}{}", at + 1, step.t, step.stage, step.status),
        clean: picture_address(&step.clean),
        noisy: picture_address(&step.noisy),
        maps: page.explainers.iter().filter_map(|e| Some((e.id.as_str(), e.steps.get(at)?))).collect(),
    }
}
