//! Finding and loading ONNX Runtime's shared library.
//!
//! The library is code that runs with all rights of the process, so only few places are searched, none of which depends on
//! the current folder ([`find_library`] lists them), and what is found there must be beyond the reach of other accounts
//! ([`Doubt`]). What the user names is taken as it is, with a warning.
//!
//! The library's own telemetry is off from its first instruction ([`Runtime::load`] says how).

use crate::device::Device;
use crate::trust::{Doubt, examine};
use pellucid_guard::Setting;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

const FILE_NAME: &str = if cfg!(target_os = "windows") {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// The variable that keeps ONNX Runtime from collecting and sending anything, read when the library starts.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// Why ONNX Runtime is not there.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Nothing was found.
    #[error("ONNX Runtime was not found; looked in: {}; {}, or name the library with {onnxruntime:#} or ORT_DYLIB_PATH", .0.join(", "), install(), onnxruntime = Setting::OnnxRuntime)]
    NotFound(Vec<String>),
    /// The named file does not exist.
    #[error(
        "{from} names {path}, where no ONNX Runtime library is; expected the file {FILE_NAME} or a folder that holds it; \
         correct the path, or leave {from} out and {}; in a checkout, `make setup` fetches the one that its tests use",
        install()
    )]
    NotThere {
        /// Who named it.
        from: String,
        /// The path.
        path: PathBuf,
    },
    /// The library was found where nobody named it, and others than the user decide what it holds.
    #[error(
        "ONNX Runtime is not loaded from {path}: {}; whoever can write there would decide what runs here; {}or, if you trust \
         them, name the library with {onnxruntime} or ORT_DYLIB_PATH",
        each(.doubts), remedy(.doubts), onnxruntime = Setting::OnnxRuntime)]
    Untrusted {
        /// The library, as it was found.
        path: PathBuf,
        /// What speaks against it; never empty.
        doubts: Vec<Doubt>,
    },
    /// The library does not load.
    #[error("{path} does not load as ONNX Runtime: {reason}; version 1.24 or newer is needed")]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// Another library is in use by this process.
    #[error("ONNX Runtime is already loaded from {0}; one process uses one library")]
    AlreadyLoaded(PathBuf),
}

/// What installs the library, for whatever Python `pip` belongs to.
fn install() -> String {
    let checkout = "in a checkout of pellucid, `make build` puts it beside the command";
    match data_folder() {
        Some(folder) => {
            format!("install it with `pip install --no-deps --target '{}' onnxruntime` ({checkout})", folder.display())
        }
        None => format!("activate a virtual environment and `pip install onnxruntime` there ({checkout})"),
    }
}

fn each(doubts: &[Doubt]) -> String {
    doubts.iter().map(Doubt::to_string).collect::<Vec<_>>().join(", ")
}

fn remedy(doubts: &[Doubt]) -> String {
    let commands: Option<Vec<String>> = doubts.iter().map(Doubt::remedy).collect();
    match commands {
        Some(commands) => format!("take that right from them (`{}`) ", commands.join("; ")),
        None => "install one of your own ".to_owned(),
    }
}

/// A library, found and not yet loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLibrary {
    /// The file, without links.
    pub path: PathBuf,
    /// What the user should know before it is loaded, a line each: others can write where the library lies that the user
    /// named. Empty for one found by itself, which is refused instead.
    pub warnings: Vec<String>,
}

/// ONNX Runtime, loaded. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) environment: ort::environment::Environment,
    path: PathBuf,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("path", &self.path).finish()
    }
}

static LOADED: OnceLock<Mutex<Option<Runtime>>> = OnceLock::new();

