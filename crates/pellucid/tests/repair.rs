//! The repair job on a Waterbirds-style folder: what it writes can be opened, run, undone, and is refused elsewhere.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use pellucid::data::Picture;
use pellucid::errors::RepairError;
use pellucid::internals::graph::{ElementType, Graph, Model, Node, Tensor, Value};
use pellucid::results::RepairRun;
use pellucid::settings::{Edit, RepairSettings, ReportOptions, Route};
use pellucid::{
    Budget, Classifier, DebugSettings, Error, OpenOptions, PatchError, RepairOptions, RunOptions, ScanSettings, Silent,
    patch_model, patch_summary, repair,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Classes by red or green; blue is a cue that accompanies red in training and that the model reads for red.
struct Stage(TempDir);

/// A repair, and where it was written.
#[derive(Debug)]
struct Outcome {
    result: RepairRun,
    directory: PathBuf,
    model: Option<PathBuf>,
    patch: Option<PathBuf>,
}

/// Pictures of each split, and of every ten rounds those in which the cue goes with red.
const SPLITS: [(usize, usize); 3] = [(80, 9), (40, 5), (40, 5)];

impl Stage {
    fn new() -> Self {
        let stage = Self(TempDir::new().unwrap());
        stage.model("model.onnx", [-1.0, 1.0]);
        let preprocessing = r#"{"width": 4, "height": 4, "resize": "exact", "filter": "bilinear",
            "scale": 0.00392156862745098, "mean": [0, 0, 0], "std": [1, 1, 1], "source": "the test"}"#;
        std::fs::write(stage.at("model.preprocess.json"), preprocessing).unwrap();
        std::fs::write(stage.at("model.labels.txt"), "redbird\ngreenbird\n").unwrap();
        stage.pictures(|_, _, _| {});
        stage
    }

    fn model(&self, name: &str, bias: [f32; 2]) {
        let nodes = vec![
            Node::new("Conv", &["x", "k"], &["map"]),
            Node::new("GlobalAveragePool", &["map"], &["p"]),
            Node::new("Flatten", &["p"], &["f"]),
            Node::new("Gemm", &["f", "w", "b"], &["z"]).with_int("transB", 1),
        ];
        let kernel = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.3, 0.3, 0.0];
        let weight = [1.5, -1.5, 3.0, 0.1, -1.5, 1.5, -3.0, 0.0];
        let constants = vec![
            Tensor::f32("k", &[4, 3, 1, 1], &kernel),
            Tensor::f32("w", &[2, 4], &weight),
            Tensor::f32("b", &[2], &bias),
        ];
        let input = Value::tensor("x", ElementType::F32, &[None, Some(3), Some(4), Some(4)]);
        let graph = Graph::new(vec![input], nodes, constants, &["z"]).unwrap();
        Model::new(name, graph, 17).write(self.at(name)).unwrap();
    }

    /// Pictures and metadata.csv in the layout of Waterbirds, after `change` of the class, the split and the place of each.
    fn pictures(&self, change: impl Fn(&mut usize, &mut usize, &mut usize)) {
        let mut table = "img_id,img_filename,y,split,place,place_filename\n".to_owned();
        for (split, (count, bias)) in SPLITS.into_iter().enumerate() {
            for i in 0..count {
                let (class, round) = (i % 2, i / 2);
                let cue = if class == 0 { round % 10 < bias } else { round % 10 >= bias };
                let shade = |x: u32, y: u32| ((x * 7 + y * 13) as usize + 3 * i + 11 * split) as u8 % 40;
                let lit = |on: bool, x, y| if on { 170 + shade(x, y) } else { 20 + shade(y, x) };
                let picture =
                    Picture::from_fn(4, 4, |x, y| [lit(class == 0, x, y), lit(class == 1, x, y), lit(cue, x, y)]);
                let folder = format!("{:03}.Bird", class + 1);
                let file = format!("{folder}/{split}_{i:03}.png");
                std::fs::create_dir_all(self.at("birds").join(folder)).unwrap();
                std::fs::write(self.at("birds").join(&file), picture.to_png().unwrap()).unwrap();
                let (mut y, mut part, mut place) = (class, split, usize::from(cue));
                change(&mut y, &mut part, &mut place);
                table += &format!("{i},{file},{y},{part},{place},/b/bamboo_forest/{i:08}.jpg\n");
            }
        }
        std::fs::write(self.at("birds/metadata.csv"), table).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self) -> DebugSettings {
        DebugSettings::default().with_scan(ScanSettings::default().with_cache(self.at("runs/.cache")))
    }

    fn run(&self) -> RunOptions {
        RunOptions::default().with_root(self.at("runs")).with_name("run".to_owned())
    }

    fn repair_with(&self, options: &RepairOptions) -> Result<Outcome, Box<Error>> {
        self.repair_to(options, None)
    }

    fn repair_to(&self, options: &RepairOptions, out: Option<&Path>) -> Result<Outcome, Box<Error>> {
        let classifier = open(self.at("model.onnx"));
        out.map_or(Ok(()), |out| classifier.check_output(out))?;
        let made = repair(&classifier, self.at("birds"), &self.settings(), options, &Silent)?;
        let written = made.write_run(&self.run(), out)?;
        let (model, patch, directory) = (written.model, written.patch, written.run.directory);
        Ok(Outcome { result: made.result, directory, model, patch })
    }

    fn report(&self) -> String {
        std::fs::read_to_string(self.at("runs/run/report.html")).unwrap()
    }

    /// Takes the run away, so that the next has its name.
    fn forget(&self) {
        std::fs::remove_dir_all(self.at("runs/run")).unwrap();
    }

    fn repair(&self) -> Outcome {
        self.repair_with(&quick(RepairOptions::default())).unwrap()
    }
}

