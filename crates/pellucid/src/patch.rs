//! Patches of a decision layer: made from an edit, applied to the model that they belong to, taken back.
//!
//! A patch is a safetensors file. In the layout of the model's own tensors it holds `weight.delta` and `bias.delta`, and the
//! original `weight` and `bias`, so that taking it back restores their very bytes. Its metadata name the tensors and hold
//! blake3 hashes of them before and after: a patch is refused by any other model.

use crate::classifier::read;
use pellucid_classifier::layer::DecisionLayer as Layer;
use pellucid_graph::taps::DecisionLayer as Tap;
use pellucid_graph::{ElementType, Model, Tensor};
use pellucid_guard::Job;
use pellucid_guard::{Budget, Limit, bounded};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a patch file calls itself in its metadata.
const FORMAT: &str = "pellucid-patch-1";
/// The note in an edited model that says what was done to it.
const NOTE: &str = "pellucid.repair";

/// Why a patch cannot be made, read, applied or taken back.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The tensors are of another type.
    #[error("'{tensor}' is {element:?}; a patch edits float32 weights. Export the model in float32")]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        element: ElementType,
    },
    /// The layer has no bias to edit.
    #[error("the decision layer {0} has no bias; export the model with one (it may be 0), since an edit moves both")]
    NoBias(String),
    /// The weights are no constants of the file.
    #[error(
        "the weights '{0}' are computed in the graph (quantised, or made by a node), so they cannot be edited; export the model unquantised"
    )]
    Computed(String),
    /// The weights cannot be read.
    #[error(transparent)]
    Tensor(#[from] pellucid_graph::TensorError),
    /// The file.
    #[error("cannot read the patch {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not a patch.
    #[error("{path} is no patch of a decision layer: {missing} is missing; {repair} writes patches", repair = Job::Repair)]
    NotAPatch {
        /// The file.
        path: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// The model is another.
    #[error(
        "the patch {patch} does not belong to {model}: its tensor '{tensor}' {found}. The patch was made for {made_for}; nothing was changed"
    )]
    OtherModel {
        /// The patch.
        patch: PathBuf,
        /// The model.
        model: PathBuf,
        /// The tensor that differs.
        tensor: String,
        /// How.
        found: String,
        /// File name of the model that it was made for.
        made_for: String,
    },
}

/// One tensor's part of a patch, in the layout of the model's file.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// Name in the model.
    tensor: String,
    shape: Vec<usize>,
    original: Vec<f32>,
    delta: Vec<f32>,
}

impl Part {
    fn edited(&self) -> Vec<f32> {
        self.original.iter().zip(&self.delta).map(|(a, d)| a + d).collect()
    }

    fn label(&self) -> PartLabel {
        PartLabel { tensor: self.tensor.clone(), before: hash(&self.original), after: hash(&self.edited()) }
    }
}

/// What a patch's metadata say of one tensor.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PartLabel {
    tensor: String,
    /// blake3 of the bytes before and after.
    before: String,
    after: String,
}

/// A patch's metadata.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    made_for: String,
    note: String,
    weight: PartLabel,
    bias: PartLabel,
}

/// ΔW and Δb of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    weight: Part,
    bias: Part,
    /// File name of the model that it was made for.
    pub made_for: String,
    /// What was done, in words.
    pub note: String,
}

/// What a patch holds, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatchSummary {
    /// File name of the model that it was made for.
    pub made_for: String,
    /// What was done, in words.
    pub note: String,
    /// The tensors: name, shape, entries that change, largest change, ‖Δ‖₂ over ‖original‖₂.
    pub tensors: Vec<PatchedTensor>,
}

/// One tensor of a [`PatchSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatchedTensor {
    /// Name in the model.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Entries that change.
    pub changed: usize,
    /// Entries.
    pub entries: usize,
    /// Largest |Δ|.
    pub largest: f32,
    /// ‖Δ‖₂ / ‖original‖₂.
    pub relative: f64,
    /// blake3 of the original bytes, hexadecimal.
    pub before: String,
    /// blake3 of the edited bytes.
    pub after: String,
}

