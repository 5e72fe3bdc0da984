//! The commands on the zoo's real classifiers, with pictures cut from the zoo's sprite sheets.

use crate::stage::{Stage, repository};
use pellucid::Budget;
use pellucid::internals::vision::picture::Picture;
use std::path::Path;

/// Emoji with the ImageNet class that they show, and how they lie on their sheet.
const SPRITES: [(&str, &str, &str, u32, u32, u32, u32); 7] = [
    ("banana", "banana", "food-drink", 680, 0, 107, 120),
    ("lemon", "lemon", "food-drink", 544, 0, 121, 102),
    ("pineapple", "pineapple, ananas", "food-drink", 816, 0, 75, 120),
    ("strawberry", "strawberry", "food-drink", 1632, 0, 108, 122),
    ("broccoli", "broccoli", "food-drink", 1768, 128, 121, 122),
    ("mushroom", "mushroom", "animals-nature", 408, 1152, 116, 121),
    ("violin", "violin, fiddle", "objects", 1224, 256, 121, 120),
];

/// Each sprite on two plain backgrounds, with a table of labels.
fn with_sprites() -> Stage {
    let stage = Stage::new();
    let mut table = "file_name,label,group\n".to_owned();
    for (name, class, sheet, left, top, width, height) in SPRITES {
        let sheet = repository("zoo/emoji_watermark/sprites").join(format!("{sheet}.webp"));
        let sheet = Picture::open(sheet, &Budget::default()).unwrap();
        let (stride, data) = (sheet.width(), sheet.data());
        let pixel = |x: u32, y: u32| {
            let at = 3 * ((top + y) * stride + left + x) as usize;
            [data[at], data[at + 1], data[at + 2]]
        };
        for (ground, colour) in [("white", [255; 3]), ("gray", [128; 3])] {
            let outside = |x: u32, y: u32| x < 20 || y < 20 || x - 20 >= width || y - 20 >= height;
            // Transparent pixels are flattened to one colour, that of the sheet's gaps.
            let gap = pixel(0, 0);
            let picture = Picture::from_fn(width + 40, height + 40, |x, y| {
                if outside(x, y) || pixel(x - 20, y - 20) == gap { colour } else { pixel(x - 20, y - 20) }
            });
            stage.write(&format!("data/{name}-{ground}.png"), picture.to_png().unwrap());
            table += &format!("{name}-{ground}.png,\"{class}\",{ground}\n");
        }
    }
    stage.write("data/list.csv", table);
    stage
}

#[test]
fn real_classifiers_are_inspected_scanned_diagnosed_and_explained() {
    let stage = with_sprites();
    for (file, features, kind) in [
        ("squeezenet1_1/squeezenet1_1.onnx", 512, "before pooling"),
        ("efficientnet_lite0/efficientnet_lite0.onnx", 1280, "linear layer"),
    ] {
        let model = repository("zoo/models").join(file);
        let (model, name) = (model.to_str().unwrap(), Path::new(file).file_stem().unwrap().to_str().unwrap());
        let inspected = stage.run(&["inspect", model, "--json"]).fine().json();
        assert!(inspected["taps"]["kind"].as_str().unwrap().contains(kind), "{inspected}");
        let scanned = stage.run(&["scan", model, "data/list.csv", "--json"]).fine().json();
        assert_eq!((&scanned["computed"], &scanned["summary"]["features"]), (&14.into(), &features.into()));
        let right = scanned["summary"]["accuracy"]["count"].as_u64().unwrap();
        assert!(right >= 2, "{name} is right on {right} of 14");
        let debug = ["debug", model, "data/list.csv", "--json", "--all-mistakes", "--name", name];
        let found = stage.run(&debug).fine().json();
        assert_eq!(found["summary"], scanned["summary"]);
        assert_eq!(found["findings"][0]["count"].as_u64().unwrap(), 14 - right);
        let report = stage.at("runs").join(name).join("report.html");
        let bytes = report.metadata().unwrap().len();
        assert!((50_000..20_000_000).contains(&bytes), "{bytes} bytes");
        let why = stage.run(&["why", model, "data/violin-white.png", "--json", "--out", name]).fine().json();
        assert_eq!(why["classes"][0][1], "violin, fiddle");
        assert_eq!(why["supporting"].as_array().unwrap().len(), 5);
        assert!(stage.at(name).join("seen.png").is_file());
    }
}