impl Runtime {
    /// Loads ONNX Runtime from `explicit` (a file, or a folder that holds it), or from the first place where
    /// [`find_library`] sees it. The library is loaded once per process; later calls return the same one.
    ///
    /// The wheels of ONNX Runtime 1.29 and later collect and send telemetry from the moment they are opened, unless the
    /// environment holds `ORT_DISABLE_TELEMETRY=1`. Where the variable says anything, nothing is touched (`0` lets it); where
    /// it does not, the first call sets it, once per process. Changing the environment is safe only while no other thread
    /// reads or changes it outside Rust's standard library (C code that calls `getenv`): **call this before starting such
    /// threads, or start the process with the variable set**.
    pub fn load(explicit: Option<&Path>) -> Result<Self, LibraryError> {
        let slot = LOADED.get_or_init(|| Mutex::new(None));
        let mut loaded = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return match explicit.map(|p| named(Setting::OnnxRuntime.to_string(), p)).transpose()? {
                Some(found) if found.path != runtime.path => Err(LibraryError::AlreadyLoaded(runtime.path.clone())),
                _ => Ok(runtime.clone()),
            };
        }
        let FoundLibrary { path, warnings } = find_library(explicit)?;
        let load = |reason: String| LibraryError::Load { path: path.clone(), reason };
        disable_telemetry();
        let builder = ort::init_from(&path).map_err(|e| load(e.to_string()))?;
        // A library of a platform whose telemetry takes no variable (Windows) is told as well.
        let environment =
            builder.with_name("pellucid").with_telemetry(false).build().map_err(|e| load(e.to_string()))?;
        environment.set_log_level(ort::logging::LogLevel::Fatal);
        let runtime = Self { environment, path, warnings };
        tracing::info!(version = %runtime.version(), path = %runtime.path.display(), "ONNX Runtime is loaded");
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// What the user should know of where the library comes from, a line each: see [`FoundLibrary::warnings`].
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The library in use.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version, for example `1.32.0`.
    pub fn version(&self) -> String {
        version_of(&self.path).unwrap_or_else(|| "unknown".to_owned())
    }

    /// Whether this build can run on `device`.
    pub fn supports(&self, device: Device) -> bool {
        use ort::ep::{CUDA, CoreML, DirectML, ExecutionProvider, TensorRT};
        match device {
            Device::Auto | Device::Cpu => true,
            Device::Cuda(_) => CUDA::is_available().unwrap_or(false),
            Device::TensorRt(_) => TensorRT::is_available().unwrap_or(false),
            Device::CoreMl => CoreML::is_available().unwrap_or(false),
            Device::DirectMl(_) => DirectML::is_available().unwrap_or(false),
        }
    }
}

/// The version that the library at `path` reports: only its C entry point says it, the build string does not.
fn version_of(path: &Path) -> Option<String> {
    // SAFETY: the library is ONNX Runtime and already loaded by this process, so opening it again runs no new
    // initialiser; `OrtGetApiBase` has this signature in every release; the base and the version are static.
    #[allow(unsafe_code)]
    let text = unsafe {
        let library = libloading::Library::new(path).ok()?;
        let entry: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
            library.get(b"OrtGetApiBase").ok()?;
        let base = entry().as_ref()?;
        std::ffi::CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned()
    };
    Some(text)
}

/// Keeps ONNX Runtime's telemetry from starting; [`Runtime::load`] says what its callers must know.
fn disable_telemetry() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(NO_TELEMETRY).is_some_and(|value| !value.is_empty()) {
            return;
        }
        // SAFETY: once per process and before the library, whose threads read the environment, is opened; the standard
        // library's own readers share a lock with this. That no other C code reads the environment at this moment is the
        // documented duty of whoever calls `Runtime::load` first.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(NO_TELEMETRY, "1");
        }
    });
}

