//! Pictures of every format.

use crate::{budget, says_something};
use pellucid::internals::vision::picture::Picture;

/// JPEG, our own decoder: the picture has the size that its frame header says (sides swapped where EXIF turns it).
pub fn jpeg(data: &[u8]) {
    if !data.starts_with(&[0xff, 0xd8]) {
        return;
    }
    match Picture::decode(data, "x.jpg", &budget()) {
        Ok(picture) => {
            whole(&picture);
            let (width, height) = (picture.width(), picture.height());
            let declared = frame_sizes(data);
            assert!(
                declared.contains(&(width, height)) || declared.contains(&(height, width)),
                "decoded {width}x{height}, but the frame headers say {declared:?}"
            );
        }
        Err(error) => says_something(&error),
    }
}

/// Any picture: what is decoded is whole, its thumbnail fits, and as a PNG it comes back pixel by pixel.
pub fn picture(data: &[u8]) {
    let picture = match Picture::decode(data, "x", &budget()) {
        Ok(picture) => picture,
        Err(error) => return says_something(&error),
    };
    whole(&picture);
    let thumbnail = picture.thumbnail(64);
    assert!(thumbnail.width() <= 64 && thumbnail.height() <= 64);
    whole(&thumbnail);
    if picture.data().len() > 3 << 14 {
        return;
    }
    let again = picture.to_png().and_then(|png| Picture::decode(&png, "again.png", &budget()));
    assert!(again.is_ok_and(|again| again == picture), "a PNG of the picture holds another picture");
}

fn whole(picture: &Picture) {
    assert!(picture.width() > 0 && picture.height() > 0);
    assert_eq!(picture.data().len() as u64, 3 * u64::from(picture.width()) * u64::from(picture.height()));
}

/// Width and height in every place that could be a baseline or progressive frame header.
fn frame_sizes(data: &[u8]) -> Vec<(u32, u32)> {
    let field = |at: &[u8]| u32::from(at[0]) << 8 | u32::from(at[1]);
    let headers = data.windows(9).filter(|w| w[0] == 0xff && matches!(w[1], 0xc0..=0xc2));
    headers.map(|w| (field(&w[7..]), field(&w[5..]))).collect()
}
