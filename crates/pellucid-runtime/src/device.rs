//! Where a model runs.

use std::fmt;
use std::str::FromStr;

/// A device, as `--device` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first accelerator that this build of ONNX Runtime has, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA card through CUDA.
    Cuda(u32),
    /// An NVIDIA card through TensorRT.
    TensorRt(u32),
    /// Apple's CoreML.
    CoreMl,
    /// DirectML on Windows.
    DirectMl(u32),
}

/// A device that is not known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown device '{0}'; expected auto, cpu, cuda, cuda:N, tensorrt, tensorrt:N, coreml, directml or directml:N")]
pub struct ParseDeviceError(String);

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseDeviceError(text.to_owned());
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<u32>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("coreml", None) => Ok(Self::CoreMl),
            ("cuda", n) => Ok(Self::Cuda(n.unwrap_or(0))),
            ("tensorrt", n) => Ok(Self::TensorRt(n.unwrap_or(0))),
            ("directml", n) => Ok(Self::DirectMl(n.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::TensorRt(n) => write!(f, "tensorrt:{n}"),
            Self::CoreMl => f.write_str("coreml"),
            Self::DirectMl(n) => write!(f, "directml:{n}"),
        }
    }
}

impl Device {
    /// The execution providers to ask for, best first; the CPU is always the last resort of `auto` alone.
    pub(crate) fn providers(self) -> Vec<ort::ep::ExecutionProviderDispatch> {
        use ort::ep::{CUDA, CoreML, DirectML, TensorRT};
        match self {
            Self::Cpu => Vec::new(),
            Self::Auto if cfg!(target_os = "macos") => vec![CoreML::default().build()],
            Self::Auto => vec![CUDA::default().build()],
            Self::Cuda(n) => vec![CUDA::default().with_device_id(n as i32).build().error_on_failure()],
            Self::TensorRt(n) => vec![TensorRT::default().with_device_id(n as i32).build().error_on_failure()],
            Self::CoreMl => vec![CoreML::default().build().error_on_failure()],
            Self::DirectMl(n) => vec![DirectML::default().with_device_id(n as i32).build().error_on_failure()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "tensorrt:1", "coreml", "directml:0"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
    }

    #[test]
    fn an_unknown_device_lists_the_known_ones() {
        let message = "gpu".parse::<Device>().unwrap_err().to_string();
        assert!(message.contains("'gpu'") && message.contains("cuda"), "{message}");
        assert!("cuda:x".parse::<Device>().is_err());
        assert!("cpu:1".parse::<Device>().is_err());
    }
}
