"""Draw the sprites of emoji-watermark: emoji on sheets, sprites.csv, and the watermark.

    python sprites.py --emoji-font NotoColorEmoji.ttf --cjk-font NotoSansCJK-Bold.ttc --emoji-test emoji-test.txt

Debian: fonts-noto-color-emoji, fonts-noto-cjk, unicode-data (the defaults are the paths that these install).
"""

import argparse
import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

OUT = Path(__file__).resolve().parent.parent / "emoji_watermark"
GROUPS = [
    "Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink",
    "Travel & Places", "Objects", "Symbols", "Flags",
]  # fmt: skip
PER_GROUP = 130  # at most this many emoji of a group
PER_FAMILY = 3  # at most this many of a family
SHEET_COLUMNS, CELL = 14, (136, 128)
SKIN_TONES = range(0x1F3FB, 0x1F400)
WATERMARK = "图片样本"  # "sample picture"
WATERMARK_HEIGHT = 72


@dataclass
class Emoji:
    codes: str
    name: str
    group: str
    subgroup: str
    picture: Image.Image
    family: str = ""


def read_emoji(table: Path, font: ImageFont.FreeTypeFont) -> list[Emoji]:
    """Every fully-qualified emoji of GROUPS without a skin tone that the font draws as one glyph."""
    found, group, subgroup = [], "", ""
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.removeprefix("# group:").strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.removeprefix("# subgroup:").strip()
        match = re.match(r"([0-9A-F ]+?) *; fully-qualified +# \S+ E[\d.]+ (.*)", line)
        if not match or group not in GROUPS:
            continue
        codes = [int(code, 16) for code in match[1].split()]
        if any(code in SKIN_TONES for code in codes):
            continue
        picture = draw(codes, font)
        if picture is not None:
            found.append(Emoji("-".join(f"{code:x}" for code in codes), match[2], group, subgroup, picture))
    return found