/// Without the edits beside the one that is shipped, which is asked for by name: of so few pictures none confirms a shortcut.
fn quick(options: RepairOptions) -> RepairOptions {
    let edit = options.settings.edit.or(Some(Edit::Erase));
    let settings = options.settings.clone().with_edits(Vec::new()).with_edit(edit);
    options.with_settings(settings)
}

fn edited(outcome: &Outcome) -> &Path {
    outcome.model.as_deref().unwrap()
}

fn patch(outcome: &Outcome) -> &Path {
    outcome.patch.as_deref().unwrap()
}

fn open(model: impl AsRef<Path>) -> Classifier {
    Classifier::open(model, &OpenOptions::default()).unwrap()
}

/// The bytes of W and b in a model's file.
fn constants(path: &Path) -> [Vec<u8>; 2] {
    let model = Model::read(path).unwrap();
    ["w", "b"]
        .map(|name| model.graph.initializers[name].to_f32().unwrap().into_iter().flat_map(f32::to_le_bytes).collect())
}

#[test]
fn a_waterbirds_style_folder_is_repaired_and_the_written_file_gives_the_reported_figures() {
    let stage = Stage::new();
    let settings = RepairSettings::default().with_edit(Edit::Erase);
    let outcome = stage.repair_with(&RepairOptions::default().with_settings(settings)).unwrap();
    let done = &outcome.result.repair;
    assert_eq!((done.class.1.as_str(), done.samples), ("redbird", [80, 40, 40]));
    assert!(done.suspects.iter().any(|s| s.neuron == 2), "{:?}", done.suspects);
    assert_eq!(done.tried.iter().map(|t| t.edit).collect::<Vec<_>>(), Edit::ALL);
    let worst = done.comparison.worst_group.as_ref().unwrap();
    assert!(worst.after.1.value > worst.before.1.value + 0.2, "{worst:?}");

    // A fresh opening of the file, with what was written beside it.
    let fresh = open(edited(&outcome));
    assert_eq!(fresh.class_names().unwrap(), ["redbird", "greenbird"]);
    let settings = ScanSettings::default().with_split("test".to_owned());
    let found = pellucid::scan(&fresh, stage.at("birds"), &settings, &Silent).unwrap().features().unwrap();
    let right: Vec<bool> =
        found.logits.rows().into_iter().zip(&found.labels).map(|(z, y)| usize::from(z[1] > z[0]) == *y).collect();
    let overall = done.comparison.overall.after;
    assert_eq!((right.iter().filter(|r| **r).count(), right.len()), (overall.count, overall.total));
    for group in &done.comparison.groups {
        let members = found.groups.iter().zip(&right).filter(|(g, _)| **g == Some(group.id));
        let right = members.clone().filter(|(_, right)| **right).count();
        assert_eq!((right, members.count()), (group.change.after.count, group.change.after.total), "{}", group.name);
    }
    assert!(Model::read(edited(&outcome)).unwrap().metadata()["pellucid.repair"].contains("neurons"));
    for file in ["report.html", "repair.json", "manifest.json"] {
        assert!(outcome.directory.join(file).is_file(), "{file}");
    }
}

