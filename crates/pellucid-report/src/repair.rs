//! The report of a repair: what was edited, what it brought, what it cost, and which pictures changed.

use crate::album::ThumbnailSource;
use crate::charts::{Bar, bar};
use crate::document::{STYLE, source_hash};
use crate::error::ReportError;
use crate::format::{count, counted, number, seconds, share, share_range, signed};
use crate::markup::{Html, json_for_script};
use crate::metadata::bare;
use crate::{ReportOptions, redact};
use base64::Engine;
use pellucid_classifier::repair::compare::{Change, PartChange, Worst};
use pellucid_classifier::repair::results::{Figures, Repair, RepairRun, Tried};
use pellucid_classifier::repair::suspects::{Route, Suspect};
use pellucid_classifier::results::{Proportion, Sample};
use rayon::prelude::*;

/// Pictures shown of those fixed, and of those broken.
const SHOWN: usize = 24;
/// Longest side of a thumbnail.
const SIDE: u32 = 112;

/// A test picture whose answer the edit changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// With the answer before.
    pub before: Sample,
    /// With the answer after.
    pub after: Sample,
}

impl Changed {
    fn is_fixed(&self) -> bool {
        self.after.predicted == self.after.truth
    }
}

/// Renders a repair as one self-contained HTML page.
///
/// `changed` are the pictures that may be shown; file names never are. Equal inputs give equal bytes.
///
/// # Errors
/// [`ReportError::TooLarge`] where text and data alone exceed `max_bytes`; [`ReportError::Data`] where the repair cannot be
/// written as JSON.
pub fn render_repair(
    run: &RepairRun,
    changed: &[Changed],
    options: &ReportOptions,
    thumbnails: &dyn ThumbnailSource,
) -> Result<String, ReportError> {
    let mut public = run.clone();
    redact::run_card(&mut public.run);
    public.repair.proposed.iter_mut().for_each(|group| group.examples.clear());
    let data = serde_json::to_string(&public).map_err(ReportError::Data)?;
    let parts = |fixed: bool| changed.iter().filter(move |c| c.is_fixed() == fixed).take(SHOWN);
    let shown: Vec<&Changed> = if options.pictures { parts(true).chain(parts(false)).collect() } else { Vec::new() };
    let pictures: Vec<Option<String>> = shown.par_iter().map(|c| address(&c.before, thumbnails)).collect();
    let tiles: Vec<(&Changed, Option<String>)> = shown.into_iter().zip(pictures).collect();
    let whole = assemble(&public, &tiles, &data);
    if whole.len() <= options.max_bytes {
        return Ok(whole);
    }
    let bare = assemble(&public, &[], &data);
    match bare.len() <= options.max_bytes {
        true => Ok(bare),
        false => Err(ReportError::TooLarge { bytes: bare.len(), max_bytes: options.max_bytes }),
    }
}

fn address(sample: &Sample, thumbnails: &dyn ThumbnailSource) -> Option<String> {
    let picture = bare(&thumbnails.thumbnail(sample, SIDE)?)?;
    let data = base64::engine::general_purpose::STANDARD.encode(&picture.bytes);
    Some(format!("data:{};base64,{data}", picture.mime))
}

fn assemble(run: &RepairRun, tiles: &[(&Changed, Option<String>)], data: &str) -> String {
    let policy = format!(
        "default-src 'none'; img-src data:; style-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(STYLE)
    );
    let mut head = Html::new();
    head.void("meta", &[("charset", "utf-8")]);
    head.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy)]);
    head.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    head.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    head.element("title", &[], &format!("Repair of {} on {}", run.run.model, run.run.data));
    let mut body = Html::new();
    masthead(&mut body, run);
    body.within("div", &[("class", "layout")], |h| {
        h.within("nav", &[("class", "contents"), ("aria-label", "Contents")], contents);
        h.within("main", &[("id", "top")], |h| {
            section(h, "verdict", "What the edit does", |h| verdict(h, &run.repair));
            section(h, "parts", "Before and after", |h| before_and_after(h, &run.repair));
            section(h, "edits", "The edits that were tried", |h| edits(h, &run.repair));
            section(h, "neurons", "What was edited", |h| neurons(h, &run.repair));
            section(h, "pictures", "Pictures that changed", |h| pictures(h, &run.repair, tiles));
            section(h, "run", "How this was made", |h| how(h, run));
        });
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{}<style>{STYLE}</style>\n</head>\n<body>\n{}\
         <script type=\"application/json\" id=\"repair\">{}</script>\n</body>\n</html>\n",
        head.into_string(),
        body.into_string(),
        json_for_script(data),
    )
}

