//! Operators that resample along axes, each a linear map of every axis: Resize, and padding that repeats or mirrors.
//! The map of one axis is found by applying the operator itself to the identity matrix, which the runtime does once when
//! it compiles the model, so every mode means exactly what the forward pass means by it. GridSample goes by corners.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::{Dim, GraphBuilder, LARGEST, axis_of};
use crate::graph::Node;
use crate::tensor::ElementType;

pub(super) const RULES: Table = &[
    ("DepthToSpace", depth_to_space),
    ("GridSample", grid_sample),
    ("Pad", pad),
    ("Resize", resize),
    ("SpaceToDepth", space_to_depth),
];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// Applies the transpose of a map along `axis`; `map` is in × out: what the operator makes of the identity.
fn pulled_back(e: &mut GraphBuilder, g: &str, map: &str, axis: usize, rank: usize) -> String {
    if rank >= 2 && axis == rank - 2 {
        return e.op("MatMul", &[map, g]);
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let moved = e.transpose(g, &perm);
    let turned = e.transpose(map, &[1, 0]);
    let product = e.op("MatMul", &[&moved, &turned]);
    e.transpose(&product, &perm)
}

/// The identity matrix of `n` rows, to be made into one of `m` columns.
fn identity(e: &mut GraphBuilder, n: usize, m: usize) -> Result<String> {
    e.admit(&[n, n.max(m)])?;
    let shape = e.ints(&[n as i64, n as i64]);
    let zeros = e.filled(&shape, 0.0);
    Ok(e.op("EyeLike", &[&zeros]))
}

fn resize(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let x = site.input(0)?.to_owned();
    let coordinates = site.node.string("coordinate_transformation_mode").unwrap_or("half_pixel").to_owned();
    if coordinates == "tf_crop_and_resize" {
        return Err("coordinate_transformation_mode tf_crop_and_resize is not supported".into());
    }
    if site.node.string("keep_aspect_ratio_policy").is_some_and(|p| p != "stretch") {
        return Err("keep_aspect_ratio_policy is not supported; give the sizes outright".into());
    }
    let dims = e.dims(&x)?;
    let out = e.dims_of(site.output(), dims.len())?;
    let changed: Vec<usize> = (0..dims.len()).filter(|&a| dims[a] != out[a]).collect();
    let scales = scales(e, site, dims.len())?;
    let mut g = site.g()?.to_owned();
    if let Some(sum) = repeated(e, site, &g, &coordinates, &changed)? {
        return Ok(vec![Some(sum)]);
    }
    for axis in (0..dims.len()).filter(|a| changed.contains(a) || scales.as_ref().is_some_and(|s| s[*a] != 1.0)) {
        let (n, m) = (e.fixed(&x, axis)?, e.fixed(site.output(), axis)?);
        let map = axis_map(e, site, n, m, scales.as_ref().map(|s| s[axis]))?;
        g = pulled_back(e, &g, &map, axis, dims.len());
    }
    Ok(vec![Some(g)])
}

/// The scale of every axis, where the node gives scales and not sizes.
fn scales(e: &GraphBuilder, site: &VjpContext<'_>, rank: usize) -> Result<Option<Vec<f32>>> {
    let Some(name) = site.node.input(2) else { return Ok(None) };
    if e.dims(name)?.first() == Some(&Dim::Fixed(0)) {
        return Ok(None);
    }
    let listed = e.constant_floats(name).map_err(|_| Reason("its scales are not constant".to_owned()))?;
    let mut all = vec![1.0; rank];
    match site.node.ints("axes") {
        Some(axes) => {
            for (&axis, &scale) in axes.iter().zip(&listed) {
                all[axis_of(axis, rank)?] = scale;
            }
        }
        None => all.copy_from_slice(listed.get(..rank).ok_or("it has too few scales")?),
    }
    Ok(Some(all))
}

/// Nearest by whole factors repeats elements: the gradient sums them, as an average pooling times its window.
fn repeated(
    e: &mut GraphBuilder,
    site: &VjpContext<'_>,
    g: &str,
    coordinates: &str,
    changed: &[usize],
) -> Result<Option<String>> {
    let rounding = site.node.string("nearest_mode").unwrap_or("round_prefer_floor");
    let repeats = site.node.string("mode").unwrap_or("nearest") == "nearest"
        && matches!(
            (coordinates, rounding),
            ("asymmetric", "floor") | ("half_pixel", "round_prefer_floor" | "round_prefer_ceil")
        );
    let x = site.input(0)?;
    let rank = e.rank(x)?;
    if !repeats || rank != 4 || changed.iter().any(|&a| a < 2) {
        return Ok(None);
    }
    let mut factors = Vec::new();
    for axis in 2..4 {
        let (n, m) = (e.fixed(x, axis)?, e.fixed(site.output(), axis)?);
        if n == 0 || m == 0 || m % n != 0 {
            return Ok(None);
        }
        factors.push((m / n) as i64);
    }
    let node = Node::new("AveragePool", &[g], &[]).with_ints("kernel_shape", &factors).with_ints("strides", &factors);
    let mean = e.emit(node);
    Ok(Some(e.scale(&mean, factors.iter().product::<i64>() as f64)))
}

/// What the node makes of the identity along one axis of `n` elements that becomes `m`.
fn axis_map(e: &mut GraphBuilder, site: &VjpContext<'_>, n: usize, m: usize, scale: Option<f32>) -> Result<String> {
    let element = e.element();
    e.enter_element(ElementType::F32);
    let eye = identity(e, n, m)?;
    let picture = e.reshape(&eye, &[1, 1, n as i64, n as i64]);
    let mut node = match scale {
        Some(scale) => {
            let scales = e.scales(&[1.0, 1.0, 1.0, scale]);
            Node::new("Resize", &[&picture, "", &scales], &[])
        }
        None => {
            let sizes = e.ints(&[1, 1, n as i64, m as i64]);
            Node::new("Resize", &[&picture, "", "", &sizes], &[])
        }
    };
    node.proto.attribute = site.node.proto.attribute.clone();
    node.proto.attribute.retain(|a| !matches!(a.name(), "axes" | "keep_aspect_ratio_policy"));
    let map = e.emit(node);
    let map = e.reshape(&map, &[n as i64, m as i64]);
    e.enter_element(element);
    Ok(if element == ElementType::F32 { map } else { e.cast(&map, element) })
}

fn pad(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let pads = site.node.input(1).ok_or("it has no pads")?;
    let pads = e.constant_ints(pads).map_err(|_| Reason("its pads depend on the input or the batch".to_owned()))?;
    let rank = e.rank(site.input(0)?)?;
    let axes: Vec<usize> = match site.node.input(3) {
        Some(axes) => e.constant_ints(axes)?.iter().map(|&a| axis_of(a, rank)).collect::<Result<_>>()?,
        None => (0..rank).collect(),
    };
    let in_range = |p: &i64| p.unsigned_abs() <= LARGEST as u64;
    if pads.len() != 2 * axes.len() || !pads.iter().all(in_range) {
        return Err(
            format!("expected two pads up to {LARGEST} for each of {} axes, found {}", axes.len(), pads.len()).into()
        );
    }
    let (mut before, mut after) = (vec![0i64; rank], vec![0i64; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        before[axis] = pads[i];
        after[axis] = pads[i + axes.len()];
    }
    let mode = site.node.string("mode").unwrap_or("constant").to_owned();
    if mode == "constant" {
        let back: Vec<i64> = before.iter().chain(&after).map(|p| -p).collect();
        let back = e.ints(&back);
        return Ok(vec![Some(e.op("Pad", &[site.g()?, &back]))]);
    }
    let mut g = site.g()?.to_owned();
    for axis in (0..rank).filter(|&a| before[a] != 0 || after[a] != 0) {
        let (n, m) = (e.fixed(site.input(0)?, axis)?, e.fixed(site.output(), axis)?);
        let eye = identity(e, n, m)?;
        let amounts = e.ints(&[0, before[axis], 0, after[axis]]);
        let map = e.emit(Node::new("Pad", &[&eye, &amounts], &[]).with_string("mode", &mode));
        g = pulled_back(e, &g, &map, axis, rank);
    }
    Ok(vec![Some(g)])
}

/// The same blocks taken apart again. SpaceToDepth knows one order of channels (DCR); CRD is a permutation.
fn depth_to_space(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let block = site.count("blocksize", None)?;
    if site.node.string("mode").unwrap_or("DCR") == "DCR" {
        return Ok(vec![Some(e.emit(Node::new("SpaceToDepth", &[site.g()?], &[]).with_int("blocksize", block)))]);
    }
    let x = site.input(0)?.to_owned();
    let (c, h, w) = (e.fixed(&x, 1)? as i64, e.fixed(&x, 2)? as i64, e.fixed(&x, 3)? as i64);
    let split = e.reshape(site.g()?, &[-1, c / (block * block), h, block, w, block]);
    let moved = e.transpose(&split, &[0, 1, 3, 5, 2, 4]);
    Ok(vec![Some(e.reshape_like(&moved, &x)?)])
}

fn space_to_depth(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let block = site.count("blocksize", None)?;
    let node = Node::new("DepthToSpace", &[site.g()?], &[]).with_int("blocksize", block);
    Ok(vec![Some(e.emit(node.with_string("mode", "DCR")))])
}

/// The place of every sample on one axis.
struct Along {
    /// Position in elements, as a float.
    position: String,
    /// The element at or before it.
    low: String,
    /// How far behind it.
    fraction: String,
    extent: usize,
    /// Elements per unit of the grid.
    rate: f64,
}

fn along(e: &mut GraphBuilder, grid: &str, component: usize, extent: usize, aligned: bool, border: bool) -> Along {
    let n = extent as f64;
    let at = e.int_tensor(&[], &[component as i64]);
    let u = e.emit(Node::new("Gather", &[grid, &at], &[]).with_int("axis", 3));
    let rate = if aligned { (n - 1.0) / 2.0 } else { n / 2.0 };
    let scaled = e.scale(&u, rate);
    let mut position = e.shift(&scaled, (n - 1.0) / 2.0);
    if border {
        let (low, high) = (e.scalar(0.0), e.scalar(n - 1.0));
        position = e.op("Clip", &[&position, &low, &high]);
    }
    let low = e.op("Floor", &[&position]);
    let fraction = e.sub(&position, &low);
    Along { position, low, fraction, extent, rate }
}

impl Along {
    /// The neighbour `step` (0 or 1) behind `low`: its index, held inside, and its weight, 0 outside.
    fn corner(&self, e: &mut GraphBuilder, step: usize) -> (String, String, String) {
        let index = if step == 0 { self.low.clone() } else { e.shift(&self.low, 1.0) };
        let inside = self.inside(e, &index);
        let weight = if step == 0 {
            let one = e.scalar(1.0);
            e.sub(&one, &self.fraction)
        } else {
            self.fraction.clone()
        };
        let weight = e.mul(&weight, &inside);
        (self.held(e, &index), weight, inside)
    }

    fn inside(&self, e: &mut GraphBuilder, index: &str) -> String {
        let (low, high) = (e.scalar(-0.5), e.scalar(self.extent as f64 - 0.5));
        let above = e.op("Greater", &[index, &low]);
        let below = e.op("Less", &[index, &high]);
        let both = e.op("And", &[&above, &below]);
        let element = e.element();
        e.cast(&both, element)
    }

    fn held(&self, e: &mut GraphBuilder, index: &str) -> String {
        let (low, high) = (e.scalar(0.0), e.scalar(self.extent as f64 - 1.0));
        e.op("Clip", &[index, &low, &high])
    }
}

/// What GridSample's rule works with: the picture and cotangent as rows of N × C × positions.
struct Sampling {
    x: String,
    flat: String,
    g: String,
    width: usize,
}

impl Sampling {
    /// The index of a corner for every channel: N × C × positions.
    fn index(&self, e: &mut GraphBuilder, row: &str, column: &str) -> Result<String> {
        let offset = e.scale(row, self.width as f64);
        let place = e.add(&offset, column);
        let place = e.cast(&place, ElementType::I64);
        let lone = e.reshape(&place, &[0, 1, -1]);
        let shape = e.op("Shape", &[&self.g]);
        Ok(e.op("Expand", &[&lone, &shape]))
    }
}

fn grid_sample(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    let (x, grid) = (site.input(0)?.to_owned(), site.input(1)?.to_owned());
    let mode = site.node.string("mode").unwrap_or("linear").to_owned();
    let padding = site.node.string("padding_mode").unwrap_or("zeros").to_owned();
    if e.rank(&x)? != 4 || padding == "reflection" || matches!(mode.as_str(), "bicubic" | "cubic") {
        return Err("only two-dimensional pictures, bilinear or nearest, without reflection, are supported".into());
    }
    let aligned = site.node.int("align_corners").unwrap_or(0) != 0;
    let (height, width) = (e.fixed(&x, 2)?, e.fixed(&x, 3)?);
    let border = padding == "border";
    let horizontal = along(e, &grid, 0, width, aligned, border);
    let vertical = along(e, &grid, 1, height, aligned, border);
    let g = e.reshape(site.g()?, &[0, 0, -1]);
    let flat = e.reshape(&x, &[0, 0, -1]);
    let sampling = Sampling { x, flat, g, width };
    let mut gradients = vec![None, None];
    if mode == "nearest" {
        gradients[0] = Some(nearest(e, &sampling, &horizontal, &vertical)?);
        return Ok(gradients);
    }
    if site.wants(0) {
        gradients[0] = Some(to_picture(e, &sampling, &horizontal, &vertical)?);
    }
    if site.wants(1) {
        gradients[1] = Some(to_grid(e, &sampling, &horizontal, &vertical, &grid, border)?);
    }
    Ok(gradients)
}

fn scattered(e: &mut GraphBuilder, onto: &str, index: &str, updates: &str) -> String {
    let node = Node::new("ScatterElements", &[onto, index, updates], &[]).with_int("axis", 2);
    e.emit(node.with_string("reduction", "add"))
}

fn empty(e: &mut GraphBuilder, s: &Sampling) -> Result<String> {
    let zeros = e.zeros_like(&s.x)?;
    Ok(e.reshape(&zeros, &[0, 0, -1]))
}

fn nearest(e: &mut GraphBuilder, s: &Sampling, horizontal: &Along, vertical: &Along) -> Result<String> {
    let (column, row) = (e.op("Round", &[&horizontal.position]), e.op("Round", &[&vertical.position]));
    let (inside_x, inside_y) = (horizontal.inside(e, &column), vertical.inside(e, &row));
    let inside = e.mul(&inside_x, &inside_y);
    let (column, row) = (horizontal.held(e, &column), vertical.held(e, &row));
    let index = s.index(e, &row, &column)?;
    let weight = e.reshape(&inside, &[0, 1, -1]);
    let updates = e.mul(&s.g, &weight);
    let zeros = empty(e, s)?;
    let sum = scattered(e, &zeros, &index, &updates);
    e.reshape_like(&sum, &s.x)
}

fn to_picture(e: &mut GraphBuilder, s: &Sampling, horizontal: &Along, vertical: &Along) -> Result<String> {
    let mut sum = empty(e, s)?;
    for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (column, weight_x, _) = horizontal.corner(e, right);
        let (row, weight_y, _) = vertical.corner(e, down);
        let weight = e.mul(&weight_x, &weight_y);
        let weight = e.reshape(&weight, &[0, 1, -1]);
        let updates = e.mul(&s.g, &weight);
        let index = s.index(e, &row, &column)?;
        sum = scattered(e, &sum, &index, &updates);
    }
    e.reshape_like(&sum, &s.x)
}

/// Per sample: how the weighted corners change as it moves along either axis.
fn to_grid(
    e: &mut GraphBuilder,
    s: &Sampling,
    horizontal: &Along,
    vertical: &Along,
    grid: &str,
    border: bool,
) -> Result<String> {
    let mut slopes: [Option<String>; 2] = [None, None];
    for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (column, weight_x, inside_x) = horizontal.corner(e, right);
        let (row, weight_y, inside_y) = vertical.corner(e, down);
        let index = s.index(e, &row, &column)?;
        let value = e.emit(Node::new("GatherElements", &[&s.flat, &index], &[]).with_int("axis", 2));
        let value = e.mul(&value, &s.g);
        let value = e.reduce("ReduceSum", &value, &[1], false);
        for (slot, step, inside, other) in [(0, right, &inside_x, &weight_y), (1, down, &inside_y, &weight_x)] {
            let weight = e.mul(inside, other);
            let weight = e.reshape(&weight, &[0, -1]);
            let part = e.mul(&value, &weight);
            let part = if step == 1 { part } else { e.neg(&part) };
            slopes[slot] = Some(match slopes[slot].take() {
                Some(sum) => e.add(&sum, &part),
                None => part,
            });
        }
    }
    let mut columns = Vec::new();
    for (axis, slope) in [horizontal, vertical].into_iter().zip(slopes) {
        let slope = slope.ok_or("it has no corners")?;
        let mut slope = e.scale(&slope, axis.rate);
        if border {
            let (low, high) = (e.scalar(0.0), e.scalar(axis.extent as f64 - 1.0));
            let above = e.op("Greater", &[&axis.position, &low]);
            let below = e.op("Less", &[&axis.position, &high]);
            let free = e.op("And", &[&above, &below]);
            let element = e.element();
            let free = e.cast(&free, element);
            let free = e.reshape(&free, &[0, -1]);
            slope = e.mul(&slope, &free);
        }
        let last = e.ints(&[2]);
        columns.push(e.op("Unsqueeze", &[&slope, &last]));
    }
    let joined = e.emit(Node::new("Concat", &[&columns[0], &columns[1]], &[]).with_int("axis", 2));
    e.reshape_like(&joined, grid)
}
