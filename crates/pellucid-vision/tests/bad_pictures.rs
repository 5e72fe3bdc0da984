//! Files that are not pictures, are damaged, or lie about their size: each gets an error that
//! names the file and says what to do, and none a panic or a large allocation. The fixtures are
//! in `bad/`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use pellucid_guard::{Budget, Limit};
use pellucid_vision::picture::{Picture, PictureError};
use proptest::prelude::*;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn open(name: &str) -> PictureError {
    Picture::open(tests().join("bad").join(name), &Budget::default()).unwrap_err()
}

fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    Picture::decode(bytes, "some.file", &Budget::default())
}

/// The references in every format, as seeds for damage.
fn good_files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(tests().join("references/formats"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with(".expected.png"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn each_bad_file_has_its_own_error() {
    for (name, said) in [
        ("empty.png", "empty (0 bytes)"),
        ("lfs_pointer.jpg", "git lfs pull"),
        ("html.jpg", "looks like HTML"),
        ("svg.png", "looks like HTML, XML or SVG"),
        ("zeros.png", "all zero"),
        ("avif.avif", "Avif"),
        ("document.pdf", "PDF"),
        ("claims_16384.png", "16384 x 16384"),
        ("claims_16384.bmp", "16384 x 16384"),
        ("claims_65535.jpg", "65535 x 65535"),
        ("claims_65535.gif", "65535 x 65535"),
        ("no_width.gif", "0 x 5"),
        ("wrong_checksum.png", "damaged"),
        ("float.tif", "32-bit floats"),
    ] {
        let message = open(name).to_string();
        assert!(message.contains(name) && message.contains(said), "{name}: {message}");
    }
}

#[test]
fn a_folder_and_a_missing_file_are_told_apart() {
    let limits = Budget::default();
    assert!(matches!(Picture::open(tests(), &limits), Err(PictureError::NotAFile { found: "a folder", .. })));
    assert!(matches!(Picture::open("gone.png", &limits), Err(PictureError::Missing { .. })));
}

#[test]
fn limits_are_inclusive() {
    let picture = Picture::from_fn(6, 5, |x, y| [x as u8, y as u8, 0]);
    let file = picture.to_png().unwrap();
    let limits = |pixels, bytes| Budget::default().with(Limit::Pixels, pixels).with(Limit::PictureBytes, bytes);
    let size = file.len() as u64;
    assert!(Picture::decode(&file, "x", &limits(30, size)).is_ok());
    let few_pixels = Picture::decode(&file, "x", &limits(29, size)).unwrap_err();
    assert!(matches!(few_pixels, PictureError::TooManyPixels { width: 6, height: 5, limit: 29, .. }));
    let few_bytes = Picture::decode(&file, "x", &limits(30, size - 1)).unwrap_err();
    assert!(matches!(few_bytes, PictureError::TooManyBytes { .. }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.png");
    fs::write(&path, &file).unwrap();
    assert!(matches!(Picture::open(&path, &limits(30, size - 1)), Err(PictureError::TooManyBytes { .. })));
}

#[test]
fn every_format_cut_short_is_an_error() {
    for (name, bytes) in good_files() {
        // Later frames of an animation are never read, so a cut there cannot be noticed.
        let half = if name.starts_with("animated") { bytes.len() / 4 } else { bytes.len() / 2 };
        let error = Picture::decode(&bytes[..half], &name, &Budget::default()).unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
        if name.ends_with(".jpg") || name.ends_with(".png") {
            assert!(matches!(error, PictureError::Truncated { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn every_jpeg_without_its_last_bytes_is_truncated() {
    for (name, bytes) in good_files().into_iter().filter(|(name, _)| name.ends_with(".jpg")) {
        for missing in [1, 2, 3, 40] {
            let error = decode(&bytes[..bytes.len() - missing]).unwrap_err();
            assert!(matches!(error, PictureError::Truncated { .. }), "{name} without {missing}: {error}");
        }
    }
}

#[test]
fn sides_and_bytes_have_to_agree() {
    assert!(Picture::new(2, 2, vec![0; 12]).is_ok());
    assert!(Picture::new(2, 2, vec![0; 11]).is_err());
    assert!(Picture::new(0, 2, vec![]).is_err());
    assert!(Picture::new(u32::MAX, u32::MAX, vec![]).is_err());
}

#[test]
fn what_is_written_is_read_back() {
    let picture = Picture::from_fn(40, 30, |x, y| [(x * 6) as u8, (y * 8) as u8, 128]);
    assert_eq!(decode(&picture.to_png().unwrap()).unwrap(), picture);
    let read = decode(&picture.to_jpeg(95).unwrap()).unwrap();
    let most = read.data().iter().zip(picture.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(most < 16, "{most}");
}

#[test]
fn thumbnails_keep_the_aspect_ratio_and_never_grow() {
    let picture = Picture::from_fn(40, 30, |_, _| [9; 3]);
    let size = |picture: Picture| (picture.width(), picture.height());
    assert_eq!(size(picture.thumbnail(20)), (20, 15));
    assert_eq!(size(picture.thumbnail(1)), (1, 1));
    assert_eq!(size(picture.thumbnail(0)), (1, 1));
    assert_eq!(size(picture.thumbnail(99)), (40, 30));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn damaged_files_are_a_picture_or_an_error(
        which in 0usize..100,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let files = good_files();
        let mut bytes = files[which % files.len()].1.clone();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Budget::default().with(Limit::Pixels, 1_000_000).with(Limit::PictureBytes, 1_000_000);
        if let Ok(picture) = Picture::decode(&bytes, "damaged", &limits) {
            prop_assert_eq!(picture.data().len() as u64, u64::from(picture.width()) * u64::from(picture.height()) * 3);
        }
    }
}
