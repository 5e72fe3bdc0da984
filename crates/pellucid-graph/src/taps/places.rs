//! Traces the input's rows and columns through a graph, so that a feature map's grid is known and not guessed.
//!
//! Every axis of a value is a list of factors: a run of rows, of columns, or of something else (channels, heads). What moves
//! numbers about (Reshape, Transpose, Slice, Concat, …) moves the factors; a convolution or a pooling gives its axes a new
//! length; what mixes an axis away loses it. A token axis is rows × columns behind a class token. Where an operator is not
//! known, or does with places what no rule says, the trace ends there and says at which node.

use super::FeatureMap;
use crate::graph::{Graph, Node};
use crate::observed::Observations;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where channels stand in a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// N × C × H × W.
    ChannelsFirst,
    /// N × H × W × C.
    ChannelsLast,
    /// N × T × C: a token sequence.
    Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Row,
    Column,
    Other,
}

/// A run along an axis; one step of it is `step` rows or columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Factor {
    role: Role,
    size: usize,
    step: usize,
}

/// One axis: factors, slowest first, behind `before` and in front of `after` entries that are no places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Axis {
    before: usize,
    factors: Vec<Factor>,
    after: usize,
}

impl Axis {
    fn along(role: Role, size: usize) -> Self {
        Self { factors: merged([Factor { role, size, step: 1 }]), ..Self::default() }
    }

    fn other(size: usize) -> Self {
        Self::along(Role::Other, size)
    }

    fn inner(&self) -> usize {
        self.factors.iter().map(|f| f.size).product()
    }

    fn len(&self) -> usize {
        self.before + self.inner() + self.after
    }

    fn has_places(&self) -> bool {
        self.factors.iter().any(|f| f.role != Role::Other)
    }

    /// The role of an axis that is the rows or the columns from the first to the last.
    fn pure(&self) -> Option<Role> {
        match self.factors.as_slice() {
            [Factor { role, step: 1, .. }] if *role != Role::Other && self.before == 0 && self.after == 0 => {
                Some(*role)
            }
            _ => None,
        }
    }

    /// The axis at another length, as convolutions, poolings and strided slices leave it.
    fn resized(&self, size: usize) -> Option<Self> {
        match self.pure() {
            _ if size == self.len() => Some(self.clone()),
            _ if size == 1 => Some(Self::default()),
            Some(role) => Some(Self::along(role, size)),
            None if !self.has_places() => Some(Self::other(size)),
            None => None,
        }
    }

    /// The entries from `from` to `to`.
    fn window(&self, from: usize, to: usize) -> Option<Self> {
        let (first, last) = (self.before, self.before + self.inner());
        let size = to.checked_sub(from)?;
        if !self.has_places() || to <= first || from >= last {
            return Some(Self::other(size));
        }
        if from <= first && to >= last {
            return Some(Self { before: first - from, factors: self.factors.clone(), after: to - last });
        }
        self.resized(size)
    }
}

/// Neighbouring runs that make one longer run, joined; runs of one entry dropped.
fn merged(factors: impl IntoIterator<Item = Factor>) -> Vec<Factor> {
    let mut out: Vec<Factor> = Vec::new();
    for factor in factors.into_iter().filter(|f| f.size != 1) {
        match out.last_mut() {
            Some(last) if last.role == Role::Other && factor.role == Role::Other => last.size *= factor.size,
            Some(last) if last.role == factor.role && last.step == factor.step * factor.size => {
                last.size *= factor.size;
                last.step = factor.step;
            }
            _ => out.push(factor),
        }
    }
    out
}

/// A factor, or an axis that cannot be taken apart.
enum Atom {
    Factor(Factor),
    Whole(Axis),
}

