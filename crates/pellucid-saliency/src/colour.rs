//! The one colour map, computed once and handed to pages and widgets as data.

use std::sync::OnceLock;

/// The colours of the levels 0…255.
pub fn table() -> &'static [[u8; 3]; 256] {
    static TABLE: OnceLock<[[u8; 3]; 256]> = OnceLock::new();
    TABLE.get_or_init(|| std::array::from_fn(|level| colour(level as f32 / 255.0)))
}

/// The colour of `value` in 0…1 (values outside are clamped, NaN is 0).
///
/// Computed in OKLCh (Ottosson 2020): lightness rises evenly from near black to near white-yellow
/// while the hue turns from violet over red to yellow, so that order survives gray printing and
/// colour blindness.
pub fn colour(value: f32) -> [u8; 3] {
    let t = f64::from(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) });
    let lightness = 0.14 + 0.82 * t;
    let hue = (-70.0 + 175.0 * t).to_radians();
    let mut chroma = 0.05 + 0.2 * (t * (1.0 - t) * 4.0).sqrt().min(1.0) + 0.07 * t;
    // The strongest colour that a screen can show at this lightness and hue.
    loop {
        let rgb = oklch_to_linear(lightness, chroma, hue);
        if chroma <= 0.0 || rgb.iter().all(|channel| (-1e-4..=1.0001).contains(channel)) {
            return rgb.map(encode_srgb);
        }
        chroma -= 0.002;
    }
}

fn oklch_to_linear(lightness: f64, chroma: f64, hue: f64) -> [f64; 3] {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
}

fn encode_srgb(linear: f64) -> u8 {
    let linear = linear.clamp(0.0, 1.0);
    let encoded = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    (encoded * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE lightness of an sRGB colour, 0…100.
    fn lightness(rgb: [u8; 3]) -> f64 {
        let linear = rgb.map(|c| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        });
        let y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        if y > 216.0 / 24389.0 { 116.0 * y.cbrt() - 16.0 } else { y * 24389.0 / 27.0 }
    }

    #[test]
    fn lightness_rises_everywhere_and_about_evenly() {
        let levels: Vec<f64> = table().iter().map(|c| lightness(*c)).collect();
        assert!(levels[0] < 12.0 && levels[255] > 90.0, "{} to {}", levels[0], levels[255]);
        for at in (8..256).step_by(8) {
            let rise = levels[at] - levels[at - 8];
            assert!((0.5..6.5).contains(&rise), "from {} to {at}: {rise}", at - 8);
        }
    }

    #[test]
    fn values_outside_are_clamped() {
        assert_eq!((colour(-3.0), colour(f32::NAN), colour(9.0)), (table()[0], table()[0], table()[255]));
    }
}
