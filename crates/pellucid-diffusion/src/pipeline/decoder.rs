//! Pictures of latents, and latents of pictures.

use super::{PipelineOptions, component, config, missing, read};
use crate::entries::{Entries, read_json_if_there};
use crate::error::DiffusionError;
use ndarray::{Array4, Axis, Ix4, Slice};
use pellucid_runtime::{Array, Runtime, Session};
use std::path::{Path, PathBuf};

/// What lies between latents and pictures.
#[derive(Debug)]
pub(super) struct Decoder {
    latent: [usize; 3],
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Latents are pictures in [−1, 1].
    Pixels,
    /// Latents are pictures whose black and white are these.
    Range([f32; 2]),
    /// An autoencoder.
    Autoencoder(Box<Autoencoder>),
}

/// A decoder, and the encoder beside it once it was needed.
#[derive(Debug)]
struct Autoencoder {
    folder: PathBuf,
    runtime: Runtime,
    options: PipelineOptions,
    decoder: Session,
    encoder: Option<Session>,
    /// The factor between latents of the network and of the decoder.
    scaling: f32,
    /// Added to a latent after it is divided by the factor.
    shift: f32,
    /// Channels, height and width of a decoded picture, once one was.
    decoded: Option<[usize; 3]>,
}

impl Decoder {
    /// A model of pixels in [−1, 1].
    pub(super) fn of_pixels(latent: [usize; 3]) -> Self {
        Self { latent, way: Way::Pixels }
    }

    /// A model of pixels whose black and white are `range`.
    pub(super) fn of_range(latent: [usize; 3], range: [f32; 2]) -> Self {
        Self { latent, way: Way::Range(range) }
    }

    /// The decoder of a diffusers folder with its scaling and shift. A pipeline without one works on pixels.
    pub(super) fn of_folder(
        folder: &Path,
        runtime: &Runtime,
        index: &Entries<'_>,
        latent: [usize; 3],
        options: &PipelineOptions,
    ) -> Result<Self, DiffusionError> {
        let file = folder.join("vae_decoder/model.onnx");
        if !file.exists() {
            let named = ["vae_decoder", "vae"].iter().any(|n| index.get(n).is_some());
            let is_missing = || missing(folder, "decoder", "vae_decoder/model.onnx");
            return if named { Err(is_missing()) } else { Ok(Self::of_pixels(latent)) };
        }
        let config_file = folder.join("vae_decoder/config.json");
        let json = read_json_if_there(&config_file, &options.budget)?;
        let wrong = |reason| config(&config_file, reason);
        let entries = Entries::of(&json).map_err(wrong)?;
        let scales = |n: f64| (n as f32).is_normal() && n > 0.0;
        let scaling = entries.number("scaling_factor", 0.18215, "a positive number", scales).map_err(wrong)?;
        let shift = entries.number("shift_factor", 0.0, "a number", |n| (n as f32).is_finite()).map_err(wrong)?;
        let model = read(&file, options)?;
        let autoencoder = Autoencoder {
            folder: folder.to_path_buf(),
            runtime: runtime.clone(),
            options: options.clone(),
            decoder: runtime.session(&model, &options.session)?,
            encoder: None,
            scaling: scaling as f32,
            shift: shift as f32,
            decoded: None,
        };
        Ok(Self { latent, way: Way::Autoencoder(Box::new(autoencoder)) })
    }

    /// Channels, height and width of a picture.
    pub(super) fn size(&mut self) -> Result<[usize; 3], DiffusionError> {
        match &mut self.way {
            Way::Pixels | Way::Range(_) => Ok(self.latent),
            Way::Autoencoder(autoencoder) => autoencoder.size(self.latent),
        }
    }

    /// As [`super::Pipeline::decode`].
    pub(super) fn decode(&mut self, latents: &Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        match &mut self.way {
            Way::Pixels => Ok(latents.clone()),
            Way::Range([low, high]) => {
                // Exactly as it is where it is in [−1, 1] already.
                let (scale, middle) = (2.0 / (*high - *low), (*low + *high) / 2.0);
                Ok(latents.mapv(|v| (v - middle) * scale))
            }
            Way::Autoencoder(autoencoder) => autoencoder.decode(latents),
        }
    }

