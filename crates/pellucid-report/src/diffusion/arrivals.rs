//! What comes step by step: a row for each thing, its level in front of its control's, a dot where it has come for good. The
//! dots are joined from row to row, so that an order over the rows is seen as a staircase.

use super::lines::{AXIS_LEFT, AXIS_RIGHT, WIDTH, coordinate};
use crate::markup::Html;
use crate::page::explain;

/// Heights in the drawing's units: of a row, of the words over it, of the words under the chart.
const ROW: f64 = 53.0;
const WORDS: f64 = 20.0;
const FOOT: f64 = 24.0;

/// Levels over the steps, in rows.
#[derive(Debug, Clone, Default)]
pub struct ArrivalsPanel {
    /// Heading.
    pub title: String,
    /// What is concluded, in sentences.
    pub conclusions: Vec<String>,
    /// What the chart shows.
    pub meaning: String,
    /// What the controls are.
    pub control: String,
    /// From this level on, for good, a row has come.
    pub threshold: f64,
    /// Rows, from top to bottom.
    pub rows: Vec<ArrivalRow>,
}

/// One row.
#[derive(Debug, Clone, Default)]
pub struct ArrivalRow {
    /// What comes.
    pub name: String,
    /// One number per step; what lies outside 0…1 is drawn at the edge.
    pub levels: Vec<f64>,
    /// The step (from 0) at which it has come; `None` where it never does.
    pub arrived: Option<usize>,
    /// The control's levels.
    pub control: Vec<f64>,
    /// The step at which the control has come.
    pub control_arrived: Option<usize>,
}

/// The section. `marks` stand under the chart, by place in 0…1.
pub(super) fn panel(h: &mut Html, panel: &ArrivalsPanel, marks: &[(f64, String)]) {
    h.within("section", &[("class", "panel arrivals")], |h| {
        h.element("h2", &[], &panel.title);
        panel.conclusions.iter().for_each(|said| h.element("p", &[("class", "conclusion")], said));
        if panel.rows.is_empty() {
            return;
        }
        h.within("figure", &[("class", "curve")], |h| {
            chart(h, panel, marks);
            h.within("p", &[("class", "legend")], |h| {
                h.within("span", &[("class", "line-0")], |h| h.name("the network"));
                h.within("span", &[("class", "control-1")], |h| h.name(&panel.control));
            });
        });
        explain(h, &panel.meaning);
    });
}

/// Place of a step, from 0 to 1.
fn across(at: usize, steps: usize) -> f64 {
    at as f64 / steps.saturating_sub(1).max(1) as f64
}

fn x(place: f64) -> f64 {
    AXIS_LEFT + (AXIS_RIGHT - AXIS_LEFT) * place
}

fn y(row: usize, level: f64) -> f64 {
    let bottom = (row + 1) as f64 * ROW;
    bottom - (ROW - WORDS) * level.clamp(0.0, 1.0)
}

/// The points of a line, one a step whose level is a number.
fn points(row: usize, levels: &[f64]) -> Vec<String> {
    let finite = levels.iter().enumerate().filter(|(_, level)| level.is_finite());
    finite
        .map(|(at, level)| format!("{},{}", coordinate(x(across(at, levels.len()))), coordinate(y(row, *level))))
        .collect()
}

fn chart(h: &mut Html, panel: &ArrivalsPanel, marks: &[(f64, String)]) {
    let height = panel.rows.len() as f64 * ROW + FOOT;
    let view = format!("0 0 {WIDTH} {height}");
    let words = spoken(panel);
    h.within(
        "svg",
        &[("class", "lines rows linked"), ("viewBox", &view), ("role", "img"), ("aria-label", &words)],
        |h| {
            for (at, row) in panel.rows.iter().enumerate() {
                self::row(h, at, row, panel.threshold);
            }
            staircase(h, "control-1", panel.rows.iter().map(|row| (row.control_arrived, row.control.as_slice())));
            staircase(h, "line-0", panel.rows.iter().map(|row| (row.arrived, row.levels.as_slice())));
            for (place, text) in marks {
                let anchor = match *place {
                    place if place <= 0.0 => "start",
                    place if place >= 1.0 => "end",
                    _ => "middle",
                };
                let (left, bottom) = (coordinate(x(*place)), coordinate(height - 6.0));
                h.element("text", &[("class", "axis"), ("x", &left), ("y", &bottom), ("text-anchor", anchor)], text);
            }
            let (left, bottom) = (coordinate(x(0.0)), coordinate(height - FOOT));
            h.void("line", &[("class", "cursor"), ("x1", &left), ("x2", &left), ("y1", "2"), ("y2", &bottom)]);
        },
    );
}

