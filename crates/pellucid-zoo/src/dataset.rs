//! Writes the pictures to a folder, each checked against its committed hash.
//!
//! `pixels.csv` in the benchmark's folder holds two hashes for each picture
//! (`img_filename,clean,marked`, see [`crate::compose::hash`]): without and with the mark,
//! whichever of them the data set shows. A picture that is already there with the right pixels is
//! left alone; a missing, damaged or foreign one is written again. A file appears under its name
//! only when it is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::SIDE;
use crate::compose::{Composer, hash};
use crate::error::ZooError;
use crate::recipe::{Entry, Split};

/// Folder below the data set's for the pictures with the mark put on or taken off.
pub const COUNTERPART: &str = "counterpart";

/// Which pictures to write.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Parts of the data; metadata.csv in the written folder lists these only.
    pub splits: Vec<Split>,
    /// Write each picture's counterpart too, to [`COUNTERPART`]/`its name` with a metadata.csv of
    /// its own: the same picture with the mark where the data set has none, and without it
    /// where it has one.
    pub counterpart: bool,
}

impl Default for Selection {
    /// Everything that the data set holds, without counterparts.
    fn default() -> Selection {
        Selection { splits: vec![Split::Train, Split::Validation, Split::Test], counterpart: false }
    }
}

/// What [`write()`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Pictures composed and written.
    pub written: usize,
    /// Pictures that were there with the right pixels.
    pub kept: usize,
}

/// A picture that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// "missing", or what is wrong with it.
    pub problem: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct HashRow {
    img_filename: String,
    clean: String,
    marked: String,
}

/// One picture to be written: an entry, with or without the mark, at a path.
struct Piece<'a> {
    entry: &'a Entry,
    marked: bool,
    path: PathBuf,
    expected: &'a str,
}

/// Writes the selected pictures, metadata.csv and labels.txt (class names, one a line) to
/// `folder`, in parallel. `progress` is told the number of pictures done so far, from any thread.
pub fn write(
    composer: &Composer,
    folder: &Path,
    selection: &Selection,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Outcome, ZooError> {
    let hashes = read_hashes(composer)?;
    let pieces = pieces(composer, &hashes, folder, selection);
    for parent in pieces.iter().filter_map(|piece| piece.path.parent()).collect::<std::collections::BTreeSet<_>>() {
        std::fs::create_dir_all(parent).map_err(|source| ZooError::Write { path: parent.into(), source })?;
    }
    let (done, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
    pieces.par_iter().try_for_each(|piece| {
        if fault(piece).is_some() {
            compose(composer, piece)?;
            written.fetch_add(1, Ordering::Relaxed);
        }
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(())
    })?;
    write_tables(composer, folder, selection)?;
    let written = written.into_inner();
    Ok(Outcome { written, kept: pieces.len() - written })
}

/// The selected pictures in `folder` that are missing or have other pixels than were committed.
pub fn check(composer: &Composer, folder: &Path, selection: &Selection) -> Result<Vec<Fault>, ZooError> {
    let hashes = read_hashes(composer)?;
    let pieces = pieces(composer, &hashes, folder, selection);
    Ok(pieces.par_iter().filter_map(fault).collect())
}

/// Composes everything and writes the hashes to pixels.csv in the benchmark's folder: for whoever
/// changes the sprites, the recipe or the painting.
pub fn seal(composer: &Composer) -> Result<PathBuf, ZooError> {
    let path = composer.folder().join("pixels.csv");
    let entries = &composer.recipe.entries;
    let rows = entries.par_iter().map(|entry| {
        let of = |marked| hash(&composer.pixels(entry, marked));
        HashRow { img_filename: entry.file.clone(), clean: of(false), marked: of(true) }
    });
    let rows: Vec<HashRow> = rows.collect();
    let mut table = csv::Writer::from_writer(Vec::new());
    let failed = |error: String| ZooError::Write { path: path.clone(), source: std::io::Error::other(error) };
    for row in rows {
        table.serialize(row).map_err(|error| failed(error.to_string()))?;
    }
    let bytes = table.into_inner().map_err(|error| failed(error.to_string()))?;
    write_whole(&path, &bytes)?;
    Ok(path)
}

fn read_hashes(composer: &Composer) -> Result<BTreeMap<String, HashRow>, ZooError> {
    let path = composer.folder().join("pixels.csv");
    let rows = crate::recipe::rows::<HashRow>(&path)?;
    let last = rows.len() as u64 + 1;
    let hashes: BTreeMap<String, HashRow> = rows.into_iter().map(|(_, row)| (row.img_filename.clone(), row)).collect();
    match composer.recipe.entries.iter().find(|entry| !hashes.contains_key(&entry.file)) {
        Some(entry) => Err(ZooError::Table { path, line: last, detail: format!("no hash for {}", entry.file) }),
        None => Ok(hashes),
    }
}

fn pieces<'a>(
    composer: &'a Composer,
    hashes: &'a BTreeMap<String, HashRow>,
    folder: &Path,
    selection: &Selection,
) -> Vec<Piece<'a>> {
    let chosen = composer.recipe.entries.iter().filter(|entry| selection.splits.contains(&entry.split));
    let mut pieces = Vec::new();
    for entry in chosen {
        let Some(row) = hashes.get(&entry.file) else { continue };
        let piece = |marked: bool, below: &Path| Piece {
            entry,
            marked,
            path: below.join(&entry.file),
            expected: if marked { &row.marked } else { &row.clean },
        };
        pieces.push(piece(entry.marked, folder));
        if selection.counterpart {
            pieces.push(piece(!entry.marked, &folder.join(COUNTERPART)));
        }
    }
    pieces
}

