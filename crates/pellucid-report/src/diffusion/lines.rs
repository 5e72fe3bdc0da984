//! Lines in one chart, as inline SVG with a legend.

use crate::markup::Html;

pub(super) const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 150.0;
/// Where the horizontal axis begins and ends, in the drawing's units.
pub(super) const AXIS_LEFT: f64 = 44.0;
pub(super) const AXIS_RIGHT: f64 = WIDTH - 12.0;

/// One line of a chart.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Evenly spaced over the chart's width.
    pub(super) values: &'a [f64],
    /// Whether it is there to be compared with: grey and dashed.
    pub(super) is_control: bool,
}

/// A chart.
pub(super) struct Chart<'a> {
    /// What it shows, for those who cannot see it.
    pub(super) title: &'a str,
    pub(super) lines: &'a [Line<'a>],
    /// Least and greatest value of the axis; from the numbers where `None`.
    pub(super) range: Option<(f64, f64)>,
    /// Words under the chart, by place in 0…1.
    pub(super) marks: &'a [(f64, String)],
    /// Whether the page's script moves a line to the chosen step, and lets one be chosen in the chart.
    pub(super) has_cursor: bool,
}

/// Colours for lines and, of their own, for controls: as many as the style sheet has.
fn classes(lines: &[Line<'_>]) -> Vec<String> {
    let (mut maps, mut controls) = (0, 0);
    let class = |line: &Line<'_>| {
        let (kind, count, most) = if line.is_control { ("control", &mut controls, 2) } else { ("line", &mut maps, 8) };
        *count += 1;
        format!("{kind}-{}", (*count - 1) % most)
    };
    lines.iter().map(class).collect()
}

impl Chart<'_> {
    /// Draws chart and legend.
    pub(super) fn draw(&self, h: &mut Html) {
        let classes = classes(self.lines);
        self.svg(h, &classes);
        h.within("p", &[("class", "legend")], |h| {
            for (line, class) in self.lines.iter().zip(&classes) {
                h.within("span", &[("class", class)], |h| h.name(line.name));
            }
        });
    }

    fn svg(&self, h: &mut Html, classes: &[String]) {
        let numbers = || self.lines.iter().flat_map(|l| l.values.iter().copied()).filter(|v| v.is_finite());
        let (low, high) = self.range.unwrap_or_else(|| (numbers().fold(0.0, f64::min), numbers().fold(1e-9, f64::max)));
        let x = |place: f64| coordinate(AXIS_LEFT + (AXIS_RIGHT - AXIS_LEFT) * place);
        let y = |v: f64| 8.0 + (HEIGHT - 34.0) * (1.0 - (v.clamp(low, high) - low) / (high - low));
        let view = format!("0 0 {WIDTH} {HEIGHT}");
        let class = if self.has_cursor { "lines linked" } else { "lines" };
        h.within("svg", &[("class", class), ("viewBox", &view), ("role", "img"), ("aria-label", self.title)], |h| {
            for mark in [low, (low + high) / 2.0, high] {
                let at = coordinate(y(mark));
                let (left, right) = (coordinate(AXIS_LEFT), coordinate(AXIS_RIGHT));
                h.void("line", &[("class", "grid"), ("x1", &left), ("x2", &right), ("y1", &at), ("y2", &at)]);
                let label = coordinate(y(mark) + 4.0);
                let place = [("class", "axis"), ("x", "38"), ("y", &label), ("text-anchor", "end")];
                h.element("text", &place, &format!("{mark:.2}"));
            }
            for (place, text) in self.marks {
                // A label at an end of the axis lies inside it: beyond, the drawing would cut it off.
                let anchor = match *place {
                    place if place <= 0.0 => "start",
                    place if place >= 1.0 => "end",
                    _ => "middle",
                };
                h.element("text", &[("class", "axis"), ("x", &x(*place)), ("y", "144"), ("text-anchor", anchor)], text);
            }
            if self.has_cursor {
                let bottom = coordinate(HEIGHT - 24.0);
                h.void("line", &[("class", "cursor"), ("x1", &x(0.0)), ("x2", &x(0.0)), ("y1", "4"), ("y2", &bottom)]);
            }
            for (line, class) in self.lines.iter().zip(classes) {
                let last = line.values.len().saturating_sub(1).max(1) as f64;
                let point = |(i, v): (usize, &f64)| format!("{},{}", x(i as f64 / last), coordinate(y(*v)));
                let finite = line.values.iter().enumerate().filter(|(_, v)| v.is_finite());
                let points: Vec<String> = finite.map(point).collect();
                if !points.is_empty() {
                    h.void("path", &[("class", class), ("d", &format!("M{}", points.join("L")))]);
                }
            }
        });
    }
}

pub(super) fn coordinate(v: f64) -> String {
    format!("{v:.1}")
}
