//! A cue that is all that a model's confidence consists of needs an eye where it goes with its class in training alone, and
//! its pictures are shown; where validation was drawn as training was, nothing is confirmed.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

mod common;

use common::NEURONS;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix4};
use pellucid::data::{Labelled, Picture};
use pellucid::internals::classifier_methods::shortcut::Answer;
use pellucid::network::{DecisionLayer, FeatureMap, Forward, Network, NetworkError, Offer, Taps};
use pellucid::preprocess::Preprocessing;
use pellucid::{Classifier, Data, DebugSettings, Debugged, OpenOptions, Silent};
use std::sync::Arc;

/// The means of red, green and blue and their sum, and a layer that looks at red.
#[derive(Debug)]
struct SeesRed(DecisionLayer);

impl Network for SeesRed {
    fn name(&self) -> String {
        "the test's network".to_owned()
    }

    fn fingerprint(&self) -> String {
        "4ed".to_owned()
    }

    fn layer(&self) -> &DecisionLayer {
        &self.0
    }

    fn input_shape(&self) -> Vec<usize> {
        vec![3, 4, 4]
    }

    fn feature_map(&self) -> Option<&FeatureMap> {
        None
    }

    fn offers(&self, _: Offer) -> bool {
        false
    }

    fn forward(&self, inputs: &ArrayD<f32>, _: Taps) -> Result<Forward, NetworkError> {
        let colours = inputs.view().into_dimensionality::<Ix4>().unwrap();
        let colours = colours.mean_axis(Axis(3)).unwrap().mean_axis(Axis(2)).unwrap();
        let features = Array2::from_shape_fn((colours.nrows(), NEURONS), |(i, j)| {
            if j < 3 { colours[[i, j]] } else { colours.row(i).sum() / 2.0 }
        });
        Ok(Forward { logits: self.0.logits(&features), features, map: None })
    }
}

/// A number of 0 to 99 that looks random.
fn random(i: usize, what: usize) -> usize {
    let mixed = (i as u64 * 4 + what as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as usize % 100
}

/// High and low pictures: green agrees with the class on three of four, red as often as `agrees` says of each split.
fn asked(agrees: [usize; 2]) -> Debugged {
    let weight = Array2::from_shape_vec((2, NEURONS), vec![-8.0, -1.0, 0.0, 0.0, 8.0, 1.0, 0.0, 0.0]).unwrap();
    let layer = DecisionLayer { weight, bias: Array1::from_vec(vec![4.5, -4.5]) };
    let told = r#"{"width": 4, "height": 4, "resize": "exact", "filter": "bilinear", "scale": 0.00392156862745098,
        "mean": [0, 0, 0], "std": [1, 1, 1], "source": "the test"}"#;
    let preprocessing: Preprocessing = serde_json::from_str(told).unwrap();
    let named = OpenOptions::default().with_class_names(vec!["low".to_owned(), "high".to_owned()]);
    let classifier = Classifier::from_network(Arc::new(SeesRed(layer)), preprocessing, &named).unwrap();
    let one = |i: usize| {
        let (high, train) = (i % 2 == 1, i < 700);
        let red = high == (random(i, 0) < agrees[usize::from(!train)]);
        let green = high == (random(i, 1) < 75);
        let level = |on: bool, what: usize| if on { 150 } else { 50 } + random(i, what) as u8;
        let colour = [level(red, 2), level(green, 3), 100];
        let labelled = Labelled::new(format!("{i}"), if high { "high" } else { "low" });
        let split = if i < 1100 { "val" } else { "test" };
        (labelled.in_split(if train { "train" } else { split }), Picture::from_fn(4, 4, |_, _| colour))
    };
    pellucid::debug(&classifier, (0..1300).map(one).collect::<Data>(), &DebugSettings::default(), &Silent).unwrap()
}

/// Whether the picture of that name is red.
fn is_red(found: &Debugged, index: usize) -> bool {
    let scan = found.scan();
    let seen = scan.data.view(index, scan.classifier().preprocessing(), &pellucid::Budget::default()).unwrap();
    seen.pixel(0, 0)[0] >= 150
}

#[test]
fn a_cue_of_training_alone_needs_an_eye_and_its_pictures_are_shown() {
    let found = asked([85, 50]);
    let judgement = &found.diagnosis.judgement;
    let shortcut = judgement.shortcut.as_ref().unwrap();
    assert_ne!(shortcut.answer, Some(Answer::NoneFound), "{:?}", found.diagnosis.verdict);
    let pictures = judgement.cue.as_ref().unwrap();
    let class = &shortcut.cue.as_ref().unwrap().class.1;
    let shows = |samples: &[pellucid::results::Sample]| samples.iter().filter(|s| is_red(&found, s.index)).count();
    // Red speaks for high; its absence for low.
    let (with, without) = if class == "high" { (6, 0) } else { (0, 6) };
    assert_eq!((shows(&pictures.with), shows(&pictures.without), shows(&pictures.others)), (with, without, with));
    let page = found.to_html(&Default::default()).unwrap();
    assert!(page.contains("id=\"cue\"") && page.contains("In training 8"), "the panel, with the shares");
}

#[test]
fn where_validation_was_drawn_as_training_nothing_is_confirmed_and_the_limit_is_said() {
    let found = asked([85, 85]);
    let judgement = &found.diagnosis.judgement;
    let shortcut = judgement.shortcut.as_ref().unwrap();
    assert_ne!(shortcut.answer, Some(Answer::Confirmed), "{:?}", found.diagnosis.verdict);
    assert_eq!(judgement.cue.is_some(), shortcut.answer == Some(Answer::NeedsYourEye));
    assert!(shortcut.limit.as_ref().is_some_and(|limit| limit.contains("With two classes")), "{shortcut:?}");
}
