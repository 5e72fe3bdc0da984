//! An explained prompt as a run directory.

use super::job::{Clock, manifest};
use super::results::{Explained, WrittenExplanation};
use super::settings::ExplainSettings;
use super::{files, page};
use crate::Error;
use crate::run::{self, Manifest, RunDirectory};
use pellucid_classifier::results::RunRecord;
use pellucid_diffusion::{Pipeline, file_name};
use std::path::PathBuf;

/// Where a run directory is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunPlace {
    /// Where run directories are made.
    pub runs: PathBuf,
    /// Name of the run; made from pipeline, prompt and seed where `None`.
    pub name: Option<String>,
    /// Whether a run of that name with other inputs is replaced.
    pub force: bool,
}

impl Default for RunPlace {
    fn default() -> Self {
        Self::in_folder("runs")
    }
}

impl RunPlace {
    /// In the folder `runs`, under a name made from pipeline, prompt and seed.
    pub fn in_folder(runs: impl Into<PathBuf>) -> Self {
        Self { runs: runs.into(), name: None, force: false }
    }

    /// The same under this name.
    #[must_use]
    pub fn with_name(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    /// The same, where a run with other inputs is replaced, or is not.
    #[must_use]
    pub fn with_force(self, force: bool) -> Self {
        Self { force, ..self }
    }

    /// Where [`ExplainSettings::cache`] is kept beside the runs.
    pub fn cache(&self) -> PathBuf {
        self.runs.join(".cache/diffusion")
    }
}

/// A run directory that waits for an explained prompt. Opened before a long job, it says at once whether the job may write there,
/// and keeps every other process out.
#[derive(Debug)]
pub struct ExplainRun {
    directory: RunDirectory,
    manifest: Manifest,
}

impl ExplainRun {
    /// The directory for `prompt` explained with `settings`.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] where it holds a run with other inputs, [`Error::Busy`] where another process writes into it,
    /// [`Error::Write`].
    pub fn open(
        pipeline: &Pipeline,
        prompt: &str,
        settings: &ExplainSettings,
        place: &RunPlace,
    ) -> Result<Self, Error> {
        let seed = settings.trajectory.seed;
        let all = serde_json::json!({ "prompt": prompt, "model": pipeline.hash, "settings": settings.canonical() });
        let manifest = manifest(pipeline, "diffusion explain", prompt, &all, seed);
        let made = || format!("{}-{}-seed{seed}", pipeline.name(), file_name(prompt));
        let name = place.name.clone().unwrap_or_else(made);
        let directory = RunDirectory::open(&place.runs, &name, &manifest, place.force)?;
        Ok(Self { directory, manifest })
    }

    /// Writes `explanation.json`, `maps.npz`, pictures, `report.html`, `run.json` and `manifest.json`. `command` is the command
    /// line, for `run.json`; absolute paths in it are shortened.
    ///
    /// # Errors
    /// Where a file cannot be written, or a latent not be decoded for the page.
    pub fn write(
        mut self,
        pipeline: &mut Pipeline,
        explained: &Explained,
        command: &str,
    ) -> Result<WrittenExplanation, Error> {
        let explanation = &explained.explanation;
        let mut clock = Clock { timings: explained.timings.clone() };
        let record = run::record(command, pipeline.options.session.thread_count(), clock.timings.clone());
        let files = clock.time("files", || self.write_files(pipeline, explained, &record))?;
        self.manifest.warnings = explanation.warnings.clone();
        self.directory.finish(&self.manifest, &files, &record)?;
        Ok(WrittenExplanation {
            directory: self.directory.path().to_path_buf(),
            report: self.directory.file("report.html"),
            explanation: explanation.clone(),
            timings: clock.timings,
            record,
        })
    }

    /// Writes every file but `run.json` and the manifest; gives their names.
    fn write_files(
        &self,
        pipeline: &mut Pipeline,
        explained: &Explained,
        record: &RunRecord,
    ) -> Result<Vec<String>, Error> {
        self.directory.write_json("explanation.json", &explained.explanation)?;
        crate::write_arrays(self.directory.file("maps.npz"), &files::arrays(pipeline.latent, explained))?;
        let mut written = files::pictures(&self.directory, explained)?;
        let page = page::page(pipeline, explained, record)?;
        self.directory.write("report.html", &pellucid_report::render_diffusion(&page)?)?;
        written.extend(["explanation.json", "maps.npz", "report.html"].map(str::to_owned));
        Ok(written)
    }
}

/// Writes `explained` into a run directory of its own.
///
/// # Errors
/// Those of [`ExplainRun::open`] and [`ExplainRun::write`].
pub fn write_explanation(
    pipeline: &mut Pipeline,
    explained: &Explained,
    place: &RunPlace,
    command: &str,
) -> Result<WrittenExplanation, Error> {
    let run = ExplainRun::open(pipeline, &explained.explanation.prompt, &explained.settings, place)?;
    run.write(pipeline, explained, command)
}
