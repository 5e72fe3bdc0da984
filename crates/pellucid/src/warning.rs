//! What a job says besides its result.

use pellucid_classifier::repair::RepairWarning;
use pellucid_classifier::scan::ScanWarning;
use pellucid_guard::Setting;
use pellucid_vision::dataset::DatasetWarning;
use serde::{Serialize, Serializer};
use std::fmt;

/// Something that the user should know. It shows as one line, and is that line where it is serialised.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Of the data set.
    Dataset(DatasetWarning),
    /// Of a picture that the scan went on without.
    Scan(ScanWarning),
    /// Of a repair.
    Repair(RepairWarning),
    /// A split that the data set lacks was drawn from the training pictures.
    SplitDrawn {
        /// "test" or "validation".
        split: &'static str,
        /// How many pictures it holds.
        pictures: usize,
    },
    /// Pictures of neurons could not be made.
    NoPictures {
        /// Why.
        reason: String,
    },
    /// Pictures of neurons were made without a guide.
    Unguided(Unguided),
    /// A cache could not be used or written; nothing depends on it but time.
    Cache {
        /// The file, and what was wrong with it.
        detail: String,
    },
}

/// Why there was no guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unguided {
    /// None was given.
    NoGuide,
    /// It had no class to compare with.
    NoClass,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dataset(warning) => warning.fmt(f),
            Self::Scan(warning) => warning.fmt(f),
            Self::Repair(warning) => warning.fmt(f),
            Self::SplitDrawn { split, pictures } => write!(
                f,
                "the data set has no {split} split: {pictures} of the training pictures, drawn class by class, were set aside \
                 as one"
            ),
            Self::NoPictures { reason } => write!(f, "no pictures of neurons were made: {reason}"),
            Self::Unguided(why) => {
                let reason = match why {
                    Unguided::NoGuide => format!("there is no guide ({:#})", Setting::Guide),
                    Unguided::NoClass => {
                        format!("no class was named ({:#}), so the guide has nothing to compare with", Setting::Class)
                    }
                };
                write!(f, "{reason}: the pictures were made without one")
            }
            Self::Cache { detail } => f.write_str(detail),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<DatasetWarning> for Warning {
    fn from(warning: DatasetWarning) -> Self {
        Self::Dataset(warning)
    }
}

impl From<ScanWarning> for Warning {
    fn from(warning: ScanWarning) -> Self {
        Self::Scan(warning)
    }
}

impl From<RepairWarning> for Warning {
    fn from(warning: RepairWarning) -> Self {
        Self::Repair(warning)
    }
}

/// The lines of `warnings`, as files hold them.
pub(crate) fn lines(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}
