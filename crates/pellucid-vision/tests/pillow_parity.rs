//! Decoding, resizing and preprocessing against what Pillow, torchvision, timm and transformers
//! make of the same files. `make_references.py` says how the references came to be.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use pellucid_guard::Budget;
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::{Crop, Preprocessing, ResizeRule};
use pellucid_vision::resize::{Filter, Window, resize, resize_window};

fn references(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references").join(below)
}

fn open(path: &Path) -> Picture {
    Picture::open(path, &Budget::default()).unwrap()
}

/// The largest difference of a channel, and the share of channels that differ by more than 1.
fn difference(found: &Picture, expected: &Picture) -> (u8, f64) {
    assert_eq!((found.width(), found.height()), (expected.width(), expected.height()));
    let each: Vec<u8> = found.data().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).collect();
    let above = each.iter().filter(|difference| **difference > 1).count();
    (each.iter().copied().max().unwrap(), above as f64 / each.len() as f64)
}

/// Files of a folder that have an expected picture beside them.
fn cases(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(references(folder))
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".expected.png").map(String::from)
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_format_decodes_as_pillow_does() {
    let names = cases("formats");
    assert_eq!(names.len(), 23, "{names:?}");
    let mut wrong = Vec::new();
    for name in &names {
        let found = open(&references(&format!("formats/{name}")));
        let expected = open(&references(&format!("formats/{name}.expected.png")));
        let (most, above) = difference(&found, &expected);
        println!("{name}: largest difference {most}, {:.3} % above 1", above * 100.0);
        if most > 0 {
            wrong.push(format!("{name}: differs by up to {most}, {:.3} % by more than 1", above * 100.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exif_orientation_turns_pictures_upright() {
    for name in cases("orientation") {
        let found = open(&references(&format!("orientation/{name}")));
        let expected = open(&references(&format!("orientation/{name}.expected.png")));
        assert_eq!(difference(&found, &expected).0, 0, "{name}");
    }
}

#[test]
fn resize_equals_pillow_exactly() {
    let source = open(&references("resize/source.png"));
    let filters = [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Hamming, Filter::Bicubic, Filter::Lanczos];
    for filter in filters {
        for (width, height) in [(40, 30), (33, 80), (130, 17), (67, 44), (66, 20), (1, 1), (7, 150)] {
            let name = format!("{}_{width}x{height}.png", filter.name());
            let expected = open(&references(&format!("resize/{name}")));
            let found = resize(&source, width, height, filter);
            assert_eq!(difference(&found, &expected).0, 0, "{name}");
        }
    }
}

#[test]
fn a_window_of_a_resize_equals_resizing_and_cropping() {
    let source = open(&references("resize/source.png"));
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic] {
        for (width, height) in [(40, 30), (130, 170)] {
            let window = Window { left: 11, top: 7, width: 20, height: 13 };
            let found = resize_window(&source, width, height, filter, window);
            let whole = resize(&source, width, height, filter);
            let expected = Picture::from_fn(20, 13, |x, y| whole.pixel(x + 11, y + 7));
            assert_eq!(found.data(), expected.data(), "{filter:?} {width}x{height}");
        }
    }
}

/// Compares with a stored network input; values may differ by one level of 255 (in the units of
/// the normalised channel) on at most one in a thousand.
fn assert_input(preprocessing: &Preprocessing, name: &str) {
    let largest = preprocessing.std.iter().copied().fold(f64::INFINITY, f64::min);
    let level = (preprocessing.scale / largest) as f32;
    for shape in ["wide", "tall"] {
        let found = preprocessing.run(&open(&references(&format!("inputs/{shape}.png"))));
        let stored = std::fs::read(references(&format!("inputs/{name}_{shape}.f32"))).unwrap();
        let expected: Vec<f32> = stored.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(found.len(), expected.len(), "{name} {shape}");
        let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1e-3 * level, "{name} {shape}: differs by {} levels", most / level);
    }
}

fn from_timm(name: &str) -> Preprocessing {
    let text = std::fs::read_to_string(references(&format!("inputs/{name}.json"))).unwrap();
    Preprocessing::from_timm_json(&text, name).unwrap()
}

#[test]
fn timm_configurations_give_timm_inputs() {
    for name in ["timm_center", "timm_oblong", "timm_squash", "timm_border"] {
        assert_input(&from_timm(name), name);
    }
}

#[test]
fn torchvision_rules_give_torchvision_inputs() {
    let torchvision = Preprocessing {
        resize: ResizeRule::ShortestSide(27),
        filter: Filter::Bilinear,
        crop: Crop::Centre,
        ..from_timm("timm_center")
    };
    assert_input(&torchvision, "torchvision");
    let padded = Preprocessing { resize: ResizeRule::ShortestSide(16), filter: Filter::Bicubic, ..torchvision };
    assert_input(&padded, "padded");
}

#[test]
fn hugging_face_configurations_give_their_processors_inputs() {
    for name in ["hf_vit", "hf_clip", "hf_convnext", "hf_flipped"] {
        let text = std::fs::read_to_string(references(&format!("inputs/{name}.json"))).unwrap();
        let preprocessing = Preprocessing::from_hf_json(&text, name).unwrap();
        assert_input(&preprocessing, name);
    }
}
