//! Guides: parity of both CLIP towers and the tokeniser with `transformers`, the zoo's own guides, and kinship.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

use pellucid_classifier::feature_visualization::mask::heat_mask;
use pellucid_classifier::guide::{Guide, GuideOptions, cosine, words::PromptBank};
use pellucid_graph::{ElementType, Model, Node, Value, grad};
use pellucid_runtime::Runtime;
use pellucid_vision::picture::Picture;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn zoo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zoo").join(path)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (chunks, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
    chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn open(guide: &str, studied: &str) -> Result<Guide, pellucid_classifier::guide::GuideError> {
    open_with(guide, studied, GuideOptions::default())
}

fn open_with(
    guide: &str,
    studied: &str,
    options: GuideOptions,
) -> Result<Guide, pellucid_classifier::guide::GuideError> {
    let runtime = Runtime::load(None).expect("ONNX Runtime (make setup)");
    let model = Model::read(zoo("models").join(studied)).unwrap();
    Guide::open(&runtime, &zoo("guides").join(guide), &model, &options)
}

const SQUEEZENET: &str = "squeezenet1_1/squeezenet1_1.onnx";
const LITE0: &str = "efficientnet_lite0/efficientnet_lite0.onnx";

#[test]
fn both_towers_and_the_tokeniser_equal_transformers() {
    // One template that is the text itself, so that the bank changes nothing.
    let bank = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bank.path(), "{}\n").unwrap();
    let options = GuideOptions { templates: Some(bank.path().to_owned()), ..GuideOptions::default() };
    let mut clip = open_with("tiny_clip", SQUEEZENET, options).unwrap();
    let bytes = std::fs::read(zoo("guides/tiny_clip/reference.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let texts = std::fs::read_to_string(zoo("guides/tiny_clip/texts.txt")).unwrap();
    for (i, text) in texts.lines().enumerate() {
        let (found, expected) = (clip.text(text).unwrap(), floats(&reference, &format!("text.{i}")));
        assert!(found.len() == expected.len() && off(&found, &expected) < 1e-4, "'{text}': {}", off(&found, &expected));
    }
    let picture = Picture::open(zoo("guides/tiny_clip/picture.png"), &Default::default()).unwrap();
    let found = clip.pictures(&[picture]).unwrap();
    let expected = floats(&reference, "picture");
    let size = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(off(found.as_slice().unwrap(), &expected) < 1e-4 * size.max(1.0), "{found} {expected:?}");
}

/// Both towers in one file, with the logits of every pair, as `CLIPModel` is exported.
fn in_one_file(folder: &Path) {
    let read = |name: &str| grad::prepare(&Model::read(zoo("guides/tiny_clip").join(name)).unwrap(), &[]).unwrap();
    let mut both = grad::join(&read("vision_model.onnx"), &read("text_model.onnx"), "text.", &[]).unwrap();
    let graph = &mut both.graph;
    for input in ["input_ids", "attention_mask"] {
        if let Some(at) = graph.inputs.iter().position(|v| v.name() == format!("text.{input}")) {
            graph.nodes.insert(0, Node::new("Identity", &[input], &[&format!("text.{input}")]));
            graph.inputs[at] = Value::tensor(input, ElementType::I64, &[None, None]);
        }
    }
    graph.nodes.push(Node::new("Identity", &["text.text_embeds"], &["text_embeds"]));
    graph.nodes.push(Node::new("Transpose", &["text_embeds"], &["turned"]));
    graph.nodes.push(Node::new("MatMul", &["image_embeds", "turned"], &["logits_per_image"]));
    graph.outputs = ["logits_per_image", "text_embeds", "image_embeds"].map(Value::untyped).into();
    both.write(folder.join("model.onnx")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"] {
        std::fs::copy(zoo("guides/tiny_clip").join(name), folder.join(name)).unwrap();
    }
}

#[test]
fn a_clip_in_one_file_is_the_clip_in_two() {
    let folder = tempfile::TempDir::new().unwrap();
    in_one_file(folder.path());
    let mut one = open(folder.path().to_str().unwrap(), SQUEEZENET).unwrap();
    let mut two = open("tiny_clip", SQUEEZENET).unwrap();
    let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close(&one.text("balloon").unwrap(), &two.text("balloon").unwrap()));
    let picture = Picture::open(zoo("guides/tiny_clip/picture.png"), &Default::default()).unwrap();
    let [a, b] = [&mut one, &mut two].map(|clip| clip.pictures(std::slice::from_ref(&picture)).unwrap());
    assert!(close(a.as_slice().unwrap(), b.as_slice().unwrap()));
}

