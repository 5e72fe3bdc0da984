//! From a picture to the numbers that a model reads: resize, centre crop, scale, normalise, order.
//!
//! There is one [`Preprocessing`] for a run, and it always says where it came from. Nothing is
//! assumed silently: where no configuration is found the caller gets `None` and asks the user.
//!
//! The order of steps, for a picture p with 8-bit channels:
//! 1. resize by [`ResizeRule`] with a [`Filter`] (equal to Pillow's);
//! 2. centre crop to the input size;
//! 3. channels in [`ChannelOrder`];
//! 4. `(p * scale - mean) / std` for each channel;
//! 5. laid out as [`Layout`].

mod configs;
mod geometry;

pub use geometry::ViewBox;

use std::path::{Path, PathBuf};

use ndarray::Array3;
use pellucid_guard::{AnyOf, Setting};
use serde::{Deserialize, Serialize};

use crate::picture::Picture;
use crate::resize::Filter;
use crate::text::{said, shown};

/// Why a preprocessing configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessingError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", shown(.path))]
    Io {
        /// The configuration file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Not JSON.
    #[error("{}: not valid JSON: {}", said(.origin), said(.detail))]
    Json {
        /// File or origin of the text.
        origin: String,
        /// What the parser said.
        detail: String,
    },
    /// A value that is needed is not there.
    #[error("{}: `{key}` is missing ({expected}); add it, or give {settings}", said(.origin))]
    MissingKey {
        /// File or origin of the configuration.
        origin: String,
        /// The key.
        key: String,
        /// What it should hold.
        expected: &'static str,
        /// What gives it instead.
        settings: AnyOf,
    },
    /// A value that makes no sense.
    #[error("{}: `{key}` is {}, expected {expected}; correct it, or give {settings}", said(.origin), said(.found))]
    BadValue {
        /// File or origin of the configuration.
        origin: String,
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What it should hold.
        expected: &'static str,
        /// What gives it instead.
        settings: AnyOf,
    },
    /// A step that this library does not do.
    #[error(
        "{}: {}; say how pictures are prepared with {how}, or in a `.preprocess.json` beside the model",
        said(.origin),
        said(.detail),
        how = AnyOf(&[Setting::Size, Setting::Resize, Setting::Scale, Setting::Mean, Setting::Std])
    )]
    Unsupported {
        /// File or origin of the configuration.
        origin: String,
        /// What is not supported.
        detail: String,
    },
    /// What was set alone does not describe a preprocessing.
    #[error(
        "no preprocessing is known for this model; say how pictures were prepared in training: {} (for a network trained on \
         ImageNet usually {})",
        all(.missing, |setting| format!("{setting:#}")),
        all(.missing, |setting| setting.with(usual(setting)))
    )]
    Incomplete {
        /// What is still needed.
        missing: Vec<Setting>,
    },
}

/// How a picture is brought to a size before the centre crop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeRule {
    /// Not at all; only the crop (with black borders where the picture is smaller).
    None,
    /// Straight to the input size, changing the aspect ratio.
    Exact,
    /// Straight to this size (width, height), changing the aspect ratio.
    ExactTo(u32, u32),
    /// The shorter side to this many pixels, keeping the aspect ratio (torchvision's
    /// `Resize(int)`).
    ShortestSide(u32),
    /// timm's `crop_pct`: the shorter side to ⌊input size / fraction⌋, keeping the aspect ratio.
    CropPct(f64),
    /// timm's `crop_mode: squash`: both sides to ⌊input size / fraction⌋.
    SquashPct(f64),
    /// timm's `crop_mode: border`: the longer side to ⌊input size / fraction⌋, the borders filled
    /// with the colour that normalises to 0.
    BorderPct(f64),
}

/// How the middle of a picture is found when the difference of sides is odd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// Half the difference rounded to even, as torchvision and timm.
    #[default]
    Centre,
    /// Half the difference rounded down, as Hugging Face processors.
    CentreFloor,
}

/// The order of colours in the model's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red (models from Caffe or OpenCV).
    Bgr,
    /// One channel: luma as Pillow's `convert('L')` (ITU-R 601).
    Gray,
}

impl ChannelOrder {
    /// Number of channels: 3, or 1 for gray.
    pub fn count(self) -> usize {
        if self == ChannelOrder::Gray { 1 } else { 3 }
    }
}

