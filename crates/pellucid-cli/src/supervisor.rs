//! The parent of the process that works: the same binary, run once more, so that the end of the engine is one line.
//!
//! ONNX Runtime is C++ that runs models from strangers; some make it abort. No handler in the same process can be trusted
//! then, so the work is done in a child, and what stays here is a process that waits:
//!
//! - stdin, stdout and the exit code are the child's own; so is stderr, apart from what native code writes to it, which
//!   comes here through a pipe ([`Aside`]): it is passed on at the end, or becomes part of the one line;
//! - both are in the terminal's foreground group, which sends Ctrl-C and Ctrl-Z to each: this process ignores SIGINT and
//!   SIGQUIT while it waits, and passes on SIGTERM and SIGHUP, which come to one process;
//! - a child whose parent is gone ends: on Linux the kernel sees to it, elsewhere a thread that reads from a pipe that
//!   the parent alone keeps open.

use crate::cli::{Args, Command as Job};
use crate::output;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::unistd::Pid;
use pellucid::printable;
use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Tells the child that it is one: the numbers of its two descriptors, the real stderr and the lifeline.
const CHILD: &str = "PELLUCID_CHILD";

/// Bytes of native code's messages that are kept: the last ones say why.
const KEPT: usize = 16 << 10;

/// What the process that was started is to do.
pub enum Role {
    /// The work.
    Worker,
    /// Nothing more: a child did the work, and this is how it ended.
    Done(ExitCode),
}

/// Starts the child and waits for it, unless this is the child, or there is nothing to guard against.
pub fn role(args: &Args) -> Role {
    if let Some([stderr, lifeline]) = std::env::var(CHILD).ok().as_deref().and_then(descriptors) {
        // SAFETY: the parent opened both for this process alone and told it their numbers; nothing else owns them.
        #[allow(unsafe_code)]
        let [stderr, lifeline] = [stderr, lifeline].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        output::use_stderr(std::fs::File::from(stderr));
        live_with(lifeline);
        return Role::Worker;
    }
    if args.global.no_supervisor || matches!(args.command, Job::Completions { .. } | Job::Man) {
        return Role::Worker;
    }
    match supervise(args) {
        Ok(code) => Role::Done(code),
        Err(error) => {
            output::note(&format!("warning: no process of its own can be started for the work ({error})"));
            Role::Worker
        }
    }
}

/// Two open descriptors beside the standard ones.
fn descriptors(text: &str) -> Option<[RawFd; 2]> {
    let numbers: Vec<RawFd> = text.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    // SAFETY: asking for a descriptor's flags changes nothing, whatever the number.
    #[allow(unsafe_code)]
    let open = |fd: &RawFd| *fd > 2 && unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
    <[RawFd; 2]>::try_from(numbers).ok().filter(|two| two.iter().all(open) && two[0] != two[1])
}

/// Ends this process when the parent's end of `lifeline` closes.
#[cfg(not(target_os = "linux"))]
fn live_with(lifeline: OwnedFd) {
    std::thread::spawn(move || {
        let mut pipe = PipeReader::from(lifeline);
        if matches!(pipe.read(&mut [0]), Ok(0)) {
            // As SIGKILL would: what is finished is on disk, and nobody waits for the rest.
            std::process::abort();
        }
    });
}

/// The kernel was asked already, between fork and exec.
#[cfg(target_os = "linux")]
fn live_with(_lifeline: OwnedFd) {}

fn supervise(args: &Args) -> io::Result<ExitCode> {
    // Taken from the process's queue by the thread below; blocked here before there is any thread or child.
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| signals.add(s));
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before))?;
    let ended = start(before).and_then(|(mut child, said, _lifeline)| {
        let alive = Arc::new(Mutex::new(Some(Pid::from_raw(child.id() as i32))));
        pass_on(signals, alive.clone());
        let status = child.wait()?;
        *alive.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // The pipe is closed with the child; the wait is for a process that inherited it against all expectation.
        Ok((status, said.recv_timeout(Duration::from_secs(1)).unwrap_or_default()))
    });
    let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let (status, said) = ended?;
    restored?;
    Ok(verdict(args, status, &said))
}

/// The child, with the signal `mask` that this process began with, what native code says in it, and the parent's end of the lifeline.
fn start(mask: SigSet) -> io::Result<(Child, Receiver<Vec<u8>>, io::PipeWriter)> {
    let (said, aside) = io::pipe()?;
    let (lifeline, kept) = io::pipe()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut words = std::env::args_os();
    command.arg0(words.next().unwrap_or_else(|| "pellucid".into())).args(words);
    command.env(CHILD, format!("{},{}", stderr.as_raw_fd(), lifeline.as_raw_fd()));
    // Before the library is opened: newer ones look this up when they are loaded, and would use the network.
    command.env("ORT_DISABLE_TELEMETRY", "1");
    command.stderr(aside);
    let inherited = [stderr.as_raw_fd(), lifeline.as_raw_fd()];
    #[cfg(target_os = "linux")]
    let parent = nix::unistd::getpid();
    let prepare = move || {
        // A child inherits the mask, and it must not be deaf to what is passed on to it.
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
        #[cfg(target_os = "linux")]
        {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have gone before the kernel was asked.
            if nix::unistd::getppid() != parent {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        for fd in inherited {
            // SAFETY: a system call on a number; the descriptors are open, as `stderr` and `lifeline` outlive the fork.
            #[allow(unsafe_code)]
            if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made (sigmask, prctl, getppid, fcntl), nothing is allocated.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
    let child = command.spawn()?;
    // `command` keeps the pipe's other end open until it is dropped here.
    drop(command);
    Ok((child, listen(said), kept))
}

/// Reads to the end and then gives the last [`KEPT`] bytes.
fn listen(mut pipe: PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut last = VecDeque::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            last.extend(&buffer[..count]);
            last.drain(..last.len().saturating_sub(KEPT));
        }
        // Nobody listens any more where the parent gave up waiting.
        let _ = sender.send(last.into());
    });
    receiver
}

/// Passes SIGTERM and SIGHUP on to the child while it is `alive`; SIGINT and SIGQUIT came from the terminal, to both.
fn pass_on(signals: SigSet, alive: Arc<Mutex<Option<Pid>>>) {
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            let child = alive.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(child), Signal::SIGTERM | Signal::SIGHUP) = (*child, signal) {
                // It may have ended this very moment, which is what was asked for.
                let _ = kill(child, signal);
            }
        }
    });
}

