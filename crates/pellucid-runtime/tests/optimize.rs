//! Networks rewritten to run faster give what they gave before, at another batch size than those that were observed.

#![allow(clippy::unwrap_used)]

mod common;

use common::{array, networks, runtime};
use ndarray::{ArrayD, Axis, concatenate};
use pellucid_graph::{Model, grad};
use pellucid_runtime::{Array, Runtime, SessionOptions, observe};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;

/// The array with its first rows once more, to `rows` of them.
fn grown(array: &Array, rows: usize) -> Array {
    fn tile<T: Clone>(a: &ArrayD<T>, rows: usize) -> ArrayD<T> {
        let parts: Vec<_> = (0..rows).map(|i| a.index_axis(Axis(0), i % a.len_of(Axis(0)))).collect();
        let views: Vec<_> = parts.iter().map(|p| p.clone().insert_axis(Axis(0))).collect();
        concatenate(Axis(0), &views).unwrap()
    }
    match array {
        Array::F32(a) if a.ndim() > 0 => Array::F32(tile(a, rows)),
        Array::I64(a) if a.ndim() > 0 => Array::I64(tile(a, rows)),
        other => other.clone(),
    }
}

fn run(runtime: &Runtime, model: &Model, inputs: &[(String, Array)]) -> Array {
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let mut session = runtime.session(model, &options).unwrap_or_else(|e| panic!("{}: {e}", model.path().display()));
    let fed: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
    session.run(&fed).unwrap_or_else(|e| panic!("{}: {e}", model.path().display())).remove(0)
}

/// The optimized model beside the one it was made of.
fn optimize(runtime: &Runtime, path: &Path, inputs: &[(String, Array)]) -> (Model, Model) {
    let model = Model::read(path).unwrap();
    let one = |a: &Array| a.shape().iter().enumerate().map(|(i, d)| if i == 0 { 1 } else { *d }).collect();
    let shapes: BTreeMap<String, Vec<usize>> = inputs.iter().map(|(n, a)| (n.clone(), one(a))).collect();
    let prepared = grad::prepare(&model, &[]).unwrap();
    let observed = observe(runtime, &prepared, &shapes).unwrap();
    let optimized = runtime.optimize(&prepared, &observed, &shapes, true).unwrap();
    (model, optimized)
}

#[test]
fn every_network_gives_what_it_gave() {
    let runtime = runtime();
    let mut fused = BTreeMap::new();
    println!("{:<28} {:>9} {:>7} {:>7} {:>9}", "network.exporter", "error", "nodes", "optimized", "attention");
    for path in networks() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let stored = path.with_file_name(format!("{}.safetensors", name.split('.').next().unwrap()));
        let bytes = std::fs::read(stored).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let names = file.names().into_iter().filter_map(|n| n.strip_prefix("in|"));
        // Not a batch that was observed: what is only true of one and two samples shows.
        let inputs: Vec<(String, Array)> =
            names.map(|n| (n.to_owned(), grown(&array(&file, &format!("in|{n}")), 3))).collect();
        let (model, optimized) = optimize(&runtime, &path, &inputs);
        let (before, after) = (run(&runtime, &model, &inputs), run(&runtime, &optimized, &inputs));
        let (before, after) = (before.as_f32().unwrap(), after.as_f32().unwrap());
        assert_eq!(before.shape(), after.shape(), "{name}");
        let largest = before.iter().fold(0f32, |m, v| m.max(v.abs()));
        let error = before.iter().zip(after).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
        let counts = optimized.graph.operator_counts();
        let attention = counts.get("com.microsoft.MultiHeadAttention").copied().unwrap_or(0);
        println!(
            "{name:<28} {error:>9.1e} {:>7} {:>7} {attention:>9}",
            model.graph.nodes.len(),
            optimized.graph.nodes.len()
        );
        assert!(error < 2e-5, "{name}: {error:.1e} of the largest number");
        fused.insert(name, (attention, counts.get("Softmax").copied().unwrap_or(0)));
    }
    for name in ["unet_condition.script", "unet_condition.dynamo", "hf_unet_condition.optimum"] {
        let (attention, written_out) = fused[name];
        assert!(attention > 0 && written_out == 0, "{name}: {attention} fused, {written_out} written out");
    }
}
