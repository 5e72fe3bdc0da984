//! A network that the program runs itself is studied as the same network in an ONNX file is, as far as it offers what is needed.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

mod common;

use common::{BIAS, KERNEL, NEURONS, PICTURES, Stage, WEIGHT, picture};
use ndarray::{Array1, Array2, Array4, ArrayD, Axis, Ix4};
use pellucid::attribution::{AttributionError, AttributionSettings};
use pellucid::engine::SessionOptions;
use pellucid::network::{
    DecisionLayer, FeatureMap, Forward, Gradient, MapLayout, Network, NetworkError, Offer, Pooling, Score, Taps,
};
use pellucid::{Classifier, Data, Error, OpenOptions, Question, ScanSettings, Silent};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The stage's network, written out: a 1×1 convolution, its mean, a linear layer.
#[derive(Debug)]
struct Written {
    layer: DecisionLayer,
    map: FeatureMap,
    offers: Vec<Offer>,
    passes: AtomicUsize,
}

impl Written {
    fn offering(offers: &[Offer]) -> Self {
        let weight = Array2::from_shape_vec((NEURONS, 2), WEIGHT.to_vec()).unwrap().t().to_owned();
        let layer = DecisionLayer { weight, bias: Array1::from_vec(BIAS.to_vec()) };
        let (value, shape) = ("map".to_owned(), vec![1, NEURONS, 4, 4]);
        let map = FeatureMap {
            value,
            shape,
            layout: MapLayout::ChannelsFirst,
            grid: [4, 4],
            first: 0,
            pooling: Pooling::Mean,
        };
        Self { layer, map, offers: offers.to_vec(), passes: AtomicUsize::new(0) }
    }

    fn map_of(&self, inputs: &ArrayD<f32>) -> Array4<f32> {
        let inputs = inputs.view().into_dimensionality::<Ix4>().unwrap();
        let (n, _, h, w) = inputs.dim();
        Array4::from_shape_fn((n, NEURONS, h, w), |(i, j, y, x)| {
            (0..3).map(|c| KERNEL[3 * j + c] * inputs[[i, c, y, x]]).sum()
        })
    }
}

impl Network for Written {
    fn name(&self) -> String {
        "the test's network".to_owned()
    }

    fn fingerprint(&self) -> String {
        "5eed".to_owned()
    }

    fn layer(&self) -> &DecisionLayer {
        &self.layer
    }

    fn input_shape(&self) -> Vec<usize> {
        vec![3, 4, 4]
    }

    fn feature_map(&self) -> Option<&FeatureMap> {
        self.offers(Offer::FeatureMap).then_some(&self.map)
    }

    fn offers(&self, what: Offer) -> bool {
        self.offers.contains(&what)
    }

    fn forward(&self, inputs: &ArrayD<f32>, taps: Taps) -> Result<Forward, NetworkError> {
        self.passes.fetch_add(1, Ordering::SeqCst);
        let map = self.map_of(inputs);
        let features = map.mean_axis(Axis(3)).unwrap().mean_axis(Axis(2)).unwrap();
        let map = (taps == Taps::WithMap).then(|| map.into_dyn());
        Ok(Forward { logits: self.layer.logits(&features), features, map })
    }

    fn gradient(&self, inputs: &ArrayD<f32>, score: &Score) -> Result<Gradient, NetworkError> {
        let scores = score.read(&self.forward(inputs, Taps::Vectors)?);
        let by_feature = self.layer.weight.t().dot(&score.classes) + &score.neurons;
        let map = self.map_of(inputs);
        let places = (map.dim().2 * map.dim().3) as f32;
        let by_map = Array4::from_shape_fn(map.dim(), |(_, j, _, _)| by_feature[j] / places);
        let input = ArrayD::from_shape_fn(inputs.raw_dim(), |at| {
            (0..NEURONS).map(|j| KERNEL[3 * j + at[1]] * by_map[[at[0], j, at[2], at[3]]]).sum()
        });
        Ok(Gradient { scores, input, map: Some([map.into_dyn(), by_map.into_dyn()]) })
    }
}

fn open(stage: &Stage, network: Arc<Written>) -> Classifier {
    Classifier::from_network(network, stage.open().preprocessing().clone(), &named()).unwrap()
}

fn named() -> OpenOptions {
    OpenOptions::default().with_class_names(vec!["bright".to_owned(), "dark".to_owned()])
}

