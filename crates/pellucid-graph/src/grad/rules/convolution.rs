//! Convolutions, by their input. A stride-1 input gradient is itself a Conv with mirrored weights, which the runtime is
//! fast at; the mirrored weights are written as nodes over the weights, so that the runtime computes them once when it
//! compiles the model and no weight is copied here.

use super::{Gradients, Reason, Site, Table};
use crate::grad::emit::Emitter;
use crate::graph::Node;

pub(super) const RULES: Table = &[("Conv", conv), ("ConvTranspose", conv_transpose)];

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
    pub fn of(e: &Emitter, site: &Site<'_>, kernel: Vec<usize>) -> Result<Self> {
        let rank = kernel.len();
        let read = |name: &str| -> Vec<usize> {
            let listed = site.node.ints(name).unwrap_or_default();
            (0..rank).map(|i| listed.get(i).map_or(1, |&v| usize::try_from(v).unwrap_or(1))).collect()
        };
        let (strides, dilations) = (read("strides"), read("dilations"));
        let (input, output) = (e.fixed_from(site.input(0)?, 2)?, e.fixed_from(site.output(), 2)?);
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
fn kernel_of(e: &Emitter, weight: &str) -> Result<Vec<usize>> {
    e.fixed_from(weight, 2)
}

fn conv(e: &mut Emitter, site: &Site<'_>) -> Result {
    site.only_first(1)?;
    let (x, w) = (site.input(0)?, site.input(1)?);
    let window = Window::of(e, site, kernel_of(e, w)?)?;
    let group = usize::try_from(site.node.int("group").unwrap_or(1)).unwrap_or(1);
    let g = site.g()?.to_owned();
    if window.strides.iter().all(|&s| s == 1) {
        return Ok(vec![Some(mirrored_conv(e, &g, w, group, &window)?)]);
    }
    Ok(vec![Some(spread_back(e, &g, w, group, &window, x)?)])
}

/// The input gradient of a stride-1 Conv: a Conv of the cotangent with mirrored, transposed weights.
fn mirrored_conv(e: &mut Emitter, g: &str, w: &str, group: usize, window: &Window) -> Result<String> {
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
fn cropped(e: &mut Emitter, g: &str, crop: &[i64], extents: &[usize]) -> String {
    let rank = extents.len();
    let mut g = g.to_owned();
    for i in 0..rank {
        if crop[i] > 0 || crop[i + rank] > 0 {
            g = e.slice(&g, i + 2, crop[i], extents[i] as i64 - crop[i + rank]);
        }
    }
    g
}

/// Weights O × I/g × K… as I × O/g × K…, mirrored along K: made once per weight.
fn mirrored_weights(e: &mut Emitter, w: &str, group: usize) -> Result<String> {
    let mut shape = Vec::new();
    for axis in 0..e.rank(w)? {
        shape.push(e.fixed(w, axis)? as i64);
    }
    e.once(format!("mirrored {group} {w}"), |e| {
        let (group, rank) = (group as i64, shape.len());
        let (outer, inner) = (shape[0], shape[1]);
        let spatial: Vec<usize> = (2..rank).collect();
        let turned = if group == 1 {
            e.transpose(w, &[&[1, 0], &spatial[..]].concat())
        } else if inner == 1 && outer == group {
            w.to_owned()
        } else {
            let split = e.reshape(w, &[&[group, outer / group, inner], &shape[2..]].concat());
            let moved: Vec<usize> = [0, 2, 1].into_iter().chain(spatial.iter().map(|s| s + 1)).collect();
            let turned = e.transpose(&split, &moved);
            e.reshape(&turned, &[&[group * inner, outer / group], &shape[2..]].concat())
        };
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
fn spread_back(e: &mut Emitter, g: &str, w: &str, group: usize, window: &Window, x: &str) -> Result<String> {
    let rank = window.kernel.len();
    // Elements of the input that no window reached lie behind a negative padding: the transposed convolution ends short
    // of them, and zeros fill in.
    let pads: Vec<i64> = window.before.iter().chain(&window.after).map(|&p| p.max(0)).collect();
    let node = window.steps(Node::new("ConvTranspose", &[g, w], &[]));
    let full = e.emit(node.with_ints("pads", &pads).with_int("group", group as i64));
    let short: Vec<i64> = window.before.iter().chain(&window.after).map(|&p| (-p).max(0)).collect();
    if short.iter().all(|&s| s == 0) {
        return Ok(full);
    }
    let channels = e.rank(x)? - rank;
    let mut amounts = vec![0i64; 2 * (channels + rank)];
    for i in 0..rank {
        amounts[channels + i] = short[i];
        amounts[2 * channels + rank + i] = short[rank + i];
    }
    let amounts = e.ints(&amounts);
    Ok(e.op("Pad", &[&full, &amounts]))
}

/// The input gradient of a transposed convolution is a convolution with the same weights.
fn conv_transpose(e: &mut Emitter, site: &Site<'_>) -> Result {
    site.only_first(1)?;
    let (x, w) = (site.input(0)?, site.input(1)?);
    let kernel = kernel_of(e, w)?;
    let rank = kernel.len();
    let group = site.node.int("group").unwrap_or(1);
    let read = |name: &str| site.node.ints(name).map(<[i64]>::to_vec).unwrap_or_else(|| vec![1; rank]);
    let (strides, dilations) = (read("strides"), read("dilations"));
    let (input, output) = (e.fixed_from(x, 2)?, e.fixed_from(site.output(), 2)?);
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
