//! Pooling: means, maxima and norms over windows or over all of space.

use super::convolution::Window;
use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{GraphBuilder, elements};
use crate::graph::Node;

pub(super) const RULES: Table = &[
    ("AveragePool", average),
    ("GlobalAveragePool", global_average),
    ("GlobalLpPool", global_norm),
    ("GlobalMaxPool", global_max),
    ("LpPool", norm),
    ("MaxPool", max),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

fn window(e: &GraphBuilder, site: &VjpContext<'_>) -> Result<Window> {
    let rank = site.node.ints("kernel_shape").filter(|k| !k.is_empty()).ok_or("it has no kernel_shape")?.len();
    Window::of(e, site, site.steps("kernel_shape", rank)?)
}

fn ints(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}

/// Each window's cotangent, divided by how many elements the window counted, is added to all of its elements.
fn average(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let window = window(e, site)?;
    let include = site.node.int("count_include_pad").unwrap_or(0) != 0;
    e.admit(&window.output)?;
    let counts = window_counts(&window, include, &declared_ends(site, &window));
    let whole = whole(&window);
    let g = site.g()?.to_owned();
    let g = if counts.iter().all(|&c| c == whole) {
        e.scale(&g, 1.0 / whole)
    } else {
        let shape: Vec<usize> = [1, 1].iter().chain(&window.output).copied().collect();
        let shares = e.floats(&shape, &counts.iter().map(|c| 1.0 / c).collect::<Vec<_>>());
        e.mul(&g, &shares)
    };
    Ok(vec![Some(scatter_windows(e, &g, &window, site.input(0)?)?)])
}

/// The elements of a window.
fn whole(window: &Window) -> f64 {
    window.kernel.iter().map(|&k| k as f64).product()
}

/// The padding after that the node declares, by axis: a window that `ceil_mode` lets run over it does not count what
/// lies beyond.
fn declared_ends(site: &VjpContext<'_>, window: &Window) -> Vec<i64> {
    let rank = window.kernel.len();
    let pads = site.node.ints("pads").unwrap_or_default();
    let ceil = site.node.int("ceil_mode").unwrap_or(0) != 0;
    let declared = |i: usize| if ceil { pads.get(rank + i).copied().unwrap_or(0) } else { window.after[i] };
    (0..rank).map(|i| declared(i).min(window.after[i].max(0))).collect()
}

/// How many elements each window counts, row by row.
fn window_counts(window: &Window, include_padding: bool, ends: &[i64]) -> Vec<f64> {
    let along = |i: usize| -> Vec<f64> {
        let (low, high) = match include_padding {
            true => (-window.before[i], window.input[i] as i64 + ends[i]),
            false => (0, window.input[i] as i64),
        };
        let (taps, distance) = (window.kernel[i] as i64, window.dilations[i] as i64);
        let count = |o: usize| {
            let start = (o * window.strides[i]) as i64 - window.before[i];
            // Taps before `end`: as many as the distances between them that fit, rounded up.
            let before = |end: i64| (-(start - end).div_euclid(distance)).clamp(0, taps);
            (before(high) - before(low)).max(0) as f64
        };
        (0..window.output[i]).map(count).collect()
    };
    (0..window.kernel.len()).fold(vec![1.0], |counts, i| {
        let axis = along(i);
        counts.iter().flat_map(|c| axis.iter().map(move |a| c * a)).collect()
    })
}

/// Adds each element of `g` to every input element under its window.
fn scatter_windows(e: &mut GraphBuilder, g: &str, window: &Window, x: &str) -> Result<String> {
    let rank = window.kernel.len();
    let unit = window.strides.iter().all(|&s| s == 1);
    let tiles = window.kernel == window.strides
        && window.dilations.iter().all(|&d| d == 1)
        && (0..rank).all(|i| window.before[i] == 0 && window.after[i] <= 0);
    if tiles {
        return repeat_tiles(e, g, window, x);
    }
    if unit
        && window.dilations.iter().all(|&d| d == 1)
        && let Some(sum) = mirrored_average(e, g, window)
    {
        return Ok(sum);
    }
    // One channel at a time: a transposed convolution with ones.
    let mut split = vec![-1, 1];
    split.extend(ints(&window.output));
    let single = e.reshape(g, &split);
    let kernel: Vec<usize> = [1, 1].iter().chain(&window.kernel).copied().collect();
    let ones = e.uniform(&kernel, 1.0)?;
    let pads: Vec<i64> = window.before.iter().chain(&window.after).map(|&p| p.max(0)).collect();
    let node = Node::new("ConvTranspose", &[&single, &ones], &[]).with_ints("strides", &ints(&window.strides));
    let full = e.emit(node.with_ints("dilations", &ints(&window.dilations)).with_ints("pads", &pads));
    let short: Vec<i64> = window.after.iter().map(|&p| (-p).max(0)).collect();
    let full = padded(e, &full, &short);
    e.reshape_like(&full, x)
}

/// `a` with `after` zeros behind its spatial axes.
fn padded(e: &mut GraphBuilder, a: &str, after: &[i64]) -> String {
    if after.iter().all(|&n| n == 0) {
        return a.to_owned();
    }
    let amounts: Vec<i64> = std::iter::repeat_n(0, 4 + after.len()).chain(after.iter().copied()).collect();
    let amounts = e.ints(&amounts);
    e.op("Pad", &[a, &amounts])
}

/// Windows that tile the input: each cotangent is repeated over its tile.
fn repeat_tiles(e: &mut GraphBuilder, g: &str, window: &Window, x: &str) -> Result<String> {
    let rank = window.kernel.len();
    let scales: Vec<f64> = [1.0, 1.0].into_iter().chain(window.kernel.iter().map(|&k| k as f64)).collect();
    let scales: Vec<f32> = scales.iter().map(|&s| s as f32).collect();
    let name = e.scales(&scales);
    let node = Node::new("Resize", &[g, "", &name], &[]).with_string("mode", "nearest");
    let node = node.with_string("coordinate_transformation_mode", "asymmetric").with_string("nearest_mode", "floor");
    let full = e.emit(node);
    let short: Vec<i64> = (0..rank).map(|i| (-window.after[i]).max(0)).collect();
    let _ = x;
    Ok(padded(e, &full, &short))
}

/// Windows at every element: an average over mirrored windows, times their size.
fn mirrored_average(e: &mut GraphBuilder, g: &str, window: &Window) -> Option<String> {
    let rank = window.kernel.len();
    let mut pads = vec![0i64; 2 * rank];
    for i in 0..rank {
        let full = window.kernel[i] as i64 - 1;
        pads[i] = full - window.before[i];
        pads[i + rank] = full - window.after[i];
    }
    // The runtime wants pads smaller than the window, and not negative.
    let fits = |p: &i64, i: usize| *p >= 0 && *p < window.kernel[i % rank] as i64;
    if !pads.iter().enumerate().all(|(i, p)| fits(p, i)) {
        return None;
    }
    let g = e.scale(g, whole(window));
    let node = Node::new("AveragePool", &[&g], &[]).with_ints("kernel_shape", &ints(&window.kernel));
    Some(e.emit(node.with_ints("pads", &pads).with_int("count_include_pad", 1)))
}

fn global_average(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let extents = e.fixed_from(site.input(0)?, 2)?;
    let count = elements(&extents)?;
    let shape: Vec<usize> = [1, 1].into_iter().chain(extents).collect();
    let share = e.uniform(&shape, 1.0 / count.max(1) as f64)?;
    let spread = e.mul(site.g()?, &share);
    Ok(vec![Some(e.blocked(&spread, site.input(0)?))])
}

/// The first maximum of each map gets the cotangent.
fn global_max(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let x = site.input(0)?;
    let count = elements(&e.fixed_from(x, 2)?)?;
    let flat = {
        let shape = e.ints(&[0, 0, -1]);
        e.op("Reshape", &[x, &shape])
    };
    let best = e.emit(Node::new("ArgMax", &[&flat], &[]).with_int("axis", 2).with_int("keepdims", 0));
    let depth = e.ints(&[count as i64]);
    let values = e.floats(&[2], &[0.0, 1.0]);
    let chosen = e.emit(Node::new("OneHot", &[&best, &depth, &values], &[]).with_int("axis", 2));
    let chosen = e.reshape_like(&chosen, x)?;
    Ok(vec![Some(e.mul(site.g()?, &chosen))])
}

/// The element that each window took gets its cotangent; windows may overlap. The runtime's own indices say which: the
/// first maximum wins.
fn max(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let x = site.input(0)?;
    if site.node.int("storage_order").unwrap_or(0) != 0 {
        return Err("storage_order 1 is not supported; export with row-major indices".into());
    }
    let indices = e.extra_output(site.output(), 1)?;
    let zeros = e.zeros_like(x)?;
    let (zeros, indices, g) = (e.reshape(&zeros, &[-1]), e.reshape(&indices, &[-1]), e.reshape(site.g()?, &[-1]));
    let node = Node::new("ScatterElements", &[&zeros, &indices, &g], &[]).with_string("reduction", "add");
    let flat = e.emit(node.with_int("axis", 0));
    Ok(vec![Some(e.reshape_like(&flat, x)?)])
}

/// d‖x‖ₚ/dx = sign(x) |x|ᵖ⁻¹ ‖x‖ₚ¹⁻ᵖ, for a window as for all of space; 0 where the norm is 0.
fn norm_slope(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result<(String, String)> {
    let p = site.node.int("p").unwrap_or(2) as f64;
    let x = site.input(0)?;
    let (sign, size) = (e.op("Sign", &[x]), e.op("Abs", &[x]));
    let inner = match p {
        1.0 => sign,
        2.0 => x.to_owned(),
        _ => {
            let exponent = e.scalar(p - 1.0);
            let power = e.op("Pow", &[&size, &exponent]);
            e.mul(&sign, &power)
        }
    };
    if p == 1.0 {
        return Ok((inner, site.g()?.to_owned()));
    }
    let y = site.output();
    let (zero, one) = (e.scalar(0.0), e.scalar(1.0));
    let none = e.op("Equal", &[y, &zero]);
    let safe = e.op("Where", &[&none, &one, y]);
    let exponent = e.scalar(p - 1.0);
    let power = if p == 2.0 { safe } else { e.op("Pow", &[&safe, &exponent]) };
    Ok((inner, e.div(site.g()?, &power)))
}

fn global_norm(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let (inner, outer) = norm_slope(e, site)?;
    Ok(vec![Some(e.mul(&inner, &outer))])
}

fn norm(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let window = window(e, site)?;
    let (inner, outer) = norm_slope(e, site)?;
    let spread = scatter_windows(e, &outer, &window, site.input(0)?)?;
    Ok(vec![Some(e.mul(&inner, &spread))])
}
