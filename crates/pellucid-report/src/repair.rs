//! The report of a repair: what was edited, what it brought, what it cost, and which pictures changed.

mod groups;

use crate::charts::{Bar, bar};
use crate::document::{STYLE, source_hash};
use crate::error::ReportError;
use crate::format::{count, counted, number, share, share_range, signed};
use crate::markup::{Html, json_for_script};
use crate::metadata::bare;
use crate::thumbnails::ThumbnailSource;
use crate::{ReportOptions, record, redact};
use base64::Engine;
use pellucid_classifier::repair::compare::{Change, PartChange, Worst};
use pellucid_classifier::repair::results::{Figures, Repair, RepairRun, Tried};
use pellucid_classifier::repair::suspects::{Route, Suspect};
use pellucid_classifier::results::{Proportion, Sample};
use pellucid_classifier::shortcut::Answer;
use rayon::prelude::*;
use std::collections::BTreeMap;

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

/// The pictures of the data set that the report of a repair may show.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShownInRepair {
    /// Test pictures whose answer the edit changed.
    pub changed: Vec<Changed>,
    /// Some of each proposed group, in the repair's order.
    pub proposed: Vec<Vec<Sample>>,
    /// Some of each cluster of mistakes, in the repair's order.
    pub clusters: Vec<Vec<Sample>>,
}

/// Addresses of pictures in the page, by the sample's row in the data set; `None` for those that cannot be read.
type Addresses = BTreeMap<usize, Option<String>>;

/// Renders a repair as one self-contained HTML page.
///
/// `shown` are the pictures that may be shown; file names never are. Equal inputs give equal bytes.
///
/// # Errors
/// [`ReportError::TooLarge`] where text and data alone exceed `max_bytes`; [`ReportError::Data`] where the repair cannot be
/// written as JSON.
pub fn render_repair(
    run: &RepairRun,
    shown: &ShownInRepair,
    options: &ReportOptions,
    thumbnails: &dyn ThumbnailSource,
) -> Result<String, ReportError> {
    let mut public = run.clone();
    redact::run_card(&mut public.run);
    public.repair.proposed.iter_mut().for_each(|group| group.examples.clear());
    public.repair.clusters.iter_mut().for_each(|cluster| cluster.examples.clear());
    let crops = public.pictures.iter_mut().filter_map(|neuron| neuron.data.as_mut()).flat_map(|data| &mut data.top);
    crops.for_each(|top| top.file.clear());
    if !options.pictures {
        public.pictures.clear();
    }
    let data = serde_json::to_string(&public).map_err(ReportError::Data)?;
    let parts = |fixed: bool| shown.changed.iter().filter(move |c| c.is_fixed() == fixed).take(SHOWN);
    let changed: Vec<&Changed> = parts(true).chain(parts(false)).collect();
    let addresses = if options.pictures { addresses(&changed, shown, thumbnails) } else { Addresses::new() };
    let whole = assemble(&public, &Gallery { changed, shown, addresses, thumbnails }, &data);
    if record::length(&whole, &public.run.record) <= options.max_bytes {
        return Ok(whole);
    }
    public.pictures.clear();
    let data = serde_json::to_string(&public).map_err(ReportError::Data)?;
    let none = ShownInRepair::default();
    let nothing = Gallery { changed: Vec::new(), shown: &none, addresses: Addresses::new(), thumbnails };
    let bare = assemble(&public, &nothing, &data);
    let bytes = record::length(&bare, &public.run.record);
    match bytes <= options.max_bytes {
        true => Ok(bare),
        false => Err(ReportError::TooLarge { bytes, max_bytes: options.max_bytes }),
    }
}

/// What a page shows of the data set.
struct Gallery<'a> {
    changed: Vec<&'a Changed>,
    shown: &'a ShownInRepair,
    addresses: Addresses,
    thumbnails: &'a dyn ThumbnailSource,
}