/// Where the library is. What the user names comes first: `explicit`, then the variable `ORT_DYLIB_PATH`. Else the first of
/// these that holds one decides:
///
/// 1. the executable's folder, its `lib`, `../lib` and `../lib/pellucid`;
/// 2. the active Python environment's `onnxruntime`: `VIRTUAL_ENV`, `CONDA_PREFIX`; and that of each `python3` which `PATH`
///    leads to, with what its user and its system installed for it;
/// 3. the user's data folder, `$XDG_DATA_HOME/pellucid` or `~/.local/share/pellucid`, which `make install` fills;
/// 4. the system's library folders.
///
/// Neither the current folder nor those above it or above the executable take part, and relative entries of the variables
/// are left out. A library that the user named is taken with [warnings](FoundLibrary::warnings) if others can write where
/// it lies; activating an environment (`VIRTUAL_ENV`, `CONDA_PREFIX`) names it, a `python3` on `PATH` does not. One found by
/// itself is then [refused](LibraryError::Untrusted), without going on to the next place: another library than the one
/// meant should not run unseen.
pub fn find_library(explicit: Option<&Path>) -> Result<FoundLibrary, LibraryError> {
    if let Some(path) = explicit {
        return named(Setting::OnnxRuntime.to_string(), path);
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return named("ORT_DYLIB_PATH".to_owned(), Path::new(&path));
    }
    let first = places().into_iter().find_map(|place| Some((library_in(&place.folder)?, place.named)));
    let (file, named) = first.ok_or_else(|| LibraryError::NotFound(LOOKED_IN.map(str::to_owned).to_vec()))?;
    accept(&file, named)
}

fn named(from: String, path: &Path) -> Result<FoundLibrary, LibraryError> {
    let file = if path.is_file() { Some(path.to_owned()) } else { library_in(path) };
    match file {
        Some(file) => accept(&file, Some(&from)),
        None => Err(LibraryError::NotThere { from, path: path.to_owned() }),
    }
}

/// `file`, with warnings where `named` says that the user named it, and only if nothing speaks against it elsewhere.
fn accept(file: &Path, named: Option<&str>) -> Result<FoundLibrary, LibraryError> {
    let unreadable = |e: std::io::Error| LibraryError::Load { path: file.to_owned(), reason: e.to_string() };
    // Providers (CUDA, TensorRT) are opened from the library's real folder.
    let place = file.canonicalize().map_err(unreadable)?;
    let beside: Vec<PathBuf> = place.parent().map(libraries_in).unwrap_or_default();
    let (path, doubts) = examine(file, &beside).map_err(unreadable)?;
    let warnings = match named {
        _ if doubts.is_empty() => Vec::new(),
        None => return Err(LibraryError::Untrusted { path: file.to_owned(), doubts }),
        Some(from) => {
            let file = file.display();
            let warn =
                |doubt| format!("{from} names {file}, but {doubt}: whoever can write there decides what runs here");
            doubts.iter().map(warn).collect()
        }
    };
    Ok(FoundLibrary { path, warnings })
}

/// The library in `folder`: by its plain name, or with a version behind it, as wheels and packages carry it.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let stem = FILE_NAME.trim_end_matches(".dylib");
    let is_library = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem));
    libraries_in(folder).into_iter().find(is_library)
}

/// ONNX Runtime's files in `folder`, the library and its providers, sorted.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let stem = FILE_NAME.split('.').next().unwrap_or(FILE_NAME);
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(stem)) && p.is_file());
    found.sort();
    found
}

/// What [`find_library`] says of where it looked; [`places`] in words.
const LOOKED_IN: [&str; 5] = [
    "ORT_DYLIB_PATH",
    "the executable's folder, its lib, ../lib and ../lib/pellucid",
    "the active Python's onnxruntime",
    "the user's data folder",
    "the system's library folders",
];

/// A folder that is searched.
struct Place {
    folder: PathBuf,
    /// What named it, where the user did.
    named: Option<&'static str>,
}

