//! How the command spells what a message of the library tells the user to set.

use pellucid::setting::{Job, Setting, Spelling};

/// Flags and commands.
pub const SPELLING: Spelling = Spelling { setting, job };

fn setting(setting: Setting) -> (&'static str, &'static str) {
    match setting {
        Setting::OnnxRuntime => ("--onnxruntime", "PATH"),
        Setting::Device => ("--device", ""),
        Setting::Memory => ("--memory", "SIZE"),
        Setting::FileMemory => ("--max-file-memory", "SIZE"),
        Setting::Pixels => ("--max-pixels", "PIXELS"),
        Setting::Logits => ("--logits", "VALUE"),
        Setting::Features => ("--features", "VALUE"),
        Setting::Classes => ("--classes", "FILE"),
        Setting::InputShape => ("--input-shape", "NAME=SHAPE"),
        Setting::Preprocessing => ("--preprocessing", "FILE"),
        Setting::Size => ("--size", "WxH"),
        Setting::Resize => ("--resize", "RULE"),
        Setting::Filter => ("--filter", "FILTER"),
        Setting::Channels => ("--channels", "ORDER"),
        Setting::Layout => ("--layout", "LAYOUT"),
        Setting::Scale => ("--scale", "FACTOR"),
        Setting::Mean => ("--mean", "R,G,B"),
        Setting::Std => ("--std", "R,G,B"),
        Setting::Data => ("--data", "DATA"),
        Setting::Split => ("--split", "NAME"),
        Setting::FileColumn => ("--file-column", "NAME"),
        Setting::LabelColumn => ("--label-column", "NAME"),
        Setting::GroupColumns => ("--group-columns", "NAME"),
        Setting::Groups => ("--groups", "crossed|as-given"),
        Setting::Root => ("--root", "FOLDER"),
        Setting::FolderOrder => ("--folder-order", "sorted|number"),
        Setting::Name => ("--name", "NAME"),
        Setting::Force => ("--force", ""),
        Setting::Out => ("--out", "PATH"),
        Setting::Class => ("--class", "NAME"),
        Setting::Neurons => ("--neurons", "NEURON"),
        Setting::Auto => ("--auto", ""),
        Setting::Edit => ("--edit", "EDIT"),
        Setting::Confirm => ("--confirm", ""),
        Setting::LearningRate => ("--learning-rate", "NUMBER"),
        Setting::Method => ("--method", "METHOD"),
        Setting::Points => ("--points", "N"),
        Setting::Copies => ("--copies", "N"),
        Setting::Guide => ("--guide", "FOLDER"),
        Setting::Objective => ("--objective", "OBJECTIVE"),
        Setting::Steps => ("--steps", "N"),
        Setting::Seeds => ("--seeds", "N"),
        Setting::Of => ("--of", "VALUE"),
        Setting::Prompts => ("--prompts", "FILE"),
    }
}

fn job(job: Job) -> &'static str {
    match job {
        Job::Debug => "pellucid debug",
        Job::Repair => "pellucid repair",
        Job::InspectGradients => "pellucid inspect --gradients",
        Job::DiffusionStudy => "pellucid diffusion auc",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use clap::CommandFactory;

    /// Every command below `command`, and itself.
    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        std::iter::once(command).chain(command.get_subcommands().flat_map(all)).collect()
    }

    #[test]
    fn every_setting_that_a_message_can_name_is_a_flag_that_is_not_hidden() {
        let command = Args::command();
        for known in Setting::ALL {
            let (flag, value) = setting(*known);
            let name = flag.strip_prefix("--").unwrap();
            let takers: Vec<_> = all(&command)
                .into_iter()
                .flat_map(clap::Command::get_arguments)
                .filter(|a| a.get_long() == Some(name) && !a.is_hide_set())
                .collect();
            assert!(!takers.is_empty(), "{known:?}: no command has {flag}");
            let takes = |a: &&clap::Arg| a.get_action().takes_values() || value.is_empty();
            assert!(takers.iter().all(takes), "{flag} takes no value, but '{value}' is said of it");
        }
    }

    #[test]
    fn every_job_that_a_message_can_name_is_a_command() {
        for known in Job::ALL {
            let whole = Args::command();
            let mut command = &whole;
            let words: Vec<&str> = job(*known).split(' ').skip(1).collect();
            for word in words {
                match word.strip_prefix("--") {
                    Some(flag) => assert!(command.get_arguments().any(|a| a.get_long() == Some(flag)), "{word}"),
                    None => command = command.find_subcommand(word).unwrap_or_else(|| panic!("no command {word}")),
                }
            }
        }
    }
}
