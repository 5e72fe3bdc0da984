//! Finds the blocks of a U-Net by structure: residual joins, down- and upsamplers, and the skip connections that tell the
//! way down from the way up.
//!
//! A *residual block* is an Add of two feature maps of one shape, one of which is, directly or through a convolution, what
//! the other was computed from; with a softmax in between it is an attention block. A *downsampler* is a convolution that
//! shrinks the grid; an *upsampler* the convolution after a resize that grows it. The first concatenation of two feature
//! maps begins the way up; what lies between it and the last map that a concatenation fetches is the middle.

use crate::graph::{Graph, Node};
use crate::observed::{Observations, elements};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// A residual block of convolutions.
    Resnet,
    /// A residual block that holds attention.
    Attention,
    /// Halves the grid.
    Downsampler,
    /// Doubles the grid.
    Upsampler,
}

/// The most nodes that a residual block may have.
const WALK: usize = 1 << 13;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// On the way down.
    Down,
    /// Between the ways.
    Mid,
    /// On the way up.
    Up,
}

/// One block of a U-Net.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The value that it gives.
    pub value: String,
    /// Where it lies.
    pub part: Part,
    /// What it is.
    pub kind: BlockKind,
    /// Number of its level within the part, from 0.
    pub level: usize,
    /// Number among its kind within the level, from 0.
    pub index: usize,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

impl Block {
    /// A readable name: `up 1 attention 0`.
    pub fn name(&self) -> String {
        let part = match self.part {
            Part::Down => format!("down {}", self.level),
            Part::Mid => "mid".to_owned(),
            Part::Up => format!("up {}", self.level),
        };
        match self.kind {
            BlockKind::Resnet => format!("{part} resnet {}", self.index),
            BlockKind::Attention => format!("{part} attention {}", self.index),
            BlockKind::Downsampler => format!("{part} downsampler"),
            BlockKind::Upsampler => format!("{part} upsampler"),
        }
    }

    /// The level's name: `up 1`.
    pub fn level_name(&self) -> String {
        match self.part {
            Part::Down => format!("down {}", self.level),
            Part::Mid => "mid".to_owned(),
            Part::Up => format!("up {}", self.level),
        }
    }
}

/// The blocks of the U-Net in `graph` whose latent input is `latent`, in order of computation.
pub fn find_blocks(graph: &Graph, observed: &Observations, latent: &str) -> Vec<Block> {
    let finder = Finder::new(graph, observed, latent);
    let mut found: Vec<(usize, String, BlockKind, [usize; 3])> = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if let Some(kind) = finder.kind(node) {
            let (place, value) = finder.behind_scale(at);
            if let Some(shape) = finder.map(&value) {
                found.push((place, value, kind, shape));
            }
        }
    }
    let ways = finder.ways();
    let mut blocks: Vec<Block> = Vec::with_capacity(found.len());
    let mut level: HashMap<Part, usize> = HashMap::new();
    let mut counts: HashMap<(Part, usize, BlockKind), usize> = HashMap::new();
    for (place, value, kind, shape) in found {
        let part = ways.part(place);
        let at = level.entry(part).or_insert(0);
        let index = counts.entry((part, *at, kind)).or_insert(0);
        blocks.push(Block { value, part, kind, level: *at, index: *index, shape });
        *index += 1;
        *at += usize::from(matches!(kind, BlockKind::Downsampler | BlockKind::Upsampler));
    }
    blocks
}

/// Node places where the way up begins and where the last skip connection starts.
struct Ways {
    first_join: Option<usize>,
    last_skip: usize,
}

impl Ways {
    fn part(&self, place: usize) -> Part {
        match self.first_join {
            Some(join) if place > join => Part::Up,
            Some(_) if place > self.last_skip => Part::Mid,
            _ => Part::Down,
        }
    }
}

struct Finder<'a> {
    graph: &'a Graph,
    observed: &'a Observations,
    producers: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    /// Values that depend on the latent.
    data: HashSet<&'a str>,
    /// The latent's height and width.
    size: (usize, usize),
}

impl<'a> Finder<'a> {
    fn new(graph: &'a Graph, observed: &'a Observations, latent: &'a str) -> Self {
        let mut data = HashSet::from([latent]);
        for node in &graph.nodes {
            if !matches!(node.op(), "Shape" | "Size") && node.reads().iter().any(|r| data.contains(r)) {
                data.extend(node.outputs().iter().map(String::as_str));
            }
        }
        let shape = observed.get(latent).map(|o| o.shape.clone()).unwrap_or_default();
        let size = (shape.get(2).copied().unwrap_or(0), shape.get(3).copied().unwrap_or(0));
        Self { graph, observed, producers: graph.producers(), consumers: graph.consumers(), data, size }
    }

