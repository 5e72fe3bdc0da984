//! What the page's script reads (`web/src/diffusion/data.ts` has the same shape), and the one list that says which tiles
//! there are: the script and the tiles drawn here ([`super::tiles`]) both follow it, and neither knows an explainer by name.

use super::lines::{AXIS_LEFT, AXIS_RIGHT};
use super::{DiffusionPage, Map, StepPanel, picture_address};
use base64::Engine;
use pellucid_saliency::colour;
use serde::Serialize;
use std::collections::BTreeMap;

/// How strongly maps cover the picture at first, in percent: as in the PNG files of the run.
const STRENGTH: u32 = 75;

/// All that the script is given.
#[derive(Serialize)]
pub(super) struct Data {
    /// The table of colours: 768 bytes in base64.
    colormap: String,
    pub(super) veil: Veil,
    pub(super) sides: Sides,
    /// In percent.
    pub(super) strength: u32,
    axis: [f64; 2],
    /// The step that is shown first; without the script, the only one.
    pub(super) start: usize,
    pub(super) choices: Vec<Choice>,
    pub(super) tiles: Vec<Tile>,
    pub(super) grid: Option<Grid>,
    pub(super) steps: Vec<Step>,
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

/// A list to choose from.
#[derive(Serialize)]
pub(super) struct Choice {
    id: &'static str,
    label: &'static str,
    options: Vec<String>,
    /// Place of the option that is chosen first.
    value: usize,
}

#[derive(Serialize)]
pub(super) struct Tile {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Said in the page, which the script leaves as it is.
    #[serde(skip)]
    pub(super) meaning: String,
    /// `clean` or `noisy`: the picture shown, or that the map lies on.
    pub(super) picture: &'static str,
    /// Choices that maps and captions depend on; the last varies fastest.
    by: Vec<&'static str>,
    captions: Vec<Caption>,
}

/// What is said under the picture whatever the step.
#[derive(Default, Serialize)]
pub(super) struct Caption {
    pub(super) reading: String,
    pub(super) trust: String,
}

/// The choice whose options are all shown side by side, and the tile that each is shown in.
#[derive(Serialize)]
pub(super) struct Grid {
    choice: &'static str,
    tile: &'static str,
}

#[derive(Serialize)]
pub(super) struct Step {
    pub(super) r#where: String,
    clean: String,
    noisy: String,
    /// By tile; a tile without an entry shows its picture alone.
    pub(super) maps: BTreeMap<&'static str, StepMaps>,
}

#[derive(Default, Serialize)]
pub(super) struct StepMaps {
    /// What is said of this step; empty where the caption says it.
    pub(super) reading: String,
    /// One for each combination of the tile's choices.
    maps: Vec<Map>,
}

/// What a tile shows at the step and with the choices that the page opens with.
pub(super) struct Opening<'a> {
    /// `None` where the tile has no maps.
    pub(super) map: Option<Map>,
    pub(super) reading: &'a str,
    pub(super) trust: &'a str,
}

impl Data {
    pub(super) fn of(page: &DiffusionPage) -> Data {
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
            grid: (!page.words.is_empty()).then_some(Grid { choice: "word", tile: "attention" }),
            steps: page.steps.iter().enumerate().map(|(at, step)| self::step(page, at, step)).collect(),
        }
    }

    pub(super) fn opening(&self, tile: &Tile) -> Opening<'_> {
        let size = |id: &&str| self.choices.iter().find(|choice| choice.id == *id);
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

fn choices(page: &DiffusionPage) -> Vec<Choice> {
    let with = |first: &str, rest: &[String]| std::iter::once(first.to_owned()).chain(rest.iter().cloned()).collect();
    let mut choices = Vec::new();
    if !page.words.is_empty() {
        // A content word says more than an article: begin with the longest.
        let longest = (0..page.words.len()).rev().max_by_key(|&k| page.words[k].chars().count()).unwrap_or(0);
        choices.push(Choice { id: "word", label: "Word", options: page.words.clone(), value: longest });
        choices.push(Choice {
            id: "layer",
            label: "Layer",
            options: with("mean of all layers", &page.layers),
            value: 0,
        });
    }
    if !page.blocks.is_empty() {
        choices.push(Choice {
            id: "block",
            label: "DF-CAM block",
            options: with("all blocks", &page.blocks),
            value: 0,
        });
    }
    choices
}

