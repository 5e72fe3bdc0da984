//! The gradient of any value of any model by its input: `gradient MODEL.onnx logits:281`.

use ndarray::{ArrayD, IxDyn};
use pellucid::{Array, GradientSettings, OpenOptions};
use std::collections::BTreeMap;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, of] = arguments.as_slice() else { return Err("give MODEL.onnx VALUE[:INDEX]".into()) };
    let picture = Array::F32(ArrayD::from_elem(IxDyn(&[1, 3, 224, 224]), 0.5));
    let inputs = BTreeMap::from([(String::new(), picture)]);
    let settings = GradientSettings::default().with_of(of.as_str());
    let found = pellucid::gradient(model, &inputs, &settings, &OpenOptions::default())?;
    for (name, gradient) in &found.gradients {
        println!("d {} / d {name}: {:?}", found.of, gradient.shape());
    }
    Ok(())
}
