//! Preprocessing as other libraries write it down: timm's `pretrained_cfg` and Hugging Face's
//! `preprocessor_config.json`, and where such files lie beside a model.

use std::path::Path;

use pellucid_guard::{AnyOf, Setting};
use serde_json::{Map, Value};

use super::{ChannelOrder, Crop, Layout, Preprocessing, PreprocessingError, ResizeRule};
use crate::resize::Filter;
use crate::text;

type Result<T> = std::result::Result<T, PreprocessingError>;

/// A JSON object and the words for it in errors.
pub(super) struct Config<'a> {
    object: &'a Map<String, Value>,
    origin: &'a str,
}

/// The JSON object in `text`.
pub(super) fn parse(text: &str, origin: &str) -> Result<Map<String, Value>> {
    let json = |detail: String| PreprocessingError::Json { origin: origin.into(), detail };
    let value: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| json(error.to_string()))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(json("expected an object {...}".to_string())),
    }
}

impl<'a> Config<'a> {
    /// The value at `key`; JSON `null` counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn missing<T>(&self, key: &str, expected: &'static str, setting: &'static [Setting]) -> Result<T> {
        Err(PreprocessingError::MissingKey {
            origin: self.origin.into(),
            key: key.into(),
            expected,
            settings: AnyOf(setting),
        })
    }

    fn bad<T>(&self, key: &str, found: &Value, expected: &'static str, setting: &'static [Setting]) -> Result<T> {
        let mut found = found.to_string();
        if found.chars().count() > 120 {
            found = found.chars().take(119).chain(['…']).collect();
        }
        Err(PreprocessingError::BadValue {
            origin: self.origin.into(),
            key: key.into(),
            found,
            expected,
            settings: AnyOf(setting),
        })
    }

    fn unsupported<T>(&self, detail: impl Into<String>) -> Result<T> {
        Err(PreprocessingError::Unsupported { origin: self.origin.into(), detail: detail.into() })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => self.bad(key, other, "true or false", &[Setting::Preprocessing]),
        }
    }

    fn number(&self, key: &str, setting: &'static [Setting]) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => self.bad(key, value, "a number", setting),
            },
        }
    }

    /// One number for all channels, or one for each.
    fn channels(&self, key: &str, setting: &'static [Setting]) -> Result<Option<[f64; 3]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = match value {
            Value::Array(items) => items.iter().map(Value::as_f64).collect(),
            other => other.as_f64().map(|number| vec![number]),
        };
        match numbers.as_deref() {
            Some([one]) => Ok(Some([*one; 3])),
            Some([r, g, b]) => Ok(Some([*r, *g, *b])),
            _ => self.bad(key, value, "one or three numbers", setting),
        }
    }

    /// The class that a Hugging Face configuration belongs to.
    fn kind(&self) -> Option<&'a str> {
        ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| self.get(key)?.as_str())
    }

    /// Whether it belongs to a class whose name begins so.
    fn is(&self, kind: &str) -> bool {
        self.kind().is_some_and(|own| own.starts_with(kind))
    }

    fn filter_by_name(&self, key: &str) -> Result<Filter> {
        const EXPECTED: &str = "nearest, bilinear, bicubic, lanczos, box or hamming";
        let Some(value) = self.get(key) else { return self.missing(key, EXPECTED, &[Setting::Filter]) };
        match value.as_str().and_then(Filter::from_name) {
            Some(filter) => Ok(filter),
            None => self.bad(key, value, EXPECTED, &[Setting::Filter]),
        }
    }
}

fn side(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0)
}

