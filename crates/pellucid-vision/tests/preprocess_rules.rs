//! Rules of processors that people have, each held to its own formula.

#![allow(clippy::unwrap_used)]

use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::{Preprocessing, PreprocessingOverrides, ResizeRule};
use pellucid_vision::resize::{Filter, resize};

fn hugging_face(kind: &str, more: &str) -> Preprocessing {
    let text = format!(
        r#"{{"image_processor_type": "{kind}", "do_resize": true, "do_rescale": true, "do_normalize": true, "resample": 3,
            "rescale_factor": 0.00392156862745098, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.5, 0.25, 0.2], {more}}}"#
    );
    Preprocessing::from_hf_json(&text, "preprocessor_config.json").unwrap()
}

#[test]
fn efficientnets_processor_divides_by_the_deviation_twice() {
    let size = r#""size": {"height": 4, "width": 4}"#;
    let value =
        |p: &Preprocessing, channel: usize| p.run(&Picture::from_fn(4, 4, |_, _| [255, 0, 51]))[[channel, 0, 0]];
    let twice = hugging_face("EfficientNetImageProcessor", &format!(r#"{size}, "include_top": true"#));
    assert!((value(&twice, 0) - (1.0 - 0.485) / 0.25).abs() < 1e-5);
    assert!((value(&twice, 2) - (0.2 - 0.406) / 0.04).abs() < 1e-5);
    // Left out, it is true; other processors do not know it.
    assert_eq!(hugging_face("EfficientNetImageProcessor", size).std, twice.std);
    let once = hugging_face("EfficientNetImageProcessor", &format!(r#"{size}, "include_top": false"#));
    assert_eq!(once.std, [0.5, 0.25, 0.2]);
    assert_eq!(hugging_face("ViTImageProcessor", &format!(r#"{size}, "include_top": true"#)).std, once.std);
    let moved =
        hugging_face("EfficientNetImageProcessor", &format!(r#"{size}, "include_top": false, "rescale_offset": true"#));
    assert!((value(&moved, 0) - (1.0 - 1.0 - 0.485) / 0.5).abs() < 1e-5);
}

#[test]
fn convnexts_processor_squashes_from_384_on_and_crops_below() {
    let large = hugging_face("ConvNextImageProcessor", r#""size": {"shortest_edge": 384}, "crop_pct": null"#);
    assert_eq!((large.resize, large.width, large.height), (ResizeRule::Exact, 384, 384));
    let small = hugging_face("ConvNextImageProcessorFast", r#""size": {"shortest_edge": 224}"#);
    assert_eq!((small.resize, small.width), (ResizeRule::ShortestSide(256), 224));
}

#[test]
fn levits_processor_resizes_to_256_of_224() {
    let more = r#""size": {"shortest_edge": 224}, "do_center_crop": true, "crop_size": {"height": 224, "width": 224}"#;
    let found = hugging_face("LevitImageProcessor", more);
    assert_eq!((found.resize, found.width, found.height), (ResizeRule::ShortestSide(256), 224, 224));
}

#[test]
fn bilinear_without_antialiasing_reads_the_four_pixels_around_a_place() {
    let shade = |x: u32, y: u32| ((x * 37 + y * 59 + x * y * 7) % 256) as u8;
    let picture = Picture::from_fn(41, 29, |x, y| [shade(x, y), 255 - shade(x, y), shade(y, x)]);
    for (width, height) in [(8, 6), (41, 29), (64, 50)] {
        let small = resize(&picture, width, height, Filter::BilinearNoAntialias);
        let at = |i: u32, from: u32, to: u32| {
            let place = (((f64::from(i) + 0.5) * f64::from(from) / f64::from(to)) - 0.5).max(0.0);
            let first = (place as u32).min(from - 1);
            (first, (first + 1).min(from - 1), place - f64::from(first))
        };
        for y in 0..height {
            for x in 0..width {
                let ((x0, x1, fx), (y0, y1, fy)) = (at(x, 41, width), at(y, 29, height));
                for c in 0..3 {
                    let p = |x, y| f64::from(picture.pixel(x, y)[c]);
                    let upper = p(x0, y0) * (1.0 - fx) + p(x1, y0) * fx;
                    let lower = p(x0, y1) * (1.0 - fx) + p(x1, y1) * fx;
                    let expected = upper * (1.0 - fy) + lower * fy;
                    let found = f64::from(small.pixel(x, y)[c]);
                    assert!(
                        (found - expected).abs() <= 1.01,
                        "({x}, {y}) of {width}×{height}: {found}, expected {expected}"
                    );
                }
            }
        }
    }
}

fn plain(size: (u32, u32), resize: ResizeRule) -> Preprocessing {
    let overrides = PreprocessingOverrides {
        size: Some(size),
        resize: Some(resize),
        scale: Some(1.0 / 255.0),
        mean: Some([0.5; 3]),
        std: Some([0.25; 3]),
        ..PreprocessingOverrides::default()
    };
    overrides.apply(None).unwrap()
}

#[test]
fn a_view_knows_where_it_lies_in_its_picture() {
    let whole = plain((64, 64), ResizeRule::Exact).view_box(300, 100);
    assert_eq!(whole.edges, [0.0, 0.0, 300.0, 100.0]);
    assert_eq!(whole.to_view(150.0, 50.0), (32.0, 32.0));
    // 300 × 100 to 192 × 64, the middle 64 columns.
    let middle = plain((64, 64), ResizeRule::ShortestSide(64)).view_box(300, 100);
    assert_eq!(middle.edges, [100.0, 0.0, 200.0, 100.0]);
    // A small picture in the middle of a black one.
    let bordered = plain((64, 64), ResizeRule::None).view_box(32, 16);
    assert_eq!(bordered.edges, [-16.0, -24.0, 48.0, 40.0]);
}

#[test]
fn whole_numbers_are_told_from_fractions() {
    let usual = plain((8, 8), ResizeRule::Exact);
    assert!(!usual.is_whole());
    let raw = Preprocessing { scale: 1.0, mean: [0.0; 3], std: [1.0; 3], ..usual };
    assert!(raw.is_whole());
    assert!(!Preprocessing { mean: [103.0; 3], ..raw }.is_whole(), "values below 0 are no bytes");
}
