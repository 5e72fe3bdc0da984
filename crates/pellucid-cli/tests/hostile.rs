//! The command on models and arrays from strangers: one line, exit code 2 or a correct result, soon and in little memory.

#![allow(clippy::unwrap_used)] // A test that fails here says where.
#![cfg(target_os = "linux")] // Memory and time are read from /proc.

use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What `--memory 256M` may hold: the bound and 256 MiB.
const RESIDENT: u64 = 512 << 20;

/// What a command did.
struct Done {
    code: Option<i32>,
    out: String,
    error: String,
    /// Most bytes resident.
    peak: u64,
    /// Processor time.
    seconds: f64,
}

/// Runs the command; everything it holds is looked at until it ends.
fn pellucid(arguments: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pellucid"));
    command.args(["--memory", "256M", "--threads", "2"]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let (mut peak, mut seconds) = (0, 0.0);
    let status = loop {
        peak = most_resident(&proc).unwrap_or(peak).max(peak);
        seconds = processor(&proc).unwrap_or(seconds).max(seconds);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(seconds < 60.0, "{arguments:?} does not end");
        std::thread::sleep(Duration::from_millis(2));
    };
    let (mut out, mut error) = (String::new(), String::new());
    child.stdout.unwrap().read_to_string(&mut out).unwrap();
    child.stderr.unwrap().read_to_string(&mut error).unwrap();
    Done { code: status.code(), out, error, peak, seconds }
}

fn most_resident(proc: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(proc.join("status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Seconds in user and system mode, at the usual 100 ticks a second.
fn processor(proc: &Path) -> Option<f64> {
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

impl Done {
    /// It was cheap, and what it says holds `said`.
    fn says(&self, said: &[&str]) {
        let all = format!("{}{}", self.out, self.error);
        assert!(matches!(self.code, Some(0 | 2)), "{:?}: {all}", self.code);
        assert!(said.iter().all(|s| all.contains(s)), "expected {said:?} in: {all}");
        assert!(!all.contains("panicked") && !all.contains("RUST_BACKTRACE"), "{all}");
        assert!(self.peak < RESIDENT, "{} bytes resident", self.peak);
        assert!(self.seconds < 10.0, "{} s", self.seconds);
    }

    /// As [`Done::says`], as an error of one line.
    fn refuses(&self, said: &[&str]) {
        self.says(said);
        assert_eq!((self.code, self.error.trim_end().lines().count()), (Some(2), 1), "{}", self.error);
    }
}

/// A small classifier with these extents and this convolution, in `folder`.
fn model(folder: &Path, extents: [i64; 2], kernel: &[i64], pads: &[i64]) -> String {
    let convolution = Node::new("Conv", &["x", "k", "a"], &["c"]).with_ints("kernel_shape", kernel);
    let nodes = vec![
        convolution.with_ints("pads", pads),
        Node::new("Relu", &["c"], &["r"]),
        Node::new("GlobalAveragePool", &["r"], &["p"]),
        Node::new("Flatten", &["p"], &["f"]),
        Node::new("Gemm", &["f", "w", "b"], &["logits"]).with_int("transB", 1),
    ];
    let ramp = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        Tensor::f32(name, shape, &(0..count).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>())
    };
    let constants = vec![ramp("k", &[16, 3, 3, 3]), ramp("a", &[16]), ramp("w", &[3, 16]), ramp("b", &[3])];
    let shape = [None, Some(3), Some(extents[0]), Some(extents[1])];
    let input = Value::tensor("x", ElementType::F32, &shape);
    let graph = Graph::new(vec![input], nodes, constants, &["logits"]).unwrap();
    let path = folder.join("m.onnx");
    Model::new(&path, graph, 17).write(&path).unwrap();
    path.to_string_lossy().into_owned()
}

/// One picture of 16 × 16 as a `.npy`, with this header.
fn array(folder: &Path, descr: &str, shape: &str) -> String {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let path = folder.join("x.npy");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"\x93NUMPY\x01\x00").unwrap();
    file.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&vec![0; 3 * 16 * 16 * 4]).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_declared_input_that_is_too_large_is_refused_by_inspect() {
    let folder = tempfile::tempdir().unwrap();
    for extents in [[100_000, 100_000], [16_000, 16_000], [1 << 31, 1 << 31], [i64::MAX, i64::MAX]] {
        let model = model(folder.path(), extents, &[3, 3], &[1; 4]);
        pellucid(&["inspect", &model]).says(&["m.onnx"]);
    }
    let model = model(folder.path(), [16_000, 16_000], &[3, 3], &[1; 4]);
    pellucid(&["inspect", &model]).says(&[
        "'x' of shape 1×3×16000×16000",
        "2.9 GiB needed, 256 MiB allowed",
        "--memory",
    ]);
}

#[test]
fn a_convolution_with_pads_of_a_million_ends_at_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), [16, 16], &[3, 3], &[1, 1, 1, 1_000_000]);
    let said = ["m.onnx: running it takes more memory than the 256 MiB", "'c'", "--memory"];
    pellucid(&["inspect", &model]).says(&said);
    let pictures = folder.path().join("pictures/one");
    std::fs::create_dir_all(&pictures).unwrap();
    let timm = folder.path().join("preprocessing.json");
    std::fs::write(&timm, r#"{"input_size": [3, 16, 16], "mean": [0, 0, 0], "std": [1, 1, 1], "crop_pct": 1.0, "interpolation": "bilinear"}"#)
        .unwrap();
    let (pictures, timm) = (pictures.parent().unwrap().to_string_lossy(), timm.to_string_lossy());
    let runs = folder.path().join("runs").to_string_lossy().into_owned();
    let scan = ["scan", &model, &pictures, "--preprocessing", &timm, "--runs", &runs];
    pellucid(&scan).refuses(&said);
    let input = array(folder.path(), "<f4", "(1, 3, 16, 16)");
    let out = folder.path().join("g.npz").to_string_lossy().into_owned();
    pellucid(&["gradient", &model, "--input", &input, "--out", &out]).refuses(&said);
}

#[test]
fn a_negative_inferred_dimension_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), [16, 16], &[3, i64::MAX], &[1; 4]);
    pellucid(&["inspect", &model]).says(&["m.onnx"]);
    let input = array(folder.path(), "<f4", "(1, 3, 16, 16)");
    let out = folder.path().join("g.npz").to_string_lossy().into_owned();
    pellucid(&["gradient", &model, "--input", &input, "--out", &out]).refuses(&["m.onnx"]);
}

