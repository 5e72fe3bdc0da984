//! Ends that nobody planned: a kill, Ctrl-C, a full disk. Nothing half-written passes as done, and the same command again
//! goes on where it stopped, to the same result.

#![cfg(unix)]

use crate::stage::{NEURONS, Ran, SIDE, Stage, colours_with};
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Pictures in the long scan: two full shards and a part of one.
const PICTURES: usize = 640;
const SHARD: usize = 256;

/// A classifier that takes milliseconds for a picture: the same wide convolution, again and again.
pub fn slow(layers: usize) -> Model {
    const WIDTH: usize = 192;
    let mut nodes = vec![Node::new("Conv", &["x", "first"], &["v0"])];
    for i in 0..layers {
        nodes.push(Node::new("Conv", &[&format!("v{i}"), "k"], &[&format!("c{i}")]).with_ints("pads", &[1, 1, 1, 1]));
        nodes.push(Node::new("Relu", &[&format!("c{i}")], &[&format!("v{}", i + 1)]));
    }
    nodes.push(Node::new("GlobalAveragePool", &[&format!("v{layers}")], &["p"]));
    nodes.push(Node::new("Flatten", &["p"], &["f"]));
    nodes.push(Node::new("Gemm", &["f", "w"], &["z"]));
    let pattern =
        |n: usize, scale: f32| (0..n).map(|i| ((i * 7919 % 101) as f32 / 50.0 - 0.9) * scale).collect::<Vec<_>>();
    let constants = vec![
        Tensor::f32("first", &[WIDTH, 3, 1, 1], &pattern(WIDTH * 3, 0.5)),
        Tensor::f32("k", &[WIDTH, WIDTH, 3, 3], &pattern(WIDTH * WIDTH * 9, 0.004)),
        Tensor::f32("w", &[WIDTH, 3], &pattern(WIDTH * 3, 0.5)),
    ];
    let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(SIDE), Some(SIDE)]);
    Model::new("model.onnx", Graph::new(vec![input], nodes, constants, &["z"]).unwrap(), 17)
}

pub fn with_many_pictures() -> Stage {
    let stage = Stage::new();
    stage.model(&slow(8));
    for i in 0..PICTURES {
        let colour = [i % 251, i * 7 % 241, i * 13 % 239].map(|c| c as u8);
        stage.picture(&format!("data/{}/{i:04}.png", ["red", "green", "blue"][i % 3]), colour, i);
    }
    stage
}

