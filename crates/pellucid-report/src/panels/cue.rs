//! The cue that the answer on a shortcut is about: pictures with it and without, for a person to judge.

use super::mistakes::tile;
use super::{Panel, section};
use crate::page::{Page, explain};
use pellucid_classifier::shortcut::Answer;

/// Writes the panel, where the answer is about a cue.
pub(crate) fn panel(page: &Page) -> Option<Panel> {
    let judgement = &page.diagnosis.judgement;
    let (pictures, found) = (judgement.cue.as_ref()?, judgement.shortcut.as_ref()?);
    let (answer, cue) = (found.answer?, found.cue.as_ref()?);
    let name = &cue.class.1;
    let title = match answer {
        Answer::Confirmed => format!("The cue of “{name}”"),
        _ => format!("Is this part of “{name}”?"),
    };
    let body = section("cue", &title, |h| {
        let question = "Look for what the first and the last row have in common and the middle row lacks.";
        match answer {
            Answer::Confirmed => explain(
                h,
                &format!(
                    "Your data say that it counts for more than it should. {question} That is what an edit takes away."
                ),
            ),
            _ => explain(
                h,
                &format!(
                    "Your data cannot tell whether it belongs to the class. {question} You can tell: is it part of the class?"
                ),
            ),
        }
        if let Some(association) = cue.association {
            h.element("p", &[], &association.to_string());
        }
        let rows = [
            (format!("“{name}”, with the most of it"), &pictures.with),
            (format!("“{name}”, with the least of it"), &pictures.without),
            ("Other classes, with the most of it".to_owned(), &pictures.others),
        ];
        for (words, samples) in rows.iter().filter(|(_, samples)| !samples.is_empty()) {
            h.within("h3", &[], |h| h.name(words));
            h.within("ul", &[("class", "tiles")], |h| samples.iter().for_each(|sample| tile(h, page, sample)));
        }
    });
    Some(Panel { id: "cue".to_owned(), title, rank: "part", body })
}