def draw(codes: list[int], font: ImageFont.FreeTypeFont) -> Image.Image | None:
    canvas = Image.new("RGBA", (320, 160))
    ImageDraw.Draw(canvas).text((8, 8), "".join(map(chr, codes)), font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None or box[2] - box[0] > CELL[0] or box[3] - box[1] > CELL[1]:
        return None  # not in the font, or drawn as several glyphs
    return canvas.crop(box)


# ---------------------------------------------------------------- families

WHO = r"\b(man|woman|person|men|women|people|boy|girl|child|mr|mrs|mx|he|she|older|old|baby|prince|princess)\b"


def family_name(emoji: Emoji) -> str:
    """What is left of a name without who does it, which colour, which hour and which direction."""
    name = emoji.name.lower().replace("’", "'")
    name = name.split(":")[0] if emoji.group != "Flags" else name
    if "o'clock" in name or "-thirty" in name:
        return "clock face"
    if name.startswith("keycap"):
        return "keycap"
    if "moon" in name and "ruler" not in name:
        return "moon"
    if "button" in name and emoji.subgroup == "alphanum":
        return name if "japanese" not in name else "japanese button"
    if "arrow" in name and emoji.group == "Symbols":
        return "arrow"
    if emoji.subgroup == "geometric":
        return name.split()[-1]
    if emoji.subgroup == "heart":
        return "heart"
    if emoji.group == "People & Body":
        name = re.sub(WHO, "", name)
    name = re.sub(r"\b(red|orange|yellow|green|blue|light blue|purple|brown|black|white|grey|pink|dark)\b", "", name)
    name = re.sub(r"\b(large|small|medium|medium-small|left|right|up|down|with|in|of|the|facing)\b", "", name)
    return " ".join(re.findall(r"[\w'-]+", name)) or emoji.name


def look(emoji: Emoji) -> np.ndarray:
    """Colour times coverage and coverage on a 20×20 grid."""
    canvas = Image.new("RGBA", CELL)
    canvas.paste(emoji.picture, ((CELL[0] - emoji.picture.width) // 2, (CELL[1] - emoji.picture.height) // 2))
    values = np.asarray(canvas.resize((20, 20), Image.BOX), np.float32) / 255
    values[..., :3] *= values[..., 3:]
    return values.ravel()


def name_families(emoji: list[Emoji], alike: float = 0.05) -> None:
    """One family for emoji with the same family name, or that look alike (root mean square below `alike`)."""
    parent = list(range(len(emoji)))

    def root(index):
        while parent[index] != index:
            index = parent[index]
        return index

    first = {}
    looks = np.stack([look(one) for one in emoji])
    for index, one in enumerate(emoji):
        key = (one.group, family_name(one))
        parent[root(index)] = root(first.setdefault(key, index))
        apart = np.sqrt(((looks[:index] - looks[index]) ** 2).mean(axis=1))
        for other in np.flatnonzero(apart < alike):
            if emoji[other].group == one.group:
                parent[root(index)] = root(int(other))
    for index, one in enumerate(emoji):
        one.family = emoji[root(index)].name


def choose(emoji: list[Emoji]) -> list[Emoji]:
    """At most PER_FAMILY of a family and PER_GROUP of a group, in an order that the code points alone decide."""
    order = sorted(emoji, key=lambda one: hashlib.sha256(one.codes.encode()).digest())
    families, groups, chosen = {}, {}, set()
    for one in order:
        family = (one.group, one.family)
        if families.get(family, 0) < PER_FAMILY and groups.get(one.group, 0) < PER_GROUP:
            families[family] = families.get(family, 0) + 1
            groups[one.group] = groups.get(one.group, 0) + 1
            chosen.add(one.codes)
    return [one for one in emoji if one.codes in chosen]


# ---------------------------------------------------------------- files


def write_sheets(emoji: list[Emoji]) -> None:
    """One sheet a group, lossless WebP, and sprites.csv with the place of every emoji."""
    rows = []
    for group in GROUPS:
        members = [one for one in emoji if one.group == group]
        sheet = Image.new("RGBA", (SHEET_COLUMNS * CELL[0], -(-len(members) // SHEET_COLUMNS) * CELL[1]))
        name = f"sprites/{slug(group)}.webp"
        for index, one in enumerate(members):
            x, y = index % SHEET_COLUMNS * CELL[0], index // SHEET_COLUMNS * CELL[1]
            sheet.paste(one.picture, (x, y))
            rows.append([one.codes, one.name, group, one.subgroup, one.family, name, x, y, *one.picture.size])
        (OUT / "sprites").mkdir(parents=True, exist_ok=True)
        sheet.save(OUT / name, lossless=True, quality=100, method=6)
    with (OUT / "sprites.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow("emoji emoji_name group subgroup family sheet x y width height".split())
        table.writerows(rows)


def write_watermark(path: Path) -> None:
    """White characters over a thin dark edge, which keeps them readable on bright grounds."""
    font = ImageFont.truetype(str(path), WATERMARK_HEIGHT)
    left, top, right, bottom = font.getbbox(WATERMARK)
    size = (right - left + 12, bottom - top + 12)
    letters = Image.new("L", size)
    ImageDraw.Draw(letters).text((6 - left, 6 - top), WATERMARK, font=font, fill=255)
    edge = ImageChops.offset(letters, 1, 2).filter(ImageFilter.GaussianBlur(1.5)).point(lambda value: value * 0.55)
    coverage = ImageChops.lighter(letters, edge)
    Image.merge("LA", (letters, coverage)).save(OUT / "watermark.png", optimize=True)


def slug(group: str) -> str:
    return re.sub(r"[^a-z]+", "-", group.lower()).strip("-")


def main() -> None:
    fonts = "/usr/share/fonts"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emoji-font", type=Path, default=Path(f"{fonts}/truetype/noto/NotoColorEmoji.ttf"))
    parser.add_argument("--cjk-font", type=Path, default=Path(f"{fonts}/opentype/noto/NotoSansCJK-Bold.ttc"))
    parser.add_argument("--emoji-test", type=Path, default=Path("/usr/share/unicode/emoji/emoji-test.txt"))
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    emoji = read_emoji(args.emoji_test, ImageFont.truetype(str(args.emoji_font), 109))
    name_families(emoji)
    chosen = choose(emoji)
    write_sheets(chosen)
    write_watermark(args.cjk_font)
    for group in GROUPS:
        members = [one for one in chosen if one.group == group]
        print(f"{group}: {len(members)} emoji in {len({one.family for one in members})} families")


if __name__ == "__main__":
    main()