#[test]
fn arrays_with_headers_that_say_nothing_sound_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), [16, 16], &[3, 3], &[1; 4]);
    let out = folder.path().join("g.npz").to_string_lossy().into_owned();
    for (descr, shape, said) in [
        ("", "(1, 3, 16, 16)", "names no type"),
        ("é4", "(1, 3, 16, 16)", "'é4' is not supported"),
        ("<f4", "(1000000000000,)", "--max-file-memory"),
        ("<f4", "(1, 3, 16, 17)", "needs 816 numbers, and it holds 768"),
    ] {
        let input = array(folder.path(), descr, shape);
        pellucid(&["gradient", &model, "--input", &input, "--out", &out]).refuses(&["x.npy", said]);
    }
}

#[test]
fn an_array_that_takes_more_than_a_file_may_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), [16, 16], &[3, 3], &[1; 4]);
    let large = folder.path().join("large.npz");
    let zeros = pellucid::internals::runtime::Array::U8(ndarray::ArrayD::zeros(ndarray::IxDyn(&[2 << 20])));
    pellucid::write_arrays(&large, &std::collections::BTreeMap::from([("x".to_owned(), zeros)])).unwrap();
    let (large, out) = (large.to_string_lossy(), folder.path().join("g.npz").to_string_lossy().into_owned());
    let refused = pellucid(&["--max-file-memory", "1M", "gradient", &model, "--input", &large, "--out", &out]);
    refused.refuses(&["large.npz: array 'x' is too large: 2 MiB needed, 1 MiB allowed", "--max-file-memory"]);
}
