"""Make the sheet of docs/pictures.md: twelve classes, each with its neuron of the largest weight.

    python picture_sheet.py --pellucid target/release/pellucid --into docs/pictures/neurons.jpg
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image, ImageDraw

ZOO = Path(__file__).resolve().parent.parent
MODEL = ZOO / "models/efficientnet_lite0/efficientnet_lite0.onnx"
CLASSES = [1, 24, 84, 130, 251, 340, 417, 487, 574, 620, 934, 980]
SIDE, LINE, ACROSS = 200, 20, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--into", type=Path, required=True)
    arguments = parser.parse_args()
    weight = next(numpy_helper.to_array(t) for t in onnx.load(MODEL).graph.initializer if t.name == "_fc.weight")
    command = [arguments.pellucid, "picture", MODEL, "--guide", ZOO / "guides/squeezenet1_1", "--steps", arguments.steps,
               "--learning-rate", 0.015, "--seeds", 1, "--runs", arguments.runs, "--name", "sheet", "--force"]  # fmt: skip
    for index in CLASSES:
        command += ["--pair", f"{int(weight[index].argmax())}:{index}"]
    subprocess.run([str(part) for part in command], check=True)
    folder = arguments.runs / "sheet"
    neurons = json.loads((folder / "results.json").read_text())["neurons"]
    rows = -(-len(neurons) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * SIDE, rows * (SIDE + LINE)), "white")
    for at, neuron in enumerate(neurons):
        x, y = at % ACROSS * SIDE, at // ACROSS * (SIDE + LINE)
        sheet.paste(Image.open(folder / neuron["pictures"][0]["file"]).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        name = neuron["class_name"].split(",")[0]
        ImageDraw.Draw(sheet).text((x + 4, y + SIDE + 4), f"{neuron['neuron']}: {name}", fill="black")
    arguments.into.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.into, quality=85)


if __name__ == "__main__":
    main()
