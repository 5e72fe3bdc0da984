//! The one heat-map renderer: a small map becomes a layer of colour over a picture.
//!
//! The steps are apart so that results stay data until they are shown: [`levels`] makes a map one
//! byte a place, [`paint`] enlarges it ([`upsample`]) and lays the colours of the
//! [`table`] over the picture. A page that carries the levels and the table can draw the same, byte for byte.

use crate::colour::table;
use ndarray::{Array2, ArrayView2};
use pellucid_vision::picture::Picture;

/// Where the samples of a map lie when it is enlarged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// Corner samples lie on the corners of the picture (`align_corners=True` in PyTorch).
    Corners,
    /// Each sample is the centre of its cell (`align_corners=False`).
    Centres,
}

/// `map` (h × w) at `height` × `width` by bilinear interpolation, equal to PyTorch's
/// `interpolate(mode='bilinear')`. Sides of 0 give an empty array.
pub fn upsample(map: ArrayView2<'_, f32>, width: usize, height: usize, alignment: Alignment) -> Array2<f32> {
    let (rows, columns) = map.dim();
    if rows == 0 || columns == 0 {
        return Array2::zeros((0, 0));
    }
    let xs: Vec<Blend> = (0..width).map(|x| Blend::at(x, columns, width, alignment)).collect();
    let ys: Vec<Blend> = (0..height).map(|y| Blend::at(y, rows, height, alignment)).collect();
    Array2::from_shape_fn((height, width), |(y, x)| {
        let (y, x) = (ys[y], xs[x]);
        let upper = x.mix(map[[y.low, x.low]], map[[y.low, x.high]]);
        let lower = x.mix(map[[y.high, x.low]], map[[y.high, x.high]]);
        y.mix(upper, lower)
    })
}

/// Two neighbouring samples and how far the wanted place is towards the second.
#[derive(Clone, Copy)]
struct Blend {
    low: usize,
    high: usize,
    fraction: f32,
}

impl Blend {
    fn at(target: usize, from: usize, to: usize, alignment: Alignment) -> Blend {
        let place = match alignment {
            Alignment::Corners if to > 1 => target as f64 * (from - 1) as f64 / (to - 1) as f64,
            Alignment::Corners => 0.0,
            Alignment::Centres => ((target as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0),
        };
        let low = (place as usize).min(from - 1);
        Blend { low, high: (low + 1).min(from - 1), fraction: (place - low as f64) as f32 }
    }

    fn mix(self, first: f32, second: f32) -> f32 {
        first * (1.0 - self.fraction) + second * self.fraction
    }
}

/// `map` scaled so that its least value is 0 and its greatest 1.
///
/// `None` where there is nothing to show: the map is empty, constant, or holds a value that is
/// not finite. A caller says so instead of drawing.
pub fn min_max(map: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
    let least = map.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if map.iter().any(|value| !value.is_finite()) || greatest <= least || map.is_empty() {
        return None;
    }
    // In f64: the difference of two finite f32 can overflow f32.
    let range = f64::from(greatest) - f64::from(least);
    Some(map.mapv(|value| ((f64::from(value) - f64::from(least)) / range) as f32))
}

/// `map` as one byte a place, from its least value (0) to its greatest (255). `None` as in
/// [`min_max`].
pub fn levels(map: ArrayView2<'_, f32>) -> Option<Array2<u8>> {
    Some(min_max(map)?.mapv(level))
}

/// `map` as one byte a place, from `low` (0) to `high` (255); values outside are clamped. `None` where
/// that is no range, or the map is empty or holds a value that is not finite.
pub fn levels_between(map: ArrayView2<'_, f32>, low: f32, high: f32) -> Option<Array2<u8>> {
    let range = f64::from(high) - f64::from(low);
    if map.is_empty() || !range.is_finite() || range <= 0.0 || map.iter().any(|value| !value.is_finite()) {
        return None;
    }
    Some(map.mapv(|value| level(((f64::from(value) - f64::from(low)) / range) as f32)))
}

/// The level of a value in 0…1; values outside are clamped, NaN is 0.
fn level(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// `picture` with the colours of `heat` (values 0…1, one for each pixel) on top. `opacity` 0 shows
/// the picture alone, 1 the colours alone. A map of another size is brought to the picture's.
pub fn overlay(picture: &Picture, heat: ArrayView2<'_, f32>, opacity: f32) -> Picture {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if heat.is_empty() {
        return picture.clone();
    }
    if heat.dim() != (height, width) {
        let fitted = upsample(heat, width, height, Alignment::Centres);
        return overlay(picture, fitted.view(), opacity);
    }
    let table = table();
    let mut shown = picture.clone();
    for (pixel, value) in shown.data_mut().chunks_exact_mut(3).zip(heat.iter()) {
        let tinted = blend([pixel[0], pixel[1], pixel[2]], table[usize::from(level(*value))], opacity);
        pixel.copy_from_slice(&tinted);
    }
    shown
}

/// The colour `tint` over `under`. `opacity` 0 shows `under` alone, 1 `tint` alone.
pub fn blend(under: [u8; 3], tint: [u8; 3], opacity: f32) -> [u8; 3] {
    let opacity = if opacity.is_nan() { 0.0 } else { opacity.clamp(0.0, 1.0) };
    std::array::from_fn(|k| (f32::from(under[k]) * (1.0 - opacity) + f32::from(tint[k]) * opacity).round() as u8)
}

/// `picture` with a map of [`levels`] on top, enlarged to its size.
///
/// What a page's script draws from the same levels is equal to the byte: levels over 255, [`upsample`],
/// the nearest level, its colour in [`table`], [`blend`], each in `f32`.
pub fn paint(picture: &Picture, levels: ArrayView2<'_, u8>, alignment: Alignment, opacity: f32) -> Picture {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let values = levels.mapv(|level| f32::from(level) / 255.0);
    overlay(picture, upsample(values.view(), width, height, alignment).view(), opacity)
}

/// All steps at once: `map` enlarged over `picture`. `None` where the map is constant (see
/// [`min_max`]).
pub fn render(picture: &Picture, map: ArrayView2<'_, f32>, alignment: Alignment, opacity: f32) -> Option<Picture> {
    Some(paint(picture, levels(map)?.view(), alignment, opacity))
}
