//! Where the pixels of the model's view come from: resize rule, then centre crop, with the
//! rounding of the library that the rule was learnt from.

use super::{ChannelOrder, Crop, Preprocessing, ResizeRule};
use crate::picture::Picture;
use crate::resize::{Window, resize_window};

/// The resized and cropped picture of the input's size. What a crop asks for outside the resized
/// picture is black, or timm's mean colour for its borders.
pub(super) fn view(settings: &Preprocessing, picture: &Picture) -> Picture {
    let (width, height) = resized_size(settings, picture.width(), picture.height());
    let across = Span::of(width, settings.width, settings.crop);
    let down = Span::of(height, settings.height, settings.crop);
    let window = Window { left: across.from, top: down.from, width: across.count, height: down.count };
    let seen = resize_window(picture, width, height, settings.filter, window);
    if (across.count, down.count) == (settings.width, settings.height) {
        return seen;
    }
    padded(&seen, settings, across.pad, down.pad)
}

/// Where a view lies in its picture.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ViewBox {
    /// Width and height of the picture.
    pub picture: [u32; 2],
    /// Width and height of the view.
    pub view: [u32; 2],
    /// Left, top, right and bottom edge of the view in pixels of the picture; what lies outside the picture is border.
    pub edges: [f64; 4],
}

impl ViewBox {
    /// The place in the view, in its pixels, of a place in the picture: the centre of its first pixel is (0.5, 0.5) in both.
    pub fn to_view(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, right, bottom] = self.edges;
        let [width, height] = self.view.map(f64::from);
        ((x - left) / (right - left) * width, (y - top) / (bottom - top) * height)
    }
}

/// Where the view of a picture of this size lies in it.
pub(super) fn view_box(settings: &Preprocessing, picture: (u32, u32)) -> ViewBox {
    let (width, height) = resized_size(settings, picture.0, picture.1);
    let edges = |resized: u32, wanted: u32, own: u32| {
        let span = Span::of(resized, wanted, settings.crop);
        let scale = f64::from(own) / f64::from(resized);
        let first = f64::from(span.from) - f64::from(span.pad);
        [first * scale, (first + f64::from(wanted)) * scale]
    };
    let [left, right] = edges(width, settings.width, picture.0);
    let [top, bottom] = edges(height, settings.height, picture.1);
    ViewBox {
        picture: [picture.0, picture.1],
        view: [settings.width, settings.height],
        edges: [left, top, right, bottom],
    }
}

/// Size (width, height) after the resize rule.
fn resized_size(settings: &Preprocessing, width: u32, height: u32) -> (u32, u32) {
    let target = (settings.width, settings.height);
    let over = |side: u32, fraction: f64| ((f64::from(side) / fraction).floor() as u32).max(1);
    match settings.resize {
        ResizeRule::None => (width, height),
        ResizeRule::Exact => target,
        ResizeRule::ExactTo(w, h) => (w, h),
        ResizeRule::ShortestSide(side) => shortest_side(width, height, side),
        ResizeRule::SquashPct(fraction) => (over(target.0, fraction), over(target.1, fraction)),
        ResizeRule::CropPct(fraction) => {
            let (w, h) = (over(target.0, fraction), over(target.1, fraction));
            if w == h { shortest_side(width, height, w) } else { keep_ratio(width, height, w, h, f64::min) }
        }
        ResizeRule::BorderPct(fraction) => {
            keep_ratio(width, height, over(target.0, fraction), over(target.1, fraction), f64::max)
        }
    }
}

/// torchvision: the longer side is `int(side * long / short)`.
fn shortest_side(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longer = |long: u32, short: u32| {
        let pixels = (f64::from(side) * f64::from(long) / f64::from(short)) as u32;
        pixels.clamp(1, MAX_LONG_SIDE)
    };
    if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) }
}

/// A strip of one pixel by a million would otherwise be enlarged without bound. Only the window
/// is ever computed, so this bounds arithmetic rather than memory.
const MAX_LONG_SIDE: u32 = 1 << 30;

/// timm's `ResizeKeepRatio`: both sides divided by one ratio, rounded half to even.
fn keep_ratio(width: u32, height: u32, to_w: u32, to_h: u32, choose: fn(f64, f64) -> f64) -> (u32, u32) {
    let across = f64::from(width) / f64::from(to_w);
    let down = f64::from(height) / f64::from(to_h);
    let ratio = choose(across, down);
    let side = |pixels: u32| ((f64::from(pixels) / ratio).round_ties_even() as u32).clamp(1, MAX_LONG_SIDE);
    (side(width), side(height))
}

/// Along one axis: which pixels of the resized picture are seen, and the border before them.
struct Span {
    from: u32,
    count: u32,
    pad: u32,
}

impl Span {
    fn of(resized: u32, wanted: u32, crop: Crop) -> Span {
        let half = f64::from(resized.abs_diff(wanted)) / 2.0;
        if resized >= wanted {
            let from = match crop {
                Crop::Centre => half.round_ties_even(),
                Crop::CentreFloor => half.floor(),
            };
            return Span { from: from as u32, count: wanted, pad: 0 };
        }
        let pad = match crop {
            Crop::Centre => half.floor(),
            Crop::CentreFloor => half.ceil(),
        };
        Span { from: 0, count: resized, pad: pad as u32 }
    }
}

fn padded(seen: &Picture, settings: &Preprocessing, left: u32, top: u32) -> Picture {
    let border = border_colour(settings);
    Picture::from_fn(settings.width, settings.height, |x, y| {
        let inside = (left..left + seen.width()).contains(&x) && (top..top + seen.height()).contains(&y);
        if inside { seen.pixel(x - left, y - top) } else { border }
    })
}

/// Black, except for [`ResizeRule::BorderPct`]: there the colour that normalises to 0.
fn border_colour(settings: &Preprocessing) -> [u8; 3] {
    if !matches!(settings.resize, ResizeRule::BorderPct(_)) {
        return [0; 3];
    }
    let level = |channel: usize| (settings.mean[channel] / settings.scale).round_ties_even() as u8;
    match settings.channels {
        ChannelOrder::Rgb => [level(0), level(1), level(2)],
        ChannelOrder::Bgr => [level(2), level(1), level(0)],
        ChannelOrder::Gray => [level(0); 3],
    }
}

/// "p / 255" rather than "p * 0.0039215686".
pub(super) fn scale_in_words(scale: f64) -> String {
    let inverse = 1.0 / scale;
    if scale == 1.0 {
        "p".to_string()
    } else if (inverse - inverse.round()).abs() < 1e-6 * inverse {
        format!("p / {}", inverse.round())
    } else {
        format!("p * {scale}")
    }
}
