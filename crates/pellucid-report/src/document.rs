//! The page around the panels: head, policy, navigation, pictures, data, script.

use crate::format;
use crate::markup::{Html, json_for_script};
use crate::page::Page;
use crate::panels::{self, Panel};
use crate::thumbnails::Album;
use base64::Engine;
use sha2::{Digest, Sha256};

// Built from `web/` (`make web`), and committed so that the crate can be built and packaged without Node.js.
pub(crate) const STYLE: &str = include_str!("../web/report.css");
const SCRIPT: &str = include_str!("../web/report.js");

/// Side of the square that a picture is drawn in, in SVG units.
pub(crate) const FRAME: f64 = 100.0;

/// The whole file.
pub(crate) fn assemble(page: &Page, data: &str) -> String {
    let panels = panels::all(page);
    let run = &page.diagnosis.run;
    let mut head = Html::new();
    head.void("meta", &[("charset", "utf-8")]);
    head.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy())]);
    head.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    head.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    head.void("meta", &[("name", "generator"), ("content", &format!("pellucid {}", run.pellucid))]);
    head.element("title", &[], &format!("Diagnosis of {} on {}", run.model, run.data));

    let mut body = Html::new();
    body.element("a", &[("class", "skip"), ("href", "#verdict")], "Skip to the verdict");
    masthead(&mut body, page);
    body.within("div", &[("class", "layout")], |h| {
        contents(h, &panels);
        h.within("main", &[("id", "top")], |h| panels.iter().for_each(|panel| h.append(&panel.body)));
    });
    footer(&mut body, page);
    picture_store(&mut body, page.thumbnails);

    // Style, script and data are the only parts that are not escaped as text: two constants, and JSON made safe.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{}<style>{STYLE}</style>\n</head>\n<body>\n{}\
         <script type=\"application/json\" id=\"diagnosis\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        head.into_string(),
        body.into_string(),
        json_for_script(data),
    )
}

/// A page without script and data: a title and a body.
pub(crate) fn plain(title: &str, body: &Html) -> String {
    let policy = format!(
        "default-src 'none'; img-src data:; style-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(STYLE)
    );
    let mut head = Html::new();
    head.void("meta", &[("charset", "utf-8")]);
    head.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy)]);
    head.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    head.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    head.element("title", &[], title);
    let mut html = Html::new();
    html.append(body);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{}<style>{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
        head.into_string(),
        html.into_string()
    )
}

/// Allows this page's style and script by their hashes, pictures in the page, and nothing else.
fn policy() -> String {
    format!(
        "default-src 'none'; img-src data:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(STYLE),
        source_hash(SCRIPT)
    )
}

pub(crate) fn source_hash(content: &str) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(content)))
}

fn masthead(h: &mut Html, page: &Page) {
    let run = &page.diagnosis.run;
    h.within("header", &[("class", "masthead")], |h| {
        h.within("p", &[("class", "brand")], |h| {
            h.element("span", &[("class", "wordmark")], "pellucid");
            h.element("span", &[("class", "kind")], "Diagnosis of a classifier");
        });
        h.within("p", &[("class", "subject")], |h| {
            h.within("b", &[], |h| h.name(&run.model));
            h.text(" on ");
            h.within("b", &[], |h| h.name(&run.data));
        });
        h.within("p", &[("class", "tools js-only")], |h| {
            h.element("button", &[("type", "button"), ("data-save", "")], "Save data");
            h.element("button", &[("type", "button"), ("data-theme-next", "")], "Theme: system");
        });
    });
}

fn contents(h: &mut Html, panels: &[Panel]) {
    h.within("nav", &[("class", "contents"), ("aria-label", "Contents")], |h| {
        h.within("ol", &[], |h| {
            for (place, panel) in panels.iter().enumerate() {
                // The findings share a heading in the contents that they do not have on the page.
                if panel.rank == "subpart" && place > 0 && panels[place - 1].rank != "subpart" {
                    h.within("li", &[("class", "part")], |h| {
                        h.element("a", &[("href", &format!("#{}", panel.id))], "Why it fails");
                    });
                }
                h.within("li", &[("class", panel.rank)], |h| {
                    h.within("a", &[("href", &format!("#{}", panel.id))], |h| h.name(&panel.title));
                });
            }
        });
    });
}

fn footer(h: &mut Html, page: &Page) {
    let run = &page.diagnosis.run;
    h.within("footer", &[("class", "colophon")], |h| {
        let what = match (page.options.pictures, page.thumbnails.is_empty()) {
            (false, _) => "Made without pictures and file names.",
            (true, true) => "This file holds no pictures.",
            (true, false) => "The pictures are part of this file: share it as you would share them.",
        };
        h.text(&format!("Made by pellucid {}. One file, no network. {what}", run.pellucid));
    });
}

/// Every picture once; tiles refer to it, however often it is shown.
fn picture_store(h: &mut Html, thumbnails: &Album) {
    if thumbnails.is_empty() {
        return;
    }
    let side = format!("{FRAME}");
    let attributes = [("class", "store"), ("aria-hidden", "true"), ("width", "0"), ("height", "0")];
    h.within("svg", &attributes, |h| {
        h.within("defs", &[], |h| {
            for (index, print) in thumbnails.iter() {
                let id = format!("p{index}");
                h.void("image", &[("id", &id), ("width", &side), ("height", &side), ("href", &print.address)]);
            }
        });
    });
}

/// What the size limit did to the pictures, in a sentence; `None` where nothing is missing.
pub(crate) fn picture_shortage(page: &Page) -> Option<String> {
    let thumbnails = page.thumbnails;
    let mut sentences = Vec::new();
    if thumbnails.left_out > 0 {
        let left_out = format::counted(thumbnails.left_out, "picture is", "pictures are");
        let limit = format::bytes(page.options.max_bytes);
        sentences.push(format!("{left_out} left out to keep this file within {limit}."));
    }
    if thumbnails.unavailable > 0 {
        let lost = format::counted(thumbnails.unavailable, "picture", "pictures");
        sentences.push(format!("{lost} could not be read for this report."));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}
