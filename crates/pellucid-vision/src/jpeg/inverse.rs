//! The inverse cosine transform of an 8 × 8 block, in integers.
//!
//! Loeffler, Ligtenberg and Moschytz (ICASSP 1989), in the arrangement with twelve
//! multiplications, with the constants in 13 fractional bits and 2 bits kept between the passes.
//! These precisions are libjpeg's ("islow"), and with them so is every rounding.

/// Natural position of each coefficient of the zigzag.
pub(super) const ZIGZAG: [usize; 64] = zigzag();

/// Walks the diagonals of the block, turning at its edges.
const fn zigzag() -> [usize; 64] {
    let mut order = [0; 64];
    let (mut row, mut column, mut at) = (0, 0, 0);
    while at < 64 {
        order[at] = row * 8 + column;
        let upwards = (row + column) % 2 == 0;
        match (upwards, row, column) {
            (true, _, 7) | (false, 0..7, 0) => row += 1,
            (true, 0, _) | (false, 7, _) => column += 1,
            (true, ..) => (row, column) = (row - 1, column + 1),
            (false, ..) => (row, column) = (row + 1, column - 1),
        }
        at += 1;
    }
    order
}

const CONSTANT_BITS: u32 = 13;
const KEPT_BITS: u32 = 2;

/// A constant with [`CONSTANT_BITS`] fractional bits.
const fn fixed(value: f64) -> i32 {
    (value * (1 << CONSTANT_BITS) as f64 + 0.5) as i32
}

/// Samples of the block of coefficients `block` (natural order; `divisors` in zigzag order) into
/// `out`, whose rows are `stride` apart.
pub(super) fn inverse_transform(block: &[i16; 64], divisors: &[u16; 64], out: &mut [u8], stride: usize) {
    if block[1..].iter().all(|coefficient| *coefficient == 0) {
        let level = i32::from(block[0]).wrapping_mul(i32::from(divisors[0]));
        let level = ((level.wrapping_add(4) >> 3) + 128).clamp(0, 255) as u8;
        out.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(level));
        return;
    }
    let mut values = [[0i32; 8]; 8];
    for (divisor, place) in divisors.iter().zip(ZIGZAG) {
        values[place / 8][place % 8] = i32::from(block[place]).wrapping_mul(i32::from(*divisor));
    }
    let down = eight_points(&values);
    // Rows of `across` are columns of the block.
    let mut across = [[0i32; 8]; 8];
    for row in 0..8 {
        for column in 0..8 {
            across[column][row] = rounded(down[row][column], CONSTANT_BITS - KEPT_BITS);
        }
    }
    let samples = eight_points(&across);
    for (row, line) in out.chunks_mut(stride).take(8).enumerate() {
        for (column, sample) in line[..8].iter_mut().enumerate() {
            // The transform is scaled up by 8 in all.
            let level = rounded(samples[column][row], CONSTANT_BITS + KEPT_BITS + 3);
            *sample = (level + 128).clamp(0, 255) as u8;
        }
    }
}

