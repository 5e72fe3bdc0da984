//! What a report promises: it says what the diagnosis says, asks for nothing, runs nothing but its own script, and
//! shows a user's names as names.

#![allow(clippy::unwrap_used)]

mod dom;
mod fixture;

use base64::Engine;
use dom::{Element, elements, tagged};
use fixture::{Painter, diagnosis, proportion};
use pellucid_classifier::results::*;
use pellucid_report::{NoThumbnails, ReportError, ReportOptions, ThumbnailSource, render};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Small pictures, which are painted faster, where their size does not matter.
fn page(diagnosis: &Diagnosis) -> String {
    let options = ReportOptions::default().with_thumbnail_side(64);
    render(diagnosis, &options, &Painter).expect("renders")
}

fn bare_page(diagnosis: &Diagnosis) -> String {
    render(diagnosis, &ReportOptions::default(), &NoThumbnails).expect("renders")
}

fn embedded(html: &str) -> Diagnosis {
    let all = elements(html);
    let data = all.iter().find(|element| element.get("id") == Some("diagnosis")).expect("the data");
    assert_eq!(data.get("type"), Some("application/json"));
    serde_json::from_str(&data.text).expect("the data parse")
}

fn each_sample(diagnosis: &mut Diagnosis, mut change: impl FnMut(&mut Sample)) {
    for finding in &mut diagnosis.findings {
        finding.samples.iter_mut().for_each(&mut change);
        for neuron in finding.insufficient.iter_mut().chain(&mut finding.excessive) {
            neuron.top.iter_mut().for_each(|top| change(&mut top.sample));
        }
    }
}

fn small() -> Diagnosis {
    let mut diagnosis = diagnosis();
    diagnosis.findings.truncate(1);
    diagnosis
}

#[test]
fn the_policy_allows_this_style_and_this_script_and_nothing_else() {
    let html = page(&small());
    let all = elements(&html);
    let policy = tagged(&all, "meta")
        .into_iter()
        .find(|meta| meta.get("http-equiv") == Some("Content-Security-Policy"))
        .and_then(|meta| meta.get("content"))
        .expect("a policy");
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    let style = hash(&tagged(&all, "style")[0].text);
    let script = hash(&tagged(&all, "script")[1].text);
    let directives: Vec<&str> = policy.split("; ").collect();
    assert_eq!(
        directives,
        [
            "default-src 'none'",
            "img-src data:",
            &format!("style-src 'sha256-{style}'"),
            &format!("script-src 'sha256-{script}'"),
            "base-uri 'none'",
            "form-action 'none'"
        ]
    );
    let before = all.iter().take_while(|element| element.get("http-equiv").is_none());
    assert!(before.into_iter().all(|element| !["script", "style", "link", "img"].contains(&element.tag.as_str())));
}

#[test]
fn the_page_has_no_inline_code_and_refers_to_nothing_outside() {
    let html = page(&small());
    let all = elements(&html);
    for element in &all {
        for (name, value) in &element.attributes {
            assert!(!name.starts_with("on") && name != "style" && name != "src" && name != "action", "{name}={value}");
            if name == "href" {
                assert!(value.starts_with('#') || value.starts_with("data:image/"), "{value:.60}");
            }
        }
        assert!(!["link", "iframe", "object", "embed", "base", "form"].contains(&element.tag.as_str()));
    }
    assert_eq!((tagged(&all, "style").len(), tagged(&all, "script").len()), (1, 2));
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("url("));
}

