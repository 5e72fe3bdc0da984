//! The reverse sweep: which nodes lie between the objective and what is asked for, and their rules, last node first.

use super::checkpointing::{Checkpointing, Segments};
use super::emit::GraphBuilder;
use super::error::{GradientError, Reason};
use super::objective::{Objective, ObjectiveInput};
use super::prepare;
use super::rules::{self, Found, VjpContext};
use super::shapes;
use crate::graph::{Graph, Node};
use crate::model::Model;
use crate::observed::Observations;
use crate::tensor::ElementType;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A model that returns an objective and its gradients beside what it returned before.
#[derive(Debug, Clone)]
pub struct GradientModel {
    /// The model. Its outputs are those of the original, then the objective, then the gradients.
    pub model: Model,
    /// The output that holds the objective, as the expression gives it (one number per sample, as a rule).
    pub objective: String,
    /// Pairs of a value and the output that holds the gradient of the objective's *sum* with respect to it, in its shape.
    /// Samples do not mix in an ordinary model, so row b is the gradient of sample b's objective.
    pub gradients: Vec<(String, String)>,
    /// The inputs that the objective added: class indices, masks, vectors.
    pub inputs: Vec<ObjectiveInput>,
    /// Nodes that quantise and that a gradient goes straight through, as if they did not round.
    pub straight_through: usize,
    /// Every intermediate gradient, in the order of computation: the model's value, and the value that holds its gradient.
    pub cotangents: Vec<(String, String)>,
}

impl GradientModel {
    /// The output that holds the gradient with respect to `value`.
    pub fn gradient_of(&self, value: &str) -> Option<&str> {
        self.gradients.iter().find(|(v, _)| v == value).map(|(_, g)| g.as_str())
    }

    /// The same model with every intermediate gradient as an output, to find where NaN or infinity first appears:
    /// read the outputs named in [`GradientModel::cotangents`] in order.
    pub fn watched(&self) -> Model {
        let mut model = self.model.clone();
        self.cotangents.iter().for_each(|(_, c)| model.graph.add_output(c));
        model
    }
}

/// Differentiates `objective` with respect to the values named in `wrt` (inputs or intermediate values).
///
/// `model` comes from [`super::prepare`], and `observed` is what the runtime says of it. Fails if a value does not exist,
/// is not a float, is not reached, or if a node between it and the objective has no rule; the error names the node.
pub fn differentiate(
    model: &Model,
    observed: &Observations,
    objective: &Objective,
    wrt: &[&str],
) -> Result<GradientModel, GradientError> {
    differentiate_within(model, observed, objective, wrt, Checkpointing::Nothing)
}

/// As [`differentiate`], computing parts of the forward pass again on the way back to save memory: the same numbers.
pub fn differentiate_within(
    model: &Model,
    observed: &Observations,
    objective: &Objective,
    wrt: &[&str],
    checkpointing: Checkpointing,
) -> Result<GradientModel, GradientError> {
    prepare::check(model)?;
    let segments = Segments::plan(&model.graph, observed, checkpointing)?;
    for &value in wrt {
        check_wrt(&model.graph, observed, value)?;
    }
    let mut emitter = GraphBuilder::new(model.graph.clone(), observed.clone(), model.budget());
    let built = objective.build(&mut emitter)?;
    let mut sweep = Sweep::new(emitter, built.stopped, wrt, segments);
    sweep.find_path(&built.value)?;
    let gradients = sweep.run(&built.value)?;
    let quantises = |at: &&usize| sweep.forward[**at].op() == "QuantizeLinear";
    let straight_through = sweep.path.iter().filter(quantises).count();
    let Sweep { emitter, cotangents, contributions, .. } = sweep;
    let mut graph = emitter.graph.clone();
    shapes::declare(&emitter, &mut graph, &contributions);
    graph.inputs.extend(built.inputs.iter().map(ObjectiveInput::declare));
    graph.add_output(&built.value);
    gradients.iter().for_each(|(_, g)| graph.add_output(g));
    let mut model = model.clone();
    model.graph = graph;
    Ok(GradientModel { model, objective: built.value, gradients, inputs: built.inputs, straight_through, cotangents })
}

