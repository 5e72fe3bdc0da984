//! When several things act, and where: a card for each, with its effect window by window in front of the floor, where it acts
//! in the finished picture, and how far other maps agree with that.

use super::{Spread, picture_address};
use crate::markup::Html;
use crate::page::explain;

/// When several things act.
#[derive(Debug, Clone, Default)]
pub struct EffectsPanel {
    /// Heading.
    pub title: String,
    /// What is concluded, in sentences.
    pub conclusions: Vec<String>,
    /// What the cards show.
    pub meaning: String,
    /// Windows of steps, for people.
    pub windows: Vec<String>,
    /// Effect of what says nothing, by window; `None` where there is no such thing.
    pub floor: Option<Vec<f64>>,
    /// One card each.
    pub cards: Vec<EffectCard>,
    /// What the floor is made of.
    pub fillers: Vec<String>,
}

/// One thing.
#[derive(Debug, Clone, Default)]
pub struct EffectCard {
    /// The thing.
    pub name: String,
    /// What was done to it.
    pub how: String,
    /// Effect over all steps.
    pub whole: Spread,
    /// Effect in each window.
    pub windows: Vec<Spread>,
    /// The window in which it acts most; `None` where it does no more than the floor.
    pub strongest: Option<usize>,
    /// The picture with where it acts, PNG; empty where that is nowhere.
    pub map: Vec<u8>,
    /// Other maps: name, rank correlation, and what else is known of it.
    pub agreements: Vec<(String, f64, String)>,
    /// What is marked: a map of its own that does not show where it acts.
    pub marks: Vec<String>,
}

/// Heights of the bars, in the drawing's units.
const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 72.0;