/// What the child's end means: its exit code; its signal again, where somebody asked for the end; else the one line.
fn verdict(args: &Args, status: ExitStatus, said: &[u8]) -> ExitCode {
    let Some(number) = status.signal() else {
        output::pass(said);
        return ExitCode::from(status.code().map_or(2, |code| code as u8));
    };
    let signal = Signal::try_from(number);
    if let Ok(asked @ (Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGPIPE)) = signal
    {
        output::pass(said);
        let _ = nix::sys::signal::raise(asked);
        // Only where the signal is ignored.
        return ExitCode::from(128u8.saturating_add(number as u8));
    }
    let name = signal.map_or_else(|_| format!("signal {number}"), |s| s.to_string());
    output::note(&format!("error: {}", last_words(args, &name, said)));
    ExitCode::from(2)
}

/// The line for a process that was ended by the signal called `name`, having `said` something.
fn last_words(args: &Args, name: &str, said: &[u8]) -> String {
    let (job, model, is_kept) = args.command.what_runs();
    let text = String::from_utf8_lossy(said);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(brief);
    let reason = last.map_or_else(String::new, |line| format!(": {line}"));
    let ended = match name {
        "SIGKILL" => format!(
            "pellucid {job} {model} was killed (SIGKILL), by someone or by the system for want of memory, which --memory bounds"
        ),
        _ => format!("the engine died while it ran pellucid {job} {model} ({name}{reason})"),
    };
    let next = match (is_kept, name) {
        (true, _) => "what was finished is kept, and the same command goes on from there",
        (false, "SIGKILL") => "the same command does it again",
        (false, _) => {
            "nothing was finished; where it happens again, the model is damaged or --onnxruntime must name another version"
        }
    };
    format!("{ended}; {next}")
}

/// A line's last characters, fit for a terminal: in an assertion they are what failed.
fn brief(line: &str) -> String {
    const SHOWN: usize = 200;
    let skipped = line.chars().count().saturating_sub(SHOWN);
    let end: String = line.chars().skip(skipped).collect();
    let shown = printable::name(&end);
    if skipped > 0 { format!("…{shown}") } else { shown.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn line(words: &[&str], name: &str, said: &str) -> String {
        last_words(&Args::parse_from(words), name, said.as_bytes())
    }

    #[test]
    fn the_line_names_the_job_the_model_and_what_is_kept() {
        let scan = line(&["pellucid", "scan", "net.onnx", "data"], "SIGABRT", "warned\n\nvector: Assertion failed.\n");
        assert_eq!(
            scan,
            "the engine died while it ran pellucid scan net.onnx (SIGABRT: vector: Assertion failed.); what was finished is kept, \
             and the same command goes on from there"
        );
        let inspect = line(&["pellucid", "inspect", "a\x1b[31m.onnx"], "SIGSEGV", "");
        assert!(inspect.contains("pellucid inspect a\\u{1b}[31m.onnx (SIGSEGV);"), "{inspect}");
        assert!(!inspect.contains("is kept"), "{inspect}");
        let explain = line(&["pellucid", "diffusion", "explain", "pipe", "a cat"], "SIGKILL", "");
        assert!(explain.starts_with("pellucid diffusion explain pipe was killed") && explain.contains("is kept"));
    }

    #[test]
    fn of_a_long_message_the_end_is_shown() {
        let long = format!("{}Assertion 'x < y' failed.", "template<int> ".repeat(100));
        let shown = line(&["pellucid", "scan", "m", "d"], "SIGABRT", &long);
        assert!(shown.chars().count() < 420 && shown.contains("… template") || shown.contains("Assertion 'x < y'"));
        assert!(shown.contains("Assertion 'x < y' failed."), "{shown}");
    }

    #[test]
    fn only_open_descriptors_beside_the_standard_ones_are_taken_over() {
        let (a, b) = io::pipe().unwrap();
        let of = |x: RawFd, y: RawFd| descriptors(&format!("{x},{y}"));
        assert_eq!(of(a.as_raw_fd(), b.as_raw_fd()), Some([a.as_raw_fd(), b.as_raw_fd()]));
        for wrong in
            [of(1, 2), of(a.as_raw_fd(), a.as_raw_fd()), of(a.as_raw_fd(), 9999), descriptors(""), descriptors("x,y")]
        {
            assert_eq!(wrong, None);
        }
    }
}
