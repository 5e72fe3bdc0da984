//! What a repair refuses, what it makes do with, and how it says so.

#![allow(clippy::unwrap_used)]

use ndarray::{Array2, array};
use pellucid_classifier::layer::DecisionLayer;
use pellucid_classifier::repair::suspects::Route;
use pellucid_classifier::repair::{Edit, RepairError, RepairSettings, Repaired, Splits, repair};
use pellucid_classifier::scan::FeatureTable;

/// Three classes, each with a feature of its own; feature 3 is a cue that the layer reads for class 0, and that
/// accompanies it in training (`bias` of 10 times) and half the time elsewhere.
fn table(layer: &DecisionLayer, rows: usize, bias: usize) -> FeatureTable {
    let row = |i: usize| {
        let (class, round) = (i % 3, i / 3);
        let cue = if class == 0 { round % 10 < bias } else { round % 10 >= bias };
        (class, cue, (round % 7) as f32 * 0.04)
    };
    let features = Array2::from_shape_fn((rows, 6), |(i, j)| {
        let (class, cue, shade) = row(i);
        match j {
            3 => f32::from(u8::from(cue)) * 2.0,
            4 => shade,
            5 => 0.3 - shade,
            own => f32::from(u8::from(own == class)) + shade,
        }
    });
    FeatureTable {
        index: (0..rows).collect(),
        labels: (0..rows).map(|i| row(i).0).collect(),
        groups: (0..rows).map(|i| Some(2 * row(i).0 + usize::from(row(i).1))).collect(),
        logits: layer.logits(&features),
        features,
    }
}

struct Stage {
    layer: DecisionLayer,
    train: FeatureTable,
    validation: FeatureTable,
    test: FeatureTable,
}

impl Stage {
    fn new() -> Self {
        let weight = array![
            [0.6, -0.3, -0.3, 1.2, 0.0, 0.0],
            [-0.5, 1.0, -0.5, -0.6, 0.0, 0.0],
            [-0.5, -0.5, 1.0, -0.6, 0.0, 0.0]
        ];
        let layer = DecisionLayer { weight, bias: array![-0.6, 0.2, 0.2] };
        let (train, validation, test) = (table(&layer, 120, 9), table(&layer, 90, 5), table(&layer, 90, 5));
        Self { layer, train, validation, test }
    }

    fn repair(&self, settings: &RepairSettings) -> Result<Repaired, RepairError> {
        let splits =
            Splits { train: &self.train, views: 0, validation: &self.validation, test: &self.test, units: None };
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let groups = names(&["a", "a + cue", "b", "b + cue", "c", "c + cue"]);
        repair(&self.layer, splits, &names(&["a", "b", "c"]), &groups, settings)
    }
}

fn named(neurons: &[usize]) -> RepairSettings {
    RepairSettings::default().with_class(0usize).with_neurons(neurons.to_vec()).with_route(Route::Named)
}

#[test]
fn the_cue_is_found_by_itself_and_its_erasure_lifts_the_worst_group() {
    let settings = RepairSettings::default().with_edit(Edit::Erase);
    let done = Stage::new().repair(&settings).unwrap().repair;
    assert_eq!(done.class.0, 0);
    assert!(done.suspects.iter().any(|s| s.neuron == 3), "{:?}", done.suspects);
    let worst = done.comparison.worst_group.unwrap();
    assert!(worst.before.1.value < 0.1 && worst.after.1.value > 0.9, "{worst:?}");
}

#[test]
fn an_empty_list_of_neurons_is_refused() {
    let error = Stage::new().repair(&named(&[])).unwrap_err();
    assert!(matches!(error, RepairError::NoNeurons) && error.to_string().contains("`auto`"), "{error}");
}

#[test]
fn a_neuron_out_of_range_is_refused_with_the_range() {
    let error = Stage::new().repair(&named(&[3, 6])).unwrap_err();
    assert!(matches!(error, RepairError::Neuron { neuron: 6, features: 6 }));
    assert!(error.to_string().contains("0 to 5"), "{error}");
}

#[test]
fn all_neurons_are_refused_however_often_they_are_named() {
    let error = Stage::new().repair(&named(&[5, 4, 3, 2, 1, 0, 0])).unwrap_err();
    assert!(matches!(error, RepairError::AllNeurons(6)));
}

#[test]
fn the_users_list_wins_over_what_would_be_found() {
    let settings = RepairSettings::default().with_neurons(vec![4, 4, 1]).with_class(0usize);
    let suspects = Stage::new().repair(&settings).unwrap().repair.suspects;
    assert_eq!(
        suspects.iter().map(|s| (s.neuron, s.route)).collect::<Vec<_>>(),
        [(1, Route::Named), (4, Route::Named)]
    );
}

#[test]
fn a_class_that_a_split_lacks_is_refused_with_the_splits_name() {
    for split in ["training", "validation", "test"] {
        let mut stage = Stage::new();
        let table = match split {
            "training" => &mut stage.train,
            "validation" => &mut stage.validation,
            _ => &mut stage.test,
        };
        table.labels.iter_mut().filter(|y| **y == 0).for_each(|y| *y = 1);
        let error = stage.repair(&named(&[3])).unwrap_err();
        assert!(matches!(&error, RepairError::ClassAbsent { split: found, .. } if *found == split), "{error}");
        assert!(error.to_string().contains("'a'"), "{error}");
    }
}

