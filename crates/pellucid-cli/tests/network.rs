//! No network, and no file outside the folders that a run is told to use: each main command under `strace`, with a fresh
//! home, one of them held for longer than ONNX Runtime's telemetry waits before it sends (it looked a name up after 30 s).
//!
//! Without `strace` the tests are skipped and say so; continuous integration installs it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A test that fails here says where.

#[allow(dead_code)] // Other tests use the rest of it.
#[path = "command/stage.rs"]
mod stage;

use stage::{RED, Stage, repository};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What is traced: all of the network, and every call that can make, change or remove a file by its name. A name with `?`
/// is one that not every architecture has.
const TRACED: &str = "trace=%network,openat,?openat2,?open,?creat,?mkdir,mkdirat,?mknod,mknodat,?rename,?renameat,?renameat2,\
                      ?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,truncate,?chmod,fchmodat,?chown,fchownat";

/// Folders on the stage that a run may write: results, its temporary files, and what the command line names.
const ALLOWED: [&str; 3] = ["runs", "tmp", "out"];

/// Whether `strace` works here; says that the test is skipped where it does not.
fn traceable() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let works = works.is_ok_and(|status| status.success());
    if !works {
        eprintln!("skipped: this test needs strace (apt-get install strace)");
    }
    works
}

/// A stage with pictures, an empty home and a folder for temporary files.
fn set() -> Stage {
    let stage = Stage::with_mistakes();
    for folder in ["home", "tmp", "out", "trace"] {
        std::fs::create_dir(stage.at(folder)).unwrap();
    }
    stage
}

/// `pellucid` with these arguments under `strace`, a file for each thread in `trace/`.
fn traced(stage: &Stage, arguments: &[&str]) -> Command {
    for old in std::fs::read_dir(stage.at("trace")).unwrap() {
        std::fs::remove_file(old.unwrap().path()).unwrap();
    }
    let mut command = Command::new("strace");
    command.args(["-ff", "-y", "-s", "4096", "-e", TRACED, "-e", "signal=none", "-o"]).arg(stage.at("trace/thread"));
    command.arg(env!("CARGO_BIN_EXE_pellucid")).args(arguments).current_dir(stage.path()).stdin(Stdio::null());
    command.env("HOME", stage.at("home")).env("TMPDIR", stage.at("tmp")).env_remove("ORT_DISABLE_TELEMETRY");
    for variable in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// Every traced call of the last command.
fn calls(stage: &Stage) -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(stage.at("trace")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let text = |file: &PathBuf| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    files.iter().flat_map(|file| text(file).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The calls among `calls` that go to the network, or that would make, change or remove a file which lies neither below one
/// of `allowed` nor is a terminal or the like. Relative names are those of `folder`.
fn reaching_out<'a>(calls: &'a [String], folder: &Path, allowed: &[PathBuf]) -> Vec<&'a str> {
    let fine = |call: &&str| {
        let families: Vec<&str> =
            call.split("AF_").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect();
        if !families.is_empty() {
            return families.iter().all(|family| ["UNIX", "LOCAL"].contains(family));
        }
        let Some((name, arguments)) = call.split_once('(') else { return true };
        let opens = name.starts_with("open");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| arguments.contains(flag));
        // Those of the network that name no family work on a socket that one with a family made.
        if opens && !writes || !names_a_file(name) {
            return true;
        }
        paths(arguments, folder).iter().all(|path| {
            let device = ["/dev/null", "/dev/tty"].iter().any(|device| path == Path::new(device));
            device || allowed.iter().any(|folder| path.starts_with(folder))
        })
    };
    calls.iter().map(String::as_str).filter(|call| !fine(call)).collect()
}