fn check_wrt(graph: &Graph, observed: &Observations, value: &str) -> Result<(), GradientError> {
    graph.check(value)?;
    if graph.initializers.contains_key(value) {
        return Err(GradientError::Constant(value.to_owned()));
    }
    let seen = observed.get(value).ok_or_else(|| GradientError::Unobserved(value.to_owned()))?;
    if seen.element.is_float() {
        return Ok(());
    }
    Err(GradientError::NotFloat { value: value.to_owned(), element: seen.element, what: "a gradient" })
}

/// The first node between `wrt` and `values` that no runtime may know: of another domain, or without a rule here. For
/// when shapes cannot be observed because the runtime refuses the model.
pub fn foreign_operator(graph: &Graph, values: &[&str], wrt: &[&str]) -> Option<GradientError> {
    // Nothing varies behind these, so what is made of their outputs lies on no path.
    let flat = |node: &Node| matches!(node.op(), "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero");
    let mut below: HashSet<&str> = wrt.iter().copied().collect();
    for node in graph.nodes.iter().filter(|n| !flat(n)) {
        if node.reads().iter().any(|r| below.contains(r)) {
            below.extend(node.outputs().iter().map(String::as_str));
        }
    }
    let mut above: HashSet<&str> = values.iter().copied().collect();
    let mut first = None;
    for node in graph.nodes.iter().rev() {
        if !node.outputs().iter().any(|o| above.contains(o.as_str())) {
            continue;
        }
        above.extend(node.reads());
        let between = node.outputs().iter().any(|o| below.contains(o.as_str()));
        if let Found::Refusal(reason) = rules::find(node)
            && between
        {
            first = Some(GradientError::Unsupported { node: node.describe(), reason, wrt: wrt.join("', '") });
        }
    }
    first
}

/// The sum of `parts`, of which there is at least one.
fn added(e: &mut GraphBuilder, parts: &[String]) -> String {
    let first = parts.first().cloned().unwrap_or_default();
    parts.iter().skip(1).fold(first, |sum, part| e.add(&sum, part))
}

struct Sweep<'a> {
    emitter: GraphBuilder,
    stopped: HashSet<String>,
    /// Integers that a gradient goes straight through.
    straight: HashSet<String>,
    wrt: &'a [&'a str],
    /// Nodes before the sweep began: the model's and the objective's.
    forward: Vec<Node>,
    /// Float values that depend on something in `wrt`.
    varying: HashSet<String>,
    /// Nodes between `wrt` and the objective.
    path: BTreeSet<usize>,
    segments: Segments,
    /// The names under which values of the present segment are there again.
    again: HashMap<String, String>,
    cotangents: Vec<(String, String)>,
    /// Every part of a cotangent, before parts are added: the value whose shape it has, and the part.
    contributions: Vec<(String, String)>,
}

