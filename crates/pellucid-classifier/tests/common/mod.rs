//! The golden numbers (zoo/golden, whose README says what each is) and the decision layer that they were made with.

#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its part; a test that fails here says where.

use ndarray::{Array1, Array2, Axis};
use pellucid_classifier::layer::DecisionLayer;
use pellucid_graph::Model;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// A path in the zoo.
pub fn zoo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo").join(path)
}

/// The file of golden numbers.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open() -> Self {
        Self(std::fs::read(zoo("golden/neuroinspect.safetensors")).unwrap())
    }

    pub fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let t = file.tensor(name).unwrap();
        let values = match t.dtype() {
            safetensors::Dtype::F32 => t.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            safetensors::Dtype::F64 => {
                t.data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            safetensors::Dtype::I64 => {
                t.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            safetensors::Dtype::I32 => {
                t.data().chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        (t.shape().to_vec(), values)
    }

    pub fn matrix(&self, name: &str) -> Array2<f32> {
        let (shape, values) = self.f32(name);
        Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
    }

    pub fn indices(&self, name: &str) -> Vec<usize> {
        self.f32(name).1.into_iter().map(|v| v as usize).collect()
    }

    /// The mistakes' features and true classes.
    pub fn mistakes(&self) -> (Array2<f32>, Vec<usize>) {
        let (rows, labels) = (self.indices("mistakes"), self.indices("labels"));
        (self.matrix("features").select(Axis(0), &rows), rows.iter().map(|&r| labels[r]).collect())
    }
}

/// The layer of the model that the numbers were made with.
pub fn layer() -> DecisionLayer {
    let model = Model::read(zoo("models/efficientnet_lite0/efficientnet_lite0.onnx")).unwrap();
    let values = |name: &str| model.graph.initializers[name].to_f32().unwrap();
    let bias = Array1::from_vec(values("_fc.bias"));
    DecisionLayer { weight: Array2::from_shape_vec((1000, 1280), values("_fc.weight")).unwrap(), bias }
}
