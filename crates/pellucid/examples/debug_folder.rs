//! Why a classifier fails on a folder of pictures: `debug_folder MODEL.onnx PICTURES RUNS`.

use pellucid::{Classifier, DebugSettings, OpenOptions, RunOptions, Silent};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pictures, runs] = arguments.as_slice() else { return Err("give MODEL.onnx PICTURES RUNS".into()) };
    let classifier = Classifier::open(model, &OpenOptions::default())?;
    let found = pellucid::debug(&classifier, pictures.as_str(), &DebugSettings::default(), &Silent)?;
    found.diagnosis.verdict.iter().for_each(|sentence| println!("{sentence}"));
    let run = found.write_run(&RunOptions::default().with_root(runs))?;
    println!("{}", run.directory.display());
    Ok(())
}
