//! Explains a prompt and reads one map: `cargo run --example explain_prompt -- zoo/models/emoji_diffusion "a cat on blue"`.

use pellucid::Silent;
use pellucid::diffusion::{ExplainSettings, Pipeline, PipelineOptions, explain};
use std::collections::BTreeMap;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [folder, prompt] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "PIPELINE PROMPT")?;
    let mut pipeline = Pipeline::open(&folder, &PipelineOptions::default())?;
    let settings = ExplainSettings::default().with_explainers(&["cam"], &BTreeMap::new())?;
    let explained = explain(&mut pipeline, &prompt, &settings, &Silent)?;
    let map = explained.map("cam", explained.trajectory.steps.len() / 3).ok_or("the map is the same everywhere")?;
    println!("{}: {:.2}", map.title, map.values);
    Ok(())
}
