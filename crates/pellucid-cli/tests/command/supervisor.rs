//! The parent process: what the user sees when the engine dies, and that nothing else is changed by there being two.

#![cfg(target_os = "linux")] // Processes are found in /proc.

use crate::interruption::{signal, started, with_many_pictures};
use crate::stage::{Ran, Stage};
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Value};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The process that works for `parent`, once it is there.
pub fn worker(parent: &Child) -> u32 {
    let start = Instant::now();
    loop {
        let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            (field(pid, 1)?.parse() == Ok(parent.id())).then_some(pid)
        });
        if let Some(pid) = found {
            return pid;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no process works for {}", parent.id());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A field of /proc/<pid>/stat behind the name: 0 is the state, 1 the parent.
fn field(pid: u32, number: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(number).map(str::to_owned)
}

/// Waits until the process is no more, or only waits to be asked after.
pub fn gone(pid: u32) {
    let start = Instant::now();
    while field(pid, 0).is_some_and(|state| state != "Z") {
        assert!(start.elapsed() < Duration::from_secs(20), "process {pid} goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn send(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// A model that ONNX Runtime 1.32 ends the process on: its Split has more outputs than it says, and the engine trusts the number.
fn fatal() -> Model {
    let input = Value::tensor("x", ElementType::F32, &[Some(1), Some(6)]);
    let split = Node::new("Split", &["x"], &["a", "b", "c"]).with_int("axis", 1).with_int("num_outputs", 2);
    Model::new("fatal.onnx", Graph::new(vec![input], vec![split], Vec::new(), &["a", "b", "c"]).unwrap(), 18)
}

#[test]
fn a_model_that_the_engine_dies_of_is_one_line_that_names_it() {
    let stage = Stage::new();
    fatal().write(stage.at("fatal.onnx")).unwrap();
    let x = pellucid::internals::runtime::Array::F32(ndarray::ArrayD::from_elem(vec![1, 6], 0.5));
    pellucid::write_arrays(stage.at("x.npz"), &[("x".to_owned(), x)].into()).unwrap();
    let words = ["gradient", "fatal.onnx", "--input", "x.npz", "--out", "g.npz"];
    let ran = stage.run(&words).refused(&["pellucid gradient fatal.onnx", "SIGABRT", "Assertion"]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    // Without the supervisor it is what it was: the end by a signal, after whatever the engine wrote.
    let alone = stage.command(&words).arg("--no-supervisor").output().unwrap();
    assert_eq!(alone.status.signal(), Some(6), "{alone:?}");
    let alone = stage.command(&words).env("PELLUCID_NO_SUPERVISOR", "1").output().unwrap();
    assert_eq!(alone.status.signal(), Some(6), "{alone:?}");
}

#[test]
fn a_worker_that_dies_is_one_line_and_what_it_finished_is_used_again() {
    for (name, number) in [("-ABRT", "SIGABRT"), ("-ILL", "SIGILL"), ("-KILL", "SIGKILL")] {
        let stage = with_many_pictures();
        stage.model(&crate::interruption::slow(24));
        let parent = started(&stage);
        send(worker(&parent), name);
        let words = ["pellucid scan model.onnx", number, "what was finished is kept", "goes on from there"];
        let ran = Ran::of(parent.wait_with_output().unwrap()).refused(&words);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        let again = stage.run(&["scan", "model.onnx", "data", "--json"]).fine().json();
        assert!(again["reused"].as_u64() >= Some(256), "{again}");
    }
}

#[test]
fn the_worker_ends_with_its_parent() {
    let stage = with_many_pictures();
    let mut parent = started(&stage);
    let pid = worker(&parent);
    signal(&parent, "-KILL");
    parent.wait().unwrap();
    gone(pid);
}

#[test]
fn an_end_that_is_asked_for_is_passed_on_and_looks_like_one() {
    for (name, number) in [("-TERM", 15), ("-HUP", 1)] {
        let stage = with_many_pictures();
        let parent = started(&stage);
        let pid = worker(&parent);
        signal(&parent, name);
        let output = parent.wait_with_output().unwrap();
        assert_eq!((output.status.signal(), output.stderr.as_slice()), (Some(number), &b""[..]), "{name}");
        gone(pid);
    }
}

#[test]
fn without_a_supervisor_there_is_one_process() {
    let stage = with_many_pictures();
    let mut command = stage.command(&["scan", "model.onnx", "data", "--no-supervisor"]);
    let mut only = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(only.try_wait().unwrap().is_none());
    let children = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        pid.and_then(|pid| field(pid, 1)) == Some(only.id().to_string())
    });
    assert_eq!(children.count(), 0);
    only.kill().unwrap();
    only.wait().unwrap();
}

/// Runs the command in the foreground of a terminal of its own, under a process with job control as a shell has. Once its
/// first shard is on disk and it has worked on for 0.1 s of processor time (so that it is within a batch, whatever else the
/// machine does), the first of `keys` is pressed, and the next one once it was answered. What then happens is printed:
/// `stopped` for each stop, after which it is put into the foreground again, and the exit code. The terminal's text comes last.
const TERMINAL: &str = r#"
import glob, os, pty, signal, sys, threading, time
keys, words = sys.argv[1].encode().decode("unicode_escape").encode(), sys.argv[2:]
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
report, told = os.pipe()
def processes():
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            yield open(path).read().rsplit(") ", 1)[1].split()
        except OSError:
            pass  # ended meanwhile
def worked():
    """Seconds of processor time that the foreground's processes have taken."""
    job = os.tcgetpgrp(terminal)
    return sum(int(fields[11]) + int(fields[12]) for fields in processes() if fields[2] == str(job)) / os.sysconf("SC_CLK_TCK")
shell, terminal = pty.fork()
if shell == 0:
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(words[0], words)
    while True:
        _, status = os.waitpid(job, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        end = time.time() + 10
        while set(states := [fields[0] for fields in processes() if fields[1] == str(job)]) != {"T"} and time.time() < end:
            time.sleep(0.01)
        os.write(told, ("stopped " + " ".join(states) + "\n").encode())
        os.tcsetpgrp(0, job)
        os.killpg(job, signal.SIGCONT)
    os.write(told, f"exit {os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)
text = b""
def listen():
    global text
    try:
        while data := os.read(terminal, 4096):
            text += data
    except OSError:
        pass
listener = threading.Thread(target=listen)
listener.start()
for i, key in enumerate(keys):
    end = time.time() + 60
    while not (b"stopping after" in text if i else glob.glob("runs/.cache/*/*.parquet")):
        assert time.time() < end
        time.sleep(0.001)
    before = worked()
    while i == 0 and worked() < before + 0.1:
        assert time.time() < end
        time.sleep(0.005)
    os.write(terminal, bytes([key]))
os.waitpid(shell, 0)
os.close(told)
listener.join(5)
sys.stdout.write(os.read(report, 4096).decode() + text.decode())
"#;

fn on_terminal(stage: &Stage, keys: &str, more: &[&str]) -> String {
    let inner = stage.command(&[&["scan", "model.onnx", "data", "--threads", "2", "--quiet"], more].concat());
    let mut outer = Command::new("python3");
    outer.args(["-c", TERMINAL, keys]).arg(inner.get_program()).args(inner.get_args()).current_dir(stage.path());
    outer.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?)))).env("TERM", "xterm").stdin(Stdio::null());
    let output = outer.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_ctrl_c_on_a_terminal_is_one_and_two_are_two() {
    for more in [&[][..], &["--no-supervisor"]] {
        let stage = with_many_pictures();
        let told = on_terminal(&stage, r"\x03", more);
        assert!(told.starts_with("exit 2\n"), "{told}");
        assert_eq!(told.matches("stopping after this batch").count(), 1, "{told}");
        assert!(told.contains("interrupted after") && told.contains("goes on from there"), "{told}");
    }
    // A batch of this model takes seconds, an answer milliseconds.
    let stage = with_many_pictures();
    stage.model(&crate::interruption::slow(32));
    let told = on_terminal(&stage, r"\x03\x03", &[]);
    assert!(told.starts_with("exit 130\n"), "{told}");
}

#[test]
fn ctrl_z_stops_both_processes_and_fg_goes_on() {
    let stage = with_many_pictures();
    let told = on_terminal(&stage, r"\x1a", &[]);
    assert!(told.starts_with("stopped T\nexit 0\n"), "{told}");
}

#[test]
fn a_signal_to_the_whole_group_reaches_the_worker_once() {
    let stage = with_many_pictures();
    let mut command = stage.command(&["scan", "model.onnx", "data", "--threads", "2"]);
    let parent = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    crate::interruption::first_shard(&stage);
    assert!(Command::new("kill").args(["-INT", "--", &format!("-{}", parent.id())]).status().unwrap().success());
    let ran = Ran::of(parent.wait_with_output().unwrap()).refused(&["interrupted after"]);
    assert_eq!(ran.err.matches("stopping after this batch").count(), 1, "{}", ran.err);
}
