//! PNG by rows: besides the RGB of the result, one row is held, whatever the depth and the channels of the file are.

use std::io::Cursor;

use image::metadata::Orientation;
use png::{ColorType, DecodingError, InterlaceInfo, Transformations};

use super::PictureError;
use super::decode::{Encoded, Stored};

/// The picture as stored. Palettes are looked up, samples become 8 bits by their high byte, alpha is dropped.
pub(super) fn decode(file: &Encoded<'_>) -> Result<Stored, PictureError> {
    let fail = |error: DecodingError| broken(file, error);
    let mut decoder = png::Decoder::new(Cursor::new(file.bytes));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    // Both may unfold without bound, and neither has a say in the pixels.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = file.guarded(|| decoder.read_header_info().map(|info| info.size()))?;
    let (width, height) = header.map_err(fail)?;
    file.check_size(width, height)?;
    let mut reader = file.guarded(|| decoder.read_info())?.map_err(fail)?;
    let exif = reader.info().exif_metadata.as_ref();
    let orientation = exif.and_then(|exif| file.guarded(|| Orientation::from_exif_chunk(exif)).ok().flatten());
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let stride = width as usize * 3;
    file.admit((width, height), Some(stride as u64 * u64::from(height)), orientation)?;
    let (colour, _) = reader.output_color_type();
    let interlaced = reader.info().interlaced;
    let mut rgb = vec![0; stride * height as usize];
    let mut line = vec![0; width as usize * colour.samples()];
    if interlaced {
        let mut row = vec![0; stride];
        while let Some(place) = file.guarded(|| reader.read_row(&mut line))?.map_err(fail)? {
            let InterlaceInfo::Adam7(place) = place else { return Err(file.damaged("its rows make no sense")) };
            to_rgb(colour, &line, &mut row);
            // Takes as many pixels of the row as its pass has.
            file.guarded(|| png::expand_interlaced_row(&mut rgb, stride, &row, &place, 24))?;
        }
        return Ok(Stored { width, height, rgb, orientation });
    }
    for row in rgb.chunks_exact_mut(stride) {
        let target = if colour == ColorType::Rgb { &mut *row } else { &mut line };
        if file.guarded(|| reader.read_row(target))?.map_err(fail)?.is_none() {
            return Err(file.truncated("it has fewer rows than its header claims"));
        }
        if colour != ColorType::Rgb {
            to_rgb(colour, &line, row);
        }
    }
    // The checksum of the last row's data.
    file.guarded(|| reader.read_row(&mut line))?.map_err(fail)?;
    Ok(Stored { width, height, rgb, orientation })
}

/// The pixels of `line` as RGB; `row` has three bytes for each.
fn to_rgb(colour: ColorType, line: &[u8], row: &mut [u8]) {
    let pixels = row.chunks_exact_mut(3).zip(line.chunks_exact(colour.samples()));
    match colour {
        ColorType::Grayscale | ColorType::GrayscaleAlpha => pixels.for_each(|(rgb, pixel)| rgb.fill(pixel[0])),
        ColorType::Rgb | ColorType::Rgba | ColorType::Indexed => {
            pixels.for_each(|(rgb, pixel)| rgb.copy_from_slice(&pixel[..3]));
        }
    }
}

fn broken(file: &Encoded<'_>, error: DecodingError) -> PictureError {
    match error {
        DecodingError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => file.truncated(io.to_string()),
        DecodingError::LimitsExceeded => file.damaged("its metadata unfold to more than 64 MiB"),
        other => file.broken(other.to_string()),
    }
}
