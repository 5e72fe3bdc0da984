//! What jobs take: one picture, or a data set, from files or from memory.

use crate::{Classifier, Error};
use ndarray::{Array3, ArrayD, Axis};
use pellucid_guard::Budget;
use pellucid_vision::dataset::{Content, Dataset, DatasetError, DatasetOptions, Labelled, Reading, Samples};
use pellucid_vision::picture::Picture;
use pellucid_vision::prepared;
use pellucid_vision::preprocess::ViewBox;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One picture to ask about. Paths, [`Picture`]s and prepared inputs become one by `into()`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OnePicture {
    /// A file.
    File(PathBuf),
    /// A picture, or a prepared input.
    Memory(Content),
}

/// A data set to work on. Paths, opened [`Dataset`]s and lists of labelled pictures become one by `into()`, an iterator of
/// labelled pictures by `collect()`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Data {
    /// A folder or a file, opened with the job's split and the model's class names.
    Path(PathBuf),
    /// Samples from memory, with the name that results call them by.
    Samples(String, Arc<dyn Samples>),
    /// One that is open already; the job's split is not asked for again.
    Open(Arc<Dataset>),
}

/// What samples from memory are called where nobody says.
const MEMORY: &str = "memory";

impl Data {
    /// The data set. Class names are in the order of the model's outputs.
    pub(crate) fn open(
        self,
        split: Option<&str>,
        names: Option<&[String]>,
        reading: &Reading,
        budget: Budget,
    ) -> Result<Arc<Dataset>, Error> {
        let class_names = names.map(<[String]>::to_vec);
        let options = DatasetOptions {
            split: split.map(str::to_owned),
            class_names,
            reading: reading.clone(),
            budget,
            format: None,
        };
        Ok(match self {
            Self::Path(path) => Arc::new(Dataset::open(path, &options)?),
            Self::Samples(name, samples) => Arc::new(Dataset::from_samples(&name, samples, &options)?),
            Self::Open(data) => data,
        })
    }
}

/// A picture as it is seen, and as the model reads it.
pub(crate) struct Taken {
    pub seen: Picture,
    /// Batch 1.
    pub input: ArrayD<f32>,
    /// The picture itself, and where what is seen lies in it; `None` for an input that was prepared already.
    pub whole: Option<(Picture, ViewBox)>,
}

impl OnePicture {
    pub(crate) fn take(self, classifier: &Classifier) -> Result<Taken, Error> {
        let preprocessing = classifier.preprocessing();
        let content = match self {
            Self::File(path) => Content::Picture(Picture::open(path, classifier.budget())?),
            Self::Memory(content) => content,
        };
        let mut whole = None;
        let (seen, input) = match content {
            Content::Picture(picture) => {
                let seen = preprocessing.view(&picture);
                let input = preprocessing.of_view(&seen);
                let place = preprocessing.view_box(picture.width(), picture.height());
                whole = Some((picture, place));
                (seen, input)
            }
            Content::Prepared(input) if input.shape() == preprocessing.shape() => {
                (prepared::shown(input.view(), preprocessing), input)
            }
            Content::Prepared(input) => {
                let (found, expected) = (input.shape().to_vec(), preprocessing.shape());
                return Err(DatasetError::PreparedShape { name: "the picture".to_owned(), found, expected }.into());
            }
        };
        Ok(Taken { seen, input: input.insert_axis(Axis(0)).into_dyn(), whole })
    }

    /// The picture; a prepared input is none.
    pub(crate) fn picture(&self, budget: &Budget) -> Result<Picture, Error> {
        match self {
            Self::File(path) => Ok(Picture::open(path, budget)?),
            Self::Memory(Content::Picture(picture)) => Ok(picture.clone()),
            Self::Memory(Content::Prepared(_)) => {
                Err(DatasetError::OnlyPrepared { name: "the picture".to_owned() }.into())
            }
        }
    }
}

impl From<&Path> for OnePicture {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<PathBuf> for OnePicture {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&PathBuf> for OnePicture {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&str> for OnePicture {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<Picture> for OnePicture {
    fn from(picture: Picture) -> Self {
        Self::Memory(picture.into())
    }
}

impl From<&Picture> for OnePicture {
    fn from(picture: &Picture) -> Self {
        Self::Memory(picture.clone().into())
    }
}

impl From<Array3<f32>> for OnePicture {
    fn from(prepared: Array3<f32>) -> Self {
        Self::Memory(prepared.into())
    }
}

impl From<Content> for OnePicture {
    fn from(content: Content) -> Self {
        Self::Memory(content)
    }
}

impl From<&Path> for Data {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Data {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Data {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&str> for Data {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<Arc<Dataset>> for Data {
    fn from(data: Arc<Dataset>) -> Self {
        Self::Open(data)
    }
}

impl From<Dataset> for Data {
    fn from(data: Dataset) -> Self {
        Self::Open(Arc::new(data))
    }
}

impl From<Arc<dyn Samples>> for Data {
    fn from(samples: Arc<dyn Samples>) -> Self {
        Self::Samples(MEMORY.to_owned(), samples)
    }
}

impl From<Vec<(Labelled, Content)>> for Data {
    fn from(samples: Vec<(Labelled, Content)>) -> Self {
        Self::Samples(MEMORY.to_owned(), Arc::new(samples))
    }
}

impl<C: Into<Content>> FromIterator<(Labelled, C)> for Data {
    fn from_iter<I: IntoIterator<Item = (Labelled, C)>>(samples: I) -> Self {
        samples.into_iter().map(|(labelled, content)| (labelled, content.into())).collect::<Vec<_>>().into()
    }
}