#[test]
fn a_group_of_one_sample_is_counted_and_breaks_nothing() {
    let mut stage = Stage::new();
    for table in [&mut stage.train, &mut stage.validation, &mut stage.test] {
        table.groups.iter_mut().filter(|g| **g == Some(5)).skip(1).for_each(|g| *g = Some(4));
    }
    let done = stage.repair(&named(&[3])).unwrap().repair;
    let lone = done.comparison.groups.iter().find(|g| g.id == 5).unwrap();
    assert_eq!(lone.change.after.total, 1);
    assert!(done.tried.iter().any(|t| t.edit == Edit::GroupBalanced));
    assert!(done.tried.iter().all(|t| t.test.overall.value.is_finite()));
}

#[test]
fn a_class_without_probability_can_be_repaired_all_the_same() {
    let mut stage = Stage::new();
    stage.layer.bias[0] = -1e4;
    let done = stage.repair(&named(&[3])).unwrap();
    assert!(done.layer.weight.iter().chain(&done.layer.bias).all(|w| w.is_finite()));
    assert!(done.repair.ratio.iter().all(|r| r.is_finite()), "{:?}", done.repair.ratio);
}

#[test]
fn a_loss_that_is_not_finite_is_refused_with_the_edits_name_and_what_to_do() {
    let mut stage = Stage::new();
    stage.train.features[[7, 1]] = f32::INFINITY;
    let error = stage.repair(&named(&[3])).unwrap_err();
    assert!(matches!(error, RepairError::Diverged(_)), "{error}");
    assert!(error.to_string().contains("learning_rate"), "{error}");
}

#[test]
fn data_without_groups_are_repaired_and_the_balanced_edit_says_why_it_is_missing() {
    let mut stage = Stage::new();
    for table in [&mut stage.train, &mut stage.validation, &mut stage.test] {
        table.groups.iter_mut().for_each(|g| *g = None);
    }
    let repaired = stage.repair(&RepairSettings::default().with_edit(Edit::Erase)).unwrap();
    let said: Vec<String> = repaired.warnings.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|w| w.contains("group-balanced") && w.contains("no groups")), "{said:?}");
    let done = repaired.repair;
    assert!(done.comparison.worst_group.is_none() && done.causal.is_empty());
    assert!(!done.proposed.is_empty());
}

#[test]
fn a_model_that_reads_no_cue_is_left_as_it_is() {
    let mut stage = Stage::new();
    stage.layer.weight.column_mut(3).fill(0.0);
    stage.layer.bias.fill(0.0);
    let done = stage.repair(&RepairSettings::default()).unwrap();
    assert!(!done.repair.conduct.shipped && done.layer == stage.layer, "{:?}", done.repair.conduct);
    assert!(done.repair.conduct.headline.starts_with("Nothing was edited"), "{}", done.repair.conduct.headline);
    assert_eq!((done.repair.edit, done.repair.comparison.overall.broken), (Edit::None, 0));
}

#[test]
fn an_edit_asked_for_by_name_is_shipped_whatever_the_data_say() {
    let stage = Stage::new();
    let settings = RepairSettings::default().with_edit(Edit::ClassBalanced);
    let done = stage.repair(&settings).unwrap().repair;
    assert!(done.conduct.shipped && done.conduct.headline.contains("asked for by name"), "{}", done.conduct.headline);
}

#[test]
fn equal_seeds_give_equal_layers() {
    let stage = Stage::new();
    let settings = named(&[3]).with_edit(Some(Edit::Ratio)).with_seed(5);
    assert_eq!(stage.repair(&settings).unwrap().layer, stage.repair(&settings).unwrap().layer);
}

#[test]
fn an_edit_that_cannot_be_made_is_refused_rather_than_shipped_unchanged() {
    let mut stage = Stage::new();
    for table in [&mut stage.train, &mut stage.validation, &mut stage.test] {
        table.groups.iter_mut().for_each(|g| *g = None);
    }
    let error = stage.repair(&named(&[3]).with_edit(Some(Edit::GroupBalanced))).unwrap_err();
    assert!(matches!(error, RepairError::NotPossible { edit: Edit::GroupBalanced, .. }), "{error}");
    assert!(error.to_string().contains("no groups"), "{error}");
}

#[test]
fn between_two_classes_the_one_that_mistakes_land_on_is_at_fault_and_not_the_worst() {
    // Class 0 reads the cue of feature 1; class 1 with the cue is called 0, so class 1 is the worst.
    let layer = DecisionLayer { weight: array![[1.5, 3.0], [-1.5, -3.0]], bias: array![-1.0, 1.0] };
    let table = |rows: usize| {
        let features = Array2::from_shape_fn((rows, 2), |(i, j)| match j {
            0 => f32::from(u8::from(i % 2 == 0)) * 0.6 + 0.1,
            _ => f32::from(u8::from(i % 4 < 2)) + (i % 5) as f32 * 0.01,
        });
        FeatureTable {
            index: (0..rows).collect(),
            labels: (0..rows).map(|i| i % 2).collect(),
            groups: vec![None; rows],
            logits: layer.logits(&features),
            features,
        }
    };
    let (train, other) = (table(80), table(40));
    let splits = Splits { train: &train, views: 0, validation: &other, test: &other, units: None };
    let names = ["a".to_owned(), "b".to_owned()];
    let settings = RepairSettings::default().with_edit(Some(Edit::Zero)).with_edits(vec![Edit::Zero]);
    let done = repair(&layer, splits, &names, &[], &settings).unwrap().repair;
    assert_eq!((done.class.0, done.suspects[0].neuron), (0, 1), "{:?}", done.suspects);
}