#[test]
fn names_from_outside_are_shown_as_they_are_and_never_as_markup() {
    let hostile = [
        "<script>alert(1)</script>",
        "</script><script>alert(2)</script>",
        "\"><img src=x onerror=alert(3)>",
        "' onmouseover='alert(4)",
        "../../../../etc/passwd",
        "</style><style>*{display:none}",
        "<!--",
        "]]>&amp;&lt;",
        "\u{202E}gpj.exe قطة",
        "日本語 🐈\u{2028}line",
    ];
    let mut diagnosis = small();
    for (place, name) in hostile.iter().enumerate() {
        diagnosis.summary.classes[place] = (*name).to_owned();
        if let Some(group) = diagnosis.summary.groups.get_mut(place) {
            *group = (*name).to_owned();
        }
    }
    let mut turn = 0;
    each_sample(&mut diagnosis, |sample| {
        turn += 1;
        sample.file = format!("a/{}", hostile[turn % hostile.len()]);
    });
    diagnosis.verdict.extend(hostile.map(str::to_owned));
    diagnosis.findings[0].title = hostile.concat();
    diagnosis.run.warnings = hostile.map(str::to_owned).to_vec();
    (diagnosis.run.model, diagnosis.run.record.command) = (hostile[0].to_owned(), hostile[1].to_owned());

    let html = page(&diagnosis);
    let all = elements(&html);
    assert_eq!((tagged(&all, "style").len(), tagged(&all, "script").len()), (1, 2));
    assert!(tagged(&all, "img").is_empty());
    let shapes = |html: &str| elements(html).iter().map(|e| e.tag.clone()).collect::<Vec<_>>();
    let mut harmless = diagnosis.clone();
    harmless.run.warnings = vec!["a warning".to_owned(); hostile.len()];
    harmless.verdict = vec!["a sentence".to_owned(); diagnosis.verdict.len()];
    each_sample(&mut harmless, |sample| sample.file = "a/b.jpg".to_owned());
    harmless.findings[0].title = "a title".to_owned();
    (harmless.run.model, harmless.run.record.command) = ("a".to_owned(), "b".to_owned());
    assert_eq!(shapes(&html), shapes(&page(&harmless)), "names change text, never elements");
    let isolated = tagged(&all, "bdi");
    for name in hostile {
        // What would reorder the text behind it is shown as a replacement.
        let shown = name.replace('\u{202E}', "\u{FFFD}");
        assert!(isolated.iter().any(|bdi| bdi.text == shown), "{name:?} is not shown");
    }
    assert_eq!(embedded(&html).summary, diagnosis.summary);
}

#[test]
fn the_embedded_data_equal_the_diagnosis() {
    let mut expected = diagnosis();
    let html = page(&expected);
    expected.data_root = Default::default();
    expected.run.record = Default::default();
    assert_eq!(embedded(&html), expected);
}

#[test]
fn a_diagnosis_with_missing_numbers_is_rendered_and_comes_back() {
    let mut diagnosis = small();
    let nothing = Activation { samples: 0, mean: f64::NAN, quantiles: [f64::NAN; 5] };
    diagnosis.findings[0].gap.clear();
    let neuron = &mut diagnosis.findings[0].insufficient[0];
    (neuron.on_correct, neuron.on_mistakes, neuron.on_all) = (nothing, nothing, nothing);
    (neuron.importance, neuron.stability) = (f64::NAN, f64::NAN);
    let empty = Proportion { count: 0, total: 0, value: f64::NAN, low: f64::NAN, high: f64::NAN };
    diagnosis.summary.by_class[3].accuracy = empty;
    let html = bare_page(&diagnosis);
    assert!(!html.contains("NaN"));
    let back = embedded(&html);
    assert!(back.findings[0].insufficient[0].importance.is_nan());
    assert!(back.summary.by_class[3].accuracy.value.is_nan());
    assert!(html.contains("No activations to show."));
}

#[test]
fn equal_diagnoses_give_equal_bytes() {
    assert!(page(&small()) == page(&small()));
}

#[test]
fn the_page_holds_no_absolute_path() {
    let mut diagnosis = small();
    diagnosis.run.record.command = "pellucid debug /srv/models/net.onnx /home/ada/pictures/household".into();
    diagnosis.run.warnings = vec!["cannot read /home/ada/pictures/household/cat/1.jpg: 0 bytes".into()];
    diagnosis.run.preprocessing = "from '/srv/models/config.json'".into();
    diagnosis.findings[0].samples[0].file = "/mnt/other/cat.jpg".into();
    let html = bare_page(&diagnosis);
    for secret in ["/home/", "/srv/", "/mnt/", "ada", "models"] {
        assert!(!html.contains(secret), "{secret}");
    }
    assert!(html.contains("cannot read cat/1.jpg: 0 bytes") && html.contains("net.onnx"));
}

