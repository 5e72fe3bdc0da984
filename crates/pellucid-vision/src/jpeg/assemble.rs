//! From colour planes to RGB: smaller planes are enlarged by libjpeg's rules, colours converted
//! by its tables.

use super::markers::{Component, Frame};

/// How the components make up a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Gray,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// RGB bytes, row by row.
pub(super) fn rgb(frame: &Frame, colours: Colours) -> Vec<u8> {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let enlarge: Vec<Enlarge> = frame.components.iter().map(|component| Enlarge::of(component, frame)).collect();
    let mut rows: Vec<Vec<u8>> = enlarge.iter().map(|enlarge| vec![0; enlarge.row_length().max(width)]).collect();
    let mut picture = vec![0; width * height * 3];
    for (y, out) in picture.chunks_exact_mut(width * 3).enumerate() {
        for (row, enlarge) in rows.iter_mut().zip(&enlarge) {
            enlarge.row(y, row);
        }
        match (colours, rows.as_slice()) {
            (Colours::YCbCr, [y, cb, cr]) => from_ycbcr(out, y, cb, cr),
            (Colours::Rgb, [r, g, b]) => interleave(out, r, g, b),
            (Colours::Cmyk, [c, m, y, k]) => from_cmyk(out, c, m, y, k),
            (Colours::Ycck, [y, cb, cr, k]) => from_ycck(out, y, cb, cr, k),
            (_, rows) => interleave(out, &rows[0], &rows[0], &rows[0]),
        }
    }
    picture
}

/// How one plane becomes as large as the picture.
struct Enlarge<'a> {
    component: &'a Component,
    across: usize,
    down: usize,
    /// Whether neighbours are mixed; else samples are repeated.
    smooth: bool,
}

impl Enlarge<'_> {
    fn of<'a>(component: &'a Component, frame: &Frame) -> Enlarge<'a> {
        let (across, down) = (frame.h_max / component.h, frame.v_max / component.v);
        let smooth = match (across, down) {
            (2, 1 | 2) => component.width > 2,
            (1, 2) => true,
            _ => false,
        };
        Enlarge { component, across, down, smooth }
    }

    fn row_length(&self) -> usize {
        self.component.width * self.across
    }

    /// Row `y` of the picture into `out`, which has at least [`Enlarge::row_length`] samples.
    fn row(&self, y: usize, out: &mut [u8]) {
        match (self.smooth, self.across, self.down) {
            (true, 2, 1) => {
                let near = self.source(y);
                twice_across(
                    near.iter().map(|sample| u16::from(*sample)),
                    out,
                    Rounding { left: 1, right: 2, bits: 2 },
                );
            }
            (true, 2, _) => {
                let mixed = self.mixed(y).map(|(near, far)| 3 * near + far);
                twice_across(mixed, out, Rounding { left: 8, right: 7, bits: 4 });
            }
            (true, ..) => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for (sample, (near, far)) in out.iter_mut().zip(self.mixed(y)) {
                    *sample = ((3 * near + far + bias) >> 2) as u8;
                }
            }
            (false, 1, _) => out[..self.component.width].copy_from_slice(self.source(y / self.down)),
            (false, across, down) => {
                for (samples, source) in out.chunks_mut(across).zip(self.source(y / down)) {
                    samples.fill(*source);
                }
            }
        }
    }

    /// The samples of row `y` of the plane that belong to the picture.
    fn source(&self, y: usize) -> &[u8] {
        let y = y.min(self.component.height - 1);
        &self.component.plane[y * self.component.stride()..][..self.component.width]
    }

    /// Samples of the nearer and the farther row of the plane, for picture row `y` of a plane of
    /// half the height. At the edges a row is its own neighbour.
    fn mixed(&self, y: usize) -> impl ExactSizeIterator<Item = (u16, u16)> {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
        let rows = self.source(near).iter().zip(self.source(far));
        rows.map(|(near, far)| (u16::from(*near), u16::from(*far)))
    }
}

/// The constants that round left and right halves, and the bits that are dropped.
#[derive(Clone, Copy)]
struct Rounding {
    left: u16,
    right: u16,
    bits: u32,
}

/// Two samples from each: three parts of it and one of the neighbour on that side; the outermost
/// samples are kept.
fn twice_across(samples: impl ExactSizeIterator<Item = u16>, out: &mut [u8], rounding: Rounding) {
    let samples: Vec<u16> = samples.collect();
    let Rounding { left, right, bits } = rounding;
    let last = samples.len() - 1;
    for (pair, three) in out[2..].chunks_exact_mut(2).zip(samples.windows(3)) {
        pair[0] = ((3 * three[1] + three[0] + left) >> bits) as u8;
        pair[1] = ((3 * three[1] + three[2] + right) >> bits) as u8;
    }
    out[0] = ((4 * samples[0] + left) >> bits) as u8;
    out[1] = ((3 * samples[0] + samples[1] + right) >> bits) as u8;
    out[2 * last] = ((3 * samples[last] + samples[last - 1] + left) >> bits) as u8;
    out[2 * last + 1] = ((4 * samples[last] + right) >> bits) as u8;
}

fn interleave(out: &mut [u8], r: &[u8], g: &[u8], b: &[u8]) {
    for (pixel, ((r, g), b)) in out.chunks_exact_mut(3).zip(r.iter().zip(g).zip(b)) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}

/// A constant with 16 fractional bits.
const fn fixed(value: f64) -> i32 {
    (value * 65536.0 + 0.5) as i32
}

/// ITU-R 601, full range, as JFIF defines it.
#[inline(always)]
fn ycbcr(y: u8, cb: u8, cr: u8) -> [i32; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    [
        y + ((fixed(1.402) * cr + HALF) >> 16),
        y + ((-fixed(0.344_14) * cb - fixed(0.714_14) * cr + HALF) >> 16),
        y + ((fixed(1.772) * cb + HALF) >> 16),
    ]
}

fn from_ycbcr(out: &mut [u8], y: &[u8], cb: &[u8], cr: &[u8]) {
    for (pixel, ((y, cb), cr)) in out.chunks_exact_mut(3).zip(y.iter().zip(cb).zip(cr)) {
        let rgb = ycbcr(*y, *cb, *cr);
        pixel[0] = rgb[0].clamp(0, 255) as u8;
        pixel[1] = rgb[1].clamp(0, 255) as u8;
        pixel[2] = rgb[2].clamp(0, 255) as u8;
    }
}

/// Four-colour files hold inverted values, by Adobe's custom and Pillow's assumption: 255 is no
/// ink.
fn from_cmyk(out: &mut [u8], c: &[u8], m: &[u8], y: &[u8], k: &[u8]) {
    for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&inks([c[at], m[at], y[at]], k[at]));
    }
}

fn from_ycck(out: &mut [u8], y: &[u8], cb: &[u8], cr: &[u8], k: &[u8]) {
    for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
        let light = ycbcr(y[at], cb[at], cr[at]).map(|light| 255 - light.clamp(0, 255) as u8);
        pixel.copy_from_slice(&inks(light, k[at]));
    }
}

/// Light left by three inverted inks and inverted black, with Pillow's rounding.
fn inks(inverted: [u8; 3], white: u8) -> [u8; 3] {
    inverted.map(|inverted| {
        let product = u32::from(255 - inverted) * u32::from(white) + 128;
        let absorbed = ((product >> 8) + product) >> 8;
        white.saturating_sub(absorbed as u8)
    })
}
