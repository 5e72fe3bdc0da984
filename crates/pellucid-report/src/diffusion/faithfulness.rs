//! How far to trust each map: the areas of deletion and insertion beside the controls', the verdict in words, the curves of
//! each measured step; and the page that says it of many prompts.

use super::lines::{Chart, Line};
use super::{document, masthead, run_facts};
use crate::charts::{Bar, bar};
use crate::markup::Html;
use crate::page::{empty, explain};
use pellucid_classifier::results::RunRecord;
use pellucid_guard::{Job, Setting};

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What deletion and insertion say of the maps.
#[derive(Debug, Clone, Default)]
pub struct FaithfulnessPanel {
    /// What figures are averaged over, in words: `5 steps of this picture`, `12 prompts`.
    pub over: String,
    /// Whether there is more than one of those, so that intervals mean something.
    pub has_intervals: bool,
    /// Areas of deletion and insertion of the order at random, to draw beside every other.
    pub chance: Option<[f64; 2]>,
    /// Maps first, controls last.
    pub rows: Vec<FaithfulnessRow>,
    /// Measured steps with their curves; empty on the page about many prompts.
    pub steps: Vec<GamesPanel>,
}

/// A map's or a control's line of the table.
#[derive(Debug, Clone, Default)]
pub struct FaithfulnessRow {
    /// Its name.
    pub map: String,
    /// Area of deletion, high is good.
    pub deletion: Spread,
    /// Area of insertion, low is good.
    pub insertion: Spread,
    /// For a map: what is to be thought of it.
    pub verdict: Option<Verdict>,
}

/// What is to be thought of a map.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// In a few words.
    pub text: String,
    /// Whether it beats its controls with certainty.
    pub passes: bool,
    /// Leads over each control: what, by how much, and in how many of the units.
    pub leads: Vec<(String, Spread, String)>,
}

/// Both games at one step.
#[derive(Debug, Clone, Default)]
pub struct GamesPanel {
    /// Number of the step, from 0.
    pub step: usize,
    /// Timestep.
    pub t: usize,
    /// Distances from the untouched result, in the larger of the curve's ends.
    pub deletion: Vec<GameLine>,
    /// As for deletion.
    pub insertion: Vec<GameLine>,
}

/// A curve of a game.
#[derive(Debug, Clone, Default)]
pub struct GameLine {
    /// The map or control.
    pub name: String,
    /// One number per move, from none to all.
    pub values: Vec<f64>,
    /// Whether it is a control.
    pub is_control: bool,
}

/// The page on many prompts.
#[derive(Debug, Clone, Default)]
pub struct FaithfulnessPage {
    /// The pipeline's name.
    pub model: String,
    /// The table.
    pub panel: FaithfulnessPanel,
    /// Every prompt, with the address of its own report relative to this one.
    pub prompts: Vec<(String, String)>,
    /// Facts of the run: term and value.
    pub facts: Vec<(String, String)>,
    /// How the run went.
    pub record: RunRecord,
    /// Version that made the page.
    pub version: String,
}

/// Renders the page on many prompts. Equal inputs give equal bytes.
pub fn render_faithfulness(page: &FaithfulnessPage) -> String {
    let mut body = Html::new();
    masthead(&mut body, "How far to trust the maps", &page.model, false);
    body.within("main", &[("class", "diffusion")], |h| {
        h.within("section", &[("class", "verdict")], |h| {
            h.element("p", &[("class", "eyebrow")], &format!("Deletion and insertion over {}", page.panel.over));
            h.element("h1", &[], &headline(&page.panel));
        });
        panel(h, &page.panel);
        h.within("section", &[("class", "panel")], |h| {
            h.element("h2", &[], "The prompts");
            h.within("ul", &[("class", "prompts")], |h| {
                for (prompt, address) in &page.prompts {
                    h.within("li", &[], |h| {
                        h.within("a", &[("href", address)], |h| {
                            h.name(if prompt.is_empty() { "(empty prompt)" } else { prompt });
                        });
                    });
                }
            });
        });
        run_facts(h, &page.facts, &page.record, &[]);
    });
    document(&format!("How far to trust the maps of {}", page.model), body, &page.version, None)
}