/// Where the channel axis of the model's input is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Batch, channel, height, width (PyTorch).
    #[default]
    Nchw,
    /// Batch, height, width, channel (TensorFlow).
    Nhwc,
}

/// Everything between a decoded picture and the model's input.
///
/// As JSON this is also the project's own configuration format, in a file `<stem>.preprocess.json`
/// or `<stem>.json` beside `<stem>.onnx`:
///
/// ```
/// let text = r#"{
///     "width": 224, "height": 224,
///     "resize": {"crop_pct": 0.875},
///     "filter": "bicubic",
///     "channels": "rgb", "layout": "nchw",
///     "scale": 0.00392156862745098,
///     "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
///     "source": "the training script"
/// }"#;
/// let preprocessing = pellucid_vision::preprocess::Preprocessing::from_json(text, "example")?;
/// assert_eq!(preprocessing.width, 224);
/// # Ok::<(), pellucid_vision::preprocess::PreprocessingError>(())
/// ```
///
/// `resize` is one of `"none"`, `"exact"`, `{"exact_to": [w, h]}`, `{"shortest_side": n}`,
/// `{"crop_pct": f}`, `{"squash_pct": f}`, `{"border_pct": f}`. `mean` and `std` are in the units
/// of `p * scale` and in the order of `channels`; for gray only the first is used. `crop`
/// (`"centre"`), `channels` (`"rgb"`), `layout` (`"nchw"`) and `source` may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Width of the model's input in pixels.
    pub width: u32,
    /// Height of the model's input in pixels.
    pub height: u32,
    /// How a picture gets to a size before the crop.
    pub resize: ResizeRule,
    /// The filter of the resize.
    pub filter: Filter,
    /// How the crop's place is rounded.
    #[serde(default)]
    pub crop: Crop,
    /// Order of the channels in the model's input.
    #[serde(default)]
    pub channels: ChannelOrder,
    /// Order of the axes in the model's input.
    #[serde(default)]
    pub layout: Layout,
    /// Factor on the 8-bit values, before mean and std: 1/255 for most, 1 for Caffe models.
    pub scale: f64,
    /// Subtracted from `p * scale`, in the order of `channels`.
    pub mean: [f64; 3],
    /// Divides what is left, in the order of `channels`; no entry is 0.
    pub std: [f64; 3],
    /// Where these settings came from, in words.
    #[serde(default)]
    pub source: String,
}