fn masthead(h: &mut Html, run: &RepairRun) {
    h.within("header", &[("class", "masthead")], |h| {
        h.within("p", &[("class", "brand")], |h| {
            h.element("span", &[("class", "wordmark")], "pellucid");
            h.element("span", &[("class", "kind")], "Repair of a classifier");
        });
        h.within("p", &[("class", "subject")], |h| {
            h.within("b", &[], |h| h.name(&run.run.model));
            h.text(" on ");
            h.within("b", &[], |h| h.name(&run.run.data));
        });
    });
}

fn contents(h: &mut Html) {
    let entries = [
        ("verdict", "What the edit does"),
        ("parts", "Before and after"),
        ("edits", "The edits that were tried"),
        ("neurons", "What was edited"),
        ("pictures", "Pictures that changed"),
        ("run", "How this was made"),
    ];
    h.within("ol", &[], |h| {
        for (id, title) in entries {
            h.within("li", &[("class", "part")], |h| h.element("a", &[("href", &format!("#{id}"))], title));
        }
    });
}

fn section(h: &mut Html, id: &str, title: &str, inside: impl FnOnce(&mut Html)) {
    let heading = format!("{id}-title");
    h.within("section", &[("id", id), ("class", "panel"), ("aria-labelledby", &heading)], |h| {
        h.element("h2", &[("id", &heading)], title);
        inside(h);
    });
}

fn explain(h: &mut Html, text: &str) {
    h.element("p", &[("class", "explain")], text);
}

/// A difference of shares in points, to one decimal.
fn tenths(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference).replace('-', "−")
}

/// A difference of shares in points, with its interval.
fn points(value: f64, low: f64, high: f64) -> String {
    format!("{} points ({} to {})", tenths(value), tenths(low), tenths(high))
}

fn verdict(h: &mut Html, repair: &Repair) {
    let comparison = &repair.comparison;
    let overall = &comparison.overall;
    h.within("ul", &[("class", "verdict")], |h| {
        let mut say = |text: String| h.within("li", &[], |h| h.name(&text));
        say(format!(
            "The decision layer was edited ({}) so that {} neurons count less for {}: {}.",
            repair.edit,
            repair.suspects.len(),
            repair.class.1,
            repair.suspects.iter().map(|s| s.neuron.to_string()).collect::<Vec<_>>().join(", ")
        ));
        for (what, worst) in [("group", &comparison.worst_group), ("class", &comparison.worst_class)] {
            if let Some(worst) = worst {
                say(worst_sentence(what, worst));
            }
        }
        say(format!(
            "Overall {} of the {} test pictures are right, {} before: {}.",
            share(overall.after.value),
            count(overall.after.total),
            share(overall.before.value),
            points(overall.difference.value, overall.difference.low, overall.difference.high)
        ));
        say(format!(
            "{} fixed, {} broken (McNemar test: p = {}).",
            counted(overall.fixed, "picture was", "pictures were"),
            counted(overall.broken, "was", "were"),
            p_value(overall.p_value)
        ));
    });
    for warning in &repair.warnings {
        h.within("p", &[("class", "aside")], |h| h.name(warning));
    }
}

