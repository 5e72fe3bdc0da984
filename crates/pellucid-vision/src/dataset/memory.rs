//! Data sets from memory: pictures or inputs that a program has, in place of files.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array3;

use super::rows::{self, Row};
use super::{Dataset, DatasetError, DatasetOptions, Format, Origin};
use crate::picture::Picture;

/// One picture, or what was made of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// 8-bit RGB; the classifier's preprocessing makes the input of it.
    Picture(Picture),
    /// An input as the model reads it, laid out as the preprocessing says (channels × height × width, or height × width ×
    /// channels) and normalised: nothing more is done to it.
    Prepared(Array3<f32>),
}

impl From<Picture> for Content {
    fn from(picture: Picture) -> Self {
        Self::Picture(picture)
    }
}

impl From<Array3<f32>> for Content {
    fn from(prepared: Array3<f32>) -> Self {
        Self::Prepared(prepared)
    }
}

/// What is known of one sample besides its picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Labelled {
    /// What it is called in results.
    pub name: String,
    /// Its class: a name, or an index in digits.
    pub label: String,
    /// The group it is counted in.
    pub group: Option<String>,
    /// `train`, `val`, `test` or another word.
    pub split: Option<String>,
    /// What it shares with others that are not independent of it: a patient, a place, a video.
    pub unit: Option<String>,
}

impl Labelled {
    /// A sample called `name` of the class `label` (a name, or an index in digits).
    pub fn new(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self { name: name.into(), label: label.into(), ..Self::default() }
    }

    /// The same in a group.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The same in a split.
    #[must_use]
    pub fn in_split(mut self, split: impl Into<String>) -> Self {
        self.split = Some(split.into());
        self
    }

    /// The same of a unit.
    #[must_use]
    pub fn of_unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }
}

/// A sequence of labelled pictures, asked for one at a time and from several threads. A `Vec` of pairs is one; implement it
/// for what should not be in memory all at once.
pub trait Samples: Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of sample `index`.
    fn labelled(&self, index: usize) -> Labelled;

    /// Sample `index` itself.
    ///
    /// # Errors
    /// Why it cannot be had, in words. The run goes on without it.
    fn content(&self, index: usize) -> Result<Content, String>;
}

impl Samples for Vec<(Labelled, Content)> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn labelled(&self, index: usize) -> Labelled {
        self.get(index).map(|(labelled, _)| labelled.clone()).unwrap_or_default()
    }

    fn content(&self, index: usize) -> Result<Content, String> {
        self.get(index).map(|(_, content)| content.clone()).ok_or_else(|| format!("there is no sample {index}"))
    }
}

/// The samples behind a [`Dataset`].
#[derive(Debug)]
pub(super) struct Remembered {
    samples: Arc<dyn Samples>,
    /// Which of them each of the data set's samples is.
    rows: Vec<usize>,
}

impl Remembered {
    pub fn content(&self, index: usize, name: &str) -> Result<Content, DatasetError> {
        let failed = |reason| DatasetError::Sample { name: name.to_owned(), reason };
        self.samples.content(self.rows[index]).map_err(failed)
    }
}

impl Dataset {
    /// The data set of `samples`, called `name` in results. Labels and groups are resolved as those of a table are: words are
    /// looked up in [`DatasetOptions::class_names`] where given and sorted otherwise, numbers are indices.
    ///
    /// # Errors
    /// Where there are no samples, a label makes no sense, or the split asked for is not there.
    pub fn from_samples(
        name: &str,
        samples: Arc<dyn Samples>,
        options: &DatasetOptions,
    ) -> Result<Dataset, DatasetError> {
        let listed: Vec<Labelled> = (0..samples.len()).map(|i| samples.labelled(i)).collect();
        let row = |(at, labelled): (usize, &Labelled)| Row {
            place: format!("sample {at}"),
            file: labelled.name.clone(),
            label: labelled.label.clone(),
            group: labelled.group.clone(),
            split: labelled.split.clone(),
            ..Row::default()
        };
        let table: Vec<Row> = listed.iter().enumerate().map(row).collect();
        let root = Path::new(name);
        if table.is_empty() {
            let detail = "there are no samples".to_owned();
            return Err(DatasetError::NoPictures { path: root.into(), detail });
        }
        let mut resolved = rows::resolve(root, &table, None, options)?;
        for (sample, row) in resolved.samples.iter_mut().zip(&resolved.rows) {
            sample.unit.clone_from(&listed[*row].unit);
        }
        let mut dataset = Dataset {
            root: root.into(),
            format: Format::Memory,
            samples: resolved.samples,
            classes: resolved.classes,
            groups: resolved.groups,
            warnings: resolved.warnings,
            other_order: None,
            origin: Origin::Memory(Remembered { samples, rows: resolved.rows }),
        };
        dataset.warn_of_sparse_classes();
        Ok(dataset)
    }
}

/// blake3 of a sample's numbers and their shape.
pub(super) fn hash(content: &Content) -> String {
    let mut hasher = blake3::Hasher::new();
    match content {
        Content::Picture(picture) => {
            hasher.update(b"rgb8").update(&picture.width().to_le_bytes()).update(&picture.height().to_le_bytes());
            hasher.update(picture.data());
        }
        Content::Prepared(values) => {
            hasher.update(b"prepared");
            for &extent in values.shape() {
                hasher.update(&(extent as u64).to_le_bytes());
            }
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
    }
    hasher.finalize().to_hex().to_string()
}