impl Preprocessing {
    /// Reads the project's own JSON format (see the type's documentation). `origin` names the text
    /// in errors and, where it has no `source`, becomes it.
    pub fn from_json(text: &str, origin: &str) -> Result<Preprocessing, PreprocessingError> {
        let mut read: Preprocessing = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| PreprocessingError::Json { origin: origin.into(), detail: error.to_string() })?;
        read.source = if read.source.is_empty() { origin.into() } else { format!("{origin}: {}", read.source) };
        read.checked(origin)
    }

    /// Reads a timm configuration: a `config.json` with `pretrained_cfg`, or that object alone
    /// (`input_size`, `interpolation`, `crop_pct`, `crop_mode`, `mean`, `std`). `origin` names the
    /// text in errors and in `source`.
    pub fn from_timm_json(text: &str, origin: &str) -> Result<Preprocessing, PreprocessingError> {
        configs::timm(&configs::parse(text, origin)?, origin)?.checked(origin)
    }

    /// Reads a Hugging Face `preprocessor_config.json`. `origin` names the text in errors and in
    /// `source`. Values that the file leaves to the library's defaults are named in `source`.
    pub fn from_hf_json(text: &str, origin: &str) -> Result<Preprocessing, PreprocessingError> {
        configs::hugging_face(&configs::parse(text, origin)?, origin)?.checked(origin)
    }

    /// Reads a configuration file: the project's own format, timm's or Hugging Face's, told apart by their keys.
    pub fn open(path: impl AsRef<Path>) -> Result<Preprocessing, PreprocessingError> {
        configs::open(path.as_ref())
    }

    /// The configuration beside a model file, or `None` where there is none. Looked for in this
    /// order: `<stem>.preprocess.json`, `<stem>.json` (the project's own format, timm's or Hugging
    /// Face's), `preprocessor_config.json`, `config.json` with a `pretrained_cfg`.
    pub fn find_beside(model: impl AsRef<Path>) -> Result<Option<Preprocessing>, PreprocessingError> {
        configs::find_beside(model.as_ref())
    }

    /// `picture` as the model's input: channels × height × width for [`Layout::Nchw`], height ×
    /// width × channels for [`Layout::Nhwc`].
    pub fn run(&self, picture: &Picture) -> Array3<f32> {
        let mut values = Array3::zeros(self.shape());
        if let Some(slice) = values.as_slice_mut() {
            self.run_into(picture, slice);
        }
        values
    }

    /// As [`Preprocessing::run`], into `out`, which has [`Preprocessing::len`] elements.
    ///
    /// # Panics
    /// If `out` has another length: that is a mistake of the calling code.
    pub fn run_into(&self, picture: &Picture, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "the target must hold one input of {:?}", self.shape());
        self.normalise(&self.view(picture), out);
    }

    /// The model's input of what it sees: [`Preprocessing::run`] of a picture, from its [`Preprocessing::view`].
    pub fn of_view(&self, view: &Picture) -> Array3<f32> {
        let mut values = Array3::zeros(self.shape());
        if let Some(slice) = values.as_slice_mut() {
            self.normalise(view, slice);
        }
        values
    }

    /// The resized and cropped 8-bit picture that the model sees, for overlays: width × height of
    /// the input, in RGB whatever the model's channel order.
    pub fn view(&self, picture: &Picture) -> Picture {
        geometry::view(self, picture)
    }

    /// Where the view of a picture of this width and height lies in it.
    pub fn view_box(&self, width: u32, height: u32) -> ViewBox {
        geometry::view_box(self, (width, height))
    }

    /// Shape of one input without the batch axis.
    pub fn shape(&self) -> [usize; 3] {
        let (height, width, channels) = (self.height as usize, self.width as usize, self.channels.count());
        match self.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }

    /// Number of values of one input.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// The same preprocessing for another input size; crop fractions stay, a fixed shortest side
    /// keeps its ratio to the input.
    pub fn with_size(&self, width: u32, height: u32) -> Preprocessing {
        let ratio = f64::from(width.min(height)) / f64::from(self.width.min(self.height));
        let scaled = |side: u32| ((f64::from(side) * ratio).round() as u32).max(1);
        let resize = match self.resize {
            ResizeRule::ShortestSide(side) => ResizeRule::ShortestSide(scaled(side)),
            ResizeRule::ExactTo(w, h) => ResizeRule::ExactTo(scaled(w), scaled(h)),
            other => other,
        };
        Preprocessing { width, height, resize, ..self.clone() }
    }

    /// Writes a picture of the input's size as normalised floats.
    fn normalise(&self, view: &Picture, out: &mut [f32]) {
        let channels = self.channels.count();
        let plane = self.width as usize * self.height as usize;
        let tables: Vec<[f32; 256]> = (0..channels).map(|channel| self.table(channel)).collect();
        let (step, offset) = match self.layout {
            Layout::Nchw => (1, plane),
            Layout::Nhwc => (channels, 1),
        };
        for (at, pixel) in view.data().chunks_exact(3).enumerate() {
            for (channel, table) in tables.iter().enumerate() {
                let value = match self.channels {
                    ChannelOrder::Rgb => pixel[channel],
                    ChannelOrder::Bgr => pixel[2 - channel],
                    ChannelOrder::Gray => luma(pixel),
                };
                out[at * step + channel * offset] = table[usize::from(value)];
            }
        }
    }

    /// Whether every level becomes a whole number from 0 to 255.
    pub fn is_whole(&self) -> bool {
        let table = |channel| self.table(channel);
        (0..self.channels.count()).all(|c| table(c).iter().all(|v| v.fract() == 0.0 && (0.0..=255.0).contains(v)))
    }

    /// What each of the 256 levels becomes in one channel.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|level| ((level as f64 * self.scale - self.mean[channel]) / self.std[channel]) as f32)
    }

    /// One line for people: what happens to a picture, and why.
    pub fn describe(&self) -> String {
        let (w, h, filter) = (self.width, self.height, self.filter.name());
        let crop = format!("centre crop to {w}x{h}");
        let geometry = match self.resize {
            ResizeRule::None => format!("no resize, {crop}"),
            ResizeRule::Exact => format!("resize to {w}x{h} ({filter})"),
            ResizeRule::ExactTo(to_w, to_h) if (to_w, to_h) == (w, h) => format!("resize to {w}x{h} ({filter})"),
            ResizeRule::ExactTo(to_w, to_h) => format!("resize to {to_w}x{to_h} ({filter}), {crop}"),
            ResizeRule::ShortestSide(side) => format!("shorter side to {side} ({filter}), {crop}"),
            ResizeRule::CropPct(pct) => format!("shorter side to {w}x{h} / {pct} ({filter}), {crop}"),
            ResizeRule::SquashPct(pct) => format!("squash to {w}x{h} / {pct} ({filter}), {crop}"),
            ResizeRule::BorderPct(pct) => format!("longer side to {w}x{h} / {pct} ({filter}), borders, {crop}"),
        };
        let order = match self.channels {
            ChannelOrder::Rgb => "RGB",
            ChannelOrder::Bgr => "BGR",
            ChannelOrder::Gray => "gray",
        };
        let layout = if self.layout == Layout::Nchw { "NCHW" } else { "NHWC" };
        let used = self.channels.count();
        let (mean, std) = (&self.mean[..used], &self.std[..used]);
        let scale = geometry::scale_in_words(self.scale);
        format!("{geometry}; {order} {layout}; ({scale} - {mean:?}) / {std:?}; from {}", self.source)
    }

    /// The same settings if they make sense, else what does not.
    pub(crate) fn checked(self, origin: &str) -> Result<Preprocessing, PreprocessingError> {
        let resize_is_sound = match self.resize {
            ResizeRule::ShortestSide(side) => (1..=MAX_RESIZE).contains(&side),
            ResizeRule::ExactTo(w, h) => (1..=MAX_RESIZE).contains(&w) && (1..=MAX_RESIZE).contains(&h),
            ResizeRule::CropPct(f) | ResizeRule::SquashPct(f) | ResizeRule::BorderPct(f) => f > 0.05 && f <= 4.0,
            ResizeRule::None | ResizeRule::Exact => true,
        };
        let size_is_sound = (1..=MAX_SIDE).contains(&self.width) && (1..=MAX_SIDE).contains(&self.height);
        let (size, resize) = (format!("{}x{}", self.width, self.height), format!("{:?}", self.resize));
        let (mean, std) = (format!("{:?}", self.mean), format!("{:?}", self.std));
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let scale = self.scale.to_string();
        let rules = [
            (size_is_sound, "width, height", size, "sides from 1 to 8192 pixels", &[Setting::Size][..]),
            (
                resize_is_sound,
                "resize",
                resize,
                "sides from 1 to 65536, or a fraction from 0.05 to 4",
                &[Setting::Resize][..],
            ),
            (positive(self.scale), "scale", scale, "a positive number, usually 1/255 or 1", &[Setting::Scale][..]),
            (self.mean.iter().all(|value| value.is_finite()), "mean", mean, "three numbers", &[Setting::Mean][..]),
            (self.std.iter().all(|value| positive(*value)), "std", std, "three positive numbers", &[Setting::Std][..]),
        ];
        let bad = |key: &str, found: String, expected: &'static str, settings: AnyOf| {
            Err(PreprocessingError::BadValue { origin: origin.into(), key: key.into(), found, expected, settings })
        };
        match rules.into_iter().find(|rule| !rule.0) {
            None if (0..3).any(|channel| self.table(channel).iter().any(|value| !value.is_finite())) => {
                let found = format!("{:e} with mean {:?} and std {:?}", self.scale, self.mean, self.std);
                bad("scale", found, "values that stay finite in 32 bits", AnyOf(&[Setting::Scale]))
            }
            None => Ok(self),
            Some((_, key, found, expected, settings)) => bad(key, found, expected, AnyOf(settings)),
        }
    }
}