/// The axes of a value of shape `out` with the same entries in the same order.
fn regrouped(axes: &[Axis], out: &[usize]) -> Option<Vec<Axis>> {
    let mut atoms: VecDeque<Atom> = VecDeque::new();
    let mut run: Vec<Factor> = Vec::new();
    let flush = |run: &mut Vec<Factor>, atoms: &mut VecDeque<Atom>| {
        atoms.extend(merged(std::mem::take(run)).into_iter().map(Atom::Factor));
    };
    for axis in axes {
        if axis.before + axis.after > 0 {
            flush(&mut run, &mut atoms);
            atoms.push_back(Atom::Whole(axis.clone()));
        } else {
            run.extend(&axis.factors);
        }
    }
    flush(&mut run, &mut atoms);
    let mut regrouped = Vec::with_capacity(out.len());
    for &size in out {
        let (mut axis, mut need) = (Axis::default(), size);
        while need > 1 {
            match atoms.pop_front()? {
                Atom::Whole(whole) if whole.len() == need && axis.factors.is_empty() => {
                    axis = whole;
                    need = 1;
                }
                Atom::Whole(_) => return None,
                Atom::Factor(f) if f.size > 0 && need % f.size == 0 => {
                    axis.factors.push(f);
                    need /= f.size;
                }
                Atom::Factor(f) if f.size % need == 0 => {
                    let inner = f.size / need;
                    axis.factors.push(Factor { size: need, step: f.step.saturating_mul(inner), ..f });
                    atoms.push_front(Atom::Factor(Factor { size: inner, ..f }));
                    need = 1;
                }
                Atom::Factor(_) => return None,
            }
        }
        axis.factors = merged(axis.factors);
        regrouped.push(axis);
    }
    atoms.is_empty().then_some(regrouped)
}

/// The axes of what reads several values element by element, aligned at the last axis.
fn aligned(out: &[usize], operands: &[&[Axis]]) -> Option<Vec<Axis>> {
    let axis = |(at, &size): (usize, &usize)| -> Option<Axis> {
        let from_end = out.len() - at;
        let mut found: Option<&Axis> = None;
        for axes in operands {
            let Some(axis) = axes.len().checked_sub(from_end).map(|i| &axes[i]) else { continue };
            if axis.len() != size || !axis.has_places() {
                continue;
            }
            match found {
                Some(other) if other != axis => return None,
                _ => found = Some(axis),
            }
        }
        Some(found.cloned().unwrap_or_else(|| Axis::other(size)))
    };
    out.iter().enumerate().map(axis).collect()
}

/// Operators that work place by place, or on other axes than places, and keep the shape of what they read.
const PLACE_BY_PLACE: &[&str] = &[
    "Abs",
    "Add",
    "Attention",
    "BatchNormalization",
    "BiasGelu",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "FastGelu",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "Max",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "MultiHeadAttention",
    "Neg",
    "Not",
    "PRelu",
    "Pow",
    "QLinearAdd",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearSigmoid",
    "QuantizeLinear",
    "QuickGelu",
    "RMSNormalization",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "SimplifiedLayerNormalization",
    "Sin",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
    "Trilu",
    "Where",
];

