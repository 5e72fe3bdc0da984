//! Model files: reading with clear errors, and writing without copying weights.

use crate::external::{self, ExternalDataError, Place};
use crate::graph::{Graph, GraphError};
use crate::onnx::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::sound;
use crate::tensor::TensorError;
use crate::weigh::weigh;
use bytes::Bytes;
use pellucid_guard::{Budget, Limit, OverBudget};
use prost::Message;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Opsets of the standard domain that are read: 9 to the newest that ONNX Runtime 1.32 takes.
pub const OPSETS: RangeInclusive<i64> = 9..=26;

/// Tensors below this many bytes are embedded when a model is written by reference: the runtime wants shapes and
/// small constants at hand.
const EMBED_BELOW: usize = 1024;

/// The largest protobuf message, in bytes.
const LARGEST: u64 = (1 << 31) - 1;

/// Bytes that any decoded graph may take, however little is allowed otherwise.
const ANY_GRAPH: u64 = 64 << 20;

/// Why a model file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be opened.
    #[error("cannot read the model {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A Git LFS pointer stands where the model should be.
    #[error("{0} is a Git LFS pointer, not the model itself; run `git lfs pull` in its repository")]
    LfsPointer(PathBuf),
    /// Some other file.
    #[error("{path} is not an ONNX model: {found}; expected a file written by an ONNX exporter")]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        found: String,
    },
    /// The file ends early or is damaged.
    #[error("{path} is truncated or damaged ({size} bytes read: {reason}); copy or export it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: usize,
        /// What the parser says.
        reason: String,
    },
    /// The opset is not supported.
    #[error("{path} uses opset {found}; supported are {} to {}; export it again with `opset_version=17`", OPSETS.start(), OPSETS.end())]
    Opset {
        /// The file.
        path: PathBuf,
        /// The opset it imports.
        found: i64,
    },
    /// The graph is broken.
    #[error("{path}: {source}")]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GraphError,
    },
    /// A tensor is not what it says.
    #[error("{path}: {source}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TensorError,
    },
    /// It is more than is allowed.
    #[error("{path}: {what}: {source}")]
    OverBudget {
        /// The file.
        path: PathBuf,
        /// What is too much.
        what: &'static str,
        /// How much, and what is allowed.
        source: OverBudget,
    },
    /// No ONNX file is as large.
    #[error(
        "{path} is larger than 2 GiB, which no ONNX file is: export the model again with its weights in a file beside it \
         (external data)"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Weights in another file are missing or out of bounds.
    #[error("{path}: {source}")]
    External {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ExternalDataError,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// An ONNX model: its graph, and where its weights lie.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph; rewrite it freely.
    pub graph: Graph,
    path: PathBuf,
    /// The model's folder with links resolved: what external data is relative to.
    folder: PathBuf,
    /// The resolved file name, for references into the file itself.
    file: String,
    /// The file's bytes; embedded weights are slices of it.
    bytes: Bytes,
    /// What it may take.
    budget: Budget,
    /// Where each external tensor lies.
    pub(crate) places: BTreeMap<String, Place>,
    /// Everything but the graph.
    pub(crate) rest: ModelProto,
}

