//! The maps as files: arrays in one `.npz`, and pictures whose names any file system takes.

use super::explain::Computed;
use super::file_name;
use crate::Error;
use crate::run::RunDirectory;
use ndarray::{Array2, Axis};
use pellucid_diffusion::picture;
use pellucid_runtime::Array;
use pellucid_saliency::render::{self, Alignment};
use pellucid_vision::picture::Picture;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Every array by name: `timesteps`, `latents`, `clean`, `decoded`, `rise`, `rise_identity`, `cam`, `recovery`, `settled`
/// (steps first), and `word_<number>_<word>` (steps × H × W, mean over layers).
pub(super) fn arrays(all: &Computed) -> BTreeMap<String, Array> {
    let steps = &all.trajectory.steps;
    let mut arrays = BTreeMap::new();
    let mut insert = |name: &str, parts: Vec<ndarray::ArrayD<f32>>| {
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        // Parts of other sizes (there are none) would be left out rather than end the run.
        if let Ok(stacked) = ndarray::stack(Axis(0), &views) {
            arrays.insert(name.to_owned(), Array::F32(stacked));
        }
    };
    insert("latents", steps.iter().map(|s| s.latent.index_axis(Axis(0), 0).to_owned().into_dyn()).collect());
    insert("clean", steps.iter().map(|s| s.clean.index_axis(Axis(0), 0).to_owned().into_dyn()).collect());
    insert("decoded", steps.iter().map(|s| s.decoded.clone().into_dyn()).collect());
    insert("recovery", all.recovery.maps.iter().map(|m| m.clone().into_dyn()).collect());
    if !all.rise.is_empty() {
        insert("rise", all.rise.iter().map(|r| r.map.clone().into_dyn()).collect());
        insert("rise_identity", all.rise.iter().map(|r| r.identity.clone().into_dyn()).collect());
    }
    let size = all.recovery.settled.dim();
    let filled = |m: &Option<Array2<f32>>| m.clone().unwrap_or_else(|| Array2::zeros(size)).into_dyn();
    if !all.cam.is_empty() {
        insert("cam", all.cam.iter().map(|c| filled(&c.overall)).collect());
    }
    if let Some(words) = &all.words {
        for (k, word) in words.words.iter().enumerate() {
            let maps = (0..steps.len()).map(|at| words.mean(at, k, size).into_dyn()).collect();
            insert(&format!("word_{}_{}", k + 1, file_name(word)), maps);
        }
    }
    arrays.insert("settled".to_owned(), Array::F32(all.recovery.settled.clone().into_dyn()));
    let timesteps: Vec<i64> = steps.iter().map(|s| s.t as i64).collect();
    arrays.insert("timesteps".to_owned(), Array::I64(ndarray::Array1::from(timesteps).into_dyn()));
    arrays
}

/// `picture.png`, and for every step its x̂0 and the maps drawn on it; gives the files' names.
pub(super) fn pictures(directory: &RunDirectory, all: &Computed) -> Result<Vec<String>, Error> {
    let folder = directory.file("pictures");
    std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    let write = |name: String, shown: &Picture| directory.write_bytes(&format!("pictures/{name}"), &shown.to_png()?);
    let mut files = vec![write("picture.png".to_owned(), &enlarged(&picture(all.trajectory.picture.view())))?];
    let of_steps = all.trajectory.steps.par_iter().enumerate().map(|(at, step)| {
        let mut files = Vec::new();
        let under = enlarged(&picture(step.decoded.view()));
        let number = format!("step-{:03}", at + 1);
        files.push(write(format!("{number}-clean.png"), &under)?);
        let draw = |map: &Array2<f32>| render::render(&under, map.view(), Alignment::Centres, 0.75);
        if let Some(shown) = all.rise.get(at).and_then(|r| draw(&r.map)) {
            files.push(write(format!("{number}-rise.png"), &shown)?);
        }
        if let Some(shown) = all.cam.get(at).and_then(|c| draw(c.overall.as_ref()?)) {
            files.push(write(format!("{number}-cam.png"), &shown)?);
        }
        let Some(words) = &all.words else { return Ok(files) };
        for (k, word) in words.words.iter().enumerate() {
            if let Some(shown) = draw(&words.mean(at, k, all.recovery.settled.dim())) {
                files.push(write(format!("{number}-word-{}-{}.png", k + 1, file_name(word)), &shown)?);
            }
        }
        Ok::<_, Error>(files)
    });
    files.extend(of_steps.collect::<Result<Vec<_>, _>>()?.into_iter().flatten());
    Ok(files)
}

/// Small pictures at a multiple of their size, so that they can be looked at.
fn enlarged(small: &Picture) -> Picture {
    let factor = (256 / small.width().max(small.height()).max(1)).max(1);
    Picture::from_fn(small.width() * factor, small.height() * factor, |x, y| small.pixel(x / factor, y / factor))
}
