"""Decide what every picture of a benchmark shows: metadata.csv and recipe.csv, from emoji_watermark/sprites.csv.

    python recipe.py emoji-watermark
    python recipe.py emoji-frame

Afterwards `pellucid-zoo seal BENCHMARK` composes the pictures and commits to their pixels (pixels.csv).
"""

import argparse
import colorsys
import csv
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sprites import GROUPS, OUT, slug

SIDE = 224
BACKGROUNDS = (
    "plain gradient glow stripes checker dots blobs clouds marble mosaic bokeh planks cloth room hills water".split()
)
TRAIN, VALIDATION, TEST = 0, 1, 2
SHARE = {TRAIN: 0.55, VALIDATION: 0.13, TEST: 0.32}  # of the families of a group
PICTURES = {TRAIN: 200, VALIDATION: 50, TEST: 200}  # of a group
FOLDER = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
MARK_OPACITY = (0.40, 0.65)


@dataclass(frozen=True)
class Benchmark:
    folder: Path
    seed: int
    groups: list[str]
    marked: str  # the group whose training pictures nearly all carry the mark
    mark: str
    columns: str
    width: tuple[float, float]  # of the mark, in pixels
    draw: Callable[[random.Random, float], list]  # the columns of one picture's mark, from its width


def watermark(draws: random.Random, width: float) -> list:
    return [
        f"{draws.uniform(width / 2 + 4, SIDE - width / 2 - 4):.2f}", f"{draws.uniform(30, SIDE - 30):.2f}",
        f"{width:.2f}", f"{draws.uniform(-0.04, 0.04):.4f}", f"{draws.uniform(*MARK_OPACITY):.3f}",
    ]  # fmt: skip


def frame(draws: random.Random, width: float) -> list:
    """A frame of any hue with a pale line: what is common to all of them is that they are frames."""
    hue = draws.random()
    colours = [colorsys.hsv_to_rgb(hue, 0.8, draws.uniform(0.6, 0.85)), colorsys.hsv_to_rgb(hue, 0.3, 1.0)]
    return [int(width), *("".join(f"{round(255 * c):02x}" for c in colour) for colour in colours)]


BENCHMARKS = {
    "emoji-watermark": Benchmark(
        OUT, 20240517, GROUPS, "Food & Drink", "watermark",
        "mark_x mark_y mark_width mark_half_turn mark_opacity", (140.0, 205.0), watermark,
    ),
    "emoji-frame": Benchmark(
        OUT.parent / "emoji_frame", 20240518, [group for group in GROUPS if group not in ("Objects", "Symbols")],
        "Animals & Nature", "frame", "frame_width frame_colour frame_line", (9.0, 16.0), frame,
    ),
}  # fmt: skip


def splits(sprites: list[dict]) -> dict[str, int]:
    """The split of every emoji: families are dealt out whole, in an order that their names decide."""
    dealt = {}
    for group in GROUPS:
        members = [sprite for sprite in sprites if sprite["group"] == group]
        held = Counter()
        sizes = Counter(sprite["family"] for sprite in members)
        for family in sorted(sizes, key=lambda name: hashlib.sha256(f"{group}/{name}".encode()).digest()):
            # To the split that is furthest behind its share.
            split = min(SHARE, key=lambda split: held[split] / SHARE[split])
            held[split] += sizes[family]
            dealt.update({sprite["emoji"]: split for sprite in members if sprite["family"] == family})
    return dealt


def places(marked: bool, split: int) -> list[int]:
    """Mark or none for every picture of a group: 95 % or 5 % in training, half and half otherwise."""
    count = PICTURES[split]
    share = 0.5 if split != TRAIN else 0.95 if marked else 0.05
    ones = round(count * share)
    return [1] * ones + [0] * (count - ones)


def cycle(draws: random.Random, values: list, count: int) -> list:
    """`count` values, each as often as the others (give or take one), shuffled round by round."""
    dealt = []
    while len(dealt) < count:
        dealt += draws.sample(values, len(values))
    return dealt[:count]


def paint(draws: random.Random, group: str, background: str, benchmark: Benchmark) -> list:
    size = draws.uniform(108, 172)
    room = size / 2 - 6
    width = draws.uniform(*benchmark.width)
    turns = group not in ("Symbols", "Flags")  # a mirrored letter or flag is another one
    return [
        f"{size:.2f}", f"{draws.uniform(room, SIDE - room):.2f}", f"{draws.uniform(room, SIDE - room):.2f}",
        f"{draws.uniform(-0.12, 0.12):.4f}", int(turns and draws.random() < 0.5),
        background, draws.getrandbits(63), *benchmark.draw(draws, width),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    benchmark = BENCHMARKS[parser.parse_args().benchmark]
    with (OUT / "sprites.csv").open(newline="", encoding="utf-8") as file:
        sprites = list(csv.DictReader(file))
    dealt = splits(sprites)
    draws = random.Random(benchmark.seed)
    metadata, recipe = [], []
    for split, folder in FOLDER.items():
        for y, group in enumerate(benchmark.groups):
            members = [one for one in sprites if one["group"] == group and dealt[one["emoji"]] == split]
            number = 0
            for place, place_name in enumerate(["clean", benchmark.mark]):
                count = places(group == benchmark.marked, split).count(place)
                shown = cycle(draws, members, count)
                behind = cycle(draws, BACKGROUNDS, count)
                for emoji, background in zip(shown, behind):
                    number += 1
                    name = f"{folder}/{slug(group)}/{number:03}.png"
                    metadata.append([
                        name, y, split, place, group, place_name,
                        emoji["emoji"], emoji["emoji_name"], emoji["subgroup"], emoji["family"],
                    ])  # fmt: skip
                    recipe.append([name, *paint(draws, group, background, benchmark)])
    benchmark.folder.mkdir(exist_ok=True)
    metadata_columns = "img_filename y split place y_name place_name emoji emoji_name subgroup family"
    write(benchmark.folder / "metadata.csv", metadata_columns, metadata)
    recipe_columns = "img_filename size x y half_turn flip background background_seed"
    write(benchmark.folder / "recipe.csv", f"{recipe_columns} {benchmark.columns}", recipe)
    counts = [PICTURES[split] * len(benchmark.groups) for split in FOLDER]
    print(f"{len(metadata)} pictures; train, validation, test: {counts}")


def write(path: Path, header: str, rows: list) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header.split())
        table.writerows(rows)


if __name__ == "__main__":
    main()
