//! Every file of the corpus goes through its target: what the fuzzer once reached stays reached, on a stable compiler.

#![allow(clippy::unwrap_used)]

use pellucid_fuzz::TARGETS;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Replays one target. A panic ends the test as it would end the fuzzer, and the last line printed names the file.
fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    assert!(!files.is_empty(), "no corpus for {name}");
    for file in files {
        eprintln!("{}", file.display());
        target(&std::fs::read(&file).unwrap());
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed_and_every_corpus_has_a_target() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(replayed.to_vec(), TARGETS.map(|(name, _)| name).to_vec());
            let mut folders: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let mut known = replayed.map(str::to_owned).to_vec();
            folders.sort();
            known.sort();
            assert_eq!(folders, known);
        }
    };
}

replays! { jpeg picture npz onnx dataset preprocess scheduler patch tokenizer cache }

/// The corpus stays small enough to live in the repository.
#[test]
fn the_corpus_takes_less_than_four_megabytes() {
    let bytes: u64 = TARGETS.iter().flat_map(|(name, _)| corpus(name)).map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 4 << 20, "{bytes} bytes; `make fuzz-minimise` shrinks it");
}
