"""Planted label errors: how many lie among the first 2k of a ranking, ours against cleanlab's, on the same probabilities.

    python label_errors.py FOLDER [--into docs/truth.md]

FOLDER holds one npz a run, as `pellucid-zoo mislabelled` writes them: out-of-fold probabilities, the labels as given, the
rows with a planted error (k of them) and our ranking. cleanlab ranks by each of its own scores; the best of them, chosen
anew for each line of the table with the truth in hand, is the rival.
"""

import argparse
import collections
import pathlib

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

BEGIN, END = "<!-- begin: label errors -->", "<!-- end: label errors -->"


def rankings(labels, probabilities):
    """Every ranking that cleanlab offers of all rows: issues first, or by score alone."""
    for score in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        quality = get_label_quality_scores(labels, probabilities, method=score)
        by_score = np.argsort(quality, kind="stable")
        yield score, by_score
        for rule in ("prune_by_noise_rate", "confident_learning", "both"):
            issues = find_label_issues(labels, probabilities, filter_by=rule, return_indices_ranked_by=score, n_jobs=1)
            rest = by_score[~np.isin(by_score, issues)]
            yield f"{rule}, {score}", np.concatenate([issues, rest])


def found(ranking, wrong):
    """The share of the planted errors in the first 2k."""
    return np.isin(wrong, ranking[: 2 * len(wrong)]).mean()


def interval(differences, seed=0):
    """Mean of paired differences with its bootstrap interval of 95 %."""
    draws = np.random.default_rng(seed).choice(differences, (10_000, len(differences))).mean(1)
    return np.mean(differences), *np.quantile(draws, [0.025, 0.975])


def table(folder):
    runs = collections.defaultdict(list)
    for file in sorted(folder.glob("*.npz")):
        backbone, kind, confusion, share, _seed = file.stem.split("-")
        run = np.load(file)
        labels, probabilities = run["labels"], run["probabilities"].astype(float)
        probabilities /= probabilities.sum(1, keepdims=True)
        theirs = {name: found(ranking, run["wrong"]) for name, ranking in rankings(labels, probabilities)}
        runs[kind, confusion, int(share)].append((found(run["ranked"], run["wrong"]), theirs))
    lines = [
        "| classes | label of | wrong | runs | ours | cleanlab's best | which | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (kind, confusion, share), own in sorted(runs.items()):
        ours = np.array([mine for mine, _ in own])
        means = {name: np.mean([theirs[name] for _, theirs in own]) for name in own[0][1]}
        best = max(means, key=means.get)
        mean, low, high = 100 * np.array(interval(ours - np.array([theirs[best] for _, theirs in own])))
        other = "any other" if confusion == "any" else "one other"
        lines.append(
            f"| {kind} | {other} | {share} % | {len(own)} | {100 * ours.mean():.1f} % | {100 * means[best]:.1f} % "
            f"| {best} | {mean:+.1f} ({low:+.1f} to {high:+.1f}) |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--into", type=pathlib.Path, help="a Markdown file with markers; printed without")
    given = parser.parse_args()
    text = table(given.folder)
    if given.into is None:
        print(text)
        return
    page = given.into.read_text()
    head, rest = page.split(BEGIN)
    given.into.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


main()
