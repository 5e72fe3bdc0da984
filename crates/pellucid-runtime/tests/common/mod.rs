//! What the tests share: the runtime, numbers, stored tensors and where they lie.
#![allow(dead_code)]

use ndarray::{ArrayD, ArrayView1, IxDyn};
use pellucid_runtime::{Array, Runtime};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// The runtime that `make setup` fetched.
pub fn runtime() -> Runtime {
    Runtime::load(None).expect("ONNX Runtime (make setup)")
}

/// Values that differ and have no pattern, in [−0.5, 0.5).
pub fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

/// A file of the zoo.
pub fn zoo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo").join(path)
}

/// The small copies of whole networks, by name.
pub fn networks() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(zoo("gradients/models")).unwrap().flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "onnx"));
    paths.sort();
    paths
}

/// A stored tensor.
pub fn array(file: &SafeTensors<'_>, name: &str) -> Array {
    let t = file.tensor(name).unwrap();
    let shape = IxDyn(t.shape());
    match t.dtype() {
        Dtype::F32 => {
            let v = t.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            ArrayD::from_shape_vec(shape, v).unwrap().into()
        }
        Dtype::I64 => {
            let v = t.data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect();
            ArrayD::from_shape_vec(shape, v).unwrap().into()
        }
        Dtype::U8 => Array::Bool(ArrayD::from_shape_vec(shape, t.data().iter().map(|&b| b != 0).collect()).unwrap()),
        other => panic!("{name}: {other:?}"),
    }
}

/// A vector of float32.
pub fn array_of(array: &Array) -> ArrayView1<'_, f32> {
    array.as_f32().unwrap().view().into_dimensionality().unwrap()
}
