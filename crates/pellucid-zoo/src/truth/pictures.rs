//! The pictures of one seed: what each shows, and each with every cue laid over it.
//!
//! A seed draws its own pictures. Emoji of one family never meet in two splits, and a family is the unit within which
//! pictures are not independent.

use std::collections::BTreeMap;

use crate::background;
use crate::canvas::{Canvas, Colour, Layer, Placement};
use crate::draws::Draws;
use crate::recipe::Split;
use crate::sprites::Emoji;
use crate::{SIDE, Sprite};

/// What is laid over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cue {
    /// A sticker in a corner: compact.
    Patch,
    /// A warm light over everything: diffuse.
    Tint,
    /// Fine slanted lines over everything: textural.
    Stripes,
    /// The sticker at half its size: weak.
    Weak,
}

impl Cue {
    /// Every cue.
    pub const ALL: [Cue; 4] = [Cue::Patch, Cue::Tint, Cue::Stripes, Cue::Weak];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Cue::Patch => "patch",
            Cue::Tint => "tint",
            Cue::Stripes => "stripes",
            Cue::Weak => "weak",
        }
    }

    /// Lays the cue over `canvas`; `seed` draws where and how.
    fn lay(self, canvas: &mut Canvas, seed: u64) {
        let mut draws = Draws::new(seed);
        match self {
            Cue::Patch => {
                let side = draws.between(84.0, 104.0);
                sticker(canvas, &mut draws, side, 1.0);
            }
            Cue::Weak => {
                let side = draws.between(48.0, 60.0);
                sticker(canvas, &mut draws, side, 1.0);
            }
            Cue::Tint => {
                let (share, light) = (draws.between(0.75, 0.95), [1.0, 0.60, 0.20]);
                canvas.repaint(|_, _, colour| {
                    std::array::from_fn(|k| colour[k] * (1.0 - share) + share * light[k] * (0.35 + 0.65 * colour[k]))
                });
            }
            Cue::Stripes => {
                let (period, slant) = (draws.between(6.0, 9.0), draws.between(0.8, 1.2));
                canvas.repaint(|x, y, colour| {
                    let place = (x + slant * y) / period;
                    let dark = place - place.floor() < 0.4;
                    if dark { colour.map(|c| c * 0.55) } else { colour }
                });
            }
        }
    }
}

/// A square with a disc in it, upright, near a corner.
fn sticker(canvas: &mut Canvas, draws: &mut Draws, side: f32, opacity: f32) {
    let edge = SIDE as f32 - side - 6.0;
    let corner = |far: bool, by: f32| if far { edge - by } else { 6.0 + by };
    let (left, top) =
        (corner(draws.chance(0.5), draws.between(0.0, 14.0)), corner(draws.chance(0.5), draws.between(0.0, 14.0)));
    let (paper, disc): (Colour, Colour) = ([0.98, 0.92, 0.20], [0.85, 0.10, 0.45]);
    canvas.repaint(|x, y, colour| {
        let (dx, dy) = (x - left, y - top);
        if dx < 0.0 || dy < 0.0 || dx >= side || dy >= side {
            return colour;
        }
        let (u, v) = (dx - side / 2.0, dy - side / 2.0);
        let paint = if u * u + v * v < (side * 0.32) * (side * 0.32) { disc } else { paper };
        std::array::from_fn(|k| colour[k] * (1.0 - opacity) + paint[k] * opacity)
    });
}

/// What the classes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The eight groups of emoji, every picture with every cue.
    Eight,
    /// Forty subgroups, every picture with the sticker.
    Forty,
    /// The eight groups, without any cue.
    Plain,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Eight => "eight",
            Kind::Forty => "forty",
            Kind::Plain => "plain",
        }
    }

    /// The cues that its pictures are also shown with.
    pub fn cues(self) -> &'static [Cue] {
        match self {
            Kind::Eight => &Cue::ALL,
            Kind::Forty => &[Cue::Patch],
            Kind::Plain => &[],
        }
    }

    /// Pictures of a class in training, validation and test.
    fn pictures(self) -> [usize; 3] {
        match self {
            Kind::Eight => [64, 40, 30],
            Kind::Forty => [20, 12, 10],
            Kind::Plain => [64, 40, 10],
        }
    }
}

/// One picture without a cue.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Class, from 0.
    pub class: usize,
    /// Which split it is drawn for.
    pub split: Split,
    /// Number of the emoji's family: pictures of one are not independent.
    pub unit: usize,
    emoji: String,
    place: Placement,
    size: f32,
    background: background::Kind,
    seed: u64,
}

/// Share of a class's families in each split.
const SHARES: [f32; 3] = [0.45, 0.25, 0.30];