#[test]
fn views_are_trained_on_beside_the_pictures_and_cached() {
    let stage = Stage::new();
    let with = |views| stage.repair_with(&quick(RepairOptions::default().with_views(views))).unwrap();
    let plain = with(0).result.repair;
    let cached = |stage: &Stage| {
        let names = std::fs::read_dir(stage.at("runs/.cache")).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name != "locks").count()
    };
    assert_eq!(cached(&stage), 1);
    stage.forget();
    let viewed = with(2).result.repair;
    assert_eq!((viewed.samples, viewed.views), (plain.samples, 2));
    assert_eq!(cached(&stage), 3, "a folder for the whole pictures and one for each view");
    // Neurons come from validation, which is seen whole.
    assert_eq!(viewed.suspects, plain.suspects);
    assert_ne!(viewed.comparison.overall.after, plain.comparison.overall.before, "nothing was edited");
    assert!(stage.report().contains("with 2\u{A0}random views of each"));
}

#[test]
fn the_report_shows_groups_and_suspects_and_names_no_file() {
    let stage = Stage::new();
    let settings = stage.settings().with_pictures(1);
    let options = quick(RepairOptions::default());
    let made = repair(&open(stage.at("model.onnx")), stage.at("birds"), &settings, &options, &Silent).unwrap();
    let done = &made.result.repair;
    let mistakes: usize = done.clusters.iter().map(|c| c.samples).sum();
    assert!(mistakes > 0 && done.clusters.iter().all(|c| c.active <= c.samples && !c.examples.is_empty()));
    assert_eq!(made.result.pictures.len(), 1);
    assert_eq!(made.result.pictures[0].neuron, done.suspects[0].neuron);
    assert_eq!(done.suspects[0].sensitivity, None, "two classes have no score");
    made.write_run(&stage.run(), None).unwrap();
    let page = stage.report();
    for part in ["Mistakes that go together", "With the suspects active", "What the suspects see", "<img"] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(!page.contains(".Bird/"), "a file is named");

    stage.forget();
    let plain = stage.run().with_report(ReportOptions::default().with_pictures(false));
    made.write_run(&plain, None).unwrap();
    let page = stage.report();
    assert!(!page.contains("<img") && !page.contains(".Bird/") && page.contains("Mistakes that go together"));
}