fn all(settings: &[Setting], said: impl Fn(Setting) -> String) -> String {
    settings.iter().map(|setting| said(*setting)).collect::<Vec<_>>().join(" ")
}

/// The value that most networks trained on ImageNet want.
fn usual(setting: Setting) -> &'static str {
    match setting {
        Setting::Size => "224x224",
        Setting::Resize => "shortest:256",
        Setting::Scale => "1/255",
        Setting::Mean => "0.485,0.456,0.406",
        _ => "0.229,0.224,0.225",
    }
}

const MAX_SIDE: u32 = 8192;
const MAX_RESIZE: u32 = 65_536;

/// Pillow's `convert('L')`: ITU-R 601 weights in 16-bit fixed point, rounded.
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

/// What a user says about the preprocessing; what is `None` stays as it was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessingOverrides {
    /// Input size (width, height) in pixels.
    pub size: Option<(u32, u32)>,
    /// Resize rule.
    pub resize: Option<ResizeRule>,
    /// Resize filter.
    pub filter: Option<Filter>,
    /// Rounding of the crop.
    pub crop: Option<Crop>,
    /// Channel order.
    pub channels: Option<ChannelOrder>,
    /// Axis order.
    pub layout: Option<Layout>,
    /// Factor on the 8-bit values.
    pub scale: Option<f64>,
    /// Mean, in the order of the channels.
    pub mean: Option<[f64; 3]>,
    /// Standard deviation, in the order of the channels.
    pub std: Option<[f64; 3]>,
}

