//! What a job says besides its result.

use pellucid_classifier::repair::RepairWarning;
use pellucid_classifier::scan::ScanWarning;
use pellucid_guard::Setting;
use pellucid_vision::dataset::{DatasetWarning, FolderOrder};
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
    /// The logits are not what the model gives.
    NotTheOutput {
        /// The value that was named.
        value: String,
    },
    /// The model is in half precision and was run in float32.
    RunInFloat32,
    /// Gradients go straight through nodes that quantise.
    StraightThrough {
        /// How many.
        nodes: usize,
    },
    /// The model was exported in training mode.
    TrainingMode {
        /// Nodes that were.
        nodes: usize,
    },
    /// There is no decision layer.
    NoDecisionLayer {
        /// Why.
        reason: String,
    },
    /// Class folders are named by number, and the two orders differ.
    FolderOrder(FolderOrders),
    /// Mean and standard deviation are in other units than the scaled values.
    Units {
        /// The smallest and the largest number that a picture can become.
        range: [f64; 2],
        /// The factor on 8-bit values.
        scale: f64,
    },
    /// A method was left out.
    LeftOut {
        /// Its id.
        method: &'static str,
        /// Why.
        reason: String,
    },
    /// A cache could not be used or written; nothing depends on it but time.
    Cache {
        /// The file, and what was wrong with it.
        detail: String,
    },
}

/// How often the model is right when class folders named by number are classes in one order and in the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderOrders {
    /// The order that was taken.
    pub taken: FolderOrder,
    /// The order that is not the usual one for such a folder.
    pub other: FolderOrder,
    /// Right answers where the order is that of text, as torchvision's `ImageFolder`.
    pub sorted: usize,
    /// Right answers where it is that of numbers.
    pub number: usize,
    /// Pictures.
    pub of: usize,
}

impl fmt::Display for FolderOrders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (taken, right, left, others) = match self.taken {
            FolderOrder::Sorted => {
                ("as text (0, 1, 10, …), as torchvision's ImageFolder", self.sorted, "by number", self.number)
            }
            FolderOrder::Number => ("by number", self.number, "as text (0, 1, 10, …)", self.sorted),
        };
        let word = if self.taken == FolderOrder::Sorted { "number" } else { "sorted" };
        write!(
            f,
            "the folders are named by number; sorted {taken}, the model is right on {right} of {}, and {left} it would be on {others}: \
             {} takes the other order",
            self.of,
            Setting::FolderOrder.with(word)
        )
    }
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
            Self::NotTheOutput { value } => write!(
                f,
                "the logits are '{value}', as named; that is not what the model gives: accuracy and probabilities here are of \
                 that value"
            ),
            Self::RunInFloat32 => f.write_str(
                "the model is in half precision and was run in float32, in which its weights are exact: its own answers are \
                 rounded",
            ),
            Self::StraightThrough { nodes } => write!(
                f,
                "gradients go straight through {nodes} nodes that quantise: as if they did not round, and 0 where they clip"
            ),
            Self::TrainingMode { nodes } => write!(
                f,
                "the model was exported in training mode: {nodes} nodes (batch normalisation by the batch, dropout) were run as in use, \
                 by running statistics and without dropout; the file itself answers otherwise. Export it after model.eval()"
            ),
            Self::NoDecisionLayer { reason } => write!(f, "the model has no decision layer to study: {reason}"),
            Self::FolderOrder(orders) => orders.fmt(f),
            Self::Units { range: [low, high], scale } => write!(
                f,
                "every pixel becomes a number between {low:.2} and {high:.2}: {} and {} are in another unit than the scaled values; try {}",
                Setting::Mean,
                Setting::Std,
                Setting::Scale.with(if *scale < 0.1 { "1" } else { "1/255" })
            ),
            Self::LeftOut { method, reason } => write!(f, "{method} was left out: {reason}"),
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
