//! Heat maps as small pictures and outlines, from the coarse grids in [`TopSample::heat`].
//!
//! The grid is interpolated first and coloured afterwards, so that colours mean values. Cells are areas: a grid of
//! h × w covers the whole picture and cell centres lie at (i + ½)/h (bilinear "half-pixel" geometry, like the strided
//! convolutions that made it).
//!
//! [`TopSample::heat`]: pellucid_classifier::results::TopSample::heat

use base64::Engine;
use std::fmt::Write;

/// Side of the interpolated map, in pixels.
const SIDE: usize = 40;
/// Number of colours; few of them compress well and cannot be told apart on a picture.
const COLOURS: usize = 32;
/// Where the outline runs: half of the map's range.
const OUTLINE: f32 = 0.5;
/// Side of the square in whose coordinates the outline is written.
pub(crate) const OUTLINE_SIDE: usize = 400;

/// A heat map ready to be laid over a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeatMap {
    /// A small PNG with transparency, as a `data:` address.
    pub(crate) address: String,
    /// SVG path of the line at half of the range, in a square of [`OUTLINE_SIDE`].
    pub(crate) outline: String,
}

/// Colours and covers from 0 to 1: position, red, green, blue, opacity in percent.
const RAMP: [[f32; 5]; 5] = [
    [0.00, 38.0, 18.0, 92.0, 0.0],
    [0.25, 92.0, 22.0, 128.0, 22.0],
    [0.50, 190.0, 42.0, 110.0, 52.0],
    [0.75, 245.0, 105.0, 50.0, 72.0],
    [1.00, 255.0, 222.0, 80.0, 84.0],
];

/// Draws the `size[0]` × `size[1]` grid; `None` where it is empty or not what it claims.
pub(crate) fn draw(heat: &[f32], size: [usize; 2]) -> Option<HeatMap> {
    let [height, width] = size;
    if heat.is_empty() || height.checked_mul(width) != Some(heat.len()) || heat.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let map = enlarge(heat, height, width);
    let png = encode(&map)?;
    let data = base64::engine::general_purpose::STANDARD.encode(png);
    Some(HeatMap { address: format!("data:image/png;base64,{data}"), outline: outline(&map) })
}

/// [`SIDE`] × [`SIDE`] values in `[0, 1]`, by Catmull–Rom interpolation along each axis.
fn enlarge(heat: &[f32], height: usize, width: usize) -> Vec<f32> {
    let columns = taps(width);
    let rows = taps(height);
    let mut wide = vec![0.0; height * SIDE];
    for y in 0..height {
        for (x, column) in columns.iter().enumerate() {
            wide[y * SIDE + x] = column.iter().map(|&(source, weight)| weight * heat[y * width + source]).sum();
        }
    }
    let mut map = vec![0.0; SIDE * SIDE];
    for (y, row) in rows.iter().enumerate() {
        for x in 0..SIDE {
            let value: f32 = row.iter().map(|&(source, weight)| weight * wide[source * SIDE + x]).sum();
            map[y * SIDE + x] = value.clamp(0.0, 1.0);
        }
    }
    map
}

/// For each of [`SIDE`] positions the four cells it reads, repeated at the edges, and their weights.
fn taps(cells: usize) -> Vec<[(usize, f32); 4]> {
    let position = |i: usize| (i as f32 + 0.5) * cells as f32 / SIDE as f32 - 0.5;
    let clamped = |cell: f32| cell.clamp(0.0, cells as f32 - 1.0) as usize;
    let tap = |at: f32| {
        let (base, t) = (at.floor(), at - at.floor());
        let weights = [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ];
        [0, 1, 2, 3].map(|k| (clamped(base - 1.0 + k as f32), weights[k]))
    };
    (0..SIDE).map(|i| tap(position(i))).collect()
}

fn encode(map: &[f32]) -> Option<Vec<u8>> {
    let (mut palette, mut covers) = (Vec::new(), Vec::new());
    for i in 0..COLOURS {
        let [_, red, green, blue, cover] = colour(i as f32 / (COLOURS - 1) as f32);
        palette.extend([red as u8, green as u8, blue as u8]);
        covers.push((cover * 2.55) as u8);
    }
    let indices: Vec<u8> = map.iter().map(|value| (value * (COLOURS - 1) as f32).round() as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.set_palette(palette);
    encoder.set_trns(covers);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&indices).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}

