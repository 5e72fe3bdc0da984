//! An explainer that only tests compile: how bright each place of x̂0 is, or a failure where it is told to fail.

use ndarray::Axis;
use pellucid::diffusion::{
    Amount, Capability, DiffusionError, Explainer, Findings, Grid, SaliencyMap, StepFigure, StepFindings, Subject,
    Track,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Brightness {
    fails: bool,
}

impl Explainer for Brightness {
    fn id(&self) -> &'static str {
        "brightness"
    }

    fn title(&self) -> &'static str {
        "Brightness"
    }

    fn summary(&self) -> &'static str {
        "how bright each place is"
    }

    fn maps(&self) -> &'static str {
        "brightness maps"
    }

    fn needs(&self) -> &'static [Capability] {
        &[Capability::Passes]
    }

    fn settings(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn run(&self, subject: &mut Subject<'_>) -> Result<Findings, DiffusionError> {
        if self.fails {
            return Err(DiffusionError::Shape { model: "unet.onnx".into(), reason: "it is too dark".to_owned() });
        }
        let of_step = |step: &pellucid::diffusion_methods::Step| {
            let values = step.clean.index_axis(Axis(0), 0).mapv(f32::abs).sum_axis(Axis(0));
            let mean = f64::from(values.mean().unwrap_or(0.0));
            let map = SaliencyMap::new("brightness", self.title(), values, Grid::Latent);
            StepFindings {
                maps: vec![Some(map)],
                figures: vec![StepFigure { id: "brightness", title: "brightness", amount: Amount::Number(mean) }],
                reading: format!("{mean:.2} on average"),
                ..StepFindings::default()
            }
        };
        Ok(Findings {
            meaning: "How bright each place of the clean picture is".to_owned(),
            tracks: vec![Track::shown("").array("brightness").picture("brightness").measured("brightness")],
            steps: subject.trajectory.steps.iter().map(of_step).collect(),
            facts: vec![("Brightness".to_owned(), "of x̂0".to_owned())],
            ..Findings::default()
        })
    }
}
