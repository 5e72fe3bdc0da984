//! The page in a real browser, where one is installed: its script runs under its own policy, and nothing is refused.

#![allow(clippy::unwrap_used)]

mod fixture;

use pellucid_report::{ReportOptions, render, write_atomically};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| candidates.map(|name| dir.join(name))).find(|file| file.is_file())
}

/// What the browser makes of the page: its document after the script ran, and its log.
fn opened(browser: &PathBuf, page: &str) -> Option<(String, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.html");
    write_atomically(&path, page).expect("writes");
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).expect("a file");
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args(["--dump-dom", &format!("file://{}", path.display())])
        .stdin(Stdio::null())
        .stdout(file("dom"))
        .stderr(file("log"))
        .spawn()
        .ok()?;
    let start = Instant::now();
    while child.try_wait().expect("waits").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("stops");
            child.wait().expect("stops");
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let read =
        |name: &str| String::from_utf8_lossy(&std::fs::read(folder.path().join(name)).expect("reads")).into_owned();
    Some((read("dom"), read("log")))
}

/// Straight to the terminal: the test harness hides what a passing test prints.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED the_script_runs_under_its_own_policy: {why}");
}

#[test]
fn the_script_runs_under_its_own_policy() {
    let Some(browser) = browser() else { return skipped("no chromium is installed") };
    let mut diagnosis = fixture::diagnosis();
    diagnosis.findings.truncate(1);
    diagnosis.summary.classes[2] = "</script><script>document.title='owned'</script>".to_owned();
    let html = render(&diagnosis, &ReportOptions::default(), &fixture::Painter).expect("renders");
    let Some((dom, log)) = opened(&browser, &html) else { return skipped("chromium did not start or end") };
    if dom.is_empty() {
        return skipped("chromium gave no page");
    }
    assert!(dom.contains("class=\"scripted\""), "the script did not run:\n{log}");
    let cards = diagnosis.findings[0].insufficient.len() + diagnosis.findings[0].excessive.len();
    let hidden = dom.split("<article").skip(1).filter(|card| card[..card.find('>').unwrap_or(0)].contains("hidden"));
    assert_eq!(hidden.count(), cards - 1, "one card is open");
    assert!(!dom.contains("<title>owned"));
    for complaint in ["Content Security Policy", "Uncaught", "Refused to"] {
        assert!(!log.contains(complaint), "{log}");
    }
}