/// The tiles, in the order in which they stand.
fn tiles(page: &DiffusionPage) -> Vec<Tile> {
    let plain = |id, title, picture, meaning: &str| Tile {
        id,
        title,
        meaning: meaning.to_owned(),
        picture,
        by: Vec::new(),
        captions: Vec::new(),
    };
    let caption = |reading: &str, trust: &str| Caption { reading: reading.to_owned(), trust: trust.to_owned() };
    let mut tiles = vec![
        plain("clean", "Clean picture x̂0", "clean", "What the model believes the picture is"),
        plain("noisy", "Noisy latent", "noisy", "What the step is given, decoded"),
    ];
    if page.steps.iter().any(|s| s.rise.is_some()) {
        let captions = vec![caption("", &page.trust.rise)];
        tiles.push(Tile { captions, ..plain("rise", "DF-RISE", "clean", &page.rise) });
    }
    let by = if page.blocks.is_empty() { Vec::new() } else { vec!["block"] };
    let mut captions = vec![caption("", &page.trust.cam)];
    captions.extend(page.blocks.iter().map(|block| caption(block, "")));
    tiles.push(Tile { by, captions, ..plain("cam", "DF-CAM", "clean", &page.cam) });
    if !page.words.is_empty() {
        let trust = |k: usize| page.trust.words.get(k).map_or("", String::as_str);
        let mean = page.words.iter().enumerate().map(|(k, word)| caption(&format!("“{word}”"), trust(k)));
        let each = page
            .layers
            .iter()
            .flat_map(|layer| page.words.iter().map(move |word| caption(&format!("“{word}”, {layer}"), "")));
        let captions = mean.chain(each).collect();
        let tile = plain("attention", "Word", "clean", "Where the word's attention lies");
        tiles.push(Tile { by: vec!["layer", "word"], captions, ..tile });
    }
    tiles.push(plain("recovery", "Recovery", "clean", "How far each place has come"));
    tiles
}

fn step(page: &DiffusionPage, at: usize, step: &StepPanel) -> Step {
    let percent = format!("{:.0} %", 100.0 * step.level);
    let mut maps = BTreeMap::new();
    let rise = step.rise.as_ref().map_or_else(
        || StepMaps { reading: String::new(), maps: vec![Map::default()] },
        |rise| StepMaps {
            reading: format!(
                "reliability {:.2}, identity {:.2}, {} masks",
                rise.reliability, rise.identity, rise.masks
            ),
            maps: vec![rise.map.clone()],
        },
    );
    maps.insert("rise", rise);
    let cam = std::iter::once(&step.cam).chain(&step.blocks).cloned().collect();
    maps.insert("cam", StepMaps { reading: String::new(), maps: cam });
    // Every layer has a place for every word, so that places can be counted.
    let of_words = |maps: &[Map]| (0..page.words.len()).map(|k| maps.get(k).cloned().unwrap_or_default()).collect();
    let attention: Vec<Vec<Map>> =
        std::iter::once(&step.words).chain(&step.layers).map(|maps| of_words(maps)).collect();
    maps.insert("attention", StepMaps { reading: String::new(), maps: attention.concat() });
    let recovery = StepMaps { reading: format!("{percent} on average"), maps: vec![step.recovery.clone()] };
    maps.insert("recovery", recovery);
    Step {
        r#where: format!("step {} of {}, t = {}, {}, denoised {percent}", at + 1, page.steps.len(), step.t, step.stage),
        clean: picture_address(&step.clean),
        noisy: picture_address(&step.noisy),
        maps,
    }
}
