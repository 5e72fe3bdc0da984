//! Records the seeds of the target `onnx`: models brought to the form that gradients are made of, with the shapes that the
//! runtime observes written into them.
//!
//!     cargo run -p pellucid-fuzz --example record -- OPERATORS.safetensors OUT
//!
//! takes the operators' models from `zoo/gradients/operators.safetensors`.

#![allow(clippy::unwrap_used)]

use pellucid::internals::graph::{Model, grad};
use pellucid::internals::runtime::{Runtime, observe};
use std::collections::BTreeMap;
use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operators, out] = arguments.as_slice() else { panic!("usage: record OPERATORS.safetensors OUT") };
    let runtime = Runtime::load(None).unwrap();
    let bytes = std::fs::read(operators).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("m.onnx");
    let mut names: Vec<&str> = file.names().into_iter().filter(|name| name.ends_with("|model")).collect();
    names.sort_unstable();
    for name in names {
        std::fs::write(&path, file.tensor(name).unwrap().data()).unwrap();
        let model = grad::prepare(&Model::read(&path).unwrap(), &[]).unwrap();
        let observed = observe(&runtime, &model, &BTreeMap::new());
        let Ok(observed) = observed.inspect_err(|error| eprintln!("{name}: {error}")) else { continue };
        let seed = pellucid_fuzz::record_shapes(&model, &observed);
        let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        std::fs::write(Path::new(out).join(stem.trim_end_matches("-model")), seed).unwrap();
    }
}
