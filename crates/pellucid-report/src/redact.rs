//! The copy of a diagnosis that may be published: what the page shows and embeds.
//!
//! A report is mailed around, so it holds no absolute path (they name people and machines), and without pictures it
//! holds nothing that identifies one: no file name, no heat map, no warning that could quote a file name.

use crate::ReportOptions;
use pellucid_classifier::results::{Diagnosis, RunCard, Sample};
use std::path::Path;

/// The public copy.
pub(crate) fn publishable(diagnosis: &Diagnosis, options: &ReportOptions) -> Diagnosis {
    let mut public = diagnosis.clone();
    let root = std::mem::take(&mut public.data_root);
    card(&mut public.run, &root);
    public.verdict.iter_mut().for_each(|sentence| *sentence = without_root(sentence, &root));
    for_each_sample(&mut public, |sample| sample.file = relative(&sample.file, &root));
    let crops = public.pictures.iter_mut().filter_map(|neuron| neuron.data.as_mut()).flat_map(|data| &mut data.top);
    crops.for_each(|top| top.file = relative(&top.file, &root));
    if !options.pictures {
        forget_pictures(&mut public);
    }
    public
}

/// A run card without absolute paths.
pub(crate) fn run_card(run: &mut RunCard) {
    card(run, Path::new(""));
}

fn card(run: &mut RunCard, root: &Path) {
    let (command, next) = (&mut run.record.command, &mut run.record.next);
    for text in [command, next, &mut run.model, &mut run.data, &mut run.preprocessing, &mut run.heat_maps] {
        *text = without_absolute_paths(text, root);
    }
    run.warnings.iter_mut().for_each(|warning| *warning = without_absolute_paths(warning, root));
}

fn forget_pictures(public: &mut Diagnosis) {
    public.pictures.clear();
    for_each_sample(public, |sample| sample.file.clear());
    for finding in &mut public.findings {
        for neuron in finding.neurons_mut() {
            for top in &mut neuron.top {
                (top.heat, top.heat_size) = (Vec::new(), [0, 0]);
            }
        }
    }
    let warnings = public.run.warnings.len();
    if warnings > 0 {
        let kept = "left out of this report because they may name files; the run's manifest holds them";
        public.run.warnings =
            vec![format!("{} {kept}.", crate::format::counted(warnings, "warning is", "warnings are"))];
    }
}

fn for_each_sample(diagnosis: &mut Diagnosis, mut change: impl FnMut(&mut Sample)) {
    diagnosis.judgement.slices.iter_mut().flat_map(|slice| &mut slice.examples).for_each(&mut change);
    if let Some(cue) = &mut diagnosis.judgement.cue {
        [&mut cue.with, &mut cue.without, &mut cue.others].into_iter().flatten().for_each(&mut change);
    }
    for finding in &mut diagnosis.findings {
        finding.samples.iter_mut().for_each(&mut change);
        for neuron in finding.neurons_mut() {
            neuron.top.iter_mut().for_each(|top| change(&mut top.sample));
        }
    }
}

/// A sample's file relative to the data set's root; of an absolute path elsewhere, its last part.
fn relative(file: &str, root: &Path) -> String {
    let file = without_root(file, root);
    if starts_absolute(&file) { last_part(&file).to_owned() } else { file }
}

/// `text` with the data set's root cut from every path in it.
fn without_root(text: &str, root: &Path) -> String {
    let root = root.to_string_lossy();
    let root = root.trim_end_matches(['/', '\\']);
    // A relative or very short root ("." or "/") says nothing about a machine.
    if root.len() < 4 || !starts_absolute(root) {
        return text.to_owned();
    }
    text.replace(&format!("{root}/"), "").replace(&format!("{root}\\"), "").replace(root, "…")
}

/// `text` with every absolute path cut to its last part: `/home/ada/flowers/x.png` becomes `…/x.png`.
fn without_absolute_paths(text: &str, root: &Path) -> String {
    let text = without_root(text, root);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if !before.is_alphanumeric() && !"._-…/\\*)]}".contains(before) && starts_absolute(rest) {
            let path = &rest[..path_length(rest, before)];
            out.push_str("…/");
            out.push_str(last_part(path));
            rest = &rest[path.len()..];
            before = '/';
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            before = first;
        }
    }
    out
}

/// Unix, home, network and drive paths of at least two parts or letters: `/a/b`, `~/a`, `\\host\share`, `C:\a`.
fn starts_absolute(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [b'/', next, ..] | [b'~', b'/', next, ..] => !next.is_ascii_whitespace() && *next != b'/',
        [b'\\', b'\\', next, ..] => next.is_ascii_alphanumeric(),
        [drive, b':', b'\\' | b'/', ..] => drive.is_ascii_alphabetic(),
        _ => false,
    }
}

/// Where a path in prose ends: at the quote that opened it, else at the first space or quote.
fn path_length(text: &str, before: char) -> usize {
    let quoted = matches!(before, '"' | '\'' | '`');
    let ends = |c: char| if quoted { c == before } else { c.is_whitespace() || "\"'`<>|;,()".contains(c) };
    text.find(ends).unwrap_or(text.len())
}

fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches(['/', '\\']);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_cut_to_their_last_part_and_other_text_stays() {
        let root = Path::new("/home/ada/flowers");
        for (text, expected) in [
            ("pellucid debug /opt/models/net.onnx --out=/srv/x/run", "pellucid debug …/net.onnx --out=…/run"),
            ("cannot read '/media/Ada L/pic 1.png': cut short", "cannot read '…/pic 1.png': cut short"),
            ("read /home/ada/flowers/rose/1.jpg", "read rose/1.jpg"),
            (r"C:\Users\ada\x.png and \\nas\share\y.png", "…/x.png and …/y.png"),
            ("~/data/a.csv", "…/a.csv"),
            ("resize 224, (x / 255 − mean)/std, and/or 1/2", "resize 224, (x / 255 − mean)/std, and/or 1/2"),
            ("../zoo/net.onnx ./a/b c/d", "../zoo/net.onnx ./a/b c/d"),
        ] {
            assert_eq!(without_absolute_paths(text, root), expected);
        }
    }

    #[test]
    fn files_become_relative_to_the_data_set() {
        let root = Path::new("/home/ada/flowers/");
        assert_eq!(relative("/home/ada/flowers/rose/1.jpg", root), "rose/1.jpg");
        assert_eq!(relative("/elsewhere/2.jpg", root), "2.jpg");
        assert_eq!(relative("rose/3.jpg", root), "rose/3.jpg");
        assert_eq!(relative("../up/4.jpg", root), "../up/4.jpg");
    }
}
