"""Measure pictures of neurons: with a guide, without, and the plain channel; judged by a third network.

    python picture_table.py --pellucid target/release/pellucid [--pairs 50] [--steps 450] [--into docs/pictures.md]

Pairs: classes drawn at random, each with the neuron of its largest weight. Needs lite2.py's model and requirements.txt.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image

ZOO = Path(__file__).resolve().parent.parent
MODEL = ZOO / "models/efficientnet_lite0/efficientnet_lite0.onnx"
JUDGE = ZOO / "models/efficientnet_lite2/efficientnet_lite2.onnx"
DATA = ZOO / "data/emoji-watermark"
GUIDE = ZOO / "guides/squeezenet1_1"
KINDS = {"guided": "with the guide", "unguided": "without a guide", "channel": "plain channel"}
CHUNK, CHOICES = 10, 5
BEGIN, END = "<!-- begin: picture_table -->", "<!-- end: picture_table -->"


def pairs(count):
    model = onnx.load(MODEL)
    weight = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "_fc.weight")
    classes = sorted(np.random.default_rng(0).permutation(1000)[:count].tolist())
    return [(int(weight[c].argmax()), c) for c in classes]


def run(arguments, chosen):
    """Results by objective, a chunk of pairs at a time for every objective; finished chunks are kept, so that the command
    goes on where it stopped. `--finished` takes what is there."""
    results = {kind: [] for kind in KINDS}
    for start in range(0, len(chosen), CHUNK):
        folders = {kind: arguments.runs / f"table-{kind}-{start}" for kind in KINDS}
        for kind, folder in folders.items():
            if (folder / "manifest.json").exists() or arguments.finished:
                continue
            command = [arguments.pellucid, "picture", MODEL, "--objective", kind, "--steps", str(arguments.steps), "--seeds", "2",
                       "--learning-rate", str(arguments.learning_rate), "--data", DATA, "--split", "test", "--guide", GUIDE,
                       "--runs", arguments.runs, "--name", folder.name, "--force", "--quiet"]  # fmt: skip
            for neuron, index in chosen[start : start + CHUNK]:
                command += ["--pair", f"{neuron}:{index}"]
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        if all((folder / "manifest.json").exists() for folder in folders.values()):
            for kind, folder in folders.items():
                neurons = json.loads((folder / "results.json").read_text())["neurons"]
                results[kind] += [(folder, neuron) for neuron in neurons]
    return results


class Judge:
    """EfficientNet-Lite2: top classes and features of a picture."""

    def __init__(self):
        model = onnx.load(JUDGE)
        model.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, None))
        self.session = onnxruntime.InferenceSession(model.SerializeToString())
        self.seen = {}

    def __call__(self, path: Path):
        if path not in self.seen:
            picture = np.asarray(Image.open(path).convert("RGB").resize((260, 260), Image.Resampling.BICUBIC), np.float32)
            values = self.session.run(["logits", "features"], {"input": ((picture - 127) / 128).transpose(2, 0, 1)[None]})
            self.seen[path] = (values[0][0], values[1][0])
        return self.seen[path]


def unit(vector):
    return vector / np.linalg.norm(vector)


def chosen_right(judge, neurons, at, picture, rng):
    """Whether the picture lies nearest to its own neuron's crops, among those of four other neurons."""
    folder, own = neurons[at]
    others = [n for n in neurons if n[1]["neuron"] != own["neuron"] and n[1]["data"]["top"]]
    if not own["data"]["top"]:
        return None
    drawn = [neurons[at]] + [others[i] for i in rng.permutation(len(others))[: CHOICES - 1]]
    crops = [unit(np.mean([unit(judge(f / t["crop"])[1]) for t in n["data"]["top"]], axis=0)) for f, n in drawn]
    everything = np.mean(crops, axis=0)
    features = unit(judge(folder / picture["file"])[1])
    likeness = [unit(crop - everything) @ features for crop in crops]
    return int(np.argmax(likeness)) == 0


def interval(values, rng):
    """Mean over pairs and seeds with the 95 % interval of a bootstrap over pairs."""
    per_pair = np.array([np.mean(v) for v in values])
    means = [per_pair[rng.integers(0, len(per_pair), len(per_pair))].mean() for _ in range(2000)]
    return per_pair.mean(), *np.percentile(means, [2.5, 97.5])


def row(judge, kind, neurons):
    rng = np.random.default_rng(0)
    columns = {name: [] for name in ("fraction", "logit", "top5", "choice", "spread")}
    for at, (folder, neuron) in enumerate(neurons):
        pictures = neuron["pictures"]
        columns["fraction"].append([p["activation"] / max(neuron["data"]["max"], 1e-6) for p in pictures])
        columns["logit"].append([p["logit"] for p in pictures])
        order = [np.argsort(-judge(folder / p["file"])[0])[:5] for p in pictures]
        columns["top5"].append([float(neuron["class"] in o) for o in order])
        choice = [chosen_right(judge, neurons, at, p, rng) for p in pictures]
        if None not in choice:
            columns["choice"].append([float(c) for c in choice])
        columns["spread"].append(abs(columns["top5"][-1][0] - columns["top5"][-1][-1]))
    text = lambda name, scale, form: "{:{f}} ({:{f}}–{:{f}})".format(*(scale * v for v in interval(columns[name], rng)), f=form)
    differ = 100 * float(np.mean(columns["spread"]))
    return (f"| {KINDS[kind]} | {text('fraction', 1, '.2f')} | {text('logit', 1, '.1f')} | {text('top5', 100, '.0f')} % "
            f"| {differ:.0f} % | {text('choice', 100, '.0f')} % |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--learning-rate", type=float, default=0.009)
    parser.add_argument("--finished", action="store_true", help="judge what is finished, run nothing")
    parser.add_argument("--into", type=Path)
    arguments = parser.parse_args()
    chosen = pairs(arguments.pairs)
    judge, results = Judge(), run(arguments, chosen)
    count = len(results["guided"])
    lines = [
        f"{count} neuron–class pairs of EfficientNet-Lite0, 2 seeds each, {arguments.steps} steps at a first learning rate of "
        f"{arguments.learning_rate}; brackets: 95 % of a bootstrap over pairs.", "",
        "| objective | activation / data set's largest | class logit | third network: class in top 5 | seeds that differ | forced choice of 5 (chance 20 %) |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [row(judge, kind, results[kind]) for kind in KINDS]
    print("\n".join(lines))
    if arguments.into:
        text = arguments.into.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        arguments.into.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


if __name__ == "__main__":
    main()
