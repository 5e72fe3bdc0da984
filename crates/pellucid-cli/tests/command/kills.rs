//! Kills at random moments: whichever process is killed, and whenever, the same command again ends in the same bytes as one that
//! nobody disturbed, and does not do again what was finished.
//!
//! `make kill-test KILLS=40` runs many (`PELLUCID_KILLS`, from the seed `PELLUCID_KILL_SEED`); a plain test run four, one a command.

#![cfg(target_os = "linux")] // The worker is found in /proc.

use crate::determinism::{assert_equal, results};
use crate::interruption::with_many_pictures;
use crate::stage::{Stage, repository};
use crate::supervisor::{gone, send, worker};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A command, and where it runs.
struct Job {
    stage: Stage,
    words: Vec<String>,
    /// How long it takes undisturbed.
    time: Duration,
    whole: BTreeMap<String, Vec<u8>>,
}

impl Job {
    fn new(stage: Stage, words: &[&str]) -> Self {
        let words = words.iter().map(|w| (*w).to_owned()).collect();
        let mut job = Self { stage, words, time: Duration::ZERO, whole: BTreeMap::new() };
        let start = Instant::now();
        let status = job.start("whole").wait().unwrap();
        job.time = start.elapsed();
        assert!(status.success(), "{:?}: {status}", job.words);
        job.whole = results(&job.stage.at("whole/r"));
        job
    }

    fn start(&self, runs: &str) -> Child {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut command = self.stage.command(&[&words[..], &["--name", "r", "--runs", runs, "--quiet"]].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Kills a run of its own after `share` of the time; `None` where it had ended already. Gives the entries of the cache that the
    /// second run found finished.
    fn kill(&self, runs: &str, share: f64, who: Who) -> Option<usize> {
        let mut child = self.start(runs);
        let pid = worker(&child);
        std::thread::sleep(self.time.mul_f64(share));
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        match who {
            Who::Parent => send(child.id(), "-KILL"),
            Who::Worker => send(pid, "-KILL"),
        }
        let ended = child.wait_with_output().unwrap();
        gone(pid);
        if ended.status.success() {
            return None;
        }
        if who == Who::Worker {
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.code() == Some(2) && said.lines().count() == 1, "{ended:?}");
            assert!(said.contains("SIGKILL") && said.contains("goes on from there"), "{said}");
        }
        let finished = self.finished(runs);
        let again = self.start(runs).wait_with_output().unwrap();
        assert!(again.status.success(), "{:?} after a kill at {share}: {again:?}", self.words);
        let what = format!("{:?} after a kill of the {who:?} at {share:.3}", self.words);
        assert_equal(&self.whole, &results(&self.stage.at(runs).join("r")), &what);
        let now = self.finished(runs);
        for (path, time) in &finished {
            assert_eq!(now.get(path), Some(time), "{what}: {} was made again", path.display());
        }
        Some(finished.len())
    }

    /// What is finished in the cache, with the time of its making.
    fn finished(&self, runs: &str) -> BTreeMap<PathBuf, SystemTime> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.stage.at(runs).join(".cache")];
        while let Some(folder) = open.pop() {
            for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
                let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() {
                    open.push(path);
                } else if ["parquet", "json", "safetensors"].contains(&ending.as_str()) {
                    found.insert(path.clone(), path.metadata().unwrap().modified().unwrap());
                }
            }
        }
        found
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Parent,
    Worker,
}

/// Numbers from 0 to 1: xorshift, so that a seed says which moments.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

fn jobs() -> Vec<Job> {
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let to_repair = || {
        let stage = Stage::with_mistakes();
        stage.many();
        stage
    };
    vec![
        Job::new(with_many_pictures(), &["scan", "model.onnx", "data"]),
        Job::new(with_many_pictures(), &["debug", "model.onnx", "data", "--all-mistakes"]),
        Job::new(to_repair(), &["repair", "model.onnx", "many"]),
        Job::new(
            Stage::new(),
            &["diffusion", "explain", &pipeline, "a cat", "--steps", "4", "--masks", "60", "--faithfulness", "1"],
        ),
    ]
}

#[test]
fn a_command_killed_at_any_moment_ends_in_the_same_bytes_when_it_is_run_again() {
    let kills = number("PELLUCID_KILLS", 4);
    let mut moments = Moments(number("PELLUCID_KILL_SEED", 12).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    // The first few of a small seed are alike.
    for _ in 0..8 {
        moments.next();
    }
    let jobs = jobs();
    for job in &jobs {
        println!("{}: {:.2} s undisturbed", job.words[..2].join(" "), job.time.as_secs_f64());
    }
    let mut resumed = 0;
    for kill in 0..kills {
        let job = &jobs[(kill % jobs.len() as u64) as usize];
        // Both processes of each command in turn.
        let who = if (kill / jobs.len() as u64 + kill).is_multiple_of(2) { Who::Parent } else { Who::Worker };
        // Drawn again where it had ended before: the machine's speed is not always the same.
        let made = (0..20).find_map(|again| {
            let share = moments.next();
            let runs = format!("k{kill}-{again}");
            let finished = job.kill(&runs, share, who)?;
            // Runs of 40 kills would fill a disk.
            std::fs::remove_dir_all(job.stage.at(&runs)).unwrap();
            Some((share, finished))
        });
        let (share, finished) = made.expect("a moment before the end");
        resumed += usize::from(finished > 0);
        println!("kill {kill}: {} {who:?} at {share:.3}, {finished} entries of the cache kept: equal", job.words[0]);
    }
    println!("{kills} kills, {resumed} of them after something was finished: every rerun equal");
}
