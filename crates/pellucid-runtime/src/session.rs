//! Compiled models: sessions that take and give [`Array`]s by name.
//!
//! What a model asks for is not known before it runs: compiling and running stand under a bound on memory
//! ([`crate::memory_bound`]), and the binding's own reader of types, which panics on some, behind a boundary.

use crate::array::Array;
use crate::device::Device;
use crate::library::Runtime;
use crate::memory_bound::{Bounded, for_compiling, for_run};
use ort::session::builder::GraphOptimizationLevel;
use pellucid_graph::{ElementType, Model};
use pellucid_guard::Setting;
use pellucid_guard::budget::product;
use pellucid_guard::{ByteSize, Panicked};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// How a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Device.
    pub device: Device,
    /// Threads within an operator; 0 takes the number of cores.
    pub threads: usize,
    /// Whether the runtime may rewrite the graph for speed. Off, every value is computed as the file says.
    pub optimise: bool,
    /// Whether freed memory is held for the next value. Without, the peak is what is alive at one time, and every large
    /// value costs calls of the operating system.
    pub arena: bool,
    /// Where to write a profile, if anywhere.
    pub profile: Option<PathBuf>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, threads: 0, optimise: true, arena: true, profile: None }
    }
}

impl SessionOptions {
    /// The number of threads that will be used.
    pub fn thread_count(&self) -> usize {
        if self.threads > 0 { self.threads } else { std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

/// Why a model did not compile or run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The device is not in this build of ONNX Runtime, or not on this machine.
    #[error(
        "{set_device} {device}: this ONNX Runtime cannot use it here ({reason}); use {set_device} cpu, or install onnxruntime-gpu", set_device = Setting::Device)]
    Device {
        /// The device asked for.
        device: Device,
        /// What the runtime says.
        reason: String,
    },
    /// The model does not compile.
    #[error("{model}: ONNX Runtime refuses the model: {reason}")]
    Compile {
        /// The model's path.
        model: PathBuf,
        /// What the runtime says.
        reason: String,
    },
    /// An input is missing or unknown.
    #[error("{model}: the model's inputs are {expected}; {found}")]
    Input {
        /// The model's path.
        model: PathBuf,
        /// Names of its inputs.
        expected: String,
        /// What is wrong.
        found: String,
    },
    /// The run failed.
    #[error("{model}: ONNX Runtime failed while running: {reason}")]
    Run {
        /// The model's path.
        model: PathBuf,
        /// What the runtime says.
        reason: String,
    },
    /// It takes more memory than is allowed.
    #[error(
        "{model}: {doing} takes more memory than the {} that it may have{}; raise the bound with {memory} if you trust the \
         file", ByteSize(*allowed), node.as_ref().map(|n| format!(", at the node {n}")).unwrap_or_default(), memory = Setting::Memory)]
    Memory {
        /// The model's path.
        model: PathBuf,
        /// `compiling it` or `running it`.
        doing: &'static str,
        /// The bound: [`pellucid_guard::Budget::memory`].
        allowed: u64,
        /// The node that asked for it, where the runtime says.
        node: Option<String>,
    },
    /// The binding to ONNX Runtime cannot cope with what the model made it say.
    #[error("{model}: {source}; the model declares or computes a shape that no tensor has")]
    Binding {
        /// The model's path.
        model: PathBuf,
        /// What it says.
        source: Panicked,
    },
    /// An output has a type that is not carried.
    #[error("{model}: output '{output}' has type {element}, expected float, int or bool; add a Cast to float32")]
    OutputType {
        /// The model's path.
        model: PathBuf,
        /// Name of the output.
        output: String,
        /// Its type.
        element: String,
    },
}

/// A compiled model.
pub struct Session {
    inner: ort::session::Session,
    model: PathBuf,
    inputs: Vec<String>,
    outputs: Vec<(String, Option<ElementType>)>,
    /// Bytes that a run may take; `None` is no bound.
    memory: Option<u64>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Compiles `model` (rewritten or not). Weights are read by the runtime from the files they lie in.
    pub fn session(&self, model: &Model, options: &SessionOptions) -> Result<Session, RuntimeError> {
        self.session_with(model, options, Vec::new())
    }

