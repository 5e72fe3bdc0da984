//! How the report was made: enough to run it again, and what the user should know about it.

use super::{Panel, section};
use crate::document::picture_shortage;
use crate::format::count;
use crate::markup::Html;
use crate::page::{Page, explain};
use crate::record;

/// Writes the panel.
pub(crate) fn panel(page: &Page) -> Panel {
    let body = section("run", "How this was made", |h| {
        explain(h, "Everything needed to run it again and get the same result.");
        warnings(h, page);
        h.within("dl", &[("class", "run")], |h| entries(h, page));
        record::block(h, &page.diagnosis.run.record);
    });
    Panel { id: "run".to_owned(), title: "How this was made".to_owned(), rank: "part", body }
}

fn warnings(h: &mut Html, page: &Page) {
    let warnings = &page.diagnosis.run.warnings;
    if !warnings.is_empty() {
        h.within("div", &[("class", "warnings"), ("id", "warnings")], |h| {
            h.element("h3", &[], "Warnings");
            h.within("ul", &[], |h| warnings.iter().for_each(|warning| h.within("li", &[], |h| h.name(warning))));
        });
    }
    if let Some(shortage) = picture_shortage(page) {
        h.element("p", &[("class", "aside")], &shortage);
    }
}

fn entries(h: &mut Html, page: &Page) {
    let run = &page.diagnosis.run;
    let summary = &page.diagnosis.summary;
    let size = format!(
        "{} pictures, {} classes, {} groups, {} neurons",
        count(summary.samples),
        count(summary.classes.len()),
        count(summary.groups.len()),
        count(summary.features)
    );
    let entries: [(&str, &str, &str); 10] = [
        ("Model", &run.model, &run.model_hash),
        ("Data", &run.data, &run.data_hash),
        ("Size", &size, ""),
        ("Preprocessing", &run.preprocessing, ""),
        ("Counterfactual", &run.variant, ""),
        ("Heat maps", &run.heat_maps, ""),
        ("Device", &run.device, ""),
        ("Seed", &run.seed.to_string(), ""),
        ("pellucid", &run.pellucid, ""),
        ("ONNX Runtime", &run.onnxruntime, ""),
    ];
    for (term, value, hash) in entries.into_iter().filter(|(_, value, _)| !value.is_empty()) {
        h.within("div", &[], |h| {
            h.element("dt", &[], term);
            h.within("dd", &[], |h| {
                h.name(value);
                if !hash.is_empty() {
                    h.element("code", &[("class", "hash")], &format!("blake3 {hash}"));
                }
            });
        });
    }
}
