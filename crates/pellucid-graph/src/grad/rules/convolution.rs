//! Convolutions, by their input. A stride-1 input gradient is itself a Conv with mirrored weights, which the runtime is
//! fast at; the mirrored weights are written as nodes over the weights, so that the runtime computes them once when it
//! compiles the model and no weight is copied here.

use super::{Gradients, Reason, Table, VjpContext};
use crate::grad::emit::GraphBuilder;
use crate::graph::Node;

pub(super) const RULES: Table = &[("Col2Im", col2im), ("Conv", conv), ("ConvTranspose", conv_transpose)];

type Result<T = Gradients> = std::result::Result<T, Reason>;

/// The geometry of a window that slides over the spatial axes.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Spatial extents of the input.
    pub input: Vec<usize>,
    /// Spatial extents of the output.
    pub output: Vec<usize>,
    /// Extents of the window.
    pub kernel: Vec<usize>,
    /// Steps.
    pub strides: Vec<usize>,
    /// Distances between taps.
    pub dilations: Vec<usize>,
    /// Padding before; may be larger than the window.
    pub before: Vec<i64>,
    /// Padding after, as far as the windows reach: less than declared where the last step does not fit.
    pub after: Vec<i64>,
}

impl Window {
    /// Reads a node's attributes; `kernel` is what its weights say. The paddings follow from the extents, so `auto_pad`
    /// and `ceil_mode` need no rules of their own.
    pub fn of(e: &GraphBuilder, site: &VjpContext<'_>, kernel: Vec<usize>) -> Result<Self> {
        let rank = kernel.len();
        let (mut strides, dilations) = (site.steps("strides", rank)?, site.steps("dilations", rank)?);
        let (input, output) = (e.spatial(site.input(0)?, rank)?, e.spatial(site.output(), rank)?);
        if kernel.iter().chain(&output).any(|&n| n == 0) {
            return Err(format!("its window is {kernel:?} and its output {output:?}: one of them is empty").into());
        }
        for i in (0..rank).filter(|&i| output[i] == 1) {
            // Nothing is stepped over: zeros in the width of a step that leaves the input would only take memory.
            strides[i] = strides[i].min(input[i].max(dilations[i] * (kernel[i] - 1) + 1));
        }
        let pads = site.node.ints("pads").unwrap_or_default();
        let auto = site.node.string("auto_pad").unwrap_or("NOTSET");
        let mut window = Self { input, output, kernel, strides, dilations, before: Vec::new(), after: Vec::new() };
        for i in 0..rank {
            let total = window.reach(i) - window.input[i] as i64;
            let before = match auto {
                "SAME_UPPER" => total.max(0) / 2,
                "SAME_LOWER" => (total.max(0) + 1) / 2,
                "VALID" => 0,
                _ => pads.get(i).copied().unwrap_or(0),
            };
            window.before.push(before);
            window.after.push(total - before);
        }
        Ok(window)
    }

    /// How far the windows reach along axis `i`, from the first tap of the first to the last tap of the last.
    fn reach(&self, i: usize) -> i64 {
        ((self.output[i] - 1) * self.strides[i] + self.dilations[i] * (self.kernel[i] - 1) + 1) as i64
    }

    /// The attributes `strides`, `dilations`.
    fn steps(&self, node: Node) -> Node {
        let list = |v: &[usize]| v.iter().map(|&n| n as i64).collect::<Vec<_>>();
        node.with_ints("strides", &list(&self.strides)).with_ints("dilations", &list(&self.dilations))
    }
}

/// The spatial extents of the weights.
fn kernel_of(e: &GraphBuilder, weight: &str) -> Result<Vec<usize>> {
    e.dims_of(weight, 3)?;
    e.fixed_from(weight, 2)
}

/// The number of groups of a Conv of `x` with weights `w`.
fn groups(e: &GraphBuilder, site: &VjpContext<'_>, x: &str, w: &str) -> Result<usize> {
    let group = site.count("group", Some(1))? as usize;
    let (channels, outer, inner) = (e.fixed(x, 1)?, e.fixed(w, 0)?, e.fixed(w, 1)?);
    match outer % group == 0 && inner * group == channels {
        true => Ok(group),
        false => {
            Err(format!("its weights are {outer} × {inner}, its groups {group} and its channels {channels}").into())
        }
    }
}

