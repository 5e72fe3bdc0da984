//! What every picture shows, read from two committed tables.
//!
//! `metadata.csv` is what a user of the benchmark reads (WILDS style): `img_filename,y,split,place`
//! (split 0 train, 1 validation, 2 test; place 1 with the mark) and in words `y_name,
//! place_name,emoji,emoji_name,subgroup,family`. `recipe.csv` says how each is painted, line by
//! line: the emoji's place and turn, the background, and the mark that lies over it if there is one
//! ([`crate::mark`]).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::background::Kind;
use crate::benchmark::Benchmark;
use crate::canvas::Placement;
use crate::error::ZooError;
use crate::mark::Mark;

/// Which part of the data a picture belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Seen by the classifier's head.
    Train,
    /// For choices.
    Validation,
    /// For judgement.
    Test,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path below the data set's folder, with `/`, ending in `.png`.
    pub file: String,
    /// Class, from 0.
    pub class: usize,
    /// Name of the class.
    pub class_name: String,
    /// Part of the data.
    pub split: Split,
    /// Whether the picture carries the mark.
    pub marked: bool,
    /// The emoji by its code points, a key of [`crate::sprites::read`].
    pub emoji: String,
    /// Emoji of one family never meet in two splits.
    pub family: String,
    /// Longer side of the emoji in pixels.
    pub size: f32,
    /// Where the emoji lies; its scale follows from `size`.
    pub place: Placement,
    /// What is behind it.
    pub background: Kind,
    /// Fixes the background.
    pub background_seed: u64,
    /// What lies over it if it is marked.
    pub mark: Mark,
}

/// Every picture of the benchmark.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The pictures, in the order of metadata.csv.
    pub entries: Vec<Entry>,
    /// Names of the classes by index.
    pub classes: Vec<String>,
}

#[derive(Deserialize)]
struct MetadataRow {
    img_filename: String,
    y: usize,
    split: u8,
    place: u8,
    y_name: String,
    emoji: String,
    family: String,
}

#[derive(Deserialize)]
struct RecipeRow {
    img_filename: String,
    size: f32,
    x: f32,
    y: f32,
    half_turn: f32,
    flip: u8,
    background: String,
    background_seed: u64,
}

impl Recipe {
    /// Reads metadata.csv and recipe.csv in `folder`, which list the same pictures in the same
    /// order.
    pub fn read(folder: &Path, benchmark: Benchmark) -> Result<Recipe, ZooError> {
        let (metadata, recipe) = (folder.join("metadata.csv"), folder.join("recipe.csv"));
        let (rows, paints) = (rows::<MetadataRow>(&metadata)?, rows::<RecipeRow>(&recipe)?);
        if rows.len() != paints.len() {
            let detail = format!("expected {} pictures as in metadata.csv, found {}", rows.len(), paints.len());
            return Err(ZooError::Table { path: recipe, line: paints.len() as u64 + 1, detail });
        }
        let marks = Mark::read(&recipe, benchmark)?;
        let mut entries = Vec::with_capacity(rows.len());
        let mut names = BTreeMap::new();
        for (((line, row), (paint_line, paint)), mark) in rows.into_iter().zip(paints).zip(marks) {
            let known: &mut String = names.entry(row.y).or_insert_with(|| row.y_name.clone());
            if *known != row.y_name {
                let detail = format!("class {} is called {known} above and {} here", row.y, row.y_name);
                return Err(ZooError::Table { path: metadata, line, detail });
            }
            if paint.img_filename != row.img_filename {
                let detail = format!("expected {} as in metadata.csv, found {}", row.img_filename, paint.img_filename);
                return Err(ZooError::Table { path: recipe, line: paint_line, detail });
            }
            let wrong = |path: &PathBuf, line, detail| ZooError::Table { path: path.clone(), line, detail };
            check_metadata(&row).map_err(|detail| wrong(&metadata, line, detail))?;
            entries.push(entry(row, paint, mark).map_err(|detail| wrong(&recipe, paint_line, detail))?);
        }
        match names.keys().copied().eq(0..names.len()) {
            true => Ok(Recipe { entries, classes: names.into_values().collect() }),
            false => {
                let detail = format!("expected classes 0 to {}, found {:?}", names.len() - 1, names.keys());
                Err(ZooError::Table { path: metadata, line: 1, detail })
            }
        }
    }
}

fn check_metadata(row: &MetadataRow) -> Result<(), String> {
    let file = Path::new(&row.img_filename);
    let plain = file.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || !row.img_filename.ends_with(".png") || row.img_filename.contains('\\') {
        return Err(format!("expected a .png file below the data set's folder, found {:?}", row.img_filename));
    }
    if row.split > 2 || row.place > 1 {
        return Err(format!("expected split 0 to 2 and place 0 or 1, found {} and {}", row.split, row.place));
    }
    Ok(())
}

fn entry(row: MetadataRow, paint: RecipeRow, mark: Mark) -> Result<Entry, String> {
    let Some(background) = Kind::from_name(&paint.background) else {
        return Err(format!("{:?} is no kind of background", paint.background));
    };
    let numbers = [paint.x, paint.y, paint.half_turn];
    if numbers.iter().any(|number| !number.is_finite() || number.abs() > 1000.0) {
        return Err("expected places within 1000 pixels of the picture".into());
    }
    if !(1.0..=1000.0).contains(&paint.size) {
        return Err(format!("expected an emoji of 1 to 1000 pixels, found {}", paint.size));
    }
    let flip = paint.flip == 1;
    Ok(Entry {
        file: row.img_filename,
        class: row.y,
        class_name: row.y_name,
        split: [Split::Train, Split::Validation, Split::Test][usize::from(row.split)],
        marked: row.place == 1,
        emoji: row.emoji,
        family: row.family,
        size: paint.size,
        place: Placement { x: paint.x, y: paint.y, scale: 1.0, half_turn: paint.half_turn, flip },
        background,
        background_seed: paint.background_seed,
        mark,
    })
}

/// The rows of a table with a header, each with its line in the file.
pub(crate) fn rows<Row: DeserializeOwned>(path: &Path) -> Result<Vec<(u64, Row)>, ZooError> {
    let file = std::fs::File::open(path).map_err(|source| ZooError::Read { path: path.into(), source })?;
    let mut reader = csv::Reader::from_reader(file);
    let mut read = Vec::new();
    for row in reader.deserialize() {
        let line = read.len() as u64 + 2;
        let row = row.map_err(|error| ZooError::Table { path: path.into(), line, detail: error.to_string() })?;
        read.push((line, row));
    }
    match read.is_empty() {
        true => Err(ZooError::Table { path: path.into(), line: 1, detail: "the table has no rows".into() }),
        false => Ok(read),
    }
}