/// The float32 values of a model's tensor and its shape.
fn values(model: &Model, name: &str) -> Result<(Vec<usize>, Vec<f32>), PatchError> {
    let computed = || PatchError::Computed(name.to_owned());
    let tensor = model.graph.initializers.get(name).ok_or_else(computed)?;
    if tensor.element() != ElementType::F32 {
        return Err(PatchError::Type { tensor: name.to_owned(), element: tensor.element() });
    }
    let shape = tensor.dims().iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    Ok((shape, tensor.to_f32()?))
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn hash(values: &[f32]) -> String {
    blake3::hash(&bytes(values)).to_hex().to_string()
}

/// Enough of a hash to compare by eye.
fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// `layer` in the layout of the tapped tensors: what W and b must become so that the model computes it. A head of one logit
/// gets the difference of the two classes.
fn in_file_layout(tap: &Tap, layer: &Layer, rows: usize) -> (Vec<f32>, Vec<f32>) {
    let (weight, bias) = if rows == 1 && layer.classes() == 2 {
        let difference = &layer.weight.row(1) - &layer.weight.row(0);
        (difference.insert_axis(ndarray::Axis(0)), vec![layer.bias[1] - layer.bias[0]])
    } else {
        (layer.weight.clone(), layer.bias.to_vec())
    };
    let weight = if tap.transposed { weight.t().to_owned() } else { weight };
    (weight.iter().map(|w| w / tap.alpha).collect(), bias.into_iter().map(|b| b / tap.beta).collect())
}

impl Patch {
    /// The patch that turns `model`'s decision layer `tap` into `layer`.
    pub(crate) fn between(model: &Model, tap: &Tap, layer: &Layer, note: &str) -> Result<Self, PatchError> {
        let bias_name = tap.bias.as_ref().ok_or_else(|| PatchError::NoBias(tap.node.clone()))?;
        let ((weight_shape, weight), (bias_shape, bias)) = (values(model, &tap.weight)?, values(model, bias_name)?);
        let (new_weight, new_bias) = in_file_layout(tap, layer, bias.len());
        let part = |tensor: &str, shape, original: Vec<f32>, new: Vec<f32>| Part {
            tensor: tensor.to_owned(),
            shape,
            delta: new.iter().zip(&original).map(|(n, o)| n - o).collect(),
            original,
        };
        Ok(Self {
            weight: part(&tap.weight, weight_shape, weight, new_weight),
            bias: part(bias_name, bias_shape, bias, new_bias),
            made_for: model.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            note: note.to_owned(),
        })
    }

    /// Reads a patch file of at most `budget.file_memory` bytes.
    ///
    /// # Errors
    /// [`PatchError`]; also where its numbers are not what its hashes say.
    pub fn read(path: &Path, budget: &Budget) -> Result<Self, PatchError> {
        let failed = |reason: String| PatchError::Read { path: path.to_owned(), reason };
        let data = bounded::read(path, budget, Limit::FileMemory).map_err(|e| failed(e.to_string()))?;
        let file = SafeTensors::deserialize(&data).map_err(|e| failed(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&data).map_err(|e| failed(e.to_string()))?;
        let lacks = |missing: &str| PatchError::NotAPatch { path: path.to_owned(), missing: missing.to_owned() };
        let described = header.metadata().as_ref().and_then(|m| m.get(FORMAT));
        let described = described.ok_or_else(|| lacks(&format!("the note '{FORMAT}'")))?;
        let label: Label = serde_json::from_str(described).map_err(|e| failed(e.to_string()))?;
        let tensor = |name: &str| -> Result<(Vec<usize>, Vec<f32>), PatchError> {
            let view = file.tensor(name).map_err(|_| lacks(name))?;
            if view.dtype() != Dtype::F32 {
                return Err(lacks(&format!("{name} as float32")));
            }
            let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Ok((view.shape().to_vec(), numbers.collect()))
        };
        let part = |name: &str, labelled: &PartLabel| -> Result<Part, PatchError> {
            let ((shape, original), (_, delta)) = (tensor(name)?, tensor(&format!("{name}.delta"))?);
            if original.len() != delta.len() {
                return Err(lacks(&format!("{name}.delta of {} numbers", original.len())));
            }
            let part = Part { tensor: labelled.tensor.clone(), shape, original, delta };
            if part.label() != *labelled {
                return Err(failed(format!("'{name}' is not what its hashes say: the file is damaged")));
            }
            Ok(part)
        };
        let (weight, bias) = (part("weight", &label.weight)?, part("bias", &label.bias)?);
        Ok(Self { weight, bias, made_for: label.made_for, note: label.note })
    }

    /// The patch as a safetensors file.
    ///
    /// # Errors
    /// Where it does not fit that format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PatchError> {
        let label = Label {
            made_for: self.made_for.clone(),
            note: self.note.clone(),
            weight: self.weight.label(),
            bias: self.bias.label(),
        };
        // One entry, since the format keeps no order of several: equal patches are equal files.
        let label = serde_json::to_string(&label).unwrap_or_default();
        let metadata = HashMap::from([(FORMAT.to_owned(), label)]);
        let mut held = Vec::new();
        for (name, part) in [("weight", &self.weight), ("bias", &self.bias)] {
            held.push((name.to_owned(), part.shape.clone(), bytes(&part.original)));
            held.push((format!("{name}.delta"), part.shape.clone(), bytes(&part.delta)));
        }
        let failed = |e: safetensors::SafeTensorError| PatchError::Read { path: PathBuf::new(), reason: e.to_string() };
        let mut views = Vec::new();
        for (name, shape, data) in &held {
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).map_err(failed)?));
        }
        serialize(views, Some(metadata)).map_err(failed)
    }

    /// `model` with the edit in it, noted in its metadata. `from` names the patch in errors.
    pub(crate) fn apply(&self, model: &Model, from: &Path) -> Result<Model, PatchError> {
        let mut edited = self.replace(model, from, |part| (part.original.clone(), part.edited()))?;
        edited.set_metadata(NOTE, &self.note);
        Ok(edited)
    }

    /// `model`, which holds the edit, as it was before: W and b to the byte.
    pub(crate) fn revert(&self, model: &Model, from: &Path) -> Result<Model, PatchError> {
        let mut restored = self.replace(model, from, |part| (part.edited(), part.original.clone()))?;
        restored.remove_metadata(NOTE);
        Ok(restored)
    }

    /// Puts the second of `of`'s values where the model holds the first.
    fn replace(
        &self,
        model: &Model,
        from: &Path,
        of: impl Fn(&Part) -> (Vec<f32>, Vec<f32>),
    ) -> Result<Model, PatchError> {
        let mut out = model.clone();
        for part in [&self.weight, &self.bias] {
            let (expected, new) = of(part);
            let other = |found: String| PatchError::OtherModel {
                patch: from.to_owned(),
                model: model.path().to_owned(),
                tensor: part.tensor.clone(),
                found,
                made_for: self.made_for.clone(),
            };
            if !model.graph.initializers.contains_key(&part.tensor) {
                return Err(other("is not there".to_owned()));
            }
            let (shape, held) = values(model, &part.tensor)?;
            if shape != part.shape {
                return Err(other(format!("has shape {shape:?}, expected {:?}", part.shape)));
            }
            let (found, wanted) = (hash(&held), hash(&expected));
            if found != wanted {
                return Err(other(match found == hash(&new) {
                    true => "already holds the result".to_owned(),
                    false => format!("holds other numbers (hash {}, expected {})", short(&found), short(&wanted)),
                }));
            }
            let tensor = Tensor::raw(&part.tensor, ElementType::F32, &part.shape, bytes(&new).into());
            out.graph.initializers.insert(part.tensor.clone(), tensor);
        }
        Ok(out)
    }

    /// What it changes, for people.
    pub fn summary(&self) -> PatchSummary {
        let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let tensor = |part: &Part| PatchedTensor {
            name: part.tensor.clone(),
            shape: part.shape.clone(),
            changed: part.delta.iter().filter(|d| **d != 0.0).count(),
            entries: part.delta.len(),
            largest: part.delta.iter().fold(0.0, |m, d| d.abs().max(m)),
            relative: norm(&part.delta) / norm(&part.original).max(f64::MIN_POSITIVE),
            before: hash(&part.original),
            after: hash(&part.edited()),
        };
        PatchSummary {
            made_for: self.made_for.clone(),
            note: self.note.clone(),
            tensors: vec![tensor(&self.weight), tensor(&self.bias)],
        }
    }
}