/// What is wrong with a piece on the disk, if anything.
fn fault(piece: &Piece<'_>) -> Option<Fault> {
    let problem = match std::fs::read(&piece.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "missing".to_string(),
        Err(error) => format!("cannot be read: {error}"),
        Ok(bytes) => match image::load_from_memory(&bytes) {
            Err(error) => format!("is no picture: {error}"),
            Ok(picture) if (picture.width() as usize, picture.height() as usize) != (SIDE, SIDE) => {
                format!("is {}x{}, expected {SIDE}x{SIDE}", picture.width(), picture.height())
            }
            Ok(picture) => {
                let found = hash(&picture.into_rgb8().into_raw());
                if found == piece.expected {
                    return None;
                }
                format!("has pixels of hash {found}, expected {}", piece.expected)
            }
        },
    };
    Some(Fault { path: piece.path.clone(), problem })
}

fn compose(composer: &Composer, piece: &Piece<'_>) -> Result<(), ZooError> {
    let pixels = composer.pixels(piece.entry, piece.marked);
    let found = hash(&pixels);
    if found != piece.expected {
        let (picture, expected) = (piece.entry.file.clone(), piece.expected.to_string());
        return Err(ZooError::Hash { picture, expected, found });
    }
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(&pixels, SIDE as u32, SIDE as u32, ExtendedColorType::Rgb8)
        .map_err(|error| ZooError::Encode { path: piece.path.clone(), detail: error.to_string() })?;
    write_whole(&piece.path, &bytes)
}

/// Writes beside the file and renames, so that a file under its name is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ZooError> {
    let part = path.with_extension("part");
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|source| {
        // What is left of a failed attempt is of no use; that it cannot be removed adds nothing.
        let _ = std::fs::remove_file(&part);
        ZooError::Write { path: path.into(), source }
    })
}

/// metadata.csv (of the selected splits) and labels.txt, for the data set and its counterpart.
fn write_tables(composer: &Composer, folder: &Path, selection: &Selection) -> Result<(), ZooError> {
    let labels = composer.recipe.classes.join("\n") + "\n";
    write_whole(&folder.join("metadata.csv"), &metadata(composer, selection, false)?)?;
    write_whole(&folder.join("labels.txt"), labels.as_bytes())?;
    if selection.counterpart {
        let folder = folder.join(COUNTERPART);
        write_whole(&folder.join("metadata.csv"), &metadata(composer, selection, true)?)?;
        write_whole(&folder.join("labels.txt"), labels.as_bytes())?;
    }
    Ok(())
}

/// The committed metadata.csv without the splits that were not asked for; `swapped`: place and
/// place_name are those of the counterpart.
fn metadata(composer: &Composer, selection: &Selection, swapped: bool) -> Result<Vec<u8>, ZooError> {
    let path = composer.folder().join("metadata.csv");
    let broken = |error: csv::Error| ZooError::Table { path: path.clone(), line: 1, detail: error.to_string() };
    let mut reader = csv::Reader::from_path(&path).map_err(broken)?;
    let header = reader.headers().map_err(broken)?.clone();
    let column = |name: &str| header.iter().position(|held| held == name);
    let (place, place_name) = (column("place"), column("place_name"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(&header).map_err(broken)?;
    for (record, entry) in reader.records().zip(&composer.recipe.entries) {
        let record = record.map_err(broken)?;
        if !selection.splits.contains(&entry.split) {
            continue;
        }
        let marked = entry.marked != swapped;
        let field = |(index, value)| match Some(index) {
            at if at == place => {
                if marked {
                    "1"
                } else {
                    "0"
                }
            }
            at if at == place_name => {
                if marked {
                    composer.benchmark.mark()
                } else {
                    CLEAN
                }
            }
            _ => value,
        };
        table.write_record(record.iter().enumerate().map(field)).map_err(broken)?;
    }
    table
        .into_inner()
        .map_err(|error| ZooError::Write { path: path.clone(), source: std::io::Error::other(error.to_string()) })
}

/// `place_name` of place 0; that of place 1 is [`crate::Benchmark::mark`].
pub const CLEAN: &str = "clean";
