//! Pictures that the front end's own renderer is held to, byte for byte (`web/tests/unit/heat.test.ts`). They are committed,
//! so that neither side's tests need the other's tools; this test says that they are what `pellucid_saliency::render` draws
//! today. After a change that is meant, write them anew: `PELLUCID_WRITE_FIXTURES=1 cargo test -p pellucid-report heat`.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use ndarray::Array2;
use pellucid_saliency::render::{self, Alignment};
use pellucid_vision::picture::Picture;
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A map of `rows` × `columns` on a picture of `height` × `width`.
fn case(rows: usize, columns: usize, width: u32, height: u32, opacity: f32) -> Value {
    let map =
        Array2::from_shape_fn((rows, columns), |(y, x)| ((x * 37 + y * 91 + x * y * 13) % 101) as f32 / 7.0 - 3.0);
    let under = Picture::from_fn(width, height, |x, y| [x * 7 + y, y * 11 + 3, x * y + 5].map(|c| (c % 256) as u8));
    let levels = render::levels(map.view()).unwrap();
    let shown = render::render(&under, map.view(), Alignment::Centres, opacity).unwrap();
    let levels: Vec<u8> = levels.into_iter().collect();
    json!({
        "map": { "w": columns, "h": rows, "d": text(&levels) },
        "width": width, "height": height, "opacity": opacity,
        "under": text(under.data()), "shown": text(shown.data()),
    })
}

#[test]
fn the_front_ends_pictures_are_what_this_renderer_draws() {
    let drawn = json!({
        "colormap": text(pellucid_saliency::colour::table().as_flattened()),
        "cases": [
            case(5, 7, 24, 18, 0.75),
            case(1, 2, 13, 1, 1.0),
            case(8, 8, 8, 8, 0.0),
            case(9, 11, 5, 4, 0.55),
            case(3, 2, 40, 33, 0.33),
        ],
    });
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/heat.json");
    if std::env::var_os("PELLUCID_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, format!("{drawn}\n")).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(kept == drawn, "tests/heat.json is not what pellucid_saliency::render draws; see the head of this test");
}