    /// Channels, height and width of a feature map: four dimensions, on a grid that the latent's halvings reach.
    fn map(&self, value: &str) -> Option<[usize; 3]> {
        let &[1, c, h, w] = self.observed.get(value)?.shape.as_slice() else { return None };
        let (mut height, mut width) = self.size;
        let area = |height: usize, width: usize| height.saturating_mul(width);
        while (height, width) != (h, w) {
            if area(height, width) <= area(h, w).max(1) {
                return None;
            }
            (height, width) = (height.div_ceil(2), width.div_ceil(2));
        }
        self.data.contains(value).then_some([c, h, w])
    }

    fn producer(&self, value: &str) -> Option<(usize, &'a Node)> {
        self.producers.get(value).map(|&i| (i, &self.graph.nodes[i]))
    }

    fn kind(&self, node: &'a Node) -> Option<BlockKind> {
        let out = self.map(node.output())?;
        let area = |s: [usize; 3]| s[1].saturating_mul(s[2]);
        match node.op() {
            "Add" => {
                let (a, b) = (node.input(0)?, node.input(1)?);
                let alike = self.map(a) == Some(out) && self.map(b) == Some(out);
                alike.then(|| self.residual(a, b).or_else(|| self.residual(b, a)))?
            }
            "Conv" => {
                let source = node.input(0)?;
                // Grids are compared raw: a padded input is no grid of the latent's.
                let before = elements(self.observed.get(source)?.shape.get(2..)?);
                if before >= area(out).saturating_mul(3) {
                    return Some(BlockKind::Downsampler);
                }
                let (_, resize) = self.producer(source)?;
                let smaller = self.map(resize.input(0)?)?;
                (matches!(resize.op(), "Resize" | "Upsample") && area(smaller) < area(out))
                    .then_some(BlockKind::Upsampler)
            }
            "ConvTranspose" => (area(self.map(node.input(0)?)?) < area(out)).then_some(BlockKind::Upsampler),
            "AveragePool" | "MaxPool" => {
                (area(self.map(node.input(0)?)?) > area(out)).then_some(BlockKind::Downsampler)
            }
            _ => None,
        }
    }

    /// The kind of block if `shortcut` is what `branch` was computed from, directly or through one convolution.
    fn residual(&self, shortcut: &'a str, branch: &'a str) -> Option<BlockKind> {
        let through = self.producer(shortcut).filter(|(_, n)| n.is("Conv")).and_then(|(_, n)| n.input(0));
        let source = [Some(shortcut), through].into_iter().flatten().find(|s| self.between(s, branch).is_some())?;
        let attends = self.between(source, branch)?;
        Some(if attends { BlockKind::Attention } else { BlockKind::Resnet })
    }

    /// Whether a softmax lies between `source` and `target`; `None` if `target` does not depend on `source`.
    fn between(&self, source: &str, target: &'a str) -> Option<bool> {
        let floor = self.producers.get(source).copied();
        let (mut seen, mut open) = (HashSet::new(), vec![target]);
        let (mut reached, mut attends) = (false, false);
        while let Some(value) = open.pop() {
            if value == source {
                reached = true;
                continue;
            }
            let Some((at, node)) = self.producer(value) else { continue };
            if floor.is_some_and(|f| at < f) || !seen.insert(at) {
                continue;
            }
            // No block is that large: the walk ends, so that all walks together do not go over the graph once per block.
            if seen.len() > WALK {
                return None;
            }
            attends |= node.is("Softmax");
            open.extend(node.inputs().iter().map(String::as_str).filter(|i| self.data.contains(i)));
        }
        reached.then_some(attends)
    }

    /// A block's value may be divided by a constant (`output_scale_factor`) at once: then that is what it gives.
    fn behind_scale(&self, at: usize) -> (usize, String) {
        let value = self.graph.nodes[at].output();
        if let Some(&[only]) = self.consumers.get(value).map(Vec::as_slice) {
            let next = &self.graph.nodes[only];
            let number = next.input(1).and_then(|c| self.graph.initializers.get(c)).is_some_and(|t| t.len() == 1);
            if matches!(next.op(), "Div" | "Mul") && number && next.input(0) == Some(value) {
                return (only, next.output().to_owned());
            }
        }
        (at, value.to_owned())
    }

    fn ways(&self) -> Ways {
        let is_join = |n: &&Node| {
            n.is("Concat")
                && n.int("axis") == Some(1)
                && self.map(n.output()).is_some()
                && n.inputs().len() > 1
                && n.inputs().iter().all(|i| self.map(i).is_some())
        };
        let place = |v: &String| self.producers.get(v.as_str()).copied().unwrap_or(0);
        let joins: Vec<(usize, &Node)> = self.graph.nodes.iter().enumerate().filter(|(_, n)| is_join(n)).collect();
        let Some(&(first_join, _)) = joins.first() else { return Ways { first_join: None, last_skip: 0 } };
        // Of each join's inputs the latest is what comes up; the others were fetched from the way down.
        let fetched = joins.iter().flat_map(|(_, n)| {
            let mut places: Vec<usize> = n.inputs().iter().map(place).collect();
            places.sort_unstable();
            places.pop();
            places
        });
        let last_skip = fetched.filter(|p| *p < first_join).max().unwrap_or(0);
        Ways { first_join: Some(first_join), last_skip }
    }
}
