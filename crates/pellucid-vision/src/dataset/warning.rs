//! What a user should know about a data set that was opened all the same.

use crate::text::said;
use pellucid_guard::Setting;

/// Something about a data set that is not as it could be. Its text is one line, fit for a terminal; lists in it hold the first
/// few names and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatasetWarning {
    /// There are several splits and none was asked for.
    SplitsTaken {
        /// The splits with their sizes.
        splits: String,
    },
    /// Classes without a picture.
    EmptyClasses {
        /// How many.
        count: usize,
        /// Classes in all.
        all: usize,
        /// Their names.
        names: String,
    },
    /// Every picture is of one class.
    OneClass {
        /// Pictures.
        count: usize,
        /// The class.
        name: String,
    },
    /// Pictures without a group, beside others that have one.
    NoGroup {
        /// How many.
        count: usize,
        /// Pictures in all.
        all: usize,
    },
    /// Files that are no pictures by their names.
    Ignored {
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// Links that leave the data set's folder.
    LeadOut {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Links to nothing, pipes, sockets, devices.
    Special {
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// Folders that lie too deep.
    TooDeep {
        /// How many.
        count: usize,
        /// How deep is looked.
        deepest: usize,
    },
    /// Files whose names are not UTF-8.
    Unnameable {
        /// How many.
        count: usize,
    },
    /// Entries of a table that are addresses.
    Addresses {
        /// How many.
        count: usize,
        /// Pictures in all.
        all: usize,
        /// Some of them.
        names: String,
    },
    /// Files that a table names and that are not there.
    Missing {
        /// How many.
        count: usize,
        /// Pictures in all.
        all: usize,
        /// Their names.
        names: String,
    },
    /// Files that a table names twice.
    Twice {
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// Class folders named by number, which stands at two places in the two orders.
    FoldersAreNumbers,
    /// Labels are −1 and 1.
    Signs,
    /// The data set's own class names are none of the model's, and as many.
    NamesDiffer {
        /// How many.
        count: usize,
        /// The data set's first name.
        own: String,
        /// The class that it is taken as.
        class: String,
    },
    /// Groups of several classes each, and what was made of them.
    GroupsSpanClasses {
        /// Groups with pictures of several classes.
        count: usize,
        /// Groups in all.
        all: usize,
        /// Whether each was divided by class.
        crossed: bool,
    },
    /// Class folders taken in the order of their names.
    FoldersInOrder {
        /// How many.
        count: usize,
        /// The first folder.
        folder: String,
        /// The class it is taken as.
        class: String,
    },
}

impl DatasetWarning {
    fn words(&self) -> String {
        match self {
            Self::SplitsTaken { splits } => {
                format!("all splits are taken together: {splits}; {} picks one", Setting::Split)
            }
            Self::EmptyClasses { count, all, names } => format!("{count} of {all} classes have no pictures: {names}"),
            Self::OneClass { count, name } => format!("all {count} pictures are of one class, {name}"),
            Self::NoGroup { count, all } => format!("{count} of {all} pictures have no group"),
            Self::Ignored { count, names } => {
                format!("{count} files without the ending of a picture are ignored: {names}")
            }
            Self::LeadOut { count, first } => format!(
                "{count} links lead out of the data set's folder and are not followed, the first is {first}; \
                 put the files there, or give the folder they are in"
            ),
            Self::Special { count, names } => {
                format!("{count} links to nothing, pipes, sockets or devices are ignored: {names}")
            }
            Self::TooDeep { count, deepest } => {
                format!("{count} folders more than {deepest} below their class folder are ignored")
            }
            Self::Unnameable { count } => format!("{count} files whose names are not UTF-8 are ignored"),
            Self::Addresses { count, all, names } => format!(
                "{count} of {all} pictures are addresses, which are never opened, and left out: {names}; fetch the files \
                 and name them relative to the table's folder"
            ),
            Self::Missing { count, all, names } => {
                format!("{count} of {all} pictures are missing and left out: {names}")
            }
            Self::Twice { count, names } => format!("{count} pictures are listed more than once: {names}"),
            Self::FoldersAreNumbers => "the folders are named by number, taken as class indices".to_owned(),
            Self::Signs => "the labels are -1 and 1: -1 is taken as class 0, 1 as class 1".to_owned(),
            Self::NamesDiffer { count, own, class } => format!(
                "none of the data set's own class names is one of the model's; in their order they are taken as classes 0 to {}: \
                 {own} is {class}",
                count.saturating_sub(1)
            ),
            Self::GroupsSpanClasses { count, all, crossed: true } => format!(
                "{count} of {all} groups hold pictures of several classes, so each group was divided by class, as worst-group accuracy is \
                 usually counted; {} takes them as they are",
                Setting::Groups.with("as-given")
            ),
            Self::GroupsSpanClasses { count, all, crossed: false } => format!(
                "{count} of {all} groups hold pictures of several classes and were taken as they are; {} divides each by class, as \
                 worst-group accuracy is usually counted",
                Setting::Groups.with("crossed")
            ),
            Self::FoldersInOrder { count, folder, class } => format!(
                "no folder has the name of a class; in sorted order they are taken as classes 0 to {}: {folder} is {class}",
                count.saturating_sub(1)
            ),
        }
    }
}

impl std::fmt::Display for DatasetWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&said(&self.words()))
    }
}
