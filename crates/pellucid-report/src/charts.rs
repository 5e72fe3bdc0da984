//! Inline SVG drawings: bars with whiskers, and strips of quantiles. They stretch with the page, because every
//! horizontal coordinate is a percentage, and each says its numbers in words.

use crate::format::{coordinate, number};
use crate::markup::Html;
use pellucid_classifier::results::Activation;

/// A bar from 0 to 1 with its interval and, where given, a line of reference.
pub(crate) struct Bar<'a> {
    /// Length, in `[0, 1]`.
    pub(crate) value: f64,
    /// Lower and upper bound, in `[0, 1]`.
    pub(crate) interval: Option<(f64, f64)>,
    /// Where the line of reference stands.
    pub(crate) reference: Option<f64>,
    /// Class of the style sheet that colours it.
    pub(crate) tone: &'a str,
    /// The same in words.
    pub(crate) words: &'a str,
}

/// Draws a [`Bar`].
pub(crate) fn bar(h: &mut Html, bar: &Bar) {
    let class = format!("bar {}", bar.tone);
    h.within("svg", &[("class", &class), ("role", "img"), ("aria-label", bar.words)], |h| {
        h.void("rect", &[("class", "track"), ("y", "5"), ("width", "100%"), ("height", "10"), ("rx", "2")]);
        if bar.value.is_finite() {
            let width = coordinate(bar.value);
            h.void("rect", &[("class", "fill"), ("y", "5"), ("width", &width), ("height", "10"), ("rx", "2")]);
        }
        if let Some(reference) = bar.reference.filter(|value| value.is_finite()) {
            upright(h, "reference", reference, "1", "19");
        }
        if let Some((low, high)) = bar.interval.filter(|(low, high)| low.is_finite() && high.is_finite()) {
            let (from, to) = (coordinate(low), coordinate(high));
            h.void("line", &[("class", "whisker"), ("x1", &from), ("x2", &to), ("y1", "10"), ("y2", "10")]);
            upright(h, "whisker", low, "6.5", "13.5");
            upright(h, "whisker", high, "6.5", "13.5");
        }
    });
}

fn upright(h: &mut Html, class: &'static str, at: f64, from: &str, to: &str) {
    let x = coordinate(at);
    h.void("line", &[("class", class), ("x1", &x), ("x2", &x), ("y1", from), ("y2", to)]);
}

/// The range that a set of strips shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// From the lowest 5 % quantile to the highest 95 % quantile, with 0 where it is near; `None` without numbers.
    pub(crate) fn over(strips: &[Activation]) -> Option<Scale> {
        let finite = strips.iter().filter(|strip| strip.samples > 0 && strip.quantiles.iter().all(|q| q.is_finite()));
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for strip in finite {
            low = low.min(strip.quantiles[0]);
            high = high.max(strip.quantiles[4]);
        }
        if low > high {
            return None;
        }
        let near = 0.5 * (high - low);
        if low > 0.0 && low <= near {
            low = 0.0;
        }
        let room = if high > low { 0.02 * (high - low) } else { 0.5 * high.abs().max(1e-6) };
        Some(Scale { low: low - room, high: high + room })
    }

    fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Three to six round numbers inside the range.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= self.high).take(8).collect()
    }
}

/// Draws one strip: a line from the 5 % to the 95 % quantile, a box over the middle half, the median as a bar and the
/// mean as a dot.
pub(crate) fn strip(h: &mut Html, scale: Scale, activation: &Activation, tone: &str, words: &str) {
    let class = format!("strip {tone}");
    h.within("svg", &[("class", &class), ("role", "img"), ("aria-label", words)], |h| {
        for tick in scale.ticks() {
            upright(h, "grid", scale.at(tick), "0", "24");
        }
        if activation.samples == 0 || activation.quantiles.iter().any(|quantile| !quantile.is_finite()) {
            return;
        }
        let [q5, q25, median, q75, q95] = activation.quantiles.map(|quantile| scale.at(quantile));
        let (from, to) = (coordinate(q5), coordinate(q95));
        h.void("line", &[("class", "range"), ("x1", &from), ("x2", &to), ("y1", "12"), ("y2", "12")]);
        let (x, width) = (coordinate(q25), coordinate(q75 - q25));
        h.void("rect", &[("class", "middle"), ("x", &x), ("y", "6"), ("width", &width), ("height", "12"), ("rx", "2")]);
        upright(h, "median", median, "4", "20");
        if activation.mean.is_finite() {
            h.void(
                "circle",
                &[("class", "mean"), ("cx", &coordinate(scale.at(activation.mean))), ("cy", "12"), ("r", "3")],
            );
        }
    });
}

/// Draws the numbers under a set of strips.
pub(crate) fn axis(h: &mut Html, scale: Scale) {
    h.within("svg", &[("class", "axis"), ("aria-hidden", "true")], |h| {
        for tick in scale.ticks() {
            let place = scale.at(tick);
            let anchor = match place {
                p if p < 0.04 => "start",
                p if p > 0.96 => "end",
                _ => "middle",
            };
            h.element("text", &[("x", &coordinate(place)), ("y", "12"), ("text-anchor", anchor)], &tick_label(tick));
        }
    });
}

fn tick_label(tick: f64) -> String {
    let text = number(tick);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A meter of five dots for a share in `[0, 1]`.
pub(crate) fn dots(h: &mut Html, value: f64, words: &str) {
    let filled = if value.is_finite() { (value.clamp(0.0, 1.0) * 5.0).round() as usize } else { 0 };
    let attributes = [("class", "dots"), ("viewBox", "0 0 46 10"), ("role", "img"), ("aria-label", words)];
    h.within("svg", &attributes, |h| {
        for i in 0..5 {
            let class = if i < filled { "on" } else { "off" };
            h.void("circle", &[("class", class), ("cx", &format!("{}", 5 + 9 * i)), ("cy", "5"), ("r", "3.2")]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(low: f64, high: f64) -> Activation {
        let step = (high - low) / 4.0;
        Activation {
            samples: 9,
            mean: (low + high) / 2.0,
            quantiles: [0.0, 1.0, 2.0, 3.0, 4.0].map(|i| low + i * step),
        }
    }

    #[test]
    fn a_scale_holds_all_strips_and_round_ticks() {
        let scale = Scale::over(&[activation(0.1, 2.0), activation(0.5, 3.0)]).expect("numbers");
        assert!(scale.low <= 0.0 && scale.high >= 3.0);
        assert_eq!(scale.ticks(), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_scale_of_one_value_still_has_a_width() {
        for value in [0.0, 2.5, -1e9] {
            let scale = Scale::over(&[activation(value, value)]).expect("numbers");
            assert!(scale.high > scale.low);
            assert!(scale.ticks().len() <= 8);
        }
    }

    #[test]
    fn without_numbers_there_is_no_scale() {
        assert_eq!(Scale::over(&[]), None);
        assert_eq!(Scale::over(&[Activation { samples: 0, mean: f64::NAN, quantiles: [f64::NAN; 5] }]), None);
    }
}
