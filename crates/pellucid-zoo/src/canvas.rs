//! What is painted on: [`SIDE`]×[`SIDE`] colours, and sprites laid over them.

use crate::SIDE;
use crate::noise::blend;
use crate::sprites::Sprite;

/// Red, green and blue, 0…1.
pub type Colour = [f32; 3];

/// A square picture of [`SIDE`]×[`SIDE`] colours, row by row.
#[derive(Debug, Clone)]
pub struct Canvas {
    pixels: Vec<Colour>,
}

/// Where a sprite lies: its middle, its size and its turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Middle of the sprite, in pixels from the left.
    pub x: f32,
    /// Middle of the sprite, in pixels from the top.
    pub y: f32,
    /// Pixels of the picture that one pixel of the sprite covers, above 0.
    pub scale: f32,
    /// Tangent of half the angle by which the sprite is turned clockwise: sine and cosine are
    /// rational in it.
    pub half_turn: f32,
    /// Left and right swapped.
    pub flip: bool,
}

/// From a point of the picture to the place in a sprite that lies under it: an affine map.
struct Inverse {
    across: [f32; 3],
    down: [f32; 3],
}

impl Inverse {
    fn new(sprite: &Sprite, place: &Placement) -> Inverse {
        let t = place.half_turn;
        let (cosine, sine) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let (cosine, sine) = (cosine / place.scale, sine / place.scale);
        let side = if place.flip { -1.0 } else { 1.0 };
        let row = |x: f32, y: f32, middle: usize| [x, y, middle as f32 * 0.5 - x * place.x - y * place.y];
        Inverse { across: row(side * cosine, side * sine, sprite.width), down: row(-sine, cosine, sprite.height) }
    }

    /// How far the sprite reaches from its middle, in pixels across and down, rounded up.
    fn reach(&self, sprite: &Sprite, scale: f32) -> [f32; 2] {
        let (wide, high) = (sprite.width as f32 * 0.5 + 1.0, sprite.height as f32 * 0.5 + 1.0);
        let square = scale * scale;
        let of = |axis: usize| (self.across[axis].abs() * wide + self.down[axis].abs() * high) * square + 2.0;
        [of(0), of(1)]
    }

    /// Colour (multiplied by coverage) and coverage over the pixel (x, y): the mean of 2×2 points.
    fn sample(&self, sprite: &Sprite, x: usize, y: usize) -> [f32; 4] {
        let mut sum = [0.0; 4];
        for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
            let (x, y) = (x as f32 + dx, y as f32 + dy);
            let ([ax, ay, a], [bx, by, b]) = (self.across, self.down);
            for (total, value) in sum.iter_mut().zip(sprite.at(ax * x + ay * y + a, bx * x + by * y + b)) {
                *total += value * 0.25;
            }
        }
        sum
    }
}

/// A sprite as it falls on the pixels of a picture: colour (multiplied by coverage) and coverage.
pub struct Layer {
    values: Vec<[f32; 4]>,
}

impl Layer {
    /// `sprite` at `place`; what lies outside the picture is lost.
    pub fn new(sprite: &Sprite, place: &Placement) -> Layer {
        let inverse = Inverse::new(sprite, place);
        let [reach_x, reach_y] = inverse.reach(sprite, place.scale);
        let span = |middle: f32, reach: f32| {
            let end = (middle + reach).clamp(0.0, SIDE as f32) as usize;
            (middle - reach).clamp(0.0, SIDE as f32) as usize..end
        };
        let mut values = vec![[0.0; 4]; SIDE * SIDE];
        for y in span(place.y, reach_y) {
            for x in span(place.x, reach_x) {
                values[y * SIDE + x] = inverse.sample(sprite, x, y);
            }
        }
        Layer { values }
    }

    /// How much of each pixel the layer would cover if it were moved by (right, down) and seen
    /// out of focus.
    fn soft_coverage(&self, right: usize, down: usize) -> Vec<f32> {
        let mut coverage = vec![0.0; SIDE * SIDE];
        for y in down..SIDE {
            for x in right..SIDE {
                coverage[y * SIDE + x] = self.values[(y - down) * SIDE + x - right][3];
            }
        }
        for _ in 0..2 {
            blur_rows(&mut coverage);
            transpose(&mut coverage);
            blur_rows(&mut coverage);
            transpose(&mut coverage);
        }
        coverage
    }
}

impl Canvas {
    /// A canvas with the colour `at(x, y)` at the middle of every pixel, in pixels from the top
    /// left.
    pub fn from_fn(at: impl Fn(f32, f32) -> Colour) -> Canvas {
        let places = (0..SIDE * SIDE).map(|place| ((place % SIDE) as f32 + 0.5, (place / SIDE) as f32 + 0.5));
        Canvas { pixels: places.map(|(x, y)| at(x, y)).collect() }
    }

    /// Lays `layer` over the picture. `opacity` 0 leaves the picture as it is, 1 lets nothing
    /// through where the layer covers.
    pub fn lay(&mut self, layer: &Layer, opacity: f32) {
        for (pixel, [red, green, blue, coverage]) in self.pixels.iter_mut().zip(&layer.values) {
            for (channel, colour) in pixel.iter_mut().zip([red, green, blue]) {
                *channel = *channel * (1.0 - coverage * opacity) + colour * opacity;
            }
        }
    }

    /// Darkens what lies to the lower right of `layer`, softly, as its shadow would.
    pub fn shade(&mut self, layer: &Layer, opacity: f32) {
        for (pixel, coverage) in self.pixels.iter_mut().zip(layer.soft_coverage(3, 5)) {
            for channel in pixel {
                *channel = blend(*channel, *channel * 0.1, coverage * opacity);
            }
        }
    }

    /// Paints what is less than `width` pixels from an edge.
    pub fn edge(&mut self, width: usize, colour: Colour) {
        for (place, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = (place % SIDE, place / SIDE);
            if x.min(y).min(SIDE - 1 - x).min(SIDE - 1 - y) < width {
                *pixel = colour;
            }
        }
    }

    /// Gives the pixel at each place another colour, from its middle (pixels from the top left) and the one it has.
    pub fn repaint(&mut self, paint: impl Fn(f32, f32, Colour) -> Colour) {
        for (place, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = paint((place % SIDE) as f32 + 0.5, (place / SIDE) as f32 + 0.5, *pixel);
        }
    }

    /// The picture as bytes: red, green, blue, row by row.
    pub fn to_rgb(&self) -> Vec<u8> {
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        self.pixels.iter().flat_map(|pixel| pixel.map(byte)).collect()
    }
}

const BLUR: usize = 4;

/// The mean over 2·[`BLUR`]+1 neighbours along each row; outside the picture is 0.
fn blur_rows(values: &mut [f32]) {
    let mut padded = [0.0; SIDE + 2 * BLUR];
    for row in values.chunks_exact_mut(SIDE) {
        padded[BLUR..BLUR + SIDE].copy_from_slice(row);
        row.fill(0.0);
        for shift in 0..=2 * BLUR {
            for (sum, value) in row.iter_mut().zip(&padded[shift..]) {
                *sum += value;
            }
        }
        for sum in row {
            *sum /= (2 * BLUR + 1) as f32;
        }
    }
}

fn transpose(values: &mut [f32]) {
    for y in 0..SIDE {
        for x in 0..y {
            values.swap(y * SIDE + x, x * SIDE + y);
        }
    }
}