fn worst_sentence(what: &str, worst: &Worst) -> String {
    let (before, after) = (&worst.before, &worst.after);
    format!(
        "The worst {what} is right on {} ({}); before, the worst was right on {} ({}): {}.",
        share(after.1.value),
        after.0,
        share(before.1.value),
        before.0,
        points(worst.difference.value, worst.difference.low, worst.difference.high)
    )
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "below 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn before_and_after(h: &mut Html, repair: &Repair) {
    explain(
        h,
        "On the test split, which nothing was chosen by. Bar: after; upright line: before; whisker: 95 % interval (Wilson). \
         The difference has the interval of the paired bootstrap.",
    );
    let comparison = &repair.comparison;
    for (title, parts) in [("By group", &comparison.groups), ("By class", &comparison.classes)] {
        if parts.is_empty() {
            continue;
        }
        h.element("h3", &[], title);
        let mut order: Vec<&PartChange> = parts.iter().collect();
        order.sort_by(|a, b| a.change.before.value.total_cmp(&b.change.before.value).then(a.id.cmp(&b.id)));
        h.within("table", &[("class", "slices")], |h| {
            columns(h, &["", "0 – 100 %", "Before", "After", "Difference", "Fixed", "Broken"]);
            h.within("tbody", &[], |h| order.iter().for_each(|part| part_row(h, &part.name, &part.change)));
        });
    }
    let [before, after] = comparison.calibration;
    explain(
        h,
        &format!(
            "Calibration: confidence and accuracy differ by {} on average, {} before (expected calibration error, 15 bins).",
            share(after),
            share(before)
        ),
    );
}

fn columns(h: &mut Html, names: &[&str]) {
    h.within("thead", &[], |h| {
        h.within("tr", &[], |h| {
            for (place, name) in names.iter().enumerate() {
                let class = match place {
                    0 => "who",
                    1 if name.contains('–') => "plot",
                    _ => "num",
                };
                h.element("th", &[("scope", "col"), ("class", class)], name);
            }
        });
    });
}

fn part_row(h: &mut Html, name: &str, change: &Change) {
    h.within("tr", &[], |h| {
        h.within("th", &[("scope", "row"), ("class", "who")], |h| h.name(name));
        h.within("td", &[("class", "plot")], |h| {
            let words = format!("{} after, {} before", share(change.after.value), share(change.before.value));
            let interval = Some((change.after.low, change.after.high));
            let tone = if change.difference.high < 0.0 { "low" } else { "" };
            bar(
                h,
                &Bar { value: change.after.value, interval, reference: Some(change.before.value), tone, words: &words },
            );
        });
        for text in [
            share(change.before.value),
            share(change.after.value),
            points(change.difference.value, change.difference.low, change.difference.high),
            count(change.fixed),
            count(change.broken),
        ] {
            h.element("td", &[("class", "num")], &text);
        }
    });
}

fn edits(h: &mut Html, repair: &Repair) {
    explain(
        h,
        "Each was trained on the training split; epochs and settings were chosen on validation. Test figures with their 95 % interval. \
         A slice is a class with or without the suspects active; nothing here but the group-balanced edit saw group labels.",
    );
    h.within("table", &[("class", "slices")], |h| {
        columns(
            h,
            &[
                "Edit",
                "What it does",
                "Overall",
                "Worst group",
                "Worst class",
                "Worst slice",
                "Chosen on validation",
                "Time",
            ],
        );
        h.within("tbody", &[], |h| repair.tried.iter().for_each(|tried| edit_row(h, tried, tried.edit == repair.edit)));
    });
}

