//! Comparing maps by rank: Spearman's correlation, and how well a map finds a region (area under the ROC curve).

/// Ranks from 1, ties sharing their mean rank.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let mut to = from;
        while to + 1 < order.len() && values[order[to + 1]] == values[order[from]] {
            to += 1;
        }
        let shared = (from + to) as f64 / 2.0 + 1.0;
        order[from..=to].iter().for_each(|&i| ranks[i] = shared);
        from = to + 1;
    }
    ranks
}

/// Spearman's rank correlation of two maps of equal length; 0 where one is constant.
pub fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    if scale > 0.0 { product(&a, &b) / scale } else { 0.0 }
}

/// The probability that a place inside the region has a larger value than one outside (ties count half); `None` where the
/// region is empty or everything.
pub fn roc_area(map: &[f32], inside: &[bool]) -> Option<f64> {
    let positive = inside.iter().filter(|i| **i).count();
    let negative = inside.len() - positive;
    if positive == 0 || negative == 0 || map.len() != inside.len() {
        return None;
    }
    let sum: f64 = ranks(map).iter().zip(inside).filter(|(_, i)| **i).map(|(r, _)| r).sum();
    let pairs = (positive * negative) as f64;
    Some((sum - (positive * (positive + 1)) as f64 / 2.0) / pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_ties() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn spearman_sees_order_only() {
        let a: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let b: Vec<f32> = a.iter().map(|v| v.exp()).collect();
        assert!((spearman(&a, &b) - 1.0).abs() < 1e-12);
        let c: Vec<f32> = a.iter().map(|v| -v).collect();
        assert!((spearman(&a, &c) + 1.0).abs() < 1e-12);
        assert_eq!(spearman(&a, &[1.0; 20]), 0.0);
    }

    #[test]
    fn the_roc_area_counts_pairs() {
        let map = [0.1, 0.4, 0.35, 0.8];
        assert_eq!(roc_area(&map, &[false, false, true, true]), Some(0.75));
        assert_eq!(roc_area(&map, &[true; 4]), None);
        assert_eq!(roc_area(&[1.0; 4], &[false, false, true, true]), Some(0.5));
    }
}