impl Model {
    /// Reads `path` within the default [`Budget`]: [`Model::read_within`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::read_within(path, &Budget::default())
    }

    /// Reads `path`. Embedded weights are slices of the file's bytes; external ones are checked (present, inside the
    /// model's folder, long enough) but not read. Every tensor holds what its shape says.
    ///
    /// `budget` bounds what the file may unfold to here (its nodes, the decoded graph), and goes with the model: whoever
    /// makes up inputs for it or runs it keeps to [`Model::budget`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn read_within(path: impl AsRef<Path>, budget: &Budget) -> Result<Self, ModelError> {
        let path = path.as_ref().to_path_buf();
        let open = |source| ModelError::Open { path: path.clone(), source };
        let real = path.canonicalize().map_err(open)?;
        let bytes = Bytes::from(read_file(&path, &real)?);
        let mut rest = decode(&path, &bytes, budget)?;
        let proto = rest.graph.take().unwrap_or_default();
        sound::tensors(&proto).map_err(|source| ModelError::Tensor { path: path.clone(), source })?;
        let folder = real.parent().map(Path::to_path_buf).unwrap_or_default();
        let opened = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let places = locate_all(&path, &proto, opened, &folder)?;
        let graph = Graph::from_proto(proto).map_err(|source| ModelError::Graph { path: path.clone(), source })?;
        let file = real.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { graph, path, folder, file, bytes, budget: *budget, places, rest })
    }

    /// A model made in memory; `path` is what errors call it, and the folder of new external data.
    pub fn new(path: impl AsRef<Path>, graph: Graph, opset: i64) -> Self {
        let path = path.as_ref().to_path_buf();
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let standard = OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) };
        let rest = ModelProto {
            ir_version: Some(if opset < 15 { 7 } else { 8 }),
            producer_name: Some("pellucid".to_owned()),
            opset_import: vec![standard],
            ..ModelProto::default()
        };
        let (file, bytes, places, budget) = (String::new(), Bytes::new(), BTreeMap::new(), Budget::default());
        Self { graph, path, folder, file, bytes, budget, places, rest }
    }

    /// What the model may take: the budget that it was read within, the default one for a model made in memory.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The model with another budget. One whose `memory` is `u64::MAX` bounds no run of it.
    #[must_use]
    pub fn within(mut self, budget: &Budget) -> Self {
        self.budget = *budget;
        self
    }

    /// The path it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that weights are relative to, for the runtime's `session.model_external_initializers_file_folder_path`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file's own bytes, for hashing.
    pub fn file_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names of the files beside the model that hold weights, sorted, relative to [`Model::folder`].
    pub fn data_files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.places.values().map(|p| p.location.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Where the values of an initializer lie that are in a file beside the model: the file, the first byte, how many.
    pub fn external_data(&self, tensor: &str) -> Option<(PathBuf, u64, u64)> {
        let place = self.places.get(tensor)?;
        Some((self.folder.join(&place.location), place.offset, place.length))
    }

    /// Version of the standard operator set.
    pub fn opset(&self) -> i64 {
        standard_opset(&self.rest)
    }

    /// Imports at least `opset` of the standard operators.
    pub(crate) fn raise_opset(&mut self, opset: i64) {
        for import in self.rest.opset_import.iter_mut().filter(|o| matches!(o.domain(), "" | "ai.onnx")) {
            import.version = Some(import.version().max(opset));
        }
    }

    /// Imported operator domains with their versions; the standard one is the empty name.
    pub fn domains(&self) -> BTreeMap<String, i64> {
        self.rest
            .opset_import
            .iter()
            .map(|o| (o.domain().trim_start_matches("ai.onnx").to_owned(), o.version()))
            .collect()
    }

    /// What wrote the file, for example `pytorch 2.5`.
    pub fn producer(&self) -> String {
        format!("{} {}", self.rest.producer_name(), self.rest.producer_version()).trim().to_owned()
    }

    /// The file's own key–value notes.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.rest.metadata_props.iter().map(|e| (e.key().to_owned(), e.value().to_owned())).collect()
    }

    /// Adds or replaces a note.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        self.rest.metadata_props.retain(|e| e.key() != key);
        self.rest
            .metadata_props
            .push(StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) });
    }

    /// Takes a note out.
    pub fn remove_metadata(&mut self, key: &str) {
        self.rest.metadata_props.retain(|e| e.key() != key);
    }

    /// Names of the model-local functions.
    pub fn functions(&self) -> Vec<String> {
        self.rest.functions.iter().map(|f| f.name().to_owned()).collect()
    }

    /// The model with weights inside where they were inside and beside it where they were beside it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.with_graph(self.graph.to_proto()).encode_to_vec()
    }

    /// The model as bytes that *refer* to every large weight in the file it was read from, so that a rewritten graph of
    /// a 3 GB model takes kilobytes. Load it with the option named at [`Model::folder`].
    pub fn to_referencing_bytes(&self) -> Vec<u8> {
        let mut proto = self.graph.to_proto();
        for tensor in &mut proto.initializer {
            let place = match self.places.get(tensor.name()) {
                Some(place) if tensor.raw_data.is_none() => Some(place.clone()),
                _ => tensor.raw_data.as_ref().and_then(|raw| self.place_in_file(raw)),
            };
            if let Some(place) = place {
                external::refer(tensor, &place);
            }
        }
        self.with_graph(proto).encode_to_vec()
    }

    /// Reads the weights that lie beside the model into it, so that it can be joined with one from another folder.
    ///
    /// # Errors
    /// [`ModelError::Open`] where they cannot be read, or memory does not hold them.
    pub fn embed_weights(&mut self) -> Result<(), ModelError> {
        for (name, place) in std::mem::take(&mut self.places) {
            let path = self.folder.join(&place.location);
            let open = |source| ModelError::Open { path: path.clone(), source };
            let mut file = std::fs::File::open(&path).map_err(open)?;
            let mut bytes = Vec::new();
            let length = usize::try_from(place.length).unwrap_or(usize::MAX);
            bytes.try_reserve_exact(length).map_err(|_| open(std::io::ErrorKind::OutOfMemory.into()))?;
            bytes.resize(length, 0);
            file.seek(SeekFrom::Start(place.offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(open)?;
            if let Some(tensor) = self.graph.initializers.get_mut(&name) {
                external::embed(&mut tensor.proto, bytes.into());
            }
        }
        Ok(())
    }

    /// Writes the model to `path`, whole or not at all: a temporary file beside it is renamed over it.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        let failed = |source| ModelError::Write { path: path.to_owned(), source };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let written = std::fs::write(&part, self.to_bytes()).and_then(|()| std::fs::rename(&part, path));
        written.map_err(|e| {
            // Best effort: the write has failed already, and that is what the user must hear.
            let _ = std::fs::remove_file(&part);
            failed(e)
        })
    }

    fn with_graph(&self, graph: GraphProto) -> ModelProto {
        ModelProto { graph: Some(graph), ..self.rest.clone() }
    }

    /// Where `raw` lies in the model's file, if it is a large slice of it.
    fn place_in_file(&self, raw: &Bytes) -> Option<Place> {
        let start = (raw.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        let inside = raw.len() >= EMBED_BELOW && start + raw.len() <= self.bytes.len();
        inside.then(|| Place { location: self.file.clone(), offset: start as u64, length: raw.len() as u64 })
    }
}

/// The bytes of `real`, which the user named `path`: a protobuf message, of which none is larger than 2 GiB.
fn read_file(path: &Path, real: &Path) -> Result<Vec<u8>, ModelError> {
    let open = |source| ModelError::Open { path: path.to_owned(), source };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let about = std::fs::metadata(real).map_err(open)?;
    if !about.is_file() {
        return Err(ModelError::NotOnnx { path: path.to_owned(), found: "it is not a regular file".to_owned() });
    }
    let (file, size) = (std::fs::File::open(real).map_err(open)?, about.len());
    let mut bytes = Vec::new();
    if size <= LARGEST {
        bytes.reserve_exact(size as usize);
        // One byte more tells a file that grows from one that ends.
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(open)?;
    }
    let too_large = size > LARGEST || bytes.len() as u64 > LARGEST;
    if too_large { Err(ModelError::TooLarge { path: path.to_owned() }) } else { Ok(bytes) }
}

fn decode(path: &Path, bytes: &Bytes, budget: &Budget) -> Result<ModelProto, ModelError> {
    let not_onnx = |found: &str| ModelError::NotOnnx { path: path.to_owned(), found: found.to_owned() };
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(ModelError::LfsPointer(path.to_owned()));
    }
    if let Some(found) = known_other(bytes) {
        return Err(not_onnx(found));
    }
    let over = |what, source| ModelError::OverBudget { path: path.to_owned(), what, source };
    let weight = weigh(bytes);
    budget.admit(Limit::Nodes, Some(weight.nodes)).map_err(|e| over("its graph is too large", e))?;
    if weight.bytes > ANY_GRAPH {
        budget.admit(Limit::FileMemory, Some(weight.bytes)).map_err(|e| over("its decoded graph is too large", e))?;
    }
    let proto = ModelProto::decode(bytes.clone()).map_err(|e| {
        // Every exporter writes ir_version first: field 1 as a varint. What starts so was an ONNX file once.
        if bytes.first() == Some(&0x08) {
            ModelError::Damaged { path: path.to_owned(), size: bytes.len(), reason: e.to_string() }
        } else {
            not_onnx("its bytes are not an ONNX message")
        }
    })?;
    let has_nodes = proto.graph.as_ref().is_some_and(|g| !g.node.is_empty());
    if proto.opset_import.is_empty() && proto.graph.is_none() {
        return Err(not_onnx("it holds neither a graph nor an operator set"));
    }
    if !has_nodes {
        let reason = "the graph has no nodes".to_owned();
        return Err(ModelError::Damaged { path: path.to_owned(), size: bytes.len(), reason });
    }
    if !proto.functions.is_empty() {
        let written = sound::written_out(&proto);
        let over = |e| over("its functions, written out, are too large", e);
        budget.admit(Limit::Nodes, written.map(|w| w.nodes)).map_err(over)?;
        budget.admit(Limit::FileMemory, written.map(|w| w.bytes)).map_err(over)?;
    }
    let opset = standard_opset(&proto);
    if !OPSETS.contains(&opset) {
        return Err(ModelError::Opset { path: path.to_owned(), found: opset });
    }
    Ok(proto)
}

