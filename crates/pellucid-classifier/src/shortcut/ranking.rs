//! The rank of a would-be cue where validation cannot confirm it: how far its presence tells the mistakes around its class.
//!
//! Two tables are pooled, each within true classes (Mantel and Haenszel): among other classes' pictures, being called the
//! class with the cue and without; among the class's own, being missed without the cue and with it. A cue of the class
//! shows in both.

/// One stratum of a two-by-two table.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    exposed: f64,
    others: f64,
    exposed_events: f64,
    events: f64,
}

/// The pooled z of both tables, positive where the cue goes with the mistakes that a cue of `class` makes.
pub fn rank_z(labels: &[usize], predicted: &[usize], present: &[bool], class: usize, classes: usize) -> f64 {
    let mut strata = vec![Cell::default(); classes];
    for ((&y, &p), &on) in labels.iter().zip(predicted).zip(present) {
        let (exposed, event) = if y == class { (!on, p != class) } else { (on, p == class) };
        let cell = &mut strata[y];
        *(if exposed { &mut cell.exposed } else { &mut cell.others }) += 1.0;
        cell.events += f64::from(u8::from(event));
        cell.exposed_events += f64::from(u8::from(event && exposed));
    }
    let z = |cells: &[&Cell]| {
        let (mut sum, mut variance) = (0.0, 0.0);
        for cell in cells {
            let n = cell.exposed + cell.others;
            if n < 2.0 {
                continue;
            }
            sum += cell.exposed_events - cell.events * cell.exposed / n;
            variance += cell.exposed * cell.others * cell.events * (n - cell.events) / (n * n * (n - 1.0));
        }
        if variance > 0.0 { sum / variance.sqrt() } else { 0.0 }
    };
    let of_others: Vec<&Cell> = strata.iter().enumerate().filter(|(y, _)| *y != class).map(|(_, c)| c).collect();
    (z(&of_others) + z(&[&strata[class]])) / std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cue_shows_in_both_tables_and_a_class_s_own_evidence_in_neither() {
        let labels: Vec<usize> = (0..200).map(|i| i % 2).collect();
        let cue: Vec<bool> = (0..200).map(|i| (i / 2) % 2 == 0).collect();
        let by_cue: Vec<usize> = cue.iter().map(|&on| usize::from(!on)).collect();
        assert!(rank_z(&labels, &by_cue, &cue, 0, 2) > 8.0);
        let by_chance: Vec<usize> =
            (0..200).map(|i| if (i / 4) % 5 == 0 { 1 - labels[i] } else { labels[i] }).collect();
        assert!(rank_z(&labels, &by_chance, &cue, 0, 2).abs() < 2.5);
    }
}