#[test]
fn without_pictures_there_is_no_picture_no_file_name_and_no_heat() {
    struct Forbidden;
    impl ThumbnailSource for Forbidden {
        fn thumbnail(&self, _: &Sample, _: u32) -> Option<Vec<u8>> {
            panic!("a picture was asked for")
        }
    }
    let diagnosis = diagnosis();
    let options = ReportOptions::default().with_pictures(false);
    let html = render(&diagnosis, &options, &Forbidden).expect("renders");
    assert!(!html.contains("data:image/") && !html.contains("IMG_") && !html.contains(".jpg"));
    let back = embedded(&html);
    assert_eq!(back.summary, diagnosis.summary);
    let tops = back.findings.iter().flat_map(|finding| finding.insufficient.iter().chain(&finding.excessive));
    assert!(tops.flat_map(|neuron| &neuron.top).all(|top| top.heat.is_empty() && top.sample.file.is_empty()));
    assert!(html.contains("2\u{a0}warnings are left out"));
    let rows = elements(&html).iter().filter(|e| e.tag == "tr" && e.get("data-truth").is_some()).count();
    assert_eq!(rows, diagnosis.findings.iter().map(|finding| finding.samples.len()).sum::<usize>());
}

#[test]
fn each_picture_is_stored_once_and_every_reference_resolves() {
    let html = page(&diagnosis());
    let all = elements(&html);
    let mut ids: Vec<&str> = all.iter().filter_map(|element| element.get("id")).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id is used twice");
    let mut targets = all.iter().flat_map(|element| {
        let links = ["href", "aria-labelledby", "data-for"].iter().filter_map(|name| element.get(name));
        links.filter(|target| !target.starts_with("data:"))
    });
    assert!(targets.all(|target| ids.binary_search(&target.trim_start_matches('#')).is_ok()));
    let pictures = all.iter().filter(|e| e.tag == "image" && e.get("id").is_some());
    let mut addresses: Vec<&str> = pictures.filter_map(|image| image.get("href")).collect();
    let (stored, shown) = (addresses.len(), tagged(&all, "use").len());
    addresses.sort_unstable();
    addresses.dedup();
    assert!(addresses.len() == stored && stored < shown, "{stored} pictures for {shown} places");
}

#[test]
fn what_is_drawn_is_also_said() {
    let html = page(&small());
    for element in elements(&html).iter().filter(|element| element.tag == "svg") {
        let named = element.get("role") == Some("img") && element.get("aria-label").is_some_and(|l| !l.is_empty());
        assert!(named || element.get("aria-hidden") == Some("true"), "{:?}", element.attributes);
    }
}

#[test]
fn headings_descend_one_level_at_a_time_from_a_single_first() {
    let html = page(&diagnosis());
    let level = |element: &Element| element.tag.strip_prefix('h').and_then(|level| level.parse::<u32>().ok());
    let levels: Vec<u32> = elements(&html).iter().filter_map(level).collect();
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
}

#[test]
fn the_report_says_what_the_diagnosis_says() {
    let diagnosis = diagnosis();
    let html = page(&diagnosis);
    let all = elements(&html);
    assert_eq!(tagged(&all, "h1")[0].text, diagnosis.verdict[0]);
    let neurons: usize = diagnosis.findings.iter().map(|f| f.insufficient.len() + f.excessive.len()).sum();
    assert_eq!(tagged(&all, "article").len(), neurons);
    let mistakes: usize = diagnosis.findings.iter().map(|finding| finding.samples.len()).sum();
    assert_eq!(all.iter().filter(|e| e.is("tile") && e.get("data-truth").is_some()).count(), mistakes);
    let rows = all.iter().filter(|e| e.tag == "tr" && e.get("data-accuracy").is_some()).count();
    assert_eq!(rows, diagnosis.summary.by_class.len() + diagnosis.summary.by_group.len());
    let group = &diagnosis.summary.by_group[diagnosis.summary.worst_group.expect("groups")];
    let interval = format!("{:.1}–{:.1}", 100.0 * group.accuracy.low, 100.0 * group.accuracy.high);
    assert!(all.iter().any(|e| e.tag == "tr" && e.text.contains(&group.name) && e.text.contains(&interval)));
    assert!(html.contains(&diagnosis.run.model_hash) && html.contains(&diagnosis.run.data_hash));
    let neuron = &diagnosis.findings[0].excessive[0];
    let card = tagged(&all, "article").into_iter().find(|a| a.text.contains(&format!("Neuron {}", neuron.index)));
    assert!(card.expect("a card").text.contains(&format!("{:.1}\u{202F}%", neuron.votes.value)));
}