    /// As [`super::Pipeline::encode_picture`]; `network` is what a model of pixels is called in messages.
    pub(super) fn encode(&mut self, pictures: &Array4<f32>, network: &str) -> Result<Array4<f32>, DiffusionError> {
        match &mut self.way {
            Way::Pixels => in_its_shape(pictures.clone(), self.latent, network),
            Way::Range([low, high]) => {
                let gray = self.latent[0] == 1 && pictures.len_of(Axis(1)) == 3;
                let mean = gray.then(|| pictures.mean_axis(Axis(1)).map(|mean| mean.insert_axis(Axis(1)))).flatten();
                let pictures = in_its_shape(mean.as_ref().unwrap_or(pictures).clone(), self.latent, network)?;
                Ok(pictures.mapv(|v| v * (*high - *low) / 2.0 + (*low + *high) / 2.0))
            }
            Way::Autoencoder(autoencoder) => autoencoder.encode(pictures, self.latent),
        }
    }
}

/// `pictures`, if a model of pixels takes such.
fn in_its_shape(pictures: Array4<f32>, latent: [usize; 3], network: &str) -> Result<Array4<f32>, DiffusionError> {
    let (_, c, h, w) = pictures.dim();
    if [c, h, w] == latent {
        return Ok(pictures);
    }
    let reason = format!(
        "it takes pictures of {latent:?} (channels, height, width), and a picture to start from is {:?}",
        [c, h, w]
    );
    Err(DiffusionError::Shape { model: PathBuf::from(network), reason })
}

impl Autoencoder {
    fn size(&mut self, [c, h, w]: [usize; 3]) -> Result<[usize; 3], DiffusionError> {
        if let Some(size) = self.decoded {
            return Ok(size);
        }
        let (_, channels, height, width) = self.decode(&Array4::zeros((1, c, h, w)))?.dim();
        Ok([channels, height, width])
    }

    fn decode(&mut self, latents: &Array4<f32>) -> Result<Array4<f32>, DiffusionError> {
        let (scaling, shift) = (self.scaling, self.shift);
        let input = Array::F32(latents.mapv(|v| v / scaling + shift).into_dyn());
        let name = self.decoder.inputs().into_iter().next().unwrap_or_default();
        let output = self.decoder.run(&[(&name, &input)])?.into_iter().next().and_then(Array::into_f32);
        let rows = latents.len_of(Axis(0));
        let shape = output.as_ref().map(|o| o.shape().to_vec()).unwrap_or_default();
        let odd = |expected: String| DiffusionError::Shape {
            model: self.folder.join("vae_decoder/model.onnx"),
            reason: format!("it gives {shape:?} for {rows} latents; expected {expected}"),
        };
        let pictures = match shape.as_slice() {
            [n, channels @ (1 | 3), height, width] if *n == rows && *height > 0 && *width > 0 => {
                Some([*channels, *height, *width])
            }
            _ => None,
        };
        let size = pictures.ok_or_else(|| odd(format!("float pictures of {rows} × 3 × height × width")))?;
        match self.decoded {
            Some(before) if before != size => return Err(odd(format!("pictures of {before:?} as before"))),
            _ => self.decoded = Some(size),
        }
        let output = output.and_then(|o| o.into_dimensionality::<Ix4>().ok());
        output.ok_or_else(|| odd("pictures".to_owned()))
    }

    fn encode(
        &mut self,
        pictures: &Array4<f32>,
        [channels, height, width]: [usize; 3],
    ) -> Result<Array4<f32>, DiffusionError> {
        let file = self.folder.join("vae_encoder/model.onnx");
        let mut session = match self.encoder.take() {
            Some(session) => session,
            None => {
                let path = component(&self.folder, "encoder of pictures", "vae_encoder/model.onnx")?;
                let model = read(&path, &self.options)?;
                self.runtime.session(&model, &self.options.session)?
            }
        };
        let name = session.inputs().into_iter().next().unwrap_or_default();
        let output = session.run(&[(&name, &Array::F32(pictures.clone().into_dyn()))]);
        self.encoder = Some(session);
        let latent = output?.into_iter().next().and_then(Array::into_f32);
        let fits = |l: &Array4<f32>| {
            let (n, c, h, w) = l.dim();
            n == pictures.len_of(Axis(0)) && c >= channels && (h, w) == (height, width)
        };
        let latent = latent.and_then(|o| o.into_dimensionality::<Ix4>().ok()).filter(fits);
        let latent = latent.ok_or_else(|| DiffusionError::Shape {
            model: file,
            reason: format!("it gives no latent of {channels} × {height} × {width} for each picture"),
        })?;
        // Mean and logarithm of the variance lie behind each other where the export gives the distribution.
        let mean = latent.slice_axis(Axis(1), Slice::from(..channels));
        Ok(mean.mapv(|v| (v - self.shift) * self.scaling))
    }
}
