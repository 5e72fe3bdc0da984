//! Resizing that equals Pillow's `Image.resize` bit by bit.
//!
//! Pillow's 8-bit path is a separable convolution in fixed point. The filter is stretched by the
//! scale when a picture shrinks (antialiasing), its weights are normalised and rounded to 22
//! fractional bits, and each pass (first along x, then along y) rounds to 8 bits. Models trained
//! behind torchvision, timm or Hugging Face pipelines have seen exactly these pixels.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::picture::Picture;

/// How pixels are weighted. The names and shapes are Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The pixel whose area holds the target's centre; no antialiasing.
    Nearest,
    /// Equal weights over the area that becomes one pixel.
    Box,
    /// Triangle of radius 1.
    Bilinear,
    /// The four pixels around a place, however much a picture shrinks: without antialiasing, as `tf.image.resize`, OpenCV's
    /// `INTER_LINEAR` and PyTorch's `F.interpolate` do it (on whole numbers between the axes, so up to one level apart).
    BilinearNoAntialias,
    /// Raised cosine of radius 1.
    Hamming,
    /// Keys' cubic with a = −0.5, radius 2.
    Bicubic,
    /// Windowed sinc of radius 3.
    Lanczos,
}

impl Filter {
    /// Half the filter's width, in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::BilinearNoAntialias | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            // Half open, so that a sample on an edge counts once.
            Filter::Nearest | Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear | Filter::BilinearNoAntialias => (1.0 - distance).max(0.0),
            Filter::Hamming if distance == 0.0 => 1.0,
            Filter::Hamming if distance >= 1.0 => 0.0,
            Filter::Hamming => {
                let phase = distance * std::f64::consts::PI;
                phase.sin() / phase * (0.54 + 0.46 * phase.cos())
            }
            Filter::Bicubic => keys_cubic(distance),
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }

    /// The filter's name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Nearest => "nearest",
            Filter::Box => "box",
            Filter::Bilinear => "bilinear",
            Filter::BilinearNoAntialias => "bilinear-no-antialias",
            Filter::Hamming => "hamming",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "lanczos",
        }
    }

    /// The filter of a name as timm, torchvision or Pillow write it, in any case.
    pub fn from_name(name: &str) -> Option<Filter> {
        match name.trim().to_ascii_lowercase().as_str() {
            "nearest" => Some(Filter::Nearest),
            "box" => Some(Filter::Box),
            "bilinear" => Some(Filter::Bilinear),
            "bilinear-no-antialias" => Some(Filter::BilinearNoAntialias),
            "hamming" => Some(Filter::Hamming),
            "bicubic" => Some(Filter::Bicubic),
            "lanczos" | "antialias" => Some(Filter::Lanczos),
            _ => None,
        }
    }

    /// The filter of a Pillow constant, as Hugging Face configurations write it.
    pub fn from_pillow(number: u64) -> Option<Filter> {
        match number {
            0 => Some(Filter::Nearest),
            1 => Some(Filter::Lanczos),
            2 => Some(Filter::Bilinear),
            3 => Some(Filter::Bicubic),
            4 => Some(Filter::Box),
            5 => Some(Filter::Hamming),
            _ => None,
        }
    }
}

fn keys_cubic(distance: f64) -> f64 {
    const A: f64 = -0.5;
    if distance < 1.0 {
        ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
    } else if distance < 2.0 {
        (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let phase = x * std::f64::consts::PI;
    phase.sin() / phase
}

/// A rectangle of the resized picture: left, top, width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column kept.
    pub left: u32,
    /// First row kept.
    pub top: u32,
    /// Columns kept, at least 1.
    pub width: u32,
    /// Rows kept, at least 1.
    pub height: u32,
}

/// `picture` at `width` × `height` pixels, equal to Pillow's `resize`. A side of 0 is taken as 1.
pub fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    resize_window(picture, width, height, filter, Window { left: 0, top: 0, width, height })
}

/// The part `window` of `picture` resized to `width` × `height`: the same pixels as resizing and
/// then cropping, without computing the others. The window is clamped to the resized picture.
pub fn resize_window(picture: &Picture, width: u32, height: u32, filter: Filter, window: Window) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    let left = window.left.min(width - 1);
    let top = window.top.min(height - 1);
    let columns = window.width.clamp(1, width - left);
    let rows = window.height.clamp(1, height - top);
    if filter == Filter::Nearest {
        return nearest(picture, (width, height), (left, columns), (top, rows));
    }
    let along_y = weights(picture.height(), height, top, rows, filter);
    let first = along_y.first_source();
    let along_x = weights(picture.width(), width, left, columns, filter);
    let narrow = pass_x(picture, &along_x, first, along_y.end_source());
    pass_y(&narrow, columns, rows, first, &along_y)
}

fn nearest(picture: &Picture, size: (u32, u32), xs: (u32, u32), ys: (u32, u32)) -> Picture {
    let columns = nearest_sources(picture.width(), size.0, xs);
    let rows = nearest_sources(picture.height(), size.1, ys);
    Picture::from_fn(xs.1, ys.1, |x, y| picture.pixel(columns[x as usize], rows[y as usize]))
}