/// Col2Im adds patches where they overlap; its transpose cuts the patches out again, which is a Conv with one filter for each
/// place of a patch.
fn col2im(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, channels) = (site.input(0)?.to_owned(), e.fixed(site.output(), 1)?);
    let patch = e.constant_ints(site.input(2)?)?;
    let patch: Option<Vec<usize>> = patch.iter().map(|&n| usize::try_from(n).ok().filter(|n| *n > 0)).collect();
    let patch = patch.ok_or("its block shape is no list of numbers above 0")?;
    let places: usize = patch.iter().product();
    let shape: Vec<usize> = [channels * places, 1].into_iter().chain(patch.iter().copied()).collect();
    e.admit(&shape)?;
    let picks = |i: usize| f64::from(u8::from((i / places) % places == i % places));
    let filters: Vec<f64> = (0..channels * places * places).map(picks).collect();
    let filters = e.floats(&shape, &filters);
    let g = site.g()?.to_owned();
    let mut cut = Node::new("Conv", &[&g, &filters], &[]).with_int("group", channels as i64);
    for name in ["strides", "dilations", "pads"] {
        if let Some(values) = site.node.ints(name).filter(|v| !v.is_empty()) {
            cut = cut.with_ints(name, values);
        }
    }
    let patches = e.emit(cut);
    Ok(vec![Some(e.reshape_like(&patches, &x)?)])
}

/// The most elements of a selection matrix: that of a row of 2048.
const SELECTION: usize = 1 << 21;

fn conv(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, w) = (site.input(0)?, site.input(1)?);
    let window = Window::of(e, site, kernel_of(e, w)?)?;
    let group = groups(e, site, x, w)?;
    let g = site.g()?.to_owned();
    if window.strides.iter().all(|&s| s == 1) {
        return Ok(vec![Some(mirrored_conv(e, &g, w, group, &window)?)]);
    }
    let few = |i: usize| window.output[i] * window.input[i] <= SELECTION;
    if window.kernel == [1, 1] && few(1) && window.before.iter().all(|&p| p == 0) {
        let back = spread_points(e, &g, w, group, &window, x)?;
        return Ok(vec![Some(e.blocked(&back, x))]);
    }
    if let Some(phases) = Phases::of(&window) {
        let back = phases.gather(e, &g, w, group, &window)?;
        return Ok(vec![Some(e.blocked(&back, x))]);
    }
    Ok(vec![Some(spread_back(e, &g, w, group, &window, x)?)])
}

/// The input gradient of a strided 1 × 1 Conv: that of a dense one, with zeros where no window began.
fn spread_points(e: &mut GraphBuilder, g: &str, w: &str, group: usize, window: &Window, x: &str) -> Result<String> {
    let dense = mirrored_weights(e, w, group)?;
    let points = e.emit(Node::new("Conv", &[g, &dense], &[]).with_int("group", group as i64));
    let channels = e.fixed(x, 1)? as i64;
    let rows = window.output[0] as i64;
    let (height, width) = (window.input[0] as i64, window.input[1] as i64);
    // Columns by a product with a selection matrix, which beats copying single elements; rows by padding each.
    let mut selection = vec![0.0; window.output[1] * window.input[1]];
    let inside = (0..window.output[1]).map(|o| (o, o * window.strides[1])).filter(|(_, i)| *i < window.input[1]);
    inside.for_each(|(o, i)| selection[o * window.input[1] + i] = 1.0);
    let selection = e.floats(&[window.output[1], window.input[1]], &selection);
    let spaced = e.op("MatMul", &[&points, &selection]);
    let step = window.strides[0] as i64;
    let amounts = e.ints(&[0, 0, 0, 0, 0, 0, 0, (step - 1) * width]);
    let filled = if step > 1 { e.op("Pad", &[&spaced, &amounts]) } else { spaced };
    let full = e.reshape(&filled, &[-1, channels, rows * step, width]);
    if rows * step == height {
        return Ok(full);
    }
    let amounts = e.ints(&[0, 0, 0, 0, 0, 0, height - rows * step, 0]);
    Ok(e.op("Pad", &[&full, &amounts]))
}

/// Width of a phase from which two moves of an axis are faster than DepthToSpace in ONNX Runtime: a third to a half of its time
/// at 28 and more, up to four times at 7.
const WIDE: usize = 20;

/// The input gradient of a strided Conv by phases. An input element i = s·q + r meets only the taps k ≡ r + p (mod s), so
/// each phase r is a stride-1 convolution of the cotangent with every s-th tap, mirrored. All phases together are one
/// Conv with s² outputs per channel, whose results are interleaved: much faster than a ConvTranspose, which the
/// runtime computes column by column.
struct Phases {
    stride: usize,
    /// By axis: the taps of each phase, as (first, count), and how far the phase is shifted against the window.
    axes: Vec<PhaseAxis>,
}

