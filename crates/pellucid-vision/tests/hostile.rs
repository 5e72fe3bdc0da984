//! Files made to exhaust memory or time, or to lead out of a data set: each is an error of one line, or a correct result,
//! and the peak of memory stays within the budget. This binary counts what is allocated; its tests run one at a time.

#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use pellucid_guard::{Budget, Limit};
use pellucid_vision::dataset::{Dataset, DatasetOptions};
use pellucid_vision::picture::Picture;
use pellucid_vision::preprocess::Preprocessing;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

// SAFETY: every call goes on to the system's allocator unchanged; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    // As the system's: a large block is moved by its pages, not copied.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let live = LIVE.fetch_add(size, Relaxed) + size - layout.size();
        PEAK.fetch_max(live, Relaxed);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` gives, and the bytes that were allocated at its peak beyond those before it.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let given = work();
    (given, PEAK.load(Relaxed).saturating_sub(before))
}

const SLACK: usize = 2 << 20;

fn megabytes(count: u64) -> Budget {
    Budget::for_memory(count << 20)
}

/// A PNG of zeros.
fn png(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    let bytes = colour.samples() * if depth == png::BitDepth::Sixteen { 2 } else { 1 };
    let zeros = vec![0; width as usize * height as usize * bytes];
    encoder.write_header().unwrap().write_image_data(&zeros).unwrap();
    file
}

/// A gray JPEG of `side` × `side` pixels whose scans have a byte each.
fn many_scans(side: u16, scans: usize, progressive: bool) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    };
    let mut file = vec![0xff, 0xd8];
    let mut padding = usize::from(side.div_ceil(8)).pow(2) / 8 + 1;
    while padding > 0 {
        let some = padding.min(60_000);
        file.extend(segment(0xfe, &vec![0; some]));
        padding -= some;
    }
    file.extend(segment(0xdb, &[&[0u8][..], &[1; 64]].concat()));
    let [high, low] = side.to_be_bytes();
    file.extend(segment(if progressive { 0xc2 } else { 0xc0 }, &[8, high, low, high, low, 1, 1, 0x11, 0]));
    for table in [0x00, 0x10] {
        file.extend(segment(0xc4, &[&[table, 1][..], &[0; 16]].concat()));
    }
    for scan in 0..scans {
        let band: [u8; 2] = match (progressive, scan) {
            (true, 0) => [0, 0],
            (true, _) => [1, 63],
            (false, _) => [0, 63],
        };
        file.extend(segment(0xda, &[1, 1, 0, band[0], band[1], 0]));
        file.push(0);
    }
    file.extend([0xff, 0xd9]);
    file
}

fn refusal(bytes: &[u8], budget: &Budget) -> String {
    let message = Picture::decode(bytes, "bomb", budget).unwrap_err().to_string();
    assert!(!message.contains('\n') && message.starts_with("bomb: "), "{message}");
    message
}

#[test]
fn a_deep_png_takes_its_rgb_and_a_row() {
    let _alone = ONE_AT_A_TIME.lock();
    let file = png(2000, 1000, png::ColorType::Rgba, png::BitDepth::Sixteen);
    let (picture, taken) = peak(|| Picture::decode(&file, "p.png", &megabytes(6)).unwrap());
    assert_eq!((picture.width(), picture.height()), (2000, 1000));
    assert!(taken <= 6_000_000 + SLACK, "{taken}");
    let (message, taken) = peak(|| refusal(&file, &megabytes(5)));
    assert!(message.contains("5.7 MiB needed, 5 MiB allowed") && message.contains("`file_memory`"), "{message}");
    assert!(taken <= SLACK, "{taken}");
}

#[test]
fn every_format_stays_within_the_memory_it_asks_for() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/formats");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // The least budget with which the file decodes bounds what decoding takes.
        let enough = (0..24)
            .map(|power| 1u64 << power)
            .find(|bound| Picture::decode(&bytes, "x", &Budget::default().with(Limit::FileMemory, *bound)).is_ok());
        let enough = enough.unwrap();
        let budget = Budget::default().with(Limit::FileMemory, enough);
        let (_, taken) = peak(|| Picture::decode(&bytes, "x", &budget).unwrap());
        assert!(taken <= enough as usize + SLACK, "{}: {taken} of {enough}", path.display());
    }
}

#[test]
fn a_sequential_jpeg_that_repeats_a_scan_is_refused() {
    let _alone = ONE_AT_A_TIME.lock();
    assert!(Picture::decode(&many_scans(64, 1, false), "x", &Budget::default()).is_ok());
    let message = refusal(&many_scans(64, 2, false), &Budget::default());
    assert!(message.contains("broken data stream"), "{message}");
}

#[test]
fn scans_of_a_progressive_jpeg_are_bounded_by_number_and_by_work() {
    let _alone = ONE_AT_A_TIME.lock();
    assert!(Picture::decode(&many_scans(64, 200, true), "x", &Budget::default()).is_ok());
    let message = refusal(&many_scans(64, 201, true), &Budget::default());
    assert!(message.contains("201 scans needed, 200 scans allowed"), "{message}");
    // As large as the bound on pixels: some twenty full passes are more than any encoder makes.
    let small = Budget::default().with(Limit::Pixels, 512 * 512);
    assert!(Picture::decode(&many_scans(512, 12, true), "x", &small).is_ok());
    let message = refusal(&many_scans(512, 100, true), &small);
    assert!(message.contains("scans needed"), "{message}");
}

#[test]
fn a_picture_of_the_largest_size_ends_in_time() {
    let _alone = ONE_AT_A_TIME.lock();
    let start = Instant::now();
    let budget = Budget::default().with(Limit::Pixels, 4000 * 4000).with(Limit::JpegScans, u64::MAX);
    refusal(&many_scans(4000, 3000, true), &budget);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

fn parquet(path: &Path, rows: usize, value: &[u8], label: i64) {
    let images: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..rows).map(|_| value)));
    let labels: ArrayRef = Arc::new(Int64Array::from(vec![label; rows]));
    let batch = RecordBatch::try_from_iter([("image", images), ("label", labels)]).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_parquet_value_that_many_rows_repeat_is_decoded_a_few_at_a_time() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.parquet");
    let mut file = png(8, 8, png::ColorType::Rgb, png::BitDepth::Eight);
    file.resize(3 << 20, 0);
    parquet(&path, 40, &file, 0);
    let budget = megabytes(32);
    let options = DatasetOptions { budget, ..DatasetOptions::default() };
    let (_, taken) = peak(|| {
        let data = Dataset::open(&path, &options).unwrap();
        for row in 0..data.len() {
            assert_eq!(data.read(row, &budget).unwrap().width(), 8);
        }
    });
    assert!(taken <= (32 << 20) + SLACK, "{taken}");
    let options = DatasetOptions { budget: megabytes(8), ..DatasetOptions::default() };
    let (message, taken) = peak(|| Dataset::open(&path, &options).unwrap_err().to_string());
    assert!(message.contains("needed, 8 MiB allowed") && message.contains("`file_memory`"), "{message}");
    assert!(taken <= SLACK, "{taken}");
}

#[test]
fn rows_that_few_bytes_unfold_to_are_bounded() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    parquet(&path, 100_000, b"", 0);
    let few = DatasetOptions { budget: Budget::default().with(Limit::Rows, 1000), ..DatasetOptions::default() };
    let message = Dataset::open(&path, &few).unwrap_err().to_string();
    assert!(message.contains("rows needed, 1000 rows allowed"), "{message}");
    let options = DatasetOptions { budget: megabytes(16), ..DatasetOptions::default() };
    let (message, taken) = peak(|| Dataset::open(&path, &options).unwrap_err().to_string());
    assert!(message.contains("16 MiB allowed"), "{message}");
    assert!(taken <= (16 << 20) + SLACK, "{taken}");
    let table = folder.path().join("rows.csv");
    fs::write(&table, format!("file_name,label\n{}", "a,0\n".repeat(100_000))).unwrap();
    let (message, taken) = peak(|| Dataset::open(&table, &options).unwrap_err().to_string());
    assert!(message.contains("16 MiB allowed"), "{message}");
    assert!(taken <= (16 << 20) + SLACK, "{taken}");
}

#[test]
fn a_row_without_an_end_is_refused() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    for (name, start) in [("t.csv", "file_name,label\n\"a"), ("t.jsonl", "{\"file_name\": \"")] {
        let path = folder.path().join(name);
        fs::write(&path, format!("{start}{}", "a\u{1b}".repeat(8 << 20))).unwrap();
        let (message, taken) = peak(|| Dataset::open(&path, &DatasetOptions::default()).unwrap_err().to_string());
        assert!(message.contains("more than 1 MiB") && message.len() < 1000, "{message}");
        assert!(taken <= 4 * SLACK, "{taken}");
    }
}

#[test]
fn a_damaged_parquet_file_is_an_error_without_a_panic_text() {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.parquet");
    parquet(&path, 3, b"abc", 0);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5a;
        fs::write(&path, &bytes).unwrap();
        match Dataset::open(&path, &DatasetOptions::default()) {
            Ok(data) => (0..data.len()).for_each(|row| drop(data.read(row, &Budget::default()))),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}

#[cfg(unix)]
mod links {
    use super::*;
    use std::os::unix::fs::symlink;

    fn picture(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, Picture::from_fn(2, 2, |_, _| [1; 3]).to_png().unwrap()).unwrap();
    }

    #[test]
    fn links_out_of_the_data_set_are_not_followed_and_said() {
        let _alone = ONE_AT_A_TIME.lock();
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("data"), folder.path().join("other"));
        picture(&root.join("a/1.png"));
        picture(&root.join("b/2.png"));
        picture(&other.join("3.png"));
        symlink("../..", root.join("a/up")).unwrap();
        symlink(other.join("3.png"), root.join("b/out.png")).unwrap();
        symlink(&other, root.join("c")).unwrap();
        symlink("1.png", root.join("a/within.png")).unwrap();
        symlink("nothing.png", root.join("a/broken.png")).unwrap();
        symlink("loop.png", root.join("a/loop.png")).unwrap();
        let data = Dataset::open(&root, &DatasetOptions::default()).unwrap();
        let files: Vec<&str> = data.samples.iter().map(|sample| sample.file.as_str()).collect();
        assert_eq!(files, ["a/1.png", "a/within.png", "b/2.png"]);
        assert!(
            data.warnings
                .iter()
                .map(ToString::to_string)
                .any(|w| w.starts_with("3 links lead out") && w.contains("the first is a/up"))
        );
        assert!(data.warnings.iter().any(|w| w.to_string().starts_with("2 links to nothing")), "{:?}", data.warnings);
        let table = root.join("list.csv");
        fs::write(&table, "file_name,label\nb/out.png,0\na/up/other/3.png,0\na/1.png,1\n").unwrap();
        let data = Dataset::open(&table, &DatasetOptions::default()).unwrap();
        assert_eq!(data.len(), 1);
        assert!(data.warnings.iter().any(|w| w.to_string().starts_with("2 links lead out")), "{:?}", data.warnings);
    }

    #[test]
    fn a_file_that_is_no_picture_keeps_its_content() {
        let _alone = ONE_AT_A_TIME.lock();
        let message = refusal(b"root:x:0:0:root:/root:/bin/bash", &Budget::default());
        assert!(!message.contains("root") && !message.contains("72 6f"), "{message}");
    }

    #[test]
    fn names_act_on_no_terminal() {
        let _alone = ONE_AT_A_TIME.lock();
        let folder = tempfile::tempdir().unwrap();
        picture(&folder.path().join("\u{1b}[31mc1/1.png"));
        fs::write(folder.path().join("\u{1b}[31mc1/\u{202e}x\n.png"), "no").unwrap();
        let data = Dataset::open(folder.path(), &DatasetOptions::default()).unwrap();
        let mut said: Vec<String> = data.warnings.iter().map(ToString::to_string).collect();
        said.extend((0..2).filter_map(|row| data.read(row, &Budget::default()).err()).map(|e| e.to_string()));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said.iter().all(|s| s.contains("\\u{1b}[31mc1") && !s.contains(['\u{1b}', '\u{202e}', '\n'])),
            "{said:?}"
        );
    }
}

#[test]
fn preprocessing_that_no_model_has_is_refused() {
    let _alone = ONE_AT_A_TIME.lock();
    let own = |size: u64, scale: &str, std: &str| {
        format!(
            r#"{{"width": {size}, "height": {size}, "resize": "exact", "filter": "bicubic", "scale": {scale},
            "mean": [0, 0, 0], "std": {std}, "source": "x"}}"#
        )
    };
    let timm = |side: u64, crop: &str| {
        format!(
            r#"{{"input_size": [3, {side}, {side}], "interpolation": "bicubic", "mean": 0.5, "std": 0.5, "crop_pct": {crop}}}"#
        )
    };
    let deep = format!("{{\"width\": {}", "[".repeat(1 << 20));
    for (text, said) in [
        (own(100_000, "1.0", "[1, 1, 1]"), "sides from 1 to 8192"),
        (own(4_294_967_295, "1.0", "[1, 1, 1]"), "sides from 1 to 8192"),
        (own(20_000, "1.0", "[1, 1, 1]"), "sides from 1 to 8192"),
        (own(60_000, "1.0", "[1, 1, 1]"), "sides from 1 to 8192"),
        (timm(224, "1e-7"), "a fraction from 0.05 to 4"),
        (timm(100_000, "1e-9"), "sides from 1 to 8192"),
        (own(8, "0", "[1, 1, 1]"), "a positive number"),
        (own(8, "1e300", "[1, 1, 1]"), "stay finite"),
        (own(8, "1.0", "[1, 1, 1e-60]"), "stay finite"),
        (own(8, "1.0", "[1, 0, 1]"), "three positive numbers"),
        (own(8, "1.0", "[1, 1]"), "not valid JSON"),
        (deep, "not valid JSON"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.json");
        fs::write(&path, &text).unwrap();
        let (message, taken) = peak(|| Preprocessing::open(&path).unwrap_err().to_string());
        assert!(message.contains(said) && !message.contains('\n'), "{message}");
        assert!(taken <= 4 * SLACK, "{taken}");
    }
}