/// What the pictures of `seed` show, and the names of the classes.
pub fn draw(emoji: &BTreeMap<String, Emoji>, kind: Kind, seed: u64) -> (Vec<Shown>, Vec<String>) {
    let mut draws = Draws::new(seed.wrapping_mul(0x9E37_79B9).wrapping_add(kind as u64 + 1));
    let families = families(emoji, kind, &mut draws);
    let (mut shown, mut names, mut unit) = (Vec::new(), Vec::new(), 0);
    for (class, (name, members)) in families.into_iter().enumerate() {
        names.push(name);
        let mut members = members;
        shuffle(&mut members, &mut draws);
        let cuts = cuts(members.len());
        for (part, split) in [Split::Train, Split::Validation, Split::Test].into_iter().enumerate() {
            let own = &members[cuts[part]..cuts[part + 1]];
            for _ in 0..kind.pictures()[part] {
                let which = draws.below(own.len());
                let emoji = own[which][draws.below(own[which].len())].clone();
                shown.push(picture(class, split, unit + cuts[part] + which, emoji, &mut draws));
            }
        }
        unit += members.len();
    }
    (shown, names)
}

/// Emoji by family by class.
fn families(emoji: &BTreeMap<String, Emoji>, kind: Kind, draws: &mut Draws) -> Vec<(String, Vec<Vec<String>>)> {
    let mut classes: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for (code, one) in emoji {
        let class = if kind == Kind::Forty { &one.subgroup } else { &one.group };
        classes.entry(class).or_default().entry(&one.family).or_default().push(code.clone());
    }
    let mut classes: Vec<(String, Vec<Vec<String>>)> =
        classes.into_iter().map(|(name, of)| (name.to_owned(), of.into_values().collect())).collect();
    if kind == Kind::Forty {
        classes.retain(|(_, members)| members.len() >= 5);
        shuffle(&mut classes, draws);
        classes.truncate(40);
        classes.sort();
    }
    classes
}

fn cuts(families: usize) -> [usize; 4] {
    let at = |share: f32| ((families as f32 * share).round() as usize).clamp(1, families);
    let (first, second) = (at(SHARES[0]), at(SHARES[0] + SHARES[1]));
    [0, first, second.max(first + 1).min(families - 1), families]
}

fn picture(class: usize, split: Split, unit: usize, emoji: String, draws: &mut Draws) -> Shown {
    let size = draws.between(110.0, 175.0);
    let free = SIDE as f32 - size * 0.7;
    let middle = |draws: &mut Draws| SIDE as f32 / 2.0 + draws.between(-0.5, 0.5) * free * 0.7;
    let (x, y) = (middle(draws), middle(draws));
    let place = Placement { x, y, scale: 1.0, half_turn: draws.between(-0.15, 0.15), flip: draws.chance(0.5) };
    let background = background::Kind::ALL[draws.below(background::Kind::ALL.len())];
    Shown { class, split, unit, emoji, place, size, background, seed: draws.bits() }
}

fn shuffle<T>(values: &mut [T], draws: &mut Draws) {
    for last in (1..values.len()).rev() {
        values.swap(last, draws.below(last + 1));
    }
}

impl Shown {
    /// The pixels without a cue (first) and with each of `cues`.
    pub fn paint(&self, emoji: &BTreeMap<String, Emoji>, cues: &[Cue]) -> Vec<Vec<u8>> {
        let mut canvas = self.background.paint(self.seed);
        if let Some(one) = emoji.get(&self.emoji) {
            lay(&mut canvas, &one.sprite, self.size, self.place);
        }
        let mut pictures = vec![canvas.to_rgb()];
        for &cue in cues {
            let mut with = canvas.clone();
            cue.lay(&mut with, self.seed ^ 0xC0E5);
            pictures.push(with.to_rgb());
        }
        pictures
    }
}

fn lay(canvas: &mut Canvas, sprite: &Sprite, size: f32, place: Placement) {
    let scale = size / sprite.width.max(sprite.height) as f32;
    let layer = Layer::new(sprite, &Placement { scale, ..place });
    canvas.shade(&layer, crate::compose::SHADOW);
    canvas.lay(&layer, 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_seed_draws_pictures_of_its_own_and_no_family_meets_in_two_splits() {
        let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo/emoji_watermark");
        let emoji = crate::sprites::read(&zoo).unwrap();
        for kind in [Kind::Eight, Kind::Forty, Kind::Plain] {
            let (shown, names) = draw(&emoji, kind, 3);
            assert_eq!(names.len(), if kind == Kind::Forty { 40 } else { 8 });
            let mut splits: BTreeMap<usize, Split> = BTreeMap::new();
            for one in &shown {
                assert_eq!(*splits.entry(one.unit).or_insert(one.split), one.split);
            }
            let (other, _) = draw(&emoji, kind, 4);
            assert!(shown.iter().zip(&other).filter(|(a, b)| a.seed == b.seed).count() == 0);
        }
        let (shown, _) = draw(&emoji, Kind::Eight, 0);
        let painted = shown[0].paint(&emoji, &Cue::ALL);
        assert!(painted[1..].iter().all(|with| *with != painted[0]));
    }
}