impl Gallery<'_> {
    /// One picture with words below it; `words` describes it for those who cannot see it.
    fn tile(&self, h: &mut Html, sample: &Sample, words: &str, caption: &str) {
        h.within("li", &[("class", "tile")], |h| {
            match self.addresses.get(&sample.index) {
                Some(Some(address)) => {
                    h.void("img", &[("class", "picture"), ("src", address), ("alt", words), ("width", "112")]);
                }
                _ => h.element("div", &[("class", "picture absent")], "no picture"),
            }
            h.within("p", &[], |h| h.name(caption));
        });
    }
}

fn addresses(changed: &[&Changed], shown: &ShownInRepair, thumbnails: &dyn ThumbnailSource) -> Addresses {
    let others = shown.proposed.iter().chain(&shown.clusters).flatten();
    let wanted: BTreeMap<usize, &Sample> =
        changed.iter().map(|c| &c.before).chain(others).map(|sample| (sample.index, sample)).collect();
    let wanted: Vec<(usize, &Sample)> = wanted.into_iter().collect();
    wanted.par_iter().map(|(index, sample)| (*index, address(sample, thumbnails))).collect()
}

fn address(sample: &Sample, thumbnails: &dyn ThumbnailSource) -> Option<String> {
    let picture = bare(&thumbnails.thumbnail(sample, SIDE)?)?;
    let data = base64::engine::general_purpose::STANDARD.encode(&picture.bytes);
    Some(format!("data:{};base64,{data}", picture.mime))
}

fn assemble(run: &RepairRun, gallery: &Gallery<'_>, data: &str) -> String {
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
            section(h, "neurons", "What was edited", |h| neurons(h, run, gallery));
            section(h, "groups", "Groups that nobody named", |h| groups::groups(h, &run.repair, gallery));
            section(h, "pictures", "Pictures that changed", |h| pictures(h, &run.repair, gallery));
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
        ("groups", "Groups that nobody named"),
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
    h.within("h3", &[("class", "answer")], |h| h.name(&repair.conduct.headline));
    if repair.conduct.shipped {
        figures(h, repair);
    }
    h.within("p", &[("class", "explain")], |h| h.name(&answer(repair)));
    for warning in &repair.warnings {
        h.within("p", &[("class", "aside")], |h| h.name(warning));
    }
}