#[test]
fn a_live_network_is_scanned_debugged_and_attributed_as_its_onnx_file_is() {
    let stage = Stage::new();
    let live = open(&stage, Arc::new(Written::offering(&[Offer::FeatureMap, Offer::Gradient])));
    let file = Classifier::open(stage.at("model.onnx"), &named()).unwrap();
    let found = [&live, &file].map(|c| pellucid::debug(c, stage.at("data"), &stage.settings(), &Silent).unwrap());
    let [a, b] = [&found[0].diagnosis, &found[1].diagnosis];
    assert_eq!((&a.verdict, &a.summary), (&b.verdict, &b.summary));
    assert_eq!(a.findings.len(), b.findings.len());
    let settings = AttributionSettings::default().with_checked(false);
    for question in [Question::Answer, Question::Class("dark".to_owned()), Question::Neuron(2)] {
        let picture = picture(4).1;
        let [a, b] = [&live, &file].map(|c| pellucid::attribute(c, &picture, &question, &[], &settings).unwrap());
        assert_eq!((a.subject, &a.title, a.maps.len()), (b.subject, &b.title, b.maps.len()));
        for (a, b) in a.maps.iter().zip(&b.maps) {
            let (a, b) = (&a.map, &b.map);
            let size = b.values.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
            assert!(a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() <= 1e-5 * size), "{}", a.id);
        }
    }
    // What speaks against a class is its score turned round: a gradient's sum changes its sign.
    let of = |question| {
        let found = pellucid::attribute(&file, &picture(4).1, &question, &["integrated-gradients"], &settings).unwrap();
        found.maps[0].map.values.sum()
    };
    let (its, against) = (of(Question::Class("dark".to_owned())), of(Question::Against("dark".to_owned())));
    assert!(its.abs() > 0.1 && (its + against).abs() < 1e-4 * its.abs(), "{its} {against}");
    let [a, b] = [&live, &file].map(|c| pellucid::why(c, &picture(4).1, NEURONS).unwrap());
    assert_eq!(a.classes[0].1, b.classes[0].1);
    assert!((a.margin - b.margin).abs() < 1e-5 && a.supporting[0].map.is_some() && a.note.is_none());
}

#[test]
fn what_a_network_does_not_offer_is_said_and_the_rest_goes_on() {
    let stage = Stage::new();
    let bare = open(&stage, Arc::new(Written::offering(&[])));
    assert!(pellucid::debug(&bare, stage.at("data"), &stage.settings(), &Silent).is_ok());
    let why = pellucid::why(&bare, &picture(4).1, NEURONS).unwrap();
    assert!(why.supporting.iter().all(|e| e.map.is_none()) && why.note.is_some());
    let ask = |c: &Classifier, methods: &[&str]| {
        pellucid::attribute(c, &picture(4).1, &Question::Answer, methods, &AttributionSettings::default())
    };
    let refused = ask(&bare, &[]).unwrap_err();
    assert!(matches!(refused, Error::Attribution(AttributionError::Needs { what: Offer::Gradient, .. })), "{refused}");
    let vectors = open(&stage, Arc::new(Written::offering(&[Offer::Gradient])));
    let refused = ask(&vectors, &["grad-cam"]).unwrap_err().to_string();
    assert!(
        refused.contains("offers no feature map, which grad-cam needs") && refused.contains("smooth-grad"),
        "{refused}"
    );
    let checked = ask(&vectors, &["integrated-gradients"]).unwrap();
    assert!(checked.maps[0].games.is_some() && checked.maps[0].map.figure("randomization_test").is_none());
    let settings = pellucid::PictureSettings::default().with_neurons(vec![0]);
    let refused = pellucid::picture(&bare, None, &settings, &Silent).unwrap_err();
    assert!(matches!(refused, Error::NeedsOnnx { .. }), "{refused}");
}

#[test]
fn a_network_whose_logits_are_not_linear_in_its_features_is_refused() {
    let stage = Stage::new();
    let mut network = Written::offering(&[]);
    network.map.shape = vec![];
    let mut other = Written::offering(&[]);
    other.layer.bias[0] += 1.0;
    /// Says another decision layer than it uses.
    #[derive(Debug)]
    struct Lying(Written, DecisionLayer);
    impl Network for Lying {
        fn name(&self) -> String {
            self.0.name()
        }
        fn fingerprint(&self) -> String {
            self.0.fingerprint()
        }
        fn layer(&self) -> &DecisionLayer {
            &self.1
        }
        fn input_shape(&self) -> Vec<usize> {
            self.0.input_shape()
        }
        fn offers(&self, _: Offer) -> bool {
            false
        }
        fn forward(&self, inputs: &ArrayD<f32>, taps: Taps) -> Result<Forward, NetworkError> {
            self.0.forward(inputs, taps)
        }
    }
    let lying = Arc::new(Lying(network, other.layer));
    let refused =
        Classifier::from_network(lying, stage.open().preprocessing().clone(), &OpenOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("not W f + b"), "{refused}");
}