fn standard_opset(proto: &ModelProto) -> i64 {
    let standard = proto.opset_import.iter().find(|o| matches!(o.domain(), "" | "ai.onnx"));
    standard.map_or(1, |o| o.version())
}

/// Names what a file that is often mistaken for an ONNX model is.
fn known_other(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("it is empty"),
        b if b.starts_with(b"PK\x03\x04") => {
            Some("it is a ZIP archive, as PyTorch checkpoints are; export the model to ONNX first (python/export.py)")
        }
        b if b.starts_with(b"\x80\x02") || b.starts_with(b"\x80\x04") => {
            Some("it is a Python pickle; export the model to ONNX first (python/export.py)")
        }
        b if b.starts_with(b"\x89HDF") => Some("it is an HDF5 file, as Keras writes"),
        b if b.starts_with(b"\x89PNG") || b.starts_with(b"\xff\xd8\xff") => Some("it is a picture"),
        b if b.get(8..9) == Some(b"{") && b.len() > 9 && b[4..8] == [0; 4] => {
            Some("it is a safetensors file: weights without a graph")
        }
        b if b.first().is_some_and(|c| matches!(c, b'{' | b'<' | b'#')) => Some("it is a text file"),
        _ => None,
    }
}

fn locate_all(
    path: &Path,
    graph: &GraphProto,
    opened: &Path,
    folder: &Path,
) -> Result<BTreeMap<String, Place>, ModelError> {
    let external =
        graph.initializer.iter().filter(|t| t.data_location() == crate::onnx::tensor_proto::DataLocation::External);
    external
        .map(|t| external::locate(t, opened, folder).map(|place| (t.name().to_owned(), place)))
        .collect::<Result<_, _>>()
        .map_err(|source| ModelError::External { path: path.to_owned(), source })
}