#[test]
fn a_patch_makes_the_same_file_and_taking_it_back_gives_the_bytes_of_the_layer() {
    let stage = Stage::new();
    let (outcome, model) = (stage.repair(), stage.at("model.onnx"));
    let (applied, reverted, again) = (stage.at("applied.onnx"), stage.at("reverted.onnx"), stage.at("again.onnx"));
    patch_model(&model, patch(&outcome), &applied, false, &Budget::default()).unwrap();
    assert_eq!(std::fs::read(&applied).unwrap(), std::fs::read(edited(&outcome)).unwrap());
    assert_ne!(constants(&applied), constants(&model));
    patch_model(&applied, patch(&outcome), &reverted, true, &Budget::default()).unwrap();
    assert_eq!(constants(&reverted), constants(&model));
    assert!(!Model::read(&reverted).unwrap().metadata().contains_key("pellucid.repair"));
    patch_model(&reverted, patch(&outcome), &again, false, &Budget::default()).unwrap();
    assert_eq!(constants(&again), constants(&applied));
    let summary = patch_summary(patch(&outcome), &Budget::default()).unwrap();
    assert_eq!((summary.made_for.as_str(), summary.tensors[0].shape.as_slice()), ("model.onnx", &[2, 4][..]));
}

#[test]
fn a_patch_is_refused_for_any_model_but_its_own_with_both_hashes() {
    let stage = Stage::new();
    let (outcome, out) = (stage.repair(), stage.at("x.onnx"));
    let refused = |model: &Path, revert: bool| {
        let error = patch_model(model, patch(&outcome), &out, revert, &Budget::default()).unwrap_err();
        assert!(matches!(error, Error::Patch(PatchError::OtherModel { .. })), "{error}");
        error.to_string()
    };
    stage.model("other.onnx", [-1.0, 1.5]);
    let message = refused(&stage.at("other.onnx"), false);
    let hash = |model: &str| blake3::hash(&constants(&stage.at(model))[1]).to_hex()[..16].to_owned();
    assert!(message.contains(&hash("model.onnx")) && message.contains(&hash("other.onnx")), "{message}");
    assert!(message.contains("made for model.onnx"), "{message}");
    assert!(refused(edited(&outcome), false).contains("already holds the result"));
    assert!(refused(&stage.at("model.onnx"), true).contains("already holds the result"));
    assert!(!out.exists());
    for content in [&b"not one"[..], b""] {
        std::fs::write(stage.at("p.safetensors"), content).unwrap();
        let error = patch_model(&stage.at("model.onnx"), &stage.at("p.safetensors"), &out, false, &Budget::default())
            .unwrap_err();
        assert!(matches!(error, Error::Patch(PatchError::Read { .. })), "{error}");
    }
}