/// Source pixels along one axis. Pillow adds the scale step by step, and where a place falls on
/// the edge of two pixels the rounding of that sum decides, so it is added here too.
fn nearest_sources(from: u32, to: u32, (first, count): (u32, u32)) -> Vec<u32> {
    let scale = f64::from(from) / f64::from(to);
    let places = (0..first + count).scan(scale * 0.5, |place, _| {
        let here = *place;
        *place += scale;
        Some((here as u32).min(from - 1))
    });
    places.skip(first as usize).collect()
}

/// Bits after the point of a weight: 32 less 8 of the pixel and 2 of headroom.
const FRACTION_BITS: u32 = 22;

/// For each target pixel along one axis: its first source pixel and `taps` weights (zero filled).
struct Weights {
    starts: Vec<usize>,
    counts: Vec<usize>,
    values: Vec<i32>,
    taps: usize,
}

impl Weights {
    fn first_source(&self) -> usize {
        self.starts.iter().copied().min().unwrap_or(0)
    }

    fn end_source(&self) -> usize {
        self.starts.iter().zip(&self.counts).map(|(start, count)| start + count).max().unwrap_or(0)
    }

    fn of(&self, target: usize) -> (usize, &[i32]) {
        let values = &self.values[target * self.taps..][..self.counts[target]];
        (self.starts[target], values)
    }
}

fn weights(from: u32, to: u32, first: u32, count: u32, filter: Filter) -> Weights {
    let scale = f64::from(from) / f64::from(to);
    let stretch = if filter == Filter::BilinearNoAntialias { 1.0 } else { scale.max(1.0) };
    let support = filter.support() * stretch;
    let taps = support.ceil() as usize * 2 + 1;
    let mut all = Weights { starts: vec![], counts: vec![], values: vec![], taps };
    let mut exact = vec![0.0; taps];
    for target in first..first + count {
        let centre = (f64::from(target) + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from as usize);
        let used = end - start;
        let mut sum = 0.0;
        for (tap, value) in exact[..used].iter_mut().enumerate() {
            *value = filter.weight(((tap + start) as f64 - centre + 0.5) * (1.0 / stretch));
            sum += *value;
        }
        if sum != 0.0 {
            exact[..used].iter_mut().for_each(|value| *value /= sum);
        }
        exact[used..].fill(0.0);
        all.starts.push(start);
        all.counts.push(used);
        all.values.extend(exact.iter().map(|value| fixed(*value)));
    }
    all
}

/// Rounds half away from zero to [`FRACTION_BITS`].
fn fixed(value: f64) -> i32 {
    let scaled = value * f64::from(1u32 << FRACTION_BITS);
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Source rows `first..end`, each reduced to the target columns.
fn pass_x<'a>(picture: &'a Picture, along: &Weights, first: usize, end: usize) -> Cow<'a, [u8]> {
    let stride = picture.width() as usize * 3;
    let rows = &picture.data()[first * stride..end * stride];
    if along.is_identity(picture.width() as usize) {
        return Cow::Borrowed(rows);
    }
    let mut narrow = Vec::with_capacity((end - first) * along.starts.len() * 3);
    for row in rows.chunks_exact(stride) {
        for target in 0..along.starts.len() {
            let (start, values) = along.of(target);
            let (mut r, mut g, mut b) = (HALF, HALF, HALF);
            for (pixel, value) in row[start * 3..].chunks_exact(3).zip(values) {
                r += i32::from(pixel[0]) * value;
                g += i32::from(pixel[1]) * value;
                b += i32::from(pixel[2]) * value;
            }
            narrow.extend_from_slice(&[to_byte(r), to_byte(g), to_byte(b)]);
        }
    }
    Cow::Owned(narrow)
}

/// Rows of `narrow` (the first of which is source row `first`) combined into the target rows.
fn pass_y(narrow: &[u8], columns: u32, rows: u32, first: usize, along: &Weights) -> Picture {
    let stride = columns as usize * 3;
    let mut data = vec![0u8; stride * rows as usize];
    let mut sums = vec![0i32; stride];
    for (target, out) in data.chunks_exact_mut(stride).enumerate() {
        let (start, values) = along.of(target);
        sums.fill(HALF);
        for (tap, value) in values.iter().enumerate() {
            let row = &narrow[(start - first + tap) * stride..][..stride];
            for (sum, pixel) in sums.iter_mut().zip(row) {
                *sum += i32::from(*pixel) * value;
            }
        }
        for (byte, sum) in out.iter_mut().zip(&sums) {
            *byte = to_byte(*sum);
        }
    }
    Picture::from_parts(columns, rows, data)
}

impl Weights {
    /// Whether every target pixel is the source pixel of the same place.
    fn is_identity(&self, from: usize) -> bool {
        let one = 1 << FRACTION_BITS;
        self.starts.len() == from
            && (0..from).all(|target| {
                let (start, values) = self.of(target);
                values.iter().enumerate().all(|(tap, value)| *value == if start + tap == target { one } else { 0 })
            })
    }
}