/// Applies the patch at `patch` to the model at `model`, or takes it back, and writes `out`, with its weights inside.
///
/// # Errors
/// What is wrong with either file, or that `out` cannot be written.
pub fn patch_model(model: &Path, patch: &Path, out: &Path, revert: bool, budget: &Budget) -> Result<(), crate::Error> {
    check_output(out, model)?;
    let (mut read_model, read_patch) = (read(model, budget)?, Patch::read(patch, budget)?);
    read_model.embed_weights()?;
    let changed = if revert { read_patch.revert(&read_model, patch)? } else { read_patch.apply(&read_model, patch)? };
    Ok(changed.write(out)?)
}

/// Refuses an output that is the model it is made from, or that cannot be written.
pub(crate) fn check_output(out: &Path, model: &Path) -> Result<(), crate::Error> {
    if let (Ok(out), Ok(model)) = (out.canonicalize(), model.canonicalize())
        && out == model
    {
        return Err(crate::Error::OverModel { path: out });
    }
    let failed = |source| crate::Error::Write { path: out.to_owned(), source };
    if out.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tried", std::process::id()));
    let tried = out.with_file_name(name);
    std::fs::File::create(&tried).and_then(|_| std::fs::remove_file(&tried)).map_err(failed)
}

/// What the patch at `path` holds.
///
/// # Errors
/// What is wrong with the file.
pub fn patch_summary(path: &Path, budget: &Budget) -> Result<PatchSummary, crate::Error> {
    Ok(Patch::read(path, budget)?.summary())
}
