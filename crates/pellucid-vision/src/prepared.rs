//! Inputs that were prepared elsewhere, shown as pictures.

use ndarray::ArrayView3;

use crate::picture::Picture;
use crate::preprocess::{ChannelOrder, Layout, Preprocessing};

/// The picture that `input`, laid out as `preprocessing` says, was made of: its inverse, to the nearest level. What lies outside
/// the levels that a picture has is cut off.
pub fn shown(input: ArrayView3<'_, f32>, preprocessing: &Preprocessing) -> Picture {
    let channels = preprocessing.channels.count();
    let (height, width) = match preprocessing.layout {
        Layout::Nchw => (input.shape()[1], input.shape()[2]),
        Layout::Nhwc => (input.shape()[0], input.shape()[1]),
    };
    let level = |channel: usize, x: usize, y: usize| {
        let value = match preprocessing.layout {
            Layout::Nchw => input.get([channel, y, x]),
            Layout::Nhwc => input.get([y, x, channel]),
        };
        let value = f64::from(value.copied().unwrap_or(0.0));
        let pixel = (value * preprocessing.std[channel] + preprocessing.mean[channel]) / preprocessing.scale;
        pixel.round().clamp(0.0, 255.0) as u8
    };
    Picture::from_fn(width as u32, height as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        match preprocessing.channels {
            ChannelOrder::Gray => [level(0, x, y); 3],
            ChannelOrder::Rgb if channels == 3 => [0, 1, 2].map(|c| level(c, x, y)),
            _ => [2, 1, 0].map(|c| level(c, x, y)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_input_is_shown_as_the_picture_it_was_made_of() {
        for (channels, layout) in [("rgb", "nchw"), ("bgr", "nhwc")] {
            let text = format!(
                r#"{{"width": 4, "height": 3, "resize": "none", "filter": "bilinear", "channels": "{channels}",
                "layout": "{layout}", "scale": 0.00392156862745098, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}}"#
            );
            let preprocessing = Preprocessing::from_json(&text, "test").unwrap();
            let picture = Picture::from_fn(4, 3, |x, y| [(60 * x) as u8, (80 * y) as u8, (20 * x + y) as u8]);
            assert_eq!(shown(preprocessing.run(&picture).view(), &preprocessing), picture);
        }
    }
}
