//! What the gradient tests share: stored tensors and where they lie.
#![allow(dead_code)]

use ndarray::{ArrayD, ArrayView1, IxDyn};
use pellucid_runtime::Array;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// A file of the zoo.
pub fn zoo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo").join(path)
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
