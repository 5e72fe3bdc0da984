//! Writes the report of a made-up diagnosis, to look at: `cargo run -p pellucid-report --example fixture_report -- OUT.html
//! [no-pictures | no-heat | no-mistakes | BYTES]`.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use pellucid_classifier::results::Diagnosis;
use pellucid_report::{ReportError, ReportOptions, render, write_atomically};

fn main() -> Result<(), ReportError> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "report.html".to_owned());
    let mut diagnosis = fixture::diagnosis();
    let mut options = ReportOptions::default();
    match arguments.next().as_deref() {
        Some("no-pictures") => options.pictures = false,
        Some("no-heat") => forget_heat(&mut diagnosis),
        Some("no-mistakes") => forget_mistakes(&mut diagnosis),
        other => options.max_bytes = other.and_then(|bytes| bytes.parse().ok()).unwrap_or(options.max_bytes),
    }
    let html = render(&diagnosis, &options, &fixture::Painter)?;
    write_atomically(path.as_ref(), &html)?;
    println!("{path}: {} bytes", html.len());
    Ok(())
}

fn forget_heat(diagnosis: &mut Diagnosis) {
    diagnosis.run.heat_maps.clear();
    for finding in &mut diagnosis.findings {
        for neuron in finding.insufficient.iter_mut().chain(&mut finding.excessive) {
            neuron.top.iter_mut().for_each(|top| top.heat.clear());
        }
    }
}

fn forget_mistakes(diagnosis: &mut Diagnosis) {
    let summary = &mut diagnosis.summary;
    summary.accuracy = fixture::proportion(summary.samples, summary.samples);
    for slice in &mut summary.by_class {
        slice.accuracy = fixture::proportion(slice.accuracy.total, slice.accuracy.total);
    }
    (summary.by_group, summary.groups) = Default::default();
    (summary.worst_group, summary.confusions) = Default::default();
    diagnosis.findings.clear();
    diagnosis.verdict = vec!["The model made no mistake on these pictures.".to_owned()];
}
