//! Curves of the two games and the areas under them.

use super::measure::{Game, Measure};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// A curve of distances and its areas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Distance to the untouched result after each move, from none to all.
    pub distances: Vec<f64>,
    /// Area under the curve scaled to 0…1 by its own least and greatest value: as published. One spike rescales it.
    pub area: f64,
    /// Area under the curve scaled by its two ends, which every map shares.
    pub fixed_area: f64,
}

impl Curve {
    /// The curve through `distances`, at least one.
    pub fn of(distances: Vec<f64>) -> Self {
        let (low, high) = distances.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let (first, last) = (distances.first().copied().unwrap_or(0.0), distances.last().copied().unwrap_or(0.0));
        let area = trapezoid(&distances, low, high);
        let fixed_area = trapezoid(&distances, first.min(last), first.max(last));
        Self { distances, area, fixed_area }
    }
}

/// Area over the unit interval of the values scaled from `low`…`high` to 0…1; 0 for a flat curve.
fn trapezoid(values: &[f64], low: f64, high: f64) -> f64 {
    if high <= low || values.len() < 2 {
        return 0.0;
    }
    let sum: f64 = values.windows(2).map(|w| (w[0] + w[1]) / 2.0 - low).sum();
    sum / (high - low) / (values.len() - 1) as f64
}

/// Both games measured by [`Measure::Distance`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistanceGames {
    /// Distance as places go; a high area is good.
    pub deletion_distance: Curve,
    /// Distance as places come back; a low area is good.
    pub insertion_distance: Curve,
}

impl DistanceGames {
    /// What is measured.
    pub const MEASURE: Measure = Measure::Distance;

    /// The curve of one game.
    pub fn curve(&self, game: Game) -> &Curve {
        match game {
            Game::Deletion => &self.deletion_distance,
            Game::Insertion => &self.insertion_distance,
        }
    }

    /// Whether both curves have a value for the start and one for each of so many moves.
    pub fn has_moves(&self, moves: usize) -> bool {
        Game::ALL.iter().all(|game| self.curve(*game).distances.len() == moves + 1)
    }

    /// The areas between the curves' ends ([`Curve::fixed_area`]), of deletion and insertion.
    pub fn areas(&self) -> [f64; 2] {
        Game::ALL.map(|game| self.curve(game).fixed_area)
    }
}

/// Areas of both games measured by [`Measure::Confidence`], beside what a random order gets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceGames {
    /// Area under the score as the highest places go first, as a share of the whole picture's; low is good.
    pub deletion_confidence: f64,
    /// The same for a random order.
    pub deletion_confidence_random: f64,
    /// Area under the score as the highest places come first; high is good.
    pub insertion_confidence: f64,
    /// The same for a random order.
    pub insertion_confidence_random: f64,
}

impl ConfidenceGames {
    /// What is measured.
    pub const MEASURE: Measure = Measure::Confidence;

    /// From the areas of deletion and insertion of a map and of a random order.
    pub fn of(map: [f64; 2], random: [f64; 2]) -> Self {
        Self {
            deletion_confidence: map[0],
            deletion_confidence_random: random[0],
            insertion_confidence: map[1],
            insertion_confidence_random: random[1],
        }
    }

    /// The areas of one game: the map's and the random order's.
    pub fn areas(&self, game: Game) -> (f64, f64) {
        match game {
            Game::Deletion => (self.deletion_confidence, self.deletion_confidence_random),
            Game::Insertion => (self.insertion_confidence, self.insertion_confidence_random),
        }
    }

    /// By how much the map beats a random order in one game; negative where it does not.
    pub fn lead(&self, game: Game) -> f64 {
        let (map, random) = self.areas(game);
        Self::MEASURE.lead(game, map, random)
    }
}

/// Places by falling value, row by row numbers; equal values in the order of places.
pub fn ranked(map: &Array2<f32>) -> Vec<usize> {
    let values: Vec<f32> = map.iter().copied().collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

/// For each place the move that takes it, from 1: the map's order, one row's worth of places a move.
pub fn moves(map: &Array2<f32>) -> Array2<usize> {
    let (height, width) = map.dim();
    let mut moves = Array2::zeros((height, width));
    let taken = ranked(map).into_iter().enumerate();
    taken.for_each(|(rank, place)| moves[[place / width, place % width]] = rank / width + 1);
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_the_scaled_curve() {
        let curve = Curve::of(vec![0.0, 1.0, 4.0, 2.0]);
        assert!((curve.area - (0.125 + 0.625 + 0.75) / 3.0).abs() < 1e-12);
        assert!((curve.fixed_area - (0.25 + 1.25 + 1.5) / 3.0).abs() < 1e-12);
        assert_eq!(Curve::of(vec![1.0, 1.0]).area, 0.0);
    }

    #[test]
    fn each_move_takes_one_rows_worth_in_the_maps_order() {
        let map = ndarray::array![[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]];
        assert_eq!(moves(&map), ndarray::array![[2, 1, 2], [1, 2, 1]]);
    }

    #[test]
    fn a_map_that_finds_what_matters_leads_in_both_games() {
        let games = ConfidenceGames::of([0.2, 0.8], [0.5, 0.5]);
        assert!(Game::ALL.iter().all(|g| games.lead(*g) > 0.0));
    }
}