/// timm: `resolve_data_config` and `transforms_imagenet_eval`.
pub(super) fn timm(object: &Map<String, Value>, origin: &str) -> Result<Preprocessing> {
    let inner = object.get("pretrained_cfg").and_then(Value::as_object);
    let config = Config { object: inner.unwrap_or(object), origin };
    let expected = "[channels, height, width]";
    let Some(size) = config.get("input_size") else { return config.missing("input_size", expected, &[Setting::Size]) };
    let sides: Option<Vec<u32>> = size.as_array().and_then(|sides| sides.iter().map(side).collect());
    let (channels, height, width) = match sides.as_deref() {
        Some([1, height, width]) => (ChannelOrder::Gray, *height, *width),
        Some([3, height, width]) => (ChannelOrder::Rgb, *height, *width),
        _ => return config.bad("input_size", size, expected, &[Setting::Size]),
    };
    let Some(fraction) = config.number("crop_pct", &[Setting::Resize])? else {
        return config.missing("crop_pct", "a fraction such as 0.875", &[Setting::Resize]);
    };
    let resize = match config.get("crop_mode").map_or(Some("center"), Value::as_str) {
        Some("center") => ResizeRule::CropPct(fraction),
        Some("squash") => ResizeRule::SquashPct(fraction),
        Some("border") => ResizeRule::BorderPct(fraction),
        _ => return config.unsupported("`crop_mode` is none of center, squash and border"),
    };
    let Some(mean) = config.channels("mean", &[Setting::Mean])? else {
        return config.missing("mean", "three numbers", &[Setting::Mean]);
    };
    let Some(std) = config.channels("std", &[Setting::Std])? else {
        return config.missing("std", "three numbers", &[Setting::Std]);
    };
    let filter = config.filter_by_name("interpolation")?;
    Ok(Preprocessing {
        width,
        height,
        resize,
        filter,
        crop: Crop::Centre,
        channels,
        layout: Layout::Nchw,
        scale: 1.0 / 255.0,
        mean,
        std,
        source: format!("{origin} (timm)"),
    })
}

/// Hugging Face: the image processors of transformers, by their common keys.
pub(super) fn hugging_face(object: &Map<String, Value>, origin: &str) -> Result<Preprocessing> {
    if object.get("pretrained_cfg").is_some_and(Value::is_object) {
        return timm(object, origin);
    }
    let config = Config { object, origin };
    let mut assumed = Vec::new();
    if config.flag("do_pad")? == Some(true) {
        return config.unsupported("`do_pad` is true");
    }
    let filter = hugging_face_filter(&config, &mut assumed)?;
    let (resize, width, height) = hugging_face_geometry(&config)?;
    let scale = hugging_face_scale(&config, &mut assumed)?;
    let (mean, std) = hugging_face_statistics(&config, &mut assumed)?;
    let flipped = config.flag("do_flip_channel_order")? == Some(true);
    let mut source = format!("{origin} (Hugging Face {})", config.kind().unwrap_or("processor"));
    if !assumed.is_empty() {
        source = format!("{source}; it leaves out {}", assumed.join(" and "));
    }
    Ok(Preprocessing {
        width,
        height,
        resize,
        filter,
        crop: Crop::CentreFloor,
        channels: if flipped { ChannelOrder::Bgr } else { ChannelOrder::Rgb },
        layout: Layout::Nchw,
        scale,
        mean,
        std,
        source,
    })
}

fn hugging_face_filter(config: &Config<'_>, assumed: &mut Vec<&'static str>) -> Result<Filter> {
    if config.flag("do_resize")? == Some(false) {
        return Ok(Filter::Bilinear);
    }
    match config.get("resample") {
        None => {
            assumed.push("`resample`, taken as bilinear");
            Ok(Filter::Bilinear)
        }
        Some(value) => match value.as_u64().and_then(Filter::from_pillow) {
            Some(filter) => Ok(filter),
            None => config.bad("resample", value, "a Pillow filter from 0 to 5", &[Setting::Filter]),
        },
    }
}

/// What `size` and `crop_size` may say.
enum Size {
    Shortest(u32),
    Exact(u32, u32),
}

