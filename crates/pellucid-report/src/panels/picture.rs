//! One picture as a tile: the picture itself, its heat map and outline, and what stands in its place when it is absent.

use crate::document::FRAME;
use crate::heat::{self, HeatMap, OUTLINE_SIDE};
use crate::markup::Html;
use crate::thumbnails::Print;

/// Draws `print`, under `heat` if given; `words` describe it.
pub(crate) fn picture(h: &mut Html, index: usize, print: &Print, heat: Option<&HeatMap>, words: &str) {
    let frame = format!("0 0 {FRAME} {FRAME}");
    let attributes = [("class", "picture"), ("viewBox", frame.as_str()), ("role", "img"), ("aria-label", words)];
    h.within("svg", &attributes, |h| {
        h.void("use", &[("href", &format!("#p{index}"))]);
        if let Some(heat) = heat {
            overlay(h, print, heat);
        }
    });
}

/// The heat map, laid over the part of the frame that the picture fills.
fn overlay(h: &mut Html, print: &Print, heat: &HeatMap) {
    let longest = f64::from(print.width.max(print.height));
    let (width, height) = (FRAME * f64::from(print.width) / longest, FRAME * f64::from(print.height) / longest);
    let (x, y) = ((FRAME - width) / 2.0, (FRAME - height) / 2.0);
    let text = |value: f64| format!("{value:.2}");
    let place = [("x", text(x)), ("y", text(y)), ("width", text(width)), ("height", text(height))];
    let mut attributes = vec![("class", "heat"), ("preserveAspectRatio", "none"), ("href", heat.address.as_str())];
    attributes.extend(place.iter().map(|(name, value)| (*name, value.as_str())));
    h.void("image", &attributes);
    let unit = OUTLINE_SIDE as f64;
    let transform = format!("translate({} {}) scale({:.5} {:.5})", text(x), text(y), width / unit, height / unit);
    for class in ["outline under", "outline"] {
        h.void("path", &[("class", class), ("transform", &transform), ("d", &heat.outline)]);
    }
}

/// The colours of heat maps from cold to hot, to stand before the words that explain them.
pub(crate) fn ramp(h: &mut Html) {
    let Some(strip) = heat::key() else { return };
    let attributes =
        [("class", "ramp"), ("viewBox", "0 0 100 10"), ("preserveAspectRatio", "none"), ("aria-hidden", "true")];
    h.within("svg", &attributes, |h| {
        let size = [("width", "100"), ("height", "10"), ("preserveAspectRatio", "none"), ("href", strip.as_str())];
        h.void("image", &size);
    });
}

/// Stands where a picture is absent.
pub(crate) fn absent(h: &mut Html, words: &str) {
    h.within("div", &[("class", "picture absent"), ("role", "img"), ("aria-label", words)], |h| {
        h.element("span", &[("aria-hidden", "true")], "no picture");
    });
}