fn headline(panel: &FaithfulnessPanel) -> String {
    let passing: Vec<&str> =
        panel.rows.iter().filter(|r| r.verdict.as_ref().is_some_and(|v| v.passes)).map(|r| r.map.as_str()).collect();
    match passing.as_slice() {
        [] => "No map is shown to say more than its controls".to_owned(),
        [one] => format!("{one} says more than its controls; no other map is shown to"),
        [first @ .., last] => format!("{} and {last} say more than their controls", first.join(", ")),
    }
}

/// The section.
pub(super) fn panel(h: &mut Html, panel: &FaithfulnessPanel) {
    h.within("section", &[("class", "panel"), ("id", "trust")], |h| {
        h.element("h2", &[], "How far to trust each map");
        explain(
            h,
            "Deletion wipes out the places that a map ranks highest, a row's worth at a time; insertion puts them back into a \
             blurred latent. The area says how fast the step's result moves. A map that names what the step depends on has a high \
             area in deletion and a low one in insertion, and does better than an order drawn at random and than the map that the \
             same masks give without the network. Centre first and magnitude of x̂0 are priors: a good map may agree with them, but \
             then it says little that they do not.",
        );
        let intervals = if panel.has_intervals { ", with 95 % intervals" } else { "" };
        // Only the page of one prompt has steps.
        let caution = match panel.steps.is_empty() {
            true => String::new(),
            false => format!(
                " Steps of one picture are alike: for a verdict on the model, measure many prompts ({} {:#}).",
                Job::DiffusionStudy,
                Setting::Prompts
            ),
        };
        explain(h, &format!("Averages over {}{intervals}.{caution}", panel.over));
        if !panel.has_intervals {
            empty(h, "One step alone has no interval, so nothing is certain here: measure more steps, or more prompts.");
        }
        table(h, panel);
        games(h, &panel.steps);
    });
}

fn table(h: &mut Html, panel: &FaithfulnessPanel) {
    h.within("div", &[("class", "scroll")], |h| {
        h.within("table", &[("class", "slices trust")], |h| {
            h.within("thead", &[], |h| {
                h.within("tr", &[], |h| {
                    for title in
                        ["Map", "Deletion, high is good", "", "Insertion, low is good", "", "Against its controls"]
                    {
                        h.element("th", &[("scope", "col")], title);
                    }
                });
            });
            h.within("tbody", &[], |h| {
                for row in &panel.rows {
                    let class = if row.verdict.is_some() { "map" } else { "control" };
                    h.within("tr", &[("class", class)], |h| {
                        h.within("th", &[("class", "who"), ("scope", "row")], |h| {
                            h.name(&row.map);
                            if row.verdict.is_none() {
                                h.element("span", &[("class", "tag")], "control");
                            }
                        });
                        area(h, row.deletion, panel.chance.map(|c| c[0]), panel.has_intervals);
                        area(h, row.insertion, panel.chance.map(|c| c[1]), panel.has_intervals);
                        h.within("td", &[("class", "finding")], |h| {
                            if let Some(verdict) = &row.verdict {
                                finding(h, verdict, panel.has_intervals);
                            }
                        });
                    });
                }
            });
        });
    });
    h.element("p", &[("class", "key")], "The dashed line is the order at random.");
}

fn area(h: &mut Html, area: Spread, reference: Option<f64>, has_interval: bool) {
    h.element("td", &[("class", "num")], &format!("{:.3}", area.value));
    h.within("td", &[("class", "plot")], |h| {
        let clamped = |v: f64| v.clamp(0.0, 1.0);
        let words = match has_interval {
            true => format!("{:.3}, from {:.3} to {:.3}", area.value, area.low, area.high),
            false => format!("{:.3}", area.value),
        };
        let interval = has_interval.then_some((clamped(area.low), clamped(area.high)));
        bar(
            h,
            &Bar { value: clamped(area.value), interval, reference: reference.map(clamped), tone: "", words: &words },
        );
    });
}

fn finding(h: &mut Html, verdict: &Verdict, has_intervals: bool) {
    h.element("span", &[("class", if verdict.passes { "passes" } else { "fails" })], &verdict.text);
    h.within("details", &[], |h| {
        h.element("summary", &[], "By how much");
        for (against, lead, ahead) in &verdict.leads {
            let range = if has_intervals { format!(" ({:+.3} to {:+.3})", lead.low, lead.high) } else { String::new() };
            h.element("span", &[("class", "below")], &format!("{against}: {:+.3}{range}, ahead {ahead}", lead.value));
        }
    });
}

