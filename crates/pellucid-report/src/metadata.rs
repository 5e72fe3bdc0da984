//! Takes everything but the picture out of a JPEG or PNG: EXIF, XMP, ICC, IPTC, comments, text, times, appended files.
//!
//! Thumbnails come without metadata by contract; this makes it certain, by keeping only the parts that a decoder needs.

/// A picture that holds nothing but itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BarePicture {
    /// The encoded bytes.
    pub(crate) bytes: Vec<u8>,
    /// `image/jpeg` or `image/png`.
    pub(crate) mime: &'static str,
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
}

/// The bare picture, or `None` where `bytes` are neither a whole JPEG nor a whole PNG.
pub(crate) fn bare(bytes: &[u8]) -> Option<BarePicture> {
    match bytes {
        [0xFF, 0xD8, ..] => bare_jpeg(bytes),
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => bare_png(bytes),
        _ => None,
    }
}

fn bare_jpeg(bytes: &[u8]) -> Option<BarePicture> {
    let mut out = vec![0xFF, 0xD8];
    let mut size = None;
    let mut at = 2;
    loop {
        while *bytes.get(at)? == 0xFF && *bytes.get(at + 1)? == 0xFF {
            at += 1; // Fill bytes before a marker.
        }
        let marker = (*bytes.get(at)? == 0xFF).then_some(*bytes.get(at + 1)?)?;
        if marker == 0xD9 {
            out.extend([0xFF, 0xD9]);
            break;
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]));
        let segment = bytes.get(at..at + 2 + length)?;
        at += 2 + length;
        match marker {
            // APP0 is the JFIF header and APP14 says how colours are coded; every other APPn and COM is metadata.
            0xE1..=0xED | 0xEF | 0xFE => continue,
            // Frame headers; C4, C8 and CC are tables and an extension.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let side = |i: usize| Some(u32::from(u16::from_be_bytes([*segment.get(i)?, *segment.get(i + 1)?])));
                size = Some((side(7)?, side(5)?));
            }
            _ => {}
        }
        out.extend_from_slice(segment);
        if marker == 0xDA {
            let end = at + entropy_coded_length(bytes.get(at..)?)?;
            out.extend_from_slice(&bytes[at..end]);
            at = end;
        }
    }
    let (width, height) = size.filter(|&(width, height)| width > 0 && height > 0)?;
    Some(BarePicture { bytes: out, mime: "image/jpeg", width, height })
}

/// Bytes of a scan before the next marker: in it, FF is followed by 00 or by a restart marker.
fn entropy_coded_length(scan: &[u8]) -> Option<usize> {
    scan.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF))
}

fn bare_png(bytes: &[u8]) -> Option<BarePicture> {
    let mut out = bytes[..8].to_vec();
    let mut size = None;
    let mut at = 8;
    loop {
        let word = |i: usize| Some(u32::from_be_bytes(bytes.get(i..i + 4)?.try_into().ok()?));
        let length = usize::try_from(word(at)?).ok()?;
        let chunk = bytes.get(at..at.checked_add(length)?.checked_add(12)?)?;
        let kind = &chunk[4..8];
        if kind == b"IHDR" {
            size = Some((word(at + 8)?, word(at + 12)?));
        }
        if matches!(kind, b"IHDR" | b"PLTE" | b"tRNS" | b"IDAT" | b"IEND") {
            out.extend_from_slice(chunk);
        }
        at += chunk.len();
        if kind == b"IEND" {
            break;
        }
    }
    let (width, height) = size.filter(|&(width, height)| width > 0 && height > 0)?;
    Some(BarePicture { bytes: out, mime: "image/png", width, height })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

    fn pixels() -> Vec<u8> {
        (0..24 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect()
    }

    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new(&mut bytes).write_image(&pixels(), 24, 16, ExtendedColorType::Rgb8).expect("encodes");
        bytes
    }

    fn png() -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(&pixels(), 24, 16, ExtendedColorType::Rgb8).expect("encodes");
        bytes
    }

    fn contains(bytes: &[u8], needle: &[u8]) -> bool {
        bytes.windows(needle.len()).any(|window| window == needle)
    }

    #[test]
    fn a_jpeg_loses_exif_comments_and_what_was_appended_but_not_a_pixel() {
        let plain = jpeg();
        let mut tagged = plain[..2].to_vec();
        for (marker, text) in [(0xE1, &b"Exif\0\0GPS 52.5 N"[..]), (0xFE, b"by Alice"), (0xE2, b"ICC_PROFILE")] {
            tagged.extend([0xFF, marker]);
            tagged.extend((text.len() as u16 + 2).to_be_bytes());
            tagged.extend_from_slice(text);
        }
        tagged.extend_from_slice(&plain[2..]);
        tagged.extend_from_slice(b"appended secret");
        let picture = bare(&tagged).expect("a whole JPEG");
        for needle in [&b"Exif"[..], b"GPS", b"Alice", b"ICC_PROFILE", b"secret"] {
            assert!(!contains(&picture.bytes, needle));
        }
        assert_eq!((picture.width, picture.height, picture.mime), (24, 16, "image/jpeg"));
        let decode = |bytes: &[u8]| image::load_from_memory(bytes).expect("decodes").to_rgb8();
        assert_eq!(decode(&picture.bytes), decode(&plain));
    }

    #[test]
    fn a_png_loses_its_text_chunks_but_not_a_pixel() {
        let plain = png();
        let mut tagged = plain[..33].to_vec(); // Signature and IHDR.
        for (kind, text) in [(b"tEXt", &b"Author\0Alice"[..]), (b"eXIf", b"MM GPS")] {
            tagged.extend((text.len() as u32).to_be_bytes());
            tagged.extend_from_slice(kind);
            tagged.extend_from_slice(text);
            tagged.extend([0; 4]);
        }
        tagged.extend_from_slice(&plain[33..]);
        tagged.extend_from_slice(b"appended secret");
        let picture = bare(&tagged).expect("a whole PNG");
        for needle in [&b"Alice"[..], b"GPS", b"secret"] {
            assert!(!contains(&picture.bytes, needle));
        }
        assert_eq!((picture.width, picture.height, picture.mime), (24, 16, "image/png"));
        assert_eq!(image::load_from_memory(&picture.bytes).expect("decodes").to_rgb8().into_raw(), pixels());
    }

    #[test]
    fn what_is_not_a_whole_picture_is_refused() {
        assert_eq!(bare(b""), None);
        assert_eq!(bare(b"<svg onload=alert(1)>"), None);
        assert_eq!(bare(b"GIF89a"), None);
        for whole in [jpeg(), png()] {
            for length in 0..whole.len() - 1 {
                assert_eq!(bare(&whole[..length]), None, "cut at {length}");
            }
        }
    }
}