impl<'a> Sweep<'a> {
    fn new(emitter: GraphBuilder, stopped: HashSet<String>, wrt: &'a [&'a str], segments: Segments) -> Self {
        let forward = emitter.graph.nodes.clone();
        let straight = rules::straight_through(&emitter.graph);
        let mut sweep = Self {
            emitter,
            stopped,
            straight,
            wrt,
            forward,
            varying: HashSet::new(),
            path: BTreeSet::new(),
            segments,
            again: HashMap::new(),
            cotangents: Vec::new(),
            contributions: Vec::new(),
        };
        sweep.mark_varying();
        sweep
    }

    fn carries(&self, value: &str) -> bool {
        let is_float = || self.emitter.element_of(value).is_none_or(ElementType::is_float);
        !self.stopped.contains(value) && (self.straight.contains(value) || is_float())
    }

    fn mark_varying(&mut self) {
        self.varying = self.wrt.iter().map(|&s| s.to_owned()).collect();
        for i in 0..self.forward.len() {
            if !self.forward[i].reads().iter().any(|r| self.varying.contains(*r)) {
                continue;
            }
            let outputs: Vec<String> = self.forward[i].outputs().iter().filter(|o| !o.is_empty()).cloned().collect();
            for output in outputs {
                if self.carries(&output) {
                    self.varying.insert(output);
                }
            }
        }
    }

    /// Marks the nodes between `wrt` and the objective; errors for what is not reached.
    fn find_path(&mut self, objective: &str) -> Result<(), GradientError> {
        let producers: HashMap<&str, usize> = self
            .forward
            .iter()
            .enumerate()
            .flat_map(|(i, n)| n.outputs().iter().map(move |o| (o.as_str(), i)))
            .collect();
        let mut reached: HashSet<&str> = HashSet::new();
        let mut open = vec![objective];
        while let Some(value) = open.pop() {
            if !self.varying.contains(value) || !reached.insert(value) {
                continue;
            }
            let Some(&at) = producers.get(value) else { continue };
            let reads = self.forward[at].reads();
            if reads.iter().any(|r| self.varying.contains(*r)) {
                self.path.insert(at);
            }
            open.extend(reads);
        }
        let missing = self.wrt.iter().find(|w| !reached.contains(**w)).copied();
        missing.map_or(Ok(()), |wrt| Err(self.disconnected(wrt, objective)))
    }

    /// Why `wrt` does not reach the objective: through integers, through a stop, or not at all.
    fn disconnected(&self, wrt: &str, objective: &str) -> GradientError {
        let mut depends: HashSet<&str> = HashSet::from([wrt]);
        let mut barrier = None;
        for node in &self.forward {
            if !node.reads().iter().any(|r| depends.contains(r)) {
                continue;
            }
            for output in node.outputs().iter().filter(|o| !o.is_empty()) {
                depends.insert(output);
                if barrier.is_none() && !self.carries(output) {
                    barrier = Some(node.describe());
                }
            }
        }
        let reason = match (depends.contains(objective), barrier) {
            (true, Some(node)) => format!("only through integers or a stop, first at node {node}"),
            _ => "no node leads from one to the other".to_owned(),
        };
        GradientError::Disconnected { wrt: wrt.to_owned(), reason }
    }

    fn run(&mut self, objective: &str) -> Result<Vec<(String, String)>, GradientError> {
        let mut pending: HashMap<String, Vec<String>> = HashMap::new();
        let element = self.emitter.element_of(objective).unwrap_or(ElementType::F32);
        self.emitter.enter("objective", element);
        let seed = self.seed(objective).map_err(|r| GradientError::Objective(r.0))?;
        pending.insert(objective.to_owned(), vec![seed]);
        let mut done: BTreeMap<String, String> = BTreeMap::new();
        let path: Vec<usize> = self.path.iter().rev().copied().collect();
        let mut segment = usize::MAX;
        for at in path {
            if self.segments.of(at) != segment {
                segment = self.segments.of(at);
                self.reopen(segment, &mut pending)?;
            }
            let node = self.forward[at].clone();
            let mut cotangents = Vec::new();
            for output in node.outputs() {
                self.enter(&node, output);
                let sum = pending.remove(output).map(|parts| self.sum(output, &parts));
                if let Some(sum) = &sum {
                    done.insert(output.clone(), sum.clone());
                }
                cotangents.push(sum);
            }
            if cotangents.iter().all(Option::is_none) {
                continue;
            }
            for (input, gradient) in self.apply(&node, &cotangents)? {
                pending.entry(input).or_default().push(gradient);
            }
        }
        self.collect(pending, &done)
    }

    /// Computes the values of a segment again, when the gradients of those that leave it are there.
    fn reopen(&mut self, segment: usize, pending: &mut HashMap<String, Vec<String>>) -> Result<(), GradientError> {
        let own: Vec<usize> = (0..self.forward.len()).filter(|&i| self.segments.of(i) == segment).collect();
        let inside: HashSet<&String> = own.iter().flat_map(|&i| self.forward[i].inputs()).collect();
        let mut arriving = Vec::new();
        for output in own.iter().flat_map(|&i| self.forward[i].outputs()) {
            let Some(parts) = pending.get_mut(output) else { continue };
            // Where nothing more is to come, the sum is what arrives: a part that is read twice cannot be added in place.
            if !inside.contains(output) && parts.len() > 1 {
                self.contributions.extend(parts.iter().map(|p| (output.clone(), p.clone())));
                let element = self.emitter.element_of(output).unwrap_or(ElementType::F32);
                self.emitter.enter(output, element);
                *parts = vec![added(&mut self.emitter, parts)];
            }
            arriving.extend(parts.iter().map(|p| (output.clone(), p.clone())));
        }
        let again = self.segments.reopen(&mut self.emitter, &self.forward, segment, &arriving);
        self.again = again.map_err(|r| GradientError::Objective(r.0))?;
        Ok(())
    }

    /// The gradients asked for, each under its own name.
    fn collect(
        &mut self,
        mut pending: HashMap<String, Vec<String>>,
        done: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, String)>, GradientError> {
        let mut gradients = Vec::new();
        for &wrt in self.wrt {
            let sum = match done.get(wrt) {
                Some(sum) => Some(sum.clone()),
                None => pending.remove(wrt).map(|parts| self.sum(wrt, &parts)),
            };
            let Some(sum) = sum else {
                let reason = "every operator between them has derivative zero (rounding, comparison, sign)".to_owned();
                return Err(GradientError::Disconnected { wrt: wrt.to_owned(), reason });
            };
            let name = self.emitter.graph.fresh(&format!("gradient.{wrt}"));
            self.emitter.graph.nodes.push(Node::new("Identity", &[&sum], &[&name]));
            gradients.push((wrt.to_owned(), name));
        }
        Ok(gradients)
    }

    /// Ones in the objective's shape.
    fn seed(&mut self, objective: &str) -> Result<String, Reason> {
        let shape = self.emitter.shape(objective)?;
        Ok(self.emitter.filled(&shape, 1.0))
    }

    fn enter(&mut self, node: &Node, value: &str) {
        let element = self.emitter.element_of(value).filter(|e| e.is_float()).unwrap_or(ElementType::F32);
        let name = if node.name().is_empty() { node.output() } else { node.name() };
        self.emitter.enter(name, element);
    }

    fn sum(&mut self, value: &str, parts: &[String]) -> String {
        let sum = added(&mut self.emitter, parts);
        self.contributions.extend(parts.iter().chain([&sum]).map(|p| (value.to_owned(), p.clone())));
        self.cotangents.push((value.to_owned(), sum.clone()));
        sum
    }

    /// The contributions of one node to the cotangents of its inputs.
    fn apply(&mut self, node: &Node, cotangents: &[Option<String>]) -> Result<Vec<(String, String)>, GradientError> {
        let wrt = self.wrt.join("', '");
        let refuse = |reason: String| GradientError::Unsupported { node: node.describe(), reason, wrt: wrt.clone() };
        let rule = match rules::find(node) {
            Found::Rule(rule) => rule,
            Found::Refusal(reason) => return Err(refuse(reason)),
        };
        let wanted: Vec<bool> = node.inputs().iter().map(|i| self.varying.contains(i)).collect();
        let first = node.outputs().iter().zip(cotangents).find(|(_, c)| c.is_some()).map(|(o, _)| o.clone());
        self.enter(node, &first.unwrap_or_default());
        let mut there = node.clone();
        for name in there.proto.input.iter_mut().chain(&mut there.proto.output) {
            if let Some(again) = self.again.get(name) {
                name.clone_from(again);
            }
        }
        let site = VjpContext { node: &there, cotangents, wanted: &wanted };
        let gradients = rule(&mut self.emitter, &site).map_err(|r| refuse(r.0))?;
        let pairs = node.inputs().iter().zip(gradients).zip(&wanted);
        Ok(pairs.filter(|(_, wanted)| **wanted).filter_map(|((i, g), _)| Some((i.clone(), g?))).collect())
    }
}