fn size_of(config: &Config<'_>, key: &str) -> Result<Option<Size>> {
    const EXPECTED: &str = "a number, {\"shortest_edge\": n} or {\"height\": h, \"width\": w}";
    let Some(value) = config.get(key) else { return Ok(None) };
    let read = match value {
        Value::Object(sides) => match (sides.get("height"), sides.get("width"), sides.get("shortest_edge")) {
            (Some(height), Some(width), None) => side(width).zip(side(height)).map(|(w, h)| Size::Exact(w, h)),
            (None, None, Some(edge)) if !sides.contains_key("longest_edge") => side(edge).map(Size::Shortest),
            _ => None,
        },
        // Old configurations: [width, height].
        Value::Array(sides) if sides.len() == 2 => side(&sides[0]).zip(side(&sides[1])).map(|(w, h)| Size::Exact(w, h)),
        number => side(number).map(|side| if squares(config) { Size::Exact(side, side) } else { Size::Shortest(side) }),
    };
    match read {
        Some(size) => Ok(Some(size)),
        None => config.bad(key, value, EXPECTED, &[Setting::Size, Setting::Resize]),
    }
}

/// Whether the processor reads a bare number as a square; those that crop read it as the shorter
/// side.
fn squares(config: &Config<'_>) -> bool {
    let cropped = config.object.get("do_center_crop").and_then(Value::as_bool);
    !cropped.unwrap_or(config.get("crop_size").is_some()) && config.get("crop_pct").is_none()
}

fn hugging_face_geometry(config: &Config<'_>) -> Result<(ResizeRule, u32, u32)> {
    let resized = if config.flag("do_resize")? == Some(false) { None } else { size_of(config, "size")? };
    let cropped = config.flag("do_center_crop")?.unwrap_or(config.get("crop_size").is_some());
    let crop = if cropped { size_of(config, "crop_size")? } else { None };
    if cropped && crop.is_none() && config.get("crop_pct").is_none() {
        return config.missing("crop_size", "the size that do_center_crop crops to", &[Setting::Size]);
    }
    let fraction = config.number("crop_pct", &[Setting::Resize])?;
    // ConvNeXt's processor has a fraction of its own where the file leaves it out.
    let fraction = fraction.or_else(|| config.is("ConvNext").then_some(224.0 / 256.0));
    if let (Some(fraction), Some(Size::Shortest(edge))) = (fraction, &resized) {
        return crop_fraction(config, fraction, *edge);
    }
    let resized = match resized {
        // LeViT's processor enlarges the shorter side by 256 / 224 before it crops.
        Some(Size::Shortest(edge)) if config.is("Levit") => {
            Some(Size::Shortest((256.0 / 224.0 * f64::from(edge)) as u32))
        }
        resized => resized,
    };
    let rule = match resized {
        None => ResizeRule::None,
        Some(Size::Shortest(edge)) => ResizeRule::ShortestSide(edge),
        Some(Size::Exact(width, height)) => ResizeRule::ExactTo(width, height),
    };
    match (crop, rule) {
        (Some(Size::Exact(width, height)), rule) => Ok((rule, width, height)),
        (Some(Size::Shortest(edge)), rule) => Ok((rule, edge, edge)),
        (None, ResizeRule::ExactTo(width, height)) => Ok((ResizeRule::Exact, width, height)),
        (None, ResizeRule::None) => config.missing("size", "the size of the model's input", &[Setting::Size]),
        (None, _) => {
            config.unsupported("`size` fixes the shorter side only and nothing is cropped, so inputs vary in size")
        }
    }
}

/// ConvNeXt and its like: below 384 pixels the shorter side grows by 1 / crop_pct and the middle
/// is kept; from 384 on the picture is squashed.
fn crop_fraction(config: &Config<'_>, fraction: f64, edge: u32) -> Result<(ResizeRule, u32, u32)> {
    if !(fraction > 0.05 && fraction <= 4.0) {
        return config.bad("crop_pct", &Value::from(fraction), "a fraction such as 0.875", &[Setting::Resize]);
    }
    if edge >= 384 {
        return Ok((ResizeRule::Exact, edge, edge));
    }
    Ok((ResizeRule::ShortestSide((f64::from(edge) / fraction) as u32), edge, edge))
}

