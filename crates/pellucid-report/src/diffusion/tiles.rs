//! The tiles as they stand at the step that the page opens with: all that is seen without the script, which takes over the
//! picture and what is said of it ([`super::data`]) and leaves title and meaning.

use super::data::{Data, Opening, Tile};
use super::{DiffusionPage, Map, picture_address};
use crate::markup::Html;
use base64::Engine;
use ndarray::ArrayView2;
use pellucid_guard::Budget;
use pellucid_saliency::render::{self, Alignment};
use pellucid_vision::picture::Picture;

/// Longer side that pictures are brought near, in pixels: less than the script's, since the file carries these as PNG.
const SIDE: u32 = 128;

/// The tiles, side by side.
pub(super) fn tiles(h: &mut Html, page: &DiffusionPage, data: &Data<'_>) {
    h.within("div", &[("class", "tiles")], |h| {
        for tile in &data.tiles {
            self::tile(h, page, data, tile);
        }
    });
}

fn tile(h: &mut Html, page: &DiffusionPage, data: &Data<'_>, tile: &Tile<'_>) {
    let opening = data.opening(tile);
    h.within("figure", &[("class", "step-tile"), ("data-tile", tile.id)], |h| {
        h.within("div", &[("class", "shown")], |h| {
            if let Some(png) = drawn(page, data, tile, &opening) {
                h.void("img", &[("src", &picture_address(&png)), ("alt", tile.title)]);
            }
        });
        h.within("figcaption", &[], |h| {
            h.element("b", &[], tile.title);
            h.element("span", &[("class", "meaning")], tile.meaning);
            h.within("div", &[("class", "said")], |h| {
                for (class, text) in [("reading", opening.reading), ("trusted", opening.trust)] {
                    if !text.is_empty() {
                        h.element("span", &[("class", class)], text);
                    }
                }
            });
        });
    });
}

/// The tile's picture as PNG; `None` where there is none to draw on.
fn drawn(page: &DiffusionPage, data: &Data<'_>, tile: &Tile<'_>, opening: &Opening<'_>) -> Option<Vec<u8>> {
    let step = page.steps.get(data.start)?;
    let png = if tile.picture == "noisy" { &step.noisy } else { &step.clean };
    let Some(map) = &opening.map else { return (!png.is_empty()).then(|| png.clone()) };
    let under = enlarged(&Picture::decode(png, tile.title, &Budget::default()).ok()?);
    let shown = match bytes(map) {
        Some(levels) => {
            let levels = ArrayView2::from_shape((map.h, map.w), &levels).ok()?;
            render::paint(&under, levels, Alignment::Centres, data.strength as f32 / 100.0)
        }
        None => {
            let veiled = |x, y| render::blend(under.pixel(x, y), data.veil.colour, data.veil.opacity);
            Picture::from_fn(under.width(), under.height(), veiled)
        }
    };
    shown.to_png().ok()
}

/// The levels of a map; `None` where it has nothing to show.
fn bytes(map: &Map) -> Option<Vec<u8>> {
    if map.w == 0 { None } else { base64::engine::general_purpose::STANDARD.decode(&map.d).ok() }
}

/// Small pictures at a multiple of their size, so that a map on them is smooth.
fn enlarged(small: &Picture) -> Picture {
    let factor = (SIDE / small.width().max(small.height()).max(1)).max(1);
    Picture::from_fn(small.width() * factor, small.height() * factor, |x, y| small.pixel(x / factor, y / factor))
}