#[test]
fn the_zoos_guide_knows_class_names_and_tells_them_apart() {
    let mut guide = open("squeezenet1_1", LITE0).unwrap();
    let (zebra, balloon, horse) = (guide.text("zebra"), guide.text("balloon"), guide.text("sorrel"));
    let (zebra, balloon, horse) = (zebra.unwrap(), balloon.unwrap(), horse.unwrap());
    assert_eq!(zebra.len(), 512);
    assert!(cosine(&zebra, &horse) > cosine(&zebra, &balloon), "a zebra is more of a horse than of a balloon");
    guide.text("Food & Drink").unwrap();
}

#[test]
fn a_guide_made_of_the_studied_models_weights_is_refused() {
    for (guide, studied) in [
        ("squeezenet1_1", SQUEEZENET),
        ("efficientnet_lite0", LITE0),
        ("efficientnet_lite0", "efficientnet_lite0/emoji_watermark.onnx"),
    ] {
        let message = open(guide, studied).unwrap_err().to_string();
        assert!(message.contains("shares weights with the studied model"), "{guide} and {studied}: {message}");
    }
    open("efficientnet_lite0", SQUEEZENET).unwrap();
}

#[test]
fn a_name_that_is_unknown_is_never_the_nearest_one() {
    // Copied without the sentence encoder, which may be installed here.
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::create_dir_all(folder.path().join("minilm")).unwrap();
    for file in ["squeezenet1_1/map.safetensors", "minilm/texts.safetensors", "minilm/texts.txt", "templates.txt"] {
        let to = folder.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(zoo("guides").join(file), to).unwrap();
    }
    let text = std::fs::read_to_string(zoo("guides/squeezenet1_1/guide.json")).unwrap();
    let model = zoo("models").join(SQUEEZENET).canonicalize().unwrap();
    let text = text.replace("../../models/squeezenet1_1/squeezenet1_1.onnx", &model.display().to_string());
    std::fs::write(folder.path().join("squeezenet1_1/guide.json"), text).unwrap();
    let runtime = Runtime::load(None).unwrap();
    let studied = Model::read(zoo("models").join(LITE0)).unwrap();
    let mut guide =
        Guide::open(&runtime, &folder.path().join("squeezenet1_1"), &studied, &GuideOptions::default()).unwrap();
    guide.text("zebra").unwrap();
    let message = guide.text("zebras of the plain").unwrap_err().to_string();
    assert!(message.contains("'zebras of the plain'") && message.contains("not installed"), "{message}");
}

#[test]
fn the_templates_of_the_zoo_are_the_built_in_ones() {
    let bank = PromptBank::read(&zoo("guides/templates.txt")).unwrap();
    assert!(bank.has_templates_of(&PromptBank::default()));
}

#[test]
fn the_heat_mask_is_that_of_the_published_code_where_activations_are_positive() {
    let bytes = std::fs::read(zoo("golden/neuroinspect.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (maps, masks) = (floats(&file, "feature_map"), floats(&file, "heat_mask64"));
    for (picture, channel) in [(0, 3), (1, 5)] {
        let from = (picture * 8 + channel) * 49;
        let map = ndarray::ArrayView2::from_shape((7, 7), &maps[from..from + 49]).unwrap();
        let mask = heat_mask(map, 64, 64).unwrap();
        let expected = &masks[picture * 64 * 64..(picture + 1) * 64 * 64];
        let wrong = mask.iter().zip(expected).filter(|(a, b)| (*a - *b).abs() > 1e-6).count();
        // A pixel on the threshold may round to the other side.
        assert!(wrong <= 4, "picture {picture}: {wrong} pixels differ");
    }
}
