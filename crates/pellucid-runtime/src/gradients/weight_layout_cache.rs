//! Weights in the order that the way back reads them in (mirrored, transposed, in phases), made once and kept.
//!
//! In the graph they are nodes over the weights, so that it can be written anywhere, and the runtime folds them whenever
//! it compiles. For a model whose weights lie in files beside it, that is a pass over gigabytes each time: here they are
//! made once per content and read from a file after that. A file that is damaged is made again.

use crate::array::Array;
use crate::library::Runtime;
use crate::session::{RuntimeError, SessionOptions};
use ndarray::{ArrayD, IxDyn};
use pellucid_graph::{ElementType, Graph, Model, Tensor};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Operators that only move numbers.
const MOVES: [&str; 7] = ["Concat", "Pad", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];

/// Smaller values are left to the runtime.
const SMALL: usize = 1024;

/// Bytes at the end of a file: blake3 of its name and of all before, so that a file under another's name is not taken.
const SEAL: usize = 32;

/// A model whose turned weights are given when it is compiled.
pub(super) struct Settled {
    pub(super) model: Model,
    /// The turned weights, by name.
    pub(super) given: Vec<(String, Array)>,
    /// What went wrong with the cache and was put right, in words.
    pub(super) warnings: Vec<String>,
}

/// `model` with its turned weights as constants that are given when it is compiled, and those constants. The model stays
/// as it is where none of its weights lie in other files.
pub(super) fn settle(runtime: &Runtime, model: &Model, cache: &Path) -> Result<Settled, RuntimeError> {
    let names = turned(&model.graph);
    let mut warnings = Vec::new();
    if names.is_empty() {
        return Ok(Settled { model: model.clone(), given: Vec::new(), warnings });
    }
    let mut asking = model.clone();
    asking.graph.inputs.clear();
    asking.graph.outputs.clear();
    names.iter().for_each(|n| asking.graph.add_output(n));
    asking.graph.prune();
    let arrays = match key(&asking) {
        Ok(key) => kept(runtime, &asking, &cache.join("weights").join(format!("{key}.bin")), &mut warnings)?,
        // Compiling reads the same files and says better what is wrong with them.
        Err(_) => make(runtime, &asking)?,
    };
    let mut settled = model.clone();
    let wanted: HashSet<&String> = names.iter().collect();
    settled.graph.nodes.retain(|n| !n.outputs().iter().any(|o| wanted.contains(o)));
    for (name, array) in names.iter().zip(&arrays) {
        let tensor = Tensor::given_later(name, ElementType::F32, array.shape());
        settled.graph.initializers.insert(name.clone(), tensor);
    }
    settled.graph.prune();
    Ok(Settled { model: settled, given: names.into_iter().zip(arrays).collect(), warnings })
}

/// Large float32 values that are nothing but weights of other files in another order, where something else reads them.
fn turned(graph: &Graph) -> Vec<String> {
    let weight = |name: &str| graph.initializers.get(name).is_some_and(|t| t.is_external() && t.len() >= SMALL);
    let float = |name: &str| graph.initializers.get(name).is_some_and(|t| t.element() == ElementType::F32);
    let (mut moved, mut constant): (HashSet<&str>, HashSet<&str>) = (HashSet::new(), HashSet::new());
    for node in graph.nodes.iter().filter(|n| n.domain().is_empty() && MOVES.contains(&n.op())) {
        let reads = node.reads();
        if !reads.iter().all(|r| graph.initializers.contains_key(*r) || constant.contains(r)) {
            continue;
        }
        constant.extend(node.outputs().iter().map(String::as_str));
        // What is moved comes first; behind it are shapes and bounds.
        if reads.iter().any(|r| moved.contains(r) || (weight(r) && float(r))) {
            moved.extend(node.outputs().iter().map(String::as_str));
        }
    }
    let inside = |node: &pellucid_graph::Node| constant.contains(node.output());
    let read: HashSet<&str> = graph.nodes.iter().filter(|n| !inside(n)).flat_map(|n| n.reads()).collect();
    let outputs: HashSet<&str> = graph.outputs.iter().map(|v| v.name()).collect();
    let order = graph.nodes.iter().map(|n| n.output());
    order.filter(|v| moved.contains(v) && read.contains(v) && !outputs.contains(v)).map(str::to_owned).collect()
}

