"""Check an edited model in plain onnxruntime: does it give the figures that its repair reported?

    python check_edited.py RUN DATA

RUN is the directory that `pellucid repair` wrote (the edited model, what is written beside it, and repair.json), DATA
the folder with metadata.csv that it was made from. Pictures are read by Pillow and run by onnxruntime; nothing of
pellucid takes part. Exit code 1 where a count differs by more than one picture in a thousand: the two resize alike
but not to the last bit, and a picture on the boundary may fall to either side.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
WHOLE = ("exact", {"squash_pct": 1.0}, {"crop_pct": 1.0})


def prepare(path: Path, how: dict) -> np.ndarray:
    """The model's input for one picture, as the preprocessing beside the model describes it."""
    picture = Image.open(path).convert("RGB")
    square = picture.width == picture.height and how["width"] == how["height"]
    if how["resize"] not in WHOLE[:2] and not (how["resize"] == WHOLE[2] and square):
        sys.exit(f"{path}: resize {how['resize']} is not what this check does")
    picture = picture.resize((how["width"], how["height"]), FILTERS[how["filter"]])
    values = np.asarray(picture, np.float64) * how["scale"]
    values = values[..., ::-1] if how["channels"] == "bgr" else values
    return ((values - how["mean"]) / how["std"]).transpose(2, 0, 1).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    (model,) = args.run.glob("*.repaired.onnx")
    how = json.loads(model.with_suffix(".preprocess.json").read_text())
    reported = json.loads((args.run / "repair.json").read_text())["repair"]["comparison"]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    with open(args.data / "metadata.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == "2"]
    right = defaultdict(list)
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        inputs = np.stack([prepare(args.data / row["img_filename"], how) for row in part])
        answers = session.run(None, {entry: inputs})[0].argmax(1)
        for row, answer in zip(part, answers):
            hit = int(answer) == int(row["y"])
            right["overall"].append(hit)
            right[f"{row['y_name']} · {row['place_name']}"].append(hit)
    told = {"overall": reported["overall"]} | {g["name"]: g["change"] for g in reported["groups"]}
    off = 0
    print(f"{'':<36} {'reported':>12} {'onnxruntime':>12}")
    for name, change in told.items():
        count, total = change["after"]["count"], change["after"]["total"]
        found = sum(right[name])
        print(f"{name:<36} {f'{count}/{total}':>12} {f'{found}/{len(right[name])}':>12}")
        off += total != len(right[name]) or abs(count - found) > max(1, total // 1000)
    sys.exit(f"{off} figures differ" if off else 0)


if __name__ == "__main__":
    main()
