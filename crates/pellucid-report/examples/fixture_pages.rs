//! Writes made-up pages of every kind, to look at and for the tests in a browser:
//! `cargo run -p pellucid-report --example fixture_pages -- FOLDER`.
//!
//! `report.html`, `report-long.html`, `diffusion.html`, `diffusion-long.html` (names of 10 kB), and `rise.png`: the map of
//! DF-RISE at [`PAINTED`] as the command writes it, which the page has to equal.

#[path = "../tests/diffusion_fixture/mod.rs"]
mod diffusion_fixture;
#[path = "../tests/fixture/mod.rs"]
mod fixture;

use pellucid_report::{ReportOptions, render, render_diffusion, write_atomically};
use pellucid_saliency::render::{self, Alignment};
use pellucid_vision::picture::Picture;
use std::path::PathBuf;

/// The step whose map is also written as PNG.
const PAINTED: usize = 5;
/// How often a small picture's pixels are repeated in the command's PNG files: 256 / 32.
const FACTOR: u32 = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("give a folder to write the pages to")?);
    std::fs::create_dir_all(&folder)?;
    let write = |name: &str, html: &str| write_atomically(&folder.join(name), html);
    let options = ReportOptions::default().with_thumbnail_side(96);
    // No place to break a line at.
    let name = "Pneumonoultramicroscopic".repeat(10_000 / 24);

    let mut diagnosis = fixture::diagnosis();
    diagnosis.findings.truncate(1);
    diagnosis.summary.classes[2] = "</script><script>document.title='owned'</script>".to_owned();
    write("report.html", &render(&diagnosis, &options, &fixture::Painter)?)?;
    diagnosis.summary.classes.iter_mut().for_each(|class| class.clone_from(&name));
    diagnosis.summary.groups.iter_mut().for_each(|group| group.clone_from(&name));
    for slice in diagnosis.summary.by_class.iter_mut().chain(&mut diagnosis.summary.by_group) {
        slice.name.clone_from(&name);
    }
    for sample in diagnosis.findings.iter_mut().flat_map(|finding| &mut finding.samples) {
        sample.file = format!("{name}/{name}.jpg");
    }
    diagnosis.findings[0].title.clone_from(&name);
    diagnosis.verdict.push(name.clone());
    (diagnosis.run.model, diagnosis.run.data) = (name.clone(), name.clone());
    diagnosis.run.record.command = format!("pellucid debug {name}");
    diagnosis.run.warnings.push(name.clone());
    write("report-long.html", &render(&diagnosis, &options, &fixture::Painter)?)?;

    write("diffusion.html", &render_diffusion(&diffusion_fixture::page(None))?)?;
    write("diffusion-long.html", &render_diffusion(&diffusion_fixture::page(Some(&name)))?)?;
    let small = diffusion_fixture::clean(PAINTED);
    let under =
        Picture::from_fn(small.width() * FACTOR, small.height() * FACTOR, |x, y| small.pixel(x / FACTOR, y / FACTOR));
    let map = diffusion_fixture::rise_map(PAINTED);
    let shown = render::render(&under, map.view(), Alignment::Centres, 0.75).ok_or("the map is constant")?;
    std::fs::write(folder.join("rise.png"), shown.to_png()?)?;
    Ok(())
}
