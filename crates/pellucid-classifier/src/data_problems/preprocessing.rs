//! Is the preprocessing that of another model? The usual mistakes, judged on the same pictures.
//!
//! Running the variants is the caller's; here is which there are, and when one is better beyond doubt: by an exact McNemar
//! test at p < 0.001 and by at least 5 points.

use crate::repair::compare::mcnemar;
use serde::{Deserialize, Serialize};

/// Pictures that variants are run on at most.
pub const PICTURES: usize = 256;
/// The level of the test, before it is divided by the number of variants.
pub const LEVEL: f64 = 1e-3;
/// Points of accuracy that a variant must gain.
pub const LEAST_GAIN: f64 = 5.0;

/// A usual mistake, put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Red and blue change places.
    SwappedChannels,
    /// Values of 0…255 instead of 0…1.
    Bytes,
    /// Values of 0…1 instead of 0…255.
    Unit,
    /// Mean and deviation in the other unit.
    OtherUnit,
    /// No mean and deviation.
    NoStatistics,
    /// ImageNet's mean and deviation.
    ImageNet,
    /// A mean and deviation of ½.
    Half,
    /// The whole picture resized, nothing cut off.
    Squeezed,
    /// The shorter side resized and the middle cut out.
    Cropped,
}

impl Variant {
    /// What would then be done, for people.
    pub fn words(self) -> &'static str {
        match self {
            Variant::SwappedChannels => "red and blue in the other order",
            Variant::Bytes => "values of 0 to 255 in place of 0 to 1",
            Variant::Unit => "values of 0 to 1 in place of 0 to 255",
            Variant::OtherUnit => "mean and deviation in the unit of the values",
            Variant::NoStatistics => "no mean and deviation",
            Variant::ImageNet => "ImageNet's mean and deviation",
            Variant::Half => "a mean and deviation of one half",
            Variant::Squeezed => "the whole picture resized, nothing cut off",
            Variant::Cropped => "the shorter side resized and the middle cut out",
        }
    }
}

/// A variant that is better than what is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Better {
    /// Which.
    pub variant: Variant,
    /// Pictures that were run.
    pub pictures: usize,
    /// Right as configured, and with the variant.
    pub right: [usize; 2],
    /// Wrong as configured and right with the variant, and the other way about.
    pub changed: [usize; 2],
    /// Exact McNemar test.
    pub p_value: f64,
}

/// The best of the variants that are better beyond doubt; `configured` and each variant's list say which pictures are right.
pub fn better(configured: &[bool], variants: &[(Variant, Vec<bool>)]) -> Option<Better> {
    let level = LEVEL / variants.len().max(1) as f64;
    let count = |of: &[bool]| of.iter().filter(|right| **right).count();
    let judge = |(variant, right): &(Variant, Vec<bool>)| {
        let changed =
            |from: bool| configured.iter().zip(right).filter(|(was, is)| **was == from && **is != from).count();
        let changed = [changed(false), changed(true)];
        let points = 100.0 * (changed[0] as f64 - changed[1] as f64) / configured.len().max(1) as f64;
        let p_value = mcnemar(changed[0], changed[1]);
        let found = Better {
            variant: *variant,
            pictures: configured.len(),
            right: [count(configured), count(right)],
            changed,
            p_value,
        };
        (points >= LEAST_GAIN && p_value < level).then_some(found)
    };
    let found = variants.iter().filter_map(judge);
    found.max_by(|a, b| a.right[1].cmp(&b.right[1]).then(b.variant.cmp(&a.variant)))
}

/// The range of numbers that an input receives, as `(p · scale − mean) / std` gives it for p from 0 to 255: the least and the
/// greatest over the channels.
pub fn promised_range(scale: f64, mean: [f64; 3], std: [f64; 3]) -> [f64; 2] {
    let of = |p: f64| (0..3).map(move |k| (p * scale - mean[k]) / std[k]);
    let all: Vec<f64> = of(0.0).chain(of(255.0)).collect();
    [all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
}

/// Whether mean and deviation are in another unit than the values: everything that a picture can show then lies within a
/// fraction of a deviation, or hundreds of them apart.
pub fn units_disagree(scale: f64, mean: [f64; 3], std: [f64; 3]) -> bool {
    let [low, high] = promised_range(scale, mean, std);
    let of_bytes = mean.iter().all(|m| *m > 2.0) || std.iter().all(|s| *s > 2.0);
    let of_unit = std.iter().all(|s| *s < 1.0 && *s > 0.0) && mean.iter().all(|m| *m <= 1.0);
    let top = 255.0 * scale;
    (top <= 2.0 && of_bytes && high - low < 0.5) || (top > 100.0 && of_unit && high - low > 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(count: usize) -> Vec<bool> {
        (0..100).map(|i| i < count).collect()
    }

    #[test]
    fn a_variant_that_is_better_beyond_doubt_is_named_and_the_best_of_them() {
        let variants = [(Variant::SwappedChannels, right(70)), (Variant::Half, right(90)), (Variant::Unit, right(20))];
        let found = better(&right(50), &variants).unwrap();
        assert_eq!((found.variant, found.right, found.changed), (Variant::Half, [50, 90], [40, 0]));
    }

    #[test]
    fn a_gain_by_chance_or_of_few_points_is_none() {
        assert_eq!(better(&right(50), &[(Variant::Half, right(58))]), None, "8 changed: p = 0.008");
        let many = |count: usize| -> Vec<bool> { (0..2560).map(|i| i < count).collect() };
        assert_eq!(better(&many(2000), &[(Variant::Half, many(2100))]), None, "4 points");
    }

    #[test]
    fn statistics_of_bytes_on_values_of_zero_to_one_are_seen_without_a_picture() {
        let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
        assert!(units_disagree(1.0 / 255.0, mean, std) && !units_disagree(1.0, mean, std));
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        assert!(units_disagree(1.0, mean, std) && !units_disagree(1.0 / 255.0, mean, std));
        // Neither mean nor deviation: nothing to disagree.
        assert!(!units_disagree(1.0, [0.0; 3], [1.0; 3]) && !units_disagree(1.0 / 255.0, [0.0; 3], [1.0; 3]));
        // Caffe: bytes, means of bytes, no deviation.
        assert!(!units_disagree(1.0, [103.9, 116.8, 123.7], [1.0; 3]));
        let [low, high] = promised_range(1.0 / 255.0, [0.5; 3], [0.5; 3]);
        assert!((low + 1.0).abs() < 1e-12 && (high - 1.0).abs() < 1e-12);
    }
}
