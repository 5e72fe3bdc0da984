//! Colours that go together.

use crate::canvas::Colour;
use crate::draws::Draws;
use crate::noise::floor;

/// Four colours, used in order or as one continuous scale.
pub(super) struct Palette {
    colours: [Colour; 4],
}

impl Palette {
    /// Neighbouring or opposite hues at any lightness from pastel to deep.
    pub(super) fn draw(draws: &mut Draws) -> Palette {
        let hue = draws.unit();
        let apart = [0.03, 0.08, 0.16, 0.33, 0.5][draws.below(5)];
        let richness = draws.between(0.12, 0.68);
        let value = draws.between(0.45, 0.98);
        let colours = std::array::from_fn(|index| {
            let hue = hue + apart * index as f32 + draws.between(-0.02, 0.02);
            let richness = (richness * draws.between(0.6, 1.3)).min(0.8);
            hsv(hue, richness, (value * draws.between(0.65, 1.25)).clamp(0.15, 1.0))
        });
        Palette { colours }
    }

    /// Browns and grays, dark to light.
    pub(super) fn wood(draws: &mut Draws) -> Palette {
        let (hue, richness) = (draws.between(0.04, 0.11), draws.between(0.1, 0.65));
        let light = draws.between(0.5, 0.95);
        Palette { colours: std::array::from_fn(|index| hsv(hue, richness, light * (0.62 + 0.13 * index as f32))) }
    }

    /// From the zenith down to the horizon; the last is the sun.
    pub(super) fn sky(draws: &mut Draws) -> Palette {
        let evening = draws.chance(0.35);
        let hue = draws.between(0.54, 0.64);
        let (middle, low) = if evening {
            (hsv(draws.between(0.86, 0.96), 0.35, 0.85), hsv(draws.between(0.05, 0.12), 0.55, 0.98))
        } else {
            (hsv(hue, 0.3, 0.95), hsv(hue, 0.1, 1.0))
        };
        let value = if evening { 0.5 } else { draws.between(0.75, 0.95) };
        Palette { colours: [hsv(hue, 0.6, value), middle, low, hsv(0.13, 0.25, 1.0)] }
    }

    pub(super) fn at(&self, index: usize) -> Colour {
        self.colours[index % 4]
    }

    /// The first three colours as a scale: 0 is the first, 1 the third.
    pub(super) fn across(&self, share: f32) -> Colour {
        let place = share.clamp(0.0, 1.0) * 2.0;
        if place < 1.0 {
            mix(self.colours[0], self.colours[1], place)
        } else {
            mix(self.colours[1], self.colours[2], place - 1.0)
        }
    }
}

pub(super) fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

pub(super) fn scale(colour: Colour, factor: f32) -> Colour {
    colour.map(|channel| (channel * factor).clamp(0.0, 1.0))
}

/// The same hue at a value of `value`.
pub(super) fn dark(colour: Colour, value: f32) -> Colour {
    let most = colour.iter().copied().fold(0.05, f32::max);
    scale(colour, value / most)
}

/// Hue (any number, one turn is 1), saturation and value to red, green and blue.
fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    [5.0, 3.0, 1.0].map(|offset| {
        let turned = offset / 6.0 + hue;
        let sixth = (turned - floor(turned)) * 6.0;
        let share = sixth.min(4.0 - sixth).clamp(0.0, 1.0);
        value - value * saturation * share
    })
}