/// The traced axes of a graph's values.
#[derive(Debug)]
pub(super) struct Places<'a> {
    graph: &'a Graph,
    observed: &'a Observations,
    axes: BTreeMap<&'a str, Vec<Axis>>,
    /// Values that carry the picture, traced or not.
    data: &'a BTreeSet<&'a str>,
    lost: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Places<'a> {
    /// Traces the first input, a batch of pictures.
    pub(super) fn trace(graph: &'a Graph, observed: &'a Observations, data: &'a BTreeSet<&'a str>) -> Self {
        let mut places = Self { graph, observed, axes: BTreeMap::new(), data, lost: BTreeMap::new() };
        for input in &graph.inputs {
            let Some([_, b, c, d]) = places.shape(input.name()).and_then(|s| <[usize; 4]>::try_from(s).ok()) else {
                continue;
            };
            let (rows, columns) = (|n| Axis::along(Role::Row, n), |n| Axis::along(Role::Column, n));
            let axes = match (b <= 4, d <= 4) {
                (false, true) => vec![Axis::default(), rows(b), columns(c), Axis::other(d)],
                _ => vec![Axis::default(), Axis::other(b), rows(c), columns(d)],
            };
            places.axes.insert(input.name(), axes);
        }
        for node in &graph.nodes {
            if matches!(node.op(), "Shape" | "Size") || !node.reads().iter().any(|r| data.contains(r)) {
                continue;
            }
            for (at, output) in node.outputs().iter().enumerate().filter(|(_, o)| !o.is_empty()) {
                let axes = places.of_output(node, at).filter(|axes| places.fits(axes, output));
                match axes {
                    Some(axes) => drop(places.axes.insert(output, axes)),
                    None => drop(places.lost.insert(output, node)),
                }
            }
        }
        places
    }

    fn shape(&self, value: &str) -> Option<&[usize]> {
        self.observed.get(value).map(|o| o.shape.as_slice())
    }

    fn fits(&self, axes: &[Axis], value: &str) -> bool {
        let lengths = axes.iter().map(Axis::len);
        self.shape(value).is_some_and(|shape| lengths.eq(shape.iter().copied()))
    }

    /// The axes of a value: nobody knows (`None`), or a constant's, which has no places.
    fn of(&self, value: &str) -> Option<Vec<Axis>> {
        if self.data.contains(value) {
            return self.axes.get(value).cloned();
        }
        let shape = match self.graph.initializers.get(value) {
            Some(tensor) => tensor.dims().iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect(),
            None => self.shape(value)?.to_vec(),
        };
        Some(shape.into_iter().map(Axis::other).collect())
    }

    fn is_data(&self, value: Option<&str>) -> bool {
        value.is_some_and(|v| self.data.contains(v))
    }

    /// The whole numbers of a constant.
    fn ints(&self, value: Option<&str>) -> Option<Vec<i64>> {
        self.graph.constant(value.filter(|v| !v.is_empty())?)?.to_i64().ok()
    }

    fn of_output(&self, node: &Node, at: usize) -> Option<Vec<Axis>> {
        let out = self.shape(node.outputs().get(at)?)?.to_vec();
        let op = node.op();
        if PLACE_BY_PLACE.contains(&op) {
            let read = node.inputs().iter().filter(|i| self.data.contains(i.as_str()));
            let (known, unknown): (Vec<_>, Vec<_>) = read.map(|i| self.of(i)).partition(Option::is_some);
            let known: Vec<Vec<Axis>> = known.into_iter().flatten().collect();
            // What is added to a stream keeps its places, whatever was done to it beside the stream.
            let goes_on = op == "Add" && known.iter().any(|axes| axes.iter().map(Axis::len).eq(out.iter().copied()));
            return match unknown.is_empty() || goes_on {
                true => aligned(&out, &known.iter().map(Vec::as_slice).collect::<Vec<_>>()),
                false => None,
            };
        }
        let first = node.inputs().iter().find(|i| self.data.contains(i.as_str()))?;
        let axes = self.of(first)?;
        match op {
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => regrouped(&axes, &out),
            "Transpose" => {
                let reversed: Vec<i64> = (0..axes.len() as i64).rev().collect();
                let order = node.ints("perm").unwrap_or(&reversed);
                order.iter().map(|&i| axes.get(usize::try_from(i).ok()?).cloned()).collect()
            }
            "Conv"
            | "ConvTranspose"
            | "FusedConv"
            | "NhwcFusedConv"
            | "QLinearConv"
            | "ConvInteger"
            | "MaxPool"
            | "AveragePool"
            | "LpPool"
            | "Resize"
            | "Upsample"
            | "Pad"
            | "SpaceToDepth"
            | "DepthToSpace"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "GlobalLpPool"
            | "QLinearGlobalAveragePool"
            | "QLinearAveragePool" => self.sliding(&axes, &out),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL2" | "ReduceL1" | "ReduceProd"
            | "ReduceLogSumExp" | "ReduceSumSquare" => self.reduced(node, &axes, &out),
            "MatMul" | "MatMulInteger" | "QLinearMatMul" | "FusedMatMul" => self.product(node, &out),
            "Gemm" | "QGemm" | "FusedGemm" => {
                let rows = node.int("transA").unwrap_or(0) == 0 && self.is_data(node.input(0));
                let first = if rows { axes.first()?.clone() } else { Axis::other(*out.first()?) };
                Some(vec![first, Axis::other(*out.get(1)?)])
            }
            "Einsum" => self.einsum(node, &out),
            "Concat" => self.joined(node, &out),
            "Slice" => self.sliced(node, &axes, &out),
            "Split" => {
                let axis = counted(node.int("axis").unwrap_or(0), axes.len())?;
                let sizes: Option<Vec<usize>> =
                    node.outputs().iter().map(|o| self.shape(o).and_then(|s| s.get(axis).copied())).collect();
                let from: usize = sizes?.iter().take(at).sum();
                let part = axes[axis].window(from, from + out.get(axis)?)?;
                Some(axes.iter().enumerate().map(|(i, a)| if i == axis { part.clone() } else { a.clone() }).collect())
            }
            "Gather" if !self.is_data(node.input(1)) => self.gathered(node, &axes, &out),
            "ScatterND" | "ScatterElements" if self.is_data(node.input(0)) => self.of(node.input(0)?),
            "Tile" => {
                axes.iter().zip(&out).map(|(a, &n)| a.resized(n).filter(|_| !a.has_places() || a.len() == n)).collect()
            }
            "Col2Im" => {
                // Rows and columns of patches become those of the picture.
                let patches = axes.get(2)?.factors.iter().map(|f| f.role);
                let grid = patches.eq([Role::Row, Role::Column]) && out.len() == 4;
                grid.then(|| {
                    vec![
                        axes[0].clone(),
                        Axis::other(out[1]),
                        Axis::along(Role::Row, out[2]),
                        Axis::along(Role::Column, out[3]),
                    ]
                })
            }
            _ => None,
        }
    }

    /// Convolution, pooling, resizing: channels anew, other axes at their new length.
    fn sliding(&self, axes: &[Axis], out: &[usize]) -> Option<Vec<Axis>> {
        if axes.len() != out.len() {
            return None;
        }
        let one = |(at, (axis, &size)): (usize, (&Axis, &usize))| match at {
            1 if axis.len() != size => Some(Axis::other(size)),
            0 if axis.len() != size => None,
            _ => axis.resized(size),
        };
        axes.iter().zip(out).enumerate().map(one).collect()
    }

    fn reduced(&self, node: &Node, axes: &[Axis], out: &[usize]) -> Option<Vec<Axis>> {
        if axes.len() == out.len() {
            return axes
                .iter()
                .zip(out)
                .map(|(axis, &size)| axis.resized(size).filter(|_| size == 1 || axis.len() == size))
                .collect();
        }
        let listed = node.ints("axes").map(<[i64]>::to_vec).or_else(|| self.ints(node.input(1)));
        let gone: Option<BTreeSet<usize>> = listed?.into_iter().map(|i| counted(i, axes.len())).collect();
        let gone = gone?;
        Some(axes.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, a)| a.clone()).collect())
    }

    fn product(&self, node: &Node, out: &[usize]) -> Option<Vec<Axis>> {
        // Quantised products carry scales between their operands.
        let second = if node.op() == "QLinearMatMul" { 3 } else { 1 };
        let (left, right) = (node.input(0)?, node.input(second)?);
        let (a, b) = (self.of(left)?, self.of(right)?);
        let (n, m) = (a.len(), b.len());
        if out.len() < 2 || n < 2 || m < 2 {
            return None;
        }
        let batch = &out[..out.len() - 2];
        let mut axes = aligned(batch, &[&a[..n - 2], &b[..m - 2]])?;
        axes.push(a[n - 2].clone());
        axes.push(b[m - 1].clone());
        Some(axes)
    }

    fn einsum(&self, node: &Node, out: &[usize]) -> Option<Vec<Axis>> {
        let equation: String = node.string("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = equation.split_once("->").filter(|_| !equation.contains('.'))?;
        let mut letters: BTreeMap<char, Axis> = BTreeMap::new();
        for (term, input) in left.split(',').zip(node.inputs()) {
            for (letter, axis) in term.chars().zip(self.of(input)?) {
                match letters.get(&letter) {
                    Some(known) if known.has_places() && axis.has_places() && *known != axis => return None,
                    Some(known) if known.has_places() => {}
                    _ => drop(letters.insert(letter, axis)),
                }
            }
        }
        right.chars().zip(out).map(|(letter, _)| letters.get(&letter).cloned()).collect()
    }

    fn joined(&self, node: &Node, out: &[usize]) -> Option<Vec<Axis>> {
        let axis = counted(node.int("axis").unwrap_or(0), out.len())?;
        let parts: Option<Vec<Vec<Axis>>> = node.inputs().iter().map(|i| self.of(i)).collect();
        let parts = parts?;
        let rest: Vec<Vec<Axis>> = parts
            .iter()
            .map(|p| p.iter().enumerate().map(|(i, a)| if i == axis { Axis::default() } else { a.clone() }).collect())
            .collect();
        let flat: Vec<usize> = out.iter().enumerate().map(|(i, &n)| if i == axis { 1 } else { n }).collect();
        let mut axes = aligned(&flat, &rest.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let along: Option<Vec<&Axis>> = parts.iter().map(|p| p.get(axis)).collect();
        let along = along?;
        let placed: Vec<usize> = (0..along.len()).filter(|&i| along[i].has_places()).collect();
        let length = |parts: &[&Axis]| parts.iter().map(|a| a.len()).sum::<usize>();
        axes[axis] = match placed.as_slice() {
            [] => Axis::other(out[axis]),
            [one] => Axis {
                before: length(&along[..*one]) + along[*one].before,
                factors: along[*one].factors.clone(),
                after: along[*one].after + length(&along[one + 1..]),
            },
            // A roll: the rows in two parts, put together again.
            several => {
                let role = along[several[0]].pure()?;
                let same = along.iter().all(|a| a.pure() == Some(role) || a.len() == 1);
                same.then(|| Axis::along(role, out[axis]))?
            }
        };
        Some(axes)
    }

    fn sliced(&self, node: &Node, axes: &[Axis], out: &[usize]) -> Option<Vec<Axis>> {
        let listed = |name: &str, at: usize| node.ints(name).map(<[i64]>::to_vec).or_else(|| self.ints(node.input(at)));
        let starts = listed("starts", 1);
        let which = listed("axes", 3).or_else(|| Some((0..starts.as_ref()?.len() as i64).collect()));
        let steps = self.ints(node.input(4));
        let one = |(at, (axis, &size)): (usize, (&Axis, &usize))| {
            if axis.len() == size {
                return Some(axis.clone());
            }
            let entry = which.as_ref().and_then(|w| w.iter().position(|&i| counted(i, axes.len()) == Some(at)));
            let step = entry.and_then(|e| steps.as_ref()?.get(e).copied()).unwrap_or(1);
            let start = entry.and_then(|e| starts.as_ref()?.get(e).copied());
            match start.filter(|_| step == 1 && steps.is_some() == node.input(4).is_some_and(|s| !s.is_empty())) {
                Some(start) => {
                    let length = axis.len() as i64;
                    let from = (if start < 0 { start + length } else { start }).clamp(0, length) as usize;
                    axis.window(from, from + size)
                }
                None => axis.resized(size),
            }
        };
        axes.iter().zip(out).enumerate().map(one).collect()
    }

    fn gathered(&self, node: &Node, axes: &[Axis], out: &[usize]) -> Option<Vec<Axis>> {
        let axis = counted(node.int("axis").unwrap_or(0), axes.len())?;
        let (left, right) = (&axes[..axis], &axes[axis + 1..]);
        if out.len() + 1 == axes.len() {
            return Some(left.iter().chain(right).cloned().collect());
        }
        if out.len() != axes.len() {
            return None;
        }
        let size = out[axis];
        let part = match self.ints(node.input(1)) {
            _ if !axes[axis].has_places() => Axis::other(size),
            Some(at) if at.windows(2).all(|w| w[1] == w[0] + 1) && at.first().is_some_and(|f| *f >= 0) => {
                axes[axis].window(at[0] as usize, at[0] as usize + at.len())?
            }
            Some(at) if at.windows(2).all(|w| w[1] > w[0]) => axes[axis].resized(size)?,
            _ => return None,
        };
        Some(left.iter().cloned().chain([part]).chain(right.iter().cloned()).collect())
    }

    /// `value` as a feature map: rows, columns and channels on axes of their own, or rows × columns along a token axis.
    pub(super) fn map(&self, value: &str) -> Option<FeatureMap> {
        let observed = self.observed.get(value).filter(|o| o.element.is_float())?;
        let (axes, shape) = (self.axes.get(value)?, &observed.shape);
        let free = |axis: &Axis| !axis.has_places();
        let whole = |axis: &Axis, role: Role| axis.len() == 1 || axis.pure() == Some(role);
        let (layout, grid, first) = match axes.as_slice() {
            [n, c, h, w] if free(n) && free(c) && whole(h, Role::Row) && whole(w, Role::Column) => {
                (Layout::ChannelsFirst, [h.len(), w.len()], 0)
            }
            [n, h, w, c] if free(n) && free(c) && whole(h, Role::Row) && whole(w, Role::Column) => {
                (Layout::ChannelsLast, [h.len(), w.len()], 0)
            }
            [n, tokens, c] if free(n) && free(c) => {
                let along = |role: Role| tokens.factors.iter().filter(move |f| f.role == role);
                let sizes = |role: Role| along(role).map(|f| f.size).product::<usize>();
                let in_order = matches!(
                    tokens.factors.as_slice(),
                    [Factor { role: Role::Row, step: 1, .. }, Factor { role: Role::Column, step: 1, .. }]
                        | [Factor { role: Role::Row | Role::Column, step: 1, .. }]
                );
                in_order.then(|| (Layout::Tokens, [sizes(Role::Row), sizes(Role::Column)], tokens.before))?
            }
            _ => return None,
        };
        (grid[0] * grid[1] > 1 && shape.first() == Some(&1)).then(|| FeatureMap {
            value: value.to_owned(),
            shape: shape.clone(),
            layout,
            grid,
            first,
        })
    }

    /// The node behind which the places of `value` are not known any more.
    pub(super) fn lost_at(&self, value: &str) -> Option<&'a Node> {
        let mut node = *self.lost.get(value)?;
        // What came first is the cause.
        while let Some(earlier) = node.inputs().iter().find_map(|i| self.lost.get(i.as_str())) {
            node = earlier;
        }
        Some(node)
    }
}