impl PreprocessingOverrides {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == PreprocessingOverrides::default()
    }

    /// `found` with these settings on top. With nothing found, size, resize, scale, mean and std
    /// must all be given, and the error lists those that are missing; the filter is then
    /// bilinear (and `source` says so) where none is given.
    pub fn apply(&self, found: Option<Preprocessing>) -> Result<Preprocessing, PreprocessingError> {
        let Some(found) = found else { return self.alone() };
        if self.is_empty() {
            return Ok(found);
        }
        let sized = match self.size {
            Some((width, height)) => found.with_size(width.max(1), height.max(1)),
            None => found,
        };
        let named = self.given().join(", ");
        let changed = Preprocessing {
            width: self.size.map_or(sized.width, |size| size.0),
            height: self.size.map_or(sized.height, |size| size.1),
            resize: self.resize.unwrap_or(sized.resize),
            filter: self.filter.unwrap_or(sized.filter),
            crop: self.crop.unwrap_or(sized.crop),
            channels: self.channels.unwrap_or(sized.channels),
            layout: self.layout.unwrap_or(sized.layout),
            scale: self.scale.unwrap_or(sized.scale),
            mean: self.mean.unwrap_or(sized.mean),
            std: self.std.unwrap_or(sized.std),
            source: format!("{}, changed by {named}", sized.source),
        };
        changed.checked("the settings given")
    }

    fn alone(&self) -> Result<Preprocessing, PreprocessingError> {
        match (self.size, self.resize, self.scale, self.mean, self.std) {
            (Some((width, height)), Some(resize), Some(scale), Some(mean), Some(std)) => {
                let assumed = if self.filter.is_none() { "; bilinear filter, as none was given" } else { "" };
                Preprocessing {
                    width,
                    height,
                    resize,
                    filter: self.filter.unwrap_or(Filter::Bilinear),
                    crop: self.crop.unwrap_or_default(),
                    channels: self.channels.unwrap_or_default(),
                    layout: self.layout.unwrap_or_default(),
                    scale,
                    mean,
                    std,
                    source: format!("{}{assumed}", self.given().join(", ")),
                }
                .checked("the settings given")
            }
            _ => Err(PreprocessingError::Incomplete { missing: self.missing() }),
        }
    }

    fn given(&self) -> Vec<&'static str> {
        let said = [
            (self.size.is_some(), "size"),
            (self.resize.is_some(), "resize"),
            (self.filter.is_some(), "filter"),
            (self.crop.is_some(), "crop"),
            (self.channels.is_some(), "channels"),
            (self.layout.is_some(), "layout"),
            (self.scale.is_some(), "scale"),
            (self.mean.is_some(), "mean"),
            (self.std.is_some(), "std"),
        ];
        said.into_iter().filter_map(|(given, name)| given.then_some(name)).collect()
    }

    fn missing(&self) -> Vec<Setting> {
        let needed = [
            (self.size.is_none(), Setting::Size),
            (self.resize.is_none(), Setting::Resize),
            (self.scale.is_none(), Setting::Scale),
            (self.mean.is_none(), Setting::Mean),
            (self.std.is_none(), Setting::Std),
        ];
        needed.into_iter().filter_map(|(lacks, setting)| lacks.then_some(setting)).collect()
    }
}