struct PhaseAxis {
    /// For each phase: its first tap, the number of its taps, and zeros before them in the common window.
    taps: Vec<(usize, usize, usize)>,
    /// Extent of the common window.
    window: usize,
    /// Padding of the cotangent; negative crops.
    before: i64,
    after: i64,
}

impl Phases {
    /// For two-dimensional windows with one stride, where the common windows are not much larger than the phases.
    fn of(window: &Window) -> Option<Self> {
        let stride = window.strides[0];
        let plain = window.kernel.len() == 2 && window.strides[1] == stride && window.dilations.iter().all(|&d| d == 1);
        if !plain || stride > 4 || window.kernel.iter().any(|&k| k < stride) {
            return None;
        }
        let axes: Vec<PhaseAxis> = (0..2).map(|i| PhaseAxis::of(window, i)).collect();
        Some(Self { stride, axes })
    }

    /// The taps of every phase as one weight: (inputs · s²) × outputs per group × window.
    fn weights(&self, e: &mut GraphBuilder, w: &str, group: usize) -> Result<String> {
        let turned = turned_weights(e, w, group)?;
        let (outer, inner) = (e.fixed(w, 0)? / group, e.fixed(w, 1)? * group);
        let key = format!("phases {group} {} {:?} {w}", self.stride, self.axes[0].taps);
        let axes: Vec<String> = self.axes.iter().map(|a| format!("{:?}", a.taps)).collect();
        e.once(format!("{key} {}", axes.join(" ")), |e| {
            let mut parts = Vec::new();
            for rows in &self.axes[0].taps {
                for columns in &self.axes[1].taps {
                    parts.push(self.phase(e, &turned, *rows, *columns));
                }
            }
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let stacked = e.emit(Node::new("Concat", &parts, &[]).with_int("axis", 1));
            let extents = [self.axes[0].window as i64, self.axes[1].window as i64];
            let phases = self.stride * self.stride;
            Ok(e.reshape(&stacked, &[(inner * phases) as i64, outer as i64, extents[0], extents[1]]))
        })
    }

    /// One phase's taps, mirrored and set into the common window: inputs × 1 × outputs per group × window.
    fn phase(
        &self,
        e: &mut GraphBuilder,
        turned: &str,
        rows: (usize, usize, usize),
        columns: (usize, usize, usize),
    ) -> String {
        let last = |(first, count, _): (usize, usize, usize)| (first + (count - 1) * self.stride) as i64;
        let end = |(first, ..): (usize, usize, usize)| if first == 0 { i64::MIN } else { first as i64 - 1 };
        let starts = e.ints(&[last(rows), last(columns)]);
        let ends = e.ints(&[end(rows), end(columns)]);
        let (axes, steps) = (e.ints(&[2, 3]), e.ints(&[-(self.stride as i64); 2]));
        let taps = e.op("Slice", &[turned, &starts, &ends, &axes, &steps]);
        let after = |axis: &PhaseAxis, (_, count, before): (usize, usize, usize)| (axis.window - count - before) as i64;
        let (low, high) = (after(&self.axes[0], rows), after(&self.axes[1], columns));
        let amounts = e.ints(&[0, 0, rows.2 as i64, columns.2 as i64, 0, 0, low, high]);
        let set = e.op("Pad", &[&taps, &amounts]);
        let one = e.ints(&[1]);
        e.op("Unsqueeze", &[&set, &one])
    }

    fn gather(&self, e: &mut GraphBuilder, g: &str, w: &str, group: usize, window: &Window) -> Result<String> {
        let weights = self.weights(e, w, group)?;
        let pads = [self.axes[0].before, self.axes[1].before, self.axes[0].after, self.axes[1].after];
        let g = cropped(e, g, &pads.map(|p| (-p).max(0)), &window.output);
        let node = Node::new("Conv", &[&g, &weights], &[]).with_int("group", group as i64);
        let phases = e.emit(node.with_ints("pads", &pads.map(|p| p.max(0))));
        let extents: Vec<usize> = window.input.iter().map(|n| n.next_multiple_of(self.stride)).collect();
        let full = self.interleaved(e, &phases, e.fixed(w, 1)? * group, &extents);
        let crop: Vec<i64> = [0, 0].into_iter().chain((0..2).map(|i| (extents[i] - window.input[i]) as i64)).collect();
        Ok(cropped(e, &full, &crop, &extents))
    }