/// The folders that are searched, in order, all of them absolute.
fn places() -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |named: Option<&'static str>, folders: Vec<PathBuf>| {
        places.extend(folders.into_iter().filter(|f| f.is_absolute()).map(|folder| Place { folder, named }));
    };
    let executable = std::env::current_exe().ok().and_then(|e| e.parent().map(Path::to_path_buf));
    let around = |folder: PathBuf| {
        let above = folder.parent().map(|prefix| prefix.join("lib"));
        let above = above.into_iter().flat_map(|lib| [lib.clone(), lib.join("pellucid")]);
        [folder.clone(), folder.join("lib")].into_iter().chain(above).collect()
    };
    add(None, executable.map(around).unwrap_or_default());
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        let root = std::env::var_os(variable).map(PathBuf::from);
        add(Some(variable), root.as_deref().map(site_packages).unwrap_or_default());
    }
    for folder in std::env::var_os("PATH").iter().flat_map(std::env::split_paths).filter(|f| f.is_absolute()) {
        add(None, of_python(&folder.join("python3")));
    }
    add(None, data_folder().map(|folder| vec![folder.join("onnxruntime").join("capi"), folder]).unwrap_or_default());
    let system =
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    add(None, system.into_iter().chain(["/opt/homebrew/lib"]).map(PathBuf::from).collect());
    places
}

/// Where packages of the interpreter `python` lie: beside the name and beside the file that it leads to (an environment
/// that is not activated), in `/usr/local` for the system's, and in the user's own folder.
fn of_python(python: &Path) -> Vec<PathBuf> {
    let Ok(file) = python.canonicalize() else { return Vec::new() };
    let root = |path: &Path| path.parent().and_then(Path::parent).map(Path::to_path_buf);
    let mut roots: Vec<PathBuf> = [python, &file].into_iter().filter_map(root).collect();
    if roots.iter().any(|root| root == Path::new("/usr")) {
        roots.push("/usr/local".into());
    }
    roots.extend(std::env::home_dir().map(|home| home.join(".local")));
    roots.iter().flat_map(|root| site_packages(root)).collect()
}

/// The user's data folder for pellucid.
fn data_folder() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let own = || Some(std::env::home_dir().filter(|home| home.is_absolute())?.join(".local").join("share"));
    Some(given.or_else(own)?.join("pellucid"))
}

/// `<root>/lib/python3.*/{site,dist}-packages/onnxruntime/capi` and Windows' `<root>/Lib/site-packages/…`, sorted.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    let mut pythons: Vec<PathBuf> =
        std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    pythons.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("python3")));
    pythons.push(root.join("Lib"));
    pythons.sort();
    pythons
        .into_iter()
        .flat_map(|p| ["site-packages", "dist-packages"].map(|s| p.join(s).join("onnxruntime").join("capi")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_without_the_library_is_an_error_that_says_who_named_it() {
        let empty = std::env::temp_dir().join("pellucid-no-runtime-here");
        let message = find_library(Some(&empty)).unwrap_err().to_string();
        assert!(message.contains("`onnxruntime`") && message.contains("pellucid-no-runtime-here"), "{message}");
    }

    #[test]
    fn the_error_says_the_command_that_installs_it() {
        let message = LibraryError::NotFound(vec!["nowhere".into()]).to_string();
        assert!(message.contains("pip install") && message.contains("make build"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }

    #[test]
    fn a_refusal_names_what_can_be_written_and_the_command_that_closes_it() {
        let open = Doubt::Everyone { path: "/lab".into(), mode: 0o777 };
        let foreign = Doubt::Owner { path: "/lab/x".into(), owner: 7, user: 8 };
        let refusal =
            |doubts: &[Doubt]| LibraryError::Untrusted { path: "/lab/x".into(), doubts: doubts.to_vec() }.to_string();
        let message = refusal(std::slice::from_ref(&open));
        assert!(
            message.contains("every user can write /lab (mode 0777)") && message.contains("`chmod go-w /lab`"),
            "{message}"
        );
        let message = refusal(&[open, foreign]);
        assert!(message.contains("user 7") && message.contains("install one of your own"), "{message}");
    }

    #[test]
    fn no_place_that_is_searched_depends_on_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        let above: Vec<&Path> = here.ancestors().collect();
        for place in places() {
            assert!(place.folder.is_absolute(), "{}", place.folder.display());
            assert!(!place.folder.ends_with(".runtime") && !above.contains(&place.folder.as_path()));
        }
    }
}
