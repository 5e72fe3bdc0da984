//! What the levels must be whatever the pictures, and pictures that have no order from coarse to fine.

use super::*;
use proptest::prelude::*;

fn noise(seed: u64, size: (usize, usize)) -> Array3<f32> {
    let numbers = gaussian(seed, 3 * size.0 * size.1);
    // Within the picture's range, so that nothing is clipped.
    Array3::from_shape_fn((3, size.0, size.1), |(c, y, x)| {
        0.15 * numbers[(c * size.0 + y) * size.1 + x].clamp(-4.0, 4.0)
    })
}

/// A picture whose power falls with the square of frequency, as pictures' does.
fn picture(seed: u64, size: (usize, usize)) -> Array3<f32> {
    let radius = spectrum::radius(size);
    let mut picture = noise(seed, size);
    for mut plane in picture.outer_iter_mut() {
        let mut values = transform(plane.view());
        values.zip_mut_with(&radius, |v, r| *v *= if *r > 0.0 { 0.05 / r } else { 0.0 });
        plane.assign(&inverse(values));
    }
    picture
}

fn levels(steps: &[Array3<f32>], last: &Array3<f32>) -> Levels {
    Target::new(last.view()).levels(steps.iter().map(|step| step.view()))
}

fn share(of: usize, steps: usize) -> f32 {
    (of + 1) as f32 / steps as f32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// x̂0 = a x0 lacks (1 − a)² of every band's power, and Σ_b share_b L_b is the level over all frequencies.
    #[test]
    fn a_band_has_what_it_is_given(seed in 0u64..1000, a in 0.0f32..1.0, height in 33usize..48, width in 33usize..48) {
        let last = picture(seed, (height, width));
        let found = levels(&[last.mapv(|v| a * v), noise(seed + 1, (height, width))], &last);
        let expected = 1.0 - f64::from(1.0 - a).powi(2);
        prop_assert_eq!(found.bands.len(), 5);
        prop_assert!(found.bands.iter().all(|band| (band.levels[0] - expected).abs() < 1e-4));
        // Parseval: powers of bands sum to the variance around the mean.
        let centred = |picture: &Array3<f32>| {
            let planes = picture.outer_iter().map(|plane| {
                let mean = plane.mean().unwrap();
                plane.iter().map(|v| f64::from(v - mean).powi(2)).sum::<f64>()
            });
            planes.sum::<f64>()
        };
        let difference = &noise(seed + 1, (height, width)) - &last;
        let whole = 1.0 - centred(&difference) / centred(&last);
        let sum: f64 = found.bands.iter().map(|band| band.share * band.levels[1]).sum();
        prop_assert!((sum - whole).abs() < 1e-3 * whole.abs().max(1.0), "{} {}", sum, whole);
    }

    /// Turning picture and steps around together changes nothing.
    #[test]
    fn levels_do_not_depend_on_where_things_are(seed in 0u64..1000, dy in 0usize..32, dx in 0usize..40) {
        let (last, step) = (picture(seed, (32, 40)), picture(seed + 1, (32, 40)));
        let moved = |p: &Array3<f32>| Array3::from_shape_fn(p.dim(), |(c, y, x)| p[[c, (y + dy) % 32, (x + dx) % 40]]);
        let (here, there) = (levels(std::slice::from_ref(&step), &last), levels(&[moved(&step)], &moved(&last)));
        for (a, b) in here.bands.iter().zip(&there.bands) {
            prop_assert!((a.levels[0] - b.levels[0]).abs() < 1e-3, "{} {}", a.levels[0], b.levels[0]);
        }
        prop_assert_eq!(here.coherence, there.coherence);
    }
}

#[test]
fn bands_that_arrive_one_after_the_other_are_claimed_to_and_those_that_arrive_in_reverse_are_not() {
    let last = picture(4, (64, 64));
    let target = Target::new(last.view());
    let of_band = |keep: &dyn Fn(usize) -> bool| {
        let mut kept = last.clone();
        for mut plane in kept.outer_iter_mut() {
            let mut values = transform(plane.view());
            values.zip_mut_with(&target.bands, |v, band| {
                if !band.is_none_or(keep) {
                    *v = Complex::default();
                }
            });
            plane.assign(&inverse(values));
        }
        kept
    };
    let coarse_first: Vec<_> = (0..5).map(|step| of_band(&|band| band <= step)).collect();
    let fine_first: Vec<_> = (0..5).map(|step| of_band(&|band| band + step >= 4)).collect();
    let found = levels(&coarse_first, &last);
    assert!(found.is_coarse_to_fine(), "{:?}", found.order);
    assert_eq!(found.bands.iter().map(|b| b.done).collect::<Vec<_>>(), (0..5).map(Some).collect::<Vec<_>>());
    // A ring at the end of a band lacks the half that lies beyond.
    assert_eq!(found.coherence, [1, 3, 7, 15, 32]);
    let reversed = levels(&fine_first, &last);
    assert_eq!((reversed.is_coarse_to_fine(), reversed.order.unwrap().tau), (false, -1.0));
}