#[test]
fn a_damaged_patch_is_refused() {
    let stage = Stage::new();
    let outcome = stage.repair();
    let mut bytes = std::fs::read(patch(&outcome)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(stage.at("p.safetensors"), bytes).unwrap();
    let error = patch_model(
        &stage.at("model.onnx"),
        &stage.at("p.safetensors"),
        &stage.at("x.onnx"),
        false,
        &Budget::default(),
    );
    assert!(error.unwrap_err().to_string().contains("damaged"));
}

#[test]
fn missing_splits_are_made_and_said() {
    for (parts, told) in [
        ([0, 0, 2], &["no validation split"][..]),
        ([0, 1, 1], &["no test split"]),
        ([0, 0, 0], &["no validation split", "no test split"]),
    ] {
        let stage = Stage::new();
        stage.pictures(|_, split, _| *split = parts[*split]);
        // An edit that needs no cue: what is drawn of so few pictures may hold none.
        let settings = RepairSettings::default().with_edit(Some(Edit::ClassBalanced));
        let options = quick(RepairOptions::default().with_settings(settings));
        let done = stage.repair_with(&options).unwrap().result.repair;
        assert!(told.iter().all(|t| done.warnings.iter().any(|w| w.contains(t))), "{:?}", done.warnings);
        assert_eq!(done.samples.iter().sum::<usize>(), 160);
        assert!(done.samples.iter().all(|n| *n > 0), "{:?}", done.samples);
    }
}

#[test]
fn a_class_that_the_validation_split_lacks_is_refused_by_name() {
    let stage = Stage::new();
    stage.pictures(|class, split, _| *class = if *split == 1 { 1 } else { *class });
    let options = quick(RepairOptions::default()).with_class("redbird".to_owned());
    let error = stage.repair_with(&options).unwrap_err();
    assert!(matches!(*error, Error::Repair(RepairError::ClassAbsent { split: "validation", .. })), "{error}");
    assert!(error.to_string().contains("redbird"), "{error}");
    assert!(!stage.at("runs/run/manifest.json").exists(), "an unfinished run must not look finished");
}

#[test]
fn a_group_of_one_picture_is_measured_and_breaks_nothing() {
    let stage = Stage::new();
    let found = std::cell::Cell::new(false);
    // A third place with one test picture.
    stage.pictures(|class, split, place| {
        if *split == 2 && *class == 0 && !found.replace(true) {
            *place = 2;
        }
    });
    let done = stage.repair_with(&RepairOptions::default()).unwrap().result.repair;
    let lone = done.comparison.groups.iter().find(|g| g.change.after.total == 1).unwrap();
    assert!(lone.name.contains("place 2"), "{}", lone.name);
    assert!(done.tried.iter().all(|t| t.test.worst_group.unwrap().value.is_finite()));
}

#[test]
fn a_bad_list_and_a_bad_class_are_refused_in_words() {
    let stage = Stage::new();
    let with = |neurons: Vec<usize>| {
        let settings =
            RepairSettings::default().with_neurons(neurons).with_route(Route::Named).with_edit(Some(Edit::Zero));
        let options = quick(RepairOptions::default().with_settings(settings).with_class("redbird".to_owned()));
        match *stage.repair_with(&options).unwrap_err() {
            Error::Repair(error) => error,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(with(vec![]), RepairError::NoNeurons));
    assert!(matches!(with(vec![9]), RepairError::Neuron { neuron: 9, features: 4 }));
    assert!(matches!(with(vec![0, 1, 2, 3]), RepairError::AllNeurons(4)));
    let unknown = RepairOptions::default().with_class("swan".to_owned());
    let error = stage.repair_with(&unknown).unwrap_err().to_string();
    assert!(error.contains("swan") && error.contains("redbird"), "{error}");
}

#[test]
fn the_model_itself_is_never_written_over() {
    let stage = Stage::new();
    let model = stage.at("model.onnx");
    let before = std::fs::read(&model).unwrap();
    let error = stage.repair_to(&quick(RepairOptions::default()), Some(&model)).unwrap_err();
    assert!(matches!(*error, Error::OverModel { .. }), "{error}");
    let patch = stage.repair().patch.unwrap();
    let error = patch_model(&model, &patch, &stage.at("birds/../model.onnx"), false, &Budget::default()).unwrap_err();
    assert!(matches!(error, Error::OverModel { .. }), "{error}");
    assert_eq!(std::fs::read(&model).unwrap(), before);
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_is_done() {
    let stage = Stage::new();
    // A file where a folder is needed: refused whoever runs the test, as a read-only folder would not be for root.
    std::fs::write(stage.at("closed"), b"").unwrap();
    for out in [stage.at("closed/edited.onnx"), stage.at("nowhere/edited.onnx"), stage.at("birds")] {
        let error = stage.repair_to(&quick(RepairOptions::default()), Some(&out)).unwrap_err();
        assert!(matches!(&*error, Error::Write { path, .. } if *path == out), "{error}");
        assert!(!stage.at("runs").exists());
    }
}

#[test]
fn the_edited_model_is_also_written_where_asked_with_its_preprocessing() {
    let stage = Stage::new();
    std::fs::create_dir(stage.at("shipped")).unwrap();
    let out = stage.at("shipped/edited.onnx");
    let outcome = stage.repair_to(&quick(RepairOptions::default()), Some(&out)).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(edited(&outcome)).unwrap());
    let (original, shipped) = (open(stage.at("model.onnx")), open(out));
    let (original, shipped) = (original.preprocessing(), shipped.preprocessing());
    assert_eq!((original.width, original.scale, original.mean), (shipped.width, shipped.scale, shipped.mean));
}
