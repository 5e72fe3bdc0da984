//! Steps that are kept: an interrupted trajectory goes on from them, and one that is not what was written is never used.

#![allow(clippy::unwrap_used)]

use pellucid_diffusion::trajectory::{Trajectory, TrajectorySettings};
use pellucid_diffusion::{Pipeline, PipelineOptions, Prompt, Timesteps};
use pellucid_guard::seal;
use pellucid_runtime::progress::Progress;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What was said of the cache.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn start(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn warn(&self, words: &str) {
        self.0.lock().unwrap().push(words.to_owned());
    }
    fn finish(&self) {}
}

/// A trajectory of three steps with its cache.
struct Kept {
    pipeline: Pipeline,
    prompt: Prompt,
    folder: tempfile::TempDir,
    whole: Trajectory,
}

impl Kept {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let options = PipelineOptions { library: Some(root.join(".runtime")), ..PipelineOptions::default() };
        let mut pipeline = Pipeline::open(root.join("zoo/models/emoji_diffusion"), &options).unwrap();
        let prompt = pipeline.prompt("a frog on white").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let whole = sampled(&mut pipeline, &prompt, folder.path(), &Heard::default());
        assert_eq!((whole.reused, whole.steps.len()), (0, 3));
        Self { pipeline, prompt, folder, whole }
    }

    fn steps(&self) -> Vec<PathBuf> {
        let cache = std::fs::read_dir(self.folder.path()).unwrap().next().unwrap().unwrap().path();
        seal::list(&cache, "safetensors").unwrap()
    }

    /// Samples again: steps reused, and what was said. The result must be the undisturbed one, and so must the cache.
    fn again(&mut self) -> (usize, Vec<String>) {
        let heard = Heard::default();
        let again = sampled(&mut self.pipeline, &self.prompt, self.folder.path(), &heard);
        assert_eq!(
            (&again.picture, &again.last, &again.steps),
            (&self.whole.picture, &self.whole.last, &self.whole.steps)
        );
        let heard = heard.0.into_inner().unwrap();
        assert_eq!(heard, again.remade);
        (again.reused, heard)
    }

    /// Puts what `change` makes of the second step's arrays in its place, sealed as if it had been written so.
    fn replace(&self, change: impl Fn(&str, Array) -> Option<Array>) {
        let path = self.steps().remove(1);
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let arrays: Vec<(String, Array)> = tensors
            .tensors()
            .into_iter()
            .filter_map(|(n, v)| {
                let array = change(&n, (v.dtype(), v.shape().to_vec(), v.data().to_vec()))?;
                Some((n, array))
            })
            .collect();
        let views = arrays.iter().map(|(n, (t, s, d))| (n.clone(), TensorView::new(*t, s.clone(), d).unwrap()));
        let file = safetensors::serialize(views, None).unwrap();
        seal::write(path.parent().unwrap(), "step-0001", "safetensors", &file).unwrap();
    }
}

type Array = (Dtype, Vec<usize>, Vec<u8>);

fn sampled(pipeline: &mut Pipeline, prompt: &Prompt, cache: &Path, heard: &Heard) -> Trajectory {
    let timesteps = Timesteps::Uniform { steps: 3, spacing: None };
    let settings = TrajectorySettings { timesteps, guidance: 3.0, seed: 1, ..TrajectorySettings::default() };
    Trajectory::compute(pipeline, prompt, &settings, Some(cache), heard).unwrap()
}

#[test]
fn an_interrupted_trajectory_goes_on_from_its_cache_to_the_same_picture() {
    let mut kept = Kept::new();
    assert_eq!(kept.again(), (3, Vec::new()));
    let steps = kept.steps();
    std::fs::remove_file(&steps[1]).unwrap();
    std::fs::write(&steps[2], b"half a file").unwrap();
    let (reused, said) = kept.again();
    assert!(reused == 1 && said.len() == 1 && said[0].contains("step-0002."), "{reused} {said:?}");
    assert_eq!(kept.again(), (3, Vec::new()));
}

#[test]
fn sixteen_flipped_bits_in_kept_steps_are_all_found_and_change_nothing() {
    let mut kept = Kept::new();
    for flip in 0..16 {
        let path = kept.steps().remove(flip % 3);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let bit = (flip * 7919 + 13) * 977 % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let (reused, said) = kept.again();
        assert!(reused == 2 && said.len() == 1 && said[0].contains("damaged"), "bit {bit}: {reused} {said:?}");
        assert!(std::fs::read(&path).unwrap() == whole, "bit {bit} is still in the cache");
    }
}

#[test]
fn a_step_of_another_shape_or_type_is_said_and_computed_again() {
    let mut kept = Kept::new();
    for field in ["latent", "unconditional", "conditional", "clean", "decoded"] {
        // Smaller.
        kept.replace(|name, (kind, shape, data)| {
            let small = || (kind, shape.iter().map(|_| 1).collect(), data[..4].to_vec());
            Some(if name == field { small() } else { (kind, shape.clone(), data.clone()) })
        });
        let (reused, said) = kept.again();
        assert!(reused == 2 && said.len() == 1 && said[0].contains("step-0001"), "{field}: {reused} {said:?}");
        // Absent.
        kept.replace(|name, array| (name != field).then_some(array));
        let (reused, said) = kept.again();
        assert!(reused == 2 && said[0].contains("lacks"), "{field}: {said:?}");
        // Another type of as many bytes.
        kept.replace(|name, (kind, shape, data)| Some((if name == field { Dtype::I32 } else { kind }, shape, data)));
        let (reused, said) = kept.again();
        assert!(reused == 2 && said[0].contains("expected F32"), "{field}: {said:?}");
        // Not a number.
        kept.replace(|name, (kind, shape, mut data)| {
            if name == field {
                data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            Some((kind, shape, data))
        });
        let (reused, said) = kept.again();
        assert!(reused == 2 && said[0].contains("not finite"), "{field}: {said:?}");
        assert_eq!(kept.again(), (3, Vec::new()), "{field}");
    }
}

#[test]
fn a_step_that_is_no_safetensors_file_is_said_and_computed_again() {
    let mut kept = Kept::new();
    let folder = kept.steps()[1].parent().unwrap().to_path_buf();
    seal::write(&folder, "step-0001", "safetensors", b"no such file").unwrap();
    let (reused, said) = kept.again();
    assert!(reused == 2 && said[0].contains("no safetensors file"), "{said:?}");
}
