//! The two games and the two measures, with what is good in each.

use serde::{Deserialize, Serialize};

/// How places change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Game {
    /// The places that a map ranks highest go first.
    Deletion,
    /// They come first.
    Insertion,
}

impl Game {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Deletion, Self::Insertion];
}

impl std::fmt::Display for Game {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deletion => "deletion",
            Self::Insertion => "insertion",
        })
    }
}

/// What is measured as places change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The network's own score for what is explained: deleting what matters should make it fall.
    Confidence,
    /// The distance to the untouched result: deleting what matters should make it grow.
    Distance,
}

impl Measure {
    /// Which area under the curve is good.
    pub fn better(self, game: Game) -> Better {
        match (self, game) {
            (Self::Confidence, Game::Deletion) | (Self::Distance, Game::Insertion) => Better::Low,
            (Self::Confidence, Game::Insertion) | (Self::Distance, Game::Deletion) => Better::High,
        }
    }

    /// By how much `area` wins against `other`; negative where it loses.
    pub fn lead(self, game: Game, area: f64, other: f64) -> f64 {
        match self.better(game) {
            Better::High => area - other,
            Better::Low => other - area,
        }
    }
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The larger the better.
    High,
    /// The smaller the better.
    Low,
}

impl std::fmt::Display for Better {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::High => "high is good",
            Self::Low => "low is good",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_measures_win_in_opposite_directions() {
        for game in Game::ALL {
            let [confidence, distance] = [Measure::Confidence, Measure::Distance].map(|m| m.lead(game, 0.7, 0.5));
            assert_eq!(confidence, -distance);
        }
        assert!(Measure::Confidence.lead(Game::Deletion, 0.2, 0.5) > 0.0, "less confidence is left than by chance");
        assert_eq!(Measure::Distance.better(Game::Deletion).to_string(), "high is good");
    }
}