    /// Compiles `model` with the values of constants that were [`pellucid_graph::Tensor::given_later`].
    pub(crate) fn session_with(
        &self,
        model: &Model,
        options: &SessionOptions,
        given: Vec<(String, Array)>,
    ) -> Result<Session, RuntimeError> {
        let start = std::time::Instant::now();
        let path = model.path().to_path_buf();
        let compile = |reason: String| RuntimeError::Compile { model: path.clone(), reason: first_line(&reason) };
        let device = |reason: String| RuntimeError::Device { device: options.device, reason: first_line(&reason) };
        let level = if options.optimise { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
        let build = || -> Result<_, String> {
            let mut builder = ort::session::Session::builder(&self.environment).map_err(|e| e.to_string())?;
            builder = builder.with_intra_threads(options.thread_count()).map_err(|e| e.to_string())?;
            builder = builder.with_optimization_level(level).map_err(|e| e.to_string())?;
            // The memory plan of a run before is a second copy of the arena, and gains no time.
            builder = builder.with_memory_pattern(false).map_err(|e| e.to_string())?;
            let folder = model.folder().to_string_lossy();
            builder = builder
                .with_config_entry("session.model_external_initializers_file_folder_path", folder)
                .map_err(|e| e.to_string())?;
            if let Some(profile) = &options.profile {
                builder = builder.with_profiling(profile).map_err(|e| e.to_string())?;
            }
            Ok(builder)
        };
        if !self.supports(options.device) {
            return Err(device("its execution provider is not in this build".to_owned()));
        }
        let builder = build().map_err(compile)?;
        let mut providers = options.device.providers();
        if !options.arena {
            providers.push(ort::ep::CPU::default().with_arena_allocator(false).build());
        }
        let mut builder = if providers.is_empty() {
            builder
        } else {
            builder.with_execution_providers(providers).map_err(|e| device(e.to_string()))?
        };
        for (name, array) in given {
            let value = array.into_ort().map_err(|e| compile(e.to_string()))?;
            builder = builder.with_external_initializer(name, value).map_err(|e| compile(e.to_string()))?;
        }
        let bytes = model.to_referencing_bytes();
        let memory = model.budget().memory;
        let bounded = self.computes_on_cpu(options.device);
        let allowed = for_compiling(memory, model.graph.weight_bytes(), options.thread_count());
        let inner = {
            let bound = Bounded::by(allowed.filter(|_| bounded));
            binding(&path, || builder.commit_from_memory(&bytes))?.map_err(|e| {
                refused(&path, "compiling it", memory, &bound, &e.to_string()).unwrap_or_else(|| compile(e.to_string()))
            })?
        };
        let (inputs, outputs) = binding(&path, || {
            let inputs = inner.inputs().iter().map(|i| i.name().to_owned()).collect();
            let typed = |o: &ort::value::Outlet| (o.name().to_owned(), o.dtype().tensor_type().map(element_of));
            (inputs, inner.outputs().iter().map(typed).collect())
        })?;
        tracing::info!(
            model = %path.display(),
            device = %options.device,
            threads = options.thread_count(),
            nodes = model.graph.nodes.len(),
            seconds = start.elapsed().as_secs_f64(),
            "a graph is compiled"
        );
        Ok(Session { inner, model: path, inputs, outputs, memory: Some(memory).filter(|_| bounded) })
    }

    /// Whether values lie in memory of the process.
    fn computes_on_cpu(&self, device: Device) -> bool {
        match device {
            Device::Cpu => true,
            Device::Auto => !self.supports(Device::Cuda(0)) && !self.supports(Device::CoreMl),
            _ => false,
        }
    }
}

/// Calls the binding to ONNX Runtime, which panics on some types and shapes.
fn binding<T>(model: &Path, call: impl FnOnce() -> T) -> Result<T, RuntimeError> {
    let panicked = |mut source: Panicked| {
        // What follows is an address, another one each time.
        source.message.truncate(source.message.find(", ptr:").unwrap_or(source.message.len()));
        RuntimeError::Binding { model: model.to_owned(), source }
    };
    pellucid_guard::parse("ONNX Runtime binding's", call).map_err(panicked)
}

/// The error of what the bound on memory refused; `None` where the runtime failed for another reason.
fn refused(model: &Path, doing: &'static str, allowed: u64, bound: &Bounded, reason: &str) -> Option<RuntimeError> {
    const SIGNS: [&str; 3] = ["bad_alloc", "Failed to allocate memory", "BFCArena"];
    let is_memory = bound.is_on() && SIGNS.iter().any(|sign| reason.contains(sign));
    is_memory.then(|| RuntimeError::Memory { model: model.to_owned(), doing, allowed, node: node_in(reason) })
}

/// The node that ONNX Runtime says it was running: `'name' (Op)`, or the operator where it has no name.
fn node_in(reason: &str) -> Option<String> {
    let (op, rest) = reason.split_once("while running ")?.1.split_once(" node. Name:'")?;
    let (name, _) = rest.split_once('\'')?;
    Some(if name.is_empty() { format!("of type {op}") } else { format!("'{name}' ({op})") })
}

/// The runtime's messages carry source lines of its own; the first line says what matters.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

impl Session {
    /// Names of the inputs.
    pub fn inputs(&self) -> Vec<String> {
        self.inputs.clone()
    }