/// Paints each picture once, however often it is asked for.
#[derive(Default)]
struct Gallery(Mutex<BTreeMap<usize, Option<Vec<u8>>>>);

impl ThumbnailSource for Gallery {
    fn thumbnail(&self, sample: &Sample, max_side: u32) -> Option<Vec<u8>> {
        let known = self.0.lock().expect("no panic elsewhere").get(&sample.index).cloned();
        known.unwrap_or_else(|| {
            let painted = Painter.thumbnail(sample, max_side);
            self.0.lock().expect("no panic elsewhere").insert(sample.index, painted.clone());
            painted
        })
    }
}

#[test]
fn the_size_limit_holds_and_pictures_shrink_before_they_go() {
    let diagnosis = small();
    let gallery = Gallery::default();
    let stored = |html: &str| elements(html).iter().filter(|e| e.tag == "image" && e.get("id").is_some()).count();
    let whole = render(&diagnosis, &ReportOptions::default(), &gallery).expect("renders");
    let (mut last, mut counts) = (whole.len(), vec![stored(&whole)]);
    for percent in [80, 70, 40, 32] {
        let max_bytes = whole.len() * percent / 100;
        let options = ReportOptions::default().with_max_bytes(max_bytes);
        let html = render(&diagnosis, &options, &gallery).expect("renders");
        assert!(html.len() <= max_bytes && html.len() <= last);
        last = html.len();
        counts.push(stored(&html));
        assert_eq!(embedded(&html).findings, diagnosis.findings, "the data stay whole");
    }
    assert_eq!(counts[1], counts[0], "smaller pictures come before fewer");
    assert!(counts[4] < counts[0] && counts.windows(2).all(|pair| pair[1] <= pair[0]), "{counts:?}");
    // The block of run.json counts for 4096 bytes, so that how long it is decides nothing.
    let options = ReportOptions::default().with_max_bytes(last + 4096);
    let html = render(&diagnosis, &options, &gallery).expect("renders");
    assert!(html.contains("left out to keep this file within"));
}

#[test]
fn a_limit_that_the_text_alone_exceeds_is_an_error_with_both_sizes() {
    let options = ReportOptions::default().with_max_bytes(10_000).with_thumbnail_side(64);
    let error = render(&small(), &options, &Painter).expect_err("cannot fit");
    assert!(matches!(error, ReportError::TooLarge { bytes, max_bytes: 10_000 } if bytes > 10_000));
    assert!(error.to_string().contains("10000"), "{error}");
}

#[test]
fn pictures_lose_their_metadata_and_unreadable_ones_are_counted() {
    struct Careless;
    impl ThumbnailSource for Careless {
        fn thumbnail(&self, sample: &Sample, max_side: u32) -> Option<Vec<u8>> {
            let plain = Painter.thumbnail(sample, 2 * max_side)?;
            let exif = b"\xFF\xE1\x00\x17Exif\0\0GPS 52.5 N 13 E";
            Some(match sample.index % 3 {
                0 => return None,
                1 => b"<svg onload=alert(1)>".to_vec(),
                _ => [&plain[..2], &exif[..], &plain[2..]].concat(),
            })
        }
    }
    let html = render(&small(), &ReportOptions::default(), &Careless).expect("renders");
    assert!(html.contains("could not be read for this report"));
    let all = elements(&html);
    let pictures: Vec<&str> =
        all.iter().filter(|e| e.tag == "image" && e.get("id").is_some()).filter_map(|e| e.get("href")).collect();
    assert!(!pictures.is_empty());
    for address in pictures {
        let data = address.strip_prefix("data:image/jpeg;base64,").expect("a JPEG");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        assert!(!bytes.windows(4).any(|window| window == b"Exif" || window == b"GPS "));
        let picture = image::load_from_memory(&bytes).expect("decodes");
        assert_eq!(picture.width().max(picture.height()), ReportOptions::default().thumbnail_side);
    }
}

