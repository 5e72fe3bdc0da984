//! Groups that the mistakes suggest, with pictures, for a person to name.

use super::{Gallery, class_name, columns, explain};
use crate::format::{count, share, share_range};
use crate::markup::Html;
use pellucid_classifier::repair::Repair;
use pellucid_classifier::repair::results::{MistakeCluster, ProposedGroup};
use pellucid_classifier::results::Sample;

/// Groups that are listed.
const LISTED: usize = 12;
/// Groups that are shown with pictures.
const PICTURED: usize = 4;

pub(super) fn groups(h: &mut Html, repair: &Repair, gallery: &Gallery<'_>) {
    if repair.proposed.is_empty() && repair.clusters.is_empty() {
        explain(
            h,
            "The suspects are equally active on all pictures, and there are no mistakes around the class: nothing to group.",
        );
        return;
    }
    by_suspects(h, repair, gallery);
    by_mistakes(h, repair, gallery);
}

fn by_suspects(h: &mut Html, repair: &Repair, gallery: &Gallery<'_>) {
    if repair.proposed.is_empty() {
        return;
    }
    h.element("h3", &[], "With the suspects active, and without");
    let agreement = match repair.agreement {
        Some(agreement) => format!(
            " On {} of the validation pictures they agree with the groups that the data set names.",
            share(agreement)
        ),
        None => String::new(),
    };
    explain(h, &format!("Validation pictures of each class before the edit, the least often right first.{agreement}"));
    h.within("table", &[("class", "slices")], |h| {
        columns(h, &["Class", "Suspects", "Pictures", "Accuracy"]);
        h.within("tbody", &[], |h| {
            for group in repair.proposed.iter().take(LISTED) {
                h.within("tr", &[], |h| {
                    h.within("th", &[("scope", "row"), ("class", "who")], |h| h.name(&class_name(repair, group.class)));
                    h.element("td", &[("class", "num")], activity(group));
                    h.element("td", &[("class", "num")], &count(group.samples));
                    let range = share_range(group.accuracy.low, group.accuracy.high);
                    h.element("td", &[("class", "num")], &format!("{} ({range})", share(group.accuracy.value)));
                });
            }
        });
    });
    for (group, samples) in repair.proposed.iter().zip(&gallery.shown.proposed).take(PICTURED) {
        h.within("h5", &[], |h| h.name(&format!("{}, suspects {}", class_name(repair, group.class), activity(group))));
        tiles(h, repair, gallery, samples);
    }
}

fn activity(group: &ProposedGroup) -> &'static str {
    if group.active { "active" } else { "not active" }
}

fn by_mistakes(h: &mut Html, repair: &Repair, gallery: &Gallery<'_>) {
    if repair.clusters.is_empty() {
        return;
    }
    h.element("h3", &[], "Mistakes that go together");
    let agreement = match repair.cluster_agreement {
        Some(agreement) => format!(
            " Which cluster a mistake is in says for {} of them whether the suspects are active: the nearer to 100 %, the more the two \
             tell the same.",
            share(agreement)
        ),
        None => String::new(),
    };
    h.within("p", &[("class", "explain")], |h| {
        h.name(&format!(
            "Validation mistakes of {0} and mistakes that are called {0}, clustered by all features without a look at suspects \
             or groups.{agreement}",
            repair.class.1
        ));
    });
    for (at, cluster) in repair.clusters.iter().enumerate() {
        h.within("h5", &[], |h| h.name(&describe(repair, at, cluster)));
        if let Some(samples) = gallery.shown.clusters.get(at) {
            tiles(h, repair, gallery, samples);
        }
    }
}

fn describe(repair: &Repair, at: usize, cluster: &MistakeCluster) -> String {
    let truths: Vec<String> =
        cluster.truths.iter().take(3).map(|&(class, n)| format!("{n} of {}", class_name(repair, class))).collect();
    format!(
        "Cluster {}: {} mistakes, suspects active on {}; {} called {}; most are {}",
        at + 1,
        cluster.samples,
        cluster.active,
        cluster.called,
        repair.class.1,
        truths.join(", ")
    )
}

fn tiles(h: &mut Html, repair: &Repair, gallery: &Gallery<'_>, samples: &[Sample]) {
    if gallery.addresses.is_empty() {
        return;
    }
    h.within("ul", &[("class", "tiles")], |h| {
        for sample in samples {
            let (truth, called) = (class_name(repair, sample.truth), class_name(repair, sample.predicted));
            let caption = if truth == called { truth.clone() } else { format!("{truth}, called {called}") };
            gallery.tile(h, sample, &format!("Picture of {truth}, called {called}"), &caption);
        }
    });
}