fn row(h: &mut Html, at: usize, row: &ArrivalRow, threshold: f64) {
    let (left, right) = (coordinate(x(0.0)), coordinate(x(1.0)));
    for level in [0.0, threshold] {
        let place = coordinate(y(at, level));
        h.void("line", &[("class", "grid"), ("x1", &left), ("x2", &right), ("y1", &place), ("y2", &place)]);
    }
    let percent = coordinate(y(at, threshold) + 4.0);
    let label = [("class", "axis"), ("x", "38"), ("y", percent.as_str()), ("text-anchor", "end")];
    h.element("text", &label, &format!("{:.0} %", 100.0 * threshold));
    let over = coordinate(at as f64 * ROW + WORDS - 4.0);
    h.element("text", &[("class", "row-name"), ("x", left.as_str()), ("y", over.as_str())], &row.name);
    let when = format!("{}; control {}", step(row.arrived), step(row.control_arrived).trim_start_matches("step "));
    let place = [("class", "axis"), ("x", right.as_str()), ("y", over.as_str()), ("text-anchor", "end")];
    h.element("text", &place, &when);
    let shown = points(at, &row.levels);
    if let (Some(first), Some(last)) = (shown.first(), shown.last()) {
        let down = |point: &str| format!("{},{}", point.split(',').next().unwrap_or_default(), coordinate(y(at, 0.0)));
        let area = format!("M{}L{}L{}Z", down(first), shown.join("L"), down(last));
        h.void("path", &[("class", "line-0 area"), ("d", &area)]);
        h.void("path", &[("class", "line-0"), ("d", &format!("M{}", shown.join("L")))]);
    }
    let control = points(at, &row.control);
    if !control.is_empty() {
        h.void("path", &[("class", "control-1"), ("d", &format!("M{}", control.join("L")))]);
    }
}

/// The dots where rows have come, and the line that joins them.
fn staircase<'a>(h: &mut Html, class: &'static str, rows: impl Iterator<Item = (Option<usize>, &'a [f64])>) {
    let dot = |(at, (arrived, levels)): (usize, (Option<usize>, &[f64]))| {
        let level = *levels.get(arrived?)?;
        Some((coordinate(x(across(arrived?, levels.len()))), coordinate(y(at, level))))
    };
    let dots: Vec<(String, String)> = rows.enumerate().filter_map(dot).collect();
    let joined: Vec<String> = dots.iter().map(|(x, y)| format!("{x},{y}")).collect();
    if joined.len() > 1 {
        h.void("path", &[("class", &format!("{class} stair")), ("d", &format!("M{}", joined.join("L")))]);
    }
    for (x, y) in &dots {
        h.void("circle", &[("class", &format!("{class} dot")), ("cx", x), ("cy", y), ("r", "4.5")]);
    }
}

fn step(arrived: Option<usize>) -> String {
    arrived.map_or_else(|| "never".to_owned(), |at| format!("step {}", at + 1))
}

/// The chart in words.
fn spoken(panel: &ArrivalsPanel) -> String {
    let row = |row: &ArrivalRow| format!("{}: {}, control {}", row.name, step(row.arrived), step(row.control_arrived));
    format!("{} {}", panel.title, panel.rows.iter().map(row).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: Vec<ArrivalRow>) -> String {
        let mut h = Html::new();
        let panel = ArrivalsPanel {
            title: "Coarse to fine?".to_owned(),
            conclusions: vec!["It <does>.".to_owned()],
            threshold: 0.8,
            rows,
            ..ArrivalsPanel::default()
        };
        super::panel(&mut h, &panel, &[(0.0, "t = 900".to_owned())]);
        h.into_string()
    }

    fn row(name: &str, arrived: Option<usize>) -> ArrivalRow {
        let levels = vec![-3.0, 0.5, 0.9, 1.0];
        ArrivalRow { name: name.to_owned(), control: levels.clone(), levels, arrived, control_arrived: None }
    }

    #[test]
    fn a_row_says_when_it_comes_and_dots_are_joined() {
        let html = drawn(vec![row("large", Some(1)), row("small", Some(2))]);
        assert!(html.contains("large: step 2, control never; small: step 3, control never"), "{html}");
        assert!(html.contains("step 2; control never") && html.contains("80 %"));
        assert_eq!((html.matches("dot").count(), html.matches("stair").count()), (2, 1));
        assert!(html.contains("It &lt;does&gt;."));
    }

    #[test]
    fn levels_below_zero_stay_in_their_row() {
        let html = drawn(vec![row("large", None)]);
        // The first step's level is −3: drawn on the row's base.
        assert!(html.contains(&format!("M44.0,{}L", coordinate(ROW))), "{html}");
        assert!(!html.contains("dot"), "what never comes has no dot");
    }

    #[test]
    fn without_rows_the_conclusions_stand_alone() {
        let html = drawn(Vec::new());
        assert!(html.contains("It &lt;does&gt;.") && !html.contains("<svg"));
    }
}