fn edit_row(h: &mut Html, tried: &Tried, shipped: bool) {
    let Figures { overall, worst_group, worst_class, worst_slice, .. } = &tried.test;
    let figure = |p: Option<Proportion>| match p {
        Some(p) if p.total > 0 => format!("{} ({})", share(p.value), share_range(p.low, p.high)),
        _ => "–".to_owned(),
    };
    h.within("tr", &[], |h| {
        h.within("th", &[("scope", "row"), ("class", "name")], |h| {
            if shipped { h.element("b", &[], tried.edit.name()) } else { h.text(tried.edit.name()) }
        });
        h.element("td", &[], tried.edit.description());
        for text in [
            figure(Some(*overall)),
            figure(*worst_group),
            figure(Some(*worst_class)),
            figure(*worst_slice),
            tried.chosen.clone(),
            seconds(tried.seconds),
        ] {
            h.element("td", &[("class", "num")], &text);
        }
    });
}

fn route(suspect: &Suspect) -> &'static str {
    match (suspect.route, suspect.insufficient.is_some(), suspect.excessive.is_some()) {
        (Route::Named, ..) => "named by the user",
        (_, true, true) => "missing in the class's mistakes, and misleading in what is called the class",
        (_, true, false) => "missing in the class's mistakes",
        (_, false, _) => "misleading in what is called the class",
    }
}

fn neurons(h: &mut Html, repair: &Repair) {
    let name =
        format!("Neurons suspected of a cue of {}, and what the edit did to their weights for it.", repair.class.1);
    h.within("p", &[("class", "explain")], |h| h.name(&name));
    h.within("table", &[("class", "slices")], |h| {
        columns(h, &["Neuron", "How it was found", "Weight before", "Weight after", "Change over all classes"]);
        h.within("tbody", &[], |h| {
            for neuron in &repair.neurons {
                let found = repair.suspects.iter().find(|s| s.neuron == neuron.neuron);
                h.within("tr", &[], |h| {
                    h.element("th", &[("scope", "row"), ("class", "who")], &neuron.neuron.to_string());
                    h.element("td", &[], found.map_or("not a suspect; the edit moved it", route));
                    for value in [neuron.weight[0], neuron.weight[1], neuron.moved] {
                        h.element("td", &[("class", "num")], &number(value));
                    }
                });
            }
        });
    });
    causal(h, repair);
    h.element("h3", &[], "By class");
    h.within("table", &[("class", "slices")], |h| {
        columns(h, &["Class", "Weights moved", "Bias moved", "Predicted before", "Predicted after"]);
        h.within("tbody", &[], |h| {
            for class in &repair.classes {
                h.within("tr", &[], |h| {
                    h.within("th", &[("scope", "row"), ("class", "who")], |h| h.name(&class.name));
                    let [before, after] = class.predicted;
                    for text in [share(class.moved), signed(class.bias), count(before), count(after)] {
                        h.element("td", &[("class", "num")], &text);
                    }
                });
            }
        });
    });
    let [before, after] = repair.ratio;
    h.within("p", &[("class", "explain")], |h| {
        h.name(&format!(
            "With the suspects, the probability of {} is on average {} times that without them; before the edit it was {}.",
            repair.class.1,
            number(after),
            number(before)
        ));
    });
    proposed(h, repair);
}

/// What each suspect brings alone, by experiment.
fn causal(h: &mut Html, repair: &Repair) {
    if repair.causal.is_empty() {
        return;
    }
    h.element("h3", &[], "Each suspect by itself");
    explain(
        h,
        "Accuracy on validation with the weights of this one neuron set to 0, less that without: a check by experiment, \
         which needs group labels. Where one neuron brings little, the cue is spread over several.",
    );
    h.within("table", &[("class", "slices")], |h| {
        columns(h, &["Neuron", "Worst group, points", "Overall, points"]);
        h.within("tbody", &[], |h| {
            for check in &repair.causal {
                h.within("tr", &[], |h| {
                    h.element("th", &[("scope", "row"), ("class", "who")], &check.neuron.to_string());
                    for value in [check.worst_group, check.overall] {
                        h.element("td", &[("class", "num")], &tenths(value));
                    }
                });
            }
        });
    });
}

