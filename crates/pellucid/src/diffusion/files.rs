//! The maps as files: arrays in one `.npz`, and pictures whose names any file system takes.

use super::results::Explained;
use crate::Error;
use crate::run::RunDirectory;
use ndarray::{Array2, ArrayD, Axis};
use pellucid_diffusion::picture;
use pellucid_runtime::Array;
use pellucid_saliency::{SaliencyMap, render};
use pellucid_vision::picture::Picture;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// How strongly maps cover a picture.
pub(super) const OPACITY: f32 = 0.75;

/// Every array by name: `timesteps`, `latents`, `clean`, `decoded`, and those of the explainers (steps first; zeros where there is
/// nothing to show).
pub(super) fn arrays(latent: [usize; 3], all: &Explained) -> BTreeMap<String, Array> {
    let steps = &all.trajectory.steps;
    let mut arrays = BTreeMap::new();
    let mut insert = |name: &str, parts: Vec<ArrayD<f32>>| {
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        // Parts of other sizes (there are none) would be left out rather than end the run.
        if let Ok(stacked) = ndarray::stack(Axis(0), &views) {
            arrays.insert(name.to_owned(), Array::F32(stacked));
        }
    };
    insert("latents", steps.iter().map(|s| s.latent.index_axis(Axis(0), 0).to_owned().into_dyn()).collect());
    insert("clean", steps.iter().map(|s| s.clean.index_axis(Axis(0), 0).to_owned().into_dyn()).collect());
    insert("decoded", steps.iter().map(|s| s.decoded.clone().into_dyn()).collect());
    let [_, height, width] = latent;
    let values = |map: Option<&SaliencyMap>| match map {
        Some(map) => map.values.clone().into_dyn(),
        None => Array2::zeros((height, width)).into_dyn(),
    };
    for (_, found) in all.found() {
        for (k, track) in found.tracks.iter().enumerate() {
            if let Some(name) = &track.array {
                insert(name, found.maps(k).map(values).collect());
            }
        }
    }
    for map in all.found().flat_map(|(_, found)| &found.whole) {
        arrays.insert(map.id.clone(), Array::F32(map.values.clone().into_dyn()));
    }
    for (name, values) in all.found().flat_map(|(_, found)| &found.arrays) {
        arrays.insert(name.clone(), Array::F32(values.clone()));
    }
    let timesteps: Vec<i64> = steps.iter().map(|s| s.t as i64).collect();
    arrays.insert("timesteps".to_owned(), Array::I64(ndarray::Array1::from(timesteps).into_dyn()));
    arrays
}

/// `picture.png`, and for every step its x̂0 and the maps drawn on it; gives the files' names.
pub(super) fn pictures(directory: &RunDirectory, all: &Explained) -> Result<Vec<String>, Error> {
    let folder = directory.file("pictures");
    std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    let write = |name: String, shown: &Picture| directory.write_bytes(&format!("pictures/{name}"), &shown.to_png()?);
    let mut files = vec![write("picture.png".to_owned(), &enlarged(&picture(all.trajectory.picture.view())))?];
    let of_steps = all.trajectory.steps.par_iter().enumerate().map(|(at, step)| {
        let mut files = Vec::new();
        let under = enlarged(&picture(step.decoded.view()));
        let number = format!("step-{:03}", at + 1);
        files.push(write(format!("{number}-clean.png"), &under)?);
        for (_, found) in all.found() {
            let maps = found.steps.get(at).map(|step| step.maps.as_slice()).unwrap_or_default();
            for (track, map) in found.tracks.iter().zip(maps) {
                let (Some(name), Some(map)) = (&track.picture, map) else { continue };
                if let Some(shown) = render::render(&under, map.values.view(), map.alignment, OPACITY) {
                    files.push(write(format!("{number}-{name}.png"), &shown)?);
                }
            }
        }
        Ok::<_, Error>(files)
    });
    files.extend(of_steps.collect::<Result<Vec<_>, _>>()?.into_iter().flatten());
    Ok(files)
}

/// Small pictures at a multiple of their size, so that they can be looked at.
pub(super) fn enlarged(small: &Picture) -> Picture {
    let factor = (256 / small.width().max(small.height()).max(1)).max(1);
    Picture::from_fn(small.width() * factor, small.height() * factor, |x, y| small.pixel(x / factor, y / factor))
}