/// What the edit changes on the test split, in sentences.
fn figures(h: &mut Html, repair: &Repair) {
    let comparison = &repair.comparison;
    let overall = &comparison.overall;
    h.within("ul", &[("class", "verdict")], |h| {
        let mut say = |text: String| h.within("li", &[], |h| h.name(&text));
        if let Some(gain) = &repair.conduct.over_refit {
            let d = gain.difference;
            say(format!(
                "Over a plain refit of the layer on the same pictures it gains {} overall.",
                points(d.value, d.low, d.high)
            ));
        }
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
}

/// What the data say about a shortcut.
fn answer(repair: &Repair) -> String {
    match (&repair.conduct.answer, &repair.conduct.cue) {
        (None, _) => "Neurons named by hand; the data were not asked for a shortcut.".to_owned(),
        (Some(answer), Some(cue)) => format!(
            "Is there a shortcut? {} Ranked first: a cue of {} (score test p = {}, rank z = {:.1}).",
            sentence(answer),
            cue.class.1,
            p_value(cue.p_value),
            cue.rank
        ),
        (Some(answer), None) => format!("Is there a shortcut? {}", sentence(answer)),
    }
}

/// An answer with a capital and an end.
fn sentence(answer: &Answer) -> String {
    let words = answer.words();
    let end = if words.ends_with('?') { "" } else { "." };
    format!("{}{}{end}", words[..1].to_uppercase(), &words[1..])
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
        "Test figures with their 95 % interval; the test split chose nothing. Refits, slices, groups and erasure are fitted to \
         training and validation pictures together, DFR to validation alone, the others to training, with epochs and settings \
         chosen on validation. A slice is a class with or without the cue. Group labels, where every picture has one, balance \
         group-balanced, erase and DFR and choose for AFR and JTT; the others do not see them.",
    );
    h.within("table", &[("class", "slices")], |h| {
        columns(h, &["Edit", "Overall", "Worst group", "Worst class", "Worst slice", "Chosen on validation"]);
        h.within("tbody", &[], |h| repair.tried.iter().for_each(|tried| edit_row(h, tried, tried.edit == repair.edit)));
    });
}

fn edit_row(h: &mut Html, tried: &Tried, shipped: bool) {
    let Figures { overall, worst_group, worst_class, worst_slice, .. } = &tried.test;
    let figure = |h: &mut Html, p: Option<Proportion>| {
        h.within("td", &[("class", "num")], |h| match p {
            Some(p) if p.total > 0 => {
                h.text(&share(p.value));
                h.element("span", &[("class", "below")], &share_range(p.low, p.high));
            }
            _ => h.text("–"),
        });
    };
    h.within("tr", &[], |h| {
        h.within("th", &[("scope", "row"), ("class", "who")], |h| {
            if shipped {
                h.element("b", &[], tried.edit.name())
            } else {
                h.text(tried.edit.name())
            }
            h.element("span", &[("class", "below")], tried.edit.description());
        });
        [Some(*overall), *worst_group, Some(*worst_class), *worst_slice].into_iter().for_each(|p| figure(h, p));
        h.element("td", &[], &tried.chosen);
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

fn neurons(h: &mut Html, run: &RepairRun, gallery: &Gallery<'_>) {
    let repair = &run.repair;
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
    seen(h, run, gallery);
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
}

/// What the suspects see, from pictures made for them.
fn seen(h: &mut Html, run: &RepairRun, gallery: &Gallery<'_>) {
    if run.pictures.is_empty() {
        return;
    }
    h.element("h3", &[], "What the suspects see");
    let class = &run.repair.class.1;
    h.within("p", &[("class", "explain")], |h| {
        h.name(&format!(
            "The sensitivity score keeps only the part of a neuron's picture that it responds to: below 1 that part is less like {class} \
             than like the classes near by, so the neuron fires on something else. A hint: the checks by experiment above decide."
        ));
    });
    h.within("div", &[("class", "cards")], |h| {
        for pictured in &run.pictures {
            crate::panels::pictures::neuron(h, pictured, &|file: &str| gallery.thumbnails.made(file));
        }
    });
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

/// The name of a class, or its number.
fn class_name(repair: &Repair, class: usize) -> String {
    repair.classes.get(class).map_or_else(|| class.to_string(), |c| c.name.clone())
}

fn pictures(h: &mut Html, repair: &Repair, gallery: &Gallery<'_>) {
    if gallery.addresses.is_empty() {
        explain(h, "No pictures are shown in this report.");
        return;
    }
    for (title, fixed, all) in
        [("Fixed", true, repair.comparison.overall.fixed), ("Broken", false, repair.comparison.overall.broken)]
    {
        let shown: Vec<_> = gallery.changed.iter().filter(|c| c.is_fixed() == fixed).collect();
        h.within("h3", &[], |h| {
            h.text(&format!("{title} "));
            h.element("span", &[("class", "tally")], &format!("{} of {}", shown.len(), count(all)));
        });
        h.within("ul", &[("class", "tiles")], |h| {
            for changed in shown {
                let [truth, was, is] = [changed.before.truth, changed.before.predicted, changed.after.predicted]
                    .map(|class| class_name(repair, class));
                let words = format!("Picture of {truth}, called {was} before and {is} after");
                gallery.tile(h, &changed.before, &words, &format!("{was} → {is}"));
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
    let train = match run.repair.views {
        0 => train,
        views => format!("{train} (with {} of each)", counted(views, "random view", "random views")),
    };
    let pictures = format!("{train} to train on, {validation} to choose by, {test} to measure with");
    let seed = card.seed.to_string();
    let entries = [
        ("Model", card.model.as_str()),
        ("Model hash", &card.model_hash),
        ("Data", &card.data),
        ("Pictures", &pictures),
        ("Preprocessing", &card.preprocessing),
        ("Device", &card.device),
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
    record::block(h, &card.record);
}
