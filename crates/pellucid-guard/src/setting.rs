//! What a user can set, by whatever front door they came: messages name a [`Setting`], and the front door says how it is
//! spelled there. So no library spells a flag, and each message can be obeyed where it is read.

use std::fmt;
use std::sync::OnceLock;

macro_rules! settings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that a user can set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Setting {
            $($(#[$doc])* $variant,)*
        }

        impl Setting {
            /// Every setting.
            pub const ALL: &[Setting] = &[$(Setting::$variant,)*];

            /// What it is called in results and where no front door said otherwise: that of the field or argument.
            pub fn name(self) -> &'static str {
                match self {
                    $(Setting::$variant => $name,)*
                }
            }
        }
    };
}

settings! {
    /// ONNX Runtime's library.
    OnnxRuntime = "onnxruntime",
    /// The device that networks run on.
    Device = "device",
    /// [`crate::Budget::memory`].
    Memory = "memory",
    /// [`crate::Budget::file_memory`].
    FileMemory = "file_memory",
    /// [`crate::Budget::pixels`].
    Pixels = "pixels",
    /// The value that is the logits.
    Logits = "logits",
    /// The value that is the features of the decision layer.
    Features = "features",
    /// The class names, in the order of the logits.
    Classes = "classes",
    /// The shapes of inputs whose dimensions are free.
    InputShape = "input_shape",
    /// A file that says how pictures are prepared.
    Preprocessing = "preprocessing",
    /// The size of the input, in pixels.
    Size = "size",
    /// How a picture is brought to the size.
    Resize = "resize",
    /// The filter that resizes.
    Filter = "filter",
    /// The order of the colour channels.
    Channels = "channels",
    /// The order of the input's axes.
    Layout = "layout",
    /// The factor on 8-bit values.
    Scale = "scale",
    /// The mean of each channel.
    Mean = "mean",
    /// The standard deviation of each channel.
    Std = "std",
    /// The data set.
    Data = "data",
    /// The split of the data set.
    Split = "split",
    /// The column of a table that holds file names.
    FileColumn = "file_column",
    /// The column of a table that holds labels.
    LabelColumn = "label_column",
    /// The columns of a table that make groups.
    GroupColumns = "group_columns",
    /// Whether groups are divided by class.
    Groups = "groups",
    /// The folder that file names of a table are relative to.
    Root = "root",
    /// The order of class folders that are named by number.
    FolderOrder = "folder_order",
    /// The name of the run.
    Name = "name",
    /// Whether a run of that name is replaced.
    Force = "force",
    /// Where a result is written.
    Out = "out",
    /// The class.
    Class = "class",
    /// The neurons.
    Neurons = "neurons",
    /// Whether neurons are found.
    Auto = "auto",
    /// The edit of the decision layer.
    Edit = "edit",
    /// Whether the user has seen that the first ranked cue is no part of its class.
    Confirm = "confirm",
    /// The step of an optimiser.
    LearningRate = "learning_rate",
    /// The attribution methods.
    Method = "method",
    /// Points on the path of integrated gradients.
    Points = "points",
    /// Noisy copies of SmoothGrad.
    Copies = "copies",
    /// The image–text encoder that guides feature visualization.
    Guide = "guide",
    /// The objective of feature visualization.
    Objective = "objective",
    /// Steps of an optimiser or a sampler.
    Steps = "steps",
    /// How often something is made from other noise.
    Seeds = "seeds",
    /// What is differentiated.
    Of = "of",
    /// The prompts of a study.
    Prompts = "prompts",
}

/// A job that a message sends the user to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Debugging a classifier.
    Debug,
    /// Repairing one.
    Repair,
    /// Listing what a model computes, with the values that gradients reach.
    InspectGradients,
    /// Explaining many prompts and measuring the maps.
    DiffusionStudy,
}

impl Job {
    /// Every job.
    pub const ALL: &[Job] = &[Job::Debug, Job::Repair, Job::InspectGradients, Job::DiffusionStudy];
}

/// How a front door spells things.
#[derive(Debug, Clone, Copy)]
pub struct Spelling {
    /// A setting, and what stands for its value, if it takes one (`("--size", "WxH")`).
    pub setting: fn(Setting) -> (&'static str, &'static str),
    /// What starts a job (`pellucid debug`).
    pub job: fn(Job) -> &'static str,
}

static SPELLING: OnceLock<Spelling> = OnceLock::new();

/// Says how this process spells settings and jobs. Called once, by the program that has the user; later calls are without
/// effect.
pub fn spell(spelling: Spelling) {
    let _ = SPELLING.set(spelling);
}

/// As the front door spells it, the name of the library's function where none said.
impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (SPELLING.get(), self) {
            (Some(spelling), job) => (spelling.job)(*job),
            (None, Job::Debug) => "debug",
            (None, Job::Repair) => "repair",
            (None, Job::InspectGradients) => "inspect",
            (None, Job::DiffusionStudy) => "diffusion::study",
        })
    }
}

impl Setting {
    /// The setting with a value, as the front door wants it.
    pub fn with(self, value: &str) -> String {
        match SPELLING.get() {
            None => format!("`{}` = {value}", self.name()),
            Some(spelling) => format!("{} {value}", (spelling.setting)(self).0),
        }
    }
}

/// As the front door spells it, `` `name` `` where none said; with `{:#}` what stands for its value comes after it.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SPELLING.get().map(|spelling| (spelling.setting)(*self)) {
            None => write!(f, "`{}`", self.name()),
            Some((spelled, value)) if f.alternate() && !value.is_empty() => write!(f, "{spelled} {value}"),
            Some((spelled, _)) => f.write_str(spelled),
        }
    }
}

/// Several settings, of which one or more help: `a, b or c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyOf(pub &'static [Setting]);

impl fmt::Display for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, setting) in self.0.iter().enumerate() {
            let between = match at {
                0 => "",
                at if at + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{between}{setting}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_front_door_a_setting_has_its_own_name() {
        assert_eq!(Setting::FileMemory.to_string(), "`file_memory`");
        assert_eq!(AnyOf(&[Setting::Size]).to_string(), "`size`");
        assert_eq!(
            AnyOf(&[Setting::Size, Setting::Channels, Setting::Layout]).to_string(),
            "`size`, `channels` or `layout`"
        );
    }

    #[test]
    fn no_two_settings_share_a_name() {
        let names: std::collections::BTreeSet<_> = Setting::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(names.len(), Setting::ALL.len());
    }
}