    /// Names of the outputs, in the order that [`Session::run`] gives them.
    pub fn outputs(&self) -> Vec<String> {
        self.outputs.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The element type that the runtime inferred for each output; `None` for what is not a tensor.
    pub fn output_types(&self) -> Vec<Option<ElementType>> {
        self.outputs.iter().map(|(_, element)| *element).collect()
    }

    /// Runs the model; gives its outputs in order.
    ///
    /// # Errors
    /// [`RuntimeError::Input`] for other names than the model's, [`RuntimeError::Memory`] where the run would take more
    /// than the model's budget, and what else the runtime says.
    pub fn run(&mut self, inputs: &[(&str, &Array)]) -> Result<Vec<Array>, RuntimeError> {
        self.check_names(inputs)?;
        let model = self.model.clone();
        let allowed = self.memory.unwrap_or(u64::MAX);
        let bound = Bounded::by(for_run(allowed));
        let failed = |e: ort::Error| {
            let reason = e.to_string();
            refused(&model, "running it", allowed, &bound, &reason)
                .unwrap_or_else(|| RuntimeError::Run { model: model.clone(), reason: first_line(&reason) })
        };
        let inner = &mut self.inner;
        binding(&model, || {
            let mut fed: Vec<(Cow<'_, str>, ort::session::SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
            for (name, array) in inputs {
                fed.push((Cow::Borrowed(*name), array.to_ort().map_err(failed)?));
            }
            let outputs = inner.run(fed).map_err(failed)?;
            // What is copied out would be there twice.
            let bytes = outputs.values().map(|value| bytes_of(&value)).fold(0, u64::saturating_add);
            if bytes > UNCHECKED && !bound.has_room(bytes) {
                let node = None;
                return Err(RuntimeError::Memory { model: model.clone(), doing: "what it gives", allowed, node });
            }
            let array = |(name, value): (&str, ort::value::ValueRef<'_>)| {
                Array::from_ort(&value).ok_or_else(|| RuntimeError::OutputType {
                    model: model.clone(),
                    output: name.to_owned(),
                    element: format!("{:?}", value.dtype()),
                })
            };
            outputs.iter().map(array).collect()
        })?
    }

    fn check_names(&self, inputs: &[(&str, &Array)]) -> Result<(), RuntimeError> {
        let expected = &self.inputs;
        let missing =
            expected.iter().find(|e| !inputs.iter().any(|(n, _)| n == e)).map(|m| format!("'{m}' was not given"));
        let unknown = inputs
            .iter()
            .find(|(n, _)| !expected.iter().any(|e| e == n))
            .map(|(n, _)| format!("'{n}' is not one of them"));
        match missing.or(unknown) {
            Some(found) => Err(RuntimeError::Input { model: self.model.clone(), expected: expected.join(", "), found }),
            None => Ok(()),
        }
    }

    /// Ends profiling; gives the profile's path.
    pub fn end_profiling(&mut self) -> Result<String, RuntimeError> {
        self.inner.end_profiling().map_err(|e| RuntimeError::Run { model: self.model.clone(), reason: e.to_string() })
    }
}

/// Outputs of fewer bytes are copied without asking whether there is room.
const UNCHECKED: u64 = 16 << 20;

/// Bytes that an output takes as an [`Array`].
fn bytes_of(value: &ort::value::DynValue) -> u64 {
    let elements = product(value.shape().iter().map(|&d| u64::try_from(d).unwrap_or(0)));
    elements.and_then(|n| n.checked_mul(8)).unwrap_or(u64::MAX)
}

fn element_of(t: ort::value::TensorElementType) -> ElementType {
    use ort::value::TensorElementType as T;
    match t {
        T::Float32 => ElementType::F32,
        T::Float64 => ElementType::F64,
        T::Float16 => ElementType::F16,
        T::Bfloat16 => ElementType::BF16,
        T::Int8 => ElementType::I8,
        T::Int16 => ElementType::I16,
        T::Int32 => ElementType::I32,
        T::Int64 => ElementType::I64,
        T::Uint8 => ElementType::U8,
        T::Uint16 => ElementType::U16,
        T::Uint32 => ElementType::U32,
        T::Uint64 => ElementType::U64,
        T::Bool => ElementType::Bool,
        T::String => ElementType::String,
        _ => ElementType::Other(0),
    }
}