/// Groups that the mistakes suggest, for a person to name.
fn proposed(h: &mut Html, repair: &Repair) {
    if repair.proposed.is_empty() {
        return;
    }
    h.element("h3", &[], "Groups that the suspects suggest");
    let agreement = match repair.agreement {
        Some(agreement) => format!(
            " On {} of the validation pictures they agree with the groups that the data set names.",
            share(agreement)
        ),
        None => String::new(),
    };
    explain(
        h,
        &format!(
            "Validation pictures of each class on which the suspects are active, and not, before the edit; the lowest first.{agreement}"
        ),
    );
    h.within("table", &[("class", "slices")], |h| {
        columns(h, &["Class", "Suspects", "Pictures", "Accuracy"]);
        h.within("tbody", &[], |h| {
            for group in repair.proposed.iter().take(12) {
                h.within("tr", &[], |h| {
                    let name = repair.classes.get(group.class).map_or_else(String::new, |c| c.name.clone());
                    h.within("th", &[("scope", "row"), ("class", "who")], |h| h.name(&name));
                    h.element("td", &[("class", "num")], if group.active { "active" } else { "not active" });
                    h.element("td", &[("class", "num")], &count(group.samples));
                    let range = share_range(group.accuracy.low, group.accuracy.high);
                    h.element("td", &[("class", "num")], &format!("{} ({range})", share(group.accuracy.value)));
                });
            }
        });
    });
}

fn pictures(h: &mut Html, repair: &Repair, tiles: &[(&Changed, Option<String>)]) {
    if tiles.is_empty() {
        explain(h, "No pictures are shown in this report.");
        return;
    }
    let class = |index: usize| repair.classes.get(index).map_or_else(|| index.to_string(), |c| c.name.clone());
    for (title, fixed, all) in
        [("Fixed", true, repair.comparison.overall.fixed), ("Broken", false, repair.comparison.overall.broken)]
    {
        let shown: Vec<_> = tiles.iter().filter(|(c, _)| c.is_fixed() == fixed).collect();
        h.within("h3", &[], |h| {
            h.text(&format!("{title} "));
            h.element("span", &[("class", "tally")], &format!("{} of {}", shown.len(), count(all)));
        });
        h.within("ul", &[("class", "tiles")], |h| {
            for (changed, address) in shown {
                let (was, is) = (class(changed.before.predicted), class(changed.after.predicted));
                let words = format!("Picture of {}, called {was} before and {is} after", class(changed.before.truth));
                h.within("li", &[("class", "tile")], |h| {
                    match address {
                        Some(address) => {
                            h.void("img", &[("class", "picture"), ("src", address), ("alt", &words), ("width", "112")]);
                        }
                        None => h.element("div", &[("class", "picture absent")], "no picture"),
                    }
                    h.within("p", &[], |h| h.name(&format!("{was} → {is}")));
                });
            }
        });
    }
}

fn how(h: &mut Html, run: &RepairRun) {
    let [train, validation, test] = run.repair.samples.map(count);
    let card = &run.run;
    for warning in &card.warnings {
        h.within("p", &[("class", "aside")], |h| h.name(warning));
    }
    h.element("pre", &[("class", "command"), ("tabindex", "0")], &card.command);
    let pictures = format!("{train} to train on, {validation} to choose by, {test} to measure with");
    let device = format!("{}, {} threads", card.device, card.threads);
    let seed = card.seed.to_string();
    let entries = [
        ("Model", card.model.as_str()),
        ("Model hash", &card.model_hash),
        ("Data", &card.data),
        ("Pictures", &pictures),
        ("Preprocessing", &card.preprocessing),
        ("Device", &device),
        ("Seed", &seed),
        ("pellucid", &card.pellucid),
        ("ONNX Runtime", &card.onnxruntime),
    ];
    h.within("dl", &[("class", "run")], |h| {
        for (term, value) in entries {
            h.within("div", &[], |h| {
                h.element("dt", &[], term);
                h.within("dd", &[], |h| h.name(value));
            });
        }
    });
}