fn rounded(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

/// One-dimensional transforms of the eight columns of `input`; outputs have [`CONSTANT_BITS`] more
/// fractional bits. Sums wrap, as a damaged file may hold anything.
fn eight_points(input: &[[i32; 8]; 8]) -> [[i32; 8]; 8] {
    let mut output = [[0; 8]; 8];
    for lane in 0..8 {
        let even = even_half(input[0][lane], input[2][lane], input[4][lane], input[6][lane]);
        let odd = odd_half(input[1][lane], input[3][lane], input[5][lane], input[7][lane]);
        for point in 0..4 {
            output[point][lane] = even[point].wrapping_add(odd[point]);
            output[7 - point][lane] = even[point].wrapping_sub(odd[point]);
        }
    }
    output
}

/// From the even-numbered coefficients.
#[inline(always)]
fn even_half(x0: i32, x2: i32, x4: i32, x6: i32) -> [i32; 4] {
    let turn = x2.wrapping_add(x6).wrapping_mul(fixed(0.541_196_100));
    let low = turn.wrapping_sub(x6.wrapping_mul(fixed(1.847_759_065)));
    let high = turn.wrapping_add(x2.wrapping_mul(fixed(0.765_366_865)));
    let sum = x0.wrapping_add(x4).wrapping_shl(CONSTANT_BITS);
    let difference = x0.wrapping_sub(x4).wrapping_shl(CONSTANT_BITS);
    [sum.wrapping_add(high), difference.wrapping_add(low), difference.wrapping_sub(low), sum.wrapping_sub(high)]
}

/// From the odd-numbered coefficients.
#[inline(always)]
fn odd_half(x1: i32, x3: i32, x5: i32, x7: i32) -> [i32; 4] {
    let shared = x7.wrapping_add(x3).wrapping_add(x5).wrapping_add(x1).wrapping_mul(fixed(1.175_875_602));
    let a = x7.wrapping_add(x1).wrapping_mul(-fixed(0.899_976_223));
    let b = x5.wrapping_add(x3).wrapping_mul(-fixed(2.562_915_447));
    let c = x7.wrapping_add(x3).wrapping_mul(-fixed(1.961_570_560)).wrapping_add(shared);
    let d = x5.wrapping_add(x1).wrapping_mul(-fixed(0.390_180_644)).wrapping_add(shared);
    let from1 = x1.wrapping_mul(fixed(1.501_321_110)).wrapping_add(a).wrapping_add(d);
    let from3 = x3.wrapping_mul(fixed(3.072_711_026)).wrapping_add(b).wrapping_add(c);
    let from5 = x5.wrapping_mul(fixed(2.053_119_869)).wrapping_add(b).wrapping_add(d);
    let from7 = x7.wrapping_mul(fixed(0.298_631_336)).wrapping_add(a).wrapping_add(c);
    [from1, from3, from5, from7]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zigzag_visits_each_place_once_along_diagonals() {
        let mut seen = ZIGZAG.to_vec();
        seen.sort_unstable();
        assert_eq!(seen, (0..64).collect::<Vec<_>>());
        assert_eq!(ZIGZAG[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        let diagonal = |place: usize| place / 8 + place % 8;
        assert!(ZIGZAG.windows(2).all(|pair| diagonal(pair[1]).abs_diff(diagonal(pair[0])) <= 1));
    }

    #[test]
    fn the_transform_is_the_cosine_sum() {
        let mut block = [0i16; 64];
        for (at, coefficient) in [(0, 260), (1, -77), (9, 33), (26, 60), (63, -41), (40, 12)] {
            block[at] = coefficient;
        }
        let mut out = [0u8; 64];
        inverse_transform(&block, &[1; 64], &mut out, 8);
        let scale = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        let wave = |x: usize, k: usize| ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
        for y in 0..8 {
            for x in 0..8 {
                let terms = (0..64).map(|at| {
                    let (v, u) = (at / 8, at % 8);
                    scale(u) * scale(v) * f64::from(block[at]) * wave(x, u) * wave(y, v) / 4.0
                });
                let expected = terms.sum::<f64>() + 128.0;
                assert!((f64::from(out[y * 8 + x]) - expected).abs() < 0.6, "{x},{y}: {expected}");
            }
        }
    }

    #[test]
    fn a_flat_block_is_the_same_by_both_ways() {
        let mut almost_flat = [0i16; 64];
        for level in [-1100, -37, 0, 5, 420, 1500] {
            almost_flat[0] = level;
            let (mut short, mut long) = ([0u8; 64], [0u8; 64]);
            inverse_transform(&almost_flat, &[1; 64], &mut short, 8);
            // A coefficient that its divisor erases takes the long way.
            let mut divisors = [1; 64];
            divisors[63] = 0;
            almost_flat[63] = 1;
            inverse_transform(&almost_flat, &divisors, &mut long, 8);
            almost_flat[63] = 0;
            assert_eq!(short, long, "{level}");
        }
    }
}
