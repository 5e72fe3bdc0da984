//! What lies over a picture when it carries the mark: a translucent watermark or a coloured frame.

use std::path::Path;

use serde::Deserialize;

use crate::benchmark::Benchmark;
use crate::canvas::{Canvas, Colour, Layer, Placement};
use crate::error::ZooError;
use crate::recipe::rows;
use crate::sprites::Sprite;

/// How many pixels of a frame, at its inner edge, show the colour of its line.
const LINE: usize = 2;

/// How one picture is marked, if it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A picture in shades of gray laid over everything.
    Watermark {
        /// Where it lies; its scale follows from `width`.
        place: Placement,
        /// In pixels.
        width: f32,
        /// 0 invisible … 1 opaque.
        opacity: f32,
    },
    /// A band along the four edges, with a line at its inner side.
    Frame {
        /// Of the band with its line, in pixels.
        width: usize,
        /// Of the band.
        colour: Colour,
        /// Of the line.
        line: Colour,
    },
}

#[derive(Deserialize)]
struct WatermarkRow {
    mark_x: f32,
    mark_y: f32,
    mark_width: f32,
    mark_half_turn: f32,
    mark_opacity: f32,
}

#[derive(Deserialize)]
struct FrameRow {
    frame_width: usize,
    frame_colour: String,
    frame_line: String,
}

impl Mark {
    /// The mark of every picture, from the columns of recipe.csv at `path` that are `benchmark`'s own.
    pub fn read(path: &Path, benchmark: Benchmark) -> Result<Vec<Mark>, ZooError> {
        let wrong = |line, detail| ZooError::Table { path: path.into(), line, detail };
        match benchmark {
            Benchmark::EmojiWatermark => rows::<WatermarkRow>(path)?
                .into_iter()
                .map(|(line, row)| watermark(&row).map_err(|detail| wrong(line, detail)))
                .collect(),
            Benchmark::EmojiFrame => rows::<FrameRow>(path)?
                .into_iter()
                .map(|(line, row)| frame(&row).map_err(|detail| wrong(line, detail)))
                .collect(),
        }
    }

    /// Lays the mark over `canvas`; `watermark` is the picture of a watermark.
    pub fn lay(&self, canvas: &mut Canvas, watermark: &Sprite) {
        match self {
            Mark::Watermark { place, width, opacity } => {
                let scale = width / watermark.width as f32;
                canvas.lay(&Layer::new(watermark, &Placement { scale, ..*place }), *opacity);
            }
            Mark::Frame { width, colour, line } => {
                canvas.edge(*width, *line);
                canvas.edge(width - LINE, *colour);
            }
        }
    }
}

fn watermark(row: &WatermarkRow) -> Result<Mark, String> {
    let numbers = [row.mark_x, row.mark_y, row.mark_half_turn];
    if numbers.iter().any(|number| !number.is_finite() || number.abs() > 1000.0) {
        return Err("expected the watermark within 1000 pixels of the picture".into());
    }
    if !(1.0..=1000.0).contains(&row.mark_width) {
        return Err(format!("expected a watermark of 1 to 1000 pixels, found {}", row.mark_width));
    }
    if !(0.0..=1.0).contains(&row.mark_opacity) {
        return Err(format!("expected an opacity from 0 to 1, found {}", row.mark_opacity));
    }
    let place = Placement { x: row.mark_x, y: row.mark_y, scale: 1.0, half_turn: row.mark_half_turn, flip: false };
    Ok(Mark::Watermark { place, width: row.mark_width, opacity: row.mark_opacity })
}

fn frame(row: &FrameRow) -> Result<Mark, String> {
    if !(LINE + 1..=crate::SIDE / 2).contains(&row.frame_width) {
        return Err(format!(
            "expected a frame of {} to {} pixels, found {}",
            LINE + 1,
            crate::SIDE / 2,
            row.frame_width
        ));
    }
    Ok(Mark::Frame {
        width: row.frame_width,
        colour: hexadecimal(&row.frame_colour)?,
        line: hexadecimal(&row.frame_line)?,
    })
}

/// `rrggbb`.
fn hexadecimal(text: &str) -> Result<Colour, String> {
    let wrong = || format!("expected a colour like b0562f, found {text:?}");
    if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let value = u32::from_str_radix(text, 16).map_err(|_| wrong())?;
    Ok([16, 8, 0].map(|shift| (value >> shift & 0xff) as f32 / 255.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SIDE;

    #[test]
    fn a_frame_covers_the_edges_and_nothing_else() {
        let row = FrameRow { frame_width: 10, frame_colour: "ff0000".into(), frame_line: "0000ff".into() };
        let mut canvas = Canvas::from_fn(|_, _| [0.0, 1.0, 0.0]);
        let watermark =
            Sprite::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/emoji_watermark/watermark.png"));
        let watermark = watermark.unwrap();
        frame(&row).unwrap().lay(&mut canvas, &watermark);
        let pixels = canvas.to_rgb();
        for y in 0..SIDE {
            for x in 0..SIDE {
                let expected = match x.min(y).min(SIDE - 1 - x).min(SIDE - 1 - y) {
                    0..8 => [255, 0, 0],
                    8..10 => [0, 0, 255],
                    _ => [0, 255, 0],
                };
                assert_eq!(pixels[(y * SIDE + x) * 3..][..3], expected, "({x}, {y})");
            }
        }
    }

    #[test]
    fn a_frame_that_cannot_be_painted_is_refused_with_the_value_found() {
        let of = |width, colour: &str| {
            frame(&FrameRow { frame_width: width, frame_colour: colour.into(), frame_line: "ffffff".into() })
        };
        assert!(of(12, "b0562f").is_ok());
        assert!(of(2, "b0562f").unwrap_err().contains("found 2"));
        assert!(of(113, "b0562f").unwrap_err().contains("found 113"));
        for colour in ["b0562", "#b0562", "b0562g", "bé562"] {
            assert!(of(12, colour).unwrap_err().contains(colour), "{colour}");
        }
    }
}
