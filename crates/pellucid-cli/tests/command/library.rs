//! Where ONNX Runtime comes from: never from a folder that somebody else can fill.

use crate::stage::{Ran, Stage, colours};
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library that leaves a trace when it is opened, before anything of it is asked for.
const PLANTED: &str = r#"
    extern "C" fn run() {
        std::fs::write(std::env::var("PLANTED_TRACE").unwrap(), "the planted library ran").unwrap();
    }
    #[used]
    #[unsafe(link_section = ".init_array")]
    static RUN: extern "C" fn() = run;
"#;

/// A home with the command in `tools/bin`, a copy of the honest library in `honest`, and a model in `lab/project`, where one
/// works.
struct House {
    stage: Stage,
}

impl House {
    fn new() -> Self {
        let house = Self { stage: Stage::new() };
        let (command, honest) = (house.folder("tools/bin").join("pellucid"), house.folder("honest"));
        let built = Path::new(env!("CARGO_BIN_EXE_pellucid"));
        std::fs::hard_link(built, &command).or_else(|_| std::fs::copy(built, &command).map(drop)).unwrap();
        std::fs::copy(library(), honest.join("libonnxruntime.so.1")).unwrap();
        house.set("honest/libonnxruntime.so.1", 0o644);
        colours(None).write(house.folder("lab/project").join("model.onnx")).unwrap();
        house.folder("home");
        house
    }

    /// A folder that only its owner can write, like all those above it.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.stage.at(name);
        DirBuilder::new().recursive(true).mode(0o755).create(&path).unwrap();
        path
    }

    fn set(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.stage.at(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Makes `folder` hold the honest library.
    fn install(&self, folder: &str) {
        symlink(self.stage.at("honest/libonnxruntime.so.1"), self.folder(folder).join("libonnxruntime.so")).unwrap();
    }

    /// `pellucid inspect model.onnx`, where one works, in an environment that holds a home and nothing else.
    fn inspect(&self) -> Command {
        let mut command = Command::new(self.stage.at("tools/bin/pellucid"));
        command.args(["inspect", "model.onnx"]).current_dir(self.stage.at("lab/project"));
        command.env_clear().env("HOME", self.stage.at("home")).env("PLANTED_TRACE", self.stage.at("trace"));
        command
    }

    fn ran(&self, set: impl Fn(&mut Command)) -> Ran {
        let mut command = self.inspect();
        set(&mut command);
        Ran::of(command.output().unwrap())
    }
}

/// How a user names a library: what the warning calls it, and what does it.
type Way<'a> = (&'a str, &'a dyn Fn(&mut Command));

/// The library that the tests use.
fn library() -> PathBuf {
    let named = PathBuf::from(std::env::var_os("ORT_DYLIB_PATH").expect("cargo sets it (.cargo/config.toml)"));
    if named.is_file() {
        return named;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(named).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.file_name().unwrap().to_string_lossy().starts_with("libonnxruntime.so"));
    files.remove(0)
}

#[test]
#[cfg(target_os = "linux")]
fn a_planted_library_runs_from_no_folder() {
    let house = House::new();
    house.stage.write("planted.rs", PLANTED);
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let built = Command::new(rustc)
        .args(["--crate-type", "cdylib", "--edition", "2024", "-o", "planted.so", "planted.rs"])
        .current_dir(house.stage.path())
        .status();
    assert!(built.unwrap().success());
    let plant = |folder: &str| {
        std::fs::copy(house.stage.at("planted.so"), house.folder(folder).join("libonnxruntime.so")).unwrap();
    };
    let trace = house.stage.at("trace");

    // Where one works, above it, and above the command.
    for folder in ["lab/project", "lab", "", "tools"] {
        for below in ["", ".runtime", "lib/pellucid", "pellucid", "onnxruntime/capi"] {
            plant(Path::new(folder).join(below).to_str().unwrap());
        }
    }
    for folder in ["lab/project/lib", "lab/lib", "lib", "tools/bin/.runtime"] {
        plant(folder);
    }
    std::fs::remove_dir_all(house.stage.at("tools/lib")).unwrap(); // The command's own ../lib is its user's to fill.
    // What relative entries of the environment would lead to.
    plant("lab/project/lib/python3.12/site-packages/onnxruntime/capi");
    plant("lab/project/share/pellucid");
    house.stage.write("lab/project/python3", "");
    house.stage.write("lab/project/bin/python3", "");
    let relative = |c: &mut Command| {
        c.envs([("PATH", ":.:bin"), ("VIRTUAL_ENV", "."), ("CONDA_PREFIX", ""), ("XDG_DATA_HOME", "share")]);
        c.env("LD_LIBRARY_PATH", "");
    };

    for set in [&|_: &mut Command| (), &relative as &dyn Fn(&mut Command)] {
        house.ran(set).refused(&["ONNX Runtime was not found", "system's library folders"]);
        assert!(!trace.exists(), "it ran with none installed");
    }
    house.install("home/.local/share/pellucid");
    for set in [&|_: &mut Command| (), &relative as &dyn Fn(&mut Command)] {
        house.ran(set).fine();
        assert!(!trace.exists(), "it ran before the installed one");
    }

    // That it would leave a trace if it were opened.
    house.ran(|c| _ = c.args(["--onnxruntime", "../.runtime"])).refused(&["does not load as ONNX Runtime"]);
    assert!(trace.exists());
}

#[test]
fn the_library_is_found_in_each_place_that_is_its_users() {
    let python = "lib/python3.12/site-packages/onnxruntime/capi";
    let set = |variable: &'static str, folder: &'static str| Some((variable, folder));
    for (folder, variable) in [
        ("tools/bin", None),
        ("tools/bin/lib", None),
        ("tools/lib", None),
        ("tools/lib/pellucid", None),
        ("home/.local/share/pellucid", None),
        ("home/.local/share/pellucid/onnxruntime/capi", None), // As `pip install --target` leaves it.
        ("elsewhere/pellucid", set("XDG_DATA_HOME", "elsewhere")),
        (&format!("venv/{python}"), set("VIRTUAL_ENV", "venv")),
        (&format!("venv/{python}"), set("CONDA_PREFIX", "venv")),
        (&format!("venv/{python}"), set("PATH", "venv/bin")),
    ] {
        let house = House::new();
        let run = || {
            house.ran(|c| {
                if let Some((variable, below)) = variable {
                    c.env(variable, house.stage.at(below));
                }
            })
        };
        std::fs::write(house.folder("venv/bin").join("python3"), "").unwrap();
        run().refused(&["was not found"]);
        house.install(folder);
        let ran = run().fine();
        assert!(ran.err.is_empty(), "{folder}: {}", ran.err);
    }
}

#[test]
fn a_library_where_others_can_write_is_refused_until_they_cannot_or_it_is_named() {
    let house = House::new();
    house.install("tools/bin");
    let reach = |name: &str, mode: u32| {
        let closed = house.stage.at(name).metadata().unwrap().permissions();
        house.set(name, mode);
        closed
    };
    // Where it is found, above that, where its link leads, and the file itself.
    for name in ["tools/bin", "tools", "honest", "honest/libonnxruntime.so.1"] {
        let closed = reach(name, 0o777);
        let path = house.stage.at(name).display().to_string();
        let refused = house.ran(|_| ()).refused(&["is not loaded", "every user can write", &path, "mode 0777"]);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);

        // Each of the two ways out that the message names.
        let named = house.ran(|c| _ = c.env("ORT_DYLIB_PATH", house.stage.at("tools/bin"))).fine();
        assert!(named.err.contains("warning: ORT_DYLIB_PATH names") && named.err.contains(&path), "{}", named.err);
        let (_, after) = refused.err.split_once('`').unwrap();
        let (remedy, _) = after.split_once('`').unwrap();
        assert!(Command::new("sh").args(["-c", remedy]).status().unwrap().success(), "{remedy}");
        let ran = house.ran(|_| ()).fine();
        assert!(ran.err.is_empty(), "{}", ran.err);
        std::fs::set_permissions(house.stage.at(name), closed).unwrap();
    }
    reach("tools", 0o1777);
    house.ran(|_| ()).fine();
}