/// Whether the traced call `name` takes the name of a file.
fn names_a_file(name: &str) -> bool {
    [
        "open", "creat", "mk", "rename", "link", "symlink", "unlink", "rmdir", "truncate", "chmod", "chown",
        "fchmodat", "fchownat",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

/// The files that a call names: each quoted name, relative to the descriptor before it (`5</folder>`) or to `folder`.
fn paths(arguments: &str, folder: &Path) -> Vec<PathBuf> {
    let parts: Vec<&str> = arguments.split('"').collect();
    let named = parts.iter().skip(1).step_by(2).zip(parts.iter().step_by(2));
    named
        .map(|(name, before)| {
            let base =
                before.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(base, _)| Path::new(base));
            let whole = base.unwrap_or(folder).join(name);
            whole.components().fold(PathBuf::new(), |mut path, part| {
                match part {
                    Component::ParentDir => _ = path.pop(),
                    part => path.push(part),
                }
                path
            })
        })
        .collect()
}

/// Expects that the traced command loaded ONNX Runtime, and that it reached for nothing it was not told to.
fn kept_to_itself(stage: &Stage, what: &str, status: ExitStatus) {
    assert!(status.success(), "{what}: {status}");
    let calls = calls(stage);
    assert!(calls.iter().any(|c| c.contains("libonnxruntime") && !c.contains("= -1")), "{what} loaded no ONNX Runtime");
    let allowed = ALLOWED.map(|folder| stage.path().canonicalize().unwrap().join(folder));
    let reached = reaching_out(&calls, &stage.path().canonicalize().unwrap(), &allowed);
    assert!(reached.is_empty(), "{what}:\n{}", reached.join("\n"));
    assert_eq!(std::fs::read_dir(stage.at("home")).unwrap().count(), 0, "{what} left something in the home folder");
}

#[test]
fn no_command_opens_a_socket_or_writes_outside_its_folders() {
    if !traceable() {
        return;
    }
    let stage = set();
    let x = ndarray::ArrayD::<f32>::zeros(ndarray::IxDyn(&[1, 3, 8, 8]));
    let arrays = std::collections::BTreeMap::from([("x".to_owned(), pellucid::internals::runtime::Array::F32(x))]);
    pellucid::write_arrays(stage.at("x.npz"), &arrays).unwrap();
    stage.many();
    let pipeline = repository("zoo/models/tiny_diffusion").display().to_string();
    let picture = "data/red/0.png";
    for arguments in [
        &["inspect", "model.onnx", "--gradients"][..],
        &["scan", "model.onnx", "data"],
        &["debug", "model.onnx", "data"],
        &["repair", "model.onnx", "many", "--class", "blue", "--neurons", "2"],
        &["why", "model.onnx", picture, "--out", "out/why"],
        &["attribute", "model.onnx", picture, "--neuron", "0", "--out", "out/attribute"],
        &["gradient", "model.onnx", "--input", "x.npz", "--out", "out/g.npz", "--graph", "out/g.onnx"],
        &["visualize", "model.onnx", "--neuron", "0", "--steps", "2"],
        &["diffusion", "explain", &pipeline, "a cat", "--steps", "1", "--masks", "10"],
    ] {
        let output = traced(&stage, arguments).output().unwrap();
        let what = format!("{}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        kept_to_itself(&stage, &what, output.status);
    }
}

#[test]
fn a_minute_with_the_library_open_goes_by_without_the_network() {
    if !traceable() {
        return;
    }
    const HELD: Duration = Duration::from_secs(62);
    // The command waits, with the library loaded, for somebody to read its result from a pipe that is full.
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let capacity = rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    writer.write_all(&vec![b' '; capacity]).unwrap();
    let stage = set();
    let begun = Instant::now();
    let mut command = traced(&stage, &["inspect", "model.onnx", "--gradients", "--json"]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    drop(command); // And with it the pipe's other end in this process.
    std::thread::sleep(HELD);
    assert!(child.try_wait().unwrap().is_none(), "it ended before anybody read its result");
    let mut result = String::new();
    reader.read_to_string(&mut result).unwrap();
    kept_to_itself(&stage, "inspect, held for a minute", child.wait().unwrap());
    assert!(begun.elapsed() >= HELD && result.contains("\"logits_w\""), "{result}");
}

#[test]
fn an_address_in_a_table_or_a_model_is_never_opened() {
    if !traceable() {
        return;
    }
    let stage = set();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = traced(&stage, arguments).output().unwrap();
        let calls = calls(&stage);
        let allowed = ALLOWED.map(|folder| stage.path().canonicalize().unwrap().join(folder));
        let reached = reaching_out(&calls, &stage.path().canonicalize().unwrap(), &allowed);
        assert!(reached.is_empty(), "{arguments:?}:\n{}", reached.join("\n"));
        stage::Ran::of(output).refused(parts);
    };
    stage.picture("tables/a.png", RED, 0);
    stage.write("tables/web.csv", "file_name,label\nhttp://localhost/a.png,red\ns3://bucket/b.png,blue\n");
    stage.write("tables/web.jsonl", "{\"file_name\": \"https://localhost/a.png\", \"label\": \"red\"}\n");
    let say = ["are addresses", "never opened", "fetch the files"];
    refused(&["scan", "model.onnx", "tables/web.csv"], &[&say[..], &["http://localhost/a.png"]].concat());
    refused(&["scan", "model.onnx", "tables/web.jsonl"], &[&say[..], &["https://localhost/a.png"]].concat());
    refused(&["scan", "http://localhost/model.onnx", "data"], &["http://localhost/model.onnx", "No such file"]);
    refused(&["scan", "model.onnx", "http://localhost/data"], &["http://localhost/data", "No such file"]);
    stage.write(
        "remote/denoiser.toml",
        "model = \"http://localhost/denoiser.onnx\"\nshape = [3, 8, 8]\n[inputs]\nsample = \"x\"\ntime = \"t\"\n[schedule]\n\
         beta_schedule = \"linear\"\n",
    );
    refused(&["diffusion", "explain", "remote", "1"], &["http://localhost/denoiser.onnx", "No such file"]);
}

/// The calls that a build made which told ONNX Runtime only after it was open, as recorded.
#[test]
fn the_calls_of_telemetry_are_seen_as_what_they_are() {
    let calls = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let (folder, allowed) = (Path::new("/stage"), [PathBuf::from("/stage/runs")]);
    let telemetry = calls(
        r#"mkdir("/stage/home/.cache/Microsoft", 0700) = 0
        openat(AT_FDCWD</stage>, "/stage/home/.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db", O_RDWR|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0644) = 3</stage/home/.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db>
        openat(6</stage/home/.cache/Microsoft/DeveloperTools/.onnxruntime>, "deviceid.tmp.c9ba908d", O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600) = 7
        openat(AT_FDCWD</stage>, "/tmp/.ses", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 6</tmp/.ses>
        socket(AF_INET6, SOCK_DGRAM, IPPROTO_IP) = 8<socket:[35705]>
        socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 8<socket:[35714]>
        connect(8<socket:[35714]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.53")}, 16) = 0
        socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 8
        openat(AT_FDCWD</stage>, "runs/../elsewhere", O_WRONLY|O_CREAT, 0666) = 3
        rename("runs/a", "home/a") = 0
        unlinkat(3</stage>, "data", AT_REMOVEDIR) = -1 ENOTEMPTY (Directory not empty)"#,
    );
    assert_eq!(reaching_out(&telemetry, folder, &allowed), telemetry);
    let own = calls(
        r#"openat(AT_FDCWD</stage>, "/usr/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3
        openat(AT_FDCWD</stage>, "runs/x/report.html", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 3</stage/runs/x/report.html>
        mkdir("runs", 0777) = 0
        rename("/stage/runs/.a", "/stage/runs/a") = 0
        openat(AT_FDCWD</stage>, "/dev/null", O_RDWR) = 3</dev/null>
        socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, [3, 4]) = 0
        connect(8<socket:[35709]>, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT
        +++ exited with 0 +++"#,
    );
    assert_eq!(reaching_out(&own, folder, &allowed), Vec::<&str>::new());
}
