//! Finding and loading ONNX Runtime's shared library.

use crate::device::Device;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

const FILE_NAMES: &[&str] = if cfg!(target_os = "windows") {
    &["onnxruntime.dll"]
} else if cfg!(target_os = "macos") {
    &["libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so"]
};

/// Why ONNX Runtime is not there.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Nothing was found.
    #[error(
        "ONNX Runtime was not found; looked in: {}\nInstall it with `pip install onnxruntime` (or `make setup` in a \
         checkout), or name the library with --onnxruntime PATH or ORT_DYLIB_PATH", .0.join(", ")
    )]
    NotFound(Vec<String>),
    /// The named file does not exist.
    #[error(
        "{from} names {path}, where no ONNX Runtime library is; expected the file {0} or a folder that holds it\n\
         Correct the path, or leave {from} out and install the library with `pip install onnxruntime` (or `make setup` in \
         a checkout)",
        FILE_NAMES[0]
    )]
    NotThere {
        /// Who named it.
        from: &'static str,
        /// The path.
        path: PathBuf,
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

/// ONNX Runtime, loaded. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) environment: ort::environment::Environment,
    path: PathBuf,
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
    pub fn load(explicit: Option<&Path>) -> Result<Self, LibraryError> {
        let slot = LOADED.get_or_init(|| Mutex::new(None));
        let mut loaded = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return match explicit.map(|p| named("--onnxruntime", p)).transpose()? {
                Some(path) if path != runtime.path => Err(LibraryError::AlreadyLoaded(runtime.path.clone())),
                _ => Ok(runtime.clone()),
            };
        }
        let path = find_library(explicit)?;
        let load = |reason: String| LibraryError::Load { path: path.clone(), reason };
        let builder = ort::init_from(&path).map_err(|e| load(e.to_string()))?;
        let environment =
            builder.with_name("pellucid").with_telemetry(false).build().map_err(|e| load(e.to_string()))?;
        environment.set_log_level(ort::logging::LogLevel::Fatal);
        let runtime = Self { environment, path };
        *loaded = Some(runtime.clone());
        Ok(runtime)
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

/// Where the library is: `explicit`, `ORT_DYLIB_PATH`, `.runtime/` here or in a folder above, beside the executable,
/// the active Python's site-packages, the system's library folders; in this order.
pub fn find_library(explicit: Option<&Path>) -> Result<PathBuf, LibraryError> {
    if let Some(path) = explicit {
        return named("--onnxruntime", path);
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return named("ORT_DYLIB_PATH", Path::new(&path));
    }
    let places = places();
    let found = places.iter().find_map(|folder| library_in(folder));
    found.ok_or_else(|| LibraryError::NotFound(LOOKED_IN.map(str::to_owned).to_vec()))
}

fn named(from: &'static str, path: &Path) -> Result<PathBuf, LibraryError> {
    let found = if path.is_file() { Some(path.to_owned()) } else { library_in(path) };
    let found = found.and_then(|p| p.canonicalize().ok());
    found.ok_or_else(|| LibraryError::NotThere { from, path: path.to_owned() })
}

/// The library in `folder`: by its plain name, or with a version behind it, as wheels and packages carry it.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    let stem = FILE_NAMES[0].trim_end_matches(".dylib");
    found.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(stem)) && p.is_file());
    found.sort();
    found.first().and_then(|p| p.canonicalize().ok())
}

/// What [`find_library`] says of where it looked; [`places`] in words.
const LOOKED_IN: [&str; 6] = [
    "--onnxruntime",
    "ORT_DYLIB_PATH",
    ".runtime/ here, beside the executable and in the folders above",
    "beside the executable",
    "the active Python's site-packages",
    "the system's library folders",
];

fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let executable = std::env::current_exe().ok().and_then(|e| e.parent().map(Path::to_path_buf));
    let starts = [std::env::current_dir().ok(), executable.clone()];
    for start in starts.into_iter().flatten() {
        places.extend(start.ancestors().map(|a| a.join(".runtime")));
    }
    if let Some(folder) = executable {
        places.push(folder.join("lib"));
        places.push(folder);
    }
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(root) = std::env::var_os(variable) {
            places.extend(site_packages(Path::new(&root)));
        }
    }
    for folder in std::env::var_os("PATH").iter().flat_map(std::env::split_paths) {
        if folder.join("python3").exists() {
            let real = folder.join("python3").canonicalize().ok();
            let root = real.as_deref().and_then(Path::parent).and_then(Path::parent);
            places.extend(root.into_iter().flat_map(site_packages));
        }
    }
    for folder in
        ["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/opt/homebrew/lib"]
    {
        places.push(PathBuf::from(folder));
    }
    places
}

/// `<root>/lib/python3.*/{site,dist}-packages/onnxruntime/capi` and Windows' `<root>/Lib/site-packages/…`, sorted.
fn site_packages(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut pythons: Vec<PathBuf> =
        std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    pythons.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("python3")));
    pythons.push(root.join("Lib"));
    pythons.sort();
    pythons
        .into_iter()
        .flat_map(|p| ["site-packages", "dist-packages"].map(|s| p.join(s).join("onnxruntime").join("capi")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_without_the_library_is_an_error_that_says_who_named_it() {
        let empty = std::env::temp_dir().join("pellucid-no-runtime-here");
        let message = find_library(Some(&empty)).unwrap_err().to_string();
        assert!(message.contains("--onnxruntime") && message.contains("pellucid-no-runtime-here"), "{message}");
    }

    #[test]
    fn the_error_says_the_command_that_installs_it() {
        let message = LibraryError::NotFound(vec![".runtime/".into()]).to_string();
        assert!(message.contains("pip install onnxruntime") && message.contains("make setup"), "{message}");
    }
}