/// Files with this ending in the cache of `runs`, sorted.
fn cached(stage: &Stage, runs: &str, ending: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(stage.at(runs).join(".cache")).into_iter().flatten().flatten();
    let files = folders.flat_map(|f| std::fs::read_dir(f.path()).into_iter().flatten().flatten()).map(|e| e.path());
    let mut files: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

/// Starts a scan and returns when its first shard is on disk.
pub fn started(stage: &Stage) -> Child {
    let mut command = stage.command(&["scan", "model.onnx", "data", "--threads", "2"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    first_shard(stage);
    assert!(child.try_wait().unwrap().is_none(), "it has ended already");
    child
}

/// Waits until the first shard is on disk.
pub fn first_shard(stage: &Stage) {
    let start = Instant::now();
    while cached(stage, "runs", "parquet").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "no shard was written");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The results of the finished scan below `runs`.
fn results(stage: &Stage, runs: &str) -> [Vec<u8>; 2] {
    let run = std::fs::read_dir(stage.at(runs)).unwrap().flatten().map(|e| e.path());
    let run = run.into_iter().find(|p| p.join("manifest.json").is_file()).expect("a finished run");
    ["scan.parquet", "summary.json"].map(|file| std::fs::read(run.join(file)).unwrap())
}

#[test]
fn a_killed_scan_goes_on_where_it_stopped_to_the_same_result() {
    use std::os::unix::process::ExitStatusExt;
    let stage = with_many_pictures();
    let mut command = stage.command(&["scan", "model.onnx", "data", "--threads", "2", "--no-supervisor"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    first_shard(&stage);
    signal(&child, "-KILL");
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was killed, and had not finished");
    let shards = cached(&stage, "runs", "parquet");
    assert!(shards.len() < PICTURES.div_ceil(SHARD), "{} shards: nothing was left to do", shards.len());
    let finished: Vec<_> = shards
        .iter()
        .map(|p| (p.clone(), p.metadata().unwrap().modified().unwrap(), std::fs::read(p).unwrap()))
        .collect();
    let run_directories = std::fs::read_dir(stage.at("runs")).unwrap().flatten().filter(|e| e.file_name() != ".cache");
    assert_eq!(run_directories.count(), 0, "nothing looks like a finished run");
    // What a kill in the middle of a write would leave.
    stage
        .write(&format!("{}.part", shards[0].with_extension("").strip_prefix(stage.path()).unwrap().display()), "PAR1");

    let again = stage.run(&["scan", "model.onnx", "data", "--threads", "2", "--json"]).fine().json();
    assert_eq!(again["reused"], shards.len() * SHARD, "finished shards are not computed again");
    assert_eq!(again["computed"], PICTURES - shards.len() * SHARD);
    for (path, modified, bytes) in finished {
        assert_eq!((path.metadata().unwrap().modified().unwrap(), std::fs::read(&path).unwrap()), (modified, bytes));
    }
    let whole = stage.run(&["scan", "model.onnx", "data", "--threads", "2", "--json", "--runs", "whole"]).fine().json();
    assert_eq!((&whole["computed"], &whole["summary"]), (&PICTURES.into(), &again["summary"]));
    assert!(results(&stage, "runs") == results(&stage, "whole"), "byte for byte the uninterrupted result");
}

#[test]
fn an_interrupted_scan_keeps_what_it_has_and_says_so() {
    let stage = with_many_pictures();
    let mut command = stage.command(&["scan", "model.onnx", "data", "--threads", "2", "--no-supervisor"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    first_shard(&stage);
    signal(&child, "-INT");
    let ran = Ran::of(child.wait_with_output().unwrap()).refused(&[
        "interrupted after",
        "of 640 pictures",
        "goes on from there",
    ]);
    let done: u64 = ran.err.split("interrupted after ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let again = stage.run(&["scan", "model.onnx", "data", "--json"]).fine().json();
    assert_eq!((again["reused"].as_u64(), again["computed"].as_u64()), (Some(done), Some(PICTURES as u64 - done)));
}

/// The command under a bound on the size of files, as a full disk would be.
pub fn limited(stage: &Stage, kilobytes: usize, arguments: &[&str]) -> Ran {
    let inner = stage.command(arguments);
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("ulimit -f {kilobytes} && exec \"$0\" \"$@\"")]);
    shell.arg(inner.get_program()).args(inner.get_args()).current_dir(stage.path()).stdin(Stdio::null());
    shell.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    Ran::of(shell.output().unwrap())
}

/// Every file below `runs` but locks, without its folder.
pub fn left_behind(stage: &Stage) -> Vec<String> {
    let mut open = vec![stage.at("runs")];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_none_or(|ending| ending != "lock") {
                files.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_full_disk_while_scanning_is_an_error_that_leaves_nothing_half_written() {
    let stage = Stage::with_mistakes();
    limited(&stage, 0, &["scan", "model.onnx", "data"]).refused(&[
        "cannot write the scan to",
        ".cache",
        "File too large",
    ]);
    assert_eq!(left_behind(&stage), [""; 0]);
    let ran = stage.job("scan", "data", &["--json"]).fine().json();
    assert_eq!(ran["computed"], 18);
}

#[test]
fn a_full_disk_while_reporting_is_an_error_and_the_run_does_not_look_done() {
    let stage = Stage::with_mistakes();
    // The shard is smaller, the report larger.
    let ran = limited(&stage, 16, &["debug", "model.onnx", "data"]).refused(&["report.html", "File too large"]);
    let left = left_behind(&stage);
    assert!(left.len() == 1 && left[0].ends_with(".parquet"), "only the finished shard stays: {left:?} {}", ran.err);
    stage.job("debug", "data", &[]).fine();
    assert!(stage.result("report.html").contains("</html>"));
    // A finished run that is run again on a full disk is not finished any more.
    limited(&stage, 16, &["debug", "model.onnx", "data"]).refused(&["report.html"]);
    assert!(!left_behind(&stage).contains(&"manifest.json".to_owned()));
}

#[test]
fn two_scans_of_the_same_at_once_share_the_cache_and_do_not_disturb_each_other() {
    let stage = with_many_pictures();
    let run = |name: &str| {
        let mut command = stage.command(&["scan", "model.onnx", "data", "--json", "--threads", "1", "--name", name]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [run("one"), run("two")].map(|child| Ran::of(child.wait_with_output().unwrap()).fine().json());
    assert_eq!(both[0]["summary"], both[1]["summary"]);
    let again = stage.run(&["scan", "model.onnx", "data", "--json"]).fine().json();
    assert_eq!((&again["reused"], &again["summary"]), (&PICTURES.into(), &both[0]["summary"]));
    assert_eq!(cached(&stage, "runs", "part"), Vec::<PathBuf>::new());
}

#[test]
fn a_run_folder_that_is_being_written_takes_no_second_writer() {
    let stage = Stage::with_mistakes();
    let named = ["--name", "mine"];
    stage.job("scan", "data", &named).fine();
    let held = std::fs::File::open(stage.at("runs/.cache/locks/mine.lock")).unwrap();
    held.lock().unwrap();
    let before = std::fs::read(stage.at("runs/mine/manifest.json")).unwrap();
    let ran = stage.job("scan", "data", &named).refused(&["runs/mine", "another process", "wait", "another --name"]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert_eq!(std::fs::read(stage.at("runs/mine/manifest.json")).unwrap(), before, "a refusal touches nothing");
    stage.job("scan", "data", &["--name", "other"]).fine();
    drop(held);
    stage.job("scan", "data", &named).fine();
}

#[test]
fn a_damaged_shard_is_said_and_computed_again() {
    let stage = Stage::with_mistakes();
    stage.job("scan", "data", &[]).fine();
    let whole = results(&stage, "runs");
    let shard = cached(&stage, "runs", "parquet").remove(0);
    let written = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &written[..written.len() / 2]).unwrap();
    let name = shard.file_name().unwrap().to_string_lossy().into_owned();
    let ran = stage.job("scan", "data", &["--json"]).fine();
    assert!(ran.err.contains(&name) && ran.err.contains("computed again"), "{}", ran.err);
    assert_eq!(ran.json()["computed"], 18);
    assert!(results(&stage, "runs") == whole && std::fs::read(&shard).unwrap() == written);
    assert_eq!(stage.job("scan", "data", &["--json"]).fine().json()["reused"], 18);
}

#[test]
fn sixteen_flipped_bits_in_cached_shards_are_all_found_and_change_nothing() {
    let stage = Stage::with_mistakes();
    stage.job("scan", "data", &[]).fine();
    let whole = results(&stage, "runs");
    let shard = cached(&stage, "runs", "parquet").remove(0);
    let written = std::fs::read(&shard).unwrap();
    for flip in 0..16 {
        let mut bytes = written.clone();
        let bit = (flip * 7919 + 13) * 31 % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&shard, &bytes).unwrap();
        let ran = stage.job("scan", "data", &["--json"]).fine();
        assert!(ran.err.contains("it is damaged"), "bit {bit}: {}", ran.err);
        assert!(results(&stage, "runs") == whole, "bit {bit} changed the result");
        assert!(std::fs::read(&shard).unwrap() == written, "bit {bit} is still in the cache");
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_pictures() {
    // Wide features, so that keeping them all would show: 16 KiB a picture.
    const WIDTH: usize = 4096;
    let stage = Stage::new();
    let mut model = colours_with(None, &[("w", vec![0.01; 3 * NEURONS], 3)]);
    let wide: Vec<f32> = (0..WIDTH * 3).map(|i| (i % 17) as f32 / 17.0).collect();
    for tensor in [
        Tensor::f32("k", &[WIDTH, 3, 1, 1], &wide),
        Tensor::f32("kb", &[WIDTH], &vec![0.1; WIDTH]),
        Tensor::f32("w", &[3, WIDTH], &wide),
    ] {
        model.graph.initializers.insert(tensor.name().to_owned(), tensor);
    }
    stage.model(&model);
    let mut table = "file_name,label\n".to_owned();
    let (few, many) = (1200, 4800);
    for i in 0..many {
        stage.picture(&format!("data/{i}.png"), [(i % 256) as u8, (i / 256 * 10) as u8, 90], i);
        table += &format!("{i}.png,{}\n", ["red", "green", "blue"][i % 3]);
        if i + 1 == few {
            stage.write("data/few.csv", &table);
        }
    }
    stage.write("data/many.csv", &table);
    let peak = |list: &str| {
        let mut command = stage.command(&["scan", "model.onnx", list, "--quiet", "--threads", "2", "--no-supervisor"]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0u64;
        while child.try_wait().unwrap().is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
            peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
            std::thread::sleep(Duration::from_millis(3));
        }
        assert!(child.wait().unwrap().success());
        peak / 1024
    };
    if !std::path::Path::new("/proc/self/status").exists() {
        return;
    }
    let (few_mib, many_mib) = (peak("data/few.csv"), peak("data/many.csv"));
    let kept = ((many - few) * WIDTH * 4) as u64 >> 20;
    println!("{few} pictures: {few_mib} MiB, {many} pictures: {many_mib} MiB, all features: {kept} MiB more");
    assert!(many_mib < few_mib + kept / 4, "{few_mib} MiB for {few} pictures, {many_mib} MiB for {many}");
}