    /// The phases side by side: DepthToSpace (CRD), as two moves of one axis each where rows are long.
    fn interleaved(&self, e: &mut GraphBuilder, phases: &str, channels: usize, extents: &[usize]) -> String {
        let s = self.stride as i64;
        if extents[1] / self.stride < WIDE {
            let node = Node::new("DepthToSpace", &[phases], &[]).with_int("blocksize", s);
            return e.emit(node.with_string("mode", "CRD"));
        }
        let [height, width] = [extents[0] as i64 / s, extents[1] as i64 / s];
        let split = e.reshape(phases, &[-1, s, s, height, width]);
        let columns = e.transpose(&split, &[0, 1, 3, 4, 2]);
        let rows = e.reshape(&columns, &[-1, s, height, width * s]);
        let moved = e.transpose(&rows, &[0, 2, 1, 3]);
        e.reshape(&moved, &[-1, channels as i64, height * s, width * s])
    }
}

impl PhaseAxis {
    fn of(window: &Window, i: usize) -> Self {
        let (s, k, p) = (window.strides[i], window.kernel[i], window.before[i]);
        let stride = s as i64;
        // Phase r: its first tap c, its number of taps m, and d: output q reads the cotangent at q + d − m + 1 … q + d.
        let phase = |r: usize| {
            let first = (r as i64 + p).rem_euclid(stride) as usize;
            (first, (k - first).div_ceil(s), (r as i64 + p).div_euclid(stride))
        };
        let phases: Vec<(usize, usize, i64)> = (0..s).map(phase).collect();
        let low = phases.iter().map(|(_, m, d)| d - *m as i64 + 1).min().unwrap_or(0);
        let high = phases.iter().map(|(.., d)| *d).max().unwrap_or(0);
        let taps = phases.iter().map(|&(c, m, d)| (c, m, (d - m as i64 + 1 - low) as usize)).collect();
        let count = window.input[i].div_ceil(s) as i64;
        Self { taps, window: (high - low + 1) as usize, before: -low, after: count + high - window.output[i] as i64 }
    }
}

/// The input gradient of a stride-1 Conv: a Conv of the cotangent with mirrored, transposed weights.
fn mirrored_conv(e: &mut GraphBuilder, g: &str, w: &str, group: usize, window: &Window) -> Result<String> {
    let mirrored = mirrored_weights(e, w, group)?;
    let rank = window.kernel.len();
    let (mut pads, mut crop) = (vec![0i64; 2 * rank], vec![0i64; 2 * rank]);
    for i in 0..rank {
        let full = (window.dilations[i] * (window.kernel[i] - 1)) as i64;
        for (slot, pad) in [(i, full - window.before[i]), (i + rank, full - window.after[i])] {
            pads[slot] = pad.max(0);
            crop[slot] = (-pad).max(0);
        }
    }
    let g = cropped(e, g, &crop, &window.output);
    let node = window.steps(Node::new("Conv", &[&g, &mirrored], &[]));
    Ok(e.emit(node.with_ints("pads", &pads).with_int("group", group as i64)))
}

/// `g` without `crop` elements at the ends of its spatial axes (starts, then ends).
fn cropped(e: &mut GraphBuilder, g: &str, crop: &[i64], extents: &[usize]) -> String {
    let rank = extents.len();
    let mut g = g.to_owned();
    for i in 0..rank {
        if crop[i] > 0 || crop[i + rank] > 0 {
            g = e.slice(&g, i + 2, crop[i], extents[i] as i64 - crop[i + rank]);
        }
    }
    g
}

/// Weights O × I/g × K… as I × O/g × K…, once per weight.
fn turned_weights(e: &mut GraphBuilder, w: &str, group: usize) -> Result<String> {
    let mut shape = Vec::new();
    for axis in 0..e.rank(w)? {
        shape.push(e.fixed(w, axis)? as i64);
    }
    e.once(format!("turned {group} {w}"), |e| {
        let (group, rank) = (group as i64, shape.len());
        let (outer, inner) = (shape[0], shape[1]);
        let spatial: Vec<usize> = (2..rank).collect();
        if group == 1 {
            return Ok(e.transpose(w, &[&[1, 0], &spatial[..]].concat()));
        }
        if inner == 1 && outer == group {
            return Ok(w.to_owned());
        }
        let split = e.reshape(w, &[&[group, outer / group, inner], &shape[2..]].concat());
        let moved: Vec<usize> = [0, 2, 1].into_iter().chain(spatial.iter().map(|s| s + 1)).collect();
        let turned = e.transpose(&split, &moved);
        Ok(e.reshape(&turned, &[&[group * inner, outer / group], &shape[2..]].concat()))
    })
}

