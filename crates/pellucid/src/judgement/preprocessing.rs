//! Whether a usual mistake of preprocessing, put right, gets more pictures right: the variants, run on some of the pictures.

use crate::scan::Scan;
use pellucid_classifier::data_problems::preprocessing::{Better, PICTURES, Variant, better};
use pellucid_classifier::network::Taps;
use pellucid_classifier::scan::{FeatureTable, predictions};
use pellucid_classifier::verdict::judgement::{Problem, ProblemKind};
use pellucid_guard::Setting;
use pellucid_vision::loader;
use pellucid_vision::preprocess::{ChannelOrder, Preprocessing, ResizeRule};

/// Pictures that every variant is tried on; those that are behind on them are not run on the rest.
const FIRST: usize = 64;
/// Above this share of right pictures no variant can gain the points that it must.
const HARDLY_BETTER: f64 = 0.95;
/// The statistics of ImageNet, for values of 0 to 1.
const IMAGENET: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// The variant that is better beyond doubt, in words and with the settings that make it; `None` where there is none, or too
/// little to be gained.
pub(super) fn of_the_preprocessing(scan: &Scan, table: &FeatureTable, predicted: &[usize]) -> Option<Problem> {
    let right: Vec<bool> = predicted.iter().zip(&table.labels).map(|(p, y)| p == y).collect();
    let count = right.iter().filter(|right| **right).count();
    if right.is_empty() || count as f64 > HARDLY_BETTER * right.len() as f64 {
        return None;
    }
    let rows = spread(right.len());
    let configured: Vec<bool> = rows.iter().map(|&row| right[row]).collect();
    let variants = variants(scan.classifier.preprocessing());
    let tried: Vec<(Variant, Vec<bool>)> = variants
        .iter()
        .filter_map(|(variant, how)| {
            let first = rows.len().min(FIRST);
            let mut own = run(scan, table, &rows[..first], how)?;
            let all = |of: &[bool]| of.iter().filter(|right| **right).count();
            if all(&own) > all(&configured[..first]) {
                own.extend(run(scan, table, &rows[first..], how)?);
            } else {
                // It is behind and stays out; the rest counts as before.
                own.extend_from_slice(&configured[first..]);
            }
            Some((*variant, own))
        })
        .collect();
    let found = better(&configured, &tried)?;
    let (_, how) = variants.iter().find(|(variant, _)| *variant == found.variant)?;
    Some(problem(&found, how))
}

/// At most [`PICTURES`] rows, evenly over all.
fn spread(rows: usize) -> Vec<usize> {
    let count = rows.min(PICTURES);
    // First every so many rows for the first look, then those between.
    let mut all: Vec<usize> = (0..count).map(|i| i * rows / count).collect();
    let step = count.div_ceil(FIRST).max(1);
    all.sort_by_key(|&row| {
        let place = row * count / rows;
        (!place.is_multiple_of(step), place)
    });
    all
}

/// Which of the `rows` are right when they are prepared as `how` says; `None` where one cannot be prepared or run.
fn run(scan: &Scan, table: &FeatureTable, rows: &[usize], how: &Preprocessing) -> Option<Vec<bool>> {
    let network = scan.classifier.network();
    let mut right = Vec::with_capacity(rows.len());
    for part in rows.chunks(network.batch().max(1)) {
        let wanted: Vec<usize> = part.iter().map(|&row| table.index[row]).collect();
        let batch = loader::load(&scan.data, how, &wanted, scan.classifier.budget(), None);
        if batch.indices.len() != wanted.len() {
            return None;
        }
        let out = network.forward(&batch.inputs.into_dyn(), Taps::Vectors).ok()?;
        right.extend(predictions(&out.logits).iter().zip(part).map(|(p, &row)| *p == table.labels[row]));
    }
    Some(right)
}

/// The usual mistakes, put right, that make a difference to `how`.
fn variants(how: &Preprocessing) -> Vec<(Variant, Preprocessing)> {
    let of = |variant, change: &dyn Fn(&mut Preprocessing)| {
        let mut other = how.clone();
        change(&mut other);
        (variant, other)
    };
    let statistics = |p: &mut Preprocessing, [mean, std]: [[f64; 3]; 2]| {
        let top = 255.0 * p.scale;
        // In the order of the channels, and in the unit of the values.
        let ordered = |mut of: [f64; 3]| {
            if p.channels == ChannelOrder::Bgr {
                of.reverse();
            }
            of.map(|v| v * top)
        };
        (p.mean, p.std) = (ordered(mean), ordered(std));
    };
    let (unit, other) = (1.0 / 255.0, if how.scale < 0.1 { 255.0 } else { 1.0 / 255.0 });
    let mut all = vec![
        of(Variant::SwappedChannels, &|p| {
            p.channels = match p.channels {
                ChannelOrder::Rgb => ChannelOrder::Bgr,
                ChannelOrder::Bgr => ChannelOrder::Rgb,
                ChannelOrder::Gray => ChannelOrder::Gray,
            };
            p.mean.reverse();
            p.std.reverse();
        }),
        of(Variant::Bytes, &|p| p.scale = 1.0),
        of(Variant::Unit, &|p| p.scale = unit),
        of(Variant::OtherUnit, &|p| {
            p.mean = p.mean.map(|v| v / other);
            p.std = p.std.map(|v| v / other);
        }),
        of(Variant::NoStatistics, &|p| (p.mean, p.std) = ([0.0; 3], [1.0; 3])),
        of(Variant::ImageNet, &|p| statistics(p, IMAGENET)),
        of(Variant::Half, &|p| statistics(p, [[0.5; 3]; 2])),
        of(Variant::Squeezed, &|p| p.resize = ResizeRule::Exact),
        of(Variant::Cropped, &|p| p.resize = ResizeRule::ShortestSide(p.width.min(p.height))),
    ];
    let sound = |p: &Preprocessing| p.std.iter().all(|s| s.is_finite() && *s > 0.0);
    all.retain(|(_, p)| p != how && sound(p));
    all
}

fn problem(found: &Better, made: &Preprocessing) -> Problem {
    let [before, after] = found.right;
    let sentence = format!(
        "The preprocessing is probably another model's: with {}, {after} of {} pictures are right, as configured {before}. Try {}.",
        found.variant.words(),
        found.pictures,
        settings(found.variant, made)
    );
    Problem { kind: ProblemKind::Preprocessing, sentence, samples: Vec::new(), certain: true }
}

/// The settings that make a variant, which is `made`.
fn settings(variant: Variant, made: &Preprocessing) -> String {
    let three = |of: [f64; 3]| of.map(|v| format!("{}", (v * 1e6).round() / 1e6)).join(",");
    let scale = || Setting::Scale.with(if made.scale == 1.0 { "1" } else { "1/255" }).to_string();
    let statistics = || format!("{} {}", Setting::Mean.with(&three(made.mean)), Setting::Std.with(&three(made.std)));
    match variant {
        Variant::SwappedChannels => {
            let order = if made.channels == ChannelOrder::Bgr { "bgr" } else { "rgb" };
            format!("{} {}", Setting::Channels.with(order), statistics())
        }
        Variant::Bytes | Variant::Unit => scale(),
        Variant::OtherUnit | Variant::NoStatistics | Variant::ImageNet | Variant::Half => statistics(),
        Variant::Squeezed => Setting::Resize.with("exact").to_string(),
        Variant::Cropped => Setting::Resize.with(&format!("shortest:{}", made.width.min(made.height))).to_string(),
    }
}