/// The curves of each measured step; the page's script shows the one nearest to the slider.
fn games(h: &mut Html, steps: &[GamesPanel]) {
    for step in steps {
        h.within("div", &[("class", "games"), ("data-measured", &step.step.to_string())], |h| {
            h.element("h3", &[], &format!("Step {}, t = {}", step.step + 1, step.t));
            h.within("div", &[("class", "curves")], |h| {
                game(
                    h,
                    "Deletion",
                    "Distance from the step's result as places are wiped out: it should rise early.",
                    &step.deletion,
                );
                game(h, "Insertion", "Distance as places are put back: it should fall early.", &step.insertion);
            });
        });
    }
}

fn game(h: &mut Html, title: &str, meaning: &str, lines: &[GameLine]) {
    let lines: Vec<Line<'_>> =
        lines.iter().map(|l| Line { name: &l.name, values: &l.values, is_control: l.is_control }).collect();
    h.within("figure", &[("class", "curve")], |h| {
        h.element("h4", &[], title);
        h.element("p", &[("class", "aside")], meaning);
        let marks = [(0.0, "none".to_owned()), (0.5, "half".to_owned()), (1.0, "all places".to_owned())];
        Chart { title, lines: &lines, range: None, marks: &marks, has_cursor: false }.draw(h);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(value: f64) -> Spread {
        Spread { value, low: value - 0.05, high: value + 0.05 }
    }

    fn panel() -> FaithfulnessPanel {
        let lead = ("random order, deletion".to_owned(), spread(0.1), "5 of 5".to_owned());
        let verdict = Verdict { text: "beats its controls".to_owned(), passes: true, leads: vec![lead] };
        let map = FaithfulnessRow {
            map: "DF-RISE".to_owned(),
            deletion: spread(0.6),
            insertion: spread(0.3),
            verdict: Some(verdict),
        };
        let control = FaithfulnessRow {
            map: "random order".to_owned(),
            deletion: spread(0.5),
            insertion: spread(0.4),
            verdict: None,
        };
        let line = GameLine { name: "DF-RISE".to_owned(), values: vec![0.0, 0.7, 1.0], is_control: false };
        let step = GamesPanel { step: 3, t: 500, deletion: vec![line.clone()], insertion: vec![line] };
        FaithfulnessPanel {
            over: "5 steps".to_owned(),
            has_intervals: true,
            chance: Some([0.5, 0.4]),
            rows: vec![map, control],
            steps: vec![step],
        }
    }

    fn text(of: &FaithfulnessPanel) -> String {
        let mut h = Html::new();
        super::panel(&mut h, of);
        h.into_string()
    }

    #[test]
    fn the_table_gives_areas_leads_and_verdict() {
        let html = text(&panel());
        for expected in
            ["0.600", "0.300", "beats its controls", "+0.100 (+0.050 to +0.150), ahead 5 of 5", "data-measured=\"3\""]
        {
            assert!(html.contains(expected), "{expected} is missing");
        }
        assert_eq!(html.matches(">control<").count(), 1);
    }

    #[test]
    fn without_intervals_nothing_is_called_certain() {
        let html = text(&FaithfulnessPanel { has_intervals: false, ..panel() });
        assert!(html.contains("has no interval") && !html.contains("95 %") && !html.contains("to +0.150"));
    }

    #[test]
    fn the_page_on_many_prompts_names_who_passes_and_links_to_each_prompt() {
        let page = FaithfulnessPage {
            panel: panel(),
            prompts: vec![("<b>a cat".to_owned(), "../a-cat/report.html".to_owned())],
            ..FaithfulnessPage::default()
        };
        let html = render_faithfulness(&page);
        assert!(html.contains("DF-RISE says more than its controls; no other map is shown to"));
        let mut three = panel();
        three.rows = vec![three.rows[0].clone(); 3];
        assert_eq!(headline(&three), "DF-RISE, DF-RISE and DF-RISE say more than their controls");
        assert!(html.contains("href=\"../a-cat/report.html\"") && !html.contains("<b>a cat"));
    }
}