/// The section.
pub(super) fn panel(h: &mut Html, panel: &EffectsPanel) {
    h.within("section", &[("class", "panel effects")], |h| {
        h.element("h2", &[], &panel.title);
        panel.conclusions.iter().for_each(|said| h.element("p", &[("class", "conclusion")], said));
        let spreads = panel.cards.iter().flat_map(|card| &card.windows).map(|spread| spread.high);
        let most = spreads.chain(panel.floor.iter().flatten().copied()).fold(0.0, f64::max);
        h.within("div", &[("class", "effect-cards")], |h| {
            panel.cards.iter().for_each(|one| card(h, panel, one, most));
        });
        if !panel.fillers.is_empty() {
            let fillers = panel.fillers.iter().map(|name| format!("“{name}”")).collect::<Vec<_>>().join(", ");
            h.element("p", &[("class", "aside")], &format!("Filler words, which make the floor: {fillers}."));
        }
        explain(h, &panel.meaning);
    });
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn card(h: &mut Html, panel: &EffectsPanel, card: &EffectCard, most: f64) {
    let class = if card.marks.is_empty() { "effect-card" } else { "effect-card marked" };
    h.within("article", &[("class", class)], |h| {
        h.within("div", &[("class", "effect-map")], |h| {
            if card.map.is_empty() {
                h.element("p", &[("class", "aside")], "nothing changes");
            } else {
                let alt = format!("Where “{}” acts in the picture", card.name);
                h.void("img", &[("src", &picture_address(&card.map)), ("alt", &alt)]);
            }
        });
        h.within("div", &[("class", "effect-said")], |h| {
            h.within("h3", &[], |h| h.name(&card.name));
            h.within("p", &[("class", "aside")], |h| h.name(&card.how));
            let range = format!("{} to {}", percent(card.whole.low), percent(card.whole.high));
            let when = card.strongest.and_then(|window| panel.windows.get(window));
            let when = when.map_or("no more than a filler word".to_owned(), |when| format!("most {when}"));
            h.element("p", &[], &format!("Moves the picture by {} ({range}); {when}.", percent(card.whole.value)));
            bars(h, panel, card, most);
            h.within("ul", &[("class", "agreements")], |h| {
                for (name, rho, more) in &card.agreements {
                    h.within("li", &[], |h| {
                        h.name(name);
                        h.element("b", &[], &format!(" {rho:.2}").replace('-', "−"));
                        h.element("span", &[("class", "rival")], more);
                    });
                }
            });
            for mark in &card.marks {
                h.element("p", &[("class", "mark")], mark);
            }
        });
    });
}

/// One bar a window, with its interval, and the floor as a dashed step.
fn bars(h: &mut Html, panel: &EffectsPanel, card: &EffectCard, most: f64) {
    let count = card.windows.len().max(1) as f64;
    let (pitch, ground) = (WIDTH / count, HEIGHT - 18.0);
    let y = |value: f64| if most > 0.0 { ground - (ground - 4.0) * (value / most).clamp(0.0, 1.0) } else { ground };
    let number = |value: f64| format!("{value:.1}");
    let view = format!("0 0 {WIDTH} {HEIGHT}");
    let spoken = panel.windows.iter().zip(&card.windows).map(|(window, s)| format!("{window}: {}", percent(s.value)));
    let words = format!("Effect of “{}”: {}", card.name, spoken.collect::<Vec<_>>().join(", "));
    h.within("svg", &[("class", "effect-bars"), ("viewBox", &view), ("role", "img"), ("aria-label", &words)], |h| {
        for (at, spread) in card.windows.iter().enumerate() {
            let left = at as f64 * pitch + 3.0;
            let class = if card.strongest == Some(at) { "fill strongest" } else { "fill" };
            let (x, top) = (number(left), number(y(spread.value)));
            let (width, height) = (number(pitch - 6.0), number(ground - y(spread.value)));
            h.void("rect", &[("class", class), ("x", &x), ("y", &top), ("width", &width), ("height", &height)]);
            let middle = number(left + pitch / 2.0 - 3.0);
            let (low, high) = (number(y(spread.low)), number(y(spread.high)));
            h.void("line", &[("class", "whisker"), ("x1", &middle), ("x2", &middle), ("y1", &low), ("y2", &high)]);
            if let Some(floor) = panel.floor.as_ref().and_then(|floor| floor.get(at)) {
                let (right, floor) = (number(left + pitch - 6.0), number(y(*floor)));
                h.void("line", &[("class", "reference"), ("x1", &x), ("x2", &right), ("y1", &floor), ("y2", &floor)]);
            }
            let label =
                panel.windows.get(at).map_or("", |w| w.trim_start_matches("at steps ").trim_start_matches("at step "));
            let bottom = number(HEIGHT - 4.0);
            h.element("text", &[("x", &middle), ("y", &bottom), ("text-anchor", "middle")], label);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(marks: Vec<String>) -> String {
        let spread = Spread { value: 0.2, low: 0.1, high: 0.4 };
        let card = EffectCard {
            name: "<yellow>".to_owned(),
            how: "swapped for “blue”".to_owned(),
            whole: spread,
            windows: vec![spread, Spread::default()],
            strongest: Some(0),
            agreements: vec![("attention".to_owned(), -0.59, "of its own".to_owned())],
            marks,
            ..EffectCard::default()
        };
        let panel = EffectsPanel {
            windows: vec!["at steps 1–3".to_owned(), "at step 4".to_owned()],
            floor: Some(vec![0.05, 0.1]),
            cards: vec![card],
            fillers: vec!["of".to_owned()],
            ..EffectsPanel::default()
        };
        let mut h = Html::new();
        super::panel(&mut h, &panel);
        h.into_string()
    }

    #[test]
    fn a_card_says_how_much_when_and_how_far_maps_agree() {
        let html = drawn(vec!["Attention does not show where this word acts.".to_owned()]);
        for expected in
            ["20.0 % (10.0 % to 40.0 %); most at steps 1–3", "−0.59", "effect-card marked", "&lt;yellow&gt;"]
        {
            assert!(html.contains(expected), "{expected} is not in {html}");
        }
        assert_eq!((html.matches("class=\"fill").count(), html.matches("class=\"reference\"").count()), (2, 2));
        assert!(html.contains("nothing changes"), "without a map");
    }

    #[test]
    fn a_word_whose_map_agrees_is_not_marked() {
        let html = drawn(Vec::new());
        assert!(!html.contains("marked") && !html.contains("class=\"mark\""));
    }
}