/// blake3 over what is computed and every weight that it reads.
fn key(asking: &Model) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sealed with its name");
    hasher.update(&asking.to_referencing_bytes());
    for name in asking.graph.initializers.keys() {
        let Some((path, offset, length)) = asking.external_data(name) else { continue };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        hasher.update_reader(file.take(length))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The arrays from `path`, or made and written there.
fn kept(
    runtime: &Runtime,
    asking: &Model,
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<Array>, RuntimeError> {
    match read(path, asking.graph.outputs.len()) {
        Ok(arrays) => return Ok(arrays),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => warnings.push(format!("{}: kept weights cannot be used ({e}); they are made again", path.display())),
    }
    let arrays = make(runtime, asking)?;
    if let Err(e) = write(path, &arrays) {
        warnings.push(format!("{}: mirrored weights are not kept ({e})", path.display()));
    }
    Ok(arrays)
}

fn make(runtime: &Runtime, asking: &Model) -> Result<Vec<Array>, RuntimeError> {
    // Unoptimised: folding would compute the same while it compiles, and hold it twice.
    let options = SessionOptions { threads: 1, optimise: false, ..SessionOptions::default() };
    runtime.session(asking, &options)?.run(&[])
}

/// Hashes what passes through.
struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashed<T> {
    fn new(inner: T, path: &Path) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        Self { inner, hasher }
    }
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }
}

/// Bytes that are moved between a file and an array at a time.
const CHUNK: usize = 1 << 20;

/// By array: its rank, its extents (u64 each), its numbers; all little-endian. Whole or not at all.
fn write(path: &Path, arrays: &[Array]) -> io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let part = path.with_extension(format!("{}.part", std::process::id()));
    fill(&part, path, arrays).and_then(|()| std::fs::rename(&part, path)).inspect_err(|_| {
        // The write has failed already, and its error is the one to report.
        let _ = std::fs::remove_file(&part);
    })
}

fn fill(part: &Path, path: &Path, arrays: &[Array]) -> io::Result<()> {
    let mut out = Hashed::new(BufWriter::new(File::create(part)?), path);
    for array in arrays.iter().filter_map(Array::as_f32) {
        out.put(&(array.ndim() as u64).to_le_bytes())?;
        array.shape().iter().try_for_each(|&d| out.put(&(d as u64).to_le_bytes()))?;
        let standard = array.as_standard_layout();
        for chunk in standard.as_slice().unwrap_or_default().chunks(CHUNK / 4) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            out.put(&bytes)?;
        }
    }
    let seal = out.hasher.finalize();
    out.inner.write_all(seal.as_bytes())?;
    out.inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn read(path: &Path, count: usize) -> io::Result<Vec<Array>> {
    let file = File::open(path)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
    let size = file.metadata()?.len();
    let mut input = Hashed::new(BufReader::with_capacity(CHUNK, file), path);
    let mut arrays = Vec::with_capacity(count);
    for _ in 0..count {
        let rank = input.number()?;
        if rank > 16 {
            return Err(damaged());
        }
        let shape: Vec<usize> = (0..rank).map(|_| Ok(input.number()? as usize)).collect::<io::Result<_>>()?;
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(damaged)?;
        if (len as u64).saturating_mul(4) > size {
            return Err(damaged());
        }
        let mut values = Vec::with_capacity(len);
        let mut bytes = vec![0; CHUNK];
        while values.len() < len {
            let take = ((len - values.len()) * 4).min(CHUNK);
            input.fill(&mut bytes[..take])?;
            values.extend(bytes[..take].as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)));
        }
        arrays.push(Array::F32(ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|_| damaged())?));
    }
    let mut seal = [0; SEAL];
    input.inner.read_exact(&mut seal)?;
    if *input.hasher.finalize().as_bytes() == seal { Ok(arrays) } else { Err(damaged()) }
}
