//! What a data set has to show for a neuron: its range, and the crops that activate it most.

use super::draw::keep;
use super::{Files, PictureSettings};
use crate::scan::{ScanSettings, scan_samples};
use crate::{Classifier, Error, Progress};
use ndarray::{Array2, ArrayD, Axis};
use pellucid_classifier::feature_visualization::results::{DataResponse, TopCrop};
use pellucid_classifier::scan::FeatureTable;
use pellucid_classifier::statistics::quantile;
use pellucid_runtime::{Layout, TappedModel, VerifiedMap};
use pellucid_saliency::render::{Alignment, upsample};
use pellucid_vision::dataset::Dataset;
use pellucid_vision::loader;
use pellucid_vision::picture::Picture;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A crop holds the places where the neuron responds at least this share of its highest response, …
const RESPONDS: f32 = 0.5;
/// … and at least this share of the picture's side.
const LEAST: f32 = 0.3;

/// What is measured.
pub(super) struct Asked<'a> {
    /// Of these, ascending, each once.
    channels: Vec<usize>,
    /// The layer they are channels of; the features where `None`.
    layer: Option<&'a str>,
    scan: &'a ScanSettings,
}

impl<'a> Asked<'a> {
    pub(super) fn of(settings: &'a PictureSettings) -> Self {
        let channels = settings.neurons.iter().copied().chain(settings.pairs.iter().map(|(channel, _)| *channel));
        Self { channels: distinct(channels), layer: settings.layer.as_deref(), scan: &settings.scan }
    }
}

fn distinct(channels: impl Iterator<Item = usize>) -> Vec<usize> {
    channels.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Activations of a data set.
pub(super) struct Responses<'a> {
    classifier: &'a Classifier,
    data: &'a Arc<Dataset>,
    /// The data set's sample behind each row.
    index: Vec<usize>,
    /// Rows × channels (of those asked for).
    activations: Array2<f32>,
    channels: Vec<usize>,
    /// The model with the map of the pictured layer.
    mapped: TappedModel,
}

impl<'a> Responses<'a> {
    /// Scans `data` (neurons come from the scan's cache; a layer is run afresh).
    pub(super) fn measure(
        classifier: &'a Classifier,
        data: &'a Arc<Dataset>,
        asked: &Asked<'_>,
        progress: &dyn Progress,
    ) -> Result<Responses<'a>, Error> {
        let mut mapped = classifier.onnx("pictures of neurons")?.tapped().clone();
        let channels = asked.channels.clone();
        let (index, activations) = match asked.layer {
            None => scanned(classifier, data, asked.scan, &channels, progress)?,
            Some(layer) => {
                mapped.map = layer_map(classifier, &mapped, layer);
                run(classifier, data, &mapped, &channels, progress)?
            }
        };
        Ok(Responses { classifier, data, index, activations, channels, mapped })
    }

    /// From features that are in memory.
    pub(super) fn known(
        classifier: &'a Classifier,
        data: &'a Arc<Dataset>,
        table: &FeatureTable,
        neurons: impl Iterator<Item = usize>,
    ) -> Result<Responses<'a>, Error> {
        let channels = distinct(neurons);
        let activations = table.features.select(Axis(1), &channels);
        let mapped = classifier.onnx("pictures of neurons")?.tapped().clone();
        Ok(Responses { classifier, data, index: table.index.clone(), activations, channels, mapped })
    }

    /// The range of `channel`, and its `count` strongest crops, which go into `files`.
    pub(super) fn of(&self, channel: usize, count: usize, files: &mut Files) -> Result<DataResponse, Error> {
        let Some(column) = self.channels.iter().position(|&c| c == channel).filter(|&c| c < self.activations.ncols())
        else {
            return Ok(DataResponse { samples: self.index.len(), max: 0.0, p99: 0.0, dead: true, top: Vec::new() });
        };
        let values = self.activations.column(column);
        let mut sorted: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        sorted.sort_by(f64::total_cmp);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        let max = sorted.last().copied().unwrap_or(0.0) as f32;
        let rows: Vec<usize> = order.into_iter().filter(|&row| values[row] > 0.0).take(count).collect();
        let maps = self.maps(&rows, channel)?;
        let mut top = Vec::new();
        for (rank, (row, map)) in rows.iter().zip(maps).enumerate() {
            let index = self.index[*row];
            let seen = self.data.view(index, self.classifier.preprocessing(), self.classifier.budget())?;
            let crop = map.map_or_else(|| seen.clone(), |map| crop(&seen, &map));
            let file = keep(files, format!("neuron-{channel}-top-{}.png", rank + 1), &crop)?;
            let sample = &self.data.samples[index];
            let class_name = self.data.classes.get(sample.label).cloned().unwrap_or_default();
            top.push(TopCrop { file: sample.file.clone(), class_name, activation: values[*row], crop: file });
        }
        Ok(DataResponse { samples: self.index.len(), max, p99: quantile(&sorted, 0.99) as f32, dead: max <= 0.0, top })
    }

    /// The channel's map on each of `rows`.
    fn maps(&self, rows: &[usize], channel: usize) -> Result<Vec<Option<Array2<f32>>>, Error> {
        let none = || vec![None; rows.len()];
        let Some(map) = self.mapped.map.as_ref().filter(|m| m.is_direct()) else { return Ok(none()) };
        let onnx = self.classifier.onnx("maps of a layer")?;
        let Some(mut session) =
            self.mapped.map_session(onnx.runtime(), onnx.session(), onnx.memory(), rows.len().max(1))?
        else {
            return Ok(none());
        };
        let wanted: Vec<usize> = rows.iter().map(|&row| self.index[row]).collect();
        let batch = loader::load(self.data, self.classifier.preprocessing(), &wanted, self.classifier.budget(), None);
        if batch.indices != wanted || wanted.is_empty() {
            return Ok(none());
        }
        let out = session.run(&batch.inputs.into_dyn())?.into_iter().next().unwrap_or_default();
        let maps = map.neuron(&out, channel);
        Ok((0..rows.len()).map(|i| maps.as_ref().map(|m| m.index_axis(Axis(0), i).to_owned())).collect())
    }
}

