//! What a backbone makes of the pictures of one seed: run once, kept in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use ndarray::Array2;
use pellucid::{Classifier, OpenOptions, ScanSettings, Silent};
use rayon::prelude::*;

use super::pictures::{self, Cue, Kind, Shown};
use crate::SIDE;
use crate::benchmark::Benchmark;
use crate::sprites::{self, Emoji};

/// A network whose features are studied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backbone {
    /// EfficientNet-Lite0, 1280 features.
    Lite0,
    /// SqueezeNet 1.1, 512 features.
    SqueezeNet,
}

impl Backbone {
    /// Both.
    pub const ALL: [Backbone; 2] = [Backbone::Lite0, Backbone::SqueezeNet];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Backbone::Lite0 => "lite0",
            Backbone::SqueezeNet => "squeezenet",
        }
    }

    fn model(self, zoo: &Path) -> PathBuf {
        match self {
            Backbone::Lite0 => Benchmark::EmojiWatermark.model(zoo),
            Backbone::SqueezeNet => Benchmark::EmojiFrame.model(zoo),
        }
    }
}

/// The pictures of one seed and their features by backbone.
#[derive(Debug, Clone)]
pub struct Pool {
    /// What each picture shows.
    pub shown: Vec<Shown>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Features without a cue, pictures × d.
    pub clean: Array2<f32>,
    /// Features with each cue, pictures × d.
    pub with: BTreeMap<Cue, Array2<f32>>,
}

/// Where the features of a seed are kept below `folder`.
fn kept(folder: &Path, backbone: Backbone, kind: Kind, seed: u64) -> PathBuf {
    folder.join(format!("{}-{}-{seed}.bin", backbone.name(), kind.name()))
}

/// Whether the features of `seed` are kept in `folder`.
pub fn is_kept(folder: &Path, kind: Kind, seed: u64) -> bool {
    Backbone::ALL.iter().all(|&backbone| kept(folder, backbone, kind, seed).is_file())
}

/// Paints the pictures of `seed`, runs both backbones on them and keeps the features in `folder`. The pictures go.
pub fn make(zoo: &Path, folder: &Path, kind: Kind, seed: u64) -> Result<()> {
    let emoji = sprites::read(&Benchmark::EmojiWatermark.sprites(zoo))?;
    let (shown, _) = pictures::draw(&emoji, kind, seed);
    std::fs::create_dir_all(folder)?;
    let painted = folder.join(format!("pictures-{}-{seed}", kind.name()));
    paint(&emoji, &shown, kind, &painted)?;
    for backbone in Backbone::ALL {
        let features = run(&backbone.model(zoo), &painted)?;
        write(&kept(folder, backbone, kind, seed), &features)?;
    }
    std::fs::remove_dir_all(&painted).with_context(|| painted.display().to_string())
}

/// Writes every picture with and without the cues, in one folder with one table: the picture's number, then the cue's.
fn paint(emoji: &BTreeMap<String, Emoji>, shown: &[Shown], kind: Kind, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let name = |i: usize, version: usize| format!("{i:05}-{version}.png");
    shown.par_iter().enumerate().try_for_each(|(i, one)| -> Result<()> {
        for (version, pixels) in one.paint(emoji, kind.cues()).into_iter().enumerate() {
            let mut bytes = Vec::new();
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub).write_image(
                &pixels,
                SIDE as u32,
                SIDE as u32,
                ExtendedColorType::Rgb8,
            )?;
            std::fs::write(folder.join(name(i, version)), bytes)?;
        }
        Ok(())
    })?;
    // Both classifiers have a class 0; what a picture shows is known here and of no concern to the backbone.
    let mut table = String::from("img_filename,y\n");
    for i in 0..shown.len() {
        (0..=kind.cues().len()).for_each(|version| table.push_str(&format!("{},0\n", name(i, version))));
    }
    std::fs::write(folder.join("metadata.csv"), table)?;
    Ok(())
}

/// The features of every picture in `folder`, in the table's order.
fn run(model: &Path, folder: &Path) -> Result<Array2<f32>> {
    let classifier = Classifier::open(model, &OpenOptions::default())?;
    let settings = ScanSettings::default().with_cache(folder.join("runs/.cache"));
    let scanned = pellucid::scan(&classifier, folder.join("metadata.csv"), &settings, &Silent)?;
    let table = scanned.features()?;
    let expected = scanned.data.samples.len();
    if table.index.len() != expected {
        bail!("{}: {} of {expected} pictures could be read", folder.display(), table.index.len());
    }
    Ok(table.features)
}

/// Rows and columns (little-endian, 4 bytes each), then the numbers row by row.
fn write(path: &Path, features: &Array2<f32>) -> Result<()> {
    let mut bytes = Vec::with_capacity(8 + 4 * features.len());
    for size in [features.nrows(), features.ncols()] {
        bytes.extend_from_slice(&(size as u32).to_le_bytes());
    }
    features.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    let part = path.with_extension("part");
    std::fs::write(&part, bytes)?;
    std::fs::rename(&part, path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Array2<f32>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    let size = |at: usize| word(at).map(|b| u32::from_le_bytes(b) as usize);
    let (Some(rows), Some(columns)) = (size(0), size(4)) else { bail!("{}: too short", path.display()) };
    let values = bytes[8..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Array2::from_shape_vec((rows, columns), values).with_context(|| path.display().to_string())
}

impl Pool {
    /// Reads what [`make`] kept.
    pub fn read(zoo: &Path, folder: &Path, backbone: Backbone, kind: Kind, seed: u64) -> Result<Pool> {
        let emoji = sprites::read(&Benchmark::EmojiWatermark.sprites(zoo))?;
        let (shown, classes) = pictures::draw(&emoji, kind, seed);
        let all = read(&kept(folder, backbone, kind, seed))?;
        let versions = kind.cues().len() + 1;
        if all.nrows() != shown.len() * versions {
            bail!("{} seed {seed}: {} rows, expected {}", kind.name(), all.nrows(), shown.len() * versions);
        }
        let version = |v: usize| {
            let rows: Vec<usize> = (0..shown.len()).map(|i| i * versions + v).collect();
            all.select(ndarray::Axis(0), &rows)
        };
        let with = kind.cues().iter().enumerate().map(|(k, &cue)| (cue, version(k + 1))).collect();
        Ok(Pool { clean: version(0), shown, classes, with })
    }
}