/// An axis counted from the front.
fn counted(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|a| (*a as i64) < rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize) -> Axis {
        Axis::along(Role::Row, n)
    }

    fn columns(n: usize) -> Axis {
        Axis::along(Role::Column, n)
    }

    #[test]
    fn windows_that_are_cut_and_put_together_again_give_the_grid_back() {
        let whole = vec![Axis::default(), rows(8), columns(12), Axis::other(5)];
        let cut = regrouped(&whole, &[1, 2, 4, 3, 4, 5]).unwrap();
        let order = [0, 1, 3, 2, 4, 5];
        let windows: Vec<Axis> = order.iter().map(|&i| cut[i].clone()).collect();
        let tokens = regrouped(&windows, &[6, 16, 5]).unwrap();
        assert!(tokens[0].has_places() && tokens[1].has_places());
        let apart = regrouped(&tokens, &[1, 2, 3, 4, 4, 5]).unwrap();
        let back: Vec<Axis> = order.iter().map(|&i| apart[i].clone()).collect();
        assert_eq!(regrouped(&back, &[1, 8, 12, 5]).unwrap(), whole);
    }

    #[test]
    fn a_class_token_in_front_of_the_places_is_counted_and_taken_off_again() {
        let tokens = Axis { before: 1, factors: vec![rows(3).factors[0], columns(4).factors[0]], after: 0 };
        assert_eq!(tokens.len(), 13);
        assert_eq!(tokens.window(1, 13).unwrap().before, 0);
        assert!(!tokens.window(0, 1).unwrap().has_places());
        assert_eq!(tokens.window(2, 13), None);
    }

    #[test]
    fn places_under_another_order_are_not_taken_for_the_same() {
        let (a, b) = (vec![rows(4), columns(4)], vec![columns(4), rows(4)]);
        assert_eq!(aligned(&[4, 4], &[&a, &b]), None);
        assert_eq!(aligned(&[4, 4], &[&a, &[Axis::default(), Axis::other(4)]]).unwrap(), a);
    }
}