/// Those weights mirrored along K: made once per weight.
fn mirrored_weights(e: &mut GraphBuilder, w: &str, group: usize) -> Result<String> {
    let mut shape = Vec::new();
    for axis in 0..e.rank(w)? {
        shape.push(e.fixed(w, axis)? as i64);
    }
    let turned = turned_weights(e, w, group)?;
    e.once(format!("mirrored {group} {w}"), |e| {
        let rank = shape.len();
        let axes: Vec<i64> = (2..rank).filter(|&a| shape[a] > 1).map(|a| a as i64).collect();
        if axes.is_empty() {
            return Ok(turned);
        }
        let starts = e.ints(&vec![-1; axes.len()]);
        let ends = e.ints(&vec![i64::MIN; axes.len()]);
        let steps = e.ints(&vec![-1; axes.len()]);
        let axes = e.ints(&axes);
        Ok(e.op("Slice", &[&turned, &starts, &ends, &axes, &steps]))
    })
}

/// The input gradient of a strided Conv: the transposed convolution, cropped or filled to the input's extents.
fn spread_back(e: &mut GraphBuilder, g: &str, w: &str, group: usize, window: &Window, x: &str) -> Result<String> {
    let rank = window.kernel.len();
    // Elements of the input that no window reached lie behind a negative padding: the transposed convolution ends short
    // of them, and zeros fill in.
    let pads: Vec<i64> = window.before.iter().chain(&window.after).map(|&p| p.max(0)).collect();
    let node = window.steps(Node::new("ConvTranspose", &[g, w], &[]));
    let full = e.emit(node.with_ints("pads", &pads).with_int("group", group as i64));
    let full = &full;
    let short: Vec<i64> = window.before.iter().chain(&window.after).map(|&p| (-p).max(0)).collect();
    if short.iter().all(|&s| s == 0) {
        return Ok(e.blocked(full, x));
    }
    let channels = e.rank(x)? - rank;
    let mut amounts = vec![0i64; 2 * (channels + rank)];
    for i in 0..rank {
        amounts[channels + i] = short[i];
        amounts[2 * channels + rank + i] = short[rank + i];
    }
    let amounts = e.ints(&amounts);
    let padded = e.op("Pad", &[full, &amounts]);
    Ok(e.blocked(&padded, x))
}

/// The input gradient of a transposed convolution is a convolution with the same weights.
fn conv_transpose(e: &mut GraphBuilder, site: &VjpContext<'_>) -> Result {
    site.only_first(1)?;
    let (x, w) = (site.input(0)?, site.input(1)?);
    let kernel = kernel_of(e, w)?;
    let rank = kernel.len();
    let group = site.count("group", Some(1))?;
    let read = |name: &str| -> Result<Vec<i64>> { Ok(site.steps(name, rank)?.iter().map(|&n| n as i64).collect()) };
    let (strides, dilations) = (read("strides")?, read("dilations")?);
    let (input, output) = (e.spatial(x, rank)?, e.spatial(site.output(), rank)?);
    let declared = site.node.ints("pads").unwrap_or_default();
    let extra = site.node.ints("output_padding").unwrap_or_default();
    let auto = site.node.string("auto_pad").unwrap_or("NOTSET");
    let fixed_output = site.node.ints("output_shape").is_some();
    let (mut pads, mut crop) = (vec![0i64; 2 * rank], vec![0i64; 2 * rank]);
    for i in 0..rank {
        let reach = (input[i] as i64 - 1) * strides[i] + dilations[i] * (kernel[i] as i64 - 1) + 1;
        let total = reach + extra.get(i).copied().unwrap_or(0) - output[i] as i64;
        let before = match auto {
            "SAME_UPPER" => total / 2,
            "SAME_LOWER" => total - total / 2,
            _ if fixed_output => total - total / 2,
            _ => declared.get(i).copied().unwrap_or(0),
        };
        let after = reach - output[i] as i64 - before;
        for (slot, pad) in [(i, before), (i + rank, after)] {
            pads[slot] = pad.max(0);
            crop[slot] = (-pad).max(0);
        }
    }
    let g = cropped(e, site.g()?, &crop, &output);
    let node = Node::new("Conv", &[&g, w], &[]).with_ints("strides", &strides).with_ints("dilations", &dilations);
    Ok(vec![Some(e.emit(node.with_ints("pads", &pads).with_int("group", group)))])
}