#[test]
fn a_model_without_mistakes_groups_or_findings_gets_a_page_that_says_so() {
    let mut diagnosis = small();
    diagnosis.findings.clear();
    diagnosis.verdict.clear();
    let summary = &mut diagnosis.summary;
    summary.accuracy = proportion(summary.samples, summary.samples);
    summary.by_class.iter_mut().for_each(|s| s.accuracy = proportion(s.accuracy.total, s.accuracy.total));
    (summary.by_group, summary.groups, summary.confusions) = Default::default();
    (summary.worst_class, summary.worst_group) = (None, None);
    let html = bare_page(&diagnosis);
    for sentence in [
        "The model made no mistake on this data set",
        "The data set names no groups.",
        "Nothing: every picture got its own class.",
        "The model is right on 100",
    ] {
        assert!(html.contains(sentence), "{sentence}");
    }
}

#[test]
fn a_finding_without_mistakes_or_neurons_and_a_model_without_feature_map_say_so() {
    let mut diagnosis = diagnosis();
    diagnosis.findings[0].count = 0;
    let nameless = &mut diagnosis.findings[1];
    (nameless.gap, nameless.insufficient, nameless.excessive) = Default::default();
    let flat = &mut diagnosis.findings[2];
    for neuron in flat.neurons_mut() {
        neuron.top.iter_mut().for_each(|top| (top.heat, top.heat_size) = (Vec::new(), [0, 0]));
    }
    let html = page(&diagnosis);
    assert!(html.contains("There are no such mistakes in this data set"));
    assert!(html.contains("they have no cause in common"));
    assert!(html.contains("This model has no feature map to read"));
    assert!(!html.contains("data:image/png"), "no heat map is drawn");
}

#[test]
fn an_empty_data_set_and_indices_out_of_range_do_not_panic() {
    let mut diagnosis = small();
    diagnosis.summary.classes.truncate(2);
    diagnosis.summary.groups.clear();
    assert!(bare_page(&diagnosis).contains("class 5"));
    let summary = &mut diagnosis.summary;
    summary.samples = 0;
    summary.accuracy = Proportion { count: 0, total: 0, value: f64::NAN, low: f64::NAN, high: f64::NAN };
    (summary.by_class, summary.by_group, summary.classes) = Default::default();
    assert!(!bare_page(&diagnosis).contains("NaN"));
}

#[test]
fn a_thousand_classes_fit() {
    let mut diagnosis = diagnosis();
    let summary = &mut diagnosis.summary;
    summary.classes = (0..1000).map(|i| format!("class number {i}, with a rather long synonym")).collect();
    let slice = |id: usize| Slice { id, name: summary.classes[id].clone(), accuracy: proportion(id % 40, 50) };
    summary.by_class = (0..1000).map(slice).collect();
    summary.confusions =
        (0..20_000).map(|i| Confusion { truth: i % 1000, predicted: (i * 7 + 1) % 1000, count: 3 }).collect();
    let html = page(&diagnosis);
    assert!(html.len() <= ReportOptions::default().max_bytes, "{} bytes", html.len());
    assert!(html.contains("The 12 of 1000 classes that are confused most."));
}

#[test]
fn only_what_chance_does_not_explain_is_marked_as_below() {
    let mut diagnosis = small();
    let overall = diagnosis.summary.accuracy.value;
    diagnosis.summary.by_class[0].accuracy = proportion(0, 1);
    diagnosis.summary.by_class[1].accuracy = proportion(1000, 1000);
    let html = bare_page(&diagnosis);
    let all = elements(&html);
    let rows = all.iter().filter(|e| e.tag == "tr" && e.get("data-accuracy").is_some());
    let marked = rows.filter(|row| row.is("below")).count();
    let slices = diagnosis.summary.by_class.iter().chain(&diagnosis.summary.by_group);
    assert_eq!(marked, slices.filter(|slice| slice.accuracy.high < overall).count());
    let lone = all.iter().find(|e| e.get("data-name") == Some(&diagnosis.summary.classes[0])).expect("a row");
    assert!(!lone.is("below") && lone.text.contains("only 1\u{a0}picture"));

    let summary = &mut diagnosis.summary;
    summary.accuracy = proportion(summary.samples, summary.samples);
    summary.by_class.iter_mut().chain(&mut summary.by_group).for_each(|slice| slice.accuracy = proportion(120, 120));
    assert!(!elements(&bare_page(&diagnosis)).iter().any(|element| element.is("below") || element.is("bad")));
}
