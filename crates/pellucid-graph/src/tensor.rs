//! Constant tensors of a graph: weights and small parameters, embedded in the model file or beside it.

use crate::onnx::{TensorProto, tensor_proto::DataType};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Element type of a tensor, as ONNX numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ElementType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
    String,
    /// Anything else (complex, 8-bit floats, 4-bit integers), by its ONNX number.
    Other(i32),
}

impl ElementType {
    /// From the number that ONNX gives it.
    pub fn from_onnx(number: i32) -> Self {
        match DataType::try_from(number) {
            Ok(DataType::Float) => Self::F32,
            Ok(DataType::Double) => Self::F64,
            Ok(DataType::Float16) => Self::F16,
            Ok(DataType::Bfloat16) => Self::BF16,
            Ok(DataType::Int8) => Self::I8,
            Ok(DataType::Int16) => Self::I16,
            Ok(DataType::Int32) => Self::I32,
            Ok(DataType::Int64) => Self::I64,
            Ok(DataType::Uint8) => Self::U8,
            Ok(DataType::Uint16) => Self::U16,
            Ok(DataType::Uint32) => Self::U32,
            Ok(DataType::Uint64) => Self::U64,
            Ok(DataType::Bool) => Self::Bool,
            Ok(DataType::String) => Self::String,
            _ => Self::Other(number),
        }
    }

    /// The number that ONNX gives it.
    pub fn to_onnx(self) -> i32 {
        (match self {
            Self::F32 => DataType::Float,
            Self::F64 => DataType::Double,
            Self::F16 => DataType::Float16,
            Self::BF16 => DataType::Bfloat16,
            Self::I8 => DataType::Int8,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::U8 => DataType::Uint8,
            Self::U16 => DataType::Uint16,
            Self::U32 => DataType::Uint32,
            Self::U64 => DataType::Uint64,
            Self::Bool => DataType::Bool,
            Self::String => DataType::String,
            Self::Other(number) => return number,
        }) as i32
    }

    /// Bytes an element takes; `None` for strings and packed types.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::I8 | Self::U8 | Self::Bool => Some(1),
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => Some(2),
            Self::F32 | Self::I32 | Self::U32 => Some(4),
            Self::F64 | Self::I64 | Self::U64 => Some(8),
            Self::String | Self::Other(_) => None,
        }
    }

    /// Whether it is a floating-point type that a gradient can flow through.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }
}

/// Why a tensor's values could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The values lie in another file.
    #[error("tensor '{0}': its values are in external data, which is not loaded here; read it through the runtime")]
    External(String),
    /// Another element type was expected.
    #[error("tensor '{name}': expected {expected}, found {found:?}")]
    Type {
        /// Name of the tensor.
        name: String,
        /// What was asked for.
        expected: &'static str,
        /// What it holds.
        found: ElementType,
    },
    /// The shape is none.
    #[error("tensor '{name}': its shape {shape:?} {reason}; the file is damaged")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Declared shape (its first dimensions).
        shape: Vec<i64>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The number of values does not fit the shape.
    #[error("tensor '{name}': shape {shape:?} needs {expected} values, found {found}; the file is damaged")]
    Length {
        /// Name of the tensor.
        name: String,
        /// Declared shape.
        shape: Vec<i64>,
        /// Elements the shape asks for.
        expected: usize,
        /// Elements found.
        found: usize,
    },
}

/// A constant tensor. Cloning is cheap: bytes are shared, never copied.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub(crate) proto: TensorProto,
}