#[test]
fn asking_again_is_one_pass() {
    let stage = Stage::new();
    let network = Arc::new(Written::offering(&[Offer::FeatureMap, Offer::Gradient]));
    let live = open(&stage, network.clone());
    let before = network.passes.load(Ordering::SeqCst);
    pellucid::why(&live, &picture(4).1, NEURONS).unwrap();
    assert_eq!(network.passes.load(Ordering::SeqCst) - before, 1);
}

#[test]
fn threads_share_an_open_classifier_and_get_the_answers_of_one() {
    let stage = Stage::new();
    let options = OpenOptions::default().with_session(SessionOptions { threads: 1, ..SessionOptions::default() });
    let classifier = Classifier::open(stage.at("model.onnx"), &options).unwrap();
    let settings = AttributionSettings::default();
    let ask = |i: usize| {
        let question = Question::Neuron(i % NEURONS);
        let found = pellucid::attribute(&classifier, &picture(i).1, &question, &[], &settings).unwrap();
        let why = pellucid::why(&classifier, &picture(i).1, NEURONS).unwrap();
        (serde_json::to_string(&found).unwrap(), serde_json::to_string(&why).unwrap())
    };
    let alone: Vec<_> = (0..8).map(ask).collect();
    let together = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|i| scope.spawn(move || ask(i))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(alone, together);
}

#[test]
fn pictures_prepared_inputs_and_files_give_one_diagnosis() {
    use pellucid::data::{Content, Labelled};
    let stage = Stage::new();
    let classifier = stage.open();
    // In the order of the folder's files.
    let mut named: Vec<(String, usize)> = (0..PICTURES).map(|i| (format!("{}/{i:03}.png", picture(i).0), i)).collect();
    named.sort();
    let labelled = |(name, i): &(String, usize)| Labelled::new(name, picture(*i).0);
    let pictures: Data = named.iter().map(|one| (labelled(one), picture(one.1).1)).collect();
    let prepared: Data =
        named.iter().map(|one| (labelled(one), classifier.preprocessing().run(&picture(one.1).1))).collect();
    let wide = |i: usize| {
        let picture = picture(i).1;
        let levels: Vec<u16> = picture.data().iter().map(|&level| u16::from(level) << 8 | 7).collect();
        Content::from(pellucid::data::Picture::from_rgb16(4, 4, &levels).unwrap())
    };
    let sixteen: Data = named.iter().map(|one| (labelled(one), wide(one.1))).collect();
    let settings = pellucid::DebugSettings::default();
    let debug = |data: Data| pellucid::debug(&classifier, data, &settings, &Silent).unwrap().diagnosis;
    let files = debug(stage.at("data").into());
    for memory in [debug(pictures), debug(prepared), debug(sixteen)] {
        assert_eq!((&memory.verdict, &memory.summary), (&files.verdict, &files.summary));
        assert_eq!(memory.findings, files.findings);
    }
}

#[test]
fn a_memory_set_has_splits_groups_and_units_and_a_report() {
    use pellucid::data::Labelled;
    let stage = Stage::new();
    let one = |i: usize| {
        let (class, picture) = picture(i);
        let labelled = Labelled::new(format!("{i}"), class).in_split(if i < 200 { "train" } else { "test" });
        (labelled.in_group(format!("g{}", i % 3)).of_unit(format!("u{}", i / 10)), picture)
    };
    let settings = pellucid::DebugSettings::default().with_scan(ScanSettings::default().with_split("test".to_owned()));
    let found = pellucid::debug(&stage.open(), (0..PICTURES).map(one).collect::<Data>(), &settings, &Silent).unwrap();
    let data = &found.scan().data;
    assert_eq!((data.len(), data.groups.len(), data.samples[0].unit.as_deref()), (100, 3, Some("u20")));
    let written = found.write_run(&stage.run()).unwrap();
    let page = std::fs::read_to_string(written.report.unwrap()).unwrap();
    assert!(page.contains("data:image/jpeg") && written.directory.join("diagnosis.json").is_file());
}

#[test]
fn a_prepared_input_of_another_shape_is_a_warning_that_names_it() {
    use pellucid::data::{Content, Labelled};
    let stage = Stage::new();
    let good = Content::from(picture(0).1);
    let bad = Content::from(ndarray::Array3::<f32>::zeros((3, 5, 5)));
    let data = Data::from(vec![
        (Labelled::new("good", "bright"), good),
        (Labelled::new("also good", "dark"), picture(1).1.into()),
        (Labelled::new("odd", "dark"), bad.clone()),
    ]);
    let scan = pellucid::scan(&stage.open(), data, &ScanSettings::default(), &Silent).unwrap();
    assert_eq!(scan.summary.samples, 2);
    let said: Vec<String> = scan.warnings.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|w| w.contains("odd") && w.contains("[3, 5, 5]")), "{said:?}");
    assert!(pellucid::why(&stage.open(), bad, 1).is_err());
}