fn colour(value: f32) -> [f32; 5] {
    let next = RAMP.iter().position(|stop| stop[0] >= value).unwrap_or(RAMP.len() - 1).max(1);
    let (low, high) = (RAMP[next - 1], RAMP[next]);
    let t = (value - low[0]) / (high[0] - low[0]);
    [0, 1, 2, 3, 4].map(|i| low[i] + t * (high[i] - low[i]))
}

/// Marching squares over the cell centres: separate short lines, which a stroke joins to the eye.
fn outline(map: &[f32]) -> String {
    let mut path = String::new();
    let mut last = None;
    for y in 0..SIDE - 1 {
        for x in 0..SIDE - 1 {
            let corner = |dx: usize, dy: usize| map[(y + dy) * SIDE + x + dx];
            let corners = [corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)];
            for [from, to] in crossings(corners) {
                let place = |[dx, dy]: [f32; 2]| {
                    let scale = OUTLINE_SIDE as f32 / SIDE as f32;
                    [(x as f32 + dx + 0.5) * scale, (y as f32 + dy + 0.5) * scale].map(|c| c.round() as i32)
                };
                let (from, to) = (place(from), place(to));
                if last != Some(from) {
                    let _ = write!(path, "M{} {}", from[0], from[1]);
                }
                let _ = write!(path, "L{} {}", to[0], to[1]);
                last = Some(to);
            }
        }
    }
    path
}

/// Where the outline crosses one cell: pairs of points on its edges, clockwise corners from the top left.
fn crossings(corners: [f32; 4]) -> Vec<[[f32; 2]; 2]> {
    const CORNERS: [[f32; 2]; 4] = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
    let mut points = Vec::new();
    for edge in 0..4 {
        let (a, b) = (corners[edge], corners[(edge + 1) % 4]);
        if (a >= OUTLINE) != (b >= OUTLINE) {
            let t = (OUTLINE - a) / (b - a);
            let (p, q) = (CORNERS[edge], CORNERS[(edge + 1) % 4]);
            points.push([p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]);
        }
    }
    match points[..] {
        [a, b] => vec![[a, b]],
        [a, b, c, d] => vec![[a, b], [c, d]],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(heat: &[f32], size: [usize; 2]) -> image::RgbaImage {
        let map = draw(heat, size).expect("draws");
        let data = map.address.strip_prefix("data:image/png;base64,").expect("a PNG");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        image::load_from_memory(&bytes).expect("decodes").to_rgba8()
    }

    #[test]
    fn the_hottest_cell_is_the_most_covered_place_and_the_coldest_is_clear() {
        let mut heat = vec![0.0; 35];
        heat[7 + 5] = 1.0; // Row 1 of 5, column 5 of 7.
        let picture = decoded(&heat, [5, 7]);
        let hottest = picture.enumerate_pixels().max_by_key(|(_, _, p)| p[3]).map(|(x, y, _)| (x, y)).expect("pixels");
        let (x, y) = (hottest.0 as f32 / SIDE as f32 * 7.0, hottest.1 as f32 / SIDE as f32 * 5.0);
        assert_eq!((x as usize, y as usize), (5, 1));
        assert_eq!(picture.get_pixel(2, SIDE as u32 - 3)[3], 0);
    }

    #[test]
    fn the_outline_surrounds_the_half_that_is_hot() {
        let map = draw(&[1.0, 0.0], [1, 2]).expect("draws");
        let xs: Vec<i32> =
            map.outline.split(['M', 'L']).filter_map(|point| point.split(' ').next()?.parse().ok()).collect();
        let middle = OUTLINE_SIDE as i32 / 2;
        assert!(!xs.is_empty() && xs.iter().all(|x| (x - middle).abs() <= 1), "{:?}", map.outline);
    }

    #[test]
    fn a_grid_that_is_not_one_is_not_drawn() {
        assert_eq!(draw(&[], [0, 0]), None);
        assert_eq!(draw(&[1.0, 0.0], [2, 2]), None);
        assert_eq!(draw(&[1.0, f32::NAN], [1, 2]), None);
        assert_eq!(draw(&[1.0], [usize::MAX, usize::MAX]), None);
    }

    #[test]
    fn interpolation_passes_through_cell_centres() {
        let heat = [0.1, 0.9, 0.4, 0.6, 0.2];
        let map = enlarge(&heat, 1, 5);
        for (cell, value) in heat.iter().enumerate() {
            // SIDE / 5 is even, so a centre lies between two pixels.
            let right = cell * SIDE / 5 + SIDE / 10;
            assert!(((map[right - 1] + map[right]) / 2.0 - value).abs() < 0.03);
        }
    }
}
