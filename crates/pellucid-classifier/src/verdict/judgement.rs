//! What a diagnosis may say, put together: which classes and groups stand out, as what they are and as what others are called,
//! what the findings cover, and what is wrong with the data.

use super::{Coverage, Part, binomial::upper_tail, standing_out};
use crate::repair::Conduct;
use crate::results::{Mistakes, Sample};
use pellucid_saliency::stats::multiplicity::benjamini_hochberg_adjusted;
use serde::{Deserialize, Serialize};

/// A kind of data problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The class names are in another order than the outputs.
    LabelOrder,
    /// Pictures with a label that is probably wrong.
    LabelErrors,
    /// One picture in two classes or splits.
    Duplicates,
    /// A preprocessing that is probably another model's.
    Preprocessing,
    /// A graph in training mode.
    TrainingMode,
}

/// Something that is wrong with the data, which comes before anything said about the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// What it is and what mends it, for people.
    pub sentence: String,
    /// Pictures that it concerns: indices into the data set, the surest first.
    pub samples: Vec<usize>,
    /// Whether it is more than a hint: what is not is said last, and not first.
    pub certain: bool,
}

/// A slice that nobody named, among the mistakes of a finding (see [`super::slices`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundSlice {
    /// The finding, by its place.
    pub finding: usize,
    /// How its pictures do on the half of the data that did not make it.
    pub test: Part,
    /// Some of those pictures, mistakes first.
    pub examples: Vec<Sample>,
}

/// Pictures with and without the cue that the answer on a shortcut is about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CuePictures {
    /// Of the class, where its neurons say most.
    pub with: Vec<Sample>,
    /// Of the class, where they say least.
    pub without: Vec<Sample>,
    /// Of other classes, where they say most.
    pub others: Vec<Sample>,
}

/// What a diagnosis may say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Judgement {
    /// Classes that are missed more often than chance explains, the one that costs most pictures first.
    pub classes: Vec<Part>,
    /// Classes that other classes' pictures are called more often than chance explains.
    pub sinks: Vec<Part>,
    /// Groups that are worse than chance explains.
    pub groups: Vec<Part>,
    /// What the findings cover.
    pub coverage: Option<Coverage>,
    /// Slices that nobody named, by finding.
    #[serde(default)]
    pub slices: Vec<FoundSlice>,
    /// What the data say about a shortcut, where there are training and validation pictures to ask.
    pub shortcut: Option<Conduct>,
    /// Its pictures, where the answer is about a cue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cue: Option<CuePictures>,
    /// What is wrong with the data.
    pub problems: Vec<Problem>,
    /// The class names in the order of the outputs, where they were given in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_classes: Option<Vec<String>>,
}

impl Judgement {
    /// Which classes and groups stand out.
    pub fn of(labels: &[usize], predicted: &[usize], groups: &[Option<usize>], classes: usize) -> Self {
        let wrong: Vec<bool> = labels.iter().zip(predicted).map(|(y, p)| y != p).collect();
        let by_class: Vec<Option<usize>> = labels.iter().map(|&y| Some(y)).collect();
        Self {
            classes: standing_out(&wrong, &by_class),
            sinks: sinks(labels, predicted, classes),
            groups: standing_out(&wrong, groups),
            ..Self::default()
        }
    }

    /// The sets of mistakes worth examining, the one that costs most pictures beyond chance first, `most` at most: as true
    /// classes and as what is called. Where none stands out, all mistakes together.
    pub fn mistakes(&self, most: usize) -> Vec<Mistakes> {
        let of_class = self.classes.iter().map(|part| (part, Mistakes::TrueClass { class: part.id }));
        let of_sink = self.sinks.iter().map(|part| (part, Mistakes::PredictedAs { class: part.id }));
        let mut all: Vec<(&Part, Mistakes)> = of_class.chain(of_sink).collect();
        all.sort_by(|a, b| b.0.excess.total_cmp(&a.0.excess));
        let found: Vec<Mistakes> = all.into_iter().take(most).map(|(_, mistakes)| mistakes).collect();
        if found.is_empty() { vec![Mistakes::All] } else { found }
    }
}

/// Classes that others' pictures are called more often than chance explains, by falling excess: of all pictures that are not
/// of the class, how many are called it, against how often others' pictures are called the other classes.
pub fn sinks(labels: &[usize], predicted: &[usize], classes: usize) -> Vec<Part> {
    let mut of_class = vec![0usize; classes];
    labels.iter().for_each(|&y| of_class[y] += 1);
    let mut landed = vec![0usize; classes];
    labels.iter().zip(predicted).filter(|(y, p)| y != p).for_each(|(_, &p)| landed[p] += 1);
    let mistakes: usize = landed.iter().sum();
    let others: Vec<usize> = of_class.iter().map(|own| labels.len() - own).collect();
    let all: usize = others.iter().sum();
    let mut found: Vec<Part> = (0..classes)
        .filter(|&class| others[class] > 0 && all > others[class])
        .map(|class| {
            let rest = (mistakes - landed[class]) as f64 / (all - others[class]) as f64;
            Part {
                id: class,
                mistakes: landed[class],
                samples: others[class],
                rest,
                excess: landed[class] as f64 - others[class] as f64 * rest,
                p_value: upper_tail(landed[class], others[class], rest),
                adjusted: f64::NAN,
            }
        })
        .collect();
    let adjusted = benjamini_hochberg_adjusted(&found.iter().map(|part| part.p_value).collect::<Vec<_>>());
    found.iter_mut().zip(adjusted).for_each(|(part, adjusted)| part.adjusted = adjusted);
    found.retain(Part::stands_out);
    found.sort_by(|a, b| b.excess.total_cmp(&a.excess).then(a.id.cmp(&b.id)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_others_are_called_is_found_before_the_classes_that_look_weak_for_it() {
        // 20 of 40 pictures of each other class are called class 0; class 3 has a few mistakes more.
        let labels: Vec<usize> = (0..200).map(|i| i / 40).collect();
        let predicted: Vec<usize> = (0..200).map(|i| if i / 40 != 0 && i % 2 == 0 { 0 } else { i / 40 }).collect();
        let found = Judgement::of(&labels, &predicted, &vec![None; 200], 5);
        assert_eq!(found.mistakes(3)[0], Mistakes::PredictedAs { class: 0 });
        assert!(found.groups.is_empty());
    }

    #[test]
    fn where_nothing_stands_out_all_mistakes_are_one_finding() {
        let labels: Vec<usize> = (0..100).map(|i| i / 20).collect();
        let predicted: Vec<usize> = (0..100).map(|i| if i % 20 == 0 { (i / 20 + 1) % 5 } else { i / 20 }).collect();
        let found = Judgement::of(&labels, &predicted, &vec![None; 100], 5);
        assert_eq!(found.mistakes(3), [Mistakes::All]);
    }
}
