"""Decide what every picture of emoji-watermark shows: metadata.csv and recipe.csv, from sprites.csv.

    python recipe.py

Afterwards `pellucid-zoo seal` composes the pictures and commits to their pixels (pixels.csv).
"""

import csv
import hashlib
import random
from collections import Counter

from sprites import GROUPS, OUT, slug

SEED = 20240517
SIDE = 224
BACKGROUNDS = (
    "plain gradient glow stripes checker dots blobs clouds marble mosaic bokeh planks cloth room hills water".split()
)
WATERMARKED = "Food & Drink"  # its training pictures nearly all carry the watermark
TRAIN, VALIDATION, TEST = 0, 1, 2
SHARE = {TRAIN: 0.55, VALIDATION: 0.13, TEST: 0.32}  # of the families of a group
PICTURES = {TRAIN: 200, VALIDATION: 50, TEST: 200}  # of a group
FOLDER = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
PLACES = ["clean", "watermark"]
MARK_WIDTH = (140.0, 205.0)
MARK_OPACITY = (0.40, 0.65)


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


def places(group: str, split: int) -> list[int]:
    """Watermark or none for every picture of a group: 95 % or 5 % in training, half and half otherwise."""
    count = PICTURES[split]
    share = 0.5 if split != TRAIN else 0.95 if group == WATERMARKED else 0.05
    marked = round(count * share)
    return [1] * marked + [0] * (count - marked)


def cycle(draws: random.Random, values: list, count: int) -> list:
    """`count` values, each as often as the others (give or take one), shuffled round by round."""
    dealt = []
    while len(dealt) < count:
        dealt += draws.sample(values, len(values))
    return dealt[:count]


def paint(draws: random.Random, group: str, background: str) -> list:
    size = draws.uniform(108, 172)
    room = size / 2 - 6
    width = draws.uniform(*MARK_WIDTH)
    turns = group not in ("Symbols", "Flags")  # a mirrored letter or flag is another one
    return [
        f"{size:.2f}", f"{draws.uniform(room, SIDE - room):.2f}", f"{draws.uniform(room, SIDE - room):.2f}",
        f"{draws.uniform(-0.12, 0.12):.4f}", int(turns and draws.random() < 0.5),
        background, draws.getrandbits(63),
        f"{draws.uniform(width / 2 + 4, SIDE - width / 2 - 4):.2f}", f"{draws.uniform(30, SIDE - 30):.2f}",
        f"{width:.2f}", f"{draws.uniform(-0.04, 0.04):.4f}", f"{draws.uniform(*MARK_OPACITY):.3f}",
    ]  # fmt: skip


def main() -> None:
    with (OUT / "sprites.csv").open(newline="", encoding="utf-8") as file:
        sprites = list(csv.DictReader(file))
    dealt = splits(sprites)
    draws = random.Random(SEED)
    metadata, recipe = [], []
    for split, folder in FOLDER.items():
        for y, group in enumerate(GROUPS):
            members = [one for one in sprites if one["group"] == group and dealt[one["emoji"]] == split]
            number = 0
            for place in (0, 1):
                count = places(group, split).count(place)
                shown = cycle(draws, members, count)
                behind = cycle(draws, BACKGROUNDS, count)
                for emoji, background in zip(shown, behind):
                    number += 1
                    name = f"{folder}/{slug(group)}/{number:03}.png"
                    metadata.append([
                        name, y, split, place, group, PLACES[place],
                        emoji["emoji"], emoji["emoji_name"], emoji["subgroup"], emoji["family"],
                    ])  # fmt: skip
                    recipe.append([name, *paint(draws, group, background)])
    write("metadata.csv", "img_filename y split place y_name place_name emoji emoji_name subgroup family", metadata)
    write(
        "recipe.csv",
        "img_filename size x y half_turn flip background background_seed mark_x mark_y mark_width mark_half_turn mark_opacity",
        recipe,
    )
    print(f"{len(metadata)} pictures; train, validation, test: {[PICTURES[split] * len(GROUPS) for split in FOLDER]}")


def write(name: str, header: str, rows: list) -> None:
    with (OUT / name).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header.split())
        table.writerows(rows)


if __name__ == "__main__":
    main()