/// The first negative control: every band comes at the same time.
#[test]
fn a_picture_that_fades_in_is_not_claimed_to_come_from_coarse_to_fine() {
    for steps in [3, 5, 20] {
        let last = picture(5, (64, 64));
        let fading: Vec<_> = (0..steps).map(|at| last.mapv(|v| v * share(at, steps))).collect();
        let found = levels(&fading, &last);
        assert_eq!((found.is_coarse_to_fine(), found.order.unwrap().tau), (false, 0.0));
    }
}

/// The second: neither a picture of pure noise that fades in, nor the control made for it, has an order.
#[test]
fn pure_noise_has_no_order_and_neither_has_its_control() {
    let mut claimed = 0;
    for seed in 0..40 {
        let last = noise(seed, (64, 64));
        let latent = last.clone().insert_axis(Dimension(0)) / 0.15;
        let with = noise(seed + 1000, (64, 64)).insert_axis(Dimension(0)) / 0.15;
        let steps: Vec<_> = (0..20)
            .map(|at| {
                wiener(&latent, &with, f64::from(share(at, 20)).powi(2)).index_axis(Dimension(0), 0).mapv(|v| 0.15 * v)
            })
            .collect();
        claimed += usize::from(levels(&steps, &last).is_coarse_to_fine());
    }
    // At a level of 5 %, 40 pictures have at most 6 with a probability of 99 %.
    assert!(claimed <= 6, "{claimed} of 40");
}

/// The control's order is the spectrum's: pictures whose power falls with frequency have it.
#[test]
fn the_control_goes_from_coarse_to_fine_where_power_falls_with_frequency() {
    let last = picture(6, (64, 64));
    let latent = last.clone().insert_axis(Dimension(0)) / 0.1;
    let with = noise(7, (64, 64)).insert_axis(Dimension(0)) / 0.15;
    let steps: Vec<_> = (0..20)
        .map(|at| {
            wiener(&latent, &with, f64::from(share(at, 20)).powi(2)).index_axis(Dimension(0), 0).mapv(|v| 0.1 * v)
        })
        .collect();
    assert!(levels(&steps, &last).is_coarse_to_fine());
}

#[test]
fn without_noise_the_control_says_the_latent_and_without_signal_its_mean() {
    let last = noise(8, (12, 16)).insert_axis(Dimension(0));
    let with = noise(9, (12, 16)).insert_axis(Dimension(0));
    assert!((&wiener(&last, &with, 1.0) - &last).iter().all(|d| d.abs() < 1e-5));
    let said = wiener(&last, &with, 0.0);
    for (said, last) in said.index_axis(Dimension(0), 0).outer_iter().zip(last.index_axis(Dimension(0), 0).outer_iter())
    {
        assert!(said.iter().all(|v| (v - last.mean().unwrap()).abs() < 1e-5));
    }
}

#[test]
fn a_picture_of_one_colour_has_no_bands_and_says_so() {
    let last = Array3::from_elem((3, 32, 32), 0.3f32);
    let found = levels(&[noise(1, (32, 32)), last.clone()], &last);
    assert!(found.bands.is_empty() && found.order.is_none());
    let said = conclusions(&ByFrequency { network: found.clone(), wiener: found });
    assert!(said[0].contains("0 of 5 bands"), "{said:?}");
}

#[test]
fn what_is_missing_lies_where_it_is_missing() {
    let last = Array3::from_shape_fn((3, 64, 64), |(_, y, x)| if (y / 2 + x / 2) % 2 == 0 { 0.5 } else { -0.5 });
    // The right half lacks its checks of 2 pixels.
    let step = Array3::from_shape_fn((3, 64, 64), |(c, y, x)| if x < 32 { last[[c, y, x]] } else { 0.0 });
    let missing = Target::new(last.view()).missing(step.view(), (8, 8));
    let (all, finest) = (&missing[0], &missing[5]);
    assert!(all[[4, 1]] < 0.1 && (all[[4, 6]] - 0.5).abs() < 0.05, "{all:?}");
    assert!(finest[[4, 6]] > 5.0 * missing[1][[4, 6]]);
}
