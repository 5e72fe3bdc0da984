//! Heat maps as small pictures and outlines, from the coarse grids in [`TopSample::heat`].
//!
//! Interpolation and colours are `pellucid-saliency`'s. What is this file's own is how much of the picture a level
//! covers: what is cold stays clear, so that the picture can be seen through.
//!
//! [`TopSample::heat`]: pellucid_classifier::results::TopSample::heat

use base64::Engine;
use ndarray::{Array2, ArrayView2};
use pellucid_saliency::colour::table;
use pellucid_saliency::render::{Alignment, upsample};
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

/// How much of the picture is covered at the quarters of the range, from 0 to 1.
const COVERS: [f32; 5] = [0.0, 0.22, 0.52, 0.72, 0.84];

/// Draws the `size[0]` × `size[1]` grid; `None` where it is empty or not what it claims.
pub(crate) fn draw(grid: &[f32], size: [usize; 2]) -> Option<HeatMap> {
    let [height, width] = size;
    if grid.is_empty() || height.checked_mul(width) != Some(grid.len()) || grid.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let map = enlarge(grid, height, width)?;
    let picture = palette_png(&map, COLOURS, &cover)?;
    Some(HeatMap { address: address(&picture), outline: outline(&map) })
}

/// The colours from cold to hot as a strip one pixel high, as a `data:` address; `None` if it cannot be written.
pub(crate) fn key() -> Option<String> {
    let ramp = Array2::from_shape_fn((1, 256), |(_, level)| level as f32 / 255.0);
    palette_png(&ramp, 256, &|_| 1.0).as_deref().map(address)
}

fn address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png))
}

/// [`SIDE`] × [`SIDE`] values in `[0, 1]`.
fn enlarge(grid: &[f32], height: usize, width: usize) -> Option<Array2<f32>> {
    let grid = ArrayView2::from_shape((height, width), grid).ok()?;
    Some(upsample(grid, SIDE, SIDE, Alignment::Centres).mapv(|value| value.clamp(0.0, 1.0)))
}

/// `map` (values 0…1) in `colours` evenly spaced levels of the table; `cover` gives the opacity of a value.
fn palette_png(map: &Array2<f32>, colours: usize, cover: &dyn Fn(f32) -> f32) -> Option<Vec<u8>> {
    let (height, width) = map.dim();
    let (table, last) = (table(), colours - 1);
    let mut palette = Vec::with_capacity(3 * colours);
    let mut covers = Vec::with_capacity(colours);
    for i in 0..colours {
        palette.extend(table[i * 255 / last]);
        covers.push((cover(i as f32 / last as f32) * 255.0) as u8);
    }
    let indices: Vec<u8> = map.iter().map(|value| (value * last as f32).round() as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
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

/// The share of the picture that a value in `[0, 1]` covers.
fn cover(value: f32) -> f32 {
    let place = value * (COVERS.len() - 1) as f32;
    let low = (place as usize).min(COVERS.len() - 2);
    COVERS[low] + (place - low as f32) * (COVERS[low + 1] - COVERS[low])
}

/// Marching squares over the cell centres: separate short lines, which a stroke joins to the eye.
fn outline(map: &Array2<f32>) -> String {
    let mut path = String::new();
    let mut last = None;
    for y in 0..SIDE - 1 {
        for x in 0..SIDE - 1 {
            let corner = |dx: usize, dy: usize| map[[y + dy, x + dx]];
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
    fn every_colour_is_one_of_the_table() {
        let picture = decoded(&[0.0, 0.3, 0.7, 1.0], [2, 2]);
        let table = table();
        assert!(picture.pixels().all(|p| table.contains(&[p[0], p[1], p[2]])));
        assert_eq!(picture.get_pixel(SIDE as u32 - 1, SIDE as u32 - 1).0[..3], table[255]);
    }

    #[test]
    fn the_key_runs_through_the_whole_table() {
        let address = key().expect("draws");
        let data = address.strip_prefix("data:image/png;base64,").expect("a PNG");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        let strip = image::load_from_memory(&bytes).expect("decodes").to_rgb8();
        let colours: Vec<[u8; 3]> = strip.pixels().map(|p| p.0).collect();
        assert_eq!(colours, table());
    }
}
