//! Emoji and the watermark as small pictures with coverage, cut from committed sheets.
//!
//! `sprites.csv` lists every emoji with its place on a sheet:
//! `emoji,emoji_name,group,subgroup,family,sheet,x,y,width,height`, where `emoji` is its code
//! points in hexadecimal joined by `-`. `watermark.png` is gray with coverage.

use std::collections::BTreeMap;
use std::path::Path;

use image::RgbaImage;
use serde::Deserialize;

use crate::error::ZooError;
use crate::noise::floor;

/// A small picture: red, green, blue (multiplied by coverage) and coverage, 0…1, row by row.
#[derive(Debug, Clone)]
pub struct Sprite {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// With a border of one empty pixel on every side.
    values: Vec<[f32; 4]>,
}

impl Sprite {
    fn from_rgba(picture: &RgbaImage) -> Sprite {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let mut values = vec![[0.0; 4]; (width + 2) * (height + 2)];
        for (x, y, pixel) in picture.enumerate_pixels() {
            let [red, green, blue, coverage] = pixel.0.map(|byte| f32::from(byte) / 255.0);
            let place = (y as usize + 1) * (width + 2) + x as usize + 1;
            values[place] = [red * coverage, green * coverage, blue * coverage, coverage];
        }
        Sprite { width, height, values }
    }

    /// Reads a whole picture file as one sprite.
    pub fn read(path: &Path) -> Result<Sprite, ZooError> {
        Ok(Sprite::from_rgba(&read_sheet(path)?))
    }

    /// The value at (x, y) in pixels from the top left, bilinear; nothing outside.
    pub(crate) fn at(&self, x: f32, y: f32) -> [f32; 4] {
        let (x, y) = (x - 0.5, y - 0.5);
        if x <= -1.0 || y <= -1.0 || x >= self.width as f32 || y >= self.height as f32 {
            return [0.0; 4];
        }
        let (left, top) = (floor(x), floor(y));
        let (across, down) = (x - left, y - top);
        let first = (top as i32 + 1) as usize * (self.width + 2) + (left as i32 + 1) as usize;
        let second = first + self.width + 2;
        let upper = [self.values[first], self.values[first + 1]];
        let lower = [self.values[second], self.values[second + 1]];
        std::array::from_fn(|channel| {
            let above = upper[0][channel] * (1.0 - across) + upper[1][channel] * across;
            let below = lower[0][channel] * (1.0 - across) + lower[1][channel] * across;
            above * (1.0 - down) + below * down
        })
    }
}

/// One emoji: what it is, and its sprite.
#[derive(Debug, Clone)]
pub struct Emoji {
    /// Name in Unicode's emoji-test.txt ("red apple").
    pub name: String,
    /// Group in the same file ("Food & Drink").
    pub group: String,
    /// Subgroup in the same file ("food-fruit").
    pub subgroup: String,
    /// Emoji that look alike or mean the same share a family and never meet in two splits.
    pub family: String,
    /// Its picture.
    pub sprite: Sprite,
}

#[derive(Deserialize)]
struct Row {
    emoji: String,
    emoji_name: String,
    group: String,
    subgroup: String,
    family: String,
    sheet: String,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// Every emoji of `folder`/sprites.csv by its code points.
pub fn read(folder: &Path) -> Result<BTreeMap<String, Emoji>, ZooError> {
    let table = folder.join("sprites.csv");
    let (mut sheets, mut read) = (BTreeMap::new(), BTreeMap::new());
    for (line, row) in crate::recipe::rows::<Row>(&table)? {
        let path = folder.join(&row.sheet);
        if !sheets.contains_key(&row.sheet) {
            sheets.insert(row.sheet.clone(), read_sheet(&path)?);
        }
        let sheet = &sheets[&row.sheet];
        let fits =
            |from: u32, length: u32, limit: u32| length > 0 && from.checked_add(length).is_some_and(|end| end <= limit);
        if !fits(row.x, row.width, sheet.width()) || !fits(row.y, row.height, sheet.height()) {
            let (wide, high) = sheet.dimensions();
            let detail = format!("expected {} to lie inside {} ({wide}x{high})", row.emoji, row.sheet);
            return Err(ZooError::Table { path: table, line, detail });
        }
        let cut = image::imageops::crop_imm(sheet, row.x, row.y, row.width, row.height).to_image();
        let sprite = Sprite::from_rgba(&cut);
        let emoji =
            Emoji { name: row.emoji_name, group: row.group, subgroup: row.subgroup, family: row.family, sprite };
        if read.insert(row.emoji.clone(), emoji).is_some() {
            return Err(ZooError::Table { path: table, line, detail: format!("{} is listed twice", row.emoji) });
        }
    }
    Ok(read)
}

fn read_sheet(path: &Path) -> Result<RgbaImage, ZooError> {
    let bytes = std::fs::read(path).map_err(|source| ZooError::Read { path: path.into(), source })?;
    let sheet = image::load_from_memory(&bytes)
        .map_err(|error| ZooError::Sheet { path: path.into(), detail: error.to_string() })?;
    Ok(sheet.to_rgba8())
}
