//! Whether a few numbers stand in rising order: Kendall's S with its exact distribution over all orders.

/// Most numbers: all their orders are counted.
const MOST: usize = 8;

/// What is to be thought of the order of a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rising {
    /// Kendall's τ: pairs that rise minus pairs that fall, over all pairs. Pairs that are not told apart count for neither.
    pub tau: f64,
    /// The share of all orders of these numbers whose τ is at least as high.
    pub p: f64,
}

/// Whether `values` rise, against the hypothesis that every order of them is as likely. Two that differ by less than
/// `resolution` are not told apart. `None` for fewer than three, for more than eight, or where one is not finite.
pub fn rising(values: &[f64], resolution: f64) -> Option<Rising> {
    if !(3..=MOST).contains(&values.len()) || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let score = |values: &[f64]| -> i64 {
        let pairs = (0..values.len()).flat_map(|i| (i + 1..values.len()).map(move |j| (i, j)));
        let sign = |(i, j): (usize, usize)| match values[j] - values[i] {
            d if d.abs() < resolution || d == 0.0 => 0,
            d if d > 0.0 => 1,
            _ => -1,
        };
        pairs.map(sign).sum()
    };
    let own = score(values);
    let (mut orders, mut as_high) = (0u32, 0u32);
    permuted(&mut values.to_vec(), 0, &mut |order| {
        orders += 1;
        as_high += u32::from(score(order) >= own);
    });
    let pairs = values.len() * (values.len() - 1) / 2;
    Some(Rising { tau: own as f64 / pairs as f64, p: f64::from(as_high) / f64::from(orders) })
}

/// Calls `visit` with every order of `values[from..]`.
fn permuted(values: &mut Vec<f64>, from: usize, visit: &mut impl FnMut(&[f64])) {
    if from + 1 >= values.len() {
        return visit(values);
    }
    for at in from..values.len() {
        values.swap(from, at);
        permuted(values, from + 1, visit);
        values.swap(from, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_order_of_five_has_one_chance_in_120() {
        let found = rising(&[1.0, 2.0, 4.0, 8.0, 9.0], 0.1).unwrap();
        assert_eq!((found.tau, found.p), (1.0, 1.0 / 120.0));
        // Four neighbours can be swapped.
        let found = rising(&[1.0, 4.0, 2.0, 8.0, 9.0], 0.1).unwrap();
        assert_eq!((found.tau, found.p), (0.8, 5.0 / 120.0));
        assert_eq!(rising(&[9.0, 8.0, 4.0, 2.0, 1.0], 0.1).unwrap(), Rising { tau: -1.0, p: 1.0 });
    }

    #[test]
    fn numbers_that_are_not_told_apart_have_no_order() {
        assert_eq!(rising(&[4.00, 4.01, 4.02, 4.03, 4.04], 0.1), Some(Rising { tau: 0.0, p: 1.0 }));
        assert_eq!(rising(&[4.0; 5], 0.0), Some(Rising { tau: 0.0, p: 1.0 }));
    }

    /// Under the hypothesis p is at most α in at most that share of the orders.
    #[test]
    fn no_more_orders_are_called_rising_than_the_level_allows() {
        for values in [vec![1.0, 2.0, 3.0, 4.0, 5.0], vec![1.0, 1.05, 3.0, 3.0, 9.0], vec![0.0, 1.0, 2.0]] {
            let (mut orders, mut called) = (0, 0);
            permuted(&mut values.clone(), 0, &mut |order| {
                orders += 1;
                called += u32::from(rising(order, 0.1).unwrap().p <= 0.05);
            });
            assert!(f64::from(called) <= 0.05 * f64::from(orders), "{called} of {orders} orders of {values:?}");
        }
    }

    #[test]
    fn too_few_too_many_and_numbers_that_are_none_have_no_answer() {
        assert_eq!(rising(&[1.0, 2.0], 0.1), None);
        assert_eq!(rising(&[0.0; 9], 0.1), None);
        assert_eq!(rising(&[1.0, f64::NAN, 2.0], 0.1), None);
    }
}