#[test]
fn a_library_that_the_user_names_is_taken_with_a_warning() {
    let house = House::new();
    let python = "venv/lib/python3.12/site-packages/onnxruntime/capi";
    house.install(python);
    let (venv, capi) = (house.stage.at("venv"), house.stage.at(python));
    let ways: [Way<'_>; 4] = [
        ("--onnxruntime", &|c| _ = c.arg("--onnxruntime").arg(&capi)),
        ("ORT_DYLIB_PATH", &|c| _ = c.env("ORT_DYLIB_PATH", capi.join("libonnxruntime.so"))),
        ("VIRTUAL_ENV", &|c| _ = c.env("VIRTUAL_ENV", &venv)),
        ("CONDA_PREFIX", &|c| _ = c.env("CONDA_PREFIX", &venv)),
    ];
    for (_, set) in ways {
        let quiet = house.ran(set).fine();
        assert!(quiet.err.is_empty(), "{}", quiet.err);
    }
    house.set("venv", 0o757);
    for (name, set) in ways {
        let ran = house.ran(set).fine();
        let expected = format!("warning: {name} names ");
        assert!(ran.err.starts_with(&expected) && ran.err.contains("every user can write"), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    // An environment that is only on the way to some `python3` was not named.
    house.stage.write("venv/bin/python3", "");
    house.ran(|c| _ = c.env("PATH", venv.join("bin"))).refused(&["is not loaded", "every user can write"]);
}

#[test]
fn a_library_of_a_third_user_is_refused_unless_it_is_named() {
    let house = House::new();
    house.install("home/.local/share/pellucid");
    if std::os::unix::fs::chown(house.stage.at("home/.local"), Some(4321), None).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    house.ran(|_| ()).refused(&["is not loaded", ".local belongs to user 4321", "install one of your own"]);
    let data = house.stage.at("home/.local/share/pellucid");
    let named = house.ran(|c| _ = c.arg("--onnxruntime").arg(&data)).fine();
    assert!(named.err.contains("warning: --onnxruntime names") && named.err.contains("user 4321"), "{}", named.err);
}
