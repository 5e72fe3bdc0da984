//! Data sets: tables, Parquet files and folders.

use crate::{budget, chosen, says_something, scratch};
use pellucid::internals::vision::dataset::{Dataset, DatasetOptions, Format};
use std::path::Path;

/// The smallest picture that is one.
const PICTURE: &[u8] = include_bytes!("../../../fuzz/corpus/picture/pixel.png");

/// A data set whose table is the input. The first byte chooses the form: its low three bits CSV, JSON lines, Parquet, a
/// WILDS folder, a folder of metadata in CSV or in JSON lines, TSV; bit 4 gives class names.
pub fn dataset(data: &[u8]) {
    let Some((kind, data)) = chosen(data) else { return };
    let (name, in_folder, format) = match kind % 8 {
        0 => ("m.csv", false, None),
        1 => ("m.jsonl", false, None),
        2 => ("m.parquet", false, None),
        3 => ("metadata.csv", true, Some(Format::Wilds)),
        4 => ("metadata.csv", true, None),
        5 => ("metadata.jsonl", true, None),
        6 => ("train-00000-of-00001.parquet", true, None),
        _ => ("m.tsv", false, None),
    };
    let names = (kind & 16 != 0).then(|| vec!["a".to_owned(), "b".to_owned()]);
    let options = DatasetOptions { class_names: names, format, budget: budget(), ..DatasetOptions::default() };
    scratch::with_files(&[("a.png", PICTURE), ("b.jpg", b"x"), (name, data)], |folder| {
        open(if in_folder { folder.to_owned() } else { folder.join(name) }.as_path(), &options);
    });
}

fn open(path: &Path, options: &DatasetOptions) {
    let dataset = match Dataset::open(path, options) {
        Ok(dataset) => dataset,
        Err(error) => return says_something(&error),
    };
    assert!(!dataset.is_empty(), "an opened data set has a sample");
    if let Some(names) = &options.class_names {
        assert_eq!(&dataset.classes, names);
    }
    for sample in &dataset.samples {
        assert!(sample.label < dataset.classes.len(), "label {} of {}", sample.label, dataset.classes.len());
        assert!(sample.group.is_none_or(|g| g < dataset.groups.len()), "group of {}", sample.file);
    }
    for index in 0..dataset.len().min(4) {
        let hash = dataset.content_hash(index, &budget());
        let picture = dataset.read(index, &budget());
        assert!(hash.is_ok() || picture.is_err(), "a picture came from bytes that could not be read");
        hash.iter().for_each(|hash| assert_eq!(hash.len(), 64));
        picture.iter().for_each(|p| assert!(p.width() > 0));
    }
}