impl Tensor {
    /// A float32 tensor.
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::raw(name, ElementType::F32, shape, raw.into())
    }

    /// An int64 tensor.
    pub fn i64(name: &str, shape: &[usize], values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::raw(name, ElementType::I64, shape, raw.into())
    }

    /// A tensor from little-endian bytes.
    pub fn raw(name: &str, element: ElementType, shape: &[usize], bytes: Bytes) -> Self {
        Self {
            proto: TensorProto {
                name: Some(name.to_owned()),
                dims: shape.iter().map(|&d| d as i64).collect(),
                data_type: Some(element.to_onnx()),
                raw_data: Some(bytes),
                ..TensorProto::default()
            },
        }
    }

    /// A tensor whose values are given to the runtime when the model is compiled.
    pub fn given_later(name: &str, element: ElementType, shape: &[usize]) -> Self {
        use crate::onnx::{StringStringEntryProto, tensor_proto::DataLocation};
        let mut tensor = Self::raw(name, element, shape, Bytes::new());
        tensor.proto.raw_data = None;
        tensor.proto.data_location = Some(DataLocation::External as i32);
        let location =
            StringStringEntryProto { key: Some("location".to_owned()), value: Some("given later".to_owned()) };
        tensor.proto.external_data = vec![location];
        tensor
    }

    /// Wraps the protobuf message.
    pub fn from_proto(proto: TensorProto) -> Self {
        Self { proto }
    }

    /// Name; empty for attribute tensors.
    pub fn name(&self) -> &str {
        self.proto.name()
    }

    /// Shape.
    pub fn dims(&self) -> &[i64] {
        &self.proto.dims
    }

    /// Element type.
    pub fn element(&self) -> ElementType {
        ElementType::from_onnx(self.proto.data_type())
    }

    /// Number of elements the shape asks for (saturating; negative dimensions count as 0).
    pub fn len(&self) -> usize {
        self.proto.dims.iter().fold(1usize, |n, &d| n.saturating_mul(usize::try_from(d).unwrap_or(0)))
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its values lie in another file.
    pub fn is_external(&self) -> bool {
        self.proto.data_location() == crate::onnx::tensor_proto::DataLocation::External
    }

    /// Little-endian bytes, where the values are stored that way in this file.
    pub fn raw_bytes(&self) -> Option<&Bytes> {
        if self.is_external() { None } else { self.proto.raw_data.as_ref() }
    }

    /// The values of a float tensor (float32, float64, float16 or bfloat16) as float32.
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        self.check_embedded()?;
        let values = match (self.element(), &self.proto.raw_data) {
            (ElementType::F32, Some(raw)) => chunks(raw, f32::from_le_bytes),
            (ElementType::F32, None) => self.proto.float_data.clone(),
            (ElementType::F64, Some(raw)) => chunks(raw, |b| f64::from_le_bytes(b) as f32),
            (ElementType::F64, None) => self.proto.double_data.iter().map(|&v| v as f32).collect(),
            (ElementType::F16, Some(raw)) => chunks(raw, |b| half_to_f32(u16::from_le_bytes(b))),
            (ElementType::F16, None) => self.proto.int32_data.iter().map(|&v| half_to_f32(v as u16)).collect(),
            (ElementType::BF16, Some(raw)) => chunks(raw, |b| bfloat_to_f32(u16::from_le_bytes(b))),
            (ElementType::BF16, None) => self.proto.int32_data.iter().map(|&v| bfloat_to_f32(v as u16)).collect(),
            (found, _) => return Err(self.type_error("a float tensor", found)),
        };
        self.check_length(values)
    }

    /// The values of an integer or boolean tensor as int64.
    pub fn to_i64(&self) -> Result<Vec<i64>, TensorError> {
        self.check_embedded()?;
        let values = match (self.element(), &self.proto.raw_data) {
            (ElementType::I64, Some(raw)) => chunks(raw, i64::from_le_bytes),
            (ElementType::I64, None) => self.proto.int64_data.clone(),
            (ElementType::I32, Some(raw)) => chunks(raw, |b| i64::from(i32::from_le_bytes(b))),
            (ElementType::I8, Some(raw)) => chunks(raw, |b| i64::from(i8::from_le_bytes(b))),
            (ElementType::U8 | ElementType::Bool, Some(raw)) => raw.iter().map(|&b| i64::from(b)).collect(),
            (ElementType::I32 | ElementType::I8 | ElementType::U8 | ElementType::Bool, None) => {
                self.proto.int32_data.iter().map(|&v| i64::from(v)).collect()
            }
            (found, _) => return Err(self.type_error("an integer tensor", found)),
        };
        self.check_length(values)
    }

    fn type_error(&self, expected: &'static str, found: ElementType) -> TensorError {
        TensorError::Type { name: self.name().to_owned(), expected, found }
    }

    fn check_embedded(&self) -> Result<(), TensorError> {
        if self.is_external() { Err(TensorError::External(self.name().to_owned())) } else { Ok(()) }
    }

    fn check_length<T>(&self, values: Vec<T>) -> Result<Vec<T>, TensorError> {
        if values.len() == self.len() {
            return Ok(values);
        }
        Err(TensorError::Length {
            name: self.name().to_owned(),
            shape: self.proto.dims.clone(),
            expected: self.len(),
            found: values.len(),
        })
    }
}

fn chunks<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}

fn bfloat_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE 754 binary16 to binary32, exact for every input.
fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        0 => {
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000); // 2^-24
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_values_convert_exactly() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_f32(bits), value, "{bits:#06x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
        assert_eq!(half_to_f32(0xfc00), f32::NEG_INFINITY);
        assert!(half_to_f32(0x8000).is_sign_negative());
    }

    #[test]
    fn values_round_trip_and_wrong_types_are_named() {
        let t = Tensor::f32("w", &[2, 2], &[1.0, -2.0, 3.5, 0.0]);
        assert_eq!(t.to_f32().unwrap(), [1.0, -2.0, 3.5, 0.0]);
        let message = t.to_i64().unwrap_err().to_string();
        assert!(message.contains("'w'") && message.contains("F32"), "{message}");
    }

    #[test]
    fn too_few_bytes_are_an_error_not_a_panic() {
        let t = Tensor::raw("w", ElementType::F32, &[4], Bytes::from_static(&[0; 8]));
        assert!(matches!(t.to_f32(), Err(TensorError::Length { expected: 4, found: 2, .. })));
    }
}