fn hugging_face_scale(config: &Config<'_>, assumed: &mut Vec<&'static str>) -> Result<f64> {
    if config.flag("rescale_offset")? == Some(true) && !config.is("EfficientNet") {
        return config.unsupported("`rescale_offset` is set");
    }
    match (config.flag("do_rescale")?, config.number("rescale_factor", &[Setting::Scale])?) {
        (Some(false), _) => Ok(1.0),
        (_, Some(factor)) => Ok(factor),
        (_, None) => {
            assumed.push("`rescale_factor`, taken as 1/255");
            Ok(1.0 / 255.0)
        }
    }
}

fn hugging_face_statistics(config: &Config<'_>, assumed: &mut Vec<&'static str>) -> Result<([f64; 3], [f64; 3])> {
    let (mean, std) =
        (config.channels("image_mean", &[Setting::Mean])?, config.channels("image_std", &[Setting::Std])?);
    let normalised = config.flag("do_normalize")?;
    // MobileViT's processors carry a mean and a standard deviation that they never use.
    let never = normalised.is_none() && config.kind().is_some_and(|kind| kind.starts_with("MobileViT"));
    // EfficientNet's processor may take 1 off after scaling, and divides by the standard deviation once more.
    let efficient = config.is("EfficientNet");
    let offset = if efficient && config.flag("rescale_offset")? == Some(true) { 1.0 } else { 0.0 };
    let again = match (efficient && config.flag("include_top")?.unwrap_or(true), std) {
        (true, Some(std)) => std,
        _ => [1.0; 3],
    };
    if normalised == Some(false) || never {
        return Ok(([offset; 3], again));
    }
    if normalised.is_none() {
        assumed.push("`do_normalize`, taken as true");
    }
    match (mean, std) {
        (Some(mean), Some(std)) => Ok((mean.map(|m| m + offset), std::array::from_fn(|c| std[c] * again[c]))),
        (None, _) => config.missing("image_mean", "three numbers, or do_normalize: false", &[Setting::Mean]),
        (_, None) => config.missing("image_std", "three numbers, or do_normalize: false", &[Setting::Std]),
    }
}

/// See [`Preprocessing::find_beside`].
pub(super) fn find_beside(model: &Path) -> Result<Option<Preprocessing>> {
    for candidate in ["preprocess.json", "json"] {
        let path = model.with_extension(candidate);
        if let Some(text) = read_if_there(&path)? {
            return any_format(&text, &path).map(Some);
        }
    }
    let folder = model.parent().unwrap_or(Path::new(""));
    if let Some(text) = read_if_there(&folder.join("preprocessor_config.json"))? {
        return Preprocessing::from_hf_json(&text, "preprocessor_config.json").map(Some);
    }
    let Some(text) = read_if_there(&folder.join("config.json"))? else { return Ok(None) };
    let object = parse(&text, "config.json")?;
    let inner = object.get("pretrained_cfg").and_then(Value::as_object);
    match inner.is_some() || object.contains_key("input_size") {
        true => Preprocessing::from_timm_json(&text, "config.json").map(Some),
        false => Ok(None),
    }
}

/// See [`Preprocessing::open`].
pub(super) fn open(path: &Path) -> Result<Preprocessing> {
    let text = text::read(path).map_err(|source| PreprocessingError::Io { path: path.into(), source })?;
    any_format(&text, path)
}

fn any_format(text: &str, path: &Path) -> Result<Preprocessing> {
    let origin = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let object = parse(text, &origin)?;
    if object.contains_key("image_mean") || object.contains_key("do_resize") {
        return Preprocessing::from_hf_json(text, &origin);
    }
    if object.contains_key("pretrained_cfg") || object.contains_key("input_size") {
        return Preprocessing::from_timm_json(text, &origin);
    }
    Preprocessing::from_json(text, &origin)
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match text::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PreprocessingError::Io { path: path.into(), source }),
    }
}
