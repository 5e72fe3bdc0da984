//! Arrays that go into and come out of a session.

use ndarray::{ArrayD, IxDyn};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef};
use pellucid_graph::ElementType;

/// A dense array of one of the element types that models take and give.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// float32; float64 outputs are converted to it.
    F32(ArrayD<f32>),
    /// int64; int32 outputs are converted to it.
    I64(ArrayD<i64>),
    /// int32, for inputs that want it.
    I32(ArrayD<i32>),
    /// bool.
    Bool(ArrayD<bool>),
    /// uint8.
    U8(ArrayD<u8>),
}

impl From<ArrayD<f32>> for Array {
    fn from(a: ArrayD<f32>) -> Self {
        Self::F32(a)
    }
}

impl From<ArrayD<i64>> for Array {
    fn from(a: ArrayD<i64>) -> Self {
        Self::I64(a)
    }
}

impl Array {
    /// Shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(a) => a.shape(),
            Self::I64(a) => a.shape(),
            Self::I32(a) => a.shape(),
            Self::Bool(a) => a.shape(),
            Self::U8(a) => a.shape(),
        }
    }

    /// Element type.
    pub fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::I64(_) => ElementType::I64,
            Self::I32(_) => ElementType::I32,
            Self::Bool(_) => ElementType::Bool,
            Self::U8(_) => ElementType::U8,
        }
    }

    /// The float32 array, if it is one.
    pub fn as_f32(&self) -> Option<&ArrayD<f32>> {
        if let Self::F32(a) = self { Some(a) } else { None }
    }

    /// The float32 array, if it is one.
    pub fn into_f32(self) -> Option<ArrayD<f32>> {
        if let Self::F32(a) = self { Some(a) } else { None }
    }

    /// The int64 array, if it is one.
    pub fn as_i64(&self) -> Option<&ArrayD<i64>> {
        if let Self::I64(a) = self { Some(a) } else { None }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        let elements = match self {
            Self::F32(a) => a.len(),
            Self::I64(a) => a.len(),
            Self::I32(a) => a.len(),
            Self::Bool(a) => a.len(),
            Self::U8(a) => a.len(),
        };
        elements as u64 * self.element().size().unwrap_or(8) as u64
    }

    /// Zeros (or false) of `shape`; `None` for an element type that is not carried. The caller has checked the size.
    pub(crate) fn zeros(element: ElementType, shape: &[usize]) -> Option<Self> {
        let shape = IxDyn(shape);
        Some(match element {
            ElementType::F32 => Self::F32(ArrayD::zeros(shape)),
            ElementType::I64 => Self::I64(ArrayD::zeros(shape)),
            ElementType::I32 => Self::I32(ArrayD::zeros(shape)),
            ElementType::Bool => Self::Bool(ArrayD::from_elem(shape, false)),
            ElementType::U8 => Self::U8(ArrayD::zeros(shape)),
            _ => return None,
        })
    }

    /// As an input: where it lies, or a copy where its elements do not lie in order.
    pub(crate) fn to_ort(&self) -> ort::Result<SessionInputValue<'_>> {
        fn input<T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
            a: &ArrayD<T>,
        ) -> ort::Result<SessionInputValue<'_>> {
            if a.is_standard_layout() {
                return Ok(TensorRef::from_array_view(a.view())?.into());
            }
            let values: Vec<T> = a.iter().cloned().collect();
            Ok(Tensor::from_array((a.shape().to_vec(), values))?.into())
        }
        match self {
            Self::F32(a) => input(a),
            Self::I64(a) => input(a),
            Self::I32(a) => input(a),
            Self::Bool(a) => input(a),
            Self::U8(a) => input(a),
        }
    }

    /// As a value that the runtime keeps, without a copy of float32.
    pub(crate) fn into_ort(self) -> ort::Result<DynValue> {
        fn standard<T: Clone>(a: &ArrayD<T>) -> (Vec<usize>, Vec<T>) {
            (a.shape().to_vec(), a.iter().cloned().collect())
        }
        Ok(match self {
            Self::F32(a) if a.is_standard_layout() => Tensor::from_array(a)?.into_dyn(),
            Self::F32(a) => Tensor::from_array(standard(&a))?.into_dyn(),
            Self::I64(a) => Tensor::from_array(standard(&a))?.into_dyn(),
            Self::I32(a) => Tensor::from_array(standard(&a))?.into_dyn(),
            Self::Bool(a) => Tensor::from_array(standard(&a))?.into_dyn(),
            Self::U8(a) => Tensor::from_array(standard(&a))?.into_dyn(),
        })
    }

    /// Reads an output; `None` for a type that is not carried (strings, sequences, half floats).
    pub(crate) fn from_ort(value: &DynValue) -> Option<Self> {
        if let Ok(a) = value.try_extract_array::<f32>() {
            return Some(Self::F32(a.to_owned()));
        }
        if let Ok(a) = value.try_extract_array::<i64>() {
            return Some(Self::I64(a.to_owned()));
        }
        if let Ok(a) = value.try_extract_array::<f64>() {
            return Some(Self::F32(a.mapv(|v| v as f32)));
        }
        if let Ok(a) = value.try_extract_array::<i32>() {
            return Some(Self::I64(a.mapv(i64::from)));
        }
        if let Ok(a) = value.try_extract_array::<bool>() {
            return Some(Self::Bool(a.to_owned()));
        }
        value.try_extract_array::<u8>().ok().map(|a| Self::U8(a.to_owned()))
    }
}