/// The layer as a feature map; `None` where it is none, which compiling the objective says in words.
fn layer_map(classifier: &Classifier, tapped: &TappedModel, layer: &str) -> Option<VerifiedMap> {
    use pellucid_vision::preprocess::Layout as Axes;
    let layout = match (tapped.observed.get(layer)?.shape.len(), classifier.preprocessing().layout) {
        (4, Axes::Nchw) => Layout::ChannelsFirst,
        (4, Axes::Nhwc) => Layout::ChannelsLast,
        (3, _) => Layout::Tokens,
        _ => return None,
    };
    tapped.layer_map(layer, layout)
}

/// Activations of neurons, from the scan.
fn scanned(
    classifier: &Classifier,
    data: &Arc<Dataset>,
    settings: &ScanSettings,
    channels: &[usize],
    progress: &dyn Progress,
) -> Result<(Vec<usize>, Array2<f32>), Error> {
    let report = scan_samples(classifier, data, None, None, settings, progress)?;
    let layer = classifier.network().layer();
    let table = report.load(data, layer.classes(), layer.features())?;
    let known: Vec<usize> = channels.iter().copied().filter(|&c| c < table.features.ncols()).collect();
    Ok((table.index, table.features.select(Axis(1), &known)))
}

/// Activations of a layer's channels: the mean over their places.
fn run(
    classifier: &Classifier,
    data: &Arc<Dataset>,
    mapped: &TappedModel,
    channels: &[usize],
    progress: &dyn Progress,
) -> Result<(Vec<usize>, Array2<f32>), Error> {
    let onnx = classifier.onnx("maps of a layer")?;
    let (mut index, mut values) = (Vec::new(), Vec::new());
    let Some(map) = &mapped.map else { return Ok((index, Array2::zeros((0, channels.len())))) };
    let session = mapped.map_session(onnx.runtime(), onnx.session(), onnx.memory(), 16)?;
    let Some(mut session) = session else { return Ok((index, Array2::zeros((0, channels.len())))) };
    progress.start("run the layer", data.len() as u64);
    let all: Vec<usize> = (0..data.len()).collect();
    let batches = loader::batches(
        data.clone(),
        classifier.preprocessing().clone(),
        all,
        session.batching().size,
        *classifier.budget(),
        None,
    );
    for batch in batches {
        progress.advance((batch.indices.len() + batch.failures.len()) as u64);
        if batch.indices.is_empty() {
            continue;
        }
        let out: ArrayD<f32> = session.run(&batch.inputs.into_dyn())?.into_iter().next().unwrap_or_default();
        for (row, &sample) in batch.indices.iter().enumerate() {
            index.push(sample);
            for &channel in channels {
                let maps = map.neuron(&out, channel);
                let mean = maps.and_then(|m| m.index_axis(Axis(0), row).mean());
                values.push(mean.unwrap_or(f32::NAN));
            }
        }
    }
    progress.finish();
    let rows = index.len();
    Ok((index, Array2::from_shape_vec((rows, channels.len()), values).unwrap_or_default()))
}

/// The square around the places where `map` responds.
fn crop(picture: &Picture, map: &Array2<f32>) -> Picture {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let large = upsample(map.view(), width, height, Alignment::Centres);
    let peak = large.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let strong = large.indexed_iter().filter(|(_, v)| **v >= RESPONDS * peak).map(|(place, _)| place);
    let (mut low, mut high) = ([height, width], [0, 0]);
    for (y, x) in strong {
        (low, high) = ([low[0].min(y), low[1].min(x)], [high[0].max(y), high[1].max(x)]);
    }
    if peak <= 0.0 || low[0] > high[0] {
        return picture.clone();
    }
    let longest = (high[0] - low[0]).max(high[1] - low[1]) + 1;
    let side = longest.max((LEAST * width.min(height) as f32) as usize).min(width.min(height));
    let begin = |axis: usize, extent: usize| {
        let centre = (low[axis] + high[axis]) / 2;
        centre.saturating_sub(side / 2).min(extent - side)
    };
    let (top, left) = (begin(0, height), begin(1, width));
    Picture::from_fn(side as u32, side as u32, |x, y| picture.pixel(left as u32 + x, top as u32 + y))
}
