//! Painted backgrounds: a kind and a seed give the same one for good.
//!
//! Each kind draws its colours and its geometry from the seed, then answers "which colour is at
//! (x, y)". They range from flat studio tints to rough landscapes, so that a classifier cannot
//! tell anything from what lies behind an emoji.

mod palette;

use crate::SIDE;
use crate::canvas::{Canvas, Colour};
use crate::draws::Draws;
use crate::noise::{Noise, ease, floor, step};
use palette::{Palette, dark, mix, scale};

/// Middle of the picture.
const MIDDLE: f32 = SIDE as f32 / 2.0;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $name:literal, $paint:path;)*) => {
        /// What a background shows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// The name in recipe.csv.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// The background of this kind that `seed` gives.
            pub fn paint(self, seed: u64) -> Canvas {
                let mut draws = Draws::new(seed);
                match self { $(Kind::$kind => $paint(&mut draws),)* }
            }
        }
    };
}

kinds! {
    /// One colour, lit from somewhere.
    Plain, "plain", plain;
    /// Three colours from side to side.
    Gradient, "gradient", gradient;
    /// Three colours from a point outwards.
    Glow, "glow", glow;
    /// Parallel stripes.
    Stripes, "stripes", stripes;
    /// A checkerboard, turned.
    Checker, "checker", checker;
    /// A lattice of dots.
    Dots, "dots", dots;
    /// Large soft discs.
    Blobs, "blobs", blobs;
    /// Clouds of noise in three colours.
    Clouds, "clouds", clouds;
    /// Bands bent by noise.
    Marble, "marble", marble;
    /// A mosaic of irregular stones.
    Mosaic, "mosaic", mosaic;
    /// Lights out of focus in the dark.
    Bokeh, "bokeh", bokeh;
    /// Planks with a grain.
    Planks, "planks", planks;
    /// Woven cloth.
    Cloth, "cloth", cloth;
    /// A wall and a floor.
    Room, "room", room;
    /// Hills under a sky.
    Hills, "hills", hills;
    /// Water with ripples.
    Water, "water", water;
}

