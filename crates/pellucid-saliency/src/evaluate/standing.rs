//! Whether a map tells more than its controls do (the gate of [methods B8]): areas of the two games, averaged over prompts (or
//! over the steps of one), and each map's lead over the controls that it has to beat, with intervals.
//!
//! [methods B8]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#b8

use super::measure::{Better, Game, Measure};
use crate::stats::Interval;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Areas of deletion and insertion, by one [`Measure`].
pub type Areas = [f64; 2];

/// Areas by map, of one prompt (averaged over its steps) or of one step.
pub type Unit = BTreeMap<String, Areas>;

/// A map's lead over one control in one game.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// The control.
    pub control: String,
    /// The game.
    pub game: Game,
    /// How much further the map's area goes in the direction in which the game is won, bootstrapped over units.
    pub lead: Interval,
    /// In how many of the units it leads.
    pub ahead: usize,
    /// Whether the map has to win this to pass; the other controls are priors (the centre, say) that a good map may agree with.
    pub is_gate: bool,
}

impl Lead {
    /// Whether the interval leaves out 0.
    pub fn is_certain(&self) -> bool {
        self.lead.low > 0.0
    }
}

/// Areas of one map in one game, over units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GameStanding {
    /// The game.
    pub game: Game,
    /// Which direction is good.
    pub better: Better,
    /// The area, bootstrapped over units.
    pub area: Interval,
}

/// What is known of one map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The map, or the control.
    pub map: String,
    /// Units (prompts, or steps of one prompt) that have it.
    pub units: usize,
    /// What was measured.
    pub measure: Measure,
    /// Both games, deletion first.
    pub games: [GameStanding; 2],
    /// Against every other control in both games; empty for a control.
    pub leads: Vec<Lead>,
}

impl Standing {
    /// The standing of `map`, by `measure`, over the units that have it, against the controls that it has to beat (`gate`) and other ones
    /// (`priors`); `None` where no unit has it. Pairs are compared within a unit, so units without a control do not count in
    /// its lead, and a control that no unit has is left out.
    pub fn of(measure: Measure, units: &[Unit], map: &str, gate: &[&str], priors: &[&str]) -> Option<Self> {
        let own: Vec<Areas> = units.iter().filter_map(|u| u.get(map).copied()).collect();
        if own.is_empty() {
            return None;
        }
        let mut leads = Vec::new();
        for game in Game::ALL {
            for (at, control) in gate.iter().chain(priors).enumerate() {
                let pairs = units.iter().filter_map(|u| Some((u.get(map)?, u.get(*control)?)));
                let each: Vec<f64> =
                    pairs.map(|(a, b)| measure.lead(game, a[game as usize], b[game as usize])).collect();
                if !each.is_empty() {
                    let ahead = each.iter().filter(|l| **l > 0.0).count();
                    let lead = Interval::of(&each);
                    leads.push(Lead { control: (*control).to_owned(), game, lead, ahead, is_gate: at < gate.len() });
                }
            }
        }
        let games = Game::ALL.map(|game| GameStanding {
            game,
            better: measure.better(game),
            area: Interval::of(&own.iter().map(|a| a[game as usize]).collect::<Vec<_>>()),
        });
        Some(Self { map: map.to_owned(), units: own.len(), measure, games, leads })
    }

    /// The area of one game.
    pub fn area(&self, game: Game) -> Interval {
        self.games[game as usize].area
    }

    /// Whether the map beats every control of its gate in both games with intervals that leave out 0; `None` for a control,
    /// and with fewer than two units, which have no interval.
    pub fn passes(&self) -> Option<bool> {
        (!self.leads.is_empty() && self.units > 1).then(|| self.gate().all(Lead::is_certain))
    }

    /// The controls of its gate that it was compared with, each once.
    pub fn controls(&self) -> Vec<&str> {
        self.gate().filter(|l| l.game == Game::ALL[0]).map(|l| l.control.as_str()).collect()
    }

    /// Leads over the controls that it has to beat.
    pub fn gate(&self) -> impl Iterator<Item = &Lead> {
        self.leads.iter().filter(|l| l.is_gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(areas: &[(&str, Areas)]) -> Unit {
        areas.iter().map(|(name, a)| ((*name).to_owned(), *a)).collect()
    }

    #[test]
    fn by_distance_deletion_is_won_upwards_and_insertion_downwards() {
        let units = [
            unit(&[("map", [0.6, 0.3]), ("chance", [0.5, 0.4])]),
            unit(&[("map", [0.8, 0.5]), ("chance", [0.5, 0.4])]),
        ];
        let standing = Standing::of(Measure::Distance, &units, "map", &["chance", "nowhere"], &[]).unwrap();
        let [deletion, insertion] = &standing.leads[..] else { panic!("one control, two games") };
        assert!((deletion.lead.value - 0.2).abs() < 1e-12 && deletion.ahead == 2 && deletion.is_certain());
        assert!(insertion.lead.value.abs() < 1e-12 && insertion.ahead == 1 && !insertion.is_certain());
        assert_eq!(standing.passes(), Some(false));
        assert_eq!(standing.games.map(|g| g.better), [Better::High, Better::Low]);
        let turned = Standing::of(Measure::Confidence, &units, "map", &["chance"], &[]).unwrap();
        assert!((turned.leads[0].lead.value + 0.2).abs() < 1e-12, "a confidence that stays high is a bad sign");
        assert!((standing.area(Game::Insertion).value - 0.4).abs() < 1e-12);
    }

    #[test]
    fn a_map_passes_where_it_leads_everywhere() {
        let units = [
            unit(&[("map", [0.6, 0.3]), ("chance", [0.5, 0.4])]),
            unit(&[("map", [0.7, 0.2]), ("chance", [0.5, 0.4])]),
        ];
        assert_eq!(Standing::of(Measure::Distance, &units, "map", &["chance"], &[]).unwrap().passes(), Some(true));
        assert_eq!(
            Standing::of(Measure::Distance, &units[..1], "map", &["chance"], &[]).unwrap().passes(),
            None,
            "one unit has no interval"
        );
        assert_eq!(Standing::of(Measure::Distance, &units, "chance", &[], &[]).unwrap().passes(), None);
        assert_eq!(Standing::of(Measure::Distance, &units, "neither", &["chance"], &[]), None);
    }

    #[test]
    fn a_prior_does_not_decide() {
        let units = [0.6, 0.7].map(|d| unit(&[("map", [d, 0.3]), ("chance", [0.5, 0.4]), ("centre", [0.9, 0.1])]));
        let standing = Standing::of(Measure::Distance, &units, "map", &["chance"], &["centre"]).unwrap();
        assert_eq!((standing.leads.len(), standing.gate().count()), (4, 2));
        assert!(standing.leads.iter().any(|l| l.lead.high < 0.0));
        assert_eq!(standing.passes(), Some(true));
    }

    #[test]
    fn units_without_a_control_do_not_count_against_it() {
        let units = [unit(&[("map", [0.6, 0.3])]), unit(&[("map", [0.7, 0.2]), ("chance", [0.5, 0.4])])];
        let standing = Standing::of(Measure::Distance, &units, "map", &["chance"], &[]).unwrap();
        assert_eq!(standing.units, 2);
        assert!((standing.leads[0].lead.value - 0.2).abs() < 1e-12);
    }
}
