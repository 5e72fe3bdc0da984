//! One picture from its entry: background, shadow, emoji, mark.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::SIDE;
use crate::benchmark::Benchmark;
use crate::canvas::{Canvas, Layer, Placement};
use crate::error::ZooError;
use crate::recipe::{Entry, Recipe};
use crate::sprites::{self, Emoji, Sprite};

/// How dark the shadow under an emoji is.
pub(crate) const SHADOW: f32 = 0.38;

/// The recipe with everything that it needs, ready to paint.
#[derive(Debug, Clone)]
pub struct Composer {
    /// What the pictures show.
    pub recipe: Recipe,
    /// Every emoji by its code points.
    pub emoji: BTreeMap<String, Emoji>,
    /// Which benchmark this is.
    pub benchmark: Benchmark,
    watermark: Sprite,
    folder: PathBuf,
}

impl Composer {
    /// Reads what is committed in the folder `zoo`: the benchmark's metadata.csv and recipe.csv, and sprites.csv with its
    /// sheets and watermark.png.
    pub fn read(zoo: &Path, benchmark: Benchmark) -> Result<Composer, ZooError> {
        let (folder, sprites) = (benchmark.folder(zoo), benchmark.sprites(zoo));
        let recipe = Recipe::read(&folder, benchmark)?;
        let emoji = sprites::read(&sprites)?;
        for (index, entry) in recipe.entries.iter().enumerate() {
            if !emoji.contains_key(&entry.emoji) {
                let detail = format!("{} is not in sprites.csv", entry.emoji);
                return Err(ZooError::Table { path: folder.join("metadata.csv"), line: index as u64 + 2, detail });
            }
        }
        let watermark = Sprite::read(&sprites.join("watermark.png"))?;
        Ok(Composer { recipe, emoji, benchmark, watermark, folder })
    }

    /// The committed folder that this was read from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The pixels of `entry`, [`SIDE`]×[`SIDE`]×3 bytes, with or without the mark whatever
    /// the entry itself says. An entry of another recipe, whose emoji is unknown here, shows the
    /// background alone.
    pub fn pixels(&self, entry: &Entry, marked: bool) -> Vec<u8> {
        let mut canvas = entry.background.paint(entry.background_seed);
        if let Some(emoji) = self.emoji.get(&entry.emoji) {
            lay_emoji(&mut canvas, &emoji.sprite, entry);
        }
        if marked {
            entry.mark.lay(&mut canvas, &self.watermark);
        }
        canvas.to_rgb()
    }
}

fn lay_emoji(canvas: &mut Canvas, sprite: &Sprite, entry: &Entry) {
    let scale = entry.size / sprite.width.max(sprite.height) as f32;
    let layer = Layer::new(sprite, &Placement { scale, ..entry.place });
    canvas.shade(&layer, SHADOW);
    canvas.lay(&layer, 1.0);
}

/// The hash of a picture's pixels as it stands in pixels.csv: the first 16 bytes of BLAKE3 over
/// width, height (little-endian, 4 bytes each) and the pixels, in hexadecimal.
pub fn hash(pixels: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(SIDE as u32).to_le_bytes()).update(&(SIDE as u32).to_le_bytes()).update(pixels);
    hasher.finalize().to_hex()[..32].to_string()
}