impl Kind {
    /// The kind with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Distance of (x, y) from `from`.
fn distance(x: f32, y: f32, from: [f32; 2]) -> f32 {
    let (dx, dy) = (x - from[0], y - from[1]);
    (dx * dx + dy * dy).sqrt()
}

/// A point up to `margin` pixels outside the picture.
fn point(draws: &mut Draws, margin: f32) -> [f32; 2] {
    let end = SIDE as f32 + margin;
    [draws.between(-margin, end), draws.between(-margin, end)]
}

/// A place along `direction`, 0 at the middle of the picture.
fn along(x: f32, y: f32, direction: [f32; 2]) -> f32 {
    (x - MIDDLE) * direction[0] + (y - MIDDLE) * direction[1]
}

/// 0…1…0 over each period, straight between: a sine without a maths library once eased.
fn zigzag(value: f32) -> f32 {
    let part = value - floor(value);
    if part < 0.5 { 2.0 * part } else { 2.0 - 2.0 * part }
}

/// 0 in one half of each period and 1 in the other, with edges of 1 pixel.
fn square(value: f32, period: f32) -> f32 {
    let edge = 2.0 / period;
    step(0.5 - edge * 0.5, 0.5 + edge * 0.5, zigzag(value / period))
}

fn plain(draws: &mut Draws) -> Canvas {
    let colour = Palette::draw(draws).at(0);
    let (light, fall) = (point(draws, 40.0), draws.between(0.10, 0.30));
    Canvas::from_fn(|x, y| scale(colour, 1.06 - fall * ease((distance(x, y, light) / 280.0).min(1.0))))
}

fn gradient(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let direction = draws.direction();
    Canvas::from_fn(|x, y| palette.across(along(x, y, direction) / 280.0 + 0.5))
}

fn glow(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (centre, reach) = (point(draws, 20.0), draws.between(140.0, 260.0));
    Canvas::from_fn(|x, y| palette.across(distance(x, y, centre) / reach))
}

fn stripes(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (direction, period) = (draws.direction(), draws.between(16.0, 60.0));
    let third = draws.chance(0.5);
    let shift = draws.between(0.0, 60.0);
    Canvas::from_fn(|x, y| {
        let place = along(x, y, direction) + shift;
        let colour = mix(palette.at(0), palette.at(1), square(place, period));
        let line = if third { square(place + period * 0.3, period * 2.0) * 0.7 } else { 0.0 };
        mix(colour, palette.at(2), line)
    })
}

fn checker(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (direction, period) = (draws.direction(), draws.between(28.0, 90.0));
    let across = [-direction[1], direction[0]];
    let contrast = draws.between(0.35, 1.0);
    Canvas::from_fn(|x, y| {
        let (first, second) = (square(along(x, y, direction), period), square(along(x, y, across), period));
        let odd = first * (1.0 - second) + second * (1.0 - first);
        mix(palette.at(0), palette.at(1), odd * contrast)
    })
}

fn dots(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (direction, apart) = (draws.direction(), draws.between(18.0, 44.0));
    let across = [-direction[1], direction[0]];
    let radius = apart * draws.between(0.18, 0.36);
    Canvas::from_fn(|x, y| {
        let (u, v) = (along(x, y, direction) / apart, along(x, y, across) / apart);
        let (du, dv) = ((u - floor(u) - 0.5) * apart, (v - floor(v) - 0.5) * apart);
        let odd = (floor(u) + floor(v)) as i32 & 1;
        let inside = 1.0 - step(radius - 0.8, radius + 0.8, (du * du + dv * dv).sqrt());
        mix(palette.at(0), palette.at(1 + odd as usize), inside)
    })
}

fn blobs(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let direction = draws.direction();
    let discs: Vec<([f32; 2], f32, Colour, f32)> = (0..7 + draws.below(5))
        .map(|index| {
            (point(draws, 30.0), draws.between(25.0, 80.0), palette.at(1 + index % 3), draws.between(0.3, 1.0))
        })
        .collect();
    Canvas::from_fn(|x, y| {
        let base = mix(palette.at(0), palette.at(1), ease((along(x, y, direction) / 300.0 + 0.5).clamp(0.0, 1.0)));
        discs.iter().fold(base, |under, (centre, radius, colour, softness)| {
            let near = step(*radius, radius * (1.0 - softness * 0.9), distance(x, y, *centre));
            mix(under, *colour, near * 0.8)
        })
    })
}

fn clouds(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (noise, size) = (Noise::new(draws.bits()), draws.between(24.0, 90.0));
    Canvas::from_fn(|x, y| palette.across((noise.octaves(x / size, y / size, 4) - 0.2) / 0.6))
}

fn marble(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (noise, direction) = (Noise::new(draws.bits()), draws.direction());
    let (period, bend) = (draws.between(30.0, 90.0), draws.between(0.6, 2.2));
    Canvas::from_fn(|x, y| {
        let bent = along(x, y, direction) / period + bend * noise.octaves(x / 60.0, y / 60.0, 3);
        palette.across(ease(zigzag(bent)))
    })
}

fn mosaic(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let cells = 4 + draws.below(5) as i32;
    let cell = SIDE as f32 / cells as f32;
    let stones: Vec<([f32; 2], Colour)> = (0..(cells + 2) * (cells + 2))
        .map(|index| {
            let (column, row) = ((index % (cells + 2) - 1) as f32, (index / (cells + 2) - 1) as f32);
            let at = [(column + draws.between(0.1, 0.9)) * cell, (row + draws.between(0.1, 0.9)) * cell];
            let share = draws.unit();
            (at, scale(palette.across(share), draws.between(0.85, 1.1)))
        })
        .collect();
    Canvas::from_fn(|x, y| {
        let (mut nearest, mut second, mut colour) = (f32::MAX, f32::MAX, palette.at(0));
        for (at, stone) in near_stones(&stones, cells, cell, x, y) {
            let away = distance(x, y, at);
            if away < nearest {
                (second, nearest, colour) = (nearest, away, stone);
            } else if away < second {
                second = away;
            }
        }
        scale(colour, 0.72 + 0.28 * step(0.0, 5.0, second - nearest))
    })
}

/// The stones of the 5×5 cells around (x, y): no other can be nearest.
fn near_stones(
    stones: &[([f32; 2], Colour)],
    cells: i32,
    cell: f32,
    x: f32,
    y: f32,
) -> impl Iterator<Item = ([f32; 2], Colour)> {
    let (column, row) = ((x / cell) as i32 + 1, (y / cell) as i32 + 1);
    let range = move |middle: i32| (middle - 2).max(0)..(middle + 3).min(cells + 2);
    range(row).flat_map(move |row| range(column).map(move |column| stones[(row * (cells + 2) + column) as usize]))
}

fn bokeh(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let direction = draws.direction();
    let lights: Vec<([f32; 2], f32, Colour, f32)> = (0..14 + draws.below(14))
        .map(|_| {
            let colour = palette.across(draws.unit());
            (point(draws, 15.0), draws.between(6.0, 26.0), scale(colour, 1.25), draws.between(0.15, 0.6))
        })
        .collect();
    let (near, far) = (dark(palette.at(0), 0.45), dark(palette.at(2), 0.2));
    Canvas::from_fn(|x, y| {
        let base = mix(near, far, ease((along(x, y, direction) / 260.0 + 0.5).clamp(0.0, 1.0)));
        lights.iter().fold(base, |under, (centre, radius, colour, strength)| {
            let away = distance(x, y, *centre);
            let rim = 0.75 + 0.25 * step(radius * 0.7, *radius, away);
            let inside = 1.0 - step(radius - 1.2, radius + 1.2, away);
            mix(under, *colour, inside * rim * strength)
        })
    })
}

fn planks(draws: &mut Draws) -> Canvas {
    let wood = Palette::wood(draws);
    let noise = Noise::new(draws.bits());
    let (wide, upright) = (draws.between(26.0, 64.0), draws.chance(0.5));
    let light = point(draws, 30.0);
    Canvas::from_fn(|x, y| {
        let (u, v) = if upright { (x, y) } else { (y, x) };
        let plank = floor(u / wide);
        let own = noise.at(plank * 7.7 + 0.5, 0.5);
        let grain = noise.octaves(u / 5.0 + own * 90.0, v / 90.0 + own * 30.0, 3);
        let from_edge = (u - plank * wide).min((plank + 1.0) * wide - u);
        let groove = 0.55 + 0.45 * step(0.0, 2.0, from_edge);
        let lit = 1.08 - 0.25 * (distance(x, y, light) / 300.0).min(1.0);
        scale(wood.across(grain * 0.8 + own * 0.4 - 0.1), groove * lit)
    })
}

fn cloth(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let (noise, thread) = (Noise::new(draws.bits()), draws.between(3.0, 7.0));
    let (tartan, size) = (draws.chance(0.5), draws.between(30.0, 70.0));
    Canvas::from_fn(|x, y| {
        let (u, v) = (zigzag(x / thread), zigzag(y / thread));
        let over = ((floor(x / thread) + floor(y / thread)) as i32 & 1) as f32;
        let weave = 0.86 + 0.14 * (over * u + (1.0 - over) * v);
        let mut colour = mix(palette.at(0), palette.at(1), 0.3 * noise.octaves(x / 50.0, y / 50.0, 2));
        if tartan {
            colour = mix(colour, palette.at(2), 0.4 * square(x, size));
            colour = mix(colour, palette.at(1), 0.4 * square(y, size));
        }
        scale(colour, weave)
    })
}

fn room(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let horizon = draws.between(120.0, 185.0);
    let (soft, light) = (draws.between(1.0, 28.0), point(draws, 0.0));
    let grain = Noise::new(draws.bits());
    Canvas::from_fn(|x, y| {
        let wall = scale(palette.at(0), 1.05 - 0.25 * (distance(x, y, light) / 220.0).min(1.0));
        let floor = scale(palette.at(1), 0.75 + 0.3 * (y - horizon) / (SIDE as f32 - horizon));
        let colour = mix(wall, floor, step(horizon - soft, horizon + soft, y));
        scale(colour, 0.96 + 0.08 * grain.octaves(x / 14.0, y / 14.0, 2))
    })
}

fn hills(draws: &mut Draws) -> Canvas {
    let (sky, land) = (Palette::sky(draws), Palette::draw(draws));
    let (ridge, texture) = (Noise::new(draws.bits()), Noise::new(draws.bits()));
    let (sun, radius) = ([draws.between(10.0, 214.0), draws.between(15.0, 80.0)], draws.between(8.0, 20.0));
    let (layers, top) = (2 + draws.below(3), draws.between(80.0, 130.0));
    let nearness = |layer: usize| (layer + 1) as f32 / layers as f32;
    let crest = |layer: usize, x: f32| {
        let near = nearness(layer);
        let height = ridge.octaves(x / (90.0 - 30.0 * near) + layer as f32 * 31.0, layer as f32 * 9.0, 4);
        top + near * 70.0 - 70.0 * height + 10.0
    };
    let crests: Vec<Vec<f32>> =
        (0..layers).map(|layer| (0..SIDE).map(|x| crest(layer, x as f32 + 0.5)).collect()).collect();
    let air = |x: f32, y: f32| {
        let cloud = step(0.5, 0.75, texture.octaves(x / 70.0, y / 28.0 + 40.0, 4));
        let colour = mix(sky.across(y / (top + 50.0)), [1.0, 0.98, 0.96], cloud * 0.65);
        mix(sky.at(3), colour, step(radius - 1.0, radius + 1.0, distance(x, y, sun)))
    };
    Canvas::from_fn(|x, y| {
        let shares: Vec<f32> = crests.iter().map(|crest| step(-0.7, 0.7, y - crest[x as usize])).collect();
        let hidden = shares.iter().rposition(|share| *share >= 1.0);
        let mut colour = if hidden.is_some() { sky.at(2) } else { air(x, y) };
        let rough = 0.8 + 0.35 * texture.octaves(x / 9.0, y / 5.0, 3);
        for layer in hidden.unwrap_or(0)..layers {
            let hazy = mix(sky.at(2), scale(land.at(layer), rough), 0.35 + 0.65 * nearness(layer));
            colour = mix(colour, hazy, shares[layer]);
        }
        colour
    })
}

fn water(draws: &mut Draws) -> Canvas {
    let palette = Palette::draw(draws);
    let noise = Noise::new(draws.bits());
    let (size, glint) = (draws.between(10.0, 26.0), draws.between(0.3, 0.8));
    Canvas::from_fn(|x, y| {
        let depth = y / SIDE as f32;
        let near = 0.4 + 1.4 * depth;
        let ripple = noise.octaves(x / (size * 3.0 * near), y / (size * near * 0.7), 3);
        let base = palette.across(0.75 * depth + 0.5 * (ripple - 0.4));
        mix(base, [0.97, 0.98, 1.0], glint * step(0.62, 0.78, ripple))
    })
}
